"""Units and errors of pixels: converted, made where missing, questioned where impossible."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from bayesprf.errors import DataWarning, FileError, InputError
from bayesprf.instruments import KEPLER, TESS
from bayesprf.io.pixels.noise import Noise, check_floor, question_errors, question_flux, rate_factor
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.pixels.tpf_writer import write_tpf

PATH = Path("x.fits")
LIGHT = np.full((3, 4), 100.0, np.float32)
EXPOSURE = 1800.0 * KEPLER.duty  # half an hour a cadence, and no card that says more
LEAST = np.sqrt(100.0 * EXPOSURE + EXPOSURE / KEPLER.read_seconds * KEPLER.read_noise**2) / EXPOSURE


@pytest.fixture
def one(make_pixels, tmp_path):
    return write_tpf(tmp_path / "one.fits", make_pixels())


def edit(path, change):
    with fits.open(path, memmap=False) as hdus:
        change(hdus)
        hdus.writeto(path, overwrite=True)
    return path


def in_unit(unit):
    def change(hdus):
        for number in (5, 6):
            hdus[1].header[f"TUNIT{number}"] = unit

    return change


@pytest.mark.parametrize(
    "unit", [None, "e-/s", "electron / s", "electrons/s", "e/s", "electron s-1", "e- s**-1", "E-/SEC"]
)
def test_names_of_electron_per_second(unit):
    assert rate_factor(unit, Noise(100.0, None), "FLUX", PATH) == 1.0


@pytest.mark.parametrize("unit", ["e-", "electrons", "electron"])
def test_electrons_are_divided_by_the_exposure(unit):
    assert rate_factor(unit, Noise(50.0, None), "FLUX", PATH) == 0.02
    with pytest.raises(FileError, match=r"expected FLUX in electron / s, got .*; give exposure="):
        rate_factor(unit, Noise(None, None), "FLUX", PATH)


@pytest.mark.parametrize("unit", ["count", "adu", "mJy", "e-/cadence", "erg/s", "s"])
def test_other_units_are_refused_by_name(one, unit):
    with pytest.raises(FileError, match=rf"one.fits: expected FLUX in electron / s or electron, got '{unit}'; convert"):
        read_tpfs(edit(one, in_unit(unit)))


def test_a_file_in_electrons(one):
    def widen(hdus):
        hdus[1].data["FLUX_ERR"] = 5e3

    rate = read_tpfs(edit(one, widen))
    with pytest.warns(DataWarning, match=r"FLUX is in e-; divided by 1657.13 s of light in each cadence"):
        back = read_tpfs(edit(one, in_unit("e-")))
    np.testing.assert_allclose(back.flux, rate.flux / EXPOSURE, rtol=1e-6)
    np.testing.assert_allclose(back.flux_err, rate.flux_err / EXPOSURE, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_missing_errors_are_made(one, value):
    def spoil(hdus):
        hdus[1].data["FLUX_ERR"][:] = value
        hdus[1].data["FLUX"][:] = 100.0

    with pytest.warns(DataWarning, match=r"FLUX is in e-/s and FLUX_ERR is 0 or NaN everywhere; the errors are photon"):
        back = read_tpfs(edit(one, spoil))
    np.testing.assert_allclose(back.flux_err, LEAST, rtol=1e-6)


def test_light_that_was_taken_off_makes_noise_too(one):
    def spoil(hdus):
        hdus[1].data["FLUX_ERR"][:] = 0.0
        hdus[1].data["FLUX"][:] = 40.0
        hdus[1].data["FLUX_BKG"][:] = 60.0

    with pytest.warns(DataWarning, match="FLUX_ERR is 0 or NaN everywhere"):
        np.testing.assert_allclose(read_tpfs(edit(one, spoil)).flux_err, LEAST, rtol=1e-6)


def test_missing_errors_of_unknown_noise_are_refused():
    with pytest.raises(FileError, match=r"x.fits: expected errors, but FLUX is in e- and FLUX_ERR is 0 .*exposure="):
        question_errors(LIGHT, 0 * LIGHT, None, Noise(None, None), floor=None, unit="e-", path=PATH)


def test_errors_far_below_the_noise_are_questioned_or_raised(one):
    def spoil(hdus):
        hdus[1].data["FLUX_ERR"][:, 0, 0] = 1e-5
        hdus[1].data["FLUX"][:] = 100.0

    edit(one, spoil)
    message = r"those of 1 of 30 pixels are more than ten times smaller \(down to 1e-05 .*error_floor='noise'"
    with pytest.warns(DataWarning, match=message):
        plain = read_tpfs(one)
    assert plain.flux_err[0, 0] == np.float32(1e-5)
    raised = read_tpfs(one, error_floor="noise")
    np.testing.assert_allclose(raised.flux_err[:, 0], LEAST, rtol=1e-6)
    np.testing.assert_array_equal(raised.flux_err[:, 1:], 2.0)
    np.testing.assert_array_equal(read_tpfs(one, error_floor=5).flux_err, 5.0)


@pytest.mark.parametrize("floor", [0, -1.0, "photon", True, [1.0], np.nan])
def test_floors_are_checked(floor):
    with pytest.raises(InputError, match=r"error_floor: expected"):
        check_floor(floor)


def test_negative_errors_are_refused_by_name(one):
    def spoil(hdus):
        hdus[1].data["FLUX_ERR"][1, 0, 0] = -3.0

    with pytest.raises(FileError, match=r"one.fits: expected FLUX_ERR of 0 or more, got -3.0 in row 1"):
        read_tpfs(edit(one, spoil))


def test_values_that_no_pixel_holds_are_left_out(one):
    def spoil(hdus):
        hdus[1].data["FLUX"][2, 1, 1] = 1e22

    with pytest.warns(
        DataWarning, match=r"left out 1 impossible values of FLUX, the first 1e\+22 electron / s in row 2"
    ):
        back = read_tpfs(edit(one, spoil))
    assert np.argwhere(np.isnan(back.flux)).tolist() == [[2, 7]]


def test_a_file_of_impossible_values_has_another_unit(one):
    def spoil(hdus):
        hdus[1].data["FLUX"] *= 1e30

    with pytest.raises(
        FileError, match=r"120 of 120 values are beyond ten times the full well .* unit must be another"
    ):
        read_tpfs(edit(one, spoil))


@pytest.mark.parametrize("instrument", [KEPLER, TESS], ids=lambda one: one.name)
def test_bright_stars_are_possible(instrument):
    flux = np.array([[1.0, 2.0 * instrument.saturation]], np.float32)
    back, notes, alarms = question_flux(flux, instrument, PATH)
    assert (back is flux, notes, alarms) == (True, [], [])


def test_cadences_of_zeros_hold_nothing(one):
    def spoil(hdus):
        hdus[1].data["FLUX"][1] = 0.0

    back = read_tpfs(edit(one, spoil))
    assert back.cadence_number.tolist() == [5000, 5002, 5003]
    assert back.meta["notes"] == ["one.fits: left out 1 cadences in which every pixel is exactly 0"]


@pytest.mark.parametrize("value", [0.0, -1.0, -999.0])
def test_pixels_that_never_change_hold_nothing(one, value):
    """Some tools write a number where a pixel was not downloaded."""

    def spoil(hdus):
        hdus[1].data["FLUX"][:, 1, 1] = value

    said = rf"left out 1 of 30 pixels that hold the same number in all 4 cadences, the first {value:g}, which stands"
    with pytest.warns(DataWarning, match=said):
        assert read_tpfs(edit(one, spoil)).gaps.tolist() == [4 * (pixel == 7) for pixel in range(30)]


def test_pixels_of_two_cadences_or_without_any_change_are_kept():
    same = np.ones((4, 3), np.float32)
    assert question_flux(same, KEPLER, PATH)[0] is same
    two = np.array([[1.0, 2.0], [1.0, 3.0], [np.nan, 4.0]], np.float32)
    assert question_flux(two, KEPLER, PATH)[0] is two
