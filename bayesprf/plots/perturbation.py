"""The time model: pixels before and after, data, model and their ratio; time columns; the factor on the PRF."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesprf.arrays import FloatArray, NamedDict
from bayesprf.checks import as_float, check_choice, check_shape
from bayesprf.plots.canvas import add_colorbar, new_figure, time_label

# Share of the values that the colours span, so that one outlier does not take them all.
_SPAN = 98.0
# How a bin is named in a title.
_PLACES = {"time": "day {:.2f}", "pointing": "{:+.2f} pix"}
# A residual is drawn in colours at least this wide.
_LEAST_SPAN = 1e-6


def plot_time_model(
    dx: object,
    dy: object,
    time: object,
    *,
    data: object,
    model: object,
    used: object = None,
    time_zero_jd: float = 0.0,
    along: str = "time",
) -> Figure:
    """Draw what the time model learned from.

    Parameters
    ----------
    dx, dy : array-like, shape (n_train,)
        Offset of each training pixel from its star towards east and north, arcsec.
    time : array-like, shape (n_bin,)
        Mean time of each bin, day, or its mean pointing, pixel.
    data, model : array-like, shape (n_bin, n_train)
        Pixels relative to their mean and to their star's brightness, and the fitted factor.
    used : array-like of bool, shape (n_bin, n_train), optional
        Pixel-bins that were fitted; others are left white.
    time_zero_jd : float
        Julian date of time 0, day, for the label.
    along : {"time", "pointing"}
        What the bins go along.

    Returns
    -------
    matplotlib.figure.Figure
        Upper rows: data, model and their ratio on the sky in the first and the last bin. Lower row: all pixels
        against time, as measured, as modelled, and measured over modelled.

    Raises
    ------
    ShapeError
        If the arrays disagree in shape.
    InputError
        If `along` is unknown.
    """
    check_choice(along, tuple(_PLACES), "along")
    dx, dy, time = (as_float(one, name, ndim=1) for one, name in ((dx, "dx"), (dy, "dy"), (time, "time")))
    data, model = as_float(data, "data", ndim=2), as_float(model, "model", ndim=2)
    for one, name in ((data, "data"), (model, "model")):
        check_shape(one, (time.size, dx.size), name, "n_bin, n_train")
    shown = np.ones(data.shape, bool) if used is None else np.asarray(used, bool)
    check_shape(shown, data.shape, "used", "n_bin, n_train")
    values = [np.where(shown, one, np.nan) for one in (data, model, data / model)]
    bounds = [_bound(values[:2]), _bound(values[:2]), _bound(values[2:])]
    figure = new_figure(13.0, 11.0)
    axes = figure.subplots(3, 3)
    for column, (one, bound) in enumerate(zip(values, bounds, strict=True)):
        for row, number in ((0, 0), (1, -1)):
            _draw_sky(axes[row, column], dx, dy, one[number], bound)
        _draw_series(axes[2, column], time, one, bound)
    places = [_PLACES[along].format(one) for one in (time[0], time[-1])]
    _label(axes, places, time_label(time_zero_jd) if along == "time" else "pointing along the motion (pixel)")
    return figure


def plot_vectors(time: object, vectors: object) -> Figure:
    """Draw the time columns, one above the other.

    Parameters
    ----------
    time : array-like, shape (n_time,)
        Times, day.
    vectors : array-like, shape (n_time, n_vector)
        Columns; each is drawn scaled to its largest size.

    Returns
    -------
    matplotlib.figure.Figure
    """
    time, vectors = as_float(time, "time", ndim=1), as_float(vectors, "vectors", ndim=2)
    check_shape(vectors, (time.size, vectors.shape[1]), "vectors", "n_time, n_vector")
    figure = new_figure(8.0, 1.5 + 0.6 * vectors.shape[1])
    ax = figure.subplots()
    for number, one in enumerate(vectors.T):
        ax.plot(time, 0.4 * one / max(float(np.abs(one).max(initial=0.0)), 1e-300) - number, lw=1.0)
    ax.set_yticks(-np.arange(vectors.shape[1]), [f"{number}" for number in range(vectors.shape[1])])
    ax.set(xlabel="time (day)", ylabel="time column (each scaled to its largest size)", title="Time columns")
    return figure


def plot_factor(dx: object, dy: object, factor: object, *, title: str = "") -> Figure:
    """Draw the factor on the PRF at one cadence over the offsets.

    Parameters
    ----------
    dx, dy : array-like, shape (n_pixel,)
        Offset of each pixel from its source, arcsec.
    factor : array-like, shape (n_pixel,)
        PRF over mean PRF.
    title : str
        Title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    dx, dy, factor = (as_float(one, name, ndim=1) for one, name in ((dx, "dx"), (dy, "dy"), (factor, "factor")))
    figure = new_figure(6.0, 5.0)
    ax = figure.subplots()
    drawn = _draw_sky(ax, dx, dy, factor, _bound([factor]))
    ax.set(xlabel="east offset (arcsec)", ylabel="north offset (arcsec)", title=title)
    add_colorbar(drawn, ax, "PRF / mean PRF", pad=0.02)
    return figure


def _bound(values: list[FloatArray]) -> float:
    """Return how far from one the colours reach."""
    finite = np.concatenate([np.abs(one[np.isfinite(one)] - 1.0) for one in values])
    return max(float(np.percentile(finite, _SPAN)), _LEAST_SPAN) if finite.size else 1.0


def _style(bound: float) -> NamedDict:
    return {"cmap": "RdBu_r", "vmin": 1.0 - bound, "vmax": 1.0 + bound, "rasterized": True}


def _draw_sky(ax: Axes, dx: FloatArray, dy: FloatArray, values: FloatArray, bound: float) -> Any:
    good = np.isfinite(values)
    size = float(np.clip(9000.0 / max(int(good.sum()), 1), 2.0, 24.0))
    ax.set_aspect("equal", adjustable="box")
    return ax.scatter(dx[good], dy[good], c=values[good], s=size, linewidths=0, **_style(bound))


def _draw_series(ax: Axes, time: FloatArray, values: FloatArray, bound: float) -> Any:
    """Draw pixels against bins as an image: row i is pixel i, columns lie at the bins' times."""
    half = 0.5 * np.diff(time) if time.size > 1 else np.array([0.5])
    edges = np.concatenate([[time[0] - half[0]], time[:-1] + half[: time.size - 1], [time[-1] + half[-1]]])
    return ax.pcolormesh(edges, np.arange(values.shape[1] + 1), values.T, **_style(bound))


def _label(axes: Any, places: list[str], name: str) -> None:
    titles = ("data", "model", "data / model")
    for column, title in enumerate(titles):
        axes[0, column].set_title(f"{title}, {places[0]}")
        axes[1, column].set_title(f"{title}, {places[1]}")
        axes[2, column].set(title=f"{title}, all bins", xlabel=name)
        for row in (0, 1):
            axes[row, column].set_xlabel("east offset (arcsec)")
            axes[row, column].sharex(axes[0, 0])
            axes[row, column].sharey(axes[0, 0])
    for row in (0, 1):
        axes[row, 0].set_ylabel("north offset (arcsec)")
    axes[2, 0].set_ylabel("training pixel, by star")
    both = [axes[row, column] for row in range(3) for column in (0, 1)]
    add_colorbar(axes[2, 0].collections[0], both, "pixel / its mean", pad=0.02)
    add_colorbar(axes[2, 2].collections[0], list(axes[:, 2]), "data / model", pad=0.02)
