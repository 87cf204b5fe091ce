"""Bias of fluxes on simulated fields with sky left in the pixels, with and without a fitted background.

Run ``python docs/scripts/check_background.py [n_field]``; it prints the table of ``docs/howto/sky.md``.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bayesprf import Background, Machine
from bayesprf.simulation.fields import SimulatedField, make_case

Sky = Callable[[SimulatedField], Any]


def no_sky(field: SimulatedField) -> Any:
    """Return no sky."""
    return np.zeros(field.pixels.n_pixel)


def constant(field: SimulatedField) -> Any:
    """Return the same level in all pixels, electron / s."""
    return np.full(field.pixels.n_pixel, -50.0)


def per_cutout(field: SimulatedField) -> Any:
    """Return levels that scatter by 20 electron / s from cutout to cutout."""
    rng = np.random.default_rng(field.pixels.n_pixel)
    return (-50.0 + 20.0 * rng.standard_normal(field.pixels.stamp.max() + 1))[field.pixels.stamp]


def plane(field: SimulatedField) -> Any:
    """Return a plane that rises by 80 electron / s along the columns."""
    column = field.pixels.column
    return -50.0 + 80.0 * (column - column.mean()) / np.ptp(column)


ROWS: tuple[tuple[str, Sky, Any], ...] = (
    ("none", no_sky, None),
    ("none", no_sky, Background("stamp")),
    ("-50 everywhere", constant, None),
    ("-50 everywhere", constant, Background("stamp")),
    ("-50 everywhere", constant, Background("image")),
    ("-50 +- 20 per cutout", per_cutout, None),
    ("-50 +- 20 per cutout", per_cutout, Background("stamp")),
    ("plane, -90 to -10", plane, None),
    ("plane, -90 to -10", plane, Background("image", 1)),
    ("plane, -90 to -10", plane, Background("stamp", 1)),
)


def measure(field: SimulatedField, sky: Any, background: Any) -> tuple[float, float, float]:
    """Return median bias of the bright third, robust scatter of the sky's error, and coverage by total errors."""
    pixels = replace(field.pixels, flux=field.pixels.flux + sky)
    machine = Machine.from_pixels(pixels, field.sources, quiet=True, background=background)
    machine.build_shape_model()
    machine.fit_model()
    flux, truth = np.median(machine.ws, axis=0), field.mean_flux
    bright = np.argsort(-truth)[: truth.size // 3]
    away = np.abs(machine.background_flux.mean(axis=0) - sky)
    inside = np.abs(flux - truth) < 1.96 * np.median(machine.werrs_total, axis=0)
    return float(np.median(flux[bright] / truth[bright] - 1.0)), float(np.median(away)), float(inside.mean())


def main(n_field: int) -> None:
    """Print one line per kind of sky and background."""
    fields = [make_case("medium", np.random.default_rng(seed), n_time=50) for seed in range(1, n_field + 1)]
    sys.stdout.write(
        "| sky, electron / s | background | bias of bright stars, each field | error of the sky | 95 % |\n"
    )
    sys.stdout.write("| --- | --- | --- | --- | --- |\n")
    for name, sky, background in ROWS:
        found = np.array([measure(field, sky(field), background) for field in fields])
        bias = ", ".join(f"{100 * one:+.2f}" for one in found[:, 0])
        kind = "none" if background is None else f"{background.scope}, order {background.order}"
        error, cover = found[:, 1].mean(), 100 * found[:, 2].mean()
        sys.stdout.write(f"| {name} | {kind} | {bias} % | {error:.2f} | {cover:.0f} % |\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
