"""The evidence as a function of hyperparameters: its gradient, and where it is largest."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.linalg.hyperparameters import HYPER_NAMES, Hyperparameters, gather
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.solver import Solver, choose_solver

LOG_BOUND = float(np.log(1e6))
"""Widths and inflations are sought within a factor of a million of where they start."""

HESSIAN_STEP = 1e-4
"""Step of the central difference of the gradient: its error is 1e-8 of the Hessian."""

CONVERGED = 1e-8
"""Largest squared distance from the maximum, g' H^-1 g: a ten-thousandth of a standard deviation."""

NEWTON_STEPS = 5
"""Steps that finish what the quasi-Newton search began; each costs two gradients per parameter."""

# Hyperparameters that may be learned here, in the order of the covariance: logarithms first, then the zero point.
_LOGARITHMS = ("width", "noise_scale", "model_error")
_SEARCHED = (*_LOGARITHMS, "zero_point")

Solve = Callable[[LinearProblem], GaussianPosterior]


def evidence_gradient(
    problem: LinearProblem,
    hyper: Hyperparameters,
    names: Collection[str] = HYPER_NAMES,
    *,
    solve: Solve | None = None,
) -> tuple[float, dict[str, FloatArray]]:
    """Return the log evidence, summed over batch rows, and its derivatives with some hyperparameters.

    Parameters
    ----------
    problem : LinearProblem
        As given, before scaling.
    hyper : Hyperparameters
        Numbers.
    names : collection of str
        Which derivatives; all by default.
    solve : callable, optional
        Solves the scaled problem; by default the solver that suits it.

    Returns
    -------
    value : float
    gradient : dict of str to ndarray of float64
        By name, one number per group for width and noise scale, else one.

    Notes
    -----
    Fisher's identity: the gradient is the posterior mean of that of log p(y, w | hyperparameters). With the variance V
    of a datum and <.> the posterior mean, d/d log v = sum [<(w - z m)^2> / (v s)^2 - 1] over the coefficients of a
    group, d/dz = sum (<w> - z m) m / (v s)^2, and d/d log V = 1/2 sum [<(y - X w)^2> / V - 1] per datum.
    """
    scaled = hyper.apply(problem)
    posterior = (solve or choose_solver(scaled).solve)(scaled)
    prior, away = scaled.prior, posterior.mean - scaled.prior.mean
    found: dict[str, FloatArray] = {}
    if "width" in names:
        excess = np.sum(prior.precision * (away**2 + posterior.std**2) - 1.0, axis=0)
        found["width"] = gather(excess, hyper.width_group) / hyper.width
    if "zero_point" in names:
        found["zero_point"] = np.array([np.sum(away @ (prior.precision * problem.prior.mean))])
    if {"noise_scale", "jitter", "model_error"} & set(names):
        found |= _noise_gradient(problem, scaled, posterior, hyper)
    return float(posterior.log_evidence.sum()), {name: found[name] for name in names}


def _noise_gradient(
    problem: LinearProblem, scaled: LinearProblem, posterior: GaussianPosterior, hyper: Hyperparameters
) -> dict[str, FloatArray]:
    """Return the derivatives with what makes the variance of a datum: each has its share of the datum's excess."""
    used = scaled.ivar > 0
    residual = np.where(used, scaled.data, 0.0) - scaled.predict(posterior.mean)
    shared = getattr(scaled.design, "is_static", False) and bool(np.all(scaled.ivar == scaled.ivar[:1]))
    variance = posterior.prediction_variance(batches=[0] if shared else None)
    excess = np.where(used, scaled.ivar * (residual**2 + variance) - 1.0, 0.0)
    beyond = excess * scaled.ivar * (0.0 if hyper.model_variance is None else hyper.model_variance)
    own = excess - hyper.model_error**2 * beyond
    share = problem.ivar / (1.0 + hyper.jitter**2 * problem.ivar)
    return {
        "noise_scale": gather(own.sum(axis=0), hyper.noise_group) / hyper.noise_scale,
        "jitter": np.array([hyper.jitter * np.sum(own * share)]),
        "model_error": np.array([hyper.model_error * beyond.sum()]),
    }


@dataclass(frozen=True, slots=True, eq=False)
class EvidenceMaximum:
    """Hyperparameters at the maximum of the evidence, and how well it determines them.

    Parameters
    ----------
    hyper : Hyperparameters
        Numbers: learned and fixed ones.
    names : tuple of str
        What was learned, number by number: "log width[0]", ..., "zero point".
    covariance : ndarray of float64, shape (n_number, n_number)
        Inverse of the Hessian of -log evidence (Laplace) in `names`; NaN without a maximum.
    log_evidence : float
        Sum over batch rows, at the maximum.
    converged : bool
        Whether the maximum was reached within a ten-thousandth of a standard deviation.
    n_iter : int
        Iterations of the search.
    message : str
        Last word of the search.
    problem : LinearProblem
        With the learned prior and errors.
    """

    hyper: Hyperparameters
    names: tuple[str, ...]
    covariance: FloatArray
    log_evidence: float
    converged: bool
    n_iter: int
    message: str
    problem: LinearProblem


def maximise_evidence(
    problem: LinearProblem, hyper: Hyperparameters, *, solver: Solver | None = None, max_iter: int = 100
) -> EvidenceMaximum:
    """Maximise the evidence over the hyperparameters that are "learn".

    Parameters
    ----------
    problem : LinearProblem
        With a proper prior; a few hundred batch rows determine the hyperparameters as well as thousands.
    hyper : Hyperparameters
        What is learned, all but the jitter; factors start at 1.
    solver : Solver, optional
        Chosen from the problem when omitted; its answers must have factors.
    max_iter : int
        Most iterations of the search.

    Returns
    -------
    EvidenceMaximum
        Look at `converged`: there is no maximum where the data want a width of zero.

    Raises
    ------
    ShapeError
        If a group does not have one entry per coefficient or observation.
    InputError
        If nothing is to be learned, or a prior is flat: its evidence does not exist.

    Notes
    -----
    Maximum marginal likelihood of type II (MacKay 1992): L-BFGS on `evidence_gradient`, ended by Newton steps.
    """
    hyper.check(problem)
    used_solver = solver or choose_solver(problem)
    space = _SearchSpace(problem, hyper, used_solver.solve)
    with one_blas_thread():
        start, n_iter, message = _search(space, max_iter)
        at, covariance, converged = _finish(space, start)
    found = space.unpack(at)
    learned = found.apply(problem)
    log_evidence = float(used_solver.solve(learned).log_evidence.sum())
    return EvidenceMaximum(found, space.names, covariance, log_evidence, converged, n_iter, message, learned)


@dataclass(frozen=True, slots=True, eq=False)
class _SearchSpace:
    """The free hyperparameters as one vector: logarithms of factors, and the zero point."""

    problem: LinearProblem
    hyper: Hyperparameters
    solve: Solve

    def __post_init__(self) -> None:
        if not self.free:
            raise InputError("hyper: expected something to learn, got only numbers; give one as 'learn'")
        if "jitter" in self.hyper.free:
            raise InputError("jitter: expected a number, got 'learn'; learn the noise scale, or sample")

    @property
    def free(self) -> list[str]:
        """Names of what is learned, in the order of the vector."""
        return [name for name in _SEARCHED if name in self.hyper.free]

    @property
    def n_log(self) -> int:
        """Number of logarithms, which come before the zero point."""
        return sum(self.hyper.size(name) for name in self.free if name in _LOGARITHMS)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each number."""
        sizes = {name: self.hyper.size(name) for name in self.free if name in _LOGARITHMS}
        logs = [f"log {name.replace('_', ' ')}[{k}]" for name, size in sizes.items() for k in range(size)]
        return (*logs, *(["zero point"] if "zero_point" in self.free else []))

    @property
    def start(self) -> FloatArray:
        """The vector that changes nothing."""
        return np.append(np.zeros(self.n_log), np.ones(len(self.names) - self.n_log))

    def unpack(self, at: FloatArray) -> Hyperparameters:
        """Return the hyperparameters at a vector."""
        found: dict[str, Any] = {}
        for name in self.free:
            part, at = at[: self.hyper.size(name)], at[self.hyper.size(name) :]
            part = np.exp(part) if name in _LOGARITHMS else part
            found[name] = part if name in ("width", "noise_scale") else float(part[0])
        return replace(self.hyper, **found)

    def gradient(self, at: FloatArray) -> tuple[float, FloatArray]:
        """Return the log evidence and its gradient at a vector."""
        hyper = self.unpack(at)
        value, slopes = evidence_gradient(self.problem, hyper, self.free, solve=self.solve)
        scale = {name: getattr(hyper, name) for name in _LOGARITHMS}
        return value, np.concatenate([slopes[name] * scale.get(name, 1.0) for name in self.free])

    def hessian(self, at: FloatArray) -> FloatArray:
        """Return the Hessian of -log evidence by central differences of the gradient."""
        rows = []
        for unit in np.eye(at.size) * HESSIAN_STEP:
            ahead, behind = self.gradient(at + unit)[1], self.gradient(at - unit)[1]
            rows.append((behind - ahead) / (2.0 * HESSIAN_STEP))
        return 0.5 * (np.array(rows) + np.array(rows).T)


def _search(space: _SearchSpace, max_iter: int) -> tuple[FloatArray, int, str]:
    """Climb towards the maximum; return the vector, iterations and the last word of the search."""
    scale = 1.0 / max(1, int(np.count_nonzero(space.problem.ivar)))

    def objective(at: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = space.gradient(at)
        return -scale * value, -scale * gradient

    bounds = [(-LOG_BOUND, LOG_BOUND)] * space.n_log + [(None, None)] * (len(space.names) - space.n_log)
    options = {"maxiter": max_iter, "ftol": 1e-13, "gtol": 1e-9}
    found = minimize(objective, space.start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x), int(found.nit), str(found.message)


def _finish(space: _SearchSpace, at: FloatArray) -> tuple[FloatArray, FloatArray, bool]:
    """Take Newton steps to the maximum; return the vector, Laplace covariance and whether it was reached.

    A logarithm less certain than the whole range that was searched has no maximum: the evidence only levels off.
    """
    for _ in range(NEWTON_STEPS):
        gradient, hessian = space.gradient(at)[1], space.hessian(at)
        if np.linalg.eigvalsh(hessian)[0] <= 0:
            break
        covariance = np.linalg.inv(hessian)
        step = covariance @ gradient
        if np.any(np.diag(covariance)[: space.n_log] > LOG_BOUND**2):
            break
        if gradient @ step < CONVERGED:
            return at, covariance, True
        at = at + step
    return at, np.full(hessian.shape, np.nan), False
