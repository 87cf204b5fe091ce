"""Damaged FITS files: opened as far as they are sound, and named in one sentence otherwise."""

import gzip
import time

import numpy as np
import pytest
from astropy.io import fits

from bayesprf.errors import DataWarning, FileError, InputError
from bayesprf.io.pixels import fits_file
from bayesprf.io.pixels.fits_file import check_local, find_units
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.pixels.tpf_writer import write_tpf


@pytest.fixture
def one(make_pixels, tmp_path):
    return write_tpf(tmp_path / "one.fits", make_pixels())


def set_card(content, key, value, *, after=b"XTENSION"):
    """Return the file with the first such card behind `after` changed to a value that is given as text."""
    place = content.index(key.ljust(8).encode() + b"=", content.index(after))
    return content[: place + 8] + f"= {value}".ljust(72).encode() + content[place + 80 :]


DAMAGE = {
    "zeros between": lambda content: content[:2880] + bytes(2880) + content[2880:],
    "no size": lambda content: set_card(content, "BITPIX", "-1"),
    "size of another kind": lambda content: set_card(content, "NAXIS2", "'two'"),
    "a size beyond all files": lambda content: set_card(content, "NAXIS2", "99999999999"),
    "no format": lambda content: set_card(content, "TFORM4", ""),
    "a number for a name": lambda content: set_card(content, "TTYPE6", "3.5"),
    "no end": lambda content: content.replace(b"END" + b" " * 77, b" " * 80),
    "nothing": lambda content: b"",
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(one, tmp_path, damage, packed):
    content = damage(one.read_bytes())
    bad = tmp_path / ("bad.fits.gz" if packed else "bad.fits")
    bad.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(FileError, match=r"bad\.fits.*: expected a (target pixel file, but|FITS file, got an empty)"):
        read_tpfs(bad)
    with pytest.warns(DataWarning, match=r"skipped a file: .*bad\.fits"):
        assert read_tpfs([one, bad], on_error="skip").n_pixel == 30


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89HDF\r\n\x1a\n", "got a netCDF file; results are read by bayesprf.load"),
        (b"PK\x03\x04" + bytes(60), "got a zip archive; unpack it"),
        (b"\n<!DOCTYPE html><html>404", "got a web page or XML; download the file itself"),
    ],
)
def test_other_formats_are_named(tmp_path, content, said):
    (tmp_path / "other.fits").write_bytes(content)
    with pytest.raises(FileError, match=rf"other\.fits: expected a FITS file, {said}"):
        read_tpfs(tmp_path / "other.fits")


def test_a_flipped_bit_of_a_packed_file_is_found_at_once(one, tmp_path):
    """Gzip's own checksum covers what it packs: no bit of it can change without a word."""
    content = gzip.compress(one.read_bytes(), mtime=0)
    bad = tmp_path / "bad.fits.gz"
    began = time.perf_counter()
    for place in np.random.default_rng(0).integers(10, len(content), 40).tolist():
        bad.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(FileError, match=r"bad\.fits\.gz: expected a target pixel file, but it cannot be read"):
            read_tpfs(bad)
    assert time.perf_counter() - began < 5


def test_a_packed_file_that_is_too_large_is_refused(one, tmp_path, monkeypatch):
    bad = tmp_path / "large.fits.gz"
    bad.write_bytes(gzip.compress(one.read_bytes() + bytes(3 << 20)))
    monkeypatch.setattr(fits_file, "MAX_UNPACKED", 2 << 20)
    with pytest.raises(FileError, match=r"large.fits.gz: expected a packed file of at most 2 MiB, .*unpack it on disk"):
        read_tpfs(bad)


@pytest.mark.parametrize("junk", [bytes(2880), b"SIMPLE  =" + bytes(3000), b"junk"], ids=["zeros", "header", "short"])
def test_what_follows_the_last_extension_is_left_out(one, junk):
    wanted = read_tpfs(one)
    one.write_bytes(one.read_bytes() + junk)
    np.testing.assert_array_equal(read_tpfs(one).flux, wanted.flux)


def test_checksums_are_those_of_astropy(one, tmp_path):
    path = tmp_path / "sums.fits"
    with fits.open(one) as hdus:
        hdus.writeto(path, checksum=True)
    content = path.read_bytes()
    units = find_units(content)
    assert [unit.intact for unit in units] == [None, True, True]
    assert units[-1].end == len(content)
    changed = bytearray(content)
    changed[units[1].data_start + 100] ^= 4
    assert [unit.intact for unit in find_units(bytes(changed))] == [None, False, True]


def test_changed_pixels_are_said(one):
    """The archives' files hold the sum of their data, so that one flipped bit is found."""
    with fits.open(one, memmap=False) as hdus:
        hdus.writeto(one, checksum=True, overwrite=True)
    assert read_tpfs(one).n_pixel == 30
    content = bytearray(one.read_bytes())
    content[find_units(bytes(content))[1].data_start + 60] ^= 1
    one.write_bytes(content)
    with pytest.warns(DataWarning, match=r"one.fits: expected the pixels that DATASUM was made from, got others"):
        read_tpfs(one)


@pytest.mark.parametrize("address", ["https://a.b/c.fits", "s3://bucket/c.fits", "file:/c.fits"])
def test_addresses_are_no_files(address):
    with pytest.raises(InputError, match=rf"files: expected files on disk, got the address '{address}'"):
        check_local(address, "files")


@pytest.mark.parametrize("path", ["c.fits", "/a/b:c/d.fits", "C:/c.fits", 3])
def test_paths_are_no_addresses(path):
    check_local(path, "files")


def test_what_is_odd_about_several_files_is_said_once(make_pixels, tmp_path):
    """Files that a tool has changed: one sentence, which names them."""
    paths = [write_tpf(tmp_path / f"{name}.fits", make_pixels(corner=(8, row))) for name, row in (("a", 18), ("b", 40))]
    for path in paths:
        with fits.open(path, memmap=False) as hdus:
            hdus.writeto(path, checksum=True, overwrite=True)
        content = bytearray(path.read_bytes())
        content[find_units(bytes(content))[1].data_start + 60] ^= 1
        path.write_bytes(content)
    with pytest.warns(DataWarning, match=r"^a.fits, b.fits: expected the pixels that DATASUM was made from") as caught:
        read_tpfs(paths)
    assert len(caught) == 1
