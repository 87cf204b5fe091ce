"""A K2-like field whose stars roll by most of a pixel."""

import numpy as np

from bayesprf import Machine
from bayesprf.instruments import K2
from bayesprf.simulation.fields import make_field


def sawtooth(time):
    """Roll by 0.8 pixel every six hours."""
    phase = np.modf((time - time[0]) / 0.25)[0] - 0.5
    return np.stack([0.7 * phase, -0.4 * phase], axis=1)


def rolling_machine():
    """Return a Machine with the PRF of eight rolling stars, and their field."""
    field = make_field(
        n_source=8, n_stamp=8, n_time=120, mag_range=(12.0, 13.5), stamp_sides=(9,), drift=sawtooth, instrument=K2,
        rng=np.random.default_rng(2),
    )  # fmt: skip
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint")
    return machine, field
