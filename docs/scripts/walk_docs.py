"""Run the code of README and of the pages for users, page by page, as a newcomer would.

Run as ``python docs/scripts/walk_docs.py [page ...]``, or with ``--fresh`` to install the package into an environment
of its own first and walk there. Python blocks of a page share their names; of the blocks for the shell those lines run
that call ``bayesprf``. A block after the line ``% walk: skip`` needs the internet and is not run.

The files that the pages name, ``field/*.fits`` and ``gaia.csv``, are made by the page "How-to guides"; an image with
its stars, ``image.fits`` and ``image.csv``, and a table with names of its own, ``own.csv``, are made here.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import chdir
from pathlib import Path

DOCS = Path(__file__).parents[1]
PAGES = [
    DOCS.parent / "README.md",
    *(DOCS / name for name in ("index.md", "install.md", "quickstart.md", "tutorials/index.md")),
    *sorted(path for path in (DOCS / "howto").glob("*.md") if path.stem != "index"),  # that page is run first
    *(DOCS / "reference" / name for name in ("datatree.md", "flags.md", "posterior_tree.md", "command_line.md")),
]
_BLOCK = re.compile(r"(% walk: skip\n)?```(python|bash)\n(.*?)```", re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and code of the blocks of a page that are meant to run."""
    return [(language, code) for skip, language, code in _BLOCK.findall(page.read_text()) if not skip]


def run_shell(code: str) -> None:
    """Run the lines of a block that call bayesprf, with the program beside this Python."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for line in code.replace("\\\n", " ").splitlines():
        if line.startswith("bayesprf "):
            done = subprocess.run(line, shell=True, capture_output=True, text=True, env=os.environ | {"PATH": places})
            if done.returncode:
                raise RuntimeError(f"{line}\n{done.stderr[-600:]}")


def run_page(page: Path, folder: Path) -> str:
    """Run the blocks of a page one after another; return the error of the first that fails, or nothing."""
    names: dict[str, object] = {"__name__": "walk"}
    with chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (language, code) in enumerate(blocks(page), 1):
            try:
                if language == "bash":
                    run_shell(code)
                else:
                    exec(compile(code, f"{page.name}, block {number}", "exec"), names)
            except Exception:  # whatever a newcomer would see
                return f"block {number}\n{traceback.format_exc(limit=-2)}"
    return ""


def make_files(folder: Path) -> None:
    """Write what the pages take for granted: the example's field, an image and a table of one's own."""
    import numpy as np
    import pandas as pd
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.wcs.utils import fit_wcs_from_points

    from bayesprf.simulation.fields import make_field

    error = run_page(DOCS / "howto" / "index.md", folder)
    if error:
        raise RuntimeError(error)
    image = make_field(rng=np.random.default_rng(1), layout="image", n_source=80, n_time=1, image_shape=(60, 60))
    pixels, sky = image.pixels, 150.0
    grid = np.full((60, 60), sky)
    column, row = (np.asarray(one - one.min(), int) for one in (pixels.column, pixels.row))
    grid[row, column] += pixels.flux[0]
    wcs = fit_wcs_from_points((column, row), SkyCoord(pixels.ra_deg, pixels.dec_deg, unit="deg"), projection="TAN")
    header = wcs.to_header()
    header.update(BUNIT="electron/s", EXPOSURE=1625.0, READNOIS=88.0, NREADOUT=270, TELESCOP="Kepler")
    header.update(TSTART=2454953.0, TSTOP=2454953.02)
    fits.PrimaryHDU(grid, header).writeto(folder / "image.fits")
    stars = image.sources
    own = {"source_id": stars.source_id, "ra": stars.ra_deg, "dec": stars.dec_deg, "phot_g_mean_flux": stars.flux}
    pd.DataFrame(own).to_csv(folder / "image.csv", index=False)
    table = pd.read_csv(folder / "gaia.csv")
    table.columns = ["star", "alpha", "delta", "counts", "mag"]
    table.to_csv(folder / "own.csv", index=False)


def walk(pages: list[Path]) -> int:
    """Run all pages in one folder that holds the example's files; return how many fail."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        for page in pages:
            start = time.perf_counter()
            error = run_page(page, folder)
            failed += bool(error)
            place, seconds = page.relative_to(DOCS.parent), time.perf_counter() - start
            print(f"{'FAILED' if error else 'ok':6s} {seconds:6.1f} s  {len(blocks(page)):2d} blocks  {place}  {error}")
    return failed


def walk_fresh(arguments: list[str]) -> int:
    """Install the package, as the installation page says, into a new environment, and walk with its Python."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / ".venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", Path(folder) / ".venv"], check=True)
        start = time.perf_counter()
        subprocess.run([python, "-m", "pip", "install", "-q", f"{DOCS.parent}[lightkurve]"], check=True)
        print(f"installed in {time.perf_counter() - start:.0f} s")
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run([python, __file__, *arguments], env=clean, check=False).returncode


if __name__ == "__main__":
    chosen = [one for one in sys.argv[1:] if one != "--fresh"]
    if "--fresh" in sys.argv:
        sys.exit(walk_fresh(chosen))
    sys.exit(walk([Path(one).resolve() for one in chosen] or PAGES) > 0)
