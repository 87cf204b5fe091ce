"""One fit of log10 PRF to a list of pixels, each lit by one star of known flux."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix, vstack

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.stack import DesignStack
from bayesprf.prf.pixel_phase import Lattice
from bayesprf.prf.weights import WeightsFit, solve_weights
from bayesprf.scene.prf import PrfModel, round_coordinates
from bayesprf.settings import ShapeOptions
from bayesprf.stats import falling_root, mad_sigma

LN10 = float(np.log(10.0))
# Prior of each weight beside the nominal profile, dex: wide, so that any star's profile is welcome.
_PRIOR_SIGMA = 1.0
# Steps after which no pixel changes sides any more between kept and clipped.
_N_CLIP = 4
_MAX_ITER, _TOLERANCE, _MAX_STEP = 30, 5e-4, 0.5
_SCATTER_BOUNDS = (1e-5, 1.0)
_BRIGHT_SNR, _MIN_BRIGHT = 10.0, 10
_MIN_RING_SCALE = 0.1
_MIN_BELOW = 0.2
# The nominal profile is a round Moffat of this width (pixel) and slope.
_NOMINAL_FWHM, _NOMINAL_BETA = 1.5, 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """Pixels that teach the PRF, as aligned arrays of shape (n,).

    Parameters
    ----------
    source : ndarray of int64
        Star of each pixel.
    dx, dy : ndarray of float64
        Offset from the star, arcsec.
    y, var : ndarray of float64
        Flux with the neighbours taken off, electron / s, and its variance.
    flux : ndarray of float64
        Flux of the star, electron / s (or the catalogue's unit, in the first round).
    """

    source: IntArray
    dx: FloatArray
    dy: FloatArray
    y: FloatArray
    var: FloatArray
    flux: FloatArray

    def shifted(self, step: FloatArray) -> "Training":
        """Return the same pixels with every offset moved by `step`, arcsec."""
        return replace(self, dx=self.dx + step[0], dy=self.dy + step[1])

    def scaled(self, factor: float) -> "Training":
        """Return the same pixels with every star's flux times a factor."""
        return replace(self, flux=self.flux * factor)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A fitted PRF with what the fit learned on the way.

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
class ShapePrior:
    """What is believed of the weights before a pixel is seen.

    Parameters
    ----------
    weights : GaussianPrior
        Independent priors around the nominal profile, dex.
    bends, bends_ivar : ndarray of float64, shape (n_row,)
        Pseudo-observations of the smoothness: the bends of the nominal profile, dex, and their inverse variances, one
        per row of `PolarBasis.roughness`.
    """

    weights: GaussianPrior
    bends: FloatArray
    bends_ivar: FloatArray

    @classmethod
    def around_nominal(cls, basis: PolarBasis, pixel_area: float, smoothness: float) -> "ShapePrior":
        """Expect the nominal profile, its bends with standard deviation `smoothness`, dex."""
        nominal = nominal_prf(basis, pixel_area).weights
        bends = basis.roughness() @ nominal
        prior = GaussianPrior.from_sigma(nominal, np.full(nominal.size, _PRIOR_SIGMA))
        return cls(prior, bends, np.full(bends.size, smoothness**-2.0))


def nominal_prf(basis: PolarBasis, pixel_area: float) -> PrfModel:
    """Return the PRF that is believed before a pixel is seen: a round Moffat profile of area one.

    Parameters
    ----------
    basis : PolarBasis
        Columns.
    pixel_area : float
        arcsec**2.

    Returns
    -------
    PrfModel
    """
    width = _NOMINAL_FWHM * np.sqrt(pixel_area) / (2.0 * np.sqrt(2.0 ** (1.0 / _NOMINAL_BETA) - 1.0))
    weights = -_NOMINAL_BETA * np.log10(1.0 + (basis.centers / width) ** 2)
    return PrfModel(basis, weights, pixel_area).normalized()


def fit_profile(
    training: Training, start: PrfModel, lattice: Lattice, *, options: ShapeOptions, fresh: bool = False
) -> Profile:
    """Fit the weights of log10 PRF, an intrinsic scatter, and clip outliers.

    Parameters
    ----------
    training : Training
        The pixels.
    start : PrfModel
        Basis, shear and pixel area to use, and the weights to start from.
    lattice : Lattice
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
    The model is y = f 10**(A w) with the variance of `model_variance`. Each step
    linearises it, z = A w + (y - m) / (ln10 m), and solves for the weights with the errors of z
    carried into log space and each star's flux free (`solve_weights`), together with the smoothness and
    the sum rule of `Lattice`. Unlike a fit to
    log10 y, pixels scattered below zero take part, so faint wings are not biased upwards. Where the pixels
    of a ring scatter more than their errors say, these are stretched until they agree.
    """
    if training.y.size == 0:
        raise InputError(
            "training: expected pixels that one star lights, got none; no star is bright enough and alone:"
            " relax min_snr, max_neighbor_share or contaminant_mag_limit, or check the catalogue"
        )
    if options.bin_data:
        training = bin_training(training, start)
    basis = start.basis
    r, phi = round_coordinates(training.dx, training.dy, start.shear)
    sums = csr_matrix(np.ones((lattice.n_phase, basis.n_basis)))
    matrix = DesignStack.from_sparse(vstack([basis.matrix(r, phi), basis.roughness(), sums]).tocsr())
    prior = ShapePrior.around_nominal(basis, start.pixel_area, options.smoothness)
    start = replace(start, weights=_start_weights(matrix, training, prior)) if fresh else start
    ring = np.digitize(r, np.unique(basis.knots))
    fit = _iterate(matrix, training, start, prior, lattice, ring=ring, clip_sigma=options.clip_sigma)
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
    training: Training,
    start: PrfModel,
    prior: ShapePrior,
    lattice: Lattice,
    *,
    ring: IntArray,
    clip_sigma: float,
) -> _Iteration:
    """Repeat the linearised fit until no training pixel's log10 PRF moves any more."""
    n, weights = training.y.size, start.weights
    columns, keep, spread = matrix.matrix()[:n], np.ones(n, bool), np.ones(n)
    for count in range(_MAX_ITER):
        log_model = columns @ weights
        model = training.flux * 10.0**log_model
        scatter = _fit_scatter(training, model, 10.0 ** weights[0], keep)
        variance = model_variance(training, model, 10.0 ** weights[0], scatter)
        residual = (training.y - model) / np.sqrt(variance)
        if count < _N_CLIP:
            spread = ring_scale(residual, ring)
            keep = np.abs(residual) < clip_sigma * spread
        slope = LN10 * model
        z = log_model + (training.y - model) / slope
        ivar = np.where(keep, slope**2 / (variance * np.maximum(spread, 1.0) ** 2), 0.0)
        rows, sums = lattice.equations(replace(start, weights=weights))
        values = np.concatenate([matrix.parts[0, : -rows.size], rows.ravel()])
        equations = replace(matrix, parts=values[None])
        found = _solve(equations, training.source, z, ivar, prior, sums=sums, sums_ivar=lattice.ivar(scatter))
        step = found.mean - weights
        moved = float(np.max(np.abs(columns @ step)))
        weights = weights + step * min(1.0, _MAX_STEP / max(moved, _TOLERANCE))
        if moved < _TOLERANCE or count == _MAX_ITER - 1:
            break
    return _Iteration(weights, found, scatter, keep)


def model_variance(training: Training, model: FloatArray, peak: float, scatter: float) -> FloatArray:
    """Return the variance of the training pixels about a model that is not perfect.

    Parameters
    ----------
    training : Training
        The pixels.
    model : ndarray of float64, shape (n,)
        Their model, electron / s.
    peak : float
        PRF at the centre, 1 / pixel.
    scatter : float
        Relative scatter at the centre, dex.

    Returns
    -------
    ndarray of float64, shape (n,)
        sigma**2 + (ln10 scatter)**2 model (f peak), (electron / s)**2: the relative error grows outwards as
        one over the square root of the light, which weighs bright pixels as the fluxes do.
    """
    return training.var + (LN10 * scatter) ** 2 * model * (training.flux * peak)


def ring_scale(residual: FloatArray, ring: IntArray) -> FloatArray:
    """Return how far the pixels of a ring scatter, in units of their errors.

    Parameters
    ----------
    residual : ndarray of float64, shape (n,)
        (data - model) / error.
    ring : ndarray of int64, shape (n,)
        Ring of each pixel.

    Returns
    -------
    ndarray of float64, shape (n,)
        1.48 times the median of the residuals below zero: stars that no catalogue names only add light. Where
        fewer than one in five lie below, the model is too low as a whole, and all residuals count.
    """
    scale = np.full(residual.size, _MIN_RING_SCALE)
    for one in np.unique(ring):
        here = ring == one
        below = residual[here & (residual < 0)]
        counted = below if below.size > _MIN_BELOW * np.count_nonzero(here) else residual[here]
        scale[here] = max(_MIN_RING_SCALE, float(mad_sigma(counted)))
    return scale


def _start_weights(matrix: DesignStack, training: Training, prior: ShapePrior) -> FloatArray:
    """Fit the logarithm of the clearly lit pixels."""
    lit = training.y > 5.0 * np.sqrt(training.var)
    if not lit.any():
        lit = training.y > 0
    z = np.log10(np.where(lit, training.y, 1.0) / training.flux)
    ivar = np.where(lit, 1.0 / (0.1**2 + training.var / (LN10 * np.where(lit, training.y, 1.0)) ** 2), 0.0)
    nothing = np.zeros(matrix.n_obs - z.size - prior.bends.size)
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
    data = np.concatenate([z, prior.bends, sums])
    precision = np.concatenate([ivar, prior.bends_ivar, sums_ivar])
    return solve_weights(matrix, data, precision, prior.weights, source=source)


def _fit_scatter(training: Training, model: FloatArray, peak: float, keep: BoolArray) -> float:
    """Return the scatter (dex) with which the clearly lit pixels have a reduced chi-square of one."""
    bright = keep & (model > _BRIGHT_SNR * np.sqrt(training.var))
    if np.count_nonzero(bright) < _MIN_BRIGHT:
        return _SCATTER_BOUNDS[0]
    squared = (training.y - model)[bright] ** 2

    def excess(log_scatter: float) -> float:
        variance = model_variance(training, model, peak, 10.0**log_scatter)[bright]
        return float(np.mean(squared / variance)) - 1.0

    low, high = (float(np.log10(bound)) for bound in _SCATTER_BOUNDS)
    return float(10.0 ** falling_root(excess, low, high, xtol=1e-4))


def bin_training(training: Training, prf: PrfModel) -> Training:
    """Average the pixels in cells of radius and angle, half a knot spacing wide.

    Parameters
    ----------
    training : Training
        The pixels.
    prf : PrfModel
        Gives the knots, and the coordinates in which the core is round.

    Returns
    -------
    Training
        One entry per cell that holds a pixel, of a star of unit flux: the inverse-variance mean of
        the share of its star's light that each pixel holds, at the mean offset.
    """
    basis, bounds = prf.basis, np.unique(prf.basis.knots)
    r, phi = round_coordinates(training.dx, training.dy, prf.shear)
    edges = np.sort(np.concatenate([bounds, 0.5 * (bounds[1:] + bounds[:-1])]))
    ring = np.digitize(r, edges)
    sector = np.floor((phi / (2 * np.pi)) % 1.0 * 2 * basis.n_phi_knots)
    _, cell = np.unique(ring * 2 * basis.n_phi_knots + sector, return_inverse=True)
    weight = training.flux**2 / training.var
    total = np.bincount(cell, weights=weight)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(cell, weights=weight * values) / total

    n_cell = total.size
    return Training(
        source=np.zeros(n_cell, np.int64),
        dx=mean(training.dx),
        dy=mean(training.dy),
        y=mean(training.y / training.flux),
        var=1.0 / total,
        flux=np.ones(n_cell),
    )
