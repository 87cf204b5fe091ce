"""How the fitted positions of all stars err together."""

import numpy as np
from scipy.sparse import block_diag, csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import FloatArray
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.linalg.singular import semidefinite_factor
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.background import PRIOR_WIDTH
from bayesprf.prf.positions import position_width
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import LN10, PrfModel, prf_gradients
from bayesprf.scene.prf_matrix import PrfMatrix

# Derived: positions less correlated than this count as independent: both errors change by half its square, 2 %.
_MIN_CORRELATION = 0.2


def fit_position_errors(
    matrix: PrfMatrix, profile: tuple[PrfModel, float], *, flux: FloatArray, image: Image, shift: FloatArray
) -> csr_matrix:
    """Return the errors of the fitted positions of all stars, those of blends together.

    Parameters
    ----------
    matrix : PrfMatrix
        PRF of the pairs at the fitted positions.
    profile : tuple of PrfModel and float
        The PRF and its intrinsic scatter, dex.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s.
    image : Image
        The image less all light that is not fitted.
    shift : ndarray of float64, shape (n_source, 2)
        Fitted shifts, arcsec; their standard deviation is the prior's.

    Returns
    -------
    csr_matrix of float64, shape (2 n_source, 2 n_source)
        L; the positions, east first, then north, have the covariance L L', arcsec**2.

    Notes
    -----
    The positions of two stars closer than a few pixels err against each other along the line that joins them: their
    joint covariance given the pixels, all fluxes free, is taken within groups of stars whose positions are correlated
    by more than 0.2, and 0 between them.
    """
    from bayesprf.linalg.solvers.blocks import sparse_covariance

    width = position_width(shift)
    posterior = _solve_positions(matrix, *profile, flux=flux, image=image, shift=shift, width=width)
    n = matrix.pairs.n_source
    std = posterior.std[0, n:]
    covariance = csr_matrix(sparse_covariance(posterior)[n:, n:])
    shared = covariance.tocoo()
    linked = np.abs(shared.data) > _MIN_CORRELATION * std[shared.row] * std[shared.col]
    links = csr_matrix((np.ones(linked.sum()), (shared.row[linked], shared.col[linked])), shape=covariance.shape)
    label = connected_components(links)[1]
    order = np.argsort(label, kind="stable")
    blocks = []
    for group in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if group.size == 1:
            blocks.append(std[group][:, None])
            continue
        blocks.append(semidefinite_factor(covariance[group][:, group].toarray()))
    back = np.argsort(order, kind="stable")
    return csr_matrix(block_diag([csr_matrix(blocks[0]), *blocks[1:]], format="csr")[back])


def _solve_positions(
    matrix: PrfMatrix,
    prf: PrfModel,
    scatter: float,
    *,
    flux: FloatArray,
    image: Image,
    shift: FloatArray,
    width: float,
) -> GaussianPosterior:
    """Return the posterior of changes of all fluxes, then of all positions east, then north."""
    pairs, values, light = matrix.pairs, matrix.values, matrix.light(flux)
    gradients = prf_gradients(prf, pairs.dx, pairs.dy, names=("east", "north"))
    slopes = [np.where(values > 0, flux[pairs.source] * gradients[name], 0.0) for name in ("east", "north")]
    per_pixel = (LN10 * scatter) ** 2 * prf.peak * np.abs(light * flux[pairs.source])
    extra = np.bincount(pairs.pixel, weights=per_pixel, minlength=pairs.n_pixel)
    ivar = np.where(image.ivar > 0, 1.0 / (1.0 / np.where(image.ivar > 0, image.ivar, 1.0) + extra), 0.0)
    residual = image.flux - matrix.image(flux)
    n = pairs.n_source
    wide = np.maximum(PRIOR_WIDTH * np.abs(flux), PRIOR_WIDTH * image.cadence_error)
    prior = GaussianPrior.from_sigma(
        np.concatenate([np.zeros(n), -shift[:, 0], -shift[:, 1]]), np.concatenate([wide, np.full(2 * n, width)])
    )
    problem = LinearProblem(_three_columns(pairs, [values, *slopes]), residual[None], ivar[None], prior)
    return choose_solver(problem).solve(problem)


def _three_columns(pairs: PairTable, parts: list[FloatArray]) -> DesignStack:
    """Return flux, east and north columns of all sources side by side, (n_pixel, 3 n_source)."""
    wide = PairTable(
        source=np.concatenate([pairs.source + k * pairs.n_source for k in range(len(parts))]),
        pixel=np.tile(pairs.pixel, len(parts)),
        dx=np.tile(pairs.dx, len(parts)),
        dy=np.tile(pairs.dy, len(parts)),
        n_source=len(parts) * pairs.n_source,
        n_pixel=pairs.n_pixel,
    )
    return PrfMatrix.constant(wide, np.concatenate(parts)).design()
