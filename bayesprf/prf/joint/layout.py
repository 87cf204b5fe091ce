"""How the joint fit goes through an image: pairs pixel by pixel near the stars, sums of their light far from them."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import LogPrf
from bayesprf.scene.sources import SourceTable

# Angles of the table of a known PRF at rmax: a hundred per knot of the splines.
_N_ANGLE = 1440


@dataclass(frozen=True, slots=True, eq=False)
class PixelOrder:
    """Pairs in the order of their pixels.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_pixel + 1,)
        Pixel p holds the pairs ``pair[indptr[p]:indptr[p + 1]]``.
    pair : ndarray of int64, shape (n_pair,)
        Pairs.
    near_indptr, near : ndarray of int64
        The same of the pairs whose light is told from noise: the others count, but not one by one.
    """

    indptr: IntArray
    pair: IntArray
    near_indptr: IntArray
    near: IntArray

    @classmethod
    def of(cls, pairs: PairTable, near: BoolArray) -> "PixelOrder":
        """Sort pairs by pixel; `near`, shape (n_pair,), says which are told from noise."""
        pair = np.argsort(pairs.pixel, kind="stable")
        chosen = pair[near[pair]]
        return cls(_indptr(pairs.pixel, pairs.n_pixel), pair, _indptr(pairs.pixel[near], pairs.n_pixel), chosen)


def _indptr(pixel: IntArray, n_pixel: int) -> IntArray:
    return np.concatenate([[0], np.cumsum(np.bincount(pixel, minlength=n_pixel))])


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """How far the light of each star counts.

    Parameters
    ----------
    near : ndarray of float64, shape (n_source,)
        Where it is told from noise, arcsec.
    pairs : ndarray of float64, shape (n_source,)
        Where it is looked at pair by pair, no less than that, arcsec.
    light : ndarray of float64, shape (n_source,)
        Where it still adds to the light of many, arcsec.
    """

    near: FloatArray
    pairs: FloatArray
    light: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class FarField:
    """Where stars are far from pixels.

    Parameters
    ----------
    node : ndarray of float64, shape (n_pixel, 2)
        Right ascension and declination of the pixels past those of the first, arcsec, the first without cos(dec).
    place : ndarray of float64, shape (n_source, 2)
        The same of the stars.
    stretch : ndarray of float64, shape (n_source,)
        cos(dec) of the stars.
    inner, outer : ndarray of float64, shape (n_source,)
        Squares of the radii within which pairs hold the light of a star, and beyond which it does not count, arcsec**2.
    base : ndarray of float64, shape (n_angle + 1,)
        log10 of a PRF known beforehand at rmax, over a full turn, dex.
    """

    node: FloatArray
    place: FloatArray
    stretch: FloatArray
    inner: FloatArray
    outer: FloatArray
    base: FloatArray

    @classmethod
    def beyond(
        cls, pixels: PixelTable, sources: SourceTable, reach: Reach, *, base: LogPrf | None, rmax: float
    ) -> "FarField":
        """Return the field of all stars outside their pairs."""
        ra, dec = pixels.ra_deg[0], pixels.dec_deg[0]

        def past(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
            return 3600.0 * np.stack([(ra_deg - ra + 180.0) % 360.0 - 180.0, dec_deg - dec], axis=1)

        phi = np.linspace(0.0, 2.0 * np.pi, _N_ANGLE + 1)
        edge = np.zeros(phi.size) if base is None else base.log10(rmax * np.cos(phi), rmax * np.sin(phi))
        return cls(
            past(pixels.ra_deg, pixels.dec_deg),
            past(sources.ra_deg, sources.dec_deg),
            np.cos(np.radians(sources.dec_deg)),
            reach.pairs**2,
            reach.light**2,
            edge,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Pairs, their order, and the light beyond them."""

    pairs: PairTable
    order: PixelOrder
    far: FarField
