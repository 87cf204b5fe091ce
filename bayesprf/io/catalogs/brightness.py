"""Columns of flux and magnitude -> fluxes on a linear scale, and what cannot be one named."""

import re

import numpy as np
from astropy import units

from bayesprf.arrays import BoolArray, FloatArray, Named
from bayesprf.checks import listed
from bayesprf.errors import DataWarning, InputError, UnitError, warn
from bayesprf.io.catalogs.columns import numbers_of

# Definition: what a catalogue calls a magnitude lies between that of the Sun and the faintest that any telescope sees;
# tables write 99, -99 or -999 where there is none.
_BRIGHTEST, _FAINTEST = -27.0, 40.0
_MAGNITUDE = re.compile(r"^mag(?![a-z])|mag(nitude)?s?$", re.IGNORECASE)
# Units of columns that are no flux by their kind.
_NO_FLUX = (units.deg, units.s, units.m, units.K, units.m / units.s)


def fluxes_of(columns: Named, name: str) -> FloatArray:
    """Return a column of fluxes; those of zero or less, which count as unknown, are named.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table.
    name : str
        Name of the column.

    Returns
    -------
    ndarray of float64, shape (n_source,)

    Raises
    ------
    InputError
        If the column does not hold numbers.
    UnitError
        If its unit is not that of a flux, or its name that of a magnitude.

    Warns
    -----
    DataWarning
        If some fluxes are not above zero.
    """
    unit = str(getattr(columns[name], "unit", None) or "")
    if _is_no_flux(unit) or _MAGNITUDE.search(name):
        raise UnitError(
            f"{name}: expected fluxes on a linear scale, such as electron / s or Jy, got a column"
            f" {f'in {unit}' if unit else 'of magnitudes'}; name another with flux_column='...', or magnitudes with"
            " mag_column='...'"
        )
    flux = numbers_of(columns, name)
    _tell(name, "fluxes above 0", flux, np.isfinite(flux) & (flux <= 0.0))
    return flux


def flux_from_mags(columns: Named, name: str, zero_point: float) -> tuple[FloatArray, FloatArray]:
    """Return fluxes made from a column of magnitudes, and the magnitudes; what can be none counts as unknown.

    Parameters
    ----------
    columns : mapping of str to array-like
        The table.
    name : str
        Name of the column.
    zero_point : float
        Magnitude of a flux of 1.

    Returns
    -------
    flux, mag : ndarray of float64, shape (n_source,)
        NaN where unknown.

    Raises
    ------
    InputError
        If the column does not hold numbers, or no magnitude.

    Warns
    -----
    DataWarning
        If some numbers are not magnitudes.
    """
    mag = numbers_of(columns, name)
    wrong = np.isfinite(mag) & ((mag < _BRIGHTEST) | (mag > _FAINTEST))
    expected = f"magnitudes from {_BRIGHTEST:g} to {_FAINTEST:g}"
    if wrong.any() and np.all(wrong | ~np.isfinite(mag)):
        raise InputError(
            f"{name}: expected {expected}, got {mag[wrong][0]:g} and no magnitude in any row; name another column with"
            " flux_column='...' or mag_column='...'"
        )
    _tell(name, expected, mag, wrong)
    mag = np.where(wrong, np.nan, mag)
    return 10.0 ** (-0.4 * (mag - zero_point)), mag


def _is_no_flux(unit: str) -> bool:
    """Whether a unit is of another kind than a flux: a magnitude, an angle, a time; unknown units may be any."""
    try:
        found = units.Unit(unit, parse_strict="silent")
    except (TypeError, ValueError):
        return False
    logarithmic = isinstance(found, units.LogUnit) or found in (units.mag, units.dex, units.dB)
    return logarithmic or any(found.is_equivalent(one) for one in _NO_FLUX)


def _tell(name: str, expected: str, values: FloatArray, wrong: BoolArray) -> None:
    """Warn of rows that are not what was expected."""
    rows = np.flatnonzero(wrong).tolist()
    if rows:
        warn(
            f"{name}: expected {expected}, got {values[rows[0]]:g} in {len(rows)} of {values.size}, rows"
            f" {listed(rows)}; they count as unknown: correct these rows",
            DataWarning,
        )
