"""Errors of the stars' rings: what their covariances are learned from."""

import numpy as np
import pytest

from bayesprf.prf.joint.ring_spread import ORDERS, _converge, fit_ring_errors

SHARES = np.array([0.6, 0.3, 0.1])
N_RING, N_PART = SHARES.size, SHARES.size * ORDERS.size
NOTHING = np.zeros((3, N_RING, 1))


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def whole(size):
    """Return errors of rings as a whole that add up to no light, and none of dipoles and ellipses."""
    return np.stack([size - SHARES @ size, np.zeros_like(size), np.zeros_like(size)])


def told_by_pixels(rng, n_star):
    """Return what noise tells of the harmonics of each star's rings, before and after a fit of the flux.

    A star of SHARES of 1e5 counts in rings of 1, 2 and 4 pixels, anywhere on the middle one of 7 x 7 pixels.
    """
    steps = np.stack(np.meshgrid(np.arange(-3.0, 4.0), np.arange(-3.0, 4.0)), axis=-1).reshape(-1, 2)
    offset = steps - rng.uniform(-0.5, 0.5, (n_star, 1, 2))
    radius, angle = np.hypot(offset[..., 0], offset[..., 1]), np.arctan2(offset[..., 1], offset[..., 0])
    ring = np.searchsorted([1.0, 2.0], radius)
    light = 1e5 * SHARES[ring] / np.pi / np.array([1.0, 3.0, 12.0])[ring]
    waves = [np.cos(angle), np.sin(angle), np.cos(2.0 * angle), np.sin(2.0 * angle)]
    harmonics = np.stack([np.ones_like(angle), *(np.sqrt(2.0) * wave for wave in waves)], axis=2)
    columns = np.where(ring[:, :, None] == np.arange(N_RING), np.sqrt(light)[:, :, None], 0.0)
    columns = (columns[:, :, :, None] * harmonics[:, :, None]).reshape(n_star, -1, N_PART)
    norm = columns.transpose(0, 2, 1) @ columns
    flux = norm[:, :, :: ORDERS.size].sum(axis=2)
    taken = flux[:, :, None] * flux[:, None] / flux[:, :: ORDERS.size].sum(axis=1)[:, None, None]
    return norm, norm - taken


def every_part(factors, rng, n_star):
    """Draw errors of each star's harmonics from those of the three orders."""
    errors = [(factors[order] @ rng.standard_normal((n_star, factors.shape[2], 1)))[..., 0] for order in ORDERS]
    return np.stack(errors, axis=2).reshape(n_star, N_PART)


def scores(rng, n_star, factors):
    """Draw scores of errors factors x, seen with noise, what is told of them beside the flux, and without it."""
    norm, left = told_by_pixels(rng, n_star)
    scale, axes = np.linalg.eigh(left)
    noise = axes @ (np.sqrt(np.maximum(scale, 0.0)) * rng.standard_normal((n_star, N_PART)))[:, :, None]
    errors = every_part(factors, rng, n_star)
    return (left @ errors[:, :, None] + noise)[:, :, 0], left, norm


def squares(factors):
    return factors @ factors.transpose(0, 2, 1)


def test_covariances_of_all_orders_are_found(rng):
    truth = whole(0.02 * rng.standard_normal((N_RING, 2)))
    truth[1] = 0.01 * rng.standard_normal((N_RING, 2))
    truth[2] = 0.03 * rng.standard_normal((N_RING, 2))
    found = squares(fit_ring_errors(*scores(rng, 400, truth), SHARES))
    # 400 stars tell a variance to sqrt(2 / 400), 7 %, and one direction in three rings has twice this.
    for order in range(3):
        largest = np.max(squares(truth)[order])
        np.testing.assert_allclose(found[order], squares(truth)[order], atol=0.2 * largest)
    # Of the factor by itself it is the root of rounding errors, 4e-10 with some kernels of BLAS.
    np.testing.assert_allclose(SHARES @ found[0], 0.0, atol=1e-15)


def test_no_direction_is_preferred(rng):
    """The same stars and errors with their axes turned by 0.4 radian."""
    truth = whole(0.01 * rng.standard_normal((N_RING, 2)))
    truth[1:] = 0.02 * rng.standard_normal((2, N_RING, 2))
    score, left, norm = scores(rng, 100, truth)
    turns = [np.ones((1, 1))]
    for order in (1, 2):
        cosine, sine = np.cos(0.4 * order), np.sin(0.4 * order)
        turns.append(np.array([[cosine, -sine], [sine, cosine]]))
    turn = np.zeros((ORDERS.size, ORDERS.size))
    for order, one in enumerate(turns):
        turn[np.ix_(order == ORDERS, order == ORDERS)] = one
    turn = np.kron(np.eye(N_RING), turn)
    before = squares(fit_ring_errors(score, left, norm, SHARES))
    after = squares(fit_ring_errors(score @ turn.T, turn @ left @ turn.T, turn @ norm @ turn.T, SHARES))
    assert np.all(np.trace(before, axis1=1, axis2=2) > 0)
    # To the accuracy to which the search for the likeliest covariance settles.
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-3 * before.max())


def test_errors_of_one_order_do_not_pass_for_those_of_others(rng):
    """Ellipses of 3 %: where a star is not in the middle of a pixel they add light to rings, and move them."""
    truth = NOTHING.copy()
    truth[2, :2] = 0.03
    found = np.linalg.norm(fit_ring_errors(*scores(rng, 200, truth), SHARES), axis=2)
    np.testing.assert_allclose(found[2, :2], 0.03, rtol=0.15)
    assert found[:2].max() < 0.003


def test_a_variance_near_zero_is_reached():
    """Of a variance seen with noise 1 in a mean square of 1.01, plain turns take thousands to 0.01."""
    turns = []

    def improved(s):
        turns.append(s)
        return s / (1.0 + s) + (s / (1.0 + s)) ** 2 * 1.01

    assert _converge(improved, np.array([[1.0]]))[0, 0] == pytest.approx(0.01, rel=0.05)
    assert len(turns) < 100


def test_noise_leaves_next_to_nothing(rng):
    found = fit_ring_errors(*scores(rng, 200, NOTHING), SHARES)
    # One star alone tells the light of the two inner rings to 0.006.
    assert np.linalg.norm(found[:, :2], axis=2).max() < 0.003


def test_noise_is_rarely_worth_a_parameter(rng):
    """The likeliest covariance of noise is never zero; that which is worth its parameters is, in most fields."""
    found = np.array([fit_ring_errors(*scores(rng, 60, NOTHING), SHARES).any(axis=(1, 2)) for _ in range(20)])
    # Akaike's criterion takes one parameter too many in a sixth of all draws of each order, and few of five at once.
    assert np.all(np.count_nonzero(found, axis=0) < 7)


def test_an_outer_ring_that_few_stars_show_rarely_errs(rng):
    """Inner rings err by 2 %; the outer one does not, and seven stars tell it to a tenth of its light, others nothing.

    The inner errors of those others must not pass for large ones of the outer ring, of which they tell nothing.
    """
    outer = np.repeat(np.arange(N_RING) == 2, ORDERS.size)
    scale = np.where(outer, np.where(np.arange(100) < 7, 0.1, 1e-8)[:, None], 1.0)
    square, found = scale[:, :, None] * scale[:, None], []
    for _ in range(8):
        truth = np.zeros((3, N_RING, 2))
        truth[:, :2] = 0.02 * rng.standard_normal((3, 2, 2))
        truth[0, :2] -= SHARES[:2] @ truth[0, :2] / SHARES[:2].sum()
        score, left, norm = scores(rng, 100, truth)
        found.append(fit_ring_errors(score * scale, left * square, norm * square, SHARES))
    size = np.linalg.norm(found, axis=3)
    assert np.all(np.linalg.norm(size[:, :, :2], axis=2) > 0.005)
    # As large as one star would show it, a tenth, in one draw of sixteen; most find none.
    assert np.count_nonzero(size[:, 0, 2] > 0.03) <= 1
    assert np.median(size[:, :, 2]) < 0.01


def test_few_stars_on_a_neighbours_misfit_do_not_decide(rng):
    truth = whole(0.02 * rng.standard_normal((N_RING, 1)))
    score, left, norm = scores(rng, 100, truth)
    before = fit_ring_errors(score, left, norm, SHARES)
    misfit = every_part(whole(rng.standard_normal((N_RING, 1))), rng, 1)[0]
    score[:4] = 100.0 * left[:4] @ misfit
    after = fit_ring_errors(score, left, norm, SHARES)
    assert np.linalg.norm(after) < 1.5 * np.linalg.norm(before)


def test_what_the_fit_takes_is_not_told_by_the_little_that_it_leaves(rng):
    """A dipole of the core: a shift takes 99 % of it, and 30 sigma of something else lie on the rest."""
    score, left, norm = scores(rng, 100, NOTHING)
    for star in range(score.shape[0]):
        for apart in np.eye(N_PART)[1:3]:
            taken = left[star] @ apart
            told = apart @ taken
            left[star] -= 0.99 * np.outer(taken, taken) / told
            score[star] += (30.0 * rng.standard_normal() * np.sqrt(0.01 / told)) * taken
    found = fit_ring_errors(score, left, norm, SHARES)[1]
    # As errors of the dipole these would be 30 times 0.04, told from the light of one core to 0.004.
    assert np.linalg.norm(found[0]) < 0.01


def test_too_few_stars_tell_nothing(rng):
    np.testing.assert_array_equal(fit_ring_errors(*scores(rng, 4, NOTHING), SHARES), 0.0)
