"""The summary of a batch with the quality of every field, as ECSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from astropy.table import Table

from bayesprf.arrays import NamedDict
from bayesprf.flags import QualityFlag
from bayesprf.io.files import atomic_path

if TYPE_CHECKING:
    from bayesprf.batch import FieldReport

_REPORT = ("name", "status", "n_source", "n_pixel", "n_time", "seconds", "output", "message")
# Numbers of the whole field that the group /quality holds.
_FIELD = ("chi2_image", "misplaced_field", "n_calibrator")
_UNKNOWN: NamedDict = {
    "verdict": "", "chi2_per_pixel": np.nan, **dict.fromkeys(_FIELD, np.nan), "n_flagged": -1,
    **{str(flag.name): -1 for flag in QualityFlag},
}  # fmt: skip


def write_summary(path: str | Path, reports: Sequence["FieldReport"]) -> Path:
    """Write one row per field: what became of it, and how good it is.

    Parameters
    ----------
    path : path-like
        File to write, ``.ecsv``.
    reports : sequence of FieldReport
        Of `bayesprf.batch.fit_batch`.

    Returns
    -------
    Path
        The file written.

    Notes
    -----
    `verdict` is "sound", or names the faults that were found, the worst first; `chi2_per_pixel` is the median over
    sources and cadences; `chi2_image`, `misplaced_field` and `n_calibrator` are those of the tree's group ``/quality``;
    `n_flagged` counts the sources with any flag; then comes one column per flag with the number of sources that have it
    at any cadence. A field that failed has "", NaN and -1.
    """
    rows = [{name: getattr(one, name) for name in _REPORT} | _UNKNOWN | dict(one.quality) for one in reports]
    table = Table({name: [row[name] for row in rows] for name in (*_REPORT, *_UNKNOWN)})
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)
    return Path(path)


def quality_of(tree: xr.DataTree) -> NamedDict:
    """Return the quality of a field by the names of `write_summary`'s columns.

    Parameters
    ----------
    tree : xarray.DataTree
        Results of a field.

    Returns
    -------
    dict of str to object
        Empty for a tree without fluxes.
    """
    if "photometry" not in tree.children or "quality" not in tree.children:
        return {}
    photometry, quality = tree["photometry"], tree["quality"]
    chi2, used = np.asarray(photometry["chi2"]), np.asarray(photometry["n_pixel_used"])
    ratio = chi2[used > 0] / used[used > 0]
    bits = np.bitwise_or.reduce(np.asarray(photometry["flags"]), axis=0)
    faults = [str(one) for one in np.asarray(quality["finding"])] if "finding" in quality else []
    return {
        "verdict": ", ".join(faults) or "sound",
        "chi2_per_pixel": float(np.nanmedian(ratio)) if ratio.size else np.nan,
        **{name: float(quality[name]) for name in _FIELD},
        "n_flagged": int(np.count_nonzero(bits)),
        **{str(flag.name): int(np.count_nonzero(bits & flag)) for flag in QualityFlag},
    }
