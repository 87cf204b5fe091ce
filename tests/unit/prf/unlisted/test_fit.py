"""Stars that the image shows and the catalogue lacks, many of them: found, fitted along, and told as an error."""

import numpy as np
import pytest

from bayesprf.machine import Machine
from bayesprf.prf.joint.objective import JointOptions
from bayesprf.prf.joint.stage import build_problem
from bayesprf.prf.stage import _scene, select_image
from bayesprf.prf.unlisted import fit as fit_module
from bayesprf.prf.unlisted import peaks as peaks_module
from bayesprf.prf.unlisted.fit import Field, fit_with_uncatalogued
from bayesprf.prf.unlisted.peaks import _level, are_everywhere, find_uncatalogued, lacks_most, light_left
from bayesprf.settings import Background, PrfRecipe, ShapeOptions
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import CASES, replace

LACKING = 12


@pytest.fixture(scope="module")
def field():
    settings = replace(
        CASES["ffi"], n_source=60, image_shape=(56, 56), catalog_scale=1.3, background=40.0, reach_level=1e-5
    )
    return make_field(settings, rng=np.random.default_rng(5))


@pytest.fixture(scope="module")
def listed(field):
    """All but stars of medium flux."""
    order = np.argsort(-field.mean_flux)
    return ~np.isin(np.arange(order.size), order[15 : 15 + LACKING])


def fit(field, listed):
    pixels = replace(field.pixels, flux=field.pixels.flux + 40.0)
    machine = Machine.from_pixels(
        pixels, field.sources.select(listed), quiet=True, background=Background("image", order=0)
    )
    machine.build_shape_model(method="joint", field_variation=0)
    machine.fit_model()
    return machine


@pytest.fixture(scope="module")
def machine(field, listed):
    return fit(field, listed)


def test_their_light_is_known_with_its_error(field, listed, machine):
    found = machine.fit.need("prf").joint
    # Flux and place of each star that was fitted along.
    assert found.unlisted.shape[1] >= 3 * (LACKING - 2)
    lacking = np.asarray(field.prf_matrix.pattern.sum(axis=0)).ravel()[~listed] * field.mean_flux[~listed]
    assert found.problem.known.sum() == pytest.approx(lacking.sum(), rel=0.05)
    assert find_uncatalogued(machine.pixels, found)[1].size <= 2


def test_neither_sky_nor_fluxes_take_it(field, listed, machine):
    assert abs(np.median(machine.background_flux) - 40.0) < 0.5
    true, error = field.mean_flux[listed], machine.werrs_total[0]
    bright = np.argsort(-true)[:25]
    z = (machine.ws[0] - true)[bright] / error[bright]
    # One error that all share, of light beyond the pixels: 95 %.
    assert np.abs(np.median(z)) < 2.0
    assert np.median(np.abs(machine.ws[0] / true - 1.0)[bright]) < 0.01
    assert "uncatalogued" in machine.common_errors.parts


def test_a_complete_catalogue_stays_as_it_is(field):
    whole = fit(field, np.ones(field.mean_flux.size, bool)).fit.need("prf").joint
    assert whole.problem.known.sum() < 0.002 * field.mean_flux.sum()


def with_light(machine, unlisted):
    """Return the fit, as if light of faint stars differed by so much from pixel to pixel."""
    joint = machine.fit.need("prf").joint
    return replace(joint, hyper=replace(joint.hyper, unlisted=unlisted))


def test_light_that_is_left_scatters_as_the_pixels_do(machine):
    """By stars at random places, 20 electron / s in each pixel but at the edge."""
    fit = with_light(machine, 20.0)
    left = light_left(machine.pixels, fit, np.zeros(0))
    scatter = np.sqrt(np.asarray(left.multiply(left).sum(axis=1))).ravel()
    assert np.median(scatter) == pytest.approx(20.0, rel=0.1)
    assert lacks_most(fit)
    assert not lacks_most(machine.fit.need("prf").joint)


def test_in_a_large_image_a_star_stands_for_several(machine, monkeypatch):
    """The light scatters as much in the mean of all pixels, and in the sums over a star; its mean is the same."""
    fit, flux = with_light(machine, 20.0), np.array([3000.0])
    every = light_left(machine.pixels, fit, flux)
    monkeypatch.setattr(peaks_module, "MAX_QUICK_PIXEL", 1000)
    some = light_left(machine.pixels, fit, flux)
    assert some.shape[1] <= 1001 < every.shape[1]
    box = (np.abs(machine.pixels.column - 27.5) < 20.0) & (np.abs(machine.pixels.row - 27.5) < 20.0)
    square = [np.mean(one[:, :-1].power(2).sum(axis=1)) for one in (every, some)]
    assert square[1] == pytest.approx(square[0], rel=0.05)
    total = [np.sum(np.asarray(one[box, :-1].sum(axis=0)) ** 2) for one in (every, some)]
    assert total[1] == pytest.approx(total[0], rel=0.05)
    assert some[:, -1].sum() == pytest.approx(every[:, -1].sum(), rel=0.1)


def test_stars_are_everywhere_where_those_that_are_left_give_most_of_the_light(machine):
    """Left is as much as scatters so: the more is found, the more may be left."""
    fit, pixels = with_light(machine, 20.0), machine.pixels
    assert are_everywhere(pixels, fit, np.full(12, 3.0 * pixels.n_pixel))
    fit = replace(fit, decided=np.ones(pixels.n_pixel, bool))
    assert are_everywhere(pixels, fit, np.zeros(0))
    assert are_everywhere(pixels, fit, np.full(12, 0.5 * pixels.n_pixel))
    assert not are_everywhere(pixels, fit, np.full(12, 3.0 * pixels.n_pixel))
    # What is less than noise is nowhere.
    assert not are_everywhere(pixels, machine.fit.need("prf").joint, np.zeros(0))


@pytest.mark.filterwarnings("ignore::bayesprf.errors.ConvergenceWarning")
def test_a_fit_of_more_columns_begins_with_the_stars_of_the_one_before(machine, monkeypatch):
    """None is looked for again; where it does not settle so, all is."""
    before, scene = machine.fit.need("prf").joint, _scene(machine.fit, select_image(machine.fit, "mean"), PrfRecipe())
    start = build_problem(scene, ShapeOptions())

    def build(stars):
        return build_problem(replace(scene, sources=stars), ShapeOptions())

    def refuse(*_):
        raise LookupError("looked for again")

    monkeypatch.setattr(fit_module, "find_uncatalogued", refuse)
    field = Field(machine.pixels, machine.sources, build, JointOptions())
    again = fit_with_uncatalogued(field, before)
    assert again.found.n_source == np.count_nonzero(before.found.flux > 0)
    moved = (again.flux - before.flux) / before.flux_err
    assert np.median(np.abs(moved)) < 0.2
    assert again.n_iter < before.n_iter + 5
    assert start[0].sky.shape[1] == again.state.sky.size
    with pytest.raises(LookupError, match="looked for again"):
        fit_with_uncatalogued(replace(field, options=JointOptions(max_iter=1)), before)


def test_a_star_that_was_found_stands_for_those_that_would_not_be(machine):
    """Its like may hide where a brighter one's light errs by more than its flux, as densely as it was found."""
    fit, n_pixel = with_light(machine, 0.0), machine.pixels.n_pixel
    fit = replace(fit, hyper=replace(fit.hyper, eps=0.1))
    medium, bright = (light_left(machine.pixels, fit, np.array([one])) for one in (3000.0, 1e12))
    assert bright.sum() == 0.0
    hidden = medium[:, -1].sum() / 3000.0
    assert 0.01 < hidden < 1.0
    # Mean n f and variance n f**2 of a Poisson process.
    square = np.asarray(medium[:, :-1].power(2).sum()) / 3000.0**2
    assert square < hidden
    assert medium.shape[1] - 1 < n_pixel


def test_peaks_of_noise_are_as_many_above_as_below():
    rng = np.random.default_rng(2)
    noise = np.abs(7.0 * rng.standard_normal((2, 400)))
    assert np.count_nonzero(noise[0] >= _level(noise[0], noise[1])) < 20
    peaks = np.concatenate([noise[0], np.full(100, 40.0)])
    assert np.count_nonzero(peaks >= _level(peaks, noise[1])) >= 100
    assert _level(np.array([6.0]), np.zeros(0)) == 6.0
    assert _level(np.zeros(0), np.zeros(0)) == np.inf
