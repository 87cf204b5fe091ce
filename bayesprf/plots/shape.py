"""The PRF shape: data, model and residual, on the sky and in polar coordinates."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from scipy.stats import binned_statistic_2d

from bayesprf.arrays import FloatArray
from bayesprf.checks import as_float, check_shape
from bayesprf.plots.canvas import Colors, add_colorbar, new_figure, root_figure

_TITLES = ("data", "model", "data − model")
# Bins per axis of the binned picture.
_N_BINS = 40
# Shares of the values that the colours span, so that one outlier does not take them all.
_LOW, _HIGH = 0.5, 99.5


def plot_shape(
    dx: object,
    dy: object,
    data: object,
    model: object,
    *,
    bin_data: bool = False,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw log10 PRF of pixels as measured, as modelled, and their difference.

    Parameters
    ----------
    dx, dy : array-like, shape (n_pair,)
        Offset of each pixel from its star towards east and north, arcsec.
    data, model : array-like, shape (n_pair,)
        log10 of pixel flux over flux of the star, as measured and as modelled, dex. NaN is not drawn.
    bin_data : bool
        Draw medians in bins instead of single pixels.
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw; a new one by default.

    Returns
    -------
    matplotlib.figure.Figure
        Upper row on the sky, lower row in polar coordinates; columns data, model, residual.

    Raises
    ------
    ShapeError
        If the arrays differ in shape.
    """
    dx, dy, data, model = (as_float(one, name, ndim=1) for one, name in _named(dx, dy, data, model))
    for one, name in _named(dx, dy, data, model):
        check_shape(one, dx.shape, name, "n_pair")
    figure = new_figure(12.0, 7.6) if figure is None else figure
    axes = figure.subplots(2, 3, sharex="row", sharey="row")
    values = (data, model, data - model)
    low, high = _limits(np.concatenate([data, model]))
    bound = float(np.max(np.abs(_limits(values[2]))))
    scale: Colors = {"cmap": "viridis", "vmin": low, "vmax": high}
    scales: list[Colors] = [scale, scale, {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}]
    places = ((dx, dy), (np.arctan2(dy, dx), np.hypot(dx, dy)))
    for row, (x, y) in zip(axes, places, strict=True):
        panels = zip(row, values, scales, strict=True)
        drawn = [_draw(ax, x, y, one, scale, bin_data=bin_data) for ax, one, scale in panels]
        add_colorbar(drawn[0], list(row[:2]), "log10 PRF (dex)", pad=0.04)
        add_colorbar(drawn[2], row[2], "residual (dex)", pad=0.02)
    _label(axes)
    return root_figure(figure)


def _named(*arrays: object) -> list[tuple[object, str]]:
    return list(zip(arrays, ("dx", "dy", "data", "model"), strict=True))


def _limits(values: FloatArray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return -1.0, 1.0
    low, high = np.percentile(finite, [_LOW, _HIGH])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _draw(
    ax: Axes, x: FloatArray, y: FloatArray, values: FloatArray, scale: Colors, *, bin_data: bool
) -> QuadMesh | PathCollection:
    good = np.isfinite(values)
    if bin_data and good.any():
        median, x_edges, y_edges, _ = binned_statistic_2d(x[good], y[good], values[good], np.nanmedian, _N_BINS)
        return ax.pcolormesh(x_edges, y_edges, median.T, rasterized=True, **scale)
    size = float(np.clip(9000.0 / max(int(good.sum()), 1), 2.0, 24.0))
    return ax.scatter(x[good], y[good], c=values[good], s=size, linewidths=0, rasterized=True, **scale)


def _label(axes: NDArray[np.object_]) -> None:
    for ax, title in zip(axes[0], _TITLES, strict=True):
        ax.set(title=title, xlabel="east offset (arcsec)")
        ax.set_aspect("equal", adjustable="box")
    for ax in axes[1]:
        ax.set(xlabel="angle φ (radian)")
        ax.set_xticks([-np.pi, -np.pi / 2, 0.0, np.pi / 2, np.pi], ["−π", "−π/2", "0", "π/2", "π"])
    axes[0, 0].set_ylabel("north offset (arcsec)")
    axes[1, 0].set_ylabel("radius r (arcsec)")
