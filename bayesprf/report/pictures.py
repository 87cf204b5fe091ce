"""Pictures of a Fit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesprf.errors import InputError
from bayesprf.fit_record import Fit
from bayesprf.plots.aperture import plot_aperture
from bayesprf.plots.lightcurve import plot_lightcurves
from bayesprf.plots.prf import plot_prf
from bayesprf.plots.records import PrfData
from bayesprf.plots.scene import plot_scene
from bayesprf.plots.shape import plot_shape
from bayesprf.plots.time_model import plot_time_model
from bayesprf.prf.stage import select_image
from bayesprf.prf.star_pixels import gather_star_pixels
from bayesprf.report.tree_pictures import draw_report
from bayesprf.results.images import prf_images
from bayesprf.timemodel.diagnostics import bin_by_pointing
from bayesprf.timemodel.prepare import pixels_without_sky
from bayesprf.timemodel.shift import ShiftModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Shown: light curves that are drawn where none are asked for.
_N_CURVE = 12


def draw_pictures(fit: Fit, tree: xr.DataTree) -> "dict[str, Figure]":
    """Draw all that a finished fit and its tree can show.

    Parameters
    ----------
    fit : Fit
        With PRF and fluxes.
    tree : xarray.DataTree
        Its results.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        "scene", "prf", "shape", "lightcurves", "noise", "errors" and, if there is one, "time_model".
    """
    figures = draw_report(tree) | {"scene": draw_scene(fit), "prf": draw_prf(fit), "shape": draw_shape(fit)}
    return figures | ({"time_model": draw_time_model(fit)} if fit.time_model is not None else {})


def draw_shape(
    fit: Fit, frame_index: object = "mean", *, bin_data: bool = False, figure: "Figure | SubFigure | None" = None
) -> "Figure":
    """Draw data, model and residual of the PRF, in sky and polar coordinates."""
    prf = fit.need("prf")
    image = select_image(fit, frame_index)
    fixed = prf.fixed_light if prf.background is None else prf.fixed_light + prf.background.light
    pixels = gather_star_pixels(prf.matrix, prf.flux, image, fixed=fixed, chosen=prf.training)
    with np.errstate(invalid="ignore", divide="ignore"):
        data = np.log10(pixels.light / pixels.flux)
    model = np.log10(prf.values[prf.training])
    return plot_shape(pixels.dx, pixels.dy, data, model, bin_data=bin_data, figure=figure)


def draw_prf(fit: Fit, *, figure: "Figure | SubFigure | None" = None) -> "Figure":
    """Draw the PRF as a smooth image beside the means of the training pixels and what it leaves of them."""
    prf = fit.need("prf")
    pixels = prf.star_pixels
    with np.errstate(invalid="ignore", divide="ignore"):
        data, weight = pixels.light / pixels.flux, pixels.flux**2 / pixels.variance
    trained = PrfData(pixels.dx, pixels.dy, data, prf.values[prf.training], weight)
    return plot_prf(prf_images(prf), trained, figure=figure)


def draw_scene(fit: Fit, sources: object = None, *, ax: "Axes | None" = None) -> "Figure":
    """Draw the mean image with the sources on it."""
    offset = (0.0, 0.0) if fit.prf is None else fit.prf.offset
    return plot_scene(fit.pixels, fit.sources, offset=offset, named=sources, ax=ax)


def draw_lightcurves(
    fit: Fit, sources: object = None, *, relative: bool = True, ax: "Axes | Sequence[Axes] | None" = None
) -> "Figure":
    """Draw light curves with errors, by default of the first twelve sources."""
    latest = fit.latest_flux
    chosen = fit.sources.indices(sources)[: _N_CURVE if sources is None else None]
    if chosen.size == 0:
        raise InputError("sources: expected at least one source to draw, got none; leave it out for the first twelve")
    return plot_lightcurves(
        fit.pixels.time,
        latest.flux[:, chosen],
        latest.flux_err[:, chosen],
        labels=[fit.sources.source_id[i] for i in chosen],
        flags=latest.flags[:, chosen],
        time_zero_jd=fit.pixels.instrument.time_zero_jd,
        relative=relative,
        ax=ax,
    )


def draw_aperture(fit: Fit, source: object, *, ax: "Axes | None" = None) -> "Figure":
    """Draw the pixels around a source with its aperture outlined."""
    apertures = fit.need("apertures")
    index = fit.sources.index(source)
    return plot_aperture(fit.pixels, apertures, index, name=fit.sources.source_id[index], ax=ax)


def draw_time_model(fit: Fit, *, figure: "Figure | SubFigure | None" = None) -> "Figure":
    """Draw pixels in the first and the last bin of time, or of the pointing where the PRF is shifted."""
    time = fit.need("time_model")
    if isinstance(time, ShiftModel):
        bins = bin_by_pointing(pixels_without_sky(fit), fit.need("prf"), time)
        return plot_time_model(
            bins.dx, bins.dy, bins.pointing, data=bins.data, model=bins.model, used=bins.used, along="pointing",
            figure=figure,
        )  # fmt: skip
    training = time.training
    return plot_time_model(
        training.dx,
        training.dy,
        training.time,
        data=time.data,
        model=time.model,
        used=time.used,
        time_zero_jd=fit.pixels.instrument.time_zero_jd,
        figure=figure,
    )
