"""The evidence as a function of hyperparameters: its gradient, and where it is largest."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from bayesprf.arrays import FloatArray, NamedDict
from bayesprf.errors import InputError
from bayesprf.linalg.hyperparameters import HYPER_NAMES, Hyperparameters
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.stack import stack_of

if TYPE_CHECKING:
    from bayesprf.linalg.compiled.evidence import Density, Given, Scales
    from bayesprf.linalg.compiled.work import Values
    from bayesprf.linalg.solvers.symbolic import SymbolicFactor

LOG_BOUND = float(np.log(1e6))
"""Widths and inflations are sought within a factor of a million of where they start."""

HESSIAN_STEP = 1e-4
"""Rounding: step of the central difference of the gradient: its error is 1e-8 of the Hessian."""

CONVERGED = 1e-8
"""Accuracy: largest squared distance from the maximum, g' H^-1 g: a ten-thousandth of a standard deviation."""

NEWTON_STEPS = 5
"""Accuracy: steps that finish what the quasi-Newton search began; each costs two gradients per parameter."""

# Accuracy: iterations of that search at most.
_MAX_ITER = 100

# Hyperparameters that may be learned here, in the order of the covariance: logarithms first, then the zero point.
_LOGARITHMS = ("width", "noise_scale", "model_error")
_SEARCHED = (*_LOGARITHMS, "zero_point")


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The log evidence of a problem as a function of hyperparameters; what does not depend on them is prepared once.

    Parameters
    ----------
    problem : LinearProblem
        As given, with a DesignStack and a proper prior.
    plan, values, given : SymbolicFactor, Values, Given
        The problem as the compiled kernel wants it.
    is_shared : bool
        Whether all batch rows have the same posterior covariance.

    Notes
    -----
    Fisher's identity: the gradient is the posterior mean of that of log p(y, w | hyperparameters). With the variance V
    of a datum and <.> the posterior mean, d/d log v = sum [<(w - z m)^2> / (v s)^2 - 1] over the coefficients of a
    group, d/dz = sum (<w> - z m) m / (v s)^2, and d/d log V = 1/2 sum [<(y - X w)^2> / V - 1] per datum.
    """

    problem: LinearProblem
    plan: "SymbolicFactor"
    values: "Values"
    given: "Given"
    is_shared: bool

    @classmethod
    def of(cls, problem: LinearProblem) -> "Evidence":
        """Analyse the design of a problem."""
        from bayesprf.linalg.compiled.evidence import Given
        from bayesprf.linalg.solvers.blocks import BlockFactors

        design, prior = stack_of(problem), problem.prior
        factors = BlockFactors.prepare(problem, n_threads=1)
        mix = np.empty((0, 1)) if design.mix is None else np.ascontiguousarray(design.mix)
        parts = np.ascontiguousarray(design.parts)
        given = Given(design.indptr, design.indices, parts, mix, factors.known, prior.mean, prior.precision)
        shared = design.is_static and bool(np.all(problem.ivar == problem.ivar[:1]))
        return cls(problem, factors.plan, factors.values, given, shared)

    def gradient(
        self, hyper: Hyperparameters, names: Collection[str] = HYPER_NAMES, data: FloatArray | None = None
    ) -> tuple[float, dict[str, FloatArray]]:
        """Return the log evidence, summed over batch rows, and its derivatives with some hyperparameters.

        Parameters
        ----------
        hyper : Hyperparameters
            Numbers.
        names : collection of str
            Which derivatives; all by default.
        data : ndarray of float64, shape (n_batch, n_obs), optional
            Other data with the same errors.

        Returns
        -------
        value : float
        gradient : dict of str to ndarray of float64
            By name, one number per group for width and noise scale, else one.
        """
        from bayesprf.linalg.compiled.evidence import evidence
        from bayesprf.linalg.compiled.work import make_scratch

        data = self.problem.data if data is None else data
        observed = np.ascontiguousarray(data), np.ascontiguousarray(self.problem.ivar)
        noise = bool({"noise_scale", "jitter", "model_error"} & set(names))
        scales = pack_scales(hyper, self.problem.design.n_coeff, self.problem.design.n_obs)
        scratch = make_scratch(self.plan, self.values.mix.shape[0])
        which = (noise, self.is_shared)
        value, slopes = evidence(self.plan, self.values, self.given, observed, scales, scratch, which)
        return float(value), {name: getattr(slopes, name) for name in names}


def pack_scales(hyper: Hyperparameters, n_coeff: int, n_obs: int) -> "Scales":
    """Return hyperparameters that are numbers as the compiled kernel wants them, a `Scales`."""
    from bayesprf.linalg.compiled.evidence import Scales

    numbers = {name: np.atleast_1d(np.asarray(getattr(hyper, name), np.float64)) for name in HYPER_NAMES}
    of_noise = np.zeros(n_obs, np.int64) if hyper.noise_group is None else np.asarray(hyper.noise_group, np.int64)
    extra = np.zeros(n_obs) if hyper.model_variance is None else np.asarray(hyper.model_variance, np.float64)
    return Scales(**numbers, width_group=hyper.groups(n_coeff), noise_group=of_noise, model_variance=extra)


def compile_density(evidence: Evidence, hyper: Hyperparameters) -> "Density":
    """Return the evidence as a compiled function, for samplers that are compiled themselves.

    Parameters
    ----------
    evidence : Evidence
        The evidence.
    hyper : Hyperparameters
        Groups of coefficients; its numbers do not matter.

    Returns
    -------
    callable
        From the widths of all groups, zero point, noise scale and jitter in one vector, and data (n_batch, n_obs), to
        the log evidence and its gradient.
    """
    from bayesprf.linalg.compiled.evidence import density_of

    n_coeff, n_obs = evidence.problem.design.n_coeff, evidence.problem.design.n_obs
    groups = pack_scales(Hyperparameters(width_group=hyper.width_group), n_coeff, n_obs)
    ivar = np.ascontiguousarray(evidence.problem.ivar)
    return density_of((evidence.plan, evidence.values, evidence.given), ivar, groups, is_shared=evidence.is_shared)


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
    problem: LinearProblem, hyper: Hyperparameters, *, start: Hyperparameters | None = None
) -> EvidenceMaximum:
    """Maximise the evidence over the hyperparameters that are "learn".

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior; a few hundred batch rows tell as much as thousands.
    hyper : Hyperparameters
        What is learned, all but the jitter.
    start : Hyperparameters, optional
        Numbers that the search starts from; by default 1.

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
    Maximum marginal likelihood of type II (MacKay 1992): L-BFGS on `Evidence.gradient`, ended by Newton steps.
    """
    hyper.check(problem)
    space = _SearchSpace(Evidence.of(problem), hyper)
    climbed, n_iter, message = _search(space, space.start if start is None else space.pack(start))
    at, covariance, converged = _finish(space, climbed)
    found, value = space.unpack(at), space.gradient(at)[0]
    return EvidenceMaximum(found, space.names, covariance, value, converged, n_iter, message, found.apply(problem))


@dataclass(frozen=True, slots=True, eq=False)
class _SearchSpace:
    """The free hyperparameters as one vector: logarithms of factors, and the zero point."""

    evidence: Evidence
    hyper: Hyperparameters

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

    def pack(self, hyper: Hyperparameters) -> FloatArray:
        """Return the vector of hyperparameters that are numbers."""
        values = {name: np.atleast_1d(np.asarray(getattr(hyper, name), float)) for name in self.free}
        return np.concatenate([np.log(one) if name in _LOGARITHMS else one for name, one in values.items()])

    def unpack(self, at: FloatArray) -> Hyperparameters:
        """Return the hyperparameters at a vector."""
        found: NamedDict = {}
        for name in self.free:
            part, at = at[: self.hyper.size(name)], at[self.hyper.size(name) :]
            part = np.exp(part) if name in _LOGARITHMS else part
            found[name] = part if name in ("width", "noise_scale") else float(part[0])
        return replace(self.hyper, **found)

    def gradient(self, at: FloatArray) -> tuple[float, FloatArray]:
        """Return the log evidence and its gradient at a vector."""
        hyper = self.unpack(at)
        value, slopes = self.evidence.gradient(hyper, self.free)
        scale = {name: getattr(hyper, name) for name in _LOGARITHMS}
        return value, np.concatenate([slopes[name] * scale.get(name, 1.0) for name in self.free])

    def hessian(self, at: FloatArray) -> FloatArray:
        """Return the Hessian of -log evidence by central differences of the gradient."""
        rows = []
        for unit in np.eye(at.size) * HESSIAN_STEP:
            ahead, behind = self.gradient(at + unit)[1], self.gradient(at - unit)[1]
            rows.append((behind - ahead) / (2.0 * HESSIAN_STEP))
        return 0.5 * (np.array(rows) + np.array(rows).T)


def _search(space: _SearchSpace, start: FloatArray) -> tuple[FloatArray, int, str]:
    """Climb from a vector towards the maximum; return the vector, iterations and the last word of the search."""
    scale = 1.0 / max(1, int(np.count_nonzero(space.evidence.problem.ivar)))

    def objective(at: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = space.gradient(at)
        return -scale * value, -scale * gradient

    bounds = [(-LOG_BOUND, LOG_BOUND)] * space.n_log + [(None, None)] * (len(space.names) - space.n_log)
    options = {"maxiter": _MAX_ITER, "ftol": 1e-13, "gtol": 1e-9}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x), int(found.nit), str(found.message)


def _finish(space: _SearchSpace, at: FloatArray) -> tuple[FloatArray, FloatArray, bool]:
    """Take Newton steps to the maximum; return the vector, Laplace covariance and whether it was reached.

    A logarithm less certain than the whole range that was searched has no maximum: the evidence only levels off.
    """
    for _ in range(NEWTON_STEPS):
        gradient, hessian = space.gradient(at)[1], space.hessian(at)
        # Numbers of very different certainty: a scale of their own for each, before rounding is told from a maximum.
        scale = 1.0 / np.sqrt(np.maximum(np.diag(hessian), 1e-300))
        scaled = hessian * np.outer(scale, scale)
        if np.linalg.eigvalsh(scaled)[0] <= np.finfo(float).eps * scale.size:
            break
        covariance = np.linalg.inv(scaled) * np.outer(scale, scale)
        step = covariance @ gradient
        if np.any(np.diag(covariance)[: space.n_log] > LOG_BOUND**2):
            break
        if gradient @ step < CONVERGED:
            return at, covariance, True
        at = at + step
    return at, np.full(hessian.shape, np.nan), False
