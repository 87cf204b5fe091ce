"""Make docs/evidence/wrong_inputs.md: what a wrong input is answered.

Run as ``python docs/scripts/wrong_inputs.py`` from the repository's root. Every case of
tests/reference/wrong_inputs.txt is a line as a user would type it, Python or command line, and a pattern that its
answer must match; tests/unit/test_wrong_inputs.py runs all of them, and compares the page with the list.
"""

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

LIST = Path(__file__).parents[2] / "tests" / "reference" / "wrong_inputs.txt"
PAGE = Path(__file__).parents[2] / "docs" / "evidence" / "wrong_inputs.md"
HEAD = """# Wrong inputs

What {count} wrong inputs are answered: one sentence that names the argument, what was expected, what came and, where
that does not say it already, what to do. Python raises `bayesprf.errors.BayesprfError` (its classes are also the
built-in ones, `ValueError` for example); the command line prints the sentence and ends with code 1, or 2 where it does
not know a name. The table is made by `docs/scripts/wrong_inputs.py` from the files `pixels/*.fits` and `catalog.csv` of
a simulated field of four stars; `tests/unit/test_wrong_inputs.py` runs every line.
"""


class Case(NamedTuple):
    """A line as it is typed, and a pattern of its answer."""

    call: str
    answer: str


def load_cases() -> Iterator[tuple[str, Case]]:
    """Yield every case with its heading."""
    heading, call = "", ""
    for line in LIST.read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("    "):
            yield heading, Case(call, line.strip())
        else:
            call = line


def make_names() -> dict[str, Any]:
    """Return what the lines use by name: a fitted machine of four stars, its tables and arrays; write its files."""
    import numpy as np
    import pandas as pd
    from astropy import units
    from astropy.coordinates import SkyCoord

    import bayesprf as bp
    from bayesprf.errors import BayesprfWarning
    from bayesprf.io.simulated import write_field
    from bayesprf.simulation.fields import make_field

    field = make_field(
        rng=np.random.default_rng(1), n_source=4, n_time=6, n_stamp=4, mag_range=(11.0, 12.5), stamp_fill=0.02
    )
    pixels, sources = field.pixels, field.sources
    files, catalog = write_field(".", field)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesprfWarning)  # of so few stars
        machine = bp.fit(files, catalog, cures=False, quiet=True)
    frame = pd.DataFrame({"ra": sources.ra_deg, "dec": sources.dec_deg, "phot_g_mean_flux": sources.flux})
    arrays = {
        "time": pixels.time, "flux": pixels.flux, "flux_err": pixels.flux_err, "ra": pixels.ra_deg,
        "dec": pixels.dec_deg, "column": pixels.column, "row": pixels.row,
    }  # fmt: skip
    at = (sources.ra_deg[0] + 1e-3, sources.dec_deg[0])
    event = np.arange(6) == 3
    more = {"np": np, "units": units, "SkyCoord": SkyCoord, "bp": bp, "field": field, "frame": frame, "at": at}
    given = {"arrays": {**arrays, "sources": frame}, "event": event}
    return {"machine": machine, "pixels": pixels, "sources": sources, **arrays, **more, **given}


def write_files(names: Mapping[str, Any]) -> None:
    """Write the other files that the lines use into the working directory."""
    names["machine"].save("results.nc")
    content = bytearray(Path("results.nc").read_bytes())
    content[len(content) // 2] ^= 1
    Path("damaged.nc").write_bytes(content)
    Path("cut-short.fits").write_bytes(Path("pixels/stamp-00.fits").read_bytes()[:20000])
    names["machine"].to_fits("curves", sources=[0])
    Path("nothing.fits").touch()
    Path("empty").mkdir()
    frame = names["frame"]
    tables = {
        "empty": frame.iloc[:0], "no-position": frame.assign(ra=float("nan")), "words": frame.assign(ra="east"),
        "hours": frame.assign(ra=frame["ra"] / 15.0), "elsewhere": frame.assign(ra=frame["ra"] + 30.0),
        "exchanged": frame.assign(ra=frame["dec"], dec=frame["ra"]),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_csv(f"{name}.csv", index=False)
    Path("commas.csv").write_text("ra,dec,phot_g_mean_flux\n290,1,44,5,5200,5\n")
    Path("no-fields.csv").write_text("name,files,catalog\n")
    Path("fields.csv").write_text("name,files,catalog\nnorth,pixels,catalog.csv\n")


def answer(call: str, names: Mapping[str, Any]) -> str:
    """Return what a line is answered; raise what is no error of the package."""
    from bayesprf.errors import BayesprfError, BayesprfWarning

    if call.startswith("$ "):
        return _answer_command(call[2:].split()[1:])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesprfWarning)
            eval(call, dict(names))
    except BayesprfError as error:
        return str(error)
    return "accepted"


def _answer_command(arguments: list[str]) -> str:
    """Return what the command line prints as its last word."""
    from bayesprf import cli

    said, before = io.StringIO(), sys.argv
    sys.argv = ["bayesprf", *arguments]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as ended:
        if ended.code:
            return said.getvalue().strip().splitlines()[-1].removeprefix("bayesprf: ").removeprefix("Error: ")
    finally:
        sys.argv = before
    return "accepted"


def answers() -> Iterator[tuple[str, Case, str]]:
    """Yield every case with its heading and its answer, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        names = make_names()
        write_files(names)
        for heading, case in load_cases():
            yield heading, case, answer(case.call, names)


def build_page() -> str:
    """Return the page as markdown."""
    lines = [HEAD.format(count=len(list(load_cases())))]
    last = ""
    for heading, case, said in answers():
        if heading != last:
            lines += [f"## {heading}", "", "| call | answer |", "| --- | --- |"]
            last = heading
        lines.append(f"| `{cell(case.call)}` | {cell(said).replace('<', '&lt;').replace('*', '\\*')} |")
    return "\n".join([*lines, ""])


def cell(text: str) -> str:
    """Return a line as a cell of the table holds it."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    os.environ["COLUMNS"] = "300"  # so that no sentence of the command line is broken
    PAGE.write_text(build_page())
