"""Sky under the stars: surfaces, the fit with known PRF against dense formulas, and with the PRF learned along."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesprf.errors import InputError, QualityWarning
from bayesprf.flags import QualityFlag
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.stack import DesignStack
from bayesprf.machine import Machine
from bayesprf.photometry.background import Background, BackgroundColumns, build_background, find_patches, marginal_gain
from bayesprf.photometry.fluxes import _with_trust, fit_flux
from bayesprf.scene.image import Image, reduce_image
from bayesprf.scene.pixels import PixelTable
from bayesprf.simulation.fields import make_case, make_field
from bayesprf.testing import assert_posterior_close, dense_twin

SKY = -50.0  # electron / s


def make_pixels(column, row, **options):
    """Return pixels of one cadence at given places."""
    column, row = np.asarray(column, float), np.asarray(row, float)
    flux = np.zeros((1, column.size))
    return PixelTable(np.zeros(1), flux, flux + 1.0, row / 900.0, column / 900.0, column, row, **options)


def dark_image(n_pixel, level=0.0):
    return Image(np.full(n_pixel, level), np.ones(n_pixel), 1.0)


@pytest.fixture(scope="module")
def field():
    """Forty stars in fifteen cutouts."""
    return make_field(n_source=40, n_stamp=15, n_time=60, rng=np.random.default_rng(11))


def sky_of_stamps(field, rng, width=20.0):
    """Return one level per cutout, and that of each pixel."""
    levels = SKY + width * rng.standard_normal(field.pixels.stamp.max() + 1)
    return levels[np.unique(field.pixels.stamp)], levels[field.pixels.stamp]


def with_sky(field, sky):
    """Return the pixels with sky added."""
    return replace(field.pixels, flux=field.pixels.flux + sky)


def known_prf_fit(field, pixels, options, prior_width=10.0):
    """Return the fluxes with the true PRF."""
    columns = None if options is None else build_background(pixels, reduce_image(pixels), options)
    n_source = field.sources.n_source
    prior = GaussianPrior.from_sigma(field.mean_flux, prior_width * field.mean_flux)
    return fit_flux(
        pixels,
        DesignStack.from_sparse(field.true_design()),
        prior,
        source_flags=np.zeros(n_source, np.int64),
        background=columns,
    )


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "field"}, "background: expected .*stamp.*image.*got 'field'"),
        ({"order": 7}, "order: expected a whole number from 0 to 6, or None, got 7"),
        ({"order": True}, "order: expected .*got True"),
        ({"sigma": 0.0}, "sigma: expected .* got 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Background(**options)


@pytest.mark.parametrize("value", [1, {"level": 3}, ["stamp"]])
def test_a_machine_refuses_what_is_no_background(field, value):
    with pytest.raises(InputError, match="background: expected None, 'stamp', 'image' or a Background"):
        Machine.from_pixels(field.pixels, field.sources, quiet=True, background=value)


def test_names_and_mappings_stand_for_backgrounds(field):
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True, background="image")
    assert machine.background == Background("image")
    machine.background = {"scope": "stamp", "order": 1, "sigma": None}
    assert machine.background == Background("stamp", 1)
    machine.background = None
    assert machine.background is None


def test_trust_changes_weights_and_leaves_the_noise(field):
    problem = known_prf_fit(field, field.pixels, Background()).problem
    trust = np.ones(field.pixels.n_pixel)
    trust[:3] = 0.0, 0.25, 0.5
    less = _with_trust(problem, trust)
    np.testing.assert_allclose(less.ivar, problem.ivar * trust)
    np.testing.assert_allclose(less.noise_ivar[:, 1:], problem.ivar[:, 1:])
    assert not less.ivar[:, 0].any()
    assert _with_trust(problem, np.ones(field.pixels.n_pixel)) is problem
    assert _with_trust(problem, np.where(trust < 1.0, 0.0, 1.0)).noise_ratio is None


# Surfaces


def test_patches_are_the_files_where_there_are_several():
    pixels = make_pixels([0, 1, 2, 3], [0, 0, 0, 0], stamp=[7, 7, 3, 3])
    assert find_patches(pixels).tolist() == [1, 1, 0, 0]


def test_patches_of_one_stack_are_connected_regions():
    column, row = [0, 1, 4, 0, 20, 21, 21, 1], [0, 0, 0, 1, 0, 0, 1, 9]
    label = find_patches(make_pixels(column, row))
    assert len(set(label[:4])) == 1
    assert len(set(label[4:7])) == 1
    assert len({label[0], label[4], label[7]}) == 3


def test_surfaces_are_legendre_polynomials_over_the_patch():
    row, column = (one.ravel() for one in np.mgrid[10:13, 100:105])
    columns = build_background(make_pixels(column, row), dark_image(15), Background("stamp", 2))
    x, y = (column - 102.0) / 2.0, row - 11.0
    expected = [x**0, x, y, (3 * x**2 - 1) / 2, x * y, (3 * y**2 - 1) / 2]
    np.testing.assert_allclose(columns.matrix.toarray(), np.stack(expected, axis=1), atol=1e-15)
    assert columns.power.tolist() == [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    assert columns.centre[0].tolist() == [102.0, 11.0]
    assert columns.half[0].tolist() == [2.0, 1.0]


def test_a_patch_of_one_row_has_no_slope_along_rows():
    columns = build_background(make_pixels([0, 1, 2], [5, 5, 5]), dark_image(3), Background("stamp", 1))
    np.testing.assert_array_equal(columns.matrix.toarray(), [[1, -1, 0], [1, 0, 0], [1, 1, 0]])


def test_image_scope_is_one_patch():
    columns = build_background(make_pixels([0, 90], [0, 0], stamp=[0, 1]), dark_image(2), Background("image", 1))
    assert columns.n_column == 3
    np.testing.assert_array_equal(columns.matrix.toarray(), [[1, -1, 0], [1, 1, 0]])


def test_saturated_pixels_say_nothing_about_the_sky():
    pixels = make_pixels([0, 1], [0, 0], saturated=[True, False])
    np.testing.assert_array_equal(build_background(pixels, dark_image(2), Background()).matrix.toarray(), [[0], [1]])


@pytest.mark.parametrize(("level", "sigma"), [(0.0, 10.0), (-7.0, 70.0), (30.0, 300.0)])
def test_default_width_is_ten_times_level_or_noise(level, sigma):
    columns = build_background(make_pixels([0, 1], [0, 0]), dark_image(2, level), Background())
    assert columns.sigma == pytest.approx(sigma)


@pytest.mark.parametrize("mix", [None, [[1.0, 0.3], [1.0, -2.0]], [[2.0, 0.3], [0.5, -2.0]]])
def test_columns_are_the_same_at_all_cadences(mix):
    stars = DesignStack(
        indptr=np.array([0, 2, 3, 3]),
        indices=np.array([0, 1, 1]),
        parts=np.array([[0.5, 0.2, 0.3]] if mix is None else [[0.5, 0.2, 0.3], [0.1, 0.1, 0.4]]),
        n_coeff=2,
        mix=None if mix is None else np.array(mix),
    )
    columns = build_background(make_pixels([0, 1, 2], [0, 0, 0]), dark_image(3), Background("image", 1))
    both = columns.extend(stars)
    for time in range(1 if mix is None else 2):
        expected = np.hstack([stars.matrix(time).toarray(), columns.matrix.toarray()])
        np.testing.assert_array_equal(both.matrix(time).toarray(), expected)


# Known PRF


@pytest.mark.parametrize("options", [Background("stamp", 1, 20.0), Background("image", 2, 50.0), Background(sigma=3.0)])
def test_fit_is_that_of_dense_matrices(options):
    """Mean, errors, covariance and evidence are those of the N x N Gaussian with the same columns."""
    field = make_field(n_source=15, n_stamp=6, n_time=3, rng=np.random.default_rng(11))
    pixels = with_sky(field, SKY)
    flux = pixels.flux[:3].copy()
    flux[1, 5:9] = np.nan
    small = PixelTable(
        pixels.time[:3], flux, pixels.flux_err[:3], pixels.ra_deg, pixels.dec_deg, pixels.column, pixels.row,
        stamp=pixels.stamp, instrument=pixels.instrument,
    )  # fmt: skip
    fit = known_prf_fit(field, small, options, 0.02)
    assert_posterior_close(fit.posterior, dense_twin(fit.problem), rtol=1e-9)
    n_source = field.sources.n_source
    assert fit.flux.shape == (3, n_source)
    np.testing.assert_array_equal(fit.background_w, fit.posterior.mean[:, n_source:])
    assert fit.prior.mean.size == n_source


def test_fluxes_are_unbiased_where_the_prf_is_known(field):
    """A level per cutout: z-scores of all fluxes have mean 0 and deviation 1; without a background they do not."""
    levels, sky = sky_of_stamps(field, np.random.default_rng(2))
    pixels = with_sky(field, sky)
    fit = known_prf_fit(field, pixels, Background())
    z = (fit.flux - field.flux) / fit.flux_err
    # 2400 correlated scores: 60 independent cadences of 40 stars.
    assert abs(z.mean()) < 4.0 / np.sqrt(z.size)
    assert abs(z.std() - 1.0) < 4.0 / np.sqrt(2.0 * z.size)
    assert np.abs(z.mean(axis=0)).max() < 4.5 / np.sqrt(field.pixels.n_time)
    error = (fit.background_w - levels) / fit.background_w_err
    assert abs(error.mean()) < 4.0 / np.sqrt(error.size)
    assert abs(error.std() - 1.0) < 4.0 / np.sqrt(2.0 * error.size)
    plain = known_prf_fit(field, pixels, None)
    assert np.abs(np.mean((plain.flux - field.flux) / plain.flux_err)) > 10.0


def test_a_gradient_needs_a_plane(field):
    """A plane over the field: unbiased with order 1, biased with a constant."""
    place = (field.pixels.column - field.pixels.column.mean()) / np.ptp(field.pixels.column)
    pixels = with_sky(field, SKY + 80.0 * place)
    plane, constant = (known_prf_fit(field, pixels, Background("image", order)) for order in (1, 0))
    z = (plane.flux - field.flux) / plane.flux_err
    assert abs(z.mean()) < 4.0 / np.sqrt(z.size)
    assert abs(z.std() - 1.0) < 4.0 / np.sqrt(2.0 * z.size)
    assert np.std((constant.flux - field.flux) / constant.flux_err) > 3.0


@settings(max_examples=25, deadline=None)
@given(level=st.floats(-1e3, 1e3), stamp=st.integers(0, 14), sigma=st.sampled_from([100.0, 1e4]))
def test_a_constant_moves_no_flux_beyond_what_the_prior_says(level, stamp, sigma):
    """Lambda^-1 X' C^-1 (c b) = c (e - P cov e): fluxes move by -c cov(F, w) / sigma**2 alone."""
    field = make_field(n_source=40, n_stamp=15, n_time=2, rng=np.random.default_rng(11))
    before = known_prf_fit(field, field.pixels, Background(sigma=sigma))
    pixels = with_sky(field, np.where(field.pixels.stamp == stamp, level, 0.0))
    after = known_prf_fit(field, pixels, Background(sigma=sigma))
    n_source = field.sources.n_source
    shared = before.posterior.covariance(0)[:n_source, n_source + stamp]
    expected = -level * shared / sigma**2
    np.testing.assert_allclose((after.flux - before.flux)[0], expected, atol=1e-8 * np.abs(before.flux[0]).max())
    assert np.abs(expected).max() <= abs(level) * (1.0 / sigma) * before.flux_err[0].max()


def test_marginal_gain_is_that_of_the_joint_fit(field):
    """The first rows of Lambda^-1 X' C^-1 of stars and sky, from the rows of the stars alone."""
    pixels = field.pixels
    columns = build_background(pixels, reduce_image(pixels), Background("stamp", 1))
    stars, ivar = field.true_design(), pixels.ivar.mean(axis=0)
    prior = GaussianPrior.from_sigma(field.mean_flux, 10.0 * field.mean_flux)
    both, whole = np.hstack([stars.toarray(), columns.matrix.toarray()]), columns.extend_prior(prior)

    def response(matrix, precision):
        return np.linalg.solve(matrix.T @ (ivar[:, None] * matrix) + np.diag(precision), matrix.T * ivar)

    alone = response(stars.toarray(), prior.precision)
    joint = response(both, whole.precision)[: field.sources.n_source]
    found = marginal_gain(type(stars)(alone), stars, columns, ivar)
    np.testing.assert_allclose(found.toarray(), joint, atol=1e-9 * np.abs(joint).max())


# PRF learned along


@pytest.fixture(scope="module")
def medium():
    return make_case("medium", np.random.default_rng(1), n_source=100, n_stamp=88, n_time=50)


def run(field, sky, background, **options):
    machine = Machine.from_pixels(with_sky(field, sky), field.sources, quiet=True, background=background)
    machine.build_shape_model(**options)
    machine.fit_model()
    return machine


def bright_bias(machine, field):
    """Median relative error of the brightest third."""
    ratio = np.median(machine.ws, axis=0) / field.mean_flux - 1.0
    return float(np.median(ratio[np.argsort(-field.mean_flux)[: ratio.size // 3]]))


@pytest.fixture(scope="module")
def sky_machine(medium):
    return run(medium, SKY, "stamp")


def leave_sky(field, sky, machine):
    """Return fluxes of pixels with their sky in them, by the PRF that was fitted beside it.

    A PRF that is learned from such pixels has their sky in its wings: bright stars are 23 % too faint.
    """
    left = Machine.from_pixels(with_sky(field, sky), field.sources, quiet=True)
    left.fit = left.fit.with_stage("prf", replace(machine.fit.prf, background=None))
    left.fit_model()
    return left


@pytest.fixture(scope="module")
def left_machine(medium, sky_machine):
    """The sky is left in the pixels."""
    return leave_sky(medium, SKY, sky_machine)


def test_sky_left_in_all_pixels_biases_no_flux(medium, sky_machine, left_machine):
    assert abs(bright_bias(sky_machine, medium)) < 0.003
    assert bright_bias(left_machine, medium) < -0.02


def with_plane(field):
    """Sky that rises from -90 to -10 electron / s along the columns."""
    return SKY + 80.0 * (field.pixels.column - field.pixels.column.mean()) / np.ptp(field.pixels.column)


def test_a_plane_of_sky_biases_no_flux_of_one_field(medium):
    machine = run(medium, with_plane(medium), Background("image", 1))
    assert abs(bright_bias(machine, medium)) < 0.003
    assert bright_bias(leave_sky(medium, with_plane(medium), machine), medium) < -0.02


@pytest.mark.slow
def test_a_plane_of_sky_over_the_image_biases_no_flux(medium):
    """The mean over three fields: the scale of each wanders by 0.2 % with or without sky (docs/howto/sky.md)."""
    fields = [medium, *(make_case("medium", np.random.default_rng(seed), n_time=50) for seed in (2, 3))]
    bias = [bright_bias(run(one, with_plane(one), Background("image", 1)), one) for one in fields]
    assert abs(np.mean(bias)) < 0.003
    assert np.abs(bias).max() < 0.006


def test_a_level_per_cutout_is_found(medium):
    """Levels that scatter by 20 electron / s: found to 1 electron / s while the wings are learned along."""
    levels, sky = sky_of_stamps(medium, np.random.default_rng(5))
    machine = run(medium, sky, "stamp")
    assert np.std(machine.background_w.mean(axis=0) - levels) < 2.0
    assert abs(np.median(machine.background_w.mean(axis=0) - levels)) < 1.0
    assert abs(bright_bias(machine, medium)) < 0.005


def test_a_constant_everywhere_changes_nothing(field):
    """The guess, the fit of the PRF and the fluxes follow the level of the sky."""
    options = Background("stamp", sigma=1e5)
    one, other = (run(field, sky, options) for sky in (0.0, 300.0))
    np.testing.assert_allclose(other.ws, one.ws, rtol=1e-5)
    np.testing.assert_allclose(other.background_w, one.background_w + 300.0, atol=0.02)
    np.testing.assert_allclose(other.model_flux, one.model_flux + 300.0, atol=0.05)


def test_the_model_holds_the_sky(medium, sky_machine):
    model, sky = sky_machine.model_flux, sky_machine.background_flux
    assert sky.shape == medium.pixels.flux.shape
    stars = sky_machine.fit.flux.source_design @ sky_machine.ws.T
    np.testing.assert_allclose(model, stars.T + sky + sky_machine.fit.prf.fixed_light, atol=1e-6)
    assert np.median(sky) == pytest.approx(SKY, abs=2.0)


def test_results_carry_the_background(sky_machine):
    tree = sky_machine.to_datatree()
    group = tree["background"]
    assert group["background_w"].dims == ("time", "background_column")
    assert group["background_w"].attrs["units"] == "electron / s"
    assert all(one.attrs["long_name"] for one in group.data_vars.values())
    np.testing.assert_array_equal(group["background_w"], sky_machine.background_w)
    columns = sky_machine.fit.prf.background.columns
    assert isinstance(columns, BackgroundColumns)
    assert group["background_name"].values.tolist() == list(columns.names)
    assert tree["photometry/flux"].shape == sky_machine.ws.shape
    assert tree["photometry/chi2"].shape == sky_machine.ws.shape
    assert set(tree["covariance/source_i"].values) <= set(sky_machine.sources.source_id)
    assert '"background": {"order": null, "scope": "stamp", "sigma": null}' in tree.attrs["options"]


def test_without_a_background_there_is_no_group(field):
    machine = run(field, 0.0, None)
    assert "background" not in machine.to_datatree().children
    assert not machine.background_flux.any()
    assert machine.background_w.shape == (field.pixels.n_time, 0)


def test_draws_have_the_background_integrated_out(sky_machine):
    """Draws of one star: its own posterior; the sky is among what was marginalised."""
    tree = sky_machine.posterior(sources=[2], cadences=4, draws=4000, random_seed=3)
    draws = tree["posterior/flux"].to_numpy().ravel()
    assert draws.mean() == pytest.approx(sky_machine.ws[4, 2], abs=4.0 * sky_machine.werrs[4, 2] / np.sqrt(4000))
    assert draws.std() == pytest.approx(sky_machine.werrs[4, 2], rel=4.0 / np.sqrt(8000))
    assert "background 2:00" in str(tree.attrs["overlapping_sources"])


def test_leave_one_out_prefers_the_background(sky_machine, left_machine):
    assert sky_machine.loo().elpd_time.sum() > left_machine.loo().elpd_time.sum()
    assert sky_machine.loo().log_evidence.sum() > left_machine.loo().log_evidence.sum()


def test_hypotheses_see_sources_alone(medium, sky_machine):
    """Candidates for an event are stars, never the sky."""
    event = np.arange(sky_machine.nt) % 10 == 3
    host = sky_machine.which_source(event, sources=[0])
    assert set(host.source) <= set(medium.sources.source_id)
    assert host.probability.sum() == pytest.approx(1.0)


def test_a_second_star_is_not_sky(medium, sky_machine):
    """One or two stars at a place: the flux of the second is known as well as without sky."""
    plain = run(medium, 0.0, None)
    at = medium.sources.ra_deg[0] + 2.0 / 3600.0, medium.sources.dec_deg[0]
    with_sky_fitted, without = (one.blend_test(0, at) for one in (sky_machine, plain))
    assert with_sky_fitted.flux_err == pytest.approx(without.flux_err, rel=0.3)
    assert with_sky_fitted.log_bayes_factor < 0.0
    assert without.log_bayes_factor < 0.0


def test_robust_fluxes_bear_the_background(sky_machine):
    machine = Machine.from_fit(sky_machine.fit, quiet=True)
    machine.fit_model(robust=True)
    assert machine.flags.shape == machine.ws.shape
    away = (machine.ws - sky_machine.ws) / sky_machine.werrs
    assert np.median(np.abs(away)) < 1.0


def test_the_time_model_learns_from_pixels_without_sky():
    """A star that drifts: relative changes are those of the same field without sky."""
    drift = np.stack([0.05 * np.linspace(-1.0, 1.0, 80), np.zeros(80)], axis=1)
    field = make_field(n_source=60, n_stamp=40, n_time=80, drift=drift, rng=np.random.default_rng(4))
    curves, held = [], np.zeros(60, bool)
    for sky, background in ((0.0, None), (SKY, "stamp")):
        machine = run(field, sky, background)
        machine.build_time_model()
        with warnings.catch_warnings():  # one star keeps its mean PRF, and is named
            warnings.filterwarnings("ignore", "the time model makes light curves worse", QualityWarning)
            machine.fit_model(fit_va=True)
        curves.append(machine.ws_va / np.median(machine.ws_va, axis=0))
        held |= (machine.flags & QualityFlag.TIME_MODEL_WORSE).any(axis=0)
    bright = np.argsort(-field.mean_flux)[:20]
    assert held.sum() <= 2  # with the mean PRF they drift, which is what the time model would take away
    assert np.std((curves[1] - curves[0])[:, bright[~held[bright]]]) < 5e-4


def test_a_cadence_without_data_falls_back_to_the_prior(field):
    """All pixels of a cutout are lost: its sky is that of the prior, all others stay."""
    flux = with_sky(field, SKY).flux.copy()
    flux[7, field.pixels.stamp == 2] = np.nan
    fit = known_prf_fit(field, replace(field.pixels, flux=flux), Background(sigma=200.0))
    assert fit.background_w[7, 2] == pytest.approx(0.0, abs=1e-9)
    assert fit.background_w_err[7, 2] == pytest.approx(200.0)
    assert fit.background_w[8, 2] == pytest.approx(SKY, abs=5.0)
