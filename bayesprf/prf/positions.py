"""Each star's own place, solved together with the fluxes of all stars, blended ones too."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import block_diag, csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import FloatArray
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.linalg.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.prf.splines import LN10, Profile
from bayesprf.prf.star_residuals import prf_gradients
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import PrfModel
from bayesprf.scene.prf_matrix import PrfMatrix

# No star moves farther than this in one step, arcsec, in units of the pixel side.
_MAX_STEP_PIX = 0.25
_FLUX_WIDTH = 10.0
# Steps are cut short: PRF and positions of close blends, found in turns, else swing about the answer.
_DAMPING = 0.7
# Places less correlated than this count as independent.
_MIN_CORRELATION = 0.2
_MIN_WIDTH = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class PositionFit:
    """Places of all stars beside the catalogue's.

    Parameters
    ----------
    shift : ndarray of float64, shape (n_source, 2)
        Posterior mean of the offset from the catalogue position after the common one, east and north, arcsec.
    std : ndarray of float64, shape (n_source, 2)
        Its standard deviation, arcsec.
    moved : float
        Largest step of the last round that exceeds its own standard deviation, arcsec.
    """

    shift: FloatArray
    std: FloatArray
    moved: float

    @classmethod
    def at_catalog(cls, n_source: int) -> "PositionFit":
        """Leave every star where the catalogue has it."""
        return cls(np.zeros((n_source, 2)), np.zeros((n_source, 2)), np.inf)


def fit_positions(
    matrix: PrfMatrix, profile: Profile, *, flux: FloatArray, image: Image, shift: FloatArray, width: float
) -> PositionFit:
    """Take one Gauss-Newton step of all positions, with the fluxes of all stars free.

    Parameters
    ----------
    matrix : PrfMatrix
        PRF of the pairs at the present positions; 0 leaves a pair out.
    profile : Profile
        The PRF and its intrinsic scatter.
    flux : ndarray of float64, shape (n_source,)
        Present fluxes, electron / s; NaN counts as dark.
    image : Image
        The image less all light that is not fitted.
    shift : ndarray of float64, shape (n_source, 2)
        Present shifts, arcsec.
    width : float
        Prior standard deviation of the shifts, arcsec.

    Returns
    -------
    PositionFit

    Notes
    -----
    y - m = dF PRF + F dPRF/dx . dx in every pixel, with N(0, width**2) on the whole shift of each axis and a wide
    prior on the fluxes; all overlapping stars are solved together.
    """
    posterior = _solve_places(
        matrix, profile.prf, profile.scatter, flux=np.nan_to_num(flux), image=image, shift=shift, width=width
    )
    n = matrix.pairs.n_source
    step, std = posterior.mean[0, n:].reshape(2, n).T, posterior.std[0, n:].reshape(2, n).T
    limit = _MAX_STEP_PIX * np.sqrt(profile.prf.pixel_area)
    step = _DAMPING * np.clip(step, -limit, limit)
    counted = np.where(np.abs(step) > std, np.abs(step), 0.0)
    return PositionFit(shift + step, std, float(np.max(counted, initial=0.0)))


def place_width(shift: FloatArray) -> float:
    """Return how far stars lie from their catalogue positions, per axis.

    Parameters
    ----------
    shift : ndarray of float64, shape (n_source, 2)
        Fitted shifts, arcsec.

    Returns
    -------
    float
        Standard deviation, arcsec.
    """
    return max(float(np.std(shift)), _MIN_WIDTH)


def fit_place_errors(
    matrix: PrfMatrix, profile: tuple[PrfModel, float], *, flux: FloatArray, image: Image, shift: FloatArray
) -> csr_matrix:
    """Return how the fitted places of all stars may err, those of blends together.

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
        L; the places, east first, then north, have the covariance L L', arcsec**2.

    Notes
    -----
    The places of two stars closer than a few pixels err against each other along the line that joins them: their
    joint covariance given the pixels, all fluxes free, is taken within groups of stars whose places are correlated by
    more than 0.2, and 0 between them.
    """
    from bayesprf.linalg.blocks import pair_covariance

    width = place_width(shift)
    posterior = _solve_places(matrix, *profile, flux=flux, image=image, shift=shift, width=width)
    i, j, shared = pair_covariance(posterior)
    n = matrix.pairs.n_source
    std = posterior.std[0, n:]
    both = (i >= n) & (j >= n)
    i, j, shared = i[both] - n, j[both] - n, shared[0, both]
    size = 2 * n
    own = np.arange(size)
    covariance = csr_matrix((np.r_[shared, shared, std**2], (np.r_[i, j, own], np.r_[j, i, own])), shape=(size, size))
    linked = np.abs(shared) > _MIN_CORRELATION * std[i] * std[j]
    label = connected_components(csr_matrix((np.ones(linked.sum()), (i[linked], j[linked])), shape=(size, size)))[1]
    order = np.argsort(label, kind="stable")
    blocks = []
    for group in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if group.size == 1:
            blocks.append(std[group][:, None])
            continue
        scale, axes = np.linalg.eigh(covariance[group][:, group].toarray())
        blocks.append(axes * np.sqrt(np.maximum(scale, 0.0)))
    back = np.argsort(order, kind="stable")
    return csr_matrix(block_diag([csr_matrix(blocks[0]), *blocks[1:]], format="csr")[back])


def _solve_places(
    matrix: PrfMatrix,
    prf: PrfModel,
    scatter: float,
    *,
    flux: FloatArray,
    image: Image,
    shift: FloatArray,
    width: float,
) -> GaussianPosterior:
    """Return the posterior of changes of all fluxes, then of all places east, then north."""
    pairs, values, light = matrix.pairs, matrix.values, matrix.light(flux)
    gradients = prf_gradients(prf, pairs.dx, pairs.dy, names=("east", "north"))
    slopes = [np.where(values > 0, flux[pairs.source] * gradients[name], 0.0) for name in ("east", "north")]
    per_pixel = (LN10 * scatter) ** 2 * prf.peak * np.abs(light * flux[pairs.source])
    extra = np.bincount(pairs.pixel, weights=per_pixel, minlength=pairs.n_pixel)
    ivar = np.where(image.ivar > 0, 1.0 / (1.0 / np.where(image.ivar > 0, image.ivar, 1.0) + extra), 0.0)
    residual = image.flux - matrix.image(flux)
    n = pairs.n_source
    wide = np.maximum(_FLUX_WIDTH * np.abs(flux), _FLUX_WIDTH * image.cadence_error)
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
