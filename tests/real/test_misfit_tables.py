"""Foreign fields of the missions' own tables, by plain `build_shape_model`."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bayesprf.simulation.foreign import make_foreign

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "misfit_matrix.py"


@pytest.fixture(scope="module")
def matrix(real_data):
    spec = importlib.util.spec_from_file_location("misfit_matrix", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.DATA = real_data / "prf-models"
    return module


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
def test_sky_and_stars_where_the_catalogue_lacks_half_of_the_faint_ones(matrix):
    """The sky to 1 electron / s, the median flux to 1 %: it was 2 electron / s, and faint stars 3 to 6 % too faint.

    Light of missing stars only adds: the sky of the fluxes rose by it, while that of the joint fit did not.
    """
    settings, prf_at, troubles, _ = matrix.DEVELOP["TESS sky missing"]
    field = make_foreign(settings, prf_at(), rng=np.random.default_rng(24), troubles=troubles)
    machine = matrix.Machine.from_pixels(
        field.field.pixels, field.field.sources, quiet=True, background=matrix.Background("image", order=1)
    )
    machine.build_shape_model()
    machine.fit_model()
    assert np.max(np.abs(machine.background_flux.mean(axis=0) - field.sky)) < 1.0
    assert abs(np.median(machine.ws.mean(axis=0) / field.flux - 1.0)) < 0.01
