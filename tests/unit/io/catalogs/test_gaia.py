"""What is asked of Gaia's archive, without asking it."""

import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from bayesprf.errors import DataWarning, FileError, InputError, MissingDependencyError
from bayesprf.instruments import KEPLER, TESS
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.catalogs.gaia import fetch_gaia, query_gaia, write_rows
from bayesprf.io.catalogs.sources import as_sources


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of its own for every test."""
    monkeypatch.setenv("BAYESPRF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(monkeypatch):
    """A stand-in for astroquery.gaia that keeps the query and answers with `rows`."""
    asked = SimpleNamespace(query=None, rows=None, count=0, error=None)

    def launch_job_async(query):
        if asked.error is not None:
            raise asked.error
        asked.query, asked.count = query, asked.count + 1
        return SimpleNamespace(get_results=lambda: asked.rows)

    module = ModuleType("astroquery.gaia")
    module.Gaia = SimpleNamespace(launch_job_async=launch_job_async)
    monkeypatch.setitem(sys.modules, "astroquery", ModuleType("astroquery"))
    monkeypatch.setitem(sys.modules, "astroquery.gaia", module)
    return asked


def rows_at(ra, dec):
    n = len(ra)
    return Table(
        {"source_id": np.arange(n), "ra": ra, "dec": dec, "ref_epoch": np.full(n, 2016.0), "pmra": np.zeros(n)}
        | {"pmdec": np.full(n, 1000.0), "phot_g_mean_flux": np.full(n, 7.0), "phot_rp_mean_flux": np.full(n, 5.0)}
    )


def test_query_covers_the_pixels_and_the_margin(make_pixels, archive):
    pixels = make_pixels()
    archive.rows = rows_at([290.0], [45.0])
    query_gaia(pixels, magnitude_limit=18.5, margin=36.0)
    low, high = (float(one) for one in re.search(r"ra BETWEEN (\S+) AND (\S+) AND", archive.query).groups())
    south, north = (float(one) for one in re.search(r"dec BETWEEN (\S+) AND (\S+) AND", archive.query).groups())
    assert south == pytest.approx(pixels.dec_deg.min() - 0.01, abs=2e-6)
    assert north == pytest.approx(pixels.dec_deg.max() + 0.01, abs=2e-6)
    assert low == pytest.approx(pixels.ra_deg.min() - 0.01 / np.cos(np.radians(north)), abs=2e-6)
    assert high == pytest.approx(pixels.ra_deg.max() + 0.01 / np.cos(np.radians(north)), abs=2e-6)
    assert "FROM gaiadr3.gaia_source WHERE" in archive.query
    assert "phot_g_mean_mag < 18.5" in archive.query


def test_query_across_ra_zero_has_two_ranges(make_pixels, archive):
    pixels = make_pixels(center=(0.0, -60.0))
    archive.rows = rows_at([359.9999], [-60.0])
    query_gaia(pixels, margin=36.0)
    west, east = (float(one) for one in re.search(r"\(ra >= (\S+) OR ra <= (\S+)\)", archive.query).groups())
    assert 359.9 < west < pixels.ra_deg.max()
    assert pixels.ra_deg[pixels.ra_deg < 180].max() < east < 0.1
    assert "ra BETWEEN" not in archive.query


def test_query_at_the_pole_takes_all_right_ascensions(make_pixels, archive):
    archive.rows = rows_at([0.0], [89.9999])
    query_gaia(make_pixels(center=(0.0, 89.9999)), margin=36.0)
    assert "AND 90.000000" in archive.query
    assert "ra >=" not in archive.query
    assert "ra BETWEEN" not in archive.query


def test_answer_is_cut_to_the_margin_and_carried_to_the_data(make_pixels, archive):
    pixels = make_pixels()
    far = pixels.dec_deg.max() + 60 / 3600
    archive.rows = rows_at([290.0, 290.0], [45.0, far])
    sources = query_gaia(pixels, margin=40.0)
    assert sources.source_id == ("0",)
    assert sources.flux[0] == 7.0
    assert (sources.dec_deg[0] - 45.0) * 3600 == pytest.approx(2011.7400 - 2016.0, abs=1e-3)


@pytest.mark.parametrize(("instrument", "flux"), [(KEPLER, 7.0), (TESS, 5.0)], ids=["Kepler", "TESS"])
def test_flux_is_the_one_the_mission_recommends(make_pixels, archive, instrument, flux):
    archive.rows = rows_at([290.0], [45.0])
    assert query_gaia(make_pixels(instrument=instrument)).flux[0] == flux


def test_no_star_is_an_error(make_pixels, archive):
    archive.rows = rows_at([], [])
    with pytest.raises(InputError, match=r"stars brighter than 15.0 within 39.8 arcsec of the pixels, found none"):
        query_gaia(make_pixels(), magnitude_limit=15.0)
    with pytest.raises(InputError, match=r"margin: expected a finite number above 0, got 0.0"):
        query_gaia(make_pixels(), margin=0.0)


def test_missing_astroquery_says_how_to_install_it(make_pixels, monkeypatch):
    monkeypatch.setitem(sys.modules, "astroquery", None)
    monkeypatch.setitem(sys.modules, "astroquery.gaia", None)
    with pytest.raises(MissingDependencyError, match=r"needs the package astroquery; .*pip install 'bayesprf\[gaia\]'"):
        query_gaia(make_pixels())


def test_an_answer_is_kept_and_used_offline(make_pixels, archive, cache):
    archive.rows = rows_at([290.0], [45.0])
    first = query_gaia(make_pixels())
    assert len(list(cache.glob("gaia-*.ecsv"))) == 1
    archive.error = ConnectionError("no network")
    again = query_gaia(make_pixels())
    assert archive.count == 1
    assert again.source_id == first.source_id
    np.testing.assert_array_equal(again.ra_deg, first.ra_deg)
    with pytest.raises(FileError, match=r"an answer of Gaia's archive, got none \(no network\); ask once where"):
        query_gaia(make_pixels(), magnitude_limit=12.0)


def test_a_damaged_answer_is_asked_for_again(make_pixels, archive, cache):
    archive.rows = rows_at([290.0], [45.0])
    query_gaia(make_pixels())
    (kept,) = cache.glob("gaia-*.ecsv")
    kept.write_text("# %ECSV 1.0\n# nonsense")
    with pytest.warns(DataWarning, match=r"cannot be read .* and is asked for again"):
        query_gaia(make_pixels())
    assert archive.count == 2


def test_a_cache_that_cannot_be_written_is_reported(make_pixels, archive, cache):
    cache.write_text("a file, no directory")
    archive.rows = rows_at([290.0], [45.0])
    with pytest.warns(DataWarning, match=r"Gaia's answer is not kept, because .* set BAYESPRF_CACHE"):
        assert query_gaia(make_pixels()).n_source == 1


@pytest.mark.parametrize("ending", ["ecsv", "csv", "fits", "vot"])
def test_rows_are_saved_as_a_catalogue(make_pixels, archive, tmp_path, ending):
    archive.rows = rows_at([290.0, 290.001], [45.0, 45.0])
    pixels = make_pixels()
    path = write_rows(fetch_gaia(pixels), tmp_path / f"gaia.{ending}")
    np.testing.assert_array_equal(read_catalog(path, epoch=pixels).ra_deg, query_gaia(pixels).ra_deg)
    with pytest.raises(InputError, match=r"output: expected a file that ends in .ecsv, .csv, .*, got 'gaia.doc'"):
        write_rows(archive.rows, tmp_path / "gaia.doc")


def test_gaia_stands_for_a_catalogue(make_pixels, archive):
    archive.rows = rows_at([290.0], [45.0])
    pixels = make_pixels()
    assert as_sources("gaia", pixels, magnitude_limit=15.0).source_id == ("0",)
    assert "phot_g_mean_mag < 15.0" in archive.query
