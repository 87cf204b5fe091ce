"""What differs between missions, as data: a new mission is a new record."""

from bayesprf.instruments.kepler import K2, KEPLER
from bayesprf.instruments.record import GENERIC, SECONDS_PER_DAY, Instrument, PrfWidths
from bayesprf.instruments.tess import TESS

INSTRUMENTS: dict[str, Instrument] = {one.name: one for one in (KEPLER, K2, TESS, GENERIC)}

__all__ = ["GENERIC", "INSTRUMENTS", "K2", "KEPLER", "SECONDS_PER_DAY", "TESS", "Instrument", "PrfWidths"]
