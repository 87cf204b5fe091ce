"""Errors common to all cadences: PRF shape, its wing, positions, second moments, the relative model error."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack, identity

from bayesprf.arrays import FloatArray, brief, brief_html
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.singular import semidefinite_factor
from bayesprf.photometry.motion_errors import flux_gain
from bayesprf.prf.fit import PrfFit
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import LN10, prf_gradients, round_coordinates
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.stats import excess_scatter
from bayesprf.uncertainty.joint_errors import joint_factors, star_factor

# Rounding: step of the numerical derivative of the area with the slope: its error is 1e-4 of it.
_SLOPE_STEP = 1e-2
# Derived: pixels that tell how the slope of a wing scatters, at least: it is known to a sixth (1 / sqrt(2 n)).
_MIN_WING_PIXELS = 20
# Derived: they lie 1.6 times (e**0.5) as far out as the splines end or farther: nearer, the slope changes little.
_MIN_TILT = 0.5
# Measured by docs/scripts/constants.py --only uncertainty/: by how much the slope differs from one direction to the
# other where no pixel tells: half and twice change total errors by 0.1 and 0.3 %. Nearer to the star, at 2.5 to 4.5
# pixels, the slopes of the official tables of TESS differ by 0.8 to 1.6.
_WING_SPREAD = 0.2


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
        Error of the slope of other stars' wings, beyond rmax, in the direction of a star.
    places : csr_matrix of float64, shape (2 n_source, n_error), optional
        Errors of all positions together, east first, then north, whose outer product is their covariance, arcsec**2;
        by default each position errs on its own, by `position`.
    asked : tuple of str
        Which of them were given, not learned: the fit of the PRF, which knows its own errors, answers to no other.
    """

    position: FloatArray
    moments: float
    model: float
    tail: float
    others: float
    places: csr_matrix | None = None
    asked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CommonErrors:
    """The part of every flux's error that all cadences share.

    Parameters
    ----------
    std : ndarray of float64, shape (n_source,)
        Standard deviation, electron / s.
    parts : mapping of str to ndarray of float64, shape (n_source,)
        Standard deviation by cause: those of `joint_factors`, model, and wing and moments where these were given.
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

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        """Give the median over the sources of the whole and of each cause."""
        causes = ", ".join(f"{name} {_median(part):.3g}" for name, part in self.parts.items())
        return f"median of {self.std.size} sources {_median(self.std):.3g} electron / s; by cause: {causes}"

    def covariance(self, sources: FloatArray) -> FloatArray:
        """Return the covariance of some sources' common errors, shape (n, n), (electron / s)**2."""
        rows = [factor[np.asarray(sources)] for factor in self.factors.values()]
        return np.asarray(sum((row @ row.T).toarray() for row in rows))


def fit_common_errors(
    shape: PrfFit,
    prf: PrfMatrix,
    *,
    flux: FloatArray,
    ivar: FloatArray,
    prior: GaussianPrior,
    widths: NuisanceWidths,
) -> CommonErrors:
    """Carry the errors of PRF and positions into the fluxes.

    Parameters
    ----------
    shape : PrfFit
        The PRF and its posterior.
    prf : PrfMatrix
        PRF of the flux fit, constant.
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
    gain = flux_gain(prf, ivar, prior, background=shape.flux_background, home=shape.home)
    flux = np.nan_to_num(flux)
    held = "position" in widths.asked or not shape.joint.problem.free
    factors = joint_factors(shape.joint, gain, flux, widths.position if held else None)
    factors["model"] = _model_factor(shape, prf, flux, -gain, widths.model)
    factors |= _given_factors(shape, prf, -gain, flux=flux, widths=widths)
    parts = {name: np.sqrt(np.asarray(one.multiply(one).sum(axis=1)).ravel()) for name, one in factors.items()}
    std = np.sqrt(np.sum([part**2 for part in parts.values()], axis=0))
    return CommonErrors(std, parts, factors, widths)


def _given_factors(
    shape: PrfFit, prf: PrfMatrix, gain: csr_matrix, *, flux: FloatArray, widths: NuisanceWidths
) -> dict[str, csr_matrix]:
    """Carry errors that the fit of the PRF does not know of, where they are asked for; `others` replaces its own."""
    found: dict[str, csr_matrix] = {}
    if "tail" in widths.asked:
        found["wing"] = csr_matrix(flux[:, None] * _wing_response(shape) * widths.tail)
    if "others" in widths.asked:
        found["others"] = csr_matrix(widths.others * (gain @ wing_light(shape, flux)))
    if "moments" in widths.asked:
        still = replace(widths, position=np.zeros(flux.size), places=None)
        found["moments"] = _star_factors(shape, prf.pairs, flux, gain, still)["moments"]
    return found


def carry(
    shape: PrfFit, prf: PrfMatrix, gain: csr_matrix, *, flux: FloatArray, widths: NuisanceWidths
) -> dict[str, csr_matrix]:
    """Carry the errors of the model of the pixels through a linear map of the pixels.

    Parameters
    ----------
    shape : PrfFit
        The PRF and its posterior.
    prf : PrfMatrix
        PRF of pairs, of all those of each source that is among them.
    gain : csr_matrix of float64, shape (n_out, n_pixel)
        The map.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s.
    widths : NuisanceWidths
        Prior widths of the nuisances.

    Returns
    -------
    dict of str to csr_matrix
        By cause, `gain` times the change of the model by one standard deviation of each nuisance, (n_out, n_nuisance):
        shape, others, position, moments, model. The slope of the wing changes all fluxes equally, and is left out.
    """
    pairs = prf.pairs
    to_pixel = csr_matrix(
        (np.ones(pairs.n_pair), (pairs.pixel, np.arange(pairs.n_pair))), shape=(pairs.n_pixel, pairs.n_pair)
    )
    return {
        "shape": _shape_factor(shape, prf, flux, gain @ to_pixel),
        "others": csr_matrix(widths.others * (gain @ wing_light(shape, flux))),
        **_star_factors(shape, pairs, flux, gain, widths),
        "model": _model_factor(shape, prf, flux, gain, widths.model),
    }


def star_errors(shape: PrfFit, dx: FloatArray, dy: FloatArray, widths: NuisanceWidths) -> FloatArray:
    """Return how the PRF of one star may err in some pixels, as independent patterns in standard deviations.

    Parameters
    ----------
    shape : PrfFit
        The PRF and its posterior.
    dx, dy : ndarray of float64, shape (n_pixel,)
        Offset of each pixel from the star, arcsec.
    widths : NuisanceWidths
        Prior widths; of `position` the median counts.

    Returns
    -------
    ndarray of float64, shape (n_pixel, n_error)
        1 / pixel: by what the fit leaves open of PRF, wing and offset of all stars together (`star_factor`), and by the
        star's own position, second moments and relative model error.
    """
    n, one = dx.size, np.ones(1)
    pairs = PairTable(np.zeros(n, np.int64), np.arange(n), dx, dy, 1, n)
    prf, every = PrfMatrix.constant(pairs, shape.prf.evaluate(dx, dy)), csr_matrix(identity(n))
    widths = replace(widths, position=np.atleast_1d(np.median(widths.position)), places=None)
    parts = [
        csr_matrix(star_factor(shape.joint, shape.prf, dx, dy)),
        *_star_factors(shape, pairs, one, every, widths).values(),
        _model_factor(shape, prf, one, every, widths.model),
    ]
    return np.asarray(hstack(parts).toarray())


def _shape_factor(shape: PrfFit, prf: PrfMatrix, flux: FloatArray, gain: csr_matrix) -> csr_matrix:
    """Respond to the weights of log10 PRF, whose area stays one; `gain` is of the light of every pair."""
    light = prf.light(flux)
    columns = shape.prf.basis.matrix(*round_coordinates(prf.pairs.dx, prf.pairs.dy, shape.prf.shear))
    moved = np.asarray((gain @ (diags(light) @ columns)).todense())
    level = np.asarray(gain @ light).ravel()
    response = LN10 * (moved - np.outer(level, shape.prf.area_gradient()))
    return csr_matrix(response @ semidefinite_factor(shape.weights_cov))


def _wing_response(shape: PrfFit) -> float:
    """Return the relative change of all fluxes per unit of the wing's slope: d ln area / d slope."""
    slope = shape.prf.wing_slope
    ahead, behind = (np.log(shape.prf.with_wing(slope + step).area()) for step in (_SLOPE_STEP, -_SLOPE_STEP))
    return float((ahead - behind) / (2.0 * _SLOPE_STEP))


def wing_light(shape: PrfFit, flux: FloatArray) -> csr_matrix:
    """Return how the light of wings in each pixel changes with the slope of each wing.

    Parameters
    ----------
    shape : PrfFit
        The PRF and where each source matters.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s.

    Returns
    -------
    csr_matrix of float64, shape (n_pixel, n_source + 1)
        Light of each star beyond rmax times ln(r / rmax), and of all faint and distant ones together, electron / s.

    Notes
    -----
    A wing is asymmetric, and more so the farther out: towards each neighbour it has a slope of its own. Distant light
    comes from beyond the farthest pair, R: in a uniform field ln(r / R) is 1 / (-slope - 2) on average.
    """
    pairs, rmax = shape.pairs, shape.prf.basis.rmax
    beyond = pairs.r > rmax
    light = flux[pairs.source[beyond]] * shape.values[beyond] * np.log(pairs.r[beyond] / rmax)
    each = csr_matrix((light, (pairs.pixel[beyond], pairs.source[beyond])), (pairs.n_pixel, pairs.n_source))
    farthest = max(float(pairs.r.max(initial=0.0)) / rmax, 1.0)
    distant = shape.fixed_light * (np.log(farthest) + 1.0 / (-shape.prf.wing_slope - 2.0))
    return hstack([each, csr_matrix(distant[:, None])], format="csr")


def fit_wing_error(shape: PrfFit) -> float:
    """Learn how the slope of wings differs by direction, from the pixels in which wings are most of the light.

    Parameters
    ----------
    shape : PrfFit
        The PRF and the image it was learned from.

    Returns
    -------
    float
        The error e of the slope with which (data - model)**2 is on average its variance, sigma**2 + e**2 times the sum
        of squares of `wing_light`, over pixels far enough out for the slope to matter; 0 where noise explains the
        residuals, 0.2 where too few pixels tell.
    """
    pairs, image, flux = shape.pairs, shape.image, np.nan_to_num(shape.flux)
    light = flux[pairs.source] * shape.values
    wing = np.where(pairs.r > shape.prf.basis.rmax, light, 0.0)
    wing_sum, all_light = (
        shape.fixed_light + np.bincount(pairs.pixel, weights=one, minlength=pairs.n_pixel) for one in (wing, light)
    )
    tilt = wing_light(shape, flux)
    tilted = np.asarray(tilt.multiply(tilt).sum(axis=1)).ravel()
    chosen = (image.ivar > 0) & (wing_sum > 0.5 * all_light) & (tilted > (_MIN_TILT * wing_sum) ** 2)
    if np.count_nonzero(chosen) < _MIN_WING_PIXELS:
        return _WING_SPREAD
    return excess_scatter((image.flux - all_light)[chosen] ** 2, 1.0 / image.ivar[chosen], tilted[chosen])


def _star_factors(
    shape: PrfFit, pairs: PairTable, flux: FloatArray, gain: csr_matrix, widths: NuisanceWidths
) -> dict[str, csr_matrix]:
    """Respond to each star's own place, and to its own size and shear."""
    gradients = prf_gradients(shape.prf, pairs.dx, pairs.dy)

    def respond(names: tuple[str, ...]) -> csr_matrix:
        columns = [
            csr_matrix(
                (flux[pairs.source] * gradients[name], (pairs.pixel, pairs.source)), (pairs.n_pixel, pairs.n_source)
            )
            for name in names
        ]
        return gain @ hstack(columns, format="csr")

    places = diags(np.tile(widths.position, 2)) if widths.places is None else widths.places
    return {
        "position": csr_matrix(respond(("east", "north")) @ places),
        "moments": csr_matrix(widths.moments * respond(("size", "e1", "e2"))),
    }


def _model_factor(shape: PrfFit, prf: PrfMatrix, flux: FloatArray, gain: csr_matrix, scatter: float) -> csr_matrix:
    """Respond to relative errors of the model (`profile.model_variance`), independent but for their sum over each star.

    Light that the PRF puts into a wrong pixel is missing from another: with a the errors of a star's pixels, those
    whose sum is zero have the covariance diag(a**2) (I - 1 1' diag(a**2) / sum a**2).
    """
    pairs = prf.pairs
    own = LN10 * scatter * shape.scatter_ratio[pairs.source]
    error = own * np.sqrt(np.abs(prf.light(flux) * flux[pairs.source]) * shape.prf.peak)
    norm = np.sqrt(np.bincount(pairs.source, weights=error**2, minlength=pairs.n_source))
    unit = np.divide(error, norm[pairs.source], out=np.zeros_like(error), where=norm[pairs.source] > 0)
    pair = np.arange(pairs.n_pair)
    errors = csr_matrix((error, (pairs.pixel, pair)), (pairs.n_pixel, pairs.n_pair))
    sums = csr_matrix((unit, (pair, pairs.source)), (pairs.n_pair, pairs.n_source))
    response = gain @ errors
    return csr_matrix(response - (response @ sums) @ sums.T)


def _median(values: FloatArray) -> float:
    """Return the median of the values that are known."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else np.nan
