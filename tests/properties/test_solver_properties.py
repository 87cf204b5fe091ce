"""What must hold for any problem: symmetries of the answer, checked on random problems."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import block_diag, csr_matrix

from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.residuals import residual_sums
from bayesprf.linalg.solvers.blocks import BlockSolver, pair_covariance
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.linalg.stack import DesignStack
from bayesprf.testing import assert_posterior_close, make_problem

SOLVERS = pytest.mark.parametrize("solver", [DenseSolver(), BlockSolver(1)], ids=["dense", "block"])


PARTS = st.integers(1, 3)
DROPPED = st.sampled_from([0.0, 0.3])


@st.composite
def problems(draw, n_part=PARTS, dropped=DROPPED):
    """Any small problem, from no observed coefficient to all coupled."""
    return make_problem(
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        n_batch=draw(st.sampled_from([1, 3, 18])),
        n_obs=draw(st.integers(1, 30)),
        n_coeff=draw(st.integers(1, 9)),
        n_part=draw(n_part),
        density=draw(st.sampled_from([0.05, 0.2, 0.5, 1.0])),
        prior_sigma=draw(st.sampled_from([0.1, 1.0, 100.0])),
        dropped=draw(dropped),
    )


def rebuilt(problem, transform, **changes):
    """Apply a function to the sparse matrix of every part, and change other fields."""
    design = problem.design
    parts = [
        transform(csr_matrix((part, design.indices, design.indptr), shape=(design.n_obs, design.n_coeff)))
        for part in design.parts
    ]
    for part in parts:
        part.sort_indices()
    first, values = parts[0], np.array([part.data for part in parts])
    indices = first.indptr.astype(np.int64), first.indices.astype(np.int64)
    return replace(problem, design=DesignStack(*indices, values, first.shape[1], design.mix), **changes)


def with_rows(problem, rows):
    """Take the observations `rows`, in their order and as often as they come."""
    fields = {"data": problem.data[:, rows], "ivar": problem.ivar[:, rows], "known": problem.known[rows]}
    return rebuilt(problem, lambda part: part[rows], **fields)


@SOLVERS
@settings(max_examples=30, deadline=None)
@given(problem=problems(), seed=st.integers(0, 1000))
def test_permuting_observations_changes_nothing(solver, problem, seed):
    order = np.random.default_rng(seed).permutation(problem.design.n_obs)
    shuffled = with_rows(problem, order)
    assert_posterior_close(solver.solve(shuffled), solver.solve(problem), rtol=1e-9)


@SOLVERS
@settings(max_examples=30, deadline=None)
@given(problem=problems(), seed=st.integers(0, 1000))
def test_permuting_coefficients_permutes_the_answer(solver, problem, seed):
    order = np.random.default_rng(seed).permutation(problem.design.n_coeff)
    prior = GaussianPrior(problem.prior.mean[order], problem.prior.precision[order])
    one, two = solver.solve(problem), solver.solve(rebuilt(problem, lambda part: part[:, order], prior=prior))
    np.testing.assert_allclose(two.mean, one.mean[:, order], rtol=1e-8, atol=1e-9 * np.abs(one.mean).max())
    np.testing.assert_allclose(two.std, one.std[:, order], rtol=1e-9)
    np.testing.assert_allclose(two.log_evidence, one.log_evidence, rtol=1e-9, atol=1e-9)


@SOLVERS
@settings(max_examples=30, deadline=None)
@given(problem=problems(dropped=st.just(0.0)), data=st.data())
def test_ivar_zero_equals_deletion(solver, problem, data):
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=problem.design.n_obs, max_size=problem.design.n_obs)))
    dropped = replace(problem, ivar=problem.ivar * keep, data=np.where(keep, problem.data, np.nan))
    fewer = with_rows(problem, np.flatnonzero(keep))
    assert_posterior_close(solver.solve(dropped), solver.solve(fewer), rtol=1e-9)


@SOLVERS
@settings(max_examples=30, deadline=None)
@given(problem=problems())
def test_double_ivar_gives_the_posterior_of_repetition(solver, problem):
    twice = np.repeat(np.arange(problem.design.n_obs), 2)
    repeated = with_rows(problem, twice)
    one, two = solver.solve(replace(problem, ivar=2.0 * problem.ivar)), solver.solve(repeated)
    np.testing.assert_allclose(two.mean, one.mean, rtol=1e-8, atol=1e-9 * np.abs(one.mean).max())
    np.testing.assert_allclose(two.std, one.std, rtol=1e-9)


@SOLVERS
@settings(max_examples=30, deadline=None)
@given(problem=problems(), power=st.integers(-30, 30))
def test_scaling_data_errors_and_priors_scales_the_answer(solver, problem, power):
    scale = 2.0**power
    prior = GaussianPrior(problem.prior.mean * scale, problem.prior.precision / scale**2)
    data, known = problem.data * scale, problem.known * scale
    scaled = replace(problem, data=data, known=known, ivar=problem.ivar / scale**2, prior=prior)
    one, two = solver.solve(problem), solver.solve(scaled)
    np.testing.assert_allclose(two.mean, scale * one.mean, rtol=1e-12)
    np.testing.assert_allclose(two.std, scale * one.std, rtol=1e-12)
    shift = np.log(scale) * np.count_nonzero(problem.ivar, axis=1)
    np.testing.assert_allclose(two.log_evidence, one.log_evidence - shift, rtol=1e-9, atol=1e-9)


@SOLVERS
@settings(max_examples=20, deadline=None)
@given(one=problems(n_part=st.just(1)), seed=st.integers(0, 1000))
def test_two_separate_scenes_solve_as_one(solver, one, seed):
    two = make_problem(np.random.default_rng(seed), n_batch=one.n_batch, n_obs=9, n_coeff=3)
    joint = LinearProblem(
        DesignStack.from_sparse(block_diag([one.design.matrix(), two.design.matrix()], format="csr")),
        np.hstack([one.data, two.data]),
        np.hstack([one.ivar, two.ivar]),
        GaussianPrior(*(np.append(getattr(one.prior, x), getattr(two.prior, x)) for x in ("mean", "precision"))),
        np.append(one.known, two.known),
    )
    apart, together = [solver.solve(one), solver.solve(two)], solver.solve(joint)
    for name in ("mean", "std"):
        expected = np.hstack([getattr(x, name) for x in apart])
        # Priors 1e5 times as wide as the data: a small coefficient beside large ones keeps the digits of those.
        digits = 1e-11 * np.abs(expected).max()
        np.testing.assert_allclose(getattr(together, name), expected, rtol=1e-9, atol=digits)
    total = sum(x.log_evidence for x in apart)
    np.testing.assert_allclose(together.log_evidence, total, rtol=1e-9, atol=1e-9)
    across = together.covariance(0)[: one.design.n_coeff, one.design.n_coeff :]
    assert np.abs(across).max() == 0.0


@settings(max_examples=15, deadline=None)
@given(problem=problems(), n_threads=st.integers(1, 5))
def test_same_bits_twice_and_for_any_number_of_threads(problem, n_threads):
    one, two = BlockSolver(1).solve(problem), BlockSolver(n_threads).solve(problem)
    for name in ("mean", "std", "log_evidence"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    draws = [x.draws(3, np.random.default_rng(0)) for x in (one, two)]
    np.testing.assert_array_equal(*draws)


@settings(max_examples=30, deadline=None)
@given(problem=problems())
def test_pair_covariance_is_the_covariance_of_overlapping_coefficients(problem):
    posterior = BlockSolver(1).solve(problem)
    i, j, values = pair_covariance(posterior)
    pattern = np.zeros((problem.design.n_obs, problem.design.n_coeff))
    pattern[np.repeat(np.arange(problem.design.n_obs), np.diff(problem.design.indptr)), problem.design.indices] = 1.0
    overlap = np.triu(pattern.T @ pattern > 0, 1)
    np.testing.assert_array_equal(np.stack([i, j]), np.nonzero(overlap))
    for batch in range(problem.n_batch):
        outer = posterior.std[batch, i] * posterior.std[batch, j]
        np.testing.assert_allclose(values[batch] / outer, posterior.covariance(batch)[i, j] / outer, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(problem=problems(), seed=st.integers(0, 1000))
def test_residual_sums_count_only_what_a_coefficient_touches(problem, seed):
    mean = np.random.default_rng(seed).normal(size=(problem.n_batch, problem.design.n_coeff))
    chi2, count = residual_sums(problem, mean)
    for batch in range(problem.n_batch):
        touched = np.zeros((problem.design.n_obs, problem.design.n_coeff))
        rows = np.repeat(np.arange(problem.design.n_obs), np.diff(problem.design.indptr))
        touched[rows, problem.design.indices] = 1.0
        used = problem.ivar[batch] > 0
        residual = np.where(used, problem.data[batch] - problem.known - problem.design.matrix(batch) @ mean[batch], 0.0)
        np.testing.assert_allclose(chi2[batch], (problem.ivar[batch] * residual**2) @ touched, rtol=1e-10)
        np.testing.assert_array_equal(count[batch], used @ touched)
