"""The pixels around a source with its aperture outlined."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayesprf.arrays import BoolArray, IntArray
from bayesprf.errors import InputError
from bayesprf.plots.canvas import FLUX_LABEL, NO_PIXEL, add_colorbar, new_figure, root_figure, stretch
from bayesprf.plots.scene import mean_image
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pixels import PixelTable

if TYPE_CHECKING:
    from bayesprf.photometry.apertures import ApertureSet

# Pixels shown around those of the source.
_MARGIN = 1


def plot_aperture(
    pixels: PixelTable,
    apertures: "ApertureSet",
    source: int,
    *,
    name: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw the mean image around a source, the outline of its aperture and the sources nearby.

    Parameters
    ----------
    pixels : PixelTable
        Data and positions of the pixels.
    apertures : ApertureSet
        Apertures of all sources.
    source : int
        Index of the source to draw.
    name : str, optional
        Name for the title; the index by default.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there is no such source, or it has no pixels.
    """
    own = _pairs_of(apertures, source)
    column, row = np.rint(pixels.column).astype(int), np.rint(pixels.row).astype(int)
    place = apertures.pairs.pixel[own]
    low = np.array([column[place].min(), row[place].min()]) - _MARGIN
    high = np.array([column[place].max(), row[place].max()]) + _MARGIN
    shown = np.flatnonzero((column >= low[0]) & (column <= high[0]) & (row >= low[1]) & (row <= high[1]))
    grid = np.full((high - low + 1)[::-1], np.nan)
    grid[row[shown] - low[1], column[shown] - low[0]] = mean_image(pixels)[shown]
    ax = new_figure(5.6, 4.8).subplots() if ax is None else ax
    edges = (low[0] - 0.5, high[0] + 0.5, low[1] - 0.5, high[1] + 0.5)
    drawn = ax.imshow(grid, origin="lower", extent=edges, cmap="Greys", norm=stretch(grid), interpolation="nearest")
    add_colorbar(drawn, ax, "mean " + FLUX_LABEL)
    inside = apertures.pairs.pixel[own & apertures.mask]
    ax.add_collection(LineCollection(_outline(column[inside], row[inside]), colors="tab:red", linewidths=2.0))
    _draw_sources(ax, pixels, apertures, source, edges)
    ax.set_facecolor(NO_PIXEL)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set(xlabel="column (pixel)", ylabel="row (pixel)", title=_title(apertures, source, name))
    return root_figure(ax)


def _pairs_of(apertures: "ApertureSet", source: int) -> BoolArray:
    """Return the mask of the source's pairs."""
    n_source = apertures.pairs.n_source
    if not 0 <= source < n_source:
        raise InputError(f"source: expected an index from 0 to {n_source - 1}, got {source}")
    own = apertures.pairs.source == source
    if not own.any():
        raise InputError(f"source: expected a source with pixels, got {source}, which reaches none")
    return own


def _outline(column: IntArray, row: IntArray) -> list[list[tuple[float, float]]]:
    """Return the pixel sides that have a pixel of the aperture on one side only, as line segments."""
    members = set(zip(column.tolist(), row.tolist(), strict=True))
    segments = []
    for x, y in sorted(members):
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            if (x + dx, y + dy) not in members:
                middle = (x + dx / 2, y + dy / 2)
                half = (abs(dy) / 2, abs(dx) / 2)
                segments.append(
                    [(middle[0] - half[0], middle[1] - half[1]), (middle[0] + half[0], middle[1] + half[1])]
                )
    return segments


def _draw_sources(
    ax: Axes, pixels: PixelTable, apertures: "ApertureSet", source: int, edges: tuple[float, float, float, float]
) -> None:
    """Mark the source and every other within the picture, where their offsets put them on the detector."""
    pairs = apertures.pairs
    first = np.unique(pairs.source, return_index=True)[1]
    step = np.linalg.solve(pixel_axes(pixels), np.stack([pairs.dx[first], pairs.dy[first]]))
    column, row = pixels.column[pairs.pixel[first]] - step[0], pixels.row[pairs.pixel[first]] - step[1]
    near = (column > edges[0]) & (column < edges[1]) & (row > edges[2]) & (row < edges[3])
    target = pairs.source[first] == source
    for chosen, color, marker, label in (
        (target, "tab:red", "x", "source"),
        (near & ~target, "tab:blue", "+", "other sources"),
    ):
        if chosen.any():
            ax.scatter(column[chosen], row[chosen], s=50, linewidths=1.6, color=color, marker=marker, label=label)
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncols=2, fontsize="small", frameon=False)


def _title(apertures: "ApertureSet", source: int, name: str) -> str:
    """Return the name of the source and the two metrics of its aperture."""
    return (
        f"{name or f'source {source}'}\n"
        f"FLFRCSAP {apertures.completeness[source]:.3f}, CROWDSAP {apertures.crowding[source]:.3f}"
    )
