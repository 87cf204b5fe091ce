"""The default method: the joint fit, and what is chosen between two of them."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import ConvergenceWarning, UnsupportedError
from bayesprf.flags import QualityFlag
from bayesprf.instruments import TESS
from bayesprf.machine import Machine
from bayesprf.prf import stage
from bayesprf.prf.instrument_prior import instrument_prior
from bayesprf.prf.joint.choice import (
    Choice,
    choose_fit,
    dark_light,
    expected_dark_light,
)
from bayesprf.prf.joint.stage import check_size
from bayesprf.prf.stage import _scene, select_image
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import PrfRecipe
from bayesprf.simulation.fields import make_case, make_field

WRONG = {"catalog_scale": 1.3, "catalog_scatter": 0.05, "position_scatter": 0.05, "reach_level": 1e-3}


@pytest.fixture(scope="module")
def field():
    return make_case("medium", np.random.default_rng(3), n_source=40, n_stamp=30, n_time=20, **WRONG)


@pytest.fixture(scope="module")
def fits(field):
    """A PRF whose core is too round, and that with the columns of the fit."""
    found = []
    for settings in ({"cut_r": 8.0}, {}):
        machine = Machine.from_pixels(field.pixels, field.sources, quiet=True, **settings)
        machine.build_shape_model(method="joint")
        found.append(machine.fit.need("prf"))
    return found


def test_default_is_the_joint_fit(field, fits, caplog):
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    with caplog.at_level(logging.INFO, logger="bayesprf"):
        machine.build_shape_model()
    assert machine.fit.prf_recipe.shape.method == "joint"
    assert machine.fit.prf_recipe.shape.prf is None
    np.testing.assert_array_equal(machine.fit.need("prf").flux, fits[1].flux)
    assert any(one.endswith("with smoothness alone as its prior settles") for one in caplog.messages)


@pytest.mark.parametrize(("settles", "taken"), [((True, True), None), ((False, True), "instrument")])
def test_the_record_is_asked_where_smoothness_alone_does_not_settle(field, fits, monkeypatch, settles, taken):
    """The instrument's record, if that settles."""
    pretend(monkeypatch, fits, dict(zip((None, "instrument"), settles, strict=True)))
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    assert machine.fit.prf_recipe.shape.prf == taken


def test_a_fit_that_does_not_settle_is_warned_of(field, fits, monkeypatch):
    pretend(monkeypatch, fits, {None: False, "instrument": False})
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    with pytest.warns(ConvergenceWarning, match="the PRF: expected a fit whose steps get small"):
        machine.build_shape_model()
    assert machine.fit.prf_recipe.shape.prf is None


def test_pixels_that_tell_of_no_prf_are_refused(field, monkeypatch):
    monkeypatch.setattr("bayesprf.prf.stage._try_jointly", lambda *given, **named: (None, "cannot be had: singular"))
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    with pytest.raises(UnsupportedError, match="pixels: expected some that tell of a PRF, but a fit of it cannot be"):
        machine.build_shape_model()


def pretend(monkeypatch, fits, settles):
    """Let fits with each prior settle or not."""

    def attempt(scene, recipe, **named):
        return replace(fits[1], joint=replace(fits[1].joint, converged=settles[recipe.shape.prf])), ""

    monkeypatch.setattr("bayesprf.prf.stage._try_jointly", attempt)
    monkeypatch.setattr("bayesprf.prf.stage._hides_sky", lambda scene, found: False)


def test_a_field_that_is_too_large_is_refused(field, monkeypatch):
    """Splines that reach ten pixels make 314 pairs a star, of which the cutouts hold a share."""
    pixels, n_star = field.pixels, field.sources.n_source
    share = pixels.n_pixel / np.prod([np.ptp(one) + 1.0 for one in (pixels.column, pixels.row)])
    monkeypatch.setattr("bayesprf.prf.joint.stage._MAX_PAIR", int(315 * n_star * share) + 1)
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    scene = _scene(machine.fit, select_image(machine.fit, "mean"), PrfRecipe())
    check_size(scene)
    check_size(replace(scene, basis=PolarBasis(rmax=16.0)))
    with pytest.raises(UnsupportedError, match=r"^pixels, sources: expected at most .* pairs of star and pixel, got"):
        check_size(replace(scene, basis=PolarBasis(rmax=40.0)))
    monkeypatch.setattr("bayesprf.prf.joint.stage._MAX_PAIR", int(314 * n_star * share))
    with pytest.raises(UnsupportedError, match="fit parts of the image, or leave out the faintest stars"):
        machine.build_shape_model()


def test_a_joint_fit_that_does_not_settle_is_not_taken(fits):
    plain, other = fits
    choice = choose_fit(plain, replace(other, joint=replace(other.joint, converged=False)))
    assert not choice.kept
    assert choice.reason == "does not settle"


def test_light_of_the_darker_pixels(fits):
    """Half of all pixels have less: the quarter point of the stars' light."""
    light = fits[1].fixed_light + fits[1].matrix.image(fits[1].flux)
    used = fits[1].image.ivar > 0
    assert dark_light(fits[1]) == pytest.approx(np.quantile(light[used], 0.25), rel=0.02)


def test_light_below_zero_is_misplaced(fits):
    """A faint star below zero costs little; one that takes as much below zero as bright stars give does not pay."""
    plain, other = fits
    flux = other.joint.flux.copy()
    for light, taken in ((3.0 * other.joint.flux_err[-1], True), (5.0 * flux.max(), False)):
        flux[-1] = -light
        below = replace(other, joint=replace(other.joint, flux=flux))
        assert choose_fit(plain, below).kept == taken


def test_a_joint_fit_that_misplaces_more_light_is_not_taken(fits):
    """A twentieth of the light of all cores elsewhere: more than a core that is too round misplaces."""
    plain, other = fits
    near = other.pairs.r < np.sqrt(other.prf.pixel_area)
    core = np.where(near, 0.05 * np.nan_to_num(other.flux)[other.pairs.source] * other.values, 0.0)
    image = other.joint.image - np.bincount(other.pairs.pixel, core, other.pairs.n_pixel)
    choice = choose_fit(plain, replace(other, joint=replace(other.joint, image=image)))
    assert not choice.kept
    assert float(choice.reason.split()[1]) > 100.0


def test_sky_is_not_taken_for_wings(field, caplog, monkeypatch):
    """20 electron / s in all pixels: the fit puts most of it into the stars, or a PRF that varies, and says so."""
    monkeypatch.setattr("bayesprf.prf.stage._may_follow_places", lambda found, order: True)
    pixels = replace(field.pixels, flux=field.pixels.flux + 20.0)
    machine = Machine.from_pixels(pixels, field.sources, quiet=True)
    with caplog.at_level(logging.INFO, logger="bayesprf"):
        machine.build_shape_model()
    assert any("the pixels hold a sky of" in one for one in caplog.messages)
    assert any("a sky is found beside it too" in one for one in caplog.messages)
    sky = machine.fit.need("prf").sky_found
    assert abs(sky.level - 20.0) < 5.0 * sky.error < 2.0
    assert np.nanmedian(machine.fit.need("prf").flux / sky.flux) > 1.01
    machine.fit_model()
    assert machine.verdict.find(QualityFlag.SKY_LEFT) is not None


@pytest.mark.parametrize(("beside", "taken"), [((), 1), ((1,), 2), ((1, 2), 0)])
def test_a_surface_is_tried_where_a_plane_finds_a_sky_beside_it_too(monkeypatch, beside, taken):
    """What needs a sky at one order may need none at the next; what needs one at all orders is not taken."""
    fits = [SimpleNamespace(order=order, sky_found=None, sky_beyond=None, joint=None) for order in range(3)]
    fits[0].sky_found = object()
    monkeypatch.setattr(stage, "_may_follow_places", lambda found, order: True)
    monkeypatch.setattr(stage, "_try_jointly", lambda scene, recipe, before: (fits[recipe.shape.field_variation], ""))
    kept = {1: True, 2: bool(beside)}
    monkeypatch.setattr(stage, "choose_fit", lambda found, other, demanding: Choice(kept[other.order], "leaves"))
    sky = dict.fromkeys(beside, "some")
    monkeypatch.setattr(stage, "_find_sky", lambda fit, scene, recipe, found, few: sky.get(found.order))
    _, found, recipe = stage._varied(None, None, fits[0], PrfRecipe())
    assert found is fits[taken]
    assert recipe.shape.field_variation == (taken or None)


def test_a_star_listed_twice_shares_its_light(field, fits):
    sources = field.sources
    twice = SourceTable(
        (*sources.source_id, "again"),
        np.append(sources.ra_deg, sources.ra_deg[0]), np.append(sources.dec_deg, sources.dec_deg[0]),
        np.append(sources.flux, sources.flux[0]),
    )  # fmt: skip
    machine = Machine.from_pixels(field.pixels, twice, quiet=True)
    machine.build_shape_model(method="joint")
    flux = machine.fit.need("prf").flux
    assert flux[0] == flux[-1]
    assert 2.0 * flux[0] == pytest.approx(fits[1].flux[0], rel=1e-3)


def test_choice_does_not_follow_how_a_double_shares_its_light(fits):
    """A star that is listed twice gets its light by the catalogue's shares after the fit: no misfit of the PRF."""
    plain, other = fits
    assert choose_fit(plain, replace(other, flux=0.5 * other.flux)) == choose_fit(plain, other)


def test_positions_are_fitted_along_unless_they_are_held(field):
    """Catalogue positions are off by 0.05 arcsec per axis, and stars of this brightness tell theirs far better."""
    found = {}
    for refine in (None, False):
        machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
        machine.build_shape_model(refine=refine)
        machine.fit_model()
        bright = field.mean_flux > np.median(field.mean_flux)
        found[refine] = machine.fit.need("prf"), (machine.ws.mean(axis=0) / field.mean_flux - 1.0)[bright]
    assert found[None][0].positions.fitted
    assert not found[False][0].positions.fitted
    assert np.ptp(found[False][0].positions.shift, axis=0).max() == 0.0
    free, held = (np.std(found[one][1]) for one in (None, False))
    assert free < 0.5 * held


def test_what_the_record_expects_in_dark_pixels_is_its_profile_times_the_fluxes():
    """The likeliest profile of the record about each star, 8 pixels far, in the darker half of the pixels."""
    field = make_field(
        rng=np.random.default_rng(14), n_source=3, n_time=4, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(9.5, 11.5), min_separation=2.5, instrument=TESS,
    )  # fmt: skip
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint", prf="instrument")
    found = machine.fit.need("prf")
    pairs, expected = found.joint.problem.pairs, instrument_prior(TESS, pixel_axes(field.pixels))
    near = np.hypot(pairs.dx, pairs.dy) < expected.basis.rmax
    offset = np.stack([pairs.dx, pairs.dy], axis=1) - found.joint.shift[pairs.source]
    light = np.where(near, found.flux[pairs.source] * 10.0 ** expected.base.log10(*offset.T), 0.0)
    image = np.bincount(pairs.pixel, light, pairs.n_pixel)
    model = found.fixed_light + found.matrix.image(found.flux)
    dark = model <= np.median(model)
    assert expected_dark_light(found.joint, found) == pytest.approx(np.median(image[dark]), rel=0.1)
