"""Every picture is drawn, with labels, units and colour bars that fit the data."""

import itertools
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import AsinhNorm

import bayesprf as bp
from bayesprf.errors import InputError, ShapeError
from bayesprf.instruments import KEPLER
from bayesprf.plots.canvas import asinh_ticks, new_figure, stretch, time_label
from bayesprf.plots.labels import Labels
from bayesprf.plots.lightcurve import plot_lightcurves
from bayesprf.plots.noise import plot_noise
from bayesprf.plots.scene import plot_scene, shorten
from bayesprf.plots.shape import plot_shape
from bayesprf.report.tree_pictures import choose_curves, draw_report
from bayesprf.results.summary import SourceSummary
from bayesprf.results.tree import build_tree
from bayesprf.scene.axes import source_places
from bayesprf.simulation.fields import make_case, make_field

pytestmark = pytest.mark.plots


def save(figure):
    """Lay the figure out in full, so that warnings about the layout come up."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def field():
    return make_case("demo", np.random.default_rng(1))


@pytest.fixture(scope="module")
def curves():
    rng = np.random.default_rng(2)
    time = np.linspace(120.0, 126.0, 60)
    flux = 1000.0 * np.arange(1, 6) + rng.normal(size=(60, 5))
    flags = np.zeros((60, 5), int)
    flags[7, 0], flags[:, 1] = 1 << 16, 1 << 2
    return {"time": time, "flux": flux, "flux_err": np.ones((60, 5)), "flags": flags}


def shape_arrays(n=300):
    dx, dy = np.random.default_rng(4).uniform(-16.0, 16.0, (2, n))
    model = -0.5 - np.hypot(dx, dy) / 5.0
    return dx, dy, model + 0.1, model


@pytest.mark.parametrize("bin_data", [False, True])
def test_shape_picture_has_six_labelled_panels_and_four_bars(bin_data):
    dx, dy, data, model = shape_arrays()
    data[0] = np.nan
    figure = plot_shape(dx, dy, data, model, bin_data=bin_data)
    save(figure)
    panels, bars = figure.axes[:6], figure.axes[6:]
    assert [ax.get_title() for ax in panels] == ["data", "model", "data − model", "", "", ""]
    assert panels[0].get_ylabel() == "north offset (arcsec)"
    assert panels[3].get_ylabel() == "radius r (arcsec)"
    assert [ax.get_xlabel() for ax in panels] == ["east offset (arcsec)"] * 3 + ["angle φ (radian)"] * 3
    assert [ax.get_ylabel() for ax in bars] == ["log10 PRF (dex)", "residual (dex)"] * 2
    data_colors, model_colors, residual = (ax.collections[0] for ax in panels[:3])
    assert data_colors.get_clim() == model_colors.get_clim()
    np.testing.assert_allclose(residual.get_clim(), (-0.1, 0.1), atol=0.51)
    assert residual.get_clim()[0] == -residual.get_clim()[1]


def test_shape_picture_refuses_arrays_of_different_length():
    dx, dy, data, model = shape_arrays()
    with pytest.raises(ShapeError, match=r"model: expected shape \(300,\) \(n_pair\), got \(299,\)"):
        plot_shape(dx, dy, data, model[:-1])


def test_scene_picture_shows_pixels_sources_and_units(field):
    figure = plot_scene(field.pixels, field.sources)
    save(figure)
    ax, bar = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("column (pixel)", "row (pixel)")
    assert bar.get_ylabel() == "mean flux (electron / s)"
    image = ax.images[0].get_array()
    assert np.isfinite(image.filled(np.nan)).sum() == field.pixels.n_pixel
    sizes = ax.collections[0].get_sizes()
    assert sizes.max() == 160.0


def test_far_cutouts_get_a_panel_each():
    field = make_case("medium", np.random.default_rng(1))
    figure = plot_scene(field.pixels, field.sources)
    save(figure)
    assert len(figure.axes) == 13
    assert figure.get_suptitle() == f"the 12 brightest of {np.unique(field.pixels.stamp).size} cutouts"


def test_sources_are_drawn_where_they_are(field):
    column, row = source_places(field.pixels, field.sources, (0.0, 0.0))
    catalogue_error_pix = 0.2
    assert np.abs(column - field.column).max() < catalogue_error_pix
    assert np.abs(row - field.row).max() < catalogue_error_pix
    east = 3.0 / 3600.0
    ra_deg = field.sources.ra_deg + east / np.cos(np.radians(field.sources.dec_deg))
    moved = source_places(field.pixels, field.sources, (3.0, 0.0))
    expected = source_places(field.pixels, replace(field.sources, ra_deg=ra_deg), (0.0, 0.0))
    np.testing.assert_allclose(moved, expected, atol=0.01)
    np.testing.assert_allclose(np.hypot(moved[0] - column, moved[1] - row), 3.0 / 3.98, rtol=0.01)


def test_given_axes_are_used(field):
    figure = new_figure(4.0, 4.0)
    ax = figure.subplots()
    assert plot_scene(field.pixels, field.sources, ax=ax) is figure
    assert ax.images[0].get_array().max() == field.pixels.flux.mean(axis=0).max()


def names_in(ax):
    """Return the artist that places names."""
    return next(one for one in ax.get_children() if isinstance(one, Labels))


def extents(figure, labels):
    renderer = figure.canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in labels.shown]


def test_names_in_the_scene_cover_neither_each_other_nor_the_edge(field):
    figure = plot_scene(field.pixels, field.sources)
    FigureCanvasAgg(figure).draw()
    ax = figure.axes[0]
    labels = names_in(ax)
    boxes = extents(figure, labels)
    brightest = field.sources.source_id[field.sources.flux.argmax()]
    assert labels.shown[0].get_text() == shorten(brightest)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(ax.bbox.contains(box.x0, box.y0) and ax.bbox.contains(box.x1, box.y1) for box in boxes)
    n_source = field.sources.n_source
    assert ax.get_title(loc="right") == (
        f"{n_source} sources" if len(boxes) == n_source else f"{len(boxes)} of {n_source} sources named"
    )
    assert len(boxes) >= 0.8 * n_source


def test_a_crowd_names_the_brightest_and_says_so():
    figure = new_figure(3.0, 3.0)
    ax = figure.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    x, y = np.random.default_rng(3).uniform(0.3, 0.7, (2, 200))
    labels = Labels(ax, x, y, [f"star-{i}" for i in range(200)], total=200)
    FigureCanvasAgg(figure).draw()
    boxes = extents(figure, labels)
    assert labels.shown[0].get_text() == "star-0"
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert 5 < len(boxes) < 100
    assert ax.get_title(loc="right") == f"{len(boxes)} of 200 sources named"


def test_scene_names_only_what_is_asked_for_and_shortens_long_names(field):
    named = field.sources.source_id[5]
    figure = plot_scene(field.pixels, field.sources, named=named)
    FigureCanvasAgg(figure).draw()
    assert [text.get_text() for text in names_in(figure.axes[0]).shown] == [shorten(named)]
    assert shorten("Gaia DR3 2073456789012345678") == "…89012345678"
    assert len(shorten("Gaia DR3 2073456789012345678")) == 12
    assert shorten("star-00001") == "star-00001"


def test_lightcurves_are_relative_and_have_errors_titles_units_mission_time_and_marks(curves):
    labels = [f"star {i}" for i in range(5)]
    figure = plot_lightcurves(**curves, labels=labels, time_zero_jd=2454833.0)
    save(figure)
    assert [ax.get_title(loc="left") for ax in figure.axes] == labels
    assert figure.get_supylabel() == "change from the median flux (ppm)"
    assert figure.get_supxlabel() == "time (BKJD = BJD − 2454833, day)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["flagged: PIXELS_DROPPED"]
    first, second = figure.axes[:2]
    assert [len(container[0].get_xdata()) for container in first.containers] == [59, 1]
    assert first.containers[1][0].get_markerfacecolor() == "none"
    assert [len(container[0].get_xdata()) for container in second.containers] == [60]
    level = np.median(curves["flux"], axis=0)
    np.testing.assert_allclose(second.containers[0][0].get_ydata(), 1e6 * (curves["flux"][:, 1] / level[1] - 1))
    segments = first.containers[0][2][0].get_segments()
    np.testing.assert_allclose(np.diff(segments[0], axis=0), [[0.0, 2e6 / level[0]]])
    assert all(ax.yaxis.get_major_formatter().get_useOffset() is False for ax in figure.axes)


def test_lightcurves_in_electrons_and_in_per_cent(curves):
    absolute = plot_lightcurves(**curves, labels=list("abcde"), relative=False)
    assert absolute.get_supylabel() == "flux (electron / s)"
    np.testing.assert_array_equal(absolute.axes[4].containers[0][0].get_ydata(), curves["flux"][:, 4])
    flux, error = curves["flux"][:, 4:], curves["flux_err"][:, 4:]
    dip = np.where(np.abs(curves["time"] - 123.0) < 0.5, 0.9, 1.0)[:, None]
    eclipse = plot_lightcurves(curves["time"], flux * dip, error, labels=["e"])
    assert eclipse.get_supylabel() == "change from the median flux (%)"
    assert eclipse.axes[0].containers[0][0].get_ydata().min() == pytest.approx(-10.0, abs=0.1)
    dark = plot_lightcurves(curves["time"], -flux, error, labels=["dark"])
    assert dark.axes[0].get_title(loc="left") == "dark (electron / s)"


def test_lightcurves_are_drawn_where_they_are_asked_to(curves):
    figure = new_figure(4.0, 4.0)
    panels = figure.subplots(5, 1)
    assert plot_lightcurves(**curves, labels=list("abcde"), ax=panels, time_zero_jd=2457000.0) is figure
    assert panels[2].get_xlabel() == "time (BTJD = BJD − 2457000, day)"
    assert panels[0].get_legend().get_texts()[0].get_text() == "flagged: PIXELS_DROPPED"


def test_lightcurves_refuse_missing_labels(curves):
    with pytest.raises(ShapeError, match=r"flux: expected shape \(60, 2\) \(n_time, one per label\), got \(60, 5\)"):
        plot_lightcurves(curves["time"], curves["flux"], curves["flux_err"], labels=["a", "b"])


def test_a_source_without_data_and_a_single_cadence_are_drawn():
    save(plot_lightcurves([1.0], [[np.nan]], [[np.nan]], labels=["outside"]))
    save(plot_lightcurves([1.0], [[5.0]], [[1.0]], labels=["one"]))


def test_report_draws_what_a_tree_holds(curves):
    photometry = {name: curves[name] for name in ("flux", "flux_err", "flags")}
    photometry["flux_err_common"] = np.full(5, 10.0)
    coords = {"time": curves["time"], "source": list("abcde")}
    attrs = {"instrument": "Kepler", "time_zero_jd": 2454833.0}
    tree = build_tree({"photometry": photometry, "catalog": {"mag": np.arange(12.0, 17.0)}}, coords, attrs)
    figures = draw_report(tree)
    for figure in figures.values():
        save(figure)
    assert sorted(figures) == ["errors", "lightcurves", "noise"]
    assert [ax.get_title(loc="left")[0] for ax in figures["lightcurves"].axes] == list("edcba")
    noise = figures["noise"].axes[0]
    assert noise.get_ylabel() == "noise per cadence, relative to the flux (ppm)"
    errors, scatter = (one.get_offsets() for one in noise.collections)
    np.testing.assert_allclose(np.sort(errors[:, 1]), 1e6 / np.arange(5, 0, -1) / 1e3, rtol=0.01)
    np.testing.assert_allclose(scatter[:, 1], errors[:, 1], rtol=0.5)
    collected = 86400.0 * (6.0 / 59) * KEPLER.duty
    line = noise.lines[0]
    level = np.median(np.log10(1e6 / np.sqrt(1000.0 * np.arange(1, 6) * collected)) - 0.2 * np.arange(12.0, 17.0))
    np.testing.assert_allclose(np.log10(line.get_ydata()), level + 0.2 * line.get_xdata(), atol=1e-3)
    split = figures["errors"].axes[0]
    assert [text.get_text() for text in split.get_yticklabels()] == list("edcba")
    total = [bar.get_width() for bar in split.patches]
    np.testing.assert_allclose(total, 100 * np.hypot(1.0, 10.0) / 1000.0 / np.arange(5, 0, -1), rtol=0.01)


def test_noise_names_the_loudest_stars():
    mag, error = np.arange(12.0, 15.0), np.full(3, 1e-4)
    figure = plot_noise(mag, np.array([1e-4, 5e-4, 1e-4]), error, names=["a", "b", "c"])
    FigureCanvasAgg(figure).draw()
    assert [text.get_text() for text in names_in(figure.axes[0]).shown] == ["b"]
    with pytest.raises(ShapeError, match=r"error: expected shape \(3,\) \(n_source\), got \(2,\)"):
        plot_noise(mag, error, error[:2])


def test_report_chooses_the_brightest_and_the_most_variable():
    lines = tuple(SourceSummary(str(i), 10.0 + i, 1e5 / (i + 1), 1e-3, 1e-3, float(i % 10), 0) for i in range(40))
    chosen = [line.source for line in choose_curves(lines)]
    assert chosen[:6] == ["0", "1", "2", "3", "4", "5"]
    assert chosen[6:] == ["9", "19", "29", "39", "8", "18"]
    outside = SourceSummary("x", 1.0, np.nan, np.nan, np.nan, np.nan, 1)
    assert choose_curves((outside,)) == (outside,)


def test_notebooks_can_show_a_picture_and_pyplot_holds_none(curves):
    before = plt.get_fignums()
    figure = plot_lightcurves(**curves, labels=list("abcde"))
    assert plt.get_fignums() == before
    assert isinstance(figure, matplotlib.figure.Figure)
    assert figure._repr_png_()[:4] == b"\x89PNG"


def test_colour_scale_covers_the_image_and_its_numbers_are_round():
    image = np.array([-10.0, 0.0, 5.0, 2e4, np.nan])
    norm = stretch(image)
    assert isinstance(norm, AsinhNorm)
    assert (norm.vmin, norm.vmax) == (-10.0, 2e4)
    ticks = asinh_ticks(norm)
    assert all(norm.vmin <= tick <= norm.vmax for tick in ticks)
    assert all(float(f"{tick:.0e}") == tick for tick in ticks)
    assert len(ticks) >= 4
    assert stretch(np.full(3, np.nan)).vmax == 1.0


def test_time_label_names_the_time_system():
    assert time_label(2457000.0) == "time (BTJD = BJD − 2457000, day)"
    assert time_label(2454833.0) == "time (BKJD = BJD − 2454833, day)"
    assert time_label(2400000.5) == "time (JD − 2400000.5, day)"
    assert time_label(0.0) == "time (day)"


def test_pictures_of_a_machine_take_names():
    field = make_field(rng=np.random.default_rng(2), n_source=6, n_stamp=6, n_time=6, mag_range=(12.0, 14.0))
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model(n_threads=1)
    machine.create_aperture_mask()
    save(machine.plot_prf())
    assert save(machine.plot_noise()) != save(machine.plot_errors())
    name = field.sources.source_id[4]
    assert name in machine.plot_aperture(name).axes[0].get_title()
    texts = [one.get_text() for one in machine.plot_lightcurves([name]).findobj(mpl.text.Text)]
    assert name in texts
    with pytest.raises(InputError, match=r"sources: expected names of the catalogue .*, got 'none'"):
        machine.plot_lightcurves("none")
