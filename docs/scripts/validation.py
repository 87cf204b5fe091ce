"""Run the tests that measure something, and print the figures they measured as a table.

Run as ``python docs/scripts/validation.py`` from the repository's root; ``--write`` also renews the table in
docs/evidence/validation.md. The real files are looked for as the tests do.
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "evidence" / "validation.md"
START, END = "<!-- figures: start -->", "<!-- figures: end -->"
TESTS = (
    "tests/simulation/test_absolute_flux.py",
    "tests/simulation/test_honesty.py",
    "tests/real/test_kepler_lightcurves.py",
    "tests/real/test_m67.py",
    "tests/real/test_tess_k2_smoke.py",
)


def run_tests(report: Path) -> None:
    """Run the tests; they write their figures into a JUnit file."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "not network and not benchmark",
        "-o",
        "junit_family=xunit1",
        f"--junitxml={report}",
        *TESTS,
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


def read_figures(report: Path) -> list[tuple[str, str, str]]:
    """Return (file, figure, value), with one line for the same figure of several seeds."""
    found: dict[tuple[str, str], list[str]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        file = case.get("classname", "").removeprefix("tests.").replace(".", "/")
        chosen = re.search(r"\[(?![\d-])(\w+)\]", case.get("name", ""))
        label = f" [{chosen.group(1)}]" if chosen else ""
        for one in case.iter("property"):
            key = (file, f"{one.get('name', '')}{label}")
            found.setdefault(key, []).append(one.get("value", ""))
    return [(file, name, ", ".join(values)) for (file, name), values in found.items()]


def format_table(figures: list[tuple[str, str, str]]) -> str:
    """Return one Markdown table per test file."""
    parts = []
    for file in dict.fromkeys(file for file, _, _ in figures):
        parts += [f"**tests/{file}.py**", "", "| figure | measured |", "| --- | --- |"]
        parts += [f"| {name} | {value} |" for where, name, value in figures if where == file]
        parts.append("")
    return "\n".join(parts).rstrip()


def write_page(table: str) -> None:
    """Put the table between its marks in docs/evidence/validation.md."""
    page = PAGE.read_text()
    before, after = page[: page.index(START) + len(START)], page[page.index(END) :]
    PAGE.write_text(f"{before}\n\n{table}\n\n{after}")


def main() -> None:
    """Run, print, and write if asked to."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "figures.xml"
        run_tests(report)
        table = format_table(read_figures(report))
    print(table)
    if "--write" in sys.argv[1:]:
        write_page(table)


if __name__ == "__main__":
    main()
