"""Light curves small enough to be carried in a page: means of several cadences where there are many."""

import numpy as np
import xarray as xr

from bayesprf.arrays import BoolArray, FloatArray, NamedDict
from bayesprf.flags import CADENCE_FLAGS
from bayesprf.results.summary import SourceSummary

# Cost: points of all light curves together, and light curves, at most: some ten bytes a point.
_MAX_POINTS, _MAX_STARS = 100_000, 300


def curve_data(tree: xr.DataTree, lines: tuple[SourceSummary, ...]) -> NamedDict:
    """Return the light curves of a tree as plain numbers, the brightest first.

    Parameters
    ----------
    tree : xarray.DataTree
        Results with fluxes.
    lines : tuple of SourceSummary
        Its summary.

    Returns
    -------
    dict
        `data` for the page's script, `names` of the stars that are there, and a `note`.
    """
    from bayesprf.plots.canvas import time_label

    photometry = tree["photometry"].to_dataset()
    order = {str(name): i for i, name in enumerate(photometry["source"].to_numpy())}
    chosen = [line for line in lines if np.isfinite(line.flux)][:_MAX_STARS]
    time, places = photometry["time"].to_numpy(), [order[line.source] for line in chosen]
    n_mean = max(1, -(-time.size * len(chosen) // _MAX_POINTS))
    flux, error, flagged = average(
        photometry["flux"].to_numpy()[:, places],
        photometry["flux_err"].to_numpy()[:, places],
        (photometry["flags"].to_numpy()[:, places] & int(CADENCE_FLAGS)) != 0,
        n_mean=n_mean,
    )
    stars = [_star(line, flux[:, k], error[:, k], flagged[:, k]) for k, line in enumerate(chosen)]
    starts = np.arange(0, time.size, n_mean)
    mean_time = np.add.reduceat(time, starts) / np.diff(np.append(starts, time.size))
    notes = ["Circles are flagged cadences."] if flagged.any() else []
    notes += [f"Each point is the mean of {n_mean} cadences."] if n_mean > 1 else []
    notes += [f"The {len(chosen)} brightest of {len(lines)} sources."] if len(chosen) < len(lines) else []
    label = time_label(float(tree.attrs.get("time_zero_jd", 0.0)))
    data = {"time": np.round(mean_time, 5).tolist(), "timeLabel": label, "stars": stars}
    return {"data": data, "names": {line.source for line in chosen}, "note": " ".join(notes)}


def average(
    flux: FloatArray, error: FloatArray, flagged: BoolArray, *, n_mean: int
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Average light curves over runs of cadences.

    Parameters
    ----------
    flux, error : ndarray of float64, shape (n_time, n_source)
        electron / s; NaN is left out.
    flagged : ndarray of bool, shape (n_time, n_source)
        Whether a cadence has a flag.
    n_mean : int
        Cadences per run.

    Returns
    -------
    flux, error : ndarray of float64, shape (n_run, n_source)
        Weighted means and their errors; NaN without data.
    flagged : ndarray of bool, shape (n_run, n_source)
        Whether any cadence of the run has a flag.
    """
    starts = np.arange(0, flux.shape[0], n_mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(np.isfinite(flux) & (error > 0), 1.0 / error**2, 0.0)
        total = np.add.reduceat(weight, starts)
        mean = np.add.reduceat(weight * np.nan_to_num(flux), starts) / total
        return mean, total**-0.5, np.logical_or.reduceat(flagged, starts)


def _star(line: SourceSummary, flux: FloatArray, error: FloatArray, flagged: BoolArray) -> NamedDict:
    """Return one light curve, relative to its median where that is positive, with three digits of its error."""
    known = line.flux > 0
    factor, level = (1e6 / line.flux, line.flux) if known else (1.0, 0.0)
    change, spread = factor * (flux - level), factor * error
    finite = spread[np.isfinite(spread)]
    digits = (
        int(np.clip(2 - np.floor(np.log10(np.median(finite))), 0, 6)) if finite.size and np.median(finite) > 0 else 3
    )
    return {
        "name": line.source,
        "note": f", {line.mag:.2f} mag" if np.isfinite(line.mag) else "",
        "unit": "change of flux (ppm)" if known else "flux (electron / s)",
        "flux": _rounded(change, digits),
        "error": _rounded(spread, digits),
        "flagged": np.flatnonzero(flagged).tolist(),
    }


def _rounded(values: FloatArray, digits: int) -> list[float | int | None]:
    """Return numbers of few digits for JSON, null for NaN."""
    short = np.round(values, digits)
    return [None if one != one else int(one) if digits == 0 else one for one in short.tolist()]
