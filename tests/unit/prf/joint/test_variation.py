"""Whether the stars agree on a PRF that varies, before one that varies is fitted."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bayesprf.machine import Machine
from bayesprf.prf.joint.choice import variation_score
from bayesprf.prf.stage import _may_follow_places
from bayesprf.simulation.foreign import make_foreign, scaled_mixture
from bayesprf.simulation.settings import CASES
from bayesprf.simulation.true_prf import asymmetric_prf

SETTINGS = replace(
    CASES["medium"],
    n_source=60,
    n_stamp=45,
    n_time=4,
    mag_range=(11.0, 15.5),
    exposure=24000.0,
    reach_level=1e-3,
)


def fit(amount, order=0):
    """The fit of stars whose PRF is wider by `amount` at the edge of the field than in its middle."""
    prf = asymmetric_prf()
    field = make_foreign(SETTINGS, lambda u, v: scaled_mixture(prf, 1.0 + amount * u), rng=np.random.default_rng(11))
    machine = Machine.from_pixels(field.field.pixels, field.field.sources, quiet=True)
    machine.build_shape_model(method="joint", field_variation=order)
    return machine.fit.prf.joint


@pytest.fixture(scope="module")
def varying():
    return fit(0.02)


def test_stars_agree_where_the_prf_varies(varying):
    assert variation_score(varying, 1) > 10.0


def test_stars_of_a_constant_prf_do_not_agree():
    assert abs(variation_score(fit(0.0), 1)) < 3.0


def test_the_score_counts_standard_deviations(varying):
    """With the places dealt out at random there is nothing to agree on, whatever each star's PRF is."""
    rng, places = np.random.default_rng(2), varying.problem.place
    dealt = [replace(varying.problem, place=rng.permutation(places)) for _ in range(40)]
    scores = np.array([variation_score(replace(varying, problem=one), 1) for one in dealt])
    # Standard errors of mean and standard deviation of 40 standard normal numbers: 0.16 and 0.11.
    assert abs(scores.mean()) < 3 * 0.16
    assert abs(scores.std() - 1.0) < 3 * 0.11


def test_a_plane_is_not_all_that_the_logarithm_of_a_widening_prf_does():
    """A tenth wider at the edge, stars agree on more than a plane; where it hardly widens they do not."""
    assert variation_score(fit(0.1, order=1), 2) > 5.0
    assert variation_score(fit(0.01, order=1), 2) < 3.0


def wider_on_all_sides():
    """Stars whose PRF is 6 % wider at the corners of the field than in its middle."""
    prf = asymmetric_prf()
    return make_foreign(
        SETTINGS, lambda u, v: scaled_mixture(prf, 0.97 + 0.06 * (u * u + v * v)), rng=np.random.default_rng(13)
    )


def test_a_prf_that_is_wider_on_all_sides_follows_no_plane():
    field = wider_on_all_sides()
    machine = Machine.from_pixels(field.field.pixels, field.field.sources, quiet=True)
    machine.build_shape_model(method="joint", field_variation=0)
    constant = machine.fit.prf.joint
    assert variation_score(constant, 1) < 3.0 < variation_score(constant, 2)


def test_a_large_image_asks_for_more(varying, monkeypatch):
    """Of which a part decides: a fit in vain takes half a minute there."""
    shape = SimpleNamespace(joint=varying)
    for score, small, large in ((1.0, False, False), (3.0, True, False), (6.0, True, True)):
        monkeypatch.setattr("bayesprf.prf.stage.variation_score", lambda fit, order, score=score: score)
        for decided, asked in ((None, small), (np.ones(varying.problem.flux.size, bool), large)):
            shape.joint = replace(varying, decided=decided)
            assert _may_follow_places(shape, 1) == asked


@pytest.mark.slow
def test_the_default_follows_a_prf_that_is_wider_on_all_sides():
    """It was fitted as constant, as only a plane was asked for first."""
    field, off = wider_on_all_sides(), []
    for options in ({"field_variation": 0}, {}):
        machine = Machine.from_pixels(field.field.pixels, field.field.sources, quiet=True)
        machine.build_shape_model(**options)
        off.append(machine.fit.prf.joint.flux / field.flux - 1.0)
    assert machine.fit.prf.joint.prf.order == 2
    scatter = [np.median(np.abs(one - np.median(one))) for one in off]
    assert scatter[1] < 0.2 * scatter[0]


def test_what_a_part_left_to_the_columns_of_a_constant_prf_is_no_variation():
    """A wing that was fitted to a part misses all of the image alike."""
    constant = fit(0.0)
    off = replace(constant, state=replace(constant.state, wing=constant.state.wing + 0.3))
    assert variation_score(off, 2) > 5.0
    assert abs(variation_score(replace(off, decided=np.ones(off.problem.flux.size, bool)), 2)) < 3.0
