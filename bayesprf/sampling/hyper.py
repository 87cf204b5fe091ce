"""Hyperparameters of the linear model, each fixed or with a prior, and their variables inside a PyMC model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bayesprf.arrays import FloatArray, Tensor
from bayesprf.checks import check_choice, check_positive, shown
from bayesprf.errors import InputError
from bayesprf.linalg.hyperparameters import LEARN, Hyperparameters
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.stack import DesignStack, stack_of

if TYPE_CHECKING:
    from pymc import Continuous

FAMILIES = ("half-normal", "log-normal", "normal")

SAMPLED = ("width", "zero_point", "noise_scale", "jitter")
"""Hyperparameters that a sampler may have."""


@dataclass(frozen=True, slots=True)
class Hyperprior:
    """Prior of one hyperparameter.

    Parameters
    ----------
    family : {"half-normal", "log-normal", "normal"}
        Its family.
    scale : float
        Standard deviation of the normal (of the logarithm, for "log-normal").
    center : float
        Mean of "normal", median of "log-normal"; "half-normal" starts at 0.

    Raises
    ------
    InputError
        If the family is unknown or a number is out of range.
    """

    family: str
    scale: float
    center: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self.family, FAMILIES, "family")
        check_positive(self.scale, "scale")
        if self.family == "log-normal":
            check_positive(self.center, "center")
        if self.family == "half-normal" and self.center != 0.0:
            raise InputError(f"center: expected 0 for a half-normal prior, got {self.center}")

    @property
    def is_positive(self) -> bool:
        """Whether the prior allows no negative numbers."""
        return self.family != "normal"

    def log_density(self, value: FloatArray) -> FloatArray:
        """Return the log density.

        Parameters
        ----------
        value : ndarray of float64
            Values of any shape; above 0 for a log-normal prior.

        Returns
        -------
        ndarray of float64
            Normalised, -inf outside the support.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            x = (np.log(value / self.center) if self.family == "log-normal" else value - self.center) / self.scale
            log = -0.5 * x**2 - np.log(self.scale) - 0.5 * np.log(2.0 * np.pi)
            if self.family == "log-normal":
                log = np.where(value > 0, log - np.log(value), -np.inf)
        return np.where(value >= 0, log + np.log(2.0), -np.inf) if self.family == "half-normal" else log

    def draw(self, n_draw: int, rng: np.random.Generator) -> FloatArray:
        """Return independent draws.

        Parameters
        ----------
        n_draw : int
            How many.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of float64, shape (n_draw,)
        """
        white = self.scale * rng.standard_normal(n_draw)
        if self.family == "log-normal":
            return self.center * np.exp(white)
        return np.abs(white) if self.family == "half-normal" else self.center + white


def resolve(hyper: Hyperparameters, problem: LinearProblem) -> Hyperparameters:
    """Return the hyperparameters with every "learn" replaced by its documented prior.

    Parameters
    ----------
    hyper : Hyperparameters
        Numbers, "learn" or Hyperpriors; each group of coefficients has a width of its own with the prior `width`.
    problem : LinearProblem
        Sets the scale of the jitter.

    Returns
    -------
    Hyperparameters

    Raises
    ------
    InputError
        If an entry is neither a number in range, nor "learn", nor a Hyperprior.

    Notes
    -----
    "learn" is half-normal of scale 1 for the width, normal, 1 +- 0.5, for the zero point, log-normal of median 1 and
    0.5 in the natural logarithm for the noise scale, and half-normal as wide as the median error for the jitter.
    """
    if np.any(hyper.groups(problem.design.n_coeff) < 0):
        raise InputError("width_group: expected 0 or more, got -1; give fixed coefficients a group of their own")
    used = problem.ivar > 0
    error = float(np.median(problem.ivar[used] ** -0.5)) if used.any() else 1.0
    return replace(
        hyper,
        width=_resolve(hyper.width, "width", Hyperprior("half-normal", 1.0)),
        zero_point=_resolve(hyper.zero_point, "zero_point", Hyperprior("normal", 0.5, 1.0)),
        noise_scale=_resolve(hyper.noise_scale, "noise_scale", Hyperprior("log-normal", 0.5, 1.0)),
        jitter=_resolve(hyper.jitter, "jitter", Hyperprior("half-normal", error)),
    )


def _resolve(value: object, name: str, default: Hyperprior) -> float | Hyperprior:
    if isinstance(value, Hyperprior):
        if name != "zero_point" and not value.is_positive:
            raise InputError(f"{name}: expected a prior of a positive number, got {value.family!r}; use 'half-normal'")
        return value
    if isinstance(value, str) and value == LEARN:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputError(f"{name}: expected a number, 'learn' or a Hyperprior, got {shown(value)}")
    if not np.isfinite(value) or (name in ("width", "noise_scale") and value <= 0) or (name == "jitter" and value < 0):
        raise InputError(
            f"{name}: expected a finite number {'of 0 or more' if name == 'jitter' else 'above 0'}, got {value}"
        )
    return float(value)


def proper_design(problem: LinearProblem) -> DesignStack:
    """Return the design of a problem whose coefficients can be integrated out.

    Parameters
    ----------
    problem : LinearProblem
        Any.

    Returns
    -------
    DesignStack

    Raises
    ------
    UnsupportedError
        If the design is not a DesignStack.
    InputError
        If the prior is flat.
    """
    design = stack_of(problem)
    if not problem.prior.is_proper:
        first = int(np.argmin(problem.prior.precision > 0))
        raise InputError(f"prior: expected finite widths, got a flat prior for coefficient {first}; give prior_sigma")
    return design


Priors = Mapping[str, Callable[[str], Tensor]]


def add_hyperparameters(
    problem: LinearProblem, hyper: Hyperparameters, priors: Priors | None = None
) -> Hyperparameters:
    """Add the free hyperparameters to the PyMC model in context.

    Parameters
    ----------
    problem : LinearProblem
        Gives the typical error.
    hyper : Hyperparameters
        Resolved.
    priors : mapping of str to callable, optional
        Functions that make a variable of a name, in place of a Hyperprior.

    Returns
    -------
    Hyperparameters
        The same with variables of the model for what is free; `width` has the axis width_group if there are groups.

    Notes
    -----
    With errors sigma near e, data hold k**2 (e**2 + j**2) much better than noise scale k and jitter j apart, a
    curved ridge. Where both are free, the sampler therefore moves in j and log k + log(1 + j**2/e**2) / 2.
    """
    priors = _check_priors(priors)
    apart = not {"noise_scale", "jitter"} <= set(hyper.free) or {"noise_scale", "jitter"} & set(priors)
    found = {name: _variable(name, hyper, priors) for name in SAMPLED if apart or name != "noise_scale"}
    if not apart:
        found["noise_scale"] = _noise_scale(problem, hyper, found["jitter"])
    return replace(hyper, **found)


def _check_priors(priors: object) -> Priors:
    """Return the priors given by hand, none for None, and raise if they are no functions by name."""
    if priors is None:
        return {}
    if not isinstance(priors, Mapping) or not all(name in SAMPLED and callable(one) for name, one in priors.items()):
        raise InputError(
            f"priors: expected a mapping of {', '.join(SAMPLED)} to functions that add a variable of that name, got"
            f" {shown(priors)}; for example {{'jitter': lambda name: pm.HalfNormal(name, 5.0)}}"
        )
    return priors


def _variable(name: str, hyper: Hyperparameters, priors: Priors) -> Tensor:
    """Return a hyperparameter as a number, or as a variable of the model."""
    value = getattr(hyper, name)
    if name in priors:
        return priors[name](name)
    if not isinstance(value, Hyperprior):
        return value
    return add_hyperprior(name, value, dims="width_group" if name == "width" and hyper.has_groups else None)


def add_hyperprior(name: str, prior: Hyperprior, *, dims: str | None = None) -> Tensor:
    """Add a variable with a Hyperprior to the model in context.

    Parameters
    ----------
    name : str
        Its name.
    prior : Hyperprior
        Its prior.
    dims : str, optional
        Its axis.

    Returns
    -------
    TensorVariable
    """
    return _family(prior)(name, **_arguments(prior), dims=dims)


def _noise_scale(problem: LinearProblem, hyper: Hyperparameters, jitter: object) -> Tensor:
    """Add the noise scale, sampled in the coordinate of the well determined total noise."""
    from bayesprf.sampling.coordinates import TotalNoise, add_variable

    used = problem.ivar > 0
    error = float(np.median(problem.ivar[used] ** -0.5)) if used.any() else 1.0
    found = hyper.free["noise_scale"]

    def prior(size: object = None) -> Tensor:
        return _family(found).dist(**_arguments(found), size=size)

    return add_variable("noise_scale", prior, TotalNoise(error), guides=[jitter])


def _family(prior: Hyperprior) -> "type[Continuous]":
    import pymc as pm

    return {"half-normal": pm.HalfNormal, "log-normal": pm.LogNormal, "normal": pm.Normal}[prior.family]


def _arguments(prior: Hyperprior) -> dict[str, float]:
    if prior.family == "half-normal":
        return {"sigma": prior.scale}
    center = np.log(prior.center) if prior.family == "log-normal" else prior.center
    return {"mu": float(center), "sigma": prior.scale}
