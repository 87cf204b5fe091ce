"""BlockSolver: sparse Cholesky factorisation of a DesignStack, batch rows side by side in compiled lanes."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_integer
from bayesprf.errors import UnsupportedError
from bayesprf.linalg.compiled import factors as kernels
from bayesprf.linalg.compiled import leverage
from bayesprf.linalg.compiled import solve as lanewise
from bayesprf.linalg.compiled.lanes import LANES
from bayesprf.linalg.compiled.work import Prior, Rows, Scratch, Values, make_scratch
from bayesprf.linalg.density import check_observations
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.singular import singular_error
from bayesprf.linalg.solvers.symbolic import SymbolicFactor, analyse
from bayesprf.linalg.solvers.weighted import WeightedFactors
from bayesprf.linalg.stack import DesignStack

DRAWS_CHUNK = 1 << 22
"""Numbers drawn at a time, 32 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockSolver:
    """Solve sparse problems by one symbolic and many numeric Cholesky factorisations.

    Coefficients that share no observation, directly or through others, form separate components, and each is
    factorised alone. Columns common to all coefficients are eliminated last, as a Schur complement.

    Parameters
    ----------
    n_threads : int, optional
        Threads over batch rows; the number of cores by default. The answer does not depend on it.
    """

    n_threads: int | None = None

    def __post_init__(self) -> None:
        if self.n_threads is not None:
            check_integer(self.n_threads, "n_threads", low=1)

    def solve(self, problem: LinearProblem) -> GaussianPosterior:
        """Return the posterior of every batch row.

        Parameters
        ----------
        problem : LinearProblem
            Its design must be a DesignStack.

        Returns
        -------
        GaussianPosterior
            Covariances and draws factorise the rows they are asked for again.

        Raises
        ------
        UnsupportedError
            If the design is not a DesignStack.
        NotPositiveDefiniteError
            If a coefficient is constrained by neither data nor prior.
        InputError
            If an inverse variance is negative or not finite, or a datum in use is not finite.
        """
        factors = BlockFactors.prepare(problem, self.n_threads)
        answer = factors.solve()
        failed = answer.failure[0] >= 0
        if failed or answer.bad[0] != 0.0 or not np.isfinite(answer.log_density).all():
            check_observations(problem)
        if failed:
            raise singular_error(int(factors.plan.order[answer.failure[0]]), int(answer.failure[1]))
        prior = problem.prior
        log_prior = 0.5 * np.sum(np.log(prior.precision)) if prior.is_proper else np.nan
        return GaussianPosterior(answer.mean, answer.std, answer.log_density + log_prior, factors)


@dataclass(frozen=True, slots=True, eq=False)
class BlockFactors:
    """A problem made ready for the compiled kernels: its symbolic factor, and values and prior in that order.

    Parameters
    ----------
    plan : SymbolicFactor
        Order and pattern.
    values : Values
        Entries of the design.
    prior : Prior
        Prior in places.
    data, ivar : ndarray of float64, shape (n_batch, n_obs)
        The observations.
    known : ndarray of float64, shape (n_obs,)
        Part of the data that needs no coefficient.
    n_threads : int
        Threads over batch rows.
    """

    plan: SymbolicFactor
    values: Values
    prior: Prior
    data: FloatArray
    ivar: FloatArray
    known: FloatArray
    n_threads: int

    @classmethod
    def prepare(cls, problem: LinearProblem, n_threads: int | None = None) -> "BlockFactors":
        """Analyse a problem's design and bring its numbers into the order of elimination."""
        design = problem.design
        if not isinstance(design, DesignStack):
            raise UnsupportedError(
                f"BlockSolver: expected a DesignStack as design, got {type(design).__name__}; use DenseSolver"
            )
        plan = analyse(design)
        prior = Prior(problem.prior.mean[plan.order], problem.prior.precision[plan.order])
        data, ivar = np.ascontiguousarray(problem.data), np.ascontiguousarray(problem.ivar)
        known = np.ascontiguousarray(problem.known)
        return cls(plan, _values(plan, design), prior, data, ivar, known, n_threads or os.cpu_count() or 1)

    def solve(self) -> lanewise.Answer:
        """Return mean, standard deviation and log density of every row."""
        shape = (self.data.shape[0], self.plan.order.size)
        answer = lanewise.Answer(np.empty(shape), np.empty(shape), np.empty(shape[0]), np.full(2, -1), np.zeros(1))
        model = self._model(np.arange(shape[0]))

        def work(lo: int, hi: int) -> lanewise.Answer:
            part = answer._replace(failure=np.full(2, -1), bad=np.zeros(1))
            lanewise.solve_rows(self.plan, model, part, self._scratch(), (lo, hi))
            return part

        parts = _in_threads(work, shape[0], self.n_threads)
        failure = next((part.failure for part in parts if part.failure[0] >= 0), answer.failure)
        return answer._replace(failure=failure, bad=np.sum([part.bad for part in parts], axis=0))

    def covariance(self, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return the posterior covariance of some coefficients, shape (n_batches, n_selected, n_selected)."""
        places = self.plan.place[coefficients]
        group_of = _owner(self.plan.group_coeff, places)
        answer = np.zeros((batches.size, places.size, places.size))
        selected = (np.unique(group_of), places, group_of)
        kernels.write_covariance(self.plan, self._model(batches), selected, answer, self._scratch())
        return 0.5 * (answer + answer.transpose(0, 2, 1))

    def noise(self, rng: np.random.Generator, n_draw: int, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return draws of N(0, Lambda^-1), shape (n_draw, n_batches, n_selected)."""
        places = self.plan.place[coefficients]
        comps, which = np.unique(_owner(self.plan.comp_coeff, places), return_inverse=True)
        selected = (comps, _owner(self.plan.group_coeff, self.plan.comp_coeff[comps]))
        sizes = np.diff(self.plan.comp_coeff)[comps]
        offsets = np.cumsum(sizes) - sizes
        columns = places - self.plan.comp_coeff[comps[which]] + offsets[which]
        answer, scratch = np.empty((n_draw, batches.size, places.size)), self._scratch()
        step = max(1, DRAWS_CHUNK // max(1, n_draw * int(sizes.sum())))
        for start in range(0, batches.size, step):
            chunk = batches[start : start + step]
            noise = rng.standard_normal((n_draw, chunk.size, int(sizes.sum())))
            kernels.colour_noise(self.plan, self._model(chunk), selected, noise, scratch)
            answer[:, start : start + step] = noise[:, :, columns]
        return answer

    def prediction_variance(self, batches: IntArray) -> FloatArray:
        """Return x' Lambda^-1 x of every observation, shape (n_batches, n_obs)."""
        answer = np.empty((batches.size, self.data.shape[1]))
        model = self._model(batches)

        def work(lo: int, hi: int) -> None:
            leverage.read_inverse(self.plan, model, (np.empty((0, 0)), answer), self._scratch(), (lo, hi))

        _in_threads(work, batches.size, self.n_threads)
        return answer

    def weighted_std(self, excess: FloatArray) -> FloatArray:
        """Return standard deviations for the noise C where `ivar` holds other weights W, shape (n_batch, n_coeff).

        `excess` is W (C W - 1), shape (n_batch, n_obs).
        """
        batches = np.arange(self.data.shape[0])
        answer, model = np.empty((batches.size, self.plan.order.size)), self._model(batches)

        def work(lo: int, hi: int) -> None:
            kernels.write_weighted_std(self.plan, model, (excess, answer), self._scratch(), (lo, hi))

        _in_threads(work, batches.size, self.n_threads)
        return answer

    def pairs(self, batches: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Return coefficients i < j that share an observation and their covariance, shape (n_batches, n_pair)."""
        plan = self.plan
        column = np.repeat(np.arange(plan.order.size), np.diff(plan.g_ptr))
        below = plan.g_row > 0
        first = plan.group_coeff[_owner(plan.group_coeff, column)]
        row = first + plan.l_row[plan.l_ptr[column] + plan.g_row]
        ends = np.sort(np.stack([plan.order[column[below]], plan.order[row[below]]]), axis=0)
        values = np.empty((batches.size, ends.shape[1]))
        answer = (values, np.empty((0, 0)))
        leverage.read_inverse(plan, self._model(batches), answer, self._scratch(), (0, batches.size))
        order = np.lexsort((ends[1], ends[0]))
        return ends[0, order], ends[1, order], values[:, order]

    def _model(self, batches: IntArray) -> tuple[Values, Prior, Rows]:
        return self.values, self.prior, Rows(batches, self.data, self.ivar, self.known)

    def _scratch(self) -> Scratch:
        return make_scratch(self.plan, self.values.mix.shape[0])


def pair_covariance(
    posterior: GaussianPosterior, batches: IntArray | None = None
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the posterior covariance of every pair of coefficients that share an observation.

    Parameters
    ----------
    posterior : GaussianPosterior
        An answer of BlockSolver.
    batches : ndarray of int64, shape (n_batches,), optional
        Batch rows; all by default.

    Returns
    -------
    i, j : ndarray of int64, shape (n_pair,)
        The coefficients, i < j, sorted by i, then j.
    values : ndarray of float64, shape (n_batches, n_pair)
        Their covariance, in the squared unit of the coefficients.

    Raises
    ------
    UnsupportedError
        If the posterior does not come from BlockSolver, alone or within a WeightedSolver.
    """
    if not isinstance(posterior.factors, BlockFactors | WeightedFactors):
        raise UnsupportedError("posterior: expected an answer of BlockSolver, which knows the pairs; solve with it")
    return posterior.factors.pairs(np.arange(posterior.mean.shape[0]) if batches is None else np.asarray(batches))


def sparse_covariance(posterior: GaussianPosterior) -> csr_matrix:
    """Return the covariance of the first batch row on pairs of coefficients that share an observation, symmetric."""
    i, j, shared = pair_covariance(posterior, np.zeros(1, np.int64))
    own = np.arange(posterior.std.shape[1])
    values = np.concatenate([shared[0], shared[0], posterior.std[0] ** 2])
    place = np.concatenate([i, j, own]), np.concatenate([j, i, own])
    return csr_matrix((values, place), shape=(own.size, own.size))


def _values(plan: SymbolicFactor, design: DesignStack) -> Values:
    """Return the entries of the design in grouped order, and the products of X'X if they never change."""
    parts = np.ascontiguousarray(design.parts[:, plan.entry])
    if design.mix is not None:
        return Values(parts, np.ascontiguousarray(design.mix), np.empty(0))
    size = np.diff(plan.group_coeff)
    base = np.repeat(plan.row_ptr[plan.group_obs[:-1]], size)
    base = np.repeat(base, np.diff(plan.p_ptr[plan.g_ptr]))
    return Values(parts, np.empty((0, 1)), parts[0, base + plan.p_a] * parts[0, base + plan.p_b])


def _owner(starts: IntArray, places: IntArray) -> IntArray:
    """Return in which of the ranges that begin at `starts` each place lies."""
    owner: IntArray = np.searchsorted(starts, places, side="right") - 1
    return owner


def _in_threads[T](work: Callable[[int, int], T], n_row: int, n_threads: int) -> list[T]:
    """Split rows into contiguous shares, whole vectors of LANES each, and work on them at the same time."""
    n_block = -(-n_row // LANES)
    n_share = max(1, min(n_threads, n_block))
    edges = np.minimum(LANES * ((n_block * np.arange(n_share + 1)) // n_share), n_row)
    if n_share == 1:
        return [work(0, n_row)]
    with ThreadPoolExecutor(n_share) as pool:
        return list(pool.map(work, edges[:-1].tolist(), edges[1:].tolist()))
