"""Pixel files as people bring them: the right answer, or one sentence that says what is wrong.

The files and their right answers: field-cases/README.md beside the other real files.
"""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import bayesprf as bp
from bayesprf.errors import DataWarning, FileError, InputError
from bayesprf.flags import QualityFlag
from bayesprf.instruments import K2, TESS
from bayesprf.io.pixels.ffi import read_image
from bayesprf.io.pixels.tpf import read_tpfs

pytestmark = pytest.mark.real

ARCSEC = 3600.0
WHOLE = "tess-tpf/tess25155310-s01-first-cadences.fits.gz"
STAMP = "tess-tpf/tess-tic273589987-s15-100cad.fits.gz"


@pytest.fixture(scope="module")
def cases(real_data):
    return real_data / "field-cases"


@pytest.fixture(scope="module")
def lightkurve():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightkurve warns on import about packages it would like to have
        return pytest.importorskip("lightkurve")


def farthest(part, whole):
    """Return the largest distance between the same detector pixels of two tables, arcsec."""
    place = {key: i for i, key in enumerate(zip(whole.column, whole.row, strict=True))}
    same = [place[key] for key in zip(part.column, part.row, strict=True)]
    east = (part.ra_deg - whole.ra_deg[same]) * np.cos(np.radians(part.dec_deg))
    np.testing.assert_array_equal(part.flux, whole.flux[:, same])
    return float(np.hypot(east, part.dec_deg - whole.dec_deg[same]).max()) * ARCSEC


def test_a_cut_that_moved_one_header_only(cases, real_data):
    part, whole = read_tpfs(cases / "lightkurve-cutout-tic25155310-4x4.fits.gz"), read_tpfs(real_data / WHOLE)
    assert (part.column[0], part.row[0]) == (1623, 393)
    assert (part.ra_deg[0], part.dec_deg[0]) == pytest.approx((63.364882, -69.220909), abs=1e-6)
    assert farthest(part, whole) < 0.01
    assert "APERTURE begins at column 1619, row 389, the FLUX column at 1623, 393" in part.meta["notes"][0]


@pytest.mark.parametrize(
    ("name", "center", "size"),
    [
        (WHOLE, (6, 6), 4),
        (WHOLE, (3, 8), 5),
        (STAMP, (2, 2), 4),
        ("kepler-tpf/tpf_test_00.fits", (3, 5), 3),
        ("kepler-tpf/long/kplr008462852-q08-100cad.fits.gz", (7, 3), 5),
        ("k2-tpf/ktwo200068665-c08-100cad.fits.gz", (14, 4), 6),
    ],
)
def test_pixels_of_a_lightkurve_cutout_are_where_they_are(real_data, lightkurve, tmp_path, name, center, size):
    """In memory, and saved by lightkurve."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of lightkurve and astropy on headers
        tpf = lightkurve.read(real_data / name, quality_bitmask="none")
        cut = tpf.cutout(center=center, size=size)
        cut.to_fits(str(tmp_path / "cut.fits"))
    whole = read_tpfs(real_data / name, quality_bitmask="none")
    part = read_tpfs(cut, quality_bitmask="none")
    assert part.n_pixel <= size**2
    assert part.n_pixel > 3
    assert farthest(part, whole) < 0.01
    saved = read_quietly(tmp_path / "cut.fits")
    assert farthest(saved, whole) < 0.01
    tpf.hdu.close()


def read_quietly(path):
    """Read a file whose columns may be broken, as `to_fits` of lightkurve leaves POS_CORR2."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*left out .*POS_CORR2", DataWarning)
        return read_tpfs(path, quality_bitmask="none")


def test_a_column_without_width_does_not_shift_the_others(cases):
    """POS_CORR2 has TDIM (0, 5), which moves every row of the table as astropy reads it."""
    with pytest.warns(DataWarning, match=r"left out POS_CORR2, which cannot be read as its header says"):
        pixels = read_tpfs(cases / "lightkurve-saved-cutout-kic8462852-5x5.fits.gz")
    assert (pixels.n_time, pixels.n_pixel) == (19, 25)
    np.testing.assert_allclose(np.diff(pixels.time), 0.0204328, atol=1e-6)
    assert (pixels.column.min(), pixels.row.min()) == (229, 129)
    assert pixels.flux.max() == pytest.approx(54517.285, abs=0.01)
    assert pixels.pos_corr is None


def test_a_broken_optional_column_is_left_out(cases):
    with pytest.warns(DataWarning, match=r"left out POS_CORR2, which cannot be read as its header says"):
        pixels = read_tpfs(cases / "lightkurve-saved-kic8462852-poscorr.fits.gz")
    assert (pixels.n_time, pixels.n_pixel, pixels.pos_corr) == (19, 110, None)


def test_empty_cards_and_coordinates_by_hand(cases):
    path = cases / "synthetic-k2-flat.targ.fits.gz"
    with pytest.raises(FileError, match=r"found none; give those of the array with wcs="):
        read_tpfs(path)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [100.0, 20.0], [4.0, 4.0]
    wcs.wcs.cdelt = [-3.98 / ARCSEC, 3.98 / ARCSEC]
    with pytest.warns(DataWarning, match=r"expected errors of about the photon and read noise, .*error_floor='noise'"):
        pixels = read_tpfs(path, wcs=wcs)
    assert (pixels.column.min(), pixels.row.min(), pixels.n_time) == (22, 121, 500)
    assert "has no cadence numbers, TIME tells its cadences apart" in pixels.meta["notes"][0]
    assert pixels.flux.sum(axis=1).mean() == pytest.approx(168704, abs=1)
    assert pixels.instrument is K2  # no card tells, but times after Kepler's last
    middle = np.flatnonzero((pixels.column == 25) & (pixels.row == 124))[0]
    assert (pixels.ra_deg[middle], pixels.dec_deg[middle]) == pytest.approx((100.0, 20.0))
    with pytest.warns(DataWarning, match=r"has no sky coordinates; its pixels are laid on the detector's own plane"):
        plane = read_tpfs(path, wcs="detector", error_floor="noise")
    east = (plane.ra_deg - 180.0) * np.cos(np.radians(plane.dec_deg))
    step = np.hypot(east[1] - east[0], plane.dec_deg[1] - plane.dec_deg[0]) * ARCSEC
    assert step == pytest.approx(3.98, rel=1e-3)
    # With errors that are possible the star has its flux, which no warning needs to say.
    floored = read_tpfs(path, wcs=wcs, error_floor="noise")
    assert floored.flux_err.min() > 0.9  # 270 reads of 95 electrons in 1625 s
    machine = bp.Machine.from_pixels(floored, bp.SourceTable(("star",), [100.0], [20.0], [168704.0]), quiet=True)
    machine.build_shape_model()
    # One star cannot tell what lies beyond its stamp: 5 % by the wing, in truth nothing; the total error says so.
    machine.fit_model()
    assert abs(np.median(machine.ws[:, 0]) - 168704) < 2.0 * np.median(machine.werrs_total[:, 0]) < 0.06 * 168704
    assert machine.verdict.find(QualityFlag.FEW_CALIBRATORS) is not None
    machine.fit_model(pixel_errors="given")
    assert np.median(machine.ws[:, 0]) == pytest.approx(168704, rel=0.05)


def test_sky_that_is_still_in_the_pixels_is_known(cases, real_data):
    pixels = quiet_errors(cases / "astrocut-sky150-15x15.fits.gz")
    assert pixels.background_removed is False
    assert pixels.meta["background_removed"] == [False]
    assert np.median(pixels.flux) == pytest.approx(150, abs=1)
    assert pixels.pos_corr is None  # all zero in the file
    assert np.isnan(pixels.meta["targets"][0]["mag"])  # TESSMAG = 0.0
    assert read_tpfs(real_data / STAMP).background_removed is True
    assert read_tpfs(real_data / "k2-tpf" / "ktwo200071160-c91-3x3-cutout.fits.gz").background_removed is False


def quiet_errors(path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*more than ten times smaller", DataWarning)
        return read_tpfs(path)


def test_electrons_without_errors_are_said_and_converted(cases):
    path = cases / "astrocut-tica-electrons-15x15.fits.gz"
    with pytest.warns(DataWarning) as caught:
        pixels = read_tpfs(path)
    said = [str(one.message) for one in caught]
    assert any("FLUX is in e-; divided by 475.2 s of light in each cadence" in one for one in said)
    assert any("FLUX is in e- and FLUX_ERR is 0 or NaN everywhere; the errors are photon noise" in one for one in said)
    same = quiet_errors(cases / "astrocut-sky150-15x15.fits.gz")
    assert np.median(pixels.flux) == pytest.approx(np.median(same.flux), rel=0.01)
    assert pixels.flux.max() == pytest.approx(same.flux.max(), rel=0.01)
    wanted = np.sqrt(pixels.flux * 475.2 + 240 * 10.0**2) / 475.2
    np.testing.assert_allclose(pixels.flux_err, wanted, rtol=1e-5)
    with pytest.warns(DataWarning, match=r"divided by 300 s|photon noise in 300 s"):
        other = read_tpfs(path, exposure=300.0)
    np.testing.assert_allclose(other.flux, pixels.flux * 475.2 / 300.0, rtol=1e-6)


def test_errors_of_a_full_frame_image_are_the_mission_s(cases):
    path = cases / "tess2018206192942-s0001-1-4-0120-s_ffic-128rows.fits.gz"
    pixels = read_image(path, extension=1, columns=(0, 128))
    with fits.open(path) as hdus:
        mission, flux = np.array(hdus[2].data, np.float64), np.array(hdus[1].data[:, :128], np.float64)
    np.testing.assert_array_equal(pixels.flux[0], flux.ravel())
    np.testing.assert_array_equal(pixels.flux_err[0][mission.ravel() > 0], mission[mission > 0])
    np.testing.assert_array_equal(pixels.ivar[0] > 0, mission.ravel() > 0)
    assert pixels.background_removed is False
    with pytest.warns(DataWarning, match=r"cover 128 rows and 128 columns; beyond them they are photon and read noise"):
        whole = read_image(path)
    assert whole.n_pixel == 128 * 173
    beyond = whole.column > 1 + 127
    light, reads = np.maximum(whole.flux[0][beyond], 0.0), np.mean(np.square([10.058, 7.4646, 7.308, 9.1686]))
    wanted = np.sqrt(light * 1425.6 + 720 * reads) / 1425.6  # EXPOSURE, not INT_TIME x NUM_FRM = 1782 s
    np.testing.assert_allclose(whole.flux_err[0][beyond], wanted, rtol=1e-4)


def test_a_flag_of_one_target_leaves_the_others_alone(cases, real_data):
    files = [real_data / STAMP, cases / "tess-neighbour-stamp-bit4096.fits.gz"]
    with pytest.warns(DataWarning) as caught:
        pixels = read_tpfs(files)
    said = " ".join(str(one.message) for one in caught)
    assert "expected the pixels that DATASUM was made from" in said  # the bits were set by hand
    assert "expected one place on the sky in the headers of the FLUX column and of APERTURE" in said
    assert pixels.n_time == 100
    assert pixels.meta["n_cadences_masked"] == [0, 60]
    kept = (pixels.ivar > 0).sum(axis=0)
    assert set(kept[pixels.stamp == 0]) == {100}
    assert set(kept[pixels.stamp == 1]) == {40}


def test_collections_and_open_files(real_data, lightkurve):
    paths = [real_data / "kepler-tpf" / f"tpf_test_0{i}.fits" for i in (0, 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tpfs = [lightkurve.read(path, quality_bitmask="none") for path in paths]
        collection = lightkurve.TargetPixelFileCollection(tpfs)
    wanted = read_tpfs(paths)
    with fits.open(paths[0]) as one, fits.open(paths[1]) as two:
        for given in (collection, [one, two], (collection[0], str(paths[1]))):
            back = read_tpfs(given)
            np.testing.assert_array_equal(back.flux, wanted.flux)
            np.testing.assert_array_equal(back.ra_deg, wanted.ra_deg)
        assert read_tpfs(one).n_pixel == read_tpfs(paths[0]).n_pixel
    for tpf in tpfs:
        tpf.hdu.close()


def test_headers_without_sky_from_memory(real_data, lightkurve):
    """Case 29: a file made of images, which has no sky coordinates anywhere."""
    with fits.open(real_data / STAMP) as hdus:
        copies = fits.HDUList([hdu.copy() for hdu in hdus[:3]])
    for key in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"):
        del copies[2].header[key]
    for key in ("1CTYP5", "2CTYP5"):
        del copies[1].header[key]
    with pytest.raises(FileError, match=r"expected sky coordinates of the FLUX column or in the APERTURE .* wcs="):
        read_tpfs(copies)
    with fits.open(real_data / STAMP) as hdus:
        by_hand = read_tpfs(copies, wcs=WCS(hdus[2].header))
    np.testing.assert_allclose(by_hand.ra_deg, read_tpfs(real_data / STAMP).ra_deg, rtol=0, atol=1e-10)


def test_addresses_keep_their_name():
    for address in ("https://archive.stsci.edu/x_lpd-targ.fits.gz", "s3://stpubdata/tess/a.fits"):
        with pytest.raises(InputError, match=rf"expected files on disk, got the address '{address}'"):
            read_tpfs(address)
        with pytest.raises(InputError, match=rf"expected files on disk, got the address '{address}'"):
            read_image(address)


def test_times_of_one_star(real_data):
    """Kepler's stars lie 0.03 degree apart: the files' own times tell what each star's is."""
    paths = sorted((real_data / "kepler-tpf").glob("tpf_test_0*.fits"))
    stack = read_tpfs(paths)
    for path in paths[::3]:
        alone = read_tpfs(path)
        target = alone.meta["targets"][0]
        moved = read_tpfs(paths, time_at=(target["ra_deg"], target["dec_deg"]))
        assert np.abs(stack.time - alone.time).max() * 86400 > 0.01
        np.testing.assert_allclose(moved.time * 86400, alone.time * 86400, rtol=0, atol=2e-3)


def test_times_of_tess_files_differ_as_light_travels(real_data):
    one = read_tpfs(real_data / STAMP)
    assert one.instrument is TESS
    # Ten degrees away light arrives up to 87 s earlier or later, and one degree away a tenth of that.
    ten, near = (bp.barycentric_shift(one, 297.79 + away, 46.48) * 86400 for away in (10.0, 0.1))
    assert 5 < np.abs(ten).max() < 87
    assert 0.01 < np.abs(near).max() < 0.87
