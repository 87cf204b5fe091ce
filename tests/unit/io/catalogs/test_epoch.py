"""Positions at the time of the data."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.time import Time

from bayesprf.errors import InputError
from bayesprf.instruments import GENERIC, TESS
from bayesprf.io.catalogs.epoch import julian_year_of


def test_year_of_the_data(make_pixels):
    pixels = make_pixels()
    wanted = Time(2454833.0 + np.median(pixels.time), format="jd").jyear
    assert julian_year_of(pixels) == pytest.approx(wanted, abs=1e-9)
    shifted = replace(make_pixels(instrument=TESS), time=1000.0 + np.arange(4))
    assert julian_year_of(shifted) == pytest.approx(Time(2458001.5, format="jd").jyear, abs=1e-9)


def test_year_needs_a_zero_of_time(make_pixels):
    with pytest.raises(InputError, match=r"whose instrument has time_zero_jd, got instrument 'generic'"):
        julian_year_of(make_pixels(instrument=GENERIC))
