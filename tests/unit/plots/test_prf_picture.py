"""The PRF as an image: what is averaged, what is left, and how it changes over the field."""

import numpy as np
import pytest

from bayesprf.errors import ShapeError
from bayesprf.plots.prf import plot_prf
from bayesprf.plots.records import PrfData, PrfImages
from bayesprf.scene.field_prf import NODES

pytestmark = pytest.mark.plots

OFFSET = np.linspace(-12.0, 12.0, 49)
X, Y = np.meshgrid(OFFSET, OFFSET)


def gaussian(east, north, angle=0.0):
    u, v = X * np.cos(angle) + Y * np.sin(angle), Y * np.cos(angle) - X * np.sin(angle)
    return np.exp(-0.5 * ((u / east) ** 2 + (v / north) ** 2)) / (2 * np.pi * east * north) * 16.0


def draw(figure):
    figure.draw_without_rendering()
    return figure


def test_constant_prf_has_an_image_and_contours_over_its_peak():
    values = gaussian(4.0, 4.0)[None]
    figure = draw(plot_prf(PrfImages(values, OFFSET, np.zeros((1, 2)))))
    ax = figure.axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), values[0])
    tenth = next(one for one in ax.collections if hasattr(one, "levels"))
    ring = tenth.get_paths()[list(tenth.levels).index(0.1)].vertices
    np.testing.assert_allclose(np.hypot(*ring.T), 4.0 * np.sqrt(2 * np.log(10)), rtol=0.01)
    assert ax.get_xlabel() == "east offset (arcsec)"


def test_data_are_averaged_by_their_weights_and_the_residual_is_a_share_of_the_peak():
    rng = np.random.default_rng(1)
    dx, dy = rng.uniform(-12, 12, (2, 40_000))
    model = np.exp(-0.5 * (dx**2 + dy**2) / 16.0) / (2 * np.pi)
    peak = 1 / (2 * np.pi)
    weight = np.where(rng.random(40_000) < 0.9, 1.0, 1e-9)
    data = model + np.where(weight == 1.0, 0.02 * peak, 5.0)  # what has no weight may be anything
    prf = PrfImages(gaussian(4.0, 4.0)[None], OFFSET, np.zeros((1, 2)))
    figure = draw(plot_prf(prf, PrfData(dx, dy, data, model, weight)))
    left = figure.axes[2].images[0].get_array()
    np.testing.assert_allclose(left.compressed(), 2.0, rtol=1e-3)
    assert figure.axes[0].get_title() == "40000 pixels of stars, averaged"


def test_moments_of_a_core_give_axis_and_ellipticity():
    values = np.stack([gaussian(4.0, 4.0), gaussian(5.0, 3.0), gaussian(5.0, 3.0, np.pi / 4)])
    size, ellipticity = PrfImages(values, OFFSET, np.zeros((3, 2))).moments()
    np.testing.assert_allclose(ellipticity[0], 0.0, atol=1e-9)
    # cutting at a tenth of the peak, along a contour, keeps the ratio of the axes: e = (25 - 9) / (25 + 9)
    np.testing.assert_allclose(ellipticity[1:], [[16 / 34, 0.0], [0.0, 16 / 34]], atol=0.01)
    np.testing.assert_allclose(size[1] / size[0], np.sqrt(34 / 32), rtol=0.01)


def test_varying_prf_shows_nine_places_and_sticks_along_the_long_axis():
    values = np.stack([gaussian(4.0 + 0.5 * u, 4.0) for u, _ in NODES])
    figure = draw(plot_prf(PrfImages(values, OFFSET, NODES)))
    images = [ax for ax in figure.axes if ax.images]
    assert len(images) == 1 + 9
    centre = [ax for ax in images if np.all(ax.images[0].get_array() == 0.0)]
    assert len(centre) == 3  # the PRF is the same all along the middle
    sticks = next(ax for ax in figure.axes if ax.get_xlabel() == "east in the field")
    ends = {tuple(np.round(line.get_xdata().mean(), 6) for _ in (0,)): line for line in sticks.lines}
    wide, round_, tall = (ends[(u,)] for u in (1.0, 0.0, -1.0))
    assert np.ptp(wide.get_xdata()) > 10 * np.ptp(wide.get_ydata())
    assert np.ptp(tall.get_ydata()) > 10 * np.ptp(tall.get_xdata())
    assert np.hypot(np.ptp(round_.get_xdata()), np.ptp(round_.get_ydata())) < 0.01


def test_images_that_do_not_fit_their_grid_are_refused():
    with pytest.raises(ShapeError, match=r"values: expected shape \(1, 49, 49\) \(n_place, n, n\), got \(1, 5, 5\)"):
        PrfImages(np.ones((1, 5, 5)), OFFSET, np.zeros((1, 2)))
