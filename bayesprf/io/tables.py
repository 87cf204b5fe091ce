"""Tables of any kind as plain columns: files, pandas and astropy tables."""

import gzip
import itertools
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy import units
from astropy.io.votable.exceptions import VOWarning
from astropy.table import Table

from bayesprf.arrays import FloatArray
from bayesprf.checks import as_float
from bayesprf.errors import FileError, InputError, MissingDependencyError, UnitError

# Format by the ending of the file's name, without .gz.
_FORMATS: Mapping[str, str] = {
    ".csv": "csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
}


def read_columns(table: Any) -> dict[str, Any]:
    """Return the one-dimensional columns of a table by name.

    Parameters
    ----------
    table : path-like, pandas.DataFrame or astropy.table.Table
        CSV, ECSV, FITS, VOTable or parquet, known by the ending of the name, compressed or not; or a table. The
        index of a DataFrame is not used.

    Returns
    -------
    dict of str to array-like
        Columns of equal length; astropy's keep their units and masks.

    Raises
    ------
    FileError
        If the file is missing or cannot be read.
    InputError
        If the ending or the type is not known.
    MissingDependencyError
        If a parquet file is given and pyarrow is not installed.
    """
    if isinstance(table, str | Path):
        table = _read_file(Path(table))
    if isinstance(table, pd.DataFrame):
        return {str(name): _plain(table.iloc[:, i]) for i, name in enumerate(table.columns)}
    if isinstance(table, Table):
        return {name: table[name] for name in table.colnames if getattr(table[name], "ndim", 0) == 1}
    raise InputError(f"catalog: expected a path, a pandas DataFrame or an astropy Table, got {type(table).__name__}")


def _plain(column: pd.Series) -> Any:
    """Return the values of a DataFrame column; numbers with missing entries become float with NaN."""
    if pd.api.types.is_extension_array_dtype(column.dtype) and pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan) if column.isna().any() else column.to_numpy()
    return column.to_numpy()


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise FileError(f"catalog: expected a file, found none at {str(path)!r}")
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
            return _READERS[_FORMATS[suffix]](path)
    except ImportError as error:
        raise MissingDependencyError(
            f"catalog: reading {path.name} needs pyarrow; install it with: pip install pyarrow"
        ) from error
    except Exception as error:  # every parser has its own errors, all of them mean a file that cannot be read
        raise FileError(f"{path}: expected a table, but it cannot be read ({error})") from error


def _read_csv(path: Path) -> Any:
    """Read comma-separated values after leading lines of comment; with astropy's ECSV header, as ECSV."""
    with gzip.open(path, "rt") if path.suffix.lower() == ".gz" else open(path) as lines:
        comments = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    if comments and comments[0].startswith("# %ECSV"):
        return Table.read(path, format="ascii.ecsv")
    return pd.read_csv(path, skiprows=len(comments), skipinitialspace=True)


_READERS: Mapping[str, Any] = {
    "csv": _read_csv,
    "ascii.ecsv": lambda path: Table.read(path, format="ascii.ecsv"),
    "fits": lambda path: Table.read(path, format="fits"),
    "votable": lambda path: Table.read(path, format="votable"),
    "parquet": pd.read_parquet,
}


def find_column(columns: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Return the first of the names that a table has, whatever its case.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table.
    names : iterable of str
        Names to look for, the preferred first.

    Returns
    -------
    str or None
        The name as the table writes it; None if it has none of them.
    """
    lower = {name.lower(): name for name in reversed(list(columns))}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def numbers_of(columns: Mapping[str, Any], name: str, unit: str | None = None) -> FloatArray:
    """Return a column as float64.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table.
    name : str
        Name of the column.
    unit : str, optional
        Unit to convert to, where the column carries one.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        Masked entries are NaN.

    Raises
    ------
    InputError
        If the column does not hold numbers.
    UnitError
        If its unit cannot be converted.
    """
    column = columns[name]
    own = getattr(column, "unit", None)
    values = getattr(column, "value", column)
    if hasattr(values, "unmasked"):  # astropy's own masked arrays, beside NumPy's
        values = values.filled(np.nan)
    numbers = as_float(values, name, ndim=1)
    if unit is None or own is None or not str(own):
        return numbers
    try:
        return np.asarray(units.Quantity(numbers, own).to_value(unit), np.float64)
    except (units.UnitConversionError, TypeError, ValueError) as error:
        raise UnitError(f"{name}: expected a unit that converts to {unit}, got {own}") from error
