"""Barycentric times of single stars against the ephemeris and against the files' own times."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time

import bayesprf as bp
from bayesprf.errors import InputError, ShapeError, UnsupportedError
from bayesprf.instruments import KEPLER, TESS
from bayesprf.io.pixels.stack import unit_vector
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.pixels.tpf_writer import write_tpf


@pytest.fixture
def tess(make_pixels, tmp_path):
    pixels = replace(make_pixels(instrument=TESS), time=1000.0 + 90.0 * np.arange(4.0))
    return write_tpf(tmp_path / "tess.fits", pixels, ra_deg=290.0, dec_deg=45.0)


def test_tess_moves_with_the_earth(tess):
    """Against the light travel time of astropy, from the middle of the Earth."""
    pixels = read_tpfs(tess)
    star = SkyCoord(297.0, 40.0, unit="deg")
    shift = bp.barycentric_shift(pixels, star.ra.deg, star.dec.deg)
    assert shift.shape == (4, 1)
    centre = EarthLocation.from_geocentric(0, 0, 0, unit="m")
    jd = Time(pixels.time + TESS.time_zero_jd, format="jd", scale="tdb", location=centre)
    travel = [
        jd.light_travel_time(one, ephemeris="builtin").to_value("s")
        for one in (star, SkyCoord(290.0, 45.0, unit="deg"))
    ]
    np.testing.assert_allclose(shift[:, 0] * 86400, travel[0] - travel[1], rtol=0, atol=1e-3)
    assert np.ptp(shift) * 86400 > 20


def test_times_at_a_star(tess):
    plain = read_tpfs(tess)
    moved = read_tpfs(tess, time_at=SkyCoord(297.0, 40.0, unit="deg"))
    np.testing.assert_array_equal(moved.time, plain.time + bp.barycentric_shift(plain, 297.0, 40.0)[:, 0])
    np.testing.assert_allclose(bp.barycentric_shift(moved, 297.0, 40.0), 0.0, atol=1e-15)
    np.testing.assert_array_equal(read_tpfs(tess, time_at=(290.0, 45.0)).time, plain.time)


def test_files_tell_where_kepler_was(make_pixels, tmp_path):
    """Files whose times are those of a spacecraft at (300, -200, 100) light seconds."""
    place = np.array([300.0, -200.0, 100.0])
    sky = [(289.0, 44.0), (290.5, 44.2), (289.8, 45.1), (290.2, 44.6)]
    paths = []
    for number, (ra_deg, dec_deg) in enumerate(sky):
        pixels = make_pixels(corner=(10 * number, 18), center=(ra_deg, dec_deg))
        pixels = replace(pixels, time=pixels.time + unit_vector(ra_deg, dec_deg) @ place / 86400)
        paths.append(write_tpf(tmp_path / f"{number}.fits", pixels, ra_deg=ra_deg, dec_deg=dec_deg))
    stack = read_tpfs(paths)
    assert stack.instrument is KEPLER
    star = (290.9, 43.9)
    moved = stack.time + bp.barycentric_shift(stack, *star)[:, 0]
    wanted = make_pixels().time + unit_vector(*star) @ place / 86400
    # The part along the line of sight is not known: it changes times by (angle squared) / 2, here 1e-4 of 374 s.
    np.testing.assert_allclose(moved * 86400, wanted * 86400, rtol=0, atol=0.06)
    assert np.abs(stack.time - wanted).max() * 86400 > 3
    for few in (paths[:2], paths[:1]):
        with pytest.raises(
            UnsupportedError, match=r"at least three files in different directions, .* where Kepler was"
        ):
            bp.barycentric_shift(read_tpfs(few), *star)


def test_arguments_are_checked(tess, make_pixels):
    pixels = read_tpfs(tess)
    with pytest.raises(ShapeError, match=r"dec_deg: expected one value per ra_deg, got shapes \(2,\) and \(1,\)"):
        bp.barycentric_shift(pixels, [1.0, 2.0], 3.0)
    with pytest.raises(InputError, match=r"ra_deg: expected finite numbers, got nan"):
        bp.barycentric_shift(pixels, np.nan, 3.0)
    with pytest.raises(InputError, match=r"pixels: expected a stack of read_tpfs, whose meta tells"):
        bp.barycentric_shift(make_pixels(), 1.0, 3.0)
    for wrong in (3.0, (1.0,), "star", (1.0, 100.0), (np.nan, 0.0)):
        with pytest.raises(InputError, match=r"time_at: expected"):
            read_tpfs(tess, time_at=wrong)
    assert read_tpfs(tess, time_at=SkyCoord(19.5 * units.hourangle, 45.0 * units.deg)).n_time == 4
