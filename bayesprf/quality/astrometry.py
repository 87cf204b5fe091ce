"""Stars that do not lie where the fit has them."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, vstack

from bayesprf.arrays import FloatArray
from bayesprf.quality.residuals import MeanResiduals

# Rounding: relative ridge that keeps a star without gradients invertible.
_RIDGE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class PositionTest:
    """How far each star lies from where the fit has it.

    Parameters
    ----------
    offset : ndarray of float64, shape (n_source, 2)
        Towards east and north, arcsec.
    gain : ndarray of float64, shape (n_source,)
        Square root of the chi-square that the offset takes away.
    loss : ndarray of float64, shape (n_source,)
        Flux that the fit misses because of it, electron / s.
    tests : csr_matrix of float64, shape (2 n_source, n_pixel)
        The functions of the residuals that gave the offsets, all towards east first.
    """

    offset: FloatArray
    gain: FloatArray
    loss: FloatArray
    tests: csr_matrix


def measure_offsets(left: MeanResiduals) -> PositionTest:
    """Measure the offset of every star, its own flux free.

    Parameters
    ----------
    left : MeanResiduals
        The residuals.

    Returns
    -------
    PositionTest

    Notes
    -----
    One Gauss-Newton step per star. A PRF that lies off by d catches less light, by the share
    d' (grad P C^-1 grad P') d / (2 P' C^-1 P), however small the error of d.
    """
    pairs, flux = left.pairs, left.flux[left.pairs.source]
    slopes = np.stack([left.gradients["east"], left.gradients["north"]], axis=1)
    columns = np.column_stack([left.matrix.values, flux[:, None] * slopes])
    weight = left.weight[pairs.pixel]
    gram = _sums(left, weight, columns, columns)
    score = _sums(left, weight, columns, left.residual[pairs.pixel][:, None])[:, :, 0]
    size = np.einsum("sii->si", gram)
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    unit = gram / (scale[:, :, None] * scale[:, None, :]) + _RIDGE * np.eye(3)
    inverse = np.linalg.inv(unit) / (scale[:, :, None] * scale[:, None, :])
    rows = np.einsum("pij,pj->pi", inverse[pairs.source], columns)[:, 1:] * weight[:, None]
    tests = [csr_matrix((row, (pairs.source, pairs.pixel)), (pairs.n_source, pairs.n_pixel)) for row in rows.T]
    offset = np.einsum("sij,sj->si", inverse, score)[:, 1:]
    taken = np.einsum("si,si->s", offset, score[:, 1:])
    curve = _sums(left, weight, slopes, slopes)
    own = np.maximum(np.bincount(pairs.source, weight * left.matrix.values**2, pairs.n_source), 1e-300)
    loss = 0.5 * np.einsum("si,sij,sj->s", offset, curve, offset) / own * left.flux
    return PositionTest(offset, np.sqrt(np.maximum(taken, 0.0)), loss, vstack(tests, format="csr"))


def _sums(left: MeanResiduals, weight: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """Return weighted sums of products over the pixels of each source, shape (n_source, n_first, n_second)."""
    source, n_source = left.pairs.source, left.pairs.n_source
    return np.stack(
        [
            np.stack([np.bincount(source, weight * a * b, n_source) for b in second.T], axis=-1)
            for a in first.T
        ],
        axis=1,
    )  # fmt: skip
