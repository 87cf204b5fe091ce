"""The PRF stage of a Fit: image, pairs and settings in, the fitted PRF out."""

import logging
import warnings
from dataclasses import replace

import numpy as np

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import PACKAGE_FILES, ConvergenceWarning, DataWarning, InputError, UnsupportedError, warn
from bayesprf.fit_record import Fit
from bayesprf.linalg.blas import in_one_blas_thread
from bayesprf.photometry.background import build_background, first_guess
from bayesprf.prf.fit import PrfFit, SkyFound
from bayesprf.prf.joint.choice import (
    SIGNIFICANT,
    WORTH_A_TRY,
    Choice,
    choose_fit,
    color_score,
    dark_light,
    detail_score,
    expected_dark_light,
    is_settled,
    level_of_sky,
    may_be_finer,
    may_hold_sky,
    never_ends,
    variation_score,
)
from bayesprf.prf.joint.objective import JointFit
from bayesprf.prf.joint.problem import finer
from bayesprf.prf.joint.stage import check_size, fit_joint_shape
from bayesprf.prf.scene import Scene
from bayesprf.prf.sky_order import further_sky, order_of, sky_beyond
from bayesprf.prf.training import Calibrators, count_calibrators
from bayesprf.prf.twins import SAME_STAR_PIX, as_one_star, find_groups
from bayesprf.scene.colors import scaled_colors
from bayesprf.scene.image import Image, reduce_image
from bayesprf.settings import (
    INSTRUMENT_PRF,
    MAX_BACKGROUND_ORDER,
    Background,
    PrfRecipe,
)

# Format: the surfaces over the field that are tried, by their order from 1 on.
_SURFACES = ("plane", "quadratic surface")
# Settings of the splines: both the documented ones and those for the instrument's pixels leave these to the fit.
_SPLINES = ("rmin", "rmax", "cut_r", "n_r_knots", "n_phi_knots")
_NO_STARS = (
    "sources: expected stars bright enough in these pixels to learn the PRF from, got none; check positions, and give a"
    " PRF by prf for stars as faint as these"
)
_MOVES = "does not settle"
_log = logging.getLogger("bayesprf")


def fit_prf(fit: Fit, recipe: PrfRecipe, image: Image | None = None) -> PrfFit:
    """Fit the PRF to an image, by default the one that the recipe names."""
    return fit_chosen_prf(fit, recipe, image)[0]


@in_one_blas_thread
def fit_chosen_prf(fit: Fit, recipe: PrfRecipe, image: Image | None = None) -> tuple[PrfFit, PrfRecipe]:
    """Fit the PRF, and return it with the recipe in which "auto" is decided.

    The fit takes the PRF of the instrument's record, and what the stars say against it, if they are too few to train a
    PRF on: pixels of bright ones that light them alone, one per weight, and as many stars as their spread about the PRF
    can be learned from. Where the stars agree on how it would vary over the field, a PRF that does is fitted, as a
    plane and then as a quadratic surface, and kept if it leaves less light in the wrong pixels; where they agree on
    finer columns of a constant PRF, or on how it follows the colours that are named, likewise.

    Raises
    ------
    InputError
        If there is no pixel to train on, or there are no such colours.
    UnsupportedError
        If the pixels tell of no PRF, or there are too many pairs of star and pixel.
    """
    color = recipe.shape.color_column
    if color is not None:
        scaled_colors(fit.sources, color)
    scene = _scene(fit, select_image(fit, recipe.frame_index) if image is None else image, recipe)
    check_size(scene)
    if recipe.shape.method == "joint":
        return _detailed(fit, *_varied(fit, *_fit_with_sky(fit, scene, recipe)))
    plain = recipe.updated(color_column=None)
    return _detailed(fit, *_colored(fit, color, *_varied(fit, *_fit_with_sky(fit, scene, plain))))


def _fit_constant(fit: Fit, scene: Scene, recipe: PrfRecipe) -> tuple[PrfFit, PrfRecipe]:
    """Fit a PRF that is the same at all places, with what is expected of it as asked, or as the stars need it."""
    if recipe.shape.is_chosen:
        joint = recipe.updated(method="joint")
        found = _fit_jointly(scene, joint)
        if recipe.shape.prf is None:
            return found, joint
        # A PRF known beforehand is asked for where the pixels tell little of it, and of a sky.
        return _with_sky_found(fit, scene, found, joint, few=_are_few(fit, scene, joint))
    calibrators = _count(fit, scene, recipe)
    found, chosen = _fit_as_needed(fit, scene, recipe, calibrators)
    return _with_sky_found(fit, scene, found, chosen, few=calibrators.few)


def _fit_with_sky(fit: Fit, scene: Scene, recipe: PrfRecipe) -> tuple[Scene, PrfFit, PrfRecipe]:
    """Fit a constant PRF, and the sky with one order more at a time while the pixels tell of it.

    Each must leave no more light in the wrong pixels. An order that was asked for is kept, and what lies beyond it, or
    beyond the highest one, is said. All this comes before a PRF that varies over the field, which would follow such a
    sky.
    """
    found, chosen = _fit_constant(fit, scene, recipe)
    asked = fit.settings.background
    while asked is not None and _may_tell_of_sky(fit, scene, found, recipe):
        more = further_sky(fit.pixels, found)
        if more is None:
            break
        if more[0] > MAX_BACKGROUND_ORDER:
            return scene, replace(found, sky_beyond=more), chosen
        before = 0 if found.background is None else int(order_of(found.background.columns).max())
        wider = _with_sky_of(_bare(scene), replace(asked, order=more[0]))
        other, _ = _try_jointly(wider, chosen, before=found.joint)
        told = None if other is None or other.background is None else sky_beyond(other.background, before)
        kept = other is not None and told is not None and choose_fit(found, other).kept
        _log.info(
            "a sky of order %d, beyond the one of order %d, is %s", more[0], before, "kept" if kept else "refused"
        )
        if other is None or not kept:
            break
        if not asked.finds_order:
            return scene, replace(found, sky_beyond=told), chosen
        scene, found = wider, other
    return scene, found, chosen


def _may_tell_of_sky(fit: Fit, scene: Scene, found: PrfFit, recipe: PrfRecipe) -> bool:
    """Whether a fit has one sky for all pixels, and stars that do not take it for wings."""
    sky = found.background
    one = sky is not None and not sky.columns.patch.any()
    return one and not _count(fit, scene, recipe).few


def _fit_as_needed(fit: Fit, scene: Scene, recipe: PrfRecipe, there: Calibrators) -> tuple[PrfFit, PrfRecipe]:
    """Fit with no prior but smoothness, or with the instrument's record where stars are too few, or that settles alone.

    The record is that of a star at rest, which is not the mean of one that rolls: there it comes last, where few stars
    leave the wing as flat as light allows.
    """
    alone, instrument = recipe.updated(method="joint", prf=None), fit.pixels.instrument
    order = [alone]
    if instrument.prf_widths is not None and recipe.shape.smoothness is None:
        order.append(recipe.updated(method="joint", prf=INSTRUMENT_PRF))
    rolls = instrument.roll_hours > 0
    if there.few:
        _log.info("%s", there)
        if not rolls:
            order.reverse()
    if order[0] is alone and not there.n_star:
        raise InputError(_NO_STARS)
    best: tuple[PrfFit, PrfRecipe] | None = None
    for joint in order:
        found, told = _try_jointly(scene, joint)
        settled = found is not None and is_settled(found)
        prior = "smoothness alone" if joint is alone else "the PRF of the instrument's record"
        _log.info("a fit of the PRF with %s as its prior %s", prior, told or ("settles" if settled else _MOVES))
        if found is not None and (settled or best is None):
            best = found, joint
        if found is not None and settled and not (rolls and there.few and never_ends(found)):
            break
    if best is None:
        raise UnsupportedError(f"pixels: expected some that tell of a PRF, but a fit of it {told}; give the PRF by prf")
    if not is_settled(best[0]):
        warn(
            "the PRF: expected a fit whose steps get small beside its errors, got one that still moves after the last;"
            " check the catalogue, or give the PRF by prf",
            ConvergenceWarning,
        )
    return best


def _hides_sky(scene: Scene, found: PrfFit) -> bool:
    """Whether a sky may have gone into the wings of the stars of a joint fit."""
    columns = build_background(scene.pixels, scene.image, Background("image", order=0))
    joint = found.joint
    return (joint.decided is None and never_ends(found)) or may_hold_sky(joint, columns)


def _with_sky_found(fit: Fit, scene: Scene, found: PrfFit, recipe: PrfRecipe, *, few: bool) -> tuple[PrfFit, PrfRecipe]:
    """Say of a fit without a sky that one is left in the pixels, if it is.

    Few stars leave few pixels dark enough to show a sky: one is looked for beside any fit of these that leans on a PRF
    known beforehand, and beside one whose wings fall as slowly as light may.
    """
    leans = few and recipe.shape.prf is not None
    if scene.background is not None or not (leans or _hides_sky(scene, found)):
        return found, recipe
    sky = _find_sky(fit, scene, recipe, found, few=few)
    if sky is None:
        return found, recipe
    finer = None if few else _finer_without_sky(fit, scene, found, recipe)
    return finer or (replace(found, sky_found=sky), recipe)


def _finer_without_sky(fit: Fit, scene: Scene, found: PrfFit, recipe: PrfRecipe) -> tuple[PrfFit, PrfRecipe] | None:
    """Return a fit with finer columns that finds no sky, if there is one.

    One PRF for all places whose columns are too coarse may need a sky that is none for what it misses.
    """
    joint, orders = found.joint, range(1, len(_SURFACES) + 1)
    if any(variation_score(joint, order) > SIGNIFICANT for order in orders):
        return None
    other, denser = _detailed(fit, scene, found, recipe)
    if other is found or _find_sky(fit, scene, denser, other, few=False) is not None:
        return None
    return other, denser


def _varied(fit: Fit, scene: Scene, found: PrfFit, recipe: PrfRecipe) -> tuple[Scene, PrfFit, PrfRecipe]:
    """Let the PRF vary over the field, by one order more at a time, where the stars may agree on it; or return the fit.

    A PRF that is wider towards the edges on all sides follows no plane: each order is asked for its own columns, and
    the second whether or not the first is kept. What is tried must leave less of the pixels. Where a sky was found in
    them, which a surface may take, none must be found beside it: one PRF for all places may need a sky that is none,
    and so may a plane where a surface bends.
    """
    if recipe.shape.field_variation is not None or found.sky_beyond is not None:
        return scene, found, recipe
    best = found, recipe
    for order, surface in enumerate(_SURFACES, start=1):
        if not _may_follow_places(found, order):
            continue
        varying = recipe.updated(method="joint", field_variation=order)
        other, told = _try_jointly(scene, varying, before=found.joint)
        choice = Choice(False, told) if other is None else choose_fit(found, other, demanding=True)
        _log.info("the joint fit of a PRF that varies over the field as a %s %s", surface, choice.reason)
        if other is None or not choice.kept:
            continue
        found, recipe = other, varying
        if best[0].sky_found is None or _find_sky(fit, scene, varying, other, few=False) is None:
            best = found, recipe
        else:
            _log.info("a sky is found beside it too")
    return scene, *best


def _colored(
    fit: Fit, asked: str | None, scene: Scene, found: PrfFit, recipe: PrfRecipe
) -> tuple[Scene, PrfFit, PrfRecipe]:
    """Let the PRF follow the colours of the stars that are asked for, if these agree on how; or return the fit."""
    if asked is None:
        return scene, found, recipe
    joint, color = found.joint, scaled_colors(fit.sources, asked)
    if not color_score(joint, color) > SIGNIFICANT:
        _log.info("the stars do not agree on a PRF that follows their colours")
        return scene, found, recipe
    colored = recipe.updated(method="joint", field_variation=joint.prf.order, color_column=asked)
    other, told = _try_jointly(scene, colored)
    choice = Choice(False, told) if other is None else choose_fit(found, other, demanding=True)
    _log.info("the joint fit of a PRF that follows the colours of the stars %s", choice.reason)
    return (scene, other, colored) if other is not None and choice.kept else (scene, found, recipe)


def _detailed(fit: Fit, scene: Scene, found: PrfFit, recipe: PrfRecipe) -> tuple[PrfFit, PrfRecipe]:
    """Give a constant PRF twice the knots if the stars agree on what that adds; or return the fit.

    What it costs, four times the weights, is spent where the PRF misses the pixels by as much as noise does, in images
    of which all pixels decide, and where stars light as many pixels alone as it has weights.
    """
    joint = found.joint
    asked = recipe.shape.knot_density is not None or scene.basis is not None
    if asked or joint.decided is not None:
        return found, recipe
    if np.count_nonzero(found.training) < finer(joint.problem.basis).n_basis:
        return found, recipe
    if not (may_be_finer(joint) and detail_score(joint) > SIGNIFICANT):
        return found, recipe
    denser = recipe.updated(method="joint", knot_density=2, field_variation=0)
    other, told = _try_jointly(scene, denser, before=joint)
    choice = Choice(False, told) if other is None else choose_fit(found, other, demanding=True)
    _log.info("the joint fit of a PRF with twice the knots %s", choice.reason)
    return (other, denser) if other is not None and choice.kept else (found, recipe)


def _may_follow_places(found: PrfFit, order: int) -> bool:
    """Whether the pixels hint at columns of an order over the field."""
    joint = found.joint
    # Of a large image a part decides: a fit that is not kept takes half a minute there.
    return variation_score(joint, order) > (WORTH_A_TRY if joint.decided is None else SIGNIFICANT)


def _find_sky(fit: Fit, scene: Scene, recipe: PrfRecipe, found: PrfFit, *, few: bool) -> SkyFound | None:
    """Find a sky that is left in the pixels, which a fit without one puts into the stars' wings.

    Few stars leave their wings to the record, which knows them to a factor of three: a level below their own light in
    the darker pixels, as fitted or as the record expects it, is no evidence of a sky.
    """
    if scene.background is not None:
        return None
    columns = build_background(fit.pixels, scene.image, Background("image", order=0))
    told = None if few else found.joint
    if told is not None and told.decided is not None:
        sky, own = SkyFound(*level_of_sky(told, columns)), 0.0
    else:
        # Wings of few stars, or that never end, may have taken a sky: one step says nothing.
        if told is not None and not never_ends(found) and not may_hold_sky(told, columns):
            return None
        other, _ = _try_jointly(scene.without(first_guess(columns, scene.image)), recipe)
        if other is None or other.background is None:
            return None
        beside = other.background
        sky = SkyFound(float(beside.weights[0]), float(beside.weights_err[0]), other.flux)
        own = _own_light(other) if few else 0.0
    # Wings take light, which no sky below zero is.
    if sky.level < max(SIGNIFICANT * sky.error, own):
        return None
    _log.info("the pixels hold a sky of %.3g electron / s, no part of the stars", sky.level)
    return sky


def _own_light(found: PrfFit) -> float:
    """Return the light of the stars in the darker half of the pixels, as fitted or as expected, electron / s."""
    return max(dark_light(found), expected_dark_light(found.joint, found))


def _try_jointly(scene: Scene, recipe: PrfRecipe, *, before: JointFit | None = None) -> tuple[PrfFit | None, str]:
    """Return the joint fit, or why there is none; one of more columns may start from that `before`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            return _fit_jointly(scene, recipe, before), ""
        except (np.linalg.LinAlgError, UnsupportedError) as error:
            return None, f"cannot be had: {error}"


def _fit_jointly(scene: Scene, recipe: PrfRecipe, before: JointFit | None = None) -> PrfFit:
    """Fit jointly; rows of a star listed twice share its light as in the catalogue."""
    found = fit_joint_shape(scene, mask_options=recipe.mask, options=recipe.shape, before=before)
    groups = find_groups(scene.sources, SAME_STAR_PIX * scene.pixels.instrument.pixel_scale)
    if groups is None:
        return found
    total, listed = (
        np.bincount(groups.label, np.nan_to_num(one))[groups.label]
        for one in (found.flux, np.where(scene.known, scene.flux, 0.0))
    )
    share = np.divide(np.where(scene.known, scene.flux, 0.0), listed, out=np.zeros(total.size), where=listed > 0)
    flux = np.where(groups.alone | ~(listed > 0), found.flux, share * total)
    return as_one_star(replace(found, flux=flux), groups, found.flux)


def _count(fit: Fit, scene: Scene, recipe: PrfRecipe) -> Calibrators:
    return count_calibrators(scene, _basis(fit), recipe.mask, recipe.shape.min_snr)


def _are_few(fit: Fit, scene: Scene, recipe: PrfRecipe) -> bool:
    """Whether stars train no PRF of their own, as none does that is too faint."""
    try:
        return _count(fit, scene, recipe).few
    except InputError:
        return True


def _basis(fit: Fit) -> PolarBasis:
    settings = fit.settings
    return PolarBasis(settings.rmin, settings.rmax, settings.cut_r, settings.n_r_knots, settings.n_phi_knots)


def select_image(fit: Fit, frame_index: object) -> Image:
    """Return one frame, or the mean over the cadences that `time_mask` leaves."""
    return reduce_image(fit.pixels, frame_index, fit.settings.time_mask)


def warn_if_left_out(fit: Fit) -> None:
    """Warn if the mean image is without some values, because no star can have made them."""
    pixels, left_out = fit.pixels, fit.need("prf").image.left_out
    if not len(left_out):
        return
    time, pixel = left_out[0]
    usual = np.nanmedian(np.where(pixels.ivar[:, pixel] > 0, pixels.flux[:, pixel], np.nan))
    warnings.warn(
        f"the PRF is fitted without {len(left_out)} of {pixels.flux.size} values of flux, which no star can have made"
        f" (cosmic rays, damage); the first at cadence {time}, column {pixels.column[pixel]:g}, row"
        f" {pixels.row[pixel]:g}: {pixels.flux[time, pixel]:.4g} +- {pixels.flux_err[time, pixel]:.2g} electron / s,"
        f" usually {usual:.4g}; fit_model(robust=True) takes them out of the light curves too",
        DataWarning,
        skip_file_prefixes=PACKAGE_FILES,
    )


def _scene(fit: Fit, image: Image, recipe: PrfRecipe) -> Scene:
    """Return what the fit looks at, with a sky if one is asked for.

    One of all pixels that finds its order begins as a plane where many stars tell it from wings.
    """
    basis = _basis(fit) if fit.settings.differs(_SPLINES, fit.pixels.instrument) else None
    scene = Scene(fit.pixels, fit.sources, fit.pairs, fit.settings.sparse_dist_lim, image, basis=basis)
    asked = fit.settings.background
    if asked is None:
        return scene
    flat = _with_sky_of(scene, asked)
    plane = asked.finds_order and not _count(fit, flat, recipe).few
    return _with_sky_of(scene, replace(asked, order=1)) if plane else flat


def _with_sky_of(scene: Scene, asked: Background) -> Scene:
    """Return a scene of which no sky is subtracted with a first guess of one."""
    return scene.without(first_guess(build_background(scene.pixels, scene.image, asked), scene.image))


def _bare(scene: Scene) -> Scene:
    """Return a scene with all of its sky in the image."""
    sky = scene.background
    if sky is None:
        return scene
    none = replace(sky, weights=np.zeros_like(sky.weights))
    return replace(scene.without(none), background=None)
