"""Colours of a catalogue: found by name, as a difference, scaled, and refused where they are none."""

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.scene.colors import color_names, read_colors, scaled_colors
from bayesprf.scene.sources import SourceTable


def catalog(**columns):
    n = len(next(iter(columns.values())))
    return SourceTable([str(i) for i in range(n)], np.full(n, 10.0), np.arange(n) / 60.0, np.ones(n), columns=columns)


BP, RP = np.array([12.5, 13.0, 14.5, 15.0, 11.0, 16.5]), np.array([12.0, 12.0, 13.0, 13.0, 10.5, 13.5])


def test_a_colour_is_a_column_or_a_difference_of_two():
    sources = catalog(bp_rp=BP - RP, bp=BP, RP=RP)
    np.testing.assert_array_equal(read_colors(sources, "BP_RP"), BP - RP)
    np.testing.assert_array_equal(read_colors(sources, "bp - rp"), BP - RP)
    assert color_names("J-H", {"J-H": 1, "J": 1, "H": 1}) == ("J-H",)
    assert color_names("J-H - K", {"J-H": 1, "K": 1}) == ("J-H", "K")


def test_missing_colours_are_none():
    masked = np.ma.MaskedArray([4000, 5000, 6000], mask=[False, True, False])
    np.testing.assert_array_equal(read_colors(catalog(teff=masked), "teff"), [4000.0, np.nan, 6000.0])
    texts = np.array(["0.5", "", "1.5"], object)
    np.testing.assert_array_equal(read_colors(catalog(color=texts), "color"), [0.5, np.nan, 1.5])


def test_scaled_colours_have_the_median_in_the_middle_and_end_at_three_scatters():
    color = np.array([0.8, 0.9, 1.0, 1.1, 1.2, 9.0, np.nan])
    scaled = scaled_colors(catalog(color=color), "color")
    assert scaled[-1] == 0.0
    assert scaled[5] == 3.0
    known = scaled[:5] * 1.4826 * 0.15 + 1.05  # median of six numbers, and of their distances from it
    np.testing.assert_allclose(known, color[:5])


def test_a_scale_is_found_where_most_colours_are_equal():
    scaled = scaled_colors(catalog(color=np.array([1.0, 1.0, 1.0, 1.0, 1.0, 2.0])), "color")
    assert scaled[0] == 0.0
    assert 2.0 < scaled[5] < 3.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bp_pr", r"expected a column of the catalogue, .* got 'bp_pr'; did you mean bp_rp\?; .* has bp_rp, kind, few"),
        ("bp_rp - g", "expected .* or the difference of two such as 'bp - rp', got 'bp_rp - g'"),
        ("kind", "expected a column of numbers, got kind with 'K5V'; name another column"),
        ("few", "expected colours of at least 5 stars, got 2 in few; leave it out"),
        ("same", "expected colours that differ, got same with one for all; leave it out"),
    ],
)
def test_what_is_no_colour_is_refused(name, message):
    few = np.array([1.0, 2.0, np.nan, np.nan, np.nan, np.nan])
    sources = catalog(bp_rp=BP - RP, kind=np.array(["K5V"] * 6, object), few=few, same=np.ones(6))
    with pytest.raises(InputError, match="color_column: " + message):
        scaled_colors(sources, name)


def test_a_catalogue_without_columns_says_so():
    sources = SourceTable(("a",), [10.0], [0.0], [1.0])
    with pytest.raises(InputError, match="the catalogue has no columns"):
        scaled_colors(sources, "bp_rp")
