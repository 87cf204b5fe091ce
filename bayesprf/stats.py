"""Statistics that tolerate outliers: spread, weighted median, scatter beyond the errors, clipped least squares."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincc, ndtri

from bayesprf.arrays import BoolArray, FloatArray, IntArray

NORMAL_MEDIAN = 0.6744897501960817
"""Unit: median of |z| for a standard normal z."""

SIGMA_PER_MAD = 1.4826
"""Unit: standard deviation over median absolute deviation of a normal distribution: 1 / `NORMAL_MEDIAN`, rounded."""

# Cost: numbers that `median_scatter` looks at.
_N_SAMPLE = 50_000
# Accuracy: halvings of its search.
_N_HALVING = 40
# Measured by docs/scripts/constants.py: share of the most precise of these numbers that counts, as large errors hide a
# scatter: halved and doubled it moves no flux.
_PRECISE_SHARE = 0.25
# Derived: rows that hold this share of what all tell of a coefficient leave an error larger by 0.5 %.
_TOLD_SHARE = 0.99
# Rounding: the least median square of rows.
_LEAST = 1e-9


def mad_sigma(deviation: FloatArray, *, axis: int | None = None) -> FloatArray:
    """Return the robust standard deviation of deviations from a centre, 1.4826 median |deviation|; NaN is left out."""
    median = np.nanmedian if np.isnan(deviation).any() else np.median
    return np.asarray(SIGMA_PER_MAD * median(np.abs(deviation), axis=axis))


def excess_sigma(ratio: FloatArray, freedom: FloatArray | float) -> FloatArray:
    """Return how significant a mean square is that should be 1, in standard deviations of a normal distribution.

    Parameters
    ----------
    ratio : ndarray of float64
        Mean squares over their expectation.
    freedom : ndarray of float64 or float
        How many independent squares each is the mean of: chi-square's degrees of freedom.

    Returns
    -------
    ndarray of float64
        At most 37, where the chance of a normal number ends in double precision.
    """
    chance = gammaincc(0.5 * np.asarray(freedom), 0.5 * np.asarray(freedom) * np.maximum(ratio, 0.0))
    return np.asarray(-ndtri(np.clip(chance, 1e-300, 1.0 - 1e-16)))


def median_over_time(values: FloatArray, *, empty: float = np.nan) -> FloatArray:
    """Return the median of the finite numbers of each column, `empty` where there are none."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    ordered = np.sort(np.where(known, values, np.inf), axis=0)
    column, middle = np.arange(values.shape[1]), np.maximum(count - 1, 0)
    pair = ordered[middle // 2, column], ordered[np.minimum(count // 2, len(values) - 1), column]
    return np.where(count > 0, 0.5 * pair[0] + 0.5 * pair[1], empty)


def excess_of_rows(square: FloatArray, known: BoolArray) -> FloatArray:
    """Return the median of the known squares of each row over that of the median row, shape (n_row,)."""
    seen = known.all(axis=1)
    square = np.where(known, square, np.nan)
    square[~known.any(axis=1)] = 0.0
    middle = np.empty(len(square))
    middle[seen], middle[~seen] = np.median(square[seen], axis=1), np.nanmedian(square[~seen], axis=1)
    return np.asarray(middle / max(float(np.median(middle)), _LEAST))


def telling_rows(told: FloatArray, most: int) -> IntArray:
    """Return the rows, at most `most`, that together hold nearly all of the sum of each column, in ascending order."""
    shares = told / np.maximum(told.sum(axis=0), 1e-300)
    order = np.argsort(-shares.max(axis=1, initial=0.0), kind="stable")
    enough = np.all(np.cumsum(shares[order], axis=0) >= _TOLD_SHARE, axis=1)
    number = int(np.argmax(enough)) + 1 if enough.any() else order.size
    return np.sort(order[: min(number, most)])


def weighted_median(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the least value up to which half of the weight lies, along the last axis."""
    order = np.argsort(values, axis=-1)
    total = np.cumsum(np.take_along_axis(weight, order, axis=-1), axis=-1)
    middle = np.argmax(total >= 0.5 * total[..., -1:], axis=-1)[..., None]
    return np.take_along_axis(values, np.take_along_axis(order, middle, axis=-1), axis=-1)[..., 0]


def inliers(residual: FloatArray, variance: FloatArray, limit: float) -> BoolArray:
    """Return which residuals are smaller than a number of standard deviations."""
    return residual**2 < limit**2 * variance


def falling_root(function: Callable[[float], float], low: float, high: float, *, xtol: float = 2e-12) -> float:
    """Return where a falling function is zero; the bound nearest to that, if it is zero nowhere between them."""
    if function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    return float(brentq(function, low, high, xtol=xtol))


def excess_scatter(squares: FloatArray, variance: FloatArray, template: FloatArray) -> float:
    """Return the s, from 0 to 1, with which squares / (variance + s**2 template) are one on average."""

    def excess(scatter: float) -> float:
        return float(np.mean(squares / (variance + scatter**2 * template))) - 1.0

    return falling_root(excess, 0.0, 1.0)


def likely_width(values: FloatArray, variance: FloatArray) -> float:
    """Return the width that maximises prod N(value; 0, width**2 + variance)."""

    def slope(width: float) -> float:
        total = width**2 + variance
        return float(np.sum((values**2 - total) / total**2))

    return falling_root(slope, 0.0, 10.0 * float(np.max(np.abs(values))))


def median_scatter(residual: FloatArray, variance: FloatArray) -> float:
    """Return the s for which the most precise quarter of |residual| / sqrt(variance + s**2) has the median of a normal.

    Outliers, up to half of the residuals, do not count; at most 50000 residuals, evenly chosen, are looked at.
    """
    if residual.size == 0:
        return 0.0
    step = max(1, residual.size // _N_SAMPLE)
    residual, variance = np.abs(residual[::step]), variance[::step]
    precise = variance <= np.quantile(variance, _PRECISE_SHARE)
    residual, variance = residual[precise], variance[precise]
    low, high = 0.0, float(residual.max()) / NORMAL_MEDIAN
    for _ in range(_N_HALVING):
        middle = 0.5 * (low + high)
        too_small = np.median(residual / np.sqrt(variance + middle**2)) > NORMAL_MEDIAN
        low, high = (middle, high) if too_small else (low, middle)
    return low


def fit_clipped(
    columns: FloatArray,
    data: FloatArray,
    spread: Callable[[FloatArray, BoolArray], float],
    *,
    limit: float,
    n_pass: int,
    least: int = 1,
    known: BoolArray | None = None,
) -> tuple[FloatArray, BoolArray]:
    """Fit columns by least squares, and leave out what lies farther from the fit than `limit` times its spread.

    Parameters
    ----------
    columns : ndarray of float64, shape (n, n_column)
        The columns.
    data : ndarray of float64, shape (n,)
        What they are fitted to.
    spread : callable
        Takes residuals and which of them were fitted, both of shape (n,), and returns the standard deviation.
    limit : float
        In standard deviations.
    n_pass : int
        Fits; each looks at the residuals of the one before.
    least : int
        No further fit is made when fewer data than this are left.
    known : ndarray of bool, shape (n,), optional
        Data that may be fitted; all by default.

    Returns
    -------
    solution : ndarray of float64, shape (n_column,)
        Coefficients of the last fit.
    keep : ndarray of bool, shape (n,)
        What lies near that fit.
    """
    known = np.ones(data.size, bool) if known is None else known
    keep, solution = known, np.zeros(columns.shape[1])
    for _ in range(n_pass):
        solution = np.linalg.lstsq(columns[keep], data[keep], rcond=None)[0]
        residual = data - columns @ solution
        keep = known & (np.abs(residual) <= limit * spread(residual, keep))
        if np.count_nonzero(keep) < least:
            break
    return solution, keep
