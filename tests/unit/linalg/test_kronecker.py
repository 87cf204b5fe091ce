import numpy as np
import pytest
from scipy.sparse import csr_matrix, kron, random_array

from bayesprf.errors import InputError, ShapeError
from bayesprf.linalg.kronecker import KroneckerDesign


@pytest.fixture
def design():
    rng = np.random.default_rng(0)
    return KroneckerDesign(rng.normal(size=(7, 3)), csr_matrix(random_array((11, 5), density=0.6, rng=rng)))


def built_out(design):
    return kron(design.time_vectors, design.space).toarray()


def test_sizes_are_those_of_the_product(design):
    assert (design.n_obs, design.n_coeff) == built_out(design).shape
    assert design.n_batch is None


def test_predict_equals_the_built_out_product(design):
    coefficients = np.random.default_rng(1).normal(size=(4, 15))
    np.testing.assert_allclose(design.predict(coefficients), coefficients @ built_out(design).T, rtol=1e-12, atol=1e-13)


def test_normal_equations_equal_those_of_the_built_out_product(design):
    rng = np.random.default_rng(2)
    ivar = rng.uniform(size=77) * (rng.uniform(size=77) < 0.8)
    data = np.where(ivar > 0, rng.normal(size=77), np.nan)
    gram, rhs = design.normal_equations(data, ivar, 0)
    matrix = built_out(design)
    np.testing.assert_allclose(gram, matrix.T @ (ivar[:, None] * matrix), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(rhs, matrix.T @ (ivar * np.nan_to_num(data)), rtol=1e-12, atol=1e-12)


def test_time_vectors_must_be_a_finite_matrix():
    with pytest.raises(ShapeError, match=r"time_vectors: expected shape \(n_bin, n_vec\)"):
        KroneckerDesign(np.ones(3), csr_matrix((2, 2)))
    with pytest.raises(InputError, match="time_vectors: expected finite numbers"):
        KroneckerDesign(np.array([[1.0], [np.nan]]), csr_matrix((2, 2)))
