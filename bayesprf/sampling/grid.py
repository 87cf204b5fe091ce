"""The log likelihood of the hyperparameters with all coefficients integrated out, in the eigenbasis."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.sampling.hyper import Hyperprior
from bayesprf.sampling.spectrum import Spectrum

# Numbers in one temporary array: 16 MB.
_CHUNK = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class Marginal:
    """log p(y | width, noise scale, zero point) at one noise level, from sums over coefficients.

    Parameters
    ----------
    eigenvalues : ndarray of float64, shape (n,)
        Different eigenvalues lam of all batch rows and coefficients.
    repeats : float
        How many batch rows share each.
    peak2, peak_offset, offset2 : ndarray of float64, shape (n,)
        Sums over the batch rows that share them of the squared peak, peak times offset, and squared offset.
    chi2, log_noise : float
        Totals over the batch rows.
    n_used : int
        Number of observations.

    Notes
    -----
    With a = (width / k)**2 for noise scale k, and d the change of the zero point,

    log L = -1/2 [log_noise + 2 n log k + chi2 / k**2 + sum log(1 + a lam) + sum lam (peak - d offset)**2 / (k**2 q)],

    q = 1 + a lam. The squares are sums of positive numbers: nothing large cancels. A normal prior of d is integrated
    exactly.
    """

    eigenvalues: FloatArray
    repeats: float
    peak2: FloatArray
    peak_offset: FloatArray
    offset2: FloatArray
    chi2: float
    log_noise: float
    n_used: int

    @classmethod
    def of(cls, spectrum: Spectrum) -> "Marginal":
        """Sum a spectrum over the batch rows that share eigenvectors."""
        repeats = spectrum.peak.shape[0] / spectrum.eigenvalues.shape[0]
        shared = spectrum.is_shared

        def gather(product: FloatArray) -> FloatArray:
            return product.sum(axis=0) if shared else product.ravel()

        return cls(
            eigenvalues=spectrum.eigenvalues.ravel(),
            repeats=repeats,
            peak2=gather(spectrum.peak**2),
            peak_offset=gather(spectrum.peak * spectrum.offset),
            offset2=gather(np.broadcast_to(spectrum.offset**2, spectrum.peak.shape)),
            chi2=float(spectrum.chi2.sum()),
            log_noise=spectrum.log_noise,
            n_used=spectrum.n_used,
        )

    def log_likelihood(
        self, width: FloatArray, noise_scale: FloatArray, zero_point: float | Hyperprior = 1.0
    ) -> FloatArray:
        """Return the log likelihood of pairs of width and noise scale.

        Parameters
        ----------
        width, noise_scale : ndarray of float64, shape (n_node,)
            The nodes.
        zero_point : float or Hyperprior
            Its value, or its normal prior, which is integrated out.

        Returns
        -------
        ndarray of float64, shape (n_node,)
        """
        log_det, squares = self._sums(width, noise_scale)
        given = self.log_noise + 2.0 * self.n_used * np.log(noise_scale) + self.chi2 / noise_scale**2 + log_det
        if not isinstance(zero_point, Hyperprior):
            change = zero_point - 1.0
            return -0.5 * (given + squares[0] - 2.0 * change * squares[1] + change**2 * squares[2])
        start, variance = zero_point.center - 1.0, zero_point.scale**2
        precision = squares[2] + 1.0 / variance
        mean = (squares[1] + start / variance) / precision
        at_mean = squares[0] - 2.0 * mean * squares[1] + mean**2 * squares[2] + (mean - start) ** 2 / variance
        return -0.5 * (given + at_mean + np.log(variance * precision))

    def zero_point_posterior(
        self, width: FloatArray, noise_scale: FloatArray, prior: Hyperprior
    ) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the zero point given the other hyperparameters.

        Parameters
        ----------
        width, noise_scale : ndarray of float64, shape (n_node,)
            The other hyperparameters.
        prior : Hyperprior
            Normal prior of the zero point.

        Returns
        -------
        mean, std : ndarray of float64, shape (n_node,)
        """
        squares = self._sums(width, noise_scale)[1]
        precision = squares[2] + prior.scale**-2.0
        return 1.0 + (squares[1] + (prior.center - 1.0) * prior.scale**-2.0) / precision, precision**-0.5

    def _sums(self, width: FloatArray, noise_scale: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log det, shape (n_node,), and the three weighted squares, shape (3, n_node)."""
        ratio = (width / noise_scale) ** 2
        log_det, squares = np.empty(width.size), np.empty((3, width.size))
        table = (self.eigenvalues * np.stack([self.peak2, self.peak_offset, self.offset2])).T
        step = max(1, _CHUNK // self.eigenvalues.size)
        for start in range(0, width.size, step):
            part = slice(start, start + step)
            grown = 1.0 + ratio[part, None] * self.eigenvalues
            log_det[part] = self.repeats * np.log(grown).sum(axis=1)
            squares[:, part] = ((1.0 / grown) @ table / noise_scale[part, None] ** 2).T
        return log_det, squares
