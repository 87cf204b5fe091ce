"""Stamps of one stack: cadences known by number or time, clocks that agree, headers with stand-ins."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from bayesprf.errors import FileError, InputError
from bayesprf.instruments import TESS
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.pixels.tpf_writer import write_tpf


@pytest.fixture
def pair(make_pixels, tmp_path):
    other = make_pixels(corner=(20, 18))
    return [
        write_tpf(tmp_path / "a.fits", make_pixels()),
        write_tpf(tmp_path / "b.fits", replace(other, time=other.time + 1e-4)),
    ]


def edit(path, change):
    with fits.open(path, memmap=False) as hdus:
        change(hdus)
        hdus.writeto(path, overwrite=True)
    return path


def without_numbers(hdus):
    hdus[1].data["CADENCENO"] = 0


def test_times_tell_cadences_apart(pair):
    wanted = read_tpfs(pair)
    edit(pair[1], without_numbers)
    back = read_tpfs(pair)
    assert back.cadence_number.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(back.flux, wanted.flux)
    np.testing.assert_array_equal(back.time, wanted.time)
    assert back.meta["notes"] == ["b.fits: has no cadence numbers, TIME tells its cadences apart"]


def test_times_match_cadences_that_one_file_lacks(pair):
    edit(pair[0], without_numbers)
    with fits.open(pair[1], memmap=False) as hdus:
        hdus[1].data = hdus[1].data[1:]
        hdus[1].data["TIME"][1] = np.nan
        hdus.writeto(pair[1], overwrite=True)
    back = read_tpfs(pair, cadences="union")
    assert back.cadence_number.tolist() == [0, 1, 2, 3]
    assert np.isfinite(back.flux[:, back.stamp == 0]).all()
    assert np.isfinite(back.flux[:, back.stamp == 1]).all(axis=1).tolist() == [False, True, False, True]


def test_a_table_without_cadence_numbers(pair):
    with fits.open(pair[0], memmap=False) as hdus:
        hdus[1].columns.change_name("CADENCENO", "OTHER")
        hdus.writeto(pair[0], overwrite=True)
    assert read_tpfs(pair).n_time == 4


def test_neither_numbers_nor_times(pair):
    edit(pair[0], without_numbers)

    def stop(hdus):
        hdus[1].data["TIME"] = 1000.0

    with pytest.raises(FileError, match=r"a.fits: expected TIME to grow from row to row, but after 1000.0+ day comes"):
        read_tpfs(edit(pair[0], stop))


@pytest.mark.parametrize("shift", [10.0, -2400000.0 / 86400, 1 / 48], ids=["days", "zero", "one cadence"])
def test_clocks_must_agree(pair, shift):
    def move(hdus):
        hdus[1].data["TIME"] += shift

    with pytest.raises(
        InputError, match=r"one time for one CADENCENO in a stack, but the times of b.fits are -?\d.* s"
    ):
        read_tpfs([pair[0], edit(pair[1], move)])


def test_clocks_may_differ_as_light_travels(make_pixels, tmp_path):
    """Ten degrees apart, at most 92 s; of these files, 80 s with cadences of 20 s."""
    one = make_pixels(instrument=TESS, center=(290.0, 0.0))
    one = replace(one, time=1000.0 + np.arange(4) * 20 / 86400)
    two = make_pixels(instrument=TESS, center=(290.0, 10.0), corner=(20, 18))
    paths = [write_tpf(tmp_path / "a.fits", one)]
    for shift in (80.0, 120.0):
        paths.append(write_tpf(tmp_path / f"{shift:.0f}.fits", replace(two, time=one.time + shift / 86400)))
    np.testing.assert_allclose((read_tpfs(paths[:2]).time - one.time) * 86400, 40.0, atol=1e-3)
    with pytest.raises(InputError, match=r"light travel explains 91.7 s"):
        read_tpfs([paths[0], paths[2]])


def test_a_date_of_another_century_is_refused(pair):
    def other_zero(hdus):
        hdus[1].header["BJDREFI"] = 2400000

    with pytest.raises(
        FileError, match=r"b.fits: expected TIME and BJDREFI to give a date of this century, got Julian"
    ):
        read_tpfs(edit(pair[1], other_zero))


def test_time_that_runs_backwards_is_refused(pair):
    def turn(hdus):
        hdus[1].data["TIME"] = hdus[1].data["TIME"][::-1].copy()

    with pytest.raises(FileError, match=r"a.fits: expected TIME to grow from cadence to cadence"):
        read_tpfs(edit(pair[0], turn))


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_motion_that_never_changes_is_none(pair, value):
    def still(hdus):
        for name in ("POS_CORR1", "POS_CORR2"):
            hdus[1].data[name] = value

    back = read_tpfs(edit(pair[0], still))
    assert back.pos_corr is None
    assert f"POS_CORR is [{value}, {value}] in every cadence, which stands for none" in back.meta["notes"][0]


def test_stand_ins_of_the_primary_header(pair):
    def empty(hdus):
        hdus[0].header["KEPMAG"] = 0.0
        hdus[0].header["RA_OBJ"] = 0.0
        hdus[0].header["DEC_OBJ"] = 0.0
        hdus[0].header["OBJECT"] = ""
        hdus[0].header["QUARTER"] = fits.card.Undefined()

    meta = read_tpfs(edit(pair[0], empty)).meta
    target = meta["targets"][0]
    assert np.isnan([target["mag"], target["ra_deg"], target["dec_deg"]]).all()
    assert target["id"] == "a.fits"
    assert "quarter" not in meta


@pytest.mark.parametrize(
    ("card", "sky", "wanted"),
    [(True, 0, True), (False, 5, False), (0.0, 5, False), ("", 5, True), ("", 0, None), (None, 0, None)],
)
def test_whether_the_sky_was_taken_off(pair, card, sky, wanted):
    def change(hdus):
        hdus[1].data["FLUX_BKG"] = sky
        if card is None:
            del hdus[1].header["BACKAPP"]
        else:
            hdus[1].header["BACKAPP"] = fits.card.Undefined() if card == "" else card

    edit(pair[0], change)
    assert read_tpfs(pair[0]).background_removed is wanted
    both = read_tpfs(pair)
    assert both.meta["background_removed"] == [wanted, True]
    assert both.background_removed is wanted
