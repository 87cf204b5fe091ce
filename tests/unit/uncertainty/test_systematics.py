"""Errors common to all cadences: responses by finite differences, widths by the truth."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import StageError
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.machine import Machine
from bayesprf.prf.joint.problem import look
from bayesprf.prf.joint.sums import star_sums
from bayesprf.scene.prf import prf_gradients
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.simulation.fields import make_field
from bayesprf.uncertainty.joint_errors import _position_factor
from bayesprf.uncertainty.systematics import NuisanceWidths, fit_common_errors, fit_wing_error, wing_light

POSITION_ERROR = 0.08  # arcsec


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(3),
        n_source=70,
        n_time=20,
        mag_range=(12.0, 16.5),
        position_scatter=POSITION_ERROR,
        catalog_scale=1.3,
    )


@pytest.fixture(scope="module")
def plain(field):
    """Positions are held at the catalogue's."""
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(refine=False, method="joint", field_variation=0)
    machine.fit_model()
    return machine


@pytest.fixture(scope="module")
def refined(field):
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.refine_scene(method="joint", field_variation=0)
    machine.fit_model()
    return machine


def mean_flux_of(machine, values, known=None):
    """Fluxes of the mean image under other PRF values, at the errors of a typical cadence."""
    shape = machine.fit.prf
    image = machine.pixels.flux.mean(axis=0)[None]
    ivar = machine.pixels.ivar.mean(axis=0)[None]
    problem = LinearProblem(
        PrfMatrix.constant(shape.pairs, values).design(), image, ivar, machine.fit.flux.problem.prior,
        shape.fixed_light if known is None else known,
    )  # fmt: skip
    return BlockSolver(1).solve(problem).mean[0]


def response(machine, change, step):
    """How the fluxes answer to a change of the PRF values, per unit of the step."""
    values = machine.fit.prf.values
    ahead, behind = mean_flux_of(machine, values + change), mean_flux_of(machine, values - change)
    return (ahead - behind) / (2.0 * step)


def errors_with(machine, **widths):
    zero = {"position": np.zeros(machine.nsources), "moments": 0.0, "model": 0.0, "tail": 0.0, "others": 0.0}
    shape = machine.fit.prf
    return fit_common_errors(
        shape,
        shape.matrix,
        flux=machine.ws.mean(axis=0),
        ivar=machine.pixels.ivar.mean(axis=0),
        prior=machine.fit.flux.problem.prior,
        widths=NuisanceWidths(**{**zero, **widths}, asked=tuple(widths)),
    )


def test_position_response_equals_the_refit_of_a_moved_star(plain):
    shape, star = plain.fit.prf, int(np.argmax(plain.fit.prf.flux))
    step = 0.01
    gradient = prf_gradients(shape.prf, shape.pairs.dx, shape.pairs.dy, names=("east",))["east"]
    change = np.where(shape.pairs.source == star, gradient, 0.0) * step
    refit = response(plain, change, step)
    factor = errors_with(plain, position=np.where(np.arange(plain.nsources) == star, 1.0, 0.0)).factors["position"]
    carried = factor[:, 2 * star].toarray().ravel()
    np.testing.assert_allclose(carried, refit, rtol=0.05, atol=2e-3 * np.abs(refit).max())


def fluxes_under(machine, common):
    """Fluxes of the mean image after a step of all that the stars share, the light that is not fitted with it."""
    shape, joint = machine.fit.prf, machine.fit.prf.joint
    problem, pairs = joint.problem, joint.problem.pairs
    state = joint.state.moved(common, np.zeros((machine.nsources, problem.n_own)))
    grown = star_sums(problem, state).total / star_sums(problem, joint.state).total
    view = look(problem, state)
    values = view.values / (joint.sums.total * grown)[pairs.source]
    fitted = np.isin(pairs.source * pairs.n_pixel + pairs.pixel, shape.pairs.source * pairs.n_pixel + shape.pairs.pixel)
    faint = np.where(fitted, 0.0, np.nan_to_num(joint.flux)[pairs.source] * (values - joint.values))
    far = view.far[:, 0] / np.average(grown, weights=np.maximum(joint.flux, 1e-300)) - joint.far
    known = shape.fixed_light + far + np.bincount(pairs.pixel, faint, pairs.n_pixel)
    return mean_flux_of(machine, values[fitted], known)


def test_shape_response_equals_the_refit_under_other_weights(plain):
    """Weights, slope and bends of the wing, shear and offset together, along that error which moves fluxes most."""
    factor = errors_with(plain).factors["shape"].toarray()
    worst, step = int(np.argmax(np.linalg.norm(factor, axis=0))), 1e-2
    common = step * plain.fit.prf.joint.posterior.global_factor[:, worst]
    refit = (fluxes_under(plain, common) - fluxes_under(plain, -common)) / (2.0 * step)
    np.testing.assert_allclose(factor[:, worst], refit, rtol=0.01, atol=1e-3 * np.abs(refit).max())


def test_wing_changes_all_fluxes_by_one_factor(plain):
    flux = plain.ws.mean(axis=0)
    ratio = errors_with(plain, tail=1.0).parts["wing"] / np.abs(flux)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)
    shape = plain.fit.prf
    areas = [shape.prf.with_wing(shape.prf.wing_slope + step).area() for step in (0.05, -0.05)]
    assert ratio[0] == pytest.approx(abs(np.log(areas[0] / areas[1])) / 0.1, rel=0.02)


@pytest.mark.parametrize(
    ("name", "part"),
    [("position", "position"), ("moments", "moments"), ("model", "model"), ("others", "others")],
)
def test_each_width_scales_its_own_part_alone(plain, name, part):
    width = np.full(plain.nsources, 0.01) if name == "position" else 0.01
    once, twice = errors_with(plain, **{name: width}), errors_with(plain, **{name: 2 * width})
    np.testing.assert_allclose(twice.parts[part], 2 * once.parts[part], rtol=1e-12)
    others = set(once.parts) - {part}
    assert all(np.array_equal(once.parts[other], twice.parts[other]) for other in others)


def test_error_of_wing_light_is_the_one_put_in():
    """Far enough out for the slope to matter, 13 pixels and more, in a large cutout about two bright stars."""
    field = make_field(
        rng=np.random.default_rng(2), n_source=2, n_time=4, n_stamp=1, stamp_sides=(48,), mag_range=(10.5, 11.0)
    )
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint", field_variation=0)
    shape = machine.fit.prf
    flux = np.nan_to_num(shape.flux)
    wing = np.sqrt(np.asarray(wing_light(shape, flux).power(2).sum(axis=1)).ravel())
    light = np.bincount(shape.pairs.pixel, flux[shape.pairs.source] * shape.values, minlength=wing.size)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(wing.size) / np.sqrt(shape.image.ivar)
    image = replace(shape.image, flux=shape.fixed_light + light + noise)
    assert fit_wing_error(replace(shape, image=image)) < 0.02
    wrong = replace(image, flux=image.flux + 0.2 * wing * rng.standard_normal(wing.size))
    assert fit_wing_error(replace(shape, image=wrong)) == pytest.approx(0.2, rel=0.2)


def test_places_of_a_blend_err_together(refined):
    """Along the line that joins two close stars they do not err one by one."""
    n, places = refined.nsources, _position_factor(refined.fit.prf.joint)
    std = np.linalg.norm(places, axis=1).reshape(n, 2)
    # All of them also err together, by the offset of the catalogue.
    assert np.all(std <= refined.fit.prf.positions.std)
    east = refined.sources.ra_deg * np.cos(np.radians(refined.sources.dec_deg)) * 3600.0
    place = np.stack([east, refined.sources.dec_deg * 3600.0], axis=1)
    distance = np.linalg.norm(place[:, None] - place, axis=2)
    distance[np.diag_indices(n)] = np.inf
    i, j = np.unravel_index(np.argmin(distance), distance.shape)
    along = (place[j] - place[i]) / distance[i, j]
    errors = np.stack([along @ places[[2 * k, 2 * k + 1]] for k in (i, j)])
    correlation = errors[0] @ errors[1] / np.sqrt((errors[0] @ errors[0]) * (errors[1] @ errors[1]))
    assert distance[i, j] < 6.0
    assert abs(correlation) > 0.2


def test_errors_of_the_model_do_not_change_the_light_of_a_star_that_is_summed(plain):
    """Where every pixel counts alike, light in a wrong pixel is counted all the same."""
    errors = errors_with(plain, model=0.01)
    free = 0.01 * np.log(10.0) * np.sqrt(plain.fit.prf.prf.peak)
    bright = np.argsort(np.nan_to_num(plain.fit.prf.flux))[-9:]
    assert np.median(errors.parts["model"][bright] / plain.ws.mean(axis=0)[bright]) < 0.6 * free


def test_covariance_is_the_sum_of_its_parts(plain):
    errors = plain.common_errors
    sources = np.arange(10)
    covariance = errors.covariance(sources)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), errors.std[sources], rtol=1e-10)
    assert np.linalg.eigvalsh(covariance).min() > -1e-8 * covariance.max()


def test_position_width_is_learned_from_lone_stars(plain):
    learned = plain.fit.need("prf").star_residuals().width("east", "north", unknown=0.0)
    assert learned == pytest.approx(POSITION_ERROR, rel=0.25)


def test_refinement_finds_the_stars_and_sharpens_the_fluxes(field, plain, refined):
    off = np.stack([field.sources.ra_deg, field.sources.dec_deg], axis=1)
    assert np.all(np.isfinite(off))
    seen = np.isfinite(refined.fit.prf.flux) & (refined.fit.prf.values.size > 0)
    found = refined.positions.shift[seen]
    assert found.std() == pytest.approx(POSITION_ERROR, rel=0.35)
    assert refined.fit.prf.intrinsic_scatter < 0.8 * plain.fit.prf.intrinsic_scatter
    lone = refined.fit.prf.training
    stars = np.unique(refined.fit.prf.pairs.source[lone])
    truth = field.mean_flux[stars]
    # The common scale of all fluxes is set by the wing, not by the places of the stars: look at the rest.
    ratios = [machine.ws.mean(axis=0)[stars] / truth for machine in (plain, refined)]
    spread = [np.median(np.abs(one - np.median(one))) for one in ratios]
    assert spread[1] < 1.1 * spread[0]


def test_total_errors_cover_the_truth(field, refined):
    caught = np.asarray(field.true_design().sum(axis=0)).ravel()
    good = (caught > 0.5) & ((refined.flags[0] & ~2) == 0)
    offset = (refined.ws.mean(axis=0) - field.mean_flux)[good]
    error = np.hypot(refined.common_errors.std, refined.werrs.mean(axis=0) / np.sqrt(refined.nt))[good]
    assert np.mean(np.abs(offset) < 2 * error) > 0.8
    assert np.median(error / field.mean_flux[good]) < 0.02
    assert np.all(refined.werrs_total >= refined.werrs)


def test_refinement_repeats_to_the_bit(field, refined):
    again = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    again.refine_scene(method="joint", field_variation=0)
    assert np.array_equal(again.positions.shift, refined.positions.shift)
    assert np.array_equal(again.psf_w, refined.psf_w)


def test_errors_need_fluxes(plain):
    machine = Machine.from_fit(plain.fit.without("flux"), quiet=True)
    with pytest.raises(StageError, match="fit_model"):
        machine.fit_common_errors()


def test_tree_holds_both_errors(refined):
    tree = refined.to_datatree()
    total, plain = tree["photometry/flux_err_total"], tree["photometry/flux_err"]
    common = tree["photometry/flux_err_common"]
    assert common.dims == ("source",)
    np.testing.assert_allclose(total**2, plain**2 + common**2, rtol=1e-12)


def test_widths_that_are_given_are_used(refined):
    """The fit knows its own errors of positions and wings, which they replace; the others come beside."""
    machine = Machine.from_fit(refined.fit, quiet=True)
    learned = machine.fit_common_errors()
    given = {"position": 0.2, "moments": 0.01, "model": 0.01, "tail": 0.5, "others": 0.7}
    parts = {"position": "position", "moments": "moments", "model": "model", "tail": "wing", "others": "others"}
    for name, width in given.items():
        changed = machine.fit_common_errors(**{name: width})
        np.testing.assert_array_equal(getattr(changed.widths, name), width)
        before = learned.parts.get(parts[name], np.zeros(machine.nsources))
        assert np.median(changed.parts[parts[name]]) > 1.2 * np.median(before)
        assert set(changed.parts) - set(learned.parts) == {parts[name]} - set(learned.parts)


def test_a_single_star_does_not_say_that_positions_are_exact():
    field = make_field(rng=np.random.default_rng(0), n_source=1, n_time=4, n_stamp=1, mag_range=(12.0, 12.5))
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(refine=False, method="joint", field_variation=0)
    machine.fit_model()
    widths = machine.common_errors.widths
    assert widths.position == pytest.approx(0.017 * np.sqrt(machine.fit.prf.prf.pixel_area))
    assert widths.moments == 0.017
    assert machine.common_errors.parts["position"][0] > 0
