"""Hyperparameters inside a PyMC model: numbers, or variables with their priors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesprf.linalg.problem import LinearProblem
from bayesprf.sampling.hyper import HYPER_NAMES, Hyperparameters, Hyperprior

Priors = Mapping[str, Callable[[str], Any]]


@dataclass(frozen=True, slots=True, eq=False)
class HyperVariables:
    """Hyperparameters of the model in context, each a number or a variable.

    Parameters
    ----------
    width, zero_point, noise_scale, jitter : float or TensorVariable
        See `Hyperparameters`; `width` has the axis width_group where there are several.
    """

    width: Any
    zero_point: Any
    noise_scale: Any
    jitter: Any

    @classmethod
    def add(cls, problem: LinearProblem, hyper: Hyperparameters, priors: Priors | None = None) -> "HyperVariables":
        """Add the free hyperparameters to the model in context.

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
        HyperVariables

        Notes
        -----
        With errors sigma near e, data hold k**2 (e**2 + j**2) much better than noise scale k and jitter j apart, a
        curved ridge. Where both are free, the model therefore samples j and log_noise = log k + log(1 + j**2/e**2) / 2,
        and gives k its prior times the Jacobian k.
        """
        priors = priors or {}
        apart = not {"noise_scale", "jitter"} <= set(hyper.free) or {"noise_scale", "jitter"} & set(priors)
        found = {name: _variable(name, hyper, priors) for name in HYPER_NAMES if apart or name != "noise_scale"}
        return cls(**found) if apart else cls(**found, noise_scale=_noise_scale(problem, hyper, found["jitter"]))


def _variable(name: str, hyper: Hyperparameters, priors: Priors) -> Any:
    """Return a hyperparameter as a number, or as a variable of the model."""
    value = getattr(hyper, name)
    if name in priors:
        return priors[name](name)
    if not isinstance(value, Hyperprior):
        return value
    return add_hyperprior(name, value, dims="width_group" if name == "width" and hyper.has_groups else None)


def add_hyperprior(name: str, prior: Hyperprior, *, dims: str | None = None) -> Any:
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


def _noise_scale(problem: LinearProblem, hyper: Hyperparameters, jitter: Any) -> Any:
    """Return the noise scale as a function of the jitter and of the well determined total noise."""
    used = problem.ivar > 0
    error = float(np.median(problem.ivar[used] ** -0.5)) if used.any() else 1.0
    prior = hyper.free["noise_scale"]
    log_scale = pm.Flat("log_noise") - 0.5 * pt.log1p((jitter / error) ** 2)
    scale = pm.Deterministic("noise_scale", pt.exp(log_scale))
    density = pm.logp(_family(prior).dist(**_arguments(prior)), scale)
    pm.Potential("noise_scale_prior", density + log_scale)
    return scale


def _family(prior: Hyperprior) -> Any:
    return {"half-normal": pm.HalfNormal, "log-normal": pm.LogNormal, "normal": pm.Normal}[prior.family]


def _arguments(prior: Hyperprior) -> dict[str, float]:
    if prior.family == "half-normal":
        return {"sigma": prior.scale}
    center = np.log(prior.center) if prior.family == "log-normal" else prior.center
    return {"mu": float(center), "sigma": prior.scale}
