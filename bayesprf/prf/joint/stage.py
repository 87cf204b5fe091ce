"""The joint fit as a stage: from a scene to a PrfFit."""

from dataclasses import replace

import numpy as np

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import UnsupportedError
from bayesprf.photometry.background import ImageBackground
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.instrument_prior import expected_wing, instrument_prior
from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.objective import JointFit, JointOptions, fit_joint
from bayesprf.prf.joint.problem import LN10, RMAX, JointProblem, JointState, embedding, finer, joint_basis
from bayesprf.prf.joint.rough import fit_rough
from bayesprf.prf.joint.start import SPLINE_MARGIN, JointSettings, build_joint, with_spilled
from bayesprf.prf.positions import PositionFit
from bayesprf.prf.prior import PrfPrior, build_prior, load_prf_tables
from bayesprf.prf.scene import Scene, catalog_scale
from bayesprf.prf.training import fit_radius, training_pixels
from bayesprf.prf.unlisted.fit import (
    Field,
    fit_with_missing_stars,
    fit_with_single_stars,
    fit_with_uncatalogued,
    is_small,
)
from bayesprf.scene.axes import pixel_area, pixel_axes
from bayesprf.scene.image import Image
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import INSTRUMENT_PRF, MaskOptions, ShapeOptions, limits_training

# Cost: pairs of which a fit takes a minute and 3 GB, as measured on 20,000 stars in 1,000,000 pixels.
_MAX_PAIR = 10_000_000
# Definition: the pixels of PrfFit's `training`: those in which a star gives most of the light.
_OWN_SHARE = 0.9


def fit_joint_shape(
    scene: Scene, *, mask_options: MaskOptions, options: ShapeOptions, before: JointFit | None = None
) -> PrfFit:
    """Fit PRF, fluxes, sky, and positions unless `options.refine` holds them, in one objective.

    Twice the knots are fitted from where those of half as many end, and more columns beside a sky from where fewer do;
    `before` is that fit, if there is one.
    """
    image, settings = _image_and_settings(scene, options)
    settings, deciding = replace(settings, offset=mask_options.correct_centroid_offset), None
    if limits_training(mask_options, options, scene.pixels.instrument):
        deciding = training_pixels(scene, settings.basis or joint_basis(_side(scene), RMAX), mask_options, options)
    asked = JointOptions(
        position_error=options.position_error,
        smoothness=options.smoothness,
        deciding=deciding,
        quick=options.bin_data,
    )
    field = Field(
        scene.pixels, scene.sources, lambda stars: _build(replace(scene, sources=stars), image, settings), asked
    )
    start = field.build(scene.sources)
    if not start[0].free:
        fit = fit_joint(*start, asked)
    elif scene.background is not None:
        fit = fit_with_uncatalogued(field, before)
    elif settings.weights_factor is not None and is_small(start[0]):
        fit = fit_with_single_stars(field)
    elif settings.density > 1 and settings.basis is None:
        before = before or fit_joint(*_build(scene, image, replace(settings, density=1)), asked)
        whole = before.found is None
        fit = _fit_finer(start, before, asked) if whole else fit_with_missing_stars(field, before)
    else:
        fit = fit_with_missing_stars(field, before)
    found = as_prf_fit(scene, fit_rough(fit, asked), mask_options=mask_options, options=options)
    return found if deciding is None else replace(found, training=found.training & deciding[found.pairs.pixel])


def _side(scene: Scene) -> float:
    return float(np.sqrt(pixel_area(scene.pixels)))


def _fit_finer(start: tuple[JointProblem, JointState, JointHyper], coarser: JointFit, asked: JointOptions) -> JointFit:
    """Fit finer columns from where coarser ones ended, unless that fit did not settle or a part decides."""
    problem, state, _ = start
    if coarser.decided is not None or not coarser.converged:
        return fit_joint(*start, asked)
    held = embedding(coarser.problem.basis, problem.basis)
    state = replace(coarser.state, weights=coarser.state.weights @ held.T)
    return fit_joint(problem, state, coarser.hyper, asked, near=True)


def build_problem(scene: Scene, options: ShapeOptions) -> tuple[JointProblem, JointState, JointHyper]:
    """Return the problem of a scene, where the fit starts, and its first hyperparameters."""
    return _build(scene, *_image_and_settings(scene, options))


def check_size(scene: Scene) -> None:
    """Refuse a scene in which splines reach more pairs of star and pixel than a fit may have, before they are made."""
    pixels, reach = scene.pixels, RMAX if scene.basis is None else scene.basis.rmax / _side(scene)
    shape = np.ptp(pixels.column) + 1.0, np.ptp(pixels.row) + 1.0
    each = min(np.pi * (SPLINE_MARGIN * reach) ** 2 * pixels.n_pixel / (shape[0] * shape[1]), pixels.n_pixel)
    _refuse_more_than_fit(scene.sources.n_source * each)


def _image_and_settings(scene: Scene, options: ShapeOptions) -> tuple[Image, JointSettings]:
    """Return the image with its sky, and what the options ask of the fit."""
    settings, image = JointSettings(order=options.field_variation or 0, free=options.refine is not False), scene.image
    basis = scene.basis
    if basis is not None and options.knot_density == 2:
        basis = finer(basis)
    settings = replace(settings, basis=basis, density=options.knot_density or 1, color_column=options.color_column)
    if (widths := scene.pixels.instrument.prf_widths) is not None:
        settings = replace(settings, table_half=widths.table_half, slope=expected_wing(widths))
    if options.prf is not None:
        prior = read_prior(options.prf, scene.pixels, basis, density=settings.density)
        settings = replace(
            settings,
            base=prior.base,
            basis=prior.basis,
            weights_factor=prior.weights_factor,
            weights_sigma=prior.weights_sigma,
            rough_factor=prior.rough_factor,
            slope=settings.slope if prior.slope is None else prior.slope,
        )
    if scene.background is not None:
        image = replace(image, flux=image.flux + np.where(image.ivar > 0, scene.background.light, 0.0))
        settings = replace(settings, sky=scene.background.columns)
    return image, settings


def _build(scene: Scene, image: Image, settings: JointSettings) -> tuple[JointProblem, JointState, JointHyper]:
    """Return the problem of an image, unless it is too large."""
    problem, state, hyper = build_joint(scene.pixels, scene.sources, image, scene.pixels.spilled, settings)
    _refuse_more_than_fit(problem.pairs.n_pair)
    if settings.weights_factor is not None:
        problem = with_spilled(problem, scene.pixels, image, settings.sky)
    return problem, state, hyper


def read_prior(name: str, pixels: PixelTable, basis: PolarBasis | None = None, *, density: int = 1) -> PrfPrior:
    """Return the PRF that is expected, the instrument's or that of a file, with columns that are asked for."""
    if name == INSTRUMENT_PRF:
        return instrument_prior(pixels.instrument, pixel_axes(pixels), basis, density=density)
    return build_prior(load_prf_tables(name), pixel_axes(pixels), basis, density=density)


def _refuse_more_than_fit(n_pair: float) -> None:
    """Refuse what memory may not hold: crowds of pairs."""
    if n_pair > _MAX_PAIR:
        raise UnsupportedError(
            f"pixels, sources: expected at most {_MAX_PAIR:,} pairs of star and pixel, got {n_pair:,.0f}; fit parts of"
            " the image, or leave out the faintest stars"
        )


def as_prf_fit(scene: Scene, fit: JointFit, *, mask_options: MaskOptions, options: ShapeOptions) -> PrfFit:
    """Return the fit as the other stages know it, each star with the PRF of its own place."""
    problem, n_basis = fit.problem, fit.problem.basis.n_basis
    middle = fit.prf.normalized_at(np.zeros(2))
    side = float(np.sqrt(middle.pixel_area))
    pairs = problem.layout.own_pairs.moved(fit.shift)
    values = fit.values
    light = np.nan_to_num(fit.flux)[pairs.source] * values
    # A star that the image does not show may still shine: its error counts.
    reach = np.nan_to_num(np.maximum(fit.flux, fit.flux_err))[pairs.source] * values
    above = reach > options.flux_cut_off
    far = (
        problem.known + fit.far + np.bincount(pairs.pixel, weights=np.where(above, 0.0, light), minlength=pairs.n_pixel)
    )
    total = problem.known + fit.far + np.bincount(pairs.pixel, weights=light, minlength=pairs.n_pixel)
    own = (light > _OWN_SHARE * total[pairs.pixel]) & (pairs.r < problem.basis.rmax) & problem.used[pairs.pixel]
    factor = fit.posterior.global_factor[:n_basis]
    wing = fit.posterior.global_factor[problem.n_weight]
    image, background = scene.image, None
    if scene.background is not None:
        start = problem.n_weight + problem.n_wing + 4 * problem.n_geometry
        error = np.linalg.norm(fit.posterior.global_factor[start:], axis=1)
        background = ImageBackground(scene.background.columns, fit.state.sky, error)
        scene = scene.without(background)
        image = scene.image
    return PrfFit(
        prf=middle,
        weights_cov=factor @ factor.T,
        wing_err=float(np.linalg.norm(wing)),
        offset=(float(fit.state.offset[0, 0]), float(fit.state.offset[0, 1])),
        positions=_positions(fit),
        scale=catalog_scale(scene, PrfMatrix.constant(pairs, values), problem.known),
        flux=fit.flux,
        intrinsic_scatter=float(np.sqrt(np.mean(fit.star_errors**2))) / LN10,
        matrix=PrfMatrix.constant(pairs.select(above), values[above]),
        training=own[above],
        fixed_light=far,
        radius=fit_radius(scene.pairs, scene.image, scene.flux, pixel_scale=side, options=mask_options),
        n_clipped=int(np.count_nonzero(fit.clean < 0.5)),
        image=image,
        background=background,
        joint=fit,
    )


def _positions(fit: JointFit) -> PositionFit:
    shift = fit.shift - fit.state.offset[0]
    if not fit.problem.free:
        return replace(PositionFit.at_catalog(shift.shape[0]), shift=shift)
    return PositionFit(shift, fit.shift_err, fitted=fit.converged)
