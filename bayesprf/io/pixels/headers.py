"""What headers of the missions say; an empty card counts as none."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits

from bayesprf.arrays import FloatArray
from bayesprf.errors import FileError
from bayesprf.instruments import INSTRUMENTS, SECONDS_PER_DAY, Instrument

# What a card may hold.
Card = str | int | float
Header = Mapping[str, Card]

# Header keywords that say which detector, when and how: files of one stack agree in all of them.
STACK_KEYS = ("CHANNEL", "CAMERA", "CCD", "QUARTER", "CAMPAIGN", "SECTOR", "OBSMODE", "NUM_FRM")
_TARGET_KEYS = ("KEPLERID", "TICID")
_MAGNITUDE_KEYS = ("KEPMAG", "TESSMAG")
_READ_NOISE_KEYS = ("READNOIS", "READNOIA", "READNOIB", "READNOIC", "READNOID")
# Format: Kepler's second reaction wheel failed on 2013 May 11; since then the spacecraft rolls. BJD - 2454833.
_TWO_WHEELS_DAY = 1591.0


def plain_header(header: fits.Header) -> dict[str, Card]:
    """Return the cards that hold a value and can be read.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Any header.

    Returns
    -------
    dict
        Text without blanks at its end, numbers and truth values; empty and unreadable cards are left out.
    """
    found: dict[str, Card] = {}
    for card in header.cards:
        try:
            key, value = card.keyword, card.value
        except (fits.VerifyError, ValueError, AttributeError):  # a damaged card
            continue
        value = value.item() if isinstance(value, np.generic) else value  # of headers made in memory
        value = value.strip() if isinstance(value, str) else value
        if isinstance(value, str | int | float) and value != "" and key not in ("", "COMMENT", "HISTORY"):
            found.setdefault(key, value)
    return found


def read_number(header: Header, *keys: str) -> float | None:
    """Return the first of the keywords that holds a finite number, or None.

    Parameters
    ----------
    header : mapping
        Of `plain_header`.
    *keys : str
        Keywords.

    Returns
    -------
    float or None
    """
    for key in keys:
        value = header.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            return float(value)
    return None


def find_instrument(primary: Header, path: Path) -> Instrument:
    """Return the mission that a header names.

    Parameters
    ----------
    primary : mapping
        Header with TELESCOP.
    path : Path
        The file, for the message.

    Returns
    -------
    Instrument

    Raises
    ------
    FileError
        If it is neither Kepler nor TESS.
    """
    telescope = str(primary.get("TELESCOP", "")).upper()
    if telescope == "TESS":
        return INSTRUMENTS["TESS"]
    if telescope == "KEPLER":
        is_k2 = primary.get("MISSION") == "K2" or primary.get("CAMPAIGN") is not None
        return INSTRUMENTS["K2" if is_k2 else "Kepler"]
    raise FileError(
        f"{path}: expected TELESCOP to be Kepler or TESS, got {primary.get('TELESCOP')!r}; write it into the first"
        " header if the pixels are of one of them, or give arrays to bayesprf.Machine"
    )


def settle_mission(instrument: Instrument, primary: Header, time: FloatArray) -> Instrument:
    """Return K2 for Kepler's spacecraft after its second reaction wheel had failed, where no card names a quarter.

    Parameters
    ----------
    instrument : Instrument
        Of `find_instrument`.
    primary : mapping
        Primary header.
    time : ndarray of float64, shape (n_cadence,)
        Day since `instrument.time_zero_jd`.

    Returns
    -------
    Instrument
    """
    unnamed = instrument is INSTRUMENTS["Kepler"] and primary.get("QUARTER") is None and primary.get("MISSION") is None
    late = np.isfinite(time) & (time > _TWO_WHEELS_DAY)
    return INSTRUMENTS["K2"] if unnamed and late.any() and late.sum() == np.isfinite(time).sum() else instrument


def read_target(primary: Header, name: str) -> dict[str, Card]:
    """Return what a header says of its target: `id`, `ra_deg`, `dec_deg`, `mag`, and `pmra`, `pmdec` in mas / yr.

    Parameters
    ----------
    primary : mapping
        Primary header. A magnitude of exactly 0, or a position of exactly (0, 0), stands for none.
    name : str
        Name of the file, for a target without name and number.

    Returns
    -------
    dict
        NaN where the header has none.
    """
    number = next((primary[key] for key in _TARGET_KEYS if isinstance(primary.get(key), int)), None)
    place = read_number(primary, "RA_OBJ"), read_number(primary, "DEC_OBJ")
    ra_deg, dec_deg = (None, None) if place == (0.0, 0.0) else place
    unit = 1.0 if str(primary.get("TELESCOP", "")).upper() == "TESS" else 1000.0  # Kepler's are arcsec / yr
    motion = {key.lower(): read_number(primary, key) for key in ("PMRA", "PMDEC")}
    return {
        "id": str(primary.get("OBJECT") or number or name),
        "ra_deg": np.nan if ra_deg is None else ra_deg,
        "dec_deg": np.nan if dec_deg is None else dec_deg,
        "mag": read_number(primary, *_MAGNITUDE_KEYS) or np.nan,
        **{key: np.nan if value is None else unit * value for key, value in motion.items()},
    }


def read_noise_of(header: Header, instrument: Instrument, exposure: float) -> tuple[float, float] | None:
    """Return the noise of one read, electron, and the number of reads in an exposure; None where not known.

    Parameters
    ----------
    header : mapping
        With READNOIS, or READNOIA to READNOID of the four outputs (their quadratic mean), and NREADOUT; else the
        instrument's numbers.
    instrument : Instrument
        The mission.
    exposure : float
        Time in which light was collected, s.

    Returns
    -------
    tuple of float or None
    """
    given = [one for key in _READ_NOISE_KEYS if (one := read_number(header, key))]
    noise = float(np.sqrt(np.mean(np.square(given)))) if given else instrument.read_noise
    count = read_number(header, "NREADOUT")
    if count is None and instrument.read_seconds:
        count = exposure / instrument.read_seconds
    return (noise, count) if noise and count else None


def read_exposure(header: Header, instrument: Instrument, step: float | None) -> float | None:
    """Return the time in which the light of one cadence was collected, s: TIMEDEL times DEADC.

    Parameters
    ----------
    header : mapping
        Of the pixel table.
    instrument : Instrument
        Its duty cycle stands in for DEADC.
    step : float or None
        Time from cadence to cadence, day, which stands in for TIMEDEL.

    Returns
    -------
    float or None
        None where neither is known.
    """
    interval = read_number(header, "TIMEDEL") or step
    share = read_number(header, "DEADC") or instrument.duty
    return None if interval is None else interval * share * SECONDS_PER_DAY
