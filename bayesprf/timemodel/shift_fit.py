"""Decides whether motion is modelled as a shift of the PRF, and learns that shift."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.smoothing import smooth_series
from bayesprf.photometry.fluxes import default_prior, fit_flux
from bayesprf.prf.fit import PrfFit
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import PerturbationOptions
from bayesprf.timemodel.columns import SMOOTH_DAYS, image_motion
from bayesprf.timemodel.pointing import PRF_ERROR, make_groups, measure_pointing, measure_smear
from bayesprf.timemodel.shift import FieldMotion, MovedPrf, PrfShift, build_shift
from bayesprf.timemodel.training import TrainingPairs
from bayesprf.timemodel.uncatalogued import UncataloguedLight, find_uncatalogued_light

# Derived: the PRF is fitted to cadences within this distance of the middle pointing, pixel, which smear it by its
# square over four, 0.3 % of the second moment of the narrowest PRF of these missions (0.9 pixel rms) ...
_NEAR_PIX = 0.1
# Derived: ... or to this share of all cadences if those are more: their mean is three times as noisy as that of all.
_NEAR_SHARE = 0.1
# Accuracy: rounds of fluxes and uncatalogued light.
_N_ROUND = 2

Relearn = Callable[[BoolArray], PrfFit]


def fit_shift(
    pixels: PixelTable, shape: PrfFit, pairs: TrainingPairs, *, options: PerturbationOptions, relearn: Relearn
) -> PrfShift | None:
    """Learn the motion as a shift of the PRF, if it is large.

    Parameters
    ----------
    pixels : PixelTable
        Data: float64, shape (n_time, n_pixel), electron / s.
    shape : PrfFit
        PRF of the mean image, smeared by the motion.
    pairs : TrainingPairs
        The training pixels.
    options : PerturbationOptions
        `positions`, `shift_limit` and `field_order`.
    relearn : callable
        Fits the shape again, to the mean over some cadences.

    Returns
    -------
    PrfShift or None
        None where no positions are asked for, the motion stays within `shift_limit` pixels, or no star has enough
        pixels to measure it from.

    Notes
    -----
    The PRF is fitted again to the cadences near the middle pointing; measured positions are then measured again too.
    """
    if options.positions is None or pairs.chosen.size == 0 or pixels.n_time < 2:
        return None
    given, change = image_motion(options.positions, pixels, pairs), pairs.change
    if _extent(given) <= options.shift_limit:
        return None
    if options.positions == "centroid" and not make_groups(pixels, shape.matrix, shape.flux):
        return None
    powers = tuple(change.powers[1:])  # the motion itself is that of the middle
    field = FieldMotion(change.position, powers, np.zeros((len(powers), 2, 2)))
    moved = MovedPrf(shape.star_prf, np.zeros_like(change.position), field)
    motion, moved = _point(pixels, shape, moved, options, given=given)
    near = _near(motion, pixels.instrument.pixel_scale)
    sharp = relearn(near)
    offset = np.array(sharp.offset) - shape.offset + sharp.positions.shift - shape.positions.shift
    motion, moved = _point(pixels, shape, MovedPrf(sharp.star_prf, offset, moved.field), options, given=given)
    if options.positions == "poscorr":
        motion = motion - np.nanmean(motion[near], axis=0)
    motion = np.nan_to_num(motion)
    smear = measure_smear(pixels, moved, shape.matrix, shape.flux, motion=motion)
    scale = pixels.instrument.pixel_scale
    sums = partial(moved.plane_sums, pairs=shape.pairs, axes=pixel_axes(pixels), radius=sharp.prf.basis.rmax)
    return build_shift(motion, moved, shape.pairs, mean=shape.star_prf, scale=scale, sums=sums, smear=smear)


def settle_light(pixels: PixelTable, shape: PrfFit, shift: PrfShift) -> tuple[FloatArray, UncataloguedLight | None]:
    """Fit the fluxes with the shifted PRF, and where the spacecraft rolls, the light of uncatalogued stars.

    Parameters
    ----------
    pixels : PixelTable
        Data.
    shape : PrfFit
        PRF of the mean image, pairs and known light.
    shift : PrfShift
        The shifted PRF.

    Returns
    -------
    steady : ndarray of float64, shape (n_time, n_pixel)
        The data as they would be without motion: uncatalogued light and what motion did to the sources subtracted.
    light : UncataloguedLight or None
        The light of uncatalogued stars.
    """
    pairs, hours = shape.pairs, pixels.instrument.roll_hours
    design = shape.matrix.changing(shift).design()
    prior = default_prior(shape.flux, shape.image.cadence_error)
    flags = np.zeros(pairs.n_source, np.int64)
    sky = None if shape.background is None else shape.background.columns

    def fit(data: PixelTable) -> FloatArray:
        return fit_flux(data, design, prior, source_flags=flags, fixed_light=shape.fixed_light, background=sky).flux

    flux, light, data = fit(pixels), None, pixels
    if hours > 0:
        # Parts of the shift that carry less light than the PRF is wrong by tell nothing of uncatalogued light.
        mix = shift.mix[:, shift.size > PRF_ERROR * shift.size[0]]
        for _ in range(_N_ROUND):
            light = find_uncatalogued_light(
                pixels, design, flux, fixed_light=shape.fixed_light, mix=mix, roll_hours=hours
            )
            data = replace(pixels, flux=pixels.flux - light.image())
            flux = fit(data)
    flux = np.nan_to_num(flux)
    return data.flux - design.predict(flux) + shape.matrix.image(flux), light


def _extent(motion: FloatArray) -> float:
    """Return the range of a motion, 1st to 99th percentile along the side where it is larger, pixel."""
    low, high = np.nanpercentile(motion, [1.0, 99.0], axis=0)
    return float(np.max(high - low))


def _point(
    pixels: PixelTable, shape: PrfFit, moved: MovedPrf, options: PerturbationOptions, *, given: FloatArray
) -> tuple[FloatArray, MovedPrf]:
    """Return the motion, arcsec, and the PRF with how it differs over the field: given (pixel), or measured."""
    if options.positions == "poscorr":
        return (given - np.nanmean(given, axis=0)) @ pixel_axes(pixels).T, moved
    motion, field = measure_pointing(pixels, moved, shape.matrix, shape.flux)
    if pixels.instrument.roll_hours <= 0:
        motion = smooth_series(pixels.time, motion, SMOOTH_DAYS)
    return motion, replace(moved, field=field)


def _near(motion: FloatArray, scale: float) -> BoolArray:
    """Return the cadences near the middle pointing, shape (n_time,)."""
    distance = np.hypot(*(motion - np.nanmedian(motion, axis=0)).T)
    return np.asarray(distance <= max(_NEAR_PIX * scale, float(np.nanquantile(distance, _NEAR_SHARE))))
