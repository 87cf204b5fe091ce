"""The scale of the catalogue's fluxes is free: no answer may depend on it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from bayesprf import Machine
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import SimulatedField, make_field

SCENES = {
    "one star": {"n_source": 1, "n_stamp": 1, "stamp_sides": (9,), "mag_range": (12.0, 12.0)},
    "few stars": {"n_source": 7, "layout": "image", "image_shape": (15, 15), "mag_range": (12.0, 15.0)},
    "a crowd": {"n_source": 30, "layout": "image", "image_shape": (15, 15), "mag_range": (12.0, 16.0)},
}
FACTORS = (0.001, pytest.param(1e6, marks=pytest.mark.slow))


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
    getattr(machine, stage)()
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


def test_faint_stars_off_the_pixels_do_not_set_the_scale():
    """Their fluxes are not determined: with a hundred of them the scale was 4e5 and total errors 13 times the flux."""
    shape = {"n_source": 8, "n_time": 5, "n_stamp": 6, "mag_range": (11.0, 13.0), "stamp_fill": 0.02}
    scene, rng = make_field(rng=np.random.default_rng(5), **shape), np.random.default_rng(0)
    sources, count = scene.sources, 100
    places = [rng.uniform(one.min(), one.max(), count) for one in (sources.ra_deg, sources.dec_deg)]
    faint = SourceTable(
        (*sources.source_id, *(f"faint-{one}" for one in range(count))),
        np.append(sources.ra_deg, places[0]), np.append(sources.dec_deg, places[1]),
        np.append(sources.flux, np.full(count, 1e-3 * sources.flux.min())),
    )  # fmt: skip
    machine = Machine.from_pixels(scene.pixels, faint, quiet=True)
    machine.build_shape_model(method="joint")
    machine.fit_model(n_threads=1)
    machine.fit_common_errors()
    assert machine.fit.prf.scale == pytest.approx(1.0, rel=0.03)
    assert np.all(machine.werrs_total[:, :8] < 0.1 * scene.mean_flux)
