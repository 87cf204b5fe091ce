"""Search for one more star where few tell of the PRF: its evidence beside any PRF and any error of the model."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.prf.joint.hyper import MIN_EPS, JointHyper, pixel_variance
from bayesprf.prf.joint.problem import (
    JointProblem,
    JointState,
    global_columns,
    growth,
    look,
    prf_of,
    shifts,
    star_columns,
)
from bayesprf.prf.joint.step import all_beliefs
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pairs import offsets
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG
from bayesprf.scene.sources import SourceTable

STRONG = 10.0
"""Definition: twice the log odds from which on evidence is very strong (Kass & Raftery 1995, JASA 90, 773)."""
# Accuracy: places of a star per side of a pixel.
_PER_PIXEL = 2
# Derived: nearer to a brighter one, pixel, a star is told from no asymmetric PRF: the core of a PRF of these missions
# is narrower. As far beyond the pixels one is looked for.
_CORE = 2
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
    here. About a state, with the columns J of all parameters, their prior precision P and pull p, and a level and slope
    of the sky beside, the evidence of the residuals r with the variances V = 1 / W is

        -2 ln Z = sum ln V + r'W r - g'A^-1 g + ln |A|,  A = J'W J + P,  g = J'W r + p,

    at the errors of the model where it is largest. One more star, of the light f c in the pixels, has the score
    s = c'W r - c'W J A^-1 g and the information i = c'W c - c'W J A^-1 J'W c; it gains s**2 / (i + m**-2) -
    ln(1 + i m**2), with the flux m of the brightest star as what it might have, less 2 ln n for the n places where it
    might be.
    """
    if not (np.any(state.flux > 0.0) and np.any(problem.used)):
        return None
    place = _places(pixels)
    odds, flux = _odds(pixels, sources, problem, state, hyper, place)
    best = int(np.argmax(odds))
    if odds[best] < STRONG:
        return None
    dec = place[best, 1] - state.offset[0, 1] / ARCSEC_PER_DEG
    ra = place[best, 0] - state.offset[0, 0] / ARCSEC_PER_DEG / np.cos(np.radians(dec))
    return UnlistedStar(float(ra), float(dec), float(flux[best]), float(odds[best]))


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
    brightest, scene = float(np.max(state.flux)), _Linear.about(pixels, problem, state, hyper, place)
    trials = [*(one * JointHyper().errors for one in _FIRST), *(one * hyper.errors for one in _LEARNED)]
    found = [scene.evidence(np.maximum(one, MIN_EPS), brightest) for one in trials]
    without = min(one.height for one in found)
    gain = np.array([without - one.height + one.gain for one in found])
    gain[np.array([_in_a_core(sources, problem, state, place, one.flux) for one in found])] = 0.0
    gain[:, scene.masked] = 0.0
    best = np.argmax(gain, axis=0)
    each = np.arange(place.shape[0])
    n_pixel = _places(pixels).shape[0] / _PER_PIXEL**2
    return gain[best, each] - 2.0 * np.log(n_pixel), np.array([one.flux for one in found])[best, each]


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """At some errors of the model: -2 ln Z without a further star, how much one at each place lowers it, and i."""

    height: float
    gain: FloatArray
    flux: FloatArray
    information: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """An image linearised about a state, at the pixels that are used.

    Parameters
    ----------
    residual, ivar : ndarray of float64, shape (n_pixel,)
        Data less model, electron / s, and inverse variances.
    growth : ndarray of float64, shape (n_pixel, n_kind)
        What the relative errors are multiplied by.
    columns : ndarray of float64, shape (n_pixel, n_parameter)
        J.
    precision, pull : ndarray of float64, shapes (n_parameter, n_parameter) and (n_parameter,)
        P and p.
    star : ndarray of float64, shape (n_pixel, n_place)
        c of a star at each place.
    masked : ndarray of bool, shape (n_place,)
        Places of stars that give most of their light to spilled pixels: the others tell them from no error of the PRF.
    """

    residual: FloatArray
    ivar: FloatArray
    growth: FloatArray
    columns: FloatArray
    precision: FloatArray
    pull: FloatArray
    star: FloatArray
    masked: BoolArray

    @classmethod
    def about(
        cls, pixels: PixelTable, problem: JointProblem, state: JointState, hyper: JointHyper, place: FloatArray
    ) -> "_Linear":
        """Linearise."""
        view, used = look(problem, state), problem.used
        noise = float(np.median(problem.ivar[used])) ** -0.5
        precision, pull = all_beliefs(problem, state, hyper, noise)
        sky = _sky_columns(pixels)[used]
        columns = [global_columns(problem, state, view)[used], star_columns(problem, state, view)[used].toarray(), sky]
        n, n_sky = pull.size, sky.shape[1]
        whole = np.zeros((n + n_sky, n + n_sky))
        whole[:n, :n] = precision
        # A sky may be as bright as the brightest pixel.
        whole[range(n, n + n_sky), range(n, n + n_sky)] = np.max(np.abs(problem.flux[used]), initial=noise) ** -2.0
        light = _star_light(pixels, problem, state, place)
        masked = light[pixels.spilled].sum(axis=0) > light[~pixels.spilled].sum(axis=0)
        return cls(
            residual=(problem.flux - view.image)[used],
            ivar=problem.ivar[used],
            growth=growth(problem, state, view)[used],
            columns=np.concatenate(columns, axis=1),
            precision=whole,
            pull=np.append(pull, np.zeros(n_sky)),
            star=problem.summed(csr_matrix(light)).toarray()[used],
            masked=masked,
        )

    def evidence(self, errors: FloatArray, brightest: float) -> _Evidence:
        """Return the evidence at some relative errors of the model."""
        variance = pixel_variance(self.ivar, self.growth, errors)
        weighted = self.columns / variance[:, None]
        normal = weighted.T @ self.columns + self.precision
        scale = 1.0 / np.sqrt(np.diag(normal))
        lower = np.linalg.cholesky(normal * np.outer(scale, scale))

        def halved(right: FloatArray) -> FloatArray:
            return np.asarray(solve_triangular(lower, (right.T * scale).T, lower=True))

        pulled, across = halved(weighted.T @ self.residual + self.pull), halved(weighted.T @ self.star)
        score = (self.star.T / variance) @ self.residual - across.T @ pulled
        own = (self.star**2).T @ (1.0 / variance)
        information = own - np.sum(across**2, axis=0)
        told = (score > 0.0) & (information > _LEAST_OWN * own)
        size = np.where(told, information, 1.0)
        height = np.sum(np.log(variance)) + self.residual @ (self.residual / variance) - pulled @ pulled
        height += 2.0 * np.sum(np.log(np.diag(lower))) - 2.0 * np.sum(np.log(scale))
        gain = np.where(told, score**2 / (size + brightest**-2.0) - np.log1p(size * brightest**2), -np.inf)
        return _Evidence(float(height), gain, np.where(told, score / size, 0.0), information)


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
    scene = _Linear.about(pixels, problem, state, hyper, place)
    information = scene.evidence(hyper.errors, float(np.max(state.flux))).information
    limit = STRONG + 2.0 * np.log(place.shape[0] * cell)
    owner, seen = _owners(sources, problem, state, place), scene.star.sum(axis=0)
    for flux in state.flux[told]:
        out = _in_a_core(sources, problem, state, place, np.full(place.shape[0], flux))
        faint = (flux**2 * information < limit) | scene.masked
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
    reach, axes = np.arange(-_CORE, _CORE + 1), pixel_axes(pixels)
    moved = np.stack([one.ravel() for one in np.meshgrid(reach, reach)], axis=1)
    cell = np.stack([pixels.column, pixels.row], axis=1)[:, None, :] + moved
    first = np.unique(cell.reshape(-1, 2), axis=0, return_index=True)[1]
    pixel, step = first // moved.shape[0], moved[first % moved.shape[0]]
    within = (np.arange(_PER_PIXEL) + 0.5) / _PER_PIXEL - 0.5
    parts = np.stack([one.ravel() for one in np.meshgrid(within, within)], axis=1)
    east, north = np.moveaxis((step[:, None, :] + parts) @ axes.T, 2, 0) / ARCSEC_PER_DEG
    ra, dec = pixels.ra_deg[pixel][:, None], pixels.dec_deg[pixel][:, None]
    return np.stack([(ra + east / np.cos(np.radians(dec))).ravel(), (dec + north).ravel()], axis=1)


def _star_light(pixels: PixelTable, problem: JointProblem, state: JointState, place: FloatArray) -> FloatArray:
    """Return the light of a star of flux 1 at each place, shape (n_pixel, n_place), 1 / pixel."""
    pixel, star = (one.ravel() for one in np.indices((pixels.n_pixel, place.shape[0])))
    offset = offsets(pixels.ra_deg[pixel], pixels.dec_deg[pixel], place[star, 0], place[star, 1])
    return prf_of(problem, state).normalized_at(np.zeros(2)).evaluate(*offset).reshape(pixels.n_pixel, -1)


def _sky_columns(pixels: PixelTable) -> FloatArray:
    """Return a level and slopes along columns and rows, shape (n_pixel, 3)."""
    axes = [(one - one.mean()) / max(np.ptp(one), 1.0) for one in (pixels.column, pixels.row)]
    return np.stack([np.ones(pixels.n_pixel), *axes], axis=1)


def _in_a_core(
    sources: SourceTable, problem: JointProblem, state: JointState, place: FloatArray, flux: FloatArray
) -> BoolArray:
    """Return which places lie in the core of a star brighter than one there would be, shape (n_place,)."""
    away = np.hypot(*_offsets(sources, problem, state, place).T).reshape(sources.n_source, -1)
    near = away < _CORE * np.sqrt(problem.pixel_area)
    return np.any(near & (state.flux[:, None] > flux), axis=0)


def _offsets(sources: SourceTable, problem: JointProblem, state: JointState, place: FloatArray) -> FloatArray:
    """Return the offset of each place from each star, shape (n_source n_place, 2), arcsec."""
    star, one = (index.ravel() for index in np.indices((sources.n_source, place.shape[0])))
    offset = np.stack(offsets(place[one, 0], place[one, 1], sources.ra_deg[star], sources.dec_deg[star]), axis=1)
    return np.asarray(offset - shifts(problem, state)[star])
