"""The quoted cadence-to-cadence error is the scatter that the light curves of a static scene have."""

from functools import cache

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.simulation.fields import make_case

SEEDS = pytest.mark.parametrize("seed", [0, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 2))])


@cache
def fit(seed):
    """Return field and Machine of a static scene: 80 stars, 200 cadences.

    Of 16,000 residuals the standard deviation is known to 0.6 %, the shares within the intervals to 0.4 and 0.2 %: the
    bounds below are five of these.
    """
    field = make_case("medium", np.random.default_rng(seed), n_source=80, n_stamp=70, n_time=200)
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    return field, machine


def normalised_residuals(machine):
    """Return residuals from each source's own mean over the quoted error, freed of the mean's own share."""
    n_time = machine.ws.shape[0]
    residual = (machine.ws - machine.ws.mean(axis=0)) * np.sqrt(n_time / (n_time - 1.0))
    return residual / machine.werrs


@SEEDS
def test_residuals_have_the_quoted_error(seed, record_property):
    z = normalised_residuals(fit(seed)[1])
    covered = {share: float(np.mean(np.abs(z) < limit)) for share, limit in ((68, 1.0), (95, 1.96))}
    record_property("residual / quoted error, standard deviation", f"{z.std():.4f}")
    record_property("intervals of 68 % cover", f"{100 * covered[68]:.2f} %")
    record_property("intervals of 95 % cover", f"{100 * covered[95]:.2f} %")
    assert z.std() == pytest.approx(1.0, abs=0.03)
    assert 0.66 <= covered[68] <= 0.70
    assert 0.94 <= covered[95] <= 0.96


@SEEDS
def test_no_single_source_is_far_off(seed):
    """Each source's own standard deviation has a sampling error of 5 % with 200 cadences; none is beyond five."""
    z = normalised_residuals(fit(seed)[1])
    np.testing.assert_allclose(z.std(axis=0), 1.0, atol=0.25)


@SEEDS
def test_scatter_is_near_the_least_possible(seed, record_property):
    """Beside the Cramer-Rao bound of the true PRF, relative to the flux: median and most of the sources."""
    field, machine = fit(seed)
    ratio = machine.ws.std(axis=0, ddof=1) / machine.ws.mean(axis=0) / (field.cramer_rao() / field.mean_flux)
    record_property("scatter / Cramer-Rao bound, median", f"{np.median(ratio):.4f}")
    record_property("scatter / Cramer-Rao bound, root mean square", f"{np.sqrt(np.mean(ratio**2)):.4f}")
    assert np.median(ratio) < 1.05
    assert np.percentile(ratio, 90) < 1.15
