"""Positions of stars at the time of the data."""

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError
from bayesprf.scene.pixels import PixelTable

_MAS_PER_RADIAN = np.degrees(1.0) * 3_600_000.0
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


def move_positions(
    ra_deg: FloatArray, dec_deg: FloatArray, pmra: FloatArray, pmdec: FloatArray, years: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Carry positions along their proper motions.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n_source,)
        Positions, degree.
    pmra, pmdec : ndarray of float64, shape (n_source,)
        Proper motions, mas / yr, `pmra` times cos(dec) as in Gaia's tables; NaN means no motion.
    years : ndarray of float64, shape (n_source,)
        Time to move, Julian years.

    Returns
    -------
    ra_deg, dec_deg : ndarray of float64, shape (n_source,)
        Moved positions, degree, right ascension in [0, 360).

    Notes
    -----
    The unit vector r moves to r + years (pmra e + pmdec n), normalised, with e and n towards east and north: linear
    motion in space seen without parallax and radial velocity, right at the poles too (Gaia DR3 documentation,
    section 4.1.7). Sources that do not move keep their position to the bit.
    """
    moving = np.isfinite(pmra) & np.isfinite(pmdec) & (years != 0)
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    zero = np.zeros_like(ra)
    place = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.stack([-np.sin(ra), np.cos(ra), zero])
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    x, y, z = place + (pmra * east + pmdec * north) * years / _MAS_PER_RADIAN
    moved_ra, moved_dec = np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))
    return np.where(moving, moved_ra, ra_deg), np.where(moving, moved_dec, dec_deg)
