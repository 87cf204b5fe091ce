"""Geometry on the sphere."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time

from bayesprf.scene.sky import close_pairs, format_angle, move_positions, nearest


@pytest.mark.parametrize("years", [-3.5, 0.25, 40.0])
def test_motion_agrees_with_astropy(years):
    # Barnard's star, one close to the pole, one that crosses RA 0, one slow.
    ra_deg, dec_deg = np.array([269.45, 10.0, 1e-5, 132.6]), np.array([4.69, 89.99, -45.0, 11.6])
    pmra, pmdec = np.array([-801.6, 900.0, -1200.0, 3.1]), np.array([10362.4, 500.0, 30.0, -7.2])
    moved = move_positions(ra_deg, dec_deg, pmra, pmdec, np.full(4, years))
    here = SkyCoord(
        ra_deg * u.deg,
        dec_deg * u.deg,
        distance=np.full(4, 1e6) * u.pc,  # far, so that parallax does not enter
        pm_ra_cosdec=pmra * 1e-12 * u.mas / u.yr,
        pm_dec=pmdec * 1e-12 * u.mas / u.yr,
        obstime=Time(2015.5, format="jyear"),
    )
    # Walk the great circle of the motion by its length, the arc tangent of the linear displacement.
    length = np.hypot(pmra, pmdec) * abs(years) * u.mas
    angle = np.arctan2(np.sign(years) * pmra, np.sign(years) * pmdec) * u.rad
    wanted = here.directional_offset_by(angle, np.arctan(length.to_value(u.rad)) * u.rad)
    got = SkyCoord(moved[0] * u.deg, moved[1] * u.deg)
    assert got.separation(wanted).to_value(u.mas).max() < 1e-3
    assert np.all((moved[0] >= 0) & (moved[0] < 360))


def test_missing_motion_leaves_the_position_to_the_bit():
    ra_deg, dec_deg = np.array([0.1, 359.9]), np.array([1 / 3, -2 / 3])
    moved = move_positions(ra_deg, dec_deg, np.array([np.nan, 5.0]), np.array([1.0, 1.0]), np.array([3.0, 0.0]))
    np.testing.assert_array_equal(moved[0], ra_deg)
    np.testing.assert_array_equal(moved[1], dec_deg)


def test_neighbours_across_ra_zero():
    ra_deg, dec_deg = np.array([359.9999, 0.0001, 180.0]), np.zeros(3)
    index, distance = nearest(np.array([0.0]), np.array([1 / 3600]), ra_deg[1:], dec_deg[1:])
    assert index[0] == 0
    assert distance[0] == pytest.approx(np.hypot(0.36, 1.0), rel=1e-9)
    np.testing.assert_array_equal(close_pairs(ra_deg, dec_deg, 0.7201), [[0, 1]])
    assert close_pairs(ra_deg, dec_deg, 0.7199).shape == (0, 2)


@pytest.mark.parametrize(("arcsec", "text"), [(0.25, "0.25 arcsec"), (5400.0, "1.5 deg")])
def test_angles_are_written_in_the_unit_that_reads_well(arcsec, text):
    assert format_angle(arcsec) == text
