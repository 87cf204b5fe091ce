"""Geometry on the sphere: unit vectors, nearest neighbours, close pairs and proper motion."""

import numpy as np
from scipy.spatial import cKDTree

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_finite, listed
from bayesprf.errors import InputError

# Unit: arcseconds of a degree.
ARCSEC_PER_DEG = 3600.0
_MAS_PER_RADIAN = np.degrees(1.0) * 3_600_000.0


def unit_vectors(ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Return positions as unit vectors.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n,)
        Positions, degree.

    Returns
    -------
    ndarray of float64, shape (n, 3)
    """
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def chord(arcsec: float) -> float:
    """Return the distance between two unit vectors so far apart."""
    return float(2.0 * np.sin(np.radians(min(arcsec / ARCSEC_PER_DEG, 180.0)) / 2.0))


def arc(chords: FloatArray) -> FloatArray:
    """Return the angle between unit vectors at these distances, arcsec."""
    return np.degrees(2.0 * np.arcsin(np.clip(chords / 2.0, 0.0, 1.0))) * ARCSEC_PER_DEG


def nearest(
    ra_deg: FloatArray, dec_deg: FloatArray, ra_among: FloatArray, dec_among: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Find the nearest of some positions to each of others.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n,)
        Positions to find neighbours of, degree.
    ra_among, dec_among : ndarray of float64, shape (n_among,)
        Positions among which to look, degree.

    Returns
    -------
    index : ndarray of int64, shape (n,)
        Which is nearest.
    distance : ndarray of float64, shape (n,)
        How far it is, arcsec.
    """
    tree = cKDTree(unit_vectors(ra_among, dec_among))
    chords, index = tree.query(unit_vectors(ra_deg, dec_deg))
    return index.astype(np.int64), arc(chords)


def close_pairs(ra_deg: FloatArray, dec_deg: FloatArray, limit: float) -> IntArray:
    """Find positions closer together than a limit.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n,)
        Positions, degree.
    limit : float
        Largest distance, arcsec.

    Returns
    -------
    ndarray of int64, shape (n_pair, 2)
        Indices of each pair, the smaller first, sorted.
    """
    found = cKDTree(unit_vectors(ra_deg, dec_deg)).query_pairs(chord(limit), output_type="ndarray")
    pairs = np.sort(found.astype(np.int64).reshape(-1, 2), axis=1)
    return pairs[np.lexsort(pairs.T[::-1])]


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
    moving = np.isfinite(pmra) & np.isfinite(pmdec) & np.isfinite(years) & (years != 0)
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    place = unit_vectors(ra_deg, dec_deg).T
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    x, y, z = place + (pmra * east + pmdec * north) * years / _MAS_PER_RADIAN
    moved_ra, moved_dec = np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))
    return np.where(moving, moved_ra, ra_deg), np.where(moving, moved_dec, dec_deg)


def format_angle(arcsec: float) -> str:
    """Return an angle as text, in degrees from one degree on."""
    return f"{arcsec / ARCSEC_PER_DEG:.4g} deg" if arcsec >= ARCSEC_PER_DEG else f"{arcsec:.4g} arcsec"


def check_sky(ra_deg: FloatArray, dec_deg: FloatArray, what: str) -> None:
    """Raise unless all positions are on the sky, naming those that are not.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n,)
        Positions, degree.
    what : str
        What has a position: "row" of a catalogue, or "pixel".

    Raises
    ------
    InputError
        If one is not finite, or not on the sky.
    """
    check_finite(ra_deg, "ra_deg")
    check_finite(dec_deg, "dec_deg")
    bad = np.flatnonzero((np.abs(ra_deg) > 360.0) | (np.abs(dec_deg) > 90.0))
    if bad.size:
        rows = listed(bad.tolist())
        raise InputError(
            f"ra_deg, dec_deg: expected right ascensions from -360 to 360 and declinations from -90 to 90 degree, got"
            f" {ra_deg[bad[0]]:g}, {dec_deg[bad[0]]:g} in {what} {bad[0]} ({bad.size} in all: {rows});"
            f" {_advise(ra_deg, dec_deg, bad, what)}"
        )


def _advise(ra_deg: FloatArray, dec_deg: FloatArray, bad: IntArray, what: str) -> str:
    """Return what to do about positions off the sky."""
    everywhere = bad.size == ra_deg.size
    if everywhere and np.all(np.abs(ra_deg) <= 90.0) and np.all(np.abs(dec_deg) <= 360.0):
        return "right ascension and declination are exchanged"
    if np.all(np.abs(dec_deg) <= 90.0):
        return "subtract whole turns of 360 degree"
    return "check what these numbers are, and their unit" if everywhere else f"drop these {what}s"
