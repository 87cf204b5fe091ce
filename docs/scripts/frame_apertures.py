"""Isolated stars of a Kepler full frame image: fluxes of the PRF beside apertures of three pixels with a local sky.

The aperture's sum is divided by the PRF's light in it, the light of all other stars of the catalogue subtracted;
isolated stars have no other of 3 % of their flux within 7 pixels. Run ``python docs/scripts/frame_apertures.py``.
BAYESPRF_TEST_DATA names the folder with kepler-ffi/.
"""

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

import bayesprf as bp
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.stats import SIGMA_PER_MAD

_FILES = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
FOLDER = _FILES / "kepler-ffi"
# Overscan is left out; the sky is that of a ring.
COLUMNS, ROWS, RADIUS, RING = (12, 200), (20, 200), 3.0, (6.0, 10.0)


def fit():
    """Return the Machine of the quick start: sky and stars of an image fitted together."""
    pixels = bp.read_image(FOLDER / "kplr-ffi_ch01_test.fits", columns=COLUMNS, rows=ROWS)
    sources = read_catalog(FOLDER / "kplr-ffi_ch01_test_detections.csv", flux_column="flux_ap2")
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True, background="image")
    machine.build_shape_model()
    machine.fit_model()
    return machine


def isolated(catalog):
    """Return the stars that are bright, alone, off the edge and away from saturated ones."""
    place, flux = catalog[["x_pix", "y_pix"]].to_numpy(), catalog["flux_ap2"].to_numpy()
    saturated = catalog["saturated"].to_numpy(bool)
    near = cKDTree(place).query_ball_point(place, 7.0)
    alone = np.array([np.sum(flux[others] > 0.03 * flux[i]) == 1 for i, others in enumerate(near)])
    inside = np.all((place > np.array([18, 26])) & (place < 194), axis=1)
    away = cKDTree(place[saturated]).query(place)[0] > 15.0
    return np.flatnonzero(alone & inside & away & ~saturated & (flux > 3000.0))


def local_sky(values):
    """Return the median of pixels, those three deviations off left out."""
    for _ in range(5):
        off = np.abs(values - np.median(values))
        values = values[off < 3.0 * SIGMA_PER_MAD * np.median(off)]
    return np.median(values)


def ratio_to_aperture(machine, star, place):
    """Return the flux of a star over that of its aperture."""
    pixels, matrix, flux = machine.pixels, machine.fit.need("prf").matrix, machine.ws[0, star]
    own = matrix.pairs.source == star
    share = np.bincount(matrix.pairs.pixel[own], matrix.parts.ravel()[own], pixels.n_pixel)
    others = machine.model_flux[0] - machine.background_flux[0] - flux * share
    left, away = pixels.flux[0] - others, np.hypot(pixels.column - place[0], pixels.row - place[1])
    ring = (away > RING[0]) & (away < RING[1])
    sky = local_sky((left - flux * share)[ring])
    within = (np.arange(10) + 0.5) / 10 - 0.5
    near = np.flatnonzero(away < RADIUS + 1.0)
    dx, dy = pixels.column[near] - place[0], pixels.row[near] - place[1]
    part = np.hypot(dx[:, None, None] + within[:, None], dy[:, None, None] + within) < RADIUS
    part = part.mean(axis=(1, 2))
    return flux * (part @ share[near]) / (part @ (left[near] - sky))


def main():
    """Print one line."""
    warnings.simplefilter("ignore")
    catalog = pd.read_csv(FOLDER / "kplr-ffi_ch01_test_detections.csv")
    stars = isolated(catalog)
    machine = fit()
    places = catalog[["x_pix", "y_pix"]].to_numpy()
    ratio = np.array([ratio_to_aperture(machine, star, places[star]) for star in stars])
    scatter = SIGMA_PER_MAD * np.median(np.abs(ratio - np.median(ratio)))
    error = (machine.werrs_total / machine.ws)[0, stars]
    within = [100.0 * np.mean(np.abs(ratio - 1.0) < k * error) for k in (1.0, 2.0)]
    sys.stdout.write(
        f"{stars.size} isolated stars over their apertures {np.median(ratio):.4f}"
        f" +- {1.25 * scatter / np.sqrt(stars.size):.4f}, scatter {scatter:.4f}; {within[0]:.0f} and {within[1]:.0f} %"
        f" within one and two total errors of {100.0 * np.median(error):.2f} %;"
        f" sky {np.median(machine.background_flux):.1f} electron / s\n"
    )


if __name__ == "__main__":
    main()
