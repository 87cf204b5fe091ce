"""The true PRF of all stars in all pixels as one sparse pattern, constant or following the stars' motion."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.simulation.true_prf import PrfTruth

# Sources whose pixels are looked up at once.
_CHUNK_SOURCES = 500
# Relative accuracy of the PRF interpolated over the motion, and distance (pixel) of the profile's nearest
# singularity in the complex plane: together they set the degree of the Chebyshev series.
_ACCURACY = 2e-7
_SINGULARITY = 0.9
# Smallest half width of the interpolated range, pixel.
_MIN_HALF_WIDTH = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class ChebyshevSeries:
    """Values that follow a shift (c, r): value = sum_k T_i(c / h_c) T_j(r / h_r) part_k over i + j up to a degree.

    Parameters
    ----------
    parts : ndarray of float64, shape (n_part, n_value)
        Coefficients.
    powers : ndarray of int64, shape (n_part, 2)
        Degrees i and j of each part.
    half_width : ndarray of float64, shape (2,)
        Range h of the shifts, pixel.
    """

    parts: FloatArray
    powers: IntArray
    half_width: FloatArray

    def mix(self, shift: FloatArray) -> FloatArray:
        """Return the weight of each part, shape (n_part, ...), for shifts of shape (..., 2), pixel."""
        angle = np.arccos(np.clip(shift / self.half_width, -1.0, 1.0))
        return np.stack([np.cos(i * angle[..., 0]) * np.cos(j * angle[..., 1]) for i, j in self.powers])


@dataclass(frozen=True, slots=True, eq=False)
class TrueMatrix:
    """Share of each star's light in each pixel, as a function of the star's shift from its mean position.

    Parameters
    ----------
    pattern : csr_matrix of float64, shape (n_pixel, n_source)
        Values at the mean positions, 1 / pixel.
    series : ChebyshevSeries, optional
        Values on the pattern as the stars move, to a relative accuracy of 1e-5; None if nothing moves.
    """

    pattern: csr_matrix
    series: ChebyshevSeries | None = None

    def at(self, shift: FloatArray | None) -> csr_matrix:
        """Return the matrix with the stars moved by `shift`, shape (n_source, 2), pixel; None for no motion."""
        if self.series is None or shift is None:
            return self.pattern.copy()
        mix = self.series.mix(shift)[:, self.pattern.indices]
        return self._filled(np.einsum("kn,kn->n", mix, self.series.parts))

    def image(self, flux: FloatArray, shift: FloatArray | None) -> FloatArray:
        """Return noise-free images.

        Parameters
        ----------
        flux : ndarray of float64, shape (n_time, n_source)
            Fluxes, electron / s.
        shift : ndarray of float64, shape (n_time, n_source, 2), optional
            Motion, pixel.

        Returns
        -------
        ndarray of float64, shape (n_time, n_pixel), electron / s
        """
        if self.series is None or shift is None:
            return np.ascontiguousarray((self.pattern @ np.ascontiguousarray(flux.T)).T)
        total = np.zeros((self.pattern.shape[0], flux.shape[0]))
        for weight, part in zip(self.series.mix(shift), self.series.parts, strict=True):
            total += self._filled(part) @ np.ascontiguousarray((weight * flux).T)
        return np.ascontiguousarray(total.T)

    def _filled(self, values: FloatArray) -> csr_matrix:
        return csr_matrix((values, self.pattern.indices, self.pattern.indptr), shape=self.pattern.shape)


def build_true_matrix(
    prf: PrfTruth, star: FloatArray, pixel: FloatArray, *, level: FloatArray, shift: FloatArray | None = None
) -> TrueMatrix:
    """Evaluate a PRF for every star in every pixel that the star lights noticeably.

    Parameters
    ----------
    prf : PrfTruth
        The PRF.
    star, pixel : ndarray of float64, shape (n_source, 2) and (n_pixel, 2)
        Mean position of the stars and centres of the pixels: column and row, pixel.
    level : ndarray of float64, shape (n_source,)
        Light of each star below which pixels are left out, 1 / pixel.
    shift : ndarray of float64, shape (n_time, n_source, 2), optional
        Motion of the stars from their mean positions, pixel.

    Returns
    -------
    TrueMatrix
    """
    largest = np.zeros(2) if shift is None else np.abs(shift).max(axis=(0, 1))
    source_of, pixel_of = _near_pairs(star, pixel, prf.radius(level) + float(np.hypot(*largest)))
    offset = pixel[pixel_of] - star[source_of]
    shape = pixel.shape[0], star.shape[0]
    pattern = csr_matrix((prf.evaluate(offset[:, 0], offset[:, 1]), (pixel_of, source_of)), shape=shape)
    if shift is None:
        return TrueMatrix(pattern)
    pattern.sort_indices()
    rows = np.repeat(np.arange(shape[0]), np.diff(pattern.indptr))
    return TrueMatrix(pattern, _follow(prf, pixel[rows] - star[pattern.indices], np.maximum(largest, _MIN_HALF_WIDTH)))


def _near_pairs(star: FloatArray, pixel: FloatArray, radius: FloatArray) -> tuple[IntArray, IntArray]:
    tree = cKDTree(pixel)
    sources, pixels = [], []
    for start in range(0, star.shape[0], _CHUNK_SOURCES):
        some = slice(start, start + _CHUNK_SOURCES)
        found = tree.query_ball_point(star[some], radius[some])
        count = np.array([len(one) for one in found])
        sources.append(np.repeat(start + np.arange(count.size), count))
        pixels.append(np.concatenate([np.asarray(one, np.int64) for one in found]))
    return np.concatenate(sources), np.concatenate(pixels)


def _follow(prf: PrfTruth, offset: FloatArray, half_width: FloatArray) -> ChebyshevSeries:
    """Interpolate the PRF over shifts within the half widths at Chebyshev nodes."""
    ratio = _SINGULARITY / float(half_width.max())
    rate = ratio + np.sqrt(max(ratio**2 - 1.0, 0.05))
    degree = int(np.clip(np.ceil(-np.log(_ACCURACY) / np.log(rate)), 2, 24))
    angle = (np.arange(degree + 1) + 0.5) * np.pi / (degree + 1)
    forward = np.cos(np.outer(np.arange(degree + 1), angle)) * 2.0 / (degree + 1)
    forward[0] /= 2.0
    powers = np.array([(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)], np.int64)
    parts = np.zeros((powers.shape[0], offset.shape[0]))
    for a, column in enumerate(np.cos(angle) * half_width[0]):
        for b, row in enumerate(np.cos(angle) * half_width[1]):
            value = prf.evaluate(offset[:, 0] - column, offset[:, 1] - row)
            parts += (forward[powers[:, 0], a] * forward[powers[:, 1], b])[:, None] * value
    return ChebyshevSeries(parts, powers, half_width)
