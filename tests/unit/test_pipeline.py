"""One way from files to results: every road gives the same fit, and a saved one can be taken up again."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from typer.testing import CliRunner

import bayesprf as bp
from bayesprf.batch import Field, fit_batch
from bayesprf.cli import app
from bayesprf.errors import InputError, QualityWarning
from bayesprf.instruments import TESS
from bayesprf.io.pixels.tpf_writer import write_tpf
from bayesprf.io.save import load_tree, save_tree
from bayesprf.pipeline import FitOptions, read_field, restore
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A field of TESS as files, and a catalogue with two flux columns and moving stars."""
    where = tmp_path_factory.mktemp("field")
    made = make_field(
        rng=np.random.default_rng(5),
        n_source=8,
        n_time=24,
        n_stamp=3,
        mag_range=(10.0, 12.0),
        stamp_fill=0.02,
        instrument=TESS,
    )
    for stamp in range(3):
        write_tpf(where / f"tpf-{stamp}.fits", made.pixels, stamp=stamp, target=stamp + 1)
    sources = made.sources
    table = {
        "source_id": sources.source_id,
        "ra": sources.ra_deg,
        "dec": sources.dec_deg,
        "phot_g_mean_flux": sources.flux,
        "phot_rp_mean_flux": 0.8 * sources.flux,
        "pmra": np.full(8, 20.0),
        "pmdec": np.zeros(8),
        "ref_epoch": np.full(8, 2016.0),
    }
    pd.DataFrame(table).to_csv(where / "catalog.csv", index=False)
    return where


@pytest.fixture(scope="module")
def fitted(directory):
    with pytest.warns(
        QualityWarning, match=r"^bayesprf.fit: FEW_CALIBRATORS .*: add files with more isolated"
    ) as caught:
        machine = bp.fit(directory / "*.fits", directory / "catalog.csv", quiet=True)
    assert len(caught) == 1
    return machine


@pytest.mark.filterwarnings("ignore::bayesprf.errors.QualityWarning")
@pytest.mark.slow  # 18 s
def test_open_files_are_fitted_as_paths_are(directory, fitted):
    """One HDUList was taken for a list of files; a list of them and a generator of paths work alike."""
    paths = sorted(directory.glob("*.fits"))
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(fits.open(path)) for path in paths]
        np.testing.assert_array_equal(bp.fit(opened, directory / "catalog.csv", quiet=True).ws, fitted.ws)
        pixels, _ = read_field(opened[0], directory / "catalog.csv", FitOptions())
    assert pixels.n_pixel == bp.read_tpfs(paths[0]).n_pixel
    pixels, _ = read_field(iter(paths), directory / "catalog.csv", FitOptions())
    assert pixels.n_pixel == fitted.pixels.n_pixel


def test_all_roads_give_the_same_bits(directory, fitted, tmp_path):
    out = tmp_path / "out.nc"
    arguments = ["fit", str(directory), "--catalog", str(directory / "catalog.csv"), "--output", str(out), "-q"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    fit_batch([Field("one", (str(directory),), str(directory / "catalog.csv"))], tmp_path)
    by_hand = bp.Machine.from_pixels(fitted.pixels, fitted.sources, quiet=True)
    by_hand.build_shape_model()
    by_hand.fit_model()
    pixels, catalog = bp.read_tpfs(directory / "*.fits"), bp.read_catalog(directory / "catalog.csv")
    read = bp.Machine.from_pixels(pixels, catalog, quiet=True)
    read.build_shape_model()
    read.fit_model()
    trees = [load_tree(one)["photometry/flux"] for one in (out, tmp_path / "one.nc")]
    for flux in (*trees, by_hand.ws, read.ws):
        np.testing.assert_array_equal(flux, fitted.ws)


def test_fluxes_of_the_band_and_positions_of_the_epoch(directory, fitted):
    frame = pd.read_csv(directory / "catalog.csv")
    np.testing.assert_array_equal(fitted.sources.flux, frame["phot_rp_mean_flux"])
    years = 2000.0 + (TESS.time_zero_jd + np.median(fitted.time) - 2451545.0) / 365.25 - 2016.0
    moved = 3600.0 * (fitted.sources.ra_deg - frame["ra"]) * np.cos(np.radians(frame["dec"]))
    np.testing.assert_allclose(moved, 0.02 * years, rtol=1e-4)
    pixels, sources = read_field(fitted.pixels, frame, FitOptions(catalog={"flux_column": "phot_g_mean_flux"}))
    assert pixels is fitted.pixels
    np.testing.assert_array_equal(sources.flux, frame["phot_g_mean_flux"])
    assert read_field(fitted.pixels, sources, FitOptions())[1] is sources


@pytest.mark.filterwarnings("ignore::bayesprf.errors.QualityWarning")
def test_a_saved_fit_is_taken_up_with_all_its_options(directory, tmp_path):
    mask = np.arange(24) < 20
    machine = bp.fit(
        directory,
        directory / "catalog.csv",
        refine=True,
        fit_va=True,
        background="stamp",
        shape={"min_snr": 15.0},
        time_model={"poly_order": 1, "other_vectors": np.sin(np.arange(24.0))[None]},
        quiet=True,
        time_mask=mask,
        rmax=50.0,
    )
    machine.fit_model(fit_va=True, prior_sigma=np.full(8, 1e5), prior_mu=0.0)
    machine.loo()
    path = save_tree(machine.to_datatree(), directory / "saved.nc")
    back = bp.load(path, quiet=True)
    assert back.fit.settings == machine.fit.settings.updated(sources_flux_column=None)
    assert back.fit.prf_recipe == machine.fit.prf_recipe
    assert back.fit.time_recipe.options == machine.fit.time_recipe.options
    for name in ("ws", "ws_va", "werrs_total", "sap_flux", "FLFRCSAP"):
        np.testing.assert_array_equal(getattr(back, name), getattr(machine, name))
    np.testing.assert_array_equal(back.fit.score.elpd_time, machine.fit.score.elpd_time)
    back.fit_model(robust=True)
    again = bp.load(save_tree(back.to_datatree(), directory / "again.nc"), quiet=True)
    np.testing.assert_array_equal(again.ws, back.ws)
    assert again.fit.flux_va is None


def test_light_curves_as_processes_are_taken_up(directory, fitted):
    """Kernels, events, verdicts and groups come back, and with them draws and predictions."""
    machine = bp.Machine.from_fit(fitted.fit, quiet=True)
    event = (np.arange(24) // 4 == 2).astype(float)
    kernels = {0: bp.ProcessKernel("oscillator", 30.0, 0.3, 5.0, 2.0), 1: "matern32", 2: bp.ProcessKernel("constant")}
    before = machine.fit_light_curves(kernel=kernels, template={1: event})
    back = bp.load(save_tree(machine.to_datatree(), directory / "process.nc"), quiet=True).fit.need("process")
    for one, other in zip(before.groups, back.groups, strict=True):
        np.testing.assert_array_equal(one.source, other.source)
        np.testing.assert_array_equal(one.log_bayes_factor, other.log_bayes_factor)
        assert one.kernels == other.kernels
        assert list(one.templates) == list(other.templates)
    for name in ("flux", "flux_err"):
        np.testing.assert_allclose(getattr(back, name), getattr(before, name), rtol=1e-12)
    group = next(one for one in before.groups if 1 in one.source)
    np.testing.assert_array_equal(group.templates[1], event)
    np.testing.assert_allclose(
        np.concatenate([one.dip for one in back.groups]), np.concatenate([one.dip for one in before.groups]), rtol=1e-9
    )


def test_trees_without_recipes_still_load(directory, fitted):
    tree = fitted.to_datatree()
    del tree.attrs["recipes"]
    np.testing.assert_array_equal(restore(tree, (directory,)).ws, fitted.ws)
    tree.attrs["options"] = json.dumps(json.loads(tree.attrs["options"]) | {"background": "stamp"})
    with pytest.raises(InputError, match=r"^tree: expected fluxes that these files and options give again, got some"):
        restore(tree, (directory,))


@pytest.mark.filterwarnings("ignore::bayesprf.errors.QualityWarning")
def test_fit_takes_options_of_all_stages_by_name(directory, fitted):
    """`field_variation` and `quality_bitmask` were refused, though ``--set`` took them."""
    asked = {"field_variation": 1, "quality_bitmask": "hard", "rmax": 40.0, "loo": True}
    machine = bp.fit(directory / "*.fits", directory / "catalog.csv", quiet=True, cures=False, **asked)
    assert machine.fit.prf_recipe.shape.field_variation == 1
    assert machine.fit.settings.rmax == 40.0
    assert machine.fit.score is not None
    assert FitOptions().updated(positions="centroid").fit_va


def test_columns_of_the_catalogue_are_options_of_a_fit_too():
    """`bp.fit(files, table, flux_column="counts")` was refused as no option of any stage."""
    options = FitOptions(catalog={"detect_missing": True}).updated(flux_column="counts", ref_epoch=2016.0)
    assert options.catalog == {"detect_missing": True, "flux_column": "counts", "ref_epoch": 2016.0}


def test_options_are_checked_before_anything_is_read():
    with pytest.raises(InputError, match=r"^options: expected some of .*, got n_knots; did you mean n_r_knots\?$"):
        bp.fit("nowhere", "none.csv", n_knots=3)
    with pytest.raises(InputError, match=r"^kwargs: expected some of .*, got max_pair; did you mean max_pairs\?$"):
        FitOptions(shape={"max_pair": 3})
    with pytest.raises(InputError, match=r"^cures: expected True, False or some of sky, .*, got \['rol'\]$"):
        FitOptions(cures=["rol"])
    for wrong, said in (
        ({"positions": "x"}, "positions: expected one of .*, got 'x'"),
        ({"poly_ordr": 2}, r"time_model: .* got poly_ordr; did you mean poly_order\?"),
        ({"poly_order": -1}, "poly_order: expected a whole number from 0 up, got -1"),
    ):
        with pytest.raises(InputError, match=said):
            bp.fit("nowhere", "none.csv", time_model=wrong)
    assert FitOptions(time_model={"poly_order": 1}).fit_va
    assert (FitOptions(cures=False).chosen_cures, FitOptions(cures=("sky",)).chosen_cures) == ((), ("sky",))
    with pytest.raises(InputError, match=r"^options: expected a FitOptions or None, got {'fit_va': True}; bayesprf"):
        fit_batch([Field("a", "b", "c")], "nowhere", options={"fit_va": True})


def test_what_a_time_model_follows_is_looked_for_before_the_prf_is_fitted(directory, monkeypatch):
    monkeypatch.setattr(bp.Machine, "build_shape_model", lambda *_, **__: pytest.fail("fitted"))
    with pytest.raises(InputError, match='positions: expected pixels with pos_corr for "poscorr", got none'):
        bp.fit(directory / "*.fits", directory / "catalog.csv", quiet=True, time_model={"positions": "poscorr"})
