"""Processes in time solved together, exactly, from what the data say about them row by row."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from bayesprf.arrays import FloatArray, pointers
from bayesprf.checks import check_shape
from bayesprf.errors import InputError, ShapeError
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.linalg.singular import semidefinite_factor
from bayesprf.linalg.state_space import MAX_STATE, ProcessKernel, StateSpace, build_states, step_gradient

if TYPE_CHECKING:
    from bayesprf.linalg.compiled.kalman import Filtered, Model, Smoothed

# Cost: data sets that are smoothed at the same time when draws are made: their states take n_time n_state numbers
# each.
_DRAWS_CHUNK = 32


@dataclass(frozen=True, slots=True, eq=False)
class RowInformation:
    """What each row of data says about its coefficients f: log p(y_t | f) = constant + rhs' f - f' matrix f / 2.

    Parameters
    ----------
    matrix : ndarray of float64, shape (n_time, n_coeff, n_coeff)
        J = X' C^-1 X; zero where there are no data.
    rhs : ndarray of float64, shape (n_time, n_coeff)
        z = X' C^-1 y.
    constant : ndarray of float64, shape (n_time,)
        log p(y_t | 0); may be NaN where evidences are not needed.

    Raises
    ------
    ShapeError
        If the shapes do not agree.
    """

    matrix: FloatArray
    rhs: FloatArray
    constant: FloatArray

    def __post_init__(self) -> None:
        n_time, n_coeff = self.rhs.shape
        check_shape(self.matrix, (n_time, n_coeff, n_coeff), "matrix", "n_time, n_coeff, n_coeff")
        check_shape(self.constant, (n_time,), "constant", "n_time")

    @property
    def n_time(self) -> int:
        """Number of rows."""
        return int(self.rhs.shape[0])

    @property
    def n_coeff(self) -> int:
        """Number of coefficients."""
        return int(self.rhs.shape[1])

    def about(self, offset: FloatArray) -> "RowInformation":
        """Return the information about f - offset, `offset` of shape (n_time, n_coeff)."""
        curved = (self.matrix * offset[:, None, :]).sum(axis=2)
        constant = self.constant + (offset * (self.rhs - 0.5 * curved)).sum(axis=1)
        return type(self)(self.matrix, self.rhs - curved, constant)

    def with_white(self, std: FloatArray) -> "RowInformation":
        """Return the information about f where the data show f + e, e ~ N(0, diag(std**2)) anew in each row.

        Parameters
        ----------
        std : ndarray of float64, shape (n_coeff,)
            Standard deviations.

        Returns
        -------
        RowInformation
            J - J D B D J with B = (1 + D J D)^-1 and D = diag(std), and so on.
        """
        if not np.any(std > 0):
            return self
        half, log_det = _white_factor(self.matrix, std)
        pulled = half @ (std[:, None] * self.matrix)
        moved = np.einsum("tij,tj->ti", half, std * self.rhs)
        return RowInformation(
            self.matrix - pulled.transpose(0, 2, 1) @ pulled,
            self.rhs - np.einsum("tji,tj->ti", pulled, moved),
            self.constant + 0.5 * np.einsum("ti,ti->t", moved, moved) - 0.5 * log_det,
        )


@dataclass(frozen=True, slots=True, eq=False)
class FixedColumns:
    """Patterns in time whose coefficients are constant: levels, events, light curves.

    Parameters
    ----------
    values : ndarray of float64, shape (n_time, n_coeff, n_column)
        E: what each adds to f per unit of its coefficient.
    mean : ndarray of float64, shape (n_column,)
        Prior mean of the coefficients.
    precision : ndarray of float64, shape (n_column, n_column)
        Their prior precision.
    """

    values: FloatArray
    mean: FloatArray
    precision: FloatArray

    @property
    def n_column(self) -> int:
        """Number of patterns."""
        return int(self.mean.size)


@dataclass(frozen=True, slots=True, eq=False)
class ProcessGradient:
    """Derivatives of the log evidence.

    Parameters
    ----------
    log_sigma, log_scale, white_variance, quality : ndarray of float64, shape (n_coeff,)
        With respect to the kernels' numbers: logarithms of sigma and scale, white**2, and quality.
    columns : ndarray of float64, shape (n_time, n_coeff, n_column)
        With respect to the fixed columns.
    """

    log_sigma: FloatArray
    log_scale: FloatArray
    white_variance: FloatArray
    quality: FloatArray
    columns: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ProcessPosterior:
    """Posterior of processes and of the coefficients of fixed columns, given all rows.

    Parameters
    ----------
    mean : ndarray of float64, shape (n_time, n_coeff)
        Posterior mean of f, white variation included.
    covariance : ndarray of float64, shape (n_time, n_coeff, n_coeff)
        Its covariance at each time.
    coefficients : ndarray of float64, shape (n_column,)
        Posterior mean of the columns' coefficients.
    coefficients_cov : ndarray of float64, shape (n_column, n_column)
        Their covariance.
    log_evidence : ndarray of float64, shape (n_time,)
        log p(y_t | y_1 ... y_(t-1)); their sum is the log evidence.
    log_loo : ndarray of float64, shape (n_time,)
        log p(y_t | all other rows).
    response : ndarray of float64, shape (n_time, n_coeff, n_column)
        Change of the mean of f with the columns' coefficients.
    gradient : ProcessGradient, optional
        If it was asked for.
    """

    mean: FloatArray
    covariance: FloatArray
    coefficients: FloatArray
    coefficients_cov: FloatArray
    log_evidence: FloatArray
    log_loo: FloatArray
    response: FloatArray
    gradient: ProcessGradient | None = None

    @property
    def std(self) -> FloatArray:
        """Standard deviation of f, shape (n_time, n_coeff)."""
        return np.sqrt(np.maximum(np.einsum("tii->ti", self.covariance), 0.0))

    @property
    def slopes(self) -> ProcessGradient:
        """The gradient, which must have been asked for."""
        if self.gradient is None:
            raise InputError("gradient: expected a posterior of solve_processes(..., gradient=True), got one without")
        return self.gradient


def solve_processes(
    information: RowInformation,
    kernels: tuple[ProcessKernel, ...],
    time: FloatArray,
    columns: FixedColumns,
    *,
    gradient: bool = False,
) -> ProcessPosterior:
    """Find the posterior of processes that all rows of data are about.

    Parameters
    ----------
    information : RowInformation
        What each row says about the values f of the processes at its time.
    kernels : tuple of ProcessKernel
        One per coefficient.
    time : ndarray of float64, shape (n_time,)
        Times, ascending, day.
    columns : FixedColumns
        f = columns + processes + white variation.
    gradient : bool
        Whether to differentiate the log evidence.

    Returns
    -------
    ProcessPosterior

    Notes
    -----
    Filter: with states (x, P), H picking the processes, f = E b + H x, r = z - J f and B = 1 + J H P H':
    u = B^-1 r, W = B^-1 J, x += P H' u, P -= P H' W H P; log p = c + z'f - f'Jf / 2 + r' H P H' u / 2 - log |B| / 2.
    The states' response to b goes through the same steps (de Jong 1991), so that b is integrated out exactly and a wide
    prior cancels no digits. Smoother: r and N of Bryson & Frazier (1963) and de Jong (1989); the derivative of the
    evidence with respect to a predicted covariance is (r r' - N) / 2, which gives those of A and Q (Koopman & Shephard
    1992).
    Time grows with n_coeff**3 n_time, memory with n_coeff**2 n_time.
    """
    problem = _Problem.of(information, kernels, time, columns)
    with one_blas_thread():
        found = _filter(problem.model, columns.n_column)
        shift, shift_cov, gain = _integrate(found.score, found.curvature, columns.precision)
        smooth = _smooth(problem.model, found, _moment_factor(shift, shift_cov), gradient=gradient)
        state = _Marginal.of(smooth, columns.values, shift, shift_cov)
        value = state.with_white(problem.about, problem.white)
        slopes = problem.differentiate(smooth, state, value, columns.mean + shift) if gradient else None
        return ProcessPosterior(
            mean=value.mean + problem.offset,
            covariance=value.covariance,
            coefficients=columns.mean + shift,
            coefficients_cov=shift_cov,
            log_evidence=problem.seen.constant + found.log_density + gain,
            log_loo=_leave_out(problem.seen, state.mean, state.covariance),
            response=value.response,
            gradient=slopes,
        )


def draw_processes(
    information: RowInformation,
    kernels: tuple[ProcessKernel, ...],
    time: FloatArray,
    columns: FixedColumns,
    *,
    n_draw: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Draw whole series of f from their joint posterior.

    Parameters
    ----------
    information, kernels, time, columns
        As for `solve_processes`.
    n_draw : int
        Number of independent draws.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float64, shape (n_draw, n_time, n_coeff)

    Notes
    -----
    Coefficients from their posterior; then a process and data drawn from the prior, whose own smoothed mean is replaced
    by that of the data (Durbin & Koopman 2002); then the white variation given both.
    """
    problem = _Problem.of(information, kernels, time, columns)
    with one_blas_thread():
        found = _filter(problem.model, columns.n_column)
        shift, shift_cov, _ = _integrate(found.score, found.curvature, columns.precision)
        smooth = _smooth(problem.model, found, _moment_factor(shift, shift_cov), gradient=False)
        root = semidefinite_factor(shift_cov)
        answer = np.empty((n_draw, *information.rhs.shape))
        for start in range(0, n_draw, _DRAWS_CHUNK):
            part = answer[start : start + _DRAWS_CHUNK]
            deviation = problem.deviations(len(part), rng)
            coefficients = shift + rng.standard_normal((len(part), shift.size)) @ root.T
            response = columns.values + smooth.process[:, :, 1:]
            part[:] = deviation + smooth.process[:, :, 0] + np.einsum("tsk,dk->dts", response, coefficients)
            part[:] = problem.draw_white(part, rng) + problem.offset
    return answer


def draw_prior(
    kernels: tuple[ProcessKernel, ...], time: FloatArray, *, n_draw: int, rng: np.random.Generator
) -> FloatArray:
    """Draw processes with their white variation before any data.

    Parameters
    ----------
    kernels : tuple of ProcessKernel
        One per coefficient.
    time : ndarray of float64, shape (n_time,)
        Times, ascending, day.
    n_draw : int
        Number of independent draws.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float64, shape (n_draw, n_time, n_coeff)
    """
    process = _draw_prior(build_states(kernels, time), n_draw, rng)
    return process + np.array([one.white for one in kernels]) * rng.standard_normal(process.shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Marginal:
    """Posterior of a series of coefficients: mean, covariance, and response to the fixed columns' coefficients.

    `process` and `crossed` are the mean of its process and the covariance of the series with it.
    """

    mean: FloatArray
    covariance: FloatArray
    response: FloatArray
    process: FloatArray
    crossed: FloatArray
    response_cov: FloatArray

    @classmethod
    def of(cls, smooth: "Smoothed", values: FloatArray, shift: FloatArray, shift_cov: FloatArray) -> "_Marginal":
        """Integrate the fixed columns' coefficients out."""
        own = smooth.process[:, :, 1:]
        response, process = values + own, smooth.process[:, :, 0] + own @ shift
        spread = response @ shift_cov
        covariance = smooth.covariance + spread @ response.transpose(0, 2, 1)
        crossed = smooth.covariance + spread @ own.transpose(0, 2, 1)
        return cls(process + values @ shift, covariance, response, process, crossed, spread)

    def with_white(self, about: RowInformation, std: FloatArray) -> "_Marginal":
        """Add white variation, which the data of the same row alone tell about."""
        if not np.any(std > 0):
            return self
        own = _white_covariance(about.matrix, std)
        rest = np.eye(std.size) - own @ about.matrix
        residual = about.rhs - np.einsum("tij,tj->ti", about.matrix, self.mean)
        mean = self.mean + np.einsum("tij,tj->ti", own, residual)
        covariance = own + rest @ self.covariance @ rest.transpose(0, 2, 1)
        return _Marginal(mean, covariance, rest @ self.response, self.process, self.crossed, rest @ self.response_cov)


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Data about the prior mean, without and with the white variation integrated out, as the kernels take them."""

    kernels: tuple[ProcessKernel, ...]
    time: FloatArray
    white: FloatArray
    offset: FloatArray
    about: RowInformation
    seen: RowInformation
    states: StateSpace
    model: "Model"

    @classmethod
    def of(
        cls, information: RowInformation, kernels: tuple[ProcessKernel, ...], time: FloatArray, columns: FixedColumns
    ) -> "_Problem":
        """Prepare the arrays."""
        _check(information, kernels, time, columns)
        white = np.array([one.white for one in kernels])
        offset = columns.values @ columns.mean
        about = information.about(offset)
        seen = about.with_white(white)
        states = build_states(kernels, time)
        rhs = np.concatenate([seen.rhs[:, :, None], np.zeros(columns.values.shape)], axis=2)
        fixed = np.concatenate([np.zeros((*seen.rhs.shape, 1)), columns.values], axis=2)
        return cls(kernels, time, white, offset, about, seen, states, _model(seen.matrix, states, rhs, fixed))

    def differentiate(
        self, smooth: "Smoothed", state: _Marginal, value: _Marginal, coefficients: FloatArray
    ) -> ProcessGradient:
        """Return the derivatives of the log evidence: Fisher's identity, all unknowns integrated out."""
        steps = step_gradient(self.kernels, self.time)
        residual = self.seen.rhs - np.einsum("tij,tj->ti", self.seen.matrix, state.mean)
        of_sigma = residual * state.process - np.einsum("tij,tji->ti", self.seen.matrix, state.crossed)
        noisy = self.about.rhs - np.einsum("tij,tj->ti", self.about.matrix, value.mean)
        curved = self.about.matrix - self.about.matrix @ value.covariance @ self.about.matrix
        of_columns = residual[:, :, None] * coefficients - self.seen.matrix @ state.response_cov
        return ProcessGradient(
            log_sigma=of_sigma.sum(axis=0),
            log_scale=_contract(smooth, steps.transition, steps.noise),
            white_variance=0.5 * (noisy**2 - np.einsum("tii->ti", curved)).sum(axis=0),
            quality=_contract(smooth, steps.quality_transition, steps.quality_noise),
            columns=of_columns,
        )

    def deviations(self, n_draw: int, rng: np.random.Generator) -> FloatArray:
        """Return draws of the processes about their posterior mean, shape (n_draw, n_time, n_coeff)."""
        process = _draw_prior(self.states, n_draw, rng)
        root = semidefinite_factor(self.seen.matrix)
        noise = np.einsum("tij,dtj->dti", root, rng.standard_normal(process.shape))
        rhs = np.einsum("tij,dtj->dti", self.seen.matrix, process) + noise
        data = np.ascontiguousarray(rhs.transpose(1, 2, 0))
        model = _model(self.seen.matrix, self.states, data, np.zeros_like(data))
        found = _filter(model, 0)
        smooth = _smooth(model, found, np.eye(1), gradient=False)
        return process - smooth.process.transpose(2, 0, 1)

    def draw_white(self, draws: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Add the white variation, given the rest."""
        if not np.any(self.white > 0):
            return draws
        own = _white_covariance(self.about.matrix, self.white)
        residual = self.about.rhs - np.einsum("tij,dtj->dti", self.about.matrix, draws)
        noise = np.einsum("tij,dtj->dti", semidefinite_factor(own), rng.standard_normal(draws.shape))
        return draws + np.einsum("tij,dtj->dti", own, residual) + noise


def _check(
    information: RowInformation, kernels: tuple[ProcessKernel, ...], time: FloatArray, columns: FixedColumns
) -> None:
    if len(kernels) != information.n_coeff:
        raise ShapeError(f"kernels: expected {information.n_coeff}, one per coefficient, got {len(kernels)}")
    check_shape(time, (information.n_time,), "time", "n_time")
    check_shape(columns.values, (*information.rhs.shape, columns.n_column), "columns", "n_time, n_coeff, n_column")
    check_shape(columns.precision, (columns.n_column, columns.n_column), "precision", "n_column, n_column")
    if not np.all(np.diff(time) > 0):
        raise InputError("time: expected times that ascend, got some that do not; sort the cadences")


def _model(matrix: FloatArray, states: StateSpace, rhs: FloatArray, columns: FloatArray) -> "Model":
    """Arrange data sets and processes for the compiled kernels."""
    from bayesprf.linalg.compiled.kalman import Model

    start = pointers(states.n_state).astype(np.int64)
    arrays = (states.transition, states.noise, states.stationary, matrix, rhs, columns)
    return Model(start, states.sigma, *(np.ascontiguousarray(one) for one in arrays))


def _filter(model: "Model", n_fixed: int) -> "Filtered":
    from bayesprf.linalg.compiled.kalman import Filtered, filter_rows

    (n_time, n_coeff, m), n = model.columns.shape, int(model.start[-1])
    shapes = ((n, n), (n, m), (n_coeff, n_coeff), (n_coeff, m), (n_coeff, m), (), (n_fixed,), (n_fixed, n_fixed))
    found = Filtered(*(np.zeros((n_time, *shape)) for shape in shapes))
    filter_rows(model, found)
    return found


def _smooth(model: "Model", found: "Filtered", moments: FloatArray, *, gradient: bool) -> "Smoothed":
    from bayesprf.linalg.compiled.kalman import Smoothed, smooth_rows

    n_time, n_coeff, m = model.columns.shape
    steps = (n_time if gradient else 0, n_coeff, MAX_STATE, MAX_STATE)
    shapes = ((n_time, n_coeff, m), (n_time, n_coeff, n_coeff), steps, steps)
    answer = Smoothed(*(np.zeros(shape) for shape in shapes))
    smooth_rows(model, found, moments, answer)
    return answer


def _integrate(
    score: FloatArray, curvature: FloatArray, precision: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return posterior mean and covariance of zero-mean coefficients, and what each row adds to their log evidence.

    The log evidence of all rows up to one is g' V g / 2 + log |V P| / 2, V = (Omega + P)^-1, with g and Omega summed.
    """
    n = precision.shape[0]
    if n == 0:
        return np.zeros(0), np.zeros((0, 0)), np.zeros(score.shape[0])
    rhs, total = np.cumsum(score, axis=0), np.cumsum(curvature, axis=0) + precision
    whole = cho_factor(total[-1])
    mean, covariance = cho_solve(whole, rhs[-1]), cho_solve(whole, np.eye(n))
    sign, log_prior = np.linalg.slogdet(precision)
    if sign <= 0:
        return mean, covariance, np.full(score.shape[0], np.nan)
    lower = np.linalg.cholesky(total)
    half = np.linalg.solve(lower, rhs[:, :, None])[:, :, 0]
    log_det = 2.0 * np.log(np.einsum("tii->ti", lower)).sum(axis=1)
    gained = 0.5 * (half**2).sum(axis=1) - 0.5 * (log_det - log_prior)
    return mean, covariance, np.diff(gained, prepend=0.0)


def _moment_factor(mean: FloatArray, covariance: FloatArray) -> FloatArray:
    """Return L of the moments L L' of (1, b)."""
    factor = np.zeros((mean.size + 1, mean.size + 1))
    factor[0, 0], factor[1:, 0], factor[1:, 1:] = 1.0, mean, semidefinite_factor(covariance)
    return factor


def _white_factor(matrix: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return L^-1 and log |L L'| of 1 + D J D = L L', D = diag(std), row by row."""
    inner = np.eye(std.size) + std[:, None] * matrix * std
    lower = np.linalg.cholesky(inner)
    log_det = 2.0 * np.log(np.einsum("tii->ti", lower)).sum(axis=1)
    return np.linalg.solve(lower, np.broadcast_to(np.eye(std.size), lower.shape)), log_det


def _white_covariance(matrix: FloatArray, std: FloatArray) -> FloatArray:
    """Return (D^-2 + J)^-1 = D (1 + D J D)^-1 D, row by row."""
    half = _white_factor(matrix, std)[0] * std
    return half.transpose(0, 2, 1) @ half


def _leave_out(seen: RowInformation, mean: FloatArray, covariance: FloatArray) -> FloatArray:
    """Return log p(y_t | all other rows): one over the posterior mean of one over p(y_t | f)."""
    curved = np.einsum("tij,tj->ti", seen.matrix, mean)
    residual = seen.rhs - curved
    inner = np.eye(seen.n_coeff) - seen.matrix @ covariance
    solved = np.linalg.solve(inner, residual[:, :, None])[:, :, 0]
    spread = np.einsum("tij,tj->ti", covariance, solved)
    plain = seen.constant + np.einsum("ti,ti->t", mean, seen.rhs - 0.5 * curved)
    return plain - 0.5 * np.einsum("ti,ti->t", residual, spread) + 0.5 * np.linalg.slogdet(inner)[1]


def _contract(smooth: "Smoothed", transition: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the derivative of the log evidence along a change of the steps, per coefficient."""
    return np.einsum("tsij,tsij->s", smooth.transition, transition) + np.einsum("tsij,tsij->s", smooth.noise, noise)


def _draw_prior(states: StateSpace, n_draw: int, rng: np.random.Generator) -> FloatArray:
    """Return draws of the processes, shape (n_draw, n_time, n_coeff)."""
    n_time, n_coeff = states.transition.shape[:2]
    roots = semidefinite_factor(np.concatenate([states.stationary[None], states.noise[1:]]))
    noise = np.einsum("tsij,tdsj->tdsi", roots, rng.standard_normal((n_time, n_draw, n_coeff, MAX_STATE)))
    for t in range(1, n_time):
        noise[t] += np.einsum("sij,dsj->dsi", states.transition[t], noise[t - 1])
    return np.asarray(states.sigma * noise[..., 0].transpose(1, 0, 2))
