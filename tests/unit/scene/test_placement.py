"""A catalogue of another place on the sky, in other units, or with stars listed twice."""

import numpy as np
import pytest

from bayesprf.errors import DataWarning, InputError
from bayesprf.instruments import KEPLER
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.placement import check_placement, find_twins, merge_twins, warn_of_twins
from bayesprf.scene.sources import SourceTable

RA, DEC = 290.0, 45.0


def pixels_at(ra, dec, spacing=1.0, **changes):
    step = spacing * np.arange(4) / 900.0
    arrays = {"flux": np.ones((1, 4)), "flux_err": np.ones((1, 4)), "column": np.arange(4), "row": np.zeros(4)}
    return PixelTable(time=[1.0], ra_deg=ra + step, dec_deg=np.full(4, dec), instrument=KEPLER, **arrays, **changes)


def table(ra, dec, flux=None):
    ra, dec = np.atleast_1d(ra), np.atleast_1d(dec)
    names = tuple(f"s{i}" for i in range(ra.size))
    return SourceTable(names, ra, dec, np.ones(ra.size) if flux is None else flux)


@pytest.mark.parametrize(
    ("ra", "dec", "words"),
    [
        (RA / 15.0, DEC, "the right ascensions are hours: multiply them by 15"),
        (DEC, RA - 270.0, "give the catalogue of this field, with ra and dec in degree"),
        (np.radians(RA), np.radians(DEC), "the positions are radians: convert them to degree"),
        (RA, DEC - 30.0, r"'s0' at RA 290.0000, Dec \+15.0000, lies 30 deg away \(median 30 deg\)"),
        (RA, DEC + 0.1, r"lies 360 arcsec away"),
    ],
)
def test_another_place_is_named_with_its_distance(ra, dec, words):
    with pytest.raises(InputError, match=rf"^sources: expected stars on the pixels at RA 290.00.*, Dec \+45.*{words}"):
        check_placement(pixels_at(RA, DEC), table(ra, dec))


def test_exchanged_coordinates_are_named():
    with pytest.raises(InputError, match=r"right ascension and declination are exchanged"):
        check_placement(pixels_at(80.0, 45.0), table(45.0, 80.0))


def test_one_star_near_the_pixels_is_enough():
    check_placement(pixels_at(RA, DEC), table([10.0, RA], [0.0, DEC + 39.0 / 3600]))
    check_placement(pixels_at(0.0005, DEC), table(359.9995, DEC))


def test_files_without_a_star_are_named():
    pixels = pixels_at(RA, DEC, 10.0, stamp=[0, 1, 2, 2], meta={"files": ["a.fits", "b.fits", "c.fits"]})
    with pytest.warns(DataWarning, match=r"no star on 1 of 3 files \(c.fits\)"):
        check_placement(pixels, table(RA + np.array([0.0, 10 / 900.0]), [DEC, DEC]))


@pytest.mark.parametrize("apart", [1e-7, 1e-5, 1e-3, 9e-3])
def test_near_duplicates_are_named(apart):
    doubled = table([RA, RA + 0.01, RA], [DEC, DEC, DEC + apart / 3600])
    pairs, distance = find_twins(doubled, 0.01)
    np.testing.assert_array_equal(pairs, [[0, 2]])
    assert distance[0] == pytest.approx(apart, rel=0.01)
    with pytest.warns(DataWarning, match=r"^1 pairs of stars .* 's0' and 's2' \(rows 0 and 2, .*, so keep one"):
        warn_of_twins(doubled)
    with pytest.warns(DataWarning, match=r"^1 of 3 rows of the catalogue lie within 0.01 arcsec .* 's0' and 's2'"):
        assert merge_twins(doubled).source_id == ("s0", "s1")


def test_the_row_with_a_flux_is_kept_and_each_star_once():
    tripled = table([RA, RA, RA, RA + 0.01], np.full(4, DEC), [np.nan, 5.0, 6.0, 7.0])
    with pytest.warns(DataWarning, match=r"^2 of 4 rows"):
        assert merge_twins(tripled).source_id == ("s1", "s3")
    assert merge_twins(tripled, 0.0) is tripled
    warn_of_twins(tripled)  # at exactly the same place: shared evenly, and flagged by the fit
