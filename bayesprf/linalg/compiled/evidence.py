"""Compiled evidence of a linear problem as a function of its hyperparameters, and its gradient."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import inlined, kernel
from bayesprf.linalg.compiled.leverage import read_inverse
from bayesprf.linalg.compiled.solve import Answer, solve_rows
from bayesprf.linalg.compiled.work import Prior, Rows, Scratch, Values, Work, make_scratch
from bayesprf.linalg.solvers.symbolic import SymbolicFactor

# Log evidence, an array without axes, and its gradient, of hyperparameters in one vector and data (n_batch, n_obs).
Density = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


class Scales(NamedTuple):
    """Hyperparameters as numbers, and which coefficients and observations they scale.

    `width` (n_width,) and `noise_scale` (n_noise,) hold one number per group, `zero_point`, `jitter` and `model_error`
    (1,) each; `width_group` (n_coeff,) and `noise_group` (n_obs,) are -1 for no group; `model_variance` is (n_obs,).
    """

    width: FloatArray
    zero_point: FloatArray
    noise_scale: FloatArray
    jitter: FloatArray
    model_error: FloatArray
    width_group: IntArray
    noise_group: IntArray
    model_variance: FloatArray


class Slopes(NamedTuple):
    """Derivatives of the log evidence with the numbers of `Scales`, of the same shapes."""

    width: FloatArray
    zero_point: FloatArray
    noise_scale: FloatArray
    jitter: FloatArray
    model_error: FloatArray


class Given(NamedTuple):
    """A problem before it is scaled: entries of its design as they are stored, data, and prior in the original order.

    `indptr` (n_obs + 1,), `indices` (nnz,), `parts` (n_part, nnz), `mix` (n_batch, n_part), empty if static; `known`
    (n_obs,); `mean`, `precision` (n_coeff,).
    """

    indptr: IntArray
    indices: IntArray
    parts: FloatArray
    mix: FloatArray
    known: FloatArray
    mean: FloatArray
    precision: FloatArray


@kernel
def scale_ivar(ivar: FloatArray, scales: Scales) -> FloatArray:
    """Return 1 / (k^2 (1 / ivar + j^2) + e^2 v) of every datum."""
    answer = np.empty(ivar.shape)
    jitter, error = scales.jitter[0] ** 2, scales.model_error[0] ** 2
    for i in range(ivar.shape[1]):
        group, extra = scales.noise_group[i], error * scales.model_variance[i]
        factor = scales.noise_scale[group] ** 2 if group >= 0 else 1.0
        for row in range(ivar.shape[0]):
            one = ivar[row, i]
            answer[row, i] = one / (factor * (1.0 + jitter * one) + one * extra)
    return answer


@kernel
def scale_prior(given: Given, scales: Scales) -> Prior:
    """Return the scaled prior in the original order."""
    precision = given.precision.copy()
    for j in range(precision.size):
        if scales.width_group[j] >= 0:
            precision[j] /= scales.width[scales.width_group[j]] ** 2
    return Prior(scales.zero_point[0] * given.mean, precision)


@inlined
def add_coefficients(given: Given, prior: Prior, scales: Scales, answer: Answer, slopes: Slopes) -> None:
    """Add sum [<(w - z m)^2> / (v s)^2 - 1] / v of each group, and sum (<w> - z m) m / (v s)^2."""
    for j in range(prior.mean.size):
        excess, pull = 0.0, 0.0
        for row in range(answer.mean.shape[0]):
            away = answer.mean[row, j] - prior.mean[j]
            excess += prior.precision[j] * (away * away + answer.std[row, j] ** 2) - 1.0
            pull += away
        slopes.zero_point[0] += pull * prior.precision[j] * given.mean[j]
        if scales.width_group[j] >= 0:
            slopes.width[scales.width_group[j]] += excess / scales.width[scales.width_group[j]]


@inlined
def add_observations(
    given: Given, observed: tuple[FloatArray, FloatArray, FloatArray, FloatArray], scales: Scales, answer: Answer,
    slopes: Slopes,
) -> None:  # fmt: skip
    """Add each datum's share of <(y - X w)^2> / V - 1 to what makes its variance V.

    `observed` is (data, ivar before scaling, ivar, variance of the model), the last with one row if all are the same.
    """
    data, before, ivar, variance = observed
    values = given.parts[0].copy()
    jitter2, error2 = scales.jitter[0] ** 2, scales.model_error[0] ** 2
    for row in range(data.shape[0]):
        if given.mix.shape[0]:
            values[:] = 0.0
            for part in range(given.parts.shape[0]):
                values += given.mix[row, part] * given.parts[part]
        spread = variance[min(row, variance.shape[0] - 1)]
        for i in range(data.shape[1]):
            if ivar[row, i] > 0.0:
                residual = data[row, i] - given.known[i]
                for e in range(given.indptr[i], given.indptr[i + 1]):
                    residual -= values[e] * answer.mean[row, given.indices[e]]
                excess = ivar[row, i] * (residual * residual + spread[i]) - 1.0
                beyond = excess * ivar[row, i] * scales.model_variance[i]
                own = excess - error2 * beyond
                slopes.model_error[0] += scales.model_error[0] * beyond
                slopes.jitter[0] += scales.jitter[0] * own * before[row, i] / (1.0 + jitter2 * before[row, i])
                if scales.noise_group[i] >= 0:
                    slopes.noise_scale[scales.noise_group[i]] += own / scales.noise_scale[scales.noise_group[i]]


@kernel
def renew(work: Work, sums: FloatArray) -> Scratch:
    """Return new scratch of the same shapes."""
    fresh = Work(
        np.empty_like(work.ivar), np.empty_like(work.data), np.empty_like(work.value), np.empty_like(work.lower),
        np.empty_like(work.column), np.empty_like(work.scaled), np.empty_like(work.inv_diag),
        np.empty_like(work.solution), np.empty_like(work.buffer), np.empty_like(work.where),
    )  # fmt: skip
    return Scratch(fresh, np.empty_like(sums))


@kernel
def evidence(
    plan: SymbolicFactor, values: Values, given: Given, observed: tuple[FloatArray, FloatArray], scales: Scales,
    scratch: Scratch, which: tuple[bool, bool],
) -> tuple[float, Slopes]:  # fmt: skip
    """Return the log evidence, summed over batch rows, and its derivatives; NaN if a pivot is zero.

    `observed` is (data, ivar); `which` says whether the derivatives with the noise are needed, which else stay 0, and
    whether all batch rows have the same covariance.
    """
    data, before = observed
    n_batch, n_coeff = data.shape[0], given.mean.size
    ivar, prior = scale_ivar(before, scales), scale_prior(given, scales)
    rows = Rows(np.arange(n_batch), data, ivar, given.known)
    model = (values, Prior(prior.mean[plan.order], prior.precision[plan.order]), rows)
    answer = Answer(
        np.empty((n_batch, n_coeff)), np.empty((n_batch, n_coeff)), np.empty(n_batch), np.full(2, -1), np.zeros(1)
    )
    slopes = Slopes(
        np.zeros(scales.width.size), np.zeros(1), np.zeros(scales.noise_scale.size), np.zeros(1), np.zeros(1)
    )
    solve_rows(plan, model, answer, scratch, (0, n_batch))
    if answer.failure[0] >= 0:
        return np.nan, slopes
    add_coefficients(given, prior, scales, answer, slopes)
    if which[0]:
        variance = np.empty((1 if which[1] else n_batch, data.shape[1]))
        first = Rows(np.arange(variance.shape[0]), data, ivar, given.known)
        asked = (np.empty((0, 0)), variance)
        read_inverse(plan, (model[0], model[1], first), asked, scratch, (0, variance.shape[0]))
        add_observations(given, (data, before, ivar, variance), scales, answer, slopes)
    return answer.log_density.sum() + 0.5 * n_batch * np.log(prior.precision).sum(), slopes


def density_of(
    model: tuple[SymbolicFactor, Values, Given], ivar: FloatArray, groups: Scales, *, is_shared: bool
) -> Density:
    """Return a compiled function of widths, zero point, noise scale and jitter in one vector, and of the data.

    It returns the log evidence, an array without axes, and its gradient. `groups` gives the groups of coefficients.
    """
    plan, values, given = model
    width_group, noise_group, extra = groups.width_group, groups.noise_group, groups.model_variance
    work, sums = make_scratch(plan, values.mix.shape[0])

    @njit
    def density(numbers, data):  # type: ignore[no-untyped-def]
        n = numbers.size - 3
        scales = Scales(
            numbers[:n].copy(), numbers[n : n + 1].copy(), numbers[n + 1 : n + 2].copy(), numbers[n + 2 :].copy(),
            np.ones(1), width_group, noise_group, extra,
        )  # fmt: skip
        observed = (np.ascontiguousarray(data), ivar)
        value, slopes = evidence(plan, values, given, observed, scales, renew(work, sums), (True, is_shared))
        gradient = np.concatenate((slopes.width, slopes.zero_point, slopes.noise_scale, slopes.jitter))
        return np.asarray(value), gradient

    return density
