"""The scale of the catalogue's fluxes is free: no answer may depend on it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from bayesprf import Machine
from bayesprf.simulation.fields import SimulatedField, make_field

SCENES = {
    "one star": {"n_source": 1, "n_stamp": 1, "stamp_sides": (9,), "mag_range": (12.0, 12.0)},
    "few stars": {"n_source": 7, "layout": "image", "image_shape": (15, 15), "mag_range": (12.0, 15.0)},
    "a crowd": {"n_source": 30, "layout": "image", "image_shape": (15, 15), "mag_range": (12.0, 16.0)},
}
FACTORS = (0.001, 1e6)


@cache
def make_scene(name: str) -> SimulatedField:
    return make_field(rng=np.random.default_rng(11), n_time=5, position_angle=0.0, **SCENES[name])


def through_tables(scene: SimulatedField, factor: float) -> Machine:
    """Build the Machine as `read_tpfs` and `read_catalog` lead to it."""
    sources = replace(scene.sources, flux=scene.sources.flux * factor)
    return Machine.from_pixels(scene.pixels, sources, quiet=True)


def through_arrays(scene: SimulatedField, factor: float) -> Machine:
    """Build the Machine by its documented constructor."""
    pixels, sources = scene.pixels, scene.sources
    frame = pd.DataFrame({"ra": sources.ra_deg, "dec": sources.dec_deg, "phot_g_mean_flux": sources.flux * factor})
    arrays = (pixels.time, pixels.flux, pixels.flux_err, pixels.ra_deg, pixels.dec_deg)
    return Machine(*arrays, frame, pixels.column, pixels.row, cut_r=3.0, quiet=True)


@cache
def fitted(name: str, entrance, stage: str, factor: float) -> Machine:
    machine = entrance(make_scene(name), factor)
    getattr(machine, stage)(n_round=3)
    machine.fit_model()
    return machine


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("stage", ["build_shape_model", "refine_scene"])
@pytest.mark.parametrize("entrance", [through_tables, through_arrays])
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.filterwarnings("ignore:refine_scene. a star still moved")
def test_fluxes_do_not_follow_the_scale_of_the_catalogue(name, entrance, stage, factor):
    one, other = fitted(name, entrance, stage, 1.0), fitted(name, entrance, stage, factor)
    np.testing.assert_allclose(other.ws, one.ws, rtol=1e-9, atol=1e-9 * np.nanmax(one.ws))
    np.testing.assert_allclose(other.werrs_total, one.werrs_total, rtol=1e-7)
    np.testing.assert_array_equal(other.flags, one.flags)
