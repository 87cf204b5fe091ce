"""One fit of log10 PRF to a list of pixels, each lit by one star of nearly known flux."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, vstack

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.linalg.blas import one_blas_thread
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.stack import DesignStack
from bayesprf.prf.nominal import nominal_prf
from bayesprf.prf.pixel_phase import PixelPhases
from bayesprf.prf.rounds.rings import bin_star_pixels, ring_scale
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.scene.prf import LN10, PrfModel, round_coordinates
from bayesprf.settings import ShapeOptions
from bayesprf.stats import falling_root

# Derived: prior of each weight beside the nominal profile, dex: wide, as profiles of 1.4 to 2.2 pixels that fall by
# powers of 2.5 to 3.5 (Trujillo et al. 2001) differ from it by up to one dex within the splines.
PRIOR_SIGMA = 1.0
# Measured by docs/scripts/constants.py --truth plain: how far a star's flux may be from what it is taken for, dex: half
# and twice give errors of 0.24 and 0.27 %, this 0.26 %, where 0.63 % are claimed.
_FLUX_SIGMA = 0.05
# Accuracy: steps after which the kept and the clipped pixels stay the same.
_N_CLIP = 4
# Accuracy: steps at most, and the change of log10 PRF that ends them, dex.
_MAX_ITER, _TOLERANCE = 30, 5e-4
# Accuracy: longest step, dex.
_MAX_STEP = 0.5
# Rounding: the scatter is looked for between what no star shows and the light itself.
_SCATTER_BOUNDS = (1e-5, 1.0)
# Derived: pixels that tell the scatter about the model: so bright, in errors, that noise is a tenth of their light; so
# many know a spread to a fifth (1 / sqrt(2 n)).
_BRIGHT_SNR, _MIN_BRIGHT = 10.0, 10


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A fitted PRF with its covariance, scatter and area.

    Parameters
    ----------
    prf : PrfModel
        Normalised.
    weights_cov : ndarray of float64, shape (n_basis, n_basis)
        Posterior covariance of the normalised PRF's weights, dex**2.
    scatter : float
        Intrinsic scatter, dex.
    area : float
        Area before the normalisation: the factor from the training fluxes to electron / s.
    keep : ndarray of bool, shape (n,)
        Training pixels that were not clipped.
    """

    prf: PrfModel
    weights_cov: FloatArray
    scatter: float
    area: float
    keep: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class WeightsFit:
    """Weights and what their covariance follows from.

    Parameters
    ----------
    mean : ndarray of float64, shape (n_basis,)
        dex.
    lower : ndarray of float64, shape (n_basis, n_basis)
        Cholesky factor of the precision, in its lower triangle.
    """

    mean: FloatArray
    lower: FloatArray

    def covariance(self) -> FloatArray:
        """Return the posterior covariance of the weights, shape (n_basis, n_basis), dex**2."""
        with one_blas_thread():
            return np.asarray(cho_solve((self.lower, True), np.eye(self.mean.size)))


@dataclass(frozen=True, slots=True, eq=False)
class ShapePrior:
    """Prior of the weights before a pixel is seen.

    Parameters
    ----------
    weights : GaussianPrior
        Independent priors around the nominal profile, dex.
    curvature, curvature_ivar : ndarray of float64, shape (n_row,)
        Pseudo-observations of the smoothness: the curvature of the nominal profile, dex, and inverse variances, one
        per row of `PolarBasis.roughness`.
    """

    weights: GaussianPrior
    curvature: FloatArray
    curvature_ivar: FloatArray

    @classmethod
    def around_nominal(cls, basis: PolarBasis, pixel_area: float, smoothness: float) -> "ShapePrior":
        """Expect the nominal profile, its curvature with standard deviation `smoothness`, dex."""
        nominal = nominal_prf(basis, pixel_area).weights
        curvature = basis.roughness() @ nominal
        prior = GaussianPrior.from_sigma(nominal, np.full(nominal.size, PRIOR_SIGMA))
        return cls(prior, curvature, np.full(curvature.size, smoothness**-2.0))


def fit_profile(
    training: StarPixels, start: PrfModel, phases: PixelPhases, *, options: ShapeOptions, fresh: bool = False
) -> Profile:
    """Fit the weights of log10 PRF, an intrinsic scatter, and clip outliers.

    Parameters
    ----------
    training : StarPixels
        The pixels.
    start : PrfModel
        Basis, shear and pixel area to use, and the weights to start from.
    phases : PixelPhases
        Pixels over which the PRF has the same sum wherever a star lies in its pixel.
    options : ShapeOptions
        Smoothness, clipping and binning.
    fresh : bool
        Ignore the weights of `start`, and start from a fit to the logarithm of the bright pixels.

    Returns
    -------
    Profile

    Raises
    ------
    InputError
        If no pixel is left.

    Notes
    -----
    The model is y = f 10**(A w) with the variance of `StarPixels.model_variance`. Each step
    linearises it, z = A w + (y - m) / (ln10 m), and solves for the weights with the errors of z
    carried into log space and each star's flux free (`solve_weights`), together with the smoothness and
    the flux conservation of `PixelPhases`. Unlike a fit to
    log10 y, pixels scattered below zero take part, so faint wings are not biased upwards. Where the pixels
    of a ring scatter more than their errors, these are stretched until they agree.
    """
    if training.light.size == 0:
        raise InputError(
            "training: expected pixels that one star lights, got none; no star is bright enough and alone:"
            " relax min_snr, max_neighbor_share or contaminant_mag_limit, or check the catalogue"
        )
    if options.bin_data:
        training = bin_star_pixels(training, start)
    basis = start.basis
    r, phi = round_coordinates(training.dx, training.dy, start.shear)
    sums = csr_matrix(np.ones((phases.n_phase, basis.n_basis)))
    matrix = DesignStack.from_sparse(vstack([basis.matrix(r, phi), basis.roughness(), sums]).tocsr())
    prior = ShapePrior.around_nominal(basis, start.pixel_area, options.smoothness)
    start = replace(start, weights=_start_weights(matrix, training, prior)) if fresh else start
    ring = np.digitize(r, np.unique(basis.knots))
    fit = _iterate(matrix, training, start, prior, phases, ring=ring, clip_sigma=options.clip_sigma)
    prf = replace(start, weights=fit.weights)
    to_normal = np.eye(basis.n_basis) - prf.area_gradient()
    covariance = to_normal @ fit.posterior.covariance() @ to_normal.T
    return Profile(prf.normalized(), covariance, fit.scatter, prf.area(), fit.keep)


@dataclass(frozen=True, slots=True, eq=False)
class _Iteration:
    weights: FloatArray
    posterior: WeightsFit
    scatter: float
    keep: BoolArray


def _iterate(
    matrix: DesignStack,
    training: StarPixels,
    start: PrfModel,
    prior: ShapePrior,
    phases: PixelPhases,
    *,
    ring: IntArray,
    clip_sigma: float,
) -> _Iteration:
    """Repeat the linearised fit until no training pixel's log10 PRF moves any more."""
    n, weights = training.light.size, start.weights
    columns, keep, spread = matrix.matrix()[:n], np.ones(n, bool), np.ones(n)
    for count in range(_MAX_ITER):
        log_model = columns @ weights
        model = training.flux * 10.0**log_model
        scatter = _fit_scatter(training, model, 10.0 ** weights[0], keep)
        variance = training.model_variance(model, 10.0 ** weights[0], scatter)
        residual = (training.light - model) / np.sqrt(variance)
        if count < _N_CLIP:
            spread = ring_scale(residual, ring)
            keep = np.abs(residual) < clip_sigma * spread
        slope = LN10 * model
        z = log_model + (training.light - model) / slope
        ivar = np.where(keep, slope**2 / (variance * np.maximum(spread, 1.0) ** 2), 0.0)
        rows, sums = phases.equations(replace(start, weights=weights))
        values = np.concatenate([matrix.parts[0, : -rows.size], rows.ravel()])
        equations = replace(matrix, parts=values[None])
        found = _solve(equations, training.source, z, ivar, prior, sums=sums, sums_ivar=phases.ivar(scatter))
        step = found.mean - weights
        moved = float(np.max(np.abs(columns @ step)))
        weights = weights + step * min(1.0, _MAX_STEP / max(moved, _TOLERANCE))
        if moved < _TOLERANCE or count == _MAX_ITER - 1:
            break
    return _Iteration(weights, found, scatter, keep)


def _start_weights(matrix: DesignStack, training: StarPixels, prior: ShapePrior) -> FloatArray:
    """Fit the logarithm of the clearly lit pixels."""
    lit = training.light > 5.0 * np.sqrt(training.variance)
    if not lit.any():
        lit = training.light > 0
    z = np.log10(np.where(lit, training.light, 1.0) / training.flux)
    with np.errstate(divide="ignore", over="ignore"):  # light whose square is no number any more weighs nothing
        ivar = np.where(lit, 1.0 / (0.1**2 + training.variance / (LN10 * np.where(lit, training.light, 1.0)) ** 2), 0.0)
    nothing = np.zeros(matrix.n_obs - z.size - prior.curvature.size)
    return _solve(matrix, training.source, z, ivar, prior, sums=nothing, sums_ivar=nothing).mean


def _solve(
    matrix: DesignStack,
    source: IntArray,
    z: FloatArray,
    ivar: FloatArray,
    prior: ShapePrior,
    *,
    sums: FloatArray,
    sums_ivar: FloatArray,
) -> WeightsFit:
    data = np.concatenate([z, prior.curvature, sums])
    precision = np.concatenate([ivar, prior.curvature_ivar, sums_ivar])
    return solve_weights(matrix, data, precision, prior.weights, source=source)


def _fit_scatter(training: StarPixels, model: FloatArray, peak: float, keep: BoolArray) -> float:
    """Return the scatter (dex) with which the clearly lit pixels have a reduced chi-square of one."""
    bright = keep & (model > _BRIGHT_SNR * np.sqrt(training.variance))
    if np.count_nonzero(bright) < _MIN_BRIGHT:
        return _SCATTER_BOUNDS[0]
    squared = (training.light - model)[bright] ** 2

    def excess(log_scatter: float) -> float:
        variance = training.model_variance(model, peak, 10.0**log_scatter)[bright]
        return float(np.mean(squared / variance)) - 1.0

    low, high = (float(np.log10(bound)) for bound in _SCATTER_BOUNDS)
    return float(10.0 ** falling_root(excess, low, high, xtol=1e-4))


def solve_weights(
    design: DesignStack, data: FloatArray, ivar: FloatArray, prior: GaussianPrior, *, source: IntArray
) -> WeightsFit:
    """Solve for the weights, each star's flux free.

    Parameters
    ----------
    design : DesignStack
        Rows of the training pixels, then of anything else that is known of the weights.
    data, ivar : ndarray of float64, shape (n_row,)
        log10 of the training pixels over the flux of their star, then the rest, dex, and inverse variances.
    prior : GaussianPrior
        Prior of the weights.
    source : ndarray of int64, shape (n_pixel,)
        Star of each training pixel.

    Returns
    -------
    WeightsFit

    Notes
    -----
    z = A w + c_s + noise in the pixels of star s, with c_s ~ N(0, 0.05**2) dex integrated out: with the sums over a
    star's pixels a_s = sum ivar A, z_s = sum ivar z and d_s = sum ivar, the normal equations lose
    a_s a_s' / (d_s + 0.05**-2) on the left and a_s z_s / (d_s + 0.05**-2) on the right. Were the fluxes held, fluxes
    and PRF, fitted in turns, would hold each other where only both together can move.
    """
    gram, rhs = design.normal_equations(data, ivar, 0)
    star, row = np.unique(source, return_inverse=True)
    per_star = csr_matrix((ivar[: row.size], (row, np.arange(row.size))), shape=(star.size, design.n_obs))
    sums = (per_star @ design.matrix()).toarray()
    share = 1.0 / (np.asarray(per_star.sum(axis=1)).ravel() + _FLUX_SIGMA**-2.0)
    with one_blas_thread():
        gram -= sums.T @ (share[:, None] * sums)
        gram[np.diag_indices_from(gram)] += prior.precision
        rhs -= sums.T @ (share * (per_star @ np.where(ivar > 0, data, 0.0)))
        lower, _ = cho_factor(gram, lower=True)
        mean = cho_solve((lower, True), rhs + prior.precision * prior.mean)
    return WeightsFit(np.asarray(mean), lower)
