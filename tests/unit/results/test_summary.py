"""One line per source says what the tree says."""

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.flags import QualityFlag
from bayesprf.results.summary import point_scatter, summarize
from bayesprf.results.tree import build_tree


def make_tree(n_time=4001):
    rng = np.random.default_rng(5)
    time = np.linspace(0.0, 90.0, n_time)
    slow = 1.0 + 0.05 * np.sin(time / 20.0)
    flux = np.stack([100.0 * slow, 5000.0 * slow, np.full(n_time, np.nan)], axis=1)
    flux += np.array([2.0, 10.0, 0.0]) * rng.normal(size=flux.shape)
    flags = np.zeros(flux.shape, int)
    flags[3, 0] = QualityFlag.PIXELS_DROPPED
    flags[5, 0] = QualityFlag.NEGATIVE_FLUX
    flags[:, 2] = QualityFlag.NO_PIXELS
    photometry = {"flux": flux, "flux_err": np.full(flux.shape, [2.0, 10.0, np.nan]), "flags": flags}
    coords = {"time": time, "source": ["faint", "bright", "outside"]}
    return build_tree({"photometry": photometry, "catalog": {"mag": [16.0, 12.0, 14.0]}}, coords, {})


def test_lines_are_ordered_by_flux_and_hold_the_noise():
    bright, faint, outside = summarize(make_tree())
    assert [line.source for line in (bright, faint, outside)] == ["bright", "faint", "outside"]
    assert bright.mag == 12.0
    np.testing.assert_allclose(bright.flux, 5000.0, rtol=0.06)
    np.testing.assert_allclose(bright.scatter * bright.flux, 10.0, rtol=0.06)
    np.testing.assert_allclose(bright.error * bright.flux, 10.0, rtol=1e-9)
    np.testing.assert_allclose(faint.scatter * faint.flux, 2.0, rtol=0.06)
    assert np.isnan([outside.flux, outside.scatter, outside.error]).all()


def test_variability_is_the_spread_in_units_of_the_error():
    bright, faint, outside = summarize(make_tree())
    swing = 0.05 * np.sin(np.linspace(0.0, 90.0, 4001) / 20.0).std()
    np.testing.assert_allclose(bright.variability, np.hypot(5000.0 * swing, 10.0) / 10.0, rtol=0.02)
    np.testing.assert_allclose(faint.variability, np.hypot(100.0 * swing, 2.0) / 2.0, rtol=0.03)
    assert np.isnan(outside.variability)


def test_flags_of_all_cadences_are_joined_and_named():
    bright, faint, outside = summarize(make_tree())
    assert bright.flag_names == ""
    assert faint.flag_names == "PIXELS_DROPPED, NEGATIVE_FLUX"
    assert outside.flag_names == "NO_PIXELS"


def test_point_scatter_is_that_of_white_noise_and_blind_to_trends_and_outliers():
    rng = np.random.default_rng(11)
    noise = rng.normal(0.0, 3.0, size=(20_000, 1))
    noise[::500] += 1e4
    trend = np.linspace(0.0, 1e3, 20_000)[:, None]
    np.testing.assert_allclose(point_scatter(noise + trend), 3.0, rtol=0.03)


def test_one_cadence_has_no_scatter():
    line = summarize(make_tree(n_time=6))[0]
    assert np.isfinite(line.scatter)
    assert np.isnan(point_scatter(np.ones((2, 3)))).all()


def test_a_tree_without_fluxes_is_refused():
    tree = build_tree({"catalog": {"mag": [1.0]}}, {"source": ["a"]}, {})
    with pytest.raises(InputError, match=r"expected a group /photometry .* call fit_model\(\) first"):
        summarize(tree)
