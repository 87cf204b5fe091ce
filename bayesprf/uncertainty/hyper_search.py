"""The search for the widths of a flux fit: estimates that grow from problem to problem, without outliers."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import ConvergenceWarning
from bayesprf.linalg.evidence import LearnedWidths, WidthModel, find_widths
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.solver import choose_solver

# Observations farther off than this, in standard deviations of the widths learned, are left out: cosmic rays, stars
# that no catalogue has, pixels beside saturated ones.
_CLIP_SIGMA, _CLIP_ROUNDS = 5.0, 30
# An outlier drags the pixels around it along, so a round takes only those at least half as far as the worst of its row.
_WORST_SHARE = 0.5


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

    def times(self, learned: LearnedWidths, model: WidthModel, prior: str, noise: str) -> "Estimates":
        """Return the estimates with the factors that were learned, and their errors, under these names."""
        value, error, std = dict(self.value), dict(self.error), np.sqrt(np.diag(learned.covariance))
        factors = {prior: learned.prior_scale, noise: learned.noise_scale}
        factors |= {"model": np.full(int(model.model_scale), learned.model_scale)}
        for name, factor in factors.items():
            if factor.size:
                value[name] = self.value[name] * factor
                error[name], std = std[: factor.size] * value[name], std[factor.size :]
        if model.zero_point:
            value["zero_point"] = self.value["zero_point"] * learned.zero_point
            error["zero_point"] = std * self.value["zero_point"]
        converged = self.converged and learned.converged
        return replace(self, value=value, error=error, converged=converged, log_evidence=learned.log_evidence)


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What is to be learned from a problem; the first five are the fields of a WidthModel, which wants something.

    Parameters
    ----------
    prior_group : ndarray of int64, shape (n_coeff,), optional
        Groups of prior widths.
    noise_group : ndarray of int64, shape (n_obs,), optional
        Groups of noise factors.
    model_variance : ndarray of float64, shape (n_obs,), optional
        Variance beyond the errors.
    model_scale, zero_point : bool
        Whether its scale, and the zero point, are learned.
    prior, noise : str
        Names of the estimates that prior widths and noise factors are for.
    """

    prior_group: IntArray | None = None
    noise_group: IntArray | None = None
    model_variance: FloatArray | None = None
    model_scale: bool = False
    zero_point: bool = False
    prior: str = "prior_width"
    noise: str = "noise"

    @property
    def nothing(self) -> bool:
        """Whether all is fixed."""
        return self.prior_group is None and self.noise_group is None and not (self.model_scale or self.zero_point)

    @property
    def model(self) -> WidthModel:
        """The model of what is learned."""
        return WidthModel(
            self.prior_group,
            self.noise_group,
            zero_point=self.zero_point,
            model_variance=self.model_variance,
            model_scale=self.model_scale,
        )

    def variants(self) -> Iterator["Wanted"]:
        """Yield itself, and what to learn where that has no maximum: no factor of the image, no error of the model."""
        own = replace(self, noise_group=None) if self.noise == "image_scale" else None
        yield self
        if own is not None:
            yield own
        if self.model_scale:
            for one in (self, own):
                if one is not None:
                    yield replace(one, model_variance=None, model_scale=False)


def learn_from(found: Estimates, problem: LinearProblem, wanted: Wanted) -> Estimates:
    """Return the estimates after a problem has been learned from.

    Parameters
    ----------
    found : Estimates
        What is known before.
    problem : LinearProblem
        With the values of `found`.
    wanted : Wanted
        What is learned. A variability, an error of the model, and what the image lacks beyond its noise may be zero.

    Returns
    -------
    Estimates

    Warns
    -----
    ConvergenceWarning
        If the evidence has no maximum.
    """
    for one in wanted.variants():
        start = found.put("model", 0.0, np.nan) if wanted.model_scale and not one.model_scale else found
        if one.nothing:
            return replace(start, log_evidence=_evidence(problem, one))
        learned, n_clipped = _find_clipped(problem, one.model)
        enough = one.noise != "image_scale" or learned.noise_scale.min(initial=1.0) >= 1.0
        if learned.converged and enough:
            break
    if wanted.prior == "variability":
        learned = replace(learned, converged=True)
    if not learned.converged:
        warnings.warn(
            f"learn_widths: no maximum of the evidence found for {', '.join(one.model.names)} ({learned.message});"
            " the data may want a width of zero: fix one of them to a number, or make groups larger",
            ConvergenceWarning,
            stacklevel=4,
        )
    done = start.times(learned, one.model, one.prior, one.noise)
    return replace(done, n_clipped=found.n_clipped + n_clipped)


def _evidence(problem: LinearProblem, wanted: Wanted) -> float:
    extra = 0.0 if wanted.model_variance is None else wanted.model_variance
    solved = replace(problem, ivar=problem.ivar / (1.0 + problem.ivar * extra))
    return float(choose_solver(solved).solve(solved).log_evidence.sum())


def _find_clipped(problem: LinearProblem, model: WidthModel) -> tuple[LearnedWidths, int]:
    """Return the widths, learned without outliers, and the number of these."""
    n_used = np.count_nonzero(problem.ivar)
    for _ in range(_CLIP_ROUNDS):
        learned = find_widths(problem, model)
        known = learned.problem
        residual = np.where(known.ivar > 0, known.data, 0.0) - known.predict(choose_solver(known).solve(known).mean)
        squares = residual**2 * known.ivar
        worst = squares.max(axis=1, keepdims=True)
        far = squares > np.maximum(_CLIP_SIGMA**2, _WORST_SHARE**2 * worst)
        if not far.any():
            break
        problem = replace(problem, ivar=np.where(far, 0.0, problem.ivar))
    return learned, int(n_used - np.count_nonzero(problem.ivar))
