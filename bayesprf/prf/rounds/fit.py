"""The mean PRF, learned from the pixels that one star lights (Hedges et al. 2021, section 2.2)."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.pixel_phase import PixelPhases
from bayesprf.prf.positions import MIN_WIDTH, PositionFit
from bayesprf.prf.rounds.astrometry import centroid_offset, fit_geometry, fit_positions
from bayesprf.prf.rounds.background import fit_background
from bayesprf.prf.rounds.light import Light, find_light, solve_again
from bayesprf.prf.rounds.splines import Profile, fit_profile
from bayesprf.prf.rounds.training import need_training, rough_scale, training_pairs
from bayesprf.prf.rounds.wing import HELD_LEVEL, SLOPE_CHANGE, WING_SHARE, fit_wing
from bayesprf.prf.scene import Scene, catalog_scale
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.prf.star_residuals import measure_stars
from bayesprf.prf.training import fit_radius, usable_pairs
from bayesprf.scene.axes import pixel_area, pixel_axes
from bayesprf.scene.prf import FLATTEST_WING, PrfModel
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import MaskOptions, ShapeOptions

# Measured by docs/scripts/constants.py --truth plain: wings of other stars are subtracted with the present slope, so
# that a full step oscillates about the answer. It gives errors of 0.95 %, half of one 0.26 %, and a quarter, whose
# rounds end before it is there, 0.35 %.
_WING_STEP = 0.5
# Measured by docs/scripts/constants.py --truth plain: at the edge of the splines a single weight does not set the
# level, dex. Where the level found there deviates by more than the second number the splines are not settled, as in
# dense fields, and the wing beyond is freed by a share of the excess: held, wing and splines would oscillate from round
# to round. Half and twice each of them give errors of 0.26 to 0.27 %, these 0.26 %.
_EDGE_LEVEL, _EDGE_SETTLED, _EDGE_SHARE = 0.1, 0.05, 0.2
# Measured: far wings and sky look the same: error of the wing's slope where a background is fitted (docs/howto/sky.md).
_SKY_SLOPE = 0.15


def fit_shape(
    scene: Scene,
    basis: PolarBasis,
    *,
    mask_options: MaskOptions,
    options: ShapeOptions,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    flattest: float = FLATTEST_WING,
) -> PrfFit:
    """Learn the PRF from one image.

    Parameters
    ----------
    scene : Scene
        Image, pairs and catalogue.
    basis : PolarBasis
        Columns of log10 PRF.
    mask_options : MaskOptions
        Which stars and pixels the PRF may be trained on.
    options : ShapeOptions
        Settings of the fit.
    progress : callable
        Wraps the rounds, to show how far they are.
    flattest : float
        Power of r beyond which the wing is not flattened.

    Returns
    -------
    PrfFit

    Raises
    ------
    InputError
        If there is no pixel to train on.

    Notes
    -----
    Rounds of: choose the pixels that one star lights, fit the shape, normalise it, measure the common
    offset, solve all fluxes of the image. Nothing of the catalogue's flux scale survives the
    normalisation.
    """
    prf = PrfModel(basis, np.zeros(basis.n_basis), pixel_area(scene.pixels))
    radius = fit_radius(scene.pairs, scene.image, scene.flux, pixel_scale=prf.pixel_area**0.5, options=mask_options)
    training = need_training(scene, basis, radius, mask_options)
    scale = rough_scale(training)
    phases = PixelPhases.around(pixel_axes(scene.pixels), basis.rmax)
    movable = float(mask_options.correct_centroid_offset)
    offset = movable * centroid_offset(training.scaled(scale))
    training = training.scaled(scale).shifted(-offset)
    positions, before, cut = PositionFit.at_catalog(scene.sources.n_source), None, options.flux_cut_off
    for count in progress(range(options.n_round)):
        profile = fit_profile(training, prf, phases, options=options, fresh=count == 0)
        scale *= profile.area
        scene, light = _look(scene, profile, offset + positions.shift, scale=scale, cut=cut, before=before)
        if options.refine and count > 0:
            positions = _refine(scene, light, profile, training, positions)
            light = find_light(scene, profile.prf, offset + positions.shift, scale=scale, cut=cut, before=light)
        before, scale = light if count else None, catalog_scale(scene, light.prf, light.distant)
        prf, wing_err = _step_wing(scene, light, profile, mask_options, flattest)
        chosen = training_pairs(scene, light, basis, mask=mask_options, options=options)
        training = light.star_pixels(scene.image, chosen)
        if count < options.n_round - 1:
            east, north, *shear = fit_geometry(profile, training, phases, smoothness=options.smoothness)
            prf, step = prf.sheared(*shear), movable * np.array([east, north])
            offset, training = offset + step, training.shifted(-step)
    return PrfFit(
        prf=profile.prf,
        weights_cov=profile.weights_cov,
        wing_err=wing_err if scene.background is None else float(np.hypot(wing_err, _SKY_SLOPE)),
        offset=(float(offset[0]), float(offset[1])),
        positions=positions,
        scale=scale,
        flux=light.flux,
        intrinsic_scatter=profile.scatter,
        matrix=light.prf.select(light.above),
        training=chosen[light.above],
        fixed_light=light.fixed,
        radius=radius,
        n_clipped=int(np.count_nonzero(~profile.keep)),
        image=scene.image,
        background=scene.background,
    )


def _look(
    scene: Scene, profile: Profile, shift: FloatArray, *, scale: float, cut: float, before: Light | None
) -> tuple[Scene, Light]:
    """Find the light of all stars, and take the background, if there is one, off again."""
    light = find_light(scene, profile.prf, shift, scale=scale, cut=cut, before=before)
    if scene.background is None:
        return scene, light
    scene = scene.without(fit_background(scene, light, profile, scene.background))
    return scene, solve_again(scene, light)


def _refine(scene: Scene, light: Light, profile: Profile, training: StarPixels, positions: PositionFit) -> PositionFit:
    """Step all positions; their prior width is learned from the isolated stars."""
    stars = measure_stars(profile.prf, training, profile.scatter)
    whole = replace(stars, value=stars.value + np.pad(positions.shift[stars.source], ((0, 0), (0, 3))))
    width = max(whole.width("east", "north", unknown=0.0), MIN_WIDTH)
    image = replace(scene.image, flux=scene.image.flux - light.fixed)
    visible = np.where(light.above & ~scene.saturated[light.pairs.pixel], light.prf.values, 0.0)
    matrix = PrfMatrix.constant(light.pairs, visible)
    return fit_positions(matrix, profile, flux=light.flux, image=image, shift=positions.shift, width=width)


def _step_wing(
    scene: Scene, light: Light, profile: Profile, mask: MaskOptions, flattest: float
) -> tuple[PrfModel, float]:
    """Fit the wing's slope where a star gives at least half of the light: at the edge of the splines, then beyond."""
    pairs, model, rmax = light.pairs, light.model, profile.prf.basis.rmax
    wing = usable_pairs(scene, pairs, scene.limit, replace(mask, limit_radius=scene.limit)) & (model > 0)
    wing &= light.prf.neighbor_light(light.flux) < model
    edge = wing & (pairs.r > WING_SHARE * rmax) & (pairs.r <= rmax)
    level, near, _ = fit_wing(profile.prf, light.star_pixels(scene.image, edge), profile.scatter, level=_EDGE_LEVEL)
    _, slope, error = fit_wing(
        profile.prf,
        light.star_pixels(scene.image, wing & (pairs.r > rmax)),
        profile.scatter,
        prior=(near, SLOPE_CHANGE),
        level=HELD_LEVEL + _EDGE_SHARE * max(abs(level) - _EDGE_SETTLED, 0.0),
    )
    step = _WING_STEP * (slope - profile.prf.wing_slope)
    return profile.prf.with_wing(min(profile.prf.wing_slope + step, flattest)), error
