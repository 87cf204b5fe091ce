"""The time-model stage of a Fit: pixels and PRF in, the fitted change of the PRF out."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, IntArray, Named, NamedDict
from bayesprf.checks import as_array, check_choice, check_integer, check_names, shown
from bayesprf.design.cartesian import CartesianBasis
from bayesprf.design.smoothing import count_smooth
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import ConvergenceWarning, DataWarning, InputError, warn
from bayesprf.fit_record import Fit
from bayesprf.linalg.blas import in_one_blas_thread
from bayesprf.photometry.fluxes import default_prior, fit_flux
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.stage import fit_prf
from bayesprf.scene.image import reduce_image
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import PerturbationOptions, PrfRecipe, Settings, TimeRecipe
from bayesprf.stats import SIGMA_PER_MAD, median_over_time
from bayesprf.timemodel.columns import SMOOTH_DAYS, check_motion
from bayesprf.timemodel.fit import GainModel, check_increasing, fit_gain
from bayesprf.timemodel.gain import build_plane
from bayesprf.timemodel.prepare import has_neighbors, prepare_pixels, steady_neighbors
from bayesprf.timemodel.shift import PrfShift, ShiftModel
from bayesprf.timemodel.shift_fit import fit_shift, settle_light
from bayesprf.timemodel.training import choose_training
from bayesprf.timemodel.uncatalogued import add_roll_gain

_POSITIONS = ("poscorr", "centroid")
# A normal matrix of this size, byte, is factorised in a minute on one core, with two copies.
_MAX_BYTES = 1 << 29
# Definition: a time model is wild where it makes a star with this share of its PRF on the data lose or gain more than
# this factor by moving.
_WELL_COVERED, _WILD = 0.7, 2.0
# Settings of the splines in position, which are used by default where one is set.
_SPLINES = ("time_nknots", "time_radius", "cartesian_knot_spacing")
# Options of `PerturbationOptions` that the documented arguments and settings set.
_DOCUMENTED = ("trends", "basis", "resolution", "bin_method", "positions", "pca_ncomponents", "pca_smooth_time_scale")
# Arguments of `Machine.build_time_model` that are no options.
_APART = ("plot", "other_vectors")
_log = logging.getLogger("bayesprf")


def time_options(
    settings: Settings,
    trends: TrendOptions,
    *,
    positions: object,
    further: NamedDict,
    bin_method: str = "bin",
    pca_ncomponents: int = 0,
    pca_smooth_time_scale: float = 0.0,
) -> PerturbationOptions:
    """Return the options of the time model from settings, documented arguments and further keywords."""
    check_choice(positions, (False, None, *_POSITIONS), "positions")
    corrector = None if settings.time_corrector == "polynomial" else settings.time_corrector
    options = PerturbationOptions(
        trends=trends,
        basis=CartesianBasis(settings.time_nknots, settings.time_radius, spacing=settings.cartesian_knot_spacing),
        resolution=settings.time_resolution,
        positions=str(positions) if positions else corrector,
        bin_method=bin_method,
        pca_ncomponents=pca_ncomponents,
        pca_smooth_time_scale=pca_smooth_time_scale,
    )
    known = [name for name in PerturbationOptions.__dataclass_fields__ if name not in _DOCUMENTED]
    check_names(further, known, "kwargs")
    options = replace(options, **further)
    _check_size(options)
    return options


def parse_time_options(settings: Settings, given: Named) -> PerturbationOptions:
    """Return the options of keyword arguments of `Machine.build_time_model`, before there is anything to fit."""
    of_trends, rest = TrendOptions.__dataclass_fields__, PerturbationOptions.__dataclass_fields__
    check_names(given, [*of_trends, *(name for name in rest if name not in _DOCUMENTED[:3]), *_APART], "time_model")
    left = {name: value for name, value in given.items() if name not in _APART}
    trends = TrendOptions(**{name: left.pop(name) for name in of_trends if name in left})
    named: NamedDict = {name: left.pop(name) for name in _DOCUMENTED[3:] if name in left}
    return time_options(settings, trends, **{"positions": False, **named}, further=left)


def check_time_input(pixels: PixelTable, options: PerturbationOptions) -> None:
    """Raise if pixels lack what a time model with these options follows."""
    check_increasing(pixels.time)
    check_motion(options.positions, pixels)


def _check_size(options: PerturbationOptions) -> None:
    """Raise if the normal matrix of the time model would not fit into memory."""
    check_integer(options.basis.n_knots, "time_nknots", low=2)
    n_place = (options.basis.n_knots + options.basis.degree - 1) ** 2 + options.field_order * (options.field_order + 3)
    n_column = n_place * (options.trends.poly_order + 1)
    if 8 * n_column**2 > _MAX_BYTES:
        raise InputError(
            "time_nknots, field_order, poly_order: expected a time model whose normal matrix takes less than"
            f" {_MAX_BYTES / 1e9:.1f} GB, got {n_column} columns ({8 * n_column**2 / 1e9:.3g} GB); take fewer knots or"
            " a lower order"
        )


@in_one_blas_thread
def fit_time_model(fit: Fit, recipe: TimeRecipe) -> GainModel | ShiftModel:
    """Fit the time model to the pixels, or to what a shift of the PRF leaves of them where motion is large.

    Where no motion is asked for and the measured one is large, both are fitted, and the one that leaves less is kept.
    """
    pixels, prf, options = prepare_pixels(fit), fit.need("prf"), recipe.options
    if options.splines is None:
        options = replace(options, splines=fit.settings.differs(_SPLINES, pixels.instrument))
    check_motion(options.positions, pixels)
    _warn_of_unknown_motion(pixels, options.positions)
    pairs = choose_training(pixels, prf.matrix, prf.flux, prf.star_prf, options=options)
    unasked = _may_shift(fit, options, recipe.other_vectors)
    follow = replace(options, positions="centroid") if unasked else options
    shift = fit_shift(pixels, prf, pairs, options=follow, relearn=partial(_prf_near, fit))
    fit_rest = partial(
        fit_gain,
        pairs=pairs,
        plane=build_plane(pairs.change, pixels, pairs.prf.pairs, evaluate=prf.star_prf),
        other_vectors=recipe.other_vectors,
        fixed_light=prf.fixed_light,
    )
    shifted = None if shift is None else _beside_shift(pixels, prf, shift, options, fit_rest)
    if shifted is not None and not unasked:
        return shifted
    steady = pixels
    if has_neighbors(prf, pairs):
        first = fit_rest(pixels, options=replace(options, n_round=1))
        steady = steady_neighbors(pixels, prf, pairs, first)
    if shifted is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said below if these terms are kept
            plain = fit_rest(steady, options=replace(options, fix_pixels=False))
        if _leaves_less(pixels, prf, shifted, plain, pairs.pixel):
            return shifted
    gain = _add_roll(fit, pixels, fit_rest(steady, options=options), options)
    _warn_if_wild(prf, gain)
    return gain


def _may_shift(fit: Fit, options: PerturbationOptions, others: object) -> bool:
    """Whether a shift may be tried that was not asked for: beside plain columns, and a PRF that holds where stars go.

    Where the spacecraft rolls, any PRF: no term in time follows that.
    """
    prf, plain = fit.need("prf"), options.positions is None and others is None and options.pca_ncomponents == 0
    trends = replace(TrendOptions(), poly_order=options.trends.poly_order)
    plain &= options.trends == trends and trends.poly_order > 0 and not options.splines
    return plain and (fit.pixels.instrument.roll_hours > 0 or prf.joint.converged)


def _beside_shift(
    pixels: PixelTable, prf: PrfFit, shift: PrfShift, options: PerturbationOptions, fit_rest: Callable[..., GainModel]
) -> ShiftModel:
    """Return a shift of the PRF with the slow change that it leaves.

    What the mean image has beyond its PRF moves with the stars, and is no property of the pixels: as factors of these
    it made bright stars that drift by 0.9 pixel scatter by 1.34 to 1.54 bounds, 1.15 to 1.24 without.
    """
    steady, light = settle_light(pixels, prf, shift)
    still = replace(pixels, flux=np.where(pixels.ivar > 0, steady, np.nan))
    trends = replace(options.trends, poly_order=options.shift_order)
    left = replace(options, positions=None, trends=trends, fix_pixels=False, free_motion=False)
    return ShiftModel(shift, fit_rest(still, options=left), light)


def _leaves_less(pixels: PixelTable, prf: PrfFit, shifted: ShiftModel, gain: GainModel, chosen: IntArray) -> bool:
    """Whether a shift leaves less of the change of some pixels than time columns do, both without pixels' own numbers.

    Such numbers leave nothing of the very pixels that are compared, and tell nothing of those that stars share: with
    them blends of bright stars that drift by 0.22 pixel scattered by 2.1 bounds (nine in ten), without by 1.5. The
    numbers of the motion, and of light that moves along, count as Schwarz's (1978): where stars are faint it is noise.
    """
    count = max(int(np.count_nonzero(pixels.ivar[:, chosen])), 1)
    gained = _left_over(pixels, prf, gain, chosen) - _left_over(pixels, prf, shifted, chosen)
    _log.info("a shift of the PRF leaves %.4g of the variance that time columns leave", np.exp(-gained / count))
    number = 2 * (pixels.n_time if pixels.instrument.roll_hours > 0 else count_smooth(pixels.time, SMOOTH_DAYS))
    number += 0 if shifted.light is None else shifted.light.parts.shape[0] * chosen.size
    return bool(gained > number * np.log(count))


def _left_over(pixels: PixelTable, prf: PrfFit, model: GainModel | ShiftModel, chosen: IntArray) -> float:
    """Return minus twice the log likelihood of what changes in some pixels beside the model, each with its own scatter.

    The scatter is robust, and that of noise at least: where a PRF misses bright pixels by more than their noise, its
    chi-square would be that of outliers in all of them.
    """
    design = prf.matrix.changing(model).design()
    prior = default_prior(prf.flux, prf.image.cadence_error)
    flags = np.zeros(prf.pairs.n_source, np.int64)
    if model.light is not None:
        pixels = replace(pixels, flux=pixels.flux - model.light.image())
    flux = fit_flux(pixels, design, prior, source_flags=flags, fixed_light=prf.fixed_light).flux
    ivar = pixels.ivar[:, chosen]
    known = ivar > 0
    left = np.where(known, (pixels.flux - design.predict(np.nan_to_num(flux)))[:, chosen], np.nan)
    scatter = SIGMA_PER_MAD * median_over_time(np.abs(left - median_over_time(left, empty=0.0)), empty=0.0)
    noise = median_over_time(np.divide(1.0, ivar, out=np.full(ivar.shape, np.nan), where=known), empty=1.0)
    return float(known.sum(axis=0) @ np.log(np.maximum(scatter**2, noise)))


def _add_roll(fit: Fit, pixels: PixelTable, gain: GainModel, options: PerturbationOptions) -> GainModel:
    """Where the spacecraft rolls, add to the gain what fluxes fitted with the time model share with the roll."""
    prf, roll_hours = fit.need("prf"), pixels.instrument.roll_hours
    if roll_hours <= 0 or options.positions is None or gain.n_part == 1:
        return gain
    flux = fit_flux(
        pixels,
        prf.matrix.changing(gain).design(),
        default_prior(prf.flux, prf.image.cadence_error),
        source_flags=np.zeros(fit.sources.n_source, np.int32),
        fixed_light=prf.fixed_light,
    ).flux
    return add_roll_gain(gain, pixels.time, flux, roll_hours)


def _prf_near(fit: Fit, cadences: BoolArray) -> PrfFit:
    """Return the PRF of the mean over some cadences, fitted like the present one."""
    mask = fit.settings.time_mask
    wanted = cadences if mask is None else cadences & np.asarray(mask)
    image = reduce_image(fit.pixels, "mean", wanted if wanted.any() else cadences)
    return fit_prf(fit, fit.prf_recipe or PrfRecipe(), image)


def _warn_of_unknown_motion(pixels: PixelTable, positions: str | None) -> None:
    """Warn if the mission's own motion is unknown at some cadences: the mean is taken there."""
    if positions != "poscorr" or pixels.pos_corr is None:
        return
    unknown = int(np.count_nonzero(~np.isfinite(pixels.pos_corr).all(axis=1)))
    if unknown:
        warn(
            f"positions: expected pos_corr at every cadence, got none at {unknown} of {pixels.n_time}, where the mean"
            ' is taken; use "centroid", or leave these cadences out',
            DataWarning,
        )


def _warn_if_wild(prf: PrfFit, gain: GainModel) -> None:
    """Warn if the light that a star puts on its pixels changes more than any motion could make it."""
    share = prf.matrix.caught()[0]
    whole = share > _WELL_COVERED
    if gain.n_part == 1 or not whole.any():
        return
    parts = prf.matrix.changing(gain).caught()
    change = gain.mix @ (parts[:, whole] / share[whole])
    low, high = float(change.min()), float(change.max())
    if low < 1.0 / _WILD or high > _WILD:
        warn(
            f"build_time_model: a star's light on its pixels changes between {low:.2g} and {high:.2g} of its mean,"
            f" expected between {1 / _WILD:.2g} and {_WILD:g}; light curves fitted with fit_va=True are not to be"
            " trusted: subtract the sky, use fewer terms, or fit without the time model",
            DataWarning,
        )


def perturbed_prf(fit: Fit, time_index: object) -> csr_matrix | list[csr_matrix]:
    """Return the PRF of every source in every pixel at a cadence, sparse (n_source, n_pixel); a list for several."""
    n_time = fit.pixels.n_time
    chosen = as_array(time_index, "time_index")
    chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
    if not np.issubdtype(chosen.dtype, np.integer) or np.any((chosen < -n_time) | (chosen >= n_time)):
        raise InputError(f"time_index: expected whole numbers from 0 to {n_time - 1}, got {shown(time_index)}")
    changing = fit.need("prf").matrix.changing(fit.need("time_model"))
    return changing.at(int(chosen)) if chosen.ndim == 0 else [changing.at(int(one)) for one in chosen]
