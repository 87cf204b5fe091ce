"""Compiled Kalman filter and smoother of many processes at once, on the normal equations of each row.

Notation: P covariance of the n states, X (n, m) their means (column 0) and responses to the m - 1 fixed columns, H
picks sigma times the first state of each of the S processes, D = H X plus columns, J and z the information of a row.
"""

from typing import NamedTuple

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import inlined, kernel


class Model(NamedTuple):
    """Processes and data.

    `start` (S + 1,) first state of each process; `sigma` (S,); `transition`, `noise` (n_time, S, d, d); `stationary`
    (S, d, d); `information` (n_time, S, S); `rhs` and `columns` (n_time, S, m): what is smoothed is m data sets
    rhs about columns + H x, the first the data themselves, those of the fixed columns with rhs 0.
    """

    start: IntArray
    sigma: FloatArray
    transition: FloatArray
    noise: FloatArray
    stationary: FloatArray
    information: FloatArray
    rhs: FloatArray
    columns: FloatArray


class Filtered(NamedTuple):
    """What the filter leaves, one entry per row.

    `covariance` (n_time, n, n) and `mean` (n_time, n, m) of the filtered states; `weight` (n_time, S, S)
    W = (J^-1 + H P H')^-1; `update` (n_time, S, m) U, the weighted innovations; `predicted` (n_time, S, m) D;
    `log_density` (n_time,) of the row given those before, its constant aside; `score` (n_time, k) and `curvature`
    (n_time, k, k) how it changes with the coefficients of the k fixed columns.
    """

    covariance: FloatArray
    mean: FloatArray
    weight: FloatArray
    update: FloatArray
    predicted: FloatArray
    log_density: FloatArray
    score: FloatArray
    curvature: FloatArray


class Smoothed(NamedTuple):
    """What the smoother leaves, one entry per row.

    `process` (n_time, S, m): smoothed H X; `covariance` (n_time, S, S) of H x given the fixed columns' coefficients;
    `transition`, `noise` (n_time, S, d, d): derivatives of the log evidence with respect to A and Q, empty if unwanted.
    """

    process: FloatArray
    covariance: FloatArray
    transition: FloatArray
    noise: FloatArray


@inlined
def multiply_blocks(blocks: FloatArray, start: IntArray, matrix: FloatArray, out: FloatArray) -> None:
    """Write A matrix, A block diagonal with `blocks` (S, d, d), matrix (n, k)."""
    for s in range(start.size - 1):
        lo, hi = start[s], start[s + 1]
        for i in range(lo, hi):
            out[i, :] = 0.0
            for j in range(lo, hi):
                factor = blocks[s, i - lo, j - lo]
                for k in range(matrix.shape[1]):
                    out[i, k] += factor * matrix[j, k]


@inlined
def transpose_into(matrix: FloatArray, out: FloatArray) -> None:
    """Write the transpose of a square matrix."""
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[0]):
            out[i, j] = matrix[j, i]


@inlined
def predict(model: Model, t: int, before: FloatArray, scratch: FloatArray, out: FloatArray) -> None:
    """Write the predicted covariance A P A' + Q of row t, or the stationary one of row 0."""
    start = model.start
    if t == 0:
        out[:] = 0.0
        for s in range(start.size - 1):
            for i in range(start[s], start[s + 1]):
                for j in range(start[s], start[s + 1]):
                    out[i, j] = model.stationary[s, i - start[s], j - start[s]]
        return
    multiply_blocks(model.transition[t], start, before, out)
    transpose_into(out, scratch)
    multiply_blocks(model.transition[t], start, scratch, out)
    for s in range(start.size - 1):
        for i in range(start[s], start[s + 1]):
            for j in range(start[s], start[s + 1]):
                out[i, j] += model.noise[t, s, i - start[s], j - start[s]]


@inlined
def observe(model: Model, covariance: FloatArray, seen: FloatArray, seen_seen: FloatArray) -> None:
    """Write H P, (S, n), and H P H', (S, S)."""
    for s in range(model.sigma.size):
        for j in range(covariance.shape[0]):
            seen[s, j] = model.sigma[s] * covariance[model.start[s], j]
    for s in range(model.sigma.size):
        for q in range(model.sigma.size):
            seen_seen[s, q] = model.sigma[q] * seen[s, model.start[q]]


@inlined
def solve_in_place(matrix: FloatArray, rhs: FloatArray) -> float:
    """Overwrite rhs by matrix^-1 rhs, by elimination with row exchanges, and return log |matrix|; destroys matrix."""
    n, m = rhs.shape
    log_det = 0.0
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(matrix[i, k]) > abs(matrix[pivot, k]):
                pivot = i
        if pivot != k:
            for j in range(k, n):
                matrix[k, j], matrix[pivot, j] = matrix[pivot, j], matrix[k, j]
            for j in range(m):
                rhs[k, j], rhs[pivot, j] = rhs[pivot, j], rhs[k, j]
        log_det += np.log(abs(matrix[k, k]))
        for i in range(k + 1, n):
            factor = matrix[i, k] / matrix[k, k]
            for j in range(k + 1, n):
                matrix[i, j] -= factor * matrix[k, j]
            for j in range(m):
                rhs[i, j] -= factor * rhs[k, j]
    for k in range(n - 1, -1, -1):
        for i in range(k + 1, n):
            factor = matrix[k, i]
            for j in range(m):
                rhs[k, j] -= factor * rhs[i, j]
        for j in range(m):
            rhs[k, j] /= matrix[k, k]
    return log_det


@inlined
def add_product(left: FloatArray, right: FloatArray, out: FloatArray, sign: float) -> None:
    """Add sign left right to out."""
    for i in range(left.shape[0]):
        for k in range(left.shape[1]):
            factor = sign * left[i, k]
            for j in range(right.shape[1]):
                out[i, j] += factor * right[k, j]


@inlined
def add_transposed_product(left: FloatArray, right: FloatArray, out: FloatArray, sign: float) -> None:
    """Add sign left' right to out."""
    for k in range(left.shape[0]):
        for i in range(left.shape[1]):
            factor = sign * left[k, i]
            for j in range(right.shape[1]):
                out[i, j] += factor * right[k, j]


@inlined
def weigh_innovations(
    model: Model, t: int, seen_seen: FloatArray, both: FloatArray, inner: FloatArray, found: Filtered
) -> float:
    """Write W and U of row t from its D, and return log |1 + J H P H'|."""
    n_process, m = found.update.shape[1], found.update.shape[2]
    information = model.information[t]
    inner[:] = 0.0
    add_product(information, seen_seen, inner, 1.0)
    for s in range(n_process):
        inner[s, s] += 1.0
        for q in range(n_process):
            both[s, q] = information[s, q]
        for k in range(m):
            both[s, n_process + k] = model.rhs[t, s, k]
    add_product(information, found.predicted[t], both[:, n_process:], -1.0)
    log_det = solve_in_place(inner, both)
    for s in range(n_process):
        for q in range(n_process):
            found.weight[t, s, q] = 0.5 * (both[s, q] + both[q, s])
        for k in range(m):
            found.update[t, s, k] = both[s, n_process + k]
    return log_det


@inlined
def score_row(model: Model, t: int, seen_seen: FloatArray, log_det: float, found: Filtered) -> None:
    """Write the log density of row t given those before, and how it changes with the columns' coefficients."""
    n_process, n_fixed = found.update.shape[1], found.score.shape[1]
    total = -0.5 * log_det
    for s in range(n_process):
        curved, spread = 0.0, 0.0
        for q in range(n_process):
            curved += model.information[t, s, q] * found.predicted[t, q, 0]
            spread += seen_seen[s, q] * found.update[t, q, 0]
        flux = found.predicted[t, s, 0]
        total += flux * (model.rhs[t, s, 0] - 0.5 * curved) + 0.5 * (model.rhs[t, s, 0] - curved) * spread
        for k in range(n_fixed):
            found.score[t, k] += found.predicted[t, s, k + 1] * found.update[t, s, 0]
            for j in range(n_fixed):
                found.curvature[t, k, j] -= found.predicted[t, s, k + 1] * found.update[t, s, j + 1]
    found.log_density[t] = total


@kernel
def filter_rows(model: Model, found: Filtered) -> None:
    """Filter all rows, first to last: fill `found`, whose score and curvature start at 0."""
    n_time, n_process, m = found.update.shape
    n = model.start[n_process]
    now, scratch = np.empty((n, n)), np.empty((n, n))
    seen, seen_seen = np.empty((n_process, n)), np.empty((n_process, n_process))
    gain, inner = np.empty((n, n_process)), np.empty((n_process, n_process))
    both = np.empty((n_process, n_process + m))
    for t in range(n_time):
        predict(model, t, found.covariance[t - 1], scratch, now)
        mean = found.mean[t]
        if t == 0:
            mean[:] = 0.0
        else:
            multiply_blocks(model.transition[t], model.start, found.mean[t - 1], mean)
        observe(model, now, seen, seen_seen)
        for s in range(n_process):
            for k in range(m):
                found.predicted[t, s, k] = model.columns[t, s, k] + model.sigma[s] * mean[model.start[s], k]
        log_det = weigh_innovations(model, t, seen_seen, both, inner, found)
        score_row(model, t, seen_seen, log_det, found)
        add_transposed_product(seen, found.update[t], mean, 1.0)
        gain[:] = 0.0
        add_transposed_product(seen, found.weight[t], gain, 1.0)
        for i in range(n):
            for j in range(i + 1):
                scratch[i, j] = now[i, j]
            for s in range(n_process):
                factor = gain[i, s]
                for j in range(i + 1):
                    scratch[i, j] -= factor * seen[s, j]
            for j in range(i + 1):
                found.covariance[t, i, j] = scratch[i, j]
                found.covariance[t, j, i] = scratch[i, j]


@inlined
def differentiate_step(
    model: Model, t: int, before: tuple[FloatArray, FloatArray], adjoint: tuple[FloatArray, FloatArray],
    moments: FloatArray, answer: Smoothed,
) -> None:  # fmt: skip
    """Write the derivatives of the log evidence with respect to A and Q of the step to row t.

    `before` is covariance and mean of the filtered states of row t - 1, `adjoint` (r, N) of the predicted ones of row
    t: the derivative with respect to their mean is r, that with respect to their covariance G = (E[r r'] - N) / 2;
    `moments` (m, m) is the factor L of the moments L L' of the columns' coefficients.
    """
    covariance, mean = before
    rates, information = adjoint
    start, n, m = model.start, rates.shape[0], rates.shape[1]
    spread, half = np.zeros((m, n)), np.zeros((n, m))
    for i in range(n):
        for k in range(m):
            for j in range(m):
                spread[j, i] += rates[i, k] * moments[k, j]  # (r L)'
    add_product(mean, moments, half, 1.0)  # X L
    doubled = -information  # 2 G
    add_transposed_product(spread, spread, doubled, 1.0)
    moved = np.empty((n, n))
    multiply_blocks(model.transition[t], start, covariance, moved)  # A P
    for s in range(start.size - 1):
        lo, hi = start[s], start[s + 1]
        for i in range(lo, hi):
            for j in range(lo, hi):
                answer.noise[t, s, i - lo, j - lo] = 0.5 * doubled[i, j]
                crossed = 0.0
                for k in range(m):
                    crossed += spread[k, i] * half[j, k]
                for q in range(n):
                    crossed += doubled[i, q] * moved[q, j]
                answer.transition[t, s, i - lo, j - lo] = crossed


@inlined
def absorb_row(
    model: Model, t: int, found: Filtered, seen: FloatArray, adjoint: tuple[FloatArray, FloatArray],
    crossed: tuple[FloatArray, FloatArray],
) -> None:  # fmt: skip
    """Carry the adjoint (r, N) from the filtered to the predicted states of row t, in place.

    With K = 1 - P H' W H: r <- K' r + H' U and N <- K' N K + H' W H; `crossed` is H P N and H P r before.
    """
    rates, information = adjoint
    seen_information, seen_rates = crossed
    start, sigma, weight = model.start, model.sigma, found.weight[t]
    n_process, n, m = sigma.size, rates.shape[0], rates.shape[1]
    pulled, change = np.zeros((n_process, n)), found.update[t].copy()
    double = np.zeros((n_process, n_process))
    add_product(weight, seen_information, pulled, 1.0)  # W H P N
    add_product(weight, seen_rates, change, -1.0)
    add_product(pulled, seen.T.copy(), double, 1.0)
    for s in range(n_process):
        for k in range(m):
            rates[start[s], k] += sigma[s] * change[s, k]
    inner = weight.copy()
    add_product(double, weight, inner, 1.0)  # W + W H P N P H' W
    for s in range(n_process):
        for j in range(n):
            information[start[s], j] -= sigma[s] * pulled[s, j]
    for s in range(n_process):
        for j in range(n):
            information[j, start[s]] -= sigma[s] * pulled[s, j]
    for s in range(n_process):
        for q in range(n_process):
            information[start[s], start[q]] += 0.5 * sigma[s] * sigma[q] * (inner[s, q] + inner[q, s])


@kernel
def smooth_rows(model: Model, found: Filtered, moments: FloatArray, answer: Smoothed) -> None:
    """Smooth all rows, last to first (Bryson & Frazier 1963; de Jong 1989): no covariance is ever inverted."""
    n_time, n_process, m = found.update.shape
    n = model.start[n_process]
    wanted = answer.noise.shape[0] > 0
    rates, information = np.zeros((n, m)), np.zeros((n, n))
    now, scratch, moved_rates = np.empty((n, n)), np.empty((n, n)), np.empty((n, m))
    seen, seen_seen = np.empty((n_process, n)), np.empty((n_process, n_process))
    seen_information, seen_rates = np.empty((n_process, n)), np.empty((n_process, m))
    for t in range(n_time - 1, -1, -1):
        observe(model, found.covariance[t], seen, seen_seen)
        seen_information[:] = 0.0
        seen_rates[:] = 0.0
        add_product(seen, information, seen_information, 1.0)
        add_product(seen, rates, seen_rates, 1.0)
        for s in range(n_process):
            for k in range(m):
                answer.process[t, s, k] = model.sigma[s] * found.mean[t, model.start[s], k] + seen_rates[s, k]
        add_product(seen_information, seen.T.copy(), seen_seen, -1.0)
        for s in range(n_process):
            for q in range(n_process):
                answer.covariance[t, s, q] = 0.5 * (seen_seen[s, q] + seen_seen[q, s])
        predict(model, t, found.covariance[t - 1], scratch, now)
        observe(model, now, seen, seen_seen)
        seen_information[:] = 0.0
        seen_rates[:] = 0.0
        add_product(seen, information, seen_information, 1.0)
        add_product(seen, rates, seen_rates, 1.0)
        absorb_row(model, t, found, seen, (rates, information), (seen_information, seen_rates))
        if t == 0:
            break
        if wanted:
            before = (found.covariance[t - 1], found.mean[t - 1])
            differentiate_step(model, t, before, (rates, information), moments, answer)
        transposed = model.transition[t].transpose(0, 2, 1)
        multiply_blocks(transposed, model.start, rates, moved_rates)
        rates, moved_rates = moved_rates, rates
        multiply_blocks(transposed, model.start, information, scratch)
        transpose_into(scratch, now)
        multiply_blocks(transposed, model.start, now, information)
