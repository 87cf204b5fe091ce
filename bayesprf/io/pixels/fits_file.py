"""FITS files that may be damaged: opened after their layout and checksums were looked at."""

import gzip
import io
import mmap
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy.io import fits

from bayesprf.errors import BayesprfError, FileError, InputError

Bytes = bytes | mmap.mmap


# Format: bytes of a block and of a card (FITS standard 4.0, section 3.1 and 4.1).
_BLOCK, _CARD = 2880, 80
_END = b"END".ljust(_CARD)
_GZIP = b"\x1f\x8b"
# Format: how files begin that are taken for FITS by mistake, what they are, and what to do with them.
_NOT_FITS = (
    (b"\x89HDF", "a netCDF file", "results are read by bayesprf.load"),
    (b"CDF", "a netCDF file", "results are read by bayesprf.load"),
    (b"PK\x03\x04", "a zip archive", "unpack it and give the files in it"),
    (b"<", "a web page or XML", "download the file itself"),
    (b"{", "JSON, as servers answer what they do not have", "download the file itself"),
)
# Format: what a tar archive has at this byte (POSIX ustar).
_TAR = 257, b"ustar"
# Format: bytes that tell what a file is: those of a tar archive's first header.
_N_FIRST = 512
# Format: printable ASCII, and what separates words and lines of a text.
_TEXT = frozenset(range(32, 127)) | frozenset(b"\t\r\n")
# Format: types of pixels (FITS standard 4.0, table 8).
_BITPIX = (8, 16, 32, 64, -32, -64)
_LAYOUT_KEY = re.compile(rb"(BITPIX|NAXIS\d*|PCOUNT|GCOUNT)$")
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")
MAX_UNPACKED = 1 << 30
"""Bytes to which a packed file may unpack in memory: three times a sector of 20-second cadences."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Where one header and its data lie in a file, byte; `intact` is None where the header has no DATASUM."""

    data_start: int
    end: int
    intact: bool | None


def check_local(file: object, name: str) -> None:
    """Raise if the text is an address on a network rather than a file on disk.

    Parameters
    ----------
    file : object
        What came; anything but text passes.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    InputError
        If it is an address.
    """
    if isinstance(file, str) and _ADDRESS.match(file):
        raise InputError(
            f"{name}: expected files on disk, got the address {file!r}, and addresses are not read; download it first,"
            " for example with astropy.utils.data.download_file or lightkurve.search_targetpixelfile"
        )


def guarded_read[T](path: Path, read: Callable[[], T], kind: str) -> T:
    """Run a reader, and turn whatever astropy says about a damaged file into one FileError.

    Parameters
    ----------
    path : Path
        The file, for the message.
    read : callable
        Reads it. Whatever it raises, other than our own errors, is taken as damage of the file: it must only read.
    kind : str
        What the file should be, for the message.

    Returns
    -------
    object
        What `read` returns.

    Raises
    ------
    FileError
        If the file is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers of real files bend the FITS rules, in words of many libraries
        try:
            return read()
        except BayesprfError:
            raise
        except Exception as error:  # astropy meets damage with nearly every exception that Python has
            reason = " ".join(str(error).split()) or type(error).__name__
            raise FileError(
                f"{path}: expected {kind}, but it cannot be read ({reason});"
                " it may be cut short or damaged: download it again"
            ) from error


@contextmanager
def open_fits(path: Path) -> Iterator[tuple[fits.HDUList, list[Unit]]]:
    """Open a FITS file, packed with gzip or not, of which every header and all data are there; use in `guarded_read`.

    Parameters
    ----------
    path : Path
        The file.

    Yields
    ------
    hdus : astropy.io.fits.HDUList
        What follows the last whole extension is left out.
    units : list of Unit
        One per extension.

    Raises
    ------
    ValueError
        If it is not FITS or is cut short.
    FileError
        If it is empty or of another format, or unpacks to more than `MAX_UNPACKED`.
    """
    with open(path, "rb") as handle:
        first = handle.read(_N_FIRST)
    _refuse_other_formats(path, first)
    if first.startswith(_GZIP):
        content = _unpack(path)
        units = find_units(content)
        with fits.open(io.BytesIO(content[: units[-1].end]), memmap=False) as hdus:
            yield hdus, units
        return
    with open(path, "rb") as handle, _map(handle) as mapped:
        units = find_units(mapped)
        whole = len(mapped) == units[-1].end
        source: Path | io.BytesIO = path if whole else io.BytesIO(mapped[: units[-1].end])
        with fits.open(source, mode="readonly", memmap=whole) as hdus:
            yield hdus, units


def _refuse_other_formats(path: Path, first: bytes) -> None:
    """Raise if the first bytes of a file are those of another format, saying which."""
    if not first:
        raise FileError(f"{path}: expected a FITS file, got an empty one; download it again")
    found = next((one[1:] for one in _NOT_FITS if first.lstrip().startswith(one[0])), None)
    if first[_TAR[0] :].startswith(_TAR[1]):
        found = "a tar archive", "unpack it and give the files in it"
    elif found is None and b"\n" in first and _TEXT.issuperset(first):  # headers of FITS have no line breaks
        found = "a text", "give the file of the pixels"
    if found is not None:
        raise FileError(f"{path}: expected a FITS file, got {found[0]}; {found[1]}")


@contextmanager
def _map(handle: BinaryIO) -> Iterator[Bytes]:
    """Give the bytes of an open file, mapped into memory where there are any."""
    if handle.seek(0, io.SEEK_END) == 0:
        yield b""
        return
    with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def _unpack(path: Path) -> bytes:
    """Return the unpacked bytes; gzip checks them against the checksum that the file holds of them."""
    content = bytearray()
    with gzip.open(path) as handle:
        while block := handle.read(1 << 20):
            if not content:
                _refuse_other_formats(path, block[:_N_FIRST])
            content += block
            if not content.startswith(b"SIMPLE"):
                raise ValueError("it does not begin with SIMPLE")
            if len(content) > MAX_UNPACKED:
                raise FileError(
                    f"{path}: expected a packed file of at most {MAX_UNPACKED >> 20} MiB, but it unpacks to more;"
                    " unpack it on disk and give that file"
                )
    return bytes(content)


def find_units(content: Bytes) -> list[Unit]:
    """Return where the extensions of a FITS file lie, and whether their data are those of their DATASUM.

    Parameters
    ----------
    content : bytes-like
        The whole file.

    Returns
    -------
    list of Unit
        Up to the first place where no further extension begins.

    Raises
    ------
    ValueError
        If there is none, a header does not end or does not say how long its data are, or data are cut short.
    """
    units: list[Unit] = []
    start = 0
    while content[start : start + 8] == (b"XTENSION" if units else b"SIMPLE  "):
        data_start = _header_end(content, start)
        cards = _read_cards(content[start:data_start])
        size = _data_size(cards, len(units))
        end = data_start + -(-size // _BLOCK) * _BLOCK
        if end > len(content):
            raise ValueError(f"extension {len(units)} ends at byte {end}, the file at {len(content)}")
        units.append(Unit(data_start, end, _is_intact(content, data_start, end, cards.get("DATASUM"))))
        start = end
    if not units:
        raise ValueError("it does not begin with SIMPLE")
    return units


def _header_end(content: Bytes, start: int) -> int:
    """Return where the data of the header that begins at `start` begin."""
    place = content.find(_END, start)
    while place >= 0 and (place - start) % _CARD:
        place = content.find(_END, place + 1)
    end = start + -(-(place + _CARD - start) // _BLOCK) * _BLOCK
    if place < 0 or end > len(content):
        raise ValueError(f"the header at byte {start} does not end")
    return end


def _read_cards(header: bytes) -> dict[str, int]:
    """Return the whole numbers that say how long the data are and what their bytes add up to."""
    found: dict[str, int] = {}
    for place in range(0, len(header), _CARD):
        card = header[place : place + _CARD]
        key = card[:8].rstrip()
        if card[8:9] == b"=" and (_LAYOUT_KEY.match(key) or key == b"DATASUM"):
            text = card[9:].split(b"/")[0].strip(b" '")
            if re.fullmatch(rb"-?\d{1,18}", text):
                found.setdefault(key.decode(), int(text))
    return found


def _data_size(cards: dict[str, int], number: int) -> int:
    """Return the number of data bytes: |BITPIX| / 8 GCOUNT (PCOUNT + NAXIS1 NAXIS2 ...), FITS standard 4.0, 4.4.1."""
    axes = [cards.get(f"NAXIS{axis + 1}", -1) for axis in range(min(max(cards.get("NAXIS", -1), -1), 999))]
    sound = cards.get("BITPIX") in _BITPIX and cards.get("NAXIS", -1) >= 0 and min(axes, default=0) >= 0
    pcount, gcount = cards.get("PCOUNT", 0), cards.get("GCOUNT", 1)
    if not sound or pcount < 0 or gcount < 0:
        raise ValueError(f"BITPIX, NAXIS, ... do not say how long the data of extension {number} are")
    elements = 1
    for axis in axes:
        elements *= axis
    return abs(cards["BITPIX"]) // 8 * gcount * (pcount + elements) if axes else 0


def _is_intact(content: Bytes, start: int, end: int, expected: int | None) -> bool | None:
    """Return whether the ones' complement sum of the data is the DATASUM; None without one, or for no data."""
    if expected is None or start == end:
        return None
    words = np.frombuffer(content, ">u4", (end - start) // 4, start)
    total = int(words.sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total == expected


def drop_wrong_shapes(table: fits.BinTableHDU) -> set[str]:
    """Remove the TDIM cards that contradict the width of their column, and return the names of these columns.

    Parameters
    ----------
    table : astropy.io.fits.BinTableHDU
        A table whose columns have not been asked for; astropy would take the width from the card and misread all rows.

    Returns
    -------
    set of str
    """
    if "columns" in vars(table):
        return set()
    header, wrong = table.header, set()
    for number in range(1, int(header.get("TFIELDS", 0)) + 1):
        shape = header.get(f"TDIM{number}")
        width = re.match(r"\s*(\d*)[A-Z]", str(header.get(f"TFORM{number}", "")))
        if shape is None or width is None:
            continue
        sides = re.fullmatch(r"\s*\(\s*(\d+(?:\s*,\s*\d+)*)\s*\)\s*", str(shape))
        product = int(np.prod([int(one) for one in sides.group(1).split(",")])) if sides else -1
        if product != int(width.group(1) or 1):
            wrong.add(str(header.get(f"TTYPE{number}", number)))
            del header[f"TDIM{number}"]
    return wrong
