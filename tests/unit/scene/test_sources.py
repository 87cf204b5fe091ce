"""SourceTable: names, positions, epochs, bands."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from bayesprf.errors import DataWarning, InputError, ShapeError
from bayesprf.scene.sources import Brightness, SourceTable

GAIA = "5730932475468906240"


@pytest.fixture
def sources():
    return SourceTable(
        ("a", GAIA, "7"), [290.0, 290.01, 290.02], [45.0, 45.0, 45.0], [1.0, 2.0, np.nan],
        columns={"x": np.array([1, 2, 3])}, motion=[[1000.0, -500.0], [np.nan, np.nan], [0.0, 100.0]],
        epoch=[2016.0, 2016.0, np.nan], bands={"red": Brightness(np.array([3.0, 4.0, 5.0]))},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (None, [0, 1, 2]),
        (0, [0]),
        (np.int32(2), [2]),
        (-1, [2]),
        ("a", [0]),
        (["7", "a"], [2, 0]),
        (np.array(["7", "a"]), [2, 0]),
        (np.array([1, 0]), [1, 0]),
        (("a", 1), [0, 1]),
        (GAIA, [1]),
        (int(GAIA), [1]),
        (7, [2]),
        ([False, True, True], [1, 2]),
        (np.array([True, False, False]), [0]),
        ([], []),
        (SkyCoord(290.0101 * u.deg, 45.0001 * u.deg), [1]),
        (SkyCoord([290.02, 290.0] * u.deg, [45.0, 45.0] * u.deg).galactic, [2, 0]),
    ],
    ids=str,
)
def test_sources_are_named_by_index_name_mask_or_position(sources, named, found):
    chosen = sources.indices(named)
    assert chosen.dtype == np.int64
    np.testing.assert_array_equal(chosen, found)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("b", r"expected names of the catalogue \('a', '5730932475468906240', '7'\) or whole numbers .* 2, got 'b'"),
        (3, r"whole numbers from 0 to 2, got 3"),
        (True, r"whole numbers from 0 to 2, got True"),
        (1.0, r"whole numbers from 0 to 2, got 1.0"),
        ([0, 0], r"expected each source once, got 'a' more than once; name it once"),
        ([0, "a"], r"expected each source once, got 'a' more than once"),
        (SkyCoord(290.0 * u.deg, 45.1 * u.deg), r"within 4 arcsec of a source, got RA 290.00000, Dec \+45.10000;"),
        (SkyCoord(290.0 * u.deg, 47.0 * u.deg), r"the nearest is 'a', 2 deg away"),
    ],
    ids=str,
)
def test_sources_that_are_not_there(sources, named, message):
    with pytest.raises(InputError, match=rf"^sources: .*{message}"):
        sources.indices(named)
    with pytest.raises(ShapeError, match=r"sources: expected shape \(3,\) .*as a mask"):
        sources.indices([True, False])


def test_positions_in_another_year(sources):
    moved = sources.at_epoch(2012.0)
    assert (moved.dec_deg[0] - 45.0) * 3600 == pytest.approx(2.0, abs=1e-4)
    np.testing.assert_array_equal(moved.ra_deg[1:], sources.ra_deg[1:])  # no motion, no epoch
    np.testing.assert_array_equal(moved.epoch, 2012.0)
    np.testing.assert_array_equal(moved.at_epoch(2012.0).ra_deg, moved.ra_deg)
    still = SourceTable(("a",), [1.0], [2.0], [1.0])
    assert still.at_epoch(2012.0) is still
    with pytest.raises(InputError, match=r"epoch: expected a finite number above 0, got nan"):
        sources.at_epoch(np.nan)


@pytest.mark.parametrize("flux", [np.nan, np.inf, 0.0, -3.0, 1e300, 1e160, 1e-300])
def test_fluxes_that_are_none(flux):
    np.testing.assert_array_equal(SourceTable(("a", "b"), [1.0, 2.0], [1.0, 2.0], [1.0, flux]).has_flux, [True, False])


def test_motion_without_epoch_is_reported():
    sources = SourceTable(("a",), [1.0], [2.0], [1.0], motion=[[9e5, 0.0]])
    with pytest.warns(DataWarning, match=r"proper motions but not the epoch .* 2000.0 \(TIC, KIC, EPIC\)"):
        assert sources.at_epoch(2012.0) is sources


def test_bands_and_rows_are_chosen(sources):
    red = sources.in_band("red")
    np.testing.assert_array_equal(red.flux, [3.0, 4.0, 5.0])
    assert red.mag[0] == pytest.approx(25.0 - 2.5 * np.log10(3.0))
    assert sources.in_band("blue") is sources
    part = red.select(np.array([False, True, True]))
    assert part.source_id == (GAIA, "7")
    np.testing.assert_array_equal(part.columns["x"], [2, 3])
    np.testing.assert_array_equal(part.in_band("red").flux, [4.0, 5.0])
    assert part.motion.shape == (2, 2)


@pytest.mark.parametrize(
    ("ra", "dec", "cure"),
    [
        (1e20, 1e20, "drop these rows"),
        (10.0, 91.0, "drop these rows"),
        (10.0, -1e300, "drop these rows"),
        (361.0, 0.0, "subtract whole turns of 360 degree"),
    ],
)
def test_positions_off_the_sky_are_refused_by_row(ra, dec, cure):
    with pytest.raises(InputError, match=rf"ra_deg, dec_deg: expected .* in row 1 \(2 in all: 1, 2\); {cure}"):
        SourceTable(("a", "b", "c"), [1.0, ra, ra], [1.0, dec, dec], [1.0, 1.0, 1.0])


def test_positions_off_the_sky_in_every_row_are_another_column_or_unit():
    with pytest.raises(InputError, match="right ascension and declination are exchanged"):
        SourceTable(("a", "b"), [44.5, 44.6], [289.9, 290.0], [1.0, 1.0])
    with pytest.raises(InputError, match="check what these numbers are, and their unit"):
        SourceTable(("a", "b"), [16614.1, 16614.2], [2547.6, 2547.7], [1.0, 1.0])


@pytest.mark.parametrize("name", ["", "  ", "a\tb", "x\n", "\x1b[31m"])
def test_names_that_cannot_be_printed_are_refused(name):
    with pytest.raises(InputError, match=r"source_id: expected names of printable characters, got .* in row 1"):
        SourceTable(("a", name), [1.0, 2.0], [1.0, 2.0], [1.0, 1.0])


def test_magnitude_follows_from_the_flux():
    sources = SourceTable(("a", "b", "c", "d"), [1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0], [100.0, np.nan, 0.0, -5.0])
    np.testing.assert_allclose(sources.mag[0], 20.0, rtol=1e-15)
    assert not np.isfinite(sources.mag[1:]).any()
    np.testing.assert_array_equal(sources.has_flux, [True, False, False, False])
    given = SourceTable(("a",), [1.0], [2.0], [3.0], mag=[7.5])
    np.testing.assert_array_equal(given.mag, [7.5])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source_id": ("a", "a")}, InputError, "source_id: expected every source once, got 'a' more than once"),
        ({"source_id": ()}, InputError, "sources: expected at least one source, got an empty catalogue"),
        ({"ra_deg": [1.0, np.inf]}, InputError, "ra_deg: expected finite numbers, got inf at index 1"),
        ({"flux": [1.0]}, ShapeError, r"flux: expected shape \(2,\) \(n_source\), got \(1,\)"),
    ],
)
def test_bad_tables_are_refused(changes, error, message):
    good = {"source_id": ("a", "b"), "ra_deg": [1.0, 2.0], "dec_deg": [0.0, 0.0], "flux": [1.0, 2.0]}
    with pytest.raises(error, match=message):
        SourceTable(**(good | changes))
