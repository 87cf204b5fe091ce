"""Offset and shear that all stars share, and each star's own position, with the PRF held."""

import numpy as np
from scipy.sparse import block_diag, bmat, csr_matrix, diags
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import FloatArray
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.linalg.singular import semidefinite_factor
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.background import PRIOR_WIDTH
from bayesprf.prf.pixel_phase import PixelPhases
from bayesprf.prf.positions import PositionFit, position_width
from bayesprf.prf.rounds.splines import PRIOR_SIGMA, Profile, ShapePrior
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import LN10, PrfModel, prf_gradients, round_coordinates
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.stats import inliers

# Option: the default of `min_snr`: the least signal to noise of stars whose centroids are looked at.
_MIN_SNR = 20.0
# Derived: outliers of the common geometry, standard deviations: no normal number is so far off, only defects.
_OUTLIER = 10.0
# Derived: wide prior of a common shift, arcsec, and shear: half a pixel of Kepler, beyond which the first guess would
# have found it, and a PRF twice as long as wide (1.3 / 0.7).
_GEOMETRY_SIGMA = (2.0, 2.0, 0.3, 0.3)
# Derived: a star's centroid is trusted when its pixels lie on both sides of it along both axes.
_MIN_PIXELS = 4
# Accuracy: no star moves farther than this in one step, arcsec, in units of the pixel side.
_MAX_STEP_PIX = 0.25
# Accuracy: steps are cut short: PRF and positions of close blends, found in turns, else oscillate about the answer.
_DAMPING = 0.7
# Definition: a star is never moved farther than this from its catalogue position, in standard deviations of these: what
# draws it on is light of a star that the catalogue lacks.
_FARTHEST = 5.0
# Derived: positions less correlated than this count as independent: both errors change by half its square, 2 %.
_MIN_CORRELATION = 0.2


def centroid_offset(training: StarPixels) -> FloatArray:
    """Return the median over stars of their flux-weighted centroid: a first guess.

    Parameters
    ----------
    training : StarPixels
        Pixels of isolated stars at catalogue positions.

    Returns
    -------
    ndarray of float64, shape (2,)
        How far the stars lie from their catalogue positions, east and north, arcsec; zero when no
        star is bright enough.
    """
    n_source = int(training.source.max()) + 1 if training.source.size else 0
    light = np.maximum(training.light, 0.0)

    def total(values: FloatArray) -> FloatArray:
        return np.bincount(training.source, weights=values, minlength=n_source)

    flux, variance = total(light), total(training.variance)
    trusted = (flux > _MIN_SNR * np.sqrt(variance)) & (np.bincount(training.source, minlength=n_source) >= _MIN_PIXELS)
    if not trusted.any():
        return np.zeros(2)
    return np.array([np.median(total(light * d)[trusted] / flux[trusted]) for d in (training.dx, training.dy)])


def fit_geometry(profile: Profile, training: StarPixels, phases: PixelPhases, *, smoothness: float) -> FloatArray:
    """Return the common shift and stretch of all stars that fit the pixels best, to first order.

    Parameters
    ----------
    profile : Profile
        The PRF, normalised, and its intrinsic scatter.
    training : StarPixels
        Pixels of isolated stars, fluxes in electron / s.
    phases : PixelPhases
        Pixels over which the PRF has the same sum wherever a star lies in its pixel.
    smoothness : float
        Prior standard deviation of the curvature of the weights, dex.

    Returns
    -------
    ndarray of float64, shape (4,)
        Shift east and north, arcsec; change of the two components of the shear.

    Notes
    -----
    One Gauss-Newton step of weights and geometry together, y - m = m ln10 A dw + f dPRF/dg dg: the
    splines of the outer PRF could otherwise hide what only the core measures.
    """
    prf = profile.prf
    model = training.flux * prf.evaluate(training.dx, training.dy)
    variance = training.model_variance(model, prf.peak, profile.scatter)
    usable = inliers(training.light - model, variance, _OUTLIER)
    shape = diags(LN10 * model) @ prf.basis.matrix(*round_coordinates(training.dx, training.dy, prf.shear))
    gradients = prf_gradients(prf, training.dx, training.dy, names=("east", "north", "e1", "e2"))
    geometry = csr_matrix(np.stack(list(gradients.values()), axis=1) * training.flux[:, None])
    roughness, expected = prf.basis.roughness(), ShapePrior.around_nominal(prf.basis, prf.pixel_area, smoothness)
    rows, sums = phases.equations(prf)
    blocks = [[shape, geometry], [roughness, None], [csr_matrix(rows), None]]
    design = DesignStack.from_sparse(bmat(blocks, format="csr"))
    data = np.concatenate(
        [training.light - model, expected.curvature - roughness @ prf.weights, sums - rows @ prf.weights]
    )
    ivar = np.concatenate(
        [np.where(usable, 1.0 / variance, 0.0), expected.curvature_ivar, phases.ivar(profile.scatter)]
    )
    sigma = np.concatenate([np.full(prf.basis.n_basis, PRIOR_SIGMA), _GEOMETRY_SIGMA])
    prior = GaussianPrior.from_sigma(np.zeros(sigma.size), sigma)
    solution = DenseSolver().solve(LinearProblem(design, data[None], ivar[None], prior))
    return solution.mean[0, prf.basis.n_basis :]


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
    prior on the fluxes; all overlapping stars are solved together. No star moves by more than five widths.
    """
    posterior = _solve_positions(
        matrix, profile.prf, profile.scatter, flux=np.nan_to_num(flux), image=image, shift=shift, width=width
    )
    n = matrix.pairs.n_source
    step, std = posterior.mean[0, n:].reshape(2, n).T, posterior.std[0, n:].reshape(2, n).T
    limit = _MAX_STEP_PIX * np.sqrt(profile.prf.pixel_area)
    whole = shift + _DAMPING * np.clip(step, -limit, limit)
    far = np.hypot(whole[:, 0], whole[:, 1])
    whole = whole * np.minimum(1.0, _FARTHEST * width / np.maximum(far, width))[:, None]
    moved = np.abs(whole - shift)
    counted = np.where(moved > std, moved, 0.0)
    return PositionFit(whole, std, float(np.max(counted, initial=0.0)))


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
