"""What a first fit lacks is tried, and kept where it is better."""

from dataclasses import replace

import numpy as np
import pytest

import bayesprf as bp
from bayesprf import pipeline
from bayesprf.errors import InputError, QualityWarning
from bayesprf.flags import QualityFlag
from bayesprf.instruments import K2, TESS
from bayesprf.io.save import save_tree
from bayesprf.io.simulated import write_field
from bayesprf.machine import Machine
from bayesprf.quality.cures import choose_sky, light_curve_scatter, with_cures
from bayesprf.quality.record import Cure, Finding
from bayesprf.quality.stage import with_verdict
from bayesprf.simulation.fields import make_case, make_field


def roll(time):
    """Move stars by up to 0.8 pixel in six hours, and back at once."""
    return 0.8 * (np.mod((time - time[0]) / 0.25, 1.0) - 0.5)[:, None] * np.array([0.8, 0.6])


@pytest.fixture(scope="module")
def rolling():
    return make_field(
        rng=np.random.default_rng(11), n_source=24, n_time=60, n_stamp=20, mag_range=(11.0, 14.0), min_separation=2.5,
        drift=roll, instrument=K2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def displaced():
    """Return a field whose catalogue is off by 0.4 pixel, star by star."""
    return make_field(
        rng=np.random.default_rng(12), n_source=24, n_time=12, n_stamp=20, mag_range=(11.0, 14.0), min_separation=3.0,
        position_scatter=0.3 * 3.98,
    )  # fmt: skip


def test_a_roll_is_followed(rolling):
    with pytest.warns(QualityWarning, match=r"rolls by .* pixel in 6 hours.*'centroid'.* and is applied") as caught:
        machine = bp.fit(rolling.pixels, rolling.sources, quiet=True)
    assert len(caught) == 1
    assert [(one.name, one.kept) for one in machine.verdict.cures] == [("roll", True)]
    usual, now = light_curve_scatter(machine.fit)
    assert np.median(now / usual) < 0.2
    bright = rolling.flux[0] > 2e4
    away = machine.ws_va / rolling.flux - 1.0
    assert np.median(np.std(away[:, bright], axis=0)) < 0.002


def test_nothing_is_tried_unless_asked(rolling):
    with pytest.warns(QualityWarning, match=r"MOTION_LEFT .*positions='centroid'"):
        machine = bp.fit(rolling.pixels, rolling.sources, cures=False, quiet=True)
    assert machine.verdict.cures == ()
    assert machine.fit.time_model is None
    # a time model that is asked for follows the roll, and leaves nothing to warn of
    machine = bp.fit(rolling.pixels, rolling.sources, fit_va=True, quiet=True)
    assert machine.verdict.cures == ()
    assert machine.verdict.find(QualityFlag.MOTION_LEFT) is None
    usual, now = light_curve_scatter(machine.fit)
    assert np.median(now / usual) < 0.2


@pytest.fixture(scope="module")
def freed(displaced, tmp_path_factory):
    """The fit of that field, from files, and where they are."""
    directory = tmp_path_factory.mktemp("displaced")
    files, catalog = write_field(directory, displaced)
    with pytest.warns(QualityWarning, match=r"refine=True, took the misplaced light .* and is applied"):
        return bp.fit(files, catalog, refine=False, quiet=True), directory


def test_positions_are_freed_where_that_mends_the_fit(displaced, freed):
    machine = freed[0]
    plain = bp.Machine.from_pixels(displaced.pixels, displaced.sources, quiet=True)
    plain.build_shape_model(refine=False)
    plain.fit_model()
    wrong = [np.median(np.abs(one.ws.mean(axis=0) / displaced.flux.mean(axis=0) - 1.0)) for one in (plain, machine)]
    assert wrong[1] < 0.2 * wrong[0]
    assert plain.verdict.find(QualityFlag.POSITION_OFF) is not None
    assert machine.verdict.find(QualityFlag.POSITION_OFF) is None


def test_the_default_needs_no_cure_for_positions(displaced):
    machine = bp.fit(displaced.pixels, displaced.sources, quiet=True)
    assert machine.verdict.cures == ()
    assert machine.verdict.find(QualityFlag.POSITION_OFF) is None
    assert np.median(np.abs(machine.ws.mean(axis=0) / displaced.flux.mean(axis=0) - 1.0)) < 0.002


def test_a_cure_that_was_tried_in_vain_is_advised_no_more(cases):
    """POOR_PRF advised refine_scene() after positions had been freed and that fit had been rejected."""
    fit = cases.fitted("sky")[1].fit
    flags = QualityFlag.POOR_PRF, QualityFlag.MOTION_LEFT
    sources = np.ones(fit.sources.n_source, bool)
    poor, moving = (Finding(flag, sources, 2.0, "a fault", "try refine_scene()") for flag in flags)
    fit = fit.with_stage("verdict", replace(with_verdict(fit).need("verdict"), findings=(poor, moving)))
    told = [
        with_cures(fit, [Cure("positions", kept, "a fault", "positions fitted along")]).need("verdict").findings
        for kept in (True, False)
    ]
    assert told[0] == (poor, moving)
    assert told[1][0].cure == "add stars to learn from, give the PRF of that place with prf=, or check the catalogue"
    assert told[1][1] == moving


def test_a_sky_is_fitted_whatever_stars_are_flagged_with_it(cases):
    """Total errors that hold sky hide the faults of stars: a constant beside a slope flags more, and is far better."""
    field, without = cases.fitted("sky")
    machine = bp.Machine.from_pixels(without.fit.pixels, field.sources, quiet=True, background="stamp")
    machine.build_shape_model()
    machine.fit_model()
    verdict = with_verdict(machine.fit).need("verdict")
    marked = Finding(QualityFlag.POOR_PRF, np.ones(field.sources.n_source, bool), 2.0, "a fault", "")
    other = machine.fit.with_stage("verdict", replace(verdict, findings=(marked,)))
    chosen, cure = choose_sky(without.fit, other)
    assert cure.kept
    assert chosen.settings.background is not None


def test_free_positions_are_not_advised_where_they_are_free(displaced):
    """The verdict on a fit with free positions names what is left to do."""
    machine = bp.Machine.from_pixels(displaced.pixels, displaced.sources, quiet=True)
    options = {"max_misplaced": 1e-9}
    machine.build_shape_model(refine=False, field_variation=0)
    machine.fit_model()
    assert "refine_scene()" in machine.quality(**options).find(QualityFlag.POOR_PRF).cure
    machine.refine_scene()
    machine.fit_model()
    assert "refine_scene()" not in machine.quality(**options).find(QualityFlag.POOR_PRF).cure


def test_a_sound_fit_is_left_alone(cases):
    field, machine = cases.fitted()
    again = bp.fit(field.pixels, field.sources, quiet=True)
    np.testing.assert_array_equal(again.ws, machine.ws)
    assert again.verdict.cures == ()


@pytest.mark.filterwarnings("ignore::bayesprf.errors.QualityWarning")
def test_a_tree_says_what_was_tried(freed):
    machine, directory = freed
    tree = machine.to_datatree()
    assert tree["quality/cure"].to_numpy().tolist() == ["positions"]
    assert tree["quality/cure_kept"].to_numpy().tolist() == [True]
    back = bp.load(save_tree(tree, directory / "out.nc"), quiet=True)
    assert back.verdict.cures == machine.verdict.cures
    np.testing.assert_array_equal(back.ws, machine.ws)


@pytest.fixture(scope="module")
def stamp():
    """Return one stamp of TESS with four stars."""
    return make_field(
        rng=np.random.default_rng(14), n_source=4, n_time=10, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(9.5, 12.5), min_separation=2.5, instrument=TESS,
    )  # fmt: skip


def far_off(machine, field):
    """Return how far fluxes of the field's stars are off, in total errors."""
    number = field.sources.n_source
    error = np.hypot(machine.common_errors.std, machine.werrs.mean(axis=0) / np.sqrt(machine.nt))[:number]
    return np.abs(machine.ws.mean(axis=0)[:number] - field.flux.mean(axis=0)[:number]) / error


def test_sky_that_few_stars_would_take_for_wings_is_found_and_fitted(stamp):
    """The joint fit with the instrument's record made fluxes of such stamps up to five times too large, silently."""
    lifted = replace(stamp.pixels, flux=stamp.pixels.flux + 100.0)
    with pytest.warns(QualityWarning, match=r"sky .*background='stamp', 1\d\d electron / s, .* and is applied"):
        machine = bp.fit(lifted, stamp.sources, quiet=True)
    assert np.all(far_off(machine, stamp) < 3.0)
    assert machine.fit.prf.background.weights[0] == pytest.approx(100.0, abs=3.0)


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
def test_sky_is_found_beside_a_record_that_is_asked_for():
    """Six of 14 stars are listed; with the record, which no sky was looked for beside, fluxes were 11 to 14 times."""
    field = make_field(
        rng=np.random.default_rng(4), n_source=14, n_time=6, layout="image", image_shape=(15, 15),
        mag_range=(9.0, 14.5), mag_slope=0.3, instrument=TESS,
    )  # fmt: skip
    keep = np.sort(np.argsort(-field.flux[0])[:6])
    lifted = replace(field.pixels, flux=field.pixels.flux + 150.0)
    machine = bp.fit(lifted, field.sources.select(keep), quiet=True, shape={"prf": "instrument"})
    np.testing.assert_allclose(machine.ws.mean(axis=0)[:6], field.flux.mean(axis=0)[keep], rtol=0.06)


def test_stars_that_the_catalogue_lacks_are_fitted_along(stamp):
    order = np.argsort(-stamp.flux[0])
    keep = np.arange(4) != order[1]
    with pytest.warns(QualityWarning, match=r"shows, uncatalogued-1, gave them fluxes of their own and is applied"):
        machine = bp.fit(stamp.pixels, stamp.sources.select(keep), quiet=True)
    assert next((one.name, one.kept) for one in machine.verdict.cures) == ("stars", True)
    assert machine.nsources == 4
    error = np.hypot(machine.common_errors.std, machine.werrs.mean(axis=0) / np.sqrt(machine.nt))
    truth = stamp.flux.mean(axis=0)
    assert np.all(np.abs(machine.ws.mean(axis=0)[:3] - truth[keep]) < 3.0 * error[:3])
    assert machine.ws.mean(axis=0)[3] == pytest.approx(truth[order[1]], rel=0.1)


def test_a_second_fit_that_fails_is_said(monkeypatch):
    def refuse(*_):
        raise InputError("pixels: expected some light")

    monkeypatch.setattr(pipeline, "_run", refuse)
    field = make_case("small", np.random.default_rng(1), n_time=2)
    bare = Machine.from_pixels(field.pixels, field.sources, quiet=True).fit
    failed = Cure("sky", False, "the sky is left", "a fit with it failed")
    kept, cures = pipeline._choose(bare, bare, pipeline.FitOptions(), None, failed)
    assert kept is bare
    assert [one.result for one in cures] == ["a fit with it failed: pixels: expected some light"]


def test_light_that_few_stars_take_for_errors_of_their_prf_is_fitted_along():
    """The second of four stars is missing: 44 to 60 % too bright, within errors learned from that light, before."""
    field = make_field(
        rng=np.random.default_rng(16), n_source=4, n_time=10, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(9.5, 12.5), min_separation=2.5, instrument=TESS,
    )  # fmt: skip
    keep = np.arange(4) != np.argsort(-field.flux[0])[1]
    with pytest.warns(QualityWarning, match=r"light that no source explains.*stars? that the mean image shows"):
        machine = bp.fit(field.pixels, field.sources.select(keep), quiet=True)
    assert machine.nsources == 4
    np.testing.assert_allclose(machine.ws.mean(axis=0)[:3], field.flux.mean(axis=0)[keep], rtol=0.02)


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
def test_sky_that_was_subtracted_too_much_is_put_back_beside_few_stars():
    """Without that they are 19 to 22 % too faint, flagged."""
    field = make_field(
        rng=np.random.default_rng(3), n_source=3, n_time=5, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(10.0, 12.5), min_separation=3.0, instrument=TESS,
    )  # fmt: skip
    pixels = replace(field.pixels, flux=field.pixels.flux - 15.0)
    machine = bp.fit(pixels, field.sources, quiet=True)
    assert np.all(machine.ws.mean(axis=0) / field.flux.mean(axis=0) > 0.95)
    # To a tenth, not a fifteenth, since wings may be as rough as real ones: they hold some of it (-14.0; -14.4 before).
    assert machine.fit.need("prf").background.typical_level()[0] == pytest.approx(-15.0, rel=0.1)
    (cure,) = (one for one in machine.verdict.cures if one.name == "sky")
    assert cure.kept
    assert cure.reason.startswith("more sky was subtracted")
