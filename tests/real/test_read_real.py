"""Real target pixel files of Kepler, K2 and TESS against the numbers counted from them independently."""

import warnings

import numpy as np
import pandas as pd
import pytest

from bayesprf.errors import DataWarning
from bayesprf.instruments import K2, KEPLER, TESS
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.pixels.tpf import read_tpfs

pytestmark = pytest.mark.real

ANY_BIT = 2**31 - 1
# Cadences in which every pixel is NaN, as the description of the files says; 9002278 also has 96 without time, all
# of them among these.
EMPTY_CADENCES = {"KIC 9002278": 142, "KIC 8462852": 1}
# Cadences without time, and with data.
UNTIMED_CADENCES = {"EPIC 200071160": 3, "EPIC 221312395": 3}
# Stars that are bright and alone, so that the centre of light tells their position.
LONE_STARS = {"KIC 9002278", "KIC 8462852", "KIC 12644769", "KIC 12644714", "KIC 12644706", "KIC 12644869"}


@pytest.fixture(scope="module")
def table(real_data):
    return pd.read_csv(real_data / "tpf_header_sources.csv")


# Cut down to 50 cadences after the archive had made its checksums.
CHANGED = "tess-tpf/tess-s0001-4-2_84.291190_-80.469170_6x6_astrocut.fits.gz"


def read_changed(path, **options):
    with pytest.warns(DataWarning, match=r"expected the pixels that DATASUM was made from, got others"):
        return read_tpfs(path, **options)


@pytest.fixture(scope="module")
def every_file(real_data, table):
    """Each file read with no quality mask."""
    read = {name: read_changed if name == CHANGED else read_tpfs for name in table["file"]}
    return {name: one(real_data / name, quality_bitmask="none") for name, one in read.items()}


def test_every_file_is_read_whole(table, every_file):
    assert len(every_file) == 25
    for row in table.itertuples():
        pixels = every_file[row.file]
        lost = EMPTY_CADENCES.get(row.object, 0) + UNTIMED_CADENCES.get(row.object, 0)
        assert (pixels.n_time, pixels.n_pixel) == (row.ncad - lost, row.npix_finite), row.file
        assert (pixels.column.min(), pixels.row.min()) == (row.col0, row.row0), row.file
        assert pixels.time[0] >= row.t_start - 1e-6, row.file
        assert pixels.time[-1] <= row.t_stop + 1e-6, row.file
        assert np.all(np.diff(pixels.time) > 0), row.file
        wanted = TESS if row.telescope == "TESS" else (K2 if row.campaign > 0 else KEPLER)
        assert pixels.instrument is wanted, row.file


def test_headers_are_in_meta(table, every_file):
    for row in table.itertuples():
        meta = every_file[row.file].meta
        for key in ("channel", "quarter", "campaign", "sector", "camera", "ccd"):
            wanted = getattr(row, key)
            assert meta.get(key, np.nan) == pytest.approx(wanted, nan_ok=True), (row.file, key)
        target = meta["targets"][0]
        assert target["ra_deg"] == pytest.approx(row.ra_obj, abs=1e-6)
        assert target["dec_deg"] == pytest.approx(row.dec_obj, abs=1e-6)
        if isinstance(row.object, str):
            assert target["id"] == row.object


def test_sums_in_the_mission_aperture(real_data, table):
    rows = table[np.isfinite(table["sap_median"])]
    assert len(rows) == 21
    for row in rows.itertuples():
        pixels = read_tpfs(real_data / row.file, quality_bitmask=ANY_BIT)
        inside = pixels.meta["pipeline_aperture"] == 0
        assert inside.sum() == row.npix_optimal_aperture, row.file
        sap = np.nanmedian(np.nansum(pixels.flux[:, inside], axis=1))
        assert sap == pytest.approx(row.sap_median, rel=0.01), row.file


def test_targets_fall_on_their_light(table, every_file):
    """The centre of light in the mission's aperture lies within 0.6 pixel of the target.

    The files' coordinates are off by a few tenths of a pixel; one index too many would be off by 1.4.
    """
    for row in table[table["object"].isin(LONE_STARS)].itertuples():
        pixels = every_file[row.file]
        inside = pixels.meta["pipeline_aperture"] == 0
        weight = np.nanmedian(pixels.flux[:, inside], axis=0)
        east = np.average(pixels.ra_deg[inside] - row.ra_obj, weights=weight) * np.cos(np.radians(row.dec_obj))
        north = np.average(pixels.dec_deg[inside] - row.dec_obj, weights=weight)
        assert np.hypot(east, north) * 3600 / pixels.instrument.pixel_scale < 0.6, row.file


def test_pixels_are_one_pixel_scale_apart(every_file):
    """To 8 %: the TESS scale shrinks towards the edge of the field."""
    for name, pixels in every_file.items():
        cos_dec = np.cos(np.radians(pixels.dec_deg.mean()))
        next_column = (np.diff(pixels.column) == 1) & (np.diff(pixels.row) == 0)
        step = np.hypot(np.diff(pixels.ra_deg) * cos_dec, np.diff(pixels.dec_deg))[next_column] * 3600
        np.testing.assert_allclose(step, pixels.instrument.pixel_scale, rtol=0.08, err_msg=name)


def test_ten_neighbouring_stamps_are_one_stack(real_data):
    pixels = read_tpfs(str(real_data / "kepler-tpf" / "tpf_test_0*.fits"))
    assert pixels.n_pixel == 287
    assert pixels.meta["n_duplicates"] == 308 - 287
    assert pixels.n_time == 10
    assert len(pixels.meta["targets"]) == len(pixels.meta["files"]) == 10
    assert pixels.pos_corr.shape == (10, 2)


def test_overlapping_stamps_keep_every_target_s_aperture(real_data, table):
    pixels = read_tpfs(str(real_data / "kepler-tpf" / "tpf_test_0*.fits"))
    rows = table.set_index("file")
    for target in pixels.meta["targets"]:
        row = rows.loc[f"kepler-tpf/{target['file']}"]
        sap = np.median(pixels.flux[:, target["aperture"]].sum(axis=1))
        assert sap == pytest.approx(row["sap_median"], rel=0.01), target["file"]


def test_six_stamps_of_250_cadences(real_data):
    pixels = read_tpfs(real_data / "kepler-tpf" / "q12-ch04-250cad")
    # 28 + 33 + 59 + 22 + 32 + 27 pixels, less the 21 further copies that the same stars have in the ten stamps
    assert pixels.n_pixel == 201 - 21
    assert pixels.n_time == 250


def test_rolling_bands_do_not_empty_a_file(real_data):
    """Every cadence of this file carries the rolling-band bits."""
    assert read_tpfs(real_data / "k2-tpf" / "ktwo200068665-c08-100cad.fits.gz").n_time == 100


def test_default_bits_keep_most_of_a_quarter(real_data):
    name = "kplr009002278-2010174085026_lpd-targ.fits.gz"
    kept = read_tpfs(real_data / "kepler-tpf" / "long" / name).n_time
    # 142 cadences are empty; quality 0 in 4257 of the 4634.
    assert 4257 < kept < 4634 - 142


def test_a_saturated_star_is_found(real_data):
    pixels = read_changed(real_data / CHANGED)
    assert pixels.saturated.any()
    assert not pixels.saturated.all()
    assert not pixels.meta["background_subtracted"]
    assert np.unique(pixels.cadence_number).size == 50


def test_lightkurve_objects_give_the_same_table(real_data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightkurve warns on import about packages it would like to have
        lightkurve = pytest.importorskip("lightkurve")
    path = real_data / "kepler-tpf" / "tpf_test_03.fits"
    tpf = lightkurve.read(path)
    by_object, by_path = read_tpfs(tpf), read_tpfs(path)
    np.testing.assert_array_equal(by_object.flux, by_path.flux)
    ra_deg, dec_deg = tpf.wcs.all_pix2world(by_path.column - tpf.column, by_path.row - tpf.row, 0)
    np.testing.assert_allclose(by_path.ra_deg, ra_deg, rtol=0, atol=1e-8)
    np.testing.assert_allclose(by_path.dec_deg, dec_deg, rtol=0, atol=1e-8)
    tpf.hdu.close()


def test_kepler_16_moves_to_where_the_input_catalog_saw_it(real_data, table):
    """Gaia's position of 2016.0, carried to 2000, approaches the Kepler Input Catalog's (half an arcsec away)."""
    rows = pd.read_csv(real_data / "kepler-tpf" / "gaia_rows_kepler16_field.csv")
    star = rows[rows["kic_of_tpf"] == 12644769].assign(ref_epoch=2016.0)
    kic = table[table["file"] == "kepler-tpf/tpf_test_00.fits"].iloc[0]

    def distance(sources):
        east = (sources.ra_deg[0] - kic["ra_obj"]) * np.cos(np.radians(kic["dec_obj"]))
        return np.hypot(east, sources.dec_deg[0] - kic["dec_obj"]) * 3600

    assert read_catalog(star).source_id == ("2133476355197071616",)
    assert distance(read_catalog(star)) > 0.5
    assert distance(read_catalog(star, epoch=2000.0)) < 0.3


def test_real_catalogues(real_data, table):
    cluster = read_catalog(real_data / "k2-superstamp" / "m67-c05-cols000-199_gaiadr2.csv")
    assert cluster.n_source == 729
    assert (cluster.mag < 16).sum() == 306
    targets = table[table["file"].str.contains("tpf_test_0")]
    ten = read_catalog(targets, id_column="object")
    assert ten.n_source == 10
    assert ten.mag[0] == 11.762  # Kepler-16's Kp, not its Sloan g
    assert ten.flux[0] == pytest.approx(1.74e5 * 10 ** (-0.4 * (11.762 - 12)))
