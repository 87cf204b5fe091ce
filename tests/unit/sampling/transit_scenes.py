"""Two blended stars of known PRF, of which the fainter may transit."""

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.fluxes import FluxFit


def transit(time, middle, duration=0.2, edge=0.01):
    """Return a transit with smooth edges, 1 inside; works on arrays and on expressions."""
    return 0.5 * (np.tanh((time - middle + 0.5 * duration) / edge) - np.tanh((time - middle - 0.5 * duration) / edge))


def make_light(*, distance=1.2, side=5):
    """Return the PRF of the two stars in the pixels of a stamp, shape (side**2, 2)."""
    axis = np.arange(side, dtype=np.float64)
    pixel = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    place = np.array([[2.0, 1.8], [2.0 + distance, 2.3]])
    return np.exp(-0.5 * np.sum((pixel[:, None] - place) ** 2, axis=2) / 0.64) / (2 * np.pi * 0.64)


def solve_fluxes(data, light, prior, ivar=1.0):
    """Return the fluxes of every cadence as `fit_flux` gives them."""
    weights = np.full(data.shape, ivar)
    problem = LinearProblem(DesignStack.from_sparse(csr_matrix(light)), data, weights, prior)
    posterior = choose_solver(problem).solve(problem)
    return FluxFit(posterior.mean, posterior.std, np.zeros(posterior.mean.shape, np.int64), problem, posterior)


def make_transit_fit(*, n_time, depth=0.05, middle=0.5, seed=0, width=0.1, leak=None):
    """Return fluxes, times and data of a blend drawn from the prior: levels and the neighbour's flux err by `width`."""
    rng = np.random.default_rng(seed)
    time, light = np.linspace(0.0, 1.0, n_time), make_light()
    prior = GaussianPrior.from_sigma(np.array([3000.0, 900.0]), width * np.array([3000.0, 900.0]))
    sigma = prior.precision**-0.5
    flux = np.empty((n_time, 2))
    flux[:, 0] = prior.mean[0] + sigma[0] * rng.normal(size=n_time)
    flux[:, 1] = (prior.mean[1] + sigma[1] * rng.normal()) * (1.0 - depth * transit(time, middle))
    if leak is not None:
        flux[:, 1] += np.sqrt(leak) * rng.normal()
    data = flux @ light.T + rng.normal(size=(n_time, len(light)))
    return solve_fluxes(data, light, prior), time, data
