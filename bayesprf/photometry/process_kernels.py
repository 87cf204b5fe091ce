"""Hyperparameters of the stars' processes, learned by maximising the evidence."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from bayesprf.arrays import FloatArray
from bayesprf.linalg.kalman import FixedColumns, ProcessGradient, RowInformation, solve_processes
from bayesprf.linalg.state_space import ProcessKernel

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

LEARNED_FAMILIES = ("matern32", "matern12", "matern52")
"""Families among which "learn" chooses by the evidence."""

LEARNABLE = ("learn", "matern12", "matern32", "matern52", "oscillator", "constant")
"""What can be asked for: the best of the Matern families, or one family whose numbers are learned."""

# Derived: bounds of the search, where a number no longer matters: standard deviations in units of a typical error and
# of the scatter of the light curve, scales in units of a typical step and of the length of the series.
_LEAST_SIGMA, _MOST_SIGMA, _LEAST_SCALE, _MOST_SCALE = 1e-3, 30.0, 0.5, 5.0
# Derived: an oscillator's quality, from just above 1/2, where it no longer swings, to lines narrower than any series
# resolves.
_QUALITY_BOUNDS = (0.51, 1e3)
# Accuracy: scales from which the search starts; the evidence of an oscillator has a narrow peak in its period.
_N_START, _N_PERIOD = 6, 40
# Accuracy: the search stops when an iteration gains less than this in log evidence per number: one standard error is a
# half.
_GAIN = 0.01
# Accuracy: iterations at most; `_GAIN` ends the search before.
_MAX_ITERATION = 100
# Rounding: step of the difference of the gradient, in logarithms: its error is 1e-3 of the Hessian, which sets a scale
# alone.
_STEP = 1e-3
# Derived: outer nodes of the rule of Gauss and Hermite with three nodes, in standard deviations.
_NODE = 3.0**0.5
# Option: a scale shorter than a step has this probability before (Fuglstad et al. 2019).
_SHORT = 0.05
# What maximising over as many numbers gains by chance alone (Akaike 1974), one each: sigma and scale.
_CHANCE = 2.0


@dataclass(frozen=True, slots=True)
class SearchRange:
    """Where the numbers of a star's kernel are looked for.

    Parameters
    ----------
    error, scatter : float
        Typical error of a cadence and standard deviation of the light curve, electron / s.
    step, length : float
        Typical step and length of the series, day.

    Notes
    -----
    The search runs in ln sigma, ln scale, ln(1 + (white / error)**2) and ln quality, in this order, as far as a family
    has them: the evidence is smooth in these down to a white variation of 0. It has no maximum where a light curve does
    not tell a process from none, or a slow process from a trend; a prior that prefers the simpler process, none and
    constant light, keeps sigma and scale at what the light curve does not exclude.
    """

    error: float
    scatter: float
    step: float
    length: float

    @classmethod
    def of(cls, seen: RowInformation, time: FloatArray) -> "SearchRange":
        """Measure a single star."""
        used = seen.matrix[:, 0, 0] > 0
        ivar = seen.matrix[used, 0, 0]
        flux = seen.rhs[used, 0] / ivar
        return cls(
            float(np.median(ivar**-0.5)), float(np.std(flux)), float(np.median(np.diff(time))), float(np.ptp(time))
        )

    def bounds(self, family: str) -> FloatArray:
        """Return the least and largest of the search's numbers, shape (2, n)."""
        ceiling = _MOST_SIGMA * (self.scatter + self.error)
        sigma = np.log([_LEAST_SIGMA * self.error, ceiling])
        scale = np.log([_LEAST_SCALE * self.step, _MOST_SCALE * self.length])
        white = np.array([0.0, np.log1p((ceiling / self.error) ** 2)])
        return np.array(_chosen(family, sigma, scale, white, np.log(_QUALITY_BOUNDS))).T

    def starts(self, family: str) -> list[ProcessKernel]:
        """Return kernels from which to start."""
        sigma = float(np.sqrt(max(self.scatter**2 - self.error**2, 0.1 * self.error**2)))
        white = 0.3 * self.error
        if family == "constant":
            return [ProcessKernel(family, white=white)]
        n = _N_PERIOD if family == "oscillator" else _N_START
        scales = np.geomspace(3.0 * self.step, 0.5 * self.length, n)
        return [ProcessKernel(family, sigma, float(scale), white) for scale in scales]

    def numbers(self, kernel: ProcessKernel) -> FloatArray:
        """Return the search's numbers of a kernel."""
        sigma = float(np.log(max(kernel.sigma, _LEAST_SIGMA * self.error)))
        white = float(np.log1p((kernel.white / self.error) ** 2))
        return np.array(
            _chosen(kernel.family, sigma, float(np.log(kernel.scale)), white, float(np.log(kernel.quality)))
        )

    def kernel(self, family: str, numbers: FloatArray) -> ProcessKernel:
        """Return the kernel that has these numbers."""
        if family == "constant":
            return ProcessKernel(family, white=self._white(numbers[0]))
        sigma, scale = np.exp(numbers[:2])
        white = self._white(numbers[2])
        if family == "oscillator":
            return ProcessKernel(family, float(sigma), float(scale), white, float(np.exp(numbers[3])))
        return ProcessKernel(family, float(sigma), float(scale), white)

    def slopes(self, kernel: ProcessKernel, gradient: ProcessGradient, k: int) -> FloatArray:
        """Return the gradient of the log evidence in the search's numbers of coefficient k."""
        white = gradient.white_variance[k] * (self.error**2 + kernel.white**2)
        parts = (gradient.log_sigma[k], gradient.log_scale[k], white, kernel.quality * gradient.quality[k])
        return np.array(_chosen(kernel.family, *parts))

    def log_prior(self, kernel: ProcessKernel) -> tuple[float, FloatArray]:
        """Return the log density of sigma and scale in their logarithms, and its slopes in the search's numbers.

        Complexity is penalised (Fuglstad et al. 2019, eq. 6): sigma has the mean of the light curve's scatter.
        """
        if kernel.family == "constant":
            return 0.0, np.zeros(1)
        wide = kernel.sigma / (self.scatter + self.error)
        short = -np.log(_SHORT) * (self.step / kernel.scale) ** 0.5
        value = float(np.log(wide) - wide + np.log(short) - short)
        return value, np.array(_chosen(kernel.family, 1.0 - wide, 0.5 * (short - 1.0), 0.0, 0.0))

    def _white(self, number: float) -> float:
        return float(self.error * np.sqrt(np.expm1(max(number, 0.0))))


@dataclass(frozen=True, slots=True, eq=False)
class LearnedKernel:
    """What one star's light curve says about its kernel.

    Parameters
    ----------
    kernel : ProcessKernel
        Of the highest evidence and prior.
    search : SearchRange
        Where it was looked for.
    log_bayes_factor : float
        Its log evidence minus that of a star of constant light with white variation, both at their best, less what
        two more free numbers gain by chance: below 0, white noise explains the data.
    curvature : ndarray of float64, shape (n, n)
        Minus the second derivatives of evidence and prior in the search's numbers; at a bound with the square of the
        slope there, the inverse variance of an exponential distribution.
    """

    kernel: ProcessKernel
    search: SearchRange
    log_bayes_factor: float
    curvature: FloatArray


def learn_kernel(
    seen: RowInformation, time: FloatArray, columns: FixedColumns, families: tuple[str, ...]
) -> LearnedKernel:
    """Learn family and numbers of one star's kernel from its light curve.

    Parameters
    ----------
    seen : RowInformation
        What each cadence says about the flux of the star, one coefficient.
    time : ndarray of float64, shape (n_time,)
        Times, day.
    columns : FixedColumns
        Its level, and events if any.
    families : tuple of str
        Families to choose from.

    Returns
    -------
    LearnedKernel
    """
    search = SearchRange.of(seen, time)

    def evidence(kernel: ProcessKernel) -> tuple[float, FloatArray]:
        found, (prior, slopes) = (
            solve_processes(seen, (kernel,), time, columns, gradient=True),
            search.log_prior(kernel),
        )
        return float(found.log_evidence.sum()) + prior, search.slopes(kernel, found.slopes, 0) + slopes

    def best(starts: list[ProcessKernel]) -> tuple[ProcessKernel, float]:
        first = starts[0] if len(starts) == 1 else max(starts, key=lambda one: evidence(one)[0])
        return _climb(evidence, first, search)

    found = [best(search.starts(families[0]))]
    for family in families[1:]:
        own = "oscillator" in (family, found[0][0].family)
        found.append(best(search.starts(family) if own else [replace(found[0][0], family=family)]))
    kernel, value = max(found, key=lambda one: one[1])
    plain = best(search.starts("constant"))[1]
    gain = value - search.log_prior(kernel)[0] - plain
    return LearnedKernel(kernel, search, gain - _CHANCE, _curvature(evidence, kernel, search))


def learn_together(
    seen: RowInformation,
    time: FloatArray,
    columns: FixedColumns,
    kernels: tuple[ProcessKernel | LearnedKernel, ...],
) -> tuple[ProcessKernel, ...]:
    """Move the numbers of all kernels of a blend together to where evidence and priors are highest.

    Parameters
    ----------
    seen, time, columns
        As for `solve_processes`.
    kernels : tuple of ProcessKernel or LearnedKernel
        Kernels that stay, and those learned star by star, which are the start.

    Returns
    -------
    tuple of ProcessKernel

    Notes
    -----
    L-BFGS with the exact gradient (Byrd et al. 1995), in coordinates in which each star's own curvature is one.
    """
    seen = replace(seen, constant=np.zeros(seen.n_time))
    learned = [(k, one) for k, one in enumerate(kernels) if isinstance(one, LearnedKernel)]
    start = np.concatenate([one.search.numbers(one.kernel) for _, one in learned])
    scale = [_whitening(one.curvature) for _, one in learned]
    edges = np.cumsum([0, *(len(one) for one in scale)])
    bounds = np.concatenate([one.search.bounds(one.kernel.family) for _, one in learned], axis=1)

    def move(whitened: FloatArray) -> FloatArray:
        parts = [part @ whitened[a:b] for part, a, b in zip(scale, edges, edges[1:], strict=False)]
        return np.asarray(start + np.concatenate(parts))

    def place(numbers: FloatArray) -> tuple[ProcessKernel, ...]:
        answer = [one.kernel if isinstance(one, LearnedKernel) else one for one in kernels]
        for (k, one), a, b in zip(learned, edges, edges[1:], strict=False):
            answer[k] = one.search.kernel(one.kernel.family, numbers[a:b])
        return tuple(answer)

    def cost(whitened: FloatArray) -> tuple[float, FloatArray]:
        asked = move(whitened)
        trial = place(np.clip(asked, *bounds))
        found = solve_processes(seen, trial, time, columns, gradient=True)
        priors = [one.search.log_prior(trial[k]) for k, one in learned]
        slopes = np.concatenate([one.search.slopes(trial[k], found.slopes, k) for k, one in learned])
        slopes += np.concatenate([slope for _, slope in priors])
        slopes[(asked < bounds[0]) | (asked > bounds[1])] = 0.0  # beyond a bound the evidence stays what it is there
        parts = [part.T @ slopes[a:b] for part, a, b in zip(scale, edges, edges[1:], strict=False)]
        return -float(found.log_evidence.sum()) - sum(value for value, _ in priors), -np.concatenate(parts)

    found = minimize(
        cost, np.zeros(start.size), jac=True, method="L-BFGS-B", callback=_Stop(start.size), options=_options()
    )
    return place(np.clip(move(found.x), *bounds))


def kernel_variance(
    seen: RowInformation,
    time: FloatArray,
    columns: FixedColumns,
    learned: LearnedKernel,
    kernels: tuple[ProcessKernel, ...],
    *,
    place: int,
) -> FloatArray:
    """Return by how much the variance of a star's flux grows because its kernel is learned and not known.

    Parameters
    ----------
    seen, time, columns
        As for `solve_processes`: of the star and those whose errors depend on it most.
    learned : LearnedKernel
        What was learned of the star alone.
    kernels : tuple of ProcessKernel
        Kernels of all after all.
    place : int
        The star among them.

    Returns
    -------
    ndarray of float64, shape (n_time,)
        (electron / s)**2.

    Notes
    -----
    E[(F - mean)**2] - variance over the posterior of the numbers, summed over the columns of the W of `_whitening`:
    along each by the rule of Gauss and Hermite with nodes at 0 and +- 3**0.5, of weights 2/3 and 1/6 times the evidence
    there over that of the normal distribution, so that skew, bounds and what the neighbors tell count. Nodes beyond a
    bound have none, and half of the weight of the centre goes with them.
    """
    search, family = learned.search, kernels[place].family
    (low, high), center = search.bounds(family), search.numbers(kernels[place])

    def solve(numbers: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        own = search.kernel(family, numbers)
        found = solve_processes(seen, (*kernels[:place], own, *kernels[place + 1 :]), time, columns)
        density = float(found.log_evidence.sum()) + search.log_prior(own)[0]
        return found.mean[:, place], found.std[:, place] ** 2, density

    mean, variance, evidence = solve(center)
    added = np.zeros(time.size)
    for step in _NODE * _whitening(learned.curvature).T:
        inside = [one for one in (center - step, center + step) if np.all((one >= low) & (one <= high))]
        nodes = [solve(one) for one in inside]
        weight = np.array([np.exp(one[2] - evidence + 0.5 * _NODE**2) / 6.0 for one in nodes])
        grown = np.array([(one[0] - mean) ** 2 + one[1] - variance for one in nodes]).reshape(-1, time.size)
        added += weight @ grown / max(len(nodes) / 3.0 + weight.sum(), 1.0 / 3.0)
    return np.maximum(added, 0.0)


class _Stop:
    """Ends a search when an iteration gains too little for as many numbers."""

    def __init__(self, n_number: int) -> None:
        self.last, self.gain = np.inf, _GAIN * n_number

    def __call__(self, intermediate_result: "OptimizeResult") -> None:
        """Compare with the iteration before."""
        if self.last - intermediate_result.fun < self.gain:
            raise StopIteration
        self.last = intermediate_result.fun


def _options() -> dict[str, float]:
    return {"maxiter": _MAX_ITERATION, "ftol": 0.0, "gtol": 1e-6}


def _climb(
    evidence: Callable[[ProcessKernel], tuple[float, FloatArray]], start: ProcessKernel, search: SearchRange
) -> tuple[ProcessKernel, float]:
    """Move one kernel's numbers to where the evidence is highest, and return it too."""
    family, (low, high) = start.family, search.bounds(start.family)

    def cost(numbers: FloatArray) -> tuple[float, FloatArray]:
        value, slopes = evidence(search.kernel(family, numbers))
        return -value, -slopes

    first = np.clip(search.numbers(start), low, high)
    pairs = list(zip(low, high, strict=True))
    found = minimize(
        cost, first, jac=True, method="L-BFGS-B", bounds=pairs, callback=_Stop(first.size), options=_options()
    )
    return search.kernel(family, found.x), -float(found.fun)


def _curvature(
    evidence: Callable[[ProcessKernel], tuple[float, FloatArray]], kernel: ProcessKernel, search: SearchRange
) -> FloatArray:
    """Return minus the second derivatives of the density, by differences of its gradient; see `LearnedKernel`."""
    numbers, here = search.numbers(kernel), evidence(kernel)[1]
    rows = []
    for k in range(numbers.size):
        moved = numbers.copy()
        moved[k] += _STEP
        rows.append((here - evidence(search.kernel(kernel.family, moved))[1]) / _STEP)
    bounds = search.bounds(kernel.family)
    uphill = np.where((numbers <= bounds[0]) | (numbers >= bounds[1]), here, 0.0)
    return 0.5 * (np.array(rows) + np.array(rows).T) + np.diag(uphill**2)


def _whitening(curvature: FloatArray) -> FloatArray:
    """Return W with W W' the inverse of a curvature, none of whose directions is longer than one e-fold."""
    scale, axes = np.linalg.eigh(curvature)
    return np.asarray(axes / np.sqrt(np.maximum(scale, 1.0)))


def _chosen[T](family: str, sigma: T, scale: T, white: T, quality: T) -> list[T]:
    """Return those of the numbers that a family has."""
    if family == "constant":
        return [white]
    return [sigma, scale, white, quality] if family == "oscillator" else [sigma, scale, white]
