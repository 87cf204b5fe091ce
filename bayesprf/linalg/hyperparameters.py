"""Hyperparameters of a linear problem: few numbers that scale its prior and its errors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesprf.arrays import FloatArray, IntArray, NamedDict
from bayesprf.checks import check_shape
from bayesprf.errors import InputError
from bayesprf.linalg.problem import GaussianPrior, LinearProblem

LEARN = "learn"
Tunable = Any
"""A number, an array of one per group, `LEARN`, or a prior."""
"""What stands in place of a number that is to be learned."""

HYPER_NAMES = ("width", "zero_point", "noise_scale", "jitter", "model_error")
"""Names of all hyperparameters."""


@dataclass(frozen=True, slots=True, eq=False)
class Hyperparameters:
    """What may be learned of the prior and of the noise; everything is fixed by default, as in the closed form.

    Each may be a number, "learn", a prior, or, inside a PyMC model, a variable. The same record therefore says what is
    to be learned, and holds what was: see `apply`, which needs numbers.

    Parameters
    ----------
    width : float, "learn", prior or ndarray of float64, shape (n_width_group,)
        Factor on the prior's standard deviations.
    zero_point : float, "learn" or prior
        Factor on the prior's means.
    noise_scale : float, "learn", prior or ndarray of float64, shape (n_noise_group,)
        Factor on the errors.
    jitter : float, "learn" or prior
        Error added in quadrature to every observation's, in the unit of the data.
    model_error : float, "learn" or prior
        Factor on the square root of `model_variance`.
    width_group : ndarray of int64, shape (n_coeff,), optional
        Group of each coefficient, 0, 1, 2, ..., each with a width of its own; -1 keeps its width. One group by default.
    noise_group : ndarray of int64, shape (n_obs,), optional
        Group of each observation, each with a noise scale of its own; -1 keeps its error. One group by default.
    model_variance : ndarray of float64, shape (n_obs,), optional
        Variance that each observation has beyond its error and the jitter, which no noise scale touches.

    Raises
    ------
    InputError
        If groups are not numbered from 0 without gaps, or a model error is to be learned without its variance.

    Notes
    -----
    w ~ N(zero_point m, (width s)**2), y ~ N(X w, noise_scale**2 (C + jitter**2) + model_error**2 V): Luger,
    Foreman-Mackey & Hogg (2017), with their L and C depending on few numbers.
    """

    width: Tunable = 1.0
    zero_point: Tunable = 1.0
    noise_scale: Tunable = 1.0
    jitter: Tunable = 0.0
    model_error: Tunable = 1.0
    width_group: IntArray | None = None
    noise_group: IntArray | None = None
    model_variance: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("width_group", "noise_group"):
            group = getattr(self, name)
            if group is not None and not np.array_equal(np.unique(group[group >= 0]), np.arange(_count(group))):
                found = np.unique(group)
                raise InputError(f"{name}: expected groups 0, 1, 2, ... without gaps (-1: fixed), got {found}")
        if isinstance(self.model_error, str) and self.model_variance is None:
            raise InputError("model_variance: expected a variance per observation to scale, got None")

    @property
    def free(self) -> NamedDict:
        """The hyperparameters that are no numbers, by name: "learn", or their priors."""
        values = {name: getattr(self, name) for name in HYPER_NAMES if self.size(name)}
        return {name: value for name, value in values.items() if not isinstance(value, int | float | np.ndarray)}

    @property
    def has_groups(self) -> bool:
        """Whether there is more than one width."""
        return self.size("width") > 1

    def size(self, name: str) -> int:
        """Return how many numbers a hyperparameter is: one per group for width and noise scale."""
        group = {"width": self.width_group, "noise_scale": self.noise_group}.get(name)
        return 1 if group is None else _count(group)

    def groups(self, n_coeff: int) -> IntArray:
        """Return the group of each coefficient, shape (n_coeff,)."""
        if self.width_group is None:
            return np.zeros(n_coeff, np.int64)
        check_shape(self.width_group, (n_coeff,), "width_group", "n_coeff")
        return np.asarray(self.width_group, np.int64)

    def check(self, problem: LinearProblem) -> None:
        """Raise unless groups and variances fit a problem whose evidence exists."""
        sizes = {"width_group": problem.design.n_coeff, "noise_group": problem.design.n_obs}
        for name, size in {**sizes, "model_variance": problem.design.n_obs}.items():
            if getattr(self, name) is not None:
                check_shape(getattr(self, name), (size,), name, "n_coeff" if name == "width_group" else "n_obs")
        if not problem.prior.is_proper:
            first = int(np.argmin(problem.prior.precision > 0))
            raise InputError(f"prior: expected finite widths, got a flat prior for coefficient {first}; give a width")

    def apply(self, problem: LinearProblem) -> LinearProblem:
        """Return the problem with scaled prior widths, prior means and errors.

        Parameters
        ----------
        problem : LinearProblem
            As given; its data are shared.

        Returns
        -------
        LinearProblem
        """
        prior, ivar = problem.prior, problem.ivar
        scale = spread(self.noise_scale, self.noise_group) ** 2
        if self.jitter:
            scale = scale * (1.0 + self.jitter**2 * ivar)
        if self.model_variance is not None:
            scale = scale + ivar * (self.model_error**2 * self.model_variance)
        precision = prior.precision / spread(self.width, self.width_group) ** 2
        return replace(problem, ivar=ivar / scale, prior=GaussianPrior(self.zero_point * prior.mean, precision))


def spread(values: Tunable, group: IntArray | None) -> Tunable:
    """Return the value of each member's group, 1 outside any group; the value itself for one group."""
    return values if group is None else np.append(values, 1.0)[group]


def _count(group: IntArray) -> int:
    return int(group.max(initial=-1)) + 1
