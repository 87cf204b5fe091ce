"""Answers draw themselves: the numbers in the pictures are those of the records."""

import numpy as np
import pytest

from bayesprf.flags import QualityFlag
from bayesprf.hypotheses.event_depth import EventDepth
from bayesprf.hypotheses.event_host import EventHost
from bayesprf.hypotheses.event_position import EventPosition
from bayesprf.hypotheses.missing_stars import MissingStars
from bayesprf.hypotheses.scores import ComparedModel, Comparison
from bayesprf.hypotheses.second_star import BlendTest
from bayesprf.photometry.processes import LightCurves
from bayesprf.plots.canvas import new_figure
from bayesprf.quality.record import Finding, Verdict
from bayesprf.scene.sources import SourceTable

pytestmark = pytest.mark.plots

SIDE = 2.0
GRID = np.stack([one.ravel() for one in np.meshgrid(*2 * [SIDE * np.arange(-5.0, 6.0)])])
RA, DEC = 10.0, 20.0


def sky(x, y):
    return RA + x / 3600 / np.cos(np.radians(DEC)), DEC + y / 3600


def draw(figure):
    figure.draw_without_rendering()
    return figure.axes[0]


def make_position():
    probability = np.exp(-0.5 * (GRID**2).sum(axis=0) / 2.5**2)
    return EventPosition(
        *sky(*GRID), size=np.full(121, SIDE), probability=probability / probability.sum(),
        log_bayes_factor=np.log(probability), dip=5.0, dip_err=1.0, source=("a", "b"),
        source_probability=np.array([0.7, 0.2]), none_probability=0.1, source_log_bayes_factor=np.array([3.0, 1.0]),
    )  # fmt: skip


def make_missing():
    value = 8.0 * np.exp(-0.5 * ((GRID - [[4.0], [2.0]]) ** 2).sum(axis=0) / 4.0) - 2.0
    ones, found = np.ones(121), np.array([123.4])
    ra_deg, dec_deg = (np.array([one]) for one in sky(4.0, 2.0))
    return MissingStars(*sky(*GRID), value, ones, ones, ra_deg, dec_deg, found, found / 10, found, ones[:1], 1.0)


SOURCES = SourceTable(["a", "b"], *sky(np.array([0.0, 3.0]), np.array([0.0, 0.0])), [1.0, 1.0])


def test_second_star_shows_data_prior_and_the_probability():
    test = BlendTest(-3.0, 0.047, -20.0, 10.0, 100.0, 1.0, 4.0, 30, 5)
    ax = draw(test.plot())
    data, prior, _ = ax.lines
    assert data.get_xdata()[np.argmax(data.get_ydata())] == pytest.approx(-20.0, abs=0.5)
    assert np.all(prior.get_ydata()[prior.get_xdata() < 0] == 0.0)
    assert "probability of a second star 0.047" in ax.get_title()


def test_hosts_are_sorted_and_the_less_probable_ones_counted():
    share = np.append([0.1, 0.7], np.full(12, 0.2 / 12))
    host = EventHost(tuple(f"s{i}" for i in range(14)), share, *np.ones((3, 14)), np.full(14, 10.0))
    ax = draw(host.plot())
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches[:2]], [0.7, 0.1])
    assert [one.get_text() for one in ax.get_yticklabels()][:2] == ["s1", "s0"]
    assert ax.get_title(loc="right") == "2 less probable sources not shown"


def test_depth_shows_its_intervals():
    depth = EventDepth("a", 10.0, 1.0, 1000.0, 1.0, 0.0, 1e-3)
    ax = draw(depth.plot())
    assert ax.get_title().startswith("a: depth 0.01 ± 0.001")
    line = ax.lines[0]
    assert line.get_xdata()[np.argmax(line.get_ydata())] == pytest.approx(0.01, rel=0.01)
    outer = ax.collections[0].get_paths()[0].vertices[:, 0]
    np.testing.assert_allclose([outer.min(), outer.max()], depth.interval(0.95), rtol=0.01)


def test_position_shows_its_regions_and_the_stars():
    found = make_position()
    ax = draw(found.plot(SOURCES))
    counts = [len(one.get_paths()) for one in ax.collections]
    assert counts == [int(found.region(level).sum()) for level in (0.997, 0.95, 0.68)]
    assert ax.xaxis_inverted()  # east is to the left
    stars = next(line for line in ax.lines if line.get_marker() == "*")
    np.testing.assert_allclose(np.sort(stars.get_xdata()), [0.0, 3.0], atol=1e-6)
    assert ax.get_title() == "none of the catalogue's stars: 0.1"


def test_missing_stars_are_where_they_were_found():
    found = make_missing()
    ax = draw(found.plot(SOURCES))
    np.testing.assert_array_equal(ax.collections[0].get_array(), found.log_bayes_factor)
    ring = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose([ring.get_xdata()[0], ring.get_ydata()[0]], [4.0, 2.0], atol=1e-4)
    assert ax.get_title() == "1 stars found"


def test_models_are_drawn_behind_the_best():
    models = (
        ComparedModel("one", -1.0, 0.0, 0.9, -5.0, 1.0, 0.0, 0.0),
        ComparedModel("two", -3.0, -2.0, 0.1, -9.0, 1.0, -4.0, 1.5),
    )
    ax = draw(Comparison(models).plot())
    np.testing.assert_array_equal(ax.containers[0][0].get_xdata(), [0.0, -4.0])
    segments = ax.containers[0][2][0].get_segments()
    np.testing.assert_allclose(segments[1][:, 0], [-5.5, -2.5])


def test_verdict_shows_effects_or_that_the_fit_is_sound():
    fault = Finding(QualityFlag.SKY_LEFT, np.array([True, False]), 12.0, "sky", "fit it")
    ax = draw(Verdict((fault,), {}, {"misplaced": np.zeros(2)}).plot())
    assert [bar.get_width() for bar in ax.patches] == [12.0]
    assert ax.get_yticklabels()[0].get_text() == "SKY_LEFT (1 of 2)"
    assert draw(Verdict((), {}, {}).plot()).get_title() == "the fit is sound"


def test_processes_have_bands_of_their_errors():
    time = np.arange(10.0)
    curves = LightCurves(time, np.full((10, 2), 50.0), np.full((10, 2), 1.0), ())
    ax = draw(curves.plot(1, names=["a", "b"], time_zero_jd=2454833.0))
    assert ax.get_title(loc="left") == "b"
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [-3.92, 3.92])
    assert ax.get_xlabel() == "time (BKJD = BJD − 2454833, day)"


@pytest.mark.parametrize("make", [make_position, make_missing])
def test_maps_are_drawn_where_they_are_asked_to(make):
    ax = new_figure(4.0, 4.0).subplots()
    assert make().plot(ax=ax) is ax.figure


def test_time_model_shows_bins_courses_and_what_is_left():
    from bayesprf.plots.time_model import plot_time_model

    rng = np.random.default_rng(5)
    dx, dy = rng.uniform(-10, 10, (2, 30))
    time = np.linspace(100.0, 110.0, 12)
    model = 1.0 + 0.02 * np.outer(np.linspace(-1, 1, 12), dx / 10)
    data = model * (1.0 + 1e-3 * rng.normal(size=model.shape))
    figure = plot_time_model(dx, dy, time, data=data, model=model, time_zero_jd=2454833.0)
    figure.draw_without_rendering()
    first = figure.axes[0]
    np.testing.assert_allclose(first.collections[0].get_array(), 100 * (data[0] - 1))
    assert first.get_title() == "measured, day 100.00"
    courses, left = (ax for ax in figure.axes if ax.get_xlabel() == "time (BKJD = BJD − 2454833, day)")
    largest = int(np.argmax(np.abs(dx)))
    np.testing.assert_allclose(courses.lines[0].get_ydata(), 100 * (data[:, largest] - 1))
    before, after = (np.asarray(line.get_ydata()) for line in left.lines)
    assert after.max() < 0.2  # the noise of 0.1 %
    assert before[0] > 1.0


def test_draws_are_drawn_by_arviz_and_no_figure_stays_open():
    import matplotlib.pyplot as plt
    import xarray as xr

    import bayesprf.report.accessor  # noqa: F401  (registers tree.bayesprf)
    from bayesprf.errors import InputError

    draws = np.random.default_rng(1).normal(size=(4, 50, 2, 3)) + np.array([100.0, 200.0, 300.0])
    flux = xr.DataArray(draws, dims=("chain", "draw", "time", "source"), coords={"source": list("abc")})
    tree = xr.DataTree.from_dict({"/posterior": xr.Dataset({"flux": flux})})
    before = plt.get_fignums()
    corner = tree.bayesprf.plot_corner(["a", "c"])
    assert sum(ax.has_data() for ax in corner.axes) == 3
    assert tree.bayesprf.plot(["a", "b"]).axes
    assert plt.get_fignums() == before
    with pytest.raises(InputError, match="sources: expected names of the tree's sources, got 'x'"):
        tree.bayesprf.plot_forest(["x"])
    with pytest.raises(InputError, match="cadence: expected an index below 2, got 2"):
        tree.bayesprf.plot_forest(cadence=2)
    with pytest.raises(InputError, match=r"tree: expected draws in a group /posterior, got \[\]"):
        xr.DataTree().bayesprf.plot_corner()
