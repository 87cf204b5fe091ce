"""fit_model(robust=True): a cosmic ray moves nothing, clean data lose little, and what was held down is told."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.errors import InputError, UnsupportedError
from bayesprf.flags import QualityFlag
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.photometry.robust import fit_robustly
from bayesprf.simulation.fields import make_field

HIT = 17


@pytest.fixture(scope="module")
def field():
    return make_field(rng=np.random.default_rng(3), n_source=24, n_time=60, mag_range=(11.0, 16.0), stamp_sides=(6, 7))


def build(field, settings=(), **changes):
    """Return a Machine with its shape learned from the clean pixels, and pixels with changes."""
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True, **dict(settings))
    machine.build_shape_model()
    machine.fit = replace(machine.fit, pixels=replace(field.pixels, **changes))
    return machine


def fluxes(machine, **options):
    machine.fit_model(n_threads=1, **options)
    return machine.ws.copy()


@pytest.fixture(scope="module")
def clean(field):
    return build(field)


def struck(field, pixel, value=None):
    """Return the Machine with a hit of 30 standard deviations in a pixel, or with another value there."""
    flux = field.pixels.flux.copy()
    flux[HIT, pixel] = flux[HIT, pixel] + 30.0 * field.pixels.flux_err[HIT, pixel] if value is None else value
    return build(field, flux=flux)


def leverage(field, machine, star):
    """Return the share of a star's information that each pixel gives."""
    model = machine.mean_model[[star]].toarray().ravel() ** 2 * field.pixels.ivar[HIT]
    return model / model.sum()


@pytest.mark.parametrize("rank", [0, 4, 8])
def test_cosmic_ray_of_thirty_sigma(field, clean, rank):
    """The plain flux moves by more than 5 standard deviations, the robust one by less than half of one."""
    star = int(np.argsort(-field.mean_flux)[rank])
    pixel = int(np.argmin(np.abs(leverage(field, clean, star) - 0.035)))
    hit = struck(field, pixel)
    plain = np.abs(fluxes(hit) - fluxes(clean)) / clean.werrs
    robust = np.abs(fluxes(hit, robust=True) - fluxes(clean, robust=True)) / clean.werrs
    assert plain[HIT, star] > 5.0
    assert robust.max() < 0.5


@pytest.mark.parametrize("rank", [0, 4, 8])
def test_hit_on_the_peak_is_as_good_as_no_pixel(field, clean, rank):
    """Most of the information is lost with it, but nothing worse."""
    star = int(np.argsort(-field.mean_flux)[rank])
    peak = int(clean.mean_model[star].argmax())
    hit, without = struck(field, peak), struck(field, peak, np.nan)
    reference = fluxes(without, robust=True)
    robust = np.abs(fluxes(hit, robust=True) - reference) / without.werrs
    assert robust.max() < 0.5
    held = hit.down_weighted
    at = (held.cadence == HIT) & (held.pixel == peak)
    assert held.weight[at].size == 1
    assert held.weight[at][0] < 0.02
    assert held.weight.size < 4
    flagged = (hit.flags & QualityFlag.DOWN_WEIGHTED) != 0
    owners = hit.mean_model[:, [peak]].toarray().ravel() > 0
    np.testing.assert_array_equal(flagged[HIT], owners)
    assert flagged.mean() < 0.05


def test_clean_data_lose_little(field):
    """Bright stars too, whose pixels miss a PRF of few knots by many standard deviations at every cadence."""
    clean = build(field, {"n_r_knots": 4, "n_phi_knots": 4, "rmin": 4.0, "cut_r": 10.0})
    plain, bound = fluxes(clean), field.cramer_rao()
    squares = field.pixels.ivar * (field.pixels.flux - clean.model_flux) ** 2
    assert np.quantile(squares, 0.99) > 25.0
    robust = fluxes(clean, robust=True)
    assert clean.down_weighted.weight.size < 3
    ratio = robust.std(axis=0) / plain.std(axis=0)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.06)
    assert (robust.std(axis=0) / bound).max() < 1.4
    z = (robust - robust.mean(axis=0)) / clean.werrs
    assert z.std() == pytest.approx(1.0, abs=0.05)
    assert np.abs(robust.mean(axis=0) - plain.mean(axis=0)).max() < 0.3 * clean.werrs.max()


def test_time_model_too(field, clean):
    clean.build_time_model()
    clean.fit_model(fit_va=True, robust=True, n_threads=1)
    assert clean.fit.flux_va.down_weighted.weight.size < 3
    z = (clean.ws_va - field.flux) / clean.werrs_va
    assert np.median(z.std(axis=0)) == pytest.approx(1.0, abs=0.1)
    clean.fit = clean.fit.without("time_model")


def test_plain_fit_holds_nothing_down(clean):
    plain = fluxes(clean)
    assert clean.down_weighted.weight.size == 0
    assert clean.fit.latest_flux.down_weighted is None
    fluxes(clean, robust=True)
    np.testing.assert_array_equal(fluxes(clean), plain)


def test_same_call_same_bits(clean):
    np.testing.assert_array_equal(fluxes(clean, robust=True), fluxes(clean, robust=True))


def test_posterior_and_tree_are_those_of_the_weights(clean):
    fluxes(clean, robust=True)
    problem = clean.fit.flux.problem
    np.testing.assert_array_equal(BlockSolver(1).solve(problem).mean, clean.fit.flux.posterior.mean)
    assert np.isnan(clean.to_datatree()["photometry/log_evidence"]).all()
    with pytest.raises(UnsupportedError, match=r"^loo: expected a plain fit, got a robust one"):
        clean.loo()


def test_few_cadences_are_refused(clean):
    """They do not tell what is usual for a pixel."""
    fluxes(clean)
    with pytest.raises(InputError, match=r"^robust: expected at least 5 cadences, which tell .*, got 4; fit without"):
        fit_robustly(clean.fit.flux.problem.take(np.arange(4)), BlockSolver(1))
    five = fit_robustly(clean.fit.flux.problem.take(np.arange(5)), BlockSolver(1))
    assert np.isfinite(five.posterior.mean).all()


def test_missing_pixels_stay_out(field):
    flux = field.pixels.flux.copy()
    flux[3, 5] = np.nan
    flux[:, 7] = np.nan
    machine = build(field, flux=flux)
    assert np.isfinite(fluxes(machine, robust=True)).all()
    assert not np.isin(machine.down_weighted.pixel, [7]).any()


def wander(time):
    """Move stars by 0.05 pixel, smoothly."""
    phase = (time - time[0]) / 1.0
    return 0.05 * np.stack([np.sin(phase), np.cos(phase)], axis=1)


def test_drifting_images_without_a_time_model():
    """Of clean pixels hardly any is taken as an outlier, and fluxes move as without weights; 4 % and 28 % before."""
    field = make_field(
        rng=np.random.default_rng(3), n_source=24, n_time=120, n_stamp=18, mag_range=(11.0, 16.0), drift=wander
    )
    machine = build(field)
    plain = fluxes(machine)
    robust = fluxes(machine, robust=True)
    assert np.mean((machine.flags & QualityFlag.DOWN_WEIGHTED) != 0) < 0.01
    lit = np.asarray(machine.mean_model.sum(axis=1)).ravel() > 0.7
    assert np.median((robust.std(axis=0) / plain.std(axis=0))[lit]) == pytest.approx(1.0, abs=0.05)
    left = (machine.flux - machine.model_flux) / machine.flux_err
    assert np.percentile(np.abs(left), 99) < 3.5


def test_hit_on_drifting_images():
    field = make_field(
        rng=np.random.default_rng(3), n_source=24, n_time=120, n_stamp=18, mag_range=(11.0, 16.0), drift=wander
    )
    machine = build(field)
    clean = fluxes(machine, robust=True)
    star = int(np.nanargmax(machine.fit.prf.flux))
    pixel = int(machine.mean_model[star].argmax())
    flux = field.pixels.flux.copy()
    flux[HIT, pixel] += 3000.0
    hit = fluxes(build(field, flux=flux), robust=True)
    jump = np.abs(hit - clean) / machine.werrs
    # The peak holds most of the star's information: without it the flux is some errors less certain. A median over
    # some ten cadences, one of them hit, moves by part of their noise.
    assert jump[HIT, star] < 6.0
    assert np.delete(jump, HIT, axis=0).max() < 4.0
