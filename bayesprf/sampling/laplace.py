"""Gauss-Newton to the most probable parameters of a non-linear model, and the Gaussian that fits there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, qr, solve_triangular
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray
from bayesprf.errors import NotPositiveDefiniteError

# Accuracy: Newton steps and halvings of one at most; the gain in log density that ends them.
_MAX_ITER, _MAX_HALVING, _TOLERANCE = 60, 12, 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class GaussianTerm:
    """A Gaussian prior of some parameters: (x - mean)' K (x - mean).

    Parameters
    ----------
    mean : ndarray of float64, shape (n,)
        Mean of all parameters.
    precision : ndarray of float64, shape (n, n)
        K, positive definite.
    """

    mean: FloatArray
    precision: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Laplace:
    """The Gaussian N(mode, H^-1) that approximates a posterior.

    Parameters
    ----------
    mode : ndarray of float64, shape (n,)
        Most probable parameters.
    spread : ndarray of float64, shape (n, n)
        L^-T with H = L L': mode + spread @ xi has the right covariance for standard normal xi.
    n_iter : int
        Gauss-Newton steps taken.
    """

    mode: FloatArray
    spread: FloatArray
    n_iter: int

    @property
    def std(self) -> FloatArray:
        """Standard deviation of every parameter, shape (n,)."""
        return np.sqrt(np.sum(self.spread**2, axis=1))

    @property
    def factor(self) -> FloatArray:
        """Lower factor M of the covariance M M', shape (n, n)."""
        upper = qr(self.spread.T, mode="r")[0]
        return (upper * np.sign(np.diag(upper))[:, None]).T


# Predicted data, shape (n_obs,), and their derivatives, shape (n_obs, n), at given parameters.
Model = Callable[[FloatArray], tuple[FloatArray, csr_matrix]]


def find_mode(model: Model, data: FloatArray, ivar: FloatArray, prior: GaussianTerm, start: FloatArray) -> Laplace:
    """Find the mode of a Gaussian likelihood times a Gaussian prior.

    Parameters
    ----------
    model : callable
        Gives prediction and Jacobian at parameters of shape (n,).
    data, ivar : ndarray of float64, shape (n_obs,)
        Data and inverse variances; data where the latter is 0 are not read.
    prior : GaussianTerm
        Prior.
    start : ndarray of float64, shape (n,)
        Where to begin.

    Returns
    -------
    Laplace

    Raises
    ------
    NotPositiveDefiniteError
        If neither data nor prior hold some direction.

    Notes
    -----
    Steps H d = J' C^-1 (y - m) - K (x - mean) with H = J' C^-1 J + K, halved until the posterior rises.
    """
    seen = np.where(ivar > 0, data, 0.0)
    x, n_iter = start, 0
    predicted, jacobian = model(x)
    value = _loss(seen, ivar, prior, x, predicted)
    while n_iter < _MAX_ITER:
        n_iter += 1
        hessian, gradient = _normal_equations(jacobian, ivar, prior, (seen - predicted), x)
        step = cho_solve(_factor(hessian), gradient)
        for halving in range(_MAX_HALVING):
            trial = x + step * 0.5**halving
            trial_predicted, trial_jacobian = model(trial)
            trial_value = _loss(seen, ivar, prior, trial, trial_predicted)
            if trial_value <= value:
                break
        gain = value - trial_value
        if gain >= 0:
            x, value, predicted, jacobian = trial, trial_value, trial_predicted, trial_jacobian
        if gain < _TOLERANCE:
            break
    hessian = _normal_equations(jacobian, ivar, prior, (seen - predicted), x)[0]
    lower = cholesky(hessian, lower=True)
    return Laplace(x, solve_triangular(lower, np.eye(x.size), lower=True, trans="T"), n_iter)


def _loss(data: FloatArray, ivar: FloatArray, prior: GaussianTerm, x: FloatArray, predicted: FloatArray) -> float:
    away = x - prior.mean
    return 0.5 * float(ivar @ (data - predicted) ** 2 + away @ prior.precision @ away)


def _normal_equations(
    jacobian: csr_matrix, ivar: FloatArray, prior: GaussianTerm, residual: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    weighted = jacobian.multiply(ivar[:, None]).tocsr()
    hessian = (jacobian.T @ weighted).toarray() + prior.precision
    return hessian, weighted.T @ residual - prior.precision @ (x - prior.mean)


def _factor(hessian: FloatArray) -> tuple[FloatArray, bool]:
    try:
        return cho_factor(hessian, lower=True)
    except np.linalg.LinAlgError as error:
        raise NotPositiveDefiniteError(
            "the joint model has directions held by neither data nor prior: give narrower priors"
        ) from error
