"""The joint fit as a stage: from a scene to a PrfFit."""

import logging
import warnings
from dataclasses import replace

import numpy as np
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial import cKDTree

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.errors import ConvergenceWarning, UnsupportedError
from bayesprf.photometry.background import ImageBackground
from bayesprf.prf.astrometry import PositionFit
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.image_fluxes import Scene, catalog_scale
from bayesprf.prf.instrument_prior import instrument_prior
from bayesprf.prf.joint.hyper import JointHyper, pixel_variance
from bayesprf.prf.joint.objective import JointFit, JointOptions, fit_joint
from bayesprf.prf.joint.problem import LN10, JointProblem, JointState, growth, look, star_columns
from bayesprf.prf.joint.start import JointSettings, build_joint
from bayesprf.prf.prior import PrfPrior, build_prior, load_prf_tables
from bayesprf.prf.training import fit_radius
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import offsets
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.scene.sky import ARCSEC_PER_DEG, unit_vectors
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import INSTRUMENT_PRF, MaskOptions, ShapeOptions

# Derived: charge reaches this many pixels past a saturated one: the neighbours, and the end of a bleed along its
# column.
_MARGIN, _COLUMN_MARGIN = 1.5, 2.1
# Cost: a step takes some seconds and 2 GB at most, as measured up to 1,500 stars.
_MAX_OWN, _MAX_ENTRY, _MAX_PAIR = 6000, 100_000_000, 6_000_000
MAX_QUICK = 1000
"""Cost: stars up to which a step takes less than a second: no larger fit is chosen without being asked."""
# Derived: how often stars are looked for: beside the brighter ones, then the fainter.
_N_LOOK = 2
SIGNIFICANT_PEAK = 5.0
"""Definition: a star is told from noise by so many of its standard errors."""
# Definition: of the stars that are found, so many may be none.
_FALSE_SHARE = 0.1
# Format: how stars that no catalogue names are called.
_UNNAMED = "uncatalogued-"
# Definition: the pixels of PrfFit's `training`: those in which a star gives most of the light.
_OWN_SHARE = 0.9
_log = logging.getLogger("bayesprf")


def fit_joint_shape(scene: Scene, *, mask_options: MaskOptions, options: ShapeOptions) -> PrfFit:
    """Fit PRF, fluxes, sky, and positions unless `options.refine` holds them, in one objective."""
    image, settings = _image_and_settings(scene, options)
    asked = JointOptions(position_error=options.position_error)
    fit = fit_joint(*_build(scene, image, settings), asked)
    if scene.background is not None and fit.problem.free:
        fit = _with_uncatalogued(scene, fit, image, settings, asked)
    return as_prf_fit(scene, fit, mask_options=mask_options, options=options)


def build_problem(scene: Scene, options: ShapeOptions) -> tuple[JointProblem, JointState, JointHyper]:
    """Return the problem of a scene, where the fit starts, and its first hyperparameters."""
    return _build(scene, *_image_and_settings(scene, options))


def _image_and_settings(scene: Scene, options: ShapeOptions) -> tuple[Image, JointSettings]:
    """Return the image with its sky, and what the options ask of the fit."""
    settings, image = JointSettings(order=options.field_variation or 0, free=options.refine is not False), scene.image
    settings = replace(settings, density=options.knot_density or 1)
    if options.prf is not None:
        prior = read_prior(options.prf, scene.pixels)
        settings = replace(
            settings,
            base=prior.base,
            basis=prior.basis,
            weights_factor=prior.weights_factor,
            weights_sigma=prior.weights_sigma,
            slope=settings.slope if prior.slope is None else prior.slope,
        )
    if scene.background is not None:
        image = replace(image, flux=image.flux + np.where(image.ivar > 0, scene.background.light, 0.0))
        settings = replace(settings, sky=scene.background.columns)
    return image, settings


def _build(scene: Scene, image: Image, settings: JointSettings) -> tuple[JointProblem, JointState, JointHyper]:
    """Return the problem of an image, unless it is too large."""
    spilled = spoiled(scene.pixels, scene.pixels.saturated)
    built = build_joint(scene.pixels, scene.sources, image, spilled, settings)
    _check_size(built[0])
    return built


def _with_uncatalogued(
    scene: Scene, fit: JointFit, image: Image, settings: JointSettings, options: JointOptions
) -> JointFit:
    """Return the fit with the light of stars that the image shows and the catalogue lacks, which are fitted along.

    Notes
    -----
    Where a sky is fitted too, light of no listed star raises it and the wings. Stars are looked for in what the fit
    leaves, fitted with all others, and looked for again; their light is then known, with its error.
    """
    found, listed = fit, scene.sources
    known = listed.has_flux & (fit.flux > 0)
    scale = float(np.median(listed.flux[known] / fit.flux[known])) if known.any() else 1.0
    for _ in range(_N_LOOK):
        place, flux = find_uncatalogued(scene.pixels, found)
        if not flux.size:
            break
        names = tuple(f"{_UNNAMED}{found.flux.size + k}" for k in range(flux.size))
        listed = listed.joined(SourceTable(names, place[:, 0], place[:, 1], scale * flux))
        found = _continue(scene, listed, found, flux, (image, settings, options))
    if found is fit or not found.converged:
        return fit
    n_source, problem = fit.flux.size, found.problem
    more = (problem.pairs.source >= n_source) & (found.flux[problem.pairs.source] > 0.0)
    light = np.where(more, found.flux[problem.pairs.source] * found.values, 0.0)
    known_light = np.bincount(problem.pairs.pixel, weights=light, minlength=problem.flux.size)
    state = replace(found.state, flux=found.state.flux[:n_source], shift=found.state.shift[:n_source])
    last = fit_joint(replace(fit.problem, known=known_light), state, found.hyper, options, near=True)
    columns = star_columns(problem, found.state, look(problem, found.state))[:, problem.n_own * n_source :]
    own = np.linalg.cholesky(found.posterior.own_blocks[n_source:])
    errors = block_diag([csr_matrix(own[0]), *own[1:]], format="csr")
    _log.info("%d stars that the catalogue lacks are fitted along", listed.n_source - n_source)
    return replace(last, unlisted=csr_matrix(columns @ errors))


def _continue(
    scene: Scene,
    listed: SourceTable,
    found: JointFit,
    flux: FloatArray,
    asked: tuple[Image, JointSettings, JointOptions],
) -> JointFit:
    """Fit with more stars, whose places are known to half a pixel, from where the fit with fewer ended."""
    image, settings, options = asked
    problem, _, _ = _build(replace(scene, sources=listed), image, settings)
    loose = np.where(np.arange(listed.n_source) < scene.sources.n_source, 0.0, problem.pixel_area / 12.0)
    before = found.state
    shift = np.concatenate([before.shift, np.zeros((flux.size, 2))])
    state = replace(before, flux=np.append(before.flux, flux), shift=shift)
    start = replace(found.hyper, outlier_share=0.0, outlier_sigma=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_joint(replace(problem, loose=loose), state, start, options, near=True)


def find_uncatalogued(pixels: PixelTable, fit: JointFit) -> tuple[FloatArray, FloatArray]:
    """Find stars in what a fit leaves of the pixels.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    fit : JointFit
        The fit.

    Returns
    -------
    place : ndarray of float64, shape (n_star, 2)
        RA and Dec, degree.
    flux : ndarray of float64, shape (n_star,)
        electron / s.

    Notes
    -----
    The likeliest flux of a star at each pixel, from the pixels within three, over its error: a star is where that is
    largest among its neighbours, at least five, and above the level at which a tenth of the peaks have a twin below
    zero, as a PRF that misses the pixels makes of either sign (Barber & Candes 2015, Annals of Statistics 43, 2055).
    """
    problem, used = fit.problem, fit.problem.used
    view = look(problem, fit.state)
    variance = pixel_variance(problem.ivar, growth(problem, fit.state, view), fit.hyper.errors)
    weight = np.where(used, 1.0 / variance, 0.0)
    side = float(np.sqrt(problem.pixel_area))
    middle, other, offset = _neighbors(pixels, 3.0 * side)
    prf = fit.prf.normalized_at(np.zeros(2))
    profile = csr_matrix((prf.evaluate(*offset.T), (middle, other)), shape=2 * (used.size,))
    norm = profile.multiply(profile) @ weight
    light = profile @ (weight * np.where(used, problem.flux - fit.image, 0.0))
    height = np.where(norm > 0, light / np.sqrt(np.where(norm > 0, norm, 1.0)), 0.0)
    close = np.hypot(*offset.T) < 1.5 * side
    near = close & (middle != other)
    peaks, holes = (_peaks(sign * height, middle[near], other[near]) & used for sign in (1.0, -1.0))
    level = _level(height[peaks], -height[holes])
    star = np.flatnonzero(peaks & (height >= level))
    rows = [np.flatnonzero(close & (middle == one)) for one in star]
    where = np.array([_summit(height[other[own]], offset[own], side) for own in rows]).reshape(-1, 2)
    east, north = (where - fit.state.offset[0]).T / ARCSEC_PER_DEG
    dec = pixels.dec_deg[star]
    place = np.stack([pixels.ra_deg[star] + east / np.cos(np.radians(dec)), dec + north], axis=1)
    return place, light[star] / norm[star]


def read_prior(name: str, pixels: PixelTable) -> PrfPrior:
    """Return the PRF that is expected: the instrument's, or that of a file."""
    if name == INSTRUMENT_PRF:
        return instrument_prior(pixels.instrument, pixel_axes(pixels))
    return build_prior(load_prf_tables(name), pixel_axes(pixels))


def _neighbors(pixels: PixelTable, radius: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the pairs of pixels within a radius, arcsec, both ways and with themselves, and their offsets, arcsec."""
    chord = 2.0 * np.sin(np.radians(radius / ARCSEC_PER_DEG) / 2.0)
    one, two = cKDTree(unit_vectors(pixels.ra_deg, pixels.dec_deg)).query_pairs(chord, output_type="ndarray").T
    each = np.arange(pixels.n_pixel)
    middle, other = np.concatenate([one, two, each]), np.concatenate([two, one, each])
    ra, dec = pixels.ra_deg, pixels.dec_deg
    return middle, other, np.stack(offsets(ra[other], dec[other], ra[middle], dec[middle]), axis=1)


def _peaks(height: FloatArray, middle: IntArray, other: IntArray) -> BoolArray:
    """Return the pixels that are higher than their neighbours and than five."""
    around = np.full(height.size, -np.inf)
    np.maximum.at(around, middle, height[other])
    return (height > around) & (height > SIGNIFICANT_PEAK)


def _level(peaks: FloatArray, holes: FloatArray) -> float:
    """Return the lowest height above which a tenth of the peaks, at most, have a twin among the holes."""
    for level in np.sort(peaks):
        if np.count_nonzero(holes >= level) <= _FALSE_SHARE * np.count_nonzero(peaks >= level):
            return float(level)
    return np.inf


def _summit(height: FloatArray, offset: FloatArray, side: float) -> FloatArray:
    """Return where a parabola through the heights around a peak is highest, within half a pixel of it, arcsec."""
    x, y = offset.T / side
    columns = np.stack([np.ones_like(x), x, y, x**2, x * y, y**2], axis=1)
    _, gx, gy, xx, xy, yy = np.linalg.lstsq(columns, height, rcond=None)[0]
    bent = np.array([[2.0 * xx, xy], [xy, 2.0 * yy]])
    if np.linalg.eigvalsh(bent).max() >= 0.0:
        return np.zeros(2)
    return side * np.clip(-np.linalg.solve(bent, [gx, gy]), -0.5, 0.5)


def _check_size(problem: JointProblem) -> None:
    """Refuse what memory may not hold: parameters of all stars, columns of all pixels, crowds of pairs."""
    sizes = {
        "parameters of stars": (problem.n_own * problem.n_source, _MAX_OWN),
        "pixels times parameters of the PRF": (problem.n_global * problem.flux.size, _MAX_ENTRY),
        "pairs of star and pixel": (problem.pairs.n_pair, _MAX_PAIR),
    }
    for name, (size, limit) in sizes.items():
        if size > limit:
            raise UnsupportedError(
                f'method="joint": expected at most {limit:,} {name}, got {size:,}; fit a part of the image,'
                ' lower field_variation, or use method="rounds"'
            )


def spoiled(pixels: PixelTable, saturated: BoolArray) -> BoolArray:
    """Return the saturated pixels and those to which their charge may have spilled, shape (n_pixel,)."""
    if not saturated.any():
        return saturated
    place = np.stack([pixels.column, pixels.row], axis=1)
    far = cKDTree(place[saturated]).query(place)[0] > _MARGIN
    squeezed = place * np.array([10.0 * _COLUMN_MARGIN, 1.0])
    return ~far | (cKDTree(squeezed[saturated]).query(squeezed)[0] < _COLUMN_MARGIN)


def as_prf_fit(scene: Scene, fit: JointFit, *, mask_options: MaskOptions, options: ShapeOptions) -> PrfFit:
    """Return the fit as the other stages know it, each star with the PRF of its own place."""
    problem, n_basis = fit.problem, fit.problem.basis.n_basis
    middle = fit.prf.normalized_at(np.zeros(2))
    side = float(np.sqrt(middle.pixel_area))
    pairs = problem.pairs.moved(fit.shift)
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
        scale=catalog_scale(scene, PrfMatrix.constant(pairs, values)),
        flux=fit.flux,
        intrinsic_scatter=fit.hyper.eps / LN10,
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
    return PositionFit(shift, fit.shift_err, 0.0 if fit.converged else float(np.inf))
