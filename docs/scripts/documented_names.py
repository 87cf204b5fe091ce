"""Make docs/evidence/documented_names.md: attributes of Machine, documented names, and the tests that cover them.

Run as ``python docs/scripts/documented_names.py`` from the repository's root. The attributes are the rows that
`bayesprf.machine` declares; the documented names and their tests are in tests/reference/documented_names.json. A test
keeps class, list, tests and page together.
"""

import json
from pathlib import Path
from typing import Any

from bayesprf.attributes import Result, Setting
from bayesprf.machine import Machine

ROOT = Path(__file__).parents[2]
NAMES = ROOT / "tests" / "reference" / "documented_names.json"
PAGE = ROOT / "docs" / "evidence" / "documented_names.md"

HEAD = """# Documented names

Every argument of the constructor, attribute, method and method parameter that the documentation of PSFMachine's
`Machine` names exists here, in the same order and with the same default. This table names the tests that cover each:
they change the argument and see the documented change. It is made by `docs/scripts/documented_names.py` from
`tests/reference/documented_names.json`; `tests/architecture/test_documented_names.py` compares that list with the
class and with the tests that exist. Arguments that bayesprf adds can be given by keyword only. The first table, made
from the class itself, holds all attributes of a `Machine`, those of bayesprf too.
"""


def load_names() -> dict[str, Any]:
    """Return the documented names by their kind."""
    return json.loads(NAMES.read_text())


def build_page(names: dict[str, Any]) -> str:
    """Return the page as markdown."""
    sections = [
        HEAD,
        _attributes(),
        _section("Constructor", names["constructor"]),
        _section("Attributes", names["attributes"]),
        _section("Results that methods set", names["results"]),
    ]
    for method in names["methods"]:
        own = {"name": f"{method['name']}()", "tests": method["tests"]}
        sections.append(_section(f"Method `{method['name']}`", [own, *method["parameters"]]))
    return "\n".join(sections)


def _attributes() -> str:
    """Return the table of all attributes of Machine, as the class declares them."""
    lines = ["## All attributes", "", "| name | set by | what it is |", "| --- | --- | --- |"]
    for name, one in vars(Machine).items():
        if name.startswith("_") or not isinstance(one, Result | Setting | property):
            continue
        lines.append(f"| `{name}` | {_origin(one)} | {_first_sentence(one)} |")
    return "\n".join([*lines, ""])


def _first_sentence(one: Any) -> str:
    return " ".join((one.__doc__ or "").split("\n\n")[0].split())


def _origin(one: Any) -> str:
    if isinstance(one, Result):
        return f"`{one.method}`".replace(" or ", "` or `") if one.method else "the data"
    return "a method, or when first read" if isinstance(one, property) else "you, at any time"


def _section(title: str, entries: list[dict[str, Any]]) -> str:
    lines = [f"## {title}", "", "| name | default | tests |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(_line(entry) for entry in entries), ""])


def _line(entry: dict[str, Any]) -> str:
    default = f"`{entry['default']!r}`" if "default" in entry else ""
    tests = "<br>".join(f"`{one.removeprefix('tests/')}`" for one in entry["tests"])
    return f"| `{entry['name']}` | {default} | {tests} |"


if __name__ == "__main__":
    PAGE.write_text(build_page(load_names()))
