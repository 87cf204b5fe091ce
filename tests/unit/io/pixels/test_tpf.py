"""Reading target pixel files: stacks, cadences, duplicates, and every way a file can be bad."""

import gzip
import shutil
import tarfile
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from bayesprf.errors import DataWarning, FileError, InputError
from bayesprf.instruments import K2, KEPLER, TESS
from bayesprf.io.files import sha256_of
from bayesprf.io.pixels.listing import list_files
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.pixels.tpf_writer import write_tpf


@pytest.fixture
def one(make_pixels, tmp_path):
    return write_tpf(tmp_path / "one.fits", make_pixels(), target=11, mag=12.5)


@pytest.fixture
def pair(make_pixels, tmp_path):
    """Two files of one detector; the last two columns of the first are the first two of the second."""
    first = write_tpf(tmp_path / "a.fits", make_pixels(corner=(8, 18)), target=1, aperture=np.ones(30, bool))
    inside = np.zeros(30, bool)
    inside[[0, 8]] = True  # column 12, row 18 (shared) and column 14, row 19
    second = write_tpf(tmp_path / "b.fits", make_pixels(corner=(12, 18)), target=2, aperture=inside)
    return first, second


def edit(path, change):
    """Rewrite a file after `change(hdus)`."""
    with fits.open(path, memmap=False) as hdus:
        copies = fits.HDUList([hdu.copy() for hdu in hdus])
    copies = change(copies) or copies
    copies.writeto(path, overwrite=True)
    return path


def without_columns(*names):
    """Return a change for `edit` that leaves out columns of the pixel table."""

    def change(hdus):
        kept = [column for column in hdus[1].columns if column.name not in names]
        cards = [card for card in hdus[1].header.cards if card.keyword in ("BJDREFI", "1CRV5P", "2CRV5P")]
        table = fits.BinTableHDU.from_columns(kept, name="TARGETTABLES")
        table.header.extend(cards)
        return fits.HDUList([hdus[0], table, hdus["APERTURE"]])

    return change


def without_keys(extension, *keys):
    """Return a change for `edit` that removes header keywords."""

    def change(hdus):
        for key in keys:
            hdus[extension].header.remove(key)

    return change


def test_what_was_written_is_read(make_pixels, one):
    pixels, back = make_pixels(), read_tpfs(one)
    for name in ("time", "flux", "flux_err", "column", "row", "cadence_number", "pos_corr"):
        np.testing.assert_array_equal(getattr(back, name), getattr(pixels, name), err_msg=name)
    np.testing.assert_allclose(back.ra_deg, pixels.ra_deg, atol=1e-9, rtol=0)  # 4e-6 arcsec
    np.testing.assert_allclose(back.dec_deg, pixels.dec_deg, atol=1e-9, rtol=0)
    assert back.instrument is KEPLER
    assert back.flux.dtype == np.dtype("=f8")
    assert (back.meta["files"], back.meta["sha256"]) == (["one.fits"], [sha256_of(one)])
    assert (back.meta["channel"], back.meta["quarter"], back.meta["mission"]) == (7, 3, "Kepler")
    target = back.meta["targets"][0]
    assert (target["id"], target["mag"], target["file"]) == ("KIC 11", 12.5, "one.fits")


@pytest.mark.parametrize("instrument", [K2, TESS], ids=lambda one: one.name)
def test_other_missions_are_recognised(make_pixels, tmp_path, instrument):
    back = read_tpfs(write_tpf(tmp_path / "x.fits.gz", make_pixels(instrument=instrument)))
    assert back.instrument is instrument
    wanted = {"campaign": 5} if instrument is K2 else {"camera": 1, "ccd": 2, "sector": 9}
    assert {key: back.meta[key] for key in wanted} == wanted


def test_sky_positions_survive_the_ra_wrap(make_pixels, tmp_path):
    pixels = make_pixels(center=(0.0, -60.0))
    assert np.ptp(pixels.ra_deg) > 359  # the stamp straddles RA 0
    back = read_tpfs(write_tpf(tmp_path / "wrap.fits", pixels))
    np.testing.assert_allclose((back.ra_deg - pixels.ra_deg + 180) % 360, 180, atol=1e-9, rtol=0)


def test_shared_pixels_are_kept_once(pair):
    back = read_tpfs(pair)
    assert back.n_pixel == 30 + 30 - 10
    assert back.meta["n_duplicates"] == 10
    assert back.stamp.tolist() == [0] * 30 + [1] * 20
    np.testing.assert_array_equal(back.flux[2], 200.0 + back.column + back.row / 64)
    own, other = (target["aperture"] for target in back.meta["targets"])
    assert own.size == 30
    places = sorted((back.column[i], back.row[i]) for i in other)
    assert places == [(12, 18), (14, 19)]
    shared = int(np.flatnonzero((back.column == 12) & (back.row == 18))[0])
    assert back.meta["pipeline_aperture"][shared] == 0  # the first target's
    assert (back.meta["pipeline_aperture"] == 1).sum() == 1


def test_a_file_given_twice_is_said(pair, tmp_path):
    again = tmp_path / "copy.fits"
    again.write_bytes(pair[0].read_bytes())
    said = r"files: expected every file once, got the same content again in a\.fits \(as a\.fits\), copy\.fits \(as a"
    with pytest.warns(DataWarning, match=said):
        back = read_tpfs([pair[0], pair[0], pair[1], again])
    assert back.n_pixel == read_tpfs(pair).n_pixel


def test_copies_that_disagree_are_reported(pair):
    def brighten(hdus):
        hdus[1].data["FLUX"][1, 0, 0] += 5

    edit(pair[1], brighten)
    with pytest.warns(DataWarning, match=r"1 pixels of b.fits lie in an earlier file too, .*by up to 5 electron"):
        back = read_tpfs(pair)
    shared = (back.column == 12) & (back.row == 18)
    np.testing.assert_array_equal(back.flux[1, shared], [112 + 18 / 64])


def test_pixels_outside_the_mask_are_dropped(one):
    def unset(hdus):
        hdus["APERTURE"].data[0, 0] = 0  # not collected, whatever FLUX says
        hdus[1].data["FLUX"][:, 4, 5] = np.nan

    back = read_tpfs(edit(one, unset))
    assert back.n_pixel == 28
    places = set(zip(back.column, back.row, strict=True))
    assert (8, 18) not in places
    assert (13, 22) not in places


def test_cadences_are_matched_on_their_number(make_pixels, tmp_path):
    long, late = make_pixels(n_time=6), make_pixels(corner=(20, 18), n_time=6)
    shuffled = [5, 4, 2, 3]  # numbers 5005, 5004, 5002, 5003 in this order
    late = replace(
        late,
        time=late.time[shuffled],
        flux=late.flux[shuffled],
        flux_err=late.flux_err[shuffled],
        cadence_number=late.cadence_number[shuffled],
        pos_corr=late.pos_corr[shuffled],
    )
    files = [write_tpf(tmp_path / "long.fits", long), write_tpf(tmp_path / "late.fits", late)]
    with pytest.warns(DataWarning, match=r"2 of 6 cadences are not in every file and were left out: late.fits lacks 2"):
        back = read_tpfs(files)
    assert back.cadence_number.tolist() == [5002, 5003, 5004, 5005]
    np.testing.assert_array_equal(back.flux, 100.0 * np.arange(2, 6)[:, None] + back.column + back.row / 64)


def test_union_of_cadences_leaves_holes_where_a_file_has_none(make_pixels, tmp_path):
    early, late = make_pixels(), make_pixels(corner=(12, 18), cadence_number=5002 + np.arange(4))
    late = replace(late, time=late.time + 2 / 48, flux=late.flux + 200.0)
    files = [write_tpf(tmp_path / "early.fits", early), write_tpf(tmp_path / "late.fits", late)]
    back = read_tpfs(files, cadences="union")
    assert back.cadence_number.tolist() == [5000, 5001, 5002, 5003, 5004, 5005]
    np.testing.assert_allclose(back.time, 1000.0 + np.arange(6) / 48, rtol=0, atol=1e-9)
    wanted = 100.0 * np.arange(6)[:, None] + back.column + back.row / 64
    shared = (back.stamp == 0) & (back.column >= 12)  # the late file has these pixels too
    wanted[4:, (back.stamp == 0) & ~shared] = np.nan
    wanted[:2, back.stamp == 1] = np.nan
    np.testing.assert_array_equal(back.flux, wanted)
    np.testing.assert_array_equal(back.ivar > 0, np.isfinite(wanted))
    assert np.isfinite(back.pos_corr).all()


def test_union_of_equal_cadences_is_what_they_have_in_common(pair):
    common, union = read_tpfs(list(pair)), read_tpfs(list(pair), cadences="union")
    np.testing.assert_array_equal(union.flux, common.flux)
    np.testing.assert_array_equal(union.time, common.time)


def test_cadences_must_be_common_or_union(one):
    with pytest.raises(InputError, match="cadences: expected one of 'common', 'union', got 'all'"):
        read_tpfs(one, cadences="all")


def test_no_common_cadence_is_refused(make_pixels, tmp_path):
    files = [
        write_tpf(tmp_path / "early.fits", make_pixels()),
        write_tpf(tmp_path / "late.fits", make_pixels(corner=(20, 18), cadence_number=9000 + np.arange(4))),
    ]
    message = r"cadences in common, but late.fits \(CADENCENO 9000 to 9003\) shares none with early.fits .*5000 to 5003"
    with pytest.raises(InputError, match=message):
        read_tpfs(files)


def test_times_are_the_mean_over_the_files(make_pixels, tmp_path):
    second = make_pixels(corner=(20, 18))
    second = replace(second, time=second.time + 2e-5, pos_corr=second.pos_corr + 0.5)
    files = [write_tpf(tmp_path / "a.fits", make_pixels()), write_tpf(tmp_path / "b.fits", second)]
    back = read_tpfs(files)
    np.testing.assert_allclose(back.time, make_pixels().time + 1e-5, rtol=0, atol=1e-12)
    np.testing.assert_allclose(back.pos_corr, make_pixels().pos_corr + 0.25, rtol=0, atol=1e-7)


def test_a_file_loses_the_cadences_that_it_flags_itself(make_pixels, tmp_path):
    files = [
        write_tpf(tmp_path / "a.fits", make_pixels(), quality=[0, 2, 131072, 2]),
        write_tpf(tmp_path / "b.fits", make_pixels(corner=(12, 18)), quality=[0, 0, 0, 65536]),
    ]
    back = read_tpfs(files)
    assert back.cadence_number.tolist() == [5000, 5001, 5002]
    assert (back.meta["n_cadences_rejected"], back.meta["n_cadences_masked"]) == (1, [1, 0])
    wanted = 100.0 * np.arange(3)[:, None] + back.column + back.row / 64
    wanted[1, back.column < 12] = np.nan  # the shared columns 12 and 13 come from the other file
    np.testing.assert_array_equal(back.flux, wanted)
    assert read_tpfs(files, quality_bitmask="none").n_time == 4
    only = read_tpfs(files, quality_bitmask=131072)
    assert (only.n_time, np.isnan(only.flux[2]).sum()) == (4, 20)


def test_cadences_without_time_or_flux_are_left_out(one):
    def spoil(hdus):
        hdus[1].data["TIME"][0] = np.nan
        hdus[1].data["TIME"][1] = 0
        hdus[1].data["FLUX"][2] = np.nan

    assert read_tpfs(edit(one, spoil), quality_bitmask="none").cadence_number.tolist() == [5003]


def test_nothing_left_says_which_bits(make_pixels, tmp_path):
    path = write_tpf(tmp_path / "x.fits", make_pixels(), quality=[2, 2, 32, 34])
    message = (
        r"of 4 in x.fits 4 were rejected \(3 by bit 2 \(safe mode\), 2 by bit 32 \(reaction wheel desaturation\)\), "
        r"0 have no time and 0 no finite pixel; try quality_bitmask='none'"
    )
    with pytest.raises(InputError, match=message):
        read_tpfs(path)


def test_cadences_without_times_are_not_blamed_on_their_bits(make_pixels, tmp_path):
    path = write_tpf(tmp_path / "x.fits", make_pixels(), quality=[2, 0, 0, 0])
    with pytest.raises(InputError, match=r"1 were rejected \(.*\), 4 have no time and .*; give files with times"):
        read_tpfs(edit(path, lambda hdus: hdus[1].data["TIME"].fill(np.nan)))


@pytest.mark.parametrize("value", ["harder", -1])
def test_unknown_bitmasks(one, value):
    with pytest.raises(
        InputError,
        match=r"quality_bitmask: expected 'default', .* or a sum of QUALITY bits, got",
    ):
        read_tpfs(one, quality_bitmask=value)


@pytest.mark.parametrize("value", [True, 2.0])
def test_bitmasks_of_a_wrong_type(one, value):
    with pytest.raises(InputError, match=rf"^quality_bitmask: expected a text or a whole number, got {value}"):
        read_tpfs(one, quality_bitmask=value)


def test_pixels_without_usable_error_drop_out_of_their_cadence(one):
    def spoil(hdus):
        hdus[1].data["FLUX_ERR"][1, 0, 0] = np.nan
        hdus[1].data["FLUX_ERR"][2, 0, 1] = 0

    back = read_tpfs(edit(one, spoil))
    assert back.n_pixel == 30
    assert np.argwhere(back.ivar == 0).tolist() == [[1, 0], [2, 1]]


def test_missing_motion_is_none(one):
    assert read_tpfs(edit(one, without_columns("POS_CORR1"))).pos_corr is None


def test_times_with_another_zero_are_shifted(make_pixels, one):
    def shift(hdus):
        hdus[1].header["BJDREFI"] = 2454833 + 100

    np.testing.assert_allclose(read_tpfs(edit(one, shift)).time, make_pixels().time + 100, rtol=0, atol=1e-10)


def test_cutouts_of_full_frame_images_are_matched_on_the_frame(make_pixels, tmp_path):
    """The archive's cutouts number all cadences 0, lack the corner in APERTURE, and name the frame of each cadence."""

    def like_a_cutout(frames):
        def change(hdus):
            names = [f"tess20182061{i}2942-s0001-4-2-0120-s_ffi" for i in frames]
            hdus[1].data["CADENCENO"] = 0
            table = fits.BinTableHDU.from_columns(
                hdus[1].columns + fits.ColDefs([fits.Column("FFI_FILE", "38A", array=names)]), header=hdus[1].header
            )
            for key in ("CRVAL1P", "CRVAL2P"):
                del hdus["APERTURE"].header[key]
            return fits.HDUList([hdus[0], table, hdus[2]])

        return change

    a = edit(write_tpf(tmp_path / "a.fits", make_pixels(instrument=TESS)), like_a_cutout([1, 2, 3, 4]))
    later = make_pixels(instrument=TESS, corner=(20, 18))
    later = replace(later, time=later.time + 1 / 48)
    b = edit(write_tpf(tmp_path / "b.fits", later), like_a_cutout([2, 3, 4, 5]))
    with pytest.warns(DataWarning, match=r"2 of 5 cadences are not in every file"):
        back = read_tpfs([a, b])
    assert back.cadence_number.tolist() == [2018206122942, 2018206132942, 2018206142942]
    assert sorted(set(back.column)) == [*range(8, 14), *range(20, 26)]
    assert back.flux[0, 0] == 100 + 8 + 18 / 64  # frame 2 is the second cadence of the first file


def test_repeated_cadence_numbers_are_refused(one):
    def repeat(hdus):
        hdus[1].data["CADENCENO"][1] = 5000

    with pytest.raises(FileError, match=r"one.fits: expected every cadence number once, but CADENCENO repeats"):
        read_tpfs(edit(one, repeat))


@pytest.mark.parametrize("key", ["channel", "quarter"])
def test_files_of_two_stacks_are_refused(make_pixels, tmp_path, key):
    other = make_pixels(corner=(20, 18), meta={"channel": 7, "quarter": 3} | {key: 44})
    files = [write_tpf(tmp_path / "a.fits", make_pixels()), write_tpf(tmp_path / "b.fits", other)]
    message = f"expected one {key.upper()} in a stack, got [73] in a.fits and 44 in b.fits; read them in separate calls"
    with pytest.raises(InputError, match=message):
        read_tpfs(files)


def test_files_of_two_missions_are_refused(make_pixels, tmp_path):
    files = [
        write_tpf(tmp_path / "a.fits", make_pixels()),
        write_tpf(tmp_path / "b.fits", make_pixels(instrument=TESS, corner=(20, 18))),
    ]
    with pytest.raises(InputError, match=r"expected one mission in a stack, got Kepler in a.fits and TESS in b.fits"):
        read_tpfs(files)


def test_the_whole_of_a_directory_a_pattern_or_a_list(pair, tmp_path):
    for files in (tmp_path, str(tmp_path), str(tmp_path / "*.fits"), list(pair), [str(tmp_path / "[ab].fits")]):
        assert read_tpfs(files).meta["files"] == ["a.fits", "b.fits"]


def test_brackets_in_a_name_that_exists_are_no_pattern(one, tmp_path):
    path = shutil.copy(one, tmp_path / "one[1].fits")
    assert [item.name for item in list_files(path)] == ["one[1].fits"]


def test_files_of_one_name_are_told_apart(pair, tmp_path):
    (tmp_path / "sub").mkdir()
    moved = shutil.move(pair[1], tmp_path / "sub" / "a.fits")
    assert read_tpfs([pair[0], moved]).meta["files"] == ["a.fits", "a.fits (2)"]


def test_objects_that_hold_an_open_file_are_read(one):
    with fits.open(one) as hdus:
        held = SimpleNamespace(hdu=hdus, path=str(one))
        by_object = read_tpfs(held)
        unnamed = read_tpfs([SimpleNamespace(hdu=fits.HDUList([hdu.copy() for hdu in hdus]))])
    np.testing.assert_array_equal(by_object.flux, read_tpfs(one).flux)
    assert (by_object.meta["files"], by_object.meta["sha256"]) == (["one.fits"], [sha256_of(one)])
    assert (unnamed.meta["files"], unnamed.meta["sha256"]) == (["KIC 11"], [""])


def test_lightkurve_objects_are_read(one):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightkurve warns on import about packages it would like to have
        lightkurve = pytest.importorskip("lightkurve")
    tpf = lightkurve.read(one)
    np.testing.assert_array_equal(read_tpfs(tpf).flux, read_tpfs(one).flux)
    assert read_tpfs([tpf[1:3]]).cadence_number.tolist() == [5001, 5002]
    tpf.hdu.close()


def test_compressed_files_are_read(one, tmp_path):
    packed = tmp_path / "one.fits.gz"
    packed.write_bytes(gzip.compress(one.read_bytes()))
    np.testing.assert_array_equal(read_tpfs(packed).flux, read_tpfs(one).flux)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_truncated_files_are_named(one, tmp_path, share, packed):
    content = gzip.compress(one.read_bytes()) if packed else one.read_bytes()
    cut = tmp_path / ("cut.fits.gz" if packed else "cut.fits")
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FileError, match=r"cut\.fits.*: expected a (target pixel file, but it|FITS file, got an empty)"):
        read_tpfs(cut)


def test_unreadable_files_can_be_skipped(pair, tmp_path):
    bad = tmp_path / "aa.fits"
    bad.write_bytes(pair[0].read_bytes()[:9000])
    with pytest.warns(DataWarning, match=r"skipped a file: .*aa.fits: expected a target pixel file"):
        back = read_tpfs(tmp_path, on_error="skip")
    assert back.meta["files"] == ["a.fits", "b.fits"]
    with (
        pytest.warns(DataWarning, match=r"skipped a file"),
        pytest.raises(FileError, match=r"at least one readable file, but none of 1 could be read"),
    ):
        read_tpfs(bad, on_error="skip")


def test_on_error_is_checked(one):
    with pytest.raises(InputError, match=r"on_error: expected one of 'raise', 'skip', got 'ignore'"):
        read_tpfs(one, on_error="ignore")


def test_files_that_are_no_pixel_files(one, tmp_path):
    text = tmp_path / "text.fits"
    text.write_text("not a FITS file")
    with pytest.raises(FileError, match=r"text.fits: expected a target pixel file, but it cannot be read"):
        read_tpfs(text)
    image = tmp_path / "image.fits"
    for shape in ((3, 3), (2, 3, 3)):
        fits.PrimaryHDU(np.ones(shape)).writeto(image, overwrite=True)
        with pytest.raises(
            FileError,
            match=r"image.fits: .* extension is not a table of pixels; an image is read by bayesprf.read_image",
        ):
            read_tpfs(image)


@pytest.mark.parametrize("column", ["TIME", "FLUX", "FLUX_ERR", "QUALITY"])
def test_missing_columns_are_named(one, column):
    with pytest.raises(FileError, match=rf"one.fits: .* its table has no column {column}; it has "):
        read_tpfs(edit(one, without_columns(column)))


def test_light_curves_are_named(one):
    def average(hdus):
        flux = fits.Column("FLUX", "E", array=np.nanmean(hdus[1].data["FLUX"], axis=(1, 2)))
        rest = [column for column in hdus[1].columns if column.name not in ("FLUX", "FLUX_ERR")]
        hdus[1] = fits.BinTableHDU.from_columns([*rest, flux], name="LIGHTCURVE")

    with pytest.raises(FileError, match=r"one\.fits: expected a target pixel file, got a light curve, whose FLUX"):
        read_tpfs(edit(one, average))


def test_missing_parts_are_named(one):
    with pytest.raises(FileError, match=r"one.fits: .* no APERTURE extension; its table has the columns TIME, "):
        read_tpfs(edit(one, lambda hdus: hdus[:2]))


def test_other_tables_of_the_missions_are_named(tmp_path):
    """K2SFF's light curves, whose columns have other names; cotrending vectors and backgrounds are alike."""
    table = fits.BinTableHDU.from_columns([fits.Column(name, "D", array=np.ones(3)) for name in ("T", "FRAW", "FCOR")])
    path = tmp_path / "hlsp.fits"
    fits.HDUList([fits.PrimaryHDU(), table, table.copy()]).writeto(path)
    with pytest.raises(FileError, match=r"no APERTURE extension; its table has the columns T, FRAW, FCOR$"):
        read_tpfs(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"status": "ERROR", "msg": "no such product"}', "got JSON, as servers answer"),
        (b"ID,ra,dec\n25155310,63.37,-69.22\n", "got a text; give the file of the pixels"),
        (b"Error: no such file\r\n", "got a text; give the file of the pixels"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_servers_send_instead_is_named(tmp_path, content, said, packed):
    path = tmp_path / "one.fits.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(FileError, match=rf"one\.fits\.gz: expected a FITS file, {said}"):
        read_tpfs(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_of_files_is_named(one, tmp_path, mode):
    with tarfile.open(tmp_path / "MAST.tar", mode) as bundle:
        bundle.add(one, "MAST/one.fits")
    with pytest.raises(FileError, match=r"MAST\.tar: expected a FITS file, got a tar archive; unpack it"):
        read_tpfs(tmp_path / "MAST.tar")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_keys(0, "TELESCOP"), r"expected TELESCOP to be Kepler or TESS, got None"),
        (lambda hdus: hdus[0].header.set("TELESCOP", "HST"), r"expected TELESCOP to be Kepler or TESS, got 'HST'"),
        (lambda hdus: hdus[1].data["FLUX"].fill(np.nan), r"no pixel of this file has a finite flux"),
        (lambda hdus: hdus["APERTURE"].data.fill(2), r"APERTURE to mark .* bit 1, but it marks none of \d+ with a"),
    ],
    ids=["no telescope", "other telescope", "no flux", "empty aperture"],
)
def test_files_that_cannot_be_used(one, change, message):
    with pytest.raises(FileError, match=rf"one.fits: .*{message}"):
        read_tpfs(edit(one, change))


def test_missing_files_and_patterns(tmp_path):
    with pytest.raises(FileError, match=r"absent.fits: expected a target pixel file, found no file of this name"):
        read_tpfs(tmp_path / "absent.fits")
    with pytest.raises(FileError, match=r"expected files that match .*\*.fits', found none"):
        read_tpfs(str(tmp_path / "*.fits"))
    with pytest.raises(FileError, match=r"expected target pixel files .* found none"):
        read_tpfs(tmp_path)
    with pytest.raises(InputError, match=r"files: expected at least one target pixel file, got an empty list"):
        read_tpfs([])
    with pytest.raises(InputError, match=r"files: expected a path, .* got int"):
        read_tpfs([3])


def test_the_same_call_twice_gives_the_same_bits(pair):
    one, two = read_tpfs(pair), read_tpfs(pair)
    for name in ("time", "flux", "flux_err", "ra_deg", "dec_deg"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
