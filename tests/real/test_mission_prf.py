"""The official PRF files of TESS, taken from the cache."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from bayesprf.instruments import TESS
from bayesprf.io.prf_files import fetch_prf_tables
from bayesprf.prf.prior import load_prf_tables
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import CASES


def test_files_that_someone_put_there_are_used_as_they_are(real_data, monkeypatch, tmp_path):
    monkeypatch.setenv("BAYESPRF_CACHE", str(tmp_path))
    (tmp_path / "prf").mkdir()
    for path in (real_data / "prf-models" / "tess").glob("*.fits.gz"):
        with fits.open(path) as file:
            file.writeto(tmp_path / "prf" / path.name.removesuffix(".gz"))
    rng = np.random.default_rng(0)
    pixels = make_field(replace(CASES["demo"], n_source=8, n_stamp=4, n_time=3, transits=()), rng=rng).pixels
    place = {"column": pixels.column - pixels.column.mean() + 700.0, "row": pixels.row - pixels.row.mean() + 600.0}
    pixels = replace(pixels, instrument=TESS, meta={"camera": 2, "ccd": 3, "sector": 15}, **place)
    found = load_prf_tables(fetch_prf_tables(pixels))
    assert found.values.shape == (4, 117, 117)
    assert found.values.sum(axis=(1, 2)) == pytest.approx(81.0)
