"""Compiled sums: groups of columns, row by row; columns in bins of rows; blocks of a matrix."""

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
def bin_columns(
    indptr: IntArray, rows: IntArray, columns: IntArray, flux: FloatArray, ivar: FloatArray, sums: FloatArray
) -> None:
    """Add up ivar and ivar times flux of the rows of each bin.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_bin + 1,)
        Bin b holds ``rows[indptr[b]:indptr[b + 1]]``.
    rows : ndarray of int64, shape (n_entry,)
        Cadences.
    columns : ndarray of int64, shape (n_column,)
        Chosen pixels.
    flux, ivar : ndarray of float64, shape (n_time, n_pixel)
        Data and inverse variances; where `ivar` is 0 the flux is not read.
    sums : ndarray of float64, shape (2, n_bin, n_column)
        Zeros; filled with sum ivar and sum ivar flux.
    """
    for b in range(indptr.size - 1):
        for k in range(indptr[b], indptr[b + 1]):
            row = rows[k]
            for j in range(columns.size):
                weight = ivar[row, columns[j]]
                if weight > 0.0:
                    sums[0, b, j] += weight
                    sums[1, b, j] += weight * flux[row, columns[j]]


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
