"""Slopes of the wing from ring to ring: their widths are expected once, however many rings there are."""

import numpy as np
import pytest

from bayesprf.prf.joint.hyper import fit_slope_widths, slope_rows


def test_slopes_of_which_nothing_is_told_keep_the_width_that_is_expected():
    """It shrank with every step, to a third: the same slopes, and their changes, were expected several times over."""
    expected, widths = np.full(2, 1.15), (1.15, 0.3)
    for _ in range(40):
        rows = np.linalg.inv(slope_rows(5, *widths))
        widths = fit_slope_widths(rows @ rows.T, 0.5, expected, widths)
    assert widths[0] == pytest.approx(1.15, rel=0.02)
    assert 0.3 < widths[1] < 0.55


@pytest.mark.parametrize("change", [0.05, 0.4, 3.0])
def test_each_slope_has_the_same_width(change):
    rows = np.linalg.inv(slope_rows(5, 1.15, change))
    covariance = rows @ rows.T
    np.testing.assert_allclose(np.diag(covariance), 1.15**2, rtol=1e-9)
    step = covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1]
    assert step == pytest.approx(min(change, 1.15 * np.sqrt(2.0)) ** 2, rel=0.1)


def test_slopes_that_are_told_give_their_widths():
    """Wings that end: slopes of -8 that fall by 2 from ring to ring where -3.5 +- 0.5 is expected."""
    away, widths = -4.5 - 2.0 * np.arange(5.0), (0.5, 0.3)
    for _ in range(10):
        widths = fit_slope_widths(np.outer(away, away), 2.0, np.full(2, 0.5), widths)
    assert 3.0 < widths[0] < 10.0
    assert 1.5 < widths[1] < 2.5
