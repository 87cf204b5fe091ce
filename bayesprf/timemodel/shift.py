"""Motion as a shift: the PRF at time t is the PRF at a shifted position, as a few parts and a mix per cadence."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.linalg import eigh, qr

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.prf.pixel_phase import plane_share
from bayesprf.scene.axes import pixel_side
from bayesprf.scene.pairs import PairTable
from bayesprf.timemodel.fit import GainModel
from bayesprf.timemodel.gain import StarFunction
from bayesprf.timemodel.uncatalogued import UncataloguedLight

# Accuracy: directions of the PRF's change that carry less than this share of the light's root mean square are left out.
_TOLERANCE = 1e-4
# Pairs from which the parts are found, and pairs whose nodes are evaluated at once.
_MAX_PAIRS, _CHUNK = 20_000, 1 << 12
# Accuracy: distance of the nodes and room beyond the motion, pixel: a cubic spline through a PRF as sharp as Kepler's
# is then good to 3e-4 of its peak.
_GRID_STEP, _MARGIN = 0.2, 0.2
# Cost: fewest nodes on an axis (a cubic needs four), and most.
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
        count = np.ceil((high - low) / (_GRID_STEP * scale)).astype(int) + 1
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
        position = np.linalg.solve(self.axes, (motion - self.centre).T)
        first, second = (_cardinal(size, one, order) for size, one in zip(self.size, position, strict=True))
        return first, second


@dataclass(frozen=True, slots=True, eq=False)
class FieldMotion:
    """How far each source moves when the middle of the field does.

    Parameters
    ----------
    position : ndarray of float64, shape (n_source, 2)
        Place of each source, scaled to -1 ... 1 over the field.
    powers : tuple of (int, int)
        Powers of the two coordinates of the position.
    gain : ndarray of float64, shape (n_power, 2, 2)
        What each power adds to the unit matrix: motion of a source = (1 + sum_l position^l gain_l) motion.
    """

    position: FloatArray
    powers: tuple[tuple[int, int], ...]
    gain: FloatArray

    @property
    def terms(self) -> FloatArray:
        """Powers of the positions, shape (n_source, n_power)."""
        columns = [np.prod(self.position ** np.array(power), axis=1) for power in self.powers]
        return np.stack(columns, axis=1) if columns else np.zeros((self.position.shape[0], 0))

    @property
    def matrices(self) -> FloatArray:
        """Motion of each source per motion of the middle, shape (n_source, 2, 2)."""
        return np.eye(2) + np.tensordot(self.terms, self.gain, axes=1)


@dataclass(frozen=True, slots=True, eq=False)
class MovedPrf:
    """The PRF as a function of source, offset and shift.

    Parameters
    ----------
    evaluate : callable
        PRF of sources at offsets (arcsec) at the reference pointing, 1 / pixel.
    offset : ndarray of float64, shape (n_source, 2)
        Where each source lies at that pointing beyond the position that its pairs hold, arcsec.
    field : FieldMotion
        How the motion differs over the field.
    """

    evaluate: StarFunction
    offset: FloatArray
    field: FieldMotion

    def at_nodes(self, grid: ShiftGrid, source: IntArray, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return the PRF of pairs at every node of a grid, shape (n_node, n_pair), 1 / pixel."""
        shift = np.einsum("sij,nj->sni", self.field.matrices, grid.nodes) + self.offset[:, None]
        values = np.empty((grid.nodes.shape[0], source.size))
        for start in range(0, source.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            moved = shift[source[part]]
            east, north = dx[part, None] - moved[:, :, 0], dy[part, None] - moved[:, :, 1]
            owner = np.repeat(source[part], east.shape[1])
            values[:, part] = self.evaluate(owner, east.ravel(), north.ravel()).reshape(east.shape).T
        return values

    def plane_sums(self, grid: ShiftGrid, pairs: PairTable, axes: FloatArray, radius: float) -> FloatArray:
        """Return the sum of each PRF over the pixel plane at every node over its mean, shape (n_node, n_source).

        Parameters
        ----------
        grid : ShiftGrid
            The nodes.
        pairs : PairTable
            Pairs of all sources; that of a source without any keeps its sum.
        axes : ndarray of float64, shape (2, 2)
            Sky step of one column and one row, arcsec.
        radius : float
            How far the plane reaches, arcsec.

        Returns
        -------
        ndarray of float64, shape (n_node, n_source)
        """
        shift = np.einsum("sij,nj->sni", self.field.matrices, grid.nodes) + self.offset[:, None]
        side = np.arange(-np.ceil(radius / pixel_side(axes)) - 1.0, np.ceil(radius / pixel_side(axes)) + 2.0)
        east, north = axes @ np.stack(np.meshgrid(side, side)).reshape(2, -1)
        order = np.lexsort((pairs.r, pairs.source))
        sums = np.ones((grid.nodes.shape[0], pairs.n_source))
        for source, first in zip(*np.unique(pairs.source[order], return_index=True), strict=True):
            home, moved = order[first], shift[source][:, :, None]
            dx, dy = pairs.dx[home] + east - moved[:, 0], pairs.dy[home] + north - moved[:, 1]
            values = self.evaluate(np.full(dx.size, source), dx.ravel(), dy.ravel()).reshape(dx.shape)
            sums[:, source] = np.sum(plane_share(dx, dy, radius) * values, axis=1)
        return sums / sums.mean(axis=0)


@dataclass(frozen=True, slots=True, eq=False)
class PrfShift:
    """The shifted PRF of all cadences.

    Parameters
    ----------
    motion : ndarray of float64, shape (n_time, 2)
        Motion of the middle of the field from the reference, east and north, arcsec.
    prf : MovedPrf
        The PRF.
    grid : ShiftGrid
        Shifts at which it is evaluated.
    combine : ndarray of float64, shape (n_part, n_node)
        The parts are these sums of the PRF at the nodes.
    mix : ndarray of float64, shape (n_time, n_part)
        Weight of each part at each cadence.
    size : ndarray of float64, shape (n_part,)
        Root of the summed square of the light of each part, largest first.
    sums : ndarray of float64, shape (n_node, n_source)
        By what the PRF of each source at each node is divided, so that it has the same sum over the pixel plane.
    mean : callable
        The PRF of sources in the mean image, of which `factors` are multiples.
    """

    motion: FloatArray
    prf: MovedPrf
    grid: ShiftGrid
    combine: FloatArray
    mix: FloatArray
    size: FloatArray
    sums: FloatArray
    mean: StarFunction

    def factors(self, pairs: PairTable) -> FloatArray:
        """Return the parts of the shifted PRF in units of the mean PRF.

        Parameters
        ----------
        pairs : PairTable
            Any pairs of the same sources.

        Returns
        -------
        ndarray of float64, shape (n_part, n_pair)
            The PRF at cadence t is ``mix[t] @ factors`` times the mean PRF.
        """
        nodes = self.prf.at_nodes(self.grid, pairs.source, pairs.dx, pairs.dy)
        parts = self.combine @ (nodes / self.sums[:, pairs.source])
        return np.ascontiguousarray(parts / self.mean(pairs.source, pairs.dx, pairs.dy))


@dataclass(frozen=True, slots=True, eq=False)
class ShiftModel:
    """A time model whose PRF is shifted, with the slow change that the shift leaves.

    Parameters
    ----------
    shift : PrfShift
        The motion.
    gain : GainModel
        What it leaves of the pixels' change.
    light : UncataloguedLight, optional
        Light of uncatalogued stars that moves along.
    """

    shift: PrfShift
    gain: GainModel
    light: UncataloguedLight | None = None

    @property
    def mix(self) -> FloatArray:
        """Weight of each part at each cadence, shape (n_time, n_part)."""
        return np.hstack([self.shift.mix, self.gain.mix[:, 1:]])

    def factors(self, pairs: PairTable) -> FloatArray:
        """Return the parts of the factor on the mean PRF, shape (n_part, n_pair): the shift's, then the slow ones."""
        return np.vstack([self.shift.factors(pairs), self.gain.factors(pairs)[1:]])


def build_shift(
    motion: FloatArray,
    prf: MovedPrf,
    pairs: PairTable,
    *,
    mean: StarFunction,
    scale: float,
    sums: Callable[[ShiftGrid], FloatArray] | None = None,
    smear: FloatArray | None = None,
) -> PrfShift:
    """Find the fewest parts that hold the PRF at all shifts.

    Parameters
    ----------
    motion : ndarray of float64, shape (n_time, 2)
        Motion of the middle of the field from the reference, arcsec.
    prf : MovedPrf
        The PRF.
    pairs : PairTable
        Pairs that matter.
    mean : callable
        The PRF of sources in the mean image at offsets (arcsec), 1 / pixel.
    scale : float
        Pixel, arcsec.
    sums : callable, optional
        Sums of the PRF over the pixel plane at the nodes of a grid, of `MovedPrf.plane_sums`; by default all the same.
    smear : ndarray of float64, shape (n_time, 2), optional
        Which part of each exposure stars spent where they were in the cadence before, and in that after.

    Returns
    -------
    PrfShift

    Notes
    -----
    With W the weights of the nodes at all cadences and N the PRF at the nodes, the singular vectors of W N with the
    largest values are the parts, of that number, with the least squared error: W = Q R, R N = U S V', parts V' and
    mix Q U S. Splines whose sum over the pixels is constant to a few 1e-5 are better than those of any pixel, but not
    than the light curve of a bright star that drifts over several phases: they are divided by that sum.
    """
    grid = ShiftGrid.around(motion, scale)
    chosen = np.arange(pairs.n_pair)[:: max(1, pairs.n_pair // _MAX_PAIRS)]
    total = np.ones((grid.nodes.shape[0], pairs.n_source)) if sums is None else sums(grid)
    nodes = prf.at_nodes(grid, pairs.source[chosen], pairs.dx[chosen], pairs.dy[chosen])
    nodes /= total[:, pairs.source[chosen]]
    weights = grid.weights(motion)
    if smear is not None:
        before, after = weights[np.maximum(np.arange(motion.shape[0]) - 1, 0)], np.roll(weights, -1, axis=0)
        here = 1.0 - smear.sum(axis=1, keepdims=True)
        weights = here * weights + smear[:, :1] * before + smear[:, 1:] * after
    rotated, triangle = qr(weights, mode="economic")
    values, vectors = eigh(triangle @ (nodes @ nodes.T) @ triangle.T)
    keep = values > max(float(values.max(initial=0.0)), 1e-300) * _TOLERANCE**2
    size, vectors = np.sqrt(values[keep])[::-1], vectors[:, keep][:, ::-1]
    combine = (vectors / size).T @ triangle
    mix = np.ascontiguousarray((rotated @ vectors) * size)
    return PrfShift(motion, prf, grid, combine, mix, size, total, mean)


def _cardinal(size: int, position: FloatArray, order: int) -> FloatArray:
    """Return the splines that are one at one node and zero at the others, shape (n, size)."""
    nodes = np.arange(size) - 0.5 * (size - 1)
    spline = make_interp_spline(nodes, np.eye(size), k=3)
    return np.asarray(spline(np.clip(position, nodes[0], nodes[-1]), nu=order))
