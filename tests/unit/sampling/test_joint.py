"""The joint model of shape and fluxes, and the shape alone: derivatives, densities, Laplace, and (slow) the sampler."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
from scipy.stats import multivariate_normal, norm

import bayesprf as bp
from bayesprf.errors import InputError, NotPositiveDefiniteError
from bayesprf.instruments import TESS
from bayesprf.photometry.groups import component_labels
from bayesprf.sampling.hyper import Hyperprior
from bayesprf.sampling.joint import Misfit, build_joint
from bayesprf.sampling.laplace import GaussianTerm, find_mode
from bayesprf.sampling.questions import ask_group
from bayesprf.sampling.scene import JointPriors, JointScene, misfit_template, with_misfit
from bayesprf.sampling.shape import ShapeScene, build_shape
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def field():
    return make_field(rng=np.random.default_rng(1), n_source=40, n_time=6)


@pytest.fixture(scope="module")
def machine(field):
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint")
    machine.fit_model()
    return machine


@pytest.fixture(scope="module")
def asked(machine):
    target = int(np.argmax(machine.ws.mean(axis=0)))
    return ask_group(machine.fit, "joint", [target], [0, 3], {})


@pytest.fixture(scope="module", params=[None, 0.02], ids=["fixed positions", "free positions"])
def scene(machine, asked, request):
    return JointScene.of(asked.group, machine.fit.prf, JointPriors(position=request.param))


def start_fluxes(scene):
    return np.tile(scene.group.problem.prior.mean, (scene.group.problem.n_batch, 1))


def log_density(model, values):
    function = model.logp_dlogp_function(mode="FAST_COMPILE", ravel_inputs=True)
    function.set_extra_values({})
    return function(values)


def test_prediction_at_the_fitted_shape_is_the_closed_form_model(scene):
    flux = start_fluxes(scene)
    x = np.concatenate([scene.weights, np.zeros(scene.own_sigma.size), flux.ravel()])
    np.testing.assert_allclose(scene.predict(x)[0], scene.group.problem.predict(flux).ravel(), rtol=1e-10)


def test_jacobian_agrees_with_differences(scene):
    rng = np.random.default_rng(4)
    start = np.concatenate([scene.weights, np.zeros(scene.own_sigma.size), start_fluxes(scene).ravel()])
    jacobian = scene.predict(start)[1].toarray()
    for column in rng.choice(start.size, 12, replace=False):
        step = 1e-5 * max(1.0, abs(start[column]))
        high, low = start.copy(), start.copy()
        high[column] += step
        low[column] -= step
        numerical = (scene.predict(high)[0] - scene.predict(low)[0]) / (2.0 * step)
        scale = np.abs(jacobian[:, column]).max() + 1e-12
        np.testing.assert_allclose(jacobian[:, column] / scale, numerical / scale, atol=1e-6)


def test_offsets_move_the_prf(machine, asked):
    scene = JointScene.of(asked.group, machine.fit.prf, JointPriors(position=0.1))
    step = 1e-3
    x = np.concatenate([scene.weights, np.zeros(scene.own_sigma.size), start_fluxes(scene).ravel()])
    x[scene.n_shape] = step
    pairs, prf = machine.fit.prf.pairs, machine.fit.prf.prf
    mine = pairs.source == scene.group.source[0]
    ratio = prf.evaluate(pairs.dx[mine] - step, pairs.dy[mine]) / prf.evaluate(pairs.dx[mine], pairs.dy[mine])
    moved = machine.fit.prf.values[mine] * ratio
    flux = start_fluxes(scene)[0]
    model = np.zeros(machine.npixels)
    model[pairs.pixel[mine]] = flux[0] * moved
    for source, one in zip(scene.group.source[1:], flux[1:], strict=True):
        other = pairs.source == source
        model[pairs.pixel[other]] += one * machine.fit.prf.values[other]
    expected = model[scene.group.pixel] + scene.group.problem.known
    np.testing.assert_allclose(scene.predict(x)[0][: expected.size], expected, rtol=1e-5)


def test_joint_density_is_the_written_out_one(scene, asked):
    laplace = scene.approximate(start_fluxes(scene))
    model = build_joint(scene, asked.data, start=laplace)
    xi = 0.5 * np.random.default_rng(0).standard_normal(laplace.mode.size)
    value, gradient = log_density(model, xi)
    x = laplace.mode + laplace.factor @ xi
    weights, own, flux = scene.split(x)
    problem = scene.group.problem
    used = problem.ivar > 0
    predicted = scene.predict(x)[0].reshape(problem.data.shape)
    expected = norm.logpdf(problem.data[used], predicted[used], problem.ivar[used] ** -0.5).sum()
    expected += multivariate_normal(scene.weights, scene.weights_cov, allow_singular=True).logpdf(weights)
    expected += norm.logpdf(flux, problem.prior.mean, problem.prior.precision**-0.5).sum()
    expected += norm.logpdf(own, 0.0, scene.own_sigma).sum()
    assert value == pytest.approx(expected + np.log(np.diag(laplace.factor)).sum(), rel=1e-8)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 60.0 * np.abs(xi).max()


def prior_draws(model, n_draw=3000):
    """Return draws of everything without data, by name."""
    tree = pm.sample_prior_predictive(n_draw, model, random_seed=3, compile_kwargs={"mode": "FAST_COMPILE"})
    return {str(name): one.to_numpy()[0] for name, one in tree["prior"].to_dataset().items()}


def assert_moments(draws, mean, covariance):
    """Means agree within 4.5 errors; so do the variances along the axes of the covariance."""
    n = len(draws)
    values, vectors = np.linalg.eigh(covariance)
    z = ((draws - mean) @ vectors) / np.sqrt(np.maximum(values, 1e-11))
    assert np.abs(z.mean(axis=0)).max() < 4.5 / np.sqrt(n)
    assert np.abs(z.var(axis=0) - 1.0).max() < 4.5 * np.sqrt(2.0 / n)


def test_the_prior_of_the_joint_model_is_the_declared_one(scene, asked):
    draws, prior = prior_draws(build_joint(scene, asked.data)), scene.group.problem.prior
    assert_moments(draws["psf_w"], scene.weights[:-1], scene.weights_cov[:-1, :-1])
    assert_moments(draws["tail_slope"][:, None], scene.weights[-1:], scene.weights_cov[-1:, -1:])
    flux = draws["flux"].reshape(-1, prior.mean.size)
    assert_moments(flux, prior.mean, np.diag(1.0 / prior.precision))
    own = np.concatenate([draws[name].reshape(len(flux) // scene.group.problem.n_batch, -1) for name in
                          ("offset", "wing") if name in draws], axis=1)  # fmt: skip
    assert_moments(own, 0.0, np.diag(scene.own_sigma**2))


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_the_prior_of_the_shape_is_the_normalised_product_of_smoothness_and_nominal_profile(machine, width):
    scene = ShapeScene.of(machine.fit.prf, machine.fit.prf.image)
    rough, prior = machine.fit.prf.prf.basis.roughness().toarray(), scene.prior
    precision = rough.T @ (prior.ivar[:, None] * rough) / width**2 + np.diag(prior.weights.precision)
    towards = rough.T @ (prior.ivar * prior.expected) / width**2 + prior.weights.precision * prior.weights.mean
    mean, covariance = np.linalg.solve(precision, towards), np.linalg.inv(precision)
    model = build_shape(scene, machine.psf_w, width=width)
    at = machine.psf_w
    value = model.compile_fn(pm.logp(model["psf_w"], at), inputs=[], mode="FAST_COMPILE", point_fn=False)()
    assert value == pytest.approx(multivariate_normal(mean, covariance).logpdf(at), rel=1e-8)
    assert_moments(prior_draws(model, 2000)["psf_w"], mean, covariance)


def test_the_width_of_the_shape_has_its_own_prior(machine):
    """Weights and width factor as p(width) p(weights | width): no pseudo-data pull on the width."""
    scene = ShapeScene.of(machine.fit.prf, machine.fit.prf.image)
    width = np.log(prior_draws(build_shape(scene, machine.psf_w), 2000)["width"])
    assert_moments(width[:, None], 0.0, np.array([[0.25]]))


def test_area_quadrature_is_the_area(scene, machine):
    """At the fit one; elsewhere as the PRF's own, whose wing has another slope."""
    prf = machine.fit.prf.prf
    away = np.append(0.02 * np.random.default_rng(0).standard_normal(scene.n_shape - 1), 0.2)
    other = replace(prf, weights=prf.weights + away[:-1]).with_wing(prf.wing_slope + away[-1])
    assert scene.log_area(scene.weights)[0] == pytest.approx(0.0, abs=1e-12)
    assert scene.log_area(scene.weights + away)[0] == pytest.approx(np.log(other.area()), abs=2e-4)


def test_slope_of_the_wing_takes_light_from_the_core(scene, machine):
    """What the wing gains beyond rmax all pixels within rmax lose alike, as the area says."""
    x = np.concatenate([scene.weights, np.zeros(scene.own_sigma.size), start_fluxes(scene).ravel()])
    flatter = x.copy()
    flatter[scene.n_shape - 1] += 0.1
    before, after = (
        scene.predict(one)[0][: scene.group.pixel.size] - scene.group.problem.known for one in (x, flatter)
    )
    beyond = scene.columns[:, [scene.n_shape - 1]].toarray().ravel() > 0
    inside = np.bincount(scene.pixel, weights=beyond, minlength=before.size) == 0
    assert np.count_nonzero(inside) > 20
    prf = machine.fit.prf.prf
    expected = prf.area() / prf.with_wing(prf.wing_slope + 0.1).area()
    assert expected < 0.999
    np.testing.assert_allclose(after[inside] / before[inside], expected, rtol=1e-5)


def test_joint_error_is_what_the_closed_form_predicts(machine, asked):
    """The fixed-shape covariance plus K C_v K', the shape's error carried into the fluxes, bounds the joint one."""
    scene = JointScene.of(asked.group, machine.fit.prf, JointPriors())
    laplace = scene.approximate(start_fluxes(scene))
    n = scene.columns.shape[1]
    joint = laplace.std[n:]
    jacobian = scene.predict(laplace.mode)[1].toarray()
    ivar = asked.group.problem.ivar.ravel()[:, None]
    of_flux, of_shape = jacobian[:, n:], jacobian[:, :n]
    fixed = np.linalg.inv(of_flux.T @ (ivar * of_flux) + np.diag(scene.prior().precision[n:, n:].diagonal()))
    gain = fixed @ of_flux.T @ (ivar * of_shape)
    cut = fixed + gain @ np.linalg.inv(scene.prior().precision[:n, :n]) @ gain.T
    assert np.all(joint > np.sqrt(np.diag(fixed)))
    assert np.all(joint < 1.001 * np.sqrt(np.diag(cut)))


def test_shape_model_at_width_one_has_its_mode_at_the_fit(machine):
    scene = ShapeScene.of(machine.fit.prf, machine.fit.prf.image)
    laplace = scene.approximate(machine.psf_w)
    model = build_shape(scene, machine.psf_w, width=1.0)
    assert set(model.named_vars_to_dims) >= {"psf_w", "y"}
    gradient = log_density(model, np.zeros(laplace.mode.size))[1]
    np.testing.assert_allclose(gradient, 0.0, atol=0.05)
    core = machine.fit.prf.prf.basis.centers < 8.0
    away = (laplace.mode - machine.psf_w)[core]
    assert np.abs(away).max() < 0.02


@pytest.fixture(scope="module")
def leaning():
    """Three stars of TESS, whose PRF leans on the instrument's record."""
    field = make_field(
        rng=np.random.default_rng(3), n_source=3, n_time=4, layout="image", image_shape=(11, 11), mag_range=(9.5, 11.0),
        min_separation=3.0, instrument=TESS,
    )  # fmt: skip
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    assert machine.fit.prf_recipe.shape.prf == "instrument"
    return machine.fit.prf


def test_a_prf_known_beforehand_counts_in_the_shape_alone(leaning):
    """All pixels that trained the PRF are there, and the mode is the fit, whose fluxes are free, to few errors."""
    scene = ShapeScene.of(leaning, leaning.image)
    assert scene.training.light.size == leaning.training.sum() > 30
    predicted = scene.scale * 10.0 ** (scene.columns @ leaning.prf.weights)
    fluxes = leaning.flux[scene.training.source]
    np.testing.assert_allclose(predicted, fluxes * leaning.values[leaning.training], rtol=1e-9)
    laplace = scene.approximate(leaning.prf.weights)
    core = leaning.prf.basis.centers < 1.5 * TESS.pixel_scale
    away = (laplace.mode - leaning.prf.weights)[core]
    assert np.abs(away).max() < 3.0 * laplace.std[core].max()
    assert np.median(laplace.std[core] / np.sqrt(np.diag(leaning.weights_cov)[core])) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_the_prior_of_the_shape_beside_a_record_is_that_of_the_fit(leaning, width):
    prior, weights = leaning.joint.problem.prior, leaning.prf.weights
    covariance = prior.weights_factor @ prior.weights_factor.T + prior.weights_sigma**2 * np.eye(weights.size)
    model = build_shape(ShapeScene.of(leaning, leaning.image), weights, width=width)
    value = model.compile_fn(pm.logp(model["psf_w"], weights), inputs=[], mode="FAST_COMPILE", point_fn=False)()
    expected = multivariate_normal(prior.weights, width**2 * covariance).logpdf(weights)
    assert value == pytest.approx(expected, rel=1e-6)


def test_star_pixels_are_those_of_the_fit(machine):
    training = machine.fit.prf.star_pixels
    assert training.light.size == machine.fit.prf.training.sum()
    model = training.flux * machine.fit.prf.prf.evaluate(training.dx, training.dy)
    assert np.median(np.abs(training.light - model) / model) < 0.1


def test_find_mode_solves_a_linear_problem_at_once():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((30, 4))
    data = rng.standard_normal(30)
    prior = GaussianTerm(np.ones(4), 2.0 * np.eye(4))
    found = find_mode(lambda x: (matrix @ x, _sparse(matrix)), data, np.full(30, 4.0), prior, np.zeros(4))
    precision = 4.0 * matrix.T @ matrix + 2.0 * np.eye(4)
    np.testing.assert_allclose(found.mode, np.linalg.solve(precision, 4.0 * matrix.T @ data + 2.0), rtol=1e-10)
    np.testing.assert_allclose(found.spread @ found.spread.T, np.linalg.inv(precision), rtol=1e-10)
    with pytest.raises(NotPositiveDefiniteError, match="held by neither data nor prior"):
        find_mode(
            lambda x: (0 * data, _sparse(0 * matrix)), data, np.ones(30), GaussianTerm(np.zeros(4), np.zeros((4, 4))),
            np.zeros(4),
        )  # fmt: skip


def _sparse(matrix):
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix)


def test_gaussian_term_of_the_scene_is_proper(scene):
    prior = scene.prior()
    assert np.all(np.linalg.eigvalsh(prior.precision[: scene.n_shape, : scene.n_shape]) > 0)
    assert multivariate_normal(prior.mean[-2:], np.diag(1.0 / np.diag(prior.precision)[-2:])).logpdf(
        0.0 * prior.mean[-2:]
    )


def test_refuses_an_unknown_likelihood(scene, asked):
    with pytest.raises(InputError, match="likelihood: expected one of 'normal', 'student-t'"):
        build_joint(scene, asked.data, likelihood="poisson")


def closed_form_errors(scene, mode):
    """Return errors of the fluxes with the shape known, and with the shape's prior covariance among the noise."""
    first = scene.columns.shape[1]
    jacobian, prior = scene.predict(mode)[1].toarray(), scene.prior().precision
    of_shape, of_flux = jacobian[:, :first], jacobian[:, first:]
    noise = np.diag(1.0 / scene.group.problem.ivar.ravel())
    wider = noise + of_shape @ np.linalg.solve(prior[:first, :first], of_shape.T)
    return [
        np.sqrt(np.diag(np.linalg.inv(of_flux.T @ np.linalg.solve(one, of_flux) + prior[first:, first:])))
        for one in (noise, wider)
    ]


@pytest.mark.slow
def test_joint_model_of_ten_sources_converges():
    """No divergences, R-hat below 1.01, ESS above 400, and the standard deviations of the Laplace approximation.

    They are larger than with the shape known by the factor that the closed form predicts with C + J V J' for the noise.
    """
    import arviz as az

    from bayesprf.sampling.run import SamplerOptions, sample_model

    field = make_field(rng=np.random.default_rng(1), n_source=60, n_time=8)
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True, n_r_knots=12, n_phi_knots=18)
    machine.build_shape_model(method="joint")
    machine.fit_model()
    label = component_labels(machine.fit.flux.problem.design)
    size = np.bincount(label)[label]
    target = int(np.argmin(np.abs(size - 10)))
    asked = ask_group(machine.fit, "joint", [target], None, {})
    group = with_misfit(asked.group, machine.fit.prf, machine.fit.prf.intrinsic_scatter)
    scene = JointScene.of(group, machine.fit.prf, JointPriors())
    laplace = scene.approximate(start_fluxes(scene))
    data = replace(asked.data, y_err=group.problem.ivar[0] ** -0.5)
    model = build_joint(scene, data, start=laplace)
    tree = sample_model(model, SamplerOptions(draws=2000, tune=1000, chains=4, cores=2, random_seed=1))
    posterior = tree["posterior"].to_dataset()[["flux", "psf_w"]]
    assert int(tree["sample_stats"]["diverging"].sum()) == 0
    assert float(az.rhat(posterior)["psf_w"].max()) < 1.01
    assert float(az.rhat(posterior)["flux"].max()) < 1.01
    assert float(az.ess(posterior)["psf_w"].min()) > 400
    assert float(az.ess(posterior)["flux"].min()) > 400
    std = posterior["flux"].std(("chain", "draw")).to_numpy()
    first = scene.columns.shape[1]
    np.testing.assert_allclose(std, laplace.std[first:], rtol=0.1)
    fixed, predicted = closed_form_errors(scene, laplace.mode)
    factor = predicted / fixed
    assert np.median(factor) > 1.5
    np.testing.assert_allclose(std / fixed, factor, rtol=0.1)


def test_learned_misfit_is_an_error_of_the_pixels(machine, scene, asked):
    """At the median of its prior a learned misfit is the fixed one that `with_misfit` adds to the errors."""
    laplace = scene.approximate(start_fluxes(scene))
    misfit = Misfit(Hyperprior("log-normal", 0.5, 0.003), misfit_template(asked.group, machine.fit.prf))
    free = build_joint(scene, asked.data, start=laplace, misfit=misfit)
    group = with_misfit(asked.group, machine.fit.prf, 0.003)
    assert np.median(group.problem.ivar / asked.group.problem.ivar) < 0.99
    data = replace(asked.data, y_err=group.problem.ivar**-0.5)
    fixed = build_joint(scene, data, start=laplace)
    xi = 0.3 * np.random.default_rng(1).standard_normal(laplace.mode.size)
    assert [one.name for one in free.continuous_value_vars][-1] == "misfit_log__"
    value = log_density(free, np.append(xi, np.log(0.003)))[0]
    of_misfit = float(misfit.prior.log_density(np.array(0.003))) + np.log(0.003)
    assert value == pytest.approx(log_density(fixed, xi)[0] + of_misfit, rel=1e-8)


def fluxes_over_errors(machine, field, scatter, **priors):
    """Return (mode - truth) / sd of the joint model's fluxes in the mean image, all groups of ten stars or fewer."""
    label = component_labels(machine.fit.flux.problem.design)
    z = []
    for one in np.flatnonzero(np.bincount(label) <= 10):
        asked = ask_group(machine.fit, "joint", [int(np.argmax(label == one))], None, {})
        group = with_misfit(asked.group, machine.fit.prf, scatter)
        scene = JointScene.of(group, machine.fit.prf, JointPriors(**priors))
        laplace = scene.approximate(start_fluxes(scene))
        first = scene.columns.shape[1]
        z.extend((laplace.mode[first:] - field.flux[:, group.source].mean(axis=0)) / laplace.std[first:])
    return np.array(z)


def root_mean_square(z):
    return np.sqrt(np.mean(z**2))


def test_errors_hold_outside_the_spline_family():
    """The simulated PRF is no spline, its wing no power law: with slopes of wings fluxes err as they say.

    Stars of a field err together, so that each field counts as few numbers. With wings taken as known, the same fluxes
    err by more than they say. The misfit of the PRF, a ten thousandth of the light in a pixel, is less than noise here.
    """
    errors, known_wings = [], []
    for seed in (1, 3, 4):
        field = make_field(rng=np.random.default_rng(seed), n_source=40, n_time=6)
        machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
        machine.build_shape_model(method="joint", field_variation=0)
        machine.fit_model()
        scatter = machine.fit.prf.intrinsic_scatter
        errors.append(fluxes_over_errors(machine, field, scatter))
        known_wings.append(fluxes_over_errors(machine, field, scatter, tail=1e-5, others=0.0))
        assert errors[-1].size >= 25
        assert np.median(np.abs(errors[-1])) < 1.0
        assert root_mean_square(errors[-1]) < 1.3
    assert 0.7 < root_mean_square(np.concatenate(errors)) < 1.15 < root_mean_square(np.concatenate(known_wings))
