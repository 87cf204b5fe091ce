"""Extended light that is no star's and no level or slope of the sky: that of a galaxy or a nebula under few stars."""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_matrix, hstack

from bayesprf.arrays import FloatArray
from bayesprf.prf.joint.objective import JointFit, KnownLight
from bayesprf.prf.joint.problem import JointProblem, JointState, frames
from bayesprf.prf.unlisted.linear import N_SKY, Linear
from bayesprf.prf.unlisted.search import STRONG, evidence_of, trial_errors
from bayesprf.scene.pixels import PixelTable

# Derived: the narrowest spot that is looked for, standard deviation in pixels: half of a core, within which nothing is
# told from a star (`bayesprf.prf.unlisted.search`), times the square root of two; each wider by as much.
_NARROWEST, _WIDER = float(np.sqrt(2.0)), float(np.sqrt(2.0))
# Accuracy: places lie apart by so many standard deviations of a spot.
_APART = 0.5
# Columns of the sky beside which spots are compared.
_SKIES = (0, 1, N_SKY)
# Literature: standard deviation of each component of the ellipticity of galaxies (Leauthaud et al. 2007, ApJS 172,
# 219).
_ELLIPTICITY = 0.26
# Definition: prior standard deviations of middle, in those of the spot, log of the width, and ellipticity: light is
# found no farther off than it is wide, as wide to a factor of two, and its profile lies between a Gaussian and an
# exponential one, to the same factor in the index of Sersic (1963, BAAA 6, 41).
_SIZES = np.array([1.0, 1.0, np.log(2.0), _ELLIPTICITY, _ELLIPTICITY, np.log(2.0)])
# Accuracy: no step is longer than this, in prior standard deviations: the profile is far from linear beyond.
_LONGEST = 0.5
# Rounding: step of a numerical derivative.
_STEP = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """A spot of light, of Gaussian profile.

    Parameters
    ----------
    column, row : float
        Where it was found, pixel.
    spread : float
        Standard deviation that it was found with, pixel.
    height : float
        Light in the pixel in its middle, electron / s.
    gain : float
        Twice the log of the odds for it.
    moved : ndarray of float64, shape (6,)
        Middle, log of the width, ellipticity and log of the index about those, in their prior standard deviations.
    """

    column: float
    row: float
    spread: float
    height: float
    gain: float
    moved: FloatArray = field(default_factory=lambda: np.zeros(_SIZES.size))

    def columns(self, pixels: PixelTable, brightest: float) -> csr_matrix:
        """Return how its light changes, by prior standard deviations of height and `moved`, (n_pixel, 7)."""
        x, y = ((one - at) / self.spread for one, at in ((pixels.column, self.column), (pixels.row, self.row)))
        step = _STEP * np.eye(_SIZES.size)
        ahead, behind = ([self._profile(x, y, self.moved + sign * one) for one in step] for sign in (1.0, -1.0))
        changes = self.height * (np.array(ahead) - np.array(behind)) / (2.0 * _STEP)
        return csr_matrix(np.concatenate([brightest * self._profile(x, y, self.moved)[None], changes]).T)

    @staticmethod
    def _profile(x: FloatArray, y: FloatArray, moved: FloatArray) -> FloatArray:
        """Return the profile of height one at some offsets, in units of `spread`."""
        right, up, size, e1, e2, index = moved * _SIZES
        x, y = x - right, y - up
        stretch = frames(-0.5 * np.array([[e1, e2]]), np.exp(-size) * np.eye(2)[None])[0]
        r2 = np.sum((np.stack([x, y], axis=1) @ stretch) ** 2, axis=1)
        return np.asarray(np.exp(-0.5 * r2 ** np.exp(-index)))

    def after(self, found: FloatArray, brightest: float) -> "Spot":
        """Return the spot as a fit found it, with height and changes of `columns`, shape (7,)."""
        change = np.clip(found[1:], -_LONGEST, _LONGEST)
        return replace(self, height=max(found[0], 0.0) * brightest, moved=self.moved + change)


def likeliest_spot(pixels: PixelTable, fit: JointFit) -> Spot | None:
    """Return the spot that the image most likely shows beside the stars of a fit, if the evidence is very strong.

    Parameters
    ----------
    pixels : PixelTable
        The pixels.
    fit : JointFit
        A joint fit of few stars, one step away from what is expected of them.

    Returns
    -------
    Spot or None
        None beside saturated pixels: what the wings of such a star err by would pass for it.

    Notes
    -----
    As `likeliest_star`, with the light of spots of several widths. Their prior width m is that of the largest evidence,
    which gains z**2 - 1 - ln z**2 with z**2 = s**2 / i, less 2 ln n for the n octaves from the noise of a pixel to the
    brightest one. The sky is none, a level, or a level and a slope, whichever has the largest evidence: beside one that
    is free a wide spot would never be told. The PRF deviates as roughly as real ones do.
    """
    used = fit.problem.used
    if np.any(pixels.spilled) or not np.any(used):
        return None
    trial = _trials(pixels)
    away = (pixels.column[used][:, None] - trial[:, 0]) ** 2 + (pixels.row[used][:, None] - trial[:, 1]) ** 2
    light = np.exp(-0.5 * away / trial[:, 2] ** 2)
    prior = fit.problem.prior
    rough = prior.weights_factor if prior.rough_factor is None else prior.rough_factor
    problem = replace(fit.problem, prior=replace(prior, weights_factor=rough))
    skies = [Linear.about(pixels, problem, fit.state, fit.hyper, n_sky=one) for one in _SKIES]
    trials = [(sky, one) for sky in skies for one in trial_errors(fit.hyper)]
    found = [evidence_of(*one, light, brightest_pixel(fit.problem)) for one in trials]
    without = min(one.height for one in found)
    # In this order: of light of which next to nothing is told the square overflows.
    sizes = np.array([one.flux * np.sqrt(np.maximum(one.information, 0.0)) for one in found])
    squares = np.maximum(sizes**2, 1.0)
    gain = squares - 1.0 - np.log(squares) + np.array([[without - one.height] for one in found])
    which, place = np.unravel_index(int(np.argmax(gain)), gain.shape)
    octaves = np.log2(brightest_pixel(fit.problem) * np.sqrt(np.median(fit.problem.ivar[used])))
    odds = float(gain[which, place] - 2.0 * np.log(len(trial) * max(octaves, 1.0)))
    column, row, spread = (float(one) for one in trial[place])
    return Spot(column, row, spread, float(found[which].flux[place]), odds) if odds > STRONG else None


def brightest_pixel(problem: JointProblem) -> float:
    """Return the light of the brightest pixel, electron / s."""
    return float(np.max(problem.flux[problem.used]))


def _trials(pixels: PixelTable) -> FloatArray:
    """Return column, row and width of the spots that are compared, shape (n_trial, 3), pixel.

    Their middles lie on the pixels: light from beyond is told from no star's there. The widest has the stamp within its
    standard deviation: wider ones are a level and a slope of the sky.
    """
    axes = (pixels.column, pixels.row)
    widest = max(float(np.ptp(one)) + 1.0 for one in axes) / 2.0
    spreads = _NARROWEST * _WIDER ** np.arange(max(int(np.log(widest / _NARROWEST) / np.log(_WIDER)) + 1, 0))
    found = [np.zeros((0, 3))]
    for spread in spreads:
        places = [np.arange(one.min(), one.max() + 0.5, _APART * spread) for one in axes]
        column, row = (one.ravel() for one in np.meshgrid(*places))
        found.append(np.stack([column, row, np.full(column.size, spread)], axis=1))
    return np.concatenate(found)


def with_spot(
    pixels: PixelTable, problem: JointProblem, state: JointState, spot: Spot
) -> tuple[JointProblem, JointState]:
    """Return a problem with a spot beside its sky, and where it starts: as it is."""
    brightest, prior = brightest_pixel(problem), problem.prior
    columns = problem.summed(spot.columns(pixels, brightest))
    start = np.append(spot.height / brightest, np.zeros(_SIZES.size))
    sky, sigma = np.append(prior.sky, np.append(0.0, -spot.moved)), np.append(prior.sky_sigma, np.ones(start.size))
    problem = replace(problem, sky=hstack([problem.sky, columns], format="csr"))
    problem = replace(problem, prior=replace(prior, sky=sky, sky_sigma=sigma))
    return problem, replace(state, sky=np.append(state.sky, start))


def spots_after(spots: tuple[Spot, ...], fit: JointFit) -> tuple[Spot, ...]:
    """Return the spots as a fit beside them found them."""
    if not spots:
        return ()
    found = fit.state.sky[-len(spots) * (1 + _SIZES.size) :].reshape(len(spots), -1)
    return tuple(one.after(by, brightest_pixel(fit.problem)) for one, by in zip(spots, found, strict=True))


def extended_of(fit: JointFit) -> KnownLight:
    """Return the light of the spots of a fit."""
    problem = fit.problem
    start = problem.n_weight + problem.n_wing + 4 * problem.n_geometry
    errors = csr_matrix(problem.sky @ fit.posterior.global_factor[start:])
    return KnownLight(np.asarray(problem.sky @ fit.state.sky), errors)
