"""Run `bayesprf demo` for many seeds, and say which fail and how near the fitted fluxes come to the true ones.

Run as ``python docs/scripts/demo_seeds.py 0 200``: first seed, and the one after the last. With ``bare`` behind them
the same fields are fitted without pictures and light curves, in a fifth of the time.
"""

import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from bayesprf.cli import Output, app, run_fit
from bayesprf.io.simulated import describe_truth, write_field
from bayesprf.pipeline import FitOptions
from bayesprf.simulation.fields import make_case

_SAID = re.compile(r"median ([\d.]+); (\d+)% within 1 and (\d+)% within 2")


def run_demo(directory: str, seed: int) -> str:
    """Run the command, and return what it says."""
    result = CliRunner().invoke(app, ["demo", directory, "--seed", str(seed)], catch_exceptions=False)
    if result.exit_code != 0:
        raise RuntimeError(f"exit code {result.exit_code}: {result.output[-300:]}")
    return result.output


def run_bare(directory: str, seed: int) -> str:
    """Fit the same files with the same options, and write the tree alone."""
    field = make_case("demo", np.random.default_rng(seed))
    files, catalog = write_field(directory, field)
    output = Output(Path(directory) / "field.nc")
    return describe_truth(
        run_fit([str(one) for one in files], catalog, FitOptions(loo=True), output, quiet=True), field
    )


def measure(seed: int, *, bare: bool) -> tuple[float, float, float]:
    """Return the median of fitted over true flux, and the percentages within one and two total errors."""
    with tempfile.TemporaryDirectory() as directory:
        output = (run_bare if bare else run_demo)(directory, seed)
    said = _SAID.search(output)
    if said is None:
        raise RuntimeError(f"nothing on the true fluxes: {output[-300:]}")
    median, one, two = (float(number) for number in said.groups())
    return median, one, two


def main(first: int, end: int, *, bare: bool) -> None:
    """Run the seeds, say each as it is done, and print a line on all of them."""
    failed, found = [], []
    for seed in range(first, end):
        try:
            found.append(measure(seed, bare=bare))
        except Exception as error:  # told below, with its seed
            failed.append(f"seed {seed}: {type(error).__name__}: {error}")
        sys.stderr.write(f"seed {seed}: {len(found)} ran, {len(failed)} failed, {found[-1:]}\n")
    sys.stdout.write("\n".join([*failed, f"{len(found)} of {end - first} seeds ran"]) + "\n")
    if found:
        low, high = min(found)[0], max(found)[0]
        one, two = (sum(numbers) / len(found) for numbers in list(zip(*found, strict=True))[1:])
        sys.stdout.write(f"median of fitted over true flux {low:.4f} to {high:.4f}; {one:.0f} % within 1 and")
        sys.stdout.write(f" {two:.0f} % within 2 total errors\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), bare="bare" in sys.argv[3:])
