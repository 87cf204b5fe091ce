"""The commands around a fit: batch, options by name, version, progress."""

import csv
import errno
import logging
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.figure import Figure
from typer.testing import CliRunner

from bayesprf import __version__, cli
from bayesprf.batch import read_fields
from bayesprf.errors import FileError, InputError
from bayesprf.io.save import load_tree
from bayesprf.io.simulated import write_field
from bayesprf.plots.canvas import save_figures
from bayesprf.report.page import Report
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of two fields; the second has no catalogue."""
    where = tmp_path_factory.mktemp("batch")
    made = make_field(
        rng=np.random.default_rng(3), n_source=4, n_time=4, n_stamp=4, mag_range=(11.0, 12.5), stamp_fill=0.02
    )
    write_field(where / "north", made)
    with open(where / "fields.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["name", "files", "catalog"])
        writer.writerow(["north", "north/pixels", "north/catalog.csv"])
        writer.writerow(["south", "north/pixels/stamp-00.fits;north/pixels/stamp-01.fits", "missing.csv"])
    return where / "fields.csv"


@pytest.fixture(autouse=True)
def no_handlers():
    yield
    logger = logging.getLogger("bayesprf")
    for handler in [one for one in logger.handlers if isinstance(one, logging.FileHandler)]:
        handler.close()
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def run(*arguments, code=0):
    result = CliRunner().invoke(cli.app, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    return result


def test_version():
    assert run("--version").output == f"bayesprf {__version__}\n"


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bayesprf", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("bayesprf", run_name="__main__")
    assert capsys.readouterr().out == f"bayesprf {__version__}\n"


def test_batch_leaves_trees_light_curves_pictures_log_and_quality(table, tmp_path):
    out = tmp_path / "out"
    arguments = ("batch", table, "--output", out, "--lightcurves", out / "lc", "--plots", out / "png", "-q")
    run(*arguments, "--set", "rmax=20", code=1)
    rows = Table.read(out / "summary.ecsv")
    assert rows["status"].tolist() == ["done", "failed"]
    assert rows["n_source"].tolist() == [4, 0]
    assert rows["SATURATED"].tolist() == [0, -1]
    assert rows["chi2_per_pixel"][0] > 0.3
    assert "missing.csv" in rows["message"][1]
    assert len(list((out / "lc" / "north").glob("*.fits"))) == 4
    assert (out / "png" / "north" / "lightcurves.png").stat().st_size > 10_000
    assert "north: done" in (out / "batch.log").read_text()
    assert '"rmax": 20' in load_tree(out / "north.nc").attrs["options"]
    run(*arguments, "--set", "rmax=20", code=1)
    assert Table.read(out / "summary.ecsv")["status"].tolist() == ["resumed", "failed"]


def test_the_table_of_fields(table, tmp_path):
    north, south = read_fields(table)
    assert north.catalog == str(table.parent / "north/catalog.csv")
    assert len(south.files) == 2
    (tmp_path / "bad.csv").write_text("name,files\nnorth,pixels\n")
    with pytest.raises(InputError, match=r"bad\.csv: expected the columns name, files and catalog, .* got name, files"):
        read_fields(tmp_path / "bad.csv")
    with pytest.raises(FileError, match=r"none\.csv: expected a CSV table of fields"):
        read_fields(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--output", "f.csv"), r"output: expected a name that ends in \.nc"),
        (("--output", "f.nc", "--set", "flux_cutoff=1"), "did you mean flux_cut_off"),
        (("--output", "f.nc", "--quality", "best"), "quality_bitmask: expected 'default'"),
    ],
)
def test_wrong_options_of_a_fit(table, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    field = table.parent / "north"
    result = CliRunner().invoke(cli.app, ["fit", str(field / "pixels"), "--catalog", str(field / "catalog.csv"), *more])
    assert isinstance(result.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise result.exception
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_an_input_is_refused(table, tmp_path):
    files, catalog = table.parent / "north" / "pixels", tmp_path / "stars.nc"
    catalog.write_text("source_id,ra,dec,flux")
    arguments = ["fit", str(files), "--catalog", str(catalog), "--output", str(catalog)]
    result = CliRunner().invoke(cli.app, arguments)
    with pytest.raises(InputError, match=r"output: expected a file of its own, got .*stars\.nc', which is an input"):
        raise result.exception
    assert catalog.read_text() == "source_id,ra,dec,flux"


@pytest.mark.parametrize(
    ("typed", "offered"), [("bayesprf ba", ["batch"]), ("bayesprf fit --ca", ["--catalog"]), ("bayesprf fit --zz", [])]
)
def test_the_shell_completes_commands_and_options(typed, offered):
    words = typed.split()
    environment = {"_BAYESPRF_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    result = CliRunner().invoke(cli.app, [], prog_name="bayesprf", env=environment)
    assert result.output.split() == offered


def test_a_log_on_a_full_disk_ends_in_one_sentence(capsys):
    """/dev/full refuses whatever is written to it, as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    log = logging.getLogger("bayesprf")
    before = list(log.handlers)
    cli._log_to(Path("/dev/full"))
    for number in range(3):
        log.info("field %d", number)
    assert log.handlers == before
    assert capsys.readouterr().err.splitlines() == [
        "bayesprf: /dev/full: the log ends here (No space left on device); the fits go on"
    ]


def test_pictures_and_pages_on_a_full_disk_leave_what_was_there(tmp_path, monkeypatch):
    def refuse(path, content):
        with open(path, "wb") as handle:
            handle.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    page = tmp_path / "page.html"
    page.write_text("older")
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(FileError, match=r"page\.html: cannot be written \(No space left on device\); make room"):
        Report("<html></html>").save(page)
    with pytest.raises(FileError, match=r"one\.png: cannot be written \(No space left on device\); make room"):
        save_figures({"one": Figure()}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert page.read_text() == "older"
