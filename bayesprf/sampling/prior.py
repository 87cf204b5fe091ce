"""The prior of fluxes and hyperparameters: draws from it, and its density at posterior draws."""

from collections.abc import Mapping

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.linalg.problem import LinearProblem
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior


def draw_prior(
    problem: LinearProblem, hyper: Hyperparameters, shape: tuple[int, int], rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Draw hyperparameters and fluxes from their prior.

    Parameters
    ----------
    problem : LinearProblem
        Gives the prior of the fluxes.
    hyper : Hyperparameters
        Resolved.
    shape : tuple of int
        Chains and draws per chain.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    dict of str to ndarray of float64
        `flux`, shape (*shape, n_batch, n_coeff), and every free hyperparameter, of that shape.
    """
    n_draw = shape[0] * shape[1]
    groups = hyper.groups(problem.design.n_coeff)
    drawn = {name: prior.draw(n_draw, rng) for name, prior in hyper.free.items()}
    if "width" in drawn and hyper.has_groups:
        further = [hyper.free["width"].draw(n_draw, rng) for _ in range(groups.max())]
        drawn["width"] = np.stack([drawn["width"], *further], axis=1)
    width = drawn.get("width", np.full(n_draw, hyper.width)).reshape(n_draw, -1)
    width = width[:, None, groups if width.shape[1] > 1 else [0]]
    zero = drawn.get("zero_point", np.full(n_draw, hyper.zero_point))[:, None, None]
    prior = problem.prior
    white = rng.standard_normal((n_draw, problem.n_batch, prior.mean.size))
    flux = zero * prior.mean + width * prior.precision**-0.5 * white
    answer = {"flux": flux, **drawn}
    return {name: one.astype(np.float64).reshape(*shape, *one.shape[1:]) for name, one in answer.items()}


def log_prior(problem: LinearProblem, hyper: Hyperparameters, draws: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the log prior density of draws.

    Parameters
    ----------
    problem : LinearProblem
        Gives the prior of the fluxes.
    hyper : Hyperparameters
        Resolved.
    draws : mapping of str to ndarray of float64
        `flux`, shape (n_chain, n_draw, n_batch, n_coeff), and the free hyperparameters, shape (n_chain, n_draw).

    Returns
    -------
    dict of str to ndarray of float64
        As `draws`; that of `flux` given the hyperparameters.
    """
    found = {name: prior.log_density(draws[name]) for name, prior in hyper.free.items()}
    width = _of(draws, "width", hyper.width)
    if "width" in hyper.free and hyper.has_groups:
        width = np.asarray(draws["width"])[:, :, None, hyper.groups(problem.design.n_coeff)]
    mean, sigma = problem.prior.mean, width * problem.prior.precision**-0.5
    z = (draws["flux"] - _of(draws, "zero_point", hyper.zero_point) * mean) / sigma
    return {"flux": -0.5 * z**2 - np.log(sigma) - 0.5 * np.log(2.0 * np.pi), **found}


def _of(draws: Mapping[str, FloatArray], name: str, value: float | Hyperprior) -> FloatArray:
    return np.asarray(draws[name])[..., None, None] if isinstance(value, Hyperprior) else np.asarray(value)
