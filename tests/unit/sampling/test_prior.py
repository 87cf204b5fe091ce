"""What PyMC draws without data is the declared prior, in every kind of model, and models can be changed."""

import numpy as np
import pymc as pm
import pytest
from pymc.model.fgraph import clone_model
from sampling_scenes import group_data, make_problem

from bayesprf.sampling.collapsed import build_collapsed
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior
from bayesprf.sampling.linear import build_linear

N = 4000
WIDTH, ZERO = Hyperprior("half-normal", 0.5), Hyperprior("normal", 0.2, 1.0)
NOISE = {"jitter": Hyperprior("half-normal", 5.0), "noise_scale": Hyperprior("log-normal", 0.3, 1.1)}
HYPER = Hyperparameters(width=WIDTH, zero_point=ZERO, **NOISE)
SCENES = {
    "one cadence": (lambda: make_problem(4), False),
    "cadences": (lambda: make_problem(4, 3), True),
    "moving": (lambda: make_problem(4, 3, moving=True, ragged=True), True),
}
MODELS = {
    "adaptive": lambda *args: build_linear(*args),
    "whitened": lambda *args: build_linear(*args, form="whitened"),
    "centered": lambda *args: build_linear(*args, form="centered"),
    "robust": lambda *args: build_linear(*args, likelihood="student-t"),
    "collapsed": build_collapsed,
}


@pytest.fixture(
    scope="module",
    params=[*(pytest.param(one, marks=pytest.mark.slow) for one in ("one cadence", "cadences")), "moving"],
)
def scene(request):
    make, with_time = SCENES[request.param]
    problem = make()
    return problem, group_data(problem, with_time=with_time)


def prior_draws(model, n_draw=N):
    """Return draws of everything without data, by name, without the axis of chains."""
    tree = pm.sample_prior_predictive(n_draw, model, random_seed=3, compile_kwargs={"mode": "FAST_COMPILE"})
    groups = [tree["prior"].to_dataset(), tree["prior_predictive"].to_dataset()]
    return {str(name): one.to_numpy()[0] for group in groups for name, one in group.items()}


def assert_moments(draws, mean, sd):
    """Mean and standard deviation agree within 4.5 Monte Carlo errors, these from the draws' own fourth moments."""
    away = draws - draws.mean(axis=0)
    variance = away.var(axis=0) + draws.mean(axis=0) * 0.0
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4.5 * np.sqrt(variance / len(draws)))
    error = np.sqrt(np.mean(away**4, axis=0) - variance**2) / (2.0 * np.sqrt(variance) * np.sqrt(len(draws)))
    assert np.all(np.abs(np.sqrt(variance) - sd) < 4.5 * error)


@pytest.mark.parametrize("kind", MODELS)
def test_the_prior_is_the_declared_one(scene, kind):
    assert_declared_prior(*scene, kind)


def test_the_prior_of_one_cadence_is_the_declared_one():
    problem = make_problem(4)
    assert_declared_prior(problem, group_data(problem, with_time=False), "adaptive")


def assert_declared_prior(problem, data, kind):
    draws = prior_draws(MODELS[kind](problem, data, HYPER))
    assert_moments(draws["width"], 0.5 * np.sqrt(2.0 / np.pi), 0.5 * np.sqrt(1.0 - 2.0 / np.pi))
    assert_moments(draws["zero_point"], 1.0, 0.2)
    assert_moments(draws["jitter"], 5.0 * np.sqrt(2.0 / np.pi), 5.0 * np.sqrt(1.0 - 2.0 / np.pi))
    assert_moments(np.log(draws["noise_scale"]), np.log(1.1), 0.3)
    mean, sigma = problem.prior.mean, problem.prior.precision**-0.5
    sd = np.hypot(0.5 * sigma, 0.2 * mean)
    if kind != "collapsed":
        shape = (problem.n_batch, mean.size) if data.has_time else (mean.size,)
        assert draws["flux"].shape == (N, *shape)
        assert_moments(draws["flux"], np.broadcast_to(mean, shape), np.broadcast_to(sd, shape))


@pytest.mark.parametrize("kind", MODELS)
def test_data_of_the_prior_are_of_the_declared_model(scene, kind):
    """With known width and noise: mean X m, covariance C + X S^2 X', whatever is integrated out."""
    problem, data = scene
    hyper = Hyperparameters(zero_point=Hyperprior("normal", 1e-9, 1.0))
    draws = prior_draws(MODELS[kind](problem, data, hyper))["y"]
    prior, used = problem.prior, problem.ivar > 0
    mean = problem.predict(np.tile(prior.mean, (problem.n_batch, 1)))
    of_flux = [problem.design.matrix(b).power(2) @ (1.0 / prior.precision) for b in range(problem.n_batch)]
    sd = np.sqrt(np.array(of_flux) + 1.0 / np.where(used, problem.ivar, 1.0))
    mean, sd = (one[used] if not used.all() else one.reshape(data.y.shape) for one in (mean, sd))
    if kind == "robust":  # heavy tails without a variance: the median alone
        error = 1.6 * draws.std(axis=0) / np.sqrt(N)
        assert np.all(np.abs(np.median(draws, axis=0) - mean) < 4.5 * error)
    else:
        assert_moments(draws, mean, sd)


def log_density(model, values):
    function = model.logp_dlogp_function(mode="FAST_COMPILE", ravel_inputs=True)
    function.set_extra_values({})
    return function(values)


def size(model):
    return sum(np.size(one) for one in model.initial_point().values())


@pytest.mark.parametrize("kind", MODELS)
def test_models_follow_data_that_are_set(scene, kind):
    """Density and coordinates are those of a model built for the new data; clones agree."""
    problem, data = scene
    hyper = Hyperparameters(width=WIDTH, jitter=1.5)
    other = make_problem(4, problem.n_batch, seed=0, tau=0.5)
    new = problem.__class__(
        problem.design, np.where(problem.ivar > 0, other.data, np.nan), problem.ivar, problem.prior, problem.known
    )
    model, fresh = (MODELS[kind](one, group_data(one, with_time=data.has_time), hyper) for one in (problem, new))
    values = 0.3 * np.random.default_rng(0).standard_normal(size(model))
    before, expected = log_density(model, values)[0], log_density(fresh, values)
    with model:
        pm.set_data({"y_observed": new.data[new.ivar > 0] if not data.used.all() else new.data.reshape(data.y.shape)})
    found = log_density(model, values)
    assert found[0] == pytest.approx(expected[0], rel=1e-11)
    assert abs(found[0] - before) > 0.1
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-7, atol=1e-6)
    assert log_density(clone_model(model), values)[0] == pytest.approx(expected[0], rel=1e-11)


@pytest.mark.parametrize("kind", MODELS)
def test_interventions_fix_hyperparameters(scene, kind):
    problem, data = scene
    free = MODELS[kind](problem, data, Hyperparameters(width=WIDTH, zero_point=ZERO))
    changed = pm.do(free, {"width": 0.3})
    expected = MODELS[kind](problem, data, Hyperparameters(width=0.3, zero_point=ZERO))
    values = 0.3 * np.random.default_rng(0).standard_normal(size(expected))
    if kind != "whitened":  # whose coordinates are those of the width that is fixed
        assert log_density(changed, values)[0] == pytest.approx(log_density(expected, values)[0], rel=1e-10)
    assert [one.name for one in changed.free_RVs] == [one.name for one in expected.free_RVs]


@pytest.mark.parametrize("kind", ["adaptive", "robust"])
def test_fluxes_can_be_observed(scene, kind):
    problem, data = scene
    model = MODELS[kind](problem, data, Hyperparameters(width=WIDTH))
    flux = 1.1 * problem.prior.mean if not data.has_time else np.tile(1.1 * problem.prior.mean, (problem.n_batch, 1))
    observed = pm.observe(model, {"flux": flux})
    assert "flux" not in {one.name for one in observed.free_RVs}
    likelihood = "student-t" if kind == "robust" else "normal"
    centered = build_linear(problem, data, Hyperparameters(width=WIDTH), form="centered", likelihood=likelihood)
    reference = pm.observe(centered, {"flux": flux})
    values = np.full(size(observed), -0.4)
    assert log_density(observed, values)[0] == pytest.approx(log_density(reference, values)[0], rel=1e-10)
