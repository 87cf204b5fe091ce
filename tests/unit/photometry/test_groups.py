"""Parts of a flux problem: complete groups, windows of pixels."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.errors import InputError, UnsupportedError
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.groups import component_labels, extract_group, extract_pixels

PATTERN = np.array(
    [[1, 0, 2, 0, 0], [3, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 2, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]], float
)


def make_problem(*, moving=False, seed=0):
    rng = np.random.default_rng(seed)
    design = DesignStack.from_sparse(csr_matrix(PATTERN))
    if moving:
        parts = np.concatenate([design.parts, 0.1 * rng.normal(size=design.parts.shape)])
        design = DesignStack(design.indptr, design.indices, parts, 5, np.stack([np.ones(4), np.arange(4.0)], axis=1))
    ivar = rng.uniform(0.5, 2.0, (4, 6))
    prior = GaussianPrior(rng.normal(size=5), rng.uniform(0.1, 0.5, 5))
    return LinearProblem(design, rng.normal(size=(4, 6)), ivar, prior, rng.normal(size=6))


def test_labels_follow_shared_pixels():
    labels = component_labels(make_problem().design)
    assert labels[0] == labels[2]
    assert labels[1] == labels[4]
    assert len({labels[0], labels[1], labels[3]}) == 3


@pytest.mark.parametrize("moving", [False, True])
def test_a_group_has_the_posterior_of_the_whole(moving):
    problem = make_problem(moving=moving)
    whole = BlockSolver().solve(problem)
    cadences = np.array([3, 1])
    group = extract_group(problem, np.array([4]), cadences)
    assert (list(group.source), list(group.pixel)) == ([1, 4], [2, 3])
    part = BlockSolver().solve(group.problem)
    np.testing.assert_allclose(part.mean, whole.mean[np.ix_(cadences, group.source)], rtol=1e-12)
    np.testing.assert_allclose(part.covariance(0), whole.covariance(3, group.source), rtol=1e-12)


def test_evidences_of_all_groups_multiply_to_that_of_the_whole():
    problem = make_problem()
    cadences = np.arange(4)
    parts = [BlockSolver().solve(extract_group(problem, np.array([one]), cadences).problem) for one in (0, 1)]
    dark = -0.5 * (
        np.log(2 * np.pi / problem.ivar[:, 4]) + problem.ivar[:, 4] * (problem.data - problem.known)[:, 4] ** 2
    )
    total = parts[0].log_evidence + parts[1].log_evidence + dark
    np.testing.assert_allclose(total, BlockSolver().solve(problem).log_evidence, rtol=1e-12)


def test_a_window_holds_its_pixels_and_all_that_light_them():
    group = extract_pixels(make_problem(), np.array([1, 3]), np.arange(4))
    assert list(group.source) == [0, 1, 4]
    np.testing.assert_array_equal(group.design.matrix().toarray(), [[3, 0, 0], [0, 2, 1]])


def test_pixels_without_data_are_left_out():
    problem = make_problem()
    problem.ivar[:, 0] = 0.0
    assert list(extract_group(problem, np.array([0]), np.arange(4)).pixel) == [1, 5]


def test_sources_without_pixels_are_refused():
    with pytest.raises(InputError, match="got none with a usable pixel"):
        extract_group(make_problem(), np.array([3]), np.arange(4))
    with pytest.raises(InputError, match="got source 3 without a usable pixel"):
        extract_group(make_problem(), np.array([0, 3]), np.arange(4))


def test_only_a_design_stack_is_taken():
    design = KroneckerDesign(np.ones((2, 1)), csr_matrix(np.eye(2)))
    problem = LinearProblem(design, np.zeros((1, 4)), np.ones((1, 4)), GaussianPrior(np.zeros(2), np.ones(2)))
    with pytest.raises(UnsupportedError, match="expected a DesignStack as design, got KroneckerDesign"):
        extract_group(problem, np.array([0]), np.array([0]))
