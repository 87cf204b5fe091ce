"""One star more where few tell of the PRF: its evidence against a twin in the space of the pixels, and its place."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix

from bayesprf import Machine
from bayesprf.flags import QualityFlag
from bayesprf.instruments import TESS
from bayesprf.prf.joint.hyper import pixel_variance
from bayesprf.prf.joint.objective import JointOptions, fit_joint
from bayesprf.prf.joint.stage import build_problem
from bayesprf.prf.stage import _scene, select_image
from bayesprf.prf.unlisted.fit import Field, _without_doubtful
from bayesprf.prf.unlisted.linear import Linear
from bayesprf.prf.unlisted.search import (
    STRONG,
    _at_places,
    _places,
    evidence_of,
    hidden_light,
    light_in_cores,
    likeliest_star,
)
from bayesprf.scene.sky import ARCSEC_PER_DEG, nearest
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import PrfRecipe
from bayesprf.simulation.fields import make_field
from bayesprf.uncertainty.joint_errors import joint_factors

# The second of four stars is missing: its light passed for the PRF's, and the others were 54 % too bright to 98 % too
# faint, flagged for few calibrators alone.
SEED = 23


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(SEED), n_source=4, n_time=10, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0,
        mag_range=(9.5, 12.5), min_separation=2.5, instrument=TESS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def keep(field):
    return np.arange(4) != np.argsort(-field.flux[0])[1]


def build(pixels, sources, prf="instrument"):
    """Return the problem of a catalogue, beside the instrument's record."""
    recipe = PrfRecipe().updated(method="joint", prf=prf)
    fit = Machine.from_pixels(pixels, sources, quiet=True).fit
    return build_problem(_scene(fit, select_image(fit, recipe.frame_index), recipe), recipe.shape)


def first_step(pixels, sources):
    """Return a fit one step away from what the instrument's record expects."""
    return fit_joint(*build(pixels, sources), JointOptions(max_iter=1, robust=False))


def height(data, spread):
    """Return -2 ln of a normal density but for a constant."""
    lower = np.linalg.cholesky(spread)
    return np.sum(solve_triangular(lower, data, lower=True) ** 2) + 2.0 * np.sum(np.log(np.diag(lower)))


@pytest.mark.filterwarnings("ignore:fit_joint")
def test_evidence_is_that_of_normal_numbers(field, keep):
    """-2 ln p(y) of y ~ N(J P^-1 p, V + J P^-1 J'), and with the light of one more star."""
    found = first_step(field.pixels, field.sources.select(keep))
    place = _places(field.pixels)[::97]
    scene = Linear.about(field.pixels, found.problem, found.state, found.hyper)
    stars = _at_places(field.pixels, found.problem, found.state, place)[0]
    errors, brightest = 10.0 * found.hyper.errors, 2e4
    told = evidence_of(scene, errors, stars, brightest)
    root = np.linalg.inv(np.linalg.cholesky(scene.precision))
    believed = root.T @ root
    data = scene.residual - scene.columns @ believed @ scene.pull
    spread = np.diag(pixel_variance(scene.ivar, scene.growth, errors)) + scene.columns @ believed @ scene.columns.T
    without = height(data, spread)
    told_place = np.flatnonzero(np.isfinite(told.gain))
    assert told_place.size > 3
    for one in told_place[:4]:
        light = brightest * stars[:, one]
        assert told.gain[one] == pytest.approx(without - height(data, spread + np.outer(light, light)), abs=1e-3)


@pytest.mark.filterwarnings("ignore:fit_joint")
def test_a_missing_star_is_where_it_shines(field, keep):
    found = first_step(field.pixels, field.sources.select(keep))
    star = likeliest_star(field.pixels, field.sources.select(keep), found.problem, found.state, found.hyper)
    away = nearest(np.array([star.ra_deg]), np.array([star.dec_deg]), field.sources.ra_deg, field.sources.dec_deg)
    assert not keep[away[0][0]]
    assert away[1][0] < TESS.pixel_scale / np.sqrt(2.0)
    assert star.flux == pytest.approx(field.flux[0, ~keep][0], rel=0.2)


@pytest.mark.filterwarnings("ignore:fit_joint")
def test_a_complete_catalogue_lacks_none(field):
    found = first_step(field.pixels, field.sources)
    assert likeliest_star(field.pixels, field.sources, found.problem, found.state, found.hyper) is None


@pytest.mark.filterwarnings("ignore:fit_joint")
def test_none_is_looked_for_where_no_star_shines(field):
    found = first_step(field.pixels, field.sources)
    dark = replace(found.state, flux=np.zeros(4))
    assert likeliest_star(field.pixels, field.sources, found.problem, dark, found.hyper) is None


def test_its_light_is_told_and_leaves_the_others_right(field, keep):
    machine = Machine.from_pixels(field.pixels, field.sources.select(keep), quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    z = (machine.ws.mean(axis=0) - field.flux[0, keep]) / machine.werrs_total.mean(axis=0)
    assert np.all(np.abs(z) < 2.0)
    # The first is faint, beside the brightest: it claims two fifths.
    assert machine.ws.mean(axis=0)[1:] == pytest.approx(field.flux[0, keep][1:], rel=0.02)
    assert [(one.name, one.kept) for one in machine.verdict.cures] == [("stars", True)]
    assert "light that no source explains" in machine.verdict.sentences[0]
    assert not np.any(machine.flags & int(QualityFlag.UNCATALOGUED_LIGHT))
    # One more like it would be seen wherever it lies.
    joint, flux = machine.fit.need("prf").joint, machine.ws.mean(axis=0)
    np.testing.assert_array_equal(joint.hidden, 0.0)
    assert "hidden" not in machine.common_errors.parts
    none = csr_matrix((flux.size, machine.pixels.n_pixel))
    light = np.arange(1.0, 4.0)
    np.testing.assert_array_equal(
        joint_factors(replace(joint, hidden=light), none, flux, None)["hidden"].toarray(), np.diag(light)
    )


def test_a_star_that_stands_for_the_prf_of_another_is_left_out(field):
    """One in the core of the brightest, and one that is there, both found: the second stays."""
    missing = np.arange(4) != np.argsort(-field.flux[0])[1]
    listed, brightest = field.sources.select(missing), int(np.argmax(field.flux[0, missing]))
    there = field.sources.select(~missing)
    beside = listed.dec_deg[brightest] + 1.2 * TESS.pixel_scale / ARCSEC_PER_DEG
    bogus = SourceTable(["bogus"], [listed.ra_deg[brightest]], [beside], 0.1 * listed.flux[[brightest]])
    scene = Field(field.pixels, listed, lambda stars: build(field.pixels, stars), JointOptions())
    every = listed.joined(bogus).joined(there)
    found, left = _without_doubtful(scene, fit_joint(*scene.build(every), scene.options), every)
    assert left.source_id == (*listed.source_id, *there.source_id)
    true = np.append(field.flux[0, missing], field.flux[0, ~missing])
    assert np.all(np.abs(found.flux - true) < 3.0 * found.flux_err)
    assert np.all(found.flux_err < 0.1 * true)


def test_fluxes_of_the_catalogue_are_expected_beside_a_record(field):
    """As far as their own size; a star without one is expected where the nominal PRF has it, and not so closely."""
    flux = np.where(np.arange(4) == 1, np.nan, 3.0 * field.sources.flux)
    prior = build(field.pixels, replace(field.sources, flux=flux))[0].prior
    known = np.isfinite(flux)
    ratio = prior.flux[known] / flux[known]
    assert np.ptp(ratio) < 1e-9 * ratio[0]
    assert 3.0 * ratio[0] == pytest.approx(1.0, abs=0.3)
    np.testing.assert_array_equal(prior.flux_width, np.where(known, 1.0, 30.0))
    # Without a record they are free, but of a star most of whose light lies beside the pixels.
    share = np.asarray(field.prf_matrix.pattern.sum(axis=0)).ravel()
    assert np.all((share > 0.8) | (share < 0.4))
    width = build(field.pixels, field.sources, prf=None)[0].prior.flux_width
    np.testing.assert_array_equal(width, np.where(share > 0.5, 30.0, 1.0))


@pytest.mark.filterwarnings("ignore:fit_joint")
def test_stars_hide_where_the_search_would_not_find_them(field):
    """One of a tenth of the second star's flux: counted place by place, among those of brighter ones; none beyond."""
    found = first_step(field.pixels, field.sources)
    second = np.argsort(-field.flux[0])[1]
    of_it = np.arange(4) == second
    state = replace(found.state, flux=np.where(of_it, 0.1, 1.0) * found.state.flux)
    fit = field.pixels, field.sources, found.problem, state, found.hyper
    beyond = hidden_light(*fit, found=np.arange(4) == np.argsort(-field.flux[0])[2])
    np.testing.assert_array_equal(beyond, 0.0)
    hidden = hidden_light(*fit, found=of_it)
    place, flux = _places(field.pixels), state.flux
    stars = _at_places(field.pixels, found.problem, state, place)[0]
    information = evidence_of(Linear.about(*fit[:1], *fit[2:]), found.hyper.errors, stars, 1e5).information
    faint = flux[second] ** 2 * information < STRONG + 2.0 * np.log(len(place) / 4)
    mean, square, seen, prf = np.zeros(4), np.zeros(4), 0, found.prf.normalized_at(np.zeros(2))
    for one, (ra, dec) in enumerate(place):
        east, north = (ra - field.sources.ra_deg) * np.cos(np.radians(dec)), dec - field.sources.dec_deg
        offset = ARCSEC_PER_DEG * np.stack([east, north], axis=1) - found.shift
        light = flux * prf.evaluate(*offset.T)
        owner, core = np.argmax(light), np.hypot(*offset.T) < 2.0 * np.sqrt(found.problem.pixel_area)
        seen += not faint[one] and not np.any(core & (flux > flux[second]))
        if faint[one] and flux[owner] > flux[second]:
            mean[owner] += flux[second] * stars[:, one].sum()
            square[owner] += (flux[second] * stars[:, one].sum()) ** 2
    expected = np.hypot(mean / seen, np.sqrt(square / seen))
    assert mean.max() > 0
    assert hidden == pytest.approx(expected, rel=0.02)
    np.testing.assert_array_equal(hidden_light(*fit, found=np.zeros(4, bool)), 0.0)


def test_pixels_beside_a_saturated_column_count(field):
    """Charge spills along columns alone: what lies beside them tells most of such a star."""
    saturated = np.arange(field.pixels.n_pixel) == np.argmax(field.pixels.flux[0])
    problem = build(replace(field.pixels, saturated=saturated), field.sources)[0]
    same = field.pixels.column == field.pixels.column[saturated]
    spilled = same & (np.abs(field.pixels.row - field.pixels.row[saturated]) <= 2)
    # Of the others one number counts, that of their sum.
    np.testing.assert_array_equal(problem.single, ~spilled)


def test_light_in_a_core_is_told_though_it_may_be_the_prfs(field):
    """A companion one pixel from a star of several: flagged as one or another PRF, and not where there is none."""
    star = int(np.argmax(field.mean_flux))
    light = field.mean_flux[star] * field.prf_matrix.pattern.toarray()[:, star]
    companion = 0.3 * np.roll(light.reshape(11, 11), 1, axis=0).ravel()
    found = []
    for more in (0.0, companion):
        machine = Machine.from_pixels(replace(field.pixels, flux=field.pixels.flux + more), field.sources, quiet=True)
        machine.build_shape_model(method="joint", prf="instrument")
        machine.fit_model()
        found.append(machine)
    nothing, told = (light_in_cores(one.fit.pixels, one.sources, one.fit.prf.joint.smooth) for one in found)
    assert nothing[1] is None
    assert not nothing[0].any()
    assert told[0].tolist() == (np.arange(4) == star).tolist()
    assert told[1].gain > STRONG
    assert 0.0 < told[1].flux < companion.sum()  # what the PRF has not taken of it
    flags = found[1].flags[0]
    assert flags[star] & int(QualityFlag.UNCATALOGUED_LIGHT)
    others = (np.arange(4) != star) & (flags & int(QualityFlag.LOW_PSF_FRACTION) == 0)
    assert others.any()
    assert np.all(flags[others] & int(QualityFlag.POOR_PRF))
