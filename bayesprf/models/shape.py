"""The mean PRF shape, learned from the pixels that one star lights (Hedges et al. 2021, section 2.2)."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.models.distant import distant_light
from bayesprf.models.extent import fit_extent
from bayesprf.models.geometry import centroid_offset, fit_geometry
from bayesprf.models.image import Image
from bayesprf.models.lattice import Lattice
from bayesprf.models.options import MaskOptions, ShapeOptions
from bayesprf.models.photometry import fit_image_flux
from bayesprf.models.positions import PositionFit, fit_positions
from bayesprf.models.prf import PrfModel
from bayesprf.models.profile import Profile, Training, fit_profile, nominal_prf
from bayesprf.models.star_moments import measure_stars
from bayesprf.models.tail import SLOPE_CHANGE, WING_SHARE, fit_tail
from bayesprf.scene.axes import pixel_area, pixel_axes
from bayesprf.scene.masks import alone_mask, neighbor_flux, reach_mask
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

# Pairs below the flux cut still count as known light down to this share of it.
_FAR_SHARE = 0.1
# With fewer lone pixels than this many per weight, pixels that one star dominates teach too.
_MIN_LONE = 2
_CROWD_SHARE = 0.5
# Positions are never held tighter than this, arcsec.
_MIN_POSITION_WIDTH = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What the shape fit looks at: one image of the pixels, the stars and their pairs.

    Parameters
    ----------
    pixels, sources : PixelTable, SourceTable
        Pixels and catalogue.
    pairs : PairTable
        Near pairs at catalogue positions.
    limit : float
        Distance within which pairs were made, arcsec.
    image : Image
        The image.
    """

    pixels: PixelTable
    sources: SourceTable
    pairs: PairTable
    limit: float
    image: Image

    @property
    def flux(self) -> FloatArray:
        """Catalogue fluxes on any common scale, shape (n_source,); NaN, zero or negative means unknown."""
        return self.sources.flux

    @property
    def known(self) -> BoolArray:
        """Whether the catalogue flux is usable, shape (n_source,)."""
        return self.sources.has_flux

    @property
    def saturated(self) -> BoolArray:
        """Pixels that do not respond linearly, shape (n_pixel,)."""
        return self.pixels.saturated


@dataclass(frozen=True, slots=True, eq=False)
class ShapeFit:
    """The PRF, what it was learned from, and where each source matters.

    Parameters
    ----------
    prf : PrfModel
        The PRF; its area is one pixel.
    weights_cov : ndarray of float64, shape (n_basis, n_basis)
        Posterior covariance of `psf_w`, dex**2.
    tail_err : float
        Posterior standard deviation of the wing's slope.
    offset : tuple of float
        How far the stars lie from their catalogue positions, east and north, arcsec.
    positions : PositionFit
        How far each star lies from its catalogue position after the common offset; zero unless refined.
    scale : float
        electron / s per unit of catalogue flux.
    flux : ndarray of float64, shape (n_source,)
        Flux of each source in the image, electron / s; NaN without pixels.
    intrinsic_scatter : float
        Relative scatter of pixels about the PRF beyond their errors, dex.
    pairs : PairTable
        Pairs in which a source gives more than `flux_cut_off`, at corrected positions.
    values : ndarray of float64, shape (n_pair,)
        PRF of each of these pairs, 1 / pixel.
    training : ndarray of bool, shape (n_pair,)
        The pairs that taught the PRF.
    far_light : ndarray of float64, shape (n_pixel,)
        Light in each pixel of pairs below the cut and of distant stars, electron / s: known, not fitted.
    reach : ndarray of float64, shape (n_source,)
        Reach of each source as its flux alone foretold it, arcsec.
    n_clipped : int
        Training pixels left out as outliers.
    image : Image
        The image that was fitted.
    """

    prf: PrfModel
    weights_cov: FloatArray
    tail_err: float
    offset: tuple[float, float]
    positions: PositionFit
    scale: float
    flux: FloatArray
    intrinsic_scatter: float
    pairs: PairTable
    values: FloatArray
    training: BoolArray
    far_light: FloatArray
    reach: FloatArray
    n_clipped: int
    image: Image


def fit_shape(scene: Scene, basis: PolarBasis, *, mask_options: MaskOptions, options: ShapeOptions) -> ShapeFit:
    """Learn the PRF from one image.

    Parameters
    ----------
    scene : Scene
        Image, pairs and catalogue.
    basis : PolarBasis
        Columns of log10 PRF.
    mask_options : MaskOptions
        Which stars and pixels may teach.
    options : ShapeOptions
        Settings of the fit.

    Returns
    -------
    ShapeFit

    Raises
    ------
    InputError
        If no pixel is fit to teach the PRF.

    Notes
    -----
    Rounds of: choose the pixels that one star lights, fit the shape, normalise it, measure the common
    offset, solve all fluxes of the image. Nothing of the catalogue's flux scale survives the
    normalisation.
    """
    area = pixel_area(scene.pixels)
    reach = fit_extent(scene.pairs, scene.image, scene.flux, pixel_scale=float(np.sqrt(area)), options=mask_options)
    training = _first_training(scene, basis, reach, mask_options)
    scale = _rough_scale(training)
    offset, training = np.zeros(2), training.scaled(scale)
    prf = PrfModel(basis, np.zeros(basis.n_basis), area)
    lattice = Lattice.around(pixel_axes(scene.pixels), basis.rmax)
    if mask_options.correct_centroid_offset:
        offset = centroid_offset(training)
        training = training.shifted(-offset)
    places = PositionFit(np.zeros((scene.sources.n_source, 2)), np.zeros((scene.sources.n_source, 2)), np.inf)
    for count in range(options.n_round):
        profile = fit_profile(training, prf, lattice, options=options, fresh=count == 0)
        scale = scale * profile.area if count == 0 else scale
        light = _light(scene, profile, offset + places.shift, scale, options.flux_cut_off)
        if options.refine and count > 0:
            places = _refine(scene, light, profile, training, places)
            light = _light(scene, profile, offset + places.shift, scale, options.flux_cut_off)
        scale = _catalog_scale(scene, light)
        slope, slope_err = _tail_slope(scene, light, profile, mask_options)
        prf = profile.prf.with_tail(slope)
        teach = _teaching_pairs(scene, light, basis, mask=mask_options, options=options)
        training = _gather(scene, light, teach)
        if count < options.n_round - 1:
            step = fit_geometry(profile, training, lattice, smoothness=options.smoothness)
            prf = replace(prf, shear=(prf.shear[0] + step[2], prf.shear[1] + step[3]))
            if mask_options.correct_centroid_offset:
                offset = offset + step[:2]
                training = training.shifted(-step[:2])
    return ShapeFit(
        prf=profile.prf,
        weights_cov=profile.weights_cov,
        tail_err=slope_err,
        offset=(float(offset[0]), float(offset[1])),
        positions=places,
        scale=scale,
        flux=light.flux,
        intrinsic_scatter=profile.scatter,
        pairs=light.pairs.select(light.above),
        values=light.values[light.above],
        training=teach[light.above],
        far_light=light.far,
        reach=reach,
        n_clipped=int(np.count_nonzero(~profile.keep)),
        image=scene.image,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Light:
    """What each star gives to each pixel, as of one round: pairs, PRF, fluxes of the image."""

    pairs: PairTable
    values: FloatArray
    flux: FloatArray
    above: BoolArray
    distant: FloatArray

    @property
    def model(self) -> FloatArray:
        """Light of each pair, shape (n_pair,), electron / s."""
        return np.nan_to_num(self.flux)[self.pairs.source] * self.values

    @property
    def far(self) -> FloatArray:
        """Light that is known, not fitted: of pairs below the cut and of distant stars, shape (n_pixel,)."""
        below = np.where(self.above, 0.0, self.model)
        return self.distant + np.bincount(self.pairs.pixel, weights=below, minlength=self.pairs.n_pixel)


def _first_training(scene: Scene, basis: PolarBasis, reach: FloatArray, options: MaskOptions) -> Training:
    """Choose pixels by the stars' reach, from catalogue flux alone; fluxes in the catalogue's unit."""
    contaminant = _contaminants(scene, options)
    usable = _usable(scene, scene.pairs, basis.rmax, options)
    if not usable.any():
        raise InputError(_why_no_training(scene, basis, options))
    member = reach_mask(scene.pairs, reach) & usable
    alone = alone_mask(scene.pairs, reach_mask(scene.pairs, reach), contaminant)
    lone = member & alone
    if np.count_nonzero(lone) >= _MIN_LONE * basis.n_basis:
        nothing = np.zeros(scene.pairs.n_pair)
        light = _Light(scene.pairs, nothing, scene.flux, nothing > 0, np.zeros(scene.pairs.n_pixel))
        return _gather(scene, light, lone)
    return _training_in_a_crowd(scene, basis, options)


def _training_in_a_crowd(scene: Scene, basis: PolarBasis, options: MaskOptions) -> Training:
    """Choose the pixels that one star dominates, as far as the nominal PRF can tell, the others' light taken off."""
    nominal = nominal_prf(basis, pixel_area(scene.pixels))
    values = nominal.evaluate(scene.pairs.dx, scene.pairs.dy)
    expected = np.where(scene.known, scene.flux, np.nan)
    visible = np.where(scene.saturated[scene.pairs.pixel], 0.0, values)
    flux = fit_image_flux(scene.pairs, visible, scene.image, expected=expected * _image_scale(scene, expected))
    light = _Light(scene.pairs, values, flux, values > 0, np.zeros(scene.pairs.n_pixel))
    share = neighbor_flux(scene.pairs, np.maximum(light.model, 0.0))
    lone = _usable(scene, scene.pairs, basis.rmax, options) & (share < _CROWD_SHARE * light.model)
    if not np.any(lone):
        raise InputError(_why_no_training(scene, basis, options))
    return _gather(scene, light, lone)


def _image_scale(scene: Scene, expected: FloatArray) -> float:
    """Return electron / s per unit of catalogue flux, from all light of the image over all flux of the catalogue."""
    inside = np.unique(scene.pairs.source)
    return float(np.abs(scene.image.flux.sum()) / max(np.nansum(expected[inside]), 1e-300))


def _why_no_training(scene: Scene, basis: PolarBasis, options: MaskOptions) -> str:
    """Return the message that says where the pixels that could teach were lost."""
    pairs, image = scene.pairs, scene.image
    known = scene.known[pairs.source]
    data = known & (image.ivar[pairs.pixel] > 0)
    usable = _usable(scene, pairs, basis.rmax, options)
    return (
        f"sources: expected stars that light pixels alone, to learn the PRF from, got none; of {pairs.n_pair} pairs of"
        f" star and pixel within sparse_dist_lim, {known.sum()} are of stars with a catalogue flux above 0,"
        f" {data.sum()} of these have data, {usable.sum()} of these are near the star and neither saturated nor above"
        " upper_flux_limit, and none of these is out of every other star's reach; check positions and fluxes of the"
        " catalogue, or relax contaminant_mag_limit or the limits of MaskOptions"
    )


def _rough_scale(training: Training) -> float:
    """Return the median over stars of light in the pixels over catalogue flux, so that no scale is preferred."""
    light, number = np.bincount(training.source, weights=training.y), np.bincount(training.source)
    flux = np.bincount(training.source, weights=training.flux)
    good = light > 0
    return float(np.median(light[good] * number[good] / flux[good])) if good.any() else 1.0


def _usable(scene: Scene, pairs: PairTable, radius: float, options: MaskOptions) -> BoolArray:
    """Return the pairs near enough, of stars of known flux, whose pixel has data and is not saturated."""
    image = scene.image
    upper = options.upper_flux_limit or scene.pixels.instrument.saturation
    pixel = (image.ivar > 0) & ~scene.saturated & (image.flux < upper)
    return pixel[pairs.pixel] & scene.known[pairs.source] & (pairs.r < min(options.limit_radius, radius))


def _contaminants(scene: Scene, options: MaskOptions) -> BoolArray:
    if options.contaminant_mag_limit is None:
        return np.ones(scene.sources.mag.size, bool)
    return ~(scene.sources.mag > options.contaminant_mag_limit)


def _light(scene: Scene, profile: Profile, shift: FloatArray, scale: float, cut: float) -> _Light:
    """Evaluate the PRF where a star can matter, and solve the fluxes of the image above the cut."""
    expected = np.where(scene.known, scene.flux, np.nan) * scale
    ceiling = np.where(scene.known, expected, np.nanmedian(expected))
    near = scene.pairs.moved(shift)
    near = near.select(ceiling[near.source] * profile.prf.envelope(near.r) > _FAR_SHARE * cut)
    values = profile.prf.evaluate(near.dx, near.dy)
    distant = distant_light(
        scene.pixels, scene.sources, profile.prf, flux=expected, limit=scene.limit, cut=_FAR_SHARE * cut
    )
    light = _Light(near, values, np.nan_to_num(expected), ceiling[near.source] * values > cut, distant)
    for _ in range(2):
        image = replace(scene.image, flux=scene.image.flux - light.far)
        visible = np.where(light.above & ~scene.saturated[near.pixel], values, 0.0)
        flux = fit_image_flux(near, visible, image, expected=expected)
        reaches = np.where(np.nan_to_num(flux) > 0, np.nan_to_num(flux), ceiling)
        light = _Light(near, values, flux, reaches[near.source] * values > cut, distant)
    return light


def _refine(scene: Scene, light: _Light, profile: Profile, training: Training, places: PositionFit) -> PositionFit:
    """Step all positions; their prior width is what the lone stars teach."""
    stars = measure_stars(profile.prf, training, profile.scatter)
    whole = replace(stars, value=stars.value + np.pad(places.shift[stars.source], ((0, 0), (0, 3))))
    width = max(whole.width("east", "north"), _MIN_POSITION_WIDTH)
    image = replace(scene.image, flux=scene.image.flux - light.far)
    visible = np.where(light.above & ~scene.saturated[light.pairs.pixel], light.values, 0.0)
    return fit_positions(light.pairs, visible, profile, flux=light.flux, image=image, shift=places.shift, width=width)


def _catalog_scale(scene: Scene, light: _Light) -> float:
    """Return the median of fitted over catalogue flux, weighted towards the stars that shine."""
    good = scene.known & np.isfinite(light.flux) & (np.nan_to_num(light.flux) > 0)
    ratio = light.flux[good] / scene.flux[good]
    order = np.argsort(ratio)
    weight = np.cumsum(np.sqrt(light.flux[good][order]))
    return float(ratio[order][np.searchsorted(weight, 0.5 * weight[-1])]) if ratio.size else 1.0


def _teaching_pairs(
    scene: Scene, light: _Light, basis: PolarBasis, *, mask: MaskOptions, options: ShapeOptions
) -> BoolArray:
    """Choose pixels in which the other stars give little of the light, of stars bright enough."""
    pairs, model = light.pairs, light.model
    counted = np.where(_contaminants(scene, mask)[pairs.source], model, 0.0)
    share = np.bincount(pairs.pixel, weights=counted, minlength=pairs.n_pixel)[pairs.pixel] - counted
    teach = light.above & _usable(scene, pairs, basis.rmax, mask) & (share < options.max_neighbor_share * model)
    signal = np.bincount(
        pairs.source, weights=np.where(teach, model**2 * scene.image.ivar[pairs.pixel], 0.0), minlength=pairs.n_source
    )
    snr = np.sqrt(signal)
    teach &= snr[pairs.source] > options.min_snr
    return teach & _within_budget(pairs, teach, snr, options.max_pairs)


def _tail_slope(scene: Scene, light: _Light, profile: Profile, mask: MaskOptions) -> tuple[float, float]:
    """Fit the wing's slope where a star gives at least half of the light: at the edge of the splines, then beyond."""
    pairs, model, rmax = light.pairs, light.model, profile.prf.basis.rmax
    wing = _usable(scene, pairs, scene.limit, replace(mask, limit_radius=scene.limit)) & (model > 0)
    wing &= neighbor_flux(pairs, model) < model
    edge = wing & (pairs.r > WING_SHARE * rmax) & (pairs.r <= rmax)
    near, _ = fit_tail(profile.prf, _gather(scene, light, edge), profile.scatter)
    beyond = _gather(scene, light, wing & (pairs.r > rmax))
    return fit_tail(profile.prf, beyond, profile.scatter, prior=(near, SLOPE_CHANGE))


def _within_budget(pairs: PairTable, teach: BoolArray, snr: FloatArray, max_pairs: int) -> BoolArray:
    """Return the pairs of the stars with the highest signal-to-noise ratio, up to the budget."""
    count = np.bincount(pairs.source[teach], minlength=pairs.n_source)
    order = np.argsort(-snr, kind="stable")
    chosen = np.zeros(pairs.n_source, bool)
    chosen[order[np.cumsum(count[order]) <= max_pairs]] = True
    return chosen[pairs.source]


def _gather(scene: Scene, light: _Light, teach: BoolArray) -> Training:
    """Collect the training pixels, with the light of all other stars taken off."""
    pairs = light.pairs
    pixel = pairs.pixel[teach]
    others = neighbor_flux(pairs, light.model)[teach]
    return Training(
        source=pairs.source[teach],
        dx=pairs.dx[teach],
        dy=pairs.dy[teach],
        y=scene.image.flux[pixel] - others,
        var=1.0 / scene.image.ivar[pixel],
        flux=light.flux[pairs.source[teach]],
    )
