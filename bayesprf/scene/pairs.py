"""PairTable: the one geometry of a scene, every near (source, pixel) pair with its offset on the sky."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from bayesprf.arrays import BoolArray, FloatArray, IntArray, pointers
from bayesprf.checks import check_positive
from bayesprf.scene.sky import ARCSEC_PER_DEG, chord, unit_vectors
from bayesprf.scene.sources import SourceTable


class OnSky(Protocol):
    """Positions on the sky."""

    @property
    def ra_deg(self) -> FloatArray:
        """Right ascension, shape (n_pixel,), degree."""
        ...

    @property
    def dec_deg(self) -> FloatArray:
        """Declination, shape (n_pixel,), degree."""
        ...

    @property
    def n_pixel(self) -> int:
        """Number of positions."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PairTable:
    """Near (source, pixel) pairs as aligned 1-D arrays, sorted by source, then pixel.

    Parameters
    ----------
    source, pixel : ndarray of int64, shape (n_pair,)
        Index of the source and of the pixel.
    dx, dy : ndarray of float64, shape (n_pair,)
        Offset of the pixel from the source towards east (true angle, with cos dec) and north, arcsec.
    n_source, n_pixel : int
        Size of the scene.

    Notes
    -----
    `r` is the distance in arcsec.
    """

    source: IntArray
    pixel: IntArray
    dx: FloatArray
    dy: FloatArray
    n_source: int
    n_pixel: int
    r: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "r", np.hypot(self.dx, self.dy))

    @property
    def n_pair(self) -> int:
        """Number of pairs."""
        return int(self.source.size)

    @property
    def phi(self) -> FloatArray:
        """Angle of the pixel around the source, arctan2(dy, dx), shape (n_pair,), radian."""
        return np.arctan2(self.dy, self.dx)

    def shifted(self, dx: float, dy: float) -> "PairTable":
        """Return the pairs with every offset moved by the same (dx, dy), arcsec."""
        return PairTable(self.source, self.pixel, self.dx + dx, self.dy + dy, self.n_source, self.n_pixel)

    def moved(self, shift: FloatArray) -> "PairTable":
        """Return the pairs after each source moved by its row of `shift`, shape (n_source, 2), arcsec."""
        dx, dy = self.dx - shift[self.source, 0], self.dy - shift[self.source, 1]
        return PairTable(self.source, self.pixel, dx, dy, self.n_source, self.n_pixel)

    def select(self, mask: BoolArray) -> "PairTable":
        """Return only the pairs where the mask, shape (n_pair,), is True."""
        return PairTable(self.source[mask], self.pixel[mask], self.dx[mask], self.dy[mask], self.n_source, self.n_pixel)

    def to_sparse(self, values: FloatArray | BoolArray | IntArray) -> csr_matrix:
        """Return values, shape (n_pair,), as a sparse matrix of shape (n_source, n_pixel)."""
        entries = values, self.pixel, pointers(self.count_per_source())
        matrix = csr_matrix(entries, shape=(self.n_source, self.n_pixel))
        matrix.has_sorted_indices = True
        return matrix

    def count_per_source(self) -> IntArray:
        """Return how many pixels pair with each source, shape (n_source,)."""
        return np.bincount(self.source, minlength=self.n_source)


def build_pairs(pixels: OnSky, sources: SourceTable, limit: float) -> PairTable:
    """Find every (source, pixel) pair closer than `limit` with a k-d tree on the unit sphere.

    Parameters
    ----------
    pixels : PixelTable, or anything with such positions
        `ra_deg`, `dec_deg`: float64, shape (n_pixel,), degree.
    sources : SourceTable
        `ra_deg`, `dec_deg`: float64, shape (n_source,), degree.
    limit : float
        Largest distance, arcsec.

    Returns
    -------
    PairTable
        Offsets dx = (ra_p - ra_s) cos(dec_s), wrapped at 0/360 degrees, and dy = dec_p - dec_s.

    Raises
    ------
    InputError
        If `limit` is not a positive number.
    """
    check_positive(limit, "sparse_dist_lim")
    found = cKDTree(unit_vectors(sources.ra_deg, sources.dec_deg)).sparse_distance_matrix(
        cKDTree(unit_vectors(pixels.ra_deg, pixels.dec_deg)), chord(limit), output_type="ndarray"
    )
    source, pixel = np.divmod(np.sort(found["i"] * pixels.n_pixel + found["j"]), pixels.n_pixel)
    dx, dy = offsets(pixels.ra_deg[pixel], pixels.dec_deg[pixel], sources.ra_deg[source], sources.dec_deg[source])
    return PairTable(source, pixel, dx, dy, sources.n_source, pixels.n_pixel)


def build_pairs_within(pixels: OnSky, sources: SourceTable, radius: FloatArray) -> PairTable:
    """Pair each star with all pixels within its own radius, shape (n_source,), arcsec."""
    chord = 2.0 * np.sin(np.radians(radius / ARCSEC_PER_DEG) / 2.0)
    tree = cKDTree(unit_vectors(pixels.ra_deg, pixels.dec_deg))
    found = tree.query_ball_point(unit_vectors(sources.ra_deg, sources.dec_deg), chord, return_sorted=True)
    source = np.repeat(np.arange(sources.n_source), [len(one) for one in found])
    pixel = np.concatenate([np.asarray(one, np.int64) for one in found])
    dx, dy = offsets(pixels.ra_deg[pixel], pixels.dec_deg[pixel], sources.ra_deg[source], sources.dec_deg[source])
    return PairTable(source, pixel, dx, dy, sources.n_source, pixels.n_pixel)


def offsets(
    ra_pixel: FloatArray, dec_pixel: FloatArray, ra_source: FloatArray, dec_source: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the true-angle offsets of pixels from sources.

    Parameters
    ----------
    ra_pixel, dec_pixel : ndarray of float64, shape (n,)
        Sky position of the pixels, degree.
    ra_source, dec_source : ndarray of float64, shape (n,)
        Sky position of the source of each pair, degree.

    Returns
    -------
    dx, dy : ndarray of float64, shape (n,)
        Offset towards east, with cos(dec) and wrapped at 0/360 degrees, and towards north, arcsec.
    """
    dra = (ra_pixel - ra_source + 180.0) % 360.0 - 180.0
    dx = dra * np.cos(np.radians(dec_source)) * ARCSEC_PER_DEG
    return dx, (dec_pixel - dec_source) * ARCSEC_PER_DEG
