"""What a fit leaves of the mean image, and how the fluxes answer to what was not modelled."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix, diags, vstack

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.photometry.motion_errors import flux_gain
from bayesprf.prf.fit import PrfFit
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import LN10, prf_gradients
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.uncertainty.systematics import NuisanceWidths, carry


@dataclass(frozen=True, eq=False)
class MeanResiduals:
    """The mean image less the model, with all that tests of it need.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    prf : PrfFit
        PRF, image and fluxes.
    prior : GaussianPrior
        Prior of the fluxes.
    widths : NuisanceWidths
        Errors of the model, as the total errors count them.
    error : ndarray of float64, shape (n_source,)
        Total error of the mean flux, electron / s.

    Notes
    -----
    A test is a linear function g of the residuals r = y - X F of the mean image, in which the fluxes are free: with
    K = Lambda^-1 X' C^-1 the residuals are (1 - X K) y. Its variance is that of the noise, and that of the errors of
    PRF, positions and model which the total errors count (`variance`): what these explain is no finding. Light a d that
    is not modelled moves the fluxes by K d a.
    """

    pixels: PixelTable
    prf: PrfFit
    prior: GaussianPrior
    widths: NuisanceWidths
    error: FloatArray

    @cached_property
    def matrix(self) -> PrfMatrix:
        """PRF of the pairs that were fitted."""
        return self.prf.matrix.without(self.pixels.spilled)

    @property
    def pairs(self) -> PairTable:
        """Those pairs."""
        return self.matrix.pairs

    def effect(self, shift: FloatArray, sources: BoolArray) -> float:
        """Return the largest shift of some sources' fluxes in units of their total errors."""
        ratio = np.abs(shift[sources]) / np.maximum(self.error[sources], 1e-300)
        return float(ratio.max(initial=0.0))

    def from_wings(self, saturated: BoolArray) -> BoolArray:
        """Return which saturated sources, (n_source,), have a core that is left out, and no sum of its columns."""
        pairs = self.prf.pairs
        core = self.prf.left_out(self.pixels.spilled)[pairs.pixel] & (pairs.r < np.sqrt(self.prf.prf.pixel_area))
        return saturated & (np.bincount(pairs.source[core], minlength=pairs.n_source) > 0)

    @cached_property
    def flux(self) -> FloatArray:
        """Flux of each source in the mean image, shape (n_source,), 0 without pixels, electron / s."""
        return np.nan_to_num(self.prf.flux)

    @cached_property
    def light(self) -> FloatArray:
        """Light of each pair, shape (n_pair,), electron / s."""
        return self.matrix.light(self.flux)

    @cached_property
    def model(self) -> FloatArray:
        """Light of all sources in each pixel, shape (n_pixel,), electron / s."""
        return np.bincount(self.pairs.pixel, weights=self.light, minlength=self.pairs.n_pixel)

    @cached_property
    def gradients(self) -> dict[str, FloatArray]:
        """Derivatives of the PRF of each pair by position (1 / pixel / arcsec), size and shear, shape (n_pair,)."""
        return prf_gradients(self.prf.prf, self.pairs.dx, self.pairs.dy)

    @cached_property
    def motion_light(self) -> FloatArray:
        """How the light in each pixel changes when all stars move, shape (n_pixel, 2), electron / s / arcsec."""
        slopes = [self.flux[self.pairs.source] * self.gradients[name] for name in ("east", "north")]
        return np.stack([np.bincount(self.pairs.pixel, one, self.pairs.n_pixel) for one in slopes], axis=1)

    @cached_property
    def caught(self) -> FloatArray:
        """Share of each source's PRF that falls on pixels with data, shape (n_source,)."""
        known = np.where(self.ivar[self.pairs.pixel] > 0, self.matrix.values, 0.0)
        return np.bincount(self.pairs.source, weights=known, minlength=self.pairs.n_source)

    @cached_property
    def ivar(self) -> FloatArray:
        """Inverse variance of the noise, shape (n_pixel,), 0 for pixels that were not fitted."""
        return np.where(self.pixels.spilled, 0.0, self.prf.image.ivar)

    @cached_property
    def noise_variance(self) -> FloatArray:
        """Variance of the noise, shape (n_pixel,), 0 for pixels that were not fitted."""
        return np.divide(1.0, self.ivar, out=np.zeros_like(self.ivar), where=self.ivar > 0)

    @cached_property
    def weight(self) -> FloatArray:
        """Inverse variance of noise and relative model error, shape (n_pixel,)."""
        relative = (LN10 * self.prf.intrinsic_scatter * self.prf.scatter_ratio) ** 2 * self.prf.prf.peak
        error = relative[self.pairs.source] * np.maximum(self.light * self.flux[self.pairs.source], 0.0)
        spread = np.bincount(self.pairs.pixel, weights=error, minlength=self.pairs.n_pixel)
        return self.ivar / (1.0 + self.ivar * spread)

    @cached_property
    def residual(self) -> FloatArray:
        """Mean image less the model, shape (n_pixel,), 0 for pixels that were not fitted, electron / s."""
        return np.where(self.ivar > 0, self.prf.image.flux - self.model - self.prf.fixed_light, 0.0)

    @cached_property
    def design(self) -> csr_matrix:
        """X, PRF of each source in each pixel, sparse (n_pixel, n_source), 1 / pixel."""
        return self.pairs.to_sparse(self.matrix.values).T.tocsr()

    @cached_property
    def gain(self) -> csr_matrix:
        """K, response of the fluxes to the pixels, sparse (n_source, n_pixel)."""
        background = self.prf.background
        columns = None if background is None else background.columns
        return flux_gain(self.matrix, self.ivar, self.prior, background=columns)

    def free(self, light: csr_matrix) -> csr_matrix:
        """Return what is left of light, sparse (n_pixel, n), when the fluxes are free."""
        return csr_matrix(light - self.design @ (self.gain @ light))

    def variances(self, *tests: csr_matrix, positions: bool = True) -> list[FloatArray]:
        """Return the variances of linear functions of the residuals.

        Parameters
        ----------
        *tests : csr_matrix of float64, shape (n, n_pixel)
            Sets of functions.
        positions : bool
            Whether the errors of positions count.

        Returns
        -------
        list of ndarray of float64, shape (n,)
            Of noise and of the errors of the model, in the unit of the functions squared; one array per set.
        """
        rows = vstack(tests, format="csr")
        rows = csr_matrix(rows - (rows @ self.design) @ self.gain)
        still = replace(self.widths, position=np.zeros_like(self.widths.position), places=None)
        widths = self.widths if positions else still
        factors = carry(self.prf, self.matrix, rows, flux=self.flux, widths=widths)
        noise = csr_matrix(rows @ diags(np.sqrt(self.noise_variance)))
        total = np.sum([_squares(one) for one in (noise, *factors.values())], axis=0)
        return np.split(total, np.cumsum([one.shape[0] for one in tests])[:-1])


def _squares(rows: csr_matrix) -> FloatArray:
    return np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
