"""Systematic errors of fluxes from the covariance of the joint fit: PRF, wing, shear, offset and positions together."""

from dataclasses import replace

import numpy as np
from scipy.sparse import block_diag, csr_matrix, diags, hstack, vstack

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.singular import semidefinite_factor
from bayesprf.prf.joint.discrepancy import ring_response, wing_errors
from bayesprf.prf.joint.objective import JointFit
from bayesprf.prf.joint.problem import View, answer_to_globals, look, star_columns
from bayesprf.scene.prf import LN10, PrfModel, prf_gradients, round_offsets, turned, wing_columns

# Cost: stars whose positions have one covariance, which takes a second; those of more err star by star.
_MAX_TOGETHER = 1000


def joint_factors(
    fit: JointFit, gain: csr_matrix, flux: FloatArray, position: FloatArray | None
) -> dict[str, csr_matrix]:
    """Respond, with the fluxes of another fit to the same pixels, to what the joint fit leaves open.

    Parameters
    ----------
    fit : JointFit
        The fit of the PRF.
    gain : csr_matrix of float64, shape (n_source, n_pixel)
        K = Lambda^-1 X'C^-1 of the fluxes.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s.
    position : ndarray of float64, shape (n_source,), optional
        Error of each position per axis, arcsec; by default what the fit left of them.

    Returns
    -------
    dict of str to csr_matrix
        By cause, (n_source, n_nuisance): shape, profile, unseen, position, rings, others; masked where
        pixels are left out and no PRF is known beforehand; uncatalogued beside a sky, or where stars were found, and
        hidden where others like them would not be. The outer products add up to the
        covariance.

    Notes
    -----
    The image errs by (G - L a - D X_d) dg + D dd with the columns G of what all stars share, the light L of each star
    and the gradient a of its logarithm, summed over all pixels, the columns D of the positions, which follow by
    -X_d dg, and their own errors dd; the fluxes answer by -K. Errors of rings and wings move the positions too.
    Background columns are left out: the flux fit has its own. The light that no pixel sees is an error that all
    fluxes share.
    """
    problem = fit.problem
    state = replace(fit.state, flux=np.nan_to_num(flux) / fit.sums.total)
    view = look(problem, state)
    light = csr_matrix(
        (view.values * state.flux[problem.pairs.source], (problem.pairs.pixel, problem.pairs.source)),
        shape=(problem.pairs.n_pixel, problem.n_source),
    )
    start = problem.n_weight + problem.n_wing + 4 * problem.n_geometry
    shared = answer_to_globals(problem, state, view, gain) - (gain @ light) @ fit.sums.gradient
    # Far light is known as a sum over stars: it follows their mean area.
    mean = np.average(fit.sums.gradient, axis=0, weights=np.maximum(fit.flux, 1e-300))
    shared -= np.outer(gain @ view.far[:, 0], mean)
    shared[:, start:] = 0.0
    factors, answer = {}, gain
    if problem.free:
        index = _shift_index(problem.n_source)
        moved = csr_matrix(gain @ star_columns(problem, state, view)[:, index])
        shared = shared - moved @ fit.posterior.response[index]
        factors["position"] = csr_matrix(-(moved @ _position_factor(fit)))
        answer = csr_matrix(gain - moved @ _position_gain(fit, view))
    if position is not None:
        places = star_columns(replace(problem, free=True), state, view)[:, _shift_index(problem.n_source)]
        factors["position"] = csr_matrix(-(gain @ places) @ diags(np.repeat(position, 2)))
    factors["shape"] = csr_matrix(-shared @ fit.posterior.global_factor)
    factors["profile"] = csr_matrix(np.nan_to_num(flux)[:, None] * fit.missed_err)
    factors["unseen"] = csr_matrix(np.nan_to_num(flux)[:, None] * fit.unseen_err)
    own = state.flux[:, None] * fit.sums.rings
    factors["rings"] = ring_response(
        answer, problem, state, view, fit.hyper, used=problem.used, own=own, factors=fit.rings
    )
    factors["others"] = wing_errors(answer, problem, state, view, fit.hyper)
    masked = masked_share_error(fit, view) if fit.problem.prior.weights_factor is None else np.zeros(0)
    if np.any(masked > 0.0):
        factors["masked"] = csr_matrix((np.nan_to_num(flux) * masked)[:, None])
    if fit.unlisted is not None:
        factors["uncatalogued"] = csr_matrix(hstack([answer @ fit.unlisted, -shared @ _taken_by_all(fit)]))
    if fit.hidden is not None and np.any(fit.hidden > 0.0):
        factors["hidden"] = csr_matrix(diags(fit.hidden))
    return factors


def star_factor(fit: JointFit, prf: PrfModel, dx: FloatArray, dy: FloatArray) -> FloatArray:
    """Return how the light of one more star errs by what the joint fit leaves open of what all stars share.

    Parameters
    ----------
    fit : JointFit
        The fit of the PRF.
    prf : PrfModel
        Its PRF in the middle of the field.
    dx, dy : ndarray of float64, shape (n_pixel,)
        Offsets of the pixels from where the star falls, arcsec.

    Returns
    -------
    ndarray of float64, shape (n_pixel, n_error)
        1 / pixel, in standard deviations: by weights, wing, shear and offset together, by the profile, and by the light
        that no pixel sees.
    """
    values = prf.evaluate(dx, dy)
    shared = star_response(fit, prf, dx, dy) @ fit.posterior.global_factor
    return np.concatenate([shared, values[:, None] * np.array([fit.missed_err, fit.unseen_err])], axis=1)


def star_response(fit: JointFit, prf: PrfModel, dx: FloatArray, dy: FloatArray) -> FloatArray:
    """Return the derivative of the PRF of one more star by all global parameters, (n_pixel, n_global).

    As of the fit's own stars (`global_columns`), less what their sum over all pixels follows by, which is nearly the
    same for all.
    """
    problem = fit.problem
    x, y = round_offsets(*turned(dx, dy, prf.turn), prf.shear)
    r, values = np.hypot(x, y), prf.evaluate(dx, dy)
    mean = np.average(fit.sums.gradient, axis=0, weights=np.maximum(fit.flux, 1e-300))
    found = -values[:, None] * mean
    basis, wing = problem.basis.matrix(r, np.arctan2(y, x)), wing_columns(r / problem.basis.rmax, problem.n_wing - 1)
    found[:, : problem.basis.n_basis] += LN10 * values[:, None] * basis.toarray()
    shear = problem.n_weight + problem.n_wing
    found[:, problem.n_weight : shear] += LN10 * values[:, None] * wing
    moved, offset = prf_gradients(prf, dx, dy, names=("e1", "e2", "east", "north")), shear + 2 * problem.n_geometry
    for column, name in zip((shear, shear + 1, offset, offset + 1), ("e1", "e2", "east", "north"), strict=True):
        found[:, column] += moved[name]
    return found


def _taken_by_all(fit: JointFit) -> FloatArray:
    """Return L with the covariance L L' of what all stars share by errors of the light of uncatalogued ones.

    Notes
    -----
    With errors E of the pixels, weights W, the columns G and S of what all stars share and of the stars, which follow
    by -X, and the covariance C of the former, it errs by C (G - S X)'W E.
    """
    problem, posterior = fit.problem, fit.posterior
    view = look(problem, fit.state)
    weighted = csr_matrix(diags(fit.weight) @ fit.unlisted)
    taken = answer_to_globals(problem, fit.state, view, csr_matrix(weighted.T)).T
    taken -= posterior.response.T @ (star_columns(problem, fit.state, view).T @ weighted)
    taken = posterior.global_factor @ (posterior.global_factor.T @ taken)
    return semidefinite_factor(taken @ taken.T)


def masked_share_error(fit: JointFit, view: View) -> FloatArray:
    """Return by how much of its light each star may err in pixels that are left out, as saturated ones, (n_source,).

    Notes
    -----
    The flux of such a star follows from pixels about them, and what the PRF holds between. What is not told of a
    profile there is its form, and errs in all of these pixels together: ln 10 times the sum of PRF and error of its
    logarithm, where `shape` has them err each on its own at the scale of the knots.
    """
    problem = fit.problem
    out = ~problem.used[problem.pairs.pixel]
    error = np.zeros(np.count_nonzero(out))
    factor = fit.posterior.global_factor[: problem.basis.n_basis]
    radius, angle = np.hypot(*view.place[out].T), np.arctan2(view.place[out, 1], view.place[out, 0])
    if error.size:
        error = LN10 * np.linalg.norm(problem.basis.matrix(radius, angle) @ factor, axis=1)
    return np.bincount(problem.pairs.source[out], fit.values[out] * error, problem.n_source)


def _position_factor(fit: JointFit) -> FloatArray | csr_matrix:
    """Return L with the covariance L L' of all positions at a known PRF; of each star alone where there are many."""
    posterior, n_source = fit.posterior, fit.problem.n_source
    if n_source > _MAX_TOGETHER:
        return block_diag(np.linalg.cholesky(posterior.own_blocks[:, 1:, 1:]), format="csr")
    index = _shift_index(n_source)
    return semidefinite_factor(posterior.own_factor.dense()[np.ix_(index, index)])


def _position_gain(fit: JointFit, view: View) -> csr_matrix:
    """Return how the positions of one image respond to its pixels, east and north of each star in turn, arcsec."""
    columns, n_source = star_columns(fit.problem, fit.state, view), fit.problem.n_source
    rows = vstack(fit.posterior.own_factor.rows(1, 2), format="csr")
    return csr_matrix(rows[np.arange(2 * n_source).reshape(2, -1).T.ravel()] @ (diags(fit.weight) @ columns).T)


def _shift_index(n_source: int) -> IntArray:
    """Return where the positions stand among flux, east and north of all stars."""
    index = np.arange(3 * n_source)
    return index[index % 3 > 0]
