"""The integral of the PRF over the sky at several places of the field, with nodes that stay the same all along."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.scene.field_prf import N_COLUMN, area_places, field_columns
from bayesprf.scene.prf import N_EDGE_NODE, LogPrf, area_nodes, wing_area


@dataclass(frozen=True, slots=True, eq=False)
class AreaRule:
    """Nodes and weights of the integral.

    Parameters
    ----------
    columns : csr_matrix of float64, shape (n_node, n_basis)
        Columns of log10 PRF at the nodes; the last `N_EDGE_NODE` lie at rmax, for the light beyond.
    weight : ndarray of float64, shape (n_node,)
        Weights of the nodes, pixel; those at the edge for a wing of area one.
    taper : ndarray of float64, shape (n_node,)
        With what share a node counts where the integral is compared with sums over pixels, `taper`.
    """

    columns: csr_matrix
    weight: FloatArray
    taper: FloatArray

    @classmethod
    def of(cls, basis: PolarBasis, pixel_area: float, base: LogPrf | None) -> "AreaRule":
        """Return the rule of a basis, and of a PRF known beforehand whose logarithm is added."""
        r, phi, weight = area_nodes(basis)
        known = np.zeros(r.size) if base is None else base.log10(r * np.cos(phi), r * np.sin(phi))
        return cls(basis.matrix(r, phi), weight / pixel_area * 10.0**known, taper(r / basis.rmax))

    def shares(self, weights: FloatArray, wing: FloatArray) -> FloatArray:
        """Return the light that each node stands for, shape (n_node, n_place), pixel.

        Parameters
        ----------
        weights : ndarray of float64, shape (n_place, n_basis)
            Weights at each place, dex.
        wing : ndarray of float64, shape (n_wing,)
            Power of r beyond rmax and its changes.
        """
        scale = np.ones(self.weight.size)
        scale[-N_EDGE_NODE:] = wing_area(tuple(wing))
        return np.asarray((self.weight * scale)[:, None] * 10.0 ** (self.columns @ weights.T))

    def areas(self, weights: FloatArray, wing: FloatArray, *, colored: bool = False) -> FloatArray:
        """Return the area at `area_places`, shape (n_place,), for weights over the field, shape (n_field, n_basis)."""
        return np.asarray(self._at_places(weights, wing, colored=colored).sum(axis=0))

    def _at_places(self, weights: FloatArray, wing: FloatArray, *, colored: bool) -> FloatArray:
        place = area_places(colored=colored)
        if weights.shape[0] == 1:
            return np.repeat(self.shares(weights, wing), len(place), axis=1)
        columns = field_columns(place, N_COLUMN.index(weights.shape[0] - colored), colored=colored)
        return self.shares(columns @ weights, wing)

    def gradients(
        self, weights: FloatArray, wing: FloatArray, *, colored: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Return d log10 area by the weights, (n_place, n_basis), and by the wing, (n_place, n_wing)."""
        shares = self._at_places(weights, wing, colored=colored)
        shares /= shares.sum(axis=0)
        beyond = shares[-N_EDGE_NODE:].sum(axis=0)
        return np.asarray((self.columns.T @ shares).T), np.outer(beyond, wing_gradient(wing))


def taper(radius: FloatArray) -> FloatArray:
    """Return with what share a pixel counts at a radius in units of rmax: with a sharp edge light would come and go."""
    return np.asarray((1.0 - np.minimum(radius, 1.0) ** 4) ** 2)


def wing_gradient(wing: FloatArray) -> FloatArray:
    """Return d log10 (area beyond rmax) / d wing at a fixed level at rmax."""
    step = 1e-4
    sides = [[wing_area(tuple(wing + sign * step * unit)) for unit in np.eye(wing.size)] for sign in (1.0, -1.0)]
    return np.asarray(np.diff(np.log10(sides), axis=0)[0] / (-2.0 * step))
