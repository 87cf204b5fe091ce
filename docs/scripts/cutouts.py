"""Cutouts of TESS pixels with a sky, of sizes between a stamp and an image, with all defaults: fluxes and their errors.

Pixels from one official PRF table of camera 2, CCD 3, whose light ends with the table or goes on by a power of r that
is drawn as the instrument's record believes it (`wings`); three stars in 100 pixels, from 8.5 to 16 mag; a sky with a
gradient; a catalogue 30 % too bright with 5 % of scatter, wrong positions and a common offset, which lacks half of the
faint stars in `missing`. Seeds below 10 were looked at before.

    python docs/scripts/cutouts.py [sky] [missing] [wings] [sizes=15,20,30,40] seeds=10,11

BAYESPRF_TEST_DATA names the folder with the mission's tables (prf-models/).
"""

import sys
import time

import numpy as np
from few_stars import path_of
from tess_stamps import draw_wing, fit_by_default

from bayesprf.instruments import TESS
from bayesprf.io.prf_files import read_prf_table
from bayesprf.simulation.foreign import ForeignField, TablePrf, Troubles, make_foreign
from bayesprf.simulation.settings import FieldSettings

SKY = (150.0, 30.0, 20.0)
KINDS = {"sky": Troubles(sky=SKY), "missing": Troubles(sky=SKY, missing_faint=0.5)}
STARS_PER_PIXEL = 0.03


def make_cutout(size: int, kind: str, seed: int, *, wings: bool) -> ForeignField:
    """Simulate one cutout."""
    rng = np.random.default_rng([seed, size])
    settings = FieldSettings(
        n_source=max(3, round(STARS_PER_PIXEL * size**2)), n_time=10, layout="image", image_shape=(size, size),
        mag_range=(8.5, 16.0), mag_slope=0.3, instrument=TESS, exposure=1426.0, read_noise=270.0, background=150.0,
        catalog_scale=1.3, catalog_scatter=0.05, position_scatter=0.5, centroid_offset=(0.07, -0.05), reach_level=1e-5,
    )  # fmt: skip
    values = read_prf_table(path_of(*rng.integers(0, 3, 2))).values
    table = TablePrf(values, 1.0 / 9.0, draw_wing(rng) if wings else None)
    return make_foreign(settings, lambda u, v: table, rng=rng, troubles=KINDS[kind])


def fit_cutout(field: ForeignField) -> tuple[np.ndarray, float]:
    """Return bias, claimed error and brightness (the brightest fifth or not) of each star, and the error of the sky."""
    machine, bias, total = fit_by_default(field)
    seen = np.asarray(field.field.prf_matrix.pattern.sum(axis=0)).ravel()[field.listed] > 0.5
    bright = field.flux >= np.quantile(field.flux[seen], 0.8)
    sky = 0.0 if machine.background_flux is None else machine.background_flux.mean(axis=0)
    return np.stack([bias, total, bright], axis=1)[seen], float(np.median(sky - field.sky))


def main() -> None:
    """Print one line per kind, size and group of stars."""
    named = {name: one.split("=")[1].split(",") for one in sys.argv for name in [one.split("=")[0]] if "=" in one}
    seeds = [int(one) for one in named["seeds"]]
    sizes = [int(one) for one in named.get("sizes", ("15", "20", "30", "40"))]
    for kind in [one for one in KINDS if one in sys.argv] or list(KINDS):
        for size in sizes:
            started = time.process_time()
            fits = [fit_cutout(make_cutout(size, kind, seed, wings="wings" in sys.argv)) for seed in seeds]
            bias, total, bright = np.concatenate([one for one, _ in fits]).T
            sky = np.sqrt(np.mean([one**2 for _, one in fits]))
            seconds = (time.process_time() - started) / len(seeds)
            for name, group in (("bright", bright > 0), ("all", np.ones(bias.size, bool))):
                z, middle = np.abs(bias[group] / total[group]), 100 * np.median(bias[group])
                scatter, claimed = 148.26 * np.median(np.abs(bias[group])), 100 * np.median(total[group])
                cover = 100 * np.mean(z < 0.994), 100 * np.mean(z < 1.96)
                print(
                    f"| {kind} | {size} | {name} | {z.size} | {middle:+.2f} | {scatter:.2f} | {claimed:.2f}"
                    f" | {cover[0]:.0f} | {cover[1]:.0f} | {sky:.2f} | {seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
