"""The pointing at every cadence, from stars that move."""

from dataclasses import replace

import numpy as np
import pytest
from moving_star import SCALE, gaussian, mean_of, observe, path, shifted, still

from bayesprf.timemodel.pointing import measure_pointing, measure_smear
from bayesprf.timemodel.shift import MovedPrf, build_shift


def test_pointing_is_measured_beside_flux_and_sky():
    motion = path(120)
    rng = np.random.default_rng(6)
    pixels, pairs = observe(motion, rng.uniform(4000.0, 6000.0, 120), rng.uniform(0.0, 100.0, 120))
    prf = MovedPrf(gaussian, np.zeros((1, 2)), still())
    found, _ = measure_pointing(pixels, prf, mean_of(pairs), np.array([5000.0]))
    assert np.abs(found - motion).max() < 0.01 * SCALE


def test_a_cadence_without_data_has_no_pointing():
    motion = path(40)
    pixels, pairs = observe(motion, np.full(40, 5000.0), np.zeros(40))
    flux = pixels.flux.copy()
    flux[7] = np.nan
    prf = MovedPrf(gaussian, np.zeros((1, 2)), still())
    found, _ = measure_pointing(replace(pixels, flux=flux), prf, mean_of(pairs), np.array([5000.0]))
    assert np.flatnonzero(~np.isfinite(found).all(axis=1)).tolist() == [7]


def test_an_exposure_may_hold_two_pointings():
    """A twelfth of one exposure was spent at the place of the cadence before."""
    motion = np.where(np.arange(60)[:, None] < 30, [[2.0, 0.5]], [[-2.5, -0.5]])
    motion = motion + 0.02 * np.random.default_rng(8).standard_normal((60, 2))
    flux = np.full(60, 8000.0)
    pixels, pairs = observe(motion, flux, np.zeros(60))
    seen = pixels.flux.copy()
    both = shifted(motion[29:31], pairs)
    seen[30] += flux[30] / 12 * (both[0] - both[1])
    prf = MovedPrf(gaussian, np.zeros((1, 2)), still())
    values = gaussian(pairs.source, pairs.dx, pairs.dy)
    smear = measure_smear(replace(pixels, flux=seen), prf, mean_of(pairs), np.array([8000.0]), motion=motion)
    assert smear[30, 0] == pytest.approx(1 / 12, abs=0.01)
    others = np.delete(np.arange(60), 30)
    assert smear[others].max() < 0.005
    shift = build_shift(motion, prf, pairs, mean=gaussian, scale=SCALE, smear=smear)
    expected = (1 - smear[30, 0]) * both[1] + smear[30, 0] * both[0]
    np.testing.assert_allclose(shift.mix[30] @ (shift.factors(pairs) * values), expected, atol=1e-3 * values.max())
