"""M67 with a random half of its catalogue: do stars stay in their places, and fluxes on one scale with Gaia's G?

    python docs/scripts/half_catalog.py [whole] seeds=6,7

The K2 image of the cluster with its Gaia catalogue; `whole` is that, each seed draws another half. Each is fitted by
plain `build_shape_model` and by `refine_scene`. Seeds 3, 4 and 5 were looked at while the search for missing stars in
large images was made.

BAYESPRF_TEST_DATA names the folder with the real files (k2-superstamp/).
"""

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

import bayesprf as bp
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.stats import SIGMA_PER_MAD

FILES = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
NAME = FILES / "k2-superstamp" / "m67-c05-cols000-199"
SKY_BLOCK = 40
# Isolated, as in tests/real/test_m67.py: none brighter than G + 2.5 within 5 pixels, and 3 pixels from the edge.
RADIUS, FAINTER, EDGE, SHAPE = 5.0, 2.5, 3.0, (199.0, 399.0)
HEAD = (
    "| catalogue | isolated stars | scatter against G, mag | zero point, mag | chi-square, deciding pixels and all"
    " | stars found | farthest star, pixel | CPU s, refined and built |\n|" + 8 * " --- |"
)


def is_isolated(catalog: pd.DataFrame) -> np.ndarray:
    """Tell isolated stars with 12.5 < G < 15, shape (n_source,)."""
    place, mag = catalog[["x_pix", "y_pix"]].to_numpy(), catalog["phot_g_mean_mag"].to_numpy()
    near = cKDTree(place).query_ball_point(place, RADIUS)
    alone = np.array([np.sum(mag[others] < mag[i] + FAINTER) == 1 for i, others in enumerate(near)])
    inside = np.all((place > EDGE) & (place < np.array(SHAPE) - EDGE), axis=1)
    return alone & inside & (mag > 12.5) & (mag < 15.0)


def fit(pixels, catalog: pd.DataFrame, *, refined: bool) -> tuple[bp.Machine, float]:
    """Return a fit of PRF and fluxes, and the CPU seconds that the PRF took."""
    machine = bp.Machine.from_pixels(pixels, read_catalog(catalog), quiet=True)
    start = time.process_time()
    machine.refine_scene() if refined else machine.build_shape_model()
    spent = time.process_time() - start
    machine.fit_model()
    return machine, spent


def chi_squares(machine: bp.Machine) -> tuple[float, float]:
    """Return chi-square of the pixels that decide the PRF, and of all, with the model's errors; outliers are none."""
    joint = machine.fit.need("prf").joint
    clean = (joint.weight > 0) & (joint.clean > 0.5)
    square = (machine.pixels.flux[0] - machine.model_flux[0]) ** 2 * joint.weight
    decide = clean if joint.decided is None else clean & joint.decided
    return float(np.mean(square[decide])), float(np.mean(square[clean]))


def line(name: str, pixels, catalog: pd.DataFrame, keep: np.ndarray) -> str:
    """Return the line of a catalogue of which some stars, shape (n_source,), are kept."""
    chosen, listed = is_isolated(catalog)[keep], catalog[keep].reset_index(drop=True)
    machine, refined = fit(pixels, listed, refined=True)
    built = fit(pixels, listed, refined=False)[1]
    prf = machine.fit.need("prf")
    shift = np.hypot(*prf.positions.shift.T) / np.sqrt(prf.prf.pixel_area)
    chi2 = ", ".join(f"{one:.2f}" for one in chi_squares(machine))
    points = (listed["phot_g_mean_mag"].to_numpy() + 2.5 * np.log10(np.maximum(machine.ws[0], 1e-3)))[chosen]
    middle = np.median(points)
    scatter = SIGMA_PER_MAD * np.median(np.abs(points - middle))
    found = 0 if prf.joint.found is None else prf.joint.found.n_source
    cells = [
        name, f"{chosen.sum()}", f"{scatter:.4f}", f"{middle:.3f}", chi2, f"{found}", f"{shift.max():.2f}",
        f"{refined:.0f}, {built:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main(*asked: str) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    catalog = pd.read_csv(f"{NAME}_gaiadr2.csv")
    pixels = bp.read_image(f"{NAME}.fits.gz", sky_block=SKY_BLOCK)
    print(HEAD, flush=True)
    if "whole" in asked:
        print(line("whole", pixels, catalog, np.ones(len(catalog), bool)), flush=True)
    seeds = [int(one) for text in asked if text.startswith("seeds=") for one in text.removeprefix("seeds=").split(",")]
    for seed in seeds:
        keep = np.random.default_rng(seed).random(len(catalog)) < 0.5
        print(line(f"half, seed {seed}", pixels, catalog, keep), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
