"""Print how much a group of sources changes when neighbours are held, and how long the README's line takes.

    python docs/scripts/held_neighbors.py [first seed]

Fifty groups of simulated fields, by the closed form: means and errors with neighbours held that share less than a tenth
of the light, against the whole group, in units of its error. The figures are in docs/evidence/calibration.md.
"""

import sys
import tempfile
import time
import warnings
from pathlib import Path

import arviz as az
import numpy as np

import bayesprf as bp
from bayesprf.io.simulated import write_field
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.photometry.groups import extract_group, hold_neighbors
from bayesprf.simulation.fields import make_case, make_field

SHARE, LIMIT = 0.1, 0.05


def compare(machine, source, cadences):
    """Return how far mean and error of a source move, and the shrinkage that is quoted."""
    group = extract_group(machine.fit.flux.problem, np.array([source]), cadences)
    asked = np.searchsorted(group.source, [source])
    held = hold_neighbors(group, asked, SHARE)
    whole, part = (choose_solver(one.problem).solve(one.problem) for one in (group, held.group))
    place = np.searchsorted(held.free, asked)
    mean = np.abs(part.mean[:, place] - whole.mean[:, asked]) / whole.std[:, asked]
    error = np.abs(part.std[:, place] / whole.std[:, asked] - 1.0)
    return mean.max(), error.max(), held.shrinkage.max(), group.source.size, held.free.size


def groups(first):
    """Print the comparison of fifty groups."""
    found = []
    for seed in (first, first + 1):
        field = make_field(rng=np.random.default_rng(seed), n_source=60, n_time=4)
        machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
        machine.build_shape_model()
        machine.fit_model()
        found += [compare(machine, source, np.arange(4)) for source in range(25)]
    mean, error, quoted, whole, left = np.array(found).T
    within = (mean < LIMIT) & (error < LIMIT)
    said = quoted > LIMIT
    print(f"{len(mean)} groups of {np.median(whole):.0f} sources (median), {np.median(left):.0f} left free")
    print(f"largest change of a mean {mean.max():.4f} errors, of an error {100 * error.max():.2f} %")
    print(f"within 5 % of an error: {within.sum()}; of the others the package says so for {np.sum(said & ~within)}")


def readme():
    """Print the time of the README's line on the demo's blend, and of the same with all neighbours free."""
    with tempfile.TemporaryDirectory() as place:
        files, catalog = write_field(Path(place), make_case("demo", np.random.default_rng(0)))
        machine = bp.fit(files, catalog, quiet=True)
    for neighbors in ("fixed", "free"):
        start, start_cpu = time.perf_counter(), time.process_time()
        tree = machine.sample([3, 4], width="learn", neighbors=neighbors)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        names = [str(name) for name in tree["posterior"].data_vars if tree["posterior"][name].std() > 0]
        r_hat = az.rhat(tree["posterior"].to_dataset()[names])
        worst = max(float(r_hat[name].max()) for name in r_hat.data_vars)
        print(
            f'machine.sample([3, 4], width="learn", neighbors="{neighbors}"): {seconds:.1f} s, {cpu:.1f} CPU s,'
            f" R-hat at most {worst:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:] != ["readme"]:
        groups(int(sys.argv[1]) if len(sys.argv) > 1 else 21)
    readme()
