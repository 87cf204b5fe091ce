"""Nested squares of an image: the light of distant stars is evaluated at their nodes, and interpolated to pixels."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray

# Accuracy: side of the smallest cell, pixel: it has four nodes a side.
_SIDE = 8.0
# Format: nodes of a cell a side, as the kernel has them.
_N_SIDE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A quadtree of the pixels.

    Parameters
    ----------
    center : ndarray of float64, shape (n_cell, 2)
        Right ascension, without cos(dec), and declination, arcsec.
    half : ndarray of float64, shape (n_cell, 2)
        Half the sides, in the same coordinates.
    radius : ndarray of float64, shape (n_cell,)
        Half the diagonal, arcsec.
    level : ndarray of int64, shape (n_cell,)
        How many times the smallest side was doubled.
    after : ndarray of int64, shape (n_cell,)
        The next cell that is no part of this one: each comes before its parts.
    first_pixel, last_pixel : ndarray of int64, shape (n_cell,)
        The cell holds the pixels ``pixel[first_pixel:last_pixel]``.
    first_node : ndarray of int64, shape (n_cell,)
        Where its nodes begin, past the pixels; -1 for cells of no more pixels than nodes.
    pixel : ndarray of int64, shape (n_pixel,)
        Pixels, cell by cell.
    place : ndarray of float64, shape (n_pixel + n_node, 2)
        Places of pixels and nodes.
    """

    center: FloatArray
    half: FloatArray
    radius: FloatArray
    level: IntArray
    after: IntArray
    first_pixel: IntArray
    last_pixel: IntArray
    first_node: IntArray
    pixel: IntArray
    place: FloatArray

    @classmethod
    def of(cls, place: FloatArray, stretch: float, side: float) -> "Cells":
        """Build the tree of pixels at `place`, shape (n_pixel, 2), of some side, arcsec; stretch is cos(dec)."""
        low = place.min(axis=0)
        unit = _SIDE * side / np.array([stretch, 1.0])
        cell = np.floor((place - low) / unit).astype(np.int64)
        depth = int(np.ceil(np.log2(cell.max(initial=0) + 1.0)))
        code = np.zeros(place.shape[0], np.int64)
        for bit in range(depth):
            code |= ((cell[:, 0] >> bit) & 1) << (2 * bit) | ((cell[:, 1] >> bit) & 1) << (2 * bit + 1)
        pixel = np.argsort(code, kind="stable")
        level, start, stop = _tree(code[pixel], depth)
        size = unit * (2.0**level)[:, None]
        corner = (cell[pixel[start]] >> level[:, None]) * size
        numbered = np.cumsum(stop - start > _N_SIDE**2) - 1
        first_node = np.where(stop - start > _N_SIDE**2, place.shape[0] + _N_SIDE**2 * numbered, -1)
        center, half = low + corner + 0.5 * size, 0.5 * size
        x, y = (one.ravel() for one in np.meshgrid(_CHEBYSHEV, _CHEBYSHEV, indexing="ij"))
        node = center[:, None] + half[:, None] * np.stack([x, y], axis=1)
        return cls(
            center=center,
            half=half,
            radius=np.hypot(stretch * half[:, 0], half[:, 1]),
            level=level,
            after=_next(level),
            first_pixel=start,
            last_pixel=stop,
            first_node=first_node,
            pixel=pixel,
            place=np.concatenate([place, node[first_node >= 0].reshape(-1, 2)]),
        )

    def add_nodes(self, values: FloatArray) -> FloatArray:
        """Add what was found at the nodes to the pixels, (n_pixel + n_node, n_value) -> (n_pixel, n_value)."""
        out = values[: self.pixel.size].copy()
        found = np.flatnonzero(self.first_node >= 0)
        nodes = values[self.first_node[found][:, None] + np.arange(_N_SIDE**2)]
        used = nodes.any(axis=(1, 2))
        for level in np.unique(self.level[found]):
            here = np.flatnonzero(used & (self.level[found] == level))
            if here.size:
                self._add_level(out, found[here], nodes[here])
        return out

    def _add_level(self, out: FloatArray, cells: IntArray, nodes: FloatArray) -> None:
        """Interpolate in cells of one size, which share no pixel."""
        count = self.last_pixel[cells] - self.first_pixel[cells]
        stop = np.cumsum(count)
        pixel = self.pixel[np.repeat(self.first_pixel[cells] - stop + count, count) + np.arange(stop[-1])]
        x, y = ((self.place[pixel] - np.repeat(self.center[cells], count, axis=0)) / self.half[cells[0]]).T
        weight = (_lagrange(x)[:, :, None] * _lagrange(y)[:, None, :]).reshape(pixel.size, -1)
        for k in range(cells.size):
            own = slice(stop[k] - count[k], stop[k])
            out[pixel[own]] += weight[own] @ nodes[k]


_CHEBYSHEV = np.cos(np.pi * (np.arange(_N_SIDE) + 0.5) / _N_SIDE)


def _lagrange(x: FloatArray) -> FloatArray:
    """Return the polynomials that are one at one node and zero at the others, shape (n, n_side)."""
    parts = [
        np.prod([(x - other) / (one - other) for other in _CHEBYSHEV if other != one], axis=0) for one in _CHEBYSHEV
    ]
    return np.stack(parts, axis=1)


def _tree(code: IntArray, depth: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return level, first and last pixel of each cell of sorted Morton codes, each before its parts."""
    levels, starts, stops = [], [], []
    for level in range(depth + 1):
        own = code >> (2 * level)
        start = np.flatnonzero(np.concatenate([[True], own[1:] != own[:-1]])[: own.size])
        levels.append(np.full(start.size, level))
        starts.append(start)
        stops.append(np.append(start[1:], own.size))
    height, start, stop = (np.concatenate(one).astype(np.int64) for one in (levels, starts, stops))
    order = np.lexsort((-height, start))
    return height[order], start[order], stop[order]


def _next(level: IntArray) -> IntArray:
    """Return for each cell the next one on its level or above."""
    after = np.full(level.size, level.size)
    waiting: list[int] = []
    for cell, height in enumerate(level):
        while waiting and level[waiting[-1]] <= height:
            after[waiting.pop()] = cell
        waiting.append(cell)
    return after
