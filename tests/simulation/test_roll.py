"""K2's roll with known truth: sawtooth motion of up to a pixel within six hours."""

import warnings

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.errors import DataWarning
from bayesprf.instruments import K2
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import Transit
from bayesprf.timemodel.diagnostics import bin_by_pointing
from bayesprf.timemodel.fit import GainModel

TRANSIT = Transit(source=0, depth=0.015, period=2.3, epoch=121.1, duration=0.25)


def roll(time):
    """Roll to and fro by up to a pixel every six hours, and drift slowly across."""
    turn, phase = np.divmod((time - time[0]) / 0.25, 1.0)
    along = (0.7 + 0.3 * np.sin(1.7 * turn)) * (phase - 0.5)
    across = 0.1 * np.sin((time - time[0]) / 4.0)
    return np.stack([0.8 * along + 0.1 * along**2 - 0.6 * across, -0.6 * along + 0.64 * across], axis=1)


def simulate(seed, **changes):
    return make_field(drift=roll, instrument=K2, rng=np.random.default_rng(seed), **changes)


def fit(field, sources=None, **options):
    machine = Machine.from_pixels(field.pixels, field.sources if sources is None else sources, quiet=True)
    machine.build_shape_model(**options)
    machine.build_time_model(positions="centroid")
    machine.fit_model(fit_va=True)
    return machine


def scatter(field, flux, known=slice(None)):
    """Return the scatter of light curves over the Cramer-Rao bound, and which stars are brighter than K2 mag 14."""
    truth = field.flux[:, known]
    bound = (field.cramer_rao() / field.mean_flux)[known]
    rest = flux / flux.mean(axis=0) - truth / truth.mean(axis=0)
    return rest.std(axis=0) / bound, truth.mean(axis=0) > K2.flux_from_mag(14.0)


@pytest.fixture(scope="module")
def bulge():
    """Nine blended stars in a stamp of 10 x 10 pixels."""
    field = simulate(
        2, n_source=9, n_stamp=1, n_time=600, mag_range=(12.5, 15.0), stamp_sides=(10,), min_separation=1.5,
        transits=(TRANSIT,),
    )  # fmt: skip
    return field, fit(field)


@pytest.fixture(scope="module")
def stamps():
    """Sixty stars in fifty stamps; the roll is larger by 15 % at the edge of the field."""
    field = simulate(
        4, n_source=60, n_stamp=50, n_time=200, mag_range=(12.0, 16.5), stamp_sides=(7, 8, 9), drift_differential=0.15
    )
    return field, fit(field, method="joint", field_variation=0)


def test_blended_stars_in_a_stamp(bulge):
    field, machine = bulge
    (found, bright), (plain, _) = scatter(field, machine.ws_va), scatter(field, machine.ws)
    assert np.median(found) < 1.5
    assert np.median(found[bright]) < 2.0
    assert np.median(plain[bright]) > 100.0


def test_many_stamps(stamps):
    field, machine = stamps
    (found, bright), (plain, _) = scatter(field, machine.ws_va), scatter(field, machine.ws)
    assert np.median(found) < 1.5
    assert np.median(found[bright]) < 3.0
    assert np.median(plain[bright]) > 50.0  # beyond 100 by the errors as given, whose weights follow the motion


def test_level_and_transits_stay(bulge):
    field, machine = bulge
    factor = TRANSIT.factor(field.pixels.time)
    flux = machine.ws_va[:, 0]
    depth = 1.0 - flux[factor < 0.9851].mean() / flux[factor == 1.0].mean()
    assert depth == pytest.approx(TRANSIT.depth, rel=0.03)
    bright = field.mean_flux > K2.flux_from_mag(14.0)
    assert np.median(np.abs(machine.ws_va.mean(axis=0) / field.mean_flux - 1.0)[bright]) < 0.03


def test_the_motion_is_measured(stamps):
    field, machine = stamps
    measured = np.linalg.solve(pixel_axes(field.pixels), machine.fit.time_model.shift.motion.T).T
    true = field.pixels.pos_corr - field.pixels.pos_corr.mean(axis=0)
    assert np.all((measured - measured.mean(axis=0) - true).std(axis=0) < 0.01)
    side = np.linalg.svd(true, full_matrices=False)[2][0] @ pixel_axes(field.pixels).T
    side /= np.hypot(*side)
    assert side @ machine.fit.time_model.shift.prf.field.gain[0] @ side == pytest.approx(0.15, abs=0.03)


def test_the_prf_stays_positive_and_whole(stamps):
    _, machine = stamps
    times = np.linspace(0, machine.nt - 1, 20).astype(int)
    for matrix in machine.perturbed_model(times):
        assert matrix.data.min() > -1e-3
        assert matrix.sum(axis=1).max() < 1.05


@pytest.mark.slow
def test_unknown_stars_move_along():
    """A sixth of the stars is in no catalogue: their light is learned from the pixels.

    A PRF with no prior but smoothness does not settle beside them.
    """
    field = simulate(
        4, n_source=36, n_stamp=30, n_time=200, mag_range=(12.0, 16.5), stamp_sides=(7, 8, 9), drift_differential=0.15
    )
    known, whole = slice(0, 30), field.sources
    sources = SourceTable(whole.source_id[known], whole.ra_deg[known], whole.dec_deg[known], whole.flux[known])
    found, bright = scatter(field, fit(field, sources, prf="instrument").ws_va, known)
    assert np.median(found) < 3.0
    assert np.median(found[bright]) < 6.0


def test_pixels_follow_the_model_along_the_roll(bulge):
    """What `plot_time_model` draws where the PRF is shifted: pixels change by tens of per cent, the rest is small."""
    _, machine = bulge
    bins = bin_by_pointing(machine.pixels, machine.fit.prf, machine.fit.time_model)
    assert bins.data.shape == bins.model.shape == (24, bins.dx.size)
    assert np.ptp(bins.pointing) > 0.6
    assert np.all(np.diff(bins.pointing) > 0)
    change = np.where(bins.used, bins.data - 1.0, 0.0)
    left = np.where(bins.used, bins.data - bins.model, 0.0)
    assert change.std() > 0.1
    assert left.std() < 0.1 * change.std()
    figure = machine.plot_time_model()
    along = [ax for ax in figure.axes if ax.get_xlabel() == "pointing along the motion (pixel)"]
    assert len(along) == 2
    assert figure.axes[0].get_title().startswith("measured, -0.")


def test_small_motion_stays_with_time_columns(bulge):
    _, machine = bulge
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        machine.build_time_model(positions="centroid", shift_limit=np.inf)
    assert isinstance(machine.fit.time_model, GainModel)
    assert "centroid x" in machine.fit.time_model.names
