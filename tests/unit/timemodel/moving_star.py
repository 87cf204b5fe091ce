"""One Gaussian star that moves over a square of pixels."""

from dataclasses import replace

import numpy as np

from bayesprf.instruments import K2
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.timemodel.shift import FieldMotion

SCALE, WIDTH = 4.0, 2.6  # arcsec: a pixel, and a PRF as sharp as Kepler's


def gaussian(source, dx, dy):
    return SCALE**2 / (2 * np.pi * WIDTH**2) * np.exp(-0.5 * (dx**2 + dy**2) / WIDTH**2)


def path(n=300):
    """Go to and fro by a pixel, along a bent line with some width."""
    rng = np.random.default_rng(3)
    along = rng.uniform(-1.0, 1.0, n)
    return SCALE * np.stack([along, -0.5 * along + 0.1 * along**2 + 0.05 * rng.normal(size=n)], axis=1)


def still(n_source=1):
    return FieldMotion(np.zeros((n_source, 2)), (), np.zeros((0, 2, 2)))


def square(side=11):
    """Return the pairs of one star in the middle of a square of pixels."""
    x, y = np.meshgrid(*(2 * [SCALE * (np.arange(side) - side // 2)]))
    n = x.size
    return PairTable(np.zeros(n, np.int64), np.arange(n), x.ravel().astype(float), y.ravel().astype(float), 1, n)


def shifted(motion, pairs):
    return np.stack([gaussian(pairs.source, pairs.dx - east, pairs.dy - north) for east, north in motion])


def observe(motion, flux, sky):
    """Return pixels with one star that moves, on a sky that changes."""
    pairs, rng = square(), np.random.default_rng(5)
    data = flux[:, None] * shifted(motion, pairs) + sky[:, None]
    error = np.full(data.shape, 2.0)
    column, row = np.divmod(np.arange(pairs.n_pixel), 11)
    pixels = PixelTable(
        0.02 * np.arange(flux.size), data + 2.0 * rng.standard_normal(data.shape), error,
        10.0 + pairs.dx / 3600, pairs.dy / 3600, column, row, instrument=replace(K2, pixel_scale=SCALE),
    )  # fmt: skip
    return pixels, pairs


def mean_of(pairs):
    return PrfMatrix.constant(pairs, gaussian(pairs.source, pairs.dx, pairs.dy))
