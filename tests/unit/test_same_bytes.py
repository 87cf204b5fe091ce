"""A fit saved twice is the same file, byte by byte, whatever number of BLAS threads the machine allows."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from bayesprf.machine import Machine
from bayesprf.simulation.fields import make_field

EPOCH = "1700000000"
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_same_bytes import fit_and_save
fit_and_save(sys.argv[2], n_source=150, n_stamp=80, n_time=100)
"""


def fit_and_save(path, **size):
    """Run every stage on a field, and save what it left."""
    field = make_field(rng=np.random.default_rng(4), **size)
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True, background="stamp")
    machine.refine_scene()
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    machine.fit_model(fit_va=True, widths=machine.learn_widths())
    machine.compute_aperture_photometry()
    machine.get_psf_metrics()
    machine.fit_light_curves(range(5))
    return machine.save(path)


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
def test_the_number_of_threads_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    for n_thread in (1, 4):
        with threadpool_limits(n_thread, "blas"):
            fit_and_save(tmp_path / f"{n_thread}.nc", n_source=30, n_stamp=20, n_time=40)
    assert (tmp_path / "1.nc").read_bytes() == (tmp_path / "4.nc").read_bytes()


@pytest.mark.slow
def test_processes_of_any_number_of_threads_write_the_same_bytes(tmp_path):
    found = set()
    for n_thread in ("1", "2", "4"):
        environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "PYTHONWARNINGS": "ignore"}
        environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), n_thread)
        path = tmp_path / f"{n_thread}.nc"
        command = [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), path]
        subprocess.run(command, check=True, env=environment, timeout=600)
        found.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(found) == 1
