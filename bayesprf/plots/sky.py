"""Maps of the sky: where an event happened, and where stars are missing."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.plots.canvas import add_colorbar, new_figure, root_figure
from bayesprf.plots.labels import Labels
from bayesprf.plots.scene import shorten
from bayesprf.scene.pairs import offsets

if TYPE_CHECKING:
    from bayesprf.hypotheses.event_position import EventPosition
    from bayesprf.hypotheses.missing_stars import MissingStars
    from bayesprf.scene.sources import SourceTable

# Regions of an event's position and their colours, the widest first, and how far beyond the widest the map goes.
_LEVELS = {0.997: "#dbe7f3", 0.95: "#9ec3e6", 0.68: "#1f77b4"}
_AROUND = 1.3


def plot_event_position(
    found: "EventPosition", sources: "SourceTable | None" = None, *, ax: Axes | None = None
) -> Figure:
    """Draw the probability of every position of an event: see `EventPosition.plot`."""
    ax = new_figure(6.6, 5.4).subplots() if ax is None else ax
    best = found.best
    x, y = _offsets(found.ra_deg, found.dec_deg, best)
    for level, color in _LEVELS.items():
        inside = found.region(level)
        squares = [_square(*one) for one in zip(x[inside], y[inside], found.size[inside], strict=True)]
        ax.add_collection(PatchCollection(squares, facecolor=color, edgecolor=color, lw=0.3))
        ax.plot([], [], "s", color=color, label=f"{100 * level:g} % region, {found.area(level):.3g} arcsec²")
    ax.plot(0.0, 0.0, "+", color="white", mew=1.5, ms=9)
    held = found.region(max(_LEVELS))
    reach = _AROUND * float(np.max(np.abs([x[held], y[held]])) + found.size[held].max())
    ax.set(xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal")
    if sources is not None:
        share = dict(zip(found.source, found.source_probability, strict=True))
        names = [f"{shorten(one)} ({share.get(one, 0.0):.2g})" for one in sources.source_id]
        order = np.argsort([-share.get(one, 0.0) for one in sources.source_id], kind="stable")
        _mark(ax, *_offsets(sources.ra_deg, sources.dec_deg, best), names=names, order=order)
    _label(ax, best, f"none of the catalogue's stars: {found.none_probability:.2g}")
    return root_figure(ax)


def plot_missing_stars(
    found: "MissingStars", sources: "SourceTable | None" = None, *, ax: Axes | None = None
) -> Figure:
    """Draw the evidence for a further star at every position: see `MissingStars.plot`."""
    ax = new_figure(7.2, 5.8).subplots() if ax is None else ax
    centre = float(np.median(found.ra_deg)), float(np.median(found.dec_deg))
    x, y = _offsets(found.ra_deg, found.dec_deg, centre)
    value = found.log_bayes_factor
    norm = TwoSlopeNorm(0.0, min(-1.0, float(value.min())), max(1.0, float(np.percentile(value, 99.9))))
    side = _spacing(x, y)
    cells = PatchCollection([_square(*one, side) for one in zip(x, y, strict=True)], cmap="RdBu_r", norm=norm, lw=0)
    cells.set_array(value)
    ax.add_collection(cells)
    ax.set(xlim=(x.max() + side, x.min() - side), ylim=(y.min() - side, y.max() + side), aspect="equal")
    if sources is not None:
        ax.plot(*_offsets(sources.ra_deg, sources.dec_deg, centre), "+", color="0.3", ms=5, label="catalogue")
    if found.n_candidate:
        at = _offsets(found.candidates_ra_deg, found.candidates_dec_deg, centre)
        ax.plot(*at, "o", mfc="none", mec="black", ms=11, label="found")
        names = [f"{one:.4g} electron / s" for one in found.candidates_flux]
        Labels(ax, *at, names, room=6.0)
    add_colorbar(cells, ax, "ln Bayes factor of a further star")
    _label(ax, centre, f"{found.n_candidate} stars found")
    return root_figure(ax)


def _offsets(ra_deg: FloatArray, dec_deg: FloatArray, centre: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Return offsets from a position towards east and north, arcsec."""
    middle = np.full(ra_deg.size, centre[0]), np.full(ra_deg.size, centre[1])
    return offsets(ra_deg, dec_deg, *middle)


def _square(x: float, y: float, side: float) -> Rectangle:
    return Rectangle((x - 0.5 * side, y - 0.5 * side), side, side)


def _spacing(x: FloatArray, y: FloatArray) -> float:
    """Return the side of the cells of a square grid, from the distance of the first cell to its nearest one."""
    if x.size < 2:
        return 1.0
    return float(np.min(np.hypot(x[1:] - x[0], y[1:] - y[0])))


def _mark(ax: Axes, x: FloatArray, y: FloatArray, *, names: list[str], order: IntArray) -> None:
    """Mark the catalogue's stars in view, and name them, the most probable first."""
    (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    seen = [i for i in order if left < x[i] < right and low < y[i] < high]
    ax.plot(x[seen], y[seen], "*", color="black", ms=8, label="catalogue (probability)")
    Labels(ax, x[seen], y[seen], [names[i] for i in seen], room=5.0)


def _label(ax: Axes, centre: tuple[float, float], title: str) -> None:
    ax.set(xlabel=f"east of RA {centre[0]:.5f}° (arcsec)", ylabel=f"north of Dec {centre[1]:+.5f}° (arcsec)")
    ax.set_title(title, fontsize="medium")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6))
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="upper left", fontsize="small", framealpha=0.8)
