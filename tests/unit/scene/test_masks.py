"""Which pixels belong to which source, beside brute force."""

import numpy as np
import pytest

from bayesprf.instruments import Instrument
from bayesprf.scene.masks import alone_mask, radius_mask
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

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


@pytest.fixture
def pixels():
    row, column = (one.ravel() for one in np.mgrid[-6:7, -6:7])
    return table(column, row)


@pytest.fixture
def sources():
    rng = np.random.default_rng(3)
    column, row = rng.uniform(-6, 6, (2, 7))
    column[0], row[0] = 2.0, 3.0  # on a pixel centre
    return SourceTable([f"s{i}" for i in range(7)], *place(column, row), np.ones(7))


@pytest.fixture
def pairs(pixels, sources):
    return build_pairs(pixels, sources, 12.0)


def test_pairs_within_a_radius(pairs):
    radius = np.linspace(2.0, 11.0, 7)
    np.testing.assert_array_equal(radius_mask(pairs, radius), pairs.r < radius[pairs.source])


def test_alone(pairs):
    member = pairs.r < 9.0
    contaminant = np.arange(7) != 4
    claims = pairs.to_sparse((member & contaminant[pairs.source]).astype(float)).toarray()
    others = claims.sum(axis=0)[pairs.pixel] - claims[pairs.source, pairs.pixel]
    np.testing.assert_array_equal(alone_mask(pairs, member, contaminant), member & (others == 0))
