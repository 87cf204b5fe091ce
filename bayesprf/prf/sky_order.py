"""Of what order the sky of an image is: the pixels are asked once the PRF is known."""

from dataclasses import replace

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.photometry.background import BackgroundColumns, ImageBackground, lay_surfaces
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.joint.choice import SIGNIFICANT, step_to_sky
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import MAX_BACKGROUND_ORDER


def order_of(columns: BackgroundColumns) -> IntArray:
    """Return the order of each column, shape (n_column,)."""
    return np.asarray(columns.power.sum(axis=1))


def further_sky(pixels: PixelTable, shape: PrfFit) -> tuple[int, float, float] | None:
    """Ask the pixels for more sky than a fit of the PRF has, with everything else free.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    shape : PrfFit
        The fit, with a sky over all pixels.

    Returns
    -------
    tuple of int, float and float, or None
        The order of the most significant height, that height and its error, electron / s, if it is significant, by one
        step of a fit with all orders, or beside the highest one with the next even and odd one, which no sky may
        have.
    """
    sky = shape.background
    if sky is None:
        return None
    before = int(order_of(sky.columns).max())
    order = MAX_BACKGROUND_ORDER if before < MAX_BACKGROUND_ORDER else before + 2
    columns = lay_surfaces(pixels, np.zeros(pixels.n_pixel, np.int64), order=order, sigma=sky.columns.sigma)
    own = np.flatnonzero(order_of(columns) > before)
    extra = replace(
        columns, matrix=columns.matrix[:, own], patch=columns.patch[own], power=columns.power[own], beneath=None
    )
    height, error = step_to_sky(shape.joint, extra)
    return _most_significant(order_of(columns)[own], height, error)


def sky_beyond(found: ImageBackground, order: int) -> tuple[int, float, float] | None:
    """Return the same of the columns beyond an order in a sky that was fitted."""
    own = order_of(found.columns) > order
    return _most_significant(order_of(found.columns)[own], found.weights[own], found.weights_err[own])


def _most_significant(order: IntArray, height: FloatArray, error: FloatArray) -> tuple[int, float, float] | None:
    ratio = np.abs(height) / np.maximum(error, 1e-300)
    most = int(np.argmax(ratio))
    return (int(order[most]), float(abs(height[most])), float(error[most])) if ratio[most] > SIGNIFICANT else None
