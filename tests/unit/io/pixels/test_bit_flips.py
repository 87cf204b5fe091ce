"""One flipped bit of a pixel file does not move the fluxes of other cadences, or it is said.

Where a value is left out of the mean image, a stamp of few stars may move by tens of the errors from cadence to
cadence, all cadences alike (a few hundredths of the total error): what was left out is said. What is not said may do
the same to a smaller degree: an error of one cadence of twelve that grows by 6 % changes what a bright pixel weighs in
the PRF by 1 %, and moves all cadences of its star by 2.2 of these errors, which is 0.006 of the total error. One of 120
flips does; light curves, which compare cadences, move by 0.002.
"""

import warnings

import numpy as np
import pytest
from astropy.io import fits

from bayesprf import Machine, read_tpfs
from bayesprf.errors import BayesprfError, BayesprfWarning
from bayesprf.instruments import KEPLER, TESS
from bayesprf.io.pixels.fits_file import find_units
from bayesprf.io.pixels.tpf_writer import write_tpf
from bayesprf.simulation.fields import make_field

# Bits of FLUX and FLUX_ERR alone: flips of other columns and of headers are questions of the reader.
COLUMNS = ("FLUX", "FLUX_ERR")


def fluxes(pixels, sources, **options):
    machine = Machine.from_pixels(pixels, sources, quiet=True)
    machine.build_shape_model(**options)
    machine.fit_model(n_threads=1)
    return machine


def flip(content, path, rng):
    """Write the file with one bit of one value of a random row changed; return the row."""
    start = find_units(content)[1].data_start
    with fits.open(path) as hdus:
        dtype, n_row = hdus[1].data.dtype, len(hdus[1].data)
    row, name = int(rng.integers(n_row)), COLUMNS[int(rng.integers(2))]
    kind, offset = dtype.fields[name][:2]
    place = start + row * dtype.itemsize + offset + int(rng.integers(kind.itemsize))
    changed = bytearray(content)
    changed[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(changed)
    return row


def try_flips(directory, count, seed, instrument, **options):
    """Return what each flip does that is not said, shape (count, 2), NaN for the rest.

    How far other cadences move against each other, in their errors, and all together, in total errors.
    """
    bright = 11.0 if instrument is KEPLER else 8.0
    shape = {"layout": "image", "image_shape": (9, 9), "n_source": 3, "mag_range": (bright, bright + 2.0)}
    made = make_field(rng=np.random.default_rng(7), n_time=12, instrument=instrument, **shape)
    path = directory / "one.fits"
    write_tpf(path, made.pixels, stamp=0, target=1)
    content = path.read_bytes()
    clean = fluxes(read_tpfs(path), made.sources, **options)
    rng, moved = np.random.default_rng(seed), np.full((count, 2), np.nan)
    for number in range(count):
        row = flip(content, path, rng)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BayesprfWarning)
            try:
                found = fluxes(read_tpfs(path), made.sources, **options)
            except BayesprfError:
                continue
        if not caught:
            away = np.delete(found.ws - clean.ws, row, axis=0)
            level, total = np.median(away, axis=0), np.median(clean.werrs_total, axis=0)
            moved[number] = np.max(np.abs(away - level) / clean.werrs[0]), np.max(np.abs(level) / total)
    return moved


FEW, MANY = 5, 120


@pytest.mark.parametrize("instrument", [KEPLER, TESS], ids=lambda one: one.name)
@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_other_cadences_stay(tmp_path, instrument, many):
    """Stamps of three stars."""
    count = MANY if many else FEW
    moved = try_flips(tmp_path, count, count, instrument)
    silent = moved[np.isfinite(moved[:, 0])]
    assert len(silent) > 0.5 * count  # most flips are small, and need no word
    assert silent[:, 0].max() < 0.5
    assert silent[:, 1].max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("instrument", [KEPLER, TESS], ids=lambda one: one.name)
def test_other_cadences_stay_with_the_default_fit(tmp_path, instrument):
    """The same stamps, whose PRF leans on the instrument's record."""
    moved = try_flips(tmp_path, MANY, MANY, instrument)
    silent = moved[np.isfinite(moved[:, 0])]
    assert len(silent) > 0.5 * MANY
    assert silent[:, 0].max() < 1.0
    assert silent[:, 1].max() < 0.1
