"""Foreign truths: light is conserved, whatever the PRF."""

import numpy as np
import pytest

from bayesprf.instruments import TESS
from bayesprf.simulation.foreign import (
    Troubles,
    airy_intensity,
    bleed,
    gaussian_table,
    integrate_table,
    make_foreign,
    scaled_mixture,
)
from bayesprf.simulation.settings import FieldSettings
from bayesprf.simulation.true_prf import asymmetric_prf


def sum_over_pixels(prf, column, row, half=40):
    along = np.arange(-half, half + 1.0)
    x, y = np.meshgrid(along - column, along - row)
    return prf.evaluate(x.ravel(), y.ravel()).sum()


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.31, -0.44)])
def test_integrated_tables_sum_to_one_at_any_place(place):
    airy = integrate_table(airy_intensity(n=256), 1.0 / 8.0)
    np.testing.assert_allclose(sum_over_pixels(airy, *place), 1.0, atol=2e-4)


def test_scaling_widens_and_conserves():
    wide = scaled_mixture(asymmetric_prf(), 1.2)
    assert wide.evaluate(np.zeros(1), np.zeros(1))[0] < asymmetric_prf().evaluate(np.zeros(1), np.zeros(1))[0]
    np.testing.assert_allclose(sum(part.weight for part in wide.parts), 1.0, rtol=1e-12)


def test_bleeding_conserves_light_and_keeps_to_its_column():
    row, column = (one.ravel().astype(float) for one in np.mgrid[0:41, 0:3])
    image = np.where((row == 20) & (column == 1), 1e6, 10.0)
    out = bleed(image, column, row, 1e5)
    np.testing.assert_allclose(out.sum(), image.sum(), rtol=1e-3)
    assert out.max() < 1.01e5
    np.testing.assert_array_equal(out[column != 1], 10.0)


def test_catalogue_lacks_faint_stars_and_sky_is_left_in():
    table = gaussian_table(np.array([[1.0, 0.0, 0.0, 0.6, 0.0, 0.6]]))
    settings = FieldSettings(n_source=60, n_time=2, layout="image", image_shape=(25, 25), instrument=TESS)
    troubles = Troubles(sky=(150.0, 40.0, 0.0), missing_faint=0.5)
    field = make_foreign(settings, lambda u, v: table, rng=np.random.default_rng(1), troubles=troubles)
    missing = field.field.mean_flux[~field.listed]
    assert 5 < missing.size < 25
    assert missing.max() < np.median(field.field.mean_flux)
    assert field.field.sources.n_source == field.flux.size
    np.testing.assert_allclose([field.sky.min(), field.sky.max()], [110.0, 190.0])
