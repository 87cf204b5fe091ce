"""Marks by folder: `pytest -m fast` runs what takes no more than moments; two processes run the whole suite."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAST = (
    "architecture", "contracts", "properties/test_solver_properties.py",
    "unit/design", "unit/instruments", "unit/io", "unit/linalg", "unit/prf", "unit/results", "unit/scene",
    "unit/test_foundations.py", "unit/test_stats.py",
)  # fmt: skip
NOT_FAST = {"slow", "network", "benchmark"}
# Files of these folders that fit whole fields.
WHOLE = ("unit/prf/joint/test_settling.py", "unit/prf/joint/test_choice.py")
# Files that take longest come first, those of FAST last, so that no process waits at the end for the other's last file.
LONG = ("simulation", "real", "unit/test_batch.py", "fuzz", "unit/photometry/test_background.py", "unit/validation")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        if (
            place.startswith(FAST)
            and not place.startswith(WHOLE)
            and not NOT_FAST & {mark.name for mark in item.iter_markers()}
        ):
            item.add_marker("fast")
    items.sort(key=lambda item: when(item.path.relative_to(HERE).as_posix()))


def when(place):
    """Return when a file is run among the others."""
    return next((i for i, one in enumerate(LONG) if place.startswith(one)), len(LONG) + place.startswith(FAST))


def pytest_xdist_auto_num_workers(config):
    """Two processes for the whole suite; none where files are named, or where speed and memory are measured."""
    whole = config.args == config.getini("testpaths") or config.invocation_params.args == ()
    measured = "not benchmark" not in config.option.markexpr and "benchmark" in config.option.markexpr
    return 2 if whole and not measured else 0
