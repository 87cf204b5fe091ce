"""The PRF as a smooth image with contours, beside data and residual; its change over the field."""

from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from scipy.stats import binned_statistic_2d

from bayesprf.arrays import FloatArray
from bayesprf.plots.canvas import add_colorbar, new_figure, root_figure
from bayesprf.plots.records import PrfData, PrfImages

# Contours, over the peak.
_LEVELS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5)
# The colours of the PRF begin here, over the peak.
_FLOOR = 1e-4
# Places of a varying PRF whose relative differences from the middle are drawn within these colours.
_CONTRAST = 98.0
# Cells per side in which star pixels are averaged, at most; a cell holds some pixels.
_MAX_CELLS, _PIXELS_PER_CELL = 48, 4.0


class _ImageStyle(TypedDict):
    """How `Axes.imshow` lays values out."""

    origin: Literal["lower"]
    extent: tuple[float, float, float, float]
    interpolation: str


def plot_prf(prf: PrfImages, data: PrfData | None = None, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Draw the PRF as a smooth image with contours.

    Parameters
    ----------
    prf : PrfImages
        The PRF.
    data : PrfData, optional
        Pixels of the stars that trained it: their means are drawn to the left, what is left of them to the right.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw; a new one by default.

    Returns
    -------
    matplotlib.figure.Figure
        Below, where the PRF varies over the field: its relative difference from the middle at every place, and sticks
        along the long axis of the core, as long as its ellipticity.
    """
    varies = prf.place.shape[0] > 1
    wide = 4.2 if data is None else 12.0
    if figure is None:
        figure = new_figure(max(wide, 10.5) if varies else wide, 9.2 if varies else 4.0)
    upper: Figure | SubFigure = figure
    if varies:
        upper, lower = figure.subfigures(2, 1, height_ratios=(1.0, 1.25), squeeze=False).ravel()
        _draw_field(lower, prf)
    panels = list(upper.subplots(1, 1 if data is None else 3, sharex=True, sharey=True, squeeze=False).ravel())
    peak = float(prf.middle.max())
    norm = LogNorm(_FLOOR * peak, peak)
    drawn = _draw_image(panels[0 if data is None else 1], prf, norm)
    if data is not None:
        _draw_data(panels, prf, data, norm)
    add_colorbar(drawn, panels[: 1 if data is None else 2], "PRF (1 / pixel)", pad=0.02, shrink=0.85)
    for ax in panels:
        ax.set_xlabel("east offset (arcsec)")
    panels[0].set_ylabel("north offset (arcsec)")
    return root_figure(figure)


def _edges(offset: FloatArray) -> tuple[float, float, float, float]:
    half = 0.5 * (offset[1] - offset[0])
    low, high = float(offset[0] - half), float(offset[-1] + half)
    return low, high, low, high


def _draw_image(ax: Axes, prf: PrfImages, norm: LogNorm) -> AxesImage:
    """Draw the PRF of the middle, with contours that name their share of the peak."""
    peak = float(prf.middle.max())
    drawn = ax.imshow(prf.middle, origin="lower", extent=_edges(prf.offset), norm=norm, interpolation="bilinear")
    lines = ax.contour(
        prf.offset, prf.offset, prf.middle / peak, levels=_LEVELS, colors="white", linewidths=0.7, alpha=0.8
    )
    ax.clabel(lines, levels=_LEVELS[::2], fmt=lambda level: f"{level:g}", fontsize="x-small")
    ax.set_title("PRF, contours over its peak", fontsize="medium")
    return drawn


def _draw_data(panels: Sequence[Axes], prf: PrfImages, data: PrfData, norm: LogNorm) -> None:
    """Draw the means of the pixels, and of what the PRF leaves of them over the peak, in cells of the sky."""
    low, high, *_ = _edges(prf.offset)
    seen = np.isfinite(data.data * data.weight) & (np.maximum(np.abs(data.dx), np.abs(data.dy)) < high)
    n_cell = int(np.clip(np.sqrt(seen.sum() / _PIXELS_PER_CELL), 5, _MAX_CELLS))

    def mean(values: FloatArray) -> FloatArray:
        summed = [(data.weight * values)[seen], data.weight[seen]]
        box = [[low, high], [low, high]]
        found = binned_statistic_2d(data.dy[seen], data.dx[seen], summed, "sum", n_cell, range=box).statistic
        return np.divide(found[0], found[1], out=np.full(found[0].shape, np.nan), where=found[1] > 0)

    style: _ImageStyle = {"origin": "lower", "extent": (low, high, low, high), "interpolation": "nearest"}
    panels[0].imshow(np.maximum(mean(data.data), _FLOOR * float(prf.middle.max())), norm=norm, **style)
    panels[0].set_title(f"{int(seen.sum())} pixels of stars, averaged", fontsize="medium")
    left = 100.0 * mean(data.data - data.model) / float(prf.middle.max())
    finite = np.abs(left[np.isfinite(left)])
    bound = max(float(np.percentile(finite, _CONTRAST)), 1e-6) if finite.size else 1.0
    drawn = panels[2].imshow(left, cmap="RdBu_r", vmin=-bound, vmax=bound, **style)
    panels[2].set_title("pixels − PRF", fontsize="medium")
    add_colorbar(drawn, panels[2], "share of the peak (%)", pad=0.02, shrink=0.85)


def _draw_field(figure: SubFigure, prf: PrfImages) -> None:
    """Draw the difference from the middle at every place, and a map of sizes and ellipticities."""
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1.0), squeeze=False).ravel()
    order = np.lexsort((prf.place[:, 0], -np.round(prf.place[:, 1], 6)))
    side = int(np.ceil(np.sqrt(order.size)))
    axes = left.subplots(side, side, sharex=True, sharey=True).ravel()
    change = 100.0 * (prf.values - prf.middle) / float(prf.middle.max())
    bound = max(float(np.percentile(np.abs(change), 99.5)), 1e-6)
    for ax, k in zip(axes, order, strict=False):
        drawn = ax.imshow(change[k], origin="lower", extent=_edges(prf.offset), cmap="RdBu_r", vmin=-bound, vmax=bound)
        ax.contour(prf.offset, prf.offset, prf.values[k] / prf.values[k].max(), levels=(0.1, 0.5), colors="0.2",
                   linewidths=0.7)  # fmt: skip
        ax.tick_params(labelsize="x-small")
    add_colorbar(drawn, list(axes), "difference from the middle, over the peak (%)", pad=0.02)
    left.suptitle("PRF over the field; contours at 0.1 and 0.5 of the peak", fontsize="medium")
    _draw_sticks(right.subplots(), prf)


def _draw_sticks(ax: Axes, prf: PrfImages) -> None:
    """Draw a stick along the long axis of the core at every place, and its size as a number."""
    size, ellipticity = prf.moments()
    length, angle = np.hypot(*ellipticity.T), 0.5 * np.arctan2(ellipticity[:, 1], ellipticity[:, 0])
    largest = max(float(length.max()), 1e-9)
    half = 0.4 * length / largest
    for (u, v), reach, along, one in zip(prf.place, half, angle, size, strict=True):
        step = reach * np.array([np.cos(along), np.sin(along)])
        ax.plot([u - step[0], u + step[0]], [v - step[1], v + step[1]], color="tab:red", lw=2.5)
        beside = (u + max(abs(step[0]), 0.08), v)
        ax.annotate(f" {one:.2f}″", beside, va="center", fontsize="small")
    ax.set(xlim=(-1.5, 1.7), ylim=(-1.5, 1.5), xlabel="east in the field", ylabel="north in the field", aspect="equal")
    ax.set_title(f"ellipticity (longest stick {largest:.2g}) and size of the core", fontsize="medium")
