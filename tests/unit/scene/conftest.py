"""Make the helper module of this folder importable, and share its scene."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.sources import SourceTable

sys.path.insert(0, str(Path(__file__).parent))

from turned_grid import place, table


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
