"""Tables of any kind as columns: files, pandas and astropy tables."""

import gzip
import io
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from astropy import units
from astropy.io import fits, votable
from astropy.io.votable.exceptions import VOWarning
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning

from bayesprf.arrays import AnyArray, Named, NamedDict
from bayesprf.checks import shown
from bayesprf.errors import DataWarning, FileError, InputError, MissingDependencyError, warn
from bayesprf.io.catalogs.archives import ANY, ARCHIVES, find_position
from bayesprf.io.catalogs.text import read_text

if TYPE_CHECKING:
    from astropy.io.votable.tree import TableElement

_GZIP = b"\x1f\x8b"
# How files say that rows were cut at a limit: DALI 1.1, section 4.4.1, and comments in text.
_CUT = re.compile(
    rb"<INFO\b(?=[^>]*QUERY_STATUS)[^>]*\bOVERFLOW\b|^#\s*(INFO|WARNING|\++|\*+)[^\n]*\b(OVERFLOW|truncated)\b[^\n]*",
    re.M,
)
NamedTables = list[tuple[str, pd.DataFrame | Table]]
# Format by the ending of the file's name, without .gz.
_FORMATS: Mapping[str, str] = {
    ".csv": "text",
    ".tsv": "text",
    ".txt": "text",
    ".dat": "text",
    ".tbl": "text",
    ".ecsv": "text",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
}


def read_columns(table: object, *, which: str | int | None = None) -> NamedDict:
    """Return the one-dimensional columns of a table by name.

    Parameters
    ----------
    table : path-like, pandas.DataFrame or astropy.table.Table
        Text (CSV, TSV, ECSV, IPAC, exports of VizieR), FITS, VOTable or parquet, known by the ending of the name,
        compressed or not; or a table. The index of a DataFrame is a column if it has a name.
    which : str or int, optional
        Name or number of the table, in a file that holds several; by default the only one with positions.

    Returns
    -------
    dict of str to array-like
        Columns of equal length; astropy's keep their units and masks.

    Raises
    ------
    FileError
        If the file is missing or cannot be read.
    InputError
        If the ending or the type is not known, or it cannot be told which table is meant.
    MissingDependencyError
        If a parquet file is given and pyarrow is not installed.
    """
    if isinstance(table, str | os.PathLike):
        path = Path(table)
        columns = _choose(_read_file(path), which, path.name)
        _warn_if_cut(path)
        return columns
    if isinstance(table, pd.DataFrame | Table):
        return _columns_of(table)
    raise InputError(f"catalog: expected a path, a pandas DataFrame or an astropy Table, got {type(table).__name__}")


def _columns_of(table: pd.DataFrame | Table) -> NamedDict:
    if isinstance(table, pd.DataFrame):
        own = [name for name in table.index.names if name is not None and name not in table.columns]
        table = table.reset_index(own) if own else table
        return {str(name): _plain(table.iloc[:, i]) for i, name in enumerate(table.columns)}
    return {name: table[name] for name in table.colnames if getattr(table[name], "ndim", 0) == 1}


def _plain(column: pd.Series) -> AnyArray:
    """Return the values of a DataFrame column; numbers with missing entries are masked and keep all digits."""
    if pd.api.types.is_extension_array_dtype(column.dtype) and pd.api.types.is_numeric_dtype(column.dtype):
        missing, dtype = column.isna().to_numpy(), column.dtype.numpy_dtype
        values = column.to_numpy(dtype, na_value=np.zeros((), dtype).item())
        return np.ma.MaskedArray(values, mask=missing) if missing.any() else values
    return column.to_numpy()


def _choose(tables: NamedTables, which: str | int | None, file: str) -> NamedDict:
    """Return the columns of the table that is meant."""
    if not tables:
        raise FileError(f"{file}: expected a table, found none")
    names = [name for name, _ in tables]
    listed = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
    if which is not None:
        number = names.index(which) if which in names else which
        if not isinstance(number, int) or not 0 <= number < len(tables):
            raise InputError(f"table: expected one of the tables of {file}, {listed}, got {shown(which)}")
        return _columns_of(tables[number][1])
    found = [_columns_of(table) for _, table in tables]
    placed = [columns for columns in found if columns and _has_positions(columns)]
    if len(placed) > 1 and len(found) > 1:
        raise InputError(
            f"table: expected the name or number of a table, because {file} holds {len(placed)} with positions,"
            f" got none; choose one of {listed}, for example table=0"
        )
    return placed[0] if placed else max(found, key=len)


def _has_positions(columns: Named) -> bool:
    rows = len(next(iter(columns.values())))
    return rows > 0 and any(find_position(columns, archive) is not None for archive in (*ARCHIVES, ANY))


def _read_file(path: Path) -> NamedTables:
    if not path.is_file():
        came = f"the directory {str(path)!r}" if path.is_dir() else f"{str(path)!r}, where there is none"
        raise FileError(f"catalog: expected a file, got {came}; check the name")
    suffix = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix not in _FORMATS:
        raise InputError(
            f"catalog: expected a file that ends in {', '.join(_FORMATS)}, got {path.name!r};"
            " read it with pandas or astropy and pass the table"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", units.UnitsWarning)  # units of archives that FITS does not know
            warnings.simplefilter("ignore", VOWarning)  # small breaches of the VOTable standard
            warnings.filterwarnings("error", ".*truncated.*", AstropyUserWarning)
            return _READERS[_FORMATS[suffix]](path)
    except ImportError as error:
        raise MissingDependencyError(
            f"catalog: reading {path.name} needs pyarrow; install it with: pip install pyarrow"
        ) from error
    except Exception as error:  # every parser has its own errors, all of them mean a file that cannot be read
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"{path}: expected a table, but it cannot be read ({reason})") from error


def _warn_if_cut(path: Path) -> None:
    """Warn if a file says itself that the archive sent only the first rows."""
    if _FORMATS.get(path.with_suffix("").suffix.lower(), _FORMATS.get(path.suffix.lower())) not in ("text", "votable"):
        return
    said = _CUT.search(_content(path).getvalue())
    if said:
        warn(
            f"catalogue: expected all stars of the field, but {path.name} says that its rows were cut at a limit"
            f" ({said[0].decode(errors='replace').strip()}); ask the archive again for all rows",
            DataWarning,
        )


def _content(path: Path) -> io.BytesIO:
    """Return what a file holds, unpacked: astropy leaves damaged files open that it opens itself."""
    content = path.read_bytes()
    return io.BytesIO(gzip.decompress(content) if content.startswith(_GZIP) else content)


def _read_fits(path: Path) -> NamedTables:
    with fits.open(_content(path), memmap=False) as hdus:
        kinds = (fits.BinTableHDU, fits.TableHDU)
        return [(hdu.name or f"extension {i}", Table.read(hdu)) for i, hdu in enumerate(hdus) if isinstance(hdu, kinds)]


def _read_votable(path: Path) -> NamedTables:
    tables = list(votable.parse(_content(path)).iter_tables())
    return [(one.name or one.ID or f"table {i}", _from_votable(one)) for i, one in enumerate(tables)]


def _from_votable(table: "TableElement") -> Table:
    return table.to_table(use_names_over_ids=True)


_READERS: Mapping[str, Callable[[Path], NamedTables]] = {
    "text": read_text,
    "fits": _read_fits,
    "votable": _read_votable,
    "parquet": lambda path: [(path.name, pd.read_parquet(path, dtype_backend="numpy_nullable"))],
}
