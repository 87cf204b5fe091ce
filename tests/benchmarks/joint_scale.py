"""Time and memory of the joint fit of the PRF against the number of stars, as a table.

    python tests/benchmarks/joint_scale.py [--cases 50,200,1000,crowded] [--order 0]

A number is an image of so many stars, 32 pixels for each, as the case "ffi"; a name is a case of
`bayesprf.simulation.settings`. Each runs in a fresh process with one thread, after a small fit that loads compiled
code. Fluxes are those of the 50 brightest stars beside the truth.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
from meter import peak_mb

COLUMNS = (
    "| stars x pixels | order | pairs | steps of the whole image | CPU s | peak MB | median, scatter, claimed, % |"
)
SEED = 20240607


def simulate(case):
    """Return a field: a standard case of at most 20 cadences, or an image of a number of stars."""
    from bayesprf.simulation.fields import make_field
    from bayesprf.simulation.settings import CASES

    if case in CASES:
        settings = replace(CASES[case], n_time=min(CASES[case].n_time, 20))
    else:
        side = round(np.sqrt(32.0 * int(case)))
        settings = replace(CASES["ffi"], n_source=int(case), image_shape=(side, side))
    return make_field(settings, rng=np.random.default_rng(SEED))


def fit(case, order):
    """Fit a case; return field, fit, number of pairs, and CPU seconds."""
    from bayesprf.prf.joint.objective import JointOptions, fit_joint
    from bayesprf.prf.joint.start import JointSettings, build_joint
    from bayesprf.scene.image import reduce_image

    field = simulate(case)
    image, begun = reduce_image(field.pixels), time.process_time()
    problem = build_joint(
        field.pixels, field.sources, image, field.pixels.saturated, JointSettings(order=order)
    )  # fmt: skip
    found = fit_joint(*problem, JointOptions())
    return field, found, time.process_time() - begun


def measure(case, order):
    """Return one row of the table as a record."""
    warnings.simplefilter("ignore")
    fit("small", order)
    field, found, cpu = fit(case, order)
    bright = np.argsort(-field.mean_flux)[:50]
    ratio = 100.0 * (found.flux[bright] / field.mean_flux[bright] - 1.0)
    return {
        "case": case,
        "size": f"{field.sources.n_source:,} x {field.pixels.n_pixel:,}",
        "order": order,
        "pairs": found.problem.pairs.n_pair,
        "steps": found.n_iter,
        "settled": found.converged,
        "cpu": cpu,
        "peak_mb": peak_mb(),
        "median": float(np.median(ratio)),
        "scatter": float(1.4826 * np.median(np.abs(ratio - np.median(ratio)))),
        "claimed": float(100.0 * np.median(found.flux_err[bright] / found.flux[bright])),
    }


def as_row(one):
    """Return a record as a row of the table."""
    name = "" if one["case"].isdigit() else f" ({one['case']})"
    steps = one["steps"] if one["settled"] else f"{one['steps']}, not settled"
    return (
        f"| {one['size']}{name} | {one['order']} | {one['pairs']:,} | {steps} | {one['cpu']:.2g} | {one['peak_mb']:.0f}"
        f" | {one['median']:+.3f}, {one['scatter']:.3f}, {one['claimed']:.3f} |"
    )


def main():
    """Measure each case in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=inspect.getdoc(inspect.getmodule(main)))
    parser.add_argument("--cases", default="50,200,500,1000,2000,5000,medium,crowded")
    parser.add_argument("--order", type=int, default=0)
    parser.add_argument("--here", action="store_true", help="measure one case in this process, print its record")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.cases, options.order)))
        return
    print(COLUMNS + "\n|" + "---|" * 7)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    for case in options.cases.split(","):
        command = [sys.executable, __file__, "--here", "--cases", case, "--order", str(options.order)]
        done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
        print(as_row(json.loads(done.stdout)), flush=True)


if __name__ == "__main__":
    main()
