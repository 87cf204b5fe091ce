"""Measure what an installation holds, what PyMC and ArviZ add to it, and what importing the package loads.

Run as ``python docs/scripts/install_size.py`` in an environment in which bayesprf is installed. Sizes are those of the
files that each distribution installed, compiled bytecode among them.
"""

import re
import subprocess
import sys
import time
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

OPTIONAL = ("pymc", "arviz")
WATCHED = ("pymc", "arviz", "matplotlib", "xarray")
LOADS = "import sys, bayesprf; bayesprf.{name}; print(*[one for one in {watched} if one in sys.modules])"


def find(name: str) -> Distribution | None:
    """Return an installed distribution, or None."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def closure(name: str, without: tuple[str, ...] = ()) -> set[str]:
    """Return the distributions that one needs, itself among them, leaving some of its own requirements out."""
    found: set[str] = set()
    waiting = [(name, without)]
    while waiting:
        one, left_out = waiting.pop()
        key = re.sub(r"[-_.]+", "-", one).lower()
        installed = find(one)
        if key in found or installed is None:
            continue
        found.add(key)
        for text in installed.requires or []:
            needed = Requirement(text)
            if needed.name not in left_out and (needed.marker is None or needed.marker.evaluate({"extra": ""})):
                waiting.append((needed.name, ()))
    return found


def megabytes(name: str) -> float:
    """Return the size of a distribution's files."""
    places = [Path(str(one.locate())) for one in distribution(name).files or []]
    return sum(path.stat().st_size for path in places if path.is_file()) / 1e6


def loaded_by(name: str) -> tuple[float, list[str]]:
    """Return how long a new Python takes to load a name of the package, and which large packages came with it."""
    command = [sys.executable, "-c", LOADS.format(name=name, watched=WATCHED)]
    start = time.perf_counter()
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return time.perf_counter() - start, printed.split()


def main() -> None:
    """Print sizes and times."""
    everything, light = closure("bayesprf"), closure("bayesprf", OPTIONAL)
    size = {name: megabytes(name) for name in everything}
    print(f"all requirements: {sum(size.values()):.0f} MB in {len(size)} distributions")
    added = sorted(everything - light)
    print(f"only for {' and '.join(OPTIONAL)}: {sum(size[name] for name in added):.0f} MB: {', '.join(added)}")
    for name in sorted(size, key=lambda one: -size[one])[:10]:
        print(f"  {size[name]:6.0f} MB  {name}{'' if name in light else '  (pymc, arviz)'}")
    for name in ("__version__", "Machine", "fit"):
        seconds, loaded = loaded_by(name)
        print(f"bayesprf.{name}: {seconds:.2f} s with the start of Python; loads {', '.join(loaded) or 'none'} of them")


if __name__ == "__main__":
    main()
