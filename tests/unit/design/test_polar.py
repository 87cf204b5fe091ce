"""Splines and polar columns, beside scipy's B-splines and sums that must hold."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from bayesprf.design.polar import PolarBasis
from bayesprf.design.splines import CUBIC, local_periodic_splines, open_knots, open_splines
from bayesprf.errors import InputError

RNG_PLACES = np.random.default_rng(0)
R, PHI = RNG_PLACES.uniform(0.0, 20.0, 200), RNG_PLACES.uniform(-np.pi, np.pi, 200)


def test_open_splines_are_scipy_s():
    knots = open_knots(np.array([0.0, 1.0, 2.5, 4.0]), 3)
    x = np.linspace(-1.0, 5.0, 61)
    inside = (x >= 0) & (x <= 4)
    found = open_splines(x, knots, 3).toarray()
    for j in range(found.shape[1]):
        one = np.nan_to_num(BSpline.basis_element(knots[j : j + 5], extrapolate=False)(x[inside]))
        ends = (x[inside] < 4.0) & (x[inside] > 0.0)
        np.testing.assert_allclose(found[inside, j][ends], one[ends], atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), inside.astype(float), atol=1e-12)


@pytest.mark.parametrize("breaks", [[1.0], [0.0, 2.0, 1.0], [3.0, 3.0]])
def test_breaks_must_rise(breaks):
    with pytest.raises(InputError, match=r"^breaks: expected at least two increasing numbers, got"):
        open_knots(np.array(breaks), 3)


def test_periodic_splines_close_the_circle():
    phi = np.array([0.0, 2 * np.pi, -2 * np.pi, 1.0, 1.0 + 2 * np.pi, np.nextafter(2 * np.pi, 0), -1e-17])
    index, value = local_periodic_splines(phi, 7)
    dense = np.zeros((7, 7))
    np.add.at(dense, (np.arange(7)[:, None], index), value)
    np.testing.assert_allclose(value.sum(axis=1), 1.0, rtol=1e-14)
    for one, other in ((0, 1), (0, 2), (3, 4), (0, 5), (0, 6)):
        np.testing.assert_allclose(dense[one], dense[other], atol=1e-12)


def test_periodic_splines_are_turned_copies():
    """A turn by one knot renames the functions."""
    phi = np.linspace(0.0, 6.0, 50)
    index, value = local_periodic_splines(phi, 9)
    turned, same = local_periodic_splines(phi + 2 * np.pi / 9, 9)
    np.testing.assert_allclose(same, value, atol=1e-12)
    np.testing.assert_array_equal(turned, (index + 1) % 9)


def test_too_few_angular_knots():
    with pytest.raises(InputError, match=r"^n_phi_knots: expected at least 4, got 3"):
        local_periodic_splines(PHI, 3)


@pytest.mark.parametrize("basis", [PolarBasis(), PolarBasis(2.0, 12.0, 4.0, 7, 9), PolarBasis(cut_r=0.0)])
def test_columns_sum_to_one(basis):
    """Adding a constant to every weight adds it to log10 PRF: how the PRF is normalised."""
    matrix = basis.matrix(R, PHI)
    assert matrix.shape == (200, basis.n_basis)
    np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel(), 1.0, rtol=1e-12)
    assert basis.centers.shape == (basis.n_basis,)


def test_columns_keep_their_value_beyond_rmax():
    basis = PolarBasis()
    beyond, edge = basis.matrix(np.full(200, 25.0), PHI), basis.matrix(np.full(200, 16.0), PHI)
    np.testing.assert_array_equal(beyond.toarray(), edge.toarray())


def test_angle_does_not_count_inside_the_cut():
    basis = PolarBasis()
    inside = basis.matrix(np.full(50, 5.99), np.linspace(0, 6, 50)).toarray()
    np.testing.assert_allclose(inside, np.repeat(inside[:1], 50, axis=0), atol=1e-12)
    assert np.abs(inside[:, basis.n_core :]).max() < 1e-12
    outside = basis.matrix(np.full(50, 8.0), np.linspace(0, 6, 50)).toarray()
    assert np.ptp(outside, axis=0).max() > 0.1


def test_entries_are_the_matrix():
    basis = PolarBasis()
    columns, values = basis.entries(R, PHI)
    assert columns.shape == values.shape == (200, (CUBIC + 1) ** 2)
    dense = np.zeros((200, basis.n_basis))
    np.add.at(dense, (np.arange(200)[:, None], columns), values)
    np.testing.assert_allclose(dense, basis.matrix(R, PHI).toarray(), atol=1e-14)


def test_basis_does_not_move_with_the_data():
    """The same place has the same columns, whatever is evaluated beside it (PSFMachine's knots follow the data)."""
    basis = PolarBasis()
    np.testing.assert_array_equal(basis.matrix(R[:1], PHI[:1]).toarray(), basis.matrix(R, PHI).toarray()[:1])


def test_flat_weights_have_no_bends():
    basis = PolarBasis()
    rows = basis.roughness()
    assert rows.shape[1] == basis.n_basis
    np.testing.assert_allclose(rows @ np.ones(basis.n_basis), 0.0, atol=1e-12)
    bent = np.arange(basis.n_basis) % 2
    assert np.abs(rows @ bent).max() > 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rmin": -1.0}, "^rmin: expected a finite number above 0"),
        ({"rmax": 1.0}, r"^rmax: expected a radius above rmin = 1.0 arcsec, got 1.0"),
        ({"cut_r": np.nan}, "^cut_r: expected 0 or more arcsec, got nan"),
        ({"n_r_knots": 1}, "^n_r_knots: expected at least 3, got 1"),
        ({"n_phi_knots": 2}, "^n_phi_knots: expected at least 4, got 2"),
    ],
)
def test_bad_basis_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        PolarBasis(**change)
