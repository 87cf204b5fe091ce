"""How much the sources' fluxes depend on each other: correlations, and the variance that neighbours bring."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.stack import stack_of

# Cost: correlations change with gaps and with the PRF alone: this many cadences determine the median.
_N_TYPICAL = 50


@dataclass(frozen=True, slots=True, eq=False)
class BlendTable:
    """Correlations of all pairs of sources that share a pixel.

    Parameters
    ----------
    first, second : ndarray of int64, shape (n_pair,)
        The sources, first < second.
    correlation : ndarray of float64, shape (n_pair,)
        Correlation of their flux errors, median over typical cadences.
    variance_from_neighbors : ndarray of float64, shape (n_source,)
        Share of each source's variance that is due to not knowing its neighbours and the background.
    """

    first: IntArray
    second: IntArray
    correlation: FloatArray
    variance_from_neighbors: FloatArray


def measure_blends(problem: LinearProblem, posterior: GaussianPosterior, n_source: int | None = None) -> BlendTable:
    """Measure how the fluxes depend on each other.

    Parameters
    ----------
    problem : LinearProblem
        Fluxes of all sources.
    posterior : GaussianPosterior
        Its answer, from BlockSolver.
    n_source : int, optional
        Number of sources, whose fluxes are the first coefficients; all coefficients by default.

    Returns
    -------
    BlendTable
        Medians over up to 50 cadences, spread evenly.

    Notes
    -----
    With the fluxes of all neighbours known, the variance of source s would be 1 / Lambda_ss; it is
    (Lambda^-1)_ss, so that the share 1 - (1 / Lambda_ss) / (Lambda^-1)_ss is due to the neighbours.
    """
    from bayesprf.linalg.solvers.blocks import pair_covariance

    rows = typical_cadences(problem.n_batch)
    n_source = problem.design.n_coeff if n_source is None else n_source
    first, second, covariance = pair_covariance(posterior, rows)
    if n_source < problem.design.n_coeff:
        stars = second < n_source
        first, second, covariance = first[stars], second[stars], covariance[:, stars]
    std = posterior.std[rows]
    share = 1.0 - alone_variance(problem, rows) / std**2
    return BlendTable(
        first,
        second,
        np.median(covariance / (std[:, first] * std[:, second]), axis=0),
        np.clip(np.median(share[:, :n_source], axis=0), 0.0, 1.0),
    )


def typical_cadences(n_time: int) -> IntArray:
    """Return up to 50 cadences, spread evenly.

    Parameters
    ----------
    n_time : int
        Number of cadences.

    Returns
    -------
    ndarray of int64
    """
    return np.unique(np.linspace(0, n_time - 1, min(n_time, _N_TYPICAL)).round().astype(np.int64))


def alone_variance(problem: LinearProblem, rows: IntArray) -> FloatArray:
    """Return the posterior variance that each flux would have if all others were known.

    Parameters
    ----------
    problem : LinearProblem
        Fluxes of all sources; its design is a DesignStack.
    rows : ndarray of int64, shape (n_rows,)
        Cadences.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_source)
        1 / Lambda_ss, (electron / s)**2; infinite where neither data nor prior hold a source.

    Raises
    ------
    UnsupportedError
        If the design is not a DesignStack.
    """
    design = stack_of(problem)
    precision = np.stack([design.matrix(int(row)).power(2).T @ problem.ivar[row] for row in rows])
    with np.errstate(divide="ignore"):
        return 1.0 / (precision + problem.prior.precision)
