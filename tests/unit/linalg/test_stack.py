import numpy as np
import pytest
from scipy.sparse import coo_matrix, csr_matrix

from bayesprf.errors import InputError, ShapeError
from bayesprf.linalg.stack import DesignStack

INDPTR, INDICES = np.array([0, 2, 2, 3]), np.array([0, 2, 1])


@pytest.fixture
def stack():
    rng = np.random.default_rng(0)
    return DesignStack(INDPTR, INDICES, rng.normal(size=(2, 3)), 3, rng.normal(size=(4, 2)))


def test_values_are_mix_times_parts(stack):
    np.testing.assert_allclose(stack.values(2), stack.mix[2, 0] * stack.parts[0] + stack.mix[2, 1] * stack.parts[1])
    wanted = np.zeros((3, 3))
    wanted[[0, 0, 2], [0, 2, 1]] = stack.values(2)
    np.testing.assert_array_equal(stack.matrix(2).toarray(), wanted)


def test_predict_uses_each_rows_matrix(stack):
    coefficients = np.random.default_rng(1).normal(size=(4, 3))
    wanted = [stack.matrix(row) @ coefficients[row] for row in range(4)]
    np.testing.assert_allclose(stack.predict(coefficients), wanted, rtol=1e-14)


def test_normal_equations_do_not_read_dropped_data(stack):
    ivar, data = np.array([2.0, 1.0, 0.0]), np.array([1.0, 5.0, np.nan])
    gram, rhs = stack.normal_equations(data, ivar, 1)
    matrix = stack.matrix(1).toarray()
    np.testing.assert_allclose(gram, matrix.T @ np.diag(ivar) @ matrix)
    np.testing.assert_allclose(rhs, matrix.T @ np.array([2.0, 5.0, 0.0]))


def test_take_keeps_some_rows(stack):
    np.testing.assert_array_equal(stack.take(np.array([3, 1])).values(0), stack.values(3))
    static = DesignStack.from_sparse(csr_matrix(np.eye(3)))
    assert static.take(np.array([0])) is static
    assert (stack.n_batch, static.n_batch) == (4, None)


def test_from_sparse_sums_duplicates_and_leaves_its_argument_alone():
    matrix = coo_matrix(([1.0, 2.0, 4.0], ([0, 0, 0], [1, 1, 0])), shape=(1, 2)).tocsr()
    given = csr_matrix((np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 2))
    stack = DesignStack.from_sparse(given)
    np.testing.assert_array_equal(stack.matrix().toarray(), matrix.toarray())
    assert given.nnz == 3


@pytest.mark.parametrize(
    ("indices", "error"),
    [
        ([2, 0, 1], "ascending coefficients within a row, got 0 after 2 at entry 1"),
        ([1, 1, 1], "ascending coefficients within a row, got 1 after 1 at entry 1"),
        ([0, 3, 1], "indices: expected 0 to 2, got 0 to 3"),
        ([-1, 2, 1], "indices: expected 0 to 2, got -1 to 2"),
    ],
)
def test_bad_indices_are_refused(indices, error):
    with pytest.raises(InputError, match=error):
        DesignStack(INDPTR, np.array(indices), np.ones((1, 3)), 3)


def test_rows_may_start_below_where_the_last_ended():
    stack = DesignStack(np.array([0, 0, 2, 2, 3, 3]), np.array([0, 2, 1]), np.ones((1, 3)), 3)
    assert stack.n_obs == 5


def test_arrays_that_do_not_agree_are_refused():
    with pytest.raises(ShapeError, match=r"parts: expected shape \(n_part, 3\)"):
        DesignStack(INDPTR, INDICES, np.ones((1, 4)), 3)
    with pytest.raises(ShapeError, match=r"mix: expected shape .* got None"):
        DesignStack(INDPTR, INDICES, np.ones((2, 3)), 3)
    with pytest.raises(ShapeError, match="indptr: expected to end at 3, got 2"):
        DesignStack(np.array([0, 2]), INDICES, np.ones((1, 3)), 3)
