"""A rectangle of shifts at which the PRF is evaluated, and cubic splines between them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import make_interp_spline

from bayesprf.arrays import FloatArray

# Distance of the nodes and room beyond the motion, pixel: a cubic spline through a PRF as sharp as Kepler's is then
# good to 3e-4 of its peak.
_STEP, _MARGIN = 0.2, 0.2
# Fewest nodes on an axis (a cubic needs four), and most.
_MIN_NODES, _MAX_NODES = 4, 40


@dataclass(frozen=True, eq=False)
class ShiftGrid:
    """Nodes of a rectangle turned into the main direction of a motion.

    Parameters
    ----------
    centre : ndarray of float64, shape (2,)
        Middle of the rectangle, east and north, arcsec.
    axes : ndarray of float64, shape (2, 2)
        Columns are the steps from node to node along the two sides, arcsec.
    size : tuple of int
        Number of nodes along the sides.
    """

    centre: FloatArray
    axes: FloatArray
    size: tuple[int, int]

    @classmethod
    def around(cls, motion: FloatArray, scale: float) -> "ShiftGrid":
        """Return the smallest such grid that covers a motion.

        Parameters
        ----------
        motion : ndarray of float64, shape (n_time, 2)
            Shifts, east and north, arcsec.
        scale : float
            Pixel, arcsec.

        Returns
        -------
        ShiftGrid
        """
        middle = motion.mean(axis=0)
        sides = np.linalg.svd(motion - middle, full_matrices=False)[2].T if motion.shape[0] > 1 else np.eye(2)
        along = (motion - middle) @ sides
        low, high = along.min(axis=0) - _MARGIN * scale, along.max(axis=0) + _MARGIN * scale
        count = np.ceil((high - low) / (_STEP * scale)).astype(int) + 1
        first, second = (int(one) for one in np.clip(count, _MIN_NODES, _MAX_NODES))
        step = (high - low) / (np.array([first, second]) - 1.0)
        return cls(middle + sides @ (0.5 * (low + high)), sides * step, (first, second))

    @cached_property
    def nodes(self) -> FloatArray:
        """Shifts of the nodes, shape (n_node, 2), arcsec; those of the second side run fastest."""
        first, second = (np.arange(size) - 0.5 * (size - 1) for size in self.size)
        return self.centre + np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2) @ self.axes.T

    def weights(self, motion: FloatArray) -> FloatArray:
        """Return the weight of each node at given shifts, shape (n, n_node); shifts beyond the edge count as on it."""
        first, second = self._sides(motion, 0)
        return (first[:, :, None] * second[:, None, :]).reshape(motion.shape[0], self.size[0] * self.size[1])

    def slopes(self, motion: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the derivatives of the weights towards east and north, shape (n, n_node) each, 1 / arcsec."""
        values, derivatives = self._sides(motion, 0), self._sides(motion, 1)
        first = (derivatives[0][:, :, None] * values[1][:, None, :]).reshape(
            motion.shape[0], self.size[0] * self.size[1]
        )
        second = (values[0][:, :, None] * derivatives[1][:, None, :]).reshape(
            motion.shape[0], self.size[0] * self.size[1]
        )
        steps = np.linalg.inv(self.axes)
        return first * steps[0, 0] + second * steps[1, 0], first * steps[0, 1] + second * steps[1, 1]

    def _sides(self, motion: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
        """Return the cardinal splines of both sides at given shifts, or their derivative per node."""
        place = np.linalg.solve(self.axes, (motion - self.centre).T)
        first, second = (_cardinal(size, one, order) for size, one in zip(self.size, place, strict=True))
        return first, second


def _cardinal(size: int, place: FloatArray, order: int) -> FloatArray:
    """Return the splines that are one at one node and zero at the others, shape (n, size)."""
    nodes = np.arange(size) - 0.5 * (size - 1)
    spline = make_interp_spline(nodes, np.eye(size), k=3)
    return np.asarray(spline(np.clip(place, nodes[0], nodes[-1]), nu=order))
