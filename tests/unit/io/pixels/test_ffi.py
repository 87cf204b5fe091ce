"""Single images: full frame images and superstamps, made up by hand here."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import bayesprf as bp
from bayesprf.errors import DataWarning, FileError, InputError, ShapeError
from bayesprf.instruments import K2, KEPLER, TESS
from bayesprf.io.pixels.ffi import block_sky, image_pixels, read_image
from bayesprf.io.pixels.fits_file import find_units

HEADER = {
    "BUNIT": "electrons/s",
    "INT_TIME": 6.02,
    "NUM_FRM": 270,
    "READNOIS": 87.6,
    "BJDREFI": 2454833,
    "TSTART": 100.0,
    "TSTOP": 100.02,
    "TELESCOP": "Kepler",
    "CRVAL1P": 0,
    "CRPIX1P": 1,
    "CRVAL2P": 30,
    "CRPIX2P": 1,
}
EXPOSURE = 6.02 * 270


def make_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [290.0, 44.0], [6.0, 4.0]
    wcs.wcs.cdelt = [-3.98 / 3600, 3.98 / 3600]
    return wcs


def make_image(shape=(8, 12)):
    return np.arange(float(np.prod(shape))).reshape(shape) + 100.0


def write(path, image=None, *, drop=(), wcs=True, name="MOD.OUT 2.1", **changes):
    """Write an image in the first extension, as full frame images have it."""
    header = make_wcs().to_header() if wcs else fits.Header()
    header.update({key: value for key, value in {**HEADER, **changes}.items() if key not in drop})
    image = make_image() if image is None else image
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image.astype(">f4"), header, name=name)])
    hdus.writeto(path, overwrite=True)
    return path


def test_flux_errors_places_and_times(tmp_path):
    pixels = bp.read_image(write(tmp_path / "ffi.fits"))
    image = make_image()
    assert pixels.flux.shape == (1, 96)
    np.testing.assert_allclose(pixels.flux[0], image.ravel())
    wanted = np.sqrt(image * EXPOSURE + 270 * 87.6**2) / EXPOSURE
    np.testing.assert_allclose(pixels.flux_err[0], wanted.ravel(), rtol=1e-12)
    np.testing.assert_array_equal(pixels.column.reshape(8, 12)[0], np.arange(12))
    np.testing.assert_array_equal(pixels.row.reshape(8, 12)[:, 0], 30 + np.arange(8))
    centre = np.flatnonzero((pixels.column == 5) & (pixels.row == 33))[0]
    assert (pixels.ra_deg[centre], pixels.dec_deg[centre]) == pytest.approx((290.0, 44.0), abs=1e-10)
    assert pixels.time.tolist() == pytest.approx([100.01])
    assert pixels.instrument is KEPLER
    assert pixels.meta["files"] == ["ffi.fits"]
    assert len(pixels.meta["sha256"][0]) == 64


def test_overscan_is_left_out(tmp_path):
    pixels = read_image(write(tmp_path / "ffi.fits"), columns=(2, 12), rows=(3, 8))
    np.testing.assert_allclose(pixels.flux[0], make_image()[3:8, 2:12].ravel())
    assert (pixels.column.min(), pixels.row.min()) == (2, 33)


def test_header_says_which_mission_and_when(tmp_path):
    campaign = read_image(write(tmp_path / "k2.fits", CAMPAIGN=5, TSTART=2457139.60, TSTOP=2457139.62))
    assert campaign.instrument is K2
    assert campaign.time[0] == pytest.approx(2306.61, abs=1e-6)
    assert campaign.meta["campaign"] == 5
    given = read_image(write(tmp_path / "t.fits", TELESCOP="Other"), instrument=TESS, time=7.0)
    assert given.instrument is TESS
    assert given.time.tolist() == [7.0]


def test_corner_of_a_superstamp(tmp_path):
    pixels = read_image(write(tmp_path / "stamp.fits", COL0=700, ROW0=200))
    assert (pixels.column.min(), pixels.row.min()) == (700, 200)


def test_arguments_come_before_the_header(tmp_path):
    file = write(tmp_path / "ffi.fits", drop=("INT_TIME", "READNOIS", "NUM_FRM"))
    pixels = read_image(file, exposure=100.0, read_noise=0.0, n_read=1)
    np.testing.assert_allclose(pixels.flux_err[0], np.sqrt(make_image().ravel() / 100.0), rtol=1e-12)


def test_missing_and_saturated_pixels_are_flagged(tmp_path):
    image = make_image()
    image[2, 3], image[4, 5] = np.nan, 2e5
    pixels = read_image(write(tmp_path / "ffi.fits", image), sky_block=5)
    assert np.flatnonzero(pixels.ivar[0] == 0).tolist() == [2 * 12 + 3]
    assert np.flatnonzero(pixels.saturated).tolist() == [4 * 12 + 5]
    assert pixels.gaps.sum() == 1


def test_sky_is_the_median_of_each_block():
    sky = np.where(np.arange(30) < 20, 50.0, 80.0) * np.ones((20, 1))
    image = sky + np.random.default_rng(0).normal(0.0, 1.0, sky.shape)
    image[3, 4], image[8, 25], image[9, 9] = 5e3, 4e3, np.nan
    found = block_sky(image, 10)
    np.testing.assert_allclose(found, sky, atol=0.6)
    pixels = image_pixels(image, make_wcs(), exposure=100.0, read_noise=3.0, sky_block=10)
    np.testing.assert_allclose(pixels.flux[0], (image - found).ravel())
    np.testing.assert_allclose(pixels.flux_err[0, 0], np.sqrt(image[0, 0] * 100.0 + 9.0) / 100.0)
    assert not block_sky(np.full((5, 5), np.nan), 5).any()


def test_a_fit_of_an_image(tmp_path):
    """From file to fluxes: Gaussian stars on a sky that the fit takes off."""
    rng = np.random.default_rng(1)
    wcs, shape = make_wcs(), (40, 50)
    row, column = np.indices(shape)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(5.0, 48.0, 8.0), np.arange(5.0, 38.0, 8.0)))
    x, y = x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, y.size)
    flux = 10.0 ** rng.uniform(3.5, 4.5, x.size)
    light = sum(
        f * np.exp(-0.5 * ((column - a) ** 2 + (row - b) ** 2)) / (2 * np.pi)
        for f, a, b in zip(flux, x, y, strict=True)
    )
    image = light + 20.0
    image += rng.normal(size=shape) * np.sqrt(image * EXPOSURE + 270 * 87.6**2) / EXPOSURE
    pixels = read_image(write(tmp_path / "ffi.fits", image), sky_block=20)
    ra_deg, dec_deg = wcs.all_pix2world(x, y, 0)
    sources = bp.SourceTable(tuple(str(one) for one in range(x.size)), ra_deg, dec_deg, flux)
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    assert np.median(np.abs(machine.ws[0] / flux - 1.0)) < 0.02


def two_images(path):
    images = [fits.ImageHDU(np.ones((4, 4), np.float32), name=name) for name in ("A", "B")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path


@pytest.mark.parametrize(
    ("changes", "arguments", "error", "message"),
    [
        ({"wcs": False}, {}, FileError, "expected sky coordinates .* in the header, found none"),
        ({"BUNIT": "adu"}, {}, FileError, "expected an image in electron / s, got BUNIT = 'adu'"),
        ({"drop": ("BUNIT",)}, {}, FileError, "expected an image in electron / s, got BUNIT = None"),
        (
            {"drop": ("INT_TIME",)},
            {},
            InputError,
            "exposure: expected a number, .* no INT_TIME and NUM_FRM; give exposure=",
        ),
        ({"drop": ("READNOIS",)}, {}, InputError, "read_noise: .* no READNOIS; give read_noise="),
        ({"drop": ("NUM_FRM",)}, {"exposure": 10.0}, InputError, "n_read: .* no NUM_FRM; give n_read="),
        ({"drop": ("TSTART",)}, {}, InputError, "time: .* no TSTART, TSTOP and BJDREFI; give time="),
        ({"drop": ("BJDREFI",)}, {}, InputError, "time: .* no TSTART, TSTOP and BJDREFI; give time="),
        ({"TELESCOP": "Hubble"}, {}, FileError, "expected TELESCOP to be Kepler or TESS, got 'Hubble'"),
        ({}, {"exposure": -1.0}, InputError, "exposure: expected a finite number above 0, got -1.0"),
        (
            {},
            {"read_noise": -1.0},
            InputError,
            "read_noise: expected a finite number of electrons, 0 or more, got -1.0",
        ),
        ({}, {"columns": (3, 20)}, InputError, r"columns: expected first and last-plus-one index within 0 to 12, got"),
        ({}, {"sky_block": 2}, InputError, "sky_block: expected a whole number of 5 pixels or more, got 2"),
        ({}, {"extension": 0}, FileError, "expected an image in extension 0, which is none; there are 'MOD.OUT 2.1'"),
        ({}, {"extension": "MOD.OUT 9.9"}, FileError, "expected extension 'MOD.OUT 9.9', found the images"),
    ],
)
def test_bad_files_and_arguments_are_refused(tmp_path, changes, arguments, error, message):
    with pytest.raises(error, match=message):
        read_image(write(tmp_path / "ffi.fits", **changes), **arguments)


def test_several_images_need_a_name(tmp_path):
    with pytest.raises(FileError, match=r"expected one image, found 2 \('A', 'B'\); name one by extension="):
        read_image(two_images(tmp_path / "two.fits"))


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(FileError, match="expected a FITS image, found no file of this name"):
        read_image(tmp_path / "none.fits")
    text = tmp_path / "text.fits"
    text.write_text("no image")
    with pytest.raises(FileError, match="expected a FITS image, but it cannot be read"):
        read_image(text)
    with pytest.raises(ShapeError, match=r"image: expected 2 dimension"):
        image_pixels(np.ones(3), make_wcs(), exposure=1.0, read_noise=1.0)


def test_a_file_cut_short_is_refused(tmp_path):
    file = write(tmp_path / "ffi.fits", make_image((80, 120)))
    file.write_bytes(file.read_bytes()[:9000])
    with pytest.raises(FileError, match="expected a FITS image, but it cannot be read"):
        read_image(file)


# Series of images


def series(tmp_path, moves=(0.0, 0.25, -0.5)):
    """Write images whose coordinates move along the columns, later ones first by name."""
    paths = []
    for number, move in enumerate(moves):
        path = tmp_path / f"{'cba'[number]}.fits"
        write(path, make_image() + number, TSTART=100.0 + number, TSTOP=100.02 + number, CRPIX1=6.0 + move)
        paths.append(path)
    return paths


def test_images_make_a_series_in_the_order_of_time(tmp_path):
    paths = series(tmp_path)
    pixels = read_image(paths)
    assert (pixels.n_time, pixels.n_pixel) == (3, 96)
    np.testing.assert_allclose(pixels.time, [100.01, 101.01, 102.01])
    np.testing.assert_allclose(pixels.flux, make_image().ravel() + np.arange(3.0)[:, None])
    np.testing.assert_allclose(pixels.pos_corr, [[0, 0], [0.25, 0], [-0.5, 0]], atol=1e-9)
    np.testing.assert_array_equal(pixels.ra_deg, read_image(paths[0]).ra_deg)
    assert pixels.meta["files"] == ["c.fits", "b.fits", "a.fits"]
    assert read_image([paths[0], paths[0]], time=[1.0, 2.0]).pos_corr is None
    by_folder = read_image(tmp_path)  # a, b, c: the first is the latest
    np.testing.assert_allclose(by_folder.flux, pixels.flux)
    np.testing.assert_allclose(by_folder.pos_corr - by_folder.pos_corr[0], pixels.pos_corr, atol=1e-9)


def test_open_files_and_coordinates_by_hand(tmp_path):
    path = write(tmp_path / "ffi.fits", wcs=False)
    with pytest.raises(FileError, match="found none; give them with wcs="):
        read_image(path)
    with fits.open(path) as hdus:
        pixels = read_image(hdus, wcs=make_wcs())
    assert pixels.meta["sha256"] != [""]
    np.testing.assert_array_equal(pixels.ra_deg, read_image(write(path)).ra_deg)


def test_images_that_make_no_series(tmp_path):
    paths = series(tmp_path)
    other = write(tmp_path / "d.fits", make_image((8, 13)))
    with pytest.raises(
        ShapeError, match=r"expected images of one shape, got \(8, 12\) in c.fits and \(8, 13\) in d.fits"
    ):
        read_image([paths[0], other])
    for change in ({"CRVAL1P": 7}, {"TELESCOP": "TESS"}):
        with pytest.raises(InputError, match=r"expected images of one part of one detector, but d.fits is not"):
            read_image([paths[0], write(other, **change)])
    with pytest.raises(InputError, match=r"images of one place on the sky, but d.fits lies 9\d.* pixels from c.fits"):
        read_image([paths[0], write(other, CRVAL1=290.15)])
    with pytest.raises(ShapeError, match=r"time: expected one number for each of 2 images, got shape \(3,\)"):
        read_image(paths[:2], time=[1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="addresses are not read"):
        read_image("https://a.b/c.fits")


def test_a_cube_is_a_series(tmp_path):
    cube = np.stack([make_image() + one for one in range(3)])
    path = write(tmp_path / "cube.fits", cube)
    with pytest.raises(InputError, match=r"time: expected the times of the 3 images of .*cube.fits, .*; give time="):
        read_image(path)
    pixels = read_image(path, time=[3.0, 1.0, 2.0], columns=(2, 12))
    np.testing.assert_array_equal(pixels.time, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(pixels.flux, cube[[1, 2, 0], :, 2:].reshape(3, -1))
    alone = read_image(write(path, cube[:1]))
    np.testing.assert_array_equal(alone.flux, read_image(write(tmp_path / "flat.fits", cube[0])).flux)


# Errors, exposure and units of the header


def with_errors(path, shape=(8, 12), name="MOD.OUT 2.1 uncert", **changes):
    write(path, **changes)
    with fits.open(path, memmap=False) as hdus:
        hdus.append(fits.ImageHDU(np.arange(float(np.prod(shape))).reshape(shape).astype(">f4"), name=name))
        hdus.writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize("name", ["MOD.OUT 2.1 uncert", "UNCERTAINTY", "ERR"])
def test_the_file_s_own_errors_come_first(tmp_path, name):
    path = with_errors(tmp_path / "ffi.fits", name=name, drop=("READNOIS", "NUM_FRM", "INT_TIME"))
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels.flux_err[0], np.arange(96.0))
    assert np.flatnonzero(pixels.ivar[0] == 0).tolist() == [0]  # an error of 0
    np.testing.assert_array_equal(read_image(path, columns=(3, 9)).flux_err[0, :6], np.arange(3.0, 9.0))


def test_errors_for_part_of_the_image(tmp_path):
    path = with_errors(tmp_path / "ffi.fits", shape=(8, 7))
    made = read_image(write(tmp_path / "plain.fits"))
    np.testing.assert_array_equal(read_image(path, columns=(0, 7)).flux_err[0], np.arange(56.0))
    with pytest.warns(DataWarning, match=r"all 96 pixels, but those of the file cover 8 rows and 7 columns"):
        pixels = read_image(path)
    beyond = pixels.column >= 7
    np.testing.assert_array_equal(pixels.flux_err[0][beyond], made.flux_err[0][beyond])
    np.testing.assert_array_equal(pixels.flux_err[0][~beyond], np.arange(56.0))


@pytest.mark.parametrize(
    ("cards", "seconds"),
    [
        ({"EXPOSURE": 0.0165}, 1425.6),
        ({"EXPOSURE": 1425.6}, 1425.6),
        ({"EXPOSURE": 65.1}, EXPOSURE),  # days of a whole campaign
        ({"EXPOSURE": 0.0165, "INT_TIME": None}, 1425.6),
        ({"EXPOSURE": 300.0, "INT_TIME": None}, 300.0),
        ({"EXPTIME": 158.4, "INT_TIME": None}, 158.4),
    ],
)
def test_light_is_collected_for_the_exposure(tmp_path, cards, seconds):
    drop = [key for key, value in cards.items() if value is None]
    cards = {key: value for key, value in cards.items() if value is not None}
    pixels = read_image(write(tmp_path / "ffi.fits", drop=drop, **cards))
    wanted = np.sqrt(make_image() * seconds + 270 * 87.6**2) / seconds
    np.testing.assert_allclose(pixels.flux_err[0], wanted.ravel(), rtol=1e-6)


def test_four_outputs_and_their_reads(tmp_path):
    noise = dict(zip(("READNOIA", "READNOIB", "READNOIC", "READNOID"), (10.0, 7.0, 7.5, 9.0), strict=True))
    pixels = read_image(write(tmp_path / "ffi.fits", drop=("READNOIS",), NREADOUT=720, **noise))
    variance = make_image() * EXPOSURE + 720 * np.mean(np.square(list(noise.values())))
    np.testing.assert_allclose(pixels.flux_err[0], np.sqrt(variance).ravel() / EXPOSURE, rtol=1e-6)


def test_an_image_in_electrons_is_divided(tmp_path):
    pixels = read_image(write(tmp_path / "ffi.fits", BUNIT="electrons"))
    np.testing.assert_allclose(pixels.flux[0], make_image().ravel() / EXPOSURE, rtol=1e-7)


@pytest.mark.parametrize(("card", "wanted"), [(False, False), (True, True), (None, None)])
def test_whether_an_image_has_its_sky(tmp_path, card, wanted):
    path = write(tmp_path / "ffi.fits", **({} if card is None else {"BACKAPP": card}))
    assert read_image(path).background_removed is wanted
    assert read_image(path, sky_block=5).background_removed is True


def test_a_changed_image_is_said(tmp_path):
    path = write(tmp_path / "ffi.fits")
    with fits.open(path, memmap=False) as hdus:
        hdus.writeto(path, overwrite=True, checksum=True)
    assert read_image(path).n_time == 1
    content = bytearray(path.read_bytes())
    content[find_units(bytes(content))[1].data_start + 6] ^= 1
    path.write_bytes(content)
    with pytest.warns(DataWarning, match=r"ffi.fits: expected the image that DATASUM was made from"):
        read_image(path)
