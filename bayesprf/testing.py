"""Helpers for tests of anything that solves linear problems: tiny problems, and a twin that shares no formula."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from bayesprf.arrays import AnyArray, FloatArray, IntArray
from bayesprf.errors import InputError
from bayesprf.linalg.kalman import FixedColumns
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.linalg.state_space import ProcessKernel

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, slots=True, eq=False)
class DenseCovariance:
    """Covariances and draws of a problem from full covariance matrices, shape (n_batch, n_coeff, n_coeff)."""

    problem: LinearProblem
    matrices: FloatArray

    def covariance(self, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return the posterior covariance of some coefficients, shape (n_batches, n_selected, n_selected)."""
        return self.matrices[np.ix_(batches, coefficients, coefficients)]

    def noise(self, rng: np.random.Generator, n_draw: int, batches: IntArray, coefficients: IntArray) -> FloatArray:
        """Return draws of N(0, covariance), shape (n_draw, n_batches, n_selected)."""
        zero = np.zeros(coefficients.size)
        draws = [rng.multivariate_normal(zero, one, n_draw) for one in self.covariance(batches, coefficients)]
        return np.stack(draws, axis=1)

    def prediction_variance(self, batches: IntArray) -> FloatArray:
        """Return x' cov x of every observation, shape (n_batches, n_obs)."""
        rows = [_matrix(self.problem, int(batch)) for batch in batches]
        return np.stack([np.diag(x @ self.matrices[b] @ x.T) for x, b in zip(rows, batches, strict=True)])


def dense_twin(problem: LinearProblem) -> GaussianPosterior:
    """Solve a problem in the space of the data, where no solver of the package works.

    Parameters
    ----------
    problem : LinearProblem
        A small problem with a proper prior.

    Returns
    -------
    GaussianPosterior
        With full covariances.

    Raises
    ------
    InputError
        If a prior is flat.

    Notes
    -----
    With S = P^-1, K = C + X S X' and the gain G = S X' K^-1: mean = m + G (y - X m), covariance
    (I - G X) S (I - G X)' + G C G' (Joseph's form), log evidence = log N(y; X m, K).
    """
    if not problem.prior.is_proper:
        raise InputError("problem: expected a proper prior, got a precision of 0; the data space has no flat prior")
    rows = [_solve_row(problem, batch) for batch in range(problem.n_batch)]
    mean, covariance, log_evidence = (np.array([row[k] for row in rows]) for k in range(3))
    std = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return GaussianPosterior(mean, std, log_evidence, DenseCovariance(problem, covariance))


@dataclass(frozen=True, slots=True, eq=False)
class DenseProcesses:
    """Posterior of processes from full matrices over all rows.

    Parameters
    ----------
    mean : ndarray of float64, shape (n_batch, n_coeff)
        Posterior mean of the coefficients.
    covariance : ndarray of float64, shape (n_batch, n_coeff, n_batch, n_coeff)
        Posterior covariance of all of them.
    log_evidence, log_loo : ndarray of float64, shape (n_batch,)
        log p(y_t | rows before) and log p(y_t | all other rows).
    """

    mean: FloatArray
    covariance: FloatArray
    log_evidence: FloatArray
    log_loo: FloatArray


def autocovariance(kernel: ProcessKernel, lag: FloatArray) -> FloatArray:
    """Return the autocovariance of a kernel in closed form, white variation aside.

    Parameters
    ----------
    kernel : ProcessKernel
        The kernel.
    lag : ndarray of float64
        Distance in time, 0 or more, day.

    Returns
    -------
    ndarray of float64, shape of `lag`
        (electron / s)**2.
    """
    name, u = kernel.family, lag / kernel.scale
    if name == "constant":
        return 0.0 * lag
    if name == "matern12":
        shape = np.exp(-u)
    elif name == "matern32":
        shape = (1.0 + np.sqrt(3.0) * u) * np.exp(-np.sqrt(3.0) * u)
    elif name == "matern52":
        shape = (1.0 + np.sqrt(5.0) * u + 5.0 * u**2 / 3.0) * np.exp(-np.sqrt(5.0) * u)
    else:
        h = 0.5 / kernel.quality
        f, a = np.sqrt(1.0 - h**2), 2.0 * np.pi * u
        shape = np.exp(-h * a) * (np.cos(f * a) + h / f * np.sin(f * a))
    return np.asarray(kernel.sigma**2 * shape)


def dense_processes(
    problem: LinearProblem, kernels: tuple[ProcessKernel, ...], time: FloatArray, columns: FixedColumns
) -> DenseProcesses:
    """Solve processes in the space of all data of all rows: the twin of `solve_processes`.

    Parameters
    ----------
    problem : LinearProblem
        Data and design; its prior is not used.
    kernels, time, columns
        As for `solve_processes`.

    Returns
    -------
    DenseProcesses
    """
    n_time, n_coeff = problem.n_batch, problem.design.n_coeff
    used, row = (problem.ivar > 0).ravel(), np.repeat(np.arange(n_time), problem.design.n_obs)
    pixels = np.zeros((n_time, problem.design.n_obs, n_time, n_coeff))
    prior = np.zeros((n_time, n_coeff, n_time, n_coeff))
    for t in range(n_time):
        pixels[t, :, t] = _matrix(problem, t)
    for k, kernel in enumerate(kernels):
        prior[:, k, :, k] = autocovariance(kernel, np.abs(time[:, None] - time)) + kernel.white**2 * np.eye(n_time)
    fixed = columns.values.reshape(n_time * n_coeff, -1)
    matrix = pixels.reshape(used.size, -1)[used]
    signal = prior.reshape(2 * [n_time * n_coeff]) + fixed @ np.linalg.solve(columns.precision, fixed.T)
    total = matrix @ signal @ matrix.T + np.diag(1.0 / problem.ivar.ravel()[used])
    residual = (problem.data - problem.known).ravel()[used] - matrix @ (fixed @ columns.mean)
    gain = np.linalg.solve(total, matrix @ signal).T
    mean, covariance = fixed @ columns.mean + gain @ residual, signal - gain @ matrix @ signal

    def log_density(chosen: NDArray[np.bool_]) -> float:
        part, some = total[np.ix_(chosen, chosen)], residual[chosen]
        return float(-0.5 * (some @ np.linalg.solve(part, some) + np.linalg.slogdet(2.0 * np.pi * part)[1]))

    before = np.array([log_density(row[used] < t) for t in range(n_time + 1)])
    without = np.array([log_density(row[used] != t) for t in range(n_time)])
    shape = (n_time, n_coeff)
    return DenseProcesses(mean.reshape(shape), covariance.reshape(shape * 2), np.diff(before), before[-1] - without)


def make_problem(
    rng: np.random.Generator,
    *,
    n_batch: int = 1,
    n_obs: int = 14,
    n_coeff: int = 5,
    n_part: int = 1,
    density: float = 0.4,
    prior_sigma: float = 10.0,
    dropped: float = 0.0,
) -> LinearProblem:
    """Make a small random problem whose data follow its own model.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_batch, n_obs, n_coeff : int
        Size.
    n_part : int
        Parts of the design; with more than one, every batch row mixes them differently.
    density : float
        Share of the matrix that is not zero; with 0 no coefficient is observed.
    prior_sigma : float
        Prior standard deviation of every coefficient; the data's is about 1.
    dropped : float
        Share of the data that has ivar 0 and the value NaN.

    Returns
    -------
    LinearProblem
        Its design is a DesignStack.
    """
    pattern = csr_matrix(rng.uniform(size=(n_obs, n_coeff)) < density)
    pattern.sort_indices()
    parts = rng.normal(1.0, 0.5, (n_part, pattern.nnz))
    mix = rng.normal(1.0, 0.3, (n_batch, n_part)) if n_part > 1 else None
    design = DesignStack(pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64), parts, n_coeff, mix)
    prior = GaussianPrior.from_sigma(rng.normal(size=n_coeff), prior_sigma * rng.uniform(0.5, 2.0, n_coeff))
    truth = prior.mean + rng.normal(size=(n_batch, n_coeff)) / np.sqrt(prior.precision)
    sigma = rng.uniform(0.5, 2.0, (n_batch, n_obs))
    known = rng.normal(size=n_obs)
    data = design.predict(truth) + known + sigma * rng.normal(size=sigma.shape)
    drop = rng.uniform(size=sigma.shape) < dropped
    return LinearProblem(design, np.where(drop, np.nan, data), np.where(drop, 0.0, sigma**-2.0), prior, known)


def assert_posterior_close(actual: GaussianPosterior, expected: GaussianPosterior, *, rtol: float) -> None:
    """Raise AssertionError unless mean, std, covariance and evidence agree.

    Parameters
    ----------
    actual, expected : GaussianPosterior
        Answers to the same problem; both must have factors.
    rtol : float
        Relative tolerance; of means and covariances relative to the largest of its row, as small ones are sums of
        large terms.
    """
    np.testing.assert_allclose(actual.std, expected.std, rtol=rtol, err_msg="std")
    np.testing.assert_allclose(actual.log_evidence, expected.log_evidence, rtol=rtol, atol=rtol, err_msg="log_evidence")
    scale = np.abs(expected.mean).max(axis=1, initial=1e-300)
    np.testing.assert_allclose(actual.mean / scale[:, None], expected.mean / scale[:, None], atol=rtol, err_msg="mean")
    for batch in range(expected.mean.shape[0]):
        outer = expected.std[batch][:, None] * expected.std[batch]
        got, wanted = actual.covariance(batch) / outer, expected.covariance(batch) / outer
        np.testing.assert_allclose(got, wanted, atol=rtol, rtol=0, err_msg=f"correlation of batch row {batch}")


def _solve_row(problem: LinearProblem, batch: int) -> tuple[FloatArray, FloatArray, float]:
    """Return mean, covariance and log evidence of one batch row."""
    used = problem.ivar[batch] > 0
    matrix = _matrix(problem, batch)[used]
    noise = np.diag(1.0 / problem.ivar[batch][used])
    prior_covariance = np.diag(1.0 / problem.prior.precision)
    total = noise + matrix @ prior_covariance @ matrix.T
    residual = problem.data[batch][used] - problem.known[used] - matrix @ problem.prior.mean
    gain = np.linalg.solve(total, matrix @ prior_covariance).T
    rest = np.eye(matrix.shape[1]) - gain @ matrix
    covariance = rest @ prior_covariance @ rest.T + gain @ noise @ gain.T
    chi2 = residual @ np.linalg.solve(total, residual)
    log_evidence = -0.5 * (chi2 + np.linalg.slogdet(2.0 * np.pi * total)[1])
    return problem.prior.mean + gain @ residual, covariance, float(log_evidence)


def _matrix(problem: LinearProblem, batch: int) -> FloatArray:
    """Return the dense X of one batch row."""
    design = problem.design
    if isinstance(design, DesignStack):
        return np.asarray(design.matrix(batch).toarray())
    return design.predict(np.eye(design.n_coeff)).T


def any_value() -> "SearchStrategy[object]":
    """Return a hypothesis strategy of whatever may be given for an argument: right and wrong types, and odd numbers.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        None, flags, whole and real numbers (NaN, infinite, huge), complex numbers, texts, bytes, lists, dicts, arrays.

    Notes
    -----
    Needs hypothesis, which comes with ``pip install 'bayesprf[test]'``.
    """
    from hypothesis import strategies as st

    number = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.complex_numbers())
    plain = st.one_of(st.none(), st.booleans(), number, st.text(max_size=8), st.binary(max_size=4))
    array = st.builds(np.full, st.lists(st.integers(0, 3), max_size=3).map(tuple), st.floats() | st.integers(-9, 9))
    nested = st.one_of(st.lists(plain, max_size=3), st.dictionaries(st.text(max_size=3), plain, max_size=2))
    return st.one_of(
        plain, nested, array, st.sampled_from(["bin", "joint", "stamp", "sqrt", "centroid", np.float32(2)])
    )


def odd_array(good: object) -> "SearchStrategy[AnyArray]":
    """Return a hypothesis strategy of arrays like a good one, with something odd about them.

    Parameters
    ----------
    good : array-like
        An array that is accepted.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        The array with single values or all of them replaced (NaN, infinite, huge, tiny, negative), cut, of another
        shape, order or type.

    Notes
    -----
    Needs hypothesis, which comes with ``pip install 'bayesprf[test]'``.
    """
    from hypothesis import strategies as st

    array = np.asarray(good)
    odd = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 1e300, -1e30, 1e12, 2.0**31, 0.5])
    place = st.integers(0, max(array.size - 1, 0))
    return st.one_of(
        st.builds(_with_value, st.just(array), place, odd),
        st.builds(lambda value: np.full(array.shape, value), odd),
        st.builds(_scaled, st.just(array), odd, st.booleans()),
        st.sampled_from([array[:0], array[1:], array[None], array.T, array[::-1], array.ravel(), array[..., :1]]),
        st.sampled_from(["f4", "f2", ">f8", "i8", "?", "c16", "O", "U8", "S4", "M8[s]"]).map(
            lambda kind: _cast(array, kind)
        ),
    )


def _with_value(array: AnyArray, place: int, value: float) -> AnyArray:
    changed = np.array(array, np.float64)
    if changed.size:
        changed.ravel()[place] = value
    return changed


def _scaled(array: AnyArray, value: float, add: bool) -> AnyArray:  # noqa: FBT001  (a strategy gives its arguments by place)
    with np.errstate(all="ignore"):
        return array + value if add else array * value


def _cast(array: AnyArray, kind: str) -> AnyArray:
    with np.errstate(all="ignore"):
        return array.astype(np.int64).astype(kind) if kind == "M8[s]" else array.astype(kind)


def damaged(content: bytes) -> "SearchStrategy[bytes]":
    """Return a hypothesis strategy of a file's content as broken disks, downloads and editors leave it.

    Parameters
    ----------
    content : bytes
        The file as it should be.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Bytes: cut short, with flipped bits, blocks of zeros, bytes put in, taken out or replaced.

    Notes
    -----
    Needs hypothesis, which comes with ``pip install 'bayesprf[test]'``.
    """
    from hypothesis import strategies as st

    size = len(content)
    place = st.integers(0, max(size - 1, 0))
    piece = st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\0" * 2880, b" " * 80, b"\xff" * 16, b"nan", b"-1", b"1e999", b"'", b'"', b"\r\n", b"/>"]),
    )
    return st.one_of(
        place.map(lambda end: content[:end]),
        st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=4).map(lambda bits: _flip(content, bits)),
        st.builds(lambda at, new: content[:at] + new + content[at:], place, piece),
        st.builds(lambda at, new: content[:at] + new + content[at + len(new) :], place, piece),
        st.builds(lambda at, count: content[:at] + content[at + count :], place, st.sampled_from([1, 80, 2880])),
    )


def _flip(content: bytes, bits: list[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, bit in bits:
        if changed:
            changed[place] ^= 1 << bit
    return bytes(changed)
