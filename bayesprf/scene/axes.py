"""How far, and which way, one step of column and of row goes on the sky."""

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError
from bayesprf.scene.pairs import offsets
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

# Derived: as for headers that contradict each other, in pixels: the missions' own steps agree to a hundredth.
_SCATTER = 0.1
# Derived: area over squared diagonal is 0.5 for a square pixel, 0.066 with right ascensions in hours: in between.
_THINNEST = 0.18


def pixel_side(axes: FloatArray) -> float:
    """Return the side of a square pixel of the same area as one with these axes, arcsec."""
    return float(np.sqrt(abs(np.linalg.det(axes))))


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


def check_grid(pixels: PixelTable) -> None:
    """Raise unless neighbouring columns, and rows, lie one step apart on the sky, the same everywhere.

    Parameters
    ----------
    pixels : PixelTable
        Sky and detector positions.

    Raises
    ------
    InputError
        If the steps scatter by more than a tenth of a pixel, or a pixel is no area.
    """
    for name, fixed, moving in (("columns", pixels.row, pixels.column), ("rows", pixels.column, pixels.row)):
        steps = _steps(pixels, fixed, moving)
        usual = np.median(steps, axis=0) if len(steps) else np.ones(2)
        scatter = np.sqrt(np.square(steps - usual).sum(axis=1).mean()) if len(steps) else 0.0
        if not scatter <= _SCATTER * np.hypot(*usual):
            raise InputError(
                f"ra, dec: expected one step on the sky between neighbouring {name}, got {np.hypot(*usual):.3g} arcsec"
                f" that scatter by {scatter:.3g}; give positions in float64, and positions, columns and rows in one"
                " order of the pixels"
            )
    axes = pixel_axes(pixels)
    if not pixel_area(pixels) > _THINNEST * float(np.square(axes).sum()):
        raise InputError(
            "ra, dec: expected columns and rows in two directions on the sky, got steps of"
            f" {np.round(axes[:, 0], 3)} and {np.round(axes[:, 1], 3)} arcsec east and north; check"
            " whether positions are rounded, or right ascensions in hours"
        )


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
    steps = _steps(pixels, fixed, moving)
    return np.median(steps, axis=0) if len(steps) else None


def _steps(pixels: PixelTable, fixed: FloatArray, moving: FloatArray) -> FloatArray:
    """Return (dx, dy) between all pixels that differ by one in `moving` only, arcsec, shape (n_step, 2)."""
    order = np.lexsort((moving, fixed))
    first, second = order[:-1], order[1:]
    adjacent = (fixed[second] == fixed[first]) & (np.abs(moving[second] - moving[first] - 1.0) < 1e-6)
    first, second = first[adjacent], second[adjacent]
    dx, dy = offsets(pixels.ra_deg[second], pixels.dec_deg[second], pixels.ra_deg[first], pixels.dec_deg[first])
    return np.stack([dx, dy], axis=1)


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
