"""Writing target pixel files; what read_tpfs makes of them is in test_tpf.py."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import InputError, ShapeError
from bayesprf.instruments import GENERIC, K2, KEPLER, TESS
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.pixels.tpf_writer import write_tpf
from bayesprf.scene.pixels import PixelTable


@pytest.mark.parametrize("instrument", [KEPLER, K2, TESS], ids=lambda one: one.name)
def test_lightkurve_opens_the_file(make_pixels, tmp_path, instrument):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightkurve warns on import about packages it would like to have
        lightkurve = pytest.importorskip("lightkurve")
    pixels = make_pixels(instrument=instrument)
    inside = pixels.column == 10
    path = write_tpf(tmp_path / "x.fits", pixels, target=42, ra_deg=290.0, dec_deg=45.0, mag=11.0, aperture=inside)
    tpf = lightkurve.read(path)
    assert type(tpf).__name__ == ("TessTargetPixelFile" if instrument is TESS else "KeplerTargetPixelFile")
    assert (tpf.targetid, tpf.column, tpf.row, tpf.ra, tpf.dec) == (42, 8, 18, 290.0, 45.0)
    assert tpf.time.format == ("btjd" if instrument is TESS else "bkjd")
    np.testing.assert_array_equal(tpf.time.value, pixels.time)
    np.testing.assert_array_equal(np.asarray(tpf.flux.value).reshape(4, 30), pixels.flux)
    np.testing.assert_array_equal(np.asarray(tpf.pipeline_mask).ravel(), inside)
    ra_deg, dec_deg = tpf.wcs.all_pix2world(pixels.column - 8, pixels.row - 18, 0)
    np.testing.assert_allclose(ra_deg, pixels.ra_deg, rtol=0, atol=1e-9)
    np.testing.assert_allclose(dec_deg, pixels.dec_deg, rtol=0, atol=1e-9)
    tpf.hdu.close()


def test_one_stamp_of_several_and_a_hole(make_pixels, tmp_path):
    parts = [make_pixels(), make_pixels(corner=(40, 30), shape=(3, 3))]
    fields = ("ra_deg", "dec_deg", "column", "row")
    both = PixelTable(
        time=parts[0].time,
        flux=np.hstack([part.flux for part in parts]),
        flux_err=np.hstack([part.flux_err for part in parts]),
        stamp=np.repeat([0, 1], [30, 9]),
        instrument=KEPLER,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields},
    )
    keep = np.arange(39) != 34  # the middle of the second stamp was not downloaded
    holed = replace(
        both,
        flux=both.flux[:, keep],
        flux_err=both.flux_err[:, keep],
        stamp=both.stamp[keep],
        saturated=both.saturated[keep],
        **{name: getattr(both, name)[keep] for name in fields},
    )
    back = read_tpfs(write_tpf(tmp_path / "second.fits", holed, stamp=1))
    assert back.n_pixel == 8
    np.testing.assert_array_equal(back.flux, holed.flux[:, holed.stamp == 1])
    np.testing.assert_allclose(back.ra_deg, holed.ra_deg[holed.stamp == 1], rtol=0, atol=1e-9)


def test_one_row_of_pixels_takes_the_coordinates_of_the_other_stamps(make_pixels, tmp_path):
    pixels = make_pixels()
    single = pixels.row == pixels.row[0]
    split = replace(pixels, stamp=np.where(single, 1, 0))
    back = read_tpfs(write_tpf(tmp_path / "row.fits", split, stamp=1))
    assert back.n_pixel == single.sum() > 1
    np.testing.assert_allclose(back.ra_deg, pixels.ra_deg[single], rtol=0, atol=1e-9)
    np.testing.assert_allclose(back.dec_deg, pixels.dec_deg[single], rtol=0, atol=1e-9)


def test_what_cannot_be_written(make_pixels, tmp_path):
    path, pixels = tmp_path / "x.fits", make_pixels()
    with pytest.raises(InputError, match=r"instrument to be one of Kepler, K2, TESS, got 'generic'"):
        write_tpf(path, make_pixels(instrument=GENERIC))
    with pytest.raises(InputError, match=r"stamp: expected one of \[0\], got 3"):
        write_tpf(path, pixels, stamp=3)
    with pytest.raises(InputError, match=r"whole numbers as column and row"):
        write_tpf(path, replace(pixels, column=pixels.column + 0.25))
    with pytest.raises(InputError, match=r"at least two columns and two rows"):
        write_tpf(path, make_pixels(shape=(1, 6)))
    with pytest.raises(ShapeError, match=r"aperture: expected shape \(30,\)"):
        write_tpf(path, pixels, aperture=np.ones(3, bool))
    with pytest.raises(ShapeError, match=r"quality: expected shape \(4,\)"):
        write_tpf(path, pixels, quality=np.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_positions_that_the_file_cannot_hold_are_refused(make_pixels, tmp_path):
    pixels = make_pixels()
    moved = pixels.dec_deg.copy()
    moved[7] += 1.0 / 3600
    bent = replace(pixels, dec_deg=moved)
    with pytest.raises(
        InputError, match=r"positions on a tangent plane to 0.01 arcsec, got one that is 0\.\d+ arcsec off"
    ):
        write_tpf(tmp_path / "x.fits", bent)
    back = read_tpfs(write_tpf(tmp_path / "x.fits", bent, position_tolerance=1.0))
    assert np.abs(back.dec_deg - bent.dec_deg).max() * 3600 < 1.0
