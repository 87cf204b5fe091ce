"""The fit in rounds as a stage: from a scene to a PrfFit."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from bayesprf.design.polar import PolarBasis
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.instrument_prior import expected_wing
from bayesprf.prf.rounds.fit import fit_shape
from bayesprf.prf.rounds.twins import ONE_STAR_PIX, apart, together
from bayesprf.prf.scene import Scene
from bayesprf.prf.twins import find_groups
from bayesprf.scene.prf import FLATTEST_WING
from bayesprf.settings import MaskOptions, ShapeOptions

_log = logging.getLogger("bayesprf")


def fit_in_rounds(
    scene: Scene,
    basis: PolarBasis,
    *,
    mask_options: MaskOptions,
    options: ShapeOptions,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> PrfFit:
    """Fit weights, wing, positions, background and fluxes in turn, with stars that no PRF tells apart as one."""
    groups = find_groups(scene.sources, ONE_STAR_PIX * scene.pixels.instrument.pixel_scale)
    merged = scene if groups is None else together(scene, groups)
    fit_rounds = partial(fit_shape, merged, basis, mask_options=mask_options, options=options)
    found = _with_wing_that_ends(merged, fit_rounds(progress=progress), fit_rounds)
    return found if groups is None else apart(scene, groups, found, options.flux_cut_off)


def _with_wing_that_ends(scene: Scene, found: PrfFit, fit_rounds: Callable[..., PrfFit]) -> PrfFit:
    """Return the fit; where sky and wings ran away together, one with a wing no flatter than the record has it.

    Beside a sky a wing at its bound takes the sky's light, and the bright stars lose theirs to it: two answers, of
    which the one that most pixels agree with is kept. What the record leaves open of the slope is an error.
    """
    widths = scene.pixels.instrument.prf_widths
    if scene.background is None or widths is None or found.prf.wing_slope < FLATTEST_WING:
        return found
    slope, error = expected_wing(widths)
    other = fit_rounds(flattest=slope)
    better = _typical_misfit(other) < _typical_misfit(found)
    _log.info(
        "the wing ran to its bound beside the sky; one no flatter than the instrument's record, r**%.2f, leaves %s",
        slope,
        "less of most pixels" if better else "no less of most pixels",
    )
    return replace(other, wing_err=float(np.hypot(other.wing_err, error))) if better else found


def _typical_misfit(found: PrfFit) -> float:
    """Return the median size of what a fit leaves of the pixels, in standard deviations of their noise."""
    used = found.image.ivar > 0
    left = found.image.flux - found.fixed_light - found.matrix.image(np.nan_to_num(found.flux))
    return float(np.median(np.abs(left[used]) * np.sqrt(found.image.ivar[used])))
