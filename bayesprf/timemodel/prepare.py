"""What the time model is trained on: pixels less their sky, errors that do not follow the light, steady neighbours."""

from dataclasses import replace

import numpy as np

from bayesprf.fit_record import Fit
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.background import BackgroundColumns
from bayesprf.photometry.fluxes import FluxFit, default_prior, fit_flux
from bayesprf.prf.fit import PrfFit
from bayesprf.scene.garbage import drop_values
from bayesprf.scene.pixel_errors import ModelLight, UsualVariance
from bayesprf.scene.pixels import PixelTable
from bayesprf.timemodel.fit import GainModel
from bayesprf.timemodel.training import TrainingPairs

# Cost: values that are changed at once.
_CHUNK_ELEMENTS = 1 << 20


def prepare_pixels(fit: Fit) -> PixelTable:
    """Return the pixels without sky, and with weights that are averaged over time.

    Errors made from the counts weigh the faint cadences of a star that varies more, in its bright pixels alone: in the
    mean over a bin its PRF would seem to change.
    """
    pixels = pixels_without_sky(fit)
    usual = UsualVariance.of(pixels)
    return pixels if usual.is_given else pixels.reweighed(pixels.flux, usual.ivar())


def pixels_without_sky(fit: Fit) -> PixelTable:
    """Return the pixels less the background of each cadence, and without the values that are not in the mean image.

    Stars that move change the sky of a cutout beside a PRF that does not: of cutouts only the change is subtracted that
    they have in common.
    """
    prf = fit.need("prf")
    pixels = drop_values(fit.pixels, prf.image.left_out)
    if prf.background is None:
        return pixels
    design = prf.matrix.without(pixels.spilled).design()
    sky = _solve(pixels, prf, design, prf.background.columns).background_flux()
    if fit.settings.background is not None and fit.settings.background.scope == "stamp":
        sky = prf.background.light + np.median(sky - sky.mean(axis=0), axis=1)[:, None]
    return replace(pixels, flux=pixels.flux - sky)


def has_neighbors(prf: PrfFit, training: TrainingPairs) -> bool:
    """Whether a training pixel has light that is not its star's own."""
    own = training.light[training.chosen]
    return prf.background is not None or bool(np.any(prf.matrix.image(prf.flux)[training.pixel] != own))


def steady_neighbors(pixels: PixelTable, prf: PrfFit, training: TrainingPairs, gain: GainModel) -> PixelTable:
    """Return the pixels as they would be if the neighbours of each training pixel's star varied in step with it.

    In a pixel of a star that varies, the light of a constant neighbour looks like a change of its PRF, and so does the
    change of a neighbour's light. The fluxes are those of a first time model, of one round: what single pixels do
    beyond the common change is not in it, which in a blend would come back as what its stars do.

    Parameters
    ----------
    pixels : PixelTable
        Data.
    prf : PrfFit
        Mean PRF.
    training : TrainingPairs
        The training pixels, and their stars.
    gain : GainModel
        The first time model.

    Returns
    -------
    PixelTable
    """
    sky = None if prf.background is None else prf.background.columns
    found = _solve(pixels, prf, prf.matrix.changing(gain).design(), sky)
    flux = np.nan_to_num(found.flux)
    mean = flux.mean(axis=0)
    factor = np.divide(flux, mean, out=np.ones_like(flux), where=mean > 0)
    steady = pixels.flux - found.background_flux() if sky is not None else pixels.flux.copy()
    light, usual = ModelLight(prf.matrix.design(), flux).at(training.pixel), prf.matrix.image(mean)[training.pixel]
    step = max(1, _CHUNK_ELEMENTS // max(training.pixel.size, 1))
    for start in range(0, pixels.n_time, step):
        part = slice(start, start + step)
        steady[part, training.pixel] -= light.predict(part) - factor[part, training.source] * usual
    return pixels.reweighed(steady, pixels.ivar)


def _solve(
    pixels: PixelTable, prf: PrfFit, design: DesignStack, background: BackgroundColumns | None = None
) -> FluxFit:
    return fit_flux(
        pixels,
        design,
        default_prior(prf.flux, prf.image.cadence_error),
        source_flags=np.zeros(prf.pairs.n_source, np.int64),
        fixed_light=prf.fixed_light,
        background=background,
    )
