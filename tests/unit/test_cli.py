"""The command line leaves complete files and answers wrong input in one sentence."""

import re
import sys

import numpy as np
import pytest

from bayesprf.cli import _HEADER, format_summary, main
from bayesprf.hypotheses.scores import ComparedModel
from bayesprf.io.save import load_tree
from bayesprf.photometry.background import Background
from bayesprf.pipeline import restore
from bayesprf.results.diff import differences
from bayesprf.results.scores import compare


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; return exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bayesprf", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def demo_directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cli") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bayesprf", "demo", str(directory), "--quiet"])
        with pytest.raises(SystemExit, match="0"):
            main()
    return directory


def test_demo_leaves_tree_lightcurves_and_pictures(demo_directory):
    tree = load_tree(demo_directory / "field.nc")
    n_source = tree["photometry"].sizes["source"]
    assert tree["photometry"].sizes["time"] == 300
    assert len(list((demo_directory / "lightcurves").glob("*.fits"))) == n_source
    assert len(list((demo_directory / "pixels").glob("*.fits"))) == 12
    pictures = {path.name for path in (demo_directory / "plots").glob("*.png")}
    assert {"scene.png", "shape.png", "lightcurves.png", "noise.png"} <= pictures
    assert all((demo_directory / "plots" / name).stat().st_size > 10_000 for name in pictures)


def test_demo_recovers_the_truth_it_wrote(demo_directory):
    tree = load_tree(demo_directory / "field.nc")
    truth = np.genfromtxt(demo_directory / "truth.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert truth["source_id"].tolist() == tree["photometry"]["source"].values.tolist()
    ratio = tree["photometry"]["flux"].values.mean(axis=0) / truth["mean_flux"]
    bright = truth["mean_flux"] > 1e4
    np.testing.assert_allclose(np.median(ratio[bright]), 1.0, atol=0.02)


def test_fit_takes_the_same_road_as_demo(demo_directory, tmp_path, run):
    output = tmp_path / "new" / "again.nc"
    catalog = demo_directory / "catalog.csv"
    code, out, _ = run("fit", demo_directory / "pixels", "--catalog", catalog, "--output", output)
    assert code == 0
    assert f"wrote {output}" in out
    found = differences(load_tree(output), load_tree(demo_directory / "field.nc"))
    assert {one.path for one in found} <= {"/@created"}
    assert [path.name for path in output.parent.iterdir()] == ["again.nc"]


@pytest.mark.filterwarnings("ignore:RobustSolver. 1 of 300 batch rows still moved")  # one cadence of the demo
def test_fit_with_background_and_robust(demo_directory, tmp_path, run):
    """The demo's sky is off already: fluxes stay, the sky is small, and a Machine made again gives the same."""
    output, catalog = tmp_path / "sky.nc", demo_directory / "catalog.csv"
    options = ("--background", "stamp", "--robust", "--quiet")
    code, out, _ = run("fit", demo_directory / "pixels", "--catalog", catalog, "--output", output, *options)
    assert (code, out) == (0, "")
    tree, plain = load_tree(output), load_tree(demo_directory / "field.nc")
    flux, before = (one["photometry/flux"].median("time").to_numpy() for one in (tree, plain))
    bright = before > 1e4
    assert np.median(np.abs(flux[bright] / before[bright] - 1.0)) < 0.01
    assert tree["background/background_w"].sizes["background_column"] == 12
    assert abs(float(tree["background/background_w"].median())) < 10.0
    assert np.isnan(tree["photometry/log_evidence"]).all()
    machine = restore(tree, (demo_directory,))
    assert machine.background == Background("stamp")
    np.testing.assert_array_equal(machine.ws, tree["photometry/flux"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--background", "field"), "background: expected one of 'stamp', 'image', got 'field'"),
        (
            ("--background", "stamp", "--background-order", "7"),
            "order: expected a whole number from 0 to 6, or None, got 7",
        ),
    ],
)
def test_fit_refuses_what_is_no_background(demo_directory, tmp_path, run, options, sentence):
    catalog = demo_directory / "catalog.csv"
    code, _, err = run("fit", demo_directory / "pixels", "--catalog", catalog, "--output", tmp_path / "x.nc", *options)
    assert code == 1
    assert err == f"bayesprf: {sentence}\n"


def test_report_writes_one_page(demo_directory, tmp_path, run):
    code, out, _ = run("report", demo_directory / "field.nc", "--html", tmp_path / "new" / "report.html")
    assert code == 0
    assert out.splitlines()[-1] == f"wrote {tmp_path / 'new' / 'report.html'}"
    html = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert html.count("data-star=") == 28
    assert 'id="verdict"' in html


def test_report_prints_the_table_and_draws(demo_directory, tmp_path, run):
    code, out, _ = run("report", demo_directory / "field.nc", "--plots", tmp_path)
    assert code == 0
    header, rule, *rows = out.splitlines()
    assert re.split(r"\s{2,}", header) == list(_HEADER)
    assert set(rule) == {"-"}
    assert len([row for row in rows if row.startswith("star-")]) == 28
    fluxes = [float(row.split()[2]) for row in rows if row.startswith("star-")]
    assert fluxes == sorted(fluxes, reverse=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.png" for name in ("errors", "lightcurves", "noise", "prf", "scene")
    }


def test_long_tables_are_cut(demo_directory):
    tree = load_tree(demo_directory / "field.nc")
    text = format_summary(tree.map_over_datasets(lambda ds: ds.isel(source=[0] * 50) if "source" in ds.dims else ds))
    assert text.endswith("and 10 fainter sources")
    assert len({len(line.split("  ")[0]) for line in text.splitlines()[2:-1]}) == 1


def test_compare_shows_evidence_and_leave_one_out(demo_directory, tmp_path, run):
    """Two fits of the same pixels, one of them with a catalogue that lacks a star of middling brightness."""
    header, *lines = (demo_directory / "catalog.csv").read_text().splitlines()
    flux = header.split(",").index("phot_g_mean_flux")
    missing = sorted(lines, key=lambda line: float(line.split(",")[flux]))[len(lines) // 2]
    fewer = tmp_path / "fewer.csv"
    fewer.write_text("\n".join([header, *(line for line in lines if line != missing)]) + "\n")
    arguments = ("fit", demo_directory / "pixels", "--catalog", fewer, "-o", tmp_path / "fewer.nc", "--quiet")
    assert run(*arguments) == (0, "", "")
    paths = [demo_directory / "field.nc", tmp_path / "fewer.nc"]
    code, out, _ = run("compare", *paths)
    assert code == 0
    header, first, second = (line.split() for line in out.splitlines()[:3])
    assert header == list(ComparedModel.__slots__)
    assert (first[0], second[0]) == tuple(str(path) for path in paths)
    expected = compare({str(path): load_tree(path) for path in paths}).models
    for cells, model in zip((first, second), expected, strict=True):
        assert float(cells[1]) == pytest.approx(model.log_evidence, abs=0.05)
        scores = [getattr(model, one) for one in header[4:]]
        assert [float(cell) for cell in cells[4:]] == pytest.approx(scores, abs=0.05)
    assert model.elpd_difference < 0.0 < model.difference_se


def test_compare_says_when_the_data_differ(demo_directory, tmp_path, run):
    some = sorted((demo_directory / "pixels").glob("*.fits"))[:8]
    catalog = demo_directory / "catalog.csv"
    assert run("fit", *some, "--catalog", catalog, "--output", tmp_path / "some.nc", "-q", "--no-loo")[0] == 0
    code, out, err = run("compare", demo_directory / "field.nc", tmp_path / "some.nc")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"bayesprf: models: expected the same data for all, got .*fit both to the same pixels\n", err)
    code, out, _ = run("compare", tmp_path / "some.nc", demo_directory / "field.nc")
    assert code == 1
    (tmp_path / "again.nc").write_bytes((tmp_path / "some.nc").read_bytes())
    code, out, _ = run("compare", tmp_path / "some.nc", tmp_path / "again.nc")
    assert code == 0
    assert out.count("no leave-one-out score; call loo() before saving") == 2


@pytest.mark.parametrize(
    ("files", "catalog", "output", "message"),
    [
        ("nothing/*.fits", "catalog.csv", "o.nc", r"nothing"),
        ("catalog.csv", "catalog.csv", "o.nc", r"catalog\.csv"),
        ("pixels", "missing.csv", "o.nc", r"missing\.csv"),
        ("pixels", "pixels/stamp-00.fits", "o.nc", r"ra_column|right ascension|stamp-00"),
        ("pixels", "empty.csv", "o.nc", "expected at least one source"),
        ("pixels", "catalog.csv", "pixels", "output: expected the name of a file, got the directory pixels"),
        ("pixels", "catalog.csv", "catalog.csv/o.nc", "expected a directory that exists or can be made"),
    ],
)
def test_wrong_input_ends_in_one_sentence(demo_directory, tmp_path, monkeypatch, run, files, catalog, output, message):
    (tmp_path / "pixels").symlink_to(demo_directory / "pixels")
    (tmp_path / "catalog.csv").write_bytes((demo_directory / "catalog.csv").read_bytes())
    (tmp_path / "empty.csv").write_text("ra,dec,phot_g_mean_flux\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = run("fit", files, "--catalog", catalog, "--output", output)
    assert code == 1
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("bayesprf: ")
    assert re.search(message, line)
    assert "Traceback" not in err
    assert not (tmp_path / "o.nc").exists()


def test_demo_refuses_a_directory_that_cannot_be_made(tmp_path, run):
    (tmp_path / "taken").write_text("a file")
    code, out, err = run("demo", tmp_path / "taken")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"bayesprf: .*taken: expected a directory that exists or can be made .*\n", err)


def test_a_damaged_result_is_named(tmp_path, run):
    path = tmp_path / "half.nc"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    code, _, err = run("report", path)
    assert code == 1
    assert re.fullmatch(r"bayesprf: .*half\.nc: expected a complete netCDF-4 file.*\n", err)


def test_missing_options_are_named_by_the_parser(run):
    code, _, err = run("fit", "pixels")
    assert code == 2
    assert "--catalog" in err
