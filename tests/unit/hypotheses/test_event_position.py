"""Difference images, their covariance, the prior of a dip, cells that follow the probability, regions."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import bayesprf as bp
from bayesprf.errors import InputError
from bayesprf.hypotheses.event_host import baseline_columns
from bayesprf.hypotheses.event_position import (
    EventFits,
    EventPosition,
    PositionLikelihood,
    dip_evidence,
    fit_events,
    host_shares,
    image_covariance,
    quick_image,
    refine_cells,
)
from bayesprf.instruments import TESS
from bayesprf.scene.pairs import offsets
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.settings import Transit

TIME = np.arange(200) * 0.02
EVENT = ((TIME > 1.9) & (TIME < 2.1)).astype(float)


def test_dips_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    data = 100.0 + 5.0 * np.sin(TIME)[:, None] - 3.0 * EVENT[:, None] + rng.normal(size=(200, 2))
    ivar = rng.uniform(0.5, 2.0, data.shape)
    ivar[20:30, 1] = 0.0
    found = fit_events(TIME, data, ivar, EVENT, spacing=0.7)
    columns = np.column_stack([baseline_columns(TIME, 0.7).toarray(), -EVENT])
    for p in range(2):
        root = np.sqrt(ivar[:, p])
        best = np.linalg.lstsq(columns * root[:, None], data[:, p] * root, rcond=None)[0]
        covariance = np.linalg.inv((columns * ivar[:, [p]]).T @ columns)
        assert found.dip[p] == pytest.approx(best[-1], rel=1e-8)
        assert found.variance[p] == pytest.approx(covariance[-1, -1], rel=1e-8)
    assert np.all(np.abs(found.dip - 3.0) < 4.0 * np.sqrt(found.variance))


def test_placebos_scatter_as_their_variance_where_the_noise_is_white():
    rng = np.random.default_rng(1)
    found = fit_events(TIME, rng.normal(size=(200, 300)), np.ones((200, 300)), EVENT, spacing=0.7)
    score = found.placebo / np.sqrt(found.placebo_variance)
    assert score.shape[0] >= 8
    assert score.std() == pytest.approx(1.0, abs=0.05)


def test_a_series_without_data_in_the_event_says_nothing():
    ivar = np.ones((200, 2))
    ivar[EVENT > 0, 1] = 0.0
    found = fit_events(TIME, np.zeros((200, 2)), ivar, EVENT, spacing=0.7)
    assert np.isfinite(found.variance).tolist() == [True, False]


def test_the_quick_image_is_that_of_equal_weights():
    rng = np.random.default_rng(2)
    data = rng.normal(size=(200, 4)) - 2.0 * EVENT[:, None]
    exact = fit_events(TIME, data, np.full((200, 4), 4.0), EVENT, spacing=0.7)
    dip, ivar = quick_image(TIME, data, np.full((200, 4), 4.0), EVENT, spacing=0.7)
    np.testing.assert_allclose(dip, exact.dip, rtol=1e-6)
    np.testing.assert_allclose(ivar, 1.0 / exact.variance, rtol=1e-6)


def test_stars_that_vary_fast_correlate_the_pixels():
    rng = np.random.default_rng(3)
    placebo = rng.normal(size=(40, 1)) * 3.0
    light = np.array([[0.5], [0.3], [0.0]])
    pixels = EventFits(np.zeros(3), np.ones(3), placebo @ light.T + rng.normal(size=(40, 3)), np.ones((40, 3)))
    sources = EventFits(np.zeros(1), np.ones(1), placebo, np.ones((40, 1)))
    covariance = image_covariance(pixels, sources, light)
    correlated = covariance[0, 1] / (0.5 * 0.3)
    assert correlated == pytest.approx(8.0, rel=0.5)
    assert covariance[0, 2] == 0.0
    quiet = EventFits(np.zeros(1), np.ones(1), rng.normal(size=(40, 1)), np.ones((40, 1)))
    assert image_covariance(pixels, quiet, light)[0, 0] > 1.5  # then the pixel itself counts as noisier


@pytest.mark.parametrize(("precision", "rhs"), [(0.04, 0.3), (4.0, 30.0), (1.0, -2.0)])
def test_evidence_of_a_dip_is_the_integral_over_its_prior(precision, rhs):
    least, most = 1.0, 50.0
    scales = most * 3.0 ** -np.arange(int(np.ceil(np.log(most / least) / np.log(3.0))) + 1)

    def integrand(dip):
        prior = np.mean(norm.pdf(dip, 0.0, scales) / (norm.cdf(most / scales) - 0.5))
        return prior * np.exp(rhs * dip - 0.5 * precision * dip**2)

    peak = np.clip(rhs / precision, 0.0, most)
    expected = np.log(quad(integrand, 0.0, most, points=[peak, 1.0], limit=200)[0])
    found = dip_evidence(np.array([precision]), np.array([rhs]), least=least, most=np.array([most]))
    assert found[0] == pytest.approx(expected, abs=1e-6)


def test_cells_hold_a_narrow_peak():
    """A Gaussian a hundred times narrower than the first cells, its centre near a corner."""
    axis = np.arange(-4.5, 5.0)
    x, y = (one.ravel() for one in np.meshgrid(axis, axis))
    centre, sigma = (0.97, -1.02), 0.01

    def density(x, y):
        return -0.5 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / sigma**2

    cells = refine_cells(x, y, 1.0, density)
    assert np.sum(cells.size**2) == pytest.approx(100.0)
    mean = cells.probability @ np.stack([cells.x, cells.y], axis=1)
    np.testing.assert_allclose(mean, centre, atol=1e-4)
    spread = cells.probability @ np.stack([(cells.x - centre[0]) ** 2, (cells.y - centre[1]) ** 2], axis=1)
    np.testing.assert_allclose(np.sqrt(spread), sigma, rtol=0.05)


def test_likelihood_of_a_position_is_that_of_the_whole_covariance():
    rng = np.random.default_rng(5)
    root = rng.normal(size=(6, 6))
    covariance = root @ root.T + np.eye(6)
    image, columns = rng.normal(size=6), rng.normal(size=(3, 6))
    precision, rhs = PositionLikelihood.of(image, covariance).amplitudes(columns)
    np.testing.assert_allclose(precision, np.einsum("ip,pq,iq->i", columns, np.linalg.inv(covariance), columns))
    np.testing.assert_allclose(rhs, columns @ np.linalg.solve(covariance, image))


def test_shares_add_up_to_one():
    stars, none = host_shares(np.array([1.0, 3.0]), 3.0, 0.5)
    assert stars.sum() + none == pytest.approx(1.0)
    assert none == pytest.approx(2.0 * stars[1])
    assert host_shares(np.zeros(0), 3.0, 1.0)[1] == 1.0


def make_position(n=50, size=1.0):
    axis = (np.arange(n) - n / 2) * size
    x, y = (one.ravel() for one in np.meshgrid(axis, axis))
    probability = np.exp(-0.5 * (x**2 + y**2) / 16.0)
    return EventPosition(
        10.0 + x / 3600.0, y / 3600.0, np.full(x.size, size), probability / probability.sum(), np.log(probability),
        1.0, 0.1, (), np.zeros(0), 1.0, np.zeros(0),
    )  # fmt: skip


def test_regions_of_a_gaussian_have_its_area():
    found = make_position()
    for level in (0.5, 0.95):
        expected = -2.0 * np.log(1.0 - level) * np.pi * 16.0
        assert found.area(level) == pytest.approx(expected, rel=0.05)
    np.testing.assert_allclose(found.std, 4.0, rtol=0.02)
    assert found.contains(10.0, 0.0)
    assert found.contains(10.0 + 9.0 / 3600.0, 0.0, 0.95)
    assert not found.contains(10.0 + 9.0 / 3600.0, 0.0, 0.68)
    assert not found.contains(11.0, 0.0)
    with pytest.raises(InputError, match="level: expected a number between 0 and 1"):
        found.region(1.0)


# From pixels


@pytest.fixture(scope="module")
def job():
    transit = Transit(source=3, depth=0.2, period=50.0, epoch=121.5, duration=0.2)
    field = make_field(
        n_source=6, n_time=150, n_stamp=4, rng=np.random.default_rng(1), mag_range=(11.5, 14.0), transits=(transit,)
    )
    listed = np.arange(6) != 3
    full = field.sources
    catalog = bp.SourceTable(
        tuple(np.array(full.source_id)[listed]), full.ra_deg[listed], full.dec_deg[listed], full.flux[listed]
    )
    machines = {}
    for name, sources in (("whole", full), ("without", catalog)):
        machines[name] = bp.Machine.from_pixels(field.pixels, sources, quiet=True)
        machines[name].build_shape_model()  # these few stars lean on the instrument's PRF, not the simulated one
        machines[name].fit_model()
    return field, (1.0 - transit.factor(field.pixels.time)) / transit.depth, machines


@pytest.mark.parametrize("catalog", ["whole", "without"])
def test_an_event_is_found_where_it_was(job, catalog):
    field, event, machines = job
    found = machines[catalog].event_position(event)
    ra, dec = (float(one[0]) for one in field.sky.to_sky(field.column[[3]], field.row[[3]]))
    assert found.contains(ra, dec, 0.99)
    assert np.hypot(*offsets(*(np.array([one]) for one in (*found.best, ra, dec))))[0] < 0.5
    assert found.probability.sum() == pytest.approx(1.0)
    assert found.source_probability.sum() + found.none_probability == pytest.approx(1.0)
    name = field.sources.source_id[3]
    share = dict(zip(found.source, found.source_probability, strict=True)).get(name, 0.0)
    assert share > 0.9 if catalog == "whole" else found.none_probability > 0.9
    assert found.dip == pytest.approx(0.2 * field.mean_flux[3], rel=0.1)


def test_names_what_it_cannot_use(job):
    _, event, machines = job
    machine = machines["whole"]
    with pytest.raises(InputError, match="none_prior: expected a probability between 0 and 1"):
        machine.event_position(event, none_prior=1.0)
    with pytest.raises(InputError, match="baseline: expected a finite number above 0"):
        machine.event_position(event, baseline=0.0)
    with pytest.raises(InputError, match="event: expected a mask or 150 numbers"):
        machine.event_position(event[:10])


def three_stars(seed):
    """An event of the first star of three that TESS sees, whose PRF leans on the record; event and true position."""
    transit = Transit(source=0, depth=0.2, period=50.0, epoch=121.5, duration=0.2)
    field = make_field(
        n_source=3, n_time=150, n_stamp=3, stamp_sides=(11,), stamp_fill=1.0, rng=np.random.default_rng(seed),
        mag_range=(9.5, 11.5), min_separation=3.0, instrument=TESS, transits=(transit,),
    )  # fmt: skip
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    found = machine.event_position((1.0 - transit.factor(field.pixels.time)) / transit.depth)
    return field, found, (float(one[0]) for one in field.sky.to_sky(field.column[[0]], field.row[[0]]))


def test_a_bright_event_beside_the_edge_of_a_cell_is_not_lost():
    """The cell whose centre is nearest does not hold this star: the one beside does."""
    field, found, (ra, dec) = three_stars(0)
    assert found.contains(ra, dec)
    assert dict(zip(found.source, found.source_probability, strict=True))[field.sources.source_id[0]] > 0.99


def test_a_dip_errs_by_what_few_stars_leave_open_of_the_prf():
    """Wing and unseen light count: without them the error is a third as large, and the dip 3.6 of them off."""
    field, found, (ra, dec) = three_stars(28)
    off = (found.dip - 0.2 * field.flux[:, 0].max()) / found.dip_err
    assert abs(off) < 2.0
    off = np.array([one[0] for one in offsets(*(np.array([one]) for one in (*found.best, ra, dec)))])
    assert np.all(np.abs(off) < 2.0 * found.std)
