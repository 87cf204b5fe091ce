"""Crowds whose catalogue ends early: the light of all that it lacks is said, and fluxes err by it."""

import numpy as np
import pytest

from bayesprf.flags import QualityFlag
from bayesprf.machine import Machine
from bayesprf.prf.unlisted.peaks import lacks_most
from bayesprf.settings import Background
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import CASES, replace

LISTED = 40


@pytest.mark.slow
def test_where_stars_without_names_are_everywhere_it_is_said_and_fluxes_err_by_it():
    settings = replace(CASES["ffi"], n_source=400, image_shape=(40, 40), reach_level=1e-5)
    field = make_field(settings, rng=np.random.default_rng(3))
    bright = np.argsort(-field.mean_flux)[:LISTED]
    machine = Machine.from_pixels(
        field.pixels, field.sources.select(bright), quiet=True, background=Background("image", order=0)
    )
    machine.build_shape_model(method="joint", field_variation=0)
    machine.fit_model()
    joint = machine.fit.need("prf").joint
    assert lacks_most(joint)
    assert joint.found is None
    finding = machine.verdict.find(QualityFlag.UNCATALOGUED_LIGHT)
    assert finding.sentence.startswith("stars that the catalogue lacks light all pixels, by")
    assert np.count_nonzero(finding.sources) >= LISTED - 2
    z = (machine.ws[0] - field.mean_flux[bright]) / machine.werrs_total[0]
    assert np.mean(np.abs(z) < 2.0) > 0.8
