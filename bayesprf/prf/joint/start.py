"""From tables to the problem of the joint fit: pairs as far as light counts, first fluxes, nominal PRF."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import lsqr

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.design.polar import PolarBasis
from bayesprf.photometry.background import BackgroundColumns
from bayesprf.prf.joint.areas import AreaRule
from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.layout import FarField, Layout, Reach
from bayesprf.prf.joint.problem import RMAX, JointPrior, JointProblem, JointState, joint_basis
from bayesprf.prf.nominal import STAR_WINGS
from bayesprf.prf.pixel_phase import PixelPhases
from bayesprf.scene.axes import pixel_area, pixel_axes
from bayesprf.scene.colors import scaled_colors
from bayesprf.scene.field_prf import FieldFrame, field_columns
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import build_pairs, build_pairs_within
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import LogPrf, PrfModel
from bayesprf.scene.sources import SourceTable
from bayesprf.stats import SIGMA_PER_MAD, weighted_median

# Accuracy: among so many pairs, pixels tell a star's own flux and place where it gives more than this share of their
# noise: without the others fluxes move by a hundredth of their errors, and errors by a hundredth. Few stars are told by
# all pixels that there are.
_MANY_PAIR, _TOLD = 100_000, 0.5
# Accuracy: a star is followed pair by pair where it gives more than this share of it, and no farther than this, pixel:
# halved or doubled they move no flux of docs/evidence/constants.md by more than 0.002 of its error.
_LEVEL, _FARTHEST = 0.05, 120.0
# Cost: were that more pairs than this, of which a fit takes 2 GB, a star is followed where pixels tell its own flux.
_MOST_PAIR = 6_000_000
# Accuracy: all light beyond the reach of the stars together stays below this share of the noise of a pixel.
_CUT_LIGHT = 0.02
SPLINE_MARGIN = 1.25
"""Derived: pairs reach past the splines by as much as shear and shifts may move them: a quarter is the shear of a PRF
two thirds longer than wide (1.25 / 0.75)."""
# Exponent of the profile to start from, that of seeing (Moffat 1969, A&A 3, 455).
_BETA = 2.5
NOMINAL_ERROR = 0.3
"""Derived: relative error of the nominal PRF, and so of first fluxes: those of a Gaussian of 2.0 or 1.2 pixel fitted by
one of 1.5 are off by -0.28 and 0.22."""
# Derived: first fluxes, which the fit replaces, are fitted within this radius, pixel, where a Moffat profile (slope
# 2.5) of 2 pixels full width at half maximum has 98 % of its light.
_NEAR = 6.0
# Accuracy: relative, of first fluxes, of which the nominal PRF is off by a quarter.
_SOLVED = 1e-4
# Derived: prior width of a flux, in units of the larger of what is expected and of its error: a flux as uncertain as
# that is drawn towards what is expected by a thousandth.
_FLUX_WIDTH = 30.0
# Definition: a star beside the pixels has less than this share of its light on them, as LOW_PSF_FRACTION has it.
_BESIDE = 0.5
LISTED_WIDTH = 1.0
"""Derived: the same of a flux of the catalogue beside the pixels, or where the PRF is that of a record, or of a star
that was found: positive numbers of a known mean, of which nothing else is said, are exponentially distributed, with
their mean as width (Jaynes 1957, Physical Review 106, 620)."""
# Rounding: prior width of an offset that is held, in units of that of a free one.
_HELD = 1e-6
# Accuracy: turns of the first guess of the sky.
_N_SKY = 10


def moffat_weights(basis: PolarBasis, side: float, fwhm_pix: float) -> FloatArray:
    """Return the weights of a round Moffat profile, dex."""
    width = fwhm_pix * side / (2.0 * np.sqrt(2.0 ** (1.0 / _BETA) - 1.0))
    return np.asarray(-_BETA * np.log10(1.0 + (basis.centers / width) ** 2))


@dataclass(frozen=True, slots=True, eq=False)
class JointSettings:
    """What `build_joint` may be told.

    Parameters
    ----------
    order : int
        Order of the surface over the field of the weights.
    free : bool
        Fit positions.
    fwhm_pix : float
        Width of the PRF to start from, and to expect, pixel.
    base : LogPrf, optional
        A PRF known beforehand.
    weights_factor : ndarray of float64, shape (n_basis, n_factor), optional
        Its error.
    weights_sigma : float
        Error of each weight beside, dex.
    rough_factor : ndarray of float64, shape (n_basis, n_factor), optional
        Its error where no pixel tells: see `JointPrior`.
    sky : BackgroundColumns, optional
        Background columns.
    basis : PolarBasis, optional
        Columns of log10 PRF; by default those of `joint_basis` out to `RMAX`.
    density : int
        Their density.
    n_wing : int
        Slope of the wing and its bends.
    slope : tuple of float
        Expected power of r beyond the splines, and its standard deviation.
    color_column : str, optional
        Colours of the catalogue that the weights follow.
    table_half : float
        Half width of the mission's own PRF tables, pixel.
    offset : bool
        Fit an offset between catalogue and pixels that all stars share.
    """

    order: int = 0
    free: bool = True
    fwhm_pix: float = 1.5
    base: LogPrf | None = None
    weights_factor: FloatArray | None = None
    weights_sigma: float = 1.0
    rough_factor: FloatArray | None = None
    sky: BackgroundColumns | None = None
    basis: PolarBasis | None = None
    density: int = 1
    n_wing: int = 5
    slope: tuple[float, float] = STAR_WINGS
    color_column: str | None = None
    table_half: float = np.inf
    offset: bool = True


def build_joint(
    pixels: PixelTable,
    sources: SourceTable,
    image: Image,
    saturated: BoolArray,
    settings: JointSettings,
) -> tuple[JointProblem, JointState, JointHyper]:
    """Build the problem and the state to start from."""
    area = pixel_area(pixels)
    side = float(np.sqrt(area))
    basis = settings.basis or joint_basis(side, RMAX, settings.density)
    ivar = np.where(saturated, 0.0, image.ivar)
    weights = np.zeros(basis.n_basis) if settings.base is not None else moffat_weights(basis, side, settings.fwhm_pix)
    prf = PrfModel(basis, weights, area, base=settings.base).normalized()
    sky = csr_matrix((pixels.n_pixel, 0)) if settings.sky is None else settings.sky.matrix
    height = np.zeros(0) if settings.sky is None else first_sky(settings.sky, image.flux, ivar)
    left = np.where(ivar > 0, image.flux - sky @ height, 0.0)
    flux, expected, share = first_flux(pixels, sources, prf, left, ivar, held=settings.weights_factor is not None)
    frame, axes = FieldFrame.around(pixels), pixel_axes(pixels)
    place = frame.places(sources.ra_deg, sources.dec_deg)
    if settings.color_column is not None:
        place = np.column_stack([place, scaled_colors(sources, settings.color_column)])
    geometry = field_columns(place, min(settings.order, 1))
    leans = share < _BESIDE if settings.weights_factor is None else np.ones(share.size, bool)
    prior = _prior(settings, prf, flux, height, geometry.shape[1])
    prior = _with_listed_fluxes(prior, np.where(leans, expected, np.nan))
    rough, around = basis.roughness(), rows_around(basis)
    problem = JointProblem(
        flux=image.flux,
        ivar=ivar,
        columns=field_columns(place, settings.order, colored=settings.color_column is not None),
        geometry=geometry,
        place=place,
        frame=frame,
        sky=sky,
        known=np.zeros(pixels.n_pixel),
        basis=basis,
        pixel_area=area,
        phases=PixelPhases.around(axes, basis.rmax),
        prior=prior,
        base=settings.base,
        layout=_layout(pixels, sources, prf, np.abs(flux), ivar),
        rule=AreaRule.of(basis, area, settings.base),
        bends=rough[~around],
        turns=rough[around],
        free=settings.free,
        n_wing=settings.n_wing,
    )
    return problem, _first_state(problem, prf, height, flux), JointHyper(position=0.02 * side, slope=prior.slope_sigma)


def _first_state(problem: JointProblem, prf: PrfModel, height: FloatArray, flux: FloatArray) -> JointState:
    """Return the nominal PRF everywhere, with stars where the catalogue has them."""
    start = np.zeros((problem.n_field, problem.basis.n_basis))
    start[0] = prf.weights
    bend = np.zeros((problem.n_geometry, 2))
    wing = np.append(prf.wing_slope, np.zeros(problem.n_wing - 1))
    return JointState(start, wing, bend, bend, height, flux, np.zeros((problem.n_source, 2)))


def rows_around(basis: PolarBasis) -> BoolArray:
    """Tell the rows of `PolarBasis.roughness` that lie around one circle from those along the radius, (n_row,)."""
    rough = basis.roughness()
    radial, starts = basis.radial_index[rough.indices], rough.indptr[:-1]
    return np.asarray(np.maximum.reduceat(radial, starts) == np.minimum.reduceat(radial, starts))


def _layout(pixels: PixelTable, sources: SourceTable, prf: PrfModel, flux: FloatArray, ivar: FloatArray) -> Layout:
    """Return the pairs, as far as light is told from noise and splines reach, and the light beyond."""
    reach = find_reach(pixels, prf, flux, ivar)
    # Flat offsets decide, as they do for the light beyond.
    pairs = build_pairs_within(pixels, sources, 1.01 * reach.pairs)
    pairs = pairs.select(pairs.r <= reach.pairs[pairs.source])
    far = FarField.beyond(pixels, sources, reach, base=prf.base, rmax=prf.basis.rmax)
    rough = pairs.n_pair > _MANY_PAIR
    near = reach.own if rough else reach.near
    return Layout.of(pairs, pairs.r <= near[pairs.source], far, float(np.sqrt(prf.pixel_area)), rough=rough)


def _prior(settings: JointSettings, prf: PrfModel, flux: FloatArray, height: FloatArray, n_geometry: int) -> JointPrior:
    """Return the prior around the nominal PRF; columns over the field are expected to be small."""
    side = float(np.sqrt(prf.pixel_area))
    return JointPrior(
        weights=prf.weights,
        weights_sigma=settings.weights_sigma,
        weights_factor=settings.weights_factor,
        slope=settings.slope[0],
        slope_sigma=settings.slope[1],
        shear_sigma=0.3 * np.array([1.0, 1.0 / 3.0, 1.0 / 3.0])[:n_geometry],
        offset_sigma=(side if settings.offset else _HELD * side) * np.array([1.0, 0.1, 0.1])[:n_geometry],
        flux=np.abs(flux),
        flux_width=np.full(flux.size, _FLUX_WIDTH),
        sky=height,
        sky_sigma=np.zeros(0) if settings.sky is None else np.full(height.size, settings.sky.sigma),
        table_half=settings.table_half,
        rough_factor=settings.rough_factor,
    )


def _with_listed_fluxes(prior: JointPrior, expected: FloatArray) -> JointPrior:
    """Expect the fluxes of the catalogue, on the scale of the image; of stars whose expected flux is NaN any.

    A PRF that few stars tell of bends to a blend: without, a faint star takes a tenth of the light of a bright one
    whose PRF is less round than the record's. Of stars beside the pixels only wings are seen: without, wings that never
    end and fluxes far below zero make up for each other.
    """
    known = np.isfinite(expected)
    flux = np.where(known, expected, prior.flux)
    return replace(prior, flux=flux, flux_width=np.where(known, LISTED_WIDTH, prior.flux_width))


def first_sky(columns: BackgroundColumns, flux: FloatArray, ivar: FloatArray) -> FloatArray:
    """Guess the heights of the sky: a surface through the darker pixels, those far above it left out by turns.

    Notes
    -----
    Stars only add light, so that pixels above the surface by more than the scatter of those below it are dropped:
    least squares with asymmetric clipping (Bijaoui 1980, A&A 84, 81, finds the mode of the sky to the same end).
    """
    used = ivar > 0
    matrix, data = columns.matrix[used], flux[used]
    keep = data <= np.quantile(data, 0.5) if data.size else np.zeros(0, bool)
    height = np.zeros(columns.n_column)
    for _ in range(_N_SKY):
        height = lsqr(matrix[keep], data[keep], damp=1e-9)[0]
        left = data - matrix @ height
        below = left[left < 0]
        scatter = SIGMA_PER_MAD * float(np.median(-below)) if below.size else 0.0
        keep = left < 2.0 * scatter
        if np.count_nonzero(keep) < 2 * columns.n_column:
            break
    return np.asarray(height)


def first_flux(
    pixels: PixelTable, sources: SourceTable, prf: PrfModel, flux: FloatArray, ivar: FloatArray, *, held: bool = False
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Solve the fluxes of the image with the nominal PRF; those that come out dark are scaled from the catalogue.

    Returns them, the catalogue's on the same scale, NaN where it has none, and the share of the nominal light that
    falls on the pixels, shape (n_source,). Where the catalogue's are `held` all have one scale, that of all light: few
    stars whose cores no pixel shows would take each other's light.
    """
    pairs = build_pairs(pixels, sources, _NEAR * np.sqrt(prf.pixel_area))
    pairs = pairs.select(ivar[pairs.pixel] > 0)
    design = pairs.to_sparse(prf.evaluate(pairs.dx, pairs.dy)).T.tocsr()
    light = design @ np.where(sources.has_flux, sources.flux, 0.0)
    # The error of a nominal PRF is most of the error of a bright pixel.
    scale = float(np.sum(np.maximum(flux, 0.0)) / max(light.sum(), 1e-300))
    growth = np.where(ivar > 0, 1.0 / np.maximum(ivar, 1e-300), np.inf) + (NOMINAL_ERROR * scale * light) ** 2
    root = diags(1.0 / np.sqrt(growth))
    known = sources.has_flux
    expected = np.where(known, np.nan_to_num(sources.flux) * scale, 0.0)
    columns = root @ design
    # Columns of one length: bright stars have faint ones, and a tenth of the turns are enough.
    size = np.sqrt(np.asarray(columns.multiply(columns).sum(axis=0)).ravel())
    scaled = diags(1.0 / np.where(size > 0.0, size, 1.0))
    target = root @ (flux - design @ expected)
    found = expected + scaled @ lsqr(columns @ scaled, target, damp=1e-12, atol=_SOLVED, btol=_SOLVED)[0]
    if held:
        found = np.where(known, expected, found)
    good = known & (found > 0)
    # What is seen of a star counts, not what may be found of one beyond the pixels.
    share = np.asarray(design.sum(axis=0)).ravel()
    seen = np.sqrt(expected * share)[good]
    typical = float(weighted_median(found[good] / sources.flux[good], seen)) if np.any(seen > 0) else 1.0
    listed = np.where(known, np.nan_to_num(sources.flux) * typical, np.nan)
    fallback = np.where(known, listed, np.median(found[good]) if good.any() else 1.0)
    return np.where(found > 0.1 * fallback, np.minimum(found, 10.0 * fallback), fallback), listed, share


def find_reach(pixels: PixelTable, prf: PrfModel, flux: FloatArray, ivar: FloatArray) -> Reach:
    """Find how far each star gives more than half of the noise of a pixel, than a twentieth, and any light that counts.

    Light is cut where the lights cut off, taken together and spread over the field, are a fiftieth of the noise.
    """
    side = float(np.sqrt(prf.pixel_area))
    noise = float(np.median(ivar[ivar > 0])) ** -0.5
    radii = np.linspace(0.0, _FARTHEST, 481) * side
    envelope = prf.envelope(radii)
    beyond = np.minimum(1.0, 2.0 * np.pi * envelope * radii**2 / prf.pixel_area / (-prf.wing_slope - 2.0))
    extent = np.ptp(pixels.column) + 1.0, np.ptp(pixels.row) + 1.0

    def reach(share: float) -> IntArray:
        level = share * noise / np.maximum(flux, 1e-300)
        return np.clip(np.searchsorted(-envelope, -level), 12, radii.size - 1)

    share = _LEVEL
    while share > 1e-4 and flux @ beyond[reach(share)] / (extent[0] * extent[1]) > _CUT_LIGHT * noise:
        share *= 0.5
    own, near = radii[reach(_TOLD)], radii[reach(_LEVEL)]
    n_near = np.pi * np.sum(near**2) / prf.pixel_area * pixels.n_pixel / (extent[0] * extent[1])
    pairs = np.maximum(own if n_near > _MOST_PAIR else near, SPLINE_MARGIN * prf.basis.rmax)
    return Reach(own, near, pairs, np.maximum(radii[reach(share)], pairs))


@dataclass(frozen=True, slots=True, eq=False)
class _Spilled:
    """Charge that spilled, which stays in its column: what fell on a run of spilled pixels they hold together.

    Parameters
    ----------
    home : ndarray of int64, shape (n_pixel,)
        Pixel under whose number the light of each is summed.
    flux, ivar : ndarray of float64, shape (n_pixel,)
        Data and inverse variances with the sums.
    at_least : ndarray of float64, shape (n_pixel,)
        Inverse variances of sums of runs that go on beyond the data, and lost what spilled there.
    """

    home: IntArray
    flux: FloatArray
    ivar: FloatArray
    at_least: FloatArray

    @classmethod
    def of(cls, pixels: PixelTable, image: Image, ivar: FloatArray) -> "_Spilled | None":
        """Sum the spilled pixels of an image; None if there are none (Gilliland et al. 2010, ApJ 713, L160)."""
        home, spilled = np.arange(pixels.n_pixel), np.flatnonzero(pixels.spilled & (image.ivar > 0))
        flux, ivar, at_least = image.flux.copy(), ivar.copy(), np.zeros(pixels.n_pixel)
        order = spilled[np.lexsort((pixels.row[spilled], pixels.column[spilled]))]
        breaks = np.flatnonzero((np.diff(pixels.column[order]) != 0) | (np.diff(pixels.row[order]) != 1)) + 1
        for run in np.split(order, breaks) if order.size else []:
            first, told = run[0], 1.0 / np.sum(1.0 / image.ivar[run])
            lost = bool(pixels.saturated[run[[0, -1]]].any())
            home[run], flux[first] = first, np.sum(image.flux[run])
            ivar[first], at_least[first] = (0.0, told) if lost else (told, 0.0)
        return cls(home, flux, ivar, at_least) if order.size else None


def with_spilled(
    problem: JointProblem, pixels: PixelTable, image: Image, sky: BackgroundColumns | None = None
) -> JointProblem:
    """Return the problem with the sums of spilled pixels: where few stars tell of the PRF, they tell of its core."""
    spilled = _Spilled.of(pixels, image, problem.ivar)
    if spilled is None:
        return problem
    problem = replace(problem, flux=spilled.flux, ivar=spilled.ivar, home=spilled.home, at_least=spilled.at_least)
    layout = problem.layout.counted(spilled.home, float(np.sqrt(problem.pixel_area)))
    if sky is not None:
        problem = replace(problem, sky=sky.counted(spilled.home, pixels.spilled).matrix)
    return replace(problem, layout=layout)
