"""Rounds of levels, fit, noise and clipping, on pixels made by the model itself."""

from dataclasses import replace

import numpy as np
import pytest
from drifting_field import OPTIONS
from scipy.sparse import csr_matrix

from bayesprf.errors import ConvergenceWarning
from bayesprf.timemodel import rounds
from bayesprf.timemodel.rounds import _diverges, fit_rounds
from bayesprf.timemodel.training import TrainingPixels

N_BIN, N_STAR, N_EACH = 24, 12, 20
KIND = np.zeros(3, np.int64)
WEIGHTS = np.array([[0.08, -0.05, 0.02]])


@pytest.fixture
def observed():
    """Pixels of stars that vary by themselves, with noise of a thousandth; columns with mean zero over each star."""
    rng = np.random.default_rng(1)
    n = N_STAR * N_EACH
    group = np.repeat(np.arange(N_STAR), N_EACH)
    time = np.linspace(-1.0, 1.0, N_BIN)[:, None]
    columns = rng.normal(size=(n, 3))
    columns -= (np.stack([np.bincount(group, one) for one in columns.T], axis=1) / N_EACH)[group]
    brightness = 1.0 + 0.2 * rng.normal(size=(N_BIN, N_STAR))
    mean = 10.0 ** rng.uniform(3.0, 4.0, n)
    flux = mean * brightness[:, group] * (1.0 + time @ (WEIGHTS @ columns.T))
    error = 1e-3 * mean * np.ones((N_BIN, 1))
    flux = flux + error * rng.normal(size=flux.shape)
    zeros = np.zeros(n)
    training = TrainingPixels(
        group, np.arange(n), group, zeros, zeros, np.ones(n, bool), time[:, 0], flux, error**-2.0, np.ones(N_BIN)
    )
    return training, time, csr_matrix(columns), mean


def fit(observed, **changes):
    training, time, columns, _ = observed
    options = replace(OPTIONS, fix_pixels=False, **changes)
    return fit_rounds(training, time, columns, np.zeros(columns.shape), options, kind=KIND)


def test_coefficients_are_found_beside_the_stars_own_variability(observed):
    found = fit(observed)
    np.testing.assert_allclose(found.weights, WEIGHTS, atol=5 * found.weights_err.max())
    assert 0 < found.weights_err.max() < 1e-3
    assert found.used.mean() > 0.999
    assert found.scatter < 3e-4


def test_scatter_beyond_the_errors_is_learned(observed):
    training, time, columns, mean = observed
    rng = np.random.default_rng(2)
    rough = replace(training, flux=training.flux * (1.0 + 0.01 * rng.normal(size=training.flux.shape)))
    found = fit((rough, time, columns, mean))
    assert found.scatter == pytest.approx(0.01, rel=0.1)


def test_outliers_are_left_out(observed):
    training, time, columns, mean = observed
    flux = training.flux.copy()
    flux[3, 5::40] *= 1.5
    found = fit((replace(training, flux=flux), time, columns, mean))
    assert not found.used[3, 5::40].any()
    assert np.count_nonzero(~found.used) < 2 * flux[3, 5::40].size
    np.testing.assert_allclose(found.weights, WEIGHTS, atol=2e-3)


def test_what_one_pixel_does_itself_is_its_own(observed):
    training, time, columns, mean = observed
    own = np.zeros(mean.size)
    own[7] = 0.2
    flux = training.flux * (1.0 + time * own)
    changed = (replace(training, flux=flux), time, columns, mean)
    found = fit_rounds(changed[0], time, columns, np.zeros(columns.shape), OPTIONS, kind=KIND)
    assert found.pixel_weights[0, 7] == pytest.approx(0.2, rel=0.1)
    assert np.abs(np.delete(found.pixel_weights[0], 7)).max() < 0.02
    np.testing.assert_allclose(found.weights, WEIGHTS, atol=2e-3)


def test_without_pixels_nothing_changes(observed):
    training, time, columns, _ = observed
    none = TrainingPixels(
        *(one[:0] for one in (training.source, training.pixel, training.group, training.dx, training.dy)),
        training.inside[:0], training.time, training.flux[:, :0], training.ivar[:, :0], training.count,
    )  # fmt: skip
    found = fit_rounds(none, time, columns[:0], np.zeros((0, 3)), OPTIONS, kind=KIND)
    np.testing.assert_array_equal(found.weights, 0.0)


def test_rounds_that_leave_more_and_let_pixels_go_dark_diverge(observed):
    found = fit(observed)
    dark = found.change.copy()
    dark[3, 5] = -1.2
    more = found.scatter + 1e-3
    assert _diverges(found, replace(found, change=dark, scatter=more))
    assert not _diverges(found, replace(found, change=dark))
    assert not _diverges(found, replace(found, scatter=more))
    unused = found.used.copy()
    unused[3, 5] = False
    assert not _diverges(replace(found, used=unused), replace(found, change=dark, scatter=more))


def test_diverging_rounds_end_with_the_one_before(observed, monkeypatch):
    good = fit(observed, n_round=1)
    monkeypatch.setattr(rounds, "_diverges", lambda before, state: True)
    with pytest.warns(ConvergenceWarning, match=r"^build_time_model: its rounds diverge, .* after 1, .* positions="):
        found = fit(observed)
    np.testing.assert_array_equal(found.weights, good.weights)
