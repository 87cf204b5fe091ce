"""Errors of the stars' rings: what their covariance is learned from, and what fluxes answer."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.prf.joint.discrepancy import _converge, _whole_and_halves, fit_ring_errors, ring_response

SHARES = np.array([0.3, 0.3, 0.15, 0.15, 0.05, 0.05])


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def scores(rng, n_star, factor):
    """Draw scores of errors factor x, seen with noise, and what is told of them after a fit of the flux, and before."""
    n_part = SHARES.size
    score, left, norm = np.empty((n_star, n_part)), np.empty((n_star, n_part, n_part)), np.empty((n_star, n_part))
    for star in range(n_star):
        weight = 1e5 * SHARES * rng.uniform(0.5, 1.5, n_part)
        norm[star] = weight
        left[star] = np.diag(weight) - np.outer(weight, weight) / weight.sum()
        scale, axes = np.linalg.eigh(left[star])
        noise = axes @ (np.sqrt(np.maximum(scale, 0.0)) * rng.standard_normal(n_part))
        score[star] = left[star] @ (factor @ rng.standard_normal(factor.shape[1])) + noise
    return score, left, norm


def conserving(factor):
    """Return errors that add up to no light."""
    return factor - SHARES @ factor


def test_covariance_of_rings_is_found(rng):
    truth = conserving(0.02 * rng.standard_normal((6, 2)))
    found = fit_ring_errors(*scores(rng, 400, truth), SHARES)
    # 400 stars tell a variance to sqrt(2 / 400), 7 %, and the rest is noise of 0.003.
    np.testing.assert_allclose(found @ found.T, truth @ truth.T, atol=0.2 * np.max(truth @ truth.T))
    # Of the factor by itself it is the root of rounding errors, 4e-10 with some kernels of BLAS.
    np.testing.assert_allclose(SHARES @ found @ found.T, 0.0, atol=1e-15)


def test_a_variance_near_zero_is_reached():
    """Of a variance seen with noise 1 in a mean square of 1.01, plain turns take thousands to 0.01."""
    turns = []

    def improved(s):
        turns.append(s)
        return s / (1.0 + s) + (s / (1.0 + s)) ** 2 * 1.01

    assert _converge(improved, np.array([[1.0]]))[0, 0] == pytest.approx(0.01, rel=0.05)
    assert len(turns) < 100


def test_noise_leaves_next_to_nothing(rng):
    found = fit_ring_errors(*scores(rng, 200, np.zeros((6, 1))), SHARES)
    # One star alone tells the light of the two inner parts to 0.006.
    assert np.linalg.norm(found[:2], axis=1).max() < 0.003


def test_noise_is_rarely_worth_a_parameter(rng):
    """The likeliest covariance of noise is never zero; that which is worth its parameters is, in most fields."""
    found = [np.linalg.norm(fit_ring_errors(*scores(rng, 60, np.zeros((6, 1))), SHARES)) for _ in range(20)]
    # Akaike's criterion takes one parameter too many in a sixth of all draws, and few of five at once.
    assert np.count_nonzero(found) < 7


def test_an_outer_ring_that_few_stars_show_errs_by_nothing(rng):
    """Inner rings err by 2 %; the outer one does not, and seven stars tell it to a tenth of its light."""
    truth = np.zeros((6, 2))
    truth[:4] = 0.02 * rng.standard_normal((4, 2))
    truth[:4] -= SHARES[:4] @ truth[:4] / SHARES[:4].sum()
    score, left, norm = scores(rng, 100, truth)
    for star in range(100):
        scale = np.where(np.arange(6) < 4, 1.0, 1e-2 if star < 7 else 1e-8)
        score[star], left[star], norm[star] = (
            score[star] * scale,
            left[star] * np.outer(scale, scale),
            norm[star] * scale**2,
        )
    found = fit_ring_errors(score, left, norm, SHARES)
    assert np.linalg.norm(found[:4]) > 0.01
    np.testing.assert_array_equal(found[4:], 0.0)


def test_few_stars_on_a_neighbours_misfit_do_not_decide(rng):
    truth = conserving(0.02 * rng.standard_normal((6, 1)))
    score, left, norm = scores(rng, 100, truth)
    before = fit_ring_errors(score, left, norm, SHARES)
    score[:4] = 100.0 * np.einsum("sij,j->si", left[:4], conserving(rng.standard_normal((6, 1)))[:, 0])
    after = fit_ring_errors(score, left, norm, SHARES)
    assert np.linalg.norm(after) < 1.5 * np.linalg.norm(before)


def test_what_the_fit_takes_is_not_told_by_the_little_that_it_leaves(rng):
    """Halves of the core: a shift takes 99 % of what they differ by, and 30 sigma of something else lie on the rest."""
    score, left, norm = scores(rng, 100, np.zeros((6, 1)))
    apart = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    for star in range(score.shape[0]):
        taken = left[star] @ apart
        told = apart @ taken
        left[star] -= 0.99 * np.outer(taken, taken) / told
        score[star] += (30.0 * rng.standard_normal() * np.sqrt(0.01 / told)) * taken
    found = _whole_and_halves(fit_ring_errors(score, left, norm, SHARES))[1]
    # As errors of the halves these would be 30 times 0.04, told from the light of one core to 0.004.
    assert np.linalg.norm(found[0]) < 0.01


def test_too_few_stars_tell_nothing(rng):
    np.testing.assert_array_equal(fit_ring_errors(*scores(rng, 4, np.zeros((6, 1))), SHARES), 0.0)


def test_halves_that_balance_err_by_nothing_as_a_whole():
    # What one half has more than the mean the other has less: a star that is off its place.
    factors = _whole_and_halves(np.array([[0.1], [-0.1], [0.0], [0.0]]))
    np.testing.assert_allclose(
        factors @ factors.transpose(0, 2, 1), [np.zeros((2, 2)), np.diag([0.01, 0.0])], atol=1e-15
    )


def test_what_halves_share_is_told_from_what_they_do_not():
    shared, own = np.array([[0.04, -0.01], [-0.01, 0.02]]), np.diag([0.01, 0.03])
    both = np.kron(shared, np.ones((2, 2))) + np.kron(own, np.eye(2))
    factors = _whole_and_halves(np.linalg.cholesky(both))
    np.testing.assert_allclose(factors @ factors.transpose(0, 2, 1), [shared + 0.5 * own, 0.5 * own], atol=1e-12)


def test_a_flux_that_weighs_all_pixels_alike_does_not_answer():
    # One star of 100 electron / s, all its light seen by two pixels, one in each half of the first ring.
    light = csr_matrix(np.array([[60.0, 0.0], [0.0, 40.0], [0.0, 0.0], [0.0, 0.0]]))
    factors = np.stack([np.diag([0.1, 0.0]), np.diag([0.2, 0.0])])
    rings = np.array([[100.0, 0.0]])
    for weight, expected in (
        (np.array([1.0, 1.0]), 0.0),
        (np.array([1.5, 0.25]), 0.2 * 60.0),
    ):
        gain = csr_matrix((light @ weight)[None])
        answer = ring_response(gain, light, np.ones(2, bool), rings, factors)
        assert np.linalg.norm(answer.toarray()) == pytest.approx(expected, abs=1e-12)
