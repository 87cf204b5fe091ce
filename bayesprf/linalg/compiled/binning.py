"""Compiled pass over the data: weighted sums of chosen columns in bins of rows."""

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import kernel


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
