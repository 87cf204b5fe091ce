"""The walks of the architecture page name files and functions that exist, and the table of places all of them."""

import re
from pathlib import Path

import bayesprf

PACKAGE = Path(bayesprf.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "contributing" / "architecture.md").read_text()
STEP = re.compile(r"^\d+\. `([\w/]+\.py)` `(\w+)`", re.MULTILINE)


def test_every_step_of_a_walk_exists():
    steps = STEP.findall(PAGE)
    assert len(steps) == 27
    for file, name in steps:
        assert re.search(rf"^(def|class) {name}\b", (PACKAGE / file).read_text(), re.MULTILINE), f"{file} has no {name}"


def test_the_table_has_every_place():
    listed = set(re.findall(r"`(\w+(?:\.py|/))`", PAGE.split("## Fit")[0]))
    folders = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "testing.py"}
    assert (folders | files) - listed == set()
