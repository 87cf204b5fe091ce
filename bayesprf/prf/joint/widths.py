"""Widths of smoothness, variation over the field, wing and positions, learned from where a step of the fit leads."""

from dataclasses import replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import identity

from bayesprf.prf.joint.hyper import JointHyper, fit_position_width, limit_width
from bayesprf.prf.joint.problem import JointProblem, JointState
from bayesprf.prf.joint.step import Solution
from bayesprf.prf.joint.unseen import slope_widths

# Measured: what positions of catalogue and pixels together are expected to be good to, pixel: 0.017 for 477 stars of
# M67 (tests/real/test_m67_errors.py).
_POSITION_PIX = 0.02
# Derived: bends 1, -2, 1 of independent weights are so many times as wide as these: beyond, a width says nothing more.
_MAX_BEND = 6.0**0.5


def learn_widths(
    problem: JointProblem,
    state: JointState,
    solution: Solution,
    hyper: JointHyper,
    *,
    position_error: float | None,
    smoothness: float | None,
    crawling: bool,
) -> JointHyper:
    """Learn smoothness, variation over the field and position errors."""
    wing, slope = slope_widths(problem, state, hyper, solution.global_factor)
    found = replace(hyper, wing=wing, slope=slope)
    if problem.prior.weights_factor is None:
        tau, turn, _ = _weight_widths(
            problem, state, solution, range(1), (hyper.tau, hyper.turn, problem.prior.weights_sigma)
        )
        found = replace(found, tau=smoothness or tau, turn=smoothness or turn)
    n_place = problem.n_field - problem.colored
    if n_place > 1:
        tau, turn, level = _weight_widths(problem, state, solution, range(1, n_place), hyper.field_widths)
        found = replace(found, tau_field=tau, turn_field=turn, level_field=level)
    if problem.colored:
        color = range(n_place, problem.n_field)
        tau, turn, level = _weight_widths(problem, state, solution, color, hyper.color_widths)
        found = replace(found, tau_color=tau, turn_color=turn, level_color=level)
    if not problem.free:
        return found
    if position_error is not None:
        return replace(found, position=position_error)
    known = np.ones(problem.n_source, bool) if problem.loose is None else problem.loose == 0.0
    shift, variance = state.shift[known], solution.own_std[known, 1:] ** 2
    expected = _POSITION_PIX * float(np.sqrt(problem.pixel_area))
    position = fit_position_width(shift.ravel(), variance.ravel(), hyper.position, expected, once=crawling)
    return replace(found, position=position)


def _weight_widths(
    problem: JointProblem, state: JointState, solution: Solution, columns: range, widths: tuple[float, float, float]
) -> list[float]:
    """Learn the widths of bends along the radius and around the circle, and of the weights, of columns over the field.

    Notes
    -----
    With the precision S = sum_j R_j'R_j / t_j**2 of a column, posterior mean m and covariance V, the evidence is
    largest where t_j**2 = sum |R_j m|**2 / tr((S^-1 - V) R_j'R_j / t_j**2) (Fellner-Schall; Wood & Fasiolo 2017,
    Biometrics 73, 1071): each kind of row has as many degrees of freedom as the pixels decide of it.
    """
    n_basis = problem.basis.n_basis
    kinds = problem.bends, problem.turns, identity(n_basis, format="csr")
    squares = [(rows.T @ rows).toarray() / width**2 for rows, width in zip(kinds, widths, strict=True)]
    expected = cho_solve(cho_factor(sum(squares[1:], squares[0])), np.eye(n_basis))
    found = []
    for rows, square, width in zip(kinds, squares, widths, strict=True):
        if not rows.shape[0]:  # columns that are round everywhere bend around no circle
            found.append(width)
            continue
        prior = len(columns) * float(np.sum(expected * square))
        size, open_ = 0.0, 0.0
        for k in columns:
            bent = rows @ (state.weights[k] - (problem.prior.weights if k == 0 else 0.0))
            spread = rows @ solution.global_factor[k * n_basis : (k + 1) * n_basis]
            size, open_ = size + float(bent @ bent), open_ + float(np.einsum("rg,rg->", spread, spread))
        freedom = max(prior - open_ / width**2, 1e-6 * prior)
        found.append(limit_width(min(np.sqrt(size / freedom), _MAX_BEND * widths[-1]), width))
    return found
