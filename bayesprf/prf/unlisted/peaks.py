"""Stars that many others let the image show: peaks of what a fit leaves of the pixels."""

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack
from scipy.spatial import cKDTree
from scipy.special import ndtr

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.prf.joint.hyper import pixel_variance
from bayesprf.prf.joint.objective import JointFit
from bayesprf.prf.joint.part import MAX_QUICK_PIXEL, spread
from bayesprf.prf.joint.problem import growth, look
from bayesprf.scene.pairs import offsets
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG, unit_vectors

SIGNIFICANT_PEAK = 5.0
"""Definition: a star is told from noise by so many of its standard errors."""
# Definition: of the stars that are found, so many may be none.
_FALSE_SHARE = 0.1
# Accuracy: pixels within so many of a star's middle tell of it.
_REACH = 3.0
# Accuracy: light that is a smaller share of that of a star which would be found is none.
_NO_LIGHT = 1e-3


def find_uncatalogued(pixels: PixelTable, fit: JointFit) -> tuple[FloatArray, FloatArray]:
    """Find stars in what a fit leaves of the pixels.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    fit : JointFit
        The fit.

    Returns
    -------
    place : ndarray of float64, shape (n_star, 2)
        RA and Dec, degree.
    flux : ndarray of float64, shape (n_star,)
        electron / s.

    Notes
    -----
    The likeliest flux of a star at each pixel, from the pixels within three, over its error: a star is where that is
    largest among its neighbours, at least five, and above the level at which a tenth of the peaks have a twin below
    zero, as a PRF that misses the pixels makes of either sign (Barber & Candes 2015, Annals of Statistics 43, 2055).
    """
    problem, used = fit.problem, fit.problem.single
    side = float(np.sqrt(problem.pixel_area))
    middle, other, offset = _neighbors(pixels, _REACH * side)
    profile, weight = _profile(fit, middle, other, offset), _weight(fit)
    norm = profile.multiply(profile) @ weight
    light = profile @ (weight * np.where(used, problem.flux - fit.image, 0.0))
    height = np.where(norm > 0, light / np.sqrt(np.where(norm > 0, norm, 1.0)), 0.0)
    close = np.hypot(*offset.T) < 1.5 * side
    near = close & (middle != other)
    peaks, holes = (_peaks(sign * height, middle[near], other[near]) & used for sign in (1.0, -1.0))
    level = _level(height[peaks], -height[holes])
    star = np.flatnonzero(peaks & (height >= level))
    rows = [np.flatnonzero(close & (middle == one)) for one in star]
    where = np.array([_summit(height[other[own]], offset[own], side) for own in rows]).reshape(-1, 2)
    east, north = (where - fit.state.offset[0]).T / ARCSEC_PER_DEG
    dec = pixels.dec_deg[star]
    place = np.stack([pixels.ra_deg[star] + east / np.cos(np.radians(dec)), dec + north], axis=1)
    return place, light[star] / norm[star]


def lacks_most(fit: JointFit) -> bool:
    """Whether light of stars that the catalogue lacks differs from pixel to pixel by more than noise does."""
    used = fit.problem.ivar[fit.problem.used]
    return bool(fit.problem.sky.shape[1] and used.size and fit.hyper.unlisted**2 > 1.0 / np.median(used))


def are_everywhere(pixels: PixelTable, fit: JointFit, flux: FloatArray) -> bool:
    """Whether stars that the catalogue lacks and the search does not find give more light than those it finds.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    fit : JointFit
        The fit, with the stars that were found.
    flux : ndarray of float64, shape (n_star,)
        Their fluxes, electron / s.

    Returns
    -------
    bool
        Never where what is left differs from pixel to pixel by less than noise, and, but for an image of which a part
        decides, always where it differs by more.

    Notes
    -----
    Of stars whose fluxes lie evenly between none and the limit L of the search, n to a pixel, the light is n L / 2, and
    it scatters by n L**2 / 3 times the sum of the squares of the PRF (Campbell's theorem): with the scatter u that is
    left, it is 3 u**2 / (2 L sum p**2).
    """
    if fit.decided is None or not lacks_most(fit):
        return lacks_most(fit)
    limit, square = _limits(fit, *_neighbors(pixels, _REACH * float(np.sqrt(fit.problem.pixel_area))))
    left = 1.5 * fit.hyper.unlisted**2 / (square * limit.min())
    return bool(left * np.count_nonzero(fit.problem.used) > flux[flux > 0.0].sum())


def light_left(pixels: PixelTable, fit: JointFit, flux: FloatArray) -> csr_matrix:
    """Return what errs by stars that were not found, in standard deviations, (n_pixel, n_error), electron / s.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    fit : JointFit
        The fit, with the stars that were found.
    flux : ndarray of float64, shape (n_star,)
        Their fluxes, electron / s.

    Returns
    -------
    csr_matrix
        A star in the middle of each pixel, with the root mean square of its flux, and the mean of all together. In a
        large image a star stands for several.

    Notes
    -----
    Each star that was found, of flux f, stands for a Poisson process of the density 1 / A, where A is the sum over all
    pixels of the probability that it is found there, as five of its standard errors, itself in error by one (Horvitz &
    Thompson 1952, JASA 47, 663). Of those fainter than any that was found the light that is left scatters, beyond
    noise, by `JointHyper.unlisted` from pixel to pixel, which is learned beside a sky alone: of stars of the density n
    and the PRF p this is the root of n f**2 times the sum of p**2 (Campbell's theorem).
    """
    side, n_pixel = float(np.sqrt(fit.problem.pixel_area)), pixels.n_pixel
    at = np.flatnonzero(spread(np.ones(n_pixel, bool), np.zeros(n_pixel), MAX_QUICK_PIXEL, np.inf))
    each = n_pixel / at.size
    middle, other, offset = _neighbors(pixels, fit.problem.basis.rmax, at)
    near = np.hypot(*offset.T) < _REACH * side
    limit, square = _limits(fit, middle[near], other[near], offset[near])
    limit = limit[at]
    scatter = fit.hyper.unlisted if fit.problem.sky.shape[1] else 0.0
    mean, variance = np.zeros(at.size), np.full(at.size, scatter**2 / square)
    for one in flux[flux > 0.0]:
        seen = ndtr(SIGNIFICANT_PEAK * (max(one, limit.min()) / limit - 1.0))
        hidden = (1.0 - seen) / (each * seen.sum())
        mean, variance = mean + one * hidden, variance + one**2 * hidden
    told = variance > (_NO_LIGHT * limit) ** 2
    profile = _profile(fit, middle, other, offset).T.tocsc()[:, at]
    errors = csr_matrix(profile[:, told] @ diags(np.sqrt(each * variance[told])))
    level = profile @ mean if each == 1.0 else mean[_nearest(pixels, at)]
    return csr_matrix(hstack([errors, csr_matrix(level[:, None])]))


def _limits(fit: JointFit, middle: IntArray, other: IntArray, offset: FloatArray) -> tuple[FloatArray, float]:
    """Return from what flux on a star is found at each pixel, (n_pixel,), electron / s, and the sum of PRF**2."""
    core = _profile(fit, middle, other, offset)
    square = core.multiply(core)
    norm = square @ _weight(fit)
    limit = np.where(norm > 0, SIGNIFICANT_PEAK / np.sqrt(np.where(norm > 0, norm, 1.0)), np.inf)
    return limit, float(square[[int(np.argmin(limit))]].sum())


def _profile(fit: JointFit, middle: IntArray, other: IntArray, offset: FloatArray) -> csr_matrix:
    """Return the PRF of a star in the middle of each pixel, (n_pixel, n_pixel), 1 / pixel."""
    prf = fit.prf.normalized_at(np.zeros(2))
    return csr_matrix((prf.evaluate(*offset.T), (middle, other)), shape=2 * (fit.problem.flux.size,))


def _weight(fit: JointFit) -> FloatArray:
    """Return the inverse variance of each pixel that counts for itself, with the model's errors, shape (n_pixel,)."""
    problem = fit.problem
    grown = growth(problem, fit.state, look(problem, fit.state))
    return np.where(problem.single, 1.0 / pixel_variance(problem.ivar, grown, fit.hyper.errors), 0.0)


def _neighbors(pixels: PixelTable, radius: float, at: IntArray | None = None) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the pairs of pixels within a radius, arcsec, both ways and with themselves, and their offsets, arcsec.

    The middle one is one of those of the numbers `at`, by default of all.
    """
    chord = 2.0 * np.sin(np.radians(radius / ARCSEC_PER_DEG) / 2.0)
    where = unit_vectors(pixels.ra_deg, pixels.dec_deg)
    at = np.arange(pixels.n_pixel) if at is None else at
    pairs = cKDTree(where[at]).sparse_distance_matrix(cKDTree(where), chord, output_type="ndarray")
    middle, other = at[pairs["i"]], pairs["j"].astype(np.int64)
    ra, dec = pixels.ra_deg, pixels.dec_deg
    return middle, other, np.stack(offsets(ra[other], dec[other], ra[middle], dec[middle]), axis=1)


def _nearest(pixels: PixelTable, at: IntArray) -> IntArray:
    """Return which of some pixels, by their numbers, lies nearest to each, shape (n_pixel,)."""
    where = unit_vectors(pixels.ra_deg, pixels.dec_deg)
    return np.asarray(cKDTree(where[at]).query(where)[1], np.int64)


def _peaks(height: FloatArray, middle: IntArray, other: IntArray) -> BoolArray:
    """Return the pixels that are higher than their neighbours and than five."""
    around = np.full(height.size, -np.inf)
    np.maximum.at(around, middle, height[other])
    return (height > around) & (height > SIGNIFICANT_PEAK)


def _level(peaks: FloatArray, holes: FloatArray) -> float:
    """Return the lowest height above which a tenth of the peaks, at most, have a twin among the holes."""
    for level in np.sort(peaks):
        if np.count_nonzero(holes >= level) <= _FALSE_SHARE * np.count_nonzero(peaks >= level):
            return float(level)
    return np.inf


def _summit(height: FloatArray, offset: FloatArray, side: float) -> FloatArray:
    """Return where a parabola through the heights around a peak is highest, within half a pixel of it, arcsec."""
    x, y = offset.T / side
    columns = np.stack([np.ones_like(x), x, y, x**2, x * y, y**2], axis=1)
    _, gx, gy, xx, xy, yy = np.linalg.lstsq(columns, height, rcond=None)[0]
    bent = np.array([[2.0 * xx, xy], [xy, 2.0 * yy]])
    if np.linalg.eigvalsh(bent).max() >= 0.0:
        return np.zeros(2)
    return side * np.clip(-np.linalg.solve(bent, [gx, gy]), -0.5, 0.5)
