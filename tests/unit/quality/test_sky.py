"""Sky left in the pixels is measured, whatever the PRF made of it."""

import numpy as np
import pytest

from bayesprf.flags import QualityFlag
from bayesprf.quality.sky import measure_sky


def test_sky_is_measured(cases):
    """20 electron / s to 20 %; the PRF has swallowed most of it, so that fluxes are too large."""
    field, machine = cases.fitted("sky")
    assert np.median(machine.ws.mean(axis=0) / field.mean_flux) > 1.01
    found = measure_sky(cases.residuals("sky"))
    assert found.level == pytest.approx(20.0, rel=0.2)
    assert found.scatter < 2.0
    excess = machine.ws.mean(axis=0) - field.mean_flux
    assert np.median(found.shift / excess) == pytest.approx(1.0, abs=0.5)


def test_no_sky(cases):
    found = measure_sky(cases.residuals())
    assert abs(found.level) < 1.0
    assert found.test.shape == (1, cases.residuals().ivar.size)


def test_finding_names_the_cure(cases):
    finding = cases.verdict("sky").find(QualityFlag.SKY_LEFT)
    assert finding.sources.sum() > 5
    assert "electron / s each" in finding.sentence
    assert "background='stamp'" in finding.cure
    assert cases.verdict().find(QualityFlag.SKY_LEFT) is None
