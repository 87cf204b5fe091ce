"""How the joint fit goes through an image: pairs pixel by pixel near the stars, sums of their light far from them."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray, pointers
from bayesprf.prf.joint.cells import Cells
from bayesprf.prf.joint.elimination import EliminationTree
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import LogPrf
from bayesprf.scene.sky import ARCSEC_PER_DEG
from bayesprf.scene.sources import SourceTable

# Accuracy: angles of the table of a known PRF at rmax: a hundred per knot of the splines.
_N_ANGLE = 1440
# Cost: side of a tile, pixel: no wider than the circle in which the faintest star is looked at, so that it lights most
# of it.
_TILE = 8.0


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

    def of_pixels(self, pixels: IntArray) -> tuple[IntArray, IntArray]:
        """Return `indptr` and `pair` of some pixels, one after the other."""
        count = np.diff(self.indptr)[pixels]
        indptr = pointers(count)
        return indptr, self.pair[np.repeat(self.indptr[pixels] - indptr[:-1], count) + np.arange(indptr[-1])]


def _indptr(pixel: IntArray, n_pixel: int) -> IntArray:
    return pointers(np.bincount(pixel, minlength=n_pixel))


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """How far the light of each star counts.

    Parameters
    ----------
    own : ndarray of float64, shape (n_source,)
        Where it gives half of the noise of a pixel, arcsec.
    near : ndarray of float64, shape (n_source,)
        Where it is told from noise, arcsec.
    pairs : ndarray of float64, shape (n_source,)
        Where it is looked at pair by pair, no less than that, arcsec.
    light : ndarray of float64, shape (n_source,)
        Where it still adds to the light of many, arcsec.
    """

    own: FloatArray
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
            return ARCSEC_PER_DEG * np.stack([(ra_deg - ra + 180.0) % 360.0 - 180.0, dec_deg - dec], axis=1)

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
class Tiles:
    """Square pieces of the image, in which a star that lights one pixel lights most: dense algebra tile by tile.

    Parameters
    ----------
    pixel, pixel_indptr : ndarray of int64
        Tile t holds the pixels ``pixel[pixel_indptr[t]:pixel_indptr[t + 1]]``.
    star, star_indptr : ndarray of int64
        The same of the stars told from noise in it, in the order of their elimination.
    entry, entry_indptr : ndarray of int64
        The same of their pairs, as `PixelOrder.near` counts them.
    place : ndarray of int64, shape (n_near,)
        Where each of these pairs stands in the tile's matrix of pixels and stars, row by row.
    tree : EliminationTree
        The order of elimination.
    summed : bool
        Some of these pairs share star and pixel: their light adds up.
    """

    pixel: IntArray
    pixel_indptr: IntArray
    star: IntArray
    star_indptr: IntArray
    entry: IntArray
    entry_indptr: IntArray
    place: IntArray
    tree: EliminationTree
    summed: bool

    @classmethod
    def of(cls, pairs: PairTable, order: PixelOrder, node: FloatArray, star_place: FloatArray, side: float) -> "Tiles":
        """Cut the image in squares of `side`; pixels and stars at the given places, shape (n, 2), arcsec."""
        cell = np.floor((node - node.min(axis=0)) / side).astype(np.int64)
        tile = np.unique(cell[:, 0] * (cell[:, 1].max(initial=0) + 1) + cell[:, 1], return_inverse=True)[1]
        n_tile, n_star = int(tile.max(initial=-1)) + 1, pairs.n_source
        pixel, indptr = np.argsort(tile, kind="stable"), _indptr(tile, n_tile)
        row = np.empty(tile.size, np.int64)
        row[pixel] = np.arange(tile.size) - indptr[tile[pixel]]
        near_pixel, near_star = pairs.pixel[order.near], pairs.source[order.near]
        near_tile = tile[near_pixel]
        lit = csr_matrix((np.ones(near_tile.size, bool), (near_tile, near_star)), shape=(n_tile, n_star))
        tree = EliminationTree.of(star_place, lit)
        key = near_tile * n_star + tree.rank[near_star]
        found, inverse = np.unique(key, return_inverse=True)
        star_indptr = _indptr(found // max(n_star, 1), n_tile)
        star = np.argsort(tree.rank)[found % max(n_star, 1)]
        place = row[near_pixel] * np.diff(star_indptr)[near_tile] + inverse - star_indptr[near_tile]
        entry = np.argsort(near_tile, kind="stable")
        held = np.sort(near_pixel * n_star + near_star)
        summed = bool(np.any(held[1:] == held[:-1]))
        return cls(pixel, indptr, star, star_indptr, entry, _indptr(near_tile, n_tile), place[entry], tree, summed)

    @property
    def n_tile(self) -> int:
        """Number of tiles."""
        return self.pixel_indptr.size - 1

    def pixels(self, tile: int) -> IntArray:
        """Return the pixels of a tile."""
        return self.pixel[self.part(tile)]

    def part(self, tile: int) -> slice:
        """Return where the pixels of a tile stand in `pixel`."""
        return slice(int(self.pixel_indptr[tile]), int(self.pixel_indptr[tile + 1]))

    def stars(self, tile: int) -> IntArray:
        """Return the stars told from noise in a tile."""
        return self.star[self.star_indptr[tile] : self.star_indptr[tile + 1]]

    def matrix(self, tile: int, parts: FloatArray) -> FloatArray:
        """Return the columns of a tile's stars in its pixels, shape (n_pixel, n_own n_star).

        `parts` has the shape (n_near, n_own).
        """
        own = slice(self.entry_indptr[tile], self.entry_indptr[tile + 1])
        n_pixel, n_star = self.pixels(tile).size, self.stars(tile).size
        out = np.zeros((n_pixel * n_star, parts.shape[1]))
        if self.summed:
            np.add.at(out, self.place[own], parts[self.entry[own]])
        else:
            out[self.place[own]] = parts[self.entry[own]]
        return out.reshape(n_pixel, n_star * parts.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Pairs, their order, the light beyond them and the cells for it, and the tiles of the image.

    In a `rough` one stars have no columns of their own in some pixels where they are told from noise. `pixel` is where
    the pairs lie, if they are counted under other numbers.
    """

    pairs: PairTable
    order: PixelOrder
    far: FarField
    cells: Cells
    tiles: Tiles
    rough: bool = False
    pixel: IntArray | None = None

    @property
    def own_pairs(self) -> PairTable:
        """Pairs with the pixels in which they lie."""
        return self.pairs if self.pixel is None else replace(self.pairs, pixel=self.pixel)

    @classmethod
    def of(cls, pairs: PairTable, near: BoolArray, far: FarField, side: float, *, rough: bool = False) -> "Layout":
        """Lay out pairs, of which `near`, shape (n_pair,), are told from noise, on pixels of some side, arcsec."""
        order = PixelOrder.of(pairs, near)
        stretch = np.array([float(np.mean(far.stretch)) if far.stretch.size else 1.0, 1.0])
        tiles = Tiles.of(pairs, order, far.node * stretch, far.place * stretch, _TILE * side)
        return cls(pairs, order, far, Cells.of(far.node, float(stretch[0]), side), tiles, rough)

    def counted(self, home: IntArray, side: float) -> "Layout":
        """Return the layout with the pairs of each pixel counted under the number of its home, shape (n_pixel,)."""
        near = np.zeros(self.pairs.n_pair, bool)
        near[self.order.near] = True
        pairs = replace(self.pairs, pixel=home[self.pairs.pixel])
        return replace(Layout.of(pairs, near, self.far, side, rough=self.rough), pixel=self.pairs.pixel)
