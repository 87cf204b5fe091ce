"""Every documented name exists, with its place and default; every test that a table of the pages names exists."""

import ast
import importlib.util
import inspect
import json
import pydoc
import re
from functools import cache
from pathlib import Path

import jedi
import mypy.api
import numpy as np
import pandas as pd
import pytest

import bayesprf
from bayesprf.machine import Machine
from bayesprf.simulation.fields import make_field

ROOT = Path(__file__).parents[2]
NAMES = json.loads((ROOT / "tests" / "reference" / "documented_names.json").read_text())
METHODS = {method["name"]: method for method in NAMES["methods"]}
ENTRIES = [
    *NAMES["constructor"],
    *NAMES["attributes"],
    *NAMES["results"],
    *NAMES["methods"],
    *(parameter for method in NAMES["methods"] for parameter in method["parameters"]),
]
NODE = re.compile(r"`([\w/]+\.py::\w+)`")
KEPT = ("constructor", "attributes", "results")
ANY = inspect.Parameter.empty


@cache
def functions_of(file: str) -> frozenset[str]:
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def missing(nodes: list[str]) -> list[str]:
    """Return the node ids whose file or function does not exist."""
    split = [(one, *one.split("::")) for one in nodes]
    return [one for one, file, name in split if not name.startswith("test_") or name not in functions_of(file)]


def signature(function) -> tuple[list[tuple[str, object]], list[str]]:
    """Return arguments with defaults as far as they can be given by position, and the names that cannot."""
    found = list(inspect.signature(function).parameters.values())[1:]
    positional = [(one.name, one.default) for one in found if one.kind is one.POSITIONAL_OR_KEYWORD]
    star = [f"**{one.name}" for one in found if one.kind is one.VAR_KEYWORD]
    return positional, star


@pytest.mark.parametrize("name", ["__init__", *METHODS])
def test_arguments_have_their_documented_order_and_defaults(name):
    documented = NAMES["constructor"] if name == "__init__" else METHODS[name]["parameters"]
    wanted = [(one["name"], one.get("default", ANY)) for one in documented if not one["name"].startswith("**")]
    positional, star = signature(getattr(Machine, name))
    assert repr(positional) == repr(wanted)
    assert [one["name"] for one in documented if one["name"].startswith("**")] in ([], star)


@pytest.fixture(scope="module")
def finished():
    """A Machine after all stages."""
    field = make_field(rng=np.random.default_rng(2), n_source=8, n_stamp=8, n_time=20, mag_range=(12.0, 14.0))
    pixels, sources = field.pixels, field.sources
    frame = pd.DataFrame({"ra": sources.ra_deg, "dec": sources.dec_deg, "phot_g_mean_flux": sources.flux})
    positions = (pixels.ra_deg, pixels.dec_deg, frame, pixels.column, pixels.row)
    made = Machine(pixels.time, pixels.flux, pixels.flux_err, *positions, quiet=True)
    made.build_shape_model()
    made.build_time_model()
    made.fit_model(fit_va=True, n_threads=1)
    made.compute_aperture_photometry()
    made.get_psf_metrics()
    return made


@pytest.mark.parametrize("name", [one["name"] for kind in KEPT for one in NAMES[kind]])
def test_name_can_be_read(finished, name):
    """Constructor arguments too."""
    assert hasattr(finished, name)


PUBLIC = [name for name in dir(Machine) if not name.startswith("_")]


def test_help_shows_every_name_with_a_sentence():
    text = pydoc.plain(pydoc.render_doc(Machine))
    shown = set(re.findall(r"^ \|  (\w+)", text, re.MULTILINE))
    assert set(PUBLIC) - shown == set()
    assert [name for name in PUBLIC if not (getattr(Machine, name).__doc__ or "").strip()] == []


def test_an_editor_completes_the_names():
    top = {one.name for one in jedi.Script("import bayesprf\nbayesprf.").complete(2, 9)}
    assert set(bayesprf._PUBLIC) - top == set()
    names = {one.name for one in jedi.Script("import bayesprf\nbayesprf.Machine.").complete(2, 17)}
    assert set(PUBLIC) - names == set()


def test_the_stub_names_what_is_loaded_and_a_wrong_name_is_refused(tmp_path):
    stub = Path(bayesprf.__file__).with_suffix(".pyi")
    found = {f"{node.module}.{one.asname}" for node in ast.parse(stub.read_text()).body
             if isinstance(node, ast.ImportFrom) for one in node.names}  # fmt: skip
    assert found == {f"{module}.{name}" for name, module in bayesprf._PUBLIC.items()}
    script = tmp_path / "script.py"
    script.write_text("import bayesprf\nbayesprf.Machine\nbayesprf.Machin\n")
    options = ["--config-file=", f"--cache-dir={tmp_path}", "--follow-imports=skip", "--no-error-summary"]
    text, _, _ = mypy.api.run([*options, str(stub), str(script)])
    (refused,) = [line for line in text.splitlines() if line.startswith(str(script))]
    assert 'error: Module has no attribute "Machin"' in refused


def test_results_are_read_only(finished):
    with pytest.raises(AttributeError, match=r"^ws: expected to be read, got a value; fit_model\(\) sets it$"):
        finished.ws = 0.0
    with pytest.raises(AttributeError, match=r"^time: expected to be read, got a value; it belongs to the data$"):
        finished.time = 0.0


def test_every_name_is_listed_once_and_has_a_test():
    kinds = (NAMES["constructor"], [*NAMES["attributes"], *NAMES["results"]], NAMES["methods"])
    for kind in (*kinds, *(method["parameters"] for method in NAMES["methods"])):
        names = [one["name"] for one in kind]
        assert len(names) == len(set(names))
    assert [one["name"] for one in ENTRIES if not one["tests"]] == []
    assert (len(NAMES["constructor"]), len(NAMES["attributes"]), len(METHODS)) == (20, 15, 9)


def test_the_tests_of_the_names_exist():
    assert missing([one for entry in ENTRIES for one in entry["tests"]]) == []


def test_the_page_lists_every_name_and_its_tests():
    script = ROOT / "docs" / "scripts" / "documented_names.py"
    spec = importlib.util.spec_from_file_location("documented_names", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text()
    assert page == module.build_page(NAMES), "run python docs/scripts/documented_names.py"
    for entry in ENTRIES:
        assert f"`{entry['name']}" in page
        assert all(one.removeprefix("tests/") in page for one in entry["tests"])


def test_the_table_of_differences_names_tests_that_exist():
    lines = (ROOT / "docs" / "evidence" / "differences.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(("| subject", "| ---"))]
    assert len(rows) > 30
    for row in rows:
        cells = [one.strip() for one in row.strip("|").split(" | ")]
        assert len(cells) == 5, row
        assert all(cells), row
        nodes = [f"tests/{one}" for one in NODE.findall(cells[-1])]
        assert nodes, row
        assert missing(nodes) == [], row


def test_the_reader_of_tests_reads():
    here = "tests/architecture/test_documented_names.py"
    assert missing([f"{here}::test_the_reader_of_tests_reads", f"{here}::missing", "tests/none.py::test_a"]) == [
        f"{here}::missing",
        "tests/none.py::test_a",
    ]
