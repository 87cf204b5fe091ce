"""Run `bayesprf demo` for many seeds, and say which fail and how near the fitted fluxes come to the true ones.

Run as ``python docs/scripts/demo_seeds.py 0 200``: first seed, and the one after the last.
"""

import re
import sys
import tempfile

from typer.testing import CliRunner

from bayesprf.cli import app

_SAID = re.compile(r"median ([\d.]+); (\d+)% within 1 and (\d+)% within 2")


def run_demo(seed: int) -> tuple[float, float, float]:
    """Return the median of fitted over true flux, and the percentages within one and two total errors."""
    with tempfile.TemporaryDirectory() as directory:
        result = CliRunner().invoke(app, ["demo", directory, "--seed", str(seed)], catch_exceptions=False)
    said = _SAID.search(result.output)
    if result.exit_code != 0 or said is None:
        raise RuntimeError(f"seed {seed}: exit code {result.exit_code}: {result.output[-300:]}")
    median, one, two = (float(number) for number in said.groups())
    return median, one, two


def main(first: int, end: int) -> None:
    """Run the seeds, say each as it is done, and print a line on all of them."""
    failed, found = [], []
    for seed in range(first, end):
        try:
            found.append(run_demo(seed))
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
    main(int(sys.argv[1]), int(sys.argv[2]))
