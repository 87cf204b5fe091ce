"""The linear problem y ~ N(X w, C), w ~ N(m, P^-1), and its answer (Luger, Foreman-Mackey & Hogg 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_finite, check_shape
from bayesprf.errors import InputError, ShapeError, UnsupportedError


class Design(Protocol):
    """A matrix X of shape (n_obs, n_coeff), the same for all batch rows or one per row."""

    @property
    def n_obs(self) -> int:
        """Number of observations, the rows of X."""
        ...

    @property
    def n_coeff(self) -> int:
        """Number of coefficients, the columns of X."""
        ...

    @property
    def n_batch(self) -> int | None:
        """Number of batch rows the design has values for; None if it serves any number."""
        ...

    def take(self, batches: IntArray) -> "Design":
        """Return the design of some batch rows."""
        ...

    def predict(self, coefficients: FloatArray) -> FloatArray:
        """Return X w of shape (n_batch, n_obs) for w of shape (n_batch, n_coeff)."""
        ...

    def normal_equations(self, data: FloatArray, ivar: FloatArray, batch: int) -> tuple[FloatArray, FloatArray]:
        """Return the dense X' C^-1 X and X' C^-1 y of one row; `data` and `ivar` have shape (n_obs,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class GaussianPrior:
    """Independent Gaussian priors, the same for every batch row.

    Parameters
    ----------
    mean : ndarray of float64, shape (n_coeff,)
        Prior means, in the unit of the coefficients.
    precision : ndarray of float64, shape (n_coeff,)
        Inverse prior variances; 0 is a flat prior.

    Raises
    ------
    ShapeError
        If the two differ in shape.
    InputError
        If a mean is not finite, or a precision negative or not finite.

    See Also
    --------
    LinearProblem : Takes the prior.

    Examples
    --------
    >>> import bayesprf as bp
    >>> import numpy as np
    >>> prior = bp.GaussianPrior.from_sigma(np.array([100.0, 50.0]), np.array([10.0, 10.0]))
    >>> prior.precision
    array([0.01, 0.01])
    """

    mean: FloatArray
    precision: FloatArray

    def __post_init__(self) -> None:
        if self.mean.ndim != 1:
            raise ShapeError(f"mean: expected 1 dimension (n_coeff), got shape {self.mean.shape}")
        check_shape(self.precision, self.mean.shape, "precision", "n_coeff, as mean")
        check_finite(self.mean, "mean")
        check_finite(self.precision, "precision")
        if np.any(self.precision < 0):
            first = int(np.argmax(self.precision < 0))
            raise InputError(f"precision: expected 0 or more, got {self.precision[first]} at index {first}")

    @classmethod
    def from_sigma(cls, mean: FloatArray, sigma: FloatArray) -> "GaussianPrior":
        """Build the prior from standard deviations; an infinite one is a flat prior."""
        if np.any(~(np.asarray(sigma) > 0)):
            first = int(np.argmax(~(np.asarray(sigma) > 0)))
            raise InputError(f"sigma: expected numbers above 0, got {sigma[first]} at index {first}")
        return cls(np.asarray(mean, np.float64), np.asarray(sigma, np.float64) ** -2.0)

    @property
    def is_proper(self) -> bool:
        """Whether every coefficient has a prior of finite width."""
        return bool(np.all(self.precision > 0))


@dataclass(frozen=True, slots=True, eq=False)
class LinearProblem:
    """Data, noise, design and prior of a batch of linear problems that share one design.

    Parameters
    ----------
    design : Design
        The matrix X, shape (n_obs, n_coeff).
    data : ndarray of float64, shape (n_batch, n_obs)
        Observations y. Where `ivar` is 0 the value is never read, so it may be NaN.
    ivar : ndarray of float64, shape (n_batch, n_obs)
        Inverse variances, the diagonal of C^-1; 0 drops an observation.
    prior : GaussianPrior
        Prior of the coefficients.
    known : ndarray of float64, shape (n_obs,), optional
        Part of every row's data that needs no coefficient: y ~ N(X w + known, C); zero by default.
    noise_ratio : ndarray of float64, shape (n_batch, n_obs), optional
        Variance of the data times `ivar`, where `ivar` weighs the fit without being the inverse variance of the
        noise; one by default. `WeightedSolver` solves such problems.

    Raises
    ------
    ShapeError
        If the shapes do not agree.

    See Also
    --------
    GaussianPrior : The prior.
    bayesprf.linalg.solvers.solver.choose_solver : Solve it.

    Examples
    --------
    Two stars in three pixels, at one cadence:

    >>> import bayesprf as bp
    >>> import numpy as np
    >>> from scipy.sparse import csr_matrix
    >>> from bayesprf.linalg.solvers.solver import choose_solver
    >>> from bayesprf.linalg.stack import DesignStack
    >>> design = DesignStack.from_sparse(csr_matrix([[0.6, 0.1], [0.4, 0.4], [0.0, 0.5]]))
    >>> prior = bp.GaussianPrior.from_sigma(np.zeros(2), np.full(2, 1e4))
    >>> problem = bp.LinearProblem(design, np.array([[70.0, 80.0, 50.0]]), np.ones((1, 3)), prior)
    >>> choose_solver(problem).solve(problem).mean.round(1)
    array([[100., 100.]])
    """

    design: Design
    data: FloatArray
    ivar: FloatArray
    prior: GaussianPrior
    known: FloatArray = None  # type: ignore[assignment]  # filled on construction
    noise_ratio: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.known is None:
            object.__setattr__(self, "known", np.zeros(self.design.n_obs))
        check_shape(self.known, (self.design.n_obs,), "known", "n_obs")
        check_finite(self.known, "known")
        if self.data.ndim != 2:
            raise ShapeError(f"data: expected 2 dimensions (n_batch, n_obs), got shape {self.data.shape}")
        check_shape(self.data, (self.data.shape[0], self.design.n_obs), "data", "n_batch, n_obs")
        check_shape(self.ivar, self.data.shape, "ivar", "n_batch, n_obs, as data")
        check_shape(self.prior.mean, (self.design.n_coeff,), "prior", "n_coeff")
        if self.noise_ratio is not None:
            check_shape(self.noise_ratio, self.data.shape, "noise_ratio", "n_batch, n_obs, as data")
        if self.design.n_batch not in (None, self.data.shape[0]):
            raise ShapeError(
                f"design: expected values for {self.data.shape[0]} batch rows, as data, got {self.design.n_batch}"
            )

    def take(self, batches: IntArray) -> "LinearProblem":
        """Return the problem of some batch rows, given by index."""
        design = self.design.take(batches)
        ratio = None if self.noise_ratio is None else self.noise_ratio[batches]
        return LinearProblem(design, self.data[batches], self.ivar[batches], self.prior, self.known, ratio)

    def predict(self, coefficients: FloatArray) -> FloatArray:
        """Return X w + known, shape (n_batch, n_obs), for w of shape (n_batch, n_coeff)."""
        return self.design.predict(coefficients) + self.known

    @property
    def noise_ivar(self) -> FloatArray:
        """Inverse variances of the noise, shape (n_batch, n_obs); `ivar` unless there is a `noise_ratio`."""
        if self.noise_ratio is None:
            return self.ivar
        return np.divide(self.ivar, self.noise_ratio, out=np.zeros_like(self.ivar), where=self.noise_ratio > 0)

    @property
    def n_batch(self) -> int:
        """Number of batch rows (cadences, in photometry)."""
        return int(self.data.shape[0])


class Factors(Protocol):
    """What a solver can still do with its factorisation of the posterior precision."""

    def covariance(self, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return the posterior covariance of some coefficients, shape (n_batches, n_selected, n_selected)."""
        ...

    def noise(self, rng: np.random.Generator, n_draw: int, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return draws of N(0, Lambda^-1), shape (n_draw, n_batches, n_selected)."""
        ...

    def prediction_variance(self, batches: IntArray) -> FloatArray:
        """Return x' Lambda^-1 x of every observation, shape (n_batches, n_obs)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class GaussianPosterior:
    """Posterior N(mean, Lambda^-1) of every batch row, Lambda = X' C^-1 X + P.

    Parameters
    ----------
    mean, std : ndarray of float64, shape (n_batch, n_coeff)
        Posterior mean and marginal standard deviation.
    log_evidence : ndarray of float64, shape (n_batch,)
        log N(y; X m, C + X P^-1 X') over the observations with ivar > 0; NaN under a flat prior.
    factors : Factors, optional
        Gives covariances and draws.
    """

    mean: FloatArray
    std: FloatArray
    log_evidence: FloatArray
    factors: Factors | None = None

    def covariance(self, batch: int = 0, coefficients: Sequence[int] | IntArray | None = None) -> FloatArray:
        """Return the posterior covariance of some (by default all) coefficients at one batch row.

        Parameters
        ----------
        batch : int
            Batch row.
        coefficients : sequence of int, optional
            Which coefficients, in the order of the answer.

        Returns
        -------
        ndarray of float64, shape (n_selected, n_selected)

        Raises
        ------
        UnsupportedError
            If the solver kept no factorisation.
        InputError
            If an index is out of range.
        """
        return self.covariances([batch], coefficients)[0]

    def covariances(
        self, batches: Sequence[int] | IntArray, coefficients: Sequence[int] | IntArray | None = None
    ) -> FloatArray:
        """Return the posterior covariance of some coefficients at several batch rows.

        Parameters
        ----------
        batches : sequence of int
            Batch rows.
        coefficients : sequence of int, optional
            Which coefficients, in the order of the answer; all by default.

        Returns
        -------
        ndarray of float64, shape (n_batches, n_selected, n_selected)

        Raises
        ------
        UnsupportedError
            If the solver kept no factorisation.
        InputError
            If an index is out of range.
        """
        rows = _select(batches, self.mean.shape[0], "batches")
        return self._need_factors().covariance(rows, _select(coefficients, self.mean.shape[1], "coefficients"))

    def draws(
        self,
        n_draw: int,
        rng: np.random.Generator,
        *,
        batches: Sequence[int] | IntArray | None = None,
        coefficients: Sequence[int] | IntArray | None = None,
    ) -> FloatArray:
        """Return exact posterior draws.

        Parameters
        ----------
        n_draw : int
            Number of independent draws.
        rng : numpy.random.Generator
            Source of randomness.
        batches : sequence of int, optional
            Batch rows; all by default.
        coefficients : sequence of int, optional
            Which coefficients, drawn jointly; all by default.

        Returns
        -------
        ndarray of float64, shape (n_draw, n_batches, n_selected)

        Raises
        ------
        UnsupportedError
            If the solver kept no factorisation.
        InputError
            If an index is out of range.
        """
        rows = _select(batches, self.mean.shape[0], "batches")
        columns = _select(coefficients, self.mean.shape[1], "coefficients")
        return self.mean[np.ix_(rows, columns)] + self._need_factors().noise(rng, n_draw, rows, columns)

    def prediction_variance(self, *, batches: Sequence[int] | IntArray | None = None) -> FloatArray:
        """Return the posterior variance of the model X w of every observation.

        Parameters
        ----------
        batches : sequence of int, optional
            Batch rows; all by default.

        Returns
        -------
        ndarray of float64, shape (n_batches, n_obs)
            x' Lambda^-1 x, in the squared unit of the data.

        Raises
        ------
        UnsupportedError
            If the solver kept no factorisation.
        InputError
            If an index is out of range.
        """
        return self._need_factors().prediction_variance(_select(batches, self.mean.shape[0], "batches"))

    def _need_factors(self) -> Factors:
        if self.factors is None:
            raise UnsupportedError(
                "this posterior has no factorisation: solve the problem again with a solver that keeps it"
            )
        return self.factors


def _select(indices: Sequence[int] | IntArray | None, size: int, name: str) -> IntArray:
    """Return indices as an array, all of them for None; negative ones count from the end."""
    if indices is None:
        return np.arange(size)
    wanted = np.asarray(indices, np.int64).reshape(-1)
    if np.any((wanted < -size) | (wanted >= size)):
        first = wanted[(wanted < -size) | (wanted >= size)][0]
        raise InputError(f"{name}: expected indices from 0 to {size - 1}, got {first}")
    return wanted % size
