"""Steps of column and row on the sky."""

from dataclasses import replace

import numpy as np
import pytest
from turned_grid import DEC0, SCALE, TURN, table

from bayesprf.errors import InputError
from bayesprf.scene.axes import check_grid, pixel_area, pixel_axes


def test_axes_are_the_steps_of_column_and_row(pixels):
    turn = [[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]]
    np.testing.assert_allclose(pixel_axes(pixels), SCALE * np.array(turn), atol=2e-3)
    assert pixel_area(pixels) == pytest.approx(SCALE**2, rel=1e-3)


@pytest.mark.parametrize(("column", "row"), [(np.arange(5), np.zeros(5)), (np.zeros(5), np.arange(5))])
def test_one_line_of_pixels_gives_square_pixels(column, row):
    turn = [[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]]
    np.testing.assert_allclose(pixel_axes(table(column, row)), SCALE * np.array(turn), atol=2e-3)


def test_scattered_pixels_get_the_instrument_s_scale():
    np.testing.assert_allclose(pixel_axes(table([0, 5, 9], [0, 3, 9])), 3.9 * np.eye(2))


def test_pixels_whose_positions_are_no_grid_are_refused(pixels):
    """Rounded positions, positions in another order than columns and rows, and one declination for all."""
    check_grid(pixels)
    order = np.random.default_rng(0).permutation(pixels.n_pixel)
    changed = {
        "rounded": {"dec_deg": pixels.dec_deg.round(3)},
        "another order": {"ra_deg": pixels.ra_deg[order], "dec_deg": pixels.dec_deg[order]},
    }
    for arrays in changed.values():
        with pytest.raises(InputError, match=r"^ra, dec: expected one step on the sky between neighbouring columns"):
            check_grid(replace(pixels, **arrays))
    with pytest.raises(InputError, match=r"^ra, dec: expected columns and rows in two directions on the sky, got step"):
        check_grid(replace(pixels, dec_deg=np.full(pixels.n_pixel, DEC0)))
    with pytest.raises(InputError, match=r"^ra, dec: expected columns and rows in two .* or right ascensions in hours"):
        check_grid(replace(pixels, ra_deg=(pixels.ra_deg - 360.0 * (pixels.ra_deg > 180.0)) / 15.0))
