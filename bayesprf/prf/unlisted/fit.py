"""Stars that the catalogue lacks are fitted along with the PRF; their light is then known, with its error."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, islice

import numpy as np
from scipy.sparse import block_diag, csr_matrix, hstack

from bayesprf.arrays import FloatArray
from bayesprf.errors import ConvergenceWarning
from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.objective import JointFit, JointOptions, fit_joint
from bayesprf.prf.joint.problem import JointProblem, JointState, growth, look, star_columns
from bayesprf.prf.joint.rough import with_rough_errors
from bayesprf.prf.joint.start import LISTED_WIDTH
from bayesprf.prf.joint.trust import MAX_POWER
from bayesprf.prf.unlisted.extended import Spot, extended_of, likeliest_spot, spots_after, with_spot
from bayesprf.prf.unlisted.peaks import are_everywhere, find_uncatalogued, light_left
from bayesprf.prf.unlisted.search import STRONG, hidden_light, likeliest_star, odds_of_star
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG
from bayesprf.scene.sources import SourceTable

# A problem, where its fit starts, and its first hyperparameters.
_Start = tuple[JointProblem, JointState, JointHyper]
# Derived: how often stars are looked for: beside the brighter ones, then the fainter.
_N_LOOK = 2
# Cost: as many stars are looked for one by one.
_N_SINGLE = 8
# Accuracy: turns of the form of extended light.
_N_SPOT = 6
# Accuracy: where all pixels decide, a slope this close to the bound is at it, which is approached by halves.
_AT_BOUND = 0.01
# Cost: pixels times places, and parameters, of a search for single stars, which takes a second then.
_MAX_PLACES, _MAX_PARAMETER = 10_000_000, 400
UNNAMED = "uncatalogued-"
"""Format: how the names of stars begin that no catalogue lists."""
_log = logging.getLogger("bayesprf")


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """What a fit with more stars takes.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    sources : SourceTable
        The catalogue.
    build : callable
        Makes the problem of a catalogue.
    options : JointOptions
        How it is fitted.
    spots : tuple of Spot
        Extended light that was found.
    """

    pixels: PixelTable
    sources: SourceTable
    build: Callable[[SourceTable], _Start]
    options: JointOptions
    spots: tuple[Spot, ...] = ()

    def begin(self, sources: SourceTable) -> _Start:
        """Make the problem of a catalogue beside the spots of extended light."""
        problem, state, hyper = self.build(sources)
        for spot in self.spots:
            problem, state = with_spot(self.pixels, problem, state, spot)
        return problem, state, hyper

    def after(self, fit: JointFit) -> "Field":
        """Return the field with its extended light as a fit beside it found it."""
        return replace(self, spots=spots_after(self.spots, fit))


def fit_with_uncatalogued(field: Field, before: JointFit | None = None) -> JointFit:
    """Return the fit with the light of stars that the image shows and the catalogue lacks, which are fitted along.

    With the fit of fewer columns `before` it begins where that ended, with the stars that were found then, unless it
    does not settle so.

    Notes
    -----
    Where a sky is fitted too, light of no listed star raises it and the wings. Stars are looked for in what the fit
    leaves, fitted with all others, and looked for again; their light is then known, with its error. So is, in the
    mean, that of those that would not be found, and its scatter. Where they are everywhere, those that are found lie
    between the bright stars alone, and the sky there is that without them: none is fitted along then, no pixel is an
    outlier, and the sky is that with their mean light.
    """
    again = None if before is None else _begun_from(field, before)
    if again is not None:
        return again
    fit = fit_joint(*field.build(field.sources), field.options)
    found, listed = _looked_for(field, fit, field.sources)
    if are_everywhere(field.pixels, found, found.flux[field.sources.n_source :]):
        fit = found = fit_joint(*field.build(field.sources), replace(field.options, robust=False))
    if found is fit or not found.converged:
        return _with_light_left(field, fit)
    return _with_light_left(field, _with_known_light(field, fit.problem, found, listed))


def fit_with_missing_stars(field: Field, before: JointFit | None = None) -> JointFit:
    """Return the fit without a sky, with the light of stars that the catalogue lacks where it needs such light.

    So it does where the fit of fewer columns `before` did, if there is one.

    Notes
    -----
    Wings of listed stars take the light of bright ones that are missing: they fall as slowly as light may, or the fit
    does not settle. Then stars are looked for. With more columns they are looked for anew: what fewer columns miss of a
    bright star may pass for a faint one. A large image, in which that takes minutes, keeps those that were found.
    """
    if before is not None and before.found is not None and before.decided is not None:
        again = _begun_from(field, before)
        if again is not None:
            return again
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = fit_joint(*field.build(field.sources), field.options)
    if _takes_more(fit) and (before is None or before.found is not None or _takes_more(before)):
        found, listed = _looked_for(field, fit, field.sources)
        if listed is not field.sources and found.converged:
            return _with_light_left(field, _with_known_light(field, fit.problem, found, listed))
    for one in said:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return fit


def _takes_more(fit: JointFit) -> bool:
    """Whether a fit has not settled, or has a stretch of the wing that falls as slowly as light does at all.

    Of a large image, of which a part decides, it may so within its error: the part tells less of it. It holds thousands
    of faint stars, with which a fit takes a minute: there one that has not settled is no reason to look for them.
    """
    slopes = np.cumsum(fit.state.wing)
    if fit.decided is None:
        return not fit.converged or bool(np.max(slopes) > MAX_POWER - _AT_BOUND)
    wing = slice(fit.problem.n_weight, fit.problem.n_weight + fit.problem.n_wing)
    error = np.linalg.norm(np.cumsum(fit.posterior.global_factor[wing], axis=0), axis=1)
    return bool(np.any(slopes > MAX_POWER - error))


def _looked_for(field: Field, found: JointFit, listed: SourceTable) -> tuple[JointFit, SourceTable]:
    """Return the fit with the stars that what it leaves shows, and these with those it has."""
    for _ in range(_N_LOOK):
        place, flux = find_uncatalogued(field.pixels, found)
        if not flux.size:
            break
        listed = _joined(field, listed, found, place, flux)
        found = _continue(field, listed, found, flux)
    return found, listed


def _begun_from(field: Field, before: JointFit) -> JointFit | None:
    """Return the fit that begins where one with fewer columns ended, if it settles; no more stars are looked for."""
    stars, options = before.found, field.options
    if stars is None or not np.any(stars.flux > 0.0):
        options = replace(options, robust=before.hyper.outlier_share > 0.0)
        fit = _continue(replace(field, options=options), field.sources, before, np.zeros(0))
        return _with_light_left(field, fit) if fit.converged else None
    stars = stars.select(stars.flux > 0.0)
    listed = _joined(field, field.sources, before, np.stack([stars.ra_deg, stars.dec_deg], axis=1), stars.flux)
    found = _continue(field, listed, before, stars.flux / np.median(before.sums.total))
    if not found.converged:
        return None
    return _with_light_left(field, _with_known_light(field, field.build(field.sources)[0], found, listed))


def _with_light_left(field: Field, fit: JointFit) -> JointFit:
    """Return the fit with what errs by stars that are not found, beside those that are."""
    left = light_left(field.pixels, fit, np.zeros(0) if fit.found is None else fit.found.flux)
    return replace(fit, unlisted=left if fit.unlisted is None else csr_matrix(hstack([fit.unlisted, left])))


def fit_with_single_stars(field: Field) -> JointFit:
    """Return the fit with stars that the catalogue lacks where few stars tell of the PRF, found one by one.

    Notes
    -----
    A PRF that few stars tell of follows a star that the catalogue lacks, or its light passes for errors of the model:
    it is looked for before the PRF is fitted, one step away from what is expected of it, and when it is. So is light of
    a galaxy or a nebula, which the PRF would follow as far as it may: once, before.
    """
    listed = field.sources
    start = field.begin(listed)
    for _ in range(_N_SINGLE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            first = fit_joint(*start, replace(field.options, max_iter=1, robust=False))
        star = likeliest_star(field.pixels, listed, first.problem, first.state, first.hyper)
        spot = likeliest_spot(field.pixels, first)
        field = field.after(first)
        if spot is not None and (star is None or spot.gain > star.gain):
            field = replace(field, spots=(*field.spots, spot))
        elif star is not None:
            listed = _joined(field, listed, first, *star.entry)
        else:
            break
        problem, state, hyper = field.begin(listed)
        start = replace(problem, loose=_loose(field, problem)), state, hyper
    found = fit_joint(*start, field.options)
    for _ in range(_N_SINGLE):
        star = likeliest_star(field.pixels, listed, found.problem, found.state, found.hyper)
        if star is None or not found.converged:
            break
        field, listed = field.after(found), _joined(field, listed, found, *star.entry)
        found = _continue(field, listed, found, star.entry[1])
    for _ in range(_N_SPOT if field.spots else 0):
        field = field.after(found)
        found = _continue(field, listed, found, np.zeros(0))
    found, listed = _without_doubtful(field, found, listed)
    hidden = _hidden(field, found, listed)
    if listed.n_source == field.sources.n_source and not field.spots:
        return replace(found, hidden=hidden)
    problem, state, hyper = field.build(field.sources)
    if not found.converged:
        return fit_joint(problem, state, hyper, field.options)
    return replace(_with_known_light(field, problem, found, listed), hidden=hidden)


def _hidden(field: Field, found: JointFit, listed: SourceTable) -> FloatArray:
    """Return what stars like those that were found, now or before, may add to the catalogue's, electron / s."""
    more = np.array([one.startswith(UNNAMED) for one in listed.source_id])
    hidden = hidden_light(field.pixels, listed, found.problem, found.state, found.hyper, found=more)
    return np.asarray((hidden * found.sums.total)[: field.sources.n_source])


def _without_doubtful(field: Field, found: JointFit, listed: SourceTable) -> tuple[JointFit, SourceTable]:
    """Leave out, one by one, stars that were found and for which the evidence, where they ended, is not very strong.

    The search may have begun far from what the pixels say of the PRF, and a star may have gone into a brighter one's
    core, where it stands for what the PRF lacks.
    """
    n_source = field.sources.n_source
    while listed.n_source > n_source:
        odds = np.array([_odds_of(field, found, listed, star) for star in range(n_source, listed.n_source)])
        if odds.min() > STRONG:
            break
        listed = _without(listed, n_source + int(np.argmin(odds)))
        problem, state, hyper = field.begin(listed)
        found = fit_joint(replace(problem, loose=_loose(field, problem)), state, hyper, field.options)
    return found, listed


def _odds_of(field: Field, found: JointFit, listed: SourceTable, star: int) -> float:
    """Return twice the log of the odds for one star of a fit beside all others."""
    others, state = _without(listed, star), found.state
    keep = np.arange(listed.n_source) != star
    problem = field.begin(others)[0]
    problem = replace(problem, loose=_loose(field, problem))
    state = replace(state, flux=state.flux[keep], shift=state.shift[keep])
    place = np.stack(_moved(listed, found.shift), axis=1)[[star]]
    return odds_of_star(field.pixels, others, problem, state, found.hyper, place=place)


def _without(listed: SourceTable, star: int) -> SourceTable:
    """Return all stars but one."""
    return listed.select(np.arange(listed.n_source) != star)


def is_small(problem: JointProblem) -> bool:
    """Whether single stars are looked for in no more than about a second."""
    n_pixel = problem.flux.size
    n_parameter = problem.n_global + problem.n_own * problem.n_source
    return n_parameter <= _MAX_PARAMETER and 4 * n_pixel**2 <= _MAX_PLACES


def _catalog_scale(field: Field, fit: JointFit) -> float:
    """Return catalogue flux per electron / s, by the stars that are in both."""
    listed, flux = field.sources, fit.flux[: field.sources.n_source]
    known = listed.has_flux & (flux > 0)
    return float(np.median(listed.flux[known] / flux[known])) if known.any() else 1.0


def _joined(field: Field, listed: SourceTable, fit: JointFit, place: FloatArray, flux: FloatArray) -> SourceTable:
    """Return the stars with more, which have no name, on the scale of the catalogue."""
    free = (name for number in count(1) if (name := f"{UNNAMED}{number}") not in listed.source_id)
    names = tuple(islice(free, flux.size))
    return listed.joined(SourceTable(names, place[:, 0], place[:, 1], _catalog_scale(field, fit) * flux))


def _loose(field: Field, problem: JointProblem) -> FloatArray:
    """Return the variance of the places of stars that were found, known to half a pixel, shape (n_source,)."""
    return np.where(np.arange(problem.n_source) < field.sources.n_source, 0.0, problem.pixel_area / 12.0)


def _continue(field: Field, listed: SourceTable, found: JointFit, flux: FloatArray) -> JointFit:
    """Fit with more stars from where the fit with fewer ended."""
    problem, begun, _ = field.begin(listed)
    before = found.state.widened(problem, found.problem.basis)
    before = replace(before, sky=begun.sky) if field.spots else before
    shift = np.concatenate([before.shift, np.zeros((flux.size, 2))])
    state = replace(before, flux=np.append(before.flux, flux), shift=shift)
    problem = _with_expected_fluxes(field, problem, state.flux)
    start = replace(found.hyper, outlier_share=0.0, outlier_sigma=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_joint(replace(problem, loose=_loose(field, problem)), state, start, field.options, near=True)


def _with_expected_fluxes(field: Field, problem: JointProblem, flux: FloatArray) -> JointProblem:
    """Expect of stars that were found what was found, to its own size, as the light of no star is below zero.

    Two that are close, in wide bounds, stand with opposite signs for what the PRF lacks of a third. Where few stars
    lean on a PRF known beforehand, what was found is no measure yet: of a star beyond the edge a tenth of its light.
    """
    if problem.base is not None:
        return problem
    prior, found = problem.prior, np.arange(problem.n_source) >= field.sources.n_source
    flux = np.where(found, np.maximum(flux, 0.0), prior.flux)
    width = np.where(found, LISTED_WIDTH, prior.flux_width)
    return replace(problem, prior=replace(prior, flux=flux, flux_width=width))


def _with_known_light(field: Field, plain: JointProblem, found: JointFit, listed: SourceTable) -> JointFit:
    """Return the fit of the catalogue's stars in which the light of those that were found is known, with its error."""
    n_source = plain.n_source
    known_light, known_growth = _light_of_found(found, n_source)
    errs = with_rough_errors(found, JointOptions())
    wide = extended_of(errs) if found.problem.sky.shape[1] > plain.sky.shape[1] else None
    known_light = known_light + (0.0 if wide is None else wide.light)
    state = replace(found.state, flux=found.state.flux[:n_source], shift=found.state.shift[:n_source])
    state = replace(state, sky=state.sky[: plain.sky.shape[1]])
    plain = replace(plain, known=known_light, known_growth=known_growth)
    last = fit_joint(plain, state, found.hyper, field.options, near=True)
    _log.info("%d stars that the catalogue lacks are fitted along", listed.n_source - n_source)
    errors = [_errors_of_found(errs, n_source)] if listed.n_source > n_source else []
    errors += [] if wide is None else [wide.errors]
    stars = _as_found(field, found, listed) if listed.n_source > n_source else None
    return replace(last, unlisted=hstack(errors, format="csr"), found=stars, extended=wide)


def _light_of_found(found: JointFit, n_source: int) -> tuple[FloatArray, FloatArray]:
    """Return the light of the stars beyond the catalogue's, electron / s, and what the model's errors of it grow with.

    The latter as `growth` has it, without its last kind.
    """
    state, problem = found.state, found.problem
    more = (np.arange(problem.n_source) >= n_source) & (state.flux > 0.0)
    alone = replace(state, flux=np.where(more, state.flux, 0.0), sky=np.zeros_like(state.sky))
    view = look(problem, alone)
    return view.image, growth(problem, alone, view)[:, :-1]


def _errors_of_found(found: JointFit, n_source: int) -> csr_matrix:
    """Return what the light of stars beyond the catalogue's errs by, shape (n_pixel, n_error), electron / s."""
    problem = found.problem
    columns = star_columns(problem, found.state, look(problem, found.state))[:, problem.n_own * n_source :]
    own = np.linalg.cholesky(found.posterior.own_blocks[n_source:])
    return csr_matrix(columns @ block_diag([csr_matrix(own[0]), *own[1:]], format="csr"))


def _as_found(field: Field, found: JointFit, listed: SourceTable) -> SourceTable:
    """Return the stars that were found, where the catalogue would have them, electron / s."""
    more = np.arange(listed.n_source) >= field.sources.n_source
    ra, dec = _moved(listed, found.state.shift)
    return SourceTable(listed.select(more).source_id, ra[more], dec[more], found.flux[more])


def _moved(listed: SourceTable, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return RA and Dec of stars that are moved east and north, arcsec, shape (n_source,), degree."""
    east, north = shift.T / ARCSEC_PER_DEG
    return listed.ra_deg + east / np.cos(np.radians(listed.dec_deg)), listed.dec_deg + north
