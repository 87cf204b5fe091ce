"""What a caller may give for files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.timeseries import TimeSeries

from bayesprf.errors import FileError, InputError
from bayesprf.io.pixels.listing import list_files


class Collection:
    """As lightkurve's: a length and an index, and no iterator."""

    def __init__(self, members):
        self.members = members

    def __len__(self):
        return len(self.members)

    def __getitem__(self, place):
        return self.members[place]

    __iter__ = None


def test_collections_lists_and_open_files():
    hdus = fits.HDUList([fits.PrimaryHDU()])
    assert list_files(hdus) == [hdus]
    assert list_files(hdus)[0] is hdus
    found = list_files(Collection(["a.fits", Path("b.fits"), [hdus]]))
    assert found[:2] == [Path("a.fits"), Path("b.fits")]
    assert found[2] is hdus


def test_hidden_files_of_a_directory_are_left_out(tmp_path):
    for name in ("b.fits", "a.fits.gz", "._b.fits", ".hidden.fits"):
        (tmp_path / name).touch()
    assert [one.name for one in list_files(tmp_path)] == ["a.fits.gz", "b.fits"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"expected target pixel files \(\*.fits, \*.fits.gz\) in .*empty', found none"):
        list_files(tmp_path / "empty")


@pytest.mark.parametrize("folder", ["plain", "[x]", "a[1]*", "ü b"])
def test_patterns_in_folders_of_any_name(tmp_path, folder):
    (tmp_path / folder / "deep").mkdir(parents=True)
    (tmp_path / folder / "a.fits").touch()
    (tmp_path / folder / "deep" / "b.fits").touch()
    assert [one.name for one in list_files(str(tmp_path / folder / "*.fits"))] == ["a.fits"]
    assert [one.name for one in list_files(str(tmp_path / folder / "**" / "*.fits"))] == ["a.fits", "b.fits"]
    assert [one.name for one in list_files(str(tmp_path / folder / "d*" / "*.fits"))] == ["b.fits"]


@pytest.mark.parametrize("files", [3, None, {"a": 1}, [3]], ids=str)
def test_what_is_no_file_is_refused(files):
    with pytest.raises(InputError, match=r"files: expected a path, a pattern, .* got (int|NoneType|dict)"):
        list_files(files)


def test_an_address_keeps_its_name():
    with pytest.raises(InputError, match=r"got the address 'https://a.b/c\*.fits', and addresses are not read"):
        list_files(["https://a.b/c*.fits"])


@pytest.mark.parametrize(
    "given",
    [
        pd.DataFrame({"time": [1.0], "flux": [1.0]}),
        Table({"time": [1.0], "flux": [1.0]}),
        TimeSeries({"flux": [1.0]}, time=["2020-01-01"]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_tables_and_light_curves_are_no_files(given):
    """lightkurve's LightCurve is a TimeSeries."""
    with pytest.raises(
        InputError, match=rf"^files: expected .*, got a table or light curve \({type(given).__name__}\)"
    ):
        list_files(given)


def test_what_only_looks_like_a_list_is_no_list():
    with pytest.raises(InputError, match=r"^files: expected a path, .*, got ndarray"):
        list_files(np.array(5.0))
