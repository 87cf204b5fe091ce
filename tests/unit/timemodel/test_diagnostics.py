"""Training pixels in bins of the pointing."""

import numpy as np
from rolling_stars import rolling_machine

from bayesprf.timemodel.diagnostics import bin_by_pointing


def test_pixels_follow_the_model_along_the_roll():
    machine, field = rolling_machine()
    machine.build_time_model(positions="centroid")
    bins = bin_by_pointing(field.pixels, machine.fit.prf, machine.fit.time_model)
    assert bins.data.shape == bins.model.shape == (24, bins.dx.size)
    assert np.all(np.diff(bins.pointing) > 0)
    assert np.ptp(bins.pointing) > 0.6
    change = np.where(bins.used, bins.data - 1.0, 0.0)
    left = np.where(bins.used, bins.data - bins.model, 0.0)
    assert change.std() > 0.1
    assert left.std() < 0.15 * change.std()
    np.testing.assert_allclose(bins.data.mean(axis=0), 1.0, rtol=1e-12)
