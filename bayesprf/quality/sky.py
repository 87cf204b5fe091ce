"""Sky left in the pixels: light that does not grow with the brightness of the stars."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray
from bayesprf.prf.fit import PrfFit
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.stats import mad_sigma

# Rings around the stars, pixel, in each of which the PRF may be off by a factor.
_RINGS = np.geomspace(0.7, 30.0, 16)
# Accuracy: passes of the weights of outliers.
_N_PASS = 6
# Derived: outliers are weighed down from so many standard deviations on, which is 99 % efficient for normal errors
# (Huber 1964).
_HUBER = 2.0
# Rounding: relative ridge that keeps columns without pixels invertible.
_RIDGE = 1e-9
# Accuracy: points of the integral of the PRF over a ring, along the radius and around.
_N_NODE, _N_ANGLE = 4, 24


@dataclass(frozen=True, slots=True, eq=False)
class SkyTest:
    """The sky that a fit has left.

    Parameters
    ----------
    level : float
        A constant for all pixels, electron / s / pixel; NaN where no pixel tells.
    scatter : float
        Its standard deviation as the residuals of the cutouts confirm it.
    shift : ndarray of float64, shape (n_source,)
        What it adds to the fluxes, directly and by what the PRF has swallowed of it, electron / s.
    test : csr_matrix of float64, shape (1, n_pixel)
        The function of the residuals that gave the level.
    """

    level: float
    scatter: float
    shift: FloatArray
    test: csr_matrix


def measure_sky(left: MeanResiduals) -> SkyTest:
    """Measure the constant that the residuals hold.

    Parameters
    ----------
    left : MeanResiduals
        The residuals.

    Returns
    -------
    SkyTest

    Notes
    -----
    A PRF that was learned from pixels with sky has it in its wings, too bright for bright stars and too faint for
    faint ones. So the residuals are fitted by the constant and by errors of the PRF in rings around all stars, with
    the fluxes free and robustly, as light of unknown stars only adds. Light of the PRF that should not be there makes
    all fluxes too large by its share.
    """
    good = left.ivar > 0
    columns = _columns(left)
    scale = np.sqrt(left.weight @ columns**2)
    kept = scale > 0
    columns, scale = columns[:, kept], scale[kept]
    if columns.shape[1] == 0 or not good.any():
        return SkyTest(np.nan, np.inf, np.zeros(left.error.size), csr_matrix((1, good.size)))
    columns = columns / scale
    weight, found, inverse = left.weight, np.zeros(columns.shape[1]), np.eye(columns.shape[1])
    for _ in range(_N_PASS):
        inverse = np.linalg.inv((columns.T * weight) @ columns + _RIDGE * np.eye(columns.shape[1]))
        found = inverse @ (columns.T @ (weight * left.residual))
        weight = left.weight * _huber((left.residual - columns @ found) * np.sqrt(left.weight), good)
    test = (columns @ inverse[0]) * weight / scale[0]
    scatter = _cutout_scatter(left.pixels.stamp, test * (left.residual - columns @ found))
    level = float(test @ left.residual)
    shift = level * (np.asarray(left.gain @ good.astype(np.float64)) + _swallowed(left) * left.flux)
    return SkyTest(level, scatter, shift, csr_matrix(test[None]))


def prefer_told(sky: SkyTest, error: float, shape: PrfFit) -> tuple[SkyTest, float]:
    """Return the sky that the fit of the PRF told from wings, and its error; where it told none, what residuals hold.

    Parameters
    ----------
    sky : SkyTest
        What residuals hold.
    error : float
        Its standard deviation, electron / s.
    shape : PrfFit
        The fit.
    """
    told = shape.sky_found
    if told is None:
        return sky, error
    shift = sky.shift * (told.level / sky.level if sky.level else 1.0)
    if told.flux is not None:
        shift = np.nan_to_num(shape.flux - told.flux)
    return replace(sky, level=told.level, shift=shift), told.error


def _columns(left: MeanResiduals) -> FloatArray:
    """Return the constant, then the light in each ring, with fluxes free, shape (n_pixel, n_column)."""
    pairs, side = left.pairs, np.sqrt(left.prf.prf.pixel_area)
    ring = np.digitize(pairs.r / side, _RINGS)
    shape = (pairs.n_pixel, 1 + _RINGS.size + 1)
    light = csr_matrix((left.light, (pairs.pixel, 1 + ring)), shape)
    constant = np.flatnonzero(left.ivar > 0)
    light = light + csr_matrix((np.ones(constant.size), (constant, np.zeros(constant.size, int))), shape)
    return np.asarray(left.free(light).todense())


def _swallowed(left: MeanResiduals) -> float:
    """Return the share by which a constant of 1 electron / s makes the PRF too bright, by the pixels that trained it.

    In each ring the PRF takes sum w l / sum w l**2 of its light l from the constant, which enters all fluxes.
    """
    pairs, side = left.pairs, np.sqrt(left.prf.prf.pixel_area)
    used = ~left.pixels.spilled[left.prf.matrix.pairs.pixel]
    weight = left.weight[pairs.pixel] * left.prf.training[used]
    ring = np.digitize(pairs.r / side, _RINGS)
    one, two = (np.bincount(ring, weight * left.light**power, _RINGS.size + 1) for power in (1, 2))
    taken = np.divide(one, two, out=np.zeros_like(one), where=two > 0)
    return float(taken @ _ring_shares(left))


def _ring_shares(left: MeanResiduals) -> FloatArray:
    """Return the share of the PRF's light in each ring, shape (n_ring,)."""
    prf = left.prf.prf
    side = np.sqrt(prf.pixel_area)
    edges = side * np.concatenate([[0.0], _RINGS, [2.0 * _RINGS[-1]]])
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODE)
    angle = np.linspace(0.0, 2.0 * np.pi, _N_ANGLE, endpoint=False)
    half = 0.5 * np.diff(edges)
    radius = 0.5 * (edges[1:] + edges[:-1])[:, None] + half[:, None] * nodes
    around = prf.evaluate(np.outer(radius, np.cos(angle)).ravel(), np.outer(radius, np.sin(angle)).ravel())
    mean = around.reshape(*radius.shape, angle.size).mean(axis=-1)
    return np.sum(mean * radius * weights, axis=1) * half * (2.0 * np.pi / prf.pixel_area)


def _huber(residual: FloatArray, good: np.ndarray) -> FloatArray:
    """Return weights of residuals over errors."""
    limit = _HUBER * max(float(mad_sigma(residual[good])), 1e-12)
    return np.where(good, np.minimum(1.0, limit / np.maximum(np.abs(residual), 1e-300)), 0.0)


def _cutout_scatter(stamp: np.ndarray, parts: FloatArray) -> float:
    """Return the standard deviation of a sum over pixels whose errors within a cutout go together (White 1980)."""
    label = np.unique(stamp, return_inverse=True)[1]
    sums = np.bincount(label, weights=parts)
    return float(np.sqrt(np.sum(sums**2) * sums.size / max(sums.size - 1, 1)))
