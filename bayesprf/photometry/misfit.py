"""What each pixel usually differs from the model by: the same at all cadences, or slowly drifting."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.problem import LinearProblem
from bayesprf.stats import NORMAL_MEDIAN

# Derived: a median of five holds where two of them are wrong; fewer do not tell what is usual for a pixel.
MIN_CADENCES = 5
# Derived: the median of so many cadences errs by less than half of what one does (1.25 / sqrt(n)).
_SHORTEST = 8
# Cost: pixels that tell how long stretches should be.
_N_TELLING = 400


@dataclass(frozen=True, slots=True, eq=False)
class UsualMisfit:
    """Data minus model as each pixel usually has it.

    Parameters
    ----------
    middle : ndarray of float64, shape (n_stretch,)
        Middle of each stretch of cadences, as an index of cadences.
    values : ndarray of float64, shape (n_stretch, n_pixel)
        Median over the stretch, electron / s; 0 for pixels with fewer than five cadences of data.
    scatter : ndarray of float64, shape (n_pixel,)
        Scatter about it in units of the errors, at least 1.
    """

    middle: FloatArray
    values: FloatArray
    scatter: FloatArray

    @property
    def is_constant(self) -> bool:
        """Whether it is the same at all cadences."""
        return self.middle.size == 1

    def at(self, cadences: IntArray | FloatArray) -> FloatArray:
        """Return the misfit at some cadences, shape (n, n_pixel), electron / s: straight lines through the middles."""
        if self.is_constant:
            return np.repeat(self.values, cadences.size, axis=0)
        first = np.clip(np.searchsorted(self.middle, cadences) - 1, 0, self.middle.size - 2)
        share = ((cadences - self.middle[first]) / (self.middle[first + 1] - self.middle[first]))[:, None]
        return (1.0 - share) * self.values[first] + share * self.values[first + 1]


def find_misfit(problem: LinearProblem, mean: FloatArray) -> UsualMisfit:
    """Find what each pixel usually differs from the model by.

    Parameters
    ----------
    problem : LinearProblem
        Batch rows are cadences in order, observations pixels.
    mean : ndarray of float64, shape (n_time, n_coeff)
        Fluxes.

    Returns
    -------
    UsualMisfit

    Notes
    -----
    An error of the PRF is the same at all cadences, or drifts with the image. The stretches over which a median is
    taken are as long as predicts best: stretches of even cadences predict the odd ones between them, in the pixels
    that scatter most.
    """
    ivar = problem.ivar
    residual = np.where(ivar > 0, problem.data - problem.predict(mean), np.nan)
    seen = np.flatnonzero((ivar > 0).sum(axis=0) >= MIN_CADENCES)
    values = np.zeros((1, ivar.shape[1]))
    values[:, seen] = np.nanmedian(residual[:, seen], axis=0)
    usual = UsualMisfit(_middles(ivar.shape[0], 1), values, np.ones(ivar.shape[1]))
    spread = _scatter(residual[:, seen], ivar[:, seen], usual.values[:, seen])
    telling = seen[np.argsort(-spread, kind="stable")[:_N_TELLING]]
    n_stretch = _choose_stretches(residual[:, telling], ivar[:, telling])
    if n_stretch > 1:
        values = _medians(residual, n_stretch)
        values[:, (ivar > 0).sum(axis=0) < MIN_CADENCES] = 0.0
        usual = UsualMisfit(_middles(ivar.shape[0], n_stretch), values, usual.scatter)
        spread = _scatter(residual[:, seen], ivar[:, seen], usual.at(np.arange(ivar.shape[0]))[:, seen])
    usual.scatter[seen] = np.maximum(spread, 1.0)
    return usual


def _scatter(residual: FloatArray, ivar: FloatArray, usual: FloatArray) -> FloatArray:
    """Return the robust scatter of each pixel about its usual misfit, in units of the errors."""
    if residual.shape[1] == 0:
        return np.zeros(0)
    return np.asarray(np.nanmedian(np.abs(residual - usual) * np.sqrt(ivar), axis=0) / NORMAL_MEDIAN)


def _choose_stretches(residual: FloatArray, ivar: FloatArray) -> int:
    """Return the number of stretches whose medians of even cadences predict the odd ones best."""
    best, least = 1, np.inf
    even, odd = residual[::2], residual[1::2]
    between: FloatArray = np.arange(odd.shape[0], dtype=np.float64) + 0.5
    for n_stretch in _numbers(residual.shape[0]):
        misfit = UsualMisfit(_middles(even.shape[0], n_stretch), _medians(even, n_stretch), np.ones(0))
        left = np.abs(odd - misfit.at(between)) * np.sqrt(ivar[1::2])
        left = np.minimum(left, 5.0)
        size, error = float(np.nanmean(left)), float(np.nanstd(left) / np.sqrt(max(np.isfinite(left).sum(), 1)))
        if size < least - error:
            best, least = n_stretch, size
    return best


def _numbers(n_time: int) -> Iterator[int]:
    """Yield 1, 2, 3, 5, 9, ... stretches, none but the first and the last shorter than eight cadences."""
    number = 1
    while number == 1 or (number - 1) * _SHORTEST <= n_time:
        yield number
        number = 2 * number - 1 if number > 1 else 2


def _stretches(n_time: int, number: int) -> list[IntArray]:
    """Return the cadences of each stretch; the first and the last are half as long, so that lines reach the ends."""
    if number == 1:
        return [np.arange(n_time)]
    bounds = np.rint((np.arange(1, number) - 0.5) * n_time / (number - 1)).astype(np.int64)
    return np.split(np.arange(n_time), bounds)


def _middles(n_time: int, number: int) -> FloatArray:
    return np.array([0.5 * (part[0] + part[-1]) for part in _stretches(n_time, number)])


def _medians(residual: FloatArray, n_stretch: int) -> FloatArray:
    """Return medians of stretches, shape (n_stretch, n_pixel); the median of all where a stretch has no data."""
    medians = []
    for cadences in _stretches(residual.shape[0], n_stretch):
        part = residual[cadences]
        found = np.full(residual.shape[1], np.nan)
        some = np.isfinite(part).any(axis=0)
        found[some] = np.nanmedian(part[:, some], axis=0)
        medians.append(found)
    values = np.array(medians)
    if np.isnan(values).any():
        some = np.isfinite(values).any(axis=0)
        usual = np.zeros(residual.shape[1])
        usual[some] = np.nanmedian(values[:, some], axis=0)
        values = np.where(np.isnan(values), usual, values)
    return values
