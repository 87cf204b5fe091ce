"""Stars put into pixels: their light, their noise, and the catalogue that names them."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.scene.prf import PrfModel
from bayesprf.simulation.fields import make_case
from bayesprf.simulation.injection import NewStars, collecting_time, inject_stars
from bayesprf.simulation.settings import Transit

SIDE = 3.98


@pytest.fixture(scope="module")
def field():
    return make_case("small", np.random.default_rng(3), n_time=200)


@pytest.fixture(scope="module")
def prf():
    basis = PolarBasis(1.0, 30.0, 1.5, 10, 15)
    width = 1.2 * SIDE
    return PrfModel(basis, -2.5 * np.log10(1.0 + (basis.centers / width) ** 2), SIDE**2).normalized()


def inject(field, prf, stars, seed=1):
    return inject_stars(
        field.pixels, field.sources, prf, stars, offset=(0.5, -0.3), scale=2.0, rng=np.random.default_rng(seed)
    )


def test_added_light_is_the_prf_at_the_shifted_place(field, prf):
    """All that is added, in the mean over 200 cadences, to the photon noise of the mean."""
    pixel = int(np.argmin(field.pixels.flux.mean(axis=0)))
    stars = NewStars(field.pixels.ra_deg[pixel], field.pixels.dec_deg[pixel], 20_000.0)
    found = inject(field, prf, stars)
    added = (found.pixels.flux - field.pixels.flux).mean(axis=0)
    dx = (field.pixels.ra_deg - stars.ra_deg) * 3600.0 * np.cos(np.radians(stars.dec_deg)) - 0.5
    dy = (field.pixels.dec_deg - stars.dec_deg) * 3600.0 + 0.3
    near = np.hypot(dx, dy) < 30.0
    expected = 20_000.0 * prf.evaluate(dx[near], dy[near])
    noise = np.sqrt(expected / collecting_time(field.pixels) / 200)
    assert np.abs((added[near] - expected) / noise).max() < 5.0
    assert np.std((added[near] - expected) / noise) == pytest.approx(1.0, abs=0.3)


def test_errors_grow_by_the_photon_noise_of_the_added_light(field, prf):
    stars = NewStars(field.sources.ra_deg[0], field.sources.dec_deg[0], 50_000.0)
    found = inject(field, prf, stars)
    grown = found.pixels.flux_err**2 - field.pixels.flux_err**2
    added = (found.pixels.flux - field.pixels.flux).mean(axis=0)
    bright = added > 1000.0
    time = field.settings.exposure
    np.testing.assert_allclose(grown[0][bright], added[bright] / time, rtol=0.05)
    assert collecting_time(field.pixels) == pytest.approx(time, rel=0.03)


def test_transits_catalogue_and_truth(field, prf):
    time = field.pixels.time
    dip = Transit(source=1, depth=0.1, period=100.0, epoch=float(time[100]), duration=0.5)
    ra, dec = field.pixels.ra_deg[[0, 40]], field.pixels.dec_deg[[0, 40]]
    found = inject(field, prf, NewStars(ra, dec, np.array([500.0, 3000.0]), (dip,)))
    assert found.flux[100].tolist() == [500.0, pytest.approx(2700.0)]
    assert found.sources.source_id[-2:] == ("injected-0", "injected-1")
    np.testing.assert_array_equal(found.source, field.sources.n_source + np.arange(2))
    np.testing.assert_allclose(found.sources.flux[-2:], [250.0, 1500.0])
    np.testing.assert_array_equal(found.sources.flux[:-2], field.sources.flux)


def test_dropped_and_saturated_pixels_stay_so(field, prf):
    flux = field.pixels.flux.copy()
    flux[:, 3] = np.nan
    saturated = np.arange(field.pixels.n_pixel) == 5
    pixels = replace(field.pixels, flux=flux, saturated=saturated)
    stars = NewStars(pixels.ra_deg[4], pixels.dec_deg[4], 1e7)
    found = inject_stars(pixels, field.sources, prf, stars, offset=(0.0, 0.0), scale=1.0, rng=np.random.default_rng(1))
    assert np.all(found.pixels.ivar[:, 3] == 0)
    assert found.pixels.saturated[5]
    assert found.pixels.saturated[4]


@pytest.mark.parametrize(
    ("flux", "transits", "message"),
    [
        (0.0, (), "flux: expected fluxes above 0 electron / s, got 0"),
        (1.0, (Transit(source=1, depth=0.1, period=1.0, epoch=0.0, duration=0.1),), "transits: expected stars 0 to 0"),
    ],
)
def test_refuses_dark_stars_and_transits_of_none(flux, transits, message):
    with pytest.raises(InputError, match=message):
        NewStars(290.0, 44.0, flux, transits)
