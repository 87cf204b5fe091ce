"""Learned widths: prior widths and zero point, noise inflation and model error that maximise the evidence."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_shape
from bayesprf.errors import InputError
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solver import Solver, choose_solver

LOG_BOUND = float(np.log(1e6))
"""Widths and inflations are sought within a factor of a million of where they start."""

HESSIAN_STEP = 1e-4
"""Step of the central difference of the gradient: its error is 1e-8 of the Hessian."""

CONVERGED = 1e-8
"""Largest squared distance from the maximum, g' H^-1 g: a ten-thousandth of a standard deviation."""

NEWTON_STEPS = 5
"""Steps that finish what the quasi-Newton search began; each costs two gradients per parameter."""


@dataclass(frozen=True, slots=True, eq=False)
class WidthModel:
    """Which widths are learned; what is not named stays as it is.

    Parameters
    ----------
    prior_group : ndarray of int64, shape (n_coeff,), optional
        Group of each coefficient, 0, 1, 2, ...; the prior widths of a group share one factor. -1 keeps its width.
    noise_group : ndarray of int64, shape (n_obs,), optional
        Group of each observation; the errors of a group share one factor. -1 keeps its error.
    zero_point : bool
        Whether all prior means share a factor to be learned.
    model_variance : ndarray of float64, shape (n_obs,), optional
        Variance that each observation has beyond its error, which no noise inflation touches; none by default.
    model_scale : bool
        Whether the square root of `model_variance` has a factor to be learned.

    Raises
    ------
    InputError
        If nothing is to be learned, or the groups are not numbered from 0 without gaps.
    """

    prior_group: IntArray | None = None
    noise_group: IntArray | None = None
    zero_point: bool = False
    model_variance: FloatArray | None = None
    model_scale: bool = False

    def __post_init__(self) -> None:
        if self.model_scale and self.model_variance is None:
            raise InputError("model_variance: expected a variance per observation to scale, got None")
        for name in ("prior_group", "noise_group"):
            group = getattr(self, name)
            if group is not None and not np.array_equal(np.unique(group[group >= 0]), np.arange(_count(group))):
                raise InputError(
                    f"{name}: expected groups 0, 1, 2, ... without gaps (-1: fixed), got {np.unique(group)}"
                )
        if not self.names:
            raise InputError("WidthModel: expected something to learn, got no group and zero_point False")

    @property
    def n_prior(self) -> int:
        """Number of prior widths."""
        return _count(self.prior_group)

    @property
    def n_noise(self) -> int:
        """Number of noise inflations."""
        return _count(self.noise_group)

    @property
    def n_log(self) -> int:
        """Number of logarithms, which come before the zero point."""
        return self.n_prior + self.n_noise + self.model_scale

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each parameter, in the order of `LearnedWidths.covariance`."""
        widths = [f"log_prior_scale[{k}]" for k in range(self.n_prior)]
        noise = [f"log_noise_scale[{k}]" for k in range(self.n_noise)]
        model = ["log_model_scale"] if self.model_scale else []
        return (*widths, *noise, *model, *(["zero_point"] if self.zero_point else []))

    @property
    def start(self) -> FloatArray:
        """Parameters that change nothing."""
        return np.array([0.0] * self.n_log + [1.0] * self.zero_point)

    def extra(self, parameters: FloatArray) -> FloatArray | float:
        """Return the variance beyond the errors, shape (n_obs,), or 0 without any."""
        if self.model_variance is None:
            return 0.0
        scale = np.exp(2.0 * parameters[self.n_log - 1]) if self.model_scale else 1.0
        return np.asarray(scale * self.model_variance)

    def apply(self, problem: LinearProblem, parameters: FloatArray) -> LinearProblem:
        """Return the problem with scaled prior widths, prior means and errors: var = k^2 sigma^2 + model variance.

        Parameters
        ----------
        problem : LinearProblem
            As given.
        parameters : ndarray of float64, shape (n_parameter,)
            In the order of `names`.

        Returns
        -------
        LinearProblem
        """
        precision, mean, ivar = problem.prior.precision, problem.prior.mean, problem.ivar
        if self.prior_group is not None:
            precision = precision * _spread(np.exp(-2.0 * parameters[: self.n_prior]), self.prior_group)
        if self.noise_group is not None:
            log_scale = parameters[self.n_prior : self.n_prior + self.n_noise]
            ivar = ivar * _spread(np.exp(-2.0 * log_scale), self.noise_group)
        if self.model_variance is not None:
            ivar = ivar / (1.0 + ivar * self.extra(parameters))
        if self.zero_point:
            mean = mean * parameters[-1]
        return replace(problem, ivar=ivar, prior=GaussianPrior(mean, precision))


@dataclass(frozen=True, slots=True, eq=False)
class LearnedWidths:
    """Widths at the maximum of the evidence, and how well it determines them.

    Parameters
    ----------
    prior_scale : ndarray of float64, shape (n_prior_group,)
        Factors of the prior widths.
    noise_scale : ndarray of float64, shape (n_noise_group,)
        Factors of the errors.
    zero_point : float
        Factor of the prior means; 1 if fixed.
    model_scale : float
        Factor of the model's error; 1 if fixed.
    covariance : ndarray of float64, shape (n_parameter, n_parameter)
        Inverse of the Hessian of -log evidence (Laplace), in the parameters `names`; NaN without a maximum.
    names : tuple of str
        Parameters: logarithms of the factors, and the zero point.
    log_evidence : float
        Sum over batch rows, at the maximum.
    converged : bool
        Whether the maximum was reached within a ten-thousandth of a standard deviation.
    n_iter : int
        Iterations of the search.
    message : str
        Last word of the search.
    problem : LinearProblem
        With the learned widths.
    """

    prior_scale: FloatArray
    noise_scale: FloatArray
    zero_point: float
    model_scale: float
    covariance: FloatArray
    names: tuple[str, ...]
    log_evidence: float
    converged: bool
    n_iter: int
    message: str
    problem: LinearProblem


def find_widths(
    problem: LinearProblem, model: WidthModel, *, solver: Solver | None = None, max_iter: int = 100
) -> LearnedWidths:
    """Maximise the evidence over prior widths, noise inflations and the zero point of the prior.

    Parameters
    ----------
    problem : LinearProblem
        With a proper prior; a few hundred batch rows determine the widths as well as thousands.
    model : WidthModel
        What is learned.
    solver : Solver, optional
        Chosen from the problem when omitted; its answers must have factors.
    max_iter : int
        Most iterations of the search.

    Returns
    -------
    LearnedWidths
        `converged` is False if no maximum was reached, as when the data want a width of zero.

    Raises
    ------
    ShapeError
        If a group does not have one entry per coefficient or observation.
    InputError
        If a prior is flat: its evidence does not exist.

    Notes
    -----
    Maximum marginal likelihood of type II (MacKay 1992): L-BFGS on `evidence_gradient`, ended by Newton steps.
    """
    _check(problem, model)
    used_solver = solver or choose_solver(problem)
    with one_blas_thread():
        start, n_iter, message = _search(problem, model, used_solver, max_iter)
        parameters, covariance, converged = _finish(problem, model, start, used_solver)
    learned = model.apply(problem, parameters)
    scales = np.exp(parameters[: model.n_log])
    return LearnedWidths(
        prior_scale=scales[: model.n_prior],
        noise_scale=scales[model.n_prior : model.n_prior + model.n_noise],
        zero_point=float(parameters[-1]) if model.zero_point else 1.0,
        model_scale=float(scales[-1]) if model.model_scale else 1.0,
        covariance=covariance,
        names=model.names,
        log_evidence=float(used_solver.solve(learned).log_evidence.sum()),
        converged=converged,
        n_iter=n_iter,
        message=message,
        problem=learned,
    )


def evidence_gradient(
    problem: LinearProblem, model: WidthModel, parameters: FloatArray, *, solver: Solver | None = None
) -> tuple[float, FloatArray]:
    """Return the log evidence, summed over batch rows, and its gradient.

    Parameters
    ----------
    problem : LinearProblem
        As given, before scaling.
    model : WidthModel
        What the parameters mean.
    parameters : ndarray of float64, shape (n_parameter,)
        In the order of `model.names`.
    solver : Solver, optional
        Chosen from the problem when omitted.

    Returns
    -------
    value : float
    gradient : ndarray of float64, shape (n_parameter,)

    Notes
    -----
    The posterior mean w maximises the exponent, so only what depends on the parameters directly counts:
    d/d log s_j = P_j ((w - m)_j^2 + Var w_j) - 1 for a prior width, d/d log k_i = ivar_i (r_i^2 + Var x_i' w) - 1 for
    an error, and sum_j P_j (w - m)_j m0_j for a zero point that scales m0. Where an observation's variance is
    k^2 sigma^2 + e^2 v, the second term counts with the share that each part has in it.
    """
    scaled = model.apply(problem, parameters)
    posterior = (solver or choose_solver(scaled)).solve(scaled)
    prior = scaled.prior
    offset = posterior.mean - prior.mean
    gradient = []
    if model.prior_group is not None:
        per_coeff = np.sum(prior.precision * (offset**2 + posterior.std**2) - 1.0, axis=0)
        gradient.append(_gather(per_coeff, model.prior_group))
    if model.noise_group is not None or model.model_scale:
        used = scaled.ivar > 0
        residual = np.where(used, scaled.data, 0.0) - np.where(used, scaled.predict(posterior.mean), 0.0)
        excess = scaled.ivar * (residual**2 + posterior.prediction_variance()) - used
        beyond = excess * (scaled.ivar * model.extra(parameters))
        if model.noise_group is not None:
            gradient.append(_gather(np.sum(excess - beyond, axis=0), model.noise_group))
        if model.model_scale:
            gradient.append(np.array([beyond.sum()]))
    if model.zero_point:
        gradient.append(np.array([np.sum(offset @ (prior.precision * problem.prior.mean))]))
    return float(posterior.log_evidence.sum()), np.concatenate(gradient)


def _check(problem: LinearProblem, model: WidthModel) -> None:
    """Raise unless the groups fit the problem and its evidence exists."""
    if model.prior_group is not None:
        check_shape(model.prior_group, (problem.design.n_coeff,), "prior_group", "n_coeff")
    if model.noise_group is not None:
        check_shape(model.noise_group, (problem.design.n_obs,), "noise_group", "n_obs")
    if model.model_variance is not None:
        check_shape(model.model_variance, (problem.design.n_obs,), "model_variance", "n_obs")
    if not problem.prior.is_proper:
        first = int(np.argmin(problem.prior.precision > 0))
        raise InputError(f"problem: expected a proper prior, got precision 0 at coefficient {first}; give it a width")


def _search(problem: LinearProblem, model: WidthModel, solver: Solver, max_iter: int) -> tuple[FloatArray, int, str]:
    """Climb towards the maximum; return parameters, iterations and the last word of the search."""
    scale = 1.0 / max(1, int(np.count_nonzero(problem.ivar)))

    def objective(parameters: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = evidence_gradient(problem, model, parameters, solver=solver)
        return -scale * value, -scale * gradient

    bounds = [(-LOG_BOUND, LOG_BOUND)] * model.n_log + [(None, None)] * model.zero_point
    options = {"maxiter": max_iter, "ftol": 1e-13, "gtol": 1e-9}
    found = minimize(objective, model.start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x), int(found.nit), str(found.message)


def _finish(
    problem: LinearProblem, model: WidthModel, parameters: FloatArray, solver: Solver
) -> tuple[FloatArray, FloatArray, bool]:
    """Take Newton steps to the maximum; return parameters, Laplace covariance and whether it was reached.

    A logarithm less certain than the whole range that was searched has no maximum: the evidence only levels off.
    """
    for _ in range(NEWTON_STEPS):
        gradient = evidence_gradient(problem, model, parameters, solver=solver)[1]
        hessian = _hessian(problem, model, parameters, solver)
        if np.linalg.eigvalsh(hessian)[0] <= 0:
            break
        covariance = np.linalg.inv(hessian)
        step = covariance @ gradient
        if np.any(np.diag(covariance)[: model.n_log] > LOG_BOUND**2):
            break
        if gradient @ step < CONVERGED:
            return parameters, covariance, True
        parameters = parameters + step
    return parameters, np.full(hessian.shape, np.nan), False


def _hessian(problem: LinearProblem, model: WidthModel, parameters: FloatArray, solver: Solver) -> FloatArray:
    """Return the Hessian of -log evidence by central differences of the gradient."""
    rows = []
    for unit in np.eye(parameters.size) * HESSIAN_STEP:
        ahead = evidence_gradient(problem, model, parameters + unit, solver=solver)[1]
        behind = evidence_gradient(problem, model, parameters - unit, solver=solver)[1]
        rows.append((behind - ahead) / (2.0 * HESSIAN_STEP))
    return 0.5 * (np.array(rows) + np.array(rows).T)


def _count(group: IntArray | None) -> int:
    return 0 if group is None else int(group.max(initial=-1)) + 1


def _spread(values: FloatArray, group: IntArray) -> FloatArray:
    """Return the value of each member's group, 1 outside any group."""
    return np.append(values, 1.0)[group]


def _gather(values: FloatArray, group: IntArray) -> FloatArray:
    """Return the sum over each group's members."""
    member = group >= 0
    return np.bincount(group[member], weights=values[member], minlength=_count(group))
