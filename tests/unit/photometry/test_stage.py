"""Aperture and metric methods of Machine: documented arguments, stages, results, and a peer's faults kept out."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bayesprf.errors import InputError, ShapeError, StageError
from bayesprf.machine import Machine
from bayesprf.photometry.apertures import build_apertures, optimal_percentile, sum_in_apertures
from bayesprf.results.fit_tree import aperture_catalog
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import make_field

N_SOURCE, OUTSIDE = 13, 12  # the last star lies off the data
HOLED, DEAD_RANK = 3, 7  # cadence in which a pixel is NaN; which of a star's pixels, by brightness, always is

constant = PrfMatrix.constant


def with_far_star(sources):
    """Add a star far from every pixel."""
    ra, dec = np.append(sources.ra_deg, sources.ra_deg[0]), np.append(sources.dec_deg, sources.dec_deg[0] + 0.2)
    return SourceTable((*sources.source_id, "far"), ra, dec, np.append(sources.flux, 1e4))


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(11),
        layout="image",
        image_shape=(40, 40),
        n_source=N_SOURCE - 1,
        n_time=6,
        mag_range=(11, 14),
        min_separation=3.0,
    )


@pytest.fixture(scope="module")
def holes(field):
    """Where data are missing: a bright star's brightest pixel at one cadence, another's wing always."""
    design = field.true_design().tocsc()
    order = np.argsort(-field.mean_flux)
    first, second = order[:2]
    peak = design[:, [first]].toarray().ravel().argmax()
    wing = design[:, [second]].toarray().ravel().argsort()[-DEAD_RANK]
    return SimpleNamespace(first=first, peak=peak, second=second, wing=wing)


@pytest.fixture(scope="module")
def machine(field, holes):
    """A Machine from plain arrays, as a user without target pixel files builds it, with its shape."""
    pixels = field.pixels
    flux = pixels.flux.copy()
    flux[HOLED, holes.peak] = np.nan
    flux[:, holes.wing] = np.nan
    sources = with_far_star(field.sources)
    frame = pd.DataFrame({"ra": sources.ra_deg, "dec": sources.dec_deg, "phot_g_mean_flux": sources.flux})
    arrays = (pixels.time, flux, pixels.flux_err, pixels.ra_deg, pixels.dec_deg, frame, pixels.column, pixels.row)
    made = Machine(*arrays, quiet=True)
    made.build_shape_model(method="joint")
    return made


@pytest.fixture
def ready(machine):
    """The Machine with no stage but its shape."""
    for stage in ("apertures", "metrics", "time_model"):
        machine.fit = machine.fit.without(stage)
    return machine


@pytest.mark.parametrize(
    "percentile", [50, 50.0, np.int64(50), np.float32(50), np.full(N_SOURCE, 50), [50.0] * N_SOURCE]
)
def test_percentile_may_be_any_number_or_one_per_source(ready, percentile):
    ready.create_aperture_mask(percentile)
    found = ready.aperture_mask
    model = ready.mean_model.tocsr()
    assert found.shape == (N_SOURCE, ready.npixels)
    for source in (0, 4, 9):
        row = model[[source]]
        expected = row.indices[row.data >= np.percentile(row.data, 50)]
        np.testing.assert_array_equal(found[[source]].indices, np.sort(expected))
    ready.compute_aperture_photometry(percentile)
    assert (ready.aperture_mask != found).nnz == 0


def test_percentile_and_targets_change_what_the_documentation_says(ready):
    sizes = []
    for percentile in (0, 50, 90, 100):
        ready.create_aperture_mask(percentile)
        sizes.append(ready.aperture_mask.sum())
        assert np.nanmax(ready.FLFRCSAP) < 1.02
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] == N_SOURCE - 1
    ready.compute_aperture_photometry(target_complete=0.5, target_crowd=None)
    half = ready.FLFRCSAP
    ready.compute_aperture_photometry(target_complete=0.9, target_crowd=-1)
    most = ready.FLFRCSAP
    reached = most >= 0.9
    assert reached.sum() >= 6
    assert np.all(half[reached] >= 0.5)
    assert np.all(half[reached] < most[reached])
    ready.compute_aperture_photometry(target_complete=None, target_crowd=0.99)
    strict = ready.CROWDSAP
    ready.compute_aperture_photometry(target_complete=None, target_crowd=0.5)
    lax = ready.CROWDSAP
    assert np.nanmin(lax - strict) <= 0.0
    assert np.nanmean(strict) > np.nanmean(lax)


def test_sums_corrected_by_both_metrics_give_the_true_flux(ready, field):
    ready.compute_aperture_photometry()
    flux = np.median(np.delete(ready.sap_flux, HOLED, axis=0), axis=0) * ready.CROWDSAP / ready.FLFRCSAP
    whole = np.flatnonzero(ready.FLFRCSAP > 0.7)
    assert whole.size >= 8
    np.testing.assert_allclose(flux[whole], field.mean_flux[whole], rtol=0.02)


def test_missing_pixels_mark_their_cadence_or_stay_out_of_every_aperture(ready, holes):
    ready.compute_aperture_photometry()
    hit = ready.aperture_mask.tocsc()[:, [holes.peak]].toarray().ravel()
    assert hit[holes.first]
    missing = np.isnan(ready.sap_flux)
    np.testing.assert_array_equal(missing[HOLED], hit | (np.arange(N_SOURCE) == OUTSIDE))
    assert not np.delete(np.delete(missing, HOLED, axis=0), OUTSIDE, axis=1).any()
    np.testing.assert_array_equal(missing, np.isnan(ready.sap_flux_err))
    ready.create_aperture_mask(0)
    assert ready.mean_model.tocsc()[:, [holes.wing]].nnz > 0
    assert ready.aperture_mask.tocsc()[:, [holes.wing]].nnz == 0


def test_a_source_without_pixels_is_nan_everywhere(ready):
    ready.compute_aperture_photometry()
    ready.get_psf_metrics()
    assert np.isnan(ready.sap_flux[:, OUTSIDE]).all()
    for values in (ready.FLFRCSAP, ready.CROWDSAP, ready.optimal_percentile):
        assert np.isnan(values[OUTSIDE])
        assert np.isfinite(np.delete(values, OUTSIDE)).all()
    assert ready.source_psf_fraction[OUTSIDE] == 0.0
    ready.create_aperture_mask(ready.optimal_percentile)
    assert np.isnan(ready.FLFRCSAP[OUTSIDE])


def test_psf_metrics_need_no_files_and_see_the_true_fraction(ready, field, holes):
    ready.get_psf_metrics()
    fine = ready.source_psf_fraction
    ready.get_psf_metrics(npoints_per_pixel=0)
    centres = ready.source_psf_fraction
    assert np.abs(fine - centres).max() > 1e-4
    design = field.true_design().toarray()
    design[holes.wing] = 0.0
    truth = np.append(design.sum(axis=0), 0.0)
    np.testing.assert_allclose(centres, truth, atol=0.03)
    np.testing.assert_allclose(fine, truth, atol=0.05)


def fake_time_model(n_time, values):
    """A time model whose PRF changes by the same factor everywhere: 1 at mean, then as `values`."""
    return SimpleNamespace(factors=lambda pairs: np.ones((1, pairs.n_pair)), mix=np.reshape(values, (n_time, 1)))


def test_perturbation_metrics_follow_the_time_model(ready):
    ready.get_psf_metrics()
    for name in ("perturbed_ratio_mean", "perturbed_std"):
        with pytest.raises(StageError, match=r"no time model to measure: call build_time_model\(\)"):
            getattr(ready, name)
    factor = np.array([0.9, 1.0, 1.1, 1.0, 1.2, 1.1])
    ready.fit = ready.fit.with_stage("time_model", fake_time_model(6, factor))
    with pytest.raises(StageError, match=r"no metrics result yet: call get_psf_metrics\(\) first"):
        ready.perturbed_std  # noqa: B018
    ready.get_psf_metrics()
    inside = np.arange(N_SOURCE) != OUTSIDE
    np.testing.assert_allclose(ready.perturbed_ratio_mean[inside], factor.mean(), rtol=1e-12)
    on_pixels = np.asarray(ready.mean_model.sum(axis=1)).ravel()
    np.testing.assert_allclose(ready.perturbed_std[inside], factor.std() * on_pixels[inside], rtol=1e-9)
    assert np.isnan(ready.perturbed_std[OUTSIDE])


def test_asking_too_early_says_what_to_call(field):
    fresh = Machine.from_pixels(field.pixels, field.sources)
    for stage in (fresh.create_aperture_mask, fresh.compute_aperture_photometry, fresh.get_psf_metrics):
        with pytest.raises(StageError, match=r"no prf result yet: call build_shape_model\(\) first"):
            stage()
    for name in ("aperture_mask", "FLFRCSAP", "CROWDSAP"):
        with pytest.raises(StageError, match=r"no apertures result yet: call create_aperture_mask\(\) or"):
            getattr(fresh, name)
    for name in ("sap_flux", "sap_flux_err"):
        with pytest.raises(
            StageError, match=r"no aperture photometry result yet: call compute_aperture_photometry\(\)"
        ):
            getattr(fresh, name)
    with pytest.raises(StageError, match=r"call compute_aperture_photometry\('optimal'\) first"):
        fresh.optimal_percentile  # noqa: B018
    with pytest.raises(StageError, match=r"call create_aperture_mask\(\) or compute_aperture_photometry\(\) first"):
        fresh.plot_aperture(0)


def test_same_call_same_bits_and_reruns_drop_what_is_stale(ready):
    names = ("sap_flux", "sap_flux_err", "FLFRCSAP", "CROWDSAP", "optimal_percentile")
    ready.compute_aperture_photometry()
    first = [getattr(ready, name).copy() for name in names]
    ready.compute_aperture_photometry()
    for name, before in zip(names, first, strict=True):
        np.testing.assert_array_equal(getattr(ready, name), before)
    ready.create_aperture_mask(30)
    with pytest.raises(StageError, match="no aperture photometry result yet"):
        ready.sap_flux  # noqa: B018
    ready.compute_aperture_photometry(30)
    with pytest.raises(StageError, match="no optimal percentile result yet"):
        ready.optimal_percentile  # noqa: B018
    ready.get_psf_metrics()
    fraction = ready.source_psf_fraction
    ready.get_psf_metrics()
    np.testing.assert_array_equal(ready.source_psf_fraction, fraction)
    ready.build_shape_model(method="joint")
    for name in ("aperture_mask", "sap_flux", "source_psf_fraction"):
        with pytest.raises(StageError, match="result yet"):
            getattr(ready, name)


def test_bad_arguments_are_refused_with_a_sentence(ready):
    with pytest.raises(InputError, match=r"percentile: expected numbers from 0 to 100, got 101\.0 for source 0"):
        ready.create_aperture_mask(101)
    with pytest.raises(InputError, match=r"percentile: expected numbers from 0 to 100, got -1\.0 for source 0"):
        ready.compute_aperture_photometry(-1)
    with pytest.raises(ShapeError, match=r"percentile: expected one number or one per source \(13\), got shape \(3,\)"):
        ready.create_aperture_mask([1, 2, 3])
    with pytest.raises(InputError, match="aperture_size: expected 'optimal' or percentiles from 0 to 100, got 'best'"):
        ready.compute_aperture_photometry("best")
    with pytest.raises(InputError, match="target_complete: expected a fraction up to 1"):
        ready.compute_aperture_photometry(target_complete=1.5)
    with pytest.raises(InputError, match="npoints_per_pixel: expected a whole number from 0 to 32, got -2"):
        ready.get_psf_metrics(-2)


def test_results_go_into_the_tree(ready):
    assert "completeness" not in ready.to_datatree()["catalog"]
    ready.compute_aperture_photometry()
    ready.get_psf_metrics()
    tree = ready.to_datatree()
    for name in ("sap_flux", "sap_flux_err"):
        np.testing.assert_array_equal(tree[f"photometry/{name}"].values, getattr(ready, name))
    catalog = tree["catalog"]
    np.testing.assert_array_equal(catalog["completeness"].values, ready.FLFRCSAP)
    np.testing.assert_array_equal(catalog["crowding"].values, ready.CROWDSAP)
    np.testing.assert_array_equal(catalog["aperture_percentile"].values, ready.optimal_percentile)
    np.testing.assert_array_equal(catalog["psf_fraction"].values, ready.source_psf_fraction)
    np.testing.assert_array_equal(catalog["n_pixel_aperture"].values, np.diff(ready.aperture_mask.indptr))
    assert "perturbed_std" not in catalog
    ready.fit = ready.fit.with_stage("time_model", fake_time_model(6, np.ones(6)))
    ready.get_psf_metrics()
    np.testing.assert_array_equal(aperture_catalog(ready.fit)["perturbed_std"], ready.perturbed_std)


@pytest.mark.plots
def test_figure_carries_the_name_of_the_source(ready):
    ready.create_aperture_mask()
    title = ready.plot_aperture(2).axes[0].get_title()
    assert title.startswith(ready.sources.source_id[2])
    with pytest.raises(InputError, match=r"sources: expected names .* or whole numbers from 0 to 12, got 99"):
        ready.plot_aperture(99)


def test_memory_grows_with_pairs_not_with_sources_times_pixels():
    rng = np.random.default_rng(0)
    n_source, side, width = 3000, 300, 7
    corner = rng.integers(0, side - width, (2, n_source))
    row, column = np.divmod(np.arange(width * width), width)
    pixel = ((corner[0][:, None] + row) * side + corner[1][:, None] + column).ravel()
    dx, dy = np.tile(column - width / 2.0, n_source), np.tile(row - width / 2.0, n_source)
    pairs = PairTable(np.repeat(np.arange(n_source), width * width), pixel, dx, dy, n_source, side * side)
    prf, flux = np.exp(-pairs.r) / 6.0, rng.uniform(10, 1e4, n_source)
    data = np.ones((2, side * side))
    tracemalloc.start()
    chosen = build_apertures(constant(pairs, prf), flux, optimal_percentile(constant(pairs, prf), flux))
    sum_in_apertures(data, data, pairs, chosen.mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 * pairs.n_pair * 8  # 29 MB; one dense bool matrix would take 270 MB


def test_fraction_on_the_data_falls_where_the_data_end(field):
    pixels = field.pixels
    design = field.true_design().tocsc()
    brightest = int(np.argmax(field.mean_flux))
    middle = pixels.column[design[:, [brightest]].toarray().ravel().argmax()]
    keep = pixels.column >= middle
    half = PixelTable(
        pixels.time,
        pixels.flux[:, keep],
        pixels.flux_err[:, keep],
        pixels.ra_deg[keep],
        pixels.dec_deg[keep],
        pixels.column[keep],
        pixels.row[keep],
        instrument=pixels.instrument,
    )
    machine = Machine.from_pixels(half, field.sources)
    machine.build_shape_model(method="joint")
    machine.get_psf_metrics(npoints_per_pixel=0)
    truth = np.asarray(design[np.flatnonzero(keep)].sum(axis=0)).ravel()
    assert 0.3 < truth[brightest] < 0.9
    np.testing.assert_allclose(machine.source_psf_fraction, truth, atol=0.05)
