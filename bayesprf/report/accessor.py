"""Pictures of a tree of results, as `tree.bayesprf`; matplotlib is loaded when one is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from bayesprf.report.page import Report


@xr.register_datatree_accessor("bayesprf")  # type: ignore[no-untyped-call]  # of xarray
class TreePictures:
    """Pictures of a tree that `to_datatree`, `posterior`, `sample` or `load_tree` gave.

    Parameters
    ----------
    tree : xarray.DataTree
        The results.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        """Give the first lines of the page: numbers and verdict."""
        from bayesprf.report.page import head_of

        return "\n".join(head_of(self._tree))

    def _repr_html_(self) -> str:
        """Show verdict and sources, and what made the tree at the end."""
        from bayesprf.report.page import make_summary

        return make_summary(self._tree)

    def plot(self, sources: str | Sequence[str] | None = None) -> "Figure":
        """Draw what the tree is about: light curves of results, intervals of draws.

        Parameters
        ----------
        sources : str or sequence of str, optional
            Which sources; a choice by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        return self.plot_forest(sources) if "posterior" in self._tree.children else self.plot_lightcurves(sources)

    def report(self, path: "str | Path | None" = None) -> "Report":
        """Make one page of all that the tree shows: see `Machine.report`."""
        from bayesprf.report.page import make_report

        page = make_report(self._tree)
        if path is not None:
            page.save(path)
        return page

    def plot_lightcurves(
        self, sources: object = None, *, relative: bool = True, ax: "Axes | Sequence[Axes] | None" = None
    ) -> "Figure":
        """Draw light curves: see `Machine.plot_lightcurves`."""
        from bayesprf.report.tree_pictures import draw_tree_lightcurves

        return draw_tree_lightcurves(self._tree, sources, relative=relative, ax=ax)

    def plot_noise(self, *, ax: "Axes | None" = None) -> "Figure":
        """Draw scatter and error against magnitude: see `Machine.plot_noise`."""
        from bayesprf.report.tree_pictures import draw_tree_noise

        return draw_tree_noise(self._tree, ax=ax)

    def plot_errors(self, sources: object = None, *, ax: "Axes | None" = None) -> "Figure":
        """Draw errors split into their parts: see `Machine.plot_errors`."""
        from bayesprf.report.tree_pictures import draw_tree_errors

        return draw_tree_errors(self._tree, sources, ax=ax)

    def plot_scene(self, sources: object = None, *, residual: bool = False, ax: "Axes | None" = None) -> "Figure":
        """Draw the image with its sources, or what the model leaves of it in units of its errors."""
        from bayesprf.report.tree_pictures import draw_tree_scene

        return draw_tree_scene(self._tree, sources, residual=residual, ax=ax)

    def plot_prf(self, *, figure: "Figure | SubFigure | None" = None) -> "Figure":
        """Draw the PRF as a smooth image: see `Machine.plot_prf`."""
        from bayesprf.report.tree_pictures import draw_tree_prf

        return draw_tree_prf(self._tree, figure=figure)

    def plot_corner(self, sources: str | Sequence[str] | None = None, *, cadence: int = 0) -> "Figure":
        """Draw joint and marginal densities of draws: see `bayesprf.plots.posterior.plot_corner`."""
        from bayesprf.plots.posterior import plot_corner

        return plot_corner(self._tree, sources, cadence=cadence)

    def plot_forest(self, sources: str | Sequence[str] | None = None, *, cadence: int = 0) -> "Figure":
        """Draw credible intervals of draws: see `bayesprf.plots.posterior.plot_forest`."""
        from bayesprf.plots.posterior import plot_forest

        return plot_forest(self._tree, sources, cadence=cadence)


def with_pictures(tree: xr.DataTree) -> xr.DataTree:
    """Return a tree that draws itself: loading this module has registered `tree.bayesprf`."""
    return tree
