"""Compiled bicubic splines on a grid."""

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.linalg.compiled.jit import kernel
from bayesprf.linalg.compiled.polar import cubic_splines


@kernel
def evaluate_surface(
    x: FloatArray,
    y: FloatArray,
    x_knots: FloatArray,
    y_knots: FloatArray,
    coefficients: FloatArray,
    value: FloatArray,
    gradient: FloatArray,
) -> None:
    """Evaluate a bicubic spline and its gradient.

    Parameters
    ----------
    x, y : ndarray of float64, shape (n,)
        Where, inside the bounds of the knots.
    x_knots, y_knots : ndarray of float64, shapes (n_x + 4,) and (n_y + 4,)
        Full knot vectors.
    coefficients : ndarray of float64, shape (n_x, n_y)
        Of the B-splines.
    value : ndarray of float64, shape (n,)
        Filled.
    gradient : ndarray of float64, shape (n, 2)
        Filled: derivatives by x and y.
    """
    by_x, x_slope, by_y, y_slope = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for k in range(x.size):
        i, j = cubic_splines(x[k], x_knots, by_x, x_slope), cubic_splines(y[k], y_knots, by_y, y_slope)
        total, rise, turn = 0.0, 0.0, 0.0
        for a in range(4):
            row, row_slope = 0.0, 0.0
            for b in range(4):
                row += by_y[b] * coefficients[i + a, j + b]
                row_slope += y_slope[b] * coefficients[i + a, j + b]
            total += by_x[a] * row
            rise += x_slope[a] * row
            turn += by_x[a] * row_slope
        value[k], gradient[k, 0], gradient[k, 1] = total, rise, turn
