"""The fraction of the PRF on the data, and the size of the time model."""

import numpy as np
import pytest

from bayesprf.errors import InputError, ShapeError
from bayesprf.photometry.metrics import perturbation_metrics, psf_fraction
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix

SCALE = 4.0  # arcsec per pixel
AXES = np.diag([SCALE, SCALE])


def grid_pairs(columns, rows, stars, axes=AXES):
    """All pixels of a rectangle paired with all stars; stars and pixels in detector coordinates."""
    column, row = (part.ravel() for part in np.meshgrid(columns, rows))
    stars = np.asarray(stars, float)
    step = np.stack([column[None] - stars[:, :1], row[None] - stars[:, 1:]])
    dx, dy = np.einsum("ij,jsp->isp", axes, step)
    source, pixel = np.divmod(np.arange(dx.size), column.size)
    return PairTable(source, pixel, dx.ravel(), dy.ravel(), len(stars), column.size)


def gaussian(sigma_pixel):
    """A round Gaussian PRF, normalised over the pixel plane, for pixels of SCALE squared."""

    def evaluate(dx, dy):
        return np.exp(-0.5 * (dx**2 + dy**2) / (sigma_pixel * SCALE) ** 2) / (2 * np.pi * sigma_pixel**2)

    return evaluate


@pytest.mark.parametrize("npoints", [0, 1, 2, 3, 10])
def test_a_star_well_inside_has_all_of_its_prf_on_the_data(npoints):
    pairs = grid_pairs(np.arange(-10, 11), np.arange(-10, 11), [[0.3, -0.2]])
    assert psf_fraction(gaussian(0.9), pairs, AXES, npoints_per_pixel=npoints) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_a_star_on_the_edge_has_half_of_it_and_on_a_corner_a_quarter(angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stars = [[-0.5, 10.0], [-0.5, -0.5], [10.0, 20.5]]
    pairs = grid_pairs(np.arange(21), np.arange(21), stars, axes=turn @ AXES)
    fraction = psf_fraction(gaussian(0.7), pairs, turn @ AXES, npoints_per_pixel=10)
    np.testing.assert_allclose(fraction, [0.5, 0.25, 0.5], atol=1e-12 if angle == 0 else 1e-10)


def test_the_grid_is_centred_on_the_pixel():
    pairs = grid_pairs([0], [0], [[0.0, 0.0]])
    for npoints in (1, 4, 10):
        assert psf_fraction(lambda dx, dy: dx, pairs, AXES, npoints_per_pixel=npoints)[0] == pytest.approx(0, abs=1e-14)
        # the mean of x**2 over n centred points across one pixel is (1 - 1 / n**2) / 12
        assert psf_fraction(lambda dx, dy: dy**2, pairs, AXES, npoints_per_pixel=npoints)[0] == pytest.approx(
            SCALE**2 * (1 - npoints**-2) / 12, abs=1e-12
        )


@pytest.mark.parametrize("npoints", [2, 3, 7, 10])
def test_table_of_averages_equals_every_point_evaluated(npoints):
    turn = np.array([[0.9, -0.3], [0.4, 1.1]])
    pairs = grid_pairs(np.arange(30), np.arange(25), [[3.2, 4.4], [15.8, 12.1]], axes=turn @ AXES)

    def evaluate(dx, dy):
        core = np.exp(-0.5 * ((dx - 1.0) ** 2 + dx * dy + 2.0 * dy**2) / (0.8 * SCALE) ** 2)
        return core + 1e-2 / (1.0 + np.hypot(dx, dy) / SCALE) ** 3

    steps = (np.arange(npoints) + 0.5) / npoints - 0.5
    total = np.zeros(pairs.n_pair)
    for column in steps:
        for row in steps:
            dx, dy = turn @ AXES @ np.array([column, row])
            total += evaluate(pairs.dx + dx, pairs.dy + dy) / npoints**2
    # pixels beyond the table count by their centres: good to 0.3 % of the light there
    expected = np.bincount(pairs.source, total)
    fraction = psf_fraction(evaluate, pairs, turn @ AXES, npoints_per_pixel=npoints)
    np.testing.assert_allclose(fraction, expected, rtol=1e-4)


def test_sub_pixel_points_remove_the_ripple_of_a_narrow_prf():
    stars = np.stack([np.linspace(0, 0.5, 6), np.zeros(6)], axis=1)
    pairs = grid_pairs(np.arange(-5, 6), np.arange(-5, 6), stars)
    centres = psf_fraction(gaussian(0.25), pairs, AXES, npoints_per_pixel=0)
    fine = psf_fraction(gaussian(0.25), pairs, AXES, npoints_per_pixel=10)
    assert np.ptp(centres) > 0.5
    np.testing.assert_allclose(fine, 1.0, atol=1e-5)


def test_sources_without_pixels_have_nothing_on_the_data():
    pairs = PairTable(np.array([1]), np.array([0]), np.zeros(1), np.zeros(1), 3, 1)
    fraction = psf_fraction(lambda dx, dy: np.full(dx.shape, 0.5), pairs, AXES)
    np.testing.assert_allclose(fraction, [0.0, 0.5, 0.0], rtol=1e-12)
    assert fraction[0] == fraction[2] == 0.0
    none = psf_fraction(lambda dx, dy: dx, pairs.select(np.zeros(1, bool)), AXES)
    assert none.dtype == np.float64
    np.testing.assert_array_equal(none, np.zeros(3))


def test_perturbation_metrics_equal_the_model_built_cadence_by_cadence():
    rng = np.random.default_rng(3)
    pairs = grid_pairs(np.arange(6), np.arange(5), rng.uniform(0, 5, (4, 2)))
    prf = gaussian(1.0)(pairs.dx, pairs.dy)
    factors, mix = rng.normal(0, 1, (3, pairs.n_pair)), rng.normal(0, 0.1, (50, 3))
    factors[0], mix[:, 0] = 1.0, 1.0
    mean = PrfMatrix.constant(pairs, prf)
    ratio, std = perturbation_metrics(mean, PrfMatrix(pairs, prf * factors, mix))
    mean_sum = np.asarray(pairs.to_sparse(prf).sum(axis=1)).ravel()
    sums = np.array([np.asarray(pairs.to_sparse(prf * (row @ factors)).sum(axis=1)).ravel() for row in mix])
    np.testing.assert_allclose(ratio, sums.mean(axis=0) / mean_sum, rtol=1e-12)
    np.testing.assert_allclose(std, sums.std(axis=0), rtol=1e-9)


def test_no_perturbation_gives_one_and_zero_and_no_pixels_give_nan():
    pairs = PairTable(np.array([1, 1]), np.array([0, 1]), np.zeros(2), np.zeros(2), 3, 2)
    mean = PrfMatrix.constant(pairs, np.array([0.5, 0.25]))
    ratio, std = perturbation_metrics(mean, PrfMatrix(pairs, mean.parts, np.ones((9, 1))))
    np.testing.assert_array_equal(ratio, [np.nan, 1.0, np.nan])
    np.testing.assert_array_equal(std, [np.nan, 0.0, np.nan])


@pytest.mark.parametrize("npoints", [-1, 2.5, True, "many"])
def test_number_of_points_is_checked(npoints):
    pairs = grid_pairs([0], [0], [[0.0, 0.0]])
    with pytest.raises(InputError, match="npoints_per_pixel: expected a whole number from 0 to 32, got"):
        psf_fraction(gaussian(1.0), pairs, AXES, npoints_per_pixel=npoints)


def test_shapes_are_checked():
    pairs = grid_pairs([0, 1], [0], [[0.0, 0.0]])
    with pytest.raises(ShapeError, match=r"axes: expected shape \(2, 2\)"):
        psf_fraction(gaussian(1.0), pairs, np.ones(2))
