"""Motion, size and shear at every cadence: a dense twin, learned widths, and what light curves gain."""

from dataclasses import replace

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.errors import DataWarning
from bayesprf.linalg.centred import GroupMeans
from bayesprf.linalg.shrinkage import shrink
from bayesprf.simulation.fields import make_field
from bayesprf.timemodel.free_motion import _apart, normal_equations

N_TIME, N_FREE = 400, 3


def dense_twin(group, ivar, data, space):
    """Solve for coefficients and one brightness per star with a flat prior; return those of the coefficients."""
    design = np.hstack([space, np.eye(group.max() + 1)[group]])
    normal = design.T @ (ivar[:, None] * design)
    score = design.T @ (ivar * data)
    n = space.shape[1]
    inner = normal[n:, n:]
    cross = normal[:n, n:] @ np.linalg.inv(inner)
    return normal[:n, :n] - cross @ normal[n:, :n], score[:n] - cross @ score[n:]


def test_brightness_is_marginalised_as_by_a_dense_solution():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(4), 6)
    ivar = rng.uniform(0.5, 2.0, (5, 24))
    ivar[2, 3] = 0.0
    data, space = rng.normal(size=(5, 24)), rng.normal(size=(24, N_FREE))
    data[2, 3] = 0.0
    normal, score = normal_equations(GroupMeans(group, ivar), data, space)
    for time in range(5):
        one, other = dense_twin(group, ivar[time], data[time], space)
        np.testing.assert_allclose(normal[time], one, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(score[time], other, rtol=1e-10, atol=1e-12)


def make_scores(sigma, rng):
    """Return normal matrices and right sides of coefficients of these widths, and the coefficients."""
    root = 10.0 * rng.normal(size=(N_FREE, N_FREE)) + 30.0 * np.eye(N_FREE)
    normal = np.broadcast_to(root @ root.T, (N_TIME, N_FREE, N_FREE))
    truth = rng.normal(size=(N_TIME, N_FREE)) * sigma
    noise = rng.normal(size=(N_TIME, N_FREE)) @ root.T
    return normal, np.einsum("tij,tj->ti", normal, truth) + noise, truth


def test_widths_are_learned_and_errors_cover():
    sigma = np.array([0.2, 0.05, 0.02])
    normal, score, truth = make_scores(sigma, np.random.default_rng(2))
    mean, covariance, _ = shrink(normal, score)
    z = (mean - truth) / np.sqrt(np.einsum("tii->ti", covariance))
    # 1200 numbers: a standard deviation is known to 0.02.
    assert z.std() == pytest.approx(1.0, abs=0.08)
    spread = np.sqrt(np.mean(mean**2 + np.einsum("tii->ti", covariance), axis=0))
    np.testing.assert_allclose(spread, sigma, rtol=0.25)


def test_widths_of_a_round_before_lead_to_the_same():
    normal, score, _ = make_scores(np.array([0.2, 0.05, 0.0]), np.random.default_rng(6))
    _, _, sigma = shrink(normal, score)
    assert sigma[2] < 0.2 * sigma[1]
    mean, _, again = shrink(normal, score, start=1.3 * sigma)
    np.testing.assert_allclose(again[:2], sigma[:2], rtol=0.05)
    assert mean.shape == score.shape


def test_noise_alone_is_next_to_no_motion():
    normal, score, _ = make_scores(np.zeros(N_FREE), np.random.default_rng(3))
    mean, covariance, _ = shrink(normal, score)
    free = np.sqrt(np.diag(np.linalg.inv(normal[0])))
    assert np.all(mean.std(axis=0) < 0.2 * free)
    assert covariance.shape == (N_TIME, N_FREE, N_FREE)


def test_no_width_is_beyond_what_is_linear():
    normal, score, _ = make_scores(np.full(N_FREE, 1e3), np.random.default_rng(5))
    normal, score = 1e12 * normal, 1e12 * score
    mean, covariance, _ = shrink(normal, score)
    assert np.all(np.isfinite(mean))
    assert np.all(np.einsum("tii->ti", covariance) <= 1.0)


def test_a_column_that_others_make_is_left_out():
    rng = np.random.default_rng(4)
    space = rng.normal(size=(30, 2))
    space = np.column_stack([space, 0.3 * space[:, 0], rng.normal(size=30)])
    assert _apart(space.T @ space).tolist() == [0, 1, 3]


@pytest.fixture(scope="module")
def jittering():
    rng = np.random.default_rng(11)
    field = make_field(
        n_source=12, n_stamp=12, n_time=80, mag_range=(11.0, 13.0), stamp_sides=(7,), rng=rng,
        drift=0.02 * rng.standard_normal((80, 2)),
    )  # fmt: skip
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    return field, machine


def deviations(field, machine, *, free):
    """Return light curves over the truth and their scatter over the Cramer-Rao bound and over the quoted errors."""
    machine.build_time_model(free_motion=free)
    machine.fit_model(fit_va=True)
    scatter = (machine.ws_va / field.flux).std(axis=0) * field.mean_flux
    bound = np.mean([field.cramer_rao(time) for time in range(0, 80, 10)], axis=0)
    return scatter / bound, scatter / np.median(machine.werrs_va, axis=0)


def test_jitter_is_followed_to_the_bound(jittering):
    field, machine = jittering
    (still, _), (free, quoted) = (deviations(field, machine, free=one) for one in (False, True))
    assert np.median(still) > 1.5
    # A standard deviation of 80 numbers is known to 8 %, the median of twelve to 3 %.
    assert np.median(free) < 1.12
    assert np.median(quoted) == pytest.approx(1.0, abs=0.12)


def test_free_motion_follows_the_true_one_and_moves_no_mean(jittering):
    field, machine = jittering
    machine.build_time_model()
    model = machine.fit.time_model
    names = dict(zip(model.names, model.vectors.T, strict=True))
    assert {"free x 00", "free y 00"} <= set(names)
    assert "free x 00" not in build_names(machine, free_motion=False)
    for name in names:
        if name.startswith("free"):
            assert abs(names[name].mean()) < 1e-12
    truth = field.shift.mean(axis=1)
    truth = truth - truth.mean(axis=0)
    found = np.stack([names["free x 00"], names["free y 00"]], axis=1)
    # Columns of detector and sky may point apart: the best linear map of one on the other.
    # What is slow is with the columns in time.
    found = np.hstack([found, np.vander(np.linspace(-1.0, 1.0, 80), 4)])
    left = truth - found @ np.linalg.lstsq(found, truth, rcond=None)[0]
    assert left.std() < 0.05 * truth.std()


def build_names(machine, **options):
    machine.build_time_model(**options)
    return machine.fit.time_model.gain.names


def test_one_spoiled_pixel_moves_no_other_cadence(jittering):
    field, machine = jittering
    machine.build_time_model()
    before = machine.fit.time_model
    bright = int(np.argmax(field.pixels.flux.mean(axis=0)))
    flux = field.pixels.flux.copy()
    flux[40, bright] *= 1.5
    other = bp.Machine.from_pixels(replace(field.pixels, flux=flux), field.sources, quiet=True)
    with pytest.warns(DataWarning, match="which no star can have made"):
        other.build_shape_model()
    other.build_time_model()
    after = other.fit.time_model
    column = before.names.index("free x 00"), after.names.index("free x 00")
    moved = np.abs(before.vectors[:, column[0]] - after.vectors[:, column[1]])
    error = np.sqrt(np.median(before.free_covariance[:, 0, 0]))
    assert np.median(moved) < 0.3 * error
    # The cadence itself: the pixel is clipped.
    assert moved[40] < 5.0 * error


def test_errors_of_motion_are_in_those_of_the_fluxes():
    field = make_field(
        n_source=1, n_stamp=1, n_time=60, mag_range=(12.0, 12.1), stamp_sides=(7,), rng=np.random.default_rng(12),
        drift=0.02 * np.random.default_rng(13).standard_normal((60, 2)),
    )  # fmt: skip
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    known = machine.fit.flux_va.posterior.std[:, 0]
    assert np.all(machine.werrs_va[:, 0] > known)


def test_motion_that_jumps_comes_with_its_square():
    """One cadence at the end of a drift moves on by 0.05 pixel: a width learned from all would hold its square back."""
    drift = np.linspace(-0.1, 0.1, 80)[:, None] + 0.003 * np.random.default_rng(17).standard_normal((80, 2))
    drift[70] += 0.05
    field = make_field(
        n_source=12, n_stamp=12, n_time=80, mag_range=(11.0, 13.0), stamp_sides=(7,), rng=np.random.default_rng(18),
        drift=drift,
    )  # fmt: skip
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model()
    model = machine.fit.time_model
    coefficient = model.vectors[:, 1:] @ model.weights
    u, v, *squares = (coefficient[:, model.change.names.index(one)] for one in ("x 00", "y 00", "xx", "xy", "yy"))
    for square, product in zip(squares, (u * u, u * v, v * v), strict=True):
        excess = (square - product)[70] - np.median(square - product)
        assert abs(excess) < 0.01 * abs(product[70])


def test_lost_cadences_and_pixels_have_no_motion():
    field = make_field(
        n_source=4, n_stamp=4, n_time=30, mag_range=(12.0, 13.0), stamp_sides=(7,), rng=np.random.default_rng(14),
        drift=0.02 * np.random.default_rng(15).standard_normal((30, 2)),
    )  # fmt: skip
    flux = field.pixels.flux.copy()
    flux[7], flux[:, 20] = np.nan, np.nan
    machine = bp.Machine.from_pixels(replace(field.pixels, flux=flux), field.sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model()
    model = machine.fit.time_model
    free = np.array([name.startswith("free") for name in model.names])
    assert free.any()
    assert np.all(np.isfinite(model.vectors))
    rest = model.vectors[:, free] - model.vectors[7, free]
    assert np.all(np.median(np.abs(rest), axis=0) > 0)


def test_one_cadence_has_no_motion_of_its_own():
    field = make_field(n_source=4, n_stamp=4, n_time=1, mag_range=(12.0, 13.0), rng=np.random.default_rng(16))
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model(poly_order=0)
    assert machine.fit.time_model.names == ("constant",)


def test_motion_beyond_the_limit_of_shifts_is_not_followed(jittering):
    _, machine = jittering
    assert "free x 00" in build_names(machine)
    assert not any(name.startswith("free") for name in build_names(machine, shift_limit=0.01))
