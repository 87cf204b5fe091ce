"""Corner and sky coordinates of a stamp: the FLUX column's first, and its agreement with the APERTURE image."""

import json

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from bayesprf.errors import DataWarning, FileError, InputError
from bayesprf.io.pixels.place import sky_of
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.pixels.tpf_writer import write_tpf


@pytest.fixture
def one(make_pixels, tmp_path):
    return write_tpf(tmp_path / "one.fits", make_pixels())


def edit(path, extension, **cards):
    """Set header cards; None removes one, "" empties it. Names of columns begin with `c` for their digit."""
    with fits.open(path, memmap=False) as hdus:
        for key, value in cards.items():
            key = key.removeprefix("c")
            if value is None:
                del hdus[extension].header[key]
            else:
                hdus[extension].header[key] = fits.card.Undefined() if value == "" else value
        hdus.writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize(("extension", "cards"), [("APERTURE", {"CRVAL1P": None}), (1, {"c1CRV5P": None})])
def test_either_header_has_the_corner(one, make_pixels, extension, cards):
    assert read_tpfs(edit(one, extension, **cards)).column.min() == 8


@pytest.mark.parametrize("empty", ["", None])
def test_a_corner_in_neither_header_is_refused(one, empty):
    edit(one, "APERTURE", CRVAL1P=empty)
    with pytest.raises(FileError, match=r"detector position .* 1CRV5P and 2CRV5P .* CRVAL1P and CRVAL2P .*neither"):
        read_tpfs(edit(one, 1, c1CRV5P=empty))


@pytest.mark.parametrize("extension", [1, "APERTURE"])
@pytest.mark.parametrize("value", ["", None, 3.5], ids=["empty", "missing", "a number"])
def test_either_header_has_the_sky(one, make_pixels, extension, value):
    key = {"c1CTYP5": value} if extension == 1 else {"CTYPE1": value}
    back = read_tpfs(edit(one, extension, **key))
    np.testing.assert_allclose(back.ra_deg, make_pixels().ra_deg, rtol=0, atol=1e-9)


def test_sky_in_neither_header_is_given_by_hand(one, make_pixels):
    with fits.open(one) as hdus:
        wcs = WCS(hdus["APERTURE"].header)
    edit(one, "APERTURE", CTYPE1=None)
    edit(one, 1, c1CTYP5="")
    with pytest.raises(FileError, match=r"expected sky coordinates of the FLUX column or in the APERTURE .* wcs="):
        read_tpfs(one)
    np.testing.assert_allclose(read_tpfs(one, wcs=wcs).ra_deg, make_pixels().ra_deg, rtol=0, atol=1e-9)
    np.testing.assert_allclose(read_tpfs([one], wcs=[wcs]).ra_deg, make_pixels().ra_deg, rtol=0, atol=1e-9)
    kept = read_tpfs(one, wcs=wcs).meta["reading"]  # as a saved tree keeps it
    again = read_tpfs(one, **json.loads(json.dumps(kept)))
    np.testing.assert_allclose(again.ra_deg, make_pixels().ra_deg, rtol=0, atol=1e-9)
    with pytest.raises(InputError, match=r"wcs: expected the sky coordinates of each of 2 files, got 1; give a list"):
        read_tpfs([one, one], wcs=wcs)
    with pytest.raises(InputError, match=r"expected an astropy.wcs.WCS with sky coordinates or 'detector', got str"):
        read_tpfs(one, wcs="TAN")


def test_an_old_corner_in_the_aperture_is_a_note(one, make_pixels):
    """As a cut leaves it: both headers map the detector to the same sky, but APERTURE begins elsewhere."""
    with fits.open(one) as hdus:
        old = hdus["APERTURE"].header["CRPIX1"]
    edit(one, "APERTURE", CRVAL1P=5, CRPIX1=old + 3)
    back = read_tpfs(one)
    assert (back.column.min(), back.row.min()) == (8, 18)
    np.testing.assert_allclose(back.ra_deg, make_pixels().ra_deg, rtol=0, atol=1e-9)
    assert "APERTURE begins at column 5, row 18, the FLUX column at 8, 18" in back.meta["notes"][0]


@pytest.mark.parametrize("cards", [{"CRPIX1": 3.0}, {"CRVAL1P": 5}], ids=["sky", "corner alone"])
def test_two_places_on_the_sky_are_said(one, make_pixels, cards):
    with pytest.warns(
        DataWarning, match=r"one place on the sky in the headers of the FLUX column and of APERTURE, got"
    ):
        back = read_tpfs(edit(one, "APERTURE", **cards))
    np.testing.assert_allclose(back.ra_deg, make_pixels().ra_deg, rtol=0, atol=1e-9)


def test_two_matrices_are_refused(one):
    with pytest.raises(FileError, match=r"expected sky coordinates with one matrix, got PC and CD"):
        read_tpfs(edit(one, 1, c11CD5=1e-3))


def test_coordinates_that_place_pixels_nowhere_are_refused(one):
    with pytest.raises(FileError, match=r"one.fits: expected "):
        read_tpfs(edit(one, 1, c2CRVL5=1e6))


@pytest.mark.parametrize("frame", ["icrs", "galactic", "fk4"])
@pytest.mark.parametrize("swapped", [False, True])
def test_sky_coordinates_of_any_frame_and_order(frame, swapped):
    """A header may give declination first, or galactic coordinates."""
    place = SkyCoord(290.0, 44.5, unit="deg").transform_to(frame).spherical
    ctype = ("GLON-TAN", "GLAT-TAN") if frame == "galactic" else ("RA---TAN", "DEC--TAN")
    crval = (place.lon.deg, place.lat.deg)
    wcs, order = WCS(naxis=2), slice(None, None, -1 if swapped else 1)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ctype[order], crval[order], [0.001, 0.001]
    if frame == "fk4":
        wcs.wcs.radesys, wcs.wcs.equinox = "FK4", 1950.0
    ra_deg, dec_deg = sky_of(wcs, [-1.0], [-1.0])
    np.testing.assert_allclose([ra_deg[0], dec_deg[0]], [290.0, 44.5], atol=1e-8)


def test_an_aperture_that_is_turned_names_who_writes_it(one):
    with fits.open(one, memmap=False) as hdus:
        hdus["APERTURE"].data = hdus["APERTURE"].data.T.copy()
        hdus.writeto(one, overwrite=True)
    with pytest.raises(FileError, match=r"images of one shape, got .* no square so: give its object itself"):
        read_tpfs(one)
