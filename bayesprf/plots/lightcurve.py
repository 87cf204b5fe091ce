"""Light curves with errors, one panel per source."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesprf.checks import as_float, check_shape
from bayesprf.flags import CADENCE_FLAGS
from bayesprf.plots.canvas import FLUX_LABEL, new_figure, time_label

_PANEL_WIDTH, _PANEL_HEIGHT = 5.2, 1.7


def plot_lightcurves(
    time: object,
    flux: object,
    flux_err: object,
    *,
    labels: Sequence[str],
    flags: object = None,
    time_zero_jd: float = 0.0,
    axes: Any = None,
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
        Quality bits; cadences with a bit of their own are drawn in another colour.
    time_zero_jd : float
        Julian date of time 0, for the label of the axis.
    axes : sequence of Axes, shape (n_source,), optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the shapes do not agree.
    """
    time, flux, flux_err = (
        as_float(time, "time", ndim=1),
        as_float(flux, "flux", ndim=2),
        as_float(flux_err, "flux_err"),
    )
    shape = (time.size, len(labels))
    check_shape(flux, shape, "flux", "n_time, one per label")
    check_shape(flux_err, shape, "flux_err", "n_time, one per label")
    flags = np.zeros(shape, np.int64) if flags is None else np.asarray(flags)
    check_shape(flags, shape, "flags", "n_time, one per label")
    panels = _new_panels(len(labels), time_label(time_zero_jd)) if axes is None else np.atleast_1d(axes)
    for i, (ax, label) in enumerate(zip(panels, labels, strict=True)):
        flagged = (flags[:, i] & int(CADENCE_FLAGS)) != 0
        _draw_points(ax, time, flux[:, i], flux_err[:, i], chosen=~flagged, color="tab:blue")
        _draw_points(ax, time, flux[:, i], flux_err[:, i], chosen=flagged, color="tab:orange")
        ax.set_title(label, fontsize="medium", loc="left")
        ax.ticklabel_format(axis="y", useOffset=False, style="plain")
    return panels[0].figure


def _new_panels(count: int, label: str) -> Any:
    n_column = 1 if count < 4 else 2
    n_row = -(-count // n_column)
    figure = new_figure(_PANEL_WIDTH * n_column + 0.6, _PANEL_HEIGHT * n_row + 0.8)
    panels = figure.subplots(n_row, n_column, sharex=True, squeeze=False).ravel()
    for ax in panels[count:]:
        ax.remove()
    for ax in panels[count - n_column : count]:
        ax.tick_params(labelbottom=True)
    figure.supxlabel(label, fontsize="medium")
    figure.supylabel(FLUX_LABEL, fontsize="medium")
    return panels[:count]


def _draw_points(ax: Axes, time: Any, flux: Any, flux_err: Any, *, chosen: Any, color: str) -> None:
    if not chosen.any():
        return
    size = float(np.clip(600.0 / time.size, 1.0, 4.0))
    style = {"fmt": "o", "ms": size, "mew": 0, "elinewidth": 0.6, "ecolor": color, "alpha": 0.8}
    drawn = ax.errorbar(time[chosen], flux[chosen], flux_err[chosen], color=color, **style)
    for artist in drawn.get_children():
        artist.set_rasterized(True)
