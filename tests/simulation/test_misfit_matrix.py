"""The fast part of the misfit matrix: families of PRF that are not our own, by plain `build_shape_model`."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bayesprf.simulation.foreign import make_foreign

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "misfit_matrix.py"


@pytest.fixture(scope="module")
def matrix():
    spec = importlib.util.spec_from_file_location("misfit_matrix", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
@pytest.mark.parametrize(
    ("family", "seeds"), [("double Moffat", (51, 52)), pytest.param("width 1 %", (51,), marks=pytest.mark.slow)]
)
def test_isolated_stars_of_foreign_families(matrix, family, seeds):
    """Fields of 200 stars: the median to 0.3 %, and coverage not worse than it was.

    The stars of a field share the error of its PRF, so that two fields alone cover 46 to 95 % (seeds 11, 41, 51): these
    are bounds of what was measured, not of what is aimed at. Where misfit is no longer taken for light of no star,
    fluxes of "width 1 %" err by 0.06 instead of 0.14 %, while the light that no pixel tells of, 0.1 % where positions
    are held, is claimed as before: 95 % are covered instead of 72.
    """
    settings, prf_at, troubles, _ = matrix.JUDGE[family]
    bias, claimed = [], []
    for seed in seeds:
        field = make_foreign(settings, prf_at, rng=np.random.default_rng(seed), troubles=troubles)
        mask, *found = matrix.score(field, *matrix.fit_build(field, 0)[:2])["isolated"]
        bias.append(found[0][mask])
        claimed.append(found[1][mask])
    size = np.abs(np.concatenate(bias) / np.concatenate(claimed))
    assert abs(np.median(np.concatenate(bias))) < 0.003
    assert 0.4 < np.mean(size < 0.994) < 0.97
    assert np.mean(size < 1.96) > 0.75
