"""What the PRF's columns cannot follow: relative errors of each star's rings, learned from their spread over stars."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack, identity, kron

from bayesprf.arrays import BoolArray, FloatArray, IntArray, pointers
from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.problem import (
    ANY_LIGHT,
    WING_RINGS,
    JointProblem,
    JointState,
    View,
    field_growth,
    global_columns,
    light_in_rings,
    peaks,
    star_columns,
    star_parts,
)
from bayesprf.prf.joint.ring_spread import MAX_EXAMPLES, N_ORDER, ORDERS, fit_ring_errors, those_that_show
from bayesprf.prf.joint.step import Posterior
from bayesprf.prf.joint.sums import STAR_RINGS, StarSums, ring_shares

# Definition: a pixel tells of a star that gives most of its light.
_SHARE = 0.5
# Cost: stars solved together.
_N_TOGETHER = 40
# Accuracy: pixels whose noise is a smaller share of the error of a flux do not carry other stars' errors to it.
_LEAST = 1e-4
# Rings of the mean profile, four per doubling of the radius, pixel.
_PROFILE = 2.0 ** np.arange(0.0, 5.1, 0.25)


@dataclass(frozen=True, slots=True, eq=False)
class RingPairs:
    """The light of each pair, and where it lies about its star.

    Parameters
    ----------
    light : ndarray of float64, shape (n_pair,)
        Light, electron / s, times the `error_sizes` of its star.
    ring : ndarray of int64, shape (n_pair,)
        Ring among `STAR_RINGS`.
    direction : ndarray of float64, shape (n_pair, 2)
        Direction from the star to the pixel, east and north, of unit length; 0 at the star itself.
    """

    light: FloatArray
    ring: IntArray
    direction: FloatArray

    @classmethod
    def of(cls, problem: JointProblem, state: JointState, view: View, hyper: JointHyper) -> "RingPairs":
        """Return those of a state."""
        radius = np.hypot(*view.offset.T)
        ring = np.searchsorted(STAR_RINGS, radius / np.sqrt(problem.pixel_area))
        direction = view.offset / np.maximum(radius, 1e-300)[:, None]
        light = light_in_rings(problem, state, view)[0] * error_sizes(problem, hyper)[problem.pairs.source]
        return cls(light, ring, direction)

    def part(self, part: int, chosen: IntArray | slice = slice(None)) -> FloatArray:
        """Return the light times a harmonic of the angle, one of `ORDERS`, (n_chosen,), electron / s.

        Around a ring 1, and the square root of two times cosine and sine of the angle and of its double, have the mean
        square 1.
        """
        light, (east, north) = self.light[chosen], self.direction[chosen].T
        if part == 0:
            return light
        wave = east + 1j * north
        if ORDERS[part] == 2:
            wave *= wave
        return np.asarray(np.sqrt(2.0) * light * (wave.real if part % 2 else wave.imag))


def error_sizes(problem: JointProblem, hyper: JointHyper) -> FloatArray:
    """Return how large the errors of each star's rings are beside those of others, (n_source,), of mean square one.

    They grow over the field as those of single pixels do.
    """
    size = hyper.star_errors(field_growth(problem))
    return np.asarray(size / np.sqrt(np.mean(size**2)))


def ring_errors(
    problem: JointProblem,
    state: JointState,
    view: View,
    posterior: Posterior,
    *,
    weight: FloatArray,
    sums: StarSums,
    hyper: JointHyper,
) -> tuple[FloatArray, FloatArray]:
    """Learn the relative error of a star's rings, and what it does to the fluxes.

    Parameters
    ----------
    problem, state, view, posterior, hyper
        Of the fit.
    weight : ndarray of float64, shape (n_pixel,)
        Weights of the pixels.
    sums : StarSums
        Light of the stars' PRFs.

    Returns
    -------
    factors : ndarray of float64, shape (3, n_ring, n_ring)
        L with the covariances L L' of the relative errors of a star's light in its rings, the same for all stars: of
        rings as a whole, of dipoles, and of ellipses. The latter two are those of one of two harmonics of the angle
        (`RingPairs.part`), and the same for both: no direction is preferred.
    flux_std : ndarray of float64, shape (n_source,)
        Standard deviation of the fluxes from it, and from other stars' wings, electron / s.

    Notes
    -----
    With the light T of a star in its rings, times the harmonics, the scores t = T'W r of the residuals have the
    covariance B + B S B, where B = T'W (1 - H) T is what the fit leaves of such errors, and S their covariance: the
    likeliest over all stars.
    """
    shares = sums.rings.mean(axis=0)
    factors = _learned(problem, state, view, posterior, weight=weight, shares=shares, hyper=hyper)
    own = state.flux[:, None] * sums.rings
    first = posterior.own_factor.rows(0)[0] if posterior.flux_rows is None else posterior.flux_rows
    variance = _ring_variances(problem, state, view, first, weight=weight, own=own, factors=factors, hyper=hyper)
    return factors, sums.total * np.sqrt(variance)


def _learned(
    problem: JointProblem,
    state: JointState,
    view: View,
    posterior: Posterior,
    *,
    weight: FloatArray,
    shares: FloatArray,
    hyper: JointHyper,
) -> FloatArray:
    """Return L of the likeliest covariances, (3, n_ring, n_ring), from the stars that tell most of their rings."""
    root, pairs, rings = np.sqrt(weight), problem.pairs, RingPairs.of(problem, state, view, hyper)
    factors, light = np.zeros((N_ORDER, shares.size, shares.size)), light_in_rings(problem, state, view)[0]
    total = np.bincount(pairs.pixel, weights=light, minlength=pairs.n_pixel)
    main = np.flatnonzero((light > _SHARE * total[pairs.pixel]) & (weight[pairs.pixel] > 0.0))
    told = np.zeros((problem.n_source, shares.size))
    np.add.at(told, (pairs.source[main], rings.ring[main]), (root[pairs.pixel[main]] * rings.light[main]) ** 2)
    best = np.argsort(-told.sum(axis=1), kind="stable")[:MAX_EXAMPLES]
    # Neighbours follow each other.
    best, use = best[np.argsort(posterior.own_factor.tree.rank[best])], those_that_show(told[best])
    if use.size == 0:
        return factors
    n_part = use.size * ORDERS.size
    template = csr_matrix(_templates(problem, rings, main, stars=best, use=use) @ diags(root))
    score = template @ (root * np.where(weight > 0, problem.flux - view.image, 0.0))
    shown = np.unique(template.indices)
    common = template[:, shown] @ (root[shown, None] * global_columns(problem, state, view, shown))
    seen = csr_matrix(template @ csr_matrix(diags(root) @ star_columns(problem, state, view)))
    each = (template[start : start + n_part] for start in range(0, template.shape[0], n_part))
    norm = np.stack([(one @ one.T).toarray() for one in each])
    left = norm - _absorbed(seen, common, posterior, n_part)
    factors[:, use[:, None], use] = fit_ring_errors(score.reshape(-1, n_part), left, norm, shares[use])
    return factors


def _templates(
    problem: JointProblem, rings: RingPairs, pairs: IntArray, *, stars: IntArray, use: IntArray
) -> csr_matrix:
    """Return the light of some pairs of some stars in the rings in use, times each harmonic, (n_part n_star, n_pixel).

    The harmonics of a ring follow each other, and its rings those of a star.
    """
    star, place = np.full(problem.n_source, -1), np.full(STAR_RINGS.size + 1, -1)
    star[stars], place[use] = np.arange(stars.size), np.arange(use.size)
    at = np.stack([star[problem.pairs.source[pairs]], place[rings.ring[pairs]]])
    pairs, at = pairs[at.min(axis=0) >= 0], at[:, at.min(axis=0) >= 0]
    row = ((at[0] * use.size + at[1]) * ORDERS.size)[:, None] + np.arange(ORDERS.size)
    light = np.stack([rings.part(part, pairs) for part in range(ORDERS.size)], axis=1)
    column = np.broadcast_to(problem.pairs.pixel[pairs][:, None], row.shape)
    shape = (stars.size * use.size * ORDERS.size, problem.pairs.n_pixel)
    return csr_matrix((light.ravel(), (row.ravel(), column.ravel())), shape=shape)


def _ring_variances(
    problem: JointProblem,
    state: JointState,
    view: View,
    first: csr_matrix,
    *,
    weight: FloatArray,
    own: FloatArray,
    factors: FloatArray,
    hyper: JointHyper,
) -> FloatArray:
    """Return the variance of the fluxes by `ring_response` and `wing_errors` to their own answer, (n_source,)."""
    from bayesprf.linalg.compiled.rings import RingLight, RowsOfStars, StarColumns, ring_variances

    pairs, order = problem.pairs, problem.layout.order
    by_star = np.argsort(pairs.source[order.near], kind="stable")
    near, parts = order.near[by_star], star_parts(problem, state, view)[by_star]
    indptr = pointers(np.bincount(pairs.source[near], minlength=problem.n_source))
    columns = StarColumns(indptr, pairs.pixel[near], parts)
    rings, (error, wing) = RingPairs.of(problem, state, view, hyper), wing_misfit(problem, state, view, hyper)
    by_pixel = RingLight(
        order.indptr, pairs.source[order.pair], rings.ring[order.pair], rings.light[order.pair],
        rings.direction[order.pair], wing[order.pair], error[order.pair],
    )  # fmt: skip
    first.sort_indices()
    rows = RowsOfStars(first.indptr.astype(np.int64), first.indices.astype(np.int64), first.data)
    balance = np.zeros((*own.shape, ORDERS.size))
    for part in told_parts(factors):
        balance[:, :, part] = _balance(problem, rings, part, hyper, own=own, used=weight > 0)
    variance = np.empty(problem.n_source)
    ring_variances(rows, columns, weight, by_pixel, len(WING_RINGS), balance, factors, _LEAST, variance)
    return variance


def told_parts(factors: FloatArray) -> list[int]:
    """Return the harmonics of which errors were learned, and always rings as a whole."""
    return [0, *(part for part in range(1, ORDERS.size) if factors[ORDERS[part]].any())]


def _balance(
    problem: JointProblem, rings: RingPairs, part: int, hyper: JointHyper, *, own: FloatArray, used: BoolArray
) -> FloatArray:
    """Return what an error of a harmonic adds to the light of a star, (n_source, n_ring), electron / s."""
    if part == 0:
        return error_sizes(problem, hyper)[:, None] * own
    pairs = problem.pairs
    seen = np.where(used[pairs.pixel], rings.part(part), 0.0)
    return np.bincount(pairs.source * own.shape[1] + rings.ring, weights=seen, minlength=own.size).reshape(own.shape)


def ring_response(
    answer: csr_matrix,
    problem: JointProblem,
    state: JointState,
    view: View,
    hyper: JointHyper,
    *,
    used: BoolArray,
    own: FloatArray,
    factors: FloatArray,
) -> csr_matrix:
    """Return how fluxes answer to errors of the stars' rings, in standard deviations, shape (n_source, n_error).

    Parameters
    ----------
    answer : csr_matrix of float64, shape (n_source, n_pixel)
        Answer of the fluxes to the pixels.
    problem, state, view, hyper
        Of the fit.
    used : ndarray of bool, shape (n_pixel,)
        Pixels that count.
    own : ndarray of float64, shape (n_source, n_ring)
        Light of each star in its rings, in all pixels, electron / s.
    factors : ndarray of float64, shape (3, n_ring, n_ring)
        Errors of rings as a whole, of dipoles and of ellipses.

    Notes
    -----
    A PRF that is brighter in a ring is darker in all, as its sum stays one: the answer is less by the light of the
    star's own ring. Of a dipole or an ellipse, which are zero around a ring, it is less by what they add to the light
    that is seen, where pixels are few or only a part of the ring has some.
    """
    pairs, n_ring, n_source = problem.pairs, own.shape[1], problem.n_source
    rings, answers = RingPairs.of(problem, state, view, hyper), []
    for part in told_parts(factors):
        entries = rings.part(part), (pairs.source * n_ring + rings.ring, pairs.pixel)
        light = csr_matrix(entries, shape=(own.size, pairs.n_pixel))
        balance = _balance(problem, rings, part, hyper, own=own, used=used).ravel()
        pointer = n_ring * np.arange(n_source + 1)
        balanced = csr_matrix((balance, np.arange(own.size), pointer), shape=(n_source, own.size))
        answers.append((answer @ light.T - balanced) @ kron(identity(n_source), factors[ORDERS[part]]))
    return csr_matrix(hstack(answers))


def wing_errors(
    gain: csr_matrix, problem: JointProblem, state: JointState, view: View, hyper: JointHyper
) -> csr_matrix:
    """Return how fluxes answer to errors of other stars' wings, in standard deviations, (n_source, n_ring n_source).

    Parameters
    ----------
    gain : csr_matrix of float64, shape (n_source, n_pixel)
        Answer of the fluxes to the pixels.
    problem, state, view, hyper
        Of the fit.

    Notes
    -----
    A wing differs from one direction to another, smoothly: under another star it errs as one. What it does to the
    star itself is that of its rings.
    """
    pairs, each = problem.pairs, np.arange(problem.n_source)
    error, ring = wing_misfit(problem, state, view, hyper)
    answers = []
    for k in range(len(WING_RINGS)):
        entries = np.where(ring == k + 1, error, 0.0), (pairs.pixel, pairs.source)
        answer = gain @ csr_matrix(entries, (pairs.n_pixel, problem.n_source))
        answers.append(csr_matrix((answer.diagonal(), (each, each)), answer.shape) - answer)
    return csr_matrix(hstack(answers))


def wing_misfit(problem: JointProblem, state: JointState, view: View, hyper: JointHyper) -> tuple[FloatArray, IntArray]:
    """Return by how much the light of each pair errs in the star's wing, electron / s, and in which of `WING_RINGS`.

    Both have the shape (n_pair,), and are 0 nearer to the star. Residuals of single pixels show these errors, of the
    model as a whole and of each ring. Where they exceed any light that a wing may have, from none to twice as much, it
    is not the wing that errs.
    """
    light, ring = light_in_rings(problem, state, view)
    model = hyper.star_errors(field_growth(problem)) ** 2 * peaks(problem, state)
    variance = model[problem.pairs.source] * light + (np.array([0.0, *hyper.wings])[ring] * light) ** 2
    return np.where(ring > 0, np.sqrt(np.minimum(variance, light**2 / ANY_LIGHT)), 0.0), ring


def missed_light(problem: JointProblem, state: JointState, view: View, *, weight: FloatArray) -> tuple[float, float]:
    """Learn from rings of all stars together how much light the mean profile misses.

    Parameters
    ----------
    problem, state, view
        Of the fit.
    weight : ndarray of float64, shape (n_pixel,)
        Weights of the pixels.

    Returns
    -------
    share : float
        Light of a star that the PRF's columns cannot follow, as a share of that which they do; negative where they hold
        more than there is.
    std : float
        Its standard deviation.

    Notes
    -----
    Residuals are fitted by amplitudes a, of variance v, one for the light of all stars in each of n rings: a wing of
    another law leaves some. With the shares q of the light in the rings, P + sum a P_ring has the sum 1 + q'a. Of each
    amplitude the part (1 - 2 ln n v / a**2) counts, the garrote (Breiman 1995, Technometrics 37, 373) with the
    threshold below which n numbers of pure noise stay (Donoho & Johnstone 1994, Biometrika 81, 425); the rest is an
    error, as far as it exceeds noise.
    """
    pairs, n_ring = problem.pairs, _PROFILE.size + 1
    ring = np.searchsorted(_PROFILE, np.hypot(*view.offset.T) / np.sqrt(problem.pixel_area))
    light = state.flux[pairs.source] * view.values
    size = pairs.n_pixel * n_ring
    rows = np.bincount(pairs.pixel * n_ring + ring, weights=light, minlength=size).reshape(-1, n_ring)
    normal = rows.T @ (weight[:, None] * rows)
    # No ring errs by more than all of its light.
    normal[np.diag_indices(n_ring)] += 1.0
    covariance = np.linalg.inv(normal)
    amplitude = covariance @ (rows.T @ (weight * np.where(weight > 0, problem.flux - view.image, 0.0)))
    noise = np.diag(covariance)
    square = np.maximum(amplitude**2, 1e-300)
    kept = np.maximum(1.0 - 2.0 * np.log(n_ring) * noise / square, 0.0)
    shares = ring_shares(problem, state, _PROFILE)
    variance = kept * noise + (1.0 - kept) * np.maximum(square - noise, 0.0)
    return float(shares @ (kept * amplitude)), float(np.sqrt(np.sum(shares**2 * variance)))


def _absorbed(seen: csr_matrix, common: FloatArray, posterior: Posterior, n_part: int) -> FloatArray:
    """Return T'W H T, how much of errors of the form of each star's templates the fit takes, from T'W J and T'W G."""
    by_field = np.asarray((common - seen @ posterior.response) @ posterior.global_factor)
    by_field = by_field.reshape(-1, n_part, by_field.shape[1])
    by_stars = np.zeros((by_field.shape[0], n_part, n_part))
    for start in range(0, by_stars.shape[0], _N_TOGETHER):
        rows = slice(n_part * start, n_part * (start + _N_TOGETHER))
        half = posterior.own_factor.halve(seen[rows].T.toarray()).T.reshape(-1, n_part, seen.shape[1])
        by_stars[start : start + _N_TOGETHER] = half @ half.transpose(0, 2, 1)
    return by_stars + by_field @ by_field.transpose(0, 2, 1)
