"""Make the helper modules of this folder importable, and share a field that drifts."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bent_drift import build, drift, simulate


@pytest.fixture(scope="module")
def machine():
    machine = build(simulate(drift))
    machine.build_time_model()
    return machine
