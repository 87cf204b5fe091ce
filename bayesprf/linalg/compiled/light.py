"""Compiled sums over pairs of star and pixel: where they lie, their light in the image, and what errs in it."""

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import kernel


@kernel
def place_pairs(
    source: IntArray,
    dx: FloatArray,
    dy: FloatArray,
    shift: FloatArray,
    frame: FloatArray,
    offset: FloatArray,
    place: FloatArray,
) -> None:
    """Find the offset of each pixel from its star, on the sky and in coordinates in which the core is round.

    Parameters
    ----------
    source : ndarray of int64, shape (n_pair,)
        Star of each pair.
    dx, dy : ndarray of float64, shape (n_pair,)
        Offset from the catalogue position, arcsec.
    shift : ndarray of float64, shape (n_source, 2)
        Offset of each star from there, arcsec.
    frame : ndarray of float64, shape (n_source, 2, 2)
        The map from the sky to round coordinates.
    offset, place : ndarray of float64, shape (n_pair, 2)
        Filled, arcsec.
    """
    for pair in range(source.size):
        s = source[pair]
        x, y = dx[pair] - shift[s, 0], dy[pair] - shift[s, 1]
        offset[pair, 0], offset[pair, 1] = x, y
        place[pair, 0] = frame[s, 0, 0] * x + frame[s, 0, 1] * y
        place[pair, 1] = frame[s, 1, 0] * x + frame[s, 1, 1] * y


@kernel
def add_growth(
    pixel: IntArray,
    source: IntArray,
    values: FloatArray,
    offset: FloatArray,
    flux: FloatArray,
    peaks: FloatArray,
    rings: FloatArray,
    growth: FloatArray,
) -> None:
    """Add up, pixel by pixel, the light of each pair times the peaks of its star, and its square in rings of the wing.

    Parameters
    ----------
    pixel, source : ndarray of int64, shape (n_pair,)
        Pairs.
    values : ndarray of float64, shape (n_pair,)
        PRF, 1 / pixel.
    offset : ndarray of float64, shape (n_pair, 2)
        Offset of the pixel from the star, arcsec.
    flux : ndarray of float64, shape (n_source,)
        Flux, electron / s.
    peaks : ndarray of float64, shape (n_source, 2)
        Light at the centre, and the same times what its error grows by over the field, electron / s.
    rings : ndarray of float64, shape (n_ring,)
        Squares of the radii from which each ring begins, arcsec**2.
    growth : ndarray of float64, shape (n_pixel, 2 + n_ring)
        Added to, (electron / s)**2.
    """
    for pair in range(source.size):
        light = flux[source[pair]] * values[pair]
        row = growth[pixel[pair]]
        row[0] += light * peaks[source[pair], 0]
        row[1] += light * peaks[source[pair], 1]
        r2 = offset[pair, 0] * offset[pair, 0] + offset[pair, 1] * offset[pair, 1]
        for k in range(rings.size - 1, -1, -1):
            if r2 >= rings[k]:
                row[2 + k] += light * light
                break
