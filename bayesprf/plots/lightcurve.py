"""Light curves with errors, one panel per source."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import as_float, check_shape
from bayesprf.flags import CADENCE_FLAGS, QualityFlag
from bayesprf.plots.canvas import FLUX_LABEL, as_list, new_figure, plain_numbers, root_figure, time_label

_PANEL_WIDTH, _PANEL_HEIGHT = 5.2, 1.7
# Changes that stay below this share of the flux are labelled in parts per million.
_SMALL = 2e-3
_PLAIN, _FLAGGED = "tab:blue", "tab:orange"


class _PointStyle(TypedDict, total=False):
    """How points are drawn, as `Axes.errorbar` takes it."""

    color: str
    mew: float
    mfc: str
    label: str | None


def plot_lightcurves(
    time: object,
    flux: object,
    flux_err: object,
    *,
    labels: Sequence[str],
    flags: object = None,
    time_zero_jd: float = 0.0,
    relative: bool = True,
    ax: "Axes | Sequence[Axes] | None" = None,
) -> Figure:
    """Draw the flux of each source against time, with error bars.

    Parameters
    ----------
    time : array-like, shape (n_time,)
        Times, day.
    flux, flux_err : array-like, shape (n_time, n_source)
        Flux and its standard deviation, electron / s. NaN is not drawn.
    labels : sequence of str, shape (n_source,)
        Title of each panel.
    flags : array-like of int, shape (n_time, n_source), optional
        Quality bits; cadences with a bit of their own are open circles, and a legend names the bits.
    time_zero_jd : float
        Julian date of time 0, for the label of the axis.
    relative : bool
        Draw the change from the median in per cent (or parts per million); a source whose median flux is not
        positive is drawn in electron / s all the same, and its title says so.
    ax : Axes or sequence of Axes, shape (n_source,), optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the shapes do not agree.
    """
    time, flux = as_float(time, "time", ndim=1), as_float(flux, "flux", ndim=2)
    flux_err, shape = as_float(flux_err, "flux_err"), (time.size, len(labels))
    flags = np.zeros(shape, np.int64) if flags is None else np.asarray(flags)
    for values, name in ((flux, "flux"), (flux_err, "flux_err"), (flags, "flags")):
        check_shape(values, shape, name, "n_time, one per label")
    level = _levels(flux) if relative else np.full(len(labels), np.nan)
    unit, factor = _unit(flux, level)
    panels = _new_panels(len(labels)) if ax is None else as_list(ax)
    for i, (panel, label) in enumerate(zip(panels, labels, strict=True)):
        known = bool(np.isfinite(level[i]))
        shown, error = (
            (factor * (flux[:, i] / level[i] - 1.0), factor * flux_err[:, i] / level[i])
            if known
            else (flux[:, i], flux_err[:, i])
        )
        _draw_curve(panel, time, shown, error, flags=flags[:, i])
        panel.set_title(label if known or not relative else f"{label} (electron / s)", fontsize="medium", loc="left")
        plain_numbers(panel)
    _label(panels, unit, time_label(time_zero_jd), own=ax is None)
    return root_figure(panels[0])


def name_flags(value: int) -> str:
    """Return the names of the bits that belong to single cadences, as "NO_DATA, DOWN_WEIGHTED"."""
    return ", ".join(str(one.name) for one in QualityFlag if CADENCE_FLAGS & one and value & one)


def _levels(flux: FloatArray) -> FloatArray:
    """Return the median of each light curve, NaN where it is not positive."""
    masked = np.ma.median(np.ma.masked_invalid(flux), axis=0)
    median = np.ma.filled(masked.astype(np.float64), np.nan)
    return np.where(median > 0, median, np.nan)


def _unit(flux: FloatArray, level: FloatArray) -> tuple[str, float]:
    """Return label and factor of the changes: parts per million where nearly all are small, else per cent."""
    if not np.isfinite(level).any():
        return FLUX_LABEL, 1.0
    change = np.abs(flux / level - 1.0)
    finite = change[np.isfinite(change)]
    small = finite.size > 0 and float(np.percentile(finite, 99)) < _SMALL
    return ("change from the median flux (ppm)", 1e6) if small else ("change from the median flux (%)", 100.0)


def _new_panels(count: int) -> list[Axes]:
    n_column = 1 if count < 4 else 2
    n_row = -(-count // n_column)
    figure = new_figure(_PANEL_WIDTH * n_column + 0.6, _PANEL_HEIGHT * n_row + 0.9)
    panels = figure.subplots(n_row, n_column, sharex=True, squeeze=False).ravel()
    for ax in panels[count:]:
        ax.remove()
    for ax in panels[count - n_column : count]:
        ax.tick_params(labelbottom=True)
    return list(panels[:count])


def _label(panels: Sequence[Axes], unit: str, time_name: str, *, own: bool) -> None:
    """Label the axes: once for a figure of our own, on every panel of somebody else's; name the flags likewise."""
    marked = [ax for ax in panels if ax.get_legend_handles_labels()[1]]
    if not own:
        for ax in panels:
            ax.set(xlabel=time_name, ylabel=unit)
        for ax in marked:
            ax.legend(fontsize="small", frameon=False)
        return
    figure = root_figure(panels[0])
    figure.supxlabel(time_name, fontsize="medium")
    figure.supylabel(unit, fontsize="medium")
    if marked:
        found = [ax.get_legend_handles_labels() for ax in marked]
        names = sorted({name for _, (label,) in found for name in label.removeprefix("flagged: ").split(", ")})
        figure.legend([found[0][0][0]], [f"flagged: {', '.join(names)}"], loc="outside upper right", frameon=False)


def _draw_curve(ax: Axes, time: FloatArray, flux: FloatArray, flux_err: FloatArray, *, flags: IntArray) -> None:
    flagged = (flags & int(CADENCE_FLAGS)) != 0
    _draw_points(ax, time, flux, flux_err, chosen=~flagged, style={"color": _PLAIN, "mew": 0})
    named = name_flags(int(np.bitwise_or.reduce(flags[flagged & np.isfinite(flux)], initial=0)))
    style: _PointStyle = {"color": _FLAGGED, "mfc": "none", "mew": 0.9, "label": f"flagged: {named}" if named else None}
    _draw_points(ax, time, flux, flux_err, chosen=flagged, style=style)


def _draw_points(
    ax: Axes, time: FloatArray, flux: FloatArray, flux_err: FloatArray, *, chosen: BoolArray, style: _PointStyle
) -> None:
    if not chosen.any():
        return
    size = float(np.clip(600.0 / time.size, 1.0, 4.0)) + (1.5 if "mfc" in style else 0.0)
    drawn = ax.errorbar(
        time[chosen], flux[chosen], flux_err[chosen], fmt="o", ms=size, elinewidth=0.6, alpha=0.8, **style
    )
    for artist in drawn.get_children():
        artist.set_rasterized(True)
