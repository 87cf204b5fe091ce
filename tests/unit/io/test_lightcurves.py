"""Light curves as files and as lightkurve objects."""

import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

from bayesprf.errors import FileError, InputError, MissingDependencyError, ShapeError
from bayesprf.flags import QualityFlag
from bayesprf.io import files
from bayesprf.io.lightcurves import save_lightcurves, to_lightkurve

ZERO = {"Kepler": 2454833.0, "TESS": 2457000.0, "generic": 2450000.5}


@pytest.fixture(scope="module")
def lightkurve():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightkurve warns on import about packages it would like to have
        return pytest.importorskip("lightkurve")


@pytest.fixture
def make_tree():
    def make(instrument="Kepler", names=("Gaia DR3 2133476355197071616", "a/b", "A b")):
        n_source = len(names)
        flux = 1000.0 + np.arange(4)[:, None] + 10 * np.arange(n_source) + 1e-9
        flux[2, 0] = np.nan
        flags = np.zeros((4, n_source), np.int32)
        # Bits that are "safe mode" and "no data" in the missions' own tables.
        flags[:, 0] = QualityFlag.LOW_PSF_FRACTION
        flags[3, 0] |= QualityFlag.PIXELS_DROPPED
        photometry = xr.Dataset(
            {
                "flux": (("time", "source"), flux),
                "flux_err": (("time", "source"), np.full_like(flux, 2.0)),
                "flux_err_total": (("time", "source"), np.full_like(flux, 3.0)),
                "sap_flux": (("time", "source"), flux / 2),
                "flags": (("time", "source"), flags),
                "log_evidence": (("time",), np.zeros(4)),
            },
            coords={
                "time": ("time", 100.0 + np.arange(4) / 48),
                "cadence_number": ("time", 900 + np.arange(4)),
                "source": list(names),
            },
        )
        catalog = xr.Dataset(
            {"ra_deg": ("source", 290.0 + np.arange(n_source)), "dec_deg": ("source", np.full(n_source, 45.0))}
            | {"mag": ("source", np.full(n_source, np.nan))}
        )
        attrs = {"instrument": instrument, "time_zero_jd": ZERO[instrument]}
        groups = {"/": xr.Dataset(attrs=attrs), "/photometry": photometry, "/catalog": catalog}
        return xr.DataTree.from_dict(groups)

    return make


@pytest.mark.parametrize("instrument", ["Kepler", "TESS", "generic"])
def test_lightkurve_reads_the_file(make_tree, lightkurve, tmp_path, instrument):
    tree = make_tree(instrument)
    path = save_lightcurves(tmp_path / "lc", tree)[0]
    curve = lightkurve.read(path)
    photometry = tree["photometry"]
    assert len(curve) == 4  # no cadence dropped for our bits
    np.testing.assert_array_equal(np.ma.filled(curve.flux.value, np.nan), photometry["flux"].values[:, 0])
    np.testing.assert_array_equal(np.ma.filled(curve.flux_err.value, np.nan), np.full(4, 2.0))
    np.testing.assert_array_equal(curve["flux_err_total"].value, np.full(4, 3.0))
    np.testing.assert_array_equal(curve["quality"], photometry["flags"].values[:, 0])
    np.testing.assert_array_equal(curve["cadenceno"], [900, 901, 902, 903])
    assert str(curve.flux.unit) == "electron / s"
    assert curve.time.format == {"Kepler": "bkjd", "TESS": "btjd", "generic": "jd"}[instrument]
    np.testing.assert_allclose(curve.time.tdb.jd, ZERO[instrument] + photometry["time"].values, rtol=0, atol=1e-9)
    assert curve.meta["LABEL"] == "Gaia DR3 2133476355197071616"
    assert (curve.meta["RA"], curve.meta["DEC"]) == (290.0, 45.0)


@pytest.mark.parametrize("instrument", ["Kepler", "TESS", "generic"])
@pytest.mark.usefixtures("lightkurve")
def test_lightkurve_objects(make_tree, instrument):
    tree = make_tree(instrument)
    curve = to_lightkurve(tree, "a/b")
    photometry = tree["photometry"]
    np.testing.assert_array_equal(curve.flux.value, photometry["flux"].values[:, 1])
    np.testing.assert_array_equal(curve["sap_flux"].value, photometry["sap_flux"].values[:, 1])
    assert str(curve.flux.unit) == "electron / s"
    assert curve.time.format == {"Kepler": "bkjd", "TESS": "btjd", "generic": "jd"}[instrument]
    np.testing.assert_allclose(curve.time.jd, ZERO[instrument] + photometry["time"].values, rtol=0, atol=1e-9)
    assert curve.meta["LABEL"] == "a/b"
    assert curve.meta["RA"] == 291.0
    if instrument == "Kepler":
        assert curve.bin(bins=2).flux.size == 2  # it behaves as a light curve


def test_files_are_named_after_their_sources(make_tree, tmp_path):
    paths = save_lightcurves(tmp_path, make_tree(names=("Gaia DR3 21", "a/b", "A b", "../../etc", "é")), prefix="x_")
    names = [path.name for path in paths]
    assert names == ["x_Gaia_DR3_21.fits", "x_a_b_1.fits", "x_A_b_2.fits", "x_etc.fits", "x_source.fits"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    with fits.open(paths[1]) as hdus:
        assert hdus[0].header["OBJECT"] == "a/b"
        assert "CATMAG" not in hdus[0].header  # NaN has no place in a header


def test_some_sources(make_tree, tmp_path):
    tree = make_tree()
    (path,) = save_lightcurves(tmp_path, tree, sources=["A b"])
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(hdus[1].data["FLUX"], tree["photometry"]["flux"].values[:, 2])
    with pytest.raises(InputError, match=r"sources: expected names of sources in the tree \(Gaia DR3 .*\), got 'zz'"):
        save_lightcurves(tmp_path, tree, sources=["zz"])


def test_a_failed_write_leaves_nothing(make_tree, tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr(files, "_flush_to_disk", fail)
    with pytest.raises(OSError, match="disk full"):
        save_lightcurves(tmp_path / "lc", make_tree())
    assert list((tmp_path / "lc").iterdir()) == []


def test_what_cannot_be_saved(make_tree, tmp_path):
    with pytest.raises(InputError, match=r"tree: expected a DataTree with the group photometry, got \[\]"):
        save_lightcurves(tmp_path, xr.DataTree())
    with pytest.raises(InputError, match=r"tree: expected a DataTree, got .*; Machine.to_datatree makes one"):
        to_lightkurve({}, "a")
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileError, match=r"directory: expected a directory that exists or can be made, got .*taken"):
        save_lightcurves(tmp_path / "taken", make_tree())


def test_missing_lightkurve_says_how_to_install_it(make_tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightkurve", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs the package lightkurve; .*pip install 'bayesprf\[lightkur"
    ):
        to_lightkurve(make_tree(), "a/b")


def test_every_source_has_a_file_of_its_own(make_tree, tmp_path):
    """Names that differ by case, by signs, or that look like a numbered one."""
    names = ("a", "A", "a_0", "A_1", "a/", "source", "", "..", "x\ty", "x\ny")
    tree = make_tree(names=names)
    paths = save_lightcurves(tmp_path, tree)
    assert len({path.name.lower() for path in paths}) == len(names) == len(list(tmp_path.iterdir()))
    for number, path in enumerate(paths):
        assert fits.getdata(path)["FLUX"][0] == tree["photometry/flux"].values[0, number]
    some = save_lightcurves(tmp_path / "some", tree, sources=["A", "a_0"])
    assert [path.name for path in some] == [paths[1].name, paths[2].name]


@pytest.mark.parametrize("name", ["tab\there", "line\nbreak", "bell\a", "escape\x1b[31m", "nul\x00x", "ümlaut"])
def test_control_characters_of_a_name_become_question_marks(make_tree, tmp_path, name):
    (path,) = save_lightcurves(tmp_path, make_tree(names=(name,)))
    wanted = "".join(one if " " <= one <= "~" else "?" for one in name)
    assert fits.getheader(path)["OBJECT"] == wanted


def test_times_of_every_star(make_tree, tmp_path):
    tree = make_tree(names=("a", "b"))
    shift = np.array([1e-4, -2e-4]) * np.arange(4)[:, None]
    for number, path in enumerate(save_lightcurves(tmp_path, tree, time_shift=shift)):
        np.testing.assert_array_equal(fits.getdata(path)["TIME"], tree["photometry/time"].values + shift[:, number])
    with pytest.raises(ShapeError, match=r"time_shift: expected shape \(4, 2\) .*, got \(4, 1\)"):
        save_lightcurves(tmp_path, tree, time_shift=shift[:, :1])


def test_the_same_light_curve_gives_the_same_bytes(make_tree, tmp_path):
    (one,), (two,) = (save_lightcurves(tmp_path / name, make_tree(names=("a",))) for name in ("x", "y"))
    assert one.read_bytes() == two.read_bytes()
