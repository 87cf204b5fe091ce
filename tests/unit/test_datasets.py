import numpy as np
import pandas as pd
import pytest

import bayesprf as bp
from bayesprf import datasets
from bayesprf.errors import InputError


@pytest.fixture
def nowhere(monkeypatch):
    for name in ("BAYESPRF_DATA", "BAYESPRF_TEST_DATA"):
        monkeypatch.delenv(name, raising=False)


def test_a_stand_in_says_that_it_is_simulated(nowhere, tmp_path):
    data = datasets.load("tess-sky", tmp_path)
    assert not data.is_real
    assert data.origin.startswith("Simulated")
    pixels, catalog = bp.read_tpfs(data.files), pd.read_csv(data.catalog)
    assert pixels.instrument.name == "TESS"
    assert len(catalog) == 12
    # the sky of 120 electron / s is in the pixels: no pixel of the mean image lies below it by more than its noise
    mean = pixels.flux.mean(axis=0)
    assert 115.0 < np.quantile(mean, 0.02) < 140.0


def test_the_same_stand_in_comes_each_time(nowhere, tmp_path):
    first, second = (bp.read_tpfs(datasets.load("kepler-eclipse", tmp_path / one).files) for one in "ab")
    np.testing.assert_array_equal(first.flux, second.flux)


def test_real_files_come_first(monkeypatch, tmp_path):
    folder = tmp_path / "kepler-tpf" / "long"
    folder.mkdir(parents=True)
    file = folder / "kplr006804648-q10-1000cad.fits.gz"
    file.write_bytes(b"")
    monkeypatch.setenv("BAYESPRF_DATA", str(tmp_path))
    data = datasets.load("kepler-eclipse")
    assert (data.files, data.catalog, data.is_real) == ((file,), "targets", True)


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"name: expected .*kepler-field"):
        datasets.load("hubble")
