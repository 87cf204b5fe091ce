"""What one does with a Machine every day: look at it, save it, hand its light curves on."""

import copy

import numpy as np
import pytest

from bayesprf.errors import InputError, StageError
from bayesprf.io.lightcurves import to_lightkurve
from bayesprf.io.save import load_tree
from bayesprf.machine import Machine
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(1), n_source=4, n_time=6, n_stamp=4, mag_range=(11.0, 12.5), stamp_fill=0.02
    )


@pytest.fixture(scope="module")
def machine(field):
    made = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    made.build_shape_model()
    made.fit_model()
    return made


def test_repr_says_size_stages_scatter_and_flags(field, machine):
    assert repr(Machine.from_pixels(field.pixels, field.sources, quiet=True)).endswith("sources: 4; stages: none yet>")
    text = repr(machine)
    assert text.startswith(f"<Machine: pixels: Kepler, 6 cadences x {field.pixels.n_pixel} pixels; sources: 4;")
    assert "stages: prf, flux" in text
    assert f"PRF scatter: {machine.fit.prf.intrinsic_scatter:.3g} dex" in text
    assert "flags: " in text
    assert machine._repr_html_().count("<tr>") == 5


def test_save_and_light_curves_are_those_of_the_tree(machine, tmp_path):
    path = machine.save(tmp_path / "field.nc")
    np.testing.assert_array_equal(load_tree(path)["photometry/flux"], machine.ws)
    written = machine.to_fits(tmp_path / "curves", sources=["star-00002", 0])
    assert [one.name for one in written] == ["star-00002.fits", "star-00000.fits"]
    curve = machine.to_lightkurve("star-00002")
    np.testing.assert_array_equal(curve.flux.value, machine.ws[:, 2])
    assert curve.label == to_lightkurve(machine.to_datatree(), "star-00002").label
    assert [one.label for one in machine.to_lightkurve([3, 1])] == ["star-00003", "star-00001"]


def test_light_curves_need_fluxes_and_known_names(field, machine, tmp_path):
    with pytest.raises(StageError, match=r"call fit_model\(\) first"):
        Machine.from_pixels(field.pixels, field.sources, quiet=True).to_fits(tmp_path)
    with pytest.raises(InputError, match="got 'star-7'"):
        machine.to_lightkurve("star-7")


def test_a_copy_shares_nothing_that_changes(machine):
    flux = machine.ws
    for other in (copy.copy(machine), copy.deepcopy(machine)):
        other.rmax = 12.0
        assert other.fit.prf is None
        assert machine.rmax == 16.0
        assert machine.ws is flux
