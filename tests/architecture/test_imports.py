"""Imports point one way, and heavy libraries stay where they belong."""

import ast
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "bayesprf"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From low to high; names on one line are siblings. The first line may import among itself.
RANKS = (
    ("errors", "flags", "checks", "arrays", "stats", "instruments"),
    ("linalg",),
    ("design",),
    ("scene",),
    ("plots",),
    ("settings",),
    ("fit_record",),
    ("simulation",),
    ("photometry",),
    ("prf",),
    ("timemodel",),
    ("uncertainty",),
    ("quality",),
    ("hypotheses",),
    ("results",),
    ("report",),
    ("io", "sampling"),
    ("perturbation", "attributes"),
    ("machine",),
    ("pipeline",),
    ("batch", "testing", "validation", "datasets"),
    ("cli",),
    ("__main__",),
)
RANK_OF = {name: rank for rank, names in enumerate(RANKS) for name in names}
LIGHT_RANK = RANK_OF["hypotheses"]

# Who may import a heavy library at all, at import time or later; type checking is free.
HOMES = {
    "matplotlib": ("plots/", "validation/plots"),
    "astropy": ("io/",),
    "lightkurve": ("io/",),
    "photutils": ("io/",),
    "pandas": ("io/", "machine.py"),
    "pymc": ("sampling/",),
    "pytensor": ("sampling/",),
    "nutpie": ("sampling/", "validation/samplers"),
    "dask": ("batch.py",),
    "jinja2": ("report/",),
    "typer": ("cli",),
    "numba": ("linalg/compiled/", "linalg/solvers/symbolic", "linalg/solvers/blocks"),
    "llvmlite": ("linalg/compiled/lanes",),
}


def relative_name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk_imports(node: ast.AST, *, into_functions: bool) -> Iterator[str]:
    """Yield the imported names below a node; those under TYPE_CHECKING never run and are left out."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child) or (isinstance(child, ast.FunctionDef) and not into_functions):
            continue
        yield from imported_names(child)
        yield from walk_imports(child, into_functions=into_functions)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


LIBRARY = [path for path in MODULES if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", LIBRARY, ids=relative_name)
def test_imports_point_down(path):
    part = part_of(path)
    assert part in RANK_OF, f"{part} has no rank: give it one in RANKS"
    for name in walk_imports(parse(path), into_functions=True):
        if not name.startswith("bayesprf."):
            continue
        target = name.split(".")[1]
        allowed = target == part or RANK_OF.get(target, -1) < RANK_OF[part] or (RANK_OF[part] == 0 == RANK_OF[target])
        assert allowed or target == "__version__", f"{relative_name(path)} imports {name}, which is not below {part}"
        assert target != "testing", f"{relative_name(path)} imports the test helpers"


@pytest.mark.parametrize("path", LIBRARY, ids=relative_name)
def test_heavy_libraries_stay_at_home(path):
    place = relative_name(path)
    for name in walk_imports(parse(path), into_functions=True):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or place.startswith(homes), f"{place} imports {name}, which belongs to {homes}"


# Pictures stand low, so that every record can draw itself, but nothing loads them before something is drawn.
LIGHT = [path for path in LIBRARY if RANK_OF.get(part_of(path), 99) <= LIGHT_RANK and part_of(path) != "plots"]


@pytest.mark.parametrize("path", LIGHT, ids=relative_name)
def test_low_ranks_load_only_numpy_and_scipy(path):
    place = relative_name(path)
    accepted = {"bayesprf", "numpy", "scipy", *sys.stdlib_module_names}
    accepted |= {"numba", "llvmlite"} if place.startswith(HOMES["numba"]) else set()
    for name in walk_imports(parse(path), into_functions=False):
        assert name.split(".")[0] in accepted, f"{place} loads {name} at import time"
        compiled = name.removeprefix("bayesprf.").replace(".", "/").startswith(HOMES["numba"])
        assert not name.startswith("bayesprf.plots"), f"{place} loads matplotlib at import time through {name}"
        assert not compiled or place.startswith(HOMES["numba"]), f"{place} loads numba at import time through {name}"


def test_a_fresh_import_is_quick_and_light():
    seconds = [timed_import("pass")[0] for _ in range(3)]
    assert statistics.median(seconds) < 0.5
    _, loaded = timed_import("import sys; print(*sorted({name.split('.')[0] for name in sys.modules}))")
    heavy = {"pymc", "pytensor", "matplotlib", "numba", "astropy", "pandas", "xarray", "arviz", "lightkurve", "dask"}
    assert not heavy & set(loaded.split())


def timed_import(afterwards: str) -> tuple[float, str]:
    """Return the seconds that `import bayesprf` takes in a fresh process, and what the code after it prints."""
    code = f"import time; t = time.perf_counter(); import bayesprf; print(time.perf_counter() - t)\n{afterwards}"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert time.perf_counter() > start
    first, _, rest = done.stdout.partition("\n")
    return float(first), rest


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from bayesprf.prf import fit", ["bayesprf.prf.fit"]),
        ("def f():\n    import bayesprf.cli", ["bayesprf.cli"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pymc", ["typing.TYPE_CHECKING"]),
    ],
)
def test_the_walk_sees_what_runs(code, expected):
    assert list(walk_imports(ast.parse(code), into_functions=True)) == expected
