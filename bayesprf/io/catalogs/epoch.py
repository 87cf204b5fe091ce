"""Positions of stars at the time of the data."""

import numpy as np

from bayesprf.errors import InputError
from bayesprf.scene.pixels import PixelTable

# Unit: Julian date of J2000.0, and days of a Julian year.
_JD_OF_2000, _DAYS_PER_YEAR = 2451545.0, 365.25


def julian_year_of(pixels: PixelTable) -> float:
    """Return the middle of the data as a Julian year.

    Parameters
    ----------
    pixels : PixelTable
        Its instrument must know its zero of time.

    Returns
    -------
    float
        2000 + (JD - 2451545) / 365.25, of the median time.

    Raises
    ------
    InputError
        If the instrument has no zero of time.
    """
    zero = pixels.instrument.time_zero_jd
    if zero == 0.0:
        raise InputError(
            f"epoch: expected pixels whose instrument has time_zero_jd, got instrument {pixels.instrument.name!r};"
            " give the epoch as a Julian year"
        )
    return float(2000.0 + (zero + np.median(pixels.time) - _JD_OF_2000) / _DAYS_PER_YEAR)
