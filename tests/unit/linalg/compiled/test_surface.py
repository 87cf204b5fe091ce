"""Compiled surfaces beside SciPy's."""

import numpy as np
from scipy.interpolate import RectBivariateSpline

from bayesprf.linalg.compiled.surface import evaluate_surface


def test_values_and_gradients_are_those_of_scipy():
    """Everywhere, knots and edges too."""
    rng = np.random.default_rng(3)
    x_grid, y_grid = np.linspace(-2.0, 3.0, 17), np.linspace(0.0, 1.0, 11)
    spline = RectBivariateSpline(x_grid, y_grid, rng.normal(size=(17, 11)))
    x = np.concatenate([rng.uniform(-2.0, 3.0, 200), [-2.0, 3.0, -2.0, 3.0], x_grid[:11]])
    y = np.concatenate([rng.uniform(0.0, 1.0, 200), [0.0, 1.0, 1.0, 0.0], y_grid])
    value, gradient = np.empty(x.size), np.empty((x.size, 2))
    knots = spline.get_knots()
    evaluate_surface(x, y, knots[0], knots[1], spline.get_coeffs().reshape(17, 11), value, gradient)
    np.testing.assert_allclose(value, spline.ev(x, y), atol=1e-12)
    np.testing.assert_allclose(gradient[:, 0], spline.ev(x, y, dx=1), atol=1e-11)
    np.testing.assert_allclose(gradient[:, 1], spline.ev(x, y, dy=1), atol=1e-11)
