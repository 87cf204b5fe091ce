"""Flux conservation of a PRF: a star's light adds up to the same total at every pixel phase of the star."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError
from bayesprf.scene.axes import pixel_side
from bayesprf.scene.prf import LN10, PrfModel, round_offsets, wing_starts

# Accuracy: pixel phases of the star, per axis.
_N_PHASE = 4
# Measured by docs/scripts/constants.py --truth plain: standard deviation of the sum over pixels about its
# mean. With pixels alone, a PRF that does not conserve flux looks like fluxes that follow the pixel phase: it has to
# hold as well as fluxes are to be right, to 0.025 %; half and twice change that by 0.001 %.
SUM_SIGMA = 2e-4
# Cost: pixels of this radius at all phases take 300 MB; the PRFs of these missions reach 20.
_MAX_RADIUS_PIX = 300
# Measured by docs/scripts/constants.py --truth plain: splines that miss single pixels by some part miss the sum by this
# share of it. Half and twice give errors of 0.025 %, as it is.
SHARE_OF_SCATTER = 0.03
# Rounding: step of the numerical derivative of the map by the shear.
_SHEAR_STEP = 1e-5


def plane_share(dx: FloatArray, dy: FloatArray, radius: float) -> FloatArray:
    """Return with what share pixels of the plane at offsets from a star (arcsec) count: it fades out at the radius."""
    inside = np.minimum(np.hypot(dx, dy) / radius, 1.0)
    return np.asarray((1.0 - inside**4) ** 2)


@dataclass(frozen=True, slots=True, eq=False)
class PixelPhases:
    """Pixels around a star at several pixel phases.

    Parameters
    ----------
    dx, dy : ndarray of float64, shape (n_phase, n_pixel)
        Offset of the pixels from the star towards east and north, arcsec.
    share : ndarray of float64, shape (n_phase, n_pixel)
        With what share a pixel counts, (1 - (r / radius)**4)**2. With a sharp edge light would come
        and go at the rim as the star moves.
    """

    dx: FloatArray
    dy: FloatArray
    share: FloatArray

    @classmethod
    def around(cls, axes: FloatArray, radius: float) -> "PixelPhases":
        """Return all pixels within a radius of the star at any of its phases.

        Parameters
        ----------
        axes : ndarray of float64, shape (2, 2)
            Sky step of one column and one row, arcsec, from `bayesprf.scene.axes.pixel_axes`.
        radius : float
            arcsec.

        Raises
        ------
        InputError
            If these are too many.
        """
        side = pixel_side(axes)
        if radius > _MAX_RADIUS_PIX * side:
            raise InputError(
                f"rmax: expected at most {_MAX_RADIUS_PIX} pixels ({_MAX_RADIUS_PIX * side:.4g} arcsec), got"
                f" {radius:g} arcsec; a star's light beyond is its wing, which is fitted along"
            )
        half = int(np.ceil(radius / side)) + 1
        column, row = (grid.ravel() for grid in np.meshgrid(*2 * [np.arange(-half, half + 1.0)]))
        near = np.hypot(*(axes @ np.stack([column, row]))) < radius + np.hypot(*axes.T).max()
        phase = (np.arange(_N_PHASE) + 0.5) / _N_PHASE - 0.5
        shift = np.stack([grid.ravel() for grid in np.meshgrid(phase, phase)])
        offset = np.stack([column[near], row[near]])[:, None, :] - shift[:, :, None]
        dx, dy = np.einsum("ij,jkl->ikl", axes, offset)
        return cls(dx, dy, plane_share(dx, dy, radius))

    @property
    def n_phase(self) -> int:
        """Number of pixel phases."""
        return int(self.dx.shape[0])

    def equations(self, prf: PrfModel) -> tuple[FloatArray, FloatArray]:
        """Linearise flux conservation about a PRF.

        Parameters
        ----------
        prf : PrfModel
            The PRF; it need not be normalised.

        Returns
        -------
        rows : ndarray of float64, shape (n_phase, n_basis)
            Derivatives of the sum at each phase, relative to their mean over the phases.
        data : ndarray of float64, shape (n_phase,)
            What `rows @ weights` should be, with the precision `ivar(scatter)`.

        Notes
        -----
        With m = share PRF(p - x) the sums S(x) = sum_p m obey S(x) = mean S, because a pixel is a box, boxes tile
        the plane, and the share changes slowly; d S / d w = ln10 sum_p m A. Without it the PRF can follow
        the period of the pixels, and fluxes fitted with it follow the pixel phases of the stars.
        """
        from bayesprf.linalg.compiled.polar import add_columns

        basis, (place, light, _) = prf.basis, self._light(prf)
        n_pixel, starts, shape = self.dx.size, wing_starts(1 + len(prf.wing_bends)), (basis.n_core, basis.n_phi_knots)
        total = light.reshape(self.n_phase, -1).sum(axis=1)
        mean = float(total.mean())
        rows = np.zeros((self.n_phase, basis.n_basis + starts.size))
        indptr, one = np.arange(self.n_phase + 1) * self.dx.shape[1], np.zeros(n_pixel, np.int64)
        factors = np.ones((1, 1))
        add_columns(
            indptr, np.arange(n_pixel), one, place, LN10 / mean * light, factors, starts, basis.knots, shape, rows
        )
        rows = rows[:, : basis.n_basis] - rows[:, : basis.n_basis].mean(axis=0)
        return rows, rows @ prf.weights - (total / mean - 1.0)

    def misses(self, prf: PrfModel) -> FloatArray:
        """Return by how much the sum at each phase is off their mean, relative, shape (n_phase,)."""
        total = self._light(prf)[1].reshape(self.n_phase, -1).sum(axis=1)
        return np.asarray(total / total.mean() - 1.0)

    def by_shear(self, prf: PrfModel) -> FloatArray:
        """Return the derivatives of `misses` by the shear of the PRF, shape (n_phase, 2)."""
        place, light, gradient = self._light(prf)
        if prf.base is not None:
            gradient += prf.base.gradient(*place.T)
        total, change = light.reshape(self.n_phase, -1).sum(axis=1), np.empty((self.n_phase, 2))
        for k, step in enumerate(_SHEAR_STEP * np.eye(2)):
            turned = self._round(prf.sheared(*step)) - self._round(prf.sheared(*-step))
            moved = np.sum(gradient * turned, axis=1) / (2.0 * _SHEAR_STEP)
            change[:, k] = (light * moved).reshape(self.n_phase, -1).sum(axis=1)
        mean = float(total.mean())
        return np.asarray((change - np.outer(total / mean, change.mean(axis=0))) / mean)

    def _round(self, prf: PrfModel) -> FloatArray:
        """Return where the pixels lie in the coordinates in which the core is round, shape (n, 2), arcsec."""
        return np.stack(round_offsets(self.dx.ravel(), self.dy.ravel(), prf.shear), axis=1)

    def _light(self, prf: PrfModel) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return where the pixels lie in the coordinates in which the core is round, what each counts, and a gradient.

        The latter is that of the logarithm of the splines, without what is known beforehand, 1 / arcsec.
        """
        from bayesprf.linalg.compiled.polar import evaluate_pairs

        basis, n_pixel = prf.basis, self.dx.size
        place = self._round(prf)
        wing, one = np.array([prf.wing_slope, *prf.wing_bends]), np.zeros(n_pixel, np.int64)
        shape, log, gradient = (basis.n_core, basis.n_phi_knots), np.empty(n_pixel), np.empty((n_pixel, 2))
        evaluate_pairs(one, place, prf.weights[None], wing, wing_starts(wing.size), basis.knots, shape, log, gradient)
        if prf.base is not None:
            log += prf.base.log10(*place.T)
        return place, self.share.ravel() * 10.0**log, gradient
