"""A large image starts from the surroundings of its brightest stars, and ends where it would have ended anyway."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import random as random_sparse

from bayesprf.photometry.background import build_background
from bayesprf.prf.joint import part as part_module
from bayesprf.prf.joint import step as step_module
from bayesprf.prf.joint.choice import SIGNIFICANT, level_of_sky, may_hold_sky
from bayesprf.prf.joint.hyper import fit_position_width
from bayesprf.prf.joint.objective import JointOptions, fit_joint, last_gain, next_step
from bayesprf.prf.joint.pace import opposed
from bayesprf.prf.joint.part import brightest_part
from bayesprf.prf.joint.problem import answer_to_globals, global_columns, look, normalized
from bayesprf.prf.joint.start import JointSettings, build_joint
from bayesprf.prf.joint.step import find_posterior
from bayesprf.scene.field_prf import field_columns
from bayesprf.scene.image import reduce_image
from bayesprf.settings import Background
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import CASES

SKY = np.array([50.0, 4.0, -3.0])
"""A level and a slope, electron / s."""


@pytest.fixture(scope="module")
def field():
    settings = replace(CASES["ffi"], n_source=90, image_shape=(64, 64), catalog_scale=1.3, catalog_scatter=0.05)
    return make_field(settings, rng=np.random.default_rng(12))


@pytest.fixture(scope="module")
def built(field):
    image = reduce_image(field.pixels)
    return build_joint(field.pixels, field.sources, image, field.pixels.saturated, JointSettings())


def test_a_part_is_the_same_image_in_fewer_pixels(built, monkeypatch):
    problem, state = built[0], normalized(*built[:2])
    # Fifty stars of this image light nearly all of it.
    assert brightest_part(problem, state) is None
    monkeypatch.setattr(part_module, "_N_STAR", 5)
    monkeypatch.setattr(part_module, "_SHARE", 0.5)
    part = brightest_part(problem, state)
    pairs = problem.pairs
    bright = np.argsort(-state.flux)[:5]
    assert part.member[bright].all()
    near = (pairs.r <= problem.basis.rmax) & np.isin(pairs.source, bright)
    keep = np.unique(pairs.pixel[near])
    assert part.problem.flux.size == keep.size
    np.testing.assert_array_equal(part.problem.flux, problem.flux[keep])
    whole, seen = look(problem, state), look(part.problem, state)
    # Cells of a part have other nodes.
    atol = 4e-3 * whole.far[:, 0].max()
    np.testing.assert_allclose(seen.image, whole.image[keep], rtol=0, atol=atol)
    one, two = global_columns(part.problem, state, seen), global_columns(problem, state, whole)[keep]
    np.testing.assert_allclose(one, two, rtol=0, atol=0.01 * np.abs(two).max())


def test_stars_outside_are_scaled_as_those_inside(built, monkeypatch):
    problem, state = built[0], normalized(*built[:2])
    monkeypatch.setattr(part_module, "_N_STAR", 5)
    monkeypatch.setattr(part_module, "_SHARE", 0.5)
    part = brightest_part(problem, state)
    found = replace(state, flux=np.where(part.member, 0.8 * state.flux, 7.0))
    np.testing.assert_allclose(part.whole_state(state, found).flux, 0.8 * state.flux, rtol=1e-12)


def test_the_answer_does_not_follow_where_the_fit_starts(field, built, monkeypatch):
    cold = fit_joint(*built, JointOptions())
    monkeypatch.setattr(part_module, "_N_STAR", 8)
    monkeypatch.setattr(part_module, "_SHARE", 0.9)
    warm = fit_joint(*built, JointOptions())
    assert cold.converged
    assert warm.converged
    assert warm.n_iter < cold.n_iter
    # A tenth of the error, as from other profiles.
    bright = np.argsort(-field.mean_flux)[:20]
    moved = (warm.flux - cold.flux)[bright] / cold.flux_err[bright]
    assert abs(np.median(moved)) < 0.1
    assert np.abs(moved).max() < 0.3


def test_in_a_large_image_the_part_decides_what_all_stars_share(built, field, monkeypatch):
    whole = fit_joint(*built, JointOptions())
    monkeypatch.setattr(part_module, "MAX_QUICK_PIXEL", 1500)
    part = brightest_part(built[0], normalized(*built[:2]))
    assert part.decides
    assert part.problem.used.sum() < 1500
    found = fit_joint(*built, JointOptions())
    assert found.converged
    bright = np.argsort(-field.mean_flux)[:20]
    error = np.hypot(found.flux_err, whole.flux_err)[bright]
    z = (found.flux - whole.flux)[bright] / error
    # What bright stars differ by is common to all, one number of a standard deviation below one; the truth is as near.
    assert np.abs(z).max() < 1.5
    assert abs(np.median((found.flux - field.mean_flux)[bright] / found.flux_err[bright])) < 1.5
    # The covariance of the PRF is that of the part.
    size = [np.linalg.norm(one.posterior.global_factor[: built[0].n_weight]) for one in (found, whole)]
    assert size[0] > size[1]
    assert np.all(np.isfinite(found.flux_err))
    assert np.median(found.flux_err[bright] / whole.flux_err[bright]) > 0.9


@pytest.mark.parametrize("level", [0.0, 5.0])
def test_pixels_of_all_the_image_tell_a_sky_beside_a_part_that_decides(built, field, monkeypatch, level):
    monkeypatch.setattr(part_module, "MAX_QUICK_PIXEL", 1500)
    problem, state, hyper = built
    found = fit_joint(replace(problem, flux=problem.flux + level), state, hyper, JointOptions())
    assert found.decided is not None
    columns = build_background(field.pixels, reduce_image(field.pixels), Background("image", order=0))
    sky, error = level_of_sky(found, columns)
    assert abs(sky - level) < 3.0 * error
    assert may_hold_sky(found, columns) == (level > SIGNIFICANT * error)


@pytest.fixture(scope="module")
def beside_sky(field):
    """A plane of sky under the stars."""
    image = reduce_image(field.pixels)
    columns = build_background(field.pixels, image, Background("image", order=1))
    image = replace(image, flux=image.flux + columns.matrix @ SKY)
    return build_joint(field.pixels, field.sources, image, field.pixels.saturated, JointSettings(sky=columns))


def test_beside_a_sky_half_of_the_part_is_spread_over_all_the_image(built, beside_sky, monkeypatch):
    monkeypatch.setattr(part_module, "MAX_QUICK_PIXEL", 1500)
    without, part = (brightest_part(one[0], normalized(*one[:2])) for one in (built, beside_sky))
    assert 1400 < part.pixels.sum() <= 1550
    spread = part.pixels & ~without.pixels
    assert 0.4 < spread.sum() / part.pixels.sum() < 0.6
    # Every eighth of the image has its share of them, with those around the brightest stars.
    each = [block.sum() for strip in np.array_split(part.pixels.reshape(64, 64), 4) for block in np.hsplit(strip, 2)]
    assert min(each) > 0.4 * np.mean(each)
    # Stars outside are where they were, whatever the first guess of their fluxes was.
    outside = ~part.member
    np.testing.assert_array_equal(
        part.problem.prior.flux[outside], np.maximum(normalized(*beside_sky[:2]).flux, 0.0)[outside]
    )


def test_it_tells_the_sky_from_the_wings(field, beside_sky, monkeypatch):
    """From the first guess, and again from a state that is near."""
    monkeypatch.setattr(part_module, "MAX_QUICK_PIXEL", 2000)
    found = fit_joint(*beside_sky, JointOptions())
    assert found.converged
    assert found.decided.sum() < 2050
    error = np.linalg.norm(found.posterior.global_factor[-3:], axis=1)
    assert np.all(np.abs(found.state.sky - SKY) < 3.0 * error)
    assert np.all(error < 1.0)
    bright = np.argsort(-field.mean_flux)[:20]
    assert abs(np.median((found.flux - field.mean_flux)[bright] / found.flux_err[bright])) < 1.5
    again = fit_joint(beside_sky[0], found.state, found.hyper, JointOptions(), near=True)
    assert again.converged
    assert again.decided is not None
    assert again.n_iter <= found.n_iter
    assert np.all(np.abs(again.state.sky - found.state.sky) < error)


def test_what_heights_of_a_sky_answer_to_the_pixels(beside_sky):
    """A step goes where the gain says, as far as a pixel is changed."""
    problem, start, hyper = beside_sky
    state = normalized(problem, start)
    gain = last_gain(problem, state, hyper, weight=problem.ivar, n=3)
    steps, change = [], np.zeros(problem.flux.size)
    change[[100, 2000, 3000]] = 40.0, -20.0, 30.0
    for more in (0.0, change):
        steps.append(next_step(replace(problem, flux=problem.flux + more), state, hyper, weight=problem.ivar)[0][-3:])
    np.testing.assert_allclose(steps[1] - steps[0], gain @ change, rtol=1e-6, atol=1e-9)


def test_stars_whose_steps_lead_back_are_told():
    now, before = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.0]]), np.array([[-2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(opposed(now, before), [True, False, False])


def test_a_state_of_fewer_columns_is_one_of_more(field, built, beside_sky):
    """The image is the same: columns over the field and of the sky begin at none."""
    problem, state, _ = built
    over_field = field_columns(problem.place, 1)
    more = replace(problem, sky=beside_sky[0].sky, columns=over_field, geometry=over_field)
    wider = state.widened(more, problem.basis)
    assert [one.shape[0] for one in (wider.weights, wider.shear, wider.offset, wider.sky)] == [3, 3, 3, 3]
    np.testing.assert_allclose(look(more, wider).image, look(problem, state).image, rtol=1e-12)
    finer_problem = build_joint(
        field.pixels, field.sources, reduce_image(field.pixels), field.pixels.saturated, JointSettings(density=2)
    )[0]
    seen = look(finer_problem, state.widened(finer_problem, problem.basis)).image
    np.testing.assert_allclose(seen, look(problem, state).image, rtol=0.01, atol=0.01)


def test_held_columns_are_asked_for_some_pixels_at_a_time(built, monkeypatch):
    """The stars' answer is as if all were free, and their leverage without that of what they share is less."""
    problem, state, hyper = built
    state = normalized(problem, state)
    view, weight = look(problem, state), np.where(problem.used, problem.ivar, 0.0)
    free = find_posterior(problem, state, view, hyper, weight=weight, error=1.0)
    monkeypatch.setattr(step_module, "TOGETHER", 300)
    held = find_posterior(problem, state, view, hyper, weight=weight, error=1.0, held=free.global_factor)
    np.testing.assert_allclose(held.response, free.response, rtol=0, atol=1e-9 * np.abs(free.response).max())
    np.testing.assert_allclose(held.own_std, free.own_std, rtol=1e-9)
    assert np.all(held.leverage < free.leverage)
    monkeypatch.setattr("bayesprf.prf.joint.problem.TOGETHER", 300)
    gain = random_sparse(4, problem.flux.size, 0.1, format="csr", random_state=7)
    expected = gain @ global_columns(problem, state, view)
    np.testing.assert_allclose(answer_to_globals(problem, state, view, gain), expected, rtol=1e-10)


def test_a_part_has_no_more_pairs_than_a_quick_step_takes(built, monkeypatch):
    """Stars outside it are free in it, and known to the error of the nominal PRF."""
    problem, state = built[0], normalized(*built[:2])
    limit = problem.pairs.n_pair // 3
    monkeypatch.setattr(part_module, "MAX_QUICK_PAIR", limit)
    part = brightest_part(problem, state)
    assert part.decides
    assert 0.5 * limit < part.problem.pairs.n_pair <= limit
    assert part.pixels.sum() == part.problem.flux.size
    np.testing.assert_array_equal(part.problem.prior.flux_width[~part.member], 0.3)
    np.testing.assert_array_equal(part.problem.prior.flux_width[part.member], problem.prior.flux_width[part.member])
    found = fit_joint(*built, JointOptions())
    assert found.converged
    np.testing.assert_array_equal(found.decided, part.pixels)


def test_no_star_goes_to_one_that_the_catalogue_lacks(field):
    """One that is missing two to four pixels from a fainter star draws none past five widths of the positions."""
    place = np.stack([field.column, field.row], axis=1)
    near = np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1))
    ratio = field.mean_flux[None, :] / field.mean_flux[:, None]
    bright = np.argwhere((near > 1.5) & (near < 4.0) & (ratio > 5.0))[0, 1]
    sources = field.sources.select(np.arange(field.sources.n_source) != bright)
    image = reduce_image(field.pixels)
    found = fit_joint(
        *build_joint(field.pixels, sources, image, field.pixels.saturated, JointSettings()), JointOptions()
    )
    far = np.hypot(*found.state.shift.T)
    assert far.max() <= 5.0 * found.hyper.position * (1.0 + 1e-9)
    assert found.converged


def test_offsets_of_a_few_stars_do_not_widen_the_others():
    rng = np.random.default_rng(4)
    shift = 0.05 * rng.standard_normal(400)
    shift[:8] = 3.0
    width = 0.02
    for _ in range(50):
        width = fit_position_width(shift, np.full(400, 1e-6), width, 0.02)
    # Two in a hundred count as three widths each: 1 + 0.02 * 9 of the variance.
    assert width == pytest.approx(0.05 * np.sqrt(1.0 / (1.0 - 0.02 * 9.0)), rel=0.07)


def test_one_update_of_the_width_of_positions_ends_where_many_would():
    """Most stars are told far worse than the width: single updates of expectation and maximisation crawl."""
    rng = np.random.default_rng(8)
    width, noise, expected = 0.1, np.where(np.arange(500) < 40, 0.005, 0.3), 0.02
    seen = 0.03 * rng.standard_normal(500) + noise * rng.standard_normal(500)

    def posterior(width):
        variance = 1.0 / (noise**-2 + width**-2)
        return variance * seen / noise**2, variance

    def update(width):
        mean, variance = posterior(width)
        square = np.minimum(mean**2 + variance, (3.0 * width) ** 2)
        return float(np.sqrt((square.sum() + 2.0 * expected**2) / 502.0))

    crawling = width
    for _ in range(5000):
        crawling = update(crawling)
    found = fit_position_width(*posterior(width), width, expected)
    # No width changes by more than a factor of three in one step.
    assert found == pytest.approx(max(crawling, width / 3.0), rel=1e-3)
    assert fit_position_width(*posterior(found), found, expected) == pytest.approx(crawling, rel=1e-3)


def test_far_light_moves_along_its_derivatives(built):
    """A small step of what all stars share changes it as evaluating it anew does, to second order."""
    problem, state = built[0], normalized(*built[:2])
    view, rng = look(problem, state), np.random.default_rng(3)
    moves = []
    for size in (1e-3, 2e-3):
        common = size * rng.standard_normal(problem.n_global)
        other = state.moved(common, np.zeros((problem.n_source, problem.n_own)))
        anew, near = look(problem, other), look(problem, other, near=view)
        np.testing.assert_array_equal(near.far[:, 1:], view.far[:, 1:])
        change = np.abs(anew.far[:, 0] - view.far[:, 0]).max()
        moves.append(np.abs(near.far[:, 0] - anew.far[:, 0]).max() / change)
    assert moves[0] < 0.02
    assert moves[1] < 0.04


def test_a_single_update_of_the_width_of_positions_is_that_of_em():
    rng = np.random.default_rng(8)
    shift, variance = 0.1 * rng.standard_normal(40), np.full(40, 0.05**2)
    found = fit_position_width(shift, variance, 0.1, 0.1, once=True)
    seen = np.minimum(shift**2 + variance, 9.0 * 0.1**2)
    assert found == pytest.approx(np.sqrt((seen.sum() + 2 * 0.1**2) / 42.0), rel=1e-12)
    end = fit_position_width(shift, variance, 0.1, 0.1)
    assert (end - 0.1) * (found - 0.1) > 0.0
    assert abs(end - 0.1) > abs(found - 0.1)


def test_only_pixels_that_may_decide_do(built):
    """A third of the pixels: all that a small image has of them, in which the stars without a middle are less free."""
    problem, state, _ = built
    third = np.arange(problem.flux.size) % 3 == 0
    part = brightest_part(problem, state, deciding=third)
    assert part.decides
    assert not np.any(part.pixels & ~third)
    assert part.problem.flux.size == part.pixels.sum() > 0.5 * third.sum()


def test_a_quick_part_is_a_quarter_or_two_pixels_for_each_weight(built):
    problem, state, _ = built
    part = brightest_part(problem, state, quick=True)
    assert part.decides
    few, most = 2 * problem.n_weight, max(2 * problem.n_weight, 0.25 * problem.used.sum())
    assert 0.5 * few < part.pixels.sum() <= most
