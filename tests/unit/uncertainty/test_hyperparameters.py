"""Widths learned from simulated fields whose widths are known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import binom

from bayesprf.errors import ConvergenceWarning, InputError, ShapeError
from bayesprf.linalg.evidence import maximise_evidence
from bayesprf.linalg.hyperparameters import Hyperparameters
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.scene.image import reduce_image
from bayesprf.scene.pixels import PixelTable
from bayesprf.testing import dense_twin
from bayesprf.uncertainty.hyper_groups import make_groups
from bayesprf.uncertainty.hyper_problems import CadencePairs, WidthData, difference_problem, image_problem, mean_light
from bayesprf.uncertainty.hyper_search import _look_between
from bayesprf.uncertainty.hyperparameters import WidthChoice, learn_flux_widths

PIXELS = 8
WIDTH, ZERO, NOISE, MODEL = 0.2, 1.5, 1.4, 0.02


def make_data(rng, *, n_source=120, n_time=10, width=WIDTH, zero=ZERO, noise=NOISE, model=MODEL, variable=0.01):
    """Stars in blended pairs, eight pixels each; every second star's pixels have errors too small by `noise`.

    Returns what the widths are learned from, and the true fluxes, shape (n_time, n_source).
    """
    n_pixel = n_source * PIXELS
    prf = rng.dirichlet(np.full(PIXELS, 2.0), n_source)
    values = np.zeros((n_pixel, n_source))
    for one in range(n_source):
        own = slice(one * PIXELS, (one + 1) * PIXELS)
        values[own, one] = prf[one]
        values[own, one ^ 1] = 0.5 * prf[one][::-1]
    expected = 10.0 ** rng.uniform(2, 4, n_source)
    mean = expected * (zero + width * rng.normal(size=n_source))
    flux = mean * (1.0 + variable * rng.normal(size=(n_time, n_source)))
    light = values @ mean
    sigma = np.sqrt(np.abs(light) / 50.0 + 1.0)
    channel = (np.arange(n_pixel) // PIXELS) % 2
    scatter = np.where(channel == 0, noise, 1.0) * sigma * rng.normal(size=(n_time, n_pixel))
    data = flux @ values.T + model * light * rng.normal(size=n_pixel) + scatter
    error = np.broadcast_to(sigma, data.shape).copy()
    zeros = np.zeros(n_pixel)
    pixels = PixelTable(np.arange(n_time), data, error, zeros, zeros, np.arange(n_pixel), zeros, stamp=channel)
    design = DesignStack.from_sparse(csr_matrix(values))
    nothing = GaussianPrior(np.empty(0), np.empty(0))
    image = reduce_image(pixels)
    return WidthData(pixels, image, design, expected, nothing, zeros, np.ones(n_source, bool)), flux


def learn(data, *, by_channel=True, sources=None, model_in_fit=False, **choice):
    groups = make_groups("stamp" if by_channel else None, data.pixels.n_pixel, "p", known={"stamp": data.pixels.stamp})
    stars = make_groups(sources, data.expected.size, "s", known={"flux": data.expected})
    return learn_flux_widths(data, WidthChoice(**choice), sources=stars, pixels=groups, model_in_fit=model_in_fit)


def scores(found, *, width=WIDTH, zero=ZERO, noise=NOISE, model=MODEL):
    """Return how many standard deviations each width is off; logarithms but for the zero point."""
    return np.array(
        [
            np.log(found.prior_width[0] / width) * found.prior_width[0] / found.prior_width_err[0],
            (found.zero_point - zero) / found.zero_point_err,
            *(np.log(found.noise_scale / [noise, 1.0]) * found.noise_scale / found.noise_scale_err),
            np.log(found.model_error / model) * found.model_error / found.model_error_err,
        ]
    )


@pytest.mark.parametrize(("zero", "n_time"), [(0.5, 40), (1.5, 40), (1.5, 2), (1.5, 1)])
def test_the_truth_is_recovered(zero, n_time):
    found = learn(make_data(np.random.default_rng(1), zero=zero, n_time=n_time)[0])
    assert np.abs(scores(found, zero=zero)).max() < 3.5
    assert found.converged
    assert (found.n_source, found.n_cadence) == (120, n_time)
    assert found.noise_labels == ("0", "1")
    assert found.prior_width_err[0] / found.prior_width[0] == pytest.approx(1.0 / np.sqrt(240.0), rel=0.1)
    assert found.model_error_err / found.model_error < 0.05
    if n_time == 40:
        assert found.noise_scale_err.max() < 0.012


@pytest.mark.parametrize("n_time", [6, 1])
def test_intervals_cover_the_truth(n_time):
    """Over 120 simulated fields, 68.3 % and 95.4 % intervals hold each truth as often as they say."""
    n_trial = 120
    off = [
        np.abs(scores(learn(make_data(np.random.default_rng([n_time, one]), n_source=80, n_time=n_time)[0])))
        for one in range(n_trial)
    ]
    for sigma, share in ((1.0, 0.6827), (2.0, 0.9545)):
        low, high = binom.ppf([0.0005, 0.9995], n_trial, share)
        inside = np.sum(np.array(off) < sigma, axis=0)
        assert np.all((inside >= low) & (inside <= high)), (sigma, inside)


def test_learned_values_are_the_maximum_of_a_dense_evidence():
    """A grid of the evidence of the mean image, by a formula of its own, has its maximum at the learned values."""
    data, _ = make_data(np.random.default_rng(4), n_source=14, noise=1.0)
    found = learn(data, noise=1.0)
    one = learn(data, prior_width=1.0, zero_point=1.0, noise=1.0, model=1.0, model_in_fit=True)
    light = np.sqrt(one.model_variance)
    image = data.image

    def evidence(width, zero, model):
        sigma = width * np.maximum(data.expected, image.cadence_error)
        ivar = 1.0 / (found.image_scale**2 / image.ivar + (model * light) ** 2)
        prior = GaussianPrior.from_sigma(zero * data.expected, sigma)
        return float(dense_twin(LinearProblem(data.design, image.flux[None], ivar[None], prior)).log_evidence[0])

    best = np.array([found.prior_width[0], found.zero_point, found.model_error])
    error = np.array([found.prior_width_err[0], found.zero_point_err, found.model_error_err])
    top = evidence(*best)
    assert found.log_evidence == pytest.approx(top, abs=1e-6)
    steps = np.array(np.meshgrid(*[[-1.0, -0.1, 0.0, 0.1, 1.0]] * 3)).reshape(3, -1).T
    grid = np.array([evidence(*(best * np.exp(step * error / best))) for step in steps])
    assert grid.max() == grid[np.argmin(np.abs(steps).sum(axis=1))]
    for axis in range(3):
        step = 0.1 * np.eye(3)[axis] * error
        sides = [evidence(*(best * np.exp(sign * step / best))) for sign in (1, -1)]
        assert sides[0] - 2.0 * top + sides[1] < 0
        assert (sides[0] - sides[1]) / 0.2 == pytest.approx(0.0, abs=0.01)


def test_what_is_fixed_stays():
    data, _ = make_data(np.random.default_rng(2), n_time=4)
    found = learn(data, prior_width=0.7, zero_point=1.2, variability=0.0, noise=2.0, model=0.01, model_in_fit=True)
    assert (found.prior_width.tolist(), found.zero_point, found.noise_scale.tolist()) == ([0.7], 1.2, [2.0, 2.0])
    assert found.model_error == 0.01
    assert found.variability.tolist() == [0.0]
    errors = [
        found.variability_err,
        found.prior_width_err,
        found.zero_point_err,
        found.noise_scale_err,
        found.model_error_err,
    ]
    assert not any(np.any(one) for one in errors)
    assert np.isfinite(found.log_evidence)
    np.testing.assert_allclose(found.prior.mean, 1.2 * data.expected)
    np.testing.assert_allclose(found.prior.precision**-0.5, 0.7 * data.expected)
    np.testing.assert_array_equal(found.noise_factor, 2.0)
    known = learn(data, prior_width=0.7, noise=2.0, model=0.0)
    assert known.zero_point_err > 0
    assert not known.model_in_fit


def test_errors_of_the_pixels_follow():
    data, _ = make_data(np.random.default_rng(2), n_time=4)
    plain, full = learn(data), learn(data, model_in_fit=True)
    wanted = data.pixels.flux_err * plain.noise_scale[data.pixels.stamp]
    np.testing.assert_allclose(plain.rescale(data.pixels).flux_err, wanted, rtol=1e-14)
    extra = full.rescale(data.pixels).flux_err ** 2 - wanted**2
    np.testing.assert_allclose(extra, np.broadcast_to(full.model_variance, extra.shape), rtol=1e-6)
    gap = replace(data.pixels, flux_err=np.where(np.arange(data.pixels.n_pixel) == 3, 0.0, data.pixels.flux_err))
    np.testing.assert_array_equal(full.rescale(gap).ivar[:, 3], 0.0)
    with pytest.raises(ShapeError, match=r"widths: expected shape \(4,\)"):
        learn(data).rescale(
            PixelTable([0.0], np.ones((1, 4)), np.ones((1, 4)), *np.zeros((2, 4)), np.arange(4), np.zeros(4))
        )


def test_fluxes_are_covered_once_the_noise_is_known():
    """Errors too small by 1.4: 68 % intervals of fluxes held by those pixels hold the truth in 57 %, then in 68 %."""
    data, flux = make_data(np.random.default_rng(5), n_time=60, model=0.0)
    found = learn(data, by_channel=True, model=0.0)

    def covered(pixels, prior):
        problem = LinearProblem(data.design, pixels.flux, pixels.ivar, prior)
        posterior = choose_solver(problem).solve(problem)
        return (np.abs(posterior.mean - flux) < posterior.std)[:, ::2].mean()

    default = data.prior(10.0, 1.0)
    n_flux = flux.size // 2
    spread = 3.3 * np.sqrt(0.6827 * 0.3173 / n_flux)
    assert covered(data.pixels, default) < 0.6
    assert covered(found.rescale(data.pixels), default) == pytest.approx(0.6827, abs=spread)


def test_variable_stars_and_a_wrong_model_are_not_noise():
    data, _ = make_data(np.random.default_rng(6), n_time=20, noise=1.0, model=0.1, variable=0.2)
    found = learn(data)
    assert np.abs(found.noise_scale - 1.0).max() < 3.5 * found.noise_scale_err.max()
    assert found.noise_scale_err.max() < 0.02
    assert np.abs(found.variability[0] / 0.2 - found.zero_point) < 3.5 * found.variability_err[0] / 0.2


def test_the_prior_of_a_cadence_leaves_room_for_variable_stars():
    """Slow changes too: neighbours do not see them, cadences half a series apart do."""
    data, _ = make_data(np.random.default_rng(14), n_time=40, width=0.05, variable=0.0, zero=1.0)
    slow = 0.3 * np.sqrt(2.0) * np.sin(np.linspace(0, np.pi, 40))[:, None] * data.expected
    trend = data.pixels.flux + (slow * np.sign(np.arange(40) - 19.5)[:, None]) @ data.design.matrix().T
    data = replace(data, pixels=replace(data.pixels, flux=trend))
    data = replace(data, image=reduce_image(data.pixels))
    found = learn(data)
    assert 0.2 < found.variability[0] < 0.5
    np.testing.assert_allclose(
        found.prior.precision**-0.5 / data.expected, np.hypot(found.prior_width[0], found.variability[0])
    )


def test_constant_stars_are_found_to_be_constant():
    found = learn(make_data(np.random.default_rng(15), n_time=40, variable=0.0)[0])
    assert found.converged
    assert found.variability[0] < 2e-3


def test_cosmic_rays_and_unknown_stars_are_left_out():
    data, _ = make_data(np.random.default_rng(7), n_time=20)
    rng = np.random.default_rng(8)
    cadence, pixel, star = rng.integers(0, 20, 40), rng.integers(0, 960, 40), rng.choice(960, 20, replace=False)
    flux = data.pixels.flux.copy()
    flux[cadence, pixel] += 1e4
    flux[:, star] += 3e3
    hit = replace(data, pixels=replace(data.pixels, flux=flux))
    found = learn(replace(hit, image=reduce_image(hit.pixels)))
    assert np.abs(scores(found)[:4]).max() < 3.5
    assert found.model_error == pytest.approx(MODEL, rel=0.2)
    assert 60 <= found.n_clipped <= 200
    assert learn(data).n_clipped <= 2


def test_a_misfit_where_there_is_little_light_is_no_error_of_the_model():
    data, _ = make_data(np.random.default_rng(16), n_time=20, noise=1.0)
    floor = 3.0 * data.image.ivar**-0.5 * np.random.default_rng(17).normal(size=data.pixels.n_pixel)
    data = replace(data, pixels=replace(data.pixels, flux=data.pixels.flux + floor))
    found = learn(replace(data, image=reduce_image(data.pixels)))
    assert np.abs(scores(found, noise=1.0)).max() < 3.5
    assert found.image_scale == pytest.approx(np.sqrt(10.0), rel=0.3)
    assert learn(make_data(np.random.default_rng(16), n_time=20)[0]).image_scale == pytest.approx(1.0, abs=0.15)


def test_sources_not_trusted_do_not_teach():
    data, _ = make_data(np.random.default_rng(18), n_time=4)
    found = learn(
        replace(data, trusted=np.arange(120) > 30, expected=data.expected * np.where(np.arange(120) > 30, 1, 9))
    )
    assert found.n_source == 89
    assert np.abs(scores(found)).max() < 3.5


@pytest.mark.parametrize("seed", range(8))
def test_a_model_without_error_is_found_to_have_none(seed):
    """Where the evidence falls from zero on, the answer is zero, with no error to give."""
    found = learn(make_data(np.random.default_rng(seed), n_source=60, model=0.0)[0])
    assert found.converged
    assert found.model_error < 3e-3
    assert np.isnan(found.model_error_err) == (found.model_error == 0.0)


def test_groups_of_sources_have_their_own_widths():
    rng = np.random.default_rng(9)
    data, _ = make_data(rng, n_source=160, width=0.0, model=0.0, zero=1.0, noise=1.0)
    wide = np.arange(160) < 80
    moved = np.where(wide, 0.4, 0.05) * rng.normal(size=160) * data.expected
    flux = data.pixels.flux + data.design.matrix() @ moved
    data = replace(data, pixels=replace(data.pixels, flux=flux))
    data = replace(data, image=reduce_image(data.pixels))
    found = learn(data, sources=np.where(wide, "wide", "narrow"), model=0.0, variability=0.0)
    assert found.prior_labels == ("narrow", "wide")
    assert np.all(np.abs(found.prior_width - [0.05, 0.4]) < 3.5 * found.prior_width_err)
    np.testing.assert_allclose(
        found.prior.precision**-0.5 / data.expected, np.where(wide, found.prior_width[1], found.prior_width[0])
    )


def test_a_catalogue_without_error_is_reported():
    data, _ = make_data(np.random.default_rng(10), n_source=10, width=0.0, model=0.0, n_time=2)
    data = replace(data, image=replace(data.image, flux=data.design.matrix() @ (1.5 * data.expected)))
    with pytest.warns(ConvergenceWarning, match=r"no maximum of the evidence found for prior_width.*fix one"):
        found = learn(data, noise=1.0, zero_point=1.5, model=0.0)
    assert not found.converged
    assert np.isnan(found.prior_width_err).all()


@pytest.mark.parametrize(("seed", "n_source"), [(0, 12), (1, 12), (0, 40)])
def test_a_width_without_a_maximum_leaves_the_error_of_the_model(seed, n_source):
    """The evidence without that error is lower by 40 to 80; the width is the widest as likely as zero."""
    data, _ = make_data(np.random.default_rng([5, seed]), n_source=n_source, n_time=6, width=0.0, zero=1.0, noise=1.0)
    with pytest.warns(ConvergenceWarning, match=r"no maximum of the evidence found for prior_width \(held at 0.00"):
        found = learn(data, by_channel=False)
    assert not found.converged
    assert np.isnan(found.prior_width_err).all()
    assert abs(np.log(found.model_error / MODEL)) < 3.0 * found.model_error_err / found.model_error
    assert abs(found.zero_point - 1.0) < 3.0 * found.zero_point_err
    narrow = learn(data, by_channel=False, prior_width=1e-6)
    assert narrow.log_evidence - 0.6 < found.log_evidence < narrow.log_evidence
    assert 0.0 < found.prior_width[0] < MODEL


def test_a_small_maximum_is_not_run_past():
    """The evidence is looked at between where a search began and where it ended."""
    data, _ = make_data(np.random.default_rng([5, 3]), n_source=12, n_time=6, width=0.0, zero=1.0, noise=1.0)
    problem = image_problem(data, data.prior(0.3, 1.0), np.ones(data.pixels.n_pixel))
    hyper = Hyperparameters(width="learn", model_error="learn", model_variance=(0.01 * mean_light(data)) ** 2)
    found = maximise_evidence(problem, hyper)
    assert found.converged
    past = replace(found, hyper=replace(found.hyper, width=np.array([1e-6])))
    likeliest, widest = _look_between(problem, past)
    assert abs(np.log(likeliest[0] / found.hyper.width[0])) < 0.13
    again = maximise_evidence(problem, hyper, start=replace(past.hyper, width=likeliest))
    assert again.log_evidence == pytest.approx(found.log_evidence, abs=1e-6)
    assert widest[0] >= likeliest[0]


def test_sources_of_unknown_flux_keep_the_default_prior():
    data, _ = make_data(np.random.default_rng(11), n_time=4)
    expected = np.where(np.arange(120) == 5, np.nan, data.expected)
    found = learn(replace(data, expected=expected))
    assert found.n_source == 119
    assert found.prior.mean[5] == 0.0
    assert found.prior.precision[5] ** -0.5 == pytest.approx(10.0 * np.nanmax(expected))
    with pytest.raises(InputError, match="sources: expected some with a positive catalogue flux and data"):
        learn(replace(data, expected=np.full(120, np.nan)))


def test_the_same_call_gives_the_same_bits():
    data, _ = make_data(np.random.default_rng(12), n_time=6)
    first, second = learn(data), learn(data)
    assert first.prior_width.tobytes() == second.prior_width.tobytes()
    assert (first.zero_point, first.model_error, first.log_evidence) == (
        second.zero_point,
        second.model_error,
        second.log_evidence,
    )


@pytest.mark.parametrize(
    ("n_time", "n_cadence", "near", "far"),
    [
        (1, 9, [], []),
        (2, 9, [0], [(0, 1)]),
        (7, 9, [0, 2, 4], [(0, 3), (1, 4), (2, 5)]),
        (9, 4, [0, 6], [(0, 4), (3, 7)]),
    ],
)
def test_pairs_share_no_cadence(n_time, n_cadence, near, far):
    neighbors, distant = CadencePairs.neighbors(n_time, n_cadence), CadencePairs.distant(n_time, n_cadence)
    assert (neighbors.first.tolist(), neighbors.second.tolist()) == (near, [one + 1 for one in near])
    assert list(zip(distant.first.tolist(), distant.second.tolist(), strict=True)) == far


def test_differences_forget_what_does_not_change():
    data, _ = make_data(np.random.default_rng(13), n_time=4)
    pairs, ones = CadencePairs.neighbors(4, 200), np.ones(data.pixels.n_pixel)
    problem = difference_problem(data, pairs, data.prior(0.1, 1.5), ones)
    moved = replace(data, pixels=replace(data.pixels, flux=data.pixels.flux + np.arange(data.pixels.n_pixel)))
    again = difference_problem(moved, pairs, data.prior(0.1, 1.5), 2.0 * ones)
    np.testing.assert_allclose(again.data, problem.data, atol=1e-9)
    np.testing.assert_allclose(problem.ivar, data.pixels.ivar[:2])
    np.testing.assert_allclose(again.ivar, problem.ivar / 4.0)
    assert not problem.prior.mean.any()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"prior_width": 0.0}, r"prior_width: expected 'learn' or a finite number above 0, got 0.0"),
        ({"zero_point": np.nan}, "zero_point: expected 'learn' or a finite number above 0, got nan"),
        ({"noise": "fit"}, "noise: expected 'learn' or a finite number above 0, got 'fit'"),
        ({"noise": None}, "noise: expected 'learn' or a finite number above 0, got None"),
        ({"model": -0.1}, "model: expected 'learn' or a finite number 0 or more, got -0.1"),
        ({"model": [0.1, 0.2]}, "model: expected 'learn' or a finite number 0 or more"),
        ({"n_cadence": 1}, "n_cadence: expected a whole number of 2 or more, got 1"),
        ({"n_cadence": 20.0}, "n_cadence: expected a whole number of 2 or more, got 20.0"),
    ],
)
def test_bad_choices_are_refused(choice, message):
    with pytest.raises(InputError, match=message):
        WidthChoice(**choice)
