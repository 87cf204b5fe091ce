"""Compiled expectation of random effects of many groups with one covariance."""

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.linalg.compiled.jit import inlined, kernel

# Rounding: a chi-square below it is none.
_LEAST = 1e-300


@inlined
def invert(matrix: FloatArray, scratch: FloatArray) -> None:
    """Replace the lower triangle of a matrix by that of its inverse, by its factor L and L^-1; `scratch` holds L^-1."""
    n = matrix.shape[0]
    for j in range(n):
        for i in range(j, n):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = np.sqrt(value) if i == j else value / matrix[j, j]
    for j in range(n):
        scratch[j, j] = 1.0 / matrix[j, j]
        for i in range(j + 1, n):
            value = 0.0
            for k in range(j, i):
                value -= matrix[i, k] * scratch[k, j]
            scratch[i, j] = value / matrix[i, i]
    for i in range(n):
        for j in range(i + 1):
            value = 0.0
            for k in range(i, n):
                value += scratch[k, i] * scratch[k, j]
            matrix[i, j] = value


@kernel
def expect_effects(
    factor: FloatArray,
    left: FloatArray,
    score: FloatArray,
    chi2: FloatArray,
    usual: FloatArray,
    total: FloatArray,
    share: FloatArray,
) -> None:
    """Add up the expected squares of effects L x, x of variance one, of which scores B L x + noise of B are seen.

    Parameters
    ----------
    factor : ndarray of float64, shape (n, n)
        L of the effects. Each group may have several with the same covariance, m n in all: those of one row of L
        follow each other.
    left : ndarray of float64, shape (n_group, m n, m n)
        B of each group.
    score : ndarray of float64, shape (n_group, m n)
        Scores s.
    chi2, usual : ndarray of float64, shape (n_group,)
        Chi-square of the scores, and the largest that is usual of what the effects leave of it.
    total : ndarray of float64, shape (n, n)
        Filled with the lower triangle of the sum of E[x x'] over groups and effects of the same covariance, in which
        the means of a group count as `share` says.
    share : ndarray of float64, shape (n_group,)
        Filled with how much each group counts: as if its chi-square were the largest usual one, if it is larger.

    Notes
    -----
    With M = 1 + L'BL the covariance of x is M^-1 and its mean M^-1 L's.
    """
    n_same = score.shape[1] // factor.shape[0]
    n = score.shape[1]
    half, inner, scratch = np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
    seen, mean = np.empty(n), np.empty(n)
    total[:] = 0.0
    for group in range(score.shape[0]):
        for j in range(n):
            column, same = j // n_same, j % n_same
            seen[j] = 0.0
            for k in range(factor.shape[0]):
                seen[j] += factor[k, column] * score[group, k * n_same + same]
            for i in range(n):
                half[i, j] = 0.0
                for k in range(factor.shape[0]):
                    half[i, j] += left[group, i, k * n_same + same] * factor[k, column]
        for i in range(n):
            column, same = i // n_same, i % n_same
            for j in range(i + 1):
                inner[i, j] = 1.0 if i == j else 0.0
                for k in range(factor.shape[0]):
                    inner[i, j] += factor[k, column] * half[k * n_same + same, j]
        invert(inner, scratch)
        explained = 0.0
        for i in range(n):
            mean[i] = 0.0
            for j in range(n):
                mean[i] += (inner[i, j] if j <= i else inner[j, i]) * seen[j]
            explained += mean[i] * seen[i]
        share[group] = min(1.0, usual[group] / max(chi2[group] - explained, _LEAST))
        for i in range(n):
            for j in range(i % n_same, i + 1, n_same):
                total[i // n_same, j // n_same] += share[group] * mean[i] * mean[j] + inner[i, j]
