"""Saving and loading: complete files or none."""

import hashlib

import numpy as np
import pytest
import xarray as xr

from bayesprf.errors import FileError, InputError
from bayesprf.io.save import atomic_path, load_tree, save_tree, sha256_of


@pytest.fixture
def tree():
    photometry = xr.Dataset(
        {
            "flux": (("time", "source"), np.array([[1.0, np.nan], [3.0, 4.0]]), {"units": "electron / s"}),
            "flags": (("time", "source"), np.array([[0, 2], [1 << 18, 0]], np.int32)),
            "used": (("source",), np.array([True, False])),
        },
        coords={"time": [0.5, 1.5], "source": ["Gaia DR3 2133476355197071616", "β"]},
    )
    catalog = xr.Dataset({"ra": (("source",), [1.0, 359.9])})
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={"instrument": "Kepler", "files": ["a.fits", "b.fits"]}), "/photometry": photometry}
        | {"/catalog": catalog}
    )


def test_round_trip_is_equal(tree, tmp_path):
    path = save_tree(tree, tmp_path / "field.nc")
    back = load_tree(path)
    xr.testing.assert_equal(tree, back)
    assert [str(one) for one in back["photometry"]["source"].values] == ["Gaia DR3 2133476355197071616", "β"]
    assert back["photometry"]["flux"].attrs["units"] == "electron / s"
    assert back["photometry"]["used"].dtype == bool
    assert back["photometry"]["flags"].dtype == np.int32
    assert back.attrs["instrument"] == "Kepler"
    assert list(back.attrs["files"]) == ["a.fits", "b.fits"]


def test_a_saved_file_can_be_saved_again_over_itself(tree, tmp_path):
    path = save_tree(tree, tmp_path / "field.nc")
    save_tree(load_tree(path), path)
    xr.testing.assert_equal(tree, load_tree(path))


def test_failure_in_the_middle_keeps_the_old_file_and_leaves_nothing(tree, tmp_path):
    path = save_tree(tree, tmp_path / "field.nc")
    before = path.read_bytes()
    unwritable = tree.copy()
    unwritable["photometry"]["odd"] = xr.DataArray(np.array([{"a": 1}, None], object), dims="source")
    with pytest.raises((TypeError, ValueError), match=r"(?i)object|dtype|unsupported"):
        save_tree(unwritable, path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["field.nc"]


def test_failure_of_a_first_write_leaves_no_file(tmp_path):
    def interrupted():
        with atomic_path(tmp_path / "new.fits") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_a_sibling_with_the_same_ending(tmp_path):
    with atomic_path(tmp_path / "a.fits.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("a.fits.gz")
        temporary.write_bytes(b"whole")
        assert not (tmp_path / "a.fits.gz").exists()
    assert (tmp_path / "a.fits.gz").read_bytes() == b"whole"


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileError, match=r"nothing was written"), atomic_path(tmp_path / "a.nc"):
        pass


def test_missing_directory_is_named(tree, tmp_path):
    with pytest.raises(FileError, match=r"expected a name in an existing directory, got .*nowhere"):
        save_tree(tree, tmp_path / "nowhere" / "a.nc")


def test_only_trees_are_saved(tmp_path):
    with pytest.raises(InputError, match=r"tree: expected an xarray.DataTree, got dict"):
        save_tree({}, tmp_path / "a.nc")


def test_missing_and_truncated_files_are_named(tree, tmp_path):
    with pytest.raises(FileError, match=r"found no file at .*absent.nc"):
        load_tree(tmp_path / "absent.nc")
    path = save_tree(tree, tmp_path / "field.nc")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileError, match=r"field.nc: expected a complete netCDF-4 file"):
        load_tree(path)


def test_checksum(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    assert sha256_of(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    with pytest.raises(FileError, match=r"absent: cannot be read"):
        sha256_of(tmp_path / "absent")
