"""Stars that do not lie where the fit has them."""

import numpy as np
import pytest

from bayesprf.flags import QualityFlag
from bayesprf.quality.astrometry import measure_offsets


def test_offset_is_measured(cases):
    """The star was put 0.25 pixel too far north: it lies south by that, to a quarter, and loses light."""
    field, machine = cases.fitted("moved")
    found = measure_offsets(cases.residuals("moved"))
    assert found.offset[0, 1] == pytest.approx(-0.25 * 3.98, rel=0.25)
    assert abs(found.offset[0, 0]) < 0.1 * 3.98
    lost = found.loss[0] / machine.ws[:, 0].mean()
    assert lost == pytest.approx(1.0 - machine.ws[:, 0].mean() / field.mean_flux[0], abs=0.03)


def test_finding_names_the_star(cases):
    finding = cases.verdict("moved").find(QualityFlag.POSITION_OFF)
    assert 0 in np.flatnonzero(finding.sources)
    assert "refine_scene()" in finding.cure
    assert cases.verdict().find(QualityFlag.POSITION_OFF) is None
