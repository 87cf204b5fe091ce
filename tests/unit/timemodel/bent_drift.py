"""Twenty-four stars that drift by 0.2 pixel or move as asked, for the tests of time columns and of the stage."""

import numpy as np

from bayesprf import Machine
from bayesprf.simulation.fields import make_field


def drift(time):
    """Move by 0.2 pixel."""
    u = (time - time[0]) / (time[-1] - time[0])
    return 0.2 * np.stack([u, 0.5 * u * u], axis=1)


def simulate(moves, instrument=None, n_time=150):
    others = {} if instrument is None else {"instrument": instrument}
    return make_field(
        n_source=24, n_stamp=24, n_time=n_time, mag_range=(12.0, 14.5), stamp_sides=(7, 8), drift=moves,
        rng=np.random.default_rng(7), **others,
    )  # fmt: skip


def build(field):
    machine = Machine.from_pixels(field.pixels, field.sources)
    machine.build_shape_model(method="joint")
    return machine
