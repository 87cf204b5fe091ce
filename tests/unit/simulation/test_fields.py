"""The forward model: its noise, its catalogue and its truth agree with independent formulas."""

import numpy as np
import pytest

from bayesprf.simulation.fields import make_field


def _rng(seed=7):
    return np.random.default_rng(seed)


def test_design_times_flux_is_the_expected_image():
    field = make_field(n_source=25, n_time=6, rng=_rng(), variability=_rng(1).uniform(0.5, 1.5, (6, 25)))
    images = field.true_design() @ field.flux.T
    np.testing.assert_allclose(field.expected(), images.T, rtol=1e-12)
    np.testing.assert_array_equal(field.expected(2, 4), field.expected()[2:4])
    np.testing.assert_allclose(field.mean_flux, field.flux.mean(axis=0))


def test_drift_differs_over_the_field():
    drift = 0.1 * np.stack([np.arange(5.0), np.zeros(5)], axis=1)
    field = make_field(n_source=40, n_time=5, rng=_rng(), drift=drift, drift_differential=0.15)
    size = field.shift[-1, :, 0] / 0.2
    place = field.column - field.column.mean()
    assert np.corrcoef(place, size)[0, 1] > 0.999
    assert np.abs(size - 1).max() == pytest.approx(0.15, rel=1e-6)
    np.testing.assert_array_equal(field.pixels.pos_corr, drift)


def test_noise_has_the_quoted_size_and_is_white():
    field = make_field(n_source=20, n_time=400, rng=_rng())
    score = (field.pixels.flux - field.expected()) / field.pixels.flux_err
    n = score.size
    assert abs(score.mean()) < 4 / np.sqrt(n)
    assert abs(score.std() - 1) < 4 / np.sqrt(2 * n)
    lag = np.mean(score[1:] * score[:-1])
    assert abs(lag) < 4 / np.sqrt(n)
    variance = (field.expected() + 150.0) / 1625.0 + (1480.0 / 1625.0) ** 2
    np.testing.assert_allclose(field.pixels.flux_err**2, variance, rtol=1e-12)


def test_cramer_rao_is_the_dense_formula_and_is_reached():
    field = make_field(n_source=15, n_time=600, rng=_rng(3))
    dense = field.true_design().toarray()
    variance = np.mean(field.pixels.flux_err**2, axis=0)
    covariance = np.linalg.inv(dense.T @ (dense / variance[:, None]))
    np.testing.assert_allclose(field.cramer_rao(), np.sqrt(np.diag(covariance)), rtol=1e-8)
    fitted = covariance @ dense.T @ (field.pixels.flux / variance).T
    scatter = (fitted.T - field.flux).std(axis=0)
    np.testing.assert_allclose(scatter / field.cramer_rao(), 1.0, atol=4 / np.sqrt(2 * 600))


def test_cramer_rao_is_infinite_for_a_source_without_pixels():
    field = make_field(n_source=12, n_time=2, n_stamp=12, rng=_rng(), reach_level=1e5)
    lit = np.diff(field.true_design().tocsc().indptr) > 0
    assert 0 < lit.sum() < 12
    np.testing.assert_array_equal(np.isfinite(field.cramer_rao()), lit)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_catalog_scale_changes_only_the_catalog(scale):
    plain = make_field(n_source=20, n_time=3, rng=_rng())
    field = make_field(n_source=20, n_time=3, rng=_rng(), catalog_scale=scale)
    np.testing.assert_allclose(field.sources.flux, scale * field.mean_flux, rtol=1e-12)
    np.testing.assert_array_equal(field.pixels.flux, plain.pixels.flux)


def test_catalog_errors_have_the_asked_size():
    field = make_field(n_source=800, n_time=1, rng=_rng(), catalog_scatter=0.1, position_scatter=0.2)
    assert np.log(field.sources.flux / field.mean_flux).std() == pytest.approx(0.1, rel=0.1)
    ra, dec = field.sky.to_sky(field.column, field.row)
    north = (field.sources.dec_deg - dec) * 3600
    east = (field.sources.ra_deg - ra) * np.cos(np.radians(dec)) * 3600
    assert north.std() == pytest.approx(0.2, rel=0.1)
    assert east.std() == pytest.approx(0.2, rel=0.1)


def test_centroid_offset_separates_stars_from_the_catalog():
    field = make_field(n_source=20, n_time=1, rng=_rng(), centroid_offset=(0.3, -0.1))
    ra, dec = field.sky.to_sky(field.column - 0.3, field.row + 0.1)
    np.testing.assert_allclose(field.sources.ra_deg, ra, atol=1e-10)
    np.testing.assert_allclose(field.sources.dec_deg, dec, atol=1e-10)


def test_same_seed_same_bits_other_seed_other_field():
    one, two = (make_field(n_source=15, n_time=4, rng=_rng(11)) for _ in range(2))
    np.testing.assert_array_equal(one.pixels.flux, two.pixels.flux)
    np.testing.assert_array_equal(one.sources.ra_deg, two.sources.ra_deg)
    assert not np.array_equal(one.flux, make_field(n_source=15, n_time=4, rng=_rng(12)).flux)


def test_longer_series_have_the_same_stars():
    short, long = (make_field(n_source=15, n_time=n, rng=_rng()) for n in (2, 9))
    np.testing.assert_array_equal(short.column, long.column)
    np.testing.assert_array_equal(short.flux, long.flux[:2])
