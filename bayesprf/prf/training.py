"""Which pixels the PRF is trained on: those that one known star lights, as far as each stage can decide."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.photometry.fluxes import fit_image_flux
from bayesprf.prf.nominal import nominal_prf
from bayesprf.prf.scene import Scene
from bayesprf.prf.star_pixels import StarPixels, gather_star_pixels
from bayesprf.scene.axes import pixel_area
from bayesprf.scene.image import Image
from bayesprf.scene.masks import alone_mask, radius_mask
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import MaskOptions, QualityOptions, ShapeOptions
from bayesprf.stats import fit_clipped

# Derived: with fewer uncontaminated pixels than this many per weight, which leave as many over as they fit, the PRF is
# trained on pixels that one star dominates.
_MIN_ISOLATED = 2
# Derived: in a crowd, one star dominates a pixel where its neighbours give less than half as much.
_CROWD_SHARE = 0.5
# Radius of training, in pixels, where the options leave it open: PSFMachine's 28 arcsec over Kepler's pixel (Hedges et
# al. 2021).
_UPPER_RADIUS_PIX = 7.0
# PSFMachine's 4.5 arcsec over Kepler's pixel (Hedges et al. 2021).
_LOWER_RADIUS_PIX = 1.13
# Option: light below so many errors of a cadence is too faint to train on, unless `lower_flux_limit` says otherwise.
_LOWER_FLUX_ERRORS = 10.0
# Outliers, in standard deviations, and passes: PSFMachine's (Hedges et al. 2021).
_CLIP_SIGMA, _N_CLIP = 3.0, 3
# Derived: three pixels for each of the four coefficients.
_MIN_PAIRS = 12


def first_training(scene: Scene, basis: PolarBasis, radius: FloatArray, options: MaskOptions) -> StarPixels:
    """Choose pixels by the stars' radii, from catalogue flux alone; fluxes in the catalogue's unit.

    Parameters
    ----------
    scene : Scene
        Image, pairs and catalogue.
    basis : PolarBasis
        Gives rmax, and how many pixels are enough.
    radius : ndarray of float64, shape (n_source,)
        Radius within which each star matters, arcsec.
    options : MaskOptions
        Which stars and pixels the PRF may be trained on.

    Returns
    -------
    StarPixels

    Raises
    ------
    InputError
        If no pixel with data is near a star, or none is lit by one star and there is no light at all.
    """
    usable = usable_pairs(scene, scene.pairs, basis.rmax, options)
    if not usable.any():
        raise InputError(why_no_training(scene, basis, options))
    near = radius_mask(scene.pairs, radius)
    isolated = usable & alone_mask(scene.pairs, near, contaminants(scene, options))
    if np.count_nonzero(isolated) < _MIN_ISOLATED * basis.n_basis:
        return _training_in_a_crowd(scene, basis, options)
    unknown = PrfMatrix.constant(scene.pairs, np.zeros(scene.pairs.n_pair))
    return gather_star_pixels(unknown, scene.flux, scene.image, fixed=np.zeros(scene.pairs.n_pixel), chosen=isolated)


@dataclass(frozen=True, slots=True)
class Calibrators:
    """What there is to learn a PRF from.

    Parameters
    ----------
    n_star, n_pixel : int
        Bright stars, and pixels that they light alone.
    n_weight : int
        Weights of a PRF, each of which needs a pixel.
    """

    n_star: int
    n_pixel: int
    n_weight: int

    @property
    def few(self) -> bool:
        """Whether they train no PRF of their own."""
        return self.n_star < QualityOptions().min_calibrators or self.n_pixel < self.n_weight

    def __str__(self) -> str:
        """Say how many there are, and how many are needed."""
        return (
            f"{self.n_star} bright stars light {self.n_pixel} pixels alone; a PRF of their own needs"
            f" {QualityOptions().min_calibrators} stars and {self.n_weight} pixels"
        )


def count_calibrators(scene: Scene, basis: PolarBasis, mask: MaskOptions, min_snr: float) -> Calibrators:
    """Count the stars the PRF can be trained on, those of some signal-to-noise ratio, and their pixels."""
    side = float(np.sqrt(pixel_area(scene.pixels)))
    radius = fit_radius(scene.pairs, scene.image, scene.flux, pixel_scale=side, options=mask)
    training = first_training(scene, basis, radius, mask)
    worth = np.bincount(training.source, weights=np.maximum(training.light, 0.0) ** 2 / training.variance)
    good = np.sqrt(worth) > min_snr
    return Calibrators(int(np.count_nonzero(good)), int(np.count_nonzero(good[training.source])), basis.n_basis)


def _training_in_a_crowd(scene: Scene, basis: PolarBasis, options: MaskOptions) -> StarPixels:
    """Choose the pixels that one star dominates, according to the nominal PRF, the others' light subtracted.

    The nominal PRF decides whose light a pixel holds; the fluxes are the catalogue's, in its unit.
    """
    pairs = scene.pairs
    prf, flux = _nominal_light(scene, basis)
    neighbors = prf.neighbor_light(np.maximum(flux, 0.0))
    dominated = usable_pairs(scene, pairs, basis.rmax, options) & (neighbors < _CROWD_SHARE * prf.light(flux))
    if not dominated.any() and not _total_light(scene) > 0.0:
        raise InputError(why_no_training(scene, basis, options))
    found = gather_star_pixels(prf, flux, scene.image, fixed=np.zeros(pairs.n_pixel), chosen=dominated)
    return replace(found, flux=scene.flux[found.source])


def _nominal_light(scene: Scene, basis: PolarBasis) -> tuple[PrfMatrix, FloatArray]:
    """Return the nominal PRF of all pairs, and the fluxes with it, shape (n_source,), electron / s."""
    nominal, pairs = nominal_prf(basis, pixel_area(scene.pixels)), scene.pairs
    prf = PrfMatrix.constant(pairs, nominal.evaluate(pairs.dx, pairs.dy))
    expected = np.where(scene.known, scene.flux, np.nan)
    visible = PrfMatrix.constant(pairs, np.where(scene.saturated[pairs.pixel], 0.0, prf.values))
    return prf, fit_image_flux(visible, scene.image, expected=expected * _image_scale(scene, expected))


def training_pixels(scene: Scene, basis: PolarBasis, mask: MaskOptions, options: ShapeOptions) -> BoolArray:
    """Choose the pixels that a PRF may be trained on by the limits that are asked for.

    Parameters
    ----------
    scene : Scene
        Image and catalogue.
    basis : PolarBasis
        Gives rmax.
    mask : MaskOptions
        Reach of the stars, and limits of radius, flux and contaminants.
    options : ShapeOptions
        Share of neighbours, signal-to-noise ratio and number of pairs.

    Returns
    -------
    ndarray of bool, shape (n_pixel,)
        Pixels within the radius of a star that is bright enough, to which its neighbours, by the nominal PRF, add
        little. Beside a sky those that no star reaches, too: they tell it.

    Raises
    ------
    InputError
        If there are none.
    """
    pairs, side = scene.pairs, float(np.sqrt(pixel_area(scene.pixels)))
    radius = fit_radius(pairs, scene.image, scene.flux, pixel_scale=side, options=mask)
    near = radius_mask(pairs, radius)
    prf, flux = _nominal_light(scene, basis)
    light = np.maximum(prf.light(flux), 0.0)
    counted = np.where(contaminants(scene, mask)[pairs.source], light, 0.0)
    share = np.bincount(pairs.pixel, weights=counted, minlength=pairs.n_pixel)[pairs.pixel] - counted
    chosen = near & usable_pairs(scene, pairs, basis.rmax, mask) & (share < options.max_neighbor_share * light)
    signal = np.where(chosen, light**2 * scene.image.ivar[pairs.pixel], 0.0)
    snr = np.sqrt(np.bincount(pairs.source, weights=signal, minlength=pairs.n_source))
    chosen &= snr[pairs.source] > options.min_snr
    chosen &= _within_budget(pairs, chosen, snr, options.max_pairs)
    if not chosen.any():
        raise InputError(why_no_training(scene, basis, mask))
    trained, reached = (np.bincount(pairs.pixel[one], minlength=pairs.n_pixel) > 0 for one in (chosen, near))
    return trained if scene.background is None else trained | ~reached


def _within_budget(pairs: PairTable, chosen: BoolArray, snr: FloatArray, max_pairs: int) -> BoolArray:
    """Return the pairs of the stars with the highest signal-to-noise ratio, up to the budget."""
    count = np.bincount(pairs.source[chosen], minlength=pairs.n_source)
    order = np.argsort(-snr, kind="stable")
    bright = np.zeros(pairs.n_source, bool)
    bright[order[np.cumsum(count[order]) <= max_pairs]] = True
    return bright[pairs.source]


def _image_scale(scene: Scene, expected: FloatArray) -> float:
    """Return electron / s per unit of catalogue flux, from all light of the image over all flux of the catalogue."""
    inside = np.unique(scene.pairs.source)
    return float(np.abs(scene.image.flux.sum()) / max(np.nansum(expected[inside]), 1e-300))


def _total_light(scene: Scene) -> float:
    return float(scene.image.flux[scene.image.ivar > 0].sum())


def why_no_training(scene: Scene, basis: PolarBasis, options: MaskOptions) -> str:
    """Return the message on where the pixels were lost that the PRF could be trained on."""
    pairs, image = scene.pairs, scene.image
    total = _total_light(scene)
    if total < 0.0:
        return (
            f"pixels: expected light, got a mean image whose pixels add up to {total:.3g} electron / s; check the sign"
            " of the fluxes, and what was subtracted from them"
        )
    known = scene.known[pairs.source]
    data = known & (image.ivar[pairs.pixel] > 0)
    usable = usable_pairs(scene, pairs, basis.rmax, options)
    return (
        f"sources: expected stars that light pixels alone, to learn the PRF from, got none; of {pairs.n_pair} pairs of"
        f" star and pixel within sparse_dist_lim, {known.sum()} are of stars with a catalogue flux above 0,"
        f" {data.sum()} of these have data, {usable.sum()} of these are near the star and neither saturated nor above"
        " upper_flux_limit, and none of these is outside every other star's radius; check positions and fluxes of the"
        " catalogue, or relax contaminant_mag_limit or the limits of MaskOptions"
    )


def usable_pairs(
    scene: Scene, pairs: PairTable, radius: float, options: MaskOptions, *, known: BoolArray | None = None
) -> BoolArray:
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
    known : ndarray of bool, shape (n_source,), optional
        Stars of known flux; those of the catalogue by default.

    Returns
    -------
    ndarray of bool, shape (n_pair,)
    """
    image = scene.image
    upper = options.upper_flux_limit or scene.pixels.instrument.saturation
    pixel = (image.ivar > 0) & ~scene.saturated & (image.flux < upper)
    known = scene.known if known is None else known
    return pixel[pairs.pixel] & known[pairs.source] & (pairs.r < min(options.limit_radius, radius))


def contaminants(scene: Scene, options: MaskOptions) -> BoolArray:
    """Return which sources count where they light another's pixels, shape (n_source,)."""
    if options.contaminant_mag_limit is None:
        return np.ones(scene.sources.mag.size, bool)
    return ~(scene.sources.mag > options.contaminant_mag_limit)


def fit_radius(
    pairs: PairTable, image: Image, flux: FloatArray, *, pixel_scale: float, options: MaskOptions
) -> FloatArray:
    """Fit how the light of a star falls with radius, and return the radius where it drops to a limit.

    Parameters
    ----------
    pairs : PairTable
        Near pairs.
    image : Image
        The image to look at.
    flux : ndarray of float64, shape (n_source,)
        Catalogue fluxes on any common scale; not positive or NaN means unknown.
    pixel_scale : float
        arcsec per pixel.
    options : MaskOptions
        Limits.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        Radius of each source, arcsec.

    Notes
    -----
    log10 y = a0 + a1 r + a2 log10 f + a3 r log10 f over the pixels nearest to one star that clearly
    see it (Hedges et al. 2021, section 2.1), with 3 sigma clipping, solved for r at the limit.
    """
    limit = options.lower_flux_limit or _LOWER_FLUX_ERRORS * image.cadence_error
    lower = options.lower_radius_limit or _LOWER_RADIUS_PIX * pixel_scale
    upper = options.upper_radius_limit or _UPPER_RADIUS_PIX * pixel_scale
    known = np.isfinite(flux) & (np.nan_to_num(flux) > 0)
    log_flux = np.log10(np.where(known, flux, np.median(flux[known]) if known.any() else 1.0))
    coefficients = _fit_falling_light(pairs, image, log_flux, limit)
    if coefficients is None:
        return np.full(pairs.n_source, lower)
    a0, a1, a2, a3 = coefficients
    slope = a1 + a3 * log_flux
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = (np.log10(limit) - a0 - a2 * log_flux) / slope
    # A fit that does not fall with radius is of no use: such stars get the widest radius.
    return np.clip(np.where(slope < 0, radius, upper), lower, upper)


def _nearest(pairs: PairTable) -> BoolArray:
    """Return the pairs in which no other source is nearer to the pixel."""
    best = np.full(pairs.n_pixel, np.inf)
    np.minimum.at(best, pairs.pixel, pairs.r)
    return pairs.r == best[pairs.pixel]


def _fit_falling_light(pairs: PairTable, image: Image, log_flux: FloatArray, limit: float) -> FloatArray | None:
    """Return the four coefficients of log10 y, or None if too few pixels see a star."""
    y = image.flux[pairs.pixel]
    use = _nearest(pairs) & (image.ivar[pairs.pixel] > 0) & (y > limit / 3.0)
    r, f, y = pairs.r[use], log_flux[pairs.source[use]], np.log10(y[use])
    if y.size < _MIN_PAIRS:
        return None
    matrix = np.stack([np.ones_like(r), r, f, r * f], axis=1)
    solution, keep = fit_clipped(matrix, y, _rms, limit=_CLIP_SIGMA, n_pass=_N_CLIP, least=_MIN_PAIRS)
    return None if np.count_nonzero(keep) < _MIN_PAIRS else solution


def _rms(residual: FloatArray, keep: BoolArray) -> float:
    """Return the rms; not the scatter about the mean: exact data leave a common rounding offset, far above that."""
    return float(np.sqrt(np.mean(residual[keep] ** 2)))
