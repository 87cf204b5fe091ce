"""Compiled pass over the data: plain sums of groups of columns, row by row."""

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import kernel


@kernel
def sum_groups(
    indptr: IntArray, columns: IntArray, data: FloatArray, ivar: FloatArray, sums: FloatArray, errors: FloatArray
) -> None:
    """Add up the data of each group in each row, and the variances to a standard deviation.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_group + 1,)
        Group g holds ``columns[indptr[g]:indptr[g + 1]]``.
    columns : ndarray of int64, shape (n_entry,)
        Columns of the data.
    data, ivar : ndarray of float64, shape (n_row, n_column)
        Data and inverse variances.
    sums, errors : ndarray of float64, shape (n_row, n_group)
        Filled; NaN for an empty group, and where the ivar of any member is 0.
    """
    for row in range(data.shape[0]):
        for g in range(indptr.size - 1):
            total, variance = 0.0, 0.0
            whole = indptr[g + 1] > indptr[g]
            for k in range(indptr[g], indptr[g + 1]):
                weight = ivar[row, columns[k]]
                if weight > 0.0:
                    total += data[row, columns[k]]
                    variance += 1.0 / weight
                else:
                    whole = False
            sums[row, g] = total if whole else np.nan
            errors[row, g] = np.sqrt(variance) if whole else np.nan


@kernel
def add_squares(indptr: IntArray, indices: IntArray, data: FloatArray, normal: FloatArray) -> None:
    """Add J'J of a sparse matrix to the lower triangle of a dense one.

    Parameters
    ----------
    indptr, indices : ndarray of int, shape (n_row + 1,) and (n_entry,)
        Rows and columns of J, whose columns ascend in each row.
    data : ndarray of float64, shape (n_entry,)
        Its values.
    normal : ndarray of float64, shape (n_column, n_column)
        Added to.
    """
    for row in range(indptr.size - 1):
        for a in range(indptr[row], indptr[row + 1]):
            for b in range(indptr[row], a + 1):
                normal[indices[a], indices[b]] += data[a] * data[b]


@kernel
def row_lengths(indptr: IntArray, indices: IntArray, data: FloatArray, covariance: FloatArray, out: FloatArray) -> None:
    """Fill the quadratic form j' C j of each row j of a sparse matrix.

    Parameters
    ----------
    indptr, indices : ndarray of int, shape (n_row + 1,) and (n_entry,)
        Rows and columns.
    data : ndarray of float64, shape (n_entry,)
        Values.
    covariance : ndarray of float64, shape (n_column, n_column)
        C.
    out : ndarray of float64, shape (n_row,)
        Filled.
    """
    for row in range(indptr.size - 1):
        total = 0.0
        for a in range(indptr[row], indptr[row + 1]):
            part = 0.5 * data[a] * covariance[indices[a], indices[a]]
            for b in range(indptr[row], a):
                part += data[b] * covariance[indices[a], indices[b]]
            total += 2.0 * data[a] * part
        out[row] = total
