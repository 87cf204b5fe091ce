"""Catalogues on the command line: options reach the reader, words stand for catalogues, Gaia is asked once."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from bayesprf import cli
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.save import load_tree
from bayesprf.io.simulated import write_field
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Three bright stars as target pixel files, and their catalogue under names of its own."""
    where = tmp_path_factory.mktemp("field")
    made = make_field(
        rng=np.random.default_rng(4), n_source=3, n_stamp=3, n_time=4, mag_range=(11.0, 12.0), stamp_fill=0.02,
        stamp_sides=(9,),
    )  # fmt: skip
    files, _ = write_field(where, made)
    sources = made.sources
    table = Table({"star": list(sources.source_id), "alpha": sources.ra_deg, "delta": sources.dec_deg})
    table["counts"] = sources.flux
    table.write(where / "own.csv", format="ascii.csv")
    return SimpleNamespace(files=[str(path) for path in files], own=where / "own.csv", where=where, made=made)


def run(*arguments):
    result = CliRunner().invoke(cli.app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result


OWN = ("--id", "star", "--ra", "alpha", "--dec", "delta", "--flux", "counts")


def test_columns_are_named_on_the_command_line(field, tmp_path):
    out = tmp_path / "out.nc"
    run("fit", *field.files, "--catalog", field.own, *OWN, "--output", out, "--no-loo", "-q")
    tree = load_tree(out)
    assert tree["catalog/source"].to_numpy().tolist() == list(field.made.sources.source_id)
    np.testing.assert_array_equal(tree["catalog/catalog_flux"], field.made.sources.flux)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {}),
        (OWN, {"id_column": "star", "ra_column": "alpha", "dec_column": "delta", "flux_column": "counts"}),
        (
            ("--mag", "V", "--ref-epoch", "2000", "--table", "II"),
            {"mag_column": "V", "ref_epoch": 2000.0, "table": "II"},
        ),
        (("--detect-missing",), {"detect_missing": True}),
    ],
)
def test_options_reach_the_reader(field, monkeypatch, options, expected):
    seen = {}
    monkeypatch.setattr(cli, "run_fit", lambda files, catalog, chosen, output, quiet: seen.update(chosen.catalog))
    run("fit", *field.files, "--catalog", field.own, "--output", "out.nc", *options)
    assert seen == expected


@pytest.mark.parametrize(
    ("word", "name"), [("detect", "detected-1"), pytest.param("targets", "KIC 1", marks=pytest.mark.slow)]
)
def test_words_stand_for_a_catalogue(field, tmp_path, word, name):
    out = tmp_path / "out.nc"
    run("fit", *field.files, "--catalog", word, "--output", out, "--no-loo", "-q")
    tree = load_tree(out)
    assert name in tree["catalog/source"].to_numpy().tolist()
    flux = np.sort(tree["photometry/flux"].to_numpy().mean(axis=0))
    np.testing.assert_allclose(flux, np.sort(field.made.mean_flux), rtol=0.1)
    assert json.loads(tree.attrs["input_files"])


def test_gaia_is_asked_once(field, monkeypatch, tmp_path):
    monkeypatch.setenv("BAYESPRF_CACHE", str(tmp_path / "cache"))
    pixels = read_tpfs(field.files)
    ra, dec = np.median(pixels.ra_deg), np.median(pixels.dec_deg)
    rows = Table({"source_id": [11, 12], "ra": [ra, ra], "dec": [dec, dec + 1e-3], "phot_g_mean_flux": [1.0, 2.0]})
    rows["ref_epoch"] = 2016.0
    asked = []

    def launch_job_async(query):
        asked.append(query)
        return SimpleNamespace(get_results=lambda: rows)

    module = ModuleType("astroquery.gaia")
    module.Gaia = SimpleNamespace(launch_job_async=launch_job_async)
    monkeypatch.setitem(sys.modules, "astroquery", ModuleType("astroquery"))
    monkeypatch.setitem(sys.modules, "astroquery.gaia", module)
    for name in ("gaia.ecsv", "again.csv"):
        out = tmp_path / name
        shown = run("gaia", *field.files, "--output", out, "--magnitude-limit", "17", "--margin", "2000")
        assert f"wrote {out}" in shown.output
        assert read_catalog(out).source_id == ("11", "12")
    assert len(asked) == 1
    assert "phot_g_mean_mag < 17.0" in asked[0]
