"""The size and shape of the code, today and at an earlier commit: `python docs/scripts/house_figures.py 2522e00`."""

import ast
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
# A comment names its source by a year in parentheses, an equation or table, or the command that measured it; or it
# begins with the word that says that the number follows from what is written there, or is the default of an option.
_SOURCE = re.compile(
    r"\((?:[^()]*\b)?(?:19|20)\d\d|section \d|eq\. ?\d|table \d|handbook|\.py\b"
    r"|^(?:# |\"\"\")(?:derived|measured|option):",
    re.IGNORECASE | re.MULTILINE,
)
# First words of the comments on numbers that are not tuned: units and identities; bits and places of formats, degrees
# and counts that the code is written for; what a flag or word is said to mean; how much of an answer is shown; bounds
# on memory and time; what tells numbers from rounding errors; nodes, steps and tolerances of integrals and iterations,
# whose error is far below that of the data.
KINDS = ("Unit", "Format", "Definition", "Shown", "Cost", "Rounding", "Accuracy")
_KIND = re.compile(rf"^(?:# |\"\"\")({'|'.join(KINDS)}): ", re.MULTILINE)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code: no docstrings, comments or blank lines."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and node.body and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


class House:
    """A package on disk, measured."""

    def __init__(self, root: Path) -> None:
        self.package = root / "bayesprf"
        self.sources = {path: path.read_text() for path in sorted(self.package.rglob("*.py"))}
        self.trees = {path: ast.parse(source) for path, source in self.sources.items()}
        self.lines = {path: code_lines(source) for path, source in self.sources.items()}
        nodes = [node for tree in self.trees.values() for node in ast.walk(tree)]
        self.classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}

    def figures(self) -> dict[str, str]:
        """Return the figures that the architecture is judged by."""
        sizes = {path: len(lines) for path, lines in self.lines.items()}
        total = sum(sizes.values())
        counted = [path for path in self.sources if path.name != "__init__.py"]
        folders = Counter(path.parent.relative_to(self.package).as_posix() for path in counted)
        packages: Counter[str] = Counter()
        for path, size in sizes.items():
            parts = path.relative_to(self.package).parts
            packages[parts[0] if len(parts) > 1 else "root"] += size
        root_modules = folders.pop(".")
        (folder, n_file), (package, n_line) = folders.most_common(1)[0], packages.most_common(1)[0]
        machine_names, machine_lines = self._machine()
        constants = list(self._constants())
        return {
            "files": str(len(self.sources)),
            "code lines": f"{total:,}",
            "root modules": str(root_modules),
            "files in the largest folder": f"{n_file} ({folder})",
            "largest package": f"{100 * n_line / total:.1f} % ({package})",
            "public names of Machine": str(machine_names),
            "code lines of Machine with its bases": str(machine_lines),
            "longest method of Machine, code lines": str(self._longest_method()),
            "deepest inheritance among our classes": str(max(self._depth(name) for name in self.classes)),
            "`Any` in annotations": str(
                sum(len(re.findall(r"\bAny\b", one)) - one.count("import Any") for one in self._code())
            ),
            "functions above 50 code lines": str(sum(size > 50 for size in self._function_sizes())),
            "numeric module constants": str(len(constants)),
            "of these tuned": str(sum(not kind_of(comment) for _, comment in constants)),
            "of the tuned without a source": str(sum(not has_source(comment) for _, comment in constants)),
        }

    def _code(self) -> list[str]:
        """Return the sources as code alone: no comments and docstrings."""
        return [
            "\n".join(
                line
                for number, line in enumerate(source.splitlines(), 1)
                if number in self.lines[path] and not line.startswith(("from ", "import "))
            )
            for path, source in self.sources.items()
        ]

    def _bases(self, name: str) -> list[str]:
        bases = self.classes[name].bases
        named = [one.value if isinstance(one, ast.Subscript) else one for one in bases]
        return [one.id for one in named if isinstance(one, ast.Name) and one.id in self.classes and one.id != name]

    def _depth(self, name: str) -> int:
        """Return 1 for a class of its own; protocols, errors and warnings do not count as ancestors."""
        kin = [one for one in self._bases(name) if not one.endswith(("Error", "Warning"))]
        kin = [one for one in kin if "Protocol" not in {getattr(base, "id", "") for base in self.classes[one].bases}]
        return 1 + max((self._depth(one) for one in kin), default=0)

    def _family(self, name: str) -> set[str]:
        return {name}.union(*(self._family(one) for one in self._bases(name)))

    def _machine(self) -> tuple[int, int]:
        names, size = set(), 0
        for one in self._family("Machine"):
            node = self.classes[one]
            path = next(path for path, tree in self.trees.items() if node in tree.body)
            size += len(self.lines[path] & set(range(node.lineno, (node.end_lineno or 0) + 1)))
            for child in node.body:
                targets = [child.target] if isinstance(child, ast.AnnAssign) else getattr(child, "targets", [])
                assigned = [target.id for target in targets if isinstance(target, ast.Name)]
                bare = isinstance(child, ast.AnnAssign) and child.value is None
                names.update([child.name] if isinstance(child, Function) else [] if bare else assigned)
        return sum(not name.startswith("_") for name in names), size

    def _longest_method(self) -> int:
        path = self.package / "machine.py"
        lines, node = self.lines[path], self.classes["Machine"]
        methods = [one for one in node.body if isinstance(one, Function)]
        return max(len(lines & set(range(one.body[0].lineno, (one.end_lineno or 0) + 1))) for one in methods)

    def _function_sizes(self) -> list[int]:
        return [
            len(self.lines[path] & set(range(node.lineno, (node.end_lineno or 0) + 1)))
            for path, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, Function)
        ]

    def _constants(self) -> list[tuple[str, str]]:
        """Return numeric module constants outside simulation and validation, and what is written of them."""
        found = []
        for path, tree in self.trees.items():
            place = path.relative_to(self.package).as_posix()
            if place.startswith(("simulation/", "validation/", "plots/", "instruments/")):
                continue
            text = self.sources[path].splitlines()
            for node in tree.body:
                if not isinstance(node, ast.Assign) or not is_number(node.value):
                    continue
                comment = comment_on(node, text)
                found += [(f"{place}: {ast.unparse(target)}", comment) for target in node.targets]
        return found


def comment_on(node: ast.Assign, text: list[str]) -> str:
    """Return the lines that speak of a constant: the comment above it, its own lines, and a text below it."""
    above, below = node.lineno - 2, node.end_lineno or node.lineno
    while above >= 0 and text[above].startswith("#"):
        above -= 1
    if below < len(text) and text[below].startswith('"""'):
        below = next(i for i, line in enumerate(text[below:], below + 1) if line.endswith('"""'))
    return "\n".join(text[above + 1 : below])


def kind_of(comment: str) -> str:
    """Return which kind of number that is not tuned a comment says it is; nothing for a tuned one."""
    found = _KIND.search(comment)
    return found[1] if found else ""


def has_source(comment: str) -> bool:
    """Return whether a comment says where a number comes from, or that it is not tuned."""
    return bool(kind_of(comment) or _SOURCE.search(comment))


def is_number(node: ast.expr) -> bool:
    """Return whether an expression is a number, or a tuple of them."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return False
    values = value if isinstance(value, tuple) else (value,)
    return bool(values) and all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)


def checkout(revision: str, folder: Path) -> Path:
    """Unpack the package as it was at a commit."""
    packed = subprocess.run(["git", "archive", revision, "bayesprf"], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def main(revisions: list[str]) -> None:
    """Print the figures as a Markdown table, one column per commit and one for the files as they are."""
    columns = {}
    for revision in revisions:
        with tempfile.TemporaryDirectory() as folder:
            columns[revision] = House(checkout(revision, Path(folder))).figures()
    columns["now"] = House(ROOT).figures()
    print("| | " + " | ".join(columns) + " |\n|" + " --- |" * (len(columns) + 1))
    for name in columns["now"]:
        print(f"| {name} | " + " | ".join(figures[name] for figures in columns.values()) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
