"""The missions' PRF files: read, gathered, and fetched once."""

from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
from astropy.io import fits

from bayesprf.errors import FileError, InputError
from bayesprf.instruments import K2, KEPLER, TESS
from bayesprf.io import prf_files
from bayesprf.io.prf_files import fetch_prf_tables, read_prf_tables, save_prf_tables
from bayesprf.machine import Machine
from bayesprf.prf.prior import load_prf_tables
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import CASES


def write_tess(path, row, column, width):
    """An official TESS file but for its size: 27 x 27 points, 9 per pixel."""
    along = (np.arange(27) - 13.0) / 9.0
    values = np.exp(-0.5 * (along[:, None] ** 2 + along**2) / width**2)
    header = fits.Header({"NSAMP": 9.0, "CCD_RREF": float(row), "CCD_CREF": float(column), "CDELT1P": 1.0 / 9.0})
    fits.HDUList([fits.PrimaryHDU(values.astype(np.float32), header), fits.ImageHDU(values)]).writeto(path)
    return path


def write_kepler(path):
    """Five PRFs in extensions of their own, 50 points per pixel, as https://archive.stsci.edu/missions/kepler/fpc/prf."""
    along = (np.arange(150) - 74.5) / 50.0
    parts = []
    for number, (row, column) in enumerate([(20, 12), (20, 1111), (1043, 12), (1043, 1111), (532, 562)]):
        values = np.exp(-0.5 * (along[:, None] ** 2 + along**2) / (0.4 + 0.01 * number) ** 2)
        header = fits.Header({"CDELT1P": 0.02, "CDELT2P": 0.02, "CRVAL1P": float(column), "CRVAL2P": float(row)})
        parts.append(fits.ImageHDU(values.astype(np.float32), header))
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)
    return path


@pytest.fixture
def archive(monkeypatch, tmp_path):
    """A cache of its own, and an archive that makes the files it is asked for; the addresses come out."""
    asked = []

    def answer(address):
        asked.append(address)
        path = tmp_path / f"answer-{len(asked)}.fits"
        if "kplr" in address:
            return str(write_kepler(path))
        row, column = (int(address.split(name)[1][:4]) for name in ("row", "col"))
        return str(write_tess(path, row, column, 0.5 + 1e-4 * column))

    monkeypatch.setenv("BAYESPRF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prf_files, "download", answer)
    return asked


@pytest.fixture(scope="module")
def field():
    return make_field(
        replace(CASES["demo"], n_source=8, n_stamp=4, n_time=3, transits=()), rng=np.random.default_rng(0)
    )


def at(field, instrument, column, row, **meta):
    pixels = field.pixels
    moved = {"column": pixels.column - pixels.column.mean() + column, "row": pixels.row - pixels.row.mean() + row}
    return replace(pixels, instrument=instrument, meta=meta, **moved)


def test_a_file_of_kepler_holds_five_tables(tmp_path):
    tables = read_prf_tables(write_kepler(tmp_path / "kplr.fits"))
    assert [(one.row, one.column, one.samples) for one in tables][4] == (532.0, 562.0, 50.0)
    for one in tables:
        assert one.values.sum() == pytest.approx(2500.0)
    save_prf_tables([tmp_path / "kplr.fits"], tmp_path / "prf.npz")
    found = load_prf_tables(tmp_path / "prf.npz")
    assert found.values.shape == (5, 150, 150)
    assert not found.complete


def test_a_file_without_tables_is_refused(tmp_path):
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((4, 6)))]).writeto(tmp_path / "other.fits")
    with pytest.raises(InputError, match=r"path: expected square PRF tables with .* got .*other.fits"):
        read_prf_tables(tmp_path / "other.fits")


def test_tables_of_tess_around_the_pixels_are_fetched_once(field, archive):
    pixels = at(field, TESS, 700.0, 600.0, camera=2, ccd=3, sector=15)
    path = fetch_prf_tables(pixels)
    folder = "https://archive.stsci.edu/missions/tess/models/prf_fitsfiles/start_s0004/cam2_ccd3/"
    assert sorted(archive) == [
        f"{folder}tess2019107181901-prf-2-3-row{row}-col{column}.fits"
        for row in ("0513", "1025")
        for column in ("0557", "1069")
    ]
    tables = load_prf_tables(path)
    assert tables.values.shape == (4, 27, 27)
    assert tables.complete
    assert fetch_prf_tables(pixels) == path
    assert len(archive) == 4


@pytest.mark.parametrize(
    ("sector", "camera", "ccd", "made"),
    [(1, 2, 3, "2018243163600"), (3, 2, 4, "2018243163601"), (4, 1, 1, "2019107181900"), (20, 4, 4, "2019107181902")],
)
def test_each_ccd_of_tess_has_its_files(field, archive, sector, camera, ccd, made):
    fetch_prf_tables(at(field, TESS, 2000.0, 30.0, camera=camera, ccd=ccd, sector=sector))
    start = "start_s0001" if sector <= 3 else "start_s0004"
    assert all(f"/{start}/cam{camera}_ccd{ccd}/tess{made}-prf-{camera}-{ccd}-row" in one for one in archive)
    assert {one[-12:-5] for one in archive} == {"col1580", "col2092"}


@pytest.mark.parametrize(("channel", "name"), [(1, "02.1"), (17, "07.1"), (20, "07.4"), (53, "16.1"), (84, "24.4")])
def test_each_channel_of_kepler_has_its_file(field, archive, channel, name):
    for instrument in (KEPLER, K2):
        path = fetch_prf_tables(at(field, instrument, 100.0, 900.0, channel=channel))
    assert archive == [f"https://archive.stsci.edu/missions/kepler/fpc/prf/kplr{name}_2011265_prf.fits"]
    found = load_prf_tables(path).values
    assert found.shape == (3, 150, 150)
    # The corner at row 1043, column 12, then the middle, then the corner at row 20 and column 12.
    order = [round(float(np.sqrt(1.0 / (2.0 * np.pi * one.max()))), 2) for one in found]
    assert order == [0.42, 0.44, 0.4]


def test_a_machine_takes_the_files_of_its_detector(field, archive):
    pixels = at(field, KEPLER, 100.0, 900.0, channel=20)
    machine = Machine.from_pixels(pixels, field.sources, quiet=True)
    machine.build_shape_model(prf="mission")
    used = machine.fit.prf_recipe.shape.prf
    assert used.endswith("kplr07.4_2011265_prf-3-1043-0012.npz")
    assert machine.fit.prf.joint.problem.base is not None
    again = Machine.from_pixels(pixels, field.sources, quiet=True)
    again.build_shape_model(prf=used)
    np.testing.assert_array_equal(again.fit.prf.flux, machine.fit.prf.flux)


def test_without_a_detector_nothing_is_fetched(field, archive):
    machine = Machine.from_pixels(replace(field.pixels, meta={}), field.sources, quiet=True)
    with pytest.raises(InputError, match=r'prf: expected "mission" with files of .*, got no channel; give a file'):
        machine.build_shape_model(prf="mission")
    with pytest.raises(InputError, match="got no camera and no ccd and no sector"):
        fetch_prf_tables(replace(field.pixels, instrument=TESS, meta={}))
    assert archive == []


def test_without_a_network_the_message_says_what_to_do(field, archive, monkeypatch):
    def refuse(address):
        raise URLError("Name or service not known")

    monkeypatch.setattr(prf_files, "download", refuse)
    pixels = at(field, TESS, 700.0, 600.0, camera=2, ccd=3, sector=15)
    with pytest.raises(
        FileError, match=r"prf: expected the mission's PRF file https.* got none \(.*known.*; ask once wh"
    ):
        fetch_prf_tables(pixels)
