"""Stars that many others let the image show: peaks of what a fit leaves of the pixels."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.prf.joint.hyper import pixel_variance
from bayesprf.prf.joint.objective import JointFit
from bayesprf.prf.joint.problem import growth, look
from bayesprf.scene.pairs import offsets
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG, unit_vectors

SIGNIFICANT_PEAK = 5.0
"""Definition: a star is told from noise by so many of its standard errors."""
# Definition: of the stars that are found, so many may be none.
_FALSE_SHARE = 0.1


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
    view = look(problem, fit.state)
    variance = pixel_variance(problem.ivar, growth(problem, fit.state, view), fit.hyper.errors)
    weight = np.where(used, 1.0 / variance, 0.0)
    side = float(np.sqrt(problem.pixel_area))
    middle, other, offset = _neighbors(pixels, 3.0 * side)
    prf = fit.prf.normalized_at(np.zeros(2))
    profile = csr_matrix((prf.evaluate(*offset.T), (middle, other)), shape=2 * (used.size,))
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


def _neighbors(pixels: PixelTable, radius: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the pairs of pixels within a radius, arcsec, both ways and with themselves, and their offsets, arcsec."""
    chord = 2.0 * np.sin(np.radians(radius / ARCSEC_PER_DEG) / 2.0)
    one, two = cKDTree(unit_vectors(pixels.ra_deg, pixels.dec_deg)).query_pairs(chord, output_type="ndarray").T
    each = np.arange(pixels.n_pixel)
    middle, other = np.concatenate([one, two, each]), np.concatenate([two, one, each])
    ra, dec = pixels.ra_deg, pixels.dec_deg
    return middle, other, np.stack(offsets(ra[other], dec[other], ra[middle], dec[middle]), axis=1)


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
