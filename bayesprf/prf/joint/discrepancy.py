"""What the PRF's columns cannot follow: relative errors of each star's rings, learned from their spread over stars."""

from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.linalg import null_space
from scipy.sparse import csr_matrix, diags, hstack, identity, kron

from bayesprf.arrays import BoolArray, FloatArray, IntArray, pointers
from bayesprf.linalg.singular import semidefinite_factor
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
from bayesprf.prf.joint.step import Posterior
from bayesprf.prf.joint.sums import STAR_RINGS, StarSums, ring_shares

# Definition: a pixel tells of a star that gives most of its light, and a residual of an error of which most is left.
_SHARE = 0.5
# Format: the usual level of a test; share of stars whose chi-square is taken as it is (Huber 1981).
_USUAL = 0.95
# Rounding: share of all that is told of a star, added to rings in which it has no pixel.
_ROUNDING = 1e-12
# Derived: largest relative error of a ring that is looked for: a PRF three of them below has lost nine tenths of its
# light, and none is negative.
_MAX_SIGMA = 0.3
# Derived: stars from which a spread can be learned, at least: it is known to a third (1 / sqrt(2 n)).
_MIN_STARS = 5
# Cost: the brightest of them, at most so many, from which it is known to 5 %; stars solved together.
_MAX_STARS, _N_TOGETHER = 200, 40
# Accuracy: turns of the likeliest covariance, and the relative change in one at which it has settled.
_N_EM, _EM_TOLERANCE = 200, 1e-5
# Accuracy: pixels whose noise is a smaller share of the error of a flux do not carry other stars' errors to it.
_LEAST = 1e-4
# Rings of the mean profile, four per doubling of the radius, pixel.
_PROFILE = 2.0 ** np.arange(0.0, 5.1, 0.25)


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
    factors : ndarray of float64, shape (2, n_ring, n_ring)
        L with the covariances L L' of the relative errors of a star's light in its rings, the same for all stars: of
        what a ring errs by as a whole, and of what its northern half has more and its southern half less.
    flux_std : ndarray of float64, shape (n_source,)
        Standard deviation of the fluxes from it, and from other stars' wings, electron / s.

    Notes
    -----
    With the light T of a star in its half rings, the scores t = T'W r of the residuals have the covariance B + B S B,
    where B = T'W (1 - H) T is what the fit leaves of such errors, and S their covariance: the likeliest over all stars.
    """
    root, n_part = np.sqrt(weight), 2 * (STAR_RINGS.size + 1)
    columns = csr_matrix(diags(root) @ star_columns(problem, state, view))
    template = csr_matrix(half_rings(problem, state, view, share=_SHARE) @ diags(root))
    norm = np.asarray(template.multiply(template).sum(axis=1)).reshape(-1, n_part)
    best = np.argsort(-norm.sum(axis=1), kind="stable")[:_MAX_STARS]
    # Neighbours follow each other.
    best = best[np.argsort(posterior.own_factor.tree.rank[best])]
    template = template[(best[:, None] * n_part + np.arange(n_part)).ravel()]
    score = (template @ (root * np.where(weight > 0, problem.flux - view.image, 0.0))).reshape(-1, n_part)
    shown = np.unique(template.indices)
    common = template[:, shown] @ (root[shown, None] * global_columns(problem, state, view, shown))
    taken = _absorbed(csr_matrix(template @ columns), common, posterior, n_part)
    left = norm[best][:, :, None] * np.eye(n_part) - taken
    shares = np.repeat(0.5 * sums.rings.mean(axis=0), 2)
    factors = _whole_and_halves(fit_ring_errors(score, left, norm[best], shares))
    own = state.flux[:, None] * sums.rings
    first = posterior.own_factor.rows(0)[0] if posterior.flux_rows is None else posterior.flux_rows
    variance = _ring_variances(problem, state, view, first, weight=weight, own=own, factors=factors, hyper=hyper)
    return factors, sums.total * np.sqrt(variance)


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
    (light, part), (error, wing) = _parts_of_pairs(problem, state, view), wing_misfit(problem, state, view, hyper)
    counted = np.where(weight[pairs.pixel] > 0, light, 0.0)
    seen = np.bincount(pairs.source * 2 * own.shape[1] + part, weights=counted, minlength=2 * own.size)
    by_pixel = RingLight(
        order.indptr, pairs.source[order.pair], part[order.pair], light[order.pair], wing[order.pair], error[order.pair]
    )  # fmt: skip
    first.sort_indices()
    rows = RowsOfStars(first.indptr.astype(np.int64), first.indices.astype(np.int64), first.data)
    variance = np.empty(problem.n_source)
    ring_variances(
        rows, columns, weight, by_pixel, len(WING_RINGS), own, seen.reshape(own.shape[0], -1), factors, _LEAST, variance
    )
    return variance


def ring_response(
    gain: csr_matrix, light: csr_matrix, used: BoolArray, rings: FloatArray, factors: FloatArray
) -> csr_matrix:
    """Return how fluxes answer to errors of the stars' rings, in standard deviations, shape (n_source, n_error).

    Parameters
    ----------
    gain : csr_matrix of float64, shape (n_source, n_part n_source)
        Answer to the light of each half ring.
    light : csr_matrix of float64, shape (n_part n_source, n_pixel)
        This light, electron / s.
    used : ndarray of bool, shape (n_pixel,)
        Pixels that count.
    rings : ndarray of float64, shape (n_source, n_ring)
        Light of each star in its rings, in all pixels, electron / s.
    factors : ndarray of float64, shape (2, n_ring, n_ring)
        Errors of rings as a whole and of their halves.

    Notes
    -----
    A PRF that is brighter in a ring is darker in all, as its sum stays one: the answer is less by the light of the
    star's own ring, and by what the two halves do not balance of the light that is seen.
    """
    n_source, n_ring = rings.shape
    each = np.arange(rings.size)
    own = csr_matrix((rings.ravel(), each, n_ring * np.arange(n_source + 1)), shape=(n_source, rings.size))
    seen = np.asarray(light @ used.astype(np.float64)).ravel()
    halves = csr_matrix((seen, np.arange(seen.size), 2 * n_ring * np.arange(n_source + 1)), shape=(n_source, seen.size))
    whole = (gain @ kron(identity(rings.size), np.ones((2, 1))) - own) @ kron(identity(n_source), factors[0])
    apart = (gain - halves) @ kron(identity(rings.size), [[-1.0], [1.0]]) @ kron(identity(n_source), factors[1])
    return csr_matrix(hstack([whole, apart]))


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


def _whole_and_halves(factor: FloatArray) -> FloatArray:
    """Return L of what two halves have in common, and of what one has more and the other less, (2, n_ring, n_ring)."""
    n_ring = factor.shape[0] // 2
    both, apart = (
        0.5 * (factor.reshape(n_ring, 2, -1) * sign).sum(axis=1) for sign in ([[1.0], [1.0]], [[-1.0], [1.0]])
    )
    return semidefinite_factor(np.stack([both @ both.T, apart @ apart.T]))


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


def half_rings(problem: JointProblem, state: JointState, view: View, *, share: float = 0.0) -> csr_matrix:
    """Return the light of each star's half rings in pixels where it is more than a share, (n_part n_source, n_pixel).

    The southern and the northern half of a ring follow each other.
    """
    pairs, n_part = problem.pairs, 2 * (STAR_RINGS.size + 1)
    light, part = _parts_of_pairs(problem, state, view)
    if share > 0.0:
        total = np.bincount(pairs.pixel, weights=light, minlength=pairs.n_pixel)
        main = np.flatnonzero(light > share * total[pairs.pixel])
    else:
        main = np.arange(pairs.n_pair)
    shape = (problem.n_source * n_part, pairs.n_pixel)
    return csr_matrix((light[main], (pairs.source[main] * n_part + part[main], pairs.pixel[main])), shape=shape)


def _parts_of_pairs(problem: JointProblem, state: JointState, view: View) -> tuple[FloatArray, IntArray]:
    """Return light and half ring of each pair, shape (n_pair,)."""
    light = light_in_rings(problem, state, view)[0]
    ring = np.searchsorted(STAR_RINGS, np.hypot(*view.offset.T) / np.sqrt(problem.pixel_area))
    return light, 2 * ring + (view.offset[:, 1] > 0.0)


def _absorbed(seen: csr_matrix, common: FloatArray, posterior: Posterior, n_ring: int) -> FloatArray:
    """Return T'W H T, how much of errors of the form of each star's templates the fit takes, from T'W J and T'W G."""
    by_field = np.asarray((common - seen @ posterior.response) @ posterior.global_factor)
    by_field = by_field.reshape(-1, n_ring, by_field.shape[1])
    by_stars = np.zeros((by_field.shape[0], n_ring, n_ring))
    for start in range(0, by_stars.shape[0], _N_TOGETHER):
        rows = slice(n_ring * start, n_ring * (start + _N_TOGETHER))
        half = posterior.own_factor.halve(seen[rows].T.toarray()).T.reshape(-1, n_ring, seen.shape[1])
        by_stars[start : start + _N_TOGETHER] = half @ half.transpose(0, 2, 1)
    return by_stars + by_field @ by_field.transpose(0, 2, 1)


def fit_ring_errors(score: FloatArray, left: FloatArray, norm: FloatArray, shares: FloatArray) -> FloatArray:
    """Return L of the likeliest covariance L L' of errors e, of which scores B e + noise of covariance B are seen.

    Parameters
    ----------
    score : ndarray of float64, shape (n_star, n_ring)
        Scores.
    left : ndarray of float64, shape (n_star, n_ring, n_ring)
        B of each star.
    norm : ndarray of float64, shape (n_star, n_ring)
        Diagonal of what B would be if the fit took nothing.
    shares : ndarray of float64, shape (n_ring,)
        Light in the rings: shares'e is zero.

    Returns
    -------
    ndarray of float64, shape (n_ring, n_ring)
        L; 0 in rings in which fewer than five stars would show the largest error that is looked for.

    Notes
    -----
    The covariance is that of the innermost rings, as many as are worth their parameters (`_told_part`), by expectation
    and maximisation (Laird & Ware 1982, Biometrics 38, 963), extrapolated, from errors that five stars would show;
    stars whose chi-square is beyond its 95 % count as one that is just there (Huber 1981, Robust Statistics, chapter
    8): those that lie on a misfit of a neighbour. Errors of which the fit takes more than it
    leaves, such as those that look like a shift, are its own to carry: what little is left of them looks like others
    of the same pixels.
    """
    told = np.diagonal(left, axis1=1, axis2=2)
    enough = np.count_nonzero(told * _MAX_SIGMA**2 > 1.0, axis=0) >= _MIN_STARS
    use = np.flatnonzero(np.repeat(enough.reshape(-1, 2).all(axis=1), 2))
    factor, most = np.zeros((score.shape[1], score.shape[1])), 0.0
    for n_use in range(2, use.size + 1, 2):
        part = use[:n_use]
        parts = score[:, part], left[:, part[:, None], part], norm[:, part]
        covariance, worth = _fit_covariance(*parts, shares[part])
        if worth > most:
            cut = np.minimum(1.0, _MAX_SIGMA / np.sqrt(np.maximum(np.diag(covariance), 1e-300)))
            factor, most = np.zeros_like(factor), worth
            factor[np.ix_(part, part)] = semidefinite_factor(covariance * np.outer(cut, cut))
    return factor


def _fit_covariance(
    score: FloatArray, left: FloatArray, norm: FloatArray, shares: FloatArray
) -> tuple[FloatArray, float]:
    """Return the covariance that scores tell of, and what it is worth beside none: see `_told_part`."""
    free = null_space(shares[None])
    least = np.sort(np.diagonal(left, axis1=1, axis2=2), axis=0)[-_MIN_STARS]
    score, left = score @ free, free.T @ left @ free
    score, left, chi2, n_shown = _what_is_left(score, left, free.T @ (norm[:, :, None] * free))
    usual = stats.chi2.ppf(_USUAL, np.maximum(n_shown, 1))

    def explained(covariance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        spread = np.linalg.solve(np.eye(free.shape[1]) + covariance @ left, np.broadcast_to(covariance, left.shape))
        mean = np.einsum("sij,sj->si", spread, score)
        share = np.minimum(1.0, usual / np.maximum(chi2 - np.einsum("si,si->s", mean, score), 1e-300))
        return spread, mean, share

    def improved(covariance: FloatArray) -> FloatArray:
        spread, mean, share = explained(covariance)
        return np.asarray(((mean * share[:, None]).T @ mean + spread.sum(axis=0)) / score.shape[0])

    covariance = _converge(improved, free.T @ np.diag(1.0 / least) @ free)
    covariance, worth = _told_part(covariance, score, left, explained(covariance)[2])
    return np.asarray(free @ covariance @ free.T), worth


def _told_part(
    covariance: FloatArray, score: FloatArray, left: FloatArray, share: FloatArray
) -> tuple[FloatArray, float]:
    """Return the largest parts of a likeliest covariance, as many as are worth their parameters, and what they are.

    Parameters
    ----------
    covariance : ndarray of float64, shape (n, n)
        The likeliest.
    score, left : ndarray of float64, shapes (n_star, n) and (n_star, n, n)
        Scores s and B of each star.
    share : ndarray of float64, shape (n_star,)
        How much a star counts.

    Notes
    -----
    The likeliest covariance of pure noise is not zero, as variances cannot be less. Of its principal axes, in units of
    what a typical star shows, those are kept that make the log likelihood of the scores beside that of none,
    sum (s'(I + S B)^-1 S s - ln det(I + S B)) / 2, less the number of parameters, largest (Akaike 1974, IEEE Trans.
    Automatic Control 19, 716): a covariance of rank k among n errors has k (2 n - k + 1) / 2.
    """
    n, typical = covariance.shape[0], left.mean(axis=0)
    half = np.linalg.cholesky(typical + _ROUNDING * max(float(np.trace(typical)), 1.0) * np.eye(n))
    size, axes = np.linalg.eigh(half.T @ covariance @ half)
    parts = np.linalg.solve(half.T, axes * np.sqrt(np.maximum(size, 0.0)))[:, ::-1]
    worth = [0.0]
    for k in range(1, n + 1):
        inner, seen = np.eye(k) + parts[:, :k].T @ left @ parts[:, :k], score @ parts[:, :k]
        told = np.einsum("si,si->s", seen, np.linalg.solve(inner, seen[:, :, None])[:, :, 0])
        gain = 0.5 * float(np.sum(share * told - np.linalg.slogdet(inner)[1]))
        worth.append(gain - 0.5 * k * (2 * n - k + 1))
    kept = parts[:, : int(np.argmax(worth))]
    return np.asarray(kept @ kept.T), max(worth)


def _converge(improved: Callable[[FloatArray], FloatArray], covariance: FloatArray) -> FloatArray:
    """Return the covariance that an improvement leaves as it is.

    Notes
    -----
    Squared extrapolation of two improvements (Varadhan & Roland 2008, Scandinavian Journal of Statistics 35, 335), as
    far as a covariance stays one: single ones crawl where the likeliest variances are zero.
    """
    for _ in range(_N_EM):
        one = improved(covariance)
        two = improved(one)
        first, bend = one - covariance, two - 2.0 * one + covariance
        if np.abs(first).max() < _EM_TOLERANCE * np.abs(covariance).max():
            return two
        length = float(np.linalg.norm(first) / max(np.linalg.norm(bend), 1e-300))
        while length > 1.0:
            far = covariance + 2.0 * length * first + length**2 * bend
            if np.linalg.eigvalsh(0.5 * (far + far.T))[0] > 0.0:
                two = far
                break
            length = 0.5 * (length + 1.0) if length > 1.1 else 1.0
        covariance = improved(two)
    return covariance


def _what_is_left(
    score: FloatArray, left: FloatArray, norm: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    """Return scores and B without what is not shown, or of which more is taken than left; chi-squares, and numbers."""
    all_told = np.maximum(np.trace(norm, axis1=1, axis2=2), 1.0)
    half = np.linalg.cholesky(norm + _ROUNDING * all_told[:, None, None] * np.eye(norm.shape[1]))
    inner = np.linalg.solve(half, np.linalg.solve(half, left).transpose(0, 2, 1))
    share, axes = np.linalg.eigh(0.5 * (inner + inner.transpose(0, 2, 1)))
    size = np.sum(np.linalg.solve(half.transpose(0, 2, 1), axes) ** 2, axis=1)
    shown = (share > _SHARE) & (share * _MAX_SIGMA**2 > size)
    seen = shown * np.einsum("sji,sj->si", axes, np.linalg.solve(half, score[:, :, None])[:, :, 0])
    axes = half @ axes
    kept = (axes * (shown * share)[:, None, :]) @ axes.transpose(0, 2, 1)
    chi2 = np.sum(seen**2 / np.where(shown, share, 1.0), axis=1)
    return np.einsum("sij,sj->si", axes, seen), kept, chi2, shown.sum(axis=1)
