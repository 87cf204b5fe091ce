"""NUTS on the hyperparameters alone: density and gradient, exact fluxes, and agreement with grid and full model."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import arviz as az
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from sampling_scenes import group_data, make_problem

from bayesprf.errors import ConvergenceWarning, InputError, MissingDependencyError, UnsupportedError
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.sampling.collapsed import (
    Conditional,
    LogEvidence,
    build_collapsed,
    draw_coefficients,
    find_start,
    sample_collapsed,
    use_jax,
)
from bayesprf.sampling.draws import grid_tree
from bayesprf.sampling.grid import Marginal, integrate_grid
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior, resolve
from bayesprf.sampling.linear import build_linear
from bayesprf.sampling.run import SamplerOptions, sample_posterior
from bayesprf.sampling.spectrum import Decomposer

WIDTH, JITTER = Hyperprior("half-normal", 0.5), Hyperprior("half-normal", 5.0)
ALL = Hyperparameters(width=WIDTH, jitter=JITTER, zero_point="learn", noise_scale="learn")
CASES = {"plain": {}, "cadences": {"n_time": 3}, "moving": {"n_time": 3, "moving": True, "ragged": True}}
POINT = np.array([0.2, 0.9, 1.2, 1.5])


@pytest.mark.parametrize("case", CASES)
def test_density_is_the_marginal_likelihood(case):
    problem = make_problem(5, **CASES[case])
    ours = Conditional.of(problem, resolve(ALL, problem)).density(POINT)[0]
    marginal = Marginal.of(Decomposer(problem).at(1.5))
    assert ours == pytest.approx(marginal.log_likelihood(np.array([0.2]), np.array([1.2]), 0.9)[0], rel=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_gradient_agrees_with_differences(case):
    problem = make_problem(5, **CASES[case])
    hyper = Hyperparameters(width="learn", jitter="learn", width_group=np.array([0, 1, 0, 1, 1]))
    conditional = Conditional.of(problem, resolve(hyper, problem))
    point = np.append(0.3, POINT)
    gradient = conditional.density(point)[1]
    ahead, behind = ([conditional.density(point + step * unit)[0] for unit in np.eye(5)] for step in (1e-5, -1e-5))
    np.testing.assert_allclose(gradient, (np.array(ahead) - behind) / 2e-5, rtol=1e-6)


def test_model_has_density_and_gradient_of_the_hyperparameters():
    problem = make_problem(4, 2)
    model = build_collapsed(problem, group_data(problem), Hyperparameters(width=WIDTH, zero_point="learn", jitter=1.5))
    assert {one.name for one in model.free_RVs} == {"width", "zero_point"}
    function = model.logp_dlogp_function(mode="FAST_COMPILE", ravel_inputs=True)
    function.set_extra_values({})
    value, gradient = function(np.array([np.log(0.2), 0.9]))
    marginal = Marginal.of(Decomposer(problem).at(1.5))
    expected = marginal.log_likelihood(np.array([0.2]), np.ones(1), 0.9)[0] + np.log(0.2)
    expected += float(WIDTH.log_density(np.array(0.2)) + Hyperprior("normal", 0.5, 1.0).log_density(np.array(0.9)))
    assert value == pytest.approx(expected, rel=1e-10)
    steps = 1e-5 * np.eye(2)
    ahead, behind = ([function(np.array([np.log(0.2), 0.9]) + sign * one)[0] for one in steps] for sign in (1, -1))
    np.testing.assert_allclose(gradient, (np.array(ahead) - behind) / 2e-5, rtol=1e-6)


@pytest.mark.parametrize("build", [build_collapsed, build_linear])
def test_noise_scale_and_jitter_keep_their_priors_in_the_coordinate_of_the_total_noise(build):
    """Moving the total noise at fixed jitter changes the density as moving the noise scale does, with the Jacobian."""
    problem = make_problem(3)
    hyper = Hyperparameters(jitter=JITTER, noise_scale=Hyperprior("log-normal", 0.3, 1.1))
    model = build(problem, group_data(problem), hyper)
    scale_of, jitter_of = (model.rvs_to_values[model[name]] for name in ("noise_scale", "jitter"))
    assert (scale_of.name, jitter_of.name) == ("noise_scale_total__", "jitter_log__")
    density = sum(model.logp(vars=[model[name]]) for name in ("noise_scale", "jitter"))
    total, jitter = 0.2, 2.0
    found = model.compile_fn(density, inputs=[scale_of, jitter_of], mode="FAST_COMPILE", point_fn=False)
    scale = np.exp(total) / np.hypot(1.0, jitter / np.median(problem.ivar**-0.5))
    expected = hyper.noise_scale.log_density(np.array(scale)) + np.log(scale)
    expected += JITTER.log_density(np.array(jitter)) + np.log(jitter)
    assert found(total, np.log(jitter)) == pytest.approx(float(expected), abs=1e-7)


def test_fluxes_given_hyperparameters_are_those_of_the_solver():
    problem = make_problem(4, 2, ragged=True)
    hyper = resolve(Hyperparameters(width="learn", zero_point=1.1, jitter=2.0), problem)
    conditional = Conditional.of(problem, hyper)
    draws = draw_coefficients(conditional, {"width": np.full(4000, 0.3)}, np.random.default_rng(0))
    exact = choose_solver(problem).solve(conditional.at(np.array([0.3, 1.1, 1.0, 2.0])).apply(problem))
    z = (draws.mean(axis=0) - exact.mean) / exact.std * np.sqrt(4000)
    assert np.abs(z).max() < 4.0
    np.testing.assert_allclose(draws.std(axis=0), exact.std, rtol=0.05)


def sample(problem, hyper, seed, **options):
    settings = SamplerOptions(**{"draws": 600, "tune": 300, "chains": 2, "cores": 1, "random_seed": seed, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        data = group_data(problem, with_time=problem.n_batch > 1)
        return sample_collapsed(problem, hyper, data, np.arange(problem.design.n_coeff), settings)


def assert_agree(ours, reference, names):
    """Means agree within 4 Monte Carlo standard errors."""
    for name in names:
        one, other = ours[f"posterior/{name}"], reference[f"posterior/{name}"]
        error = np.hypot(az.mcse(one), az.mcse(other))
        z = (one.mean(("chain", "draw")) - other.mean(("chain", "draw"))) / error
        assert float(np.abs(z).max()) < 4.0, name


@pytest.fixture(scope="module")
def problem():
    return make_problem(5)


@pytest.fixture(scope="module")
def sampled(problem):
    """Sampled by PyTensor's virtual machine, which calls the Op itself; `test_several_widths` compiles it."""
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        return sample(problem, Hyperparameters(width=WIDTH, jitter=JITTER), 3, sampler="pymc")


@pytest.fixture(scope="module")
def gridded(problem):
    grid = integrate_grid(problem, Hyperparameters(width=WIDTH, jitter=JITTER))
    return grid_tree(grid, group_data(problem, with_time=False), np.arange(5), (4, 1000), rng=np.random.default_rng(0))


def test_agrees_with_the_grid_in_two_hyperparameters(sampled, gridded):
    assert_agree(sampled, gridded, ("width", "jitter", "flux"))


def test_has_the_layout_of_the_grid(sampled, gridded):
    assert set(sampled.children) - {"sample_stats"} == set(gridded.children)
    for group in gridded.children:
        ours, exact = sampled[group].to_dataset(), gridded[group].to_dataset()
        assert {name: one.dims for name, one in ours.items()} == {name: one.dims for name, one in exact.items()}
    assert sampled.attrs["sampler"] == "NUTS, coefficients integrated out"
    assert "divergences" in sampled.attrs["convergence"]


def test_the_start_is_the_most_probable_point_of_the_samplers_coordinates(problem):
    model = build_collapsed(
        problem, group_data(problem), Hyperparameters(width=WIDTH, jitter=JITTER, zero_point="learn")
    )
    start = find_start(model)
    assert set(start) == {"width", "jitter", "zero_point"}
    function = model.logp_dlogp_function(mode="FAST_COMPILE", ravel_inputs=True)
    function.set_extra_values({})
    logs = {"width_log__": np.log(start["width"]), "jitter_log__": np.log(start["jitter"])}
    at = [np.ravel({**start, **logs}[one.name]) for one in model.continuous_value_vars]
    assert np.abs(function(np.concatenate(at))[1]).max() < 0.05


def test_second_derivatives_are_those_of_the_gradient(problem):
    """Laplace approximations and optimisers ask for them; with the data there is no derivative, and it is said."""
    model = build_collapsed(problem, group_data(problem), Hyperparameters(width=WIDTH, jitter=JITTER))
    function = model.logp_dlogp_function(mode="FAST_COMPILE", ravel_inputs=True)
    function.set_extra_values({})
    at = np.array([-1.5, 0.4])
    hessian = model.compile_d2logp(mode="FAST_COMPILE", negate_output=False)(
        {"width_log__": at[0], "jitter_log__": at[1]}
    )
    rows = [(function(at + step)[1] - function(at - step)[1]) / 2e-4 for step in 1e-4 * np.eye(2)]
    np.testing.assert_allclose(hessian, rows, rtol=1e-5, atol=1e-6)
    with pytest.raises(Exception, match="the evidence has no gradient with the data"):
        pt.grad(model.logp(), model["y_observed"]).eval()


@pytest.mark.slow  # 26 s
def test_several_widths():
    """Stars of two groups with true widths 0.05 and 0.5: each learns its own."""
    problem = make_problem(30, 4, tau=0.0, seed=3)
    group = np.arange(30) % 2
    truth = np.array([0.05, 0.5])
    rng = np.random.default_rng(1)
    mu = problem.prior.mean
    flux = mu * (1.0 + truth[group] * rng.standard_normal((4, 30)))
    at_mean = problem.predict(np.tile(mu, (4, 1)))
    moved = type(problem)(
        problem.design, problem.data - at_mean + problem.predict(flux), problem.ivar, problem.prior, problem.known
    )
    hyper = Hyperparameters(width=WIDTH, width_group=group)
    tree = sample(moved, hyper, 5, draws=400, tune=300, sampler="pymc")
    width = tree["posterior/width"]
    assert width.dims == ("chain", "draw", "width_group")
    z = (width.mean(("chain", "draw")) - truth) / width.std(("chain", "draw"))
    assert float(np.abs(z).max()) < 3.0
    assert tree["prior/width"].shape == width.shape
    assert tree["log_prior/flux"].shape == tree["posterior/flux"].shape


def test_centered_model_takes_several_widths():
    problem = make_problem(4)
    hyper = Hyperparameters(width=WIDTH, width_group=np.array([0, 0, 1, 1]))
    model = build_linear(problem, group_data(problem), hyper, form="centered")
    assert model.named_vars_to_dims["width"] == ("width_group",)
    with pytest.raises(UnsupportedError, match="width_group: expected form='centered'"):
        build_linear(problem, group_data(problem), hyper)


def test_refusals():
    problem = make_problem(3)
    with pytest.raises(InputError, match="hyper: expected a free hyperparameter, got only numbers"):
        build_collapsed(problem, group_data(problem), Hyperparameters())
    with pytest.raises(InputError, match=r"width_group: expected groups 0, 1, 2, \.\.\. without gaps"):
        build_collapsed(problem, group_data(problem), Hyperparameters(width="learn", width_group=np.array([0, 2, 2])))
    with pytest.raises(UnsupportedError, match="width_group: expected one width on the grid, got several"):
        integrate_grid(problem, Hyperparameters(width="learn", width_group=np.array([0, 1, 1])))


@pytest.mark.slow
@pytest.mark.parametrize("free", ["three", "four"])
def test_agrees_with_the_full_model_in_more_hyperparameters(free):
    problem = make_problem(20, 2, seed=4)
    hyper = ALL if free == "four" else Hyperparameters(width=WIDTH, jitter=JITTER, noise_scale="learn")
    options = SamplerOptions(draws=4000, tune=1000, chains=4, cores=2, random_seed=1, target_accept=0.95)
    ours = sample(problem, hyper, 2, draws=4000, tune=1000, chains=4, cores=2, target_accept=0.95)
    data = group_data(problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        full = sample_posterior(build_linear(problem, data, hyper), data, options)
    assert float(az.ess(full["posterior/jitter"])) > 1000
    assert_agree(ours, full, (*resolve(hyper, problem).free, "flux"))


def test_jax_is_refused_in_words():
    """PyTensor prints the Op that it cannot convert: its name says what to do."""
    problem = make_problem(4)
    op = LogEvidence(Conditional.of(problem, resolve(ALL, problem)))
    assert str(op) == "LogEvidence, for numba and C; for JAX call bayesprf.sampling.collapsed.use_jax() first"


def test_jax_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="use_jax: JAX is not installed; run pip install jax, or sample"):
        use_jax()


JAX = """
import sys
import numpy as np, jax
from pymc.sampling.jax import get_jaxified_graph
from sampling_scenes import group_data, make_problem
from bayesprf.sampling.collapsed import build_collapsed, use_jax
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior

problem = make_problem(4, 2)
hyper = Hyperparameters(width=Hyperprior("half-normal", 0.5), zero_point="learn", jitter=1.5)
model = build_collapsed(problem, group_data(problem), hyper)
point = np.array([np.log(0.2), 0.9])
try:
    get_jaxified_graph(inputs=model.value_vars, outputs=[model.logp()])
except NotImplementedError as error:
    assert "call bayesprf.sampling.collapsed.use_jax() first" in str(error), error
use_jax()
plain = model.logp_dlogp_function(mode="FAST_COMPILE", ravel_inputs=True)
plain.set_extra_values({})
value, slope = plain(point)
program = get_jaxified_graph(inputs=model.value_vars, outputs=[model.logp()])
density = lambda v: program(v[0], v[1])[0]
found, gradient = jax.jit(jax.value_and_grad(density))(point)
np.testing.assert_allclose([found, *gradient], [value, *slope], rtol=1e-10)
second = model.compile_d2logp(mode="FAST_COMPILE", negate_output=False)
expected = second({"width_log__": point[0], "zero_point": point[1]})
np.testing.assert_allclose(jax.jit(jax.hessian(density))(point), expected, rtol=1e-6)
np.testing.assert_allclose(jax.vmap(density)(np.stack([point, point])), found, rtol=1e-12)
"""


def test_jax_calls_the_same_evidence():
    """Density, gradient, second derivatives and rows of a vmap; in a process of its own, as JAX starts threads."""
    pytest.importorskip("jax", reason="JAX is optional")
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", JAX], env={**os.environ, "PYTHONPATH": here}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
