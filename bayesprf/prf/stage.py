"""The PRF stage of a Fit: image, pairs and settings in, the fitted PRF out."""

import warnings
from collections.abc import Callable, Iterable

import numpy as np

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import ConvergenceWarning
from bayesprf.fit_record import Fit
from bayesprf.photometry.background import build_background, first_guess
from bayesprf.prf.fit import ShapeFit, fit_shape
from bayesprf.prf.image_fluxes import Scene
from bayesprf.prf.joint.stage import fit_joint_shape
from bayesprf.scene.image import Image, reduce_image
from bayesprf.settings import PrfRecipe

# Positions have settled when no star moves farther than this in a round, pixel.
_CONVERGED_PIX = 0.01

Progress = Callable[[Iterable[int]], Iterable[int]]


def fit_prf(fit: Fit, recipe: PrfRecipe, image: Image | None = None, *, progress: Progress = iter) -> ShapeFit:
    """Fit the PRF to an image, by default the one that the recipe names; `progress` wraps the rounds."""
    settings = fit.settings
    basis = PolarBasis(settings.rmin, settings.rmax, settings.cut_r, settings.n_r_knots, settings.n_phi_knots)
    scene = _scene(fit, select_image(fit, recipe.frame_index) if image is None else image)
    if recipe.shape.method == "joint":
        return fit_joint_shape(scene, mask_options=recipe.mask, options=recipe.shape)
    return fit_shape(scene, basis, mask_options=recipe.mask, options=recipe.shape, progress=progress)


def select_image(fit: Fit, frame_index: int | str) -> Image:
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
            stacklevel=3,
        )


def _scene(fit: Fit, image: Image) -> Scene:
    scene = Scene(fit.pixels, fit.sources, fit.pairs, fit.settings.sparse_dist_lim, image)
    if fit.settings.background is None:
        return scene
    columns = build_background(fit.pixels, image, fit.settings.background)
    return scene.without(first_guess(columns, image))
