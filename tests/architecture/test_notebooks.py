"""Notebooks are shipped executed: with pictures, small, from the public API alone, and nothing of a machine in them."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 1_000_000  # byte
# What the API page lists; notebooks import from nowhere else.
PUBLIC = {
    "bayesprf", "bayesprf.batch", "bayesprf.datasets", "bayesprf.errors", "bayesprf.flags", "bayesprf.instruments",
    "bayesprf.io.lightcurves", "bayesprf.io.save", "bayesprf.io.simulated", "bayesprf.perturbation",
    "bayesprf.pipeline", "bayesprf.simulation.fields", "bayesprf.simulation.settings",
}  # fmt: skip
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|usr|opt|private|var|Users)/|[A-Z]:\\\\|site-packages")


def cells_of(path, kind):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def outputs_of(path):
    return [output for cell in cells_of(path, "code") for output in cell["outputs"]]


def test_notebooks_are_numbered():
    numbers = [int(path.name[:2]) for path in NOTEBOOKS]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_executed_in_order(path):
    assert path.stat().st_size < LARGEST
    counts = [cell["execution_count"] for cell in cells_of(path, "code")]
    assert counts == list(range(1, len(counts) + 1))
    assert any("image/png" in output.get("data", {}) for output in outputs_of(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_hold_no_errors_and_nothing_of_a_machine(path):
    outputs = outputs_of(path)
    assert not [one for one in outputs if one["output_type"] == "error" or one.get("name") == "stderr"]
    text = json.dumps([one.get("text") or {k: v for k, v in one["data"].items() if "png" not in k} for one in outputs])
    assert MACHINE.findall(text) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_a_title_and_its_question(path):
    first = "".join(cells_of(path, "markdown")[0]["source"])
    assert re.match(r"# .+\n\n\*[^*]+\?\*\n", first), "expected a title, and a question in italics below it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_public_names_alone(path):
    found = set()
    for cell in cells_of(path, "code"):
        code = "".join(line for line in cell["source"] if not line.lstrip().startswith(("%", "!")))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module))
    assert {name for name in found if name.startswith("bayesprf")} <= PUBLIC
