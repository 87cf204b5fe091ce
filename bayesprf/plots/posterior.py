"""Posterior draws as pictures, by arviz-plots."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from bayesprf.errors import InputError

if TYPE_CHECKING:
    from arviz_plots.plot_collection import PlotCollection

# A corner plot of more numbers than this cannot be read.
_MAX_CORNER = 10
_RELATIVE = "flux − mean (%)"


def plot_corner(tree: xr.DataTree, sources: str | Sequence[str] | None = None, *, cadence: int = 0) -> Figure:
    """Draw joint and marginal densities of the fluxes at one cadence, and of what was learned with them.

    Parameters
    ----------
    tree : xarray.DataTree
        Draws of `Machine.posterior` or `Machine.sample`.
    sources : str or sequence of str, optional
        Names of the sources; all by default.
    cadence : int
        Index of the cadence, where there are several.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the tree holds no draws, a source or cadence is not in it, or there are more than ten numbers.
    """
    import arviz_plots as azp

    drawn = _select(tree, sources, cadence)
    count = _count(drawn)
    if count > _MAX_CORNER:
        raise InputError(f"sources: expected at most {_MAX_CORNER} numbers in a corner plot, got {count}; name fewer")
    side = 1.5 + 1.9 * count
    grid = azp.plot_pair(
        xr.DataTree.from_dict({"posterior": drawn}),
        marginal=True,
        visuals={"divergence": False, "scatter": {"alpha": 0.15, "size": 4}},
        backend="matplotlib",
        figure_kwargs={"figsize": (side, side)},
    )
    figure = _detached(grid)
    for ax in figure.axes:
        place = ax.get_subplotspec()
        ax.tick_params(labelsize="x-small", labelrotation=30)
        if (place is not None and not place.is_first_col()) or ax is figure.axes[0]:
            ax.tick_params(labelleft=False)
    return figure


def plot_forest(tree: xr.DataTree, sources: str | Sequence[str] | None = None, *, cadence: int = 0) -> Figure:
    """Draw credible intervals of the fluxes at one cadence, and of what was learned with them.

    Parameters
    ----------
    tree : xarray.DataTree
        Draws of `Machine.posterior` or `Machine.sample`.
    sources : str or sequence of str, optional
        Names of the sources; all by default.
    cadence : int
        Index of the cadence, where there are several.

    Returns
    -------
    matplotlib.figure.Figure
        Means and intervals as arviz-plots draws them. Fluxes are drawn as their relative difference from their mean,
        in per cent: those of different stars do not fit one axis.

    Raises
    ------
    InputError
        If the tree holds no draws, or a source or cadence is not in it.
    """
    import arviz_plots as azp

    drawn = _select(tree, sources, cadence)
    count = _count(drawn)
    if "flux" in drawn:
        flux = drawn["flux"]
        drawn = drawn.drop_vars("flux").assign({_RELATIVE: 100.0 * (flux / flux.mean(("chain", "draw")) - 1.0)})
    size = (9.0, 1.5 + 0.4 * count)
    forest = azp.plot_forest(
        xr.DataTree.from_dict({"posterior": drawn}),
        combined=True,
        backend="matplotlib",
        figure_kwargs={"figsize": size},
    )
    return _detached(forest)


def count_numbers(tree: xr.DataTree) -> int:
    """Return how many numbers the draws hold at one cadence.

    Parameters
    ----------
    tree : xarray.DataTree
        Draws.

    Returns
    -------
    int
    """
    return _count(_select(tree, None, 0))


def _count(drawn: xr.Dataset) -> int:
    return sum(int(np.prod(one.shape[2:])) for one in drawn.data_vars.values())


def _select(tree: xr.DataTree, sources: str | Sequence[str] | None, cadence: int) -> xr.Dataset:
    """Return the draws of some sources at one cadence."""
    if "posterior" not in tree.children:
        raise InputError(f"tree: expected draws in a group /posterior, got {sorted(tree.children)}; call posterior()")
    drawn = tree["posterior"].to_dataset()
    if "time" in drawn.dims:
        if not -drawn.sizes["time"] <= cadence < drawn.sizes["time"]:
            raise InputError(f"cadence: expected an index below {drawn.sizes['time']}, got {cadence}")
        drawn = drawn.isel(time=cadence, drop=True)
    if sources is not None:
        names = [sources] if isinstance(sources, str) else list(sources)
        unknown = [one for one in names if one not in drawn["source"].to_numpy()]
        if unknown:
            raise InputError(f"sources: expected names of the tree's sources, got {unknown[0]!r}")
        drawn = drawn.sel(source=names)
    return drawn


def _detached(grid: "PlotCollection") -> Figure:
    """Return the figure of arviz-plots, taken out of pyplot's registry, so that nothing has to close it."""
    figure: Figure = grid.viz["figure"].item()
    plt.close(figure)
    figure.set_layout_engine("constrained")
    return figure
