"""Trials of the closed form on simulated truth: draws from the prior, blends, second stars, eclipses."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import chi2

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.hypotheses.event_host import event_evidence, flux_series, host_probabilities
from bayesprf.hypotheses.second_star import second_star
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.background import PRIOR_WIDTH
from bayesprf.simulation.settings import FieldSettings
from bayesprf.simulation.true_prf import PrfTruth, asymmetric_prf

_HALF = 5
_N_DRAW = 99


@cache
def _prf() -> PrfTruth:
    return asymmetric_prf()


@dataclass(frozen=True, slots=True)
class Blend:
    """Stars on one stamp of 11 x 11 pixels.

    Parameters
    ----------
    name : str
        Name.
    stars : tuple of tuple of float
        Column, row (pixel from the centre) and flux (electron / s) of each star.
    """

    name: str
    stars: tuple[tuple[float, float, float], ...]

    @property
    def flux(self) -> FloatArray:
        """Fluxes, shape (n_star,), electron / s."""
        return np.array([star[2] for star in self.stars])

    def design(self) -> FloatArray:
        """Return the PRF of each star in each pixel, shape (121, n_star), 1 / pixel."""
        axis = np.arange(-_HALF, _HALF + 1.0)
        column, row = (one.ravel() for one in np.meshgrid(axis, axis))
        prf = _prf()
        return np.stack([prf.evaluate(column - star[0], row - star[1]) for star in self.stars], axis=1)

    def noise(self) -> FloatArray:
        """Return the standard deviation of each pixel, shape (121,): photon noise of the stars, sky, read noise."""
        settings = FieldSettings()
        return np.sqrt(self.design() @ self.flux / settings.exposure + settings.noise_floor**2)


BLENDS: tuple[Blend, ...] = (
    Blend("isolated, bright", ((0.2, -0.3, 2e5),)),
    Blend("isolated, faint", ((0.2, -0.3, 20.0),)),
    Blend("blend 1:1, 1.5 pixels", ((0.0, 0.0, 5e3), (1.5, 0.2, 5e3))),
    Blend("blend 1:30, 0.7 pixels", ((0.0, 0.0, 3e4), (0.6, 0.4, 1e3))),
    Blend("four stars in 2 pixels", ((0.0, 0.0, 1e4), (1.0, 0.3, 3e3), (-0.8, 0.9, 1e3), (0.2, -1.5, 100.0))),
)


@dataclass(frozen=True, slots=True, eq=False)
class PriorTrials:
    """Truths drawn from the prior, and where they lie in the posterior (Talts et al. 2018).

    Parameters
    ----------
    rank : ndarray of float64, shape (n_trial, n_star)
        (rank of the truth among 99 posterior draws + a uniform number) / 100: uniform if the posterior is right.
    score : ndarray of float64, shape (n_trial, n_star)
        (posterior mean - truth) / posterior standard deviation.
    joint : ndarray of float64, shape (n_trial,)
        Chi-square probability of the squared Mahalanobis distance of all fluxes together: uniform, too.
    """

    rank: FloatArray
    score: FloatArray
    joint: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class FixedTrials:
    """Many noise realisations of the same stars.

    Parameters
    ----------
    score : ndarray of float64, shape (n_trial, n_star)
        (posterior mean - truth) / posterior standard deviation.
    reported, seen : float
        Correlation of the first two fluxes' errors: reported, and found over the trials.
    """

    score: FloatArray
    reported: float
    seen: float


def prior_trials(blend: Blend, n_trial: int, rng: np.random.Generator, *, width: float = 0.3) -> PriorTrials:
    """Draw fluxes from their prior and data from these, and see where the truth lies in the posterior.

    Parameters
    ----------
    blend : Blend
        The stars; their fluxes are the prior's means.
    n_trial : int
        Number of trials.
    rng : numpy.random.Generator
        Source of randomness.
    width : float
        Width of the prior over the flux.

    Returns
    -------
    PriorTrials
    """
    design, error = blend.design(), blend.noise()
    truth = blend.flux * (1.0 + width * rng.standard_normal((n_trial, blend.flux.size)))
    problem = _problem(design, truth @ design.T + error * rng.standard_normal((n_trial, error.size)), error,
                       GaussianPrior.from_sigma(blend.flux, width * blend.flux))  # fmt: skip
    posterior = BlockSolver().solve(problem)
    below = (posterior.draws(_N_DRAW, rng) < truth).sum(axis=0)
    miss = posterior.mean - truth
    distance = np.einsum("ti,ij,tj->t", miss, np.linalg.inv(posterior.covariance(0)), miss)
    return PriorTrials(
        (below + rng.uniform(size=below.shape)) / (_N_DRAW + 1),
        miss / posterior.std,
        chi2.cdf(distance, truth.shape[1]),
    )


def prior_problem(blend: Blend, n_time: int) -> LinearProblem:
    """Return a blend at several cadences under a prior as wide as its fluxes; the data are free of noise.

    Parameters
    ----------
    blend : Blend
        The stars.
    n_time : int
        Number of cadences.

    Returns
    -------
    LinearProblem
    """
    design, error = blend.design(), blend.noise()
    data = np.tile(design @ blend.flux, (n_time, 1))
    return _problem(design, data, error, GaussianPrior.from_sigma(blend.flux, blend.flux))


def fixed_trials(blend: Blend, n_trial: int, rng: np.random.Generator) -> FixedTrials:
    """Add noise many times to the same stars, and fit under the default prior.

    Parameters
    ----------
    blend : Blend
        Two stars or more.
    n_trial : int
        Number of trials.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    FixedTrials
    """
    design, error = blend.design(), blend.noise()
    data = design @ blend.flux + error * rng.standard_normal((n_trial, error.size))
    prior = GaussianPrior.from_sigma(blend.flux, PRIOR_WIDTH * blend.flux)
    posterior = BlockSolver().solve(_problem(design, data, error, prior))
    covariance = posterior.covariance(0)
    seen = np.corrcoef(posterior.mean[:, 0], posterior.mean[:, 1])[0, 1]
    reported = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    return FixedTrials((posterior.mean - blend.flux) / posterior.std, float(reported), float(seen))


def second_star_trials(n_trial: int, rng: np.random.Generator, *, n_time: int = 20) -> tuple[FloatArray, BoolArray]:
    """Ask "one star or two?" of scenes that have, in even odds, one or two stars, and whose PRF is known.

    Parameters
    ----------
    n_trial : int
        Number of trials.
    rng : numpy.random.Generator
        Source of randomness.
    n_time : int
        Cadences of each trial.

    Returns
    -------
    probability : ndarray of float64, shape (n_trial,)
        Posterior probability of two stars, at even odds before.
    truth : ndarray of bool, shape (n_trial,)
        Whether there are two.
    """
    probability, truth = np.empty(n_trial), rng.uniform(size=n_trial) < 0.5
    for trial in range(n_trial):
        main, angle = 10.0 ** rng.uniform(2.0, 4.0), rng.uniform(0.0, 2.0 * np.pi)
        place = rng.uniform(0.5, 2.0) * np.array([np.cos(angle), np.sin(angle)])
        scale = 0.03 * main
        blend = Blend("trial", ((0.0, 0.0, main), (*place, scale)))
        design, error = blend.design(), blend.noise()
        flux = np.array([main, truth[trial] * np.abs(rng.standard_normal()) * scale])
        data = design @ flux + error * rng.standard_normal((n_time, error.size))
        prior = GaussianPrior.from_sigma(blend.flux[:1], PRIOR_WIDTH * blend.flux[:1])
        problem = _problem(design[:, :1], data, error, prior)
        gain = second_star(problem, design[:, 1], errors=np.empty((error.size, 0)), prior_sigma=scale)[0]
        probability[trial] = 1.0 / (1.0 + np.exp(-gain))
    return probability, truth


def eclipse_trials(n_trial: int, rng: np.random.Generator, *, n_time: int = 300) -> tuple[FloatArray, BoolArray]:
    """Let one star of a random blend eclipse, and ask which.

    Parameters
    ----------
    n_trial : int
        Number of trials.
    rng : numpy.random.Generator
        Source of randomness.
    n_time : int
        Cadences of each trial.

    Returns
    -------
    probability : ndarray of float64, shape (n_trial,)
        Posterior probability of the first star to be the one.
    truth : ndarray of bool, shape (n_trial,)
        Whether it is.
    """
    time = 0.02 * np.arange(n_time, dtype=np.float64)
    template = (np.mod(time, 1.7) < 0.12).astype(np.float64)
    depth_sigma = 0.01
    probability, truth = np.empty(n_trial), rng.uniform(size=n_trial) < 0.5
    for trial in range(n_trial):
        main, angle = 10.0 ** rng.uniform(2.5, 4.0), rng.uniform(0.0, 2.0 * np.pi)
        place = rng.uniform(0.3, 2.0) * np.array([np.cos(angle), np.sin(angle)])
        blend = Blend("trial", ((0.0, 0.0, main), (*place, main * 10.0 ** -rng.uniform(0.0, 1.0))))
        design, error = blend.design(), blend.noise()
        flux = np.tile(blend.flux, (n_time, 1))
        flux[:, 0 if truth[trial] else 1] *= 1.0 - np.abs(rng.standard_normal()) * depth_sigma * template
        data = flux @ design.T + error * rng.standard_normal((n_time, error.size))
        prior = GaussianPrior.from_sigma(blend.flux, PRIOR_WIDTH * blend.flux)
        posterior = BlockSolver().solve(_problem(design, data, error, prior))
        series = flux_series(
            time,
            posterior.mean,
            posterior.covariances(np.arange(n_time)),
            prior_mean=prior.mean,
            prior_precision=prior.precision,
            common_error=np.zeros(2),
            outside=template == 0,
        )
        gains = event_evidence(series, template, spacing=0.7, depth_sigma=depth_sigma)[0]
        probability[trial] = host_probabilities(gains)[0]
    return probability, truth


def _problem(design: FloatArray, data: FloatArray, error: FloatArray, prior: GaussianPrior) -> LinearProblem:
    stack = DesignStack.from_sparse(csr_matrix(design))
    return LinearProblem(stack, data, np.tile(error**-2.0, (data.shape[0], 1)), prior)
