"""Pictures of a Fit."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bayesprf.errors import InputError
from bayesprf.fit_record import Fit
from bayesprf.plots.aperture import plot_aperture
from bayesprf.plots.lightcurve import plot_lightcurves
from bayesprf.plots.perturbation import plot_time_model
from bayesprf.plots.scene import plot_scene
from bayesprf.plots.shape import plot_shape
from bayesprf.prf.stage import select_image
from bayesprf.prf.star_pixels import gather_star_pixels
from bayesprf.timemodel.diagnostics import bin_by_pointing
from bayesprf.timemodel.shift import ShiftModel
from bayesprf.timemodel.stage import pixels_without_sky

# Light curves that are drawn where none are asked for.
_N_CURVE = 12


def draw_prf(fit: Fit, frame_index: Any = "mean", *, bin_data: bool = False) -> Figure:
    """Draw data, model and residual of the PRF, in sky and polar coordinates."""
    prf = fit.need("prf")
    image = select_image(fit, frame_index)
    fixed = prf.fixed_light if prf.background is None else prf.fixed_light + prf.background.light
    pixels = gather_star_pixels(prf.matrix, prf.flux, image, fixed=fixed, chosen=prf.training)
    with np.errstate(invalid="ignore", divide="ignore"):
        data = np.log10(pixels.light / pixels.flux)
    return plot_shape(pixels.dx, pixels.dy, data, np.log10(prf.values[prf.training]), bin_data=bin_data)


def draw_scene(fit: Fit) -> Figure:
    """Draw the mean image with the sources on it."""
    return plot_scene(fit.pixels, fit.sources, offset=(0.0, 0.0) if fit.prf is None else fit.prf.offset)


def draw_lightcurves(fit: Fit, sources: object = None) -> Figure:
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
    )


def draw_aperture(fit: Fit, source: object) -> Figure:
    """Draw the pixels around a source with its aperture outlined."""
    apertures = fit.need("apertures")
    index = fit.sources.index(source)
    return plot_aperture(fit.pixels, apertures, index, name=fit.sources.source_id[index])


def draw_time_model(fit: Fit) -> Figure:
    """Draw pixels in the first and the last bin of time, or of the pointing where the PRF is shifted."""
    time = fit.need("time_model")
    if isinstance(time, ShiftModel):
        bins = bin_by_pointing(pixels_without_sky(fit), fit.need("prf"), time)
        return plot_time_model(
            bins.dx, bins.dy, bins.pointing, data=bins.data, model=bins.model, used=bins.used, along="pointing"
        )
    training = time.training
    return plot_time_model(
        training.dx,
        training.dy,
        training.time,
        data=time.data,
        model=time.model,
        used=time.used,
        time_zero_jd=fit.pixels.instrument.time_zero_jd,
    )
