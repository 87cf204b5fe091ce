"""Rows of the TESS Input Catalog that are no stars of their own."""

import numpy as np

from bayesprf.arrays import AnyArray, BoolArray, Named, NamedDict
from bayesprf.checks import listed
from bayesprf.errors import DataWarning, warn
from bayesprf.io.catalogs.columns import find_column
from bayesprf.results.columns import texts_of

# Names, dispositions and the star that stands for a row, as MAST and VizieR (IV/39) call them.
_NAMES, _DISPOSITIONS, _REAL = ("ID", "TICID", "TIC"), ("disposition", "Disp"), ("duplicate_id", "m_TIC")


def real_stars(columns: Named) -> NamedDict:
    """Return a table without the rows that the TIC itself calls no stars.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table; any but the TIC comes back as it is.

    Returns
    -------
    dict of str to array-like

    Warns
    -----
    DataWarning
        If rows are left out.

    Notes
    -----
    Paegert et al. (2021), section 3.1: an ARTIFACT is no star; a DUPLICATE is listed again as the star of its
    `duplicate_id`; a SPLIT is several stars, whose rows have its name as `duplicate_id`. The last two are left out
    only where those rows are in the table too.
    """
    found = [find_column(columns, one) for one in (_NAMES, _DISPOSITIONS, _REAL)]
    if found[0] is None or found[1] is None:
        return dict(columns)
    names, said, real = (_texts(columns, one) for one in found)
    wrong = _phantoms(names, np.char.upper(said), real if real.size else np.full(names.size, ""))
    if not wrong.any():
        return dict(columns)
    rows = np.flatnonzero(wrong)
    warn(
        f"catalogue: left out {rows.size} of {wrong.size} rows of the TIC that are no stars of their own by"
        f" {found[1]}: {listed([f'{names[one]} ({said[one]})' for one in rows], 3)}",
        DataWarning,
    )
    return {name: column[~wrong] for name, column in columns.items()}


def _texts(columns: Named, name: str | None) -> AnyArray:
    """Return a column as text, numbers without a point; empty if there is none."""
    return np.array([] if name is None else [one.removesuffix(".0") for one in texts_of(columns[name])], str)


def _phantoms(names: AnyArray, said: AnyArray, real: AnyArray) -> BoolArray:
    """Return which rows are no stars of their own, from texts, each of shape (n_source,)."""
    double, split = np.isin(real, names[names != ""]), np.isin(names, real[real != ""])
    return (said == "ARTIFACT") | ((said == "DUPLICATE") & double) | ((said == "SPLIT") & split)
