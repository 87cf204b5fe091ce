"""What PSFMachine's own tests ask of its perturbation matrices (SSDataLab/psfmachine, tests/test_perturbation.py).

The cases and bounds are theirs: sizes of the columns with and without focus, segments and further vectors, bins by mean
and by taking one cadence, goodness of fit of constant series and of a surface 6 dx**2 dy over 13 x 13 pixels that reach
beyond `radius`, and a bad pixel that is masked.
"""

import numpy as np
import pytest
from scipy.sparse import issparse

from bayesprf.perturbation import PerturbationMatrix, PerturbationMatrix3D

TIME = np.arange(0, 10, 0.1)
GAPPY = np.hstack([TIME, np.arange(15, 25, 0.1)])
METHODS = ("downsample", "bin")


@pytest.fixture
def rng():
    return np.random.default_rng(16)


@pytest.mark.parametrize(("time", "focus", "shape"), [
    (TIME, False, (100, 4)), (TIME, True, (100, 5)), (GAPPY, False, (200, 8)), (GAPPY, True, (200, 10)),
])  # fmt: skip
def test_columns_in_time(time, focus, shape):
    assert PerturbationMatrix(time=time, focus=focus).vectors.shape == shape


def test_further_vectors_in_either_orientation(rng):
    with pytest.raises(ValueError, match="other_vectors"):
        PerturbationMatrix(time=TIME, other_vectors=rng.normal(size=(2, 10)), focus=False)
    with pytest.raises(ValueError, match="other_vectors"):
        PerturbationMatrix(time=TIME, other_vectors=1, focus=False)
    for shape in ((2, 100), (100, 2)):
        matrix = PerturbationMatrix(time=TIME, other_vectors=rng.normal(size=shape), focus=False)
        assert matrix.vectors.shape == (100, 6)


def test_binned_matrix_is_sparse():
    matrix = PerturbationMatrix(time=GAPPY, focus=True).matrix
    assert matrix.shape == (20, 10)
    assert issparse(matrix)


@pytest.mark.parametrize("method", METHODS)
def test_constant_series_are_fitted(rng, method):
    flux, flux_err = rng.normal(1, 0.01, size=200), np.full(200, 0.01)
    matrix = PerturbationMatrix(time=GAPPY, focus=False, resolution=10, bin_method=method)
    n_bin = {"downsample": 21, "bin": 20}[method]
    assert len(matrix.bin_func(flux)) == n_bin
    assert len(matrix.bin_func(flux_err, quad=True)) == n_bin
    with pytest.raises(ValueError, match="var"):
        matrix.bin_func(flux[:-4])
    weights = matrix.fit(flux, flux_err)
    assert weights.shape[0] == matrix.shape[1]
    assert np.all(np.isfinite(weights))
    assert matrix.model().shape == flux.shape
    assert goodness(flux - matrix.model(), flux_err, matrix) < 3


def goodness(residual, flux_err, matrix):
    """Return chi-square over the number of data less that of columns."""
    return np.sum(residual**2 / flux_err**2) / (matrix.shape[0] - matrix.shape[1] - 1)


def surface(n_time, rng):
    """Return offsets of 13 x 13 pixels, and noisy and noise-free series of a surface over them."""
    dx, dy = (one.ravel() for one in np.mgrid[:13, :13] - 6 + 0.01)
    flux = rng.normal(0, 0.01, size=(n_time, 169)) + 2 * dx**2 * 3 * dy
    return dx, dy, flux, np.full((n_time, 169), 0.01)


def test_short_cube(rng):
    dx, dy, flux, flux_err = surface(10, rng)
    cube = PerturbationMatrix3D(time=np.arange(10), dx=dx, dy=dy, nknots=4, radius=5, resolution=5, poly_order=1)
    assert cube.cartesian_matrix.shape == (169, 81)
    assert cube.vectors.shape == (10, 2)
    assert cube.shape == (1690, 81 * 2)
    assert cube.matrix.shape == (169 * 3, 81 * 2)
    assert cube.fit(flux, flux_err).shape[0] == 81 * 2
    assert cube.model().shape == flux.shape
    assert goodness(flux - cube.model(), flux_err, cube) < 1.5


@pytest.mark.parametrize("method", METHODS)
def test_long_cube_with_a_bad_pixel(rng, method):
    dx, dy, flux, flux_err = surface(100, rng)
    cube = PerturbationMatrix3D(time=np.arange(100), dx=dx, dy=dy, nknots=4, radius=5, poly_order=2, bin_method=method)
    cube.fit(flux, flux_err)
    assert goodness(flux - cube.model(), flux_err, cube) < 3
    good = np.arange(169) != 100
    flux[:, 100] = 1e5
    cube.fit(flux, flux_err)
    assert goodness((flux - cube.model())[:, good], 0.01, cube) > 3
    cube.fit(flux, flux_err, pixel_mask=good)
    assert goodness((flux - cube.model())[:, good], 0.01, cube) < 3
