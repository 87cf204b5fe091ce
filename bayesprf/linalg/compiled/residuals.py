"""Compiled passes over the data beside the model of every observation: squared residuals, and variances."""

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.linalg.compiled.jit import inlined, kernel

# (indptr, indices, parts, mix) of a DesignStack, with an empty mix if static.
type Design = tuple[IntArray, IntArray, FloatArray, FloatArray]


@inlined
def mix_parts(design: Design, row: int, values: FloatArray) -> None:
    """Write the entries of one row's matrix, unless they never change."""
    parts, mix = design[2], design[3]
    if mix.shape[0]:
        values[:] = 0.0
        for part in range(parts.shape[0]):
            values += mix[row, part] * parts[part]


@inlined
def predict_row(design: Design, values: FloatArray, mean: FloatArray, model: FloatArray) -> None:
    """Write X w of one row, shape (n_obs,)."""
    indptr, indices = design[0], design[1]
    for i in range(model.size):
        total = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            total += values[e] * mean[indices[e]]
        model[i] = total


@kernel
def sum_residuals(
    design: Design,
    observed: tuple[FloatArray, FloatArray, FloatArray],
    mean: FloatArray,
    sums: tuple[FloatArray, IntArray],
) -> None:
    """Add ivar (y - X w)**2, and 1 if used, to every coefficient an observation touches.

    `observed` is (data, ivar, known); `sums` is (chi2, count).
    """
    indptr, indices, parts = design[0], design[1], design[2]
    data, ivar, known = observed
    chi2, count = sums
    values = parts[0].copy()
    for row in range(data.shape[0]):
        mix_parts(design, row, values)
        for i in range(data.shape[1]):
            if ivar[row, i] > 0.0:
                residual = data[row, i] - known[i]
                for e in range(indptr[i], indptr[i + 1]):
                    residual -= values[e] * mean[row, indices[e]]
                square = ivar[row, i] * residual * residual
                for e in range(indptr[i], indptr[i + 1]):
                    chi2[row, indices[e]] += square
                    count[row, indices[e]] += 1


@kernel
def sum_variances(
    ivar: FloatArray, least: FloatArray, total: FloatArray, sums: tuple[FloatArray, FloatArray, FloatArray]
) -> None:
    """Add up over rows the variances of what is used and has an ivar of at least `least`, shape (n_obs,).

    `sums` is their number, smallest and largest.
    """
    count, low, high = sums
    for row in range(ivar.shape[0]):
        for i in range(ivar.shape[1]):
            one = ivar[row, i]
            if one > 0.0 and one >= least[i]:
                variance = 1.0 / one
                count[i] += 1.0
                total[i] += variance
                low[i] = min(low[i], variance)
                high[i] = max(high[i], variance)


@kernel
def write_usual_ivar(
    given: FloatArray, least: FloatArray, value: FloatArray, which: BoolArray, ivar: FloatArray
) -> None:
    """Write inverse variances: the observation's `value` for what is used and at least `least`, if `which` says so."""
    for row in range(given.shape[0]):
        for i in range(given.shape[1]):
            one = given[row, i]
            ivar[row, i] = value[i] if which[i] and one > 0.0 and one >= least[i] else one


@kernel
def sum_light(
    design: Design, mean: FloatArray, ivar: FloatArray, usual: tuple[FloatArray, FloatArray], sums: FloatArray
) -> None:
    """Add up over rows 1, m, m**2 and m (1 / ivar - V), m = X w, of what is used and has an ivar of at least `least`.

    `usual` is (least, V); `sums` has shape (4, n_obs).
    """
    least, variance = usual
    values, model = design[2][0].copy(), np.empty(ivar.shape[1])
    for row in range(ivar.shape[0]):
        mix_parts(design, row, values)
        predict_row(design, values, mean[row], model)
        for i in range(model.size):
            one = ivar[row, i]
            if one > 0.0 and one >= least[i]:
                sums[0, i] += 1.0
                sums[1, i] += model[i]
                sums[2, i] += model[i] * model[i]
                sums[3, i] += model[i] * (1.0 / one - variance[i])


@kernel
def write_light_ivar(
    design: Design,
    mean: FloatArray,
    given: FloatArray,
    variance: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    law: tuple[float, FloatArray],
    ivar: FloatArray,
) -> None:
    """Write 1 / max(V + b (m - m_p) + g, v) for what is used and has a given ivar of at least `least`.

    `variance` is (least, V, m_p, v), shape (n_obs,); `law` is b and g, shape (n_batch,).
    """
    least, usual, light, low = variance
    gain, offset = law
    values, model = design[2][0].copy(), np.empty(given.shape[1])
    for row in range(given.shape[0]):
        mix_parts(design, row, values)
        predict_row(design, values, mean[row], model)
        for i in range(model.size):
            one = given[row, i]
            if one > 0.0 and one >= least[i]:
                ivar[row, i] = 1.0 / max(usual[i] + gain * (model[i] - light[i]) + offset[row], low[i])
