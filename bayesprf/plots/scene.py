"""The mean image with the sources of the catalogue drawn on it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayesprf.arrays import FloatArray, IntArray, NamedDict
from bayesprf.plots.canvas import FLUX_LABEL, NO_PIXEL, add_colorbar, new_figure, root_figure, stretch
from bayesprf.plots.labels import Labels
from bayesprf.plots.records import FieldImage, FieldStars
from bayesprf.scene.axes import source_places
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

# One panel for the whole field if it has no more places than this, or at least this share of them has a pixel.
_ONE_PANEL_PLACES, _ONE_PANEL_SHARE = 12_000, 0.2
_MAX_STAMPS = 12
# Names that are tried in a panel, the brightest sources first, and the letters they have at most.
_MAX_NAMES, _LONGEST = 100, 12
# Share of the residuals that the colours span, so that one outlier does not take them all.
_SPAN = 98.0
_MARGIN = 1.0
# Circles get smaller where there are more sources than this.
_MANY_SOURCES = 150


def plot_scene(
    pixels: PixelTable,
    sources: SourceTable,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
    named: object = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the mean image, and the sources as circles whose size follows their flux.

    Parameters
    ----------
    pixels : PixelTable
        Data and positions of the pixels.
    sources : SourceTable
        Positions, fluxes and names of the sources.
    offset : tuple of float
        How far the stars lie from their catalogue positions towards east and north, arcsec.
    named : int, str or sequence of them, optional
        Sources whose names are written; by default all, the brightest first, as far as there is room.
    ax : Axes, optional
        Where to draw the whole field; by default a new figure, with one panel per cutout where the
        cutouts are far apart.

    Returns
    -------
    matplotlib.figure.Figure
    """
    field = FieldImage(pixels.column, pixels.row, mean_image(pixels), pixels.stamp)
    stars = FieldStars(*source_places(pixels, sources, offset), sources.flux, sources.source_id)
    chosen = None if named is None else sources.indices(named)
    return plot_field(field, stars, named=chosen, ax=ax)


def plot_field(
    image: FieldImage,
    stars: FieldStars,
    *,
    label: str = "mean " + FLUX_LABEL,
    named: IntArray | None = None,
    diverging: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw an image of pixels, and the stars on it.

    Parameters
    ----------
    image : FieldImage
        The pixels.
    stars : FieldStars
        The stars.
    label : str
        Quantity and unit of the values.
    named : ndarray of int64, optional
        Indices of the stars whose names are written; by default all, the brightest first, as far as there is room.
    diverging : bool
        Colours around zero, for residuals.
    ax : Axes, optional
        Where to draw the whole field; by default a new figure, with one panel per cutout where they are far apart.

    Returns
    -------
    matplotlib.figure.Figure
    """
    parts = [np.arange(image.values.size)] if ax is not None or _fits_one_panel(image) else _stamps(image)
    panels = _new_panels(len(parts), image) if ax is None else [ax]
    sizes = _marker_sizes(stars.flux)
    style = _diverging_style(image.values) if diverging else {"norm": stretch(image.values), "cmap": "Greys"}
    for panel, part in zip(panels, parts, strict=True):
        edges = _edges(image, part)
        drawn = panel.imshow(_grid(image, part), origin="lower", extent=edges, interpolation="nearest", **style)
        _draw_sources(panel, stars, sizes, edges=edges, named=named)
        panel.set_facecolor(NO_PIXEL)
    add_colorbar(drawn, list(panels), label, shrink=0.9)
    return root_figure(panels[0])


def mean_image(pixels: PixelTable) -> FloatArray:
    """Return the mean over the usable cadences of each pixel.

    Parameters
    ----------
    pixels : PixelTable
        Data.

    Returns
    -------
    ndarray of float64, shape (n_pixel,)
        electron / s; NaN without any usable cadence.
    """
    good = pixels.ivar > 0
    total = np.where(good, pixels.flux, 0.0).sum(axis=0)
    return np.where(good.any(axis=0), total / np.maximum(good.sum(axis=0), 1), np.nan)


def _marker_sizes(flux: FloatArray) -> FloatArray:
    """Return areas of the circles: the brightest 160, ten times fainter 60 less, never below 15; less in a crowd."""
    crowd = min(1.0, _MANY_SOURCES / flux.size)
    known = np.isfinite(flux) & (np.nan_to_num(flux) > 0)
    if not known.any():
        return np.full(flux.size, 30.0 * crowd)
    faintness = -np.log10(np.where(known, flux, np.nan) / flux[known].max())
    return crowd * np.nan_to_num(np.clip(160.0 - 60.0 * faintness, 15.0, None), nan=15.0)


def _diverging_style(values: FloatArray) -> NamedDict:
    """Return colours around zero that the largest 2 % of the values leave behind."""
    finite = np.abs(values[np.isfinite(values)])
    bound = float(np.percentile(finite, _SPAN)) if finite.size else 1.0
    return {"cmap": "RdBu_r", "vmin": -bound or -1.0, "vmax": bound or 1.0}


def _edges(image: FieldImage, part: IntArray) -> tuple[float, float, float, float]:
    column, row = image.column[part], image.row[part]
    return column.min() - 0.5, column.max() + 0.5, row.min() - 0.5, row.max() + 0.5


def _grid(image: FieldImage, part: IntArray) -> FloatArray:
    column, row = (np.rint(one[part]).astype(int) for one in (image.column, image.row))
    grid = np.full((int(np.ptp(row)) + 1, int(np.ptp(column)) + 1), np.nan)
    grid[row - row.min(), column - column.min()] = image.values[part]
    return grid


def _fits_one_panel(image: FieldImage) -> bool:
    places = (np.ptp(image.column) + 1) * (np.ptp(image.row) + 1)
    return bool(places <= _ONE_PANEL_PLACES or image.values.size >= _ONE_PANEL_SHARE * places)


def _aspect(image: FieldImage) -> float:
    """Return height over width of the field, kept between a half and two."""
    return float(np.clip((np.ptp(image.row) + 1) / (np.ptp(image.column) + 1), 0.5, 2.0))


def _stamps(image: FieldImage) -> list[IntArray]:
    """Return the pixels of each cutout, brightest pixel first, at most `_MAX_STAMPS` of them."""
    parts = [np.flatnonzero(image.stamp == one) for one in np.unique(image.stamp)]
    parts = [part for part in parts if np.isfinite(image.values[part]).any()]
    return sorted(parts, key=lambda part: -float(np.nanmax(image.values[part])))[:_MAX_STAMPS]


def _new_panels(count: int, image: FieldImage) -> list[Axes]:
    n_column = min(count, 4)
    n_row = -(-count // n_column)
    figure = (
        new_figure(8.0, 0.9 + 6.2 * _aspect(image))
        if count == 1
        else new_figure(3.0 * n_column + 1.0, 2.8 * n_row + 0.6)
    )
    panels = figure.subplots(n_row, n_column, squeeze=False).ravel()
    for ax in panels[count:]:
        ax.remove()
    for axis in (one for ax in panels[:count] for one in (ax.xaxis, ax.yaxis)):
        axis.set_major_locator(MaxNLocator(nbins=4 if count > 1 else 8, integer=True))
    if count > 1:
        figure.supxlabel("column (pixel)", fontsize="medium")
        figure.supylabel("row (pixel)", fontsize="medium")
    total = np.unique(image.stamp).size
    if 1 < count < total:
        figure.suptitle(f"the {count} brightest of {total} cutouts")
    return list(panels[:count])


def _draw_sources(
    ax: Axes,
    stars: FieldStars,
    sizes: FloatArray,
    *,
    edges: tuple[float, float, float, float],
    named: IntArray | None,
) -> None:
    """Draw circles, and names where there is room; the title says how many have none."""
    left, right, bottom, top = edges
    column, row = stars.column, stars.row
    near = (column > left - _MARGIN) & (column < right + _MARGIN) & (row > bottom - _MARGIN) & (row < top + _MARGIN)
    width = 1.2 if near.sum() <= _MANY_SOURCES else 0.5
    ax.scatter(column[near], row[near], s=sizes[near], facecolors="none", edgecolors="tab:orange", linewidths=width)
    ax.set(xlim=(left - _MARGIN, right + _MARGIN), ylim=(bottom - _MARGIN, top + _MARGIN))
    if not ax.figure.get_supxlabel():
        ax.set(xlabel="column (pixel)", ylabel="row (pixel)")
    wanted = near if named is None else near & np.isin(np.arange(near.size), named)
    order = np.flatnonzero(wanted)[np.argsort(-np.nan_to_num(stars.flux[wanted]), kind="stable")][:_MAX_NAMES]
    short = [shorten(stars.names[i]) for i in order]
    radius = 0.5 * np.sqrt(sizes[order])
    Labels(ax, column[order], row[order], short, room=radius, total=int(near.sum()))


def shorten(name: str) -> str:
    """Return a name of at most twelve letters: the end of a longer one, where the names of a catalogue differ.

    Parameters
    ----------
    name : str
        Name of a source.

    Returns
    -------
    str
    """
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
