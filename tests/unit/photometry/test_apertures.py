"""Apertures: isophotes, completeness, crowding, the exact optimum and the sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesprf.errors import InputError, ShapeError
from bayesprf.photometry.apertures import (
    aperture_at_percentile,
    aperture_metrics,
    build_apertures,
    optimal_percentile,
    sum_in_apertures,
)
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix

SIDE = 20
SIGMA = 1.0

constant = PrfMatrix.constant


def make_pairs(columns, rows, *, reach=6.0, side=SIDE):
    """Pairs of stars on a side x side image, and the PRF of each: a Gaussian of sigma one pixel."""
    grid_row, grid_column = np.divmod(np.arange(side * side), side)
    parts = [[], [], [], []]
    for index, (column, row) in enumerate(zip(columns, rows, strict=True)):
        dx, dy = grid_column - column, grid_row - row
        near = np.flatnonzero(np.hypot(dx, dy) < reach)
        for part, values in zip(parts, (np.full(near.size, index), near, dx[near], dy[near]), strict=True):
            part.append(values)
    source, pixel, dx, dy = (np.concatenate(part) for part in parts)
    pairs = PairTable(source, pixel, dx.astype(float), dy.astype(float), len(columns), side * side)
    return pairs, np.exp(-0.5 * (pairs.r / SIGMA) ** 2) / (2.0 * np.pi * SIGMA**2)


def random_scene(seed, n_source=12):
    rng = np.random.default_rng(seed)
    columns, rows = rng.uniform(-2, SIDE + 2, (2, n_source))
    columns[3] = rows[3] = -50.0  # a star far from every pixel
    pairs, prf = make_pairs(columns, rows)
    return pairs, prf, 10.0 ** rng.uniform(1, 4, n_source)


def isophotes(pairs, prf, source):
    """Every isophote of a source, as masks over the pairs, from the smallest."""
    own = (pairs.source == source) & (prf > 0)
    return [own & (prf >= level) for level in np.unique(prf[own])[::-1]]


def metrics_by_hand(pairs, prf, flux, source, mask):
    """Completeness and crowding of one aperture with loops and a dense scene."""
    dense = np.zeros((pairs.n_source, pairs.n_pixel))
    dense[pairs.source, pairs.pixel] = prf
    pixels = pairs.pixel[mask & (pairs.source == source)]
    light = (flux[:, None] * dense)[:, pixels]
    return dense[source, pixels].sum(), light[source].sum() / light.sum()


@pytest.mark.parametrize("percentile", [0, 13.7, 50, np.int64(50), np.float32(75), 99.5, 100])
def test_isophote_equals_numpy_percentile_source_by_source(percentile):
    pairs, prf, _ = random_scene(1)
    mask = aperture_at_percentile(constant(pairs, prf), percentile)
    for source in range(pairs.n_source):
        own = pairs.source == source
        if own.any():
            np.testing.assert_array_equal(mask[own], prf[own] >= np.percentile(prf[own], percentile))
    assert mask.sum() > 0


def test_each_source_may_have_its_own_percentile():
    pairs, prf, _ = random_scene(2)
    levels = np.linspace(0, 100, pairs.n_source)
    mask = aperture_at_percentile(constant(pairs, prf), levels.tolist())
    for source in range(pairs.n_source):
        own = pairs.source == source
        np.testing.assert_array_equal(mask[own], aperture_at_percentile(constant(pairs, prf), levels[source])[own])


def test_pairs_without_light_belong_to_no_isophote():
    pairs, prf = make_pairs([10.0], [10.0])
    cut = np.where(pairs.r < 2.5, prf, 0.0)
    np.testing.assert_array_equal(aperture_at_percentile(constant(pairs, cut), 0), cut > 0)


def test_completeness_is_the_fraction_of_all_light_not_of_the_light_on_the_data():
    pairs, prf = make_pairs([10.0, -0.5], [10.0, 10.0])
    completeness, _ = aperture_metrics(constant(pairs, prf), np.ones(2), prf > 0)
    assert completeness[0] == pytest.approx(1.0, abs=1e-5)
    assert completeness[1] == pytest.approx(0.5, abs=2e-3)  # half of it misses the image


def test_crowding_of_an_aperture_of_one_pixel_is_the_ratio_of_fluxes_there():
    pairs, prf = make_pairs([10.0, 12.0], [10.0, 10.0])
    _, crowding = aperture_metrics(
        constant(pairs, prf), np.array([100.0, 300.0]), aperture_at_percentile(constant(pairs, prf), 100)
    )
    neighbour = np.exp(-0.5 * 2.0**2)
    np.testing.assert_allclose(crowding, [1 / (1 + 3 * neighbour), 1 / (1 + neighbour / 3)], rtol=1e-12)


def test_a_bright_neighbour_crowds_more_than_a_faint_one():
    pairs, prf = make_pairs([10.0, 12.0], [10.0, 10.0])
    mask = aperture_at_percentile(constant(pairs, prf), 60)
    crowding = [
        aperture_metrics(constant(pairs, prf), np.array([100.0, other]), mask)[1][0] for other in (1.0, 100.0, 1e4)
    ]
    assert crowding[0] > 0.99
    assert crowding[0] > crowding[1] > crowding[2]
    assert crowding[2] < 0.15


def test_metrics_equal_loops_over_a_dense_scene():
    pairs, prf, flux = random_scene(3)
    mask = aperture_at_percentile(constant(pairs, prf), 70)
    completeness, crowding = aperture_metrics(constant(pairs, prf), flux, mask)
    for source in np.unique(pairs.source):
        expected = metrics_by_hand(pairs, prf, flux, source, mask)
        np.testing.assert_allclose([completeness[source], crowding[source]], expected, rtol=1e-12)
    np.testing.assert_allclose(aperture_metrics(constant(pairs, prf), 7.5 * flux, mask)[1], crowding, rtol=1e-12)


def test_sources_without_pixels_or_flux_are_nan_not_a_number_that_looks_right():
    pairs, prf, flux = random_scene(4)
    flux[5], flux[6] = np.nan, -10.0
    percentile = optimal_percentile(constant(pairs, prf), flux)
    apertures = build_apertures(constant(pairs, prf), flux, percentile)
    sums, errors = sum_in_apertures(np.ones((2, pairs.n_pixel)), np.ones((2, pairs.n_pixel)), pairs, apertures.mask)
    for values in (percentile, apertures.percentile, apertures.completeness, apertures.crowding, sums[0], errors[0]):
        assert np.isnan(values[3])
    assert np.isnan(apertures.crowding[5])
    assert apertures.crowding[6] == 0.0
    assert np.isfinite(np.delete(sums, 3, axis=1)).all()
    assert np.isnan(build_apertures(constant(pairs, prf), flux, 50).percentile[3])


def test_matrix_holds_exactly_the_pixels_of_the_mask():
    pairs, prf, flux = random_scene(5)
    apertures = build_apertures(constant(pairs, prf), flux, 80)
    matrix = apertures.matrix
    assert matrix.shape == (pairs.n_source, pairs.n_pixel)
    assert matrix.dtype == bool
    source, pixel = matrix.nonzero()
    np.testing.assert_array_equal(source, pairs.source[apertures.mask])
    np.testing.assert_array_equal(pixel, pairs.pixel[apertures.mask])


@pytest.mark.parametrize("targets", [(0.9, 0.9), (0.5, 0.99), (0.99, 0.2), (0.7, None), (None, 0.8), (0.7, -1.0)])
@pytest.mark.parametrize("seed", range(5))
def test_optimum_is_the_least_shortfall_of_all_isophotes(seed, targets):
    pairs, prf, flux = random_scene(seed)
    percentile = optimal_percentile(constant(pairs, prf), flux, *targets)
    mask = aperture_at_percentile(constant(pairs, prf), percentile)
    on = np.array([value is not None and value >= 0 for value in targets])
    wanted = np.array([value or 0.0 for value in targets])
    for source in np.unique(pairs.source):
        choices = isophotes(pairs, prf, source)
        metrics = np.array([metrics_by_hand(pairs, prf, flux, source, choice) for choice in choices])
        shortfall = (np.maximum(0.0, wanted - metrics) * on).sum(axis=1)
        least = np.flatnonzero(shortfall < shortfall.min() + 1e-12)
        best = choices[least[0] if on[0] else least[-1]]
        np.testing.assert_array_equal(mask & (pairs.source == source), best)


def test_each_target_matters():
    pairs, prf = make_pairs([8.0, 10.5], [10.0, 10.2])
    flux = np.array([1000.0, 800.0])

    def metrics(**targets):
        return aperture_metrics(
            constant(pairs, prf),
            flux,
            aperture_at_percentile(constant(pairs, prf), optimal_percentile(constant(pairs, prf), flux, **targets)),
        )

    low, high = metrics(target_complete=0.3, target_crowd=None), metrics(target_complete=0.99, target_crowd=None)
    assert np.all(low[0] >= 0.3)
    assert np.all(low[0] < 0.6)
    assert np.all(high[0] >= 0.99)
    lax, strict = metrics(target_crowd=0.6, target_complete=None), metrics(target_crowd=0.9, target_complete=None)
    assert np.all(lax[1] >= 0.6)
    assert np.all(strict[1] >= 0.9)
    assert np.all(lax[0] > strict[0])


def test_equal_pixels_go_together():
    pairs, prf = make_pairs([9.5], [9.5])  # on a corner: pixels of equal PRF come in fours
    mask = aperture_at_percentile(constant(pairs, prf), optimal_percentile(constant(pairs, prf), np.ones(1), 0.2, None))
    assert mask.sum() == 4


@given(seed=st.integers(0, 1000), scale=st.floats(1e-6, 1e6))
@settings(max_examples=25, deadline=None)
def test_order_of_sources_and_scale_of_flux_do_not_matter(seed, scale):
    rng = np.random.default_rng(seed)
    columns, rows = rng.uniform(0, SIDE, (2, 8))
    flux = 10.0 ** rng.uniform(1, 4, 8)
    order = rng.permutation(8)
    pairs, prf = make_pairs(columns, rows)
    permuted, permuted_prf = make_pairs(columns[order], rows[order])
    first = optimal_percentile(constant(pairs, prf), flux)
    np.testing.assert_array_equal(optimal_percentile(constant(permuted, permuted_prf), flux[order]), first[order])
    np.testing.assert_array_equal(optimal_percentile(constant(pairs, prf), scale * flux), first)


def test_single_pixel_and_no_pixel_at_all():
    pairs = PairTable(np.array([1]), np.array([0]), np.zeros(1), np.zeros(1), 3, 2)
    percentile = optimal_percentile(constant(pairs, np.array([0.4])), np.ones(3))
    np.testing.assert_array_equal(percentile, [np.nan, 0.0, np.nan])
    np.testing.assert_array_equal(aperture_at_percentile(constant(pairs, np.array([0.4])), percentile), [True])
    none = pairs.select(np.zeros(1, bool))
    assert np.isnan(optimal_percentile(constant(none, np.zeros(0)), np.ones(3))).all()
    assert build_apertures(constant(none, np.zeros(0)), np.ones(3), 50).mask.size == 0
    sums, _ = sum_in_apertures(np.ones((2, 2)), np.ones((2, 2)), none, np.zeros(0, bool))
    assert np.isnan(sums).all()


def test_sums_equal_loops_and_a_pixel_without_data_marks_its_cadence():
    pairs, prf, flux = random_scene(6)
    rng = np.random.default_rng(0)
    data, error = rng.normal(50, 5, (7, pairs.n_pixel)), rng.uniform(1, 3, (7, pairs.n_pixel))
    mask = build_apertures(constant(pairs, prf), flux, 75).mask
    ivar = error**-2
    bad = pairs.pixel[mask][0]
    data[2, bad], ivar[2, bad] = np.nan, 0.0
    ivar[4, bad] = 0.0  # the flux is a number, its error is not
    sums, errors = sum_in_apertures(data, ivar, pairs, mask)
    for source in np.unique(pairs.source):
        pixels = pairs.pixel[mask & (pairs.source == source)]
        hit = np.zeros(7, bool)
        hit[[2, 4]] = bad in pixels
        np.testing.assert_allclose(sums[:, source], np.where(hit, np.nan, data[:, pixels].sum(axis=1)), rtol=1e-12)
        expected = np.sqrt((error[:, pixels] ** 2).sum(axis=1))
        np.testing.assert_allclose(errors[:, source], np.where(hit, np.nan, expected), rtol=1e-12)
    assert np.isnan(sums[:, pairs.source[mask][0]]).sum() == 2


def test_sums_do_not_depend_on_how_many_cadences_come_at_once():
    pairs, prf, flux = random_scene(7)
    mask = build_apertures(constant(pairs, prf), flux, 75).mask
    data = np.random.default_rng(1).normal(50, 5, (4000, pairs.n_pixel))
    whole = sum_in_apertures(data, np.ones_like(data), pairs, mask)[0]
    np.testing.assert_array_equal(
        whole[1234:1236], sum_in_apertures(data[1234:1236], np.ones((2, 400)), pairs, mask)[0]
    )


def test_sum_over_an_aperture_is_completeness_times_flux_over_crowding():
    pairs, prf, flux = random_scene(8)
    scene = pairs.to_sparse(prf).T @ flux
    apertures = build_apertures(constant(pairs, prf), flux, optimal_percentile(constant(pairs, prf), flux))
    sums, _ = sum_in_apertures(scene[None], np.ones((1, pairs.n_pixel)), pairs, apertures.mask)
    seen = np.isfinite(sums[0])
    expected = flux * apertures.completeness / apertures.crowding
    np.testing.assert_allclose(sums[0, seen], expected[seen], rtol=1e-12)


@pytest.mark.parametrize("percentile", [-1, 100.5, np.inf, np.nan])
def test_percentile_out_of_range_is_refused(percentile):
    pairs, prf, _ = random_scene(1)
    with pytest.raises(InputError, match=r"percentile: expected numbers from 0 to 100, got .* for source 0"):
        aperture_at_percentile(constant(pairs, prf), percentile)


def test_bad_arguments_are_named():
    pairs, prf, flux = random_scene(1)
    with pytest.raises(ShapeError, match=r"percentile: expected one number or one per source \(12\), got shape \(2,\)"):
        aperture_at_percentile(constant(pairs, prf), [50, 60])
    with pytest.raises(InputError, match=r"percentile: expected an array of real numbers, got '"):
        aperture_at_percentile(constant(pairs, prf), "large")
    with pytest.raises(InputError, match=r"target_complete: expected a fraction up to 1, .* got 90"):
        optimal_percentile(constant(pairs, prf), flux, 90)
    with pytest.raises(InputError, match=r"target_crowd: expected a fraction up to 1, .* got nan"):
        optimal_percentile(constant(pairs, prf), flux, target_crowd=np.nan)
    with pytest.raises(InputError, match=r"expected at least one target, got both switched off"):
        optimal_percentile(constant(pairs, prf), flux, None, -1)
    with pytest.raises(ShapeError, match=r"prf: expected shape"):
        optimal_percentile(constant(pairs, prf[1:]), flux)
    with pytest.raises(ShapeError, match=r"flux: expected shape \(12,\)"):
        aperture_metrics(constant(pairs, prf), flux[1:], prf > 0)
    with pytest.raises(ShapeError, match=r"flux: expected shape \(1, 400\)"):
        sum_in_apertures(np.ones((1, 3)), np.ones((1, 3)), pairs, prf > 0)
