"""Parts of the shape fit on pixels without noise: reach, centroid, profile, geometry, wing."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.prf.extent import fit_extent
from bayesprf.prf.geometry import centroid_offset, fit_geometry
from bayesprf.prf.pixel_phase import Lattice
from bayesprf.prf.splines import Training, bin_training, fit_profile, model_variance
from bayesprf.prf.wing import fit_tail
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import PrfModel
from bayesprf.settings import MaskOptions, ShapeOptions

AREA = 15.84
N_STAR, N_EACH = 30, 40
LATTICE = Lattice.around(np.sqrt(AREA) * np.eye(2), 16.0)


def truth(**changes):
    """Return a PRF whose core is a Moffat, with some dependence on the angle outside, that obeys the sum rule."""
    basis = PolarBasis()
    weights = -2.5 * np.log10(1.0 + (basis.centers / 6.0) ** 2)
    index = np.arange(basis.n_basis - basis.n_core)
    weights[basis.n_core :] += 0.05 * np.cos(2.0 * np.pi * (index % basis.n_phi_knots) / basis.n_phi_knots)
    prf = PrfModel(basis, weights, AREA, **changes)
    for _ in range(6):
        rows, data = LATTICE.equations(prf)
        prf = replace(prf, weights=prf.weights + np.linalg.lstsq(rows, data - rows @ prf.weights, rcond=1e-10)[0])
    return prf.normalized()


def pixels_of(prf, *, radius=15.0, noise=0.0, seed=0):
    """Return training pixels around stars of 1e5 to 1e6 electron / s."""
    rng = np.random.default_rng(seed)
    n = N_STAR * N_EACH
    r, phi = radius * np.sqrt(rng.uniform(0, 1, n)), rng.uniform(0, 2 * np.pi, n)
    flux = np.repeat(10.0 ** rng.uniform(5, 6, N_STAR), N_EACH)
    dx, dy = r * np.cos(phi), r * np.sin(phi)
    y = flux * prf.evaluate(dx, dy)
    var = np.full(n, 4.0 if noise == 0.0 else noise**2)
    return Training(np.repeat(np.arange(N_STAR), N_EACH), dx, dy, y + noise * rng.normal(size=n), var, flux)


def test_profile_is_recovered_without_noise():
    prf = truth()
    found = fit_profile(
        pixels_of(prf), replace(prf, weights=np.zeros_like(prf.weights)), LATTICE, options=ShapeOptions(), fresh=True
    )
    r, phi = np.linspace(1.0, 14.0, 30), np.linspace(0.0, 6.0, 30)
    dx, dy = r * np.cos(phi), r * np.sin(phi)
    np.testing.assert_allclose(found.prf.evaluate(dx, dy), prf.evaluate(dx, dy), rtol=0.02)
    assert found.prf.area() == pytest.approx(1.0, rel=1e-12)
    assert found.area == pytest.approx(1.0, abs=0.01)
    assert found.keep.mean() > 0.98


def test_area_is_the_factor_of_the_training_fluxes():
    prf = truth()
    found = fit_profile(pixels_of(prf).scaled(0.5), prf, LATTICE, options=ShapeOptions(), fresh=True)
    assert found.area == pytest.approx(2.0, rel=0.01)


def test_outliers_are_clipped():
    prf = truth()
    training = pixels_of(prf, noise=20.0)
    spoiled = training.y.copy()
    spoiled[::50] *= 3.0
    bright = training.flux * prf.evaluate(training.dx, training.dy) > 2000.0
    found = fit_profile(replace(training, y=spoiled), prf, LATTICE, options=ShapeOptions())
    hit = np.zeros(spoiled.size, bool)
    hit[::50] = True
    assert not found.keep[hit & bright].any()
    assert found.keep[~hit].mean() > 0.95


def test_faint_wings_are_not_biased():
    """PSFMachine, defect 12: a fit to log10 flux drops negative pixels, so that wings come out too high."""
    prf = truth()
    training = pixels_of(prf, noise=600.0)
    far = np.hypot(training.dx, training.dy) > 10.0
    assert np.mean(training.y[far] < 0) > 0.1
    found = fit_profile(training, prf, LATTICE, options=ShapeOptions())
    fitted, true = (one.evaluate(training.dx[far], training.dy[far]).mean() for one in (found.prf, prf))
    assert fitted == pytest.approx(true, rel=0.1)


def test_no_pixel_is_refused():
    empty = Training(np.zeros(0, np.int64), *(np.zeros(0) for _ in range(5)))
    with pytest.raises(InputError, match=r"^training: expected pixels that one star lights, got none"):
        fit_profile(empty, truth(), LATTICE, options=ShapeOptions())


def test_variance_grows_with_the_scatter():
    training = pixels_of(truth())
    model = training.y
    assert np.array_equal(model_variance(training, model, 0.2, 0.0), training.var)
    expected = training.var + (np.log(10.0) * 0.01) ** 2 * model * training.flux * 0.2
    np.testing.assert_allclose(model_variance(training, model, 0.2, 0.01), expected, rtol=1e-12)


def test_binned_pixels_keep_light_and_weight():
    prf = truth()
    training = pixels_of(prf, noise=30.0)
    binned = bin_training(training, prf)
    assert binned.y.size < training.y.size / 3
    np.testing.assert_allclose(np.sum(1.0 / binned.var), np.sum(training.flux**2 / training.var), rtol=1e-12)
    np.testing.assert_allclose(
        np.sum(binned.y / binned.var), np.sum(training.y * training.flux / training.var), rtol=1e-12
    )


def test_common_shift_is_found():
    prf = truth()
    moved = pixels_of(prf).shifted(np.array([0.3, -0.2]))
    profile = fit_profile(moved, prf, LATTICE, options=ShapeOptions())
    profile = replace(profile, prf=prf)
    step = fit_geometry(profile, moved, LATTICE, smoothness=0.2)
    np.testing.assert_allclose(step[:2], [0.3, -0.2], atol=0.05)


def test_shear_is_found():
    sheared = pixels_of(truth(shear=(0.03, -0.02)))
    prf = truth()
    profile = replace(fit_profile(sheared, prf, LATTICE, options=ShapeOptions()), prf=prf)
    step = fit_geometry(profile, sheared, LATTICE, smoothness=0.2)
    np.testing.assert_allclose(step[2:], [0.03, -0.02], atol=0.01)


def test_centroid_is_a_first_guess():
    moved = pixels_of(truth()).shifted(np.array([1.0, -0.5]))
    np.testing.assert_allclose(centroid_offset(moved), [1.0, -0.5], atol=0.5)
    faint = replace(moved, var=np.full(moved.y.size, 1e16))
    np.testing.assert_array_equal(centroid_offset(faint), [0.0, 0.0])


@pytest.mark.parametrize("slope", [-2.8, -3.3, -4.2])
def test_slope_of_the_wing_is_found(slope):
    prf = truth(tail_slope=slope)
    training = pixels_of(prf, radius=60.0)
    training = replace(training, flux=training.flux * 1e3, y=training.y * 1e3)
    far = np.hypot(training.dx, training.dy) > 16.0
    chosen = Training(*(getattr(training, name)[far] for name in ("source", "dx", "dy", "y", "var", "flux")))
    _, found, error = fit_tail(prf.with_tail(-3.5), chosen, 1e-3)
    assert found == pytest.approx(slope, abs=0.05)
    assert 0 < error < 0.05


def test_wing_without_pixels_is_the_prior():
    nothing = Training(np.zeros(0, np.int64), *(np.zeros(0) for _ in range(5)))
    _, found, error = fit_tail(truth(), nothing, 1e-3, prior=(-3.1, 0.4))
    assert (found, error) == pytest.approx((-3.1, 0.4))


# Reach


@pytest.fixture
def lone_stars():
    """Stars far apart, whose light falls by a factor of ten every 5 arcsec."""
    x, y = (one.ravel() for one in np.meshgrid(np.arange(-28.0, 29.0, 4.0), np.arange(-28.0, 29.0, 4.0)))
    flux = 10.0 ** np.linspace(3.0, 6.0, 12)
    n = x.size
    pairs = PairTable(np.repeat(np.arange(12), n), np.arange(12 * n), np.tile(x, 12), np.tile(y, 12), 12, 12 * n)
    light = np.repeat(flux, n) * 0.1 * 10.0 ** (-pairs.r / 5.0)
    return pairs, Image(light, np.ones(12 * n), 1.0), flux


def test_reach_is_where_the_light_falls_to_the_limit(lone_stars):
    pairs, image, flux = lone_stars
    options = MaskOptions(lower_flux_limit=50.0, upper_radius_limit=100.0, lower_radius_limit=1e-3)
    reach = fit_extent(pairs, image, flux, pixel_scale=4.0, options=options)
    np.testing.assert_allclose(reach, np.maximum(5.0 * np.log10(flux * 0.1 / 50.0), 1e-3), rtol=1e-6)


def test_reach_does_not_depend_on_the_scale_of_the_catalogue(lone_stars):
    pairs, image, flux = lone_stars
    one, other = (fit_extent(pairs, image, flux * k, pixel_scale=4.0, options=MaskOptions()) for k in (1.0, 1e4))
    np.testing.assert_allclose(one, other, rtol=1e-8)


def test_reach_is_kept_in_its_limits(lone_stars):
    pairs, image, flux = lone_stars
    options = MaskOptions(upper_radius_limit=11.0, lower_radius_limit=9.0)
    reach = fit_extent(pairs, image, flux, pixel_scale=4.0, options=options)
    assert (reach.min(), reach.max()) == (9.0, 11.0)


def test_reach_without_light_is_the_smallest(lone_stars):
    pairs, image, flux = lone_stars
    dark = replace(image, ivar=np.zeros_like(image.ivar))
    reach = fit_extent(pairs, dark, flux, pixel_scale=4.0, options=MaskOptions(lower_radius_limit=5.0))
    np.testing.assert_array_equal(reach, 5.0)


def test_unknown_flux_gets_the_reach_of_a_typical_star(lone_stars):
    pairs, image, flux = lone_stars
    flux = np.where(np.arange(12) == 5, np.nan, flux)
    reach = fit_extent(pairs, image, flux, pixel_scale=4.0, options=MaskOptions(upper_radius_limit=100.0))
    assert reach[4] < reach[5] < reach[8]


@pytest.mark.parametrize("name", ["flux_cut_off", "smoothness", "clip_sigma", "max_neighbor_share", "min_snr"])
def test_bad_option_of_the_fit_is_refused(name):
    with pytest.raises(InputError, match=rf"^{name}: expected a finite number above 0, got -1"):
        ShapeOptions(**{name: -1})


@pytest.mark.parametrize("name", ["upper_radius_limit", "lower_flux_limit", "limit_radius"])
def test_bad_option_of_the_mask_is_refused(name):
    with pytest.raises(InputError, match=rf"^{name}: expected a finite number above 0, got 0"):
        MaskOptions(**{name: 0})
