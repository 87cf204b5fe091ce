"""The one door for catalogues: every form gives the same sources; words stand for what the pixels know."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from bayesprf.errors import DataWarning, FileError, InputError
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.catalogs.sources import as_sources, read_sources
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def field():
    return make_field(rng=np.random.default_rng(3), n_source=12, n_time=4, n_stamp=6, mag_range=(12.0, 15.0))


@pytest.fixture
def frame(field):
    sources = field.sources
    return pd.DataFrame(
        {"source_id": sources.source_id, "ra": sources.ra_deg, "dec": sources.dec_deg}
        | {"phot_g_mean_flux": sources.flux, "pmra": 100.0, "pmdec": 0.0, "ref_epoch": 2016.0}
    )


def test_every_form_gives_the_same_sources(field, frame, tmp_path):
    path = tmp_path / "stars.csv"
    frame.to_csv(path, index=False)
    first = as_sources(frame, field.pixels)
    assert np.all(first.ra_deg != frame["ra"])
    for form in (path, str(path), Table.from_pandas(frame), read_catalog(path), first):
        sources = as_sources(form, field.pixels)
        assert sources.source_id == first.source_id
        for name in ("ra_deg", "dec_deg", "flux", "mag"):
            np.testing.assert_array_equal(getattr(sources, name), getattr(first, name))


def test_words_stand_for_what_the_pixels_know(field):
    detected = as_sources("detect", field.pixels)
    assert detected.source_id[0] == "detected-1"
    np.testing.assert_array_equal(as_sources(Path("detect"), field.pixels).ra_deg, detected.ra_deg)
    assert read_sources("detect", field.pixels, threshold=15.0).n_source < detected.n_source
    with pytest.raises(InputError, match=r"^fwhm: expected a finite number above 0"):
        read_sources("detect", field.pixels, fwhm=0.0)
    star = field.sources
    target = {"id": "KIC 1", "ra_deg": star.ra_deg[0], "dec_deg": star.dec_deg[0], "mag": 12.0, "file": "a.fits"}
    named = replace(field.pixels, meta={"targets": [target]})
    assert as_sources("targets", named).source_id == ("KIC 1",)


def test_options_that_do_not_apply_are_refused(field, frame):
    with pytest.raises(InputError, match=r"^id_column: expected a catalogue file .* got catalog='detect', whose"):
        read_sources("detect", field.pixels, id_column="x")
    with pytest.raises(InputError, match=r"^catalog: expected a file or table to read with id_column, got a Source"):
        read_sources(field.sources, field.pixels, id_column="x")
    with pytest.raises(FileError, match=r"catalog: expected a file, got 'nowhere.csv', where there is none"):
        as_sources("nowhere.csv", field.pixels)
    with pytest.raises(InputError, match=r"catalog: expected a path, a pandas DataFrame or an astropy Table, got int"):
        as_sources(3, field.pixels)


def test_missing_stars_are_added(field, frame):
    bright = int(np.argmax(frame["phot_g_mean_flux"]))
    grown = as_sources(frame.drop(index=bright), field.pixels, detect_missing=True)
    assert grown.n_source == len(frame)
    assert grown.source_id[-1] == "detected-1"


def test_near_duplicates_are_named_at_every_door(field, frame):
    doubled = pd.concat([frame, frame[:1].assign(source_id="again", dec=frame["dec"][0] + 1e-9)])
    with pytest.warns(DataWarning, match=r"^1 of 13 rows .* were left out: of 'star-00000' and 'again'"):
        assert as_sources(doubled, field.pixels).n_source == 12
    with pytest.warns(DataWarning, match=r"^1 pairs of stars lie within 0.01 arcsec.*'star-00000' and 'again'"):
        as_sources(read_catalog(doubled, min_separation=0.0), field.pixels)
