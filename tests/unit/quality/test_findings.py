"""The sentences of the verdict."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.flags import QualityFlag
from bayesprf.quality.findings import _identity, rough
from bayesprf.quality.stage import measure_fit
from bayesprf.settings import QualityOptions


@pytest.mark.parametrize(
    ("value", "text"), [(118.0, "120"), (28.4, "28"), (0.00158, "0.0016"), (6.0, "6"), (0.0, "0"), (1530.0, "1500")]
)
def test_numbers_are_easily_read(value, text):
    assert rough(value) == text


def test_a_prf_that_is_none_of_a_star_is_said(cases):
    """Pixels of nothing but sky: what is fitted to them lies flat, and no star has half of its light on its pixels."""
    field = cases.fitted()[0]
    noise = np.random.default_rng(1).standard_normal(field.pixels.flux.shape) * field.pixels.flux_err
    machine = Machine.from_pixels(replace(field.pixels, flux=100.0 + noise), field.sources, quiet=True)
    machine.build_shape_model(refine=False, method="joint", field_variation=0)
    machine.fit_model(n_threads=1)
    finding = machine.verdict.find(QualityFlag.POOR_PRF)
    assert "the PRF is so wide that" in finding.sentence
    assert "check the positions of the catalogue" in finding.cure
    assert finding.sources.sum() > 5
    assert all(one.sources.any() for one in machine.verdict.findings)  # no sentence without a flag
    assert cases.verdict().find(QualityFlag.POOR_PRF) is None


def test_a_field_off_by_a_pixel_beside_few_stars_is_named(cases):
    """Other stars may stand for those of the catalogue, and too few form a pattern that would tell."""
    found = measure_fit(cases.fitted()[1].fit, QualityOptions())
    side = np.sqrt(found.left.prf.prf.pixel_area)
    off = replace(found, left=replace(found.left, prf=replace(found.left.prf, offset=(1.6 * side, 0.0))))
    few = next(_identity(replace(off, n_calibrator=1), QualityOptions()))
    assert "has all stars 1.6 pixel off the catalogue's positions" in few.sentence
    assert "lacks no bright star" in few.cure
    assert np.array_equal(few.sources, found.measured)
    assert not list(_identity(off, QualityOptions()))
