"""The page of a tree: complete in itself, escaped, verdict first and provenance last, for every kind of tree."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

import bayesprf as bp
from bayesprf.errors import InputError
from bayesprf.flags import QualityFlag
from bayesprf.io.save import load_tree
from bayesprf.report.curves import average, curve_data
from bayesprf.report.page import make_report
from bayesprf.results.summary import summarize
from bayesprf.results.tree import build_tree
from bayesprf.simulation.fields import make_field

pytestmark = pytest.mark.plots

ODD = ("<b>bold</b>", 'R&D "quoted"', "</script><script>alert(1)</script>", "plain", "e", "f")


@pytest.fixture(scope="module")
def fitted():
    """Return a Machine of stars whose names are markup."""
    field = make_field(rng=np.random.default_rng(2), n_source=6, n_stamp=6, n_time=6, mag_range=(12.0, 14.0))
    machine = bp.Machine.from_pixels(field.pixels, replace(field.sources, source_id=ODD), quiet=True)
    machine.build_shape_model()
    machine.build_time_model(poly_order=1)
    machine.fit_model(n_threads=1)
    return machine


@pytest.fixture(scope="module")
def page(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    report = fitted.report(path)
    assert path.read_text(encoding="utf-8") == report.html
    return report


@pytest.fixture
def without_pictures(monkeypatch):
    """Draw the figures, but do not turn them into pixels."""
    monkeypatch.setattr("bayesprf.plots.canvas.as_base64", lambda figure, dpi: "AA==")


class Reader(HTMLParser):
    """Collects tags, their attributes and the text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data.strip())


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.search(r"https?://", page.html)
    tags = Reader(page.html).tags
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}
    sources = [attributes["src"] for _, attributes in tags if "src" in attributes]
    assert sources
    assert all(one.startswith("data:image/png;base64,iVBOR") for one in sources)
    assert not any("href" in attributes for _, attributes in tags)
    assert "@import" not in page.html
    assert "url(" not in page.html


def test_names_are_escaped_wherever_they_stand(page):
    reader = Reader(page.html)
    assert [tag for tag, _ in reader.tags].count("script") == 2
    assert "b" not in {tag for tag, _ in reader.tags} - {"b"}
    assert "<b>bold" not in page.html
    assert {one for _, attributes in reader.tags if (one := attributes.get("data-star"))} == set(ODD)
    assert set(ODD) <= set(reader.words)


def test_verdict_comes_first_and_provenance_last(page, fitted):
    heads = [attributes.get("id") for tag, attributes in Reader(page.html).tags if tag == "section"]
    assert heads[0] == "verdict"
    assert heads[-1] == "provenance"
    text = " ".join(Reader(page.html).words)
    for one in fitted.verdict.findings:
        assert one.sentence in text
        assert one.cure in text
    assert ("The fit is sound." in text) == fitted.verdict.is_sound


def test_findings_and_cures_of_a_bad_fit_are_said(fitted, without_pictures):
    tree = fitted.to_datatree()
    group = tree["quality"].to_dataset().drop_dims("finding", errors="ignore")
    found = {
        "finding": ["SKY_LEFT"],
        "finding_sentence": ["2 < 3 electrons of sky"],
        "finding_cure": ["fit <it> along"],
    }
    group = group.assign({name: ("finding", np.array(one, object)) for name, one in found.items()})
    group["quality_flags"] = ("source", np.array([int(QualityFlag.SKY_LEFT)] * 2 + [0] * 4, np.int32))
    tree["quality"] = xr.DataTree(group)
    html = make_report(tree).html
    assert "1 fault found." in html
    assert (
        "SKY_LEFT</span> (2 of 6 sources): 2 &lt; 3 electrons of sky. <b>What to do:</b> fit &lt;it&gt; along" in html
    )


def test_curves_in_the_page_are_those_of_the_tree(page, fitted):
    data = json.loads(re.search(r"const curves = (.*);", page.html).group(1))
    brightest = data["stars"][0]
    index = fitted.sources.source_id.index(brightest["name"])
    level = np.median(fitted.ws[:, index])
    np.testing.assert_allclose(
        brightest["flux"], 1e6 * (fitted.ws[:, index] / level - 1), atol=0.01 * np.median(brightest["error"])
    )
    np.testing.assert_allclose(brightest["error"], 1e6 * fitted.werrs[:, index] / level, rtol=0.01)
    np.testing.assert_allclose(data["time"], fitted.time, atol=1e-5)
    assert data["timeLabel"].startswith("time")


def test_runs_of_cadences_are_averaged_by_their_weights():
    flux = np.array([[1.0], [3.0], [np.nan], [5.0], [7.0]])
    error = np.array([[1.0], [2.0], [1.0], [1.0], [np.inf]])
    flagged = np.array([[False], [False], [True], [False], [False]])
    mean, spread, any_flag = average(flux, error, flagged, n_mean=2)
    np.testing.assert_allclose(mean[:, 0], [(1.0 + 3.0 / 4.0) / 1.25, 5.0, np.nan])
    np.testing.assert_allclose(spread[:2, 0], [1.25**-0.5, 1.0])
    np.testing.assert_array_equal(any_flag[:, 0], [False, True, False])


def test_two_hundred_stars_of_four_thousand_cadences_stay_below_three_megabytes():
    rng = np.random.default_rng(7)
    n_time, n_source = 4000, 200
    flux = np.geomspace(1e3, 1e6, n_source) * (1 + 1e-3 * rng.normal(size=(n_time, n_source)))
    photometry = {"flux": flux, "flux_err": 1e-3 * flux, "flags": np.zeros(flux.shape, int)}
    coords = {"time": 0.02 * np.arange(n_time), "source": [f"Gaia DR3 {4 * 10**18 + i}" for i in range(n_source)]}
    tree = build_tree(
        {"photometry": photometry, "catalog": {"mag": np.linspace(18, 10, n_source)}}, coords, {"instrument": "Kepler"}
    )
    report = make_report(tree)
    assert 0.5e6 < len(report.html.encode()) < 3e6
    assert "Each point is the mean of 8 cadences." in report.html
    stars = curve_data(tree, summarize(tree))["data"]["stars"]
    assert sum(len(one["flux"]) for one in stars) <= 100_000


KINDS = ("all", "no verdict", "no image", "apertures", "widths", "draws", "one cadence", "joint")


def kind_of_tree(kind, machine):
    if kind == "draws":
        return machine.posterior(["plain", "e"], draws=40, random_seed=1)
    if kind == "one cadence":
        return machine.posterior(draws=40, cadences=0, random_seed=1)
    if kind == "joint":
        tree = machine.posterior(["plain"], draws=40, cadences=0, random_seed=1)
        weights = xr.DataArray(np.zeros((4, 10, 3)), dims=("chain", "draw", "basis"))
        tree["posterior"] = xr.DataTree(tree["posterior"].to_dataset().assign(psf_w=weights))
        tree.attrs["convergence"] = "The draws can <not> be trusted"
        return tree
    if kind == "apertures":
        machine.compute_aperture_photometry()
    tree = machine.to_datatree()
    if kind == "widths":
        numbers = dict.fromkeys(("zero_point", "zero_point_err", "model_error", "model_error_err"), 0.5)
        groups = {name: ("source_group", [0.1]) for name in ("prior_width", "variability")}
        groups |= {f"{name}_err": one for name, one in groups.items()}
        noise = {name: ("pixel_group", [1.2]) for name in ("noise_scale", "noise_scale_err")}
        labels = {"prior_group": ("source_group", ["all"]), "noise_group": ("pixel_group", ["all"])}
        tree["widths"] = xr.DataTree(xr.Dataset({**numbers, **groups, **noise, **labels}))
    dropped = {"no verdict": ["quality"], "no image": ["image", "shape"]}.get(kind, [])
    return tree.filter(lambda node: node.name not in dropped) if dropped else tree


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_saved_tree_has_a_page(kind, fitted, tmp_path, without_pictures):
    from bayesprf.io.save import save_tree

    machine = bp.Machine.from_fit(fitted.fit, quiet=True)
    tree = load_tree(save_tree(kind_of_tree(kind, machine), tmp_path / "tree.nc"))
    html = make_report(tree).html
    expected = {
        "no verdict": "These results hold no verdict.",
        "widths": "learned: prior width",
        "draws": "The first of 6 cadences.",
        "joint": "The draws can &lt;not&gt; be trusted",
    }
    assert expected.get(kind, 'id="verdict"') in html
    assert ('id="star"' in html) == ("posterior" not in tree.children)
    assert ("<h2>Scene</h2>" in html) == ("image" in tree.children)
    assert ("<h2>Time model</h2>" in html) == ("time_model" in tree.children)


def test_a_fit_without_fluxes_has_a_page_without_light_curves(fitted, without_pictures):
    html = bp.Machine.from_fit(fitted.fit.without("flux"), quiet=True).report().html
    assert "No fluxes have been fitted yet" in html
    assert 'id="star"' not in html
    assert "<h2>PRF</h2>" in html


def test_other_trees_are_refused():
    with pytest.raises(InputError, match=r"tree: expected results of a fit or draws, got groups \[\]"):
        make_report(xr.DataTree())


def test_notebooks_show_the_page_in_a_frame(page):
    shown = page._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert shown.count("<") == 2
    assert repr(page) == f"<Report: {len(page.html.encode()) / 1e6:.2f} MB of HTML; save('report.html') writes it>"


def test_summary_of_a_tree_has_the_verdict_first_and_provenance_last(fitted):
    tree = fitted.to_datatree()
    html = tree.bayesprf._repr_html_()
    places = [html.index(one) for one in ("fault found", "<table>", "<summary>Provenance", "input files", "recipes")]
    assert places == sorted(places)
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert "<script" not in html
    assert repr(tree.bayesprf).splitlines()[0] == "bayesprf: 6 sources"
