"""Saving and loading: complete files or none."""

import contextlib
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from bayesprf.errors import FileError, InputError
from bayesprf.io.save import _SEAL_SIZE, atomic_path, check_intact, load_tree, save_tree, sha256_of


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
    with pytest.raises(InputError, match=r"tree: expected a DataTree, got .*; Machine.to_datatree makes one"):
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


def test_the_same_tree_gives_the_same_bytes(tree, tmp_path):
    first, second = (save_tree(tree, tmp_path / name).read_bytes() for name in ("a.nc", "b.nc"))
    again = save_tree(load_tree(tmp_path / "a.nc"), tmp_path / "c.nc").read_bytes()
    assert first == second == again


FULL_DISK = """
import resource, signal, sys
import numpy as np, xarray as xr
from bayesprf.errors import FileError
from bayesprf.io.save import load_tree, save_tree
tree = xr.DataTree.from_dict({"/a": xr.Dataset({"x": ("n", np.arange(200_000.0))})})
save_tree(xr.DataTree(), "old.nc")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for name in ("new.nc", "old.nc"):
    try:
        save_tree(tree, name)
    except FileError as error:
        print(error)
load_tree("old.nc")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path):
    """HDF5 would end the process: here files may not grow beyond 100 kB."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    wanted = [f"{name}: cannot be written (File too large); make room, or choose another place" for name in OLD_AND_NEW]
    assert done.stdout.splitlines() == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["old.nc"]


OLD_AND_NEW = ("new.nc", "old.nc")


def test_damaged_numbers_are_found(tmp_path):
    values = np.random.default_rng(0).normal(size=(400, 50))
    tree = xr.DataTree.from_dict({"/photometry": xr.Dataset({"flux": (("time", "source"), values)})})
    path = save_tree(tree, tmp_path / "a.nc")
    check_intact(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for read in (load_tree, check_intact):
        with pytest.raises(FileError, match=r"a.nc: expected a complete netCDF-4 file, but it cannot be read"):
            read(path)


def test_a_heap_that_hdf5_would_walk_without_end_is_found(tree, tmp_path):
    """One bit too many in the size of a text, at which HDF5 2.0 wraps around to where it is."""
    path = save_tree(tree, tmp_path / "tree.nc")
    content = path.read_bytes()[:-_SEAL_SIZE]
    heap = content.index(b"GCOL")
    for size in (2**64 - 16, 0):
        path.write_bytes(content[: heap + 24] + size.to_bytes(8, "little") + content[heap + 32 :])
        with pytest.raises(FileError, match=r"tree\.nc: .* \(a heap of its texts is damaged\); make it anew"):
            load_tree(path)
    path.write_bytes(content[: heap + 8] + (2**40).to_bytes(8, "little") + content[heap + 16 :])
    with pytest.raises(FileError, match=r"a heap of its texts ends beyond the file"):
        load_tree(path)


def test_random_damage_ends_in_one_sentence(tree, tmp_path):
    path = save_tree(tree, tmp_path / "a.nc")
    content, rng = path.read_bytes(), np.random.default_rng(1)
    refused = 0
    for _ in range(40):
        bad = bytearray(content)
        start = int(rng.integers(len(bad)))
        bad[start : start + 40] = rng.bytes(len(bad[start : start + 40]))
        path.write_bytes(bad)
        with contextlib.suppress(FileError):
            load_tree(path)
            refused -= 1
        refused += 1
    assert refused == 40


@pytest.mark.parametrize(
    ("attrs", "catalog", "reason"),
    [
        ({"input_files": ""}, True, "its attribute input_files is damaged"),
        ({"options": "[1]"}, True, "its attribute options is damaged"),
        ({}, False, "it has no catalogue"),
    ],
)
def test_results_that_lack_a_part(tmp_path, attrs, catalog, reason):
    whole = {"title": "bayesprf photometry", "versions": "{}", "options": "{}", "input_files": "{}"}
    groups = {"/": xr.Dataset(attrs=whole | attrs)}
    if catalog:
        groups["/catalog"] = xr.Dataset({"mag": ("source", [1.0])}, coords={"source": ["a"]})
    path = save_tree(xr.DataTree.from_dict(groups), tmp_path / "a.nc")
    with pytest.raises(FileError, match=rf"a.nc: expected a complete .* cannot be read \({reason}\); make it anew"):
        load_tree(path)


def test_values_that_no_file_of_this_size_holds(tmp_path):
    import h5netcdf

    path = tmp_path / "bomb.nc"
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"n": 10**10}
        file.create_variable("x", ("n",), "f8", chunks=(10**6,), fillvalue=0.0)
    with pytest.raises(
        FileError, match=r"bomb.nc: .*it names 80000000000 bytes of values, more than a file of its size"
    ):
        load_tree(path)


@pytest.mark.parametrize("name", ["a.fits", "catalog.csv"])
def test_files_of_another_kind_are_not_overwritten(tree, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"an input")
    with pytest.raises(InputError, match=rf"path: expected a new file or earlier results, got .*{name}'"):
        save_tree(tree, path)
    assert path.read_bytes() == b"an input"
    path.write_bytes(b"")
    save_tree(tree, path)
    save_tree(tree, path)  # results under an odd name may be replaced
    xr.testing.assert_equal(load_tree(path), tree)


def test_addresses_are_not_read_or_written(tree):
    for act in (load_tree, lambda path: save_tree(tree, path)):
        with pytest.raises(InputError, match=r"expected files on disk, got the address 's3://bucket/a.nc'"):
            act("s3://bucket/a.nc")
