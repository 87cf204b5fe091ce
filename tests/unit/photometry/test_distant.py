"""Light of bright stars beyond the pairing distance."""

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.photometry.distant import distant_light
from bayesprf.prf.nominal import nominal_prf
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

STEP = 4.0 / 3600.0


def scene():
    column, row = (one.ravel().astype(float) for one in np.meshgrid(np.arange(60), np.arange(6)))
    pixels = PixelTable(
        np.zeros(1), np.ones((1, column.size)), np.ones((1, column.size)), 10 + column * STEP, row * STEP, column, row
    )
    sources = SourceTable(("bright", "faint"), [10.0, 10.1], [0.0, 0.0], [3e6, 10.0])
    return pixels, sources


def test_equals_the_sum_over_all_pairs_beyond_the_limit():
    pixels, sources = scene()
    prf = nominal_prf(PolarBasis(), 16.0)
    light = distant_light(pixels, sources, prf, flux=sources.flux, limit=40.0, cut=0.1)
    pairs = build_pairs(pixels, sources, 700.0)
    values = sources.flux[pairs.source] * prf.evaluate(pairs.dx, pairs.dy)
    counted = (pairs.r > 40.0) & (pairs.r <= 160.0) & (values > 0.1)
    expected = np.bincount(pairs.pixel, weights=np.where(counted, values, 0.0), minlength=pixels.n_pixel)
    assert light.max() > 1.0
    # Cells of 2 x 2 pixels hold the light of their centre, and lie as a whole on one side of the limit.
    assert light.sum() == pytest.approx(expected.sum(), rel=0.06)
    lit = (expected > 1.0) & (pixels.column > 12)  # past the cells that straddle the limit
    np.testing.assert_allclose(light[lit], expected[lit], rtol=0.35)


def test_dark_and_unknown_stars_give_nothing():
    pixels, sources = scene()
    prf = nominal_prf(PolarBasis(), 16.0)
    light = distant_light(pixels, sources, prf, flux=np.array([np.nan, 10.0]), limit=40.0, cut=0.1)
    assert not light.any()
