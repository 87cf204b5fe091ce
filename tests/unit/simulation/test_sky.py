"""The tangent plane, beside astropy and the pairs of a field."""

import numpy as np
import pytest

from bayesprf.scene.pairs import build_pairs
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.sky import TangentPlane


def _rng(seed=7):
    return np.random.default_rng(seed)


def test_tangent_plane_agrees_with_astropy():
    from astropy.wcs import WCS

    sky = TangentPlane(359.99, 71.0, 500.0, 300.0, 3.98, 33.0)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cd = (359.99, 71.0), (501.0, 301.0), sky.cd_matrix
    column, row = _rng().uniform(0, 1000, (2, 50))
    ra, dec = sky.to_sky(column, row)
    expected = wcs.all_pix2world(column, row, 0)
    np.testing.assert_allclose(ra, expected[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(dec, expected[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("ra0", "dec0"), [(290.0, 44.5), (0.0, 10.0), (359.999, -60.0), (120.0, 80.0)])
def test_pairs_see_the_true_pixel_distances(ra0, dec0):
    """Across RA 0 and at high declination, offsets on the sky are offsets on the detector."""
    field = make_field(n_source=30, n_time=2, rng=_rng(), ra0=ra0, dec0=dec0, position_angle=25.0)
    pairs = build_pairs(field.pixels, field.sources, 20.0)
    column = field.pixels.column[pairs.pixel] - field.column[pairs.source]
    row = field.pixels.row[pairs.pixel] - field.row[pairs.source]
    assert pairs.n_pair > 500
    # The plane pairs use is tangent at each star; over 20 arcsec it bends by up to 20'' ^2 / 2 tan(dec).
    bend = 20.0**2 / 206265 * np.tan(np.radians(abs(dec0))) + 1e-3
    np.testing.assert_allclose(pairs.r, 3.98 * np.hypot(column, row), atol=bend)
    east, north = 3600 * field.sky.cd_matrix @ np.stack([column, row])
    # Far from the field's centre north turns by the convergence of the meridians, here below 1 %.
    assert np.abs(np.angle(np.exp(1j * (pairs.phi - np.arctan2(north, east))))).max() < 0.02


def test_position_angle_turns_north():
    upright = TangentPlane(10.0, 0.0, 0.0, 0.0, 4.0, 0.0)
    ra, dec = upright.to_sky(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose([(ra[0] - 10) * 3600, dec[1] * 3600], [-4.0, 4.0], rtol=1e-8)
    turned = TangentPlane(10.0, 0.0, 0.0, 0.0, 4.0, 90.0)
    ra, _ = turned.to_sky(np.array([0.0]), np.array([1.0]))
    assert (ra[0] - 10) * 3600 == pytest.approx(4.0)
