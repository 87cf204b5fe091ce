"""The PyMC models have the density of the closed form, named axes, sparse products and finite gradients."""

import numpy as np
import pymc as pm
import pytest
from sampling_scenes import group_data, make_problem
from scipy.stats import multivariate_normal, norm, t

from bayesprf.errors import InputError, ShapeError, UnsupportedError
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.sampling.grid import Marginal
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior, resolve
from bayesprf.sampling.linear import build_linear
from bayesprf.sampling.spectrum import Decomposer

SCENES = {
    "one cadence": lambda: (make_problem(5), False),
    "cadences": lambda: (make_problem(4, 3), True),
    "moving": lambda: (make_problem(4, 3, moving=True, ragged=True), True),
}


@pytest.fixture(params=SCENES, scope="module")
def scene(request):
    problem, with_time = SCENES[request.param]()
    return problem, group_data(problem, with_time=with_time)


def log_density(model, point):
    """Return log density and gradient at a point given by name."""
    function = model.logp_dlogp_function(mode="FAST_COMPILE", ravel_inputs=True)
    function.set_extra_values({})
    return function(np.concatenate([np.ravel(point[one.name]) for one in function._grad_vars]))


@pytest.mark.parametrize("likelihood", ["normal", "statistics"])
def test_whitened_density_is_evidence_times_standard_normal(scene, likelihood):
    problem, data = scene
    model = build_linear(problem, data, likelihood=likelihood)
    xi = np.random.default_rng(0).standard_normal(problem.n_batch * problem.design.n_coeff)
    value, gradient = log_density(model, {"flux_whitened__": xi})
    expected = BlockSolver().solve(problem).log_evidence.sum() + norm.logpdf(xi).sum()
    assert value == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(gradient, -xi, atol=1e-5)


@pytest.mark.parametrize("likelihood", ["normal", "statistics"])
def test_centered_density_is_evidence_times_posterior(scene, likelihood):
    problem, data = scene
    model = build_linear(problem, data, form="centered", likelihood=likelihood)
    exact = BlockSolver().solve(problem)
    flux = exact.draws(1, np.random.default_rng(1))[0]
    value, gradient = log_density(model, {"flux": flux})
    expected = exact.log_evidence.sum()
    for row in range(problem.n_batch):
        expected += multivariate_normal(exact.mean[row], exact.covariance(row)).logpdf(flux[row])
    assert value == pytest.approx(expected, rel=1e-9)
    assert np.isfinite(gradient).all()


def test_density_with_free_hyperparameters(scene):
    """Integrated over xi, which is normal and independent at the fiducial noise, the model is the marginal."""
    problem, data = scene
    hyper = Hyperparameters(width="learn", zero_point="learn", noise_scale="learn", jitter=1.5)
    model = build_linear(problem, data, hyper)
    point = {"width": 0.2, "zero_point": 0.9, "noise_scale": 1.3}
    priors = resolve(hyper, problem).free
    marginal = Marginal.of(Decomposer(problem).at(1.5))
    expected = marginal.log_likelihood(np.array([0.2]), np.array([1.3]), 0.9)[0]
    expected += sum(float(priors[name].log_density(np.array(value))) for name, value in point.items())
    expected += np.log(0.2) + np.log(1.3)  # Jacobians of the logarithms that PyMC samples
    xi = np.random.default_rng(2).standard_normal(problem.n_batch * problem.design.n_coeff)
    values = {"width_log__": np.log(0.2), "zero_point": 0.9, "noise_scale_log__": np.log(1.3), "flux_whitened__": xi}
    value, gradient = log_density(model, values)
    assert value == pytest.approx(expected + norm.logpdf(xi).sum(), rel=1e-9)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("form", ["adaptive", "whitened"])
def test_forms_have_the_same_density_of_the_fluxes(form):
    """log p(xi) minus the Jacobian of flux(xi) is the same density of the fluxes in all forms."""
    problem = make_problem(4, jitter=3.0)
    data = group_data(problem, with_time=False)
    hyper = Hyperparameters(width=Hyperprior("half-normal", 0.5), jitter=Hyperprior("half-normal", 5.0))
    model = build_linear(problem, data, hyper, form=form)
    reference = build_linear(problem, data, hyper, form="centered")
    start = {"width_log__": np.log(0.3), "jitter_log__": np.log(2.5)}
    values = [model.rvs_to_values[one] for one in model.free_RVs]
    (flux,) = model.replace_rvs_by_values([model["flux"]])
    flux_of = model.compile_fn(flux, inputs=values, mode="FAST_COMPILE", on_unused_input="ignore")
    base = {**start, "flux_whitened__": np.full(4, 0.3)}
    moved = [base["flux_whitened__"] + step for step in (np.zeros(4), *np.eye(4))]
    fluxes = [flux_of({**base, "flux_whitened__": one}) for one in moved]
    jacobian = np.linalg.slogdet(np.array(fluxes[1:]) - fluxes[0])[1]
    ours = log_density(model, base)[0] - jacobian
    assert ours == pytest.approx(log_density(reference, {**start, "flux": fluxes[0]})[0], rel=1e-9)


def test_student_t_density():
    problem = make_problem(4)
    model = build_linear(problem, group_data(problem, with_time=False), form="centered", likelihood="student-t")
    flux = problem.prior.mean * 1.05
    value = log_density(model, {"flux": flux, "nu_log__": np.log(4.0)})[0]
    z = (problem.data[0] - problem.predict(flux[None])[0]) * np.sqrt(problem.ivar[0])
    expected = t.logpdf(z, 4.0).sum() + 0.5 * np.log(problem.ivar[0]).sum()
    expected += norm.logpdf(flux, problem.prior.mean, problem.prior.precision**-0.5).sum()
    expected += np.log(0.1**2 * 4.0) - 0.4 + np.log(4.0)
    assert value == pytest.approx(expected, rel=1e-9)


def test_axes_are_named(scene):
    problem, data = scene
    model = build_linear(problem, data, Hyperparameters(width="learn"))
    assert list(model.coords["source"]) == list(data.source)
    assert model.named_vars_to_dims["flux"] == (("time", "source") if data.has_time else ("source",))
    pixels = (("time", "pixel") if data.has_time else ("pixel",)) if data.used.all() else ("observation",)
    assert model.named_vars_to_dims["y"] == pixels
    observed = model.rvs_to_values[model["y"]].get_value()
    np.testing.assert_array_equal(observed, data.y if data.used.all() else data.y[data.used])


def test_products_stay_sparse(scene):
    problem, data = scene
    model = build_linear(problem, data)
    function = model.compile_fn(model.datalogp, mode="FAST_COMPILE")
    names = {type(node.op).__name__ for node in function.f.maker.fgraph.apply_nodes}
    assert names & {"StructuredDot", "StructuredDotCSC", "StructuredDotCSR"}
    assert "Dot" not in names


def test_priors_may_be_any_pymc_variable():
    problem = make_problem(3)
    data = group_data(problem, with_time=False)
    model = build_linear(problem, data, priors={"width": lambda name: pm.HalfCauchy(name, 1.0)})
    assert "width" in model.named_vars
    assert np.isfinite(log_density(model, {"width_log__": 0.0, "flux_whitened__": np.zeros(3)})[0])


def test_refuses_what_it_does_not_know():
    problem = make_problem(3, 2)
    data = group_data(problem)
    with pytest.raises(InputError, match="form: expected one of 'adaptive', 'centered', 'whitened', got 'naive'"):
        build_linear(problem, data, form="naive")
    with pytest.raises(InputError, match="likelihood: expected one of 'normal'"):
        build_linear(problem, data, likelihood="cauchy")
    with pytest.raises(UnsupportedError, match="'statistics' needs a fixed jitter"):
        build_linear(problem, data, Hyperparameters(jitter="learn"), likelihood="statistics")
    with pytest.raises(ShapeError, match="data: expected shape"):
        build_linear(problem, group_data(make_problem(3, 3)))
