"""From measurements to findings: which sources a fault touches, one sentence, and the cure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.flags import QualityFlag
from bayesprf.photometry.fluxes import LOW_PSF_FRACTION
from bayesprf.prf.unlisted.search import UnlistedStar
from bayesprf.quality.astrometry import PositionTest
from bayesprf.quality.blends import SplitTest
from bayesprf.quality.companions import name_cores, name_outshone
from bayesprf.quality.light import LightPeaks
from bayesprf.quality.pointing import PointingTest
from bayesprf.quality.prf import MisfitTest, TrendTest
from bayesprf.quality.record import Finding
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.quality.series import MotionTest, NoiseTest
from bayesprf.quality.sky import SkyTest
from bayesprf.quality.whole_image import name_bending_sky, name_crowd, name_extended, name_strangers, name_wide
from bayesprf.settings import QualityOptions
from bayesprf.stats import NORMAL_MEDIAN, weighted_median

# Definition: a star with less than this many times the misplaced light of a typical star has it from the PRF.
_USUAL = 3.0
# Derived: stars say whether the PRF is wrong for all if they are so many errors bright, where a tenth of the light in
# wrong pixels, the default of `max_misplaced`, is two errors; the median of more than so many is known to half of one.
_BRIGHT, _FEW = 20.0, 4
# Derived: the scatter of so many normal numbers is known to a tenth.
_ENOUGH = 100
# Rounding: what is left of a pixel that the fit follows altogether.
_LEAST_LEFT = 1e-3

# Definition: a star so far from its place, pixel, may be another one.
_OTHER_STAR_PIX = 1.0

# What to do about a fault, and what is left to do once the first of it was tried (`bayesprf.quality.cures`).
_CURES = {
    QualityFlag.POSITION_OFF: (
        "fit them with refine_scene(), or check epoch and proper motions of the catalogue",
        "check epoch and proper motions of the catalogue, and that it lacks no bright star",
    ),
    QualityFlag.POOR_PRF: (
        "try refine_scene(), add stars to learn from, or check the catalogue",
        "add stars to learn from, give the PRF of that place with prf=, or check the catalogue",
    ),
    QualityFlag.MOTION_LEFT: (
        "build_time_model(positions='centroid') and fit_model(fit_va=True)",
        "further time columns (other_vectors), or leave out the worst cadences",
    ),
}
# Which faults a cure is for.
_MENDS = {
    "positions": (QualityFlag.POSITION_OFF, QualityFlag.POOR_PRF),
    "roll": (QualityFlag.MOTION_LEFT,),
}


def _cure(flag: QualityFlag, *, tried: bool) -> str:
    """Return what to do about a fault, beyond what was tried."""
    return _CURES[flag][int(tried)]


def without_tried(finding: Finding, names: Iterable[str]) -> Finding:
    """Return the finding with a cure that does not name what was tried in vain.

    Parameters
    ----------
    finding : Finding
        A fault.
    names : iterable of str
        Which of `bayesprf.quality.cures.CURES` were tried and not kept.

    Returns
    -------
    Finding
    """
    tried = any(finding.flag in _MENDS.get(name, ()) for name in names)
    return replace(finding, cure=_cure(finding.flag, tried=True)) if tried else finding


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """All that was measured of a fit.

    Parameters
    ----------
    left : MeanResiduals
        Residuals of the mean image.
    misfit, trends, sky, light, positions
        Tests of the mean image.
    misfit_error, sky_error, light_error : ndarray of float64, shape (n_source,), float, ndarray, shape (n_peak,)
        Standard deviations of the first, third and fourth of them, electron / s.
    offset_error : ndarray of float64, shape (n_source, 2)
        Standard deviations of the offsets, arcsec.
    motion, noise : optional
        Tests of the residuals in time; None for few cadences.
    hits : ndarray of float64, shape (n_source,)
        What single values that no star has made add to the mean fluxes, electron / s.
    pointing : PointingTest
        The pointing.
    noise_error : ndarray of float64, shape (n_source,)
        Error from cadence to cadence, electron / s.
    split : SplitTest
        How well fluxes are told from those of neighbours.
    expected : ndarray of float64, shape (n_source,)
        Flux that the catalogue makes expect, electron / s; NaN if unknown.
    saturated : ndarray of bool, shape (n_source,)
        Sources with a saturated pixel.
    added : ndarray of bool, shape (n_source,)
        Sources that the image showed and the catalogue lacks.
    outshone : ndarray of float64, shape (n_source,)
        Flux of such a star close to each of the others, where it is brighter, electron / s.
    cores : tuple of ndarray of bool, shape (n_source,), and UnlistedStar or None
        Sources in whose cores another star seems to lie, and that: `bayesprf.prf.unlisted.search.light_in_cores`.
    n_calibrator, n_training, n_weight : int
        Stars whose own deviations could be measured, pixels that trained the PRF, weights of the PRF.
    n_decided : float
        Number of these weights that the pixels decide rather than a prior that was given; NaN without one.
    positions_free : bool
        Whether the positions of the stars were fitted along.
    sky_removed : bool or None
        What the files say of their sky.
    sky_fitted : bool
        Whether a background was fitted along.
    follows_motion : bool
        Whether the fluxes were fitted with a time model.
    rolls : bool
        Whether the spacecraft moves back and forth.
    roll_hours : float
        On this time scale.
    unsettled : str
        What has not converged; empty if all has.
    """

    left: MeanResiduals
    misfit: MisfitTest
    trends: TrendTest
    sky: SkyTest
    light: LightPeaks
    positions: PositionTest
    misfit_error: FloatArray
    sky_error: float
    light_error: FloatArray
    offset_error: FloatArray
    motion: MotionTest | None
    noise: NoiseTest | None
    hits: FloatArray
    pointing: PointingTest
    noise_error: FloatArray
    split: SplitTest
    expected: FloatArray
    saturated: BoolArray
    added: BoolArray
    outshone: FloatArray
    cores: tuple[BoolArray, UnlistedStar | None]
    n_calibrator: int
    n_training: int
    n_weight: int
    n_decided: float
    positions_free: bool
    sky_removed: bool | None
    sky_fitted: bool
    follows_motion: bool
    roll_hours: float
    unsettled: str

    @property
    def peaks(self) -> FloatArray:
        """Significance of the peaks, shape (n_peak,)."""
        return self.light.flux / self.light_error

    @property
    def seen(self) -> BoolArray:
        """Sources with most of their light on the pixels, shape (n_source,)."""
        return np.isfinite(self.left.prf.flux) & (self.left.error > 0) & (self.left.caught > LOW_PSF_FRACTION)

    @property
    def measured(self) -> BoolArray:
        """These sources; where there are none, all that have a flux, shape (n_source,)."""
        return self.seen if self.seen.any() else np.isfinite(self.left.prf.flux)

    def moved(self, shift: FloatArray, n_error: float, share: float) -> FloatArray:
        """Return shifts of fluxes over the least that counts, shape (n_source,)."""
        known = np.isfinite(self.left.error)
        least = np.maximum(n_error * np.where(known, self.left.error, 0.0), share * np.abs(self.left.flux))
        size = np.abs(shift)
        return np.where(self.seen & known, np.divide(size, least, out=np.zeros_like(size), where=least > 0), 0.0)

    def disturbed(self, scatter: FloatArray, ratio: float) -> BoolArray:
        """Return the sources whose light curves scatter by more than `ratio` with this scatter beside the noise."""
        return self.seen & np.isfinite(self.noise_error) & (scatter > np.sqrt(ratio**2 - 1.0) * self.noise_error)

    def scatter_ratio(self, scatter: FloatArray, sources: BoolArray) -> float:
        """Return the largest scatter of some sources over their error from cadence to cadence."""
        return float((scatter[sources] / self.noise_error[sources]).max(initial=0.0))

    @property
    def noise_scale(self) -> float:
        """Scatter of the pixels over their errors, in time or, for few cadences, about the model; NaN if unknown."""
        if self.noise is not None:
            return self.noise.scale
        used, joint = self.left.ivar > 0, self.left.prf.joint
        ratio = np.abs(self.left.residual) * np.sqrt(self.left.ivar)  # of most pixels, where the model is no matter
        if np.isnan(self.n_decided):  # smoothness decides most of the weights between many knots
            left = np.maximum(1.0 - joint.posterior.leverage, _LEAST_LEFT)
            told = np.median((ratio / np.sqrt(left))[used]) / NORMAL_MEDIAN
            return float(told) if left[used].sum() > _ENOUGH else np.nan
        free = np.count_nonzero(used) - self.left.flux.size - self.n_weight
        if free <= self.n_weight:
            return np.nan
        return float(np.median(ratio[used]) / NORMAL_MEDIAN * np.sqrt(np.count_nonzero(used) / free))


def find_faults(found: Measurements, options: QualityOptions) -> tuple[Finding, ...]:
    """Return the findings, the worst first.

    Parameters
    ----------
    found : Measurements
        What was measured.
    options : QualityOptions
        What counts.

    Returns
    -------
    tuple of Finding
    """
    of_image = _sky, _light, _positions, _identity, _prf, _trend, _scatter, _calibrators, _blends, _settled
    makers = (*of_image, _motion, _noise, _hits, _errors, _large_errors)
    findings = [one for maker in makers for one in maker(found, options)]
    findings += [*_saturated(found), *name_wide(found.left), *name_crowd(found.left, found.seen)]
    findings += [*name_strangers(found.left, found.added, found.measured), *name_extended(found.left, found.measured)]
    findings += [*name_cores(*found.cores, found.left, found.measured), *name_outshone(found.outshone, found.left)]
    return tuple(sorted(findings, key=lambda one: -one.effect))


def _sky(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    sky, cure = found.sky, "fit it along with background='stamp'"
    level, error, shift = sky.level, found.sky_error, sky.shift
    measured = np.isfinite(level) and abs(level) > options.significance * error
    sources = found.moved(shift, options.n_error, options.flux_share) > 1.0
    told = found.sky_removed is False and not found.sky_fitted
    if found.left.prf.sky_beyond is not None:
        order, height, error = found.left.prf.sky_beyond
        more = np.abs(sky.shift) * (height / abs(sky.level) if sky.level else 1.0)
        effect = max(found.left.effect(more, found.seen), 1.0)
        yield name_bending_sky(order, f"{height:.3g} +- {rough(error)}", sources=found.seen, effect=effect)
    elif told:
        darkest = _darkest(found.left)
        sentence = f"the sky is still in these pixels (BACKAPP = 0, the darkest hold {darkest:.3g} electron / s)"
        yield Finding(QualityFlag.SKY_LEFT, found.seen, max(found.left.effect(shift, found.seen), 1.0), sentence, cure)
    elif measured and sources.any():
        what = "sky is left in these pixels" if level > 0 else "more sky was subtracted than these pixels held"
        sentence = f"{what}, {level:.3g} +- {rough(error)} electron / s each"
        cure = "more terms for it, such as Background('stamp', 1)" if found.sky_fitted else cure
        yield Finding(QualityFlag.SKY_LEFT, sources, found.left.effect(shift, sources), sentence, cure)


def _darkest(left: MeanResiduals) -> float:
    """Return the level that a tenth of the pixels stay below, electron / s."""
    lit = left.prf.image.flux[left.ivar > 0]
    return float(np.quantile(lit, 0.1)) if lit.size else 0.0


def _light(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    sources, peak = unexplained(found, options)
    if not sources.any():
        return
    light, pixels = found.light, found.left.pixels
    where = int(light.pixel[peak])
    count = int(np.count_nonzero(found.peaks > options.significance))
    shift = np.abs(light.shift).max(axis=1)
    yield Finding(
        QualityFlag.UNCATALOGUED_LIGHT,
        sources,
        found.left.effect(shift, sources),
        f"light that no source explains, {light.flux[peak]:.3g} electron / s near RA {pixels.ra_deg[where]:.5f}"
        f" Dec {pixels.dec_deg[where]:+.5f} deg and in {count} pixels in all",
        "add the missing stars to the catalogue",
    )


def unexplained(found: Measurements, options: QualityOptions) -> tuple[BoolArray, int]:
    """Return the sources that take light of unknown stars for theirs, and the peak that moves one of them most.

    Where all stars have misplaced light the PRF is wrong, and where an offset takes more of the chi-square away than
    a star, the position. Few stars learn their PRF, and its errors, with that light among theirs: errors say nothing.
    """
    light = found.light
    if light.pixel.size == 0:
        return np.zeros(found.seen.size, bool), 0
    few = found.n_calibrator < options.min_calibrators
    n_error = 0.0 if few else options.n_error_misfit
    least = [found.moved(one, n_error, options.share_misfit) for one in light.shift.T]
    moved = np.array(least).T * (found.peaks > options.significance)
    taken = np.where(moved > 1.0, light.gain, 0.0).max(axis=1)
    sources = (taken > 0) & ~((found.positions.gain > taken) & _is_off(found, options))
    sources &= ~(found.misfit.misplaced < _USUAL * field_misplaced(found))
    return sources, int(np.argmax(moved[sources].max(axis=0))) if sources.any() else 0


def misplaced_stars(found: Measurements, options: QualityOptions) -> BoolArray:
    """Return the sources that do not lie where the fit has them."""
    return _is_off(found, options) & ~unexplained(found, options)[0]


def _is_off(found: Measurements, options: QualityOptions) -> BoolArray:
    offset = found.positions.offset / np.maximum(found.offset_error, 1e-300)
    moved = found.moved(found.positions.loss, options.n_error, options.flux_share) > 1.0
    return moved & (np.hypot(*offset.T) > options.significance)


def _positions(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    sources = misplaced_stars(found, options)
    if sources.any():
        side = np.sqrt(found.left.prf.prf.pixel_area)
        off = np.hypot(*found.positions.offset[sources].T) / side
        yield Finding(
            QualityFlag.POSITION_OFF,
            sources,
            found.left.effect(found.positions.loss, sources),
            f"{_count(sources)} off the catalogue's position, by {rough(np.median(off))} pixel in the median",
            _cure(QualityFlag.POSITION_OFF, tried=found.positions_free),
        )


def _identity(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    """Find a field that lies off by a pixel by stars too few to form a pattern: others may stand for them."""
    prf = found.left.prf
    off = float(np.hypot(*prf.offset) / np.sqrt(prf.prf.pixel_area))
    if off > _OTHER_STAR_PIX and found.n_calibrator < options.min_calibrators:
        yield Finding(
            QualityFlag.POSITION_OFF,
            found.measured,
            1.0,
            f"the fit has all stars {rough(off)} pixel off the catalogue's positions, and too few tell that they are no"
            " others",
            _cure(QualityFlag.POSITION_OFF, tried=True),
        )


def rough(value: float) -> str:
    """Return a number to two digits, without an exponent where it is read more easily."""
    return f"{float(f'{value:.2g}'):g}"


def _count(sources: BoolArray) -> str:
    number = int(sources.sum())
    return f"{number} sources lie" if number > 1 else "1 source lies"


def _prf(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    misfit = found.misfit
    excused = unexplained(found, options)[0] | misplaced_stars(found, options) | found.saturated
    moved = found.moved(misfit.mismatch, options.n_error_misfit, options.share_misfit) > 1.0
    sources = moved & (np.abs(misfit.mismatch) > options.significance * found.misfit_error) & ~excused
    share, away = field_misplaced(found), _typical_mismatch(found)
    if share > options.max_misplaced or away > options.significance:
        sources = found.seen
    if sources.any():
        worst = float(np.nanmax(np.abs(misfit.mismatch[sources]) / np.maximum(found.left.flux[sources], 1e-300)))
        yield Finding(
            QualityFlag.POOR_PRF,
            sources,
            found.left.effect(misfit.mismatch, sources),
            f"the PRF puts {rough(100 * share)} % of the light into the wrong pixels, and the pixels of"
            f" {int(sources.sum())} sources hold up to {rough(100 * worst)} % more or less light than their flux",
            _cure(QualityFlag.POOR_PRF, tried=found.positions_free),
        )


def _typical_mismatch(found: Measurements) -> float:
    """Return the median over stars of what their pixels hold more or less than the fit, in standard deviations."""
    known = found.seen & (found.left.flux > _BRIGHT * found.left.error) & ~found.saturated
    ratio = np.abs(found.misfit.mismatch) / np.maximum(found.misfit_error, 1e-300)
    return float(np.median(ratio[known])) / NORMAL_MEDIAN if np.count_nonzero(known) > _FEW else 0.0


def field_misplaced(found: Measurements) -> float:
    """Return the share of light in wrong pixels of a typical star, weighted by the square root of the flux."""
    share, flux = found.misfit.misplaced, np.maximum(found.left.flux, 0.0)
    known = np.isfinite(share) & (flux > 0) & ~found.saturated
    if not known.any():
        return 0.0
    return float(weighted_median(share[known], np.sqrt(flux[known])))


def _trend(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    trends = found.trends
    sources = found.moved(trends.shift, options.n_error, options.flux_share) > 1.0
    if trends.significance > options.significance and sources.any():
        yield Finding(
            QualityFlag.PRF_VARIES,
            sources,
            found.left.effect(trends.shift, sources),
            f"the PRF changes over the field by up to {rough(100 * trends.largest)} %"
            f" ({trends.significance:.0f} standard deviations)",
            "let it vary, field_variation=1 or 2, or fit smaller parts of the field",
        )


def _scatter(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    """Find isolated stars that differ from one PRF by so much that no flux is known well, though its total error is."""
    left = found.left
    isolated = np.isin(np.arange(left.pairs.n_source), left.prf.star_residuals().source)
    known = isolated & found.seen & ~found.saturated & (left.flux > _BRIGHT * found.noise_error)
    share = np.divide(left.error, left.flux, out=np.zeros_like(left.flux), where=found.seen & (left.flux > 0))
    enough = found.n_calibrator >= options.min_calibrators and np.count_nonzero(known) > _FEW
    if enough and np.median(share[known]) > options.share_misfit:
        sources = share > options.share_misfit
        yield Finding(
            QualityFlag.PRF_VARIES,
            sources,
            found.left.effect(left.error, sources),
            "isolated stars differ from the PRF by so much that their total errors are"
            f" {rough(100 * np.median(share[known]))} % of the flux in the median",
            "let it vary, field_variation=1 or 2, fit smaller parts of the field, or check that the catalogue has all"
            " stars",
        )


def _calibrators(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    few = found.n_calibrator < options.min_calibrators
    if few or found.n_training < found.n_weight:
        yield Finding(
            QualityFlag.FEW_CALIBRATORS,
            found.measured,
            1.0,
            *_few_calibrators(found),
        )


def _few_calibrators(found: Measurements) -> tuple[str, str]:
    """Return sentence and cure where few stars tell of the PRF."""
    learned = (
        f"the PRF was learned from {found.n_training} pixels, for {found.n_weight} weights, and the deviations of"
        f" {found.n_calibrator} stars from it"
    )
    cure = "add files with more isolated stars of the same channel and time"
    if np.isnan(found.n_decided):
        return learned, f"{cure}; total errors are lower bounds until then"
    return (
        f"{learned}: the pixels decide {found.n_decided:.0f} of the weights, the instrument's or a given PRF the rest,"
        " whose errors the total errors hold",
        f"{cure}, or give the PRF of that place with prf=",
    )


def followers(found: Measurements, options: QualityOptions) -> tuple[BoolArray, FloatArray]:
    """Return the sources whose light curves follow the motion, and what that adds to each, electron / s."""
    scatter = np.zeros(found.seen.size)
    if found.motion is not None and found.motion.significance > options.significance:
        scatter = found.motion.scatter
    follows = found.pointing.significance > options.significance
    scatter = np.maximum(scatter, np.where(follows, found.pointing.scatter, 0.0))
    return found.disturbed(scatter, options.error_ratio), scatter


def _motion(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    sources, scatter = followers(found, options)
    if not sources.any():
        return
    cure = "build_time_model() and fit_model(fit_va=True)"
    span = found.pointing.span
    what = f"the image moves by {rough(span)} pixel"
    if found.roll_hours > 0:
        what = f"the spacecraft rolls by {rough(span)} pixel in {found.roll_hours:g} hours"
        cure = _cure(QualityFlag.MOTION_LEFT, tried=found.follows_motion)
    elif found.follows_motion:
        cure = "build_time_model(positions='centroid') or more time columns"
    yield Finding(
        QualityFlag.MOTION_LEFT,
        sources,
        found.scatter_ratio(scatter, sources),
        f"{what}, which {int(sources.sum())} light curves follow by up to"
        f" {rough(found.scatter_ratio(scatter, sources))} of their errors",
        cure,
    )


def _noise(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    noise = found.noise
    if noise is None or noise.significance <= options.significance:
        return
    sources = found.disturbed(noise.scatter, options.error_ratio) & ~followers(found, options)[0]
    if sources.any():
        yield Finding(
            QualityFlag.CORRELATED_NOISE,
            sources,
            found.scatter_ratio(noise.scatter, sources),
            f"neighbouring pixels share noise of {rough(noise.level)} electron / s, which adds up to"
            f" {rough(found.scatter_ratio(noise.scatter, sources))} of the errors of {int(sources.sum())} light curves",
            "fit a sky for every cutout and cadence with background='stamp'",
        )


def _hits(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    sources = found.moved(found.hits, options.n_error_misfit, options.share_misfit) > 1.0
    if sources.any():
        effect = found.left.effect(found.hits, sources)
        text = (
            "single values of the pixels that no star has made, as cosmic rays, move the mean fluxes of"
            f" {int(sources.sum())} sources by up to {rough(effect)} of their errors"
        )
        yield Finding(QualityFlag.ERRORS_TOO_SMALL, sources, effect, text, "down-weight them, robust=True")


def _errors(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    noise = found.noise
    if noise is None or noise.scale <= options.error_ratio:
        return
    sources = found.seen & (noise.scale_per_source > options.error_ratio) & ~followers(found, options)[0]
    if sources.any():
        yield Finding(
            QualityFlag.ERRORS_TOO_SMALL,
            sources,
            float(noise.scale_per_source[sources].max()),
            f"pixels scatter {noise.scale:.3g} times as much as their errors say",
            "learn the noise, fit_model(widths=learn_widths()), or give larger errors",
        )


def _large_errors(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    scale = found.noise_scale
    if scale * options.error_excess < 1.0:
        yield Finding(
            QualityFlag.ERRORS_TOO_LARGE,
            found.measured,
            1.0 / max(scale, 1e-300),
            f"pixels scatter only {scale:.3g} times as much as their errors say",
            "check the unit of the errors, or learn the noise, fit_model(widths=learn_widths())",
        )


def _blends(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    known = np.isfinite(found.expected) & (found.expected > 0)
    size = np.where(known, np.minimum(found.expected, np.abs(found.left.flux)), np.abs(found.left.flux))
    sources = found.seen & found.split.shared & (found.split.error > options.split * size)
    sources |= np.asarray(found.split.tied @ sources) & found.seen
    sources |= found.split.twice & found.seen
    if sources.any():
        yield Finding(
            QualityFlag.DEGENERATE_BLEND,
            sources,
            float((found.split.error[sources] / np.maximum(size[sources], 1e-300)).max()),
            f"the data do not tell {int(sources.sum())} sources from their neighbours",
            "use the sum of their fluxes, a prior (prior_mu, prior_sigma), or one entry in the catalogue",
        )


def _settled(found: Measurements, options: QualityOptions) -> Iterator[Finding]:
    if found.unsettled:
        yield Finding(
            QualityFlag.NOT_CONVERGED,
            found.measured,
            1.0,
            f"{found.unsettled} stopped before it had settled",
            "check the catalogue, or give what is known: the PRF by prf, the hyperparameters by their arguments",
        )


def _saturated(found: Measurements) -> Iterator[Finding]:
    wings = found.left.from_wings(found.saturated)
    for which, how in (
        (wings, "were left out, so that fluxes follow from wings"),
        (found.saturated & ~wings, "count as sums along their columns"),
    ):
        if which.any():
            text = f"{int(which.sum())} sources have saturated pixels, which {how}"
            yield Finding(QualityFlag.SATURATED, which, 1.0, text, "compare with an aperture around the bleed trail")
