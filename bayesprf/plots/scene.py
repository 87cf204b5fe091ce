"""The mean image with the sources of the catalogue drawn on it."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from bayesprf.arrays import FloatArray, IntArray, NamedDict
from bayesprf.checks import as_float, check_shape
from bayesprf.plots.canvas import FLUX_LABEL, NO_PIXEL, add_colorbar, new_figure, stretch
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pairs import offsets
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

# One panel for the whole field if it has no more places than this, or at least this share of them has a pixel.
_ONE_PANEL_PLACES, _ONE_PANEL_SHARE = 12_000, 0.2
_MAX_STAMPS = 12
# More sources than this in a panel are drawn without numbers.
_MAX_NUMBERS = 40
_MARGIN = 1.0
# Circles get smaller where there are more sources than this.
_MANY_SOURCES = 150


def plot_scene(
    pixels: PixelTable,
    sources: SourceTable,
    *,
    image: Any = None,
    offset: tuple[float, float] = (0.0, 0.0),
    axes: Any = None,
) -> Figure:
    """Draw the mean image, and the sources as circles whose size follows their flux.

    Parameters
    ----------
    pixels : PixelTable
        Data and positions of the pixels.
    sources : SourceTable
        Positions and fluxes of the sources; the number beside a circle is the place in this table.
    image : array-like, shape (n_pixel,), optional
        Pixel values, electron / s; the mean over time by default.
    offset : tuple of float
        How far the stars lie from their catalogue positions towards east and north, arcsec.
    axes : Axes, optional
        Where to draw the whole field; by default a new figure, with one panel per cutout where the
        cutouts are far apart.

    Returns
    -------
    matplotlib.figure.Figure
    """
    values = _mean_image(pixels) if image is None else as_float(image, "image", ndim=1)
    check_shape(values, (pixels.n_pixel,), "image", "n_pixel")
    column, row = source_places(pixels, sources, offset)
    places = np.stack([column, row, _marker_sizes(sources)])
    parts = [np.arange(pixels.n_pixel)] if axes is not None or _fits_one_panel(pixels) else _stamps(pixels, values)
    panels = _new_panels(len(parts), pixels) if axes is None else [axes]
    norm = stretch(values)
    for ax, part in zip(panels, parts, strict=True):
        drawn = ax.imshow(_grid(pixels, values, part), norm=norm, **_image_style(pixels, part))
        _draw_sources(ax, places, _edges(pixels, part))
        ax.set_facecolor(NO_PIXEL)
    add_colorbar(drawn, list(panels), ("mean " if image is None else "") + FLUX_LABEL, shrink=0.8)
    return panels[0].figure


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


def _mean_image(pixels: PixelTable) -> FloatArray:
    """Return the mean over the usable cadences of each pixel, NaN without any."""
    good = pixels.ivar > 0
    total = np.where(good, pixels.flux, 0.0).sum(axis=0)
    return np.where(good.any(axis=0), total / np.maximum(good.sum(axis=0), 1), np.nan)


def _marker_sizes(sources: SourceTable) -> FloatArray:
    """Return areas of the circles: the brightest 160, ten times fainter 60 less, never below 15; less in a crowd."""
    crowd = min(1.0, _MANY_SOURCES / sources.n_source)
    flux = np.where(sources.has_flux, sources.flux, np.nan)
    if not sources.has_flux.any():
        return np.full(sources.n_source, 30.0 * crowd)
    faintness = -np.log10(flux / np.nanmax(flux))
    return crowd * np.nan_to_num(np.clip(160.0 - 60.0 * faintness, 15.0, None), nan=15.0)


def _edges(pixels: PixelTable, part: IntArray) -> tuple[float, float, float, float]:
    column, row = pixels.column[part], pixels.row[part]
    return column.min() - 0.5, column.max() + 0.5, row.min() - 0.5, row.max() + 0.5


def _image_style(pixels: PixelTable, part: IntArray) -> NamedDict:
    return {"origin": "lower", "extent": _edges(pixels, part), "cmap": "Greys", "interpolation": "nearest"}


def _grid(pixels: PixelTable, values: FloatArray, part: IntArray) -> FloatArray:
    column, row = (np.rint(one[part]).astype(int) for one in (pixels.column, pixels.row))
    grid = np.full((int(np.ptp(row)) + 1, int(np.ptp(column)) + 1), np.nan)
    grid[row - row.min(), column - column.min()] = values[part]
    return grid


def _fits_one_panel(pixels: PixelTable) -> bool:
    places = (np.ptp(pixels.column) + 1) * (np.ptp(pixels.row) + 1)
    return bool(places <= _ONE_PANEL_PLACES or pixels.n_pixel >= _ONE_PANEL_SHARE * places)


def _aspect(pixels: PixelTable) -> float:
    """Return height over width of the field, kept between a half and two."""
    return float(np.clip((np.ptp(pixels.row) + 1) / (np.ptp(pixels.column) + 1), 0.5, 2.0))


def _stamps(pixels: PixelTable, values: FloatArray) -> list[IntArray]:
    """Return the pixels of each cutout, brightest pixel first, at most `_MAX_STAMPS` of them."""
    parts = [np.flatnonzero(pixels.stamp == one) for one in np.unique(pixels.stamp)]
    parts = [part for part in parts if np.isfinite(values[part]).any()]
    return sorted(parts, key=lambda part: -float(np.nanmax(values[part])))[:_MAX_STAMPS]


def _new_panels(count: int, pixels: PixelTable) -> list[Axes]:
    n_column = min(count, 4)
    n_row = -(-count // n_column)
    figure = (
        new_figure(8.0, 1.2 + 6.4 * _aspect(pixels))
        if count == 1
        else new_figure(3.0 * n_column + 1.0, 2.8 * n_row + 0.6)
    )
    panels = figure.subplots(n_row, n_column, squeeze=False).ravel()
    for ax in panels[count:]:
        ax.remove()
    for axis in (one for ax in panels[:count] for one in (ax.xaxis, ax.yaxis)):
        axis.set_major_locator(MaxNLocator(nbins=4 if count > 1 else 8, integer=True))
    if count == 1:
        panels[0].set(xlabel="column (pixel)", ylabel="row (pixel)")
    else:
        figure.supxlabel("column (pixel)", fontsize="medium")
        figure.supylabel("row (pixel)", fontsize="medium")
    total = np.unique(pixels.stamp).size
    if 1 < count < total:
        figure.suptitle(f"the {count} brightest of {total} cutouts")
    return list(panels[:count])


def _draw_sources(ax: Axes, places: FloatArray, edges: tuple[float, float, float, float]) -> None:
    column, row, size = places
    left, right, bottom, top = edges
    near = (column > left - _MARGIN) & (column < right + _MARGIN) & (row > bottom - _MARGIN) & (row < top + _MARGIN)
    width = 1.2 if near.sum() <= _MANY_SOURCES else 0.5
    ax.scatter(column[near], row[near], s=size[near], facecolors="none", edgecolors="tab:orange", linewidths=width)
    ax.set(xlim=(left - _MARGIN, right + _MARGIN), ylim=(bottom - _MARGIN, top + _MARGIN))
    if near.sum() > _MAX_NUMBERS:
        return
    style = {"textcoords": "offset points", "color": "tab:red", "fontsize": "small"}
    for i in np.flatnonzero(near):
        text = ax.annotate(str(i), (column[i], row[i]), xytext=(5, 5), annotation_clip=True, **style)
        text.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
        text.set_in_layout(False)
