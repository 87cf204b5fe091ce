"""The time model of a Machine: what it holds, what its settings do, and its picture."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bent_drift import build, drift, simulate
from rolling_stars import rolling_machine

from bayesprf import Machine
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import DataWarning, InputError, StageError
from bayesprf.instruments import KEPLER
from bayesprf.settings import PerturbationOptions
from bayesprf.timemodel import stage
from bayesprf.timemodel.fit import GainModel
from bayesprf.timemodel.shift import ShiftModel


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
    with pytest.raises(InputError, match=r"kwargs: expected some of .*, got knots"):
        machine.build_time_model(knots=3)
    with pytest.raises(InputError, match=r"positions: expected one of .*'poscorr', 'centroid', got 'corners'"):
        machine.build_time_model(positions="corners")
    with pytest.raises(InputError, match="time_index: expected whole numbers from 0 to 149, got 150"):
        machine.perturbed_model(150)
    with pytest.raises(StageError, match=r"call build_shape_model\(\) first"):
        Machine.from_pixels(machine.pixels, machine.sources).build_time_model()
    with pytest.raises(StageError, match=r"call build_time_model\(\) first"):
        build(simulate(drift, n_time=10)).fit_model(fit_va=True)


@pytest.mark.plots
def test_pointing_that_is_unknown_is_said():
    field = simulate(drift)
    motion = field.pixels.pos_corr.copy()
    motion[40:45, 1] = np.nan
    machine = build(replace(field, pixels=replace(field.pixels, pos_corr=motion)))
    with pytest.warns(
        DataWarning, match=r'positions: .* got none at 5 of 150, where the mean is taken; use "centroid"'
    ):
        machine.build_time_model(positions="poscorr")
    nothing = build(replace(field, pixels=replace(field.pixels, pos_corr=motion * np.nan)))
    with pytest.raises(InputError, match='positions: expected pixels with pos_corr for "poscorr", got none'):
        nothing.build_time_model(positions="poscorr")


def test_picture_shows_data_model_and_ratio(machine):
    figure = machine.plot_time_model()
    titles = [ax.get_title().split(",")[0] for ax in figure.axes]
    assert [title for title in titles if title in ("measured", "model", "left")] == 2 * ["measured", "model", "left"]
    assert figure.axes[0].get_ylabel() == "north offset (arcsec)"
    below = {ax.get_title(): ax for ax in figure.axes if ax.get_xlabel().startswith("time")}
    assert set(below) == {"pixels that change most: points measured, lines modelled", "what the model explains"}
    before, after = (line.get_ydata() for line in below["what the model explains"].get_lines())
    assert after[0] < 0.5 * before[0]


@pytest.fixture(scope="module")
def rolling():
    return rolling_machine()[0]


def test_a_shift_that_nobody_asked_for_is_kept_where_it_leaves_less(rolling, monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger="bayesprf"):
        rolling.build_time_model()
    assert isinstance(rolling.fit.time_model, ShiftModel)
    left = float(next(one for one in caplog.messages if "a shift of the PRF leaves" in one).split()[6])
    assert left < 0.5
    rolling.build_time_model(shift_limit=2.0)
    assert isinstance(rolling.fit.time_model, GainModel)
    compared = []

    def worse_by_a_shift(pixels, prf, model, chosen):
        compared.append(model)
        return 1.0 + isinstance(model, ShiftModel)

    monkeypatch.setattr(stage, "_left_over", worse_by_a_shift)
    rolling.build_time_model()
    kept = rolling.fit.time_model
    assert isinstance(kept, GainModel)
    # numbers of a pixel's own would leave nothing of the pixels that are compared
    assert np.any(kept.pixel_weights != 0)
    assert [bool(np.any(one.gain.pixel_weights != 0)) for one in compared] == [False, False]


def test_motion_that_is_no_more_than_noise_is_no_shift(rolling, monkeypatch):
    """Two numbers of each cadence, and light in each pixel, must leave less by more than such numbers do of noise."""
    rolling.build_time_model()
    shifted, prf, n_time = rolling.fit.time_model, rolling.fit.prf, rolling.pixels.n_time
    chosen = np.arange(50)
    asked = (2 * n_time + shifted.light.parts.shape[0] * chosen.size) * np.log(n_time * chosen.size)
    for share, kept in ((0.9, False), (1.1, True)):
        left = {True: 0.0, False: share * asked}
        monkeypatch.setattr(stage, "_left_over", lambda *args, left=left: left[args[2] is shifted] + 1.0)
        assert stage._leaves_less(rolling.pixels, prf, shifted, shifted.gain, chosen) is kept


def test_a_shift_is_tried_beside_plain_columns_and_a_prf_that_settled_or_where_the_spacecraft_rolls(rolling):
    steady = replace(rolling.pixels, instrument=KEPLER)
    fit, plain = replace(rolling.fit, pixels=steady), PerturbationOptions()
    assert stage._may_shift(fit, plain, None)
    # terms in time do not follow a roll, and on K2 leave light curves worse than a constant PRF does
    assert stage._may_shift(rolling.fit, plain, None)
    unsettled = replace(fit.prf, joint=SimpleNamespace(converged=False))
    assert not stage._may_shift(replace(fit, prf=unsettled), plain, None)
    for options in ({"positions": "poscorr"}, {"pca_ncomponents": 1}, {"splines": True}, {"trends": TrendOptions(0)}):
        assert not stage._may_shift(fit, PerturbationOptions(**options), None)
    assert not stage._may_shift(fit, plain, np.ones(120))
