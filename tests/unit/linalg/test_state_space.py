"""State-space steps beside matrix exponentials, closed autocovariances and finite differences."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from bayesprf.errors import InputError
from bayesprf.linalg.state_space import N_STATE, ProcessKernel, build_states, step_gradient
from bayesprf.testing import autocovariance

FAMILIES = ["matern12", "matern32", "matern52", "oscillator"]
# Steps from far below the correlation time to far above it.
TIME = np.cumsum([0.0, 0.001, 0.02, 0.3, 0.9, 4.0])


def kernel(family):
    return ProcessKernel(family, sigma=2.0, scale=0.7, quality=2.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_make_the_closed_autocovariance(family):
    one = kernel(family)
    states = build_states((one,), TIME)
    d = N_STATE[family]
    passed, expected = np.eye(d), autocovariance(one, TIME - TIME[0])
    for t in range(1, TIME.size):
        passed = states.transition[t, 0, :d, :d] @ passed
        lagged = states.sigma[0] ** 2 * (passed @ states.stationary[0, :d, :d])[0, 0]
        assert lagged == pytest.approx(expected[t], abs=1e-13)


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_keeps_the_process_stationary(family):
    states, d = build_states((kernel(family),), TIME), N_STATE[family]
    stationary = states.stationary[0, :d, :d]
    for t in range(1, TIME.size):
        step, noise = states.transition[t, 0, :d, :d], states.noise[t, 0, :d, :d]
        np.testing.assert_allclose(step @ stationary @ step.T + noise, stationary, atol=1e-14)
        assert np.linalg.eigvalsh(noise).min() > 0.0


def test_short_steps_keep_their_digits():
    """The noise of matern52 grows as the fifth power of the step: subtraction would leave nothing of it."""
    states = build_states((ProcessKernel("matern52", sigma=1.0, scale=1.0),), np.array([0.0, 1e-5]))
    a = np.sqrt(5.0) * 1e-5
    assert states.noise[1, 0, 0, 0] == pytest.approx(16.0 / 3.0 * a**5 / 20.0, rel=1e-4)


def test_matern_steps_are_matrix_exponentials():
    feedback = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, -3.0, -3.0]])
    states = build_states((ProcessKernel("matern52", sigma=1.0, scale=np.sqrt(5.0)),), TIME)
    for t in range(1, TIME.size):
        np.testing.assert_allclose(states.transition[t, 0], expm(feedback * (TIME[t] - TIME[t - 1])), atol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["scale", "quality"])
def test_gradient_equals_finite_differences(family, name):
    one, h = kernel(family), 1e-6
    value = getattr(one, name)
    ends = [value * np.exp(h), value * np.exp(-h)] if name == "scale" else [value + h, value - h]
    up, down = (build_states((replace(one, **{name: end}),), TIME) for end in ends)
    found = step_gradient((one,), TIME)
    pair = (found.transition, found.noise) if name == "scale" else (found.quality_transition, found.quality_noise)
    np.testing.assert_allclose(pair[0], (up.transition - down.transition) / (2 * h), atol=1e-9)
    np.testing.assert_allclose(pair[1], (up.noise - down.noise) / (2 * h), atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "wavelet"}, "family: expected one of"),
        ({"family": "matern32", "scale": 0.0}, "scale: expected a finite number above 0"),
        ({"family": "matern32", "sigma": -1.0}, "sigma: expected 0 electron / s or more"),
        ({"family": "matern32", "white": np.nan}, "white: expected 0 electron / s or more"),
        ({"family": "oscillator", "quality": 0.5}, "quality: expected a number above one half"),
    ],
)
def test_kernels_refuse_what_they_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        ProcessKernel(**settings)
