"""Time columns measured from data, the roll's share of brightness, and the two pictures of the time model."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.errors import InputError, StageError
from bayesprf.instruments import K2
from bayesprf.simulation.fields import make_field
from bayesprf.timemodel.columns import common_components
from bayesprf.timemodel.roll import add_roll_gain


def roll(time):
    """Roll by 0.3 pixel within 6 hours."""
    return 0.15 * np.stack([np.sin(2 * np.pi * time / 0.25), 0.5 * np.sin(2 * np.pi * time / 0.25)], axis=1)


def drift(time):
    """Move by 0.2 pixel."""
    u = (time - time[0]) / (time[-1] - time[0])
    return 0.2 * np.stack([u, 0.5 * u * u], axis=1)


def simulate(moves, instrument=None, n_time=150):
    others = {} if instrument is None else {"instrument": instrument}
    return make_field(
        n_source=24, n_stamp=24, n_time=n_time, mag_range=(12.0, 14.5), stamp_sides=(7, 8), drift=moves,
        rng=np.random.default_rng(7), **others,
    )  # fmt: skip


def build(field):
    machine = Machine.from_pixels(field.pixels, field.sources)
    machine.build_shape_model()
    return machine


@pytest.fixture(scope="module")
def machine():
    machine = build(simulate(drift))
    machine.build_time_model()
    return machine


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


def test_roll_gain_takes_what_fluxes_share_with_the_roll_and_leaves_slow_change():
    field = simulate(roll, K2, n_time=400)
    machine = build(field)
    machine.build_time_model(positions="centroid", poly_order=1)
    fit, time = machine.fit.time_model, field.pixels.time
    fit = replace(fit, source_weights=np.zeros_like(fit.source_weights))
    column = fit.names.index("centroid x")
    slow = 1.0 + 0.05 * np.sin(2 * np.pi * time / 6.0)
    flux = 1000.0 * (slow + 0.03 * fit.vectors[:, column])[:, None] * np.ones((1, 24))
    gain = add_roll_gain(fit, time, flux, 6.0).source_weights
    explained = fit.vectors[:, 1:] @ gain[:, 0]
    np.testing.assert_allclose(explained, 0.03 * fit.vectors[:, column], atol=2e-3)


def test_model_and_perturbed_model_agree(machine):
    first, last = machine.perturbed_model(np.array([0, 149]))
    np.testing.assert_allclose(first.data, machine.mean_model.data * machine.P.model(0)[0], rtol=1e-12)
    np.testing.assert_array_equal(machine.perturbed_model(-1).data, last.data)
    assert machine.P.weights.shape == (machine.P.shape[1],)
    assert machine.P.matrix.shape == (machine.P.nbins * machine.mean_model.nnz, machine.P.weights.size)


def test_own_fit_of_the_matrix_replaces_the_model(machine):
    matrix = machine.P
    matrix.fit(np.full((150, machine.mean_model.nnz), 1.0))
    np.testing.assert_allclose(matrix.model(3), 1.0, atol=1e-3)


def test_rerunning_drops_what_depended_on_it(machine):
    machine.fit_model(fit_va=True)
    first = machine.ws_va.copy()
    machine.build_time_model()
    with pytest.raises(StageError, match=r"call fit_model\(fit_va=True\) first"):
        machine.ws_va  # noqa: B018
    machine.fit_model(fit_va=True)
    np.testing.assert_array_equal(machine.ws_va, first)
    machine.time_nknots = 6
    with pytest.raises(StageError, match=r"call build_time_model\(\) first"):
        machine.perturbed_model(0)
    machine.time_nknots = 10
    machine.build_time_model()


@pytest.mark.parametrize(
    ("name", "value"),
    [("time_nknots", 6), ("time_resolution", 3), ("time_radius", 6.0), ("cartesian_knot_spacing", "linear")],
)
def test_settings_of_the_machine_matter(machine, name, value):
    before, kept = machine.perturbed_model(0).data, getattr(machine, name)
    setattr(machine, name, value)
    machine.build_time_model()
    assert not np.array_equal(machine.perturbed_model(0).data, before)
    setattr(machine, name, kept)
    machine.build_time_model()
    np.testing.assert_array_equal(machine.perturbed_model(0).data, before)


def test_bad_arguments_are_refused(machine):
    with pytest.raises(InputError, match=r"kwargs: expected some of .*, got 'knots'"):
        machine.build_time_model(knots=3)
    with pytest.raises(InputError, match="positions: expected one of 'poscorr', 'centroid', got 'corners'"):
        machine.build_time_model(positions="corners")
    with pytest.raises(InputError, match="time_index: expected whole numbers from 0 to 149, got 150"):
        machine.perturbed_model(150)
    with pytest.raises(StageError, match=r"call build_shape_model\(\) first"):
        Machine.from_pixels(machine.pixels, machine.sources).build_time_model()
    with pytest.raises(StageError, match=r"call build_time_model\(\) first"):
        build(simulate(drift, n_time=10)).fit_model(fit_va=True)


@pytest.mark.plots
def test_picture_shows_data_model_and_ratio(machine):
    figure = machine.plot_time_model()
    titles = [ax.get_title() for ax in figure.axes]
    assert [title.split(",")[0] for title in titles[:9]] == 3 * ["data", "model", "data / model"]
    assert figure.axes[0].get_ylabel() == "north offset (arcsec)"
    assert figure.axes[6].get_xlabel().startswith("time")
    assert [ax.get_ylabel() for ax in figure.axes[9:]] == ["pixel / its mean", "data / model"]
