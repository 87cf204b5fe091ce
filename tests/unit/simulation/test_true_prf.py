"""The true PRF, beside numerical integrals."""

import numpy as np
import pytest
from scipy import integrate, stats

from bayesprf.errors import InputError
from bayesprf.simulation.true_prf import Moffat, MoffatMixture, asymmetric_prf


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.31, -0.47), (0.5, 0.5)])
def test_prf_sums_to_one_over_an_infinite_grid(place):
    prf = asymmetric_prf()
    half = 60
    column, row = (
        one.ravel() - at for one, at in zip(np.mgrid[-half : half + 1, -half : half + 1], place, strict=True)
    )
    inside = prf.evaluate(column, row).sum()
    # Beyond the grid every profile is close to w (beta - 1) / (pi a b) (u^2/a^2 + v^2/b^2)^-beta: integrate it.
    outside = 0.0
    for part in prf.parts:
        angle = np.linspace(0, 2 * np.pi, 4001)
        edge = (half + 0.5) / np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
        turned = angle - part.angle
        q = (np.cos(turned) / part.major) ** 2 + (np.sin(turned) / part.minor) ** 2
        density = part.weight * (part.beta - 1) / (np.pi * part.major * part.minor) * q**-part.beta
        radial = edge ** (2 - 2 * part.beta) / (2 * part.beta - 2)
        outside += integrate.trapezoid(density * radial, angle)
    assert outside > 1e-4
    assert inside + outside == pytest.approx(1.0, abs=2e-5)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.7, -0.4), (2.9, 1.0), (5.9, 0.3), (0.5, 19.9), (-20.2, 3.0)])
def test_pixel_values_are_integrals_over_the_pixel(offset):
    prf = asymmetric_prf()
    exact, _ = integrate.dblquad(
        lambda y, x: float(prf.intensity(np.float64(x), np.float64(y))),
        offset[0] - 0.5, offset[0] + 0.5, offset[1] - 0.5, offset[1] + 0.5, epsabs=0, epsrel=1e-9,
    )  # fmt: skip
    value = prf.evaluate(np.array([offset[0]]), np.array([offset[1]]))[0]
    assert value == pytest.approx(exact, rel=3e-6)


def test_one_moffat_matches_its_curve_of_growth():
    part = Moffat(1.0, 1.3, 1.3, 2.5)
    flux, _ = integrate.quad(lambda r: 2 * np.pi * r * float(part.intensity(np.float64(r), np.float64(0.0))), 0, 4.0)
    assert flux == pytest.approx(1 - (1 + (4.0 / 1.3) ** 2) ** -1.5, rel=1e-9)


def test_anchor_says_what_lies_at_zero_offset():
    peak, centred = asymmetric_prf(), asymmetric_prf(anchor="centroid")
    assert np.hypot(*centred.centroid) < 1e-12
    assert np.hypot(*peak.centroid) > 0.03
    column, row = np.mgrid[-1:1:401j, -1:1:401j]
    brightest = np.unravel_index(np.argmax(peak.intensity(column, row)), column.shape)
    assert np.hypot(column[brightest], row[brightest]) < 0.005


def test_prf_is_asymmetric_and_has_wings():
    prf = asymmetric_prf()
    above, below = prf.evaluate(np.array([0.0, 0.0]), np.array([2.0, -2.0]))
    assert above / below > 1.2
    gaussian = stats.norm.pdf(8.0, scale=1.5 / 2.355)
    assert prf.evaluate(np.array([8.0]), np.array([0.0]))[0] > 1e6 * gaussian


def test_radius_bounds_the_light():
    prf = asymmetric_prf()
    level = np.array([1e-2, 1e-4, 1e-6])
    angle = np.linspace(0, 2 * np.pi, 721)
    for one, radius in zip(level, prf.radius(level), strict=True):
        at = prf.intensity(radius * np.cos(angle), radius * np.sin(angle)).max()
        assert one * 0.9 < at < one * 1.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: asymmetric_prf(fwhm_pix=0.0), "fwhm_pix: expected a finite number above 0"),
        (lambda: asymmetric_prf(anchor="middle"), "anchor: expected one of 'peak', 'centroid'"),
        (lambda: asymmetric_prf(wing_beta=1.2), "beta: expected a slope above 1.5"),
        (lambda: MoffatMixture((Moffat(0.5, 1.0, 1.0, 2.0),)), "parts: expected weights that sum to 1, got 0.5"),
    ],
)
def test_prf_refuses_what_it_cannot_be(call, message):
    with pytest.raises(InputError, match=message):
        call()
