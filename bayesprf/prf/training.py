"""Which pixels teach the PRF: those that one known star lights, as far as can be told at each stage."""

from dataclasses import replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.photometry.fluxes import fit_image_flux
from bayesprf.prf.image_fluxes import Light, Scene, gather_training
from bayesprf.prf.splines import Training, nominal_prf
from bayesprf.scene.axes import pixel_area
from bayesprf.scene.masks import alone_mask, neighbor_flux, reach_mask
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import MaskOptions, ShapeOptions

# With fewer lone pixels than this many per weight, pixels that one star dominates teach too.
_MIN_LONE = 2
_CROWD_SHARE = 0.5


def first_training(scene: Scene, basis: PolarBasis, reach: FloatArray, options: MaskOptions) -> Training:
    """Choose pixels by the stars' reach, from catalogue flux alone; fluxes in the catalogue's unit.

    Parameters
    ----------
    scene : Scene
        Image, pairs and catalogue.
    basis : PolarBasis
        Gives rmax, and how many pixels are enough.
    reach : ndarray of float64, shape (n_source,)
        Reach of each star, arcsec.
    options : MaskOptions
        Which stars and pixels may teach.

    Returns
    -------
    Training

    Raises
    ------
    InputError
        If no pixel is fit to teach the PRF.
    """
    contaminant = _contaminants(scene, options)
    usable = usable_pairs(scene, scene.pairs, basis.rmax, options)
    if not usable.any():
        raise InputError(_why_no_training(scene, basis, options))
    member = reach_mask(scene.pairs, reach) & usable
    alone = alone_mask(scene.pairs, reach_mask(scene.pairs, reach), contaminant)
    lone = member & alone
    if np.count_nonzero(lone) >= _MIN_LONE * basis.n_basis:
        nothing = np.zeros(scene.pairs.n_pair)
        light = Light(PrfMatrix.constant(scene.pairs, nothing), scene.flux, nothing > 0, np.zeros(scene.pairs.n_pixel))
        return gather_training(scene, light, lone)
    return _training_in_a_crowd(scene, basis, options)


def _training_in_a_crowd(scene: Scene, basis: PolarBasis, options: MaskOptions) -> Training:
    """Choose the pixels that one star dominates, as far as the nominal PRF can tell, the others' light taken off.

    The nominal PRF tells whose light a pixel holds; the fluxes are the catalogue's, in its unit.
    """
    nominal = nominal_prf(basis, pixel_area(scene.pixels))
    prf = PrfMatrix.constant(scene.pairs, nominal.evaluate(scene.pairs.dx, scene.pairs.dy))
    expected = np.where(scene.known, scene.flux, np.nan)
    visible = PrfMatrix.constant(scene.pairs, np.where(scene.saturated[scene.pairs.pixel], 0.0, prf.values))
    flux = fit_image_flux(visible, scene.image, expected=expected * _image_scale(scene, expected))
    light = Light(prf, flux, prf.values > 0, np.zeros(scene.pairs.n_pixel))
    share = neighbor_flux(scene.pairs, np.maximum(light.model, 0.0))
    lone = usable_pairs(scene, scene.pairs, basis.rmax, options) & (share < _CROWD_SHARE * light.model)
    if not np.any(lone):
        raise InputError(_why_no_training(scene, basis, options))
    found = gather_training(scene, light, lone)
    return replace(found, flux=scene.flux[found.source])


def _image_scale(scene: Scene, expected: FloatArray) -> float:
    """Return electron / s per unit of catalogue flux, from all light of the image over all flux of the catalogue."""
    inside = np.unique(scene.pairs.source)
    return float(np.abs(scene.image.flux.sum()) / max(np.nansum(expected[inside]), 1e-300))


def _why_no_training(scene: Scene, basis: PolarBasis, options: MaskOptions) -> str:
    """Return the message that says where the pixels that could teach were lost."""
    pairs, image = scene.pairs, scene.image
    known = scene.known[pairs.source]
    data = known & (image.ivar[pairs.pixel] > 0)
    usable = usable_pairs(scene, pairs, basis.rmax, options)
    return (
        f"sources: expected stars that light pixels alone, to learn the PRF from, got none; of {pairs.n_pair} pairs of"
        f" star and pixel within sparse_dist_lim, {known.sum()} are of stars with a catalogue flux above 0,"
        f" {data.sum()} of these have data, {usable.sum()} of these are near the star and neither saturated nor above"
        " upper_flux_limit, and none of these is out of every other star's reach; check positions and fluxes of the"
        " catalogue, or relax contaminant_mag_limit or the limits of MaskOptions"
    )


def rough_scale(training: Training) -> float:
    """Return the median over stars of light in the pixels over catalogue flux, so that no scale is preferred.

    Parameters
    ----------
    training : Training
        Pixels with catalogue fluxes.

    Returns
    -------
    float
    """
    light, number = np.bincount(training.source, weights=training.y), np.bincount(training.source)
    flux = np.bincount(training.source, weights=training.flux)
    good = light > 0
    return float(np.median(light[good] * number[good] / flux[good])) if good.any() else 1.0


def usable_pairs(scene: Scene, pairs: PairTable, radius: float, options: MaskOptions) -> BoolArray:
    """Return the pairs near enough, of stars of known flux, whose pixel has data and is not saturated.

    Parameters
    ----------
    scene : Scene
        Image and catalogue.
    pairs : PairTable
        Pairs to judge.
    radius : float
        Largest distance, arcsec.
    options : MaskOptions
        Further limits.

    Returns
    -------
    ndarray of bool, shape (n_pair,)
    """
    image = scene.image
    upper = options.upper_flux_limit or scene.pixels.instrument.saturation
    pixel = (image.ivar > 0) & ~scene.saturated & (image.flux < upper)
    return pixel[pairs.pixel] & scene.known[pairs.source] & (pairs.r < min(options.limit_radius, radius))


def _contaminants(scene: Scene, options: MaskOptions) -> BoolArray:
    if options.contaminant_mag_limit is None:
        return np.ones(scene.sources.mag.size, bool)
    return ~(scene.sources.mag > options.contaminant_mag_limit)


def teaching_pairs(
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
        Which stars and pixels may teach.
    options : ShapeOptions
        Share of neighbours, signal-to-noise ratio and number of pairs.

    Returns
    -------
    ndarray of bool, shape (n_pair,)
        Per pair of `light`.
    """
    pairs, model = light.pairs, light.model
    counted = np.where(_contaminants(scene, mask)[pairs.source], model, 0.0)
    share = np.bincount(pairs.pixel, weights=counted, minlength=pairs.n_pixel)[pairs.pixel] - counted
    teach = light.above & usable_pairs(scene, pairs, basis.rmax, mask) & (share < options.max_neighbor_share * model)
    signal = np.bincount(
        pairs.source, weights=np.where(teach, model**2 * scene.image.ivar[pairs.pixel], 0.0), minlength=pairs.n_source
    )
    snr = np.sqrt(signal)
    teach &= snr[pairs.source] > options.min_snr
    return teach & _within_budget(pairs, teach, snr, options.max_pairs)


def _within_budget(pairs: PairTable, teach: BoolArray, snr: FloatArray, max_pairs: int) -> BoolArray:
    """Return the pairs of the stars with the highest signal-to-noise ratio, up to the budget."""
    count = np.bincount(pairs.source[teach], minlength=pairs.n_source)
    order = np.argsort(-snr, kind="stable")
    chosen = np.zeros(pairs.n_source, bool)
    chosen[order[np.cumsum(count[order]) <= max_pairs]] = True
    return chosen[pairs.source]
