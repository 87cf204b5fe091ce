"""A small stamp of pixels with exact tangent-plane coordinates."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.wcs import WCS

from bayesprf.instruments import KEPLER
from bayesprf.scene.pixels import PixelTable


def sky_of(column, row, *, scale=3.98, angle=0.6, center=(290.0, 45.0)):
    """Return the sky position of detector pixels in a plane turned by `angle`, radian, about column 10, row 20."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = center
    wcs.wcs.crpix = [11.0, 21.0]
    cos, sin = np.cos(angle) * scale / 3600, np.sin(angle) * scale / 3600
    wcs.wcs.cd = [[-cos, sin], [sin, cos]]
    return wcs.wcs_pix2world(column, row, 0)


@pytest.fixture
def make_pixels():
    """Return a function that makes a stamp of n_row x n_column pixels; pixel values tell their place and cadence."""

    def make(*, corner=(8, 18), shape=(5, 6), n_time=4, instrument=KEPLER, center=(290.0, 45.0), **changes):
        row, column = (part.ravel() for part in np.mgrid[0 : shape[0], 0 : shape[1]])
        column, row = column + corner[0], row + corner[1]
        ra_deg, dec_deg = sky_of(column, row, scale=instrument.pixel_scale, center=center)
        flux = 100.0 * np.arange(n_time)[:, None] + column + row / 64  # exact in float32
        table = PixelTable(
            time=1000.0 + np.arange(n_time) / 48,
            flux=flux,
            flux_err=np.full_like(flux, 2.0),
            ra_deg=ra_deg,
            dec_deg=dec_deg,
            column=column,
            row=row,
            cadence_number=5000 + np.arange(n_time),
            pos_corr=np.stack([np.arange(n_time) / 8, -np.arange(n_time) / 8], axis=1),
            instrument=instrument,
            meta={"channel": 7, "quarter": 3, "campaign": 5, "camera": 1, "ccd": 2, "sector": 9},
        )
        return replace(table, **changes) if changes else table

    return make
