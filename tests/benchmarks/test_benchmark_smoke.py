"""What the package promises about speed and memory, measured. Run with ``pytest -m benchmark``.

The peer's Python is taken from BAYESPRF_PEER_PYTHON or .venv-peer (tests/benchmarks/make_peer_env.sh makes it).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

_HERE = Path(__file__).parent
_PEER = Path(os.environ.get("BAYESPRF_PEER_PYTHON", _HERE.parents[1] / ".venv-peer" / "bin" / "python"))


@pytest.fixture(scope="module")
def compare(tmp_path_factory):
    """Return a function that runs the comparison and gives its figures."""

    def run(*arguments):
        path = tmp_path_factory.mktemp("figures") / "figures.json"
        command = [sys.executable, _HERE / "compare.py", "--peer-python", _PEER, "--json", path, *arguments]
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
        return json.loads(path.read_text())

    return run


def _need_peer():
    if not _PEER.exists():
        pytest.skip(f"the peer's environment {_PEER} is missing: tests/benchmarks/make_peer_env.sh makes it")


def _by_stage(figures):
    return {one["stage"]: one for one in figures["records"]}


@pytest.mark.parametrize("case", ["small", "medium", "crowded"])
def test_same_problem_same_numbers(compare, case):
    _need_peer()
    figures = compare("--cases", case, "--rounds", "1", "--stages", "kernel")
    mean, std = _by_stage(figures)["fit, same design and prior"]["difference"]
    assert mean < 1e-8
    assert std < 1e-8


def test_moving_problem_same_numbers(compare):
    _need_peer()
    figures = compare("--cases", "medium", "--rounds", "1", "--stages", "kernel_va")
    mean, std = _by_stage(figures)["fit with time model, same design and prior"]["difference"]
    assert mean < 1e-8
    assert std < 1e-8


@pytest.fixture(scope="module")
def quarter(compare):
    """Return the stages of the quarter case."""
    _need_peer()
    return _by_stage(compare("--cases", "quarter", "--rounds", "3"))


def test_fit_of_a_quarter_is_fast(quarter):
    assert quarter["fit, same design and prior"]["ratio"] > 300


def test_shape_model_of_a_quarter_is_fast(quarter):
    assert quarter["build_shape_model"]["ratio"] > 3


def test_whole_job_is_lean(compare):
    job = compare("--cases", "", "--alone", "job")["alone"]["job"]["job"]
    assert job["process_peak_mb"] < 2.5 * job["arrays_mb"]
    assert job["cpu"] < 20


def test_twenty_thousand_sources(compare):
    scale = compare("--cases", "", "--alone", "scale")["alone"]["scale"]
    stages = [scale[name] for name in ("machine", "shape", "fit")]
    assert sum(one["cpu"] for one in stages) < 60
    assert max(one["peak_mb"] for one in stages) < 6000
