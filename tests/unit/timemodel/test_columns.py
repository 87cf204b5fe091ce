"""Time columns measured from data: image motion and principal components."""

import numpy as np
from bent_drift import build, simulate

from bayesprf.instruments import K2
from bayesprf.timemodel.columns import common_components


def roll(time):
    """Roll by 0.3 pixel within 6 hours."""
    return 0.15 * np.stack([np.sin(2 * np.pi * time / 0.25), 0.5 * np.sin(2 * np.pi * time / 0.25)], axis=1)


def test_components_are_orthonormal_and_span_the_common_part():
    rng = np.random.default_rng(1)
    truth = np.linalg.qr(rng.normal(size=(80, 2)))[0]
    series = truth @ rng.normal(size=(2, 30)) + 1e-6 * rng.normal(size=(80, 30))
    found = common_components(series, 2)
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-10)
    np.testing.assert_allclose(found @ (found.T @ truth), truth, atol=1e-5)
    assert np.all(np.take_along_axis(found, np.argmax(np.abs(found), axis=0)[None], axis=0) > 0)


def test_a_series_of_its_own_is_no_component():
    rng = np.random.default_rng(2)
    common = np.sin(np.arange(100) / 9)
    series = 0.1 * np.outer(common, rng.uniform(0.5, 1.5, 40)) + 1e-3 * rng.normal(size=(100, 40))
    series[50, 3] = 30.0
    found = common_components(series, 1)[:, 0]
    assert abs(found @ common) / np.linalg.norm(common) > 0.99


def test_components_of_little_data():
    assert common_components(np.zeros((5, 3)), 2).shape == (5, 0)
    assert common_components(np.arange(5.0)[:, None], 3).shape == (5, 1)


def test_centroids_follow_the_roll_cadence_by_cadence():
    field = simulate(roll, K2)
    machine = build(field)
    machine.build_time_model(positions="centroid", poly_order=1)
    columns = machine.P.vectors[:, 2:4]
    true = field.pixels.pos_corr[:, 0] - field.pixels.pos_corr[:, 0].mean()
    assert max(abs(np.corrcoef(true, one)[0, 1]) for one in columns.T) > 0.99
    machine.fit_model(fit_va=True)

    def spread(flux):
        return np.median((flux / flux.mean(axis=0)).std(axis=0) / (field.cramer_rao() / field.mean_flux))

    assert spread(machine.ws_va) < 2.0
    assert spread(machine.ws) > 3 * spread(machine.ws_va)
