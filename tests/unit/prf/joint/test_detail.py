"""Whether the stars agree on finer columns of the PRF, before a fit with them is tried."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.machine import Machine
from bayesprf.prf.joint.choice import detail_score, may_be_finer
from bayesprf.prf.joint.problem import embedding, finer, joint_basis
from bayesprf.settings import ShapeOptions
from bayesprf.simulation.foreign import make_foreign
from bayesprf.simulation.settings import CASES
from bayesprf.simulation.true_prf import Moffat, MoffatMixture, asymmetric_prf
from bayesprf.stats import mad_sigma

SETTINGS = replace(
    CASES["medium"],
    n_source=60,
    n_stamp=45,
    n_time=4,
    mag_range=(11.0, 15.5),
    exposure=24000.0,
    reach_level=1e-3,
)
SHARP = MoffatMixture((Moffat(0.8, 0.9, 0.75, 3.5, 0.3), Moffat(0.2, 2.2, 2.4, 2.2, 1.0, 0.1, -0.1)))


def simulate(prf, **changes):
    """Stars of one PRF."""
    return make_foreign(replace(SETTINGS, **changes), lambda u, v: prf, rng=np.random.default_rng(11))


def fit(field, **options):
    machine = Machine.from_pixels(field.field.pixels, field.field.sources, quiet=True)
    machine.build_shape_model(**options)
    return machine


def ratio(field, machine):
    """Fitted over true flux."""
    machine.fit_model()
    return machine.ws.mean(axis=0) / field.flux


@pytest.fixture(scope="module")
def field():
    return simulate(SHARP)


@pytest.fixture(scope="module")
def coarse(field):
    return fit(field, method="joint", field_variation=0, knot_density=1).fit.prf.joint


def test_finer_columns_hold_the_coarse_ones():
    coarse, rng = joint_basis(4.0, 8.0), np.random.default_rng(1)
    fine = finer(coarse)
    assert fine == joint_basis(4.0, 8.0, 2)
    r, phi, weights = rng.uniform(0, fine.rmax, 300), rng.uniform(-3, 3, 300), rng.standard_normal(coarse.n_basis)
    ours = fine.matrix(r, phi) @ (embedding(coarse, fine) @ weights)
    assert np.abs(ours - coarse.matrix(r, phi) @ weights).max() < 1e-12


def test_stars_agree_on_a_core_that_is_sharper_than_the_knots(coarse):
    assert may_be_finer(coarse)
    assert detail_score(coarse) > 5.0


def test_stars_do_not_agree_where_noise_hides_it():
    faint = simulate(asymmetric_prf(), exposure=240.0)
    joint = fit(faint, method="joint", field_variation=0, knot_density=1).fit.prf.joint
    assert not may_be_finer(joint)
    assert abs(detail_score(joint)) < 3.0


def test_the_score_counts_standard_deviations(coarse):
    """With a random sign for what each star's pixels leave, there is nothing to agree on."""
    rng, problem = np.random.default_rng(2), coarse.problem
    light = coarse.state.flux[problem.pairs.source] * coarse.values
    order = np.argsort(light)
    star = np.zeros(problem.flux.size, int)
    star[problem.pairs.pixel[order]] = problem.pairs.source[order]
    left = problem.flux - coarse.image
    signs = [rng.choice([-1.0, 1.0], problem.n_source)[star] for _ in range(20)]
    turned = [replace(problem, flux=coarse.image + sign * left) for sign in signs]
    scores = np.array([detail_score(replace(coarse, problem=one)) for one in turned])
    # Standard errors of mean and deviation of 20 numbers with the kurtosis of a chi-square number, 15: 0.22, 0.42.
    assert abs(scores.mean()) < 3 * 0.22
    assert abs(scores.std() - 1.0) < 3 * 0.42


def test_twice_the_knots_are_taken_by_default(field, coarse):
    """Stars scatter by less than two thirds, and their median is within a third of a per mille."""
    machine = fit(field)
    chosen = machine.fit.prf_recipe.shape
    assert (chosen.knot_density, chosen.field_variation) == (2, 0)  # a saved fit that is opened asks for nothing else
    joint = machine.fit.prf.joint
    assert joint.problem.basis.n_basis > 3 * coarse.problem.basis.n_basis
    before, after = (ratio(field, one) for one in (fit(field, method="joint", knot_density=1), machine))
    assert abs(np.median(after) - 1.0) < 3e-4
    assert mad_sigma(after - np.median(after)) < 0.6 * mad_sigma(before - np.median(before))


def test_the_density_is_one_or_two():
    assert ShapeOptions(knot_density=2).is_chosen
    assert not ShapeOptions(knot_density=1).is_chosen
    with pytest.raises(InputError, match="knot_density: expected 1, 2 or None, got 3"):
        ShapeOptions(knot_density=3)


def test_beside_the_record_of_an_instrument_twice_the_knots_leave_less(field):
    """The record is round, and falls as one power: the core is left to the columns."""
    before, after = (fit(field, prf="instrument", knot_density=n, field_variation=0).fit.prf for n in (1, 2))
    assert after.prf.basis == finer(before.prf.basis)
    single = before.joint.problem.single & (before.image.ivar > 0)
    left = [np.sum(np.abs(one.image.flux - one.joint.image)[single]) for one in (before, after)]
    assert left[1] < 0.3 * left[0]
