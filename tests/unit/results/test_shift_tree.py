"""The shift of the PRF in the results' tree."""

import numpy as np

from bayesprf import Machine
from bayesprf.instruments import K2
from bayesprf.simulation.fields import make_field


def sawtooth(time):
    """Roll by 0.8 pixel every six hours."""
    phase = np.modf((time - time[0]) / 0.25)[0] - 0.5
    return np.stack([0.7 * phase, -0.4 * phase], axis=1)


def test_the_shift_is_in_the_tree_and_in_every_picture_of_the_prf(tmp_path):
    field = make_field(
        n_source=8, n_stamp=8, n_time=120, mag_range=(12.0, 13.5), stamp_sides=(9,), drift=sawtooth, instrument=K2,
        rng=np.random.default_rng(2),
    )  # fmt: skip
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint")
    machine.build_time_model(positions="centroid")
    machine.fit_model(fit_va=True)
    tree = machine.to_datatree()
    group, fit = tree["time_model"], machine.fit.time_model
    np.testing.assert_array_equal(group["shift"].values, fit.shift.motion)
    nodes = fit.shift.prf.at_nodes(
        fit.shift.grid, fit_pairs(machine).source, fit_pairs(machine).dx, fit_pairs(machine).dy
    )
    parts = group["shift_combine"].values @ (nodes / group["shift_sums"].values[:, fit_pairs(machine).source])
    np.testing.assert_allclose(
        group["shift_mix"].values @ parts / tree["shape"]["prf_sum"].values[fit_pairs(machine).source],
        [one.data for one in machine.perturbed_model(np.arange(120))],
        atol=1e-12,
    )
    light = group["shift_mix"].values[:, : group.sizes["light_part"]] @ group["moving_light"].values
    np.testing.assert_allclose(light + group["moving_light_constant"].values, fit.light.image())
    left = machine.model_flux - field.pixels.flux
    assert np.median(np.abs(left)) < 2 * np.median(field.pixels.flux_err)
    machine.get_psf_metrics()
    assert np.all(np.isfinite(machine.perturbed_std))
    np.testing.assert_allclose(machine.P.model(3)[0] * machine.mean_model.data, machine.perturbed_model(3).data)


def fit_pairs(machine):
    return machine.fit.prf.pairs
