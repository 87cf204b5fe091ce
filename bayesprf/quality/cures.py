"""Cures: what a first fit lacks is tried, judged beside it, and kept where it is demonstrably better."""

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import BayesprfError, BayesprfWarning, DataWarning
from bayesprf.fit_record import Fit
from bayesprf.flags import QualityFlag
from bayesprf.photometry.stage import fit_fluxes
from bayesprf.prf.stage import fit_prf
from bayesprf.quality.findings import rough, without_tried
from bayesprf.quality.record import Cure, Verdict
from bayesprf.quality.stage import with_verdict
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import INSTRUMENT_PRF, Background, FluxRecipe, PrfRecipe, QualityOptions, TimeRecipe
from bayesprf.stats import mad_sigma, median_over_time
from bayesprf.timemodel.stage import fit_time_model, time_options

# What can be tried, in this order; sky and stars make another scene, and all is fitted again.
CURES = ("sky", "stars", "positions", "roll")
# Faults of the mean image that stars off their positions make, and those that the catalogue lacks.
_MISPLACED = (QualityFlag.POOR_PRF, QualityFlag.POSITION_OFF, QualityFlag.UNCATALOGUED_LIGHT)
# Definition: a star is there if its flux is more than so many of its total errors above zero, and not if as far below.
_N_THERE = 3.0
# Shown: so many of the new stars are named.
_N_NAMED = 5
# Derived: a star that moves farther than this from its catalogue position, pixel, has taken another star's light: the
# core of a PRF of these missions is narrower.
_FARTHEST_PIX = 2.0
# Light curves are compared about their medians over so many rolls: slower changes are the stars' own. Two days of K2,
# the span of the filter before the noise of 6 hours is measured (Gilliland et al. 2011).
_N_ROLL = 8
# The PRF of the instrument's record holds the level of few stars: another must be much quieter.
_MUCH_LESS = 0.5


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A fit that was tried, whether it is better, what is said of it, and whether single stars are guarded in it."""

    fit: Fit
    better: bool
    told: str
    guarded: bool = False


def cure_fit(fit: Fit, names: Collection[str] = CURES) -> Fit:
    """Judge a fit, try the cures that its verdict asks for, and keep what is better.

    Parameters
    ----------
    fit : Fit
        With fluxes.
    names : collection of str
        Which of `CURES` may be tried.

    Returns
    -------
    Fit
        The better one, with its verdict, which says what was tried.

    Notes
    -----
    Positions: where the PRF is poor, or stars lie off their places, all positions are freed. That is kept if fewer
    stars are flagged for it, chi-square per pixel and misplaced light are smaller, and no star has moved to another.
    Roll: where the spacecraft rolls and light curves follow, a time model follows the measured pointing. It is kept if
    the light curves scatter less.
    """
    fit, cures = with_verdict(fit), list[Cure]()
    for name, ask, attempt in (("positions", _asks_for_positions, _free_positions), ("roll", _asks_for_time, _follow)):
        reason = ask(fit) if name in names else ""
        if reason:
            fit, kept, told = _attempt(attempt, fit)
            cures.append(Cure(name, kept, reason, told))
    return with_cures(fit, cures)


def asks_for_sky(fit: Fit) -> str:
    """Return what a fitted sky may mend, or nothing.

    Parameters
    ----------
    fit : Fit
        With fluxes.

    Returns
    -------
    str
        The fault: sky that is left in the pixels, though none was asked for. One below zero is none where many stars
        train the PRF: light of others that the catalogue lacks makes it too. Where few do it is too much that was
        subtracted before, and as their wings may hold a sky, whatever they leave, it is always asked for.
    """
    verdict = with_verdict(fit).need("verdict")
    found = verdict.find(QualityFlag.SKY_LEFT)
    level, error = verdict.field["sky_left"], verdict.field["sky_left_err"]
    few = verdict.find(QualityFlag.FEW_CALIBRATORS) is not None
    if fit.settings.background is not None or not (level > 0 or few):
        return ""
    if found is not None:
        return found.sentence
    return f"few stars may take sky for wings, {level:.3g} +- {rough(error)} electron / s each" if few else ""


def choose_sky(fit: Fit, other: Fit) -> tuple[Fit, Cure]:
    """Choose between a fit and one with a sky per file, and say which is better.

    Parameters
    ----------
    fit, other : Fit
        With fluxes, without and with the sky.

    Returns
    -------
    tuple of Fit and Cure
        The one with the sky if chi-square per pixel is smaller and misplaced light no larger, as there may be none
        where the wings took the sky, or the fit of the PRF told it from the wings, and the sky is significantly light,
        or, where it was asked for as one below zero, significantly none. The light counts, not its share of fluxes that
        hold sky in one of the fits; nor do the stars that are flagged for it, as total errors that hold sky hide their
        faults.
    """
    before, after = (with_verdict(one).need("verdict") for one in (fit, other))
    background = other.need("prf").background
    level, error = (0.0, np.inf) if background is None else background.typical_level()
    lost = [_misplaced_light(one) for one in (fit, other)]
    less = after.field["chi2_image"] < before.field["chi2_image"] and lost[1] <= lost[0]
    flagged = before.find(QualityFlag.SKY_LEFT) is not None
    sign = -1.0 if flagged and before.field["sky_left"] < 0.0 else 1.0
    told_apart = fit.need("prf").sky_found is not None
    better = bool((less or told_apart) and sign * level > QualityOptions().significance * error)
    told = (
        f"{_named(other.settings.background)}, {rough(level)} electron / s, fitted along, took the misplaced"
        f" light of a typical star from {rough(lost[0])} to {rough(lost[1])} electron / s"
    )
    return with_verdict(other if better else fit), Cure("sky", better, asks_for_sky(fit), told)


def _misplaced_light(fit: Fit) -> float:
    """Return the light of a typical star that the PRF puts into the wrong pixels, electron / s."""
    share = with_verdict(fit).need("verdict").field["misplaced_field"]
    return share * float(np.nanmedian(np.abs(fit.need("prf").flux)))


def choose_slope(fit: Fit, other: Fit) -> tuple[Fit, Cure]:
    """Choose between a fit with a constant sky per file and one with a plane.

    Parameters
    ----------
    fit, other : Fit
        With fluxes, with the constant and with the plane.

    Returns
    -------
    tuple of Fit and Cure
        The one with the plane if it slopes significantly. Chi-square would not tell: where stars are few, the wings of
        the PRF follow a slope that the sky lacks.
    """
    sky = other.need("prf").background
    slope = np.zeros(0, bool) if sky is None else sky.columns.power.sum(axis=1) == 1
    if sky is None or not slope.any():
        return fit, Cure("sky", False, "the sky may slope", "no pixel tells of it")
    heights, errors = np.abs(sky.weights[slope]), sky.weights_err[slope]
    kept = bool(np.any(heights > QualityOptions().significance * errors))
    most = int(np.argmax(heights / errors))
    told = f"{_named(other.settings.background)}, that rises by up to {rough(heights[most])} electron / s"
    reason = "the sky slopes beyond its errors"
    return with_verdict(other if kept else fit), Cure("sky", kept, reason, f"{told} from the middle to an edge")


def choose_bend(fit: Fit, other: Fit) -> tuple[Fit, Cure]:
    """Choose between a fit with a sky of the order that was asked for and one in which the pixels choose it.

    Parameters
    ----------
    fit, other : Fit
        With fluxes.

    Returns
    -------
    tuple of Fit and Cure
        The latter if chi-square per pixel and misplaced light are smaller.
    """
    fit, other = with_verdict(fit), with_verdict(other)
    before, after = fit.need("verdict"), other.need("verdict")
    finding, sky = before.find(QualityFlag.SKY_LEFT), other.need("prf").background
    order = 0 if sky is None else int(sky.columns.power.sum(axis=1).max())
    told = f"a sky of order {order}, background='image', took the misplaced light {_shares(before, after)}"
    better = _less_misfit(before, after)
    return (other if better else fit), Cure("sky", better, "" if finding is None else finding.sentence, told)


def _named(background: Background | None) -> str:
    """Name a sky per file by its form, and by the argument that asks for it."""
    if background is None or not background.order:
        return "a constant per file, background='stamp'"
    return "a plane per file, background=Background('stamp', 1)"


def found_along(fit: Fit) -> SourceTable | None:
    """Return the stars that the catalogue lacks and a fit of few stars found and fitted along, or None."""
    few = with_verdict(fit).need("verdict").find(QualityFlag.FEW_CALIBRATORS) is not None
    return fit.need("prf").found_stars if few else None


def asks_for_stars(fit: Fit) -> str:
    """Return what stars that the catalogue lacks may mend, or nothing.

    Parameters
    ----------
    fit : Fit
        With fluxes.

    Returns
    -------
    str
        The fault: stars that a fit of few found along, a poor PRF, light that no source explains, or a star that seems
        off its place.
    """
    if found_along(fit) is not None:
        return next(one.reason for one in with_verdict(fit).need("verdict").cures if one.name == "stars")
    found = [one for one in with_verdict(fit).need("verdict").findings if one.flag in _MISPLACED]
    return found[0].sentence if found else ""


def choose_stars(fit: Fit, other: Fit) -> tuple[Fit, Cure]:
    """Choose between a fit and one with more stars, and say which is better.

    Parameters
    ----------
    fit, other : Fit
        With fluxes; the sources of the latter are those of the former and some more.

    Returns
    -------
    tuple of Fit and Cure
        The one with more stars if chi-square per pixel and misplaced light are smaller, or the first fit has their
        light already, no more of the first stars are flagged for them, none has become negative, and each new one is
        there.
    """
    fit, other = with_verdict(fit), with_verdict(other)
    before, after, old = fit.need("verdict"), other.need("verdict"), fit.sources.n_source
    along, better = found_along(fit) is not None, _no_more_marked(before, _marked(after)[:old])
    better &= along or _less_misfit(before, after)
    better &= bool(_there(other)[old:].all()) and not bool((_there(other, -1.0)[:old] & ~_there(fit, -1.0)).any())
    names = other.sources.source_id[old:]
    did = "gave them fluxes of their own" if along else f"took the misplaced light {_shares(before, after)}"
    told = (
        f"a catalogue with {len(names)} more of the stars that the mean image shows, {', '.join(names[:_N_NAMED])}"
        f"{', ...' if len(names) > _N_NAMED else ''}, {did}"
    )
    return (other if better else fit), Cure("stars", better, asks_for_stars(fit), told)


def _there(fit: Fit, sign: float = 1.0) -> BoolArray:
    """Return which stars are far above zero in their total errors, or below for -1."""
    flux = median_over_time(fit.latest_flux.flux, empty=np.nan)
    return np.asarray(sign * flux > _N_THERE * fit.need("systematics").std)


def _no_more_marked(before: Verdict, marked: BoolArray) -> bool:
    """Whether no more stars are flagged for misplaced light."""
    return bool(np.count_nonzero(marked) <= np.count_nonzero(_marked(before)))


def _less_misfit(before: Verdict, after: Verdict) -> bool:
    """Whether chi-square per pixel and misplaced light are both smaller."""
    return all(after.field[name] < before.field[name] for name in ("chi2_image", "misplaced_field"))


def _shares(before: Verdict, after: Verdict) -> str:
    """Return from how much misplaced light to how much."""
    return "from {} to {} %".format(*(rough(100 * one.field["misplaced_field"]) for one in (before, after)))


def with_cures(fit: Fit, cures: Collection[Cure]) -> Fit:
    """Return the fit with what was tried in its verdict, before what is said there already."""
    verdict = with_verdict(fit).need("verdict")
    vain = [one.name for one in cures if not one.kept]
    findings = tuple(without_tried(one, vain) for one in verdict.findings)
    told = replace(verdict, findings=findings, cures=(*cures, *(one for one in verdict.cures if one not in cures)))
    return with_verdict(fit).with_stage("verdict", told)


def _attempt(attempt: Callable[[Fit], _Attempt], fit: Fit) -> tuple[Fit, bool, str]:
    """Return the better fit, whether it is the new one, and what is said of it; one that warns must be guarded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BayesprfWarning)
        try:
            found = attempt(fit)
        except BayesprfError as error:
            return fit, False, str(error)
    alarms = [str(one.message) for one in caught if issubclass(one.category, DataWarning)]
    kept = found.better and (not alarms or found.guarded)
    return (found.fit if kept else fit), kept, "; ".join([found.told, *alarms])


def _asks_for_positions(fit: Fit) -> str:
    """Return what free positions may mend, or nothing."""
    recipe, verdict = fit.prf_recipe or PrfRecipe(), fit.need("verdict")
    given = recipe.shape.refine or fit.time_model is not None
    poor = [one for one in verdict.findings if one.flag in (QualityFlag.POOR_PRF, QualityFlag.POSITION_OFF)]
    return "" if given or not poor else poor[0].sentence


def _free_positions(fit: Fit) -> _Attempt:
    """Fit the PRF again with the positions of all stars."""
    other = _refined(fit)
    prf, before, after = other.need("prf"), fit.need("verdict"), other.need("verdict")
    shift = np.hypot(*prf.positions.shift.T) / np.sqrt(prf.prf.pixel_area)
    better = np.count_nonzero(_marked(after)) < np.count_nonzero(_marked(before))
    better &= _less_misfit(before, after)
    better &= shift.max(initial=0.0) < _FARTHEST_PIX
    told = f"positions fitted along, refine=True, took the misplaced light {_shares(before, after)}"
    return _Attempt(other, bool(better), told)


def _refined(fit: Fit) -> Fit:
    """Return the fit with positions, fluxes and verdict."""
    recipe = (fit.prf_recipe or PrfRecipe()).updated(refine=True)
    other = fit.with_stage("prf", fit_prf(fit, recipe), prf_recipe=recipe)
    return with_verdict(_with_fluxes(other, fit))


def _asks_for_time(fit: Fit) -> str:
    """Return what a time model that follows the roll may mend, or nothing."""
    moving = fit.need("verdict").find(QualityFlag.MOTION_LEFT)
    rolls = fit.pixels.instrument.roll_hours > 0 and fit.time_model is None
    return moving.sentence if rolls and moving is not None else ""


def _follow(fit: Fit) -> _Attempt:
    """Fit the time model that follows the measured pointing, and the fluxes with it.

    A PRF that leans on the instrument's record is that of a star at rest: where it was not asked for, the data's own,
    smeared by the roll, is tried too, and taken if its light curves scatter half as much.
    """
    plain = fit.prf_recipe or PrfRecipe()
    starts = [fit]
    if plain.shape.prf == INSTRUMENT_PRF:
        own = plain.updated(method="joint", prf=None)
        starts.append(_with_fluxes(fit.with_stage("prf", fit_prf(fit, own), prf_recipe=own), fit))
    before = float(np.nanmedian(_scatter(fit, fit.need("flux").flux)))
    tried = [_following(one) for one in starts]
    after = [float(np.nanmedian(light_curve_scatter(one)[1])) for one in tried]
    best = int(after[-1] < _MUCH_LESS * after[0])
    told = (
        "time_model={'positions': 'centroid'} took the scatter of a typical light curve from"
        f" {1e6 * before:.3g} to {1e6 * after[best]:.3g} ppm"
    )
    return _Attempt(with_verdict(tried[best]), after[best] < before, told, guarded=True)


def _following(fit: Fit) -> Fit:
    """Return the fit with a time model that follows the pointing, and fluxes."""
    recipe = TimeRecipe(time_options(fit.settings, TrendOptions(), positions="centroid", further={}))
    other = fit.with_stage("time_model", fit_time_model(fit, recipe), time_recipe=recipe)
    return _with_fluxes(other, fit, fit_va=True)


def light_curve_scatter(fit: Fit) -> tuple[FloatArray, FloatArray]:
    """Return the scatter of light curves without and with the time model, shape (n_source,), relative; NaN if unknown.

    About their medians over eight rolls: slower changes are the stars' own.
    """
    return _scatter(fit, fit.need("flux").flux), _scatter(fit, fit.need("flux_va").flux)


def _scatter(fit: Fit, flux: FloatArray) -> FloatArray:
    """Return the scatter of light curves about their medians over eight rolls, relative, shape (n_source,)."""
    days, time = _N_ROLL * fit.pixels.instrument.roll_hours / 24.0, fit.pixels.time
    block = ((time - time[0]) // days).astype(int) if days > 0 else np.zeros(time.size, int)
    level = np.abs(median_over_time(flux, empty=np.nan))
    away = np.concatenate([flux[block == one] - median_over_time(flux[block == one]) for one in np.unique(block)])
    seen, found = np.isfinite(away).any(axis=0) & (level > 0), np.full(level.size, np.nan)
    found[seen] = mad_sigma(away[:, seen], axis=0) / level[seen]
    return found


def _with_fluxes(fit: Fit, like: Fit, *, fit_va: bool = False) -> Fit:
    """Return the fit with fluxes, fitted as another's were."""
    recipe = replace(like.flux_recipe or FluxRecipe(), fit_va=fit_va)
    for stage, flux in fit_fluxes(fit, recipe):
        fit = fit.with_stage(stage, flux, flux_recipe=recipe)
    return fit


def _marked(verdict: Verdict) -> BoolArray:
    """Return which sources have a fault that free positions may mend."""
    return (verdict.flags & sum(int(one) for one in _MISPLACED)) > 0
