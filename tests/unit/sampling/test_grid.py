"""The grid against brute force: dense covariance matrices, trapezoids in two dimensions, and simulations."""

from dataclasses import replace

import numpy as np
import pytest
from sampling_scenes import make_problem
from scipy.integrate import simpson
from scipy.special import logsumexp
from scipy.stats import kstest

from bayesprf.errors import InputError, UnsupportedError
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.sampling.grid import Marginal, integrate_grid
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior, resolve
from bayesprf.sampling.spectrum import Decomposer

WIDTH, JITTER = Hyperprior("half-normal", 0.5), Hyperprior("half-normal", 5.0)
KAPPA = Hyperprior("log-normal", 0.5, 1.0)
CASES = {"plain": {}, "cadences": {"n_time": 4}, "moving": {"n_time": 4, "moving": True, "ragged": True}}


def dense_log_likelihood(problem, width, noise_scale, jitter, zero_point):
    """log N(y; z X m + known, k^2 C + j^2 + w^2 X S^2 X'), row by row, with the covariance written out."""
    total = 0.0
    for row in range(problem.n_batch):
        used = problem.ivar[row] > 0
        matrix = problem.design.matrix(row)[used].toarray()
        prior = problem.prior
        noise = noise_scale**2 * (1.0 / problem.ivar[row, used] + jitter**2)
        cov = np.diag(noise) + width**2 * (matrix / prior.precision) @ matrix.T
        mean = zero_point * matrix @ prior.mean + problem.known[used]
        lower = np.linalg.cholesky(cov)
        white = np.linalg.solve(lower, problem.data[row, used] - mean)
        total -= 0.5 * (white @ white + used.sum() * np.log(2.0 * np.pi)) + np.log(np.diag(lower)).sum()
    return total


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("width", "scale", "jitter", "zero"), [(1.0, 1.0, 0.0, 1.0), (0.03, 1.3, 0.0, 0.9), (0.2, 0.8, 3.0, 1.1)]
)
def test_marginal_likelihood_equals_the_dense_gaussian(case, width, scale, jitter, zero):
    problem = make_problem(4, **CASES[case])
    marginal = Marginal.of(Decomposer(problem).at(jitter))
    ours = marginal.log_likelihood(np.array([width]), np.array([scale]), zero)[0]
    assert ours == pytest.approx(dense_log_likelihood(problem, width, scale, jitter, zero), rel=1e-10)


def test_marginal_likelihood_equals_the_evidence_of_the_solver():
    problem = make_problem(50, 3, ragged=True)
    ours = Marginal.of(Decomposer(problem).at()).log_likelihood(np.ones(1), np.ones(1))[0]
    assert ours == pytest.approx(BlockSolver().solve(problem).log_evidence.sum(), rel=1e-11)


def test_zero_point_is_integrated_exactly():
    problem = make_problem(4, 2)
    prior = Hyperprior("normal", 0.3, 1.1)
    marginal = Marginal.of(Decomposer(problem).at(1.0))
    zero = np.linspace(0.3, 1.7, 4001)
    one = np.ones(1)
    log = np.array([marginal.log_likelihood(0.2 * one, one, z)[0] for z in zero]) + prior.log_density(zero)
    brute = np.log(simpson(np.exp(log - log.max()), x=zero)) + log.max()
    assert marginal.log_likelihood(0.2 * one, one, prior)[0] == pytest.approx(brute, abs=1e-6)
    mean, std = marginal.zero_point_posterior(0.2 * one, one, prior)
    weight = np.exp(log - logsumexp(log))
    assert mean[0] == pytest.approx(weight @ zero, abs=1e-6)
    assert std[0] == pytest.approx(np.sqrt(weight @ (zero - mean[0]) ** 2), rel=1e-5)


@pytest.mark.parametrize("noise", ["jitter", "noise_scale"])
def test_grid_agrees_with_brute_force(noise):
    problem = make_problem(2, 2, ragged=True)
    prior = JITTER if noise == "jitter" else KAPPA
    grid = integrate_grid(problem, Hyperparameters(width=WIDTH, **{noise: prior}))
    widths, noises = np.geomspace(1e-3, 3.0, 61), np.linspace(*((1e-3, 6.0) if noise == "jitter" else (0.8, 2.0)), 61)
    args = [(w, 1.0, n, 1.0) if noise == "jitter" else (w, n, 0.0, 1.0) for w in widths for n in noises]
    log = np.reshape([dense_log_likelihood(problem, *one) for one in args], (61, 61))
    log += WIDTH.log_density(widths)[:, None] + prior.log_density(noises)
    inner = simpson(np.exp(log - log.max()), x=noises, axis=1)
    total = simpson(inner, x=widths)
    assert grid.log_evidence == pytest.approx(np.log(total) + log.max(), abs=5e-3)
    mean = simpson(inner * widths, x=widths) / total
    assert grid.probability().sum(axis=1) @ grid.width == pytest.approx(mean, rel=5e-3)


def test_draws_have_the_moments_of_the_closed_form_when_all_is_fixed():
    problem = make_problem(5, 3, ragged=True)
    draws = integrate_grid(problem, Hyperparameters()).draw(4000, np.random.default_rng(1))
    exact = BlockSolver().solve(problem)
    error = (draws.flux.mean(axis=0) - exact.mean) / exact.std * np.sqrt(4000)
    assert np.abs(error).max() < 4.0
    np.testing.assert_allclose(draws.flux.std(axis=0), exact.std, rtol=0.05)
    cov = np.cov(draws.flux[:, 1].T)
    scale = np.outer(exact.std[1], exact.std[1])
    np.testing.assert_allclose(cov / scale, exact.covariance(1) / scale, atol=0.07)


def test_same_seed_same_bits():
    problem = make_problem(5)
    hyper = Hyperparameters(width="learn", jitter="learn", zero_point="learn")
    first, second = (integrate_grid(problem, hyper).draw(50, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.flux, second.flux)
    np.testing.assert_array_equal(first.zero_point, second.zero_point)


def simulate_ranks(n_simulation, seed, n_draw=99):
    """Draw hyperparameters and fluxes from the prior, data from the model, and rank the truth among the draws."""
    rng = np.random.default_rng(seed)
    base = make_problem(6, 1, seed=2)
    sigma = 0.5 * base.prior.mean
    prior = GaussianPrior.from_sigma(base.prior.mean, sigma)
    hyper = Hyperparameters(width=Hyperprior("half-normal", 0.5), jitter=Hyperprior("half-normal", 5.0))
    ranks = np.empty((n_simulation, 3))
    for count in range(n_simulation):
        width, jitter = hyper.width.draw(1, rng)[0], hyper.jitter.draw(1, rng)[0]
        flux = prior.mean + width * sigma * rng.standard_normal((1, 6))
        noise = np.sqrt(1.0 / base.ivar + jitter**2) * rng.standard_normal(base.data.shape)
        problem = LinearProblem(base.design, base.design.predict(flux) + noise, base.ivar, prior)
        draws = integrate_grid(problem, hyper, n_width=80, n_noise=24).draw(n_draw, rng)
        below = [draws.width < width, draws.noise < jitter, draws.flux[:, 0, 0] < flux[0, 0]]
        ranks[count] = [(one.sum() + rng.uniform()) / (n_draw + 1) for one in below]
    return ranks


@pytest.fixture(scope="module")
def ranks():
    """Ranks of width, jitter and one flux in a hundred simulations."""
    return simulate_ranks(100, 20)


def test_ranks_are_uniform(ranks):
    assert min(kstest(column, "uniform").pvalue for column in ranks.T) > 0.01 / 3


def test_the_rank_test_sees_a_wrong_width(ranks):
    assert kstest(ranks[:, 0] ** 2, "uniform").pvalue < 1e-3


@pytest.mark.slow
def test_ranks_are_uniform_in_3000_simulations():
    many = simulate_ranks(3000, 22)
    assert min(kstest(column, "uniform").pvalue for column in many.T) > 0.01 / 3


def test_refuses_what_a_grid_cannot_do():
    problem = make_problem(3)
    with pytest.raises(UnsupportedError, match="at most one of them to be free"):
        integrate_grid(problem, Hyperparameters(jitter="learn", noise_scale="learn"))
    with pytest.raises(UnsupportedError, match="zero_point: expected a normal prior"):
        integrate_grid(problem, Hyperparameters(zero_point=KAPPA))
    flat = replace(problem, prior=GaussianPrior(problem.prior.mean, np.zeros(3)))
    with pytest.raises(InputError, match="expected finite widths, got a flat prior for coefficient 0"):
        integrate_grid(flat, Hyperparameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0.0}, "width: expected a finite number above 0, got 0"),
        ({"jitter": -1.0}, "jitter: expected a finite number of 0 or more"),
        ({"width": "free"}, "width: expected a number, 'learn' or a Hyperprior"),
        ({"width": Hyperprior("normal", 1.0)}, "width: expected a prior of a positive number"),
    ],
)
def test_hyperparameters_are_checked(changes, message):
    with pytest.raises(InputError, match=message):
        resolve(Hyperparameters(**changes), make_problem(3))


@pytest.mark.parametrize("prior", [WIDTH, KAPPA, Hyperprior("normal", 0.5, 1.0)], ids=lambda one: one.family)
def test_hyperpriors_are_normalised_and_drawn_from(prior):
    x = np.linspace(-8.0, 12.0, 200_001)
    density = np.exp(prior.log_density(x))
    assert simpson(density, x=x) == pytest.approx(1.0, abs=1e-4)
    cdf = np.cumsum(density) * (x[1] - x[0])
    draws = prior.draw(2000, np.random.default_rng(0))
    assert kstest(np.interp(draws, x, cdf), "uniform").pvalue > 1e-3
