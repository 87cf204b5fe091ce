"""The PRF of an instrument's record: the facts it stands for."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.ndimage import uniform_filter

from bayesprf.errors import UnsupportedError
from bayesprf.instruments import GENERIC, KEPLER, TESS
from bayesprf.prf.instrument_prior import instrument_prior, moffat_table
from bayesprf.scene.prf import PrfModel

AXES = 21.0 * np.array([[-0.9, 0.3], [0.3, 0.9]])


def ensquared(half, widths):
    """Return the share of a Moffat profile's light within a square."""
    power, width = widths.power, widths.width
    share = quad(lambda angle: 1.0 - (1.0 + (half / np.cos(angle) / width) ** 2) ** (1.0 - power), 0.0, np.pi / 4)[0]
    return share * 4.0 / np.pi


def encircled_diameter(widths, share):
    """Return the diameter within which a share of the pixel-integrated light lies, pixel."""
    n_fine = 9
    along = np.arange(-10 * n_fine, 10 * n_fine + 1) / n_fine
    r2 = (along[:, None] ** 2 + along**2) / widths.width**2
    density = (widths.power - 1.0) / (np.pi * widths.width**2) * (1.0 + r2) ** -widths.power
    light = uniform_filter(density, n_fine, mode="constant").ravel()
    radius = np.hypot(along[:, None], along).ravel()
    order = np.argsort(radius)
    return 2.0 * np.interp(share, np.cumsum(light[order]) / n_fine**2, radius[order])


def test_kepler_profile_has_the_handbooks_widths():
    """45 % of the light in the brightest pixel, 20 to 62 over the field; 95 % within 4.2 pixels, 3.1 to 7.5."""
    widths = KEPLER.prf_widths
    assert ensquared(0.5, widths) == pytest.approx(0.45, abs=0.005)
    assert encircled_diameter(widths, 0.95) == pytest.approx(4.2, abs=0.1)
    extremes = {1.35: (0.20, 7.5), 0.616: (0.62, 3.1)}
    for width, (brightest, diameter) in extremes.items():
        extreme = replace(widths, width=width)
        assert ensquared(0.5, extreme) == pytest.approx(brightest, abs=0.03)
        assert encircled_diameter(extreme, 0.95) == pytest.approx(diameter, rel=0.1)
    assert widths.width_sigma == pytest.approx(np.log(max(extremes) / min(extremes)) / 4.0, abs=0.005)


def test_tess_profile_has_the_handbooks_widths():
    """Half of the light within a half width of 1 pixel, 90 % within sqrt(2 x 4) pixels."""
    assert ensquared(1.0, TESS.prf_widths) == pytest.approx(0.5, abs=0.005)
    assert ensquared(np.sqrt(8.0), TESS.prf_widths) == pytest.approx(0.9, abs=0.005)


def test_table_holds_the_light_of_the_profile():
    """What lies beyond the table's 8.5 pixels is what the closed form says, to a thousandth."""
    widths = KEPLER.prf_widths
    assert moffat_table(widths).sum() / 81.0 == pytest.approx(ensquared(8.5, widths), abs=1e-3)


def test_prior_is_normalised_and_its_width_is_that_of_the_record():
    prior = instrument_prior(TESS, AXES)
    prf = PrfModel(prior.basis, np.zeros(prior.basis.n_basis), 441.0 * 0.9, base=prior.base, wing_slope=prior.slope[0])
    assert prf.area() == pytest.approx(1.0, abs=0.02)
    # The first mode is the width: brightest pixels of profiles one standard deviation wider and narrower.
    widths = TESS.prf_widths
    sides = [replace(widths, width=widths.width * np.exp(sign * widths.width_sigma)) for sign in (1.0, -1.0)]
    expected = 0.5 * np.log10(ensquared(0.5, sides[0]) / ensquared(0.5, sides[1]))
    assert prior.weights_factor[0, 0] == pytest.approx(expected, abs=0.01)


def test_refuses_an_instrument_without_record():
    with pytest.raises(UnsupportedError, match="got generic; give the file of a saved PRF"):
        instrument_prior(GENERIC, AXES)
