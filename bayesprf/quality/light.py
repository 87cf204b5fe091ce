"""Light that no source of the catalogue explains: peaks of the residuals that look like stars."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.sources import SourceTable

# Cost: pixels that are looked at, those with the largest residuals; those that are weighed with all errors of the
# model.
_N_FIRST, _N_WEIGHED = 500, 60
# Derived: reach of the light that a peak is weighed with, pixel: 99 % of the squared light, which is what pixels tell,
# of a Moffat profile (slope 2.5) of 2 pixels full width at half maximum; share of that which must not be a change of
# known fluxes: with less the flux of a star there is known seven times worse than alone (0.02**-0.5).
_REACH, _LEAST_OWN = 2.6, 0.02


@dataclass(frozen=True, slots=True, eq=False)
class LightPeaks:
    """Peaks of the residuals.

    Parameters
    ----------
    pixel : ndarray of int64, shape (n_peak,)
        Where.
    flux : ndarray of float64, shape (n_peak,)
        Flux of a star in the middle of that pixel, all others free, electron / s.
    shift : ndarray of float64, shape (n_source, n_peak)
        What its light adds to the fluxes, electron / s.
    gain : ndarray of float64, shape (n_peak,)
        Square root of the chi-square that a star there takes away.
    tests : csr_matrix of float64, shape (n_peak, n_pixel)
        The functions of the residuals that gave the fluxes.
    """

    pixel: IntArray
    flux: FloatArray
    shift: FloatArray
    gain: FloatArray
    tests: csr_matrix


def find_peaks(left: MeanResiduals) -> LightPeaks:
    """Find the peaks of the residuals.

    Parameters
    ----------
    left : MeanResiduals
        The residuals.

    Returns
    -------
    LightPeaks

    Notes
    -----
    The score test for one more star: P' C^-1 (1 - X K) y / P' C^-1 (1 - X K) P.
    """
    pixel = np.argsort(-left.residual * np.sqrt(left.weight), kind="stable")[:_N_FIRST]
    pixel = pixel[left.residual[pixel] > 0]
    star = _star_light(left, pixel)
    free = left.free(star)
    own = np.asarray(star.power(2).T @ left.weight).ravel()
    information = np.asarray(free.power(2).T @ left.weight).ravel()
    score = free.T @ (left.weight * left.residual)
    rank = np.where(information > _LEAST_OWN * own, score, 0.0) / np.sqrt(np.maximum(information, 1e-300))
    best = np.argsort(-rank, kind="stable")[:_N_WEIGHED]
    best = best[rank[best] > 0]
    tests = diags(1.0 / information[best]) @ free[:, best].T @ diags(left.weight)
    flux = score[best] / information[best]
    shift = np.asarray((left.gain @ star[:, best]).todense()) * flux
    return LightPeaks(pixel[best], flux, shift, rank[best], csr_matrix(tests))


def _star_light(left: MeanResiduals, pixel: IntArray) -> csr_matrix:
    """Return the PRF of stars in the middle of some pixels, sparse (n_pixel, n)."""
    pixels, prf = left.pixels, left.prf.prf
    names = tuple(str(one) for one in pixel)
    stars = SourceTable(names, pixels.ra_deg[pixel], pixels.dec_deg[pixel], np.ones(pixel.size)) if names else None
    if stars is None:
        return csr_matrix((pixels.n_pixel, 0))
    pairs = build_pairs(pixels, stars, _REACH * np.sqrt(prf.pixel_area))
    values = np.where(left.ivar[pairs.pixel] > 0, prf.evaluate(pairs.dx, pairs.dy), 0.0)
    return csr_matrix((values, (pairs.pixel, pairs.source)), (pixels.n_pixel, pixel.size))
