"""The slope of the wing."""

from dataclasses import replace

import numpy as np
import pytest
from known_stars import pixels_of, truth

from bayesprf.prf.rounds.wing import fit_wing
from bayesprf.prf.star_pixels import StarPixels


@pytest.mark.parametrize("slope", [-2.8, -3.3, -4.2])
def test_slope_of_the_wing_is_found(slope):
    prf = truth(wing_slope=slope)
    training = pixels_of(prf, radius=60.0)
    training = replace(training, flux=training.flux * 1e3, light=training.light * 1e3)
    far = np.hypot(training.dx, training.dy) > 16.0
    _, found, error = fit_wing(prf.with_wing(-3.5), training.select(far), 1e-3)
    assert found == pytest.approx(slope, abs=0.05)
    assert 0 < error < 0.05


def test_wing_without_pixels_is_the_prior():
    nothing = StarPixels(np.zeros(0, np.int64), *(np.zeros(0) for _ in range(5)))
    _, found, error = fit_wing(truth(), nothing, 1e-3, prior=(-3.1, 0.4))
    assert (found, error) == pytest.approx((-3.1, 0.4))
