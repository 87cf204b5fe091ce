"""Fluxes where a stamp holds one, three or seven stars: bias, scatter and coverage, with a prior of the PRF.

One 11 x 11 TESS stamp: a target of 10,000 electron / s and fainter stars of 100 to 5000, pixels from one official PRF
table, a catalogue 30 % too bright with 5 % of scatter, 0.07 pixel of common offset. The prior is the mean of the tables
next to the true one (`tables`), that of the instrument's record (`instrument`), or what `build_shape_model` chooses.
Developed on the four corners of the 3 x 3 tables, seeds 1 to 4; judged on the other five, seeds 21 to 24 by default.

    python docs/scripts/few_stars.py [develop|judge] [tables] [instrument] [default] [refine] [seeds=31,32]

BAYESPRF_TEST_DATA names the folder with the mission's tables (prf-models/).
"""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from bayesprf.instruments import TESS
from bayesprf.io.prf_files import read_prf_table, save_prf_tables
from bayesprf.machine import Machine
from bayesprf.simulation.foreign import ForeignField, TablePrf, make_foreign
from bayesprf.simulation.settings import FieldSettings

_FILES = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
DATA = _FILES / "prf-models" / "tess"
COLUMNS, ROWS = ("0557", "1069", "1580"), ("0513", "1025", "1536")
CORNERS = [(i, j) for i in (0, 2) for j in (0, 2)]
OTHERS = [(1, 1), (0, 1), (1, 0), (1, 2), (2, 1)]


def path_of(i: int, j: int) -> Path:
    """Return the file of one place of the 3 x 3 tables."""
    return next(DATA.glob(f"*row{ROWS[i]}-col{COLUMNS[j]}*"))


def neighbours(i: int, j: int) -> list[Path]:
    """Return the files next to one place, its own left out."""
    near = [(a, b) for a in range(3) for b in range(3) if max(abs(a - i), abs(b - j)) == 1]
    return [path_of(*one) for one in near]


def make_stamp(i: int, j: int, n_star: int, seed: int) -> ForeignField:
    """Simulate one stamp."""
    rng = np.random.default_rng([seed, i, j, n_star])
    flux = np.concatenate([[10_000.0], 10.0 ** rng.uniform(2.0, np.log10(5000.0), n_star - 1)])
    settings = FieldSettings(
        n_source=n_star, n_time=10, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0, min_separation=1.0,
        magnitudes=-2.5 * np.log10(flux / TESS.flux_from_mag(0.0)), instrument=TESS, exposure=1426.0, read_noise=270.0,
        background=100.0, catalog_scale=1.3, catalog_scatter=0.05, position_scatter=0.5, centroid_offset=(0.07, -0.05),
    )  # fmt: skip
    table = TablePrf(read_prf_table(path_of(i, j)).values, 1.0 / 9.0)
    return make_foreign(settings, lambda u, v: table, rng=rng)


def fit_stamp(field: ForeignField, options: dict[str, object], *, refine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return fluxes and their total errors, relative to the truth."""
    machine = Machine.from_pixels(field.field.pixels, field.field.sources, quiet=True)
    (machine.refine_scene if refine else machine.build_shape_model)(**options)
    machine.fit_model()
    total = np.hypot(machine.common_errors.std, machine.werrs.mean(axis=0) / np.sqrt(field.field.pixels.n_time))
    return machine.ws.mean(axis=0) / field.flux - 1.0, total / field.flux


def report(name: str, bias: np.ndarray, claimed: np.ndarray) -> None:
    """Print one line."""
    good = np.isfinite(bias) & (claimed > 0)
    bias, claimed = bias[good], claimed[good]
    z = np.abs(bias / claimed)
    print(
        f"  {name:8s} n {bias.size:3d}  median {100 * np.median(bias):+.2f}  rms {100 * np.sqrt(np.mean(bias**2)):.2f}"
        f"  worst {100 * np.max(np.abs(bias)):.1f}  claimed {100 * np.median(claimed):.2f} %,"
        f" rms {100 * np.sqrt(np.mean(claimed**2)):.2f} %"
        f"  cover {np.mean(z < 0.994):.2f} {np.mean(z < 1.96):.2f}"
    )


def main() -> None:
    """Print two lines per prior and number of stars: the target, and the other stars."""
    judged = "judge" in sys.argv
    places, seeds = (OTHERS, range(21, 25)) if judged else (CORNERS, range(1, 5))
    asked = next((one.removeprefix("seeds=") for one in sys.argv if one.startswith("seeds=")), "")
    seeds = [int(one) for one in asked.split(",")] if asked else seeds
    priors = [one for one in ("tables", "instrument", "default") if one in sys.argv] or ["tables", "instrument"]
    for prior in priors:
        for n_star in (1, 3, 7):
            bias, claimed, started = [], [], time.process_time()
            for i, j in places:
                options: dict[str, object] = {} if prior == "default" else {"method": "joint", "prf": prior}
                with tempfile.TemporaryDirectory() as folder:
                    if prior == "tables":
                        options["prf"] = f"{folder}/prf.npz"
                        save_prf_tables(neighbours(i, j), options["prf"])
                    for seed in seeds:
                        with warnings.catch_warnings():
                            warnings.simplefilter("ignore")
                            one = fit_stamp(make_stamp(i, j, n_star, seed), options, refine="refine" in sys.argv)
                        bias.append(one[0])
                        claimed.append(one[1])
            spent = (time.process_time() - started) / len(bias)
            print(f"## {prior}, {n_star} stars: {len(bias)} stamps, {spent:.2f} CPU s each")
            flux, error = np.array(bias), np.array(claimed)
            report("target", flux[:, 0], error[:, 0])
            if n_star > 1:
                report("others", flux[:, 1:].ravel(), error[:, 1:].ravel())
            sys.stdout.flush()


if __name__ == "__main__":
    main()
