"""KIC 6804648: an eclipse of 3.5 electron / s seen beside a bright star belongs to the faint one two pixels away.

Period, epoch, duration and the place of the faint star are those of the description of the file, found there from
difference images; the bright star's own aperture shows nothing (-14 +- 34 ppm).
"""

import numpy as np
import pytest
from scipy.ndimage import median_filter

import bayesprf as bp
from bayesprf.scene.pairs import offsets

pytestmark = pytest.mark.real

PERIOD, EPOCH, DURATION = 0.700606, 131.59767, 0.993 / 24.0
EXPOSURE = 0.0204


@pytest.fixture(scope="module")
def machine(real_data):
    pixels = bp.read_tpfs(real_data / "kepler-tpf" / "long" / "kplr006804648-q10-1000cad.fits.gz")
    sources = bp.SourceTable(("target", "faint"), [298.48257, 298.48589], [42.24038, 42.24003], [1e5, 1e3])
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    return machine


def eclipse(time, shift=0.0):
    """Return the shape of the eclipse, smeared by the exposure."""
    phase = np.mod(time - EPOCH - shift + PERIOD / 2, PERIOD) - PERIOD / 2
    return np.clip((DURATION / 2 + EXPOSURE / 2 - np.abs(phase)) / EXPOSURE, 0.0, 1.0)


def test_the_eclipse_is_the_faint_stars(machine, record_property):
    host = machine.which_source(eclipse(machine.time))
    record_property("log Bayes factors, target and faint star", f"{host.log_bayes_factor.round(1)}")
    record_property("dip, electron / s", f"{host.dip[1]:.2f} +- {host.dip_err[1]:.2f}")
    assert host.best == "faint"
    assert host.probability[1] > 0.999999
    assert 3.0 < host.dip[1] < 9.0
    assert host.log_bayes_factor[1] > 20.0
    assert host.log_bayes_factor[0] < 0.0


def test_the_target_is_flat(machine, record_property):
    host = machine.which_source(eclipse(machine.time))
    depth, error = 1e6 * host.dip[0] / machine.ws[:, 0].mean(), 1e6 * host.dip_err[0] / machine.ws[:, 0].mean()
    record_property("depth of the target, ppm", f"{depth:.0f} +- {error:.0f}")
    assert abs(depth) < 3.0 * error
    assert error < 50.0


@pytest.mark.parametrize("phase", [0.25, 0.75])
def test_a_quarter_of_the_period_off_there_is_no_event(machine, phase):
    host = machine.which_source(eclipse(machine.time, phase * PERIOD))
    assert host.log_bayes_factor.max() < 2.0


def test_half_a_period_off_the_faint_star_dims_again(machine, record_property):
    """A second eclipse, two thirds as deep: nobody told, and it is the same star's."""
    host = machine.which_source(eclipse(machine.time, 0.5 * PERIOD))
    record_property("second dip, electron / s", f"{host.dip[1]:.2f} +- {host.dip_err[1]:.2f}")
    assert host.log_bayes_factor[1] > 5.0
    assert host.log_bayes_factor[0] < 0.0


def test_the_light_curves_show_it(machine):
    """The plain mean in and out of eclipse, with nothing but a running median, says the same."""
    inside, outside = (eclipse(machine.time) == one for one in (1.0, 0.0))
    flat = machine.ws - median_filter(machine.ws, (25, 1))
    dip = flat[outside].mean(axis=0) - flat[inside].mean(axis=0)
    error = 1.4826 * np.median(np.abs(flat[outside]), axis=0) / np.sqrt(inside.sum())
    assert dip[1] > 5.0 * error[1]
    assert abs(dip[0]) < 3.0 * error[0]


def test_the_eclipse_lies_on_the_faint_star(machine, record_property):
    """The quoted place is the centre of light of a difference image, without an error: half a pixel is asked for."""
    found = machine.event_position(eclipse(machine.time))
    quoted = (298.48589, 42.24003)
    east, north = (float(one[0]) for one in offsets(*(np.array([one]) for one in (*found.best, *quoted))))
    record_property("from the quoted place, arcsec", f"{east:.2f}, {north:.2f} +- {found.std.round(2)}")
    record_property("area of the 95 % region, arcsec2", f"{found.area():.1f}")
    assert np.hypot(east, north) < 0.5 * 3.98
    assert found.area() < 0.5 * 3.98**2
    assert not found.contains(298.48257, 42.24038, level=0.9999)
    assert 4.0 < found.dip < 10.0
