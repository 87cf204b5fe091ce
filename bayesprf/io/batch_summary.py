"""The summary of a batch with the quality of every field, as ECSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from bayesprf.arrays import NamedDict
from bayesprf.flags import QualityFlag
from bayesprf.io.files import atomic_path
from bayesprf.io.save import load_tree

_REPORT = ("name", "status", "n_source", "n_pixel", "n_time", "seconds", "output", "message")


def write_summary(path: str | Path, reports: Sequence[Any]) -> Path:
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
    `chi2_per_pixel` is the median over sources and cadences, `n_flagged` the sources with any flag; then one column
    per flag with the number of sources that have it at any cadence, -1 for a field that failed.
    """
    rows = [{name: getattr(one, name) for name in _REPORT} | _quality(one.output) for one in reports]
    names = [*_REPORT, "chi2_per_pixel", "n_flagged", *(str(flag.name) for flag in QualityFlag)]
    table = Table({name: [row[name] for row in rows] for name in names})
    with atomic_path(path) as temporary:
        table.write(temporary, format="ascii.ecsv", overwrite=True)
    return Path(path)


def _quality(output: str) -> NamedDict:
    """Return the quality of a field from its tree."""
    if not output:
        return {"chi2_per_pixel": np.nan, "n_flagged": -1} | {str(flag.name): -1 for flag in QualityFlag}
    photometry = load_tree(output)["photometry"]
    chi2, used = np.asarray(photometry["chi2"]), np.asarray(photometry["n_pixel_used"])
    ratio = chi2[used > 0] / used[used > 0]
    bits = np.bitwise_or.reduce(np.asarray(photometry["flags"]), axis=0)
    counts = {str(flag.name): int(np.count_nonzero(bits & flag)) for flag in QualityFlag}
    median = float(np.nanmedian(ratio)) if ratio.size else np.nan
    return {"chi2_per_pixel": median, "n_flagged": int(np.count_nonzero(bits))} | counts
