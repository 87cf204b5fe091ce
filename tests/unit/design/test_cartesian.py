"""Position columns: products of B-splines, their sum, gradient and fixed knots."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from bayesprf.design.cartesian import CartesianBasis
from bayesprf.errors import InputError


@pytest.fixture
def places():
    rng = np.random.default_rng(1)
    return rng.uniform(-7.9, 7.9, 200), rng.uniform(-7.9, 7.9, 200)


@pytest.mark.parametrize("spacing", ["linear", "sqrt"])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_columns_are_products_of_splines(places, spacing, degree):
    dx, dy = places
    basis = CartesianBasis(7, 8.0, degree, spacing)
    knots = np.concatenate([[-8.0] * degree, basis.breaks, [8.0] * degree])
    one = [BSpline(knots, row, degree) for row in np.eye(basis.n_side)]
    expected = np.stack([x(dx) * y(dy) for y in one for x in one], axis=1)
    columns = basis.columns(dx, dy)
    assert columns.shape == (200, basis.n_column)
    np.testing.assert_allclose(columns.toarray(), expected, atol=1e-14)
    np.testing.assert_allclose(columns.sum(axis=1), 1.0)


@pytest.mark.parametrize("n_knots", [10, 11])
def test_knots_are_odd_in_number_and_fixed(n_knots):
    np.testing.assert_allclose(CartesianBasis(n_knots, 5.0).breaks, np.linspace(-5, 5, 11))
    roots = CartesianBasis(n_knots, 5.0, 2, "sqrt").breaks
    np.testing.assert_allclose(np.sign(roots) * np.sqrt(np.abs(roots)), np.linspace(-(5**0.5), 5**0.5, 11), atol=1e-14)


def test_outside_the_square_the_edge_holds():
    basis = CartesianBasis(7, 8.0)
    outside, edge = (
        basis.columns(np.array([12.0, -30.0]), np.array([3.0, 9.0])),
        basis.columns(np.array([8.0, -8.0]), np.array([3.0, 8.0])),
    )
    np.testing.assert_array_equal(outside.toarray(), edge.toarray())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius: expected a finite number above 0"),
        ({"spacing": "log"}, "spacing: expected one of 'linear', 'sqrt', got 'log'"),
        ({"n_knots": 1}, "n_knots, degree: expected at least 2 knots and degree 1, got 1 and 2"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        CartesianBasis(**options)
