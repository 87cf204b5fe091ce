"""Fluxes on one 11 x 11 TESS stamp of 1 to 8 stars, with all defaults: plain, with sky, with stars missing, saturated.

Pixels from one official PRF table of camera 2, CCD 3; a target of 10,000 electron / s (four times what saturates a
pixel in the last case) and fainter stars of 100 to 5000; a catalogue 30 % too bright with 5 % of scatter, 0.07 pixel
of common offset. Official tables end at 6.5 pixels; with `wings` their light goes on, by a power of r that is drawn for
each stamp as the instrument's record believes it. Even seeds below 60 were looked at before.

    python docs/scripts/tess_stamps.py [plain] [sky] [missing] [saturated] [full] [galaxy] [wings] seeds=820,821

`galaxy` has an oval spot of light somewhere, of Gaussian profile, 2 to 4 pixels wide and 20 to 300 electron / s bright.
`full` is a target of ten times what `saturated` has, whose core bleeds.

BAYESPRF_TEST_DATA names the folder with the mission's tables (prf-models/).
"""

import sys
import time
import warnings
from dataclasses import replace

import numpy as np
from few_stars import path_of

import bayesprf
from bayesprf.flags import QualityFlag
from bayesprf.instruments import TESS
from bayesprf.io.prf_files import read_prf_table
from bayesprf.prf.instrument_prior import expected_wing
from bayesprf.prf.joint.trust import MAX_POWER
from bayesprf.simulation.foreign import ForeignField, TablePrf, Troubles, make_foreign
from bayesprf.simulation.settings import FieldSettings

KINDS = {
    "plain": Troubles(),
    "sky": Troubles(sky=(100.0, 10.0, 5.0)),
    "missing": Troubles(missing_faint=0.6),
    "saturated": Troubles(bleeding=True),
    "full": Troubles(bleeding=True),
    "galaxy": Troubles(),
}
# Light of a target in units of what saturates a pixel, which holds a quarter of it.
TARGETS = {"saturated": 4.0, "full": 40.0}


def make_stamp(kind: str, seed: int, n_star: int, *, wings: bool = False) -> ForeignField:
    """Simulate one stamp."""
    rng = np.random.default_rng([seed, n_star])
    target = TARGETS[kind] * TESS.saturation if kind in TARGETS else 10_000.0
    flux = np.concatenate([[target], 10.0 ** rng.uniform(2.0, np.log10(5000.0), n_star - 1)])
    settings = FieldSettings(
        n_source=n_star, n_time=10, n_stamp=1, stamp_sides=(11,), stamp_fill=1.0, min_separation=1.0,
        magnitudes=-2.5 * np.log10(flux / TESS.flux_from_mag(0.0)), instrument=TESS, exposure=1426.0, read_noise=270.0,
        background=100.0, catalog_scale=1.3, catalog_scatter=0.05, position_scatter=0.5, centroid_offset=(0.07, -0.05),
    )  # fmt: skip
    values = read_prf_table(path_of(*rng.integers(0, 3, 2))).values
    table = TablePrf(values, 1.0 / 9.0, draw_wing(rng) if wings else None)
    field = make_foreign(settings, lambda u, v: table, rng=rng, troubles=KINDS[kind])
    if kind != "galaxy":
        return field
    pixels = field.field.pixels
    pixels = replace(pixels, flux=pixels.flux + draw_galaxy(rng, pixels.column, pixels.row))
    return replace(field, field=replace(field.field, pixels=pixels))


def draw_galaxy(rng: np.random.Generator, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Draw the light of a galaxy in each pixel."""
    side, width, ratio, turn = np.ptp(column), rng.uniform(2.0, 4.0), rng.uniform(0.5, 1.0), rng.uniform(0.0, np.pi)
    x, y = (one - one.min() - rng.uniform(0.0, side) for one in (column, row))
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    return 10.0 ** rng.uniform(1.3, 2.5) * np.exp(-0.5 * (along**2 + (across / ratio) ** 2) / width**2)


def draw_wing(rng: np.random.Generator) -> float:
    """Draw the power of a wing as the instrument's record believes it; light falls no slower than r**-2.5."""
    while (power := rng.normal(*expected_wing(TESS.prf_widths))) > MAX_POWER:
        pass
    return float(power)


def fit_by_default(field: ForeignField) -> tuple[bayesprf.Machine, np.ndarray, np.ndarray]:
    """Return the Machine of a field, and bias and total error of its stars, relative to their true fluxes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        machine = bayesprf.fit(field.field.pixels, field.field.sources, quiet=True)
    n = field.flux.size
    noise = machine.werrs.mean(axis=0) / np.sqrt(field.field.pixels.n_time)
    total = np.hypot(machine.common_errors.std, noise)[:n] / field.flux
    return machine, machine.ws.mean(axis=0)[:n] / field.flux - 1.0, total


def main() -> None:
    """Print one line per kind and group of stars."""
    seeds = next(one.removeprefix("seeds=") for one in sys.argv if one.startswith("seeds="))
    for kind in [one for one in KINDS if one in sys.argv] or list(KINDS)[:4]:
        rows, started, flagged, n_fit = [], time.process_time(), 0, 0
        for seed in map(int, seeds.split(",")):
            for n_star in (1, 2, 4, 8):
                field = make_stamp(kind, seed, n_star, wings="wings" in sys.argv)
                machine, bias, total = fit_by_default(field)
                n = bias.size
                rows.append(np.stack([bias, total, np.arange(n) == 0], axis=1))
                flagged += bool(np.any(machine.flags[:n] & int(QualityFlag.FEW_CALIBRATORS)))
                n_fit += 1
        rows = np.concatenate(rows)
        cost = (time.process_time() - started) / n_fit
        for name, group in (("target", rows[rows[:, 2] == 1]), ("others", rows[rows[:, 2] == 0])):
            bias, total = group[np.isfinite(group[:, 0]) & (group[:, 1] > 0), :2].T
            z = np.abs(bias / total)
            print(
                f"{kind:9s} {name} n {bias.size:3d}  median {100 * np.median(bias):+.2f}  rms"
                f" {100 * np.sqrt(np.mean(bias**2)):.2f}  claimed {100 * np.median(total):.2f} %, rms"
                f" {100 * np.sqrt(np.mean(total**2)):.2f} %  cover"
                f" {np.mean(z < 0.994):.2f} {np.mean(z < 1.96):.2f}  few calibrators {flagged} of {n_fit}, {cost:.1f} s"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
