"""Imports point one way, and heavy libraries stay where they belong."""

import ast
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
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


@cache
def names_of(path: Path, *, into_functions: bool) -> list[str]:
    """Return the names that a module imports, when it is loaded or also when its functions run."""
    tree = ast.parse(path.read_text(), filename=str(path))
    return list(walk_imports(tree, into_functions=into_functions))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


LIBRARY = [path for path in MODULES if path != PACKAGE / "__init__.py"]


def is_below(target: str, part: str) -> bool:
    """Tell whether a part may import another; the first rank may import among itself."""
    rank, own = RANK_OF.get(target, -1), RANK_OF[part]
    return target in (part, "__version__") or rank < own or rank == own == 0


def test_every_part_has_a_rank():
    assert {part_of(path) for path in LIBRARY} - set(RANK_OF) == set(), "give them one in RANKS"


def test_imports_point_down():
    ours = [
        (path, name)
        for path in LIBRARY
        for name in names_of(path, into_functions=True)
        if name.startswith("bayesprf.") and not is_below(name.split(".")[1], part_of(path))
    ]
    assert [f"{relative_name(path)} imports {name}, which is not below it" for path, name in ours] == []


def test_test_helpers_stay_with_the_tests():
    users = [path for path in LIBRARY if any("bayesprf.testing" in one for one in names_of(path, into_functions=True))]
    assert [relative_name(path) for path in users] == []


def test_heavy_libraries_stay_at_home():
    away = [
        f"{relative_name(path)} imports {name}"
        for path in LIBRARY
        for name in names_of(path, into_functions=True)
        if not relative_name(path).startswith(HOMES.get(name.split(".")[0], ""))
    ]
    assert away == []


# Pictures stand low, so that every record can draw itself, but nothing loads them before something is drawn.
LIGHT = [path for path in LIBRARY if RANK_OF.get(part_of(path), 99) <= LIGHT_RANK and part_of(path) != "plots"]


def is_light(name: str, *, compiled: bool) -> bool:
    """Tell whether a name loads NumPy and SciPy alone; compiled code may load what compiles it too."""
    accepted = {"bayesprf", "numpy", "scipy", *sys.stdlib_module_names} | ({"numba", "llvmlite"} if compiled else set())
    kernel = name.removeprefix("bayesprf.").replace(".", "/").startswith(HOMES["numba"])
    return name.split(".")[0] in accepted and not name.startswith("bayesprf.plots") and (compiled or not kernel)


def test_low_ranks_load_only_numpy_and_scipy():
    heavy = [
        f"{relative_name(path)} loads {name} at import time"
        for path in LIGHT
        for name in names_of(path, into_functions=False)
        if not is_light(name, compiled=relative_name(path).startswith(HOMES["numba"]))
    ]
    assert heavy == []


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


def test_the_rules_refuse():
    assert is_below("scene", "prf")
    assert not is_below("machine", "prf")
    assert is_below("checks", "arrays")
    assert not is_below("io", "sampling")
    assert is_light("scipy.sparse", compiled=False)
    assert is_light("numba.njit", compiled=True)
    for name in ("pandas.DataFrame", "bayesprf.plots.prf", "bayesprf.linalg.compiled.polar", "numba.njit"):
        assert not is_light(name, compiled=False)
