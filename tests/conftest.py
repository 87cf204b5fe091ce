"""Marks by folder: `pytest -m fast` runs what takes no more than moments, under 90 s in all."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
FAST = (
    "architecture", "contracts", "properties/test_solver_properties.py",
    "unit/design", "unit/instruments", "unit/io", "unit/linalg", "unit/prf", "unit/results", "unit/scene",
    "unit/test_foundations.py", "unit/test_stats.py",
)  # fmt: skip
NOT_FAST = {"slow", "network", "benchmark"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        if place.startswith(FAST) and not NOT_FAST & {mark.name for mark in item.iter_markers()}:
            item.add_marker("fast")
