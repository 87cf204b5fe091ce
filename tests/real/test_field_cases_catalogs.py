"""Catalogues that people brought: each gives its right answer, or one sentence (field-cases/README.md)."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from bayesprf import Machine, read_catalog, read_image, read_tpfs
from bayesprf.errors import DataWarning, InputError
from bayesprf.io.catalogs.detect import detect_sources
from bayesprf.io.catalogs.sources import as_sources
from bayesprf.io.save import load_tree, save_tree
from bayesprf.results.gather import catalog_group
from bayesprf.results.tree import build_tree
from bayesprf.scene.sky import nearest

pytestmark = pytest.mark.real
MAS_PER_DEG = 3.6e6


@pytest.fixture(scope="module")
def cases(real_data):
    return real_data / "field-cases"


def saved_catalog(sources, path):
    """Return the catalogue after a trip through the results of a fit and a netCDF file."""
    tree = build_tree({"catalog": catalog_group(sources, {})}, {"source": list(sources.source_id)}, {})
    return load_tree(save_tree(tree, path))["catalog"]


def test_tic_of_mast(cases):
    sources = read_catalog(cases / "tic_mast_10rows.csv")
    assert sources.n_source == len(Table.read(cases / "tic_mast_10rows.csv"))
    assert sources.source_id[0] == "10000732589"
    np.testing.assert_array_equal(sources.epoch, 2000.0)
    assert sources.columns["SDSS"][1] == 1237668629461992674  # beside missing ones, with all digits


def test_bulk_file_of_gaia_with_null(cases):
    sources = read_catalog(cases / "gaia_bulk_null_5rows.ecsv.gz")
    assert sources.n_source == 5
    assert sources.source_id[0] == "6636090334814214528"
    np.testing.assert_array_equal(sources.epoch, 2016.0)
    np.testing.assert_array_equal(np.isfinite(sources.motion[:, 0]), [True, False, True, False, True])


def test_text_of_vizier_moves_to_where_vizier_says(cases, record_property):
    sources = read_catalog(cases / "vizier_ic2391_60rows.csv")
    assert sources.n_source == 60
    assert sources.source_id[0] == "5298253106390610304"
    np.testing.assert_array_equal(sources.epoch, 2015.5)
    moved = sources.at_epoch(2000.0)
    east = (moved.ra_deg - sources.columns["_RA.icrs"]) * np.cos(np.radians(moved.dec_deg)) * MAS_PER_DEG
    north = (moved.dec_deg - sources.columns["_DE.icrs"]) * MAS_PER_DEG
    record_property("largest difference, mas", f"{np.hypot(east, north).max():.1e}")
    assert np.hypot(east, north).max() < 0.01
    np.testing.assert_array_equal(moved.ra_deg, read_catalog(cases / "vizier_ic2391_60rows.csv", epoch=2000.0).ra_deg)


def test_tic_of_vizier_with_a_slash_in_a_name(cases, tmp_path):
    sources = read_catalog(cases / "tic_vizier_slash_8rows.csv")
    assert sources.source_id[:2] == ("45975697", "45786510")
    assert sources.ra_deg[0] == 131.67761803486  # the TIC's own, of J2000, and not Gaia's beside it
    np.testing.assert_array_equal(sources.epoch, 2000.0)
    saved = saved_catalog(sources, tmp_path / "tree.nc")
    assert saved["S_G"].to_numpy().tolist() == ["STAR"] * 8


def test_filled_masks_are_refused_by_row(cases):
    table = Table.read(cases / "ic2391_1e20_10rows.fits")
    with pytest.raises(InputError, match=r"^RA_ICRS, DE_ICRS: expected a position .* in 3 of 10, rows 0, 4, 9; drop"):
        read_catalog(cases / "ic2391_1e20_10rows.fits")
    named = (
        r"^1 of 7 rows .* '5317095677665612416' and '5317095677681933184' \(rows 3 and 4, 0 arcsec\) one row is kept"
    )
    with pytest.warns(DataWarning, match=named):  # one star of DR2 that EDR3 lists twice
        good = read_catalog(table[np.array(table["RA_ICRS"]) < 360.0])
    assert good.n_source == 6
    assert good.source_id[0] == "5316965243808427392"


def test_sexagesimal_positions_of_exofop(cases):
    sources = read_catalog(cases / "exofop_toi103_sexagesimal.csv")
    assert sources.source_id == ("336732616",)
    assert sources.ra_deg[0] == pytest.approx(312.4575, abs=1e-9)
    assert sources.dec_deg[0] == pytest.approx(-24.42869444, abs=1e-8)
    np.testing.assert_allclose(sources.motion, [[10.426, 15.62]], rtol=1e-12)
    np.testing.assert_array_equal(sources.epoch, 2000.0)


def test_masked_identifiers_keep_their_digits(cases, tmp_path):
    sources = read_catalog(cases / "masked_int64_ids_6rows.ecsv")
    saved = saved_catalog(sources, tmp_path / "tree.nc")["dr2_source_id"]
    assert int(sources.columns["dr2_source_id"][1]) == int(saved[1]) == 5730932475468906240
    assert saved.dtype == np.int64
    assert int(saved[0]) == saved.attrs["masked_value"]
    assert sources.source_id[1] == "5730932475468906240"


@pytest.fixture(scope="module")
def tess(real_data):
    return read_tpfs(real_data / "tess-tpf" / "tess25155310-s01-first-cadences.fits.gz")


@pytest.mark.parametrize("stage", ["build_shape_model", "refine_scene"])
@pytest.mark.filterwarnings("ignore:refine_scene. a star still moved")
def test_flux_of_a_tess_star_does_not_follow_the_catalogue_s_scale(cases, tess, stage, record_property):
    sources = read_catalog(cases / "tic25155310_tic_v17.csv").in_band(tess.instrument.flux_column)
    fluxes = []
    for factor in (1.0, 1000.0):
        machine = Machine.from_pixels(tess, replace(sources, flux=sources.flux * factor, bands={}), quiet=True)
        getattr(machine, stage)()
        machine.fit_model()
        fluxes.append(machine.ws.mean(axis=0))
    record_property(f"TIC 25155310 after {stage}, electron / s", f"{fluxes[0][0]:.0f}")
    np.testing.assert_allclose(fluxes[1], fluxes[0], rtol=1e-7, atol=1e-7 * fluxes[0][0])
    assert fluxes[1][0] == pytest.approx(fluxes[0][0], rel=1e-9)


def test_a_catalogue_of_another_field_is_named_with_the_distance(cases, tess):
    with pytest.raises(InputError, match=r"^sources: expected stars on the pixels at RA 63.38.*lies 48.09 deg away"):
        Machine.from_pixels(tess, cases / "gaia_bulk_null_5rows.ecsv.gz")
    hours = Table.read(cases / "tic25155310_tic_v17.csv")
    hours["ra"] /= 15.0
    with pytest.raises(InputError, match=r"deg away .*; the right ascensions are hours: multiply them by 15"):
        Machine.from_pixels(tess, hours)


def test_every_form_of_a_catalogue_gives_the_same_sources(cases, tess):
    path = cases / "tic25155310_tic_v17.csv"
    table = Table.read(path)
    made = [Machine.from_pixels(tess, one).sources for one in (path, str(path), table, table.to_pandas())]
    made.append(Machine.from_pixels(tess, read_catalog(path)).sources)
    for one in made[1:]:
        assert one.source_id == made[0].source_id
        np.testing.assert_array_equal(one.flux, made[0].flux)
        np.testing.assert_array_equal(one.ra_deg, made[0].ra_deg)


def test_headers_of_kepler_stand_for_a_catalogue(real_data):
    pixels = read_tpfs(sorted((real_data / "kepler-tpf").glob("tpf_test_0*.fits")))
    sources = as_sources("targets", pixels)
    assert sources.n_source == 10
    assert sources.source_id[0] == "KIC 12644769"
    assert sources.mag[0] == pytest.approx(11.762, abs=1e-3)
    assert sources.flux[0] == pytest.approx(1.74e5 * 10 ** (-0.4 * (sources.mag[0] - 12.0)), rel=1e-9)


def test_headers_of_a_cutout_name_no_star(cases):
    pixels = read_tpfs(cases / "astrocut-sky150-15x15.fits.gz")
    with pytest.raises(InputError, match=r"^catalog: 'targets' expects target pixel files whose headers name a star"):
        as_sources("targets", pixels)
    found = as_sources("detect", pixels)  # s0 has 9000 electron / s, of which nine pixels hold 83 %
    truth = read_catalog(cases / "astrocut-sky150-15x15_catalog.csv")
    _, away = nearest(truth.ra_deg[:1], truth.dec_deg[:1], found.ra_deg, found.dec_deg)
    assert found.n_source == 1
    assert away[0] < 0.2 * pixels.instrument.pixel_scale
    assert found.flux[0] == pytest.approx(0.83 * 9000.0, rel=0.02)


def test_peaks_of_real_images_are_found(real_data, record_property):
    """The detections beside the Kepler image were made with a background mesh of their own."""
    pixels = read_image(real_data / "kepler-ffi" / "kplr-ffi_ch01_test.fits")
    found = detect_sources(pixels)
    known = Table.read(real_data / "kepler-ffi" / "kplr-ffi_ch01_test_detections.csv")
    _, away = nearest(np.array(known["ra"]), np.array(known["dec"]), found.ra_deg, found.dec_deg)
    record_property("detections that are found again", f"{(away < 4.0).sum()} of {len(known)}")
    assert np.mean(away < 4.0) > 0.95
    blend = read_tpfs(real_data / "tess-tpf" / "tess-tic273589987-s15-100cad.fits.gz")
    peaks = Table.read(real_data / "tess-tpf" / "tess-tic273589987-s15_detections.csv")
    assert {"ra", "dec"} <= set(peaks.colnames)
    stars = detect_sources(blend)
    _, away = nearest(stars.ra_deg, stars.dec_deg, np.array(peaks["ra"]), np.array(peaks["dec"]))
    assert stars.n_source == 3  # with the neighbour at 3.3 pixels
    assert np.all(away < 0.5 * blend.instrument.pixel_scale)
