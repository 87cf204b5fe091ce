"""Where the real files are."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the directory of the real files: BAYESPRF_TEST_DATA, or ../shared/data beside the repository.

    Absent files skip the test, except where CI=true: there they are a failure.
    """
    named = os.environ.get("BAYESPRF_TEST_DATA")
    path = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    if path.is_dir():
        return path
    message = f"no real files at {path}; set BAYESPRF_TEST_DATA"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)
