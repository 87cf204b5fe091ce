"""The pictures that a saved tree can give by itself."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesprf.arrays import NamedDict
from bayesprf.plots.canvas import new_figure
from bayesprf.plots.lightcurve import plot_lightcurves
from bayesprf.results.summary import SourceSummary, summarize

# Light curves shown: so many of the brightest, and as many of the most variable among the rest.
_N_BRIGHT, _N_VARIABLE = 6, 6


def draw_report(tree: xr.DataTree) -> dict[str, Figure]:
    """Draw what a saved tree shows: light curves of the brightest and the most variable stars, and the noise.

    Parameters
    ----------
    tree : xarray.DataTree
        Results with fluxes.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        "lightcurves" and "noise".

    Raises
    ------
    InputError
        If the tree holds no fluxes.
    """
    lines = summarize(tree)
    return {"lightcurves": plot_tree_lightcurves(tree, choose_curves(lines)), "noise": plot_noise(lines)}


def choose_curves(lines: tuple[SourceSummary, ...]) -> tuple[SourceSummary, ...]:
    """Return the lines worth a look: the brightest, then the most variable of the rest.

    Parameters
    ----------
    lines : tuple of SourceSummary
        Summary of a tree, brightest first.

    Returns
    -------
    tuple of SourceSummary
        At most twelve, of sources that have a flux; the first line if none has.
    """
    finite = [line for line in lines if np.isfinite(line.flux)] or list(lines[:1])
    rest = sorted(finite[_N_BRIGHT:], key=lambda line: -np.nan_to_num(line.variability))
    return (*finite[:_N_BRIGHT], *rest[:_N_VARIABLE])


def plot_tree_lightcurves(tree: xr.DataTree, lines: tuple[SourceSummary, ...], *, axes: object = None) -> Figure:
    """Draw the light curves of some sources of a tree.

    Parameters
    ----------
    tree : xarray.DataTree
        Results with fluxes.
    lines : tuple of SourceSummary
        The sources, from the summary of the tree.
    axes : sequence of Axes, optional
        Where to draw, one per source; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure
    """
    photometry = tree["photometry"].to_dataset()
    order = {str(name): i for i, name in enumerate(photometry["source"].values)}
    places = [order[line.source] for line in lines]
    return plot_lightcurves(
        photometry["time"].values,
        photometry["flux"].values[:, places],
        photometry["flux_err"].values[:, places],
        labels=[f"{line.source}, {line.mag:.1f} mag" for line in lines],
        flags=photometry["flags"].values[:, places],
        time_zero_jd=float(tree.attrs.get("time_zero_jd", 0.0)),
        axes=axes,
    )


def plot_noise(lines: tuple[SourceSummary, ...], *, ax: Axes | None = None) -> Figure:
    """Draw the scatter of every light curve, and its quoted error, against magnitude.

    Parameters
    ----------
    lines : tuple of SourceSummary
        Summary of a tree.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure
    """
    ax = new_figure(6.4, 4.4).subplots() if ax is None else ax
    mag, scatter, error = (np.array([getattr(line, name) for line in lines]) for name in ("mag", "scatter", "error"))
    styles: tuple[tuple[Any, NamedDict], ...] = (
        (error, {"marker": "_", "s": 60, "color": "tab:orange", "label": "quoted error"}),
        (scatter, {"marker": "o", "s": 14, "color": "tab:blue", "label": "point-to-point scatter"}),
    )
    for values, style in styles:
        good = np.isfinite(mag) & np.isfinite(values) & (values > 0)
        ax.scatter(mag[good], 1e6 * values[good], **style)
    ax.set(xlabel="magnitude", ylabel="relative to the flux (ppm)", yscale="log")
    ax.legend(frameon=False)
    return ax.figure
