"""The sum rule: which PRFs obey it, its derivatives, and what a fit does with it."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.instruments import TESS
from bayesprf.prf.instrument_prior import instrument_prior
from bayesprf.prf.nominal import nominal_prf
from bayesprf.prf.pixel_phase import SUM_SIGMA, PixelPhases
from bayesprf.simulation.true_prf import asymmetric_prf

SIDE = 3.98
TURN = np.array([[np.cos(0.4), np.sin(0.4)], [-np.sin(0.4), np.cos(0.4)]])
AXES = SIDE * TURN


@pytest.fixture(scope="module")
def phases():
    return PixelPhases.around(AXES, 16.0)


@pytest.fixture(scope="module")
def prf():
    rng = np.random.default_rng(0)
    start = nominal_prf(PolarBasis(cut_r=3.0), SIDE**2)
    return replace(start, weights=start.weights + 0.1 * rng.standard_normal(start.weights.size), shear=(0.05, -0.02))


def sums(phases, prf):
    light = prf.evaluate(phases.dx.ravel(), phases.dy.ravel()).reshape(phases.n_phase, -1)
    return (phases.share * light).sum(axis=1)


def test_lattice_holds_all_pixels_within_the_radius(phases):
    """As many as the circle's area is pixels, at places spread evenly over one pixel."""
    counted = np.count_nonzero(phases.share, axis=1)
    np.testing.assert_allclose(counted, np.pi * 16.0**2 / SIDE**2, rtol=0.1)
    outside = np.hypot(phases.dx, phases.dy) >= 16.0
    assert outside.any()
    assert not phases.share[outside].any()
    nearest = np.argmin(np.hypot(phases.dx, phases.dy), axis=1)
    place = np.linalg.solve(AXES, np.stack([one[np.arange(16), nearest] for one in (phases.dx, phases.dy)]))
    assert np.abs(place).max() == pytest.approx(0.375)
    np.testing.assert_allclose(place.mean(axis=1), 0.0, atol=1e-12)


def test_a_radius_that_would_fill_the_memory_is_refused():
    with pytest.raises(
        InputError, match=r"^rmax: expected at most 300 pixels \(1200 arcsec\), got 1e\+09 arcsec; a star"
    ):
        PixelPhases.around(np.diag([4.0, 4.0]), 1e9)


def test_a_prf_made_of_pixel_integrals_obeys_the_rule():
    """Pixels tile the plane: what one place of the star loses, no other gains, but for light beyond the radius."""
    phases = PixelPhases.around(np.eye(2), 60.0)
    truth = asymmetric_prf()
    total = truth.evaluate(phases.dx.ravel(), phases.dy.ravel()).reshape(phases.n_phase, -1).sum(axis=1)
    np.testing.assert_allclose(total, total.mean(), rtol=1e-5)


def test_the_rule_holds_within_the_splines_because_the_rim_is_soft(phases):
    """To a tenth of the precision with which it is asked for; a hard rim would break it fifty times as much."""
    phases = PixelPhases.around(SIDE * np.eye(2), 16.0)
    light = asymmetric_prf().evaluate(phases.dx.ravel() / SIDE, phases.dy.ravel() / SIDE)
    light = light.reshape(phases.n_phase, -1)
    soft, hard = (phases.share * light).sum(axis=1), (light * (phases.share > 0)).sum(axis=1)
    assert soft.std() / soft.mean() < 0.15 * SUM_SIGMA
    assert hard.std() / hard.mean() > 1e-3


def test_equations_are_the_derivatives_of_the_sums(phases, prf):
    rows, _ = phases.equations(prf)
    rng = np.random.default_rng(1)
    for _ in range(3):
        step = 1e-5 * rng.standard_normal(prf.weights.size)
        ahead, behind = (sums(phases, replace(prf, weights=prf.weights + sign * step)) for sign in (1.0, -1.0))
        change = (ahead - behind) / (2.0 * sums(phases, prf).mean())
        np.testing.assert_allclose(rows @ step, change - change.mean(), rtol=1e-5, atol=1e-12)


def test_misses_are_what_the_equations_leave(phases, prf):
    rows, data = phases.equations(prf)
    np.testing.assert_allclose(phases.misses(prf), rows @ prf.weights - data, atol=1e-12)


@pytest.mark.parametrize("known", [False, True])
def test_derivatives_by_the_shear_are_those_of_the_misses(phases, prf, known):
    if known:
        base = instrument_prior(TESS, AXES, prf.basis).base
        prf = replace(prf, base=base, weights=prf.weights - base.log10(prf.basis.centers, np.zeros(prf.weights.size)))
    step, change = 1e-4, phases.by_shear(prf)
    for k, (e1, e2) in enumerate(step * np.eye(2)):
        ahead, behind = phases.misses(prf.sheared(e1, e2)), phases.misses(prf.sheared(-e1, -e2))
        np.testing.assert_allclose(change[:, k], (ahead - behind) / (2.0 * step), atol=1e-6 * np.abs(change).max())


def test_the_solution_of_the_equations_obeys_the_rule(phases, prf):
    """A few Gauss-Newton steps of least norm."""
    assert np.ptp(sums(phases, prf)) > 0.02
    for _ in range(6):
        rows, data = phases.equations(prf)
        prf = replace(prf, weights=prf.weights + np.linalg.lstsq(rows, data - rows @ prf.weights, rcond=1e-10)[0])
    np.testing.assert_allclose(sums(phases, prf), sums(phases, prf).mean(), rtol=1e-6)


def test_a_constant_factor_changes_nothing(phases, prf):
    """The rule is about places, not about the total, which the fit does not know in its first round."""
    rows, data = phases.equations(prf)
    bright_rows, bright_data = phases.equations(replace(prf, weights=prf.weights + 0.7))
    np.testing.assert_allclose(bright_rows, rows, atol=1e-12)
    np.testing.assert_allclose(bright_data - 0.7 * rows.sum(axis=1), data, atol=1e-12)
