"""Each documented argument of build_time_model and setting behind it: change it, and see the documented change."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from bayesprf import Machine
from bayesprf.errors import InputError
from bayesprf.instruments import K2
from bayesprf.simulation.fields import make_field

N_TIME = 120
GAP_AT = 70


def drift(time):
    """Move by 0.2 pixel, bent in time."""
    u = (time - time[0]) / (time[-1] - time[0])
    return 0.2 * np.stack([u, 0.5 * u * u], axis=1)


def jitter(time):
    """Jump to and fro from cadence to cadence, as no polynomial can."""
    return 0.1 * np.stack([np.sin(2.3 * np.arange(time.size)), np.cos(1.7 * np.arange(time.size))], axis=1)


def simulate(moves):
    return make_field(
        n_source=16, n_stamp=16, n_time=N_TIME, mag_range=(12.0, 14.0), stamp_sides=(7,), drift=moves,
        rng=np.random.default_rng(7),
    )  # fmt: skip


def shaped(field, **changes):
    machine = Machine.from_pixels(replace(field.pixels, **changes), field.sources, quiet=True)
    machine.build_shape_model()
    return machine


@pytest.fixture(scope="module")
def drifting():
    return shaped(simulate(drift))


@pytest.fixture(scope="module")
def jittering():
    return shaped(simulate(jitter))


@pytest.fixture(scope="module")
def rolling(jittering):
    """The same pixels on a mission whose pointing moves within hours."""
    made = Machine.from_pixels(replace(jittering.pixels, instrument=K2), jittering.sources, quiet=True)
    made.build_shape_model()
    return made


@pytest.fixture(scope="module")
def gapped():
    """Two stretches of data with three days between them."""
    field = simulate(drift)
    return shaped(field, time=field.pixels.time + np.where(np.arange(N_TIME) >= GAP_AT, 3.0, 0.0))


def columns(machine, **options):
    """Return the time columns by their names, and let nothing else follow what they do not."""
    machine.build_time_model(free_motion=False, **options)
    return dict(zip(machine.fit.time_model.names, machine.P.vectors.T, strict=True))


def scatter(machine, pixel_errors="given"):
    """Return the median scatter of the light curves over their means.

    Errors as given follow the counts, so that a PRF out of place costs flux: there the time model shows its worth. The
    model's errors leave little for it to mend.
    """
    machine.fit_model(fit_va=True, n_threads=1, pixel_errors=pixel_errors)
    flux = machine.ws_va
    return np.median(flux.std(axis=0) / flux.mean(axis=0))


# Settings of the constructor


@pytest.mark.parametrize(("n_knots", "radius"), [(10, 8.0), (6, 8.0), (10, 5.0)])
def test_time_nknots_and_time_radius_set_the_position_columns(drifting, n_knots, radius):
    """Knots from -radius to radius, odd in number so that one lies at the centre; products of splines in x and y."""
    drifting.time_nknots, drifting.time_radius = n_knots, radius
    drifting.build_time_model()
    basis = drifting.fit.time_model.change.basis
    assert (basis.breaks[0], basis.breaks[-1]) == (-radius, radius)
    assert n_knots <= basis.breaks.size <= n_knots + 1
    assert drifting.fit.time_model.weights.shape[1] >= basis.n_column == basis.n_side**2
    drifting.time_nknots, drifting.time_radius = 10, 8.0


def test_time_nknots_brings_the_splines_in(drifting):
    """Motion alone is the default; who asks for other knots gets the splines between them."""
    largest = {}
    for n_knots in (10, 6):
        drifting.time_nknots = n_knots
        drifting.build_time_model()
        model = drifting.fit.time_model
        largest[n_knots] = np.abs(model.weights[:, : model.change.basis.n_column]).max()
    drifting.time_nknots = 10
    assert largest[10] < 1e-9 < 1e-4 < largest[6]


def test_cartesian_knot_spacing_moves_the_knots_to_the_centre(drifting):
    knots = {}
    for spacing in ("linear", "sqrt"):
        drifting.cartesian_knot_spacing = spacing
        drifting.build_time_model()
        knots[spacing] = drifting.fit.time_model.change.basis.breaks
    np.testing.assert_allclose(np.diff(knots["linear"], n=2), 0.0, atol=1e-12)
    half = knots["sqrt"][knots["sqrt"] > 0]
    steps = np.diff(half)
    assert np.all(np.diff(steps) > 0)


@pytest.mark.parametrize("resolution", [3, 7, 200])
def test_time_resolution_is_the_largest_number_of_cadences_per_bin(drifting, resolution):
    drifting.time_resolution = resolution
    drifting.build_time_model()
    sizes = np.diff(drifting.fit.time_model.bins.indptr)
    assert sizes.sum() == N_TIME
    assert sizes.max() <= resolution
    assert sizes.size >= max(N_TIME / resolution, 5 * 3)
    drifting.time_resolution = 200


# Arguments of build_time_model


def test_plot_returns_a_figure(drifting):
    assert isinstance(drifting.build_time_model(plot=True), Figure)
    assert drifting.build_time_model() is None


def test_bin_method_takes_the_mean_or_one_cadence(drifting):
    used = {}
    for method in ("bin", "downsample"):
        drifting.build_time_model(bin_method=method)
        used[method] = np.diff(drifting.fit.time_model.bins.indptr)
    assert used["bin"].sum() == N_TIME
    np.testing.assert_array_equal(used["downsample"], 1)
    assert used["bin"].max() > 1


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_poly_order_is_the_highest_power_of_time(drifting, order):
    assert list(columns(drifting, poly_order=order)) == ["constant", *(f"time {k + 1}" for k in range(order))]


def test_a_higher_order_follows_a_bent_drift(drifting):
    left = []
    for order in (0, 1, 3):
        drifting.build_time_model(poly_order=order, free_motion=False)
        left.append(scatter(drifting))
    assert left[0] > 3.0 * left[1]
    assert left[1] > 1.2 * left[2]


def test_segments_split_at_the_gap(gapped):
    whole, split = columns(gapped), columns(gapped, segments=True)
    assert list(whole) == ["constant", "time 1", "time 2", "time 3"]
    own = [f"time {k}, segment {s}" for s in (0, 1) for k in (1, 2, 3)]
    assert set(own) < set(split)
    for segment, outside in ((0, slice(GAP_AT, None)), (1, slice(0, GAP_AT))):
        np.testing.assert_allclose(np.ptp(split[f"time 1, segment {segment}"][outside]), 0.0, atol=1e-12)


@pytest.mark.parametrize("exptime", [0.1, 0.5])
def test_focus_decays_from_the_start_of_each_segment(gapped, exptime):
    assert not any("focus" in name for name in columns(gapped))
    time = gapped.time
    found = {name: one for name, one in columns(gapped, focus=True, focus_exptime=exptime).items() if "focus" in name}
    assert len(found) == 1
    decay = next(iter(found.values()))
    for start, stop in ((0, GAP_AT), (GAP_AT, N_TIME)):
        expected = np.exp(-(time[start:stop] - time[start]) / exptime)
        slope, _ = np.polyfit(expected, decay[start:stop], 1)
        np.testing.assert_allclose(np.ptp(decay[start:stop] - slope * expected), 0.0, atol=1e-9)
        assert slope > 0


def test_pca_ncomponents_adds_components_that_follow_the_jitter(jittering):
    assert not any("pca" in name for name in columns(jittering))
    found = columns(jittering, pca_ncomponents=2)
    assert [name for name in found if "pca" in name] == ["pca 0", "pca 1"]
    truth = jitter(jittering.time)
    design = np.stack([found["pca 0"], found["pca 1"], np.ones(N_TIME)], axis=1)
    left = truth - design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    assert left.std() < 0.3 * truth.std()


def test_pca_smooth_time_scale_smooths_the_components(jittering):
    """Smoothed over half a day, the components keep nothing of a jitter from cadence to cadence."""
    rough = columns(jittering, pca_ncomponents=1)["pca 0"]
    smooth = columns(jittering, pca_ncomponents=1, pca_smooth_time_scale=0.5)["pca 0"]
    assert np.diff(smooth).std() / smooth.std() < 0.3 * np.diff(rough).std() / rough.std()


def test_free_motion_follows_what_no_time_column_does(jittering):
    columns(jittering)
    before = scatter(jittering)
    jittering.build_time_model()
    assert {"free x 00", "free y 00"} < set(jittering.fit.time_model.names)
    assert scatter(jittering) < 0.3 * before


@pytest.mark.parametrize("positions", ["poscorr", "centroid"])
def test_positions_take_the_jitter_off(rolling, positions):
    rolling.build_time_model(free_motion=False)
    before = scatter(rolling)
    found = columns(rolling, positions=positions)
    assert [name for name in found if positions in name] == [
        f"{positions} {one}" for one in ("x", "y", "x2", "xy", "y2")
    ]
    assert scatter(rolling) < 0.5 * before


def test_time_corrector_stands_in_for_positions(rolling):
    assert rolling.time_corrector == "polynomial"
    by_positions = columns(rolling, positions="poscorr")
    rolling.time_corrector = "poscorr"
    by_attribute = columns(rolling)
    assert list(by_attribute) == list(by_positions)
    with pytest.raises(InputError, match="time_corrector: expected one of 'polynomial', 'poscorr', got 'pos_corr'"):
        rolling.time_corrector = "pos_corr"
    rolling.time_corrector = "polynomial"
    assert "poscorr x" not in columns(rolling)


def test_positions_are_smoothed_where_the_spacecraft_does_not_roll(rolling, jittering):
    """Kepler's pointing is steady: what jumps between cadences is the noise of the centroids."""
    rough, smooth = (columns(one, positions="poscorr")["poscorr x"] for one in (rolling, jittering))
    assert np.diff(smooth).std() / smooth.std() < 0.3 * np.diff(rough).std() / rough.std()


@pytest.mark.parametrize("turned", [False, True])
def test_other_vectors_take_off_what_they_describe(jittering, turned):
    columns(jittering)
    before = scatter(jittering)
    vectors = jitter(jittering.time).T
    found = columns(jittering, other_vectors=vectors.T if turned else vectors)
    assert [name for name in found if "other" in name] == ["other 0", "other 1"]
    assert abs(np.corrcoef(found["other 0"], vectors[0])[0, 1]) > 1 - 1e-9
    assert scatter(jittering) < 0.5 * before


# What the time model is used for


def test_fit_va_follows_the_drift(drifting):
    drifting.build_time_model()
    after = scatter(drifting)
    before = np.median(drifting.ws.std(axis=0) / drifting.ws.mean(axis=0))
    assert after < 0.3 * before
    assert scatter(drifting, "model") < 1.05 * after
    steadier = np.median(drifting.ws.std(axis=0) / drifting.ws.mean(axis=0))
    assert steadier < 0.5 * before


def test_perturbed_model_moves_with_the_drift(drifting):
    """The centroid of the model of a star moves as the star does; a list of cadences gives a list of models."""
    drifting.build_time_model()
    models = drifting.perturbed_model([0, N_TIME - 1])
    assert len(models) == 2
    assert models[0].shape == drifting.perturbed_model(0).shape == (16, drifting.npixels)
    column = [one @ drifting.pixels.column / np.asarray(one.sum(axis=1)).ravel() for one in models]
    np.testing.assert_allclose(np.median(column[1] - column[0]), 0.2, atol=0.05)


# plot_shape_model


def drawn(machine, **options):
    """Return the values drawn in the first panel."""
    artist = machine.plot_shape_model(**options).axes[0].collections[0]
    return np.ma.filled(artist.get_array().astype(float), np.nan).ravel()


def test_frame_index_of_the_picture_chooses_the_pixels_drawn(drifting):
    mean, first, last = (drawn(drifting, frame_index=one) for one in ("mean", 0, N_TIME - 1))
    n_taught = drifting.uncontaminated_source_mask.nnz
    for one in (mean, first, last):
        assert 0.7 * n_taught < one.size <= n_taught
    assert not np.array_equal(mean, first)
    assert not np.array_equal(first, last)


def test_bin_data_of_the_picture_draws_cells(drifting):
    assert drawn(drifting, bin_data=True).size != drawn(drifting).size
    assert type(drifting.plot_shape_model(bin_data=True).axes[0].collections[0]).__name__ == "QuadMesh"
    assert type(drifting.plot_shape_model().axes[0].collections[0]).__name__ == "PathCollection"
