"""The aperture figure shows the pixels, outline and labels it promises."""

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.photometry.apertures import build_apertures
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.scene.sources import SourceTable

pytestmark = pytest.mark.plots


@pytest.fixture
def scene():
    row, column = np.divmod(np.arange(100), 10)
    dec = 20.0 + row * 4 / 3600
    pixels = PixelTable(np.arange(3.0), np.ones((3, 100)), np.ones((3, 100)), 10 + column * 4 / 3600, dec, column, row)
    sources = SourceTable(["a", "b"], [10 + 4 * 4 / 3600, 11.0], [20 + 5 * 4 / 3600, 21.0], [100.0, 100.0])
    pairs = build_pairs(pixels, sources, 9.0)
    return pixels, build_apertures(PrfMatrix.constant(pairs, np.exp(-pairs.r)), sources.flux, 60)


def test_outline_encloses_the_pixels_of_the_aperture(scene):
    from bayesprf.plots.aperture import plot_aperture

    pixels, apertures = scene
    ax = plot_aperture(pixels, apertures, 0, name="star a").axes[0]
    inside = apertures.pairs.pixel[apertures.mask]
    segments = np.array(ax.collections[0].get_segments())
    vertical = segments[np.isclose(segments[:, 0, 0], segments[:, 1, 0])]
    x, y = vertical[:, 0, 0], vertical.mean(axis=1)[:, 1]
    # a pixel is inside when an odd number of vertical sides lie to its left in its row
    crossed = ((x[None] < pixels.column[:, None]) & np.isclose(y[None], pixels.row[:, None])).sum(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(crossed % 2), np.sort(inside))
    assert ax.get_xlabel() == "column (pixel)"
    assert ax.get_ylabel() == "row (pixel)"
    assert ax.get_title().startswith("star a\nFLFRCSAP ")
    np.testing.assert_allclose(ax.collections[1].get_offsets(), [[4.0, 5.0]], atol=1e-3)


def test_values_are_the_mean_of_usable_cadences(scene):
    from bayesprf.plots.aperture import plot_aperture

    pixels, apertures = scene
    shown = plot_aperture(pixels, apertures, 0).axes[0].images[0].get_array()
    image = pixels.flux.mean(axis=0).reshape(10, 10)
    np.testing.assert_allclose(shown, image[2:9, 1:8])  # a margin of one pixel on each side
    flux = pixels.flux.copy()
    flux[1, 54], flux[0, 54] = np.nan, 3.0
    holed = PixelTable(pixels.time, flux, pixels.flux_err, pixels.ra_deg, pixels.dec_deg, pixels.column, pixels.row)
    assert np.nanmax(plot_aperture(holed, apertures, 0).axes[0].images[0].get_array()) == pytest.approx(2.0)


def test_sources_that_cannot_be_drawn_are_refused(scene):
    from bayesprf.plots.aperture import plot_aperture
    from bayesprf.plots.canvas import new_figure

    pixels, apertures = scene
    with pytest.raises(InputError, match="source: expected an index from 0 to 1, got 2"):
        plot_aperture(pixels, apertures, 2)
    with pytest.raises(InputError, match="source: expected a source with pixels, got 1, which reaches none"):
        plot_aperture(pixels, apertures, 1)
    axes = new_figure(4, 4).subplots()
    assert plot_aperture(pixels, apertures, 0, ax=axes) is axes.figure
    assert axes.images
