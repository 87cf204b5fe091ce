"""Compiled sums of squared residuals, one pass over the data."""

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import kernel


@kernel
def sum_residuals(
    design: tuple[IntArray, IntArray, FloatArray, FloatArray],
    observed: tuple[FloatArray, FloatArray, FloatArray],
    mean: FloatArray,
    sums: tuple[FloatArray, IntArray],
) -> None:
    """Add ivar (y - X w)**2, and 1 if used, to every coefficient an observation touches.

    `design` is (indptr, indices, parts, mix), with an empty mix if static; `observed` is (data, ivar, known); `sums` is
    (chi2, count).
    """
    indptr, indices, parts, mix = design
    data, ivar, known = observed
    chi2, count = sums
    values = parts[0].copy()
    for row in range(data.shape[0]):
        if mix.shape[0]:
            values[:] = 0.0
            for part in range(parts.shape[0]):
                values += mix[row, part] * parts[part]
        for i in range(data.shape[1]):
            if ivar[row, i] > 0.0:
                residual = data[row, i] - known[i]
                for e in range(indptr[i], indptr[i + 1]):
                    residual -= values[e] * mean[row, indices[e]]
                square = ivar[row, i] * residual * residual
                for e in range(indptr[i], indptr[i + 1]):
                    chi2[row, indices[e]] += square
                    count[row, indices[e]] += 1
