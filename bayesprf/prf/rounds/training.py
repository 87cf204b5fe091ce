"""Which pixels the rounds train the PRF on, and the first scale of the catalogue."""

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.prf.rounds.light import Light
from bayesprf.prf.scene import Scene
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.prf.training import contaminants, first_training, usable_pairs, why_no_training
from bayesprf.scene.pairs import PairTable
from bayesprf.settings import MaskOptions, ShapeOptions


def need_training(scene: Scene, basis: PolarBasis, radius: FloatArray, options: MaskOptions) -> StarPixels:
    """Choose pixels as `first_training` does, and refuse a scene that has none."""
    training = first_training(scene, basis, radius, options)
    if not training.source.size:
        raise InputError(why_no_training(scene, basis, options))
    return training


def rough_scale(training: StarPixels) -> float:
    """Return the median over stars of light in the pixels over catalogue flux, so that no scale is preferred.

    Parameters
    ----------
    training : StarPixels
        Pixels with catalogue fluxes.

    Returns
    -------
    float
    """
    light, number = np.bincount(training.source, weights=training.light), np.bincount(training.source)
    flux = np.bincount(training.source, weights=training.flux)
    good = light > 0
    return float(np.median(light[good] * number[good] / flux[good])) if good.any() else 1.0


def training_pairs(
    scene: Scene, light: Light, basis: PolarBasis, *, mask: MaskOptions, options: ShapeOptions
) -> BoolArray:
    """Choose pixels in which the other stars give little of the light, of stars bright enough.

    Parameters
    ----------
    scene : Scene
        Image and catalogue.
    light : Light
        What each star gives.
    basis : PolarBasis
        Gives rmax.
    mask : MaskOptions
        Which stars and pixels the PRF may be trained on.
    options : ShapeOptions
        Share of neighbours, signal-to-noise ratio and number of pairs.

    Returns
    -------
    ndarray of bool, shape (n_pair,)
        Per pair of `light`.
    """
    pairs, model = light.pairs, light.model
    counted = np.where(contaminants(scene, mask)[pairs.source], model, 0.0)
    share = np.bincount(pairs.pixel, weights=counted, minlength=pairs.n_pixel)[pairs.pixel] - counted
    usable = usable_pairs(scene, pairs, basis.rmax, mask, known=np.nan_to_num(light.flux) > 0)
    chosen = light.above & usable & (share < options.max_neighbor_share * model)
    signal = np.bincount(
        pairs.source, weights=np.where(chosen, model**2 * scene.image.ivar[pairs.pixel], 0.0), minlength=pairs.n_source
    )
    snr = np.sqrt(signal)
    chosen &= snr[pairs.source] > options.min_snr
    return chosen & _within_budget(pairs, chosen, snr, options.max_pairs)


def _within_budget(pairs: PairTable, chosen: BoolArray, snr: FloatArray, max_pairs: int) -> BoolArray:
    """Return the pairs of the stars with the highest signal-to-noise ratio, up to the budget."""
    count = np.bincount(pairs.source[chosen], minlength=pairs.n_source)
    order = np.argsort(-snr, kind="stable")
    bright = np.zeros(pairs.n_source, bool)
    bright[order[np.cumsum(count[order]) <= max_pairs]] = True
    return bright[pairs.source]
