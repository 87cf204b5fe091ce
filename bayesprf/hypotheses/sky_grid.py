"""Positions on the sky at which a star is looked for, and what it would light."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import check_range
from bayesprf.fit_record import Fit
from bayesprf.prf.fit import PrfFit
from bayesprf.scene.pairs import offsets
from bayesprf.scene.sky import ARCSEC_PER_DEG

# Derived: cells are this share of a pixel wide at first; the PRF is wider, so that none hides a star.
CELL = 0.5
# Derived: half the diagonal of a pixel reaches its corners.
_CORNER = 0.75


# Cost: farther out a star gives no light to the pixels, and cells would fill the memory.
_MAX_MARGIN = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class SkyGrid:
    """Square cells of the sky on and around some pixels.

    Parameters
    ----------
    fit : Fit
        With a PRF.
    pixel : ndarray of int64, shape (n_pixel,)
        The pixels.
    reference : tuple of float
        Right ascension and declination from which offsets count, degree.
    side : float
        Side of a cell, arcsec.
    x, y : ndarray of float64, shape (n_cell,)
        Centres towards east and north, arcsec.
    """

    fit: Fit
    pixel: IntArray
    reference: tuple[float, float]
    side: float
    x: FloatArray
    y: FloatArray

    @classmethod
    def of(cls, fit: Fit, pixel: IntArray, margin: float) -> "SkyGrid":
        """Lay cells over pixels and `margin` pixels around them."""
        check_range(margin, "margin", 0.0, _MAX_MARGIN, "pixel")
        width = float(np.sqrt(fit.need("prf").prf.pixel_area))
        reference = float(fit.pixels.ra_deg[pixel[0]]), float(fit.pixels.dec_deg[pixel[0]])
        place = np.stack(_plane(fit.pixels.ra_deg[pixel], fit.pixels.dec_deg[pixel], reference), axis=1)
        side, reach = CELL * width, (_CORNER + margin) * width
        low, high = place.min(axis=0) - reach, place.max(axis=0) + reach
        axes = [np.arange(a + 0.5 * side, b + side, side) for a, b in zip(low, high, strict=True)]
        centre = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        near = cKDTree(place).query(centre)[0] <= reach
        return cls(fit, pixel, reference, side, *centre[near].T)

    @property
    def area(self) -> float:
        """Area of all cells, arcsec**2."""
        return self.x.size * self.side**2

    def select(self, cells: BoolArray, pixels: BoolArray) -> "SkyGrid":
        """Return the grid with some of its cells and pixels."""
        return replace(self, pixel=self.pixel[pixels], x=self.x[cells], y=self.y[cells])

    def around(self, cells: BoolArray, radius: float) -> "SkyGrid":
        """Return some of the cells, with the pixels within a radius of them, arcsec."""
        return self.select(cells, self.near(self.x[cells], self.y[cells], radius))

    def beside(self, cells: BoolArray) -> BoolArray:
        """Return some of the cells and those that touch them, shape (n_cell,)."""
        place = np.stack([self.x, self.y], axis=1)
        # Diagonal neighbours are the root of two sides away, and the next ones two.
        return np.asarray(cKDTree(place[cells]).query(place)[0] <= 1.5 * self.side)

    def to_sky(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return right ascension and declination, degree, of offsets in arcsec."""
        ra, dec = self.reference
        return ra + x / (ARCSEC_PER_DEG * np.cos(np.radians(dec))), dec + y / ARCSEC_PER_DEG

    def pixel_offsets(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return how far the pixels lie from where stars at some offsets fall, (n_position, n_pixel), arcsec."""
        ra, dec = self.to_sky(x, y)
        pixels, offset = self.fit.pixels, self.fit.need("prf").offset
        dx, dy = offsets(pixels.ra_deg[self.pixel], pixels.dec_deg[self.pixel], ra[:, None], dec[:, None])
        return dx - offset[0], dy - offset[1]

    def light(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the PRF of stars at some offsets in the pixels, shape (n_position, n_pixel), 1 / pixel."""
        dx, dy = self.pixel_offsets(x, y)
        return self._prf().prf.evaluate(dx.ravel(), dy.ravel()).reshape(dx.shape)

    def _prf(self) -> PrfFit:
        """Return the PRF in the middle of the cells."""
        prf = self.fit.need("prf")
        if not self.x.size:
            return prf
        ra, dec = self.to_sky(self.x.mean(keepdims=True), self.y.mean(keepdims=True))
        return prf.at(float(ra[0]), float(dec[0]))

    def local_light(self, radius: float) -> csr_matrix:
        """Return the PRF of stars at the cells in pixels within a radius, arcsec, sparse (n_cell, n_pixel)."""
        prf = self._prf()
        place = self._pixel_places() - np.asarray(prf.offset)
        cells = cKDTree(np.stack([self.x, self.y], axis=1))
        found = cells.sparse_distance_matrix(cKDTree(place), radius, output_type="ndarray")
        dx, dy = place[found["j"], 0] - self.x[found["i"]], place[found["j"], 1] - self.y[found["i"]]
        return csr_matrix((prf.prf.evaluate(dx, dy), (found["i"], found["j"])), (self.x.size, self.pixel.size))

    def near(self, x: FloatArray, y: FloatArray, radius: float) -> BoolArray:
        """Return which pixels lie within a radius, arcsec, of any of some offsets, shape (n_pixel,)."""
        return np.asarray(cKDTree(np.stack([x, y], axis=1)).query(self._pixel_places())[0] <= radius)

    def _pixel_places(self) -> FloatArray:
        pixels = self.fit.pixels
        return np.stack(_plane(pixels.ra_deg[self.pixel], pixels.dec_deg[self.pixel], self.reference), axis=1)

    def stars(self) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return the catalogue's stars that lie in a cell, and their offsets as the PRF fit has them, arcsec."""
        sources, shift = self.fit.sources, self.fit.need("prf").positions.shift
        x, y = _plane(sources.ra_deg, sources.dec_deg, self.reference)
        x, y = x + shift[:, 0], y + shift[:, 1]
        distance, cell = cKDTree(np.stack([self.x, self.y], axis=1)).query(np.stack([x, y], axis=1))
        cell = np.minimum(cell, self.x.size - 1)
        apart = np.maximum(np.abs(x - self.x[cell]), np.abs(y - self.y[cell]))
        inside = np.flatnonzero(np.isfinite(distance) & (apart <= 0.5 * self.side * (1.0 + 1e-9)))
        return inside, x[inside], y[inside]


def _plane(ra: FloatArray, dec: FloatArray, reference: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Return offsets towards east and north of a reference, arcsec; `SkyGrid.to_sky` turns them back."""
    return offsets(ra, dec, np.full(np.shape(ra), reference[0]), np.full(np.shape(dec), reference[1]))
