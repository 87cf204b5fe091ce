"""The search for the widths of a flux fit: estimates that grow from problem to problem, without outliers."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import ConvergenceWarning, warn
from bayesprf.linalg.evidence import LOG_BOUND, Evidence, EvidenceMaximum, maximise_evidence
from bayesprf.linalg.hyperparameters import Hyperparameters
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.solvers.solver import choose_solver

# Derived: observations farther off than this, in standard deviations of the widths learned, are left out, of two
# million normal ones one: cosmic rays, stars that no catalogue has, pixels beside saturated ones.
_CLIP_SIGMA = 5.0
# Accuracy: rounds of that, at most.
_CLIP_ROUNDS = 30
# Derived: an outlier of leverage h drags pixels around it along: it stands out by 1 - h and they by h at most, half as
# far where three pixels share one star (h = 1 / 3). A round takes those at least so far off as the worst of its row.
_WORST_SHARE = 0.5
# Accuracy: step of widths between those that a search began and ended with, of their logarithm: a maximum is no
# narrower than the error of a width that ten stars tell, a quarter (1 / sqrt(2 n)).
_LOOK_STEP = 0.25
# Definition: a width this much less likely, of ln evidence, is one standard deviation off.
_AS_LIKELY = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """Widths as far as problems have been learned from.

    Parameters
    ----------
    value, error : mapping of str to ndarray of float64, shape (n_group,)
        Values and standard deviations by name: prior_width, variability, noise, model, zero_point, image_scale.
    converged : bool
        Whether all maxima were reached.
    log_evidence : float
        Of the problem that was learned from last.
    n_clipped : int
        Observations left out as outliers.
    """

    value: Mapping[str, FloatArray]
    error: Mapping[str, FloatArray]
    converged: bool = True
    log_evidence: float = np.nan
    n_clipped: int = 0

    @classmethod
    def start(cls, start: Mapping[str, float], n_prior: int, n_noise: int) -> "Estimates":
        """Return the numbers that the search starts from, or that are fixed, without errors."""
        sizes = {"prior_width": n_prior, "variability": n_prior, "noise": n_noise}
        value = {name: np.full(sizes.get(name, 1), one) for name, one in start.items()} | {"image_scale": np.ones(1)}
        return cls(value, {name: np.zeros_like(one) for name, one in value.items()})

    def put(self, name: str, value: float, error: float) -> "Estimates":
        """Return the estimates with one value set for all groups."""
        groups = np.ones_like(self.value[name])
        return replace(self, value={**self.value, name: value * groups}, error={**self.error, name: error * groups})

    def times(
        self, learned: EvidenceMaximum, free: Collection[str], names: Mapping[str, str], held: Collection[str]
    ) -> "Estimates":
        """Return the estimates with the factors that were learned, and their errors, under these names.

        Those that were `held`, for they have no maximum, have none.
        """
        value, error, std = dict(self.value), dict(self.error), np.sqrt(np.diag(learned.covariance))
        for one, name in names.items():
            if one in free:
                value[name] = self.value[name] * np.atleast_1d(getattr(learned.hyper, one))
            if one in held:
                error[name] = np.full(value[name].size, np.nan)
            elif one in free:
                error[name], std = std[: value[name].size] * value[name], std[value[name].size :]
        if "zero_point" in free:
            value["zero_point"] = self.value["zero_point"] * learned.hyper.zero_point
            error["zero_point"] = std * self.value["zero_point"]
        converged = self.converged and learned.converged and not held
        return replace(self, value=value, error=error, converged=converged, log_evidence=learned.log_evidence)


def learn_from(
    found: Estimates,
    problem: LinearProblem,
    hyper: Hyperparameters,
    *,
    prior: str = "prior_width",
    noise: str = "noise",
) -> Estimates:
    """Return the estimates after a problem has been learned from.

    Parameters
    ----------
    found : Estimates
        What is known before.
    problem : LinearProblem
        With the values of `found`.
    hyper : Hyperparameters
        What is "learn". A variability, an error of the model, and what the image lacks beyond its noise may be zero.
    prior, noise : str
        Names of the estimates that widths and noise scales are for.

    Returns
    -------
    Estimates

    Warns
    -----
    ConvergenceWarning
        If the evidence has no maximum.

    Notes
    -----
    Where the evidence only levels off towards a prior width of zero, that is held at the widest as likely as zero to
    within one standard deviation, and all else is learned beside: a narrower one would leave fluxes without errors.
    """
    names = {"width": prior, "noise_scale": noise, "model_error": "model"}
    for one in _variants(hyper, noise):
        start = found.put("model", 0.0, np.nan) if {"model_error"} & set(hyper.free) - set(one.free) else found
        if not one.free:
            return replace(start, log_evidence=_evidence(problem, one))
        learned, held, n_clipped = _find_clipped(problem, one, may_vanish=prior == "variability")
        enough = noise != "image_scale" or "noise_scale" not in one.free or learned.hyper.noise_scale.min() >= 1.0
        if learned.converged and enough:
            break
    if prior == "variability":
        learned = replace(learned, converged=True)
    done = start.times(learned, one.free, names, held)
    if lost := held if learned.converged else tuple(one.free):
        listed = ", ".join(names.get(name, name) for name in lost)
        at = ", ".join(f"{one:.2g}" for one in done.value[prior])
        end = f"held at {at}, as likely as zero" if learned.converged else learned.message
        warn(
            f"learn_widths: no maximum of the evidence found for {listed} ({end}); the data may want a width of zero:"
            " fix one of them to a number, or make groups larger",
            ConvergenceWarning,
        )
    return replace(done, n_clipped=found.n_clipped + n_clipped)


def _variants(hyper: Hyperparameters, noise: str) -> Iterator[Hyperparameters]:
    """Yield what to learn, then what where that has no maximum: no factor of the image, no error of the model."""
    learns_factor = noise == "image_scale" and "noise_scale" in hyper.free
    candidates = [hyper, replace(hyper, noise_scale=1.0, noise_group=None)] if learns_factor else [hyper]
    yield from candidates
    if "model_error" in hyper.free:
        yield from (replace(one, model_error=1.0, model_variance=None) for one in candidates)


def _evidence(problem: LinearProblem, hyper: Hyperparameters) -> float:
    solved = hyper.apply(problem)
    return float(choose_solver(solved).solve(solved).log_evidence.sum())


def _find_clipped(
    problem: LinearProblem, hyper: Hyperparameters, *, may_vanish: bool
) -> tuple[EvidenceMaximum, tuple[str, ...], int]:
    """Return the widths, learned without outliers, names of those held, and the number of outliers."""
    n_used = np.count_nonzero(problem.ivar)
    for _ in range(_CLIP_ROUNDS):
        learned, held = (maximise_evidence(problem, hyper), ()) if may_vanish else _maximise(problem, hyper)
        known = learned.problem
        residual = np.where(known.ivar > 0, known.data, 0.0) - known.predict(choose_solver(known).solve(known).mean)
        squares = residual**2 * known.ivar
        worst = squares.max(axis=1, keepdims=True)
        far = squares > np.maximum(_CLIP_SIGMA**2, _WORST_SHARE**2 * worst)
        if not far.any():
            break
        problem = replace(problem, ivar=np.where(far, 0.0, problem.ivar))
    return learned, held, int(n_used - np.count_nonzero(problem.ivar))


def _maximise(problem: LinearProblem, hyper: Hyperparameters) -> tuple[EvidenceMaximum, tuple[str, ...]]:
    """Return the maximum of the evidence; where widths have none, that of all else beside widths that are held.

    The search may have run past a small maximum: the evidence is looked at between.
    """
    learned = maximise_evidence(problem, hyper)
    if learned.converged or "width" not in hyper.free:
        return learned, ()
    likeliest, widest = _look_between(problem, learned)
    again = maximise_evidence(problem, hyper, start=replace(learned.hyper, width=likeliest))
    if again.converged:
        return again, ()
    rest = replace(hyper, width=widest)
    if rest.free:
        found = maximise_evidence(problem, rest, start=replace(learned.hyper, width=widest))
        return (found, ("width",)) if found.converged else (learned, ())
    at = replace(learned.hyper, width=widest)
    value = _evidence(problem, at)
    return replace(learned, hyper=at, problem=at.apply(problem), log_evidence=value, converged=True), ("width",)


def _look_between(problem: LinearProblem, learned: EvidenceMaximum) -> tuple[FloatArray, FloatArray]:
    """Return the likeliest width of each group, and the widest that is as likely if the evidence only levels off.

    All else stays as it was found.
    """
    evidence, found = Evidence.of(problem), np.atleast_1d(learned.hyper.width)
    grid = np.exp(np.arange(-LOG_BOUND, _LOOK_STEP, _LOOK_STEP))
    likeliest, widest = found.copy(), found.copy()
    for group in range(found.size):
        looked = np.unique(np.append(grid, found[group]))
        tried = [np.where(np.arange(found.size) == group, width, found) for width in looked]
        values = np.array([evidence.gradient(replace(learned.hyper, width=one), ())[0] for one in tried])
        likeliest[group] = looked[np.argmax(values)]
        as_likely = values >= values.max() - _AS_LIKELY
        widest[group] = looked[as_likely].max() if as_likely[0] else likeliest[group]
    return likeliest, widest
