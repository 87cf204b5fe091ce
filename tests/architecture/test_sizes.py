"""Sizes, habits and docstrings that the whole package keeps."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bayesprf

PACKAGE = Path(__file__).parents[2] / "bayesprf"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAX_FUNCTION_LINES = 50
MAX_FILE_CODE_LINES = 400
MAX_PUBLIC_METHODS = 10
# The facade lists every documented name; its methods are short instead.
FACADE, MAX_FACADE_METHOD_LINES = "machine.py", 10
# Classes whose names and methods are documented elsewhere and kept.
LARGE_CLASSES = ("Machine", "PerturbationMatrix", "PerturbationMatrix3D")
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)

PUBLIC_MODULES = sorted({module.removeprefix("bayesprf.") for module in bayesprf._PUBLIC.values()})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def relative_name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code: no comments, no blank lines."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def docstring_lines(node: Function) -> set[int]:
    if ast.get_docstring(node) is None:
        return set()
    return set(range(node.body[0].lineno, node.body[0].end_lineno + 1))


def function_length(node: Function, lines: set[int]) -> int:
    return len((lines & set(range(node.lineno, node.end_lineno + 1))) - docstring_lines(node))


def all_docstring_lines(tree: ast.Module) -> set[int]:
    owners = [node for node in ast.walk(tree) if isinstance(node, Function | ast.ClassDef | ast.Module)]
    texts = [node.body[0] for node in owners if node.body and ast.get_docstring(node) is not None]
    return {line for text in texts for line in range(text.lineno, text.end_lineno + 1)}


def functions_in(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def lines_of(path: Path) -> set[int]:
    """Return the lines of a module that hold code: no docstrings either."""
    return code_lines(path.read_text()) - all_docstring_lines(tree_of(path))


def test_files_are_short():
    sizes = {relative_name(path): len(lines_of(path)) for path in MODULES if relative_name(path) != FACADE}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE_CODE_LINES} == {}


def test_functions_are_short():
    sizes = {
        f"{relative_name(path)}: {node.name}": function_length(node, lines_of(path))
        for path in MODULES
        for node in functions_in(tree_of(path))
    }
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}


def test_classes_have_few_methods():
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and node.name not in LARGE_CLASSES:
                methods = [one for one in node.body if isinstance(one, Function) and not one.name.startswith("_")]
                called = [one.name for one in methods if not one.decorator_list]
                assert len(called) <= MAX_PUBLIC_METHODS, f"{node.name} has {len(called)} public methods"


def test_methods_of_the_facade_are_short_and_it_inherits_nothing():
    tree = tree_of(PACKAGE / FACADE)
    (machine,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert (machine.name, machine.bases) == ("Machine", [])
    lines = lines_of(PACKAGE / FACADE)
    bodies = {one.name: set(range(one.body[0].lineno, one.end_lineno + 1)) for one in functions_in(machine)}
    long = {name: len(lines & body) for name, body in bodies.items()}
    assert {name: n for name, n in long.items() if n > MAX_FACADE_METHOD_LINES} == {}


def bad_habits(tree: ast.Module, *, of_errors: bool = False) -> Iterator[str]:
    """Yield relative imports, `print`, bare NotImplementedError and global statements, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level > 0:
            yield f"relative import in line {node.lineno}"
        if isinstance(node, ast.Name) and (node.id == "print" or (node.id == "NotImplementedError" and not of_errors)):
            yield f"{node.id} in line {node.lineno}"
        if isinstance(node, ast.Global):
            yield f"global statement in line {node.lineno}"


def test_habits():
    assert [relative_name(path) for path in MODULES if path.name == "utils.py"] == []
    found = {relative_name(path): [*bad_habits(tree_of(path), of_errors=path.name == "errors.py")] for path in MODULES}
    assert {name: one for name, one in found.items() if one} == {}


@pytest.mark.parametrize(
    "code", ["from . import x", "print(1)", "raise NotImplementedError", "def f():\n    global a\n    a = 1"]
)
def test_bad_habits_are_seen(code):
    assert len([*bad_habits(ast.parse(code))]) == 1


# Signatures of these are fixed by PSFMachine's documentation, by the command line, or by numba.
FREE_SIGNATURES = [
    path
    for path in MODULES
    if path.name not in ("machine.py", "perturbation.py") and path.parent.name not in ("cli", "compiled")
]


def test_public_arguments_are_few_and_named():
    for path in FREE_SIGNATURES:
        for node in public_functions(tree_of(path)):
            positional = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
            assert len(positional) <= 5, f"{relative_name(path)}: {node.name} has {len(positional)} of them"


def public_functions(tree: ast.Module) -> list[Function]:
    return [node for node in tree.body if isinstance(node, Function) and not node.name.startswith("_")]


def returns_something(node: Function) -> bool:
    return not (isinstance(node.returns, ast.Constant) and node.returns.value is None)


def public_nodes(tree: ast.Module) -> list[Function | ast.ClassDef]:
    """Return the public functions and classes of a module, and the public methods of these classes."""
    top = [node for node in tree.body if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")]
    methods = [one for node in top if isinstance(node, ast.ClassDef) for one in node.body if isinstance(one, Function)]
    return top + [one for one in methods if not one.name.startswith("_") and not is_variant(one)]


def is_variant(node: Function) -> bool:
    """Return whether another definition has the docstring: that of a setter's getter, or of an overload's body."""
    names = {getattr(one, "attr", getattr(one, "id", "")) for one in node.decorator_list}
    return bool(names & {"setter", "overload"})


def test_everything_public_has_a_docstring():
    for path in MODULES:
        tree = tree_of(path)
        assert not tree.body or ast.get_docstring(tree), relative_name(path)
        bare = [node.name for node in public_nodes(tree) if ast.get_docstring(node) is None]
        assert bare == [], relative_name(path)


# Modules whose functions users call: the names of the top level come from them.
DOCUMENTED = [PACKAGE / (one.replace(".", "/") + ".py") for one in PUBLIC_MODULES]


def documented_arguments(text: str) -> set[str]:
    """Return the names under Parameters of a numpydoc docstring."""
    section = re.search(r"^Parameters\n-{10}\n(.*?)(?=^\w+\n---|\Z)", text, re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^(\S.*?)(?: :.*)?$", section.group(1), re.MULTILINE) if section else []
    return {name.strip(" *") for head in heads for name in head.split(",")}


@pytest.mark.parametrize("path", DOCUMENTED, ids=relative_name)
def test_public_functions_document_arguments_and_answer(path):
    for node in public_functions(tree_of(path)):
        text = ast.get_docstring(node) or ""
        arguments = {one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
        assert arguments - documented_arguments(text) == set(), f"{node.name} does not document all arguments"
        if returns_something(node):
            assert re.search(r"^(Returns\n-{7}|Yields\n-{6})$", text, re.MULTILINE), (
                f"{node.name} has no Returns section"
            )


def test_the_ruler_measures():
    source = 'def f(a):\n    """Say.\n\n    More.\n    """\n    # note\n\n    b = (\n        a\n    )\n    return b\n'
    node = ast.parse(source).body[0]
    assert function_length(node, code_lines(source)) == 5


def test_the_reader_of_parameters_reads():
    text = "Do.\n\nParameters\n----------\na, b : int\n    Two.\n*rest : str\n    Other.\n\nReturns\n-------\nint\n"
    assert documented_arguments(text) == {"a", "b", "rest"}
    assert documented_arguments("Do.") == set()
