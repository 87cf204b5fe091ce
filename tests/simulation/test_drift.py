"""Drifting scenes with known truth: light curves beside the Cramer-Rao bound, transits, mean fluxes, short series."""

import warnings

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.errors import QualityWarning
from bayesprf.flags import QualityFlag
from bayesprf.scene.pairs import build_pairs
from bayesprf.simulation.fields import make_case
from bayesprf.simulation.settings import Transit

TRANSITS = tuple(Transit(source=i, depth=0.01, period=3.3, epoch=121.5, duration=0.5) for i in range(0, 100, 2))


def drift(time):
    """Move smoothly by 0.2 pixel, faster in the middle along columns and back and forth along rows."""
    u = (time - time[0]) / (time[-1] - time[0])
    return 0.2 * np.stack([u + 0.3 * u**2 - 0.3 * u**3, 0.3 * u - 0.6 * u**2 + 0.12 * np.sin(2 * u)], axis=1)


def simulate(seed=1, moves=drift, **changes):
    differential = 0.15 if moves is not None else 0.0
    return make_case("medium", np.random.default_rng(seed), drift=moves, drift_differential=differential, **changes)


def fit(field):
    """Fit all stages, with one PRF for all places."""
    machine = Machine.from_pixels(field.pixels, field.sources)
    machine.build_shape_model(method="joint", field_variation=0)
    machine.build_time_model()
    with warnings.catch_warnings():
        # a star with a quarter of its light on the pixels, where this PRF misses it, is held back
        warnings.filterwarnings("ignore", "the time model makes light curves worse", QualityWarning)
        machine.fit_model(fit_va=True)
    return machine


def relative(flux, truth):
    """Return light curves over their mean, minus the true ones."""
    return flux / flux.mean(axis=0) - truth / truth.mean(axis=0)


class Selection:
    """Isolated stars of a field, and the bright ones among them."""

    def __init__(self, field):
        pairs = build_pairs(field.pixels, field.sources, 40.0)
        prf = np.asarray(field.true_design().tocsr()[pairs.pixel, pairs.source]).ravel()
        flux, n_source = field.mean_flux, field.sources.n_source
        light = flux[pairs.source] * prf
        total = np.bincount(pairs.pixel, light, minlength=field.pixels.n_pixel)[pairs.pixel]
        own = np.bincount(pairs.source, light * prf, minlength=n_source)
        others = np.bincount(pairs.source, (total - light) * prf, minlength=n_source)
        seen = np.bincount(pairs.source, prf, minlength=n_source)
        saturated = np.bincount(pairs.source, field.pixels.saturated[pairs.pixel] & (prf > 0.01), minlength=n_source)
        self.isolated = (others < 0.01 * own) & (seen > 0.5) & (saturated == 0)
        self.beside = (seen > 0.02) & (seen < 0.5) & (saturated == 0)
        self.bright = self.isolated & (flux > field.settings.instrument.flux_from_mag(14.0))


def scatter(field, flux):
    """Return the scatter of every light curve in units of the Cramer-Rao bound."""
    return relative(flux, field.flux).std(axis=0) / (field.cramer_rao() / field.mean_flux)


@pytest.fixture(scope="module")
def drifting():
    field = simulate(transits=TRANSITS, n_time=250)
    return field, fit(field), Selection(field)


def test_light_curves_reach_the_bound(drifting):
    field, machine, chosen = drifting
    plain, corrected = scatter(field, machine.ws), scatter(field, machine.ws_va)
    assert np.median(corrected[chosen.isolated]) < 1.3  # wanted: below 2
    assert np.median(corrected[chosen.bright]) < 2.0  # wanted: below 4
    assert np.median(plain[chosen.bright]) > 4.0  # beyond 8 by the errors as given, whose weights follow the motion


def pulls(field, machine, chosen):
    """Return the errors of isolated stars' light curves in units of the quoted ones."""
    error = machine.werrs_va / machine.ws_va.mean(axis=0)
    return np.abs(relative(machine.ws_va, field.flux) / error)[:, chosen.isolated].ravel()


def test_stars_beside_the_pixels_follow_their_light(drifting):
    """Held at the sum over the few pixels that there are, they scattered by 7 to 290 bounds."""
    field, machine, selection = drifting
    left = scatter(field, machine.ws_va)[selection.beside]
    assert left.size > 5
    assert np.median(left) < 1.5
    held = (machine.fit.flux_va.flags[0] & int(QualityFlag.TIME_MODEL_WORSE)) > 0
    assert held.sum() <= 1
    assert not np.any(held & ~selection.beside)


@pytest.mark.parametrize("seed", [1, *(pytest.param(one, marks=pytest.mark.slow) for one in (2, 3))])
def test_quoted_errors_cover(drifting, seed):
    """In each scene by itself: 63.3 to 66.0 % and 91.7 to 94.1 % in seven of them."""
    field = drifting[0] if seed == 1 else simulate(seed=seed, transits=TRANSITS, n_time=250)
    pull = pulls(*drifting) if seed == 1 else pulls(field, fit(field), Selection(field))
    assert 0.60 <= np.mean(pull < 1) <= 0.76
    assert 0.90 <= np.mean(pull < 2) <= 0.98


def test_transits_keep_their_depth(drifting):
    field, machine, chosen = drifting
    factor = TRANSITS[0].factor(field.pixels.time)
    inside, outside = factor < 0.9901, factor == 1.0
    stars = np.flatnonzero(chosen.bright & np.isin(np.arange(chosen.bright.size), [t.source for t in TRANSITS]))
    flux = machine.ws_va[:, stars]
    depth = 1.0 - flux[inside].mean(axis=0) / flux[outside].mean(axis=0)
    noise = machine.werrs_va[:, stars].mean(axis=0) / flux.mean(axis=0) / np.sqrt(inside.sum())
    assert stars.size >= 5
    assert np.abs(np.mean(depth) - 0.01) < 0.02 * 0.01 + 3 * np.sqrt(np.mean(noise**2) / stars.size)
    assert np.median(np.abs(depth - 0.01)) < 0.02 * 0.01 + np.median(noise)


def test_mean_fluxes_stay(drifting):
    _, machine, chosen = drifting
    moved = machine.ws_va.mean(axis=0) / machine.ws.mean(axis=0) - 1.0
    assert np.abs(moved[chosen.isolated]).max() < 5e-3


def test_nothing_is_lost_without_drift():
    field = simulate(moves=None, n_time=100)
    machine, chosen = fit(field), Selection(field)
    assert np.median(scatter(field, machine.ws_va)[chosen.isolated]) < 1.05
    assert np.median(scatter(field, machine.ws_va)[chosen.bright]) < 1.05


@pytest.mark.parametrize("n_time", [2, 20, pytest.param(120, marks=pytest.mark.slow)])
def test_short_series_gain(n_time):
    """PSFMachine's default resolution leaves 1e7 ppm on 120 cadences."""
    field = simulate(seed=3, n_time=n_time, n_source=100, n_stamp=88)
    machine, chosen = fit(field), Selection(field)
    assert np.median(scatter(field, machine.ws_va)[chosen.bright]) < 4.0
    if n_time > 2:  # two cadences lie at equal distances from their mean, and lose the same
        assert np.median(scatter(field, machine.ws)[chosen.bright]) > 4.0  # beyond 6 by the errors as given


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayesprf.errors.QualityWarning")
def test_twice_the_drift_by_default():
    """0.22 pixel to either side, with the PRF, and the time model, that are chosen by themselves.

    Of `docs/scripts/drift.py` on six fields bright stars are covered 58 to 64 and 86 to 94 %; here 64 and 91.
    """
    field = simulate(seed=51, moves=lambda time: 2.2 * drift(time), transits=TRANSITS, n_time=250)
    machine, chosen = Machine.from_pixels(field.pixels, field.sources, quiet=True), Selection(field)
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    assert np.median(scatter(field, machine.ws_va)[chosen.isolated]) < 1.3
    assert np.median(scatter(field, machine.ws_va)[chosen.bright]) < 1.8
    error = machine.werrs_va / machine.ws_va.mean(axis=0)
    pull = np.abs(relative(machine.ws_va, field.flux) / error)[:, chosen.bright]
    assert 0.60 <= np.mean(pull < 1) <= 0.76
    assert 0.90 <= np.mean(pull < 2) <= 0.98
