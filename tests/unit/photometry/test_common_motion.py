"""Jitter beside a constant PRF: what light curves gain, what stays as it was, and how the numbers are learned."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.machine import Machine
from bayesprf.photometry.common_motion import _Jitter, _responses, motion_derivatives
from bayesprf.photometry.groups import component_labels
from bayesprf.results.recipes import read_recipes
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import FluxRecipe
from bayesprf.simulation.fields import make_field

N_TIME = 60


def simulate(rng, **changes):
    """Return a field of stars in small cutouts and a machine with its PRF; some lie half beside their pixels."""
    field = make_field(
        n_source=14, n_stamp=10, n_time=N_TIME, mag_range=(11.0, 13.0), stamp_sides=(5, 7), rng=rng, **changes
    )
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint")
    return field, machine


@pytest.fixture(scope="module")
def jittering():
    rng = np.random.default_rng(5)
    return simulate(rng, drift=0.02 * rng.standard_normal((N_TIME, 2)))


def first_cadences(pixels, number):
    names = ("time", "flux", "flux_err", "pos_corr", "cadence_number", "quality")
    cut = {name: getattr(pixels, name)[:number] for name in names if getattr(pixels, name, None) is not None}
    return replace(pixels, **cut)


def light_curves(machine, **options):
    machine.fit_model(**options)
    return machine.fit.flux


def scatter(field, fit):
    """Return the scatter of light curves over the truth, in bounds of Cramer and Rao."""
    return (fit.flux / field.flux).std(axis=0) * field.mean_flux / field.cramer_rao()


def test_light_curves_reach_the_bound(jittering):
    field, machine = jittering
    held, followed = (light_curves(machine, follow_jitter=one) for one in (False, True))
    seen = field.cramer_rao() < 0.01 * field.mean_flux
    before, after = scatter(field, held)[seen], scatter(field, followed)[seen]
    assert before.max() > 5.0
    assert np.median(before) > 1.3
    # sixty cadences tell a scatter to a tenth, the errors of the motion add to some of these
    assert np.median(after) < 1.15
    assert after.max() < 0.4 * before.max()
    pull = (followed.flux / followed.flux.mean(axis=0) - field.flux / field.flux.mean(axis=0))[:, seen]
    pull *= followed.flux.mean(axis=0)[seen] / followed.flux_err[:, seen]
    assert 0.8 < np.median(pull.std(axis=0)) < 1.2


def test_means_stay_where_they_are(jittering):
    field, machine = jittering
    held, followed = (light_curves(machine, follow_jitter=one) for one in (False, True))
    error = scatter(field, held) * field.cramer_rao() / np.sqrt(N_TIME)
    np.testing.assert_array_less(np.abs(followed.flux.mean(axis=0) - held.flux.mean(axis=0)), 3.0 * error)


def test_weights_by_given_errors_follow_none_unless_asked(jittering):
    _, machine = jittering
    given = light_curves(machine, pixel_errors="given")
    held = light_curves(machine, pixel_errors="given", follow_jitter=False)
    np.testing.assert_array_equal(given.flux, held.flux)
    asked = light_curves(machine, pixel_errors="given", follow_jitter=True)
    assert np.abs(asked.flux - held.flux).max() > 0.1 * np.median(held.flux_err)


def test_a_spacecraft_that_rolls_is_followed_if_asked_for():
    recipe = FluxRecipe()
    assert recipe.follows_jitter(rolls=False)
    assert not recipe.follows_jitter(rolls=True)
    assert FluxRecipe(follow_jitter=True).follows_jitter(rolls=True)


def test_the_model_holds_the_moved_light(jittering):
    _, machine = jittering
    fits = [light_curves(machine, follow_jitter=one) for one in (False, True)]
    ivar = machine.fit.pixels.ivar
    left = [np.median(ivar * (machine.fit.pixels.flux - one.model()) ** 2) for one in fits]
    assert left[1] < left[0]
    assert np.all(fits[1].log_evidence.sum() > fits[0].log_evidence.sum() + 100.0)


@pytest.mark.parametrize("scene", ["rest", "drift", "eclipse"])
def test_without_jitter_all_bits_stay(scene):
    ramp = np.linspace(-1.0, 1.0, N_TIME)
    changes = {"drift": 0.1 * np.stack([ramp, ramp**2], axis=1)} if scene == "drift" else {}
    if scene == "eclipse":
        factor = np.ones((N_TIME, 14))
        factor[20:30, :3] = 0.5
        changes = {"variability": factor}
    _, machine = simulate(np.random.default_rng(7), **changes)
    held, followed = (light_curves(machine, follow_jitter=one) for one in (False, True))
    np.testing.assert_array_equal(held.flux, followed.flux)
    np.testing.assert_array_equal(held.flux_err, followed.flux_err)


@pytest.mark.parametrize("factor", [3.0, 1e150])
def test_one_spoiled_pixel_moves_its_own_star_alone(jittering, factor):
    field, machine = jittering
    clean = light_curves(machine, follow_jitter=True)
    star = int(np.argmax(field.mean_flux))
    pairs = machine.fit.need("prf").pairs
    mine = pairs.source == star
    pixel = int(pairs.pixel[mine][np.argmax(machine.fit.need("prf").values[mine])])
    flux = field.pixels.flux.copy()
    flux[30, pixel] *= factor
    spoiled = Machine.from_fit(
        replace(machine.fit.without("flux"), pixels=replace(field.pixels, flux=flux)), quiet=True
    )
    # Blends hand what is wrong on from star to star: other stars are those of other groups.
    label = component_labels(clean.problem.design)
    others = label != label[star]
    assert others.sum() > 4
    moved = (light_curves(spoiled, follow_jitter=True).flux - clean.flux) / clean.flux_err
    assert np.abs(moved[:, others]).max() < 0.5


def test_lost_cadences_and_times_that_do_not_increase(jittering):
    field, machine = jittering
    flux = field.pixels.flux.copy()
    flux[10] = np.nan
    lost = Machine.from_fit(replace(machine.fit.without("flux"), pixels=replace(field.pixels, flux=flux)), quiet=True)
    fit = light_curves(lost, follow_jitter=True)
    assert np.all(np.isnan(fit.flux[10]))
    assert np.all(np.isfinite(np.delete(fit.flux, 10, axis=0)))
    clean = light_curves(machine, follow_jitter=True)
    moved = np.delete((fit.flux - clean.flux) / clean.flux_err, 10, axis=0)
    # the mean place of the image is another without this cadence, which moves all others alike
    assert moved.std(axis=0).max() < 0.2
    backwards = replace(field.pixels, time=field.pixels.time[::-1].copy())
    turned = Machine.from_fit(replace(machine.fit.without("flux"), pixels=backwards), quiet=True)
    held = light_curves(turned, follow_jitter=False)
    np.testing.assert_array_equal(light_curves(turned, follow_jitter=True).flux, held.flux)


def test_a_few_cadences_have_no_jitter(jittering):
    field, machine = jittering
    few = Machine.from_fit(replace(machine.fit.without("flux"), pixels=first_cadences(field.pixels, 39)), quiet=True)
    held, followed = (light_curves(few, follow_jitter=one) for one in (False, True))
    np.testing.assert_array_equal(held.flux, followed.flux)


def test_the_option_is_kept_in_a_tree(jittering):
    _, machine = jittering
    for option in (None, False, True):
        machine.fit_model(follow_jitter=option)
        assert read_recipes(machine.to_datatree()).flux.follow_jitter is option


def test_evidence_of_jitter_is_that_of_a_dense_twin():
    rng = np.random.default_rng(3)
    columns, ivar = rng.normal(size=(12, 2)), rng.uniform(0.5, 2.0, 12)
    normal = np.broadcast_to(columns.T @ (ivar[:, None] * columns), (300, 2, 2))
    data = rng.normal(size=(300, 12)) / np.sqrt(ivar) + (rng.normal(size=(300, 2)) * [1.0, 0.5]) @ columns.T
    found = _Jitter.about(normal, (ivar * data) @ columns, np.zeros((300, 2)))
    width = np.sqrt(np.mean(found.mean**2, axis=0) + np.diag(found.covariance[0]))
    np.testing.assert_allclose(width, [1.0, 0.5], rtol=0.15)
    prior = np.linalg.inv(found.covariance[0]) - normal[0]
    dense = np.diag(1.0 / ivar) + columns @ np.linalg.inv(prior) @ columns.T
    square = np.sum(data * np.linalg.solve(dense, data.T).T, axis=1)
    evidence = -0.5 * (square + np.linalg.slogdet(dense)[1])
    alone = -0.5 * (np.sum(ivar * data**2, axis=1) - np.log(ivar).sum())
    assert found.gain == pytest.approx(np.sum(evidence - alone), rel=1e-8)
    left = data - found.mean @ columns.T
    known = -0.5 * (np.sum(ivar * left**2, axis=1) - np.log(ivar).sum())
    np.testing.assert_allclose(known + found.log_ratio, evidence, rtol=1e-8)


def test_what_slopes_miss_is_learned_from_differences():
    rng = np.random.default_rng(4)
    motion = 0.02 * rng.standard_normal((400, 2))
    truth = 0.1 * rng.standard_normal((30, 2))
    slow = 1.0 + 0.05 * np.sin(np.linspace(0.0, 6.0, 400))[:, None]
    error = np.full((400, 30), 5e-4)
    flux = 1e4 * (slow + motion @ truth.T + error * rng.standard_normal((400, 30)))
    flux[50, 3] *= 2.0
    error[70:80, 4] = np.nan
    found = _responses(flux, 1e4 * error, motion)
    np.testing.assert_allclose(found, truth, atol=0.008)
    quiet = _responses(
        1e4 * (slow + error[:, :1] * rng.standard_normal((400, 30))), 1e4 * np.full((400, 30), 5e-4), motion
    )
    assert np.abs(quiet).max() < 0.003


def test_derivatives_are_those_of_the_prf():
    x, y = (one.ravel().astype(np.float64) for one in np.meshgrid(np.arange(-3, 4), np.arange(-3, 4)))
    pairs = PairTable(np.zeros(49, np.int64), np.arange(49), 4.0 * x, 4.0 * y, 1, 49)

    def prf(source, dx, dy):
        return np.exp(-0.5 * ((dx / 6.0) ** 2 + (dy / 5.0) ** 2))

    found = motion_derivatives(PrfMatrix.constant(pairs, prf(pairs.source, pairs.dx, pairs.dy)), prf, 4.0)
    u, v = 0.1, -0.07
    moved = prf(pairs.source, pairs.dx - 4.0 * u, pairs.dy - 4.0 * v)
    expected = prf(pairs.source, pairs.dx, pairs.dy) + np.array([u, v, u * u, u * v, v * v]) @ found.parts
    np.testing.assert_allclose(expected, moved, atol=3e-4)
