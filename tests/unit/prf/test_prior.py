"""PRF priors from tables."""

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.errors import InputError
from bayesprf.prf.joint.problem import finer
from bayesprf.prf.prior import PrfTables, TabulatedPrf, build_prior, load_prf_tables
from bayesprf.scene.prf import PrfModel

AXES = 21.0 * np.array([[-0.9, 0.3], [0.3, 0.9]])
SAMPLES = 9.0
BASIS = PolarBasis(5.0, 9.5 * 21.0, 8.0, 13, 15)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def table(width):
    along = (np.arange(117) - 58.0) / SAMPLES
    r2 = along[:, None] ** 2 + (along[None, :] - 0.1) ** 2
    values = (1.0 + r2 / width**2) ** -2.5
    return values / values.sum() * SAMPLES**2


def test_table_comes_back_at_its_own_places():
    prf = TabulatedPrf(table(0.8), SAMPLES, AXES, BASIS.rmax)
    row, column = np.array([50, 58, 70]), np.array([60, 58, 45])
    x, y = AXES @ (np.stack([column, row]) - 58.0) / SAMPLES
    np.testing.assert_allclose(10.0 ** prf.log10(x, y), table(0.8)[row, column], rtol=1e-10)


def test_gradient_agrees_with_differences_inside_and_beyond(rng):
    prf = TabulatedPrf(table(0.8), SAMPLES, AXES, 100.0)
    x, y = rng.uniform(-140.0, 140.0, (2, 50))
    gradient, step = prf.gradient(x, y), 1e-4
    for axis, (ex, ey) in enumerate(((step, 0.0), (0.0, step))):
        change = np.log(10.0) * (prf.log10(x + ex, y + ey) - prf.log10(x - ex, y - ey)) / (2 * step)
        np.testing.assert_allclose(gradient[:, axis], change, atol=1e-5)


def test_covariance_is_that_of_one_more_table():
    widths = np.array([0.75, 0.8, 0.85])
    prior = build_prior(PrfTables(np.array([table(width) for width in widths]), SAMPLES, complete=True), AXES)
    spread = np.sqrt(np.sum(prior.weights_factor**2, axis=1))
    peaks = np.log10([table(width).max() for width in widths])
    expected = np.std(peaks, ddof=1) * np.sqrt(4.0 / 3.0)
    np.testing.assert_allclose(spread[0], expected, rtol=0.1)


def test_the_light_of_complete_tables_is_all_there_is():
    """The fall beyond their edges, and a power law beyond the corners, held 0.3 % of the light of TESS's own tables."""
    values = table(1.6)
    prior = build_prior(PrfTables(np.array([values, values]), SAMPLES, complete=True), AXES)
    nominal = PrfModel(
        prior.basis, np.zeros(prior.basis.n_basis), abs(np.linalg.det(AXES)), wing_slope=prior.slope[0], base=prior.base
    )
    # Half of what the official tables have at their edges.
    assert 7e-5 < np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]).mean() < 1.5e-4
    assert abs(nominal.area() - 1.0) < 1e-4
    assert nominal.evaluate(np.array([9.2 * 21.0]), np.zeros(1))[0] < 1e-9
    assert build_prior(PrfTables(np.array([values, values]), SAMPLES, complete=False), AXES).slope is None


def test_zeros_of_a_table_are_no_dark_ring():
    # A table of the official set has a row of zeros at its edge: log10 of nothing is not three dex of spread.
    tables = np.array([table(0.75), table(0.8), table(0.85)])
    clean = build_prior(PrfTables(tables, SAMPLES, complete=True), AXES).weights_factor
    tables[1, :, -1] = 0.0
    spoiled = build_prior(PrfTables(tables, SAMPLES, complete=True), AXES).weights_factor
    widths = [np.sqrt(np.sum(one**2, axis=1)) for one in (clean, spoiled)]
    assert np.max(widths[1] - widths[0]) < 0.15


def test_tables_come_back_from_their_file(tmp_path):
    tables = PrfTables(np.array([table(0.75), table(0.85)]), SAMPLES, complete=True)
    tables.save(tmp_path / "prf.npz")
    again = load_prf_tables(tmp_path / "prf.npz")
    np.testing.assert_array_equal(again.values, tables.values)
    assert (again.samples, again.complete) == (SAMPLES, True)


@pytest.mark.parametrize("complete", [True, False])
def test_twice_the_knots_reach_as_far_and_expect_the_same(complete):
    """The deviations that are expected depend on their radius, and not on how many columns hold them."""
    tables = PrfTables(np.array([table(width) for width in (0.75, 0.8, 0.85)]), SAMPLES, complete=complete)
    plain, finer_one = (build_prior(tables, AXES, density=density) for density in (1, 2))
    assert finer_one.basis == finer(plain.basis)
    r = np.linspace(0.1, 0.95, 9) * plain.basis.rmax
    spread = []
    for prior in (plain, finer_one):
        deviation = prior.basis.matrix(r, np.zeros(r.size)) @ prior.weights_factor
        spread.append(np.sqrt(np.sum(deviation**2, axis=1)))
    np.testing.assert_allclose(spread[1], spread[0], rtol=0.1)


def test_refuses_a_single_table_and_a_file_of_another_kind(tmp_path):
    with pytest.raises(InputError, match="two or more square PRF tables"):
        PrfTables(table(0.8)[None], SAMPLES, complete=True)
    np.savez(tmp_path / "other.npz", x=1.0)
    with pytest.raises(InputError, match=r"written by Machine\.save_prf"):
        load_prf_tables(tmp_path / "other.npz")
