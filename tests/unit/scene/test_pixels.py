"""PixelTable and SourceTable: what they take, fill in and refuse."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from bayesprf.errors import InputError, ShapeError, UnitError
from bayesprf.instruments import Instrument
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable

N_TIME, N_PIXEL = 5, 6


def fields(**changes):
    """Return the required fields of a small stack."""
    rng = np.random.default_rng(0)
    return {
        "time": np.arange(float(N_TIME)),
        "flux": rng.uniform(50.0, 100.0, (N_TIME, N_PIXEL)),
        "flux_err": rng.uniform(1.0, 2.0, (N_TIME, N_PIXEL)),
        "ra_deg": 10.0 + np.arange(N_PIXEL) / 900,
        "dec_deg": np.zeros(N_PIXEL),
        "column": np.arange(N_PIXEL),
        "row": np.zeros(N_PIXEL),
    } | changes


def test_inverse_variance_and_gaps():
    given = fields()
    given["flux"][1, 2], given["flux_err"][3, 2], given["flux_err"][0, 4] = np.nan, np.inf, 0.0
    pixels = PixelTable(**given)
    bad = np.zeros((N_TIME, N_PIXEL), bool)
    bad[[1, 3, 0], [2, 2, 4]] = True
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(pixels.ivar, np.where(bad, 0.0, given["flux_err"] ** -2.0), rtol=1e-14)
    np.testing.assert_array_equal(pixels.gaps, bad.sum(axis=0))


def test_input_is_not_copied_and_not_changed():
    given = fields()
    given["flux"][1, 2] = np.nan
    pixels = PixelTable(**given)
    assert pixels.flux is given["flux"]
    assert np.isnan(given["flux"][1, 2])


def test_charge_spills_along_columns():
    """A saturated pixel spoils the next two rows of its column, in the order of any catalogue of pixels."""
    column, row = (one.ravel().astype(float) for one in np.meshgrid(np.arange(5), np.arange(9)))
    order = np.random.default_rng(3).permutation(column.size)
    column, row = column[order], row[order]
    flux = np.ones((1, column.size))
    saturated = (column == 2) & ((row == 1) | (row == 2)) | (column == 4) & (row == 8)
    pixels = PixelTable(np.zeros(1), flux, flux, column / 900, row / 900, column, row, saturated=saturated)
    expected = (column == 2) & (row <= 4) | (column == 4) & (row >= 6)
    np.testing.assert_array_equal(pixels.spilled, expected)
    np.testing.assert_array_equal(pixels.saturated, saturated)


def test_optional_fields_are_filled():
    pixels = PixelTable(**fields())
    np.testing.assert_array_equal(pixels.stamp, 0)
    np.testing.assert_array_equal(pixels.cadence_number, np.arange(N_TIME))
    assert not pixels.saturated.any()
    assert pixels.pos_corr is None
    assert (pixels.n_time, pixels.n_pixel) == (N_TIME, N_PIXEL)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("saturated", np.zeros(3, bool), r"^saturated: expected shape \(6,\) \(n_pixel\), got \(3,\)"),
        ("stamp", np.zeros(3, int), r"^stamp: expected shape \(6,\)"),
        ("cadence_number", np.zeros(3, int), r"^cadence_number: expected shape \(5,\) \(n_time\)"),
        ("pos_corr", np.zeros((5, 3)), r"^pos_corr: expected shape \(5, 2\) \(n_time, column and row\)"),
    ],
)
def test_optional_fields_of_wrong_shape(name, value, message):
    with pytest.raises(ShapeError, match=message):
        PixelTable(**fields(**{name: value}))


@pytest.mark.parametrize("high", [np.inf, np.nan])
def test_missing_values_do_not_saturate(high):
    given = fields(instrument=Instrument("x", 4.0, saturation=1000.0))
    given["flux"][1, 2], given["flux"][1, 3] = high, 2000.0
    np.testing.assert_array_equal(PixelTable(**given).saturated.nonzero()[0], [3])


def test_quantities_are_converted():
    given = fields()
    pixels = PixelTable(
        (given["time"] * u.day).to(u.s),
        given["flux"] * 60.0 * u.electron / u.min,
        given["flux_err"] * u.electron / u.s,
        (given["ra_deg"] * u.deg).to(u.hourangle),
        np.radians(given["dec_deg"]) * u.rad,
        given["column"] * u.pix,
        given["row"],
    )
    plain = PixelTable(**given)
    for name in ("time", "flux", "flux_err", "ra_deg", "dec_deg", "column", "ivar"):
        np.testing.assert_allclose(getattr(pixels, name), getattr(plain, name), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "unit", "message"),
    [
        ("flux", u.mJy, r"^flux: expected a unit that converts to electron / s, got mJy"),
        ("time", u.m, r"^time: expected a unit that converts to day, got m"),
        ("ra_deg", u.pix, r"^ra_deg: expected a unit that converts to deg, got pix"),
    ],
)
def test_quantity_of_another_kind_is_refused(name, unit, message):
    with pytest.raises(UnitError, match=message):
        PixelTable(**fields(**{name: fields()[name] * unit}))


def test_table_columns_with_and_without_unit():
    table = Table({"ra": [10.0, 11.0], "dec": [0.0, 0.1]})
    table["ra"].unit = "deg"
    sources = SourceTable(["a", "b"], table["ra"], table["dec"], [1.0, 2.0])
    np.testing.assert_array_equal(sources.ra_deg, [10.0, 11.0])
    np.testing.assert_array_equal(sources.dec_deg, [0.0, 0.1])


# Sources


def test_magnitude_is_made_from_the_flux():
    sources = SourceTable(["a", "b", "c"], np.zeros(3), np.zeros(3), [100.0, 0.0, np.nan])
    np.testing.assert_allclose(sources.mag[0], 20.0)
    assert not np.isfinite(sources.mag[1:]).any()
    np.testing.assert_array_equal(sources.has_flux, [True, False, False])
    assert sources.n_source == 3


def test_names_become_text():
    assert SourceTable([7, np.int64(8)], np.zeros(2), np.zeros(2), np.ones(2)).source_id == ("7", "8")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source_id": []}, InputError, "^sources: expected at least one source, got an empty catalogue"),
        ({"source_id": ["a", "a"]}, InputError, "^source_id: expected every source once, got 'a' more than once"),
        ({"flux": [1.0]}, ShapeError, r"^flux: expected shape \(2,\) \(n_source\), got \(1,\)"),
        ({"mag": [1.0]}, ShapeError, r"^mag: expected shape \(2,\)"),
        ({"dec_deg": [0.0, np.inf]}, InputError, "^dec_deg: expected finite numbers, got inf at index 1"),
    ],
)
def test_bad_catalogue_is_refused(change, error, message):
    good = {"source_id": ["a", "b"], "ra_deg": [1.0, 2.0], "dec_deg": [0.0, 0.0], "flux": [1.0, 2.0]}
    with pytest.raises(error, match=message):
        SourceTable(**(good | change))


def test_the_text_of_a_table_fits_a_screen():
    pixels = PixelTable(**fields())
    assert f"{pixels.n_time} cadences x {pixels.n_pixel} pixels" in repr(pixels)
    sources = SourceTable(tuple("abcde"), np.zeros(5), np.zeros(5), np.array([1.0, 2.0, 3.0, np.nan, 9.0]))
    assert repr(sources) == "<SourceTable: 5 sources (a, b, c, ...), catalogue flux 1 to 9, 1 without flux>"
    assert len(repr(pixels)) < 300
