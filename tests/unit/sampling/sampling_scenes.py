"""Small simulated linear problems with known hyperparameters."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.results.posterior import GroupData


def make_problem(
    n_source: int = 5,
    n_time: int = 1,
    *,
    seed: int = 0,
    density: float = 0.03,
    tau: float = 0.1,
    jitter: float = 2.0,
    faint: float = 1.0,
    moving: bool = False,
    ragged: bool = False,
) -> LinearProblem:
    """Stars of log-uniform flux under a Moffat PRF; prior N(mu, mu**2), the true width being `tau`."""  # fmt: skip
    rng = np.random.default_rng(seed)
    side = np.sqrt(n_source / density) + 6.0
    star = rng.uniform(3.0, side - 3.0, (n_source, 2))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    source, pixel = zip(
        *[(s, p) for s, ps in enumerate(cKDTree(grid).query_ball_point(star, 3.5)) for p in ps], strict=True
    )
    radius = np.hypot(*(grid[list(pixel)] - star[list(source)]).T)
    value = 0.2 * (1.0 + (radius / 1.5) ** 2) ** -2.5
    matrix = csr_matrix((value, (pixel, source)), shape=(len(grid), n_source))
    matrix = matrix[np.diff(matrix.indptr) > 0]
    design = DesignStack.from_sparse(matrix)
    if moving:
        slope = 0.1 * rng.standard_normal(design.parts.shape)
        mix = np.column_stack([np.ones(n_time), np.linspace(-1.0, 1.0, n_time)])
        design = DesignStack(
            design.indptr, design.indices, np.vstack([design.parts, slope * design.parts]), n_source, mix
        )
    mu = faint * 10.0 ** rng.uniform(2.0, 4.0, n_source)
    flux = mu * (1.0 + tau * rng.standard_normal((n_time, n_source)))
    error = np.sqrt(9.0 + 0.01 * np.maximum(design.predict(np.tile(mu, (n_time, 1))), 0.0))
    if ragged:
        error = error * rng.uniform(0.8, 1.2, (n_time, 1))
    noise = np.hypot(error, jitter) * rng.standard_normal(error.shape)
    data = design.predict(flux) + noise
    ivar = error**-2.0
    if ragged:
        ivar[rng.uniform(size=ivar.shape) < 0.03] = 0.0
        data = np.where(ivar > 0, data, np.nan)
    return LinearProblem(design, data, ivar, GaussianPrior.from_sigma(mu, mu))


def group_data(problem: LinearProblem, *, with_time: bool = True) -> GroupData:
    """Name the axes of a problem."""
    n_obs = problem.data.shape[1]
    with np.errstate(divide="ignore"):
        y_err = problem.ivar**-0.5
    rows = slice(None) if with_time else 0
    return GroupData(
        y=problem.data[rows], y_err=y_err[rows], known=problem.known, prior_mean=problem.prior.mean,
        prior_sigma=problem.prior.precision**-0.5, source=[f"star-{i}" for i in range(problem.prior.mean.size)],
        time=np.arange(problem.n_batch, dtype=float) if with_time else 0.0, pixel=np.arange(n_obs),
        row=np.zeros(n_obs), column=np.arange(n_obs, dtype=float),
    )  # fmt: skip
