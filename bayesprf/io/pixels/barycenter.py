"""Barycentric times of single stars: light reaches the stars of a wide stack at different times."""

from typing import TYPE_CHECKING, cast

import numpy as np

from bayesprf.arrays import FloatArray, Named
from bayesprf.checks import as_float, check_finite, checked, shown
from bayesprf.errors import InputError, ShapeError, UnsupportedError
from bayesprf.instruments import SECONDS_PER_DAY
from bayesprf.io.pixels.stack import unit_vector
from bayesprf.scene.pixels import PixelTable

if TYPE_CHECKING:
    from collections.abc import Iterable

# Unit: speed of light, exact.
_LIGHT_KM_PER_S = 299792.458
# Definition: directions that span less than this part of their greatest distance across it lie on a line.
_FLAT = 1e-3


@checked
def barycentric_shift(pixels: PixelTable, ra_deg: object, dec_deg: object) -> FloatArray:
    """Return what `pixels.time` lacks to be the barycentric time of single stars.

    Parameters
    ----------
    pixels : PixelTable
        A stack of `read_tpfs` or `read_image`; its `meta` tells for which direction the times are.
    ra_deg, dec_deg : array-like, shape (n_star,), or float
        Sky positions, degree.

    Returns
    -------
    ndarray of float64, shape (n_time, n_star)
        To be added to the times, day.

    Raises
    ------
    InputError
        If the stack does not tell for which direction its times are, or a position is not finite.
    ShapeError
        If the two positions disagree in shape.
    UnsupportedError
        If the spacecraft's position is not known: Kepler and K2 with fewer than three files, not on a line.

    See Also
    --------
    bayesprf.read_tpfs : `time_at` gives the times of one star at once.

    Notes
    -----
    A signal from direction n that passes the spacecraft at r passes the solar-system barycentre r n / c later, so that
    times of direction n0 lack r (n - n0) / c: up to 8.7 s per degree. TESS is taken to be at the Earth, of which it
    is never farther than 1.5 light seconds (an error below 0.3 s over 12 degrees). The position of Kepler, across the
    line of sight, follows from the times of the files, each for its own target.

    Examples
    --------
    >>> shift = barycentric_shift(pixels, sources.ra_deg, sources.dec_deg)  # doctest: +SKIP
    """
    ra, dec = np.atleast_1d(as_float(ra_deg, "ra_deg")), np.atleast_1d(as_float(dec_deg, "dec_deg"))
    if ra.shape != dec.shape or ra.ndim != 1:
        raise ShapeError(f"dec_deg: expected one value per ra_deg, got shapes {ra.shape} and {dec.shape}")
    check_finite(ra, "ra_deg")
    check_finite(dec, "dec_deg")
    reference = pixels.meta.get("time_direction")
    if reference is None:
        raise InputError("pixels: expected a stack of read_tpfs, whose meta tells the direction of its times, got none")
    place = spacecraft_position(pixels.instrument.name, pixels.instrument.time_zero_jd, pixels.time, pixels.meta)
    away = unit_vector(ra, dec) - np.asarray(reference, np.float64)
    return np.asarray(place @ away.T / SECONDS_PER_DAY, np.float64)


def spacecraft_position(mission: str, zero_jd: float, time: FloatArray, meta: Named) -> FloatArray:
    """Return where the spacecraft was, from the solar-system barycentre.

    Parameters
    ----------
    mission : str
        Name of the instrument.
    zero_jd : float
        Julian date of time 0, day.
    time : ndarray of float64, shape (n_time,)
        Day.
    meta : mapping
        `file_directions`, shape (n_file, 3), and `file_time_offsets`, day, shape (n_file, n_time).

    Returns
    -------
    ndarray of float64, shape (n_time, 3)
        Light seconds, equatorial; only its part across the line of sight where it follows from the files.

    Raises
    ------
    UnsupportedError
        If it is not known.
    """
    if mission == "TESS":
        return _earth(time + zero_jd)
    directions = np.asarray(meta.get("file_directions", np.zeros((0, 3))), np.float64)
    offsets = np.asarray(meta.get("file_time_offsets", np.zeros((0, time.size))), np.float64)
    if len(directions) >= 3 and np.isfinite(offsets).all():
        spread = directions - directions.mean(axis=0)
        across = np.linalg.svd(spread, compute_uv=False)
        if across[1] > _FLAT * across[0] > 0:
            return np.asarray((np.linalg.pinv(spread, rcond=_FLAT) @ offsets).T * SECONDS_PER_DAY, np.float64)
    raise UnsupportedError(
        f"pixels: expected TESS, or at least three files in different directions, to know where {mission} was, got"
        f" {len(directions)}; correct the times by the spacecraft's ephemeris"
    )


def _earth(jd: FloatArray) -> FloatArray:
    """Return the position of the Earth, light seconds, shape (n_time, 3); ERFA's epv00, without download."""
    from astropy.coordinates import get_body_barycentric
    from astropy.time import Time

    place = get_body_barycentric("earth", Time(jd, format="jd", scale="tdb"), ephemeris="builtin")
    return np.asarray(place.xyz.to_value("km").T, np.float64) / _LIGHT_KM_PER_S


def parse_direction(value: object, name: str) -> tuple[float, float]:
    """Return right ascension and declination, degree, of a SkyCoord or a pair of numbers.

    Parameters
    ----------
    value : SkyCoord or pair of float
        One position.
    name : str
        Name of the argument, for the message.

    Returns
    -------
    tuple of float

    Raises
    ------
    InputError
        If it is neither.
    """
    given = (value.icrs.ra.deg, value.icrs.dec.deg) if hasattr(value, "icrs") else cast("Iterable[float]", value)
    try:
        ra_deg, dec_deg = (float(one) for one in given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected one SkyCoord or (ra, dec) in degrees, got {shown(value)}") from error
    if not (np.isfinite(ra_deg) and abs(dec_deg) <= 90.0):
        raise InputError(f"{name}: expected a position on the sky in degrees, got ({ra_deg}, {dec_deg})")
    return ra_deg, dec_deg
