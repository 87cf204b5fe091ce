"""Errors common to all cadences: PRF shape, its wing, positions, second moments, the relative model error."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_matrix, diags, hstack

from bayesprf.arrays import FloatArray
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solver import choose_solver
from bayesprf.models.background import marginal_gain
from bayesprf.models.photometry import build_design
from bayesprf.models.prf import round_coordinates
from bayesprf.models.profile import LN10
from bayesprf.models.shape import ShapeFit
from bayesprf.models.star_moments import prf_gradients
from bayesprf.scene.pairs import PairTable

_SLOPE_STEP = 1e-2
_MIN_WING_PIXELS = 20
# Wings are not exact powers of the radius: how far the slope where no pixel tells may differ from the fitted one.
WING_CURVATURE = 0.1


@dataclass(frozen=True, slots=True)
class NuisanceWidths:
    """Prior standard deviations of what the plain fit takes as known.

    Parameters
    ----------
    position : ndarray of float64, shape (n_source,)
        Error of each star's position per axis, arcsec.
    moments : float
        Deviation of a star's size (ratio) and shear from the common PRF.
    model : float
        Relative error of the model in a pixel at the centre, dex; it grows outwards as one over the
        square root of the light.
    tail : float
        Error of the slope of the wing beyond rmax.
    others : float
        Relative error of the light that other stars' wings, beyond rmax, put into a star's pixels.
    """

    position: FloatArray
    moments: float
    model: float
    tail: float
    others: float


@dataclass(frozen=True, slots=True, eq=False)
class CommonErrors:
    """The part of every flux's error that all cadences share.

    Parameters
    ----------
    std : ndarray of float64, shape (n_source,)
        Standard deviation, electron / s.
    parts : mapping of str to ndarray of float64, shape (n_source,)
        Standard deviation by cause: shape, wing, others, position, moments, model.
    factors : mapping of str to csr_matrix
        Response of the fluxes, (n_source, n_nuisance), in standard deviations of each nuisance; their
        outer products add up to the covariance.
    widths : NuisanceWidths
        What was assumed or learned.
    """

    std: FloatArray
    parts: Mapping[str, FloatArray]
    factors: Mapping[str, csr_matrix]
    widths: NuisanceWidths

    def covariance(self, sources: FloatArray) -> FloatArray:
        """Return the covariance of some sources' common errors, shape (n, n), (electron / s)**2."""
        rows = [factor[np.asarray(sources)] for factor in self.factors.values()]
        return np.asarray(sum((row @ row.T).toarray() for row in rows))


def fit_common_errors(
    shape: ShapeFit,
    pairs: PairTable,
    values: FloatArray,
    *,
    flux: FloatArray,
    ivar: FloatArray,
    prior: GaussianPrior,
    widths: NuisanceWidths,
) -> CommonErrors:
    """Carry the errors of PRF and positions into the fluxes.

    Parameters
    ----------
    shape : ShapeFit
        The PRF and its posterior.
    pairs : PairTable
        Pairs of the flux fit.
    values : ndarray of float64, shape (n_pair,)
        PRF of the pairs, 1 / pixel.
    flux : ndarray of float64, shape (n_source,)
        Mean fluxes, electron / s.
    ivar : ndarray of float64, shape (n_pixel,)
        Inverse variances of a typical cadence.
    prior : GaussianPrior
        Prior of the flux fit.
    widths : NuisanceWidths
        Prior widths of the nuisances.

    Returns
    -------
    CommonErrors

    Notes
    -----
    The flux is F = Lambda^-1 (X' C^-1 y + P m). When the true design is X + dX, it errs by -K dX F with
    K = Lambda^-1 X' C^-1, so that var F += T Cov(theta) T' with T = -K dX/dtheta F (design, section 1).
    Lambda^-1 is taken on the pairs of sources that share a pixel.
    """
    light = np.nan_to_num(flux)[pairs.source] * values
    gain = _gain(pairs, values, ivar, prior)
    if shape.background is not None:
        gain = marginal_gain(gain, pairs.to_sparse(values).T.tocsr(), shape.background.columns, ivar)
    to_pixel = csr_matrix(
        (np.ones(pairs.n_pair), (pairs.pixel, np.arange(pairs.n_pair))), shape=(pairs.n_pixel, pairs.n_pair)
    )
    factors = {
        "shape": _shape_factor(shape, pairs, light, gain @ to_pixel),
        "wing": csr_matrix(np.nan_to_num(flux)[:, None] * _wing_response(shape) * widths.tail),
        "others": diags(widths.others * (gain @ wing_light(shape, np.nan_to_num(flux)))).tocsr(),
        **_star_factors(shape, pairs, np.nan_to_num(flux), gain, widths),
        "model": _model_factor(shape, pairs, light, np.nan_to_num(flux), gain, widths.model),
    }
    parts = {name: np.sqrt(np.asarray(one.multiply(one).sum(axis=1)).ravel()) for name, one in factors.items()}
    std = np.sqrt(np.sum([part**2 for part in parts.values()], axis=0))
    return CommonErrors(std, parts, factors, widths)


def _gain(pairs: PairTable, values: FloatArray, ivar: FloatArray, prior: GaussianPrior) -> csr_matrix:
    """Return K = Lambda^-1 X' C^-1, sparse (n_source, n_pixel)."""
    from bayesprf.linalg.blocks import pair_covariance

    problem = LinearProblem(build_design(pairs, values[None]), np.zeros((1, ivar.size)), ivar[None], prior)
    posterior = choose_solver(problem).solve(problem)
    i, j, shared = pair_covariance(posterior)
    own = np.arange(pairs.n_source)
    covariance = csr_matrix(
        (
            np.concatenate([shared[0], shared[0], posterior.std[0] ** 2]),
            (np.concatenate([i, j, own]), np.concatenate([j, i, own])),
        ),
        shape=(pairs.n_source, pairs.n_source),
    )
    return csr_matrix(covariance @ pairs.to_sparse(values) @ diags(ivar))


def _shape_factor(shape: ShapeFit, pairs: PairTable, light: FloatArray, gain: csr_matrix) -> csr_matrix:
    """Respond to the weights of log10 PRF, whose area stays one."""
    columns = shape.prf.basis.matrix(*round_coordinates(pairs.dx, pairs.dy, shape.prf.shear))
    moved = np.asarray((gain @ (diags(light) @ columns)).todense())
    level = np.asarray(gain @ light).ravel()
    response = -LN10 * (moved - np.outer(level, shape.prf.area_gradient()))
    scale, axes = np.linalg.eigh(shape.weights_cov)
    return csr_matrix(response @ (axes * np.sqrt(np.maximum(scale, 0.0))))


def _wing_response(shape: ShapeFit) -> float:
    """Return the relative change of all fluxes per unit of the wing's slope: d ln area / d slope."""
    slope = shape.prf.tail_slope
    ahead, behind = (np.log(shape.prf.with_tail(slope + step).area()) for step in (_SLOPE_STEP, -_SLOPE_STEP))
    return float((ahead - behind) / (2.0 * _SLOPE_STEP))


def wing_light(shape: ShapeFit, flux: FloatArray) -> FloatArray:
    """Sum the light of all stars farther than rmax from each pixel.

    Parameters
    ----------
    shape : ShapeFit
        The PRF and where each source matters.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s.

    Returns
    -------
    ndarray of float64, shape (n_pixel,), electron / s
    """
    pairs = shape.pairs
    beyond = np.where(pairs.r > shape.prf.basis.rmax, flux[pairs.source] * shape.values, 0.0)
    return shape.far_light + np.bincount(pairs.pixel, weights=beyond, minlength=pairs.n_pixel)


def fit_wing_error(shape: ShapeFit) -> float:
    """Learn the relative error of wing light from the pixels in which it is more than half of all light.

    Parameters
    ----------
    shape : ShapeFit
        The PRF and the image it was learned from.

    Returns
    -------
    float
        The error e with which (data - model)**2 is on average its variance, sigma**2 + (e wing)**2; 0 where noise
        explains the residuals, or too few pixels tell.
    """
    pairs, image, flux = shape.pairs, shape.image, np.nan_to_num(shape.flux)
    wing = wing_light(shape, flux)
    model = shape.far_light + np.bincount(
        pairs.pixel, weights=flux[pairs.source] * shape.values, minlength=pairs.n_pixel
    )
    chosen = (image.ivar > 0) & (wing > 0.5 * model) & (wing > 0)
    if np.count_nonzero(chosen) < _MIN_WING_PIXELS:
        return 0.0
    squared, variance = (image.flux - model)[chosen] ** 2, 1.0 / image.ivar[chosen]

    def excess(error: float) -> float:
        return float(np.mean(squared / (variance + (error * wing[chosen]) ** 2))) - 1.0

    if excess(0.0) <= 0.0:
        return 0.0
    return 1.0 if excess(1.0) > 0.0 else float(brentq(excess, 0.0, 1.0))


def _star_factors(
    shape: ShapeFit, pairs: PairTable, flux: FloatArray, gain: csr_matrix, widths: NuisanceWidths
) -> dict[str, csr_matrix]:
    """Respond to each star's own place, and to its own size and shear."""
    gradients = prf_gradients(shape.prf, pairs.dx, pairs.dy)

    def respond(names: tuple[str, ...], width: FloatArray) -> csr_matrix:
        columns = [
            csr_matrix(
                (flux[pairs.source] * gradients[name], (pairs.pixel, pairs.source)), (pairs.n_pixel, pairs.n_source)
            )
            for name in names
        ]
        response = gain @ hstack(columns, format="csr")
        return csr_matrix(-response @ diags(np.tile(width, len(names))))

    return {
        "position": respond(("east", "north"), widths.position),
        "moments": respond(("size", "stretch", "skew"), np.full(pairs.n_source, widths.moments)),
    }


def _model_factor(
    shape: ShapeFit, pairs: PairTable, light: FloatArray, flux: FloatArray, gain: csr_matrix, scatter: float
) -> csr_matrix:
    """Respond to independent relative errors of the model in every pixel (`profile.model_variance`)."""
    variance = (LN10 * scatter) ** 2 * np.abs(light * flux[pairs.source]) * shape.prf.peak
    per_pixel = np.bincount(pairs.pixel, weights=variance, minlength=pairs.n_pixel)
    return csr_matrix(gain @ diags(np.sqrt(per_pixel)))
