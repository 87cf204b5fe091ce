"""Search for one more star where few tell of the PRF: its evidence beside any PRF and any error of the model."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.prf.joint.hyper import MIN_EPS, JointHyper
from bayesprf.prf.joint.objective import JointFit
from bayesprf.prf.joint.problem import JointProblem, JointState, look, prf_of, shifts
from bayesprf.prf.unlisted.linear import Linear
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pairs import offsets
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG
from bayesprf.scene.sources import SourceTable

STRONG = 10.0
"""Definition: twice the log odds from which on evidence is very strong (Kass & Raftery 1995, JASA 90, 773)."""
# Accuracy: places of a star per side of a pixel.
_PER_PIXEL = 2
CORE_PIX = 2
"""Derived: nearer to a brighter one, pixel, a star is told from no asymmetric PRF: the core of a PRF of these missions
is narrower. As far beyond the pixels one is looked for."""
# Accuracy: relative errors of the model under which evidence is compared, in units of those that fits start from, and
# of those that were learned.
_FIRST, _LEARNED = (0.3, 1.0, 3.0, 10.0, 30.0), (1.0, 0.3, 0.1)
# Definition: a star whose light is seen: most of it falls on the pixels.
_ON_PIXELS = 0.5
# Rounding: a star that others explain to this share is none.
_LEAST_OWN = 1e-3


@dataclass(frozen=True, slots=True)
class UnlistedStar:
    """A star that the catalogue lacks.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Where the catalogue would have it, degree.
    flux : float
        electron / s.
    gain : float
        Twice the log of the odds for it.
    """

    ra_deg: float
    dec_deg: float
    flux: float
    gain: float

    @property
    def entry(self) -> tuple[FloatArray, FloatArray]:
        """Place and flux, shapes (1, 2) and (1,)."""
        return np.array([[self.ra_deg, self.dec_deg]]), np.array([self.flux])


def likeliest_star(
    pixels: PixelTable, sources: SourceTable, problem: JointProblem, state: JointState, hyper: JointHyper
) -> UnlistedStar | None:
    """Return the star that the image most likely shows beside those of a state, if the evidence for it is very strong.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    sources : SourceTable
        The stars that are known.
    problem, state, hyper
        The joint fit.

    Returns
    -------
    UnlistedStar or None

    Notes
    -----
    Errors of the model that were learned from a star's light hide it, and so does a PRF that followed it: both are free
    here. Evidence is that of `Linear`, at the errors of the model where it is largest. One more star, of the light f c
    in the pixels, has the score s = c'W r - c'W J A^-1 g and the information i = c'W c - c'W J A^-1 J'W c; it gains
    s**2 / (i + m**-2) - ln(1 + i m**2), with the flux m of the brightest star as what it might have, less 2 ln n for
    the n places where it might be.
    """
    if not (np.any(state.flux > 0.0) and np.any(problem.used)):
        return None
    place = _places(pixels)
    odds, flux = _odds(pixels, sources, problem, state, hyper, place)
    best = int(np.argmax(odds))
    if odds[best] < STRONG:
        return None
    return _star_at(state, place[best], flux[best], odds[best])


def odds_of_star(
    pixels: PixelTable,
    sources: SourceTable,
    problem: JointProblem,
    state: JointState,
    hyper: JointHyper,
    *,
    place: FloatArray,
) -> float:
    """Return twice the log of the odds for one more star at a place, shape (1, 2), where one was found before."""
    return float(_odds(pixels, sources, problem, state, hyper, place)[0][0])


def _odds(
    pixels: PixelTable,
    sources: SourceTable,
    problem: JointProblem,
    state: JointState,
    hyper: JointHyper,
    place: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return twice the log of the odds for one more star at each place, and its flux, shape (n_place,)."""
    gain, flux, core = _gains(pixels, sources, problem, state, hyper, place)
    return _best_of(pixels, np.where(core, 0.0, gain), flux)


def _gains(
    pixels: PixelTable,
    sources: SourceTable,
    problem: JointProblem,
    state: JointState,
    hyper: JointHyper,
    place: FloatArray,
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return by errors of the model, (n_trial, n_place), the gain of a star, its flux, and if it lies in a core."""
    brightest, scene = float(np.max(state.flux)), Linear.about(pixels, problem, state, hyper)
    light, masked = _at_places(pixels, problem, state, place)
    found = [evidence_of(scene, one, light, brightest) for one in trial_errors(hyper)]
    without = min(one.height for one in found)
    gain = np.array([without - one.height + one.gain for one in found])
    gain[:, masked] = 0.0
    core = np.array([_core_of(sources, problem, state, place, one.flux).any(axis=0) for one in found])
    return gain, np.array([one.flux for one in found]), core


def _best_of(pixels: PixelTable, gain: FloatArray, flux: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return twice the log of the odds at each place at the likeliest errors of the model, and the flux there."""
    best, each = np.argmax(gain, axis=0), np.arange(gain.shape[1])
    n_pixel = _places(pixels).shape[0] / _PER_PIXEL**2
    return gain[best, each] - 2.0 * np.log(n_pixel), flux[best, each]


def light_in_cores(pixels: PixelTable, sources: SourceTable, fit: JointFit) -> tuple[BoolArray, UnlistedStar | None]:
    """Return the stars in whose cores another seems to lie, shape (n_source,), and that other one.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    sources : SourceTable
        The stars that are known.
    fit : JointFit
        A joint fit of few stars.

    Returns
    -------
    sources : ndarray of bool, shape (n_source,)
        Brighter ones within two pixels of it; none where the evidence for it is not very strong.
    star : UnlistedStar or None
        The likeliest.

    Notes
    -----
    As `likeliest_star`, where that does not look: a PRF that bends to one star passes for a companion, and a companion
    for a PRF. Other stars' cores have no such light, and PRFs deviate as roughly as real ones do here: what they cannot
    explain is one or the other, and in no error.
    """
    problem, state, nothing = fit.problem, fit.state, np.zeros(sources.n_source, bool)
    prior = problem.prior
    if not (np.any(state.flux > 0.0) and np.any(problem.used)) or prior.rough_factor is None:
        return nothing, None
    problem = replace(problem, prior=replace(prior, weights_factor=prior.rough_factor))
    place = _places(pixels)
    gain, flux, core = _gains(pixels, sources, problem, state, fit.hyper, place)
    odds, flux = _best_of(pixels, np.where(core, gain, 0.0), flux)
    best = int(np.argmax(odds))
    if odds[best] < STRONG:
        return nothing, None
    near = _core_of(sources, problem, state, place[[best]], flux[[best]])[:, 0]
    return near, _star_at(state, place[best], flux[best] * np.median(fit.sums.total), odds[best])


def _star_at(state: JointState, place: FloatArray, flux: float, odds: float) -> UnlistedStar:
    """Return a star at a place in the image, where the catalogue would have it."""
    dec = place[1] - state.offset[0, 1] / ARCSEC_PER_DEG
    ra = place[0] - state.offset[0, 0] / ARCSEC_PER_DEG / np.cos(np.radians(dec))
    return UnlistedStar(float(ra), float(dec), float(flux), float(odds))


def trial_errors(hyper: JointHyper) -> list[FloatArray]:
    """Return the relative errors of the model under which evidence is compared, each of shape (n_kind,)."""
    trials = [*(one * JointHyper().errors for one in _FIRST), *(one * hyper.errors for one in _LEARNED)]
    return [np.maximum(one, MIN_EPS) for one in trials]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """At some errors of the model: -2 ln Z without a further star, how much one at each place lowers it, and i."""

    height: float
    gain: FloatArray
    flux: FloatArray
    information: FloatArray


def evidence_of(scene: Linear, errors: FloatArray, light: FloatArray, brightest: float) -> Evidence:
    """Return the evidence at some relative errors of the model, with the light of each, shape (n_used, n_place)."""
    at = scene.at(errors)
    across = at.across(light)
    score = (light.T / at.variance) @ scene.residual - across.T @ at.pulled
    own = (light**2).T @ (1.0 / at.variance)
    information = own - np.sum(across**2, axis=0)
    told = (score > 0.0) & (information > _LEAST_OWN * own)
    size = np.where(told, information, 1.0)
    gain = np.where(told, score**2 / (size + brightest**-2.0) - np.log1p(size * brightest**2), -np.inf)
    return Evidence(at.height, gain, np.where(told, score / size, 0.0), information)


def hidden_light(
    pixels: PixelTable,
    sources: SourceTable,
    problem: JointProblem,
    state: JointState,
    hyper: JointHyper,
    *,
    found: BoolArray,
) -> FloatArray:
    """Return the light of stars that the search may have missed in each star's light, root mean square, (n_source,).

    Parameters
    ----------
    pixels, sources, problem, state, hyper
        The fit, with the stars that were found.
    found : ndarray of bool, shape (n_source,)
        These.

    Notes
    -----
    Each star that was found on the pixels, of flux f, stands for a Poisson process of the density 1 / A, over the area
    A in which it would have been found (Horvitz & Thompson 1952, JASA 47, 663). In the area a where its evidence, f**2
    times its information, is not very strong or spilled pixels hold it, and a brighter star gives most of the light, it
    would pass for light of that star: with the part s of its light that falls on the pixels, the sum has the mean sum s
    f a / A and the variance sum (s f)**2 a / A (Campbell's theorem). Stars fainter than any that was found are not in
    it.
    """
    told = found & (state.flux > 0.0) & (_share_on_pixels(problem, state) > _ON_PIXELS)
    mean, variance = np.zeros(sources.n_source), np.zeros(sources.n_source)
    if not told.any():
        return mean
    place, cell = _places(pixels), _PER_PIXEL**-2.0
    light_at, masked = _at_places(pixels, problem, state, place)
    scene = Linear.about(pixels, problem, state, hyper)
    information = evidence_of(scene, hyper.errors, light_at, float(np.max(state.flux))).information
    limit = STRONG + 2.0 * np.log(place.shape[0] * cell)
    owner, seen = _owners(sources, problem, state, place), light_at.sum(axis=0)
    for flux in state.flux[told]:
        out = _core_of(sources, problem, state, place, np.full(place.shape[0], flux)).any(axis=0)
        faint = (flux**2 * information < limit) | masked
        density = 1.0 / max(cell * np.count_nonzero(~(faint | out)), 1.0)
        hides = faint & (state.flux[owner] > flux)
        for total, light in ((mean, flux * seen), (variance, (flux * seen) ** 2)):
            total += density * cell * np.bincount(owner[hides], light[hides], sources.n_source)
    return np.asarray(np.sqrt(mean**2 + variance))


def _share_on_pixels(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the share of each star's light that falls on pixels that are used, shape (n_source,)."""
    pairs, values = problem.pairs, look(problem, state).values
    return np.bincount(pairs.source, np.where(problem.used[pairs.pixel], values, 0.0), problem.n_source)


def _owners(sources: SourceTable, problem: JointProblem, state: JointState, place: FloatArray) -> IntArray:
    """Return the star that gives most of the light at each place, shape (n_place,)."""
    prf = prf_of(problem, state).normalized_at(np.zeros(2))
    moved = _offsets(sources, problem, state, place)
    light = prf.evaluate(*moved.T).reshape(sources.n_source, -1) * state.flux[:, None]
    return np.asarray(np.argmax(light, axis=0))


def _places(pixels: PixelTable) -> FloatArray:
    """Return where a star might be: the same places in each pixel, and as far beyond, RA and Dec, (n_place, 2)."""
    reach, axes = np.arange(-CORE_PIX, CORE_PIX + 1), pixel_axes(pixels)
    moved = np.stack([one.ravel() for one in np.meshgrid(reach, reach)], axis=1)
    cell = np.stack([pixels.column, pixels.row], axis=1)[:, None, :] + moved
    first = np.unique(cell.reshape(-1, 2), axis=0, return_index=True)[1]
    pixel, step = first // moved.shape[0], moved[first % moved.shape[0]]
    within = (np.arange(_PER_PIXEL) + 0.5) / _PER_PIXEL - 0.5
    parts = np.stack([one.ravel() for one in np.meshgrid(within, within)], axis=1)
    east, north = np.moveaxis((step[:, None, :] + parts) @ axes.T, 2, 0) / ARCSEC_PER_DEG
    ra, dec = pixels.ra_deg[pixel][:, None], pixels.dec_deg[pixel][:, None]
    return np.stack([(ra + east / np.cos(np.radians(dec))).ravel(), (dec + north).ravel()], axis=1)


def _at_places(
    pixels: PixelTable, problem: JointProblem, state: JointState, place: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Return the light of a star of flux 1 at each place in the pixels that are used, shape (n_used, n_place).

    And which places are those of stars that give most of their light to spilled pixels, (n_place,): the others tell
    them from no error of the PRF.
    """
    light = _star_light(pixels, problem, state, place)
    masked = light[pixels.spilled].sum(axis=0) > light[~pixels.spilled].sum(axis=0)
    return problem.summed(csr_matrix(light)).toarray()[problem.used], masked


def _star_light(pixels: PixelTable, problem: JointProblem, state: JointState, place: FloatArray) -> FloatArray:
    """Return the light of a star of flux 1 at each place, shape (n_pixel, n_place), 1 / pixel."""
    pixel, star = (one.ravel() for one in np.indices((pixels.n_pixel, place.shape[0])))
    offset = offsets(pixels.ra_deg[pixel], pixels.dec_deg[pixel], place[star, 0], place[star, 1])
    return prf_of(problem, state).normalized_at(np.zeros(2)).evaluate(*offset).reshape(pixels.n_pixel, -1)


def _core_of(
    sources: SourceTable, problem: JointProblem, state: JointState, place: FloatArray, flux: FloatArray
) -> BoolArray:
    """Return in which cores of stars brighter than one there would be each place lies, shape (n_source, n_place)."""
    away = np.hypot(*_offsets(sources, problem, state, place).T).reshape(sources.n_source, -1)
    near = away < CORE_PIX * np.sqrt(problem.pixel_area)
    return near & (state.flux[:, None] > flux)


def _offsets(sources: SourceTable, problem: JointProblem, state: JointState, place: FloatArray) -> FloatArray:
    """Return the offset of each place from each star, shape (n_source n_place, 2), arcsec."""
    star, one = (index.ravel() for index in np.indices((sources.n_source, place.shape[0])))
    offset = np.stack(offsets(place[one, 0], place[one, 1], sources.ra_deg[star], sources.dec_deg[star]), axis=1)
    return np.asarray(offset - shifts(problem, state)[star])
