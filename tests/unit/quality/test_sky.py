"""Sky left in the pixels is measured, whatever the PRF made of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.flags import QualityFlag
from bayesprf.prf.fit import SkyFound
from bayesprf.quality.sky import SkyTest, measure_sky, prefer_told


def test_sky_is_measured(cases):
    """20 electron / s; wings have taken a third and more of it, so that fluxes are too large by as much as is said."""
    field, machine = cases.fitted("sky")
    excess = machine.ws.mean(axis=0) - field.mean_flux
    assert np.median(excess / field.mean_flux) > 0.01
    found, verdict = measure_sky(cases.residuals("sky")), cases.verdict("sky")
    assert 5.0 < found.level < 20.0
    assert found.scatter < 2.0
    assert verdict.field["sky_left"] == pytest.approx(20.0, rel=0.02)
    bright = field.mean_flux > np.median(field.mean_flux)
    told = (verdict.sources["flux_from_sky"] * machine.ws.mean(axis=0) / excess)[bright]
    assert np.median(told) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("told", "level", "shift"),
    [
        (None, (1.7, 0.6), 34.0),
        (SkyFound(2.6, 0.3), (2.6, 0.3), 52.0),
        (SkyFound(2.6, 0.3, np.array([955.0])), (2.6, 0.3), 45.0),
    ],
)
def test_a_sky_that_the_fit_told_from_wings_counts(told, level, shift):
    """2.6 +- 0.3 electron / s, of which residuals said 1.7 +- 0.6, and the fluxes that are without it."""
    prf = SimpleNamespace(sky_found=told, flux=np.array([1000.0]))
    sky, error = prefer_told(SkyTest(1.7, 0.1, np.array([34.0]), csr_matrix((1, 3))), 0.6, prf)
    assert (sky.level, error) == level
    assert sky.shift == pytest.approx([shift])


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
