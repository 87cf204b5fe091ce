from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from bayesprf.errors import InputError, ShapeError
from bayesprf.linalg.blocks import BlockSolver
from bayesprf.linalg.dense import DenseSolver
from bayesprf.linalg.evidence import WidthModel, evidence_gradient, find_widths
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.testing import make_problem

N_OBS, N_COEFF = 40, 8
MODEL = WidthModel(np.arange(N_COEFF) // 4, np.arange(N_OBS) % 3 - 1, zero_point=True)


def scaled_problem(n_batch=30, n_part=1, *, width=3.0, noise=1.5, zero=2.0):
    """A problem whose prior widths, errors and prior means are too small by known factors."""
    rng = np.random.default_rng(5)
    problem = make_problem(rng, n_batch=n_batch, n_obs=N_OBS, n_coeff=N_COEFF, n_part=n_part, density=0.3)
    mean = np.full(N_COEFF, 5.0)
    truth = zero * mean + width * rng.normal(size=(n_batch, N_COEFF))
    noise_of = np.where(MODEL.noise_group >= 0, noise, 1.0)
    errors = noise_of * rng.normal(size=problem.ivar.shape) / np.sqrt(problem.ivar)
    data = problem.design.predict(truth) + problem.known + errors
    return replace(problem, data=data, prior=GaussianPrior.from_sigma(mean, np.ones(N_COEFF)))


def data_space_evidence(problem):
    """Sum of log N(y; X m, C + X S X') over batch rows, from scipy."""
    total = 0.0
    for row in range(problem.n_batch):
        matrix = problem.design.matrix(row).toarray()
        covariance = np.diag(1.0 / problem.ivar[row]) + matrix @ np.diag(1.0 / problem.prior.precision) @ matrix.T
        mean = problem.known + matrix @ problem.prior.mean
        total += multivariate_normal(mean, covariance).logpdf(problem.data[row])
    return total


@pytest.mark.parametrize("solver", [DenseSolver(), BlockSolver()], ids=["dense", "block"])
@pytest.mark.parametrize("n_part", [1, 3])
def test_gradient_equals_differences_of_the_data_space_evidence(solver, n_part):
    problem = scaled_problem(n_batch=4, n_part=n_part)
    parameters = np.array([0.3, -0.2, 0.1, -0.4, 1.3])
    value, gradient = evidence_gradient(problem, MODEL, parameters, solver=solver)
    assert value == pytest.approx(data_space_evidence(MODEL.apply(problem, parameters)), rel=1e-10)
    step = 1e-5
    wanted = [
        (
            data_space_evidence(MODEL.apply(problem, parameters + unit))
            - data_space_evidence(MODEL.apply(problem, parameters - unit))
        )
        / (2 * step)
        for unit in step * np.eye(parameters.size)
    ]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("scaled", [True, False])
def test_gradient_with_a_variance_beyond_the_errors(scaled):
    """var = k^2 sigma^2 + e^2 v: inflation and model error share each observation's excess."""
    problem = scaled_problem(n_batch=4)
    problem = replace(problem, ivar=np.where(np.arange(N_OBS) == 7, 0.0, problem.ivar))
    variance = np.random.default_rng(3).uniform(0.1, 9.0, N_OBS)
    model = replace(MODEL, model_variance=variance, model_scale=scaled)
    parameters = np.array([0.3, -0.2, 0.1, -0.4, *([0.2] * scaled), 1.3])
    noise = np.append(np.exp([0.1, -0.4]), 1.0)[MODEL.noise_group]
    applied = model.apply(problem, parameters)
    with np.errstate(divide="ignore"):
        total = noise**2 / problem.ivar + (np.exp(0.4) if scaled else 1.0) * variance
    np.testing.assert_allclose(applied.ivar, 1.0 / total, rtol=1e-13)
    gradient = evidence_gradient(problem, model, parameters)[1]

    def value(at):
        return evidence_gradient(problem, model, at)[0]

    units = 1e-5 * np.eye(parameters.size)
    differences = [(value(parameters + unit) - value(parameters - unit)) / 2e-5 for unit in units]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-5)
    assert ("log_model_scale" in model.names) == scaled


def test_learned_widths_are_the_maximum_of_the_data_space_evidence():
    problem = scaled_problem(n_batch=8)
    learned = find_widths(problem, MODEL)

    def objective(parameters):
        return -data_space_evidence(MODEL.apply(problem, parameters))

    bounds = [(-2, 2)] * 4 + [(0, 5)]
    brute = minimize(objective, MODEL.start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-4})
    found = np.concatenate([np.log(learned.prior_scale), np.log(learned.noise_scale), [learned.zero_point]])
    np.testing.assert_allclose(found, brute.x, atol=1e-4)
    assert learned.log_evidence == pytest.approx(-brute.fun, abs=1e-6)
    units = 1e-3 * np.eye(5)
    hessian = [
        [sum(s * t * objective(found + s * a + t * b) for s in (1, -1) for t in (1, -1)) / 4e-6 for b in units]
        for a in units
    ]
    np.testing.assert_allclose(np.linalg.inv(learned.covariance), hessian, rtol=1e-4, atol=1e-4 * np.max(hessian))
    assert learned.converged


def test_true_widths_are_recovered_within_their_errors():
    learned = find_widths(scaled_problem(n_batch=100), MODEL)
    error = np.sqrt(np.diag(learned.covariance))
    found = np.concatenate([np.log(learned.prior_scale), np.log(learned.noise_scale), [learned.zero_point]])
    truth = np.array([np.log(3.0), np.log(3.0), np.log(1.5), np.log(1.5), 2.0])
    assert np.abs((found - truth) / error).max() < 3.5
    assert error.max() < 0.1


def test_learned_problem_carries_the_learned_values_and_leaves_the_rest():
    problem = scaled_problem()
    learned = find_widths(problem, WidthModel(noise_group=MODEL.noise_group))
    fixed = MODEL.noise_group < 0
    np.testing.assert_array_equal(learned.problem.ivar[:, fixed], problem.ivar[:, fixed])
    ratio = np.sqrt(problem.ivar / learned.problem.ivar)[:, ~fixed]
    np.testing.assert_allclose(ratio, np.broadcast_to(learned.noise_scale[MODEL.noise_group[~fixed]], ratio.shape))
    np.testing.assert_array_equal(learned.problem.prior.precision, problem.prior.precision)
    assert (learned.zero_point, learned.prior_scale.size) == (1.0, 0)
    assert learned.names == ("log_noise_scale[0]", "log_noise_scale[1]")


def test_a_width_that_wants_to_be_zero_is_reported():
    problem = scaled_problem()
    exact = problem.design.predict(np.tile(problem.prior.mean, (problem.n_batch, 1))) + problem.known
    problem = replace(problem, data=exact)
    learned = find_widths(problem, WidthModel(prior_group=np.zeros(N_COEFF, np.int64)))
    assert not learned.converged
    assert np.isnan(learned.covariance).all()


def test_learning_nothing_is_refused():
    with pytest.raises(InputError, match="expected something to learn"):
        WidthModel(prior_group=np.full(3, -1))


def test_groups_with_gaps_are_refused():
    with pytest.raises(InputError, match=r"prior_group: expected groups 0, 1, 2, .* without gaps"):
        WidthModel(prior_group=np.array([0, 2]))


def test_flat_prior_is_refused():
    problem = scaled_problem(n_batch=1)
    flat = replace(problem, prior=GaussianPrior(np.zeros(N_COEFF), np.zeros(N_COEFF)))
    with pytest.raises(InputError, match="problem: expected a proper prior, got precision 0 at coefficient 0"):
        find_widths(flat, MODEL)


def test_a_model_scale_needs_a_variance():
    with pytest.raises(InputError, match="model_variance: expected a variance per observation to scale, got None"):
        WidthModel(model_scale=True)


def test_groups_of_the_wrong_length_are_refused():
    with pytest.raises(ShapeError, match=r"model_variance: expected shape \(40,\)"):
        find_widths(scaled_problem(n_batch=1), WidthModel(zero_point=True, model_variance=np.ones(3)))
    with pytest.raises(ShapeError, match=r"noise_group: expected shape \(40,\)"):
        find_widths(scaled_problem(n_batch=1), WidthModel(noise_group=np.zeros(3, np.int64)))
