"""Errors of fluxes, split into their parts."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesprf.checks import as_float, check_shape
from bayesprf.plots.canvas import new_figure, root_figure
from bayesprf.plots.scene import shorten


def plot_errors(names: Sequence[str], parts: Mapping[str, object], *, ax: Axes | None = None) -> Figure:
    """Draw the parts of each source's error as points on one line, and their sum in quadrature.

    Parameters
    ----------
    names : sequence of str, shape (n_source,)
        Names of the sources, the first on top.
    parts : mapping of str to array-like, shape (n_source,)
        Standard deviations by cause, relative to the flux, the noise first. Zero and NaN are not drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If a part does not have one entry per source.
    """
    values = {name: as_float(one, name) for name, one in parts.items()}
    for name, one in values.items():
        check_shape(one, (len(names),), name, "n_source")
    ax = new_figure(8.0, 1.6 + 0.24 * len(names)).subplots() if ax is None else ax
    place = np.arange(len(names))
    total = 100.0 * np.sqrt(sum(np.nan_to_num(one) ** 2 for one in values.values()))
    ax.barh(place, total, color="0.88", height=0.8, label="total", zorder=1)
    for k, (name, one) in enumerate(values.items()):
        good = np.isfinite(one) & (one > 0)
        marker, size = ("|", 70) if k == 0 else ("o", 22)
        ax.scatter(100.0 * one[good], place[good], s=size, marker=marker, color=f"C{k}", label=name)
    ax.set_yticks(place, [shorten(one) for one in names], fontsize="small")
    ax.set(xlabel="error of the flux of one cadence (% of the flux)", ylim=(len(names) - 0.4, -0.6))
    if total.max(initial=0.0) > 0:
        ax.set_xscale("log")
        smallest = min(float(one[one > 0].min()) for one in values.values() if (np.nan_to_num(one) > 0).any())
        ax.set_xlim(max(50.0 * smallest, 1e-4 * float(total.max())), 1.3 * float(total.max()))
    ax.grid(axis="x", alpha=0.3)
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize="small", frameon=False)
    return root_figure(ax)
