from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from bayesprf.errors import InputError, ShapeError
from bayesprf.linalg.evidence import Evidence, maximise_evidence
from bayesprf.linalg.hyperparameters import HYPER_NAMES, Hyperparameters
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.testing import make_problem

N_OBS, N_COEFF = 40, 8
GROUPS = {"width_group": np.arange(N_COEFF) // 4, "noise_group": np.arange(N_OBS) % 3 - 1}
MODEL = Hyperparameters(width="learn", noise_scale="learn", zero_point="learn", **GROUPS)
POINT = {"width": np.array([1.3, 0.8]), "noise_scale": np.array([1.1, 0.7]), "zero_point": 1.3}


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


def differences(value, hyper, names):
    """Return central differences of a function of hyperparameters, by name."""
    found = {}
    for name in names:
        at = np.atleast_1d(getattr(hyper, name)).astype(float)
        units = 1e-5 * np.eye(at.size)
        moved = [[replace(hyper, **{name: at + sign * one}) for one in units] for sign in (1, -1)]
        found[name] = [(value(a) - value(b)) / 2e-5 for a, b in zip(*moved, strict=True)]
    return found


@pytest.mark.parametrize("n_part", [1, 3])
def test_gradient_equals_differences_of_the_data_space_evidence(n_part):
    problem = scaled_problem(n_batch=4, n_part=n_part)
    hyper = replace(MODEL, jitter=0.4, **POINT)
    names = ("width", "zero_point", "noise_scale", "jitter")
    value, gradient = Evidence.of(problem).gradient(hyper, names)
    assert value == pytest.approx(data_space_evidence(hyper.apply(problem)), rel=1e-10)
    wanted = differences(lambda at: data_space_evidence(at.apply(problem)), hyper, names)
    for name in names:
        np.testing.assert_allclose(gradient[name], wanted[name], rtol=1e-6, atol=1e-5)


def test_gradient_with_a_variance_beyond_the_errors():
    """var = k^2 (sigma^2 + j^2) + e^2 v: inflation, jitter and model error share each observation's excess."""
    problem = scaled_problem(n_batch=4)
    problem = replace(problem, ivar=np.where(np.arange(N_OBS) == 7, 0.0, problem.ivar))
    variance = np.random.default_rng(3).uniform(0.1, 9.0, N_OBS)
    hyper = replace(MODEL, model_variance=variance, model_error=1.2, jitter=0.5, **POINT)
    noise = np.append(POINT["noise_scale"], 1.0)[MODEL.noise_group]
    with np.errstate(divide="ignore"):
        total = noise**2 * (1.0 / problem.ivar + 0.25) + 1.44 * variance
    np.testing.assert_allclose(hyper.apply(problem).ivar, 1.0 / total, rtol=1e-13)
    gradient = Evidence.of(problem).gradient(hyper)[1]
    wanted = differences(lambda at: Evidence.of(problem).gradient(at)[0], hyper, HYPER_NAMES)
    for name in HYPER_NAMES:
        np.testing.assert_allclose(gradient[name], wanted[name], rtol=1e-6, atol=1e-5)


def vector(hyper):
    """Return what was learned as one vector."""
    return np.concatenate([np.log(hyper.width), np.log(hyper.noise_scale), [hyper.zero_point]])


def test_learned_widths_are_the_maximum_of_the_data_space_evidence():
    problem = scaled_problem(n_batch=8)
    learned = maximise_evidence(problem, MODEL)

    def objective(at):
        scales = np.exp(at[:4])
        hyper = replace(MODEL, width=scales[:2], noise_scale=scales[2:], zero_point=at[4])
        return -data_space_evidence(hyper.apply(problem))

    bounds = [(-2, 2)] * 4 + [(0, 5)]
    brute = minimize(
        objective,
        np.array([0.0, 0.0, 0.0, 0.0, 1.0]),
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-15, "gtol": 1e-4},
    )
    found = vector(learned.hyper)
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
    learned = maximise_evidence(scaled_problem(n_batch=100), MODEL)
    error = np.sqrt(np.diag(learned.covariance))
    found = vector(learned.hyper)
    truth = np.array([np.log(3.0), np.log(3.0), np.log(1.5), np.log(1.5), 2.0])
    assert np.abs((found - truth) / error).max() < 3.5
    assert error.max() < 0.1


def test_learned_problem_carries_the_learned_values_and_leaves_the_rest():
    problem = scaled_problem()
    learned = maximise_evidence(problem, Hyperparameters(noise_scale="learn", noise_group=MODEL.noise_group))
    fixed = MODEL.noise_group < 0
    np.testing.assert_array_equal(learned.problem.ivar[:, fixed], problem.ivar[:, fixed])
    ratio = np.sqrt(problem.ivar / learned.problem.ivar)[:, ~fixed]
    np.testing.assert_allclose(
        ratio, np.broadcast_to(learned.hyper.noise_scale[MODEL.noise_group[~fixed]], ratio.shape)
    )
    np.testing.assert_array_equal(learned.problem.prior.precision, problem.prior.precision)
    assert (learned.hyper.zero_point, learned.hyper.width) == (1.0, 1.0)
    assert learned.names == ("log noise scale[0]", "log noise scale[1]")


def test_a_width_that_wants_to_be_zero_has_no_maximum():
    problem = scaled_problem()
    exact = problem.design.predict(np.tile(problem.prior.mean, (problem.n_batch, 1))) + problem.known
    problem = replace(problem, data=exact)
    learned = maximise_evidence(problem, Hyperparameters(width="learn"))
    assert not learned.converged
    assert np.isnan(learned.covariance).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "hyper: expected something to learn, got only numbers"),
        ({"width": "learn", "width_group": np.full(N_COEFF, -1)}, "hyper: expected something to learn"),
        ({"jitter": "learn", "width": "learn"}, "jitter: expected a number, got 'learn'"),
        ({"width": "learn", "width_group": np.array([0, 2])}, r"width_group: expected groups 0, 1, 2, .* without gaps"),
        ({"model_error": "learn"}, "model_variance: expected a variance per observation to scale, got None"),
    ],
)
def test_what_cannot_be_learned_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        maximise_evidence(scaled_problem(n_batch=1), Hyperparameters(**settings))


def test_flat_prior_is_refused():
    problem = scaled_problem(n_batch=1)
    flat = replace(problem, prior=GaussianPrior(np.zeros(N_COEFF), np.zeros(N_COEFF)))
    with pytest.raises(InputError, match="prior: expected finite widths, got a flat prior for coefficient 0"):
        maximise_evidence(flat, MODEL)


def test_groups_of_the_wrong_length_are_refused():
    problem = scaled_problem(n_batch=1)
    with pytest.raises(ShapeError, match=r"model_variance: expected shape \(40,\)"):
        maximise_evidence(problem, Hyperparameters(zero_point="learn", model_variance=np.ones(3)))
    with pytest.raises(ShapeError, match=r"noise_group: expected shape \(40,\)"):
        maximise_evidence(problem, Hyperparameters(noise_scale="learn", noise_group=np.zeros(3, np.int64)))
