"""Goodness of fit of each coefficient: sums over the observations it touches."""

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_shape
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.stack import stack_of


def residual_sums(problem: LinearProblem, mean: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return chi-square and number of used observations of each coefficient's own observations.

    Parameters
    ----------
    problem : LinearProblem
        Its design must be a DesignStack.
    mean : ndarray of float64, shape (n_batch, n_coeff)
        Coefficients w.

    Returns
    -------
    chi2 : ndarray of float64, shape (n_batch, n_coeff)
        Sum of (y - X w - known)**2 over the variance of the noise, over the observations that the coefficient touches.
    count : ndarray of int64, shape (n_batch, n_coeff)
        How many of these have ivar > 0.

    Raises
    ------
    UnsupportedError
        If the design is not a DesignStack.
    ShapeError
        If `mean` does not have one row per batch row and one column per coefficient.
    """
    design = stack_of(problem)
    check_shape(mean, (problem.n_batch, design.n_coeff), "mean", "n_batch, n_coeff")
    from bayesprf.linalg.compiled.residuals import sum_residuals

    mix = np.empty((0, 1)) if design.mix is None else design.mix
    chi2 = np.zeros(mean.shape)
    count = np.zeros(mean.shape, np.int64)
    sum_residuals(
        (design.indptr, design.indices, design.parts, mix),
        (problem.data, problem.noise_ivar, problem.known),
        mean,
        (chi2, count),
    )
    return chi2, count
