"""Make the pictures of the README and the gallery: ``python docs/make_figures.py``.

Every function below makes one picture; the gallery shows its code beside it. The build of the documentation runs all of
them, so that no picture is older than the code.
"""

import argparse
import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import bayesprf as bp
from bayesprf.plots.canvas import new_figure, time_label
from bayesprf.simulation.fields import SimulatedField, make_case, make_field
from bayesprf.simulation.foreign import make_foreign, scaled_mixture
from bayesprf.simulation.settings import CASES, Transit
from bayesprf.simulation.true_prf import asymmetric_prf

HERE = Path(__file__).parent
DPI = 90
# The blended pair: a constant star, and an eclipsing binary that lies a pixel away.
STAR, BINARY = 0, 9


@cache
def fit_pair() -> tuple[SimulatedField, bp.Machine]:
    """Simulate nine cutouts, two stars a pixel apart in the first, and fit them."""
    field = make_field(
        rng=np.random.default_rng(4), n_source=10, n_time=150, n_stamp=9, companion_distance=(1.0, 1.1),
        magnitudes=np.array([13.6, 12.3, 12.6, 12.9, 13.1, 13.3, 13.5, 13.7, 14.0, 14.4]), min_separation=4.0,
        transits=(Transit(BINARY, depth=0.4, period=1.3, epoch=120.8, duration=0.35, flank=0.8),),
    )  # fmt: skip
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    machine.compute_aperture_photometry()
    return field, machine


@cache
def fit_demo() -> bp.Machine:
    """Fit the field of ``bayesprf demo``."""
    field = make_case("demo", np.random.default_rng(0))
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model()
    return machine


def draw_blend() -> Figure:
    """Draw a blended pair: pixels, light curves by aperture and by PRF on the truth, and what the PRF misses."""
    field, machine = fit_pair()
    time, truth, total = field.pixels.time, field.flux, machine.werrs_total
    figure = new_figure(13.0, 4.4)
    left, right = figure.subfigures(1, 2, width_ratios=(0.55, 1.0))
    machine.plot_aperture(machine.sources.source_id[STAR], ax=left.subplots())
    panels = right.subplots(2, 3, sharex=True)
    ways = {"sum over the aperture": (machine.sap_flux, machine.sap_flux_err), "PRF fit": (machine.ws, machine.werrs)}
    for row, star in zip(panels, (STAR, BINARY), strict=True):
        for ax, (flux, error) in zip(row, ways.values(), strict=False):
            ax.errorbar(time, 1e-3 * flux[:, star], 1e-3 * error[:, star], fmt="o", ms=2.0, elinewidth=0.7)
            ax.plot(time, 1e-3 * truth[:, star], color="tab:orange", lw=1.4, zorder=3, label="truth")
        row[1].sharey(row[0])
        ratio, noise, width = (100 * one[:, star] / truth[:, star] for one in (machine.ws, machine.werrs, total))
        row[2].fill_between(time, -width, width, color="0.88", lw=0, label="total error, 68 %")
        row[2].errorbar(time, ratio - 100, noise, fmt="o", ms=2.0, elinewidth=0.7)
        row[2].axhline(0.0, color="tab:orange", lw=1.4)
    for ax, title in zip(panels[0], (*ways, "PRF fit over truth − 1 (%)"), strict=True):
        ax.set_title(title, fontsize="medium")
    panels[0, 1].legend(fontsize="small", frameon=False)
    panels[1, 2].legend(fontsize="small", frameon=False)
    panels[0, 0].set_ylabel("star (10³ e⁻/s)")
    panels[1, 0].set_ylabel("binary (10³ e⁻/s)")
    right.supxlabel(time_label(field.pixels.instrument.time_zero_jd), fontsize="medium")
    return figure


def draw_scene() -> Figure:
    """Draw the image and its sources."""
    return fit_demo().plot_scene()


def draw_prf() -> Figure:
    """Draw the PRF beside the pixels that trained it."""
    return fit_demo().plot_prf()


def draw_varying_prf() -> Figure:
    """Draw a PRF that is 5 % wider at one edge of the field than in its middle, and 5 % narrower at the other."""
    settings = dataclasses.replace(
        CASES["medium"], n_source=60, n_stamp=52, n_time=4, mag_range=(11.0, 15.5), exposure=24000.0,
        position_scatter=0.0,
    )  # fmt: skip
    middle = asymmetric_prf()
    made = make_foreign(settings, lambda u, v: scaled_mixture(middle, 1.0 + 0.05 * u), rng=np.random.default_rng(7))
    machine = bp.Machine.from_pixels(made.field.pixels, made.field.sources, quiet=True)
    machine.build_shape_model()
    return machine.plot_prf()


def draw_lightcurves() -> Figure:
    """Draw the light curves of three stars."""
    return fit_demo().plot_lightcurves(["star-00011", "star-00000", "star-00013"])


def draw_noise() -> Figure:
    """Draw noise against magnitude."""
    return fit_demo().plot_noise()


def draw_errors() -> Figure:
    """Draw errors split into their parts."""
    return fit_demo().plot_errors()


def draw_time_model() -> Figure:
    """Draw how pixels change in time, and what the model leaves."""
    return fit_demo().plot_time_model()


def draw_corner() -> Figure:
    """Draw the joint posterior of three stars that overlap, at one cadence."""
    draws = fit_demo().posterior(["star-00003", "star-00015", "star-00027"], cadences=5, random_seed=1)
    return draws.bayesprf.plot_corner()


def draw_forest() -> Figure:
    """Draw the same draws as intervals."""
    draws = fit_demo().posterior(["star-00003", "star-00015", "star-00027"], cadences=5, random_seed=1)
    return draws.bayesprf.plot_forest()


def draw_host() -> Figure:
    """Draw which star an eclipse belongs to."""
    machine = fit_demo()
    return machine.which_source(abs(machine.time - 122.3) < 0.12, ["star-00013", "star-00000"]).plot()


def draw_depth() -> Figure:
    """Draw the posterior of the depth of a transit."""
    machine = fit_demo()
    return machine.event_depth("star-00000", abs(machine.time - 123.1) < 0.14).plot()


def draw_position() -> Figure:
    """Draw where on the sky that transit happened."""
    machine = fit_demo()
    return machine.event_position(abs(machine.time - 123.1) < 0.14, ["star-00000"]).plot(machine.sources)


def draw_second_star() -> Figure:
    """Draw what the data say of a second star four arcsec north of a star."""
    machine = fit_demo()
    place = machine.sources.ra_deg[3], machine.sources.dec_deg[3] + 4 / 3600
    return machine.blend_test("star-00003", place).plot()


PICTURES: dict[str, Callable[[], Figure]] = {
    "blend": draw_blend,
    "scene": draw_scene,
    "prf": draw_prf,
    "varying_prf": draw_varying_prf,
    "lightcurves": draw_lightcurves,
    "noise": draw_noise,
    "errors": draw_errors,
    "time_model": draw_time_model,
    "corner": draw_corner,
    "forest": draw_forest,
    "host": draw_host,
    "depth": draw_depth,
    "position": draw_position,
    "second_star": draw_second_star,
}


def make_pictures(directory: Path, names: list[str] | None = None) -> list[Path]:
    """Write pictures, all or some, as PNG files under their names."""
    directory.mkdir(parents=True, exist_ok=True)
    chosen = {name: PICTURES[name] for name in names or PICTURES}
    for name, draw in chosen.items():
        draw().savefig(directory / f"{name}.png", dpi=DPI)
    return [directory / f"{name}.png" for name in chosen]


def main() -> None:
    """Write the README's picture, and on request those of the gallery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gallery", action="store_true", help="those of the gallery too")
    given = parser.parse_args()
    written = make_pictures(HERE / "_static", ["blend"])
    if given.gallery:
        written += make_pictures(HERE / "_static" / "gallery")
    print(*written, sep="\n")


if __name__ == "__main__":
    main()
