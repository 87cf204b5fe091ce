"""A turned grid of pixels across the seam of right ascension, for the tests of pairs, masks and axes."""

import numpy as np

from bayesprf.instruments import Instrument
from bayesprf.scene.pixels import PixelTable

RA0, DEC0, SCALE = 359.9995, 60.0, 4.0  # the seam of right ascension runs through the scene
TURN = 0.4  # radian, from the columns to the east


def place(column, row):
    """Return the sky position of a detector position near RA0, DEC0."""
    x = SCALE * (np.cos(TURN) * column - np.sin(TURN) * row)
    y = SCALE * (np.sin(TURN) * column + np.cos(TURN) * row)
    return (RA0 + x / 3600.0 / np.cos(np.radians(DEC0))) % 360.0, DEC0 + y / 3600.0


def table(column, row):
    """Return pixels at the given detector positions."""
    column, row = np.asarray(column, float), np.asarray(row, float)
    flux = np.ones((1, column.size))
    return PixelTable([0.0], flux, flux, *place(column, row), column, row, instrument=Instrument("x", 3.9, 1e9))
