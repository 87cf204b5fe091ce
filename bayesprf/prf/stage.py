"""The PRF stage of a Fit: image, pairs and settings in, the fitted PRF out."""

import logging
import warnings
from collections.abc import Callable, Iterable

import numpy as np

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import PACKAGE_FILES, ConvergenceWarning, DataWarning
from bayesprf.fit_record import Fit
from bayesprf.linalg.blas import in_one_blas_thread
from bayesprf.photometry.background import build_background, first_guess
from bayesprf.prf.fit import ShapeFit, fit_shape
from bayesprf.prf.image_fluxes import Scene
from bayesprf.prf.joint.stage import MAX_QUICK, fit_joint_shape
from bayesprf.prf.training import count_calibrators, first_training, fit_radius
from bayesprf.prf.twins import ONE_STAR_PIX, apart, find_groups, together
from bayesprf.scene.axes import pixel_area
from bayesprf.scene.image import Image, reduce_image
from bayesprf.settings import INSTRUMENT_PRF, PrfRecipe, QualityOptions

# Accuracy: positions have settled when no star moves farther than this in a round, pixel.
_CONVERGED_PIX = 0.01

# Missions whose few stars are fitted jointly by default. Not K2, where the joint fit does not settle on a stamp of the
# bulge that rolls, nor Kepler, where it has not been compared on enough files.
_FEW_STARS_JOINT = ("TESS",)
_log = logging.getLogger("bayesprf")

Progress = Callable[[Iterable[int]], Iterable[int]]


@in_one_blas_thread
def fit_prf(fit: Fit, recipe: PrfRecipe, image: Image | None = None, *, progress: Progress = iter) -> ShapeFit:
    """Fit the PRF to an image, by default the one that the recipe names; `progress` wraps the rounds."""
    basis, scene = _basis(fit), _scene(fit, select_image(fit, recipe.frame_index) if image is None else image)
    if recipe.shape.method == "auto":
        recipe = choose_method(fit, recipe, image)
    if recipe.shape.method == "joint":
        return fit_joint_shape(scene, mask_options=recipe.mask, options=recipe.shape)
    groups = find_groups(fit.sources, ONE_STAR_PIX * fit.pixels.instrument.pixel_scale)
    merged = scene if groups is None else together(scene, groups)
    found = fit_shape(merged, basis, mask_options=recipe.mask, options=recipe.shape, progress=progress)
    return found if groups is None else apart(scene, groups, found, recipe.shape.flux_cut_off)


def choose_method(fit: Fit, recipe: PrfRecipe, image: Image | None = None) -> PrfRecipe:
    """Return the recipe with "auto" decided.

    Options of the joint fit ask for it. Otherwise the PRF is the data's alone, in rounds, if there are enough stars to
    train it on: pixels of bright ones that light them alone, one per weight, and as many stars as their spread about
    the PRF can be learned from. With fewer, on TESS pixels, the joint fit
    takes the PRF of the instrument's record and what the stars say against it.

    Raises
    ------
    InputError
        If there is no pixel to train on.
    """
    if recipe.shape.method != "auto":
        return recipe
    if recipe.shape.asks_joint:
        return recipe.updated(method="joint")
    scene = _scene(fit, select_image(fit, recipe.frame_index) if image is None else image)
    basis = _basis(fit)
    side = float(np.sqrt(pixel_area(fit.pixels)))
    radius = fit_radius(scene.pairs, scene.image, scene.flux, pixel_scale=side, options=recipe.mask)
    training = first_training(scene, basis, radius, recipe.mask)
    n_star, n_pixel = count_calibrators(training, recipe.shape.min_snr)
    few = n_star < QualityOptions().min_calibrators or n_pixel < basis.n_basis
    usable = fit.pixels.instrument.name in _FEW_STARS_JOINT and 3 * fit.sources.n_source <= MAX_QUICK
    if not few or n_star == 0 or not usable:
        return recipe.updated(method="rounds")
    _log.info(
        "the PRF of the instrument's record is the prior of the PRF, and all pixels are fitted jointly: %d bright stars"
        " light %d pixels alone, fewer than the data's own PRF needs (%d stars, %d pixels)",
        n_star, n_pixel, QualityOptions().min_calibrators, basis.n_basis,
    )  # fmt: skip
    return recipe.updated(method="joint", prf=INSTRUMENT_PRF)


def _basis(fit: Fit) -> PolarBasis:
    settings = fit.settings
    return PolarBasis(settings.rmin, settings.rmax, settings.cut_r, settings.n_r_knots, settings.n_phi_knots)


def select_image(fit: Fit, frame_index: object) -> Image:
    """Return one frame, or the mean over the cadences that `time_mask` leaves."""
    return reduce_image(fit.pixels, frame_index, fit.settings.time_mask)


def warn_if_moving(prf: ShapeFit, n_round: int) -> None:
    """Warn if a star still moved in the last round of `refine_scene`."""
    moved = prf.positions.moved
    if moved > _CONVERGED_PIX * float(np.sqrt(prf.prf.pixel_area)):
        warnings.warn(
            f"refine_scene: a star still moved by {moved:.3f} arcsec in the last of {n_round} rounds,"
            " expected less than a hundredth of a pixel; raise n_round",
            ConvergenceWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )


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


def _scene(fit: Fit, image: Image) -> Scene:
    scene = Scene(fit.pixels, fit.sources, fit.pairs, fit.settings.sparse_dist_lim, image)
    if fit.settings.background is None:
        return scene
    columns = build_background(fit.pixels, image, fit.settings.background)
    return scene.without(first_guess(columns, image))
