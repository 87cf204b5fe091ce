"""What limits the training of the PRF limits what decides it, and knots that are asked for are taken."""

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.errors import InputError
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def field():
    return make_field(rng=np.random.default_rng(7), n_source=40, n_stamp=30, n_time=10)


def fitted(field, settings=(), **options):
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True, **dict(settings))
    machine.build_shape_model(**options)
    return machine.fit.need("prf")


@pytest.fixture(scope="module")
def plain(field):
    return fitted(field)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"limit_radius": 12.0}, {}),
        ({}, {"upper_flux_limit": 1000.0}),
        ({}, {"max_neighbor_share": 0.01}),
        ({}, {"min_snr": 300.0}),
        ({}, {"max_pairs": 300}),
    ],
)
def test_pixels_beyond_a_limit_give_only_their_stars_their_fluxes(field, plain, settings, options):
    """The fluxes of bright stars stay within three of their errors, which are larger."""
    limited = fitted(field, settings, **options)
    assert plain.joint.decided is None
    decided = limited.joint.decided
    assert decided.sum() < 0.9 * field.pixels.n_pixel
    assert not np.any(limited.training & ~decided[limited.pairs.pixel])
    bright = field.mean_flux > np.median(field.mean_flux)
    away = (limited.flux / field.mean_flux - 1.0)[bright]
    assert np.sqrt(np.mean(away**2)) < 0.01
    assert np.median(limited.joint.flux_err[bright]) > np.median(plain.joint.flux_err[bright])


def test_beside_a_sky_pixels_without_a_star_tell_it(field):
    found = fitted(field, {"background": "image"}, upper_flux_limit=1000.0)
    image = found.image.flux + found.background.light
    assert image[found.joint.decided].max() < 1000.0
    dark = ~np.isin(
        np.arange(field.pixels.n_pixel), found.pairs.pixel[found.pairs.r < found.radius[found.pairs.source]]
    )
    assert found.joint.decided[dark].all()


def test_a_limit_that_leaves_no_pixel_is_refused(field):
    with pytest.raises(InputError, match="sources: expected stars that light pixels alone"):
        fitted(field, upper_flux_limit=1e-3)


def test_knots_are_those_asked_for_beside_a_record_too(field):
    """Its covariance is that of the columns."""
    settings = {"rmax": 20.0, "n_r_knots": 8, "n_phi_knots": 9}
    for options in ({}, {"knot_density": 2}):
        basis = fitted(field, settings, **options).prf.basis
        density = options.get("knot_density", 1)
        assert (basis.rmax, basis.n_phi_knots) == (20.0, 9 * density)
    few = make_field(rng=np.random.default_rng(1), n_source=3, n_stamp=1, n_time=4)
    found = fitted(few, settings)
    assert found.prf.basis.n_phi_knots == 9
    assert found.joint.problem.prior.weights_factor.shape[0] == found.prf.basis.n_basis


def test_columns_may_be_round_everywhere(field):
    """Then no bend around a circle has a width to learn."""
    found = fitted(field, {"cut_r": 16.0})
    assert found.joint.problem.turns.shape[0] == 0
    assert found.joint.converged
    assert np.median(found.flux / field.mean_flux) == pytest.approx(1.0, abs=0.01)


def test_smoothness_that_is_given_is_not_learned(field, plain):
    """A fifth of what the pixels of these stars tell bends the PRF less; no record of the instrument comes into it."""
    given = 0.2 * plain.joint.hyper.tau
    found = fitted(field, smoothness=given)
    assert (found.joint.hyper.tau, found.joint.hyper.turn) == (given, given)
    rough = plain.joint.problem.bends
    bent, free = (
        np.linalg.norm(rough @ (one.joint.state.weights[0] - one.joint.problem.prior.weights)) for one in (found, plain)
    )
    assert bent < free
