"""How much of a step is taken, and when steps have led to rest."""

from types import SimpleNamespace

import numpy as np
import pytest

from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.pace import Pace, rests
from bayesprf.prf.joint.step import Solution

PROBLEM = SimpleNamespace(pixel_area=4.0, n_weight=2, n_wing=1, n_geometry=1)
N_GLOBAL, FORTH = 7, np.array([1.0, 2.0, 0.5, 0.0, 0.0, 0.1, 0.0])


def solution(common, own):
    own = np.asarray(own, float)
    none = np.zeros(4)
    return Solution(common, own, np.eye(N_GLOBAL), np.ones_like(own), none, none)


def steps(own, *, judged=True, common=(FORTH, FORTH)):
    """Return the pace after a first step of all stars, and another one."""
    first = solution(common[0], np.ones((2, 3)))
    return Pace.full(2).after(first, judged=judged).after(solution(common[1], own), judged=judged)


def test_a_star_that_turns_back_goes_half_as_far_from_then_on():
    turned = [[-1.0, -1.0, -1.1], [1.0, 1.0, 1.0]]
    pace = steps(turned)
    assert (pace.share, *pace.alone) == (1.0, 0.5, 1.0)
    again = pace.after(solution(FORTH, turned), judged=True)
    np.testing.assert_array_equal(again.alone, [0.5, 1.0])
    np.testing.assert_array_equal(steps(turned, judged=False).alone, [1.0, 1.0])


def test_all_take_half_of_a_step_that_undoes_the_one_before():
    pace = steps(np.ones((2, 3)), common=(FORTH, -FORTH))
    assert pace.share == 0.5
    assert pace.after(solution(-FORTH, np.ones((2, 3))), judged=True).share == 1.0


def test_slow_stars_hurry_again_once_a_step_is_refused():
    pace = Pace(0.5, np.array([0.25, 1.0]))
    own = np.array([[2.0, 0.2, 0.0], [2.0, 0.2, 0.0]])
    taken, again = (one.cut(PROBLEM, solution(0.1 * FORTH, own)) for one in (pace, pace.refused()))
    np.testing.assert_allclose(taken.common, 0.05 * FORTH)
    np.testing.assert_allclose(taken.own, own * [[0.25], [0.5]])
    np.testing.assert_allclose(again.own, 0.5 * own)


@pytest.mark.parametrize(("common", "own", "share"), [(8.0, 1.0, 1 / 32), (0.1, 8.0, 0.125), (0.1, 0.1, 1.0)])
def test_no_step_goes_farther_than_the_model_is_linear(common, own, share):
    """A weight moves by half a dex at most, a star by half of a pixel of 2 arcsec."""
    found = solution(common * FORTH, np.full((2, 3), own))
    taken = Pace.full(2).cut(PROBLEM, found)
    np.testing.assert_allclose(taken.common, share * found.common)
    np.testing.assert_allclose(taken.own, share * found.own)


@pytest.mark.parametrize(
    ("rate", "wave", "change", "expected"),
    [(0.0, 0.02, 0.0, True), (0.01, 0.0, 0.0, False), (0.0, 0.2, 0.0, False), (0.0, 0.0, -0.06, False)],
)
def test_fluxes_rest_that_do_not_leave_their_place(rate, wave, change, expected):
    """However small each step is: one in a hundred of an error, eight times, is no rest, nor is an error on its way."""
    past = [(100.0 + np.full(3, rate * n + wave * (-1.0) ** n), change + 0.2 * (-1.0) ** n) for n in range(10)]
    found = solution(FORTH, np.zeros((3, 3)))
    assert rests(past, found, 0.05) is expected
    assert not rests(past[:7], found, 0.05)


def test_a_record_on_the_way_to_another():
    old, new = JointHyper(eps=0.01), JointHyper(eps=0.04, outlier_share=0.1, wings=(4e-3, 1e-3, 1e-3))
    between = new.on_the_way(old, 0.5)
    assert between.eps == pytest.approx(0.02)
    assert between.wings == pytest.approx((2e-3, 1e-3, 1e-3))
    # Where there was none before there is no logarithm.
    assert between.outlier_share == 0.1
    assert new.on_the_way(old, 1.0).eps == pytest.approx(new.eps)
