"""Print the coverage of transit depths on blended faint stars, whole jobs from pixels with everything wrong.

Run ``python docs/scripts/calibrate_transits.py [number of realisations]``;
the tables belong into docs/explanation/errors.md.
"""

import sys
import warnings

import numpy as np

from bayesprf.errors import ConvergenceWarning
from bayesprf.simulation.fields import redraw_noise
from bayesprf.validation.transit_depth import DepthScores, format_depths, make_blends, score_depths


def gather(found: list[dict[str, DepthScores]]) -> dict[str, DepthScores]:
    """Join the fields of one kind of job."""
    return {kind: DepthScores.gather(one[kind] for one in found) for kind in found[0]}


def main(n_field: int) -> None:
    """Score new fields, and one field with new noise, without and with drift, refined and not."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    fields, noises = [], []
    for drifting in (False, True):
        name = "drift" if drifting else "no drift"
        for refined, route in ((True, "refine_scene"), (False, "build_shape_model")):
            seeds = range(1, n_field + 1)
            found = [score_depths(make_blends(seed, drifting=drifting), refined=refined) for seed in seeds]
            fields.append((f"{name}, `{route}`", gather(found)))
        scene = make_blends(0, drifting=drifting)
        found = [score_depths(redraw_noise(scene, np.random.default_rng(seed))) for seed in range(n_field)]
        noises.append((f"{name}, `refine_scene`", gather(found)))
    print(f"\n{n_field} fields, each with stars, catalogue and noise of its own\n\n{format_depths(fields)}")
    print(f"\nOne field, {n_field} noise realisations\n\n{format_depths(noises)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
