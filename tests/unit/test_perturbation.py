"""PerturbationMatrix and PerturbationMatrix3D, used as PSFMachine's users use them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.errors import InputError, ShapeError, StageError
from bayesprf.perturbation import PerturbationMatrix, PerturbationMatrix3D

REFERENCE = Path(__file__).parents[1] / "reference"
PEER = json.loads((REFERENCE / "perturbation_reference.json").read_text())["results"]


@pytest.fixture(scope="module")
def inputs():
    spec = importlib.util.spec_from_file_location("maker", REFERENCE / "make_perturbation_reference.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    return maker.inputs()


@pytest.fixture
def gappy():
    return np.hstack([np.arange(0, 10, 0.1), np.arange(15, 25, 0.1)])


def assert_same(ours, model, peer):
    """Compare with the stored numbers: shapes exactly, values to 1e-8."""
    binned = ours.matrix.toarray()
    assert list(ours.vectors.shape) == peer["vectors_shape"]
    assert list(binned.shape) == peer["matrix_shape"]
    assert list(ours.shape) == peer["shape"]
    assert ours.nbins == peer["nbins"]
    assert ours.weights.size == peer["n_weights"]
    assert list(model.shape) == peer["model_shape"]
    np.testing.assert_allclose(ours.vectors.sum(axis=0), peer["vectors_sum"], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose((ours.vectors**2).sum(axis=0), peer["vectors_square"], rtol=1e-8)
    np.testing.assert_allclose((binned**2).sum(), peer["matrix_square"], rtol=1e-8)
    np.testing.assert_allclose(np.ravel(model)[:40], peer["model_first"], rtol=1e-8)
    np.testing.assert_allclose((model**2).sum(), peer["model_square"], rtol=1e-8)


def as_peer(matrix):
    """Give a matrix PSFMachine's prior: mean one on every coefficient."""
    matrix.prior_mu = np.ones_like(matrix.prior_mu)
    return matrix


# Beside PSFMachine, same prior and design


@pytest.mark.parametrize("method", ["bin", "downsample"])
def test_polynomial_model_equals_the_peer(inputs, method):
    time, _, _, flux, flux_err = inputs
    p = as_peer(PerturbationMatrix(time, poly_order=2, segments=False, resolution=7, bin_method=method))
    p.fit(flux[:, 5], flux_err[:, 5])
    assert_same(p, p.model(), PEER[f"2d {method}"])


@pytest.mark.parametrize("method", ["bin", "downsample"])
def test_model_with_other_vectors_equals_the_peer(inputs, method):
    time, _, _, flux, flux_err = inputs
    others = [np.sin(time), np.cos(3 * time)]
    p = as_peer(PerturbationMatrix(time, other_vectors=others, segments=True, resolution=5, bin_method=method))
    p.fit(flux[:, 5], flux_err[:, 5])
    assert_same(p, p.model(), PEER[f"2d others {method}"])


def test_segmented_model_equals_the_peer(inputs):
    time, _, _, flux, flux_err = inputs
    p = as_peer(PerturbationMatrix(np.hstack([time, time + 8.0]), poly_order=1, segments=True, resolution=10))
    p.fit(np.hstack([flux[:, 3], flux[:, 4]]), np.hstack([flux_err[:, 3], flux_err[:, 4]]))
    assert p.breaks.tolist() == PEER["segments"]["breaks"]
    assert_same(p, p.model(), PEER["segments"])


@pytest.mark.parametrize("case", ["3d bin linear", "3d bin sqrt", "3d downsample linear"])
def test_cube_on_the_same_position_columns_equals_the_peer(inputs, case):
    _, method, spacing = case.split()
    time, dx, dy, flux, flux_err = inputs
    p = PerturbationMatrix3D(
        time, dx, dy, poly_order=1, nknots=4, radius=5, segments=False, resolution=10, bin_method=method,
        degree=2, knot_spacing_type=spacing,
    )  # fmt: skip
    stored = PEER[case]["cartesian"]
    p.cartesian_matrix = csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=stored["shape"])
    as_peer(p).fit(flux, flux_err, pixel_mask=np.hypot(dx, dy) < 4.5)
    assert_same(p, p.model(), PEER[case])


# Scripts


@pytest.mark.parametrize(("focus", "n_vector"), [(False, 4), (True, 5)])
def test_script_vectors(focus, n_vector):
    time = np.arange(0, 10, 0.1)
    p = PerturbationMatrix(time=time, focus=focus)
    assert p.vectors.shape == (100, n_vector)
    assert (p.nvec, p.ntime, p.nbins) == (n_vector, 100, 10)
    assert p.matrix.shape == (10, n_vector)
    np.testing.assert_allclose(p.vectors[:, 2], (time - time.mean()) ** 2)
    assert repr(p) == "PerturbationMatrix"


def test_script_other_vectors_in_either_orientation():
    time = np.arange(0, 10, 0.1)
    rng = np.random.default_rng(1)
    others = rng.normal(size=(2, 100))
    for given in (others, others.T, list(others)):
        assert PerturbationMatrix(time=time, other_vectors=given).vectors.shape == (100, 6)
    with pytest.raises(ShapeError, match=r"other_vectors: expected shape \(n_vector, 100\), got \(2, 10\)"):
        PerturbationMatrix(time=time, other_vectors=others[:, :10])
    with pytest.raises(ValueError, match="other_vectors"):
        PerturbationMatrix(time=time, other_vectors=1)


@pytest.mark.parametrize("bin_method", ["bin", "downsample"])
def test_script_segments_bins_and_pca(gappy, bin_method):
    rng = np.random.default_rng(2)
    p = PerturbationMatrix(time=gappy, focus=False, resolution=10, bin_method=bin_method)
    n_bin = 21 if bin_method == "downsample" else 20
    assert p.breaks.tolist() == [100]
    np.testing.assert_array_equal(p.segment_masks.sum(axis=0), [100, 100])
    assert p.vectors.shape == (200, 8)
    assert p.matrix.shape == (n_bin, 8)
    y, ye = rng.normal(1, 0.01, size=(200, 30)), np.full((200, 30), 0.01)
    assert len(p.bin_func(y)) == n_bin
    assert len(p.bin_func(ye, quad=True)) == n_bin
    with pytest.raises(ValueError, match="var: expected first axis of 200 cadences"):
        p.bin_func(y[:-4])
    p.pca(y, ncomponents=2)
    assert p.matrix.shape == (n_bin, 12)
    np.testing.assert_allclose(p.vectors[:, 8:].sum(axis=0), 0.0, atol=1e-12)
    weights = p.fit(y[:, 0], ye[:, 0])
    assert weights.shape == (p.shape[1],)
    chi2 = np.sum((y[:, 0] - p.model()) ** 2 / ye[:, 0] ** 2) / (p.shape[0] - p.shape[1] - 1)
    # single cadences instead of means of ten teach twelve numbers less well
    assert 0.6 < chi2 < (1.5 if bin_method == "bin" else 3.0)


@pytest.mark.parametrize("bin_method", ["bin", "downsample"])
def test_script_cube(bin_method):
    rng = np.random.default_rng(3)
    time = np.arange(10)
    dx, dy = (one.ravel() + 0.01 for one in np.mgrid[-4.5:5:1, -4.5:5:1])
    truth = 1.0 + 0.05 * np.outer(time - 4.5, np.sin(dx / 3)) + 0.02 * np.outer(np.ones(10), dx * dy / 25)
    flux = truth + rng.normal(0, 0.01, size=truth.shape)
    flux_err = np.full(truth.shape, 0.01)
    p3 = PerturbationMatrix3D(
        time=time, dx=dx, dy=dy, nknots=4, radius=5, resolution=5, poly_order=1, bin_method=bin_method
    )
    assert p3.cartesian_matrix.shape == (100, 81)
    assert p3.shape == (1000, 162)
    assert p3.matrix.shape == (p3.nbins * 100, 162)
    p3.fit(flux, flux_err)
    assert p3.weights.shape == (162,)
    model = p3.model()
    assert model.shape == flux.shape
    # 72 of the 162 numbers count inside the square: their error is a share of that of a cadence
    assert np.std(model - truth) < 0.009
    np.testing.assert_allclose(p3.model(time_indices=[2, 5]), model[[2, 5]], rtol=1e-14)
    np.testing.assert_allclose(p3.model(np.arange(10) > 7), model[8:], rtol=1e-14)
    np.testing.assert_allclose(p3.model(3), model[[3]], rtol=1e-14)
    p3.pca(flux, ncomponents=2)
    assert p3.shape == (1000, 81 * 4)
    p3.fit(flux, flux_err, pixel_mask=np.hypot(dx, dy) < 4)
    with pytest.raises(ShapeError, match="pixel_mask: expected shape"):
        p3.fit(flux, flux_err, pixel_mask=np.ones(99, bool))


# Faults of PSFMachine that must be absent


def test_weak_data_do_not_acquire_slopes():
    time = np.linspace(-1, 1, 100)
    p = PerturbationMatrix(time, poly_order=3, segments=False)
    p.fit(np.ones(100), np.full(100, 1e6))
    np.testing.assert_allclose(p.model(), 1.0, atol=1e-6)
    np.testing.assert_allclose(as_peer(p).fit(np.ones(100), np.full(100, 1e6)), 1.0, atol=1e-6)
    assert p.model().max() > 3.9  # what the peer's prior does


def test_bad_values_drop_out():
    time, rng = np.linspace(0, 5, 90), np.random.default_rng(4)
    dx, dy = rng.uniform(-4, 4, (2, 60))
    flux = 1.0 + 0.1 * np.outer(time - 2.5, dx / 4)
    flux_err = np.full(flux.shape, 0.01)
    broken, broken_err = flux.copy(), flux_err.copy()
    broken[3:6, 7], broken[50, 8], broken_err[20, 9], broken_err[21, 10] = np.nan, np.inf, 0.0, np.nan
    p = PerturbationMatrix3D(time, dx, dy, nknots=4, radius=5, resolution=10, bin_method="bin")
    p.fit(flux, flux_err)
    clean = p.model()
    p.fit(broken, broken_err)
    np.testing.assert_allclose(p.model(), clean, atol=2e-3)


@pytest.mark.parametrize("time", [[3.0], [2.0, 2.0, 2.0]])
def test_single_and_equal_times_are_understood(time):
    p = PerturbationMatrix(time, focus=True)
    p.fit(np.full(len(time), 1.2), np.full(len(time), 1e-3))
    np.testing.assert_allclose(p.model(), 1.2, rtol=1e-5)


def test_basis_does_not_move_with_the_data():
    x = np.linspace(-4, 4, 30)
    near = PerturbationMatrix3D([0.0, 1.0], x, x, radius=5)
    far = PerturbationMatrix3D([0.0, 1.0], np.append(x, 11.0), np.append(x, 11.0), radius=5)
    np.testing.assert_array_equal(far.cartesian_matrix.toarray()[:30], near.cartesian_matrix.toarray())
    # Splines that add up to one everywhere, and three functions a side of what lies beyond the square
    parts = far.cartesian_matrix.toarray().reshape(31, 11, 11)
    np.testing.assert_allclose(parts[:, :8, :8].sum(axis=(1, 2)), 1.0)
    np.testing.assert_array_equal(parts[:30, 8:], 0.0)
    assert np.all(parts[30, 9:, 9:] > 0)


def test_prior_is_as_wide_as_the_data_unless_it_is_set():
    time = np.linspace(-1, 1, 40)
    p = PerturbationMatrix(time, poly_order=1, segments=False)
    p.fit(1000.0 + 300.0 * time, np.full(40, 10.0))
    np.testing.assert_allclose(p.model(), 1000.0 + 300.0 * time, rtol=1e-4)
    p.prior_sigma = np.full(2, 0.5)
    p.fit(1000.0 + 300.0 * time, np.full(40, 10.0))
    assert p.model().max() < 200.0


def test_focus_falls_to_one_over_e_after_the_given_time(gappy):
    p = PerturbationMatrix(gappy, poly_order=0, focus=True, segments=False, focus_exptime=2.0)
    for start in (0, 100):
        np.testing.assert_allclose(p.vectors[start, 1], 1.0)
        np.testing.assert_allclose(p.vectors[start + 20, 1], np.exp(-1.0), rtol=1e-6)


# Refusals and pictures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bin_method": "median"}, "bin_method: expected one of 'bin', 'downsample', got 'median'"),
        ({"poly_order": -1}, "poly_order, resolution: expected at least 0 and 1, got -1 and 10"),
        ({"resolution": 0}, "poly_order, resolution: expected at least 0 and 1, got 3 and 0"),
        ({"focus_exptime": 0}, "focus_exptime: expected a finite number above 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PerturbationMatrix(np.arange(10.0), **options)


def test_model_before_fit_says_what_to_do():
    with pytest.raises(StageError, match=r"call fit\(\) first"):
        PerturbationMatrix(np.arange(10.0)).model()


@pytest.mark.plots
def test_plots_have_labels():
    x = np.linspace(-4, 4, 30)
    p = PerturbationMatrix3D(np.arange(8.0), x, x[::-1], resolution=2)
    p.fit(np.ones((8, 30)))
    assert p.plot().axes[0].get_xlabel() == "time (day)"
    figure = p.plot_model(time_index=2)
    assert figure.axes[0].get_xlabel() == "east offset (arcsec)"
    assert figure.axes[1].get_ylabel() == "change of the PRF (%)"
