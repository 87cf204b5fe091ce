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
def add_block(place: IntArray, n_own: int, block: FloatArray, whole: FloatArray) -> None:
    """Add the upper triangle of a symmetric matrix of groups of parameters to that of a larger one.

    Parameters
    ----------
    place : ndarray of int64, shape (n_group,)
        Where each group stands in the larger matrix, ascending.
    n_own : int
        Parameters of a group.
    block : ndarray of float64, shape (n_own n_group, n_own n_group)
        Matrix, contiguous along its rows.
    whole : ndarray of float64, shape (n, n)
        Added to, contiguous along its rows.
    """
    for a in range(place.size):
        for i in range(n_own):
            row, into = block[a * n_own + i], whole[place[a] * n_own + i]
            for b in range(a, place.size):
                start, stop = place[b] * n_own, b * n_own
                for j in range(n_own):
                    into[start + j] += row[stop + j]
