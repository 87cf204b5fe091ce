"""The likeliest covariances of errors of the stars' rings, harmonic by harmonic, from the scores of many stars."""

from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.linalg import null_space

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.singular import semidefinite_factor

ORDERS = np.array([0, 1, 1, 2, 2])
"""Format: orders of the harmonics of the angle, 1, cosine and sine, and those of its double, in which a ring errs."""
N_ORDER = 3
"""Format: rings as a whole, dipoles and ellipses."""
# Definition: a residual tells of an error of which most is left.
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
MAX_EXAMPLES = 200
"""Cost: examples from which a spread is learned, at most: it is known to 5 %. A star has two dipoles, two ellipses."""
# Accuracy: turns of the likeliest covariance, and the relative change in one at which it has settled.
_N_EM, _EM_TOLERANCE = 200, 1e-5
# Accuracy: rounds over the orders, each beside what the round before found of the others.
_N_ROUND = 2


def those_that_show(told: FloatArray) -> IntArray:
    """Return the errors of which five stars would show the largest that is looked for.

    Parameters
    ----------
    told : ndarray of float64, shape (n_star, n_error)
        What is told of a relative error, one over its variance.
    """
    return np.flatnonzero(np.count_nonzero(told * _MAX_SIGMA**2 > 1.0, axis=0) >= _MIN_STARS)


def fit_ring_errors(score: FloatArray, left: FloatArray, norm: FloatArray, shares: FloatArray) -> FloatArray:
    """Return L of the likeliest covariances L L' of errors e, of which scores B e + noise of covariance B are seen.

    Parameters
    ----------
    score : ndarray of float64, shape (n_star, 5 n_ring)
        Scores of the harmonics of each ring, `ORDERS`.
    left : ndarray of float64, shape (n_star, 5 n_ring, 5 n_ring)
        B of each star.
    norm : ndarray of float64, shape (n_star, 5 n_ring, 5 n_ring)
        What B would be if the fit took nothing.
    shares : ndarray of float64, shape (n_ring,)
        Light in the rings: of errors e of rings as a whole shares'e is zero.

    Returns
    -------
    ndarray of float64, shape (3, n_ring, n_ring)
        L of each order; 0 in rings in which fewer than five stars would show the largest error that is looked for.

    Notes
    -----
    No direction is preferred: errors of different orders are independent, and the two harmonics of an order are so
    too, with the same covariance. Each order is learned beside the others, whose errors count as noise. Its
    covariance is that of the innermost rings, as many as are worth their parameters (`_told_part`), by expectation
    and maximisation (Laird & Ware 1982, Biometrics 38, 963), extrapolated, from errors that five stars would show;
    of dipoles and ellipses half as many stars tell as much, two examples each. Stars whose chi-square is beyond its
    95 % count as one that is just there (Huber 1981, Robust Statistics, chapter 8): those that lie on a misfit of a
    neighbour. Errors of which the fit takes more than it leaves, such as those that look like a shift, are its own to
    carry: what little is left of them looks like others of the same pixels.
    """
    factors = np.zeros((N_ORDER, shares.size, shares.size))
    # From ellipses, of which a fit takes least: what is told of them is not looked at as something else first.
    every = [*range(N_ORDER)][::-1]
    for _ in range(_N_ROUND):
        for order in every:
            part, others = _parts_of(order, shares.size), factors.copy()
            others[order] = 0.0
            seen, kept = _beside(others, score, left, part)
            factors[order] = _fit_order(seen, kept, norm[:, part[:, None], part], None if order else shares)
        # Those worth nothing beside fewer others are worth nothing beside more.
        every = [order for order in every if factors[order].any()]
        if len(every) < 2:
            break
    return factors


def _parts_of(order: int, n_ring: int) -> IntArray:
    """Return where the harmonics of an order stand among all."""
    return np.flatnonzero(np.tile(order == ORDERS, n_ring))


def _beside(factors: FloatArray, score: FloatArray, left: FloatArray, part: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return scores and B of some errors where others, with the covariances L L', are not known.

    Notes
    -----
    In the likelihood exp(t'e - e'Be / 2) of all errors the others are integrated over: of theirs, L x with x of
    variance one, t is less by B L (1 + L'BL)^-1 L't, and B by B L (1 + L'BL)^-1 L'B.
    """
    n_ring = factors.shape[1]
    wide = np.zeros((score.shape[1], score.shape[1]))
    for order in range(N_ORDER):
        at = _parts_of(order, n_ring)
        wide[np.ix_(at, at)] = np.kron(factors[order], np.eye(at.size // n_ring))
    wide = wide[:, wide.any(axis=0)]
    seen, kept = score[:, part], left[:, part[:, None], part]
    if wide.shape[1] == 0:
        return seen, kept
    across = left[:, part] @ wide
    right = np.concatenate([across.transpose(0, 2, 1), (score @ wide)[:, :, None]], axis=2)
    taken = across @ np.linalg.solve(np.eye(wide.shape[1]) + wide.T @ left @ wide, right)
    return seen - taken[:, :, -1], kept - taken[:, :, :-1]


def _fit_order(score: FloatArray, left: FloatArray, norm: FloatArray, shares: FloatArray | None) -> FloatArray:
    """Return L of the likeliest covariance of one order, (n_ring, n_ring); `shares` are given where they balance."""
    n_same = 1 if shares is not None else 2
    n_ring = score.shape[1] // n_same
    best = np.argsort(-np.trace(norm, axis1=1, axis2=2), kind="stable")[: MAX_EXAMPLES // n_same]
    score, left, norm = score[best], left[best], norm[best]
    use = those_that_show(np.diagonal(left, axis1=1, axis2=2).reshape(-1, n_ring, n_same).min(axis=2))
    factor, most = np.zeros((n_ring, n_ring)), 0.0
    # Of rings as a whole one alone does not err: what it gains others lose.
    for n_use in range(1 if shares is None else 2, use.size + 1):
        rings = use[:n_use]
        part = (n_same * rings[:, None] + np.arange(n_same)).ravel()
        free = np.eye(n_use) if shares is None else null_space(shares[None, rings])
        block = part[:, None], part
        covariance, worth = _fit_covariance(score[:, part], left[:, *block], norm[:, *block], free)
        if worth > most:
            cut = np.minimum(1.0, _MAX_SIGMA / np.sqrt(np.maximum(np.diag(covariance), 1e-300)))
            factor, most = np.zeros_like(factor), worth
            factor[np.ix_(rings, rings)] = semidefinite_factor(covariance * np.outer(cut, cut))
    return factor


def _fit_covariance(
    score: FloatArray, left: FloatArray, norm: FloatArray, free: FloatArray
) -> tuple[FloatArray, float]:
    """Return the covariance that scores tell of, and what it is worth beside none: see `_told_part`.

    The errors of the rings are `free` x; each has as many harmonics, one after the other, as there are scores.
    """
    from bayesprf.linalg.compiled.effects import expect_effects

    same = np.eye(score.shape[1] // free.shape[0])
    wide = np.kron(free, same)
    score, left, chi2, n_shown = _what_is_left(score @ wide, wide.T @ left @ wide, wide.T @ norm @ wide)
    usual = stats.chi2.ppf(_USUAL, np.maximum(n_shown, 1))
    shown, told = _shown_axes(left, len(same))
    free, wide = free @ shown, np.kron(shown, same)
    score, left, n_free = score @ wide, wide.T @ left @ wide, shown.shape[1]
    if n_free == 0:
        return np.zeros((free.shape[0], free.shape[0])), 0.0

    def expected(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
        factor, total, share = semidefinite_factor(covariance), np.empty((n_free, n_free)), np.empty(len(score))
        expect_effects(factor, left, score, chi2, usual, total, share)
        square = total + np.tril(total, -1).T
        return np.asarray(factor @ square @ factor.T / (len(score) * len(same))), share

    covariance = _converge(lambda now: expected(now)[0], np.diag(1.0 / told))
    covariance, worth = _told_part(covariance, score, left, expected(covariance)[1])
    return np.asarray(free @ covariance @ free.T), worth


def _shown_axes(left: FloatArray, n_same: int) -> tuple[FloatArray, FloatArray]:
    """Return the axes of errors that five stars would show, (n, n_axis), and what the fifth of them is told of each.

    Of others the likeliest covariance says nothing: it would have those that are shown come from large errors of
    these.
    """
    blocks = left.reshape(left.shape[0], -1, n_same, left.shape[1] // n_same, n_same)
    each = np.einsum("siaja->sij", blocks) / n_same
    axes = np.linalg.eigh(each.sum(axis=0))[1]
    told = np.einsum("ik,sij,jk->sk", axes, each, axes)
    use = those_that_show(told)
    return axes[:, use], np.sort(told[:, use], axis=0)[-min(_MIN_STARS, len(told))]


def _told_part(
    covariance: FloatArray, score: FloatArray, left: FloatArray, share: FloatArray
) -> tuple[FloatArray, float]:
    """Return the largest parts of a likeliest covariance, as many as are worth their parameters, and what they are.

    Parameters
    ----------
    covariance : ndarray of float64, shape (n, n)
        The likeliest.
    score, left : ndarray of float64, shapes (n_star, n_same n) and (n_star, n_same n, n_same n)
        Scores s and B of each star, of one or two errors with the covariance, one after the other.
    share : ndarray of float64, shape (n_star,)
        How much a star counts.

    Notes
    -----
    The likeliest covariance of pure noise is not zero, as variances cannot be less. Of its principal axes, in units of
    what a typical star shows, those are kept that make the log likelihood of the scores beside that of none,
    sum (s'(I + S B)^-1 S s - ln det(I + S B)) / 2, less the number of parameters, largest (Akaike 1974, IEEE Trans.
    Automatic Control 19, 716): a covariance of rank k among n errors has k (2 n - k + 1) / 2.
    """
    n, same = covariance.shape[0], np.eye(score.shape[1] // covariance.shape[0])
    typical = np.einsum("iaja->ij", left.mean(axis=0).reshape(n, len(same), n, len(same))) / len(same)
    half = np.linalg.cholesky(typical + _ROUNDING * max(float(np.trace(typical)), 1.0) * np.eye(n))
    size, axes = np.linalg.eigh(half.T @ covariance @ half)
    parts = np.linalg.solve(half.T, axes * np.sqrt(np.maximum(size, 0.0)))[:, ::-1]
    worth = [0.0]
    for k in range(1, n + 1):
        wide = np.kron(parts[:, :k], same)
        inner, seen = np.eye(wide.shape[1]) + wide.T @ left @ wide, score @ wide
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
