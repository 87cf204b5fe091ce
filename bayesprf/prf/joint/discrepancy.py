"""What the PRF's columns cannot follow: relative errors of each star's rings, learned from their spread over stars."""

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_matrix, diags

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.prf.joint.problem import JointProblem, JointState, View, global_columns, prf_of, star_columns
from bayesprf.prf.joint.step import Posterior

# Rings double in radius, pixel: the PRF changes by about as much in each.
_RINGS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
# Derived: a pixel tells of a star that gives more than this share of its light.
_SHARE = 0.5
# Largest relative error of a ring that is looked for.
_MAX_SIGMA = 0.3
# Stars from which a spread can be learned, at least.
_MIN_STARS = 5
# Cost: the brightest of them, at most so many, from which it is known to 5 %; templates solved together.
_MAX_STARS, _N_TOGETHER = 200, 256
# Rings of the mean profile, four per doubling of the radius, pixel, and the grid on which its light is added up.
_PROFILE = 2.0 ** np.arange(0.0, 5.1, 0.25)
# Accuracy: points of the integral of the light over a ring, along the radius and around.
_N_FINE, _N_ANGLE = 32, 24


def ring_errors(
    problem: JointProblem, state: JointState, view: View, posterior: Posterior, *, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Learn the relative error of a star's rings, and what it does to the fluxes.

    Parameters
    ----------
    problem, state, view, posterior
        Of the fit.
    weight : ndarray of float64, shape (n_pixel,)
        Weights of the pixels.

    Returns
    -------
    sigma : ndarray of float64, shape (n_ring,)
        Relative error of the light of a ring, the same for all stars.
    flux_std : ndarray of float64, shape (n_source,)
        Standard deviation of the fluxes from it, electron / s.

    Notes
    -----
    In ring k of star s the amplitude a = T'W r / T'W T of the star's own light T has the variance
    (1 - h) / T'W T + (1 - h)**2 sigma_k**2, with the leverage h of T: what the fit takes of such an error. sigma_k is
    the likeliest over all stars; a flux then errs by (F row of the stars' covariance) J'W T sigma_k.
    """
    n_ring, root = _RINGS.size + 1, np.sqrt(weight)
    columns = csr_matrix(diags(root) @ star_columns(problem, state, view))
    template = csr_matrix(ring_light(problem, state, view, share=_SHARE) @ diags(root))
    norm = np.asarray(template.multiply(template).sum(axis=1)).ravel()
    best = np.sort(np.argsort(-norm.reshape(-1, n_ring).sum(axis=1), kind="stable")[:_MAX_STARS])
    rows = (best[:, None] * n_ring + np.arange(n_ring)).ravel()
    template, norm = template[rows], norm[rows]
    residual = root * np.where(weight > 0, problem.flux - view.image, 0.0)
    good = norm > 1.0
    amplitude = np.divide(template @ residual, norm, out=np.zeros(norm.size), where=good)
    common = template @ (root[:, None] * global_columns(problem, state, view))
    absorbed = _absorbed(csr_matrix(template @ columns), common, posterior)
    leverage = np.divide(absorbed, norm, out=np.ones(norm.size), where=good)
    sigma = np.array(
        [_fit_sigma(amplitude[k::n_ring], norm[k::n_ring], leverage[k::n_ring], good[k::n_ring]) for k in range(n_ring)]
    )
    whole = csr_matrix(ring_light(problem, state, view) @ diags(root))
    by_flux = posterior.own_factor.first_rows()[np.repeat(np.arange(problem.n_source), n_ring)]
    response = np.asarray((whole @ columns).multiply(by_flux).sum(axis=1)).reshape(-1, n_ring)
    return sigma, np.sqrt(np.sum((response * sigma) ** 2, axis=1))


def profile_errors(problem: JointProblem, state: JointState, view: View, *, weight: FloatArray) -> FloatArray:
    """Learn from rings of all stars together by how much of a flux the mean profile errs.

    Parameters
    ----------
    problem, state, view
        Of the fit.
    weight : ndarray of float64, shape (n_pixel,)
        Weights of the pixels.

    Returns
    -------
    ndarray of float64, shape (n_ring + 1,)
        Relative error of all fluxes by each ring: they err together.

    Notes
    -----
    Residuals are fitted by amplitudes a, one per ring, of the light of all stars in it: a wing of another law leaves
    some, as the columns of the PRF cannot follow it. A ring that holds the share q of the light makes fluxes err by
    q a; that of noise, v, is subtracted: q**2 (a**2 - v).
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
    excess = np.maximum(amplitude**2 - np.diag(covariance), 0.0)
    return np.asarray(_ring_shares(problem, state) * np.sqrt(excess))


def _ring_shares(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the share of the light of a star in each ring of the mean profile, shape (n_ring + 1,)."""
    prf = prf_of(problem, state).normalized_at(np.zeros(2))
    bounds = np.concatenate([[0.0], _PROFILE, [2.0 * _PROFILE[-1]]])
    middle = (np.arange(_N_FINE) + 0.5) / _N_FINE
    r = (bounds[:-1, None] + np.diff(bounds)[:, None] * middle).ravel() * np.sqrt(problem.pixel_area)
    phi = 2.0 * np.pi / _N_ANGLE * np.arange(_N_ANGLE)
    values = prf.evaluate((r[:, None] * np.cos(phi)).ravel(), (r[:, None] * np.sin(phi)).ravel())
    width = np.repeat(np.diff(bounds), _N_FINE) / _N_FINE / np.sqrt(problem.pixel_area)
    light = values.reshape(r.size, -1).mean(axis=1) * 2.0 * np.pi * r * width
    return np.asarray(light.reshape(-1, _N_FINE).sum(axis=1))


def ring_light(problem: JointProblem, state: JointState, view: View, *, share: float = 0.0) -> csr_matrix:
    """Return the light of each star's rings in pixels where it is more than a share, (n_ring n_source, n_pixel)."""
    pairs, n_ring = problem.pairs, _RINGS.size + 1
    light = np.maximum(state.flux, 0.0)[pairs.source] * view.values
    ring = np.searchsorted(_RINGS, np.hypot(*view.offset.T) / np.sqrt(problem.pixel_area))
    total = np.bincount(pairs.pixel, weights=light, minlength=pairs.n_pixel)
    own = np.where(light > share * total[pairs.pixel], light, 0.0)
    shape = (problem.n_source * n_ring, pairs.n_pixel)
    return csr_matrix((own, (pairs.source * n_ring + ring, pairs.pixel)), shape=shape)


def _absorbed(seen: csr_matrix, common: FloatArray, posterior: Posterior) -> FloatArray:
    """Return T'W H T, how much of an error of the form of each template the fit takes, from T'W J and T'W G."""
    by_field = np.asarray((common - seen @ posterior.response) @ posterior.global_factor)
    by_stars = np.zeros(seen.shape[0])
    for start in range(0, seen.shape[0], _N_TOGETHER):
        part = slice(start, start + _N_TOGETHER)
        half = posterior.own_factor.halve(seen[part].T.toarray())
        by_stars[part] = np.einsum("st,st->t", half, half)
    return by_stars + np.einsum("tg,tg->t", by_field, by_field)


def _fit_sigma(amplitude: FloatArray, norm: FloatArray, leverage: FloatArray, good: BoolArray) -> float:
    """Return the likeliest relative error of a ring; 0 where noise explains all."""
    left = 1.0 - leverage
    use = good & (left > 0.02)
    if np.count_nonzero(use) < _MIN_STARS:
        return 0.0
    a2, left, noise = amplitude[use] ** 2, left[use], 1.0 / norm[use]

    def score(sigma: float) -> float:
        variance = left * noise + (left * sigma) ** 2
        return float(np.sum(left**2 / variance * (a2 / variance - 1.0)))

    if score(0.0) <= 0.0:
        return 0.0
    return _MAX_SIGMA if score(_MAX_SIGMA) > 0.0 else float(brentq(score, 0.0, _MAX_SIGMA, xtol=1e-7))
