"""The time model: pixels measured, modelled and what is left; time columns; the factor on the PRF."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure, SubFigure

from bayesprf.arrays import FloatArray
from bayesprf.checks import as_float, check_choice, check_shape
from bayesprf.plots.canvas import Colors, add_colorbar, new_figure, plain_numbers, root_figure, time_label

# Share of the values that the colours span, so that one outlier does not take them all.
_SPAN = 98.0
# How a bin is named in a title.
_PLACES = {"time": "day {:.2f}", "pointing": "{:+.2f} pix"}
# A residual is drawn in colours at least this wide, per cent.
_LEAST_SPAN = 1e-4
_TITLES = ("measured", "model", "left")
_CHANGE = "change from the pixel's mean (%)"
# Pixels whose course is drawn.
_N_PIXEL = 4


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
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draw what the time model learned from, and what it leaves.

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
    figure : matplotlib.figure.Figure or SubFigure, optional
        Where to draw; a new one by default.

    Returns
    -------
    matplotlib.figure.Figure
        Upper rows: the change of each pixel in the first and the last bin, measured, modelled, and what is left, on
        the sky around the star. Below: the pixels that change most, with their model, and the change of a typical
        pixel before and after the model, against time.

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
    shown = np.ones(data.shape, bool) if used is None else np.asarray(used, bool)
    for one, name in ((data, "data"), (model, "model"), (shown, "used")):
        check_shape(one, (time.size, dx.size), name, "n_bin, n_train")
    changes = [100.0 * (np.where(shown, one, np.nan) - 1.0) for one in (data, model, data / model)]
    figure = new_figure(11.5, 10.0) if figure is None else figure
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.0, 1.0), squeeze=False).ravel()
    places = [_PLACES[along].format(one) for one in (time[0], time[-1])]
    _draw_bins(upper, dx, dy, changes, places)
    curves, left = lower.subplots(1, 2)
    name = time_label(time_zero_jd) if along == "time" else "pointing along the motion (pixel)"
    _draw_pixels(curves, time, np.stack([dx, dy], axis=1), changes)
    _draw_typical(left, time, changes)
    for ax in (curves, left):
        ax.set_xlabel(name)
        ax.grid(alpha=0.2)
        plain_numbers(ax)
    return root_figure(figure)


def _draw_bins(figure: SubFigure, dx: FloatArray, dy: FloatArray, changes: list[FloatArray], places: list[str]) -> None:
    """Draw the first and the last bin on the sky: measured, modelled, left."""
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    both = _bound(changes[:2])
    bounds = (both, both, _bound(changes[2:]))
    for row, (number, place) in enumerate(zip((0, -1), places, strict=True)):
        for ax, one, bound, title in zip(axes[row], changes, bounds, _TITLES, strict=True):
            drawn = _draw_sky(ax, dx, dy, one[number], bound)
            ax.set_title(f"{title}, {place}", fontsize="medium")
            if row == 0 and title != "model":
                panels = list(axes[:, :2].ravel() if title == "measured" else axes[:, 2])
                add_colorbar(drawn, panels, _CHANGE if title == "measured" else "what is left (%)", pad=0.02, aspect=40)
        axes[row, 0].set_ylabel("north offset (arcsec)")
    for ax in axes[1]:
        ax.set_xlabel("east offset (arcsec)")


def _draw_pixels(ax: Axes, time: FloatArray, offset: FloatArray, changes: list[FloatArray]) -> None:
    """Draw the pixels whose model changes most: points as measured, lines as modelled."""
    measured, modelled, _ = changes
    span = np.ptp(np.nan_to_num(modelled), axis=0) * np.isfinite(measured).all(axis=0)
    for k, pixel in enumerate(np.argsort(-span)[:_N_PIXEL]):
        color = f"C{k}"
        ax.plot(time, measured[:, pixel], "o", ms=3.5, color=color, label="{:+.0f}″, {:+.0f}″".format(*offset[pixel]))
        ax.plot(time, modelled[:, pixel], "-", lw=1.2, color=color)
    ax.set(ylabel=_CHANGE, title="pixels that change most: points measured, lines modelled")
    ax.title.set_fontsize("medium")
    ax.legend(title="east, north of the star", fontsize="small", title_fontsize="small", ncols=2, framealpha=0.7)


def _draw_typical(ax: Axes, time: FloatArray, changes: list[FloatArray]) -> None:
    """Draw half the range that holds 68 % of the pixels, before and after the model."""
    for values, label in ((changes[0], "before the model"), (changes[2], "after it")):
        seen = [one[np.isfinite(one)] for one in values]
        spread = [0.5 * np.subtract(*np.percentile(one, [84, 16])) if one.size else np.nan for one in seen]
        ax.plot(time, spread, "o-", ms=3.5, lw=1.0, label=label)
    ax.set(ylabel="change of a typical pixel (%)", title="what the model explains", ylim=(0.0, None))
    ax.title.set_fontsize("medium")
    ax.legend(frameon=False)


def plot_vectors(
    time: object,
    vectors: object,
    *,
    names: Sequence[str] | None = None,
    time_zero_jd: float = 0.0,
) -> Figure:
    """Draw the time columns, one above the other.

    Parameters
    ----------
    time : array-like, shape (n_time,)
        Times, day.
    vectors : array-like, shape (n_time, n_vector)
        Columns; each is drawn scaled to its largest size.
    names : sequence of str, optional
        What the columns are called; their numbers by default.
    time_zero_jd : float
        Julian date of time 0, day, for the label.

    Returns
    -------
    matplotlib.figure.Figure
    """
    time, vectors = as_float(time, "time", ndim=1), as_float(vectors, "vectors", ndim=2)
    check_shape(vectors, (time.size, vectors.shape[1]), "vectors", "n_time, n_vector")
    ax = new_figure(8.0, 1.5 + 0.6 * vectors.shape[1]).subplots()
    for number, one in enumerate(vectors.T):
        ax.plot(time, 0.4 * one / max(float(np.abs(one).max(initial=0.0)), 1e-300) - number, lw=1.0)
    labels = [str(number) for number in range(vectors.shape[1])] if names is None else list(names)
    ax.set_yticks(-np.arange(vectors.shape[1]), labels)
    ax.set(xlabel=time_label(time_zero_jd), ylabel="each scaled to its largest size", title="Time columns")
    plain_numbers(ax)
    return root_figure(ax)


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
    ax = new_figure(6.0, 5.0).subplots()
    change = 100.0 * (factor - 1.0)
    drawn = _draw_sky(ax, dx, dy, change, _bound([change]))
    ax.set(xlabel="east offset (arcsec)", ylabel="north offset (arcsec)", title=title)
    add_colorbar(drawn, ax, "change of the PRF (%)", pad=0.02)
    return root_figure(ax)


def _bound(values: list[FloatArray]) -> float:
    """Return how far from zero the colours reach."""
    finite = np.concatenate([np.abs(one[np.isfinite(one)]) for one in values])
    return max(float(np.percentile(finite, _SPAN)), _LEAST_SPAN) if finite.size else 1.0


def _draw_sky(ax: Axes, dx: FloatArray, dy: FloatArray, values: FloatArray, bound: float) -> PathCollection:
    good = np.isfinite(values)
    size = float(np.clip(9000.0 / max(int(good.sum()), 1), 2.0, 24.0))
    reach = 1.05 * float(np.max(np.abs([dx, dy]), initial=1e-9))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    colors: Colors = {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}
    return ax.scatter(dx[good], dy[good], c=values[good], s=size, linewidths=0, rasterized=True, **colors)
