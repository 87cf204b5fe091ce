"""Make the picture of the README from the demo: ``python docs/make_figures.py``."""

from pathlib import Path

import numpy as np

import bayesprf as bp
from bayesprf.plots.canvas import new_figure, time_label
from bayesprf.plots.lightcurve import plot_lightcurves
from bayesprf.plots.scene import plot_scene
from bayesprf.simulation.fields import make_case

# A bright star, a star with a transiting planet, and an eclipsing binary that lies outside its neighbour's cutout.
SOURCES = (11, 0, 13)


def main() -> None:
    """Fit the demo field and draw it."""
    field = make_case("demo", np.random.default_rng(0))
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    figure = new_figure(11.0, 4.6)
    left, right = figure.subfigures(1, 2, width_ratios=(1.0, 0.9))
    scene = left.subplots()
    plot_scene(field.pixels, field.sources, axes=scene)
    scene.set(xlabel="column (pixel)", ylabel="row (pixel)")
    panels = right.subplots(len(SOURCES), 1, sharex=True)
    labels = [f"source {i}, {field.sources.mag[i]:.1f} mag" for i in SOURCES]
    chosen = list(SOURCES)
    plot_lightcurves(machine.time, machine.ws[:, chosen], machine.werrs[:, chosen], labels=labels, axes=panels)
    panels[-1].set_xlabel(time_label(field.pixels.instrument.time_zero_jd))
    right.supylabel("flux (electron / s)", fontsize="medium")
    figure.savefig(Path(__file__).parent / "_static" / "demo.png", dpi=90)


if __name__ == "__main__":
    main()
