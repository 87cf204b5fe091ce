"""How far, and which way, one step of column and of row goes on the sky."""

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.scene.pairs import offsets
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable


def pixel_axes(pixels: PixelTable) -> FloatArray:
    """Measure the sky step of one column and of one row from neighbouring pixels.

    Parameters
    ----------
    pixels : PixelTable
        Sky and detector positions.

    Returns
    -------
    ndarray of float64, shape (2, 2)
        ``[[dx/dcolumn, dx/drow], [dy/dcolumn, dy/drow]]``, arcsec per pixel; medians over all
        neighbours, so scattered stamps and mild distortion do no harm. An axis without any pair of
        neighbours is taken at a right angle to the other; without both, from the instrument.
    """
    along_column = _median_step(pixels, pixels.row, pixels.column)
    along_row = _median_step(pixels, pixels.column, pixels.row)
    scale = pixels.instrument.pixel_scale
    if along_column is None and along_row is None:
        return np.diag([scale, scale])
    if along_column is None and along_row is not None:
        along_column = np.array([along_row[1], -along_row[0]])
    if along_row is None and along_column is not None:
        along_row = np.array([-along_column[1], along_column[0]])
    return np.stack([along_column, along_row], axis=1)  # type: ignore[list-item]


def pixel_area(pixels: PixelTable) -> float:
    """Measure the area of a pixel on the sky.

    Parameters
    ----------
    pixels : PixelTable
        Sky and detector positions.

    Returns
    -------
    float
        arcsec**2.
    """
    return float(abs(np.linalg.det(pixel_axes(pixels))))


def _median_step(pixels: PixelTable, fixed: FloatArray, moving: FloatArray) -> FloatArray | None:
    """Return the median (dx, dy) between pixels that differ by one in `moving` only, or None."""
    order = np.lexsort((moving, fixed))
    first, second = order[:-1], order[1:]
    adjacent = (fixed[second] == fixed[first]) & (np.abs(moving[second] - moving[first] - 1.0) < 1e-6)
    if not adjacent.any():
        return None
    first, second = first[adjacent], second[adjacent]
    dx, dy = offsets(pixels.ra_deg[second], pixels.dec_deg[second], pixels.ra_deg[first], pixels.dec_deg[first])
    return np.array([np.median(dx), np.median(dy)])


def source_places(
    pixels: PixelTable, sources: SourceTable, offset: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Return where the sources fall on the detector, measured from the pixel nearest to each.

    Parameters
    ----------
    pixels : PixelTable
        Sky and detector positions.
    sources : SourceTable
        Sky positions.
    offset : tuple of float
        Added to the catalogue positions, east and north, arcsec.

    Returns
    -------
    column, row : ndarray of float64, shape (n_source,)
        pixel.
    """
    inverse = np.linalg.inv(pixel_axes(pixels))
    column, row = np.empty(sources.n_source), np.empty(sources.n_source)
    for i in range(sources.n_source):
        dx, dy = offsets(pixels.ra_deg, pixels.dec_deg, sources.ra_deg[i], sources.dec_deg[i])
        dx, dy = dx - offset[0], dy - offset[1]
        near = np.argmin(dx**2 + dy**2)
        step = inverse @ np.array([dx[near], dy[near]])
        column[i], row[i] = pixels.column[near] - step[0], pixels.row[near] - step[1]
    return column, row
