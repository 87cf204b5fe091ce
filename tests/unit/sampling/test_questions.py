"""Machine.pymc_model and Machine.sample: names, widening, refusals; and the command."""

import subprocess
import sys
import warnings

import arviz as az
import numpy as np
import pytest
from typer.testing import CliRunner

import bayesprf as bp
from bayesprf.cli import app
from bayesprf.errors import ConvergenceWarning, FileError, InputError, ShapeError, StageError
from bayesprf.io.save import load_tree
from bayesprf.pipeline import restore
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def machine():
    field = make_field(rng=np.random.default_rng(1), n_source=40, n_time=6)
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    return machine


def test_fixed_hyperparameters_give_the_exact_posterior(machine):
    target = int(np.argmax(machine.ws.mean(axis=0)))
    exact = machine.posterior([target], [1, 4], draws=4000, random_seed=0)
    ours = machine.sample([target], [1, 4], kind="collapsed", random_seed=1)
    for one in ("posterior/flux", "posterior_predictive/y"):
        assert ours[one].dims == exact[one].dims
        np.testing.assert_array_equal(
            ours[one]["time"] if "time" in ours[one].dims else 0, exact[one]["time"] if "time" in exact[one].dims else 0
        )
    sd = float(exact["posterior/flux"].std())
    difference = ours["posterior/flux"].mean(("chain", "draw")) - exact["posterior/flux"].mean(("chain", "draw"))
    assert float(np.abs(difference).max()) < 5.0 * sd * np.sqrt(2.0 / 4000)
    assert ours.attrs["overlapping_sources"] == exact.attrs["overlapping_sources"] != ""


def test_arviz_shows_prior_beside_posterior_and_predictions(machine):
    """Trees of exact draws and of the grid: a prior group that is as wide as declared, and data to compare with."""
    from bayesprf.results.posterior import flat_tree

    trees = [
        machine.posterior([3], [0, 1], draws=200, random_seed=0),
        machine.sample([3], [0, 1], kind="collapsed", width="learn", draws=200, random_seed=0),
    ]
    prior, star = machine.fit.latest_flux.prior, machine.sources.source_id[3]
    for tree in trees:
        width = tree["prior/width"] if "width" in tree["prior"] else 1.0
        white = (tree["prior/flux"].sel(source=star) - prior.mean[3]) / (width * prior.precision[3] ** -0.5)
        assert abs(float(white.mean())) < 4.5 / np.sqrt(white.size)
        assert float(white.std()) == pytest.approx(1.0, abs=4.5 / np.sqrt(2.0 * white.size))
    drawn = trees[1]["prior/width"]  # half-normal of scale one
    assert float(drawn.mean()) == pytest.approx(np.sqrt(2.0 / np.pi), abs=4.5 * 0.603 / np.sqrt(drawn.size))
    for tree in trees:
        assert az.plot_prior_posterior(tree, var_names=["flux"]) is not None
        assert az.plot_ppc_dist(tree) is not None
        assert az.plot_ppc_pit(flat_tree(tree)) is not None


def test_same_seed_same_bits(machine):
    first, second = (machine.sample([3], 0, kind="collapsed", width="learn", draws=50, random_seed=7) for _ in range(2))
    np.testing.assert_array_equal(first["posterior/flux"], second["posterior/flux"])
    assert first["posterior/flux"].dims == ("chain", "draw", "source")


def test_more_hyperparameters_are_sampled_alone(machine):
    """Noise scale and jitter both free: beyond the grid, so NUTS on them, and the layout stays."""
    settings = {"kind": "collapsed", "width": "learn", "noise_scale": "learn", "jitter": "learn"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        tree = machine.sample([3], 0, **settings, draws=30, tune=50, chains=2, cores=1, sampler="pymc", random_seed=2)
    assert tree["posterior/flux"].dims == ("chain", "draw", "source")
    assert {"width", "noise_scale", "jitter", "flux"} == set(tree["posterior"].data_vars)
    assert tree.attrs["sampler"] == "NUTS, coefficients integrated out"
    groups = np.arange(machine.nsources) % 2
    model = machine.pymc_model("collapsed", sources=[3], width="learn", width_group=groups)
    assert [one.name for one in model.observed_RVs] == ["y"]
    with pytest.raises(ShapeError, match="width_group: expected shape"):
        machine.pymc_model("collapsed", sources=[3], width="learn", width_group=groups[:-1])


def test_widening_is_said(machine, capsys):
    target = int(np.argmax(machine.ws.mean(axis=0)))
    names = machine.posterior([target], [0], draws=4).attrs["overlapping_sources"]
    assert names
    machine.sample([target], 0, kind="collapsed", draws=2)
    assert capsys.readouterr().err == ""
    machine.quiet = False
    try:
        machine.sample([target], 0, kind="collapsed", draws=2)
    finally:
        machine.quiet = True
    assert f"sampled along, because their light overlaps: {names.split(', ')[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["linear", "robust", "joint", "shape"])
def test_models_have_named_axes(machine, kind):
    model = machine.pymc_model(kind, sources=[3], cadences=None if kind == "joint" else 0)
    dims = model.named_vars_to_dims
    assert dims.get("psf_w", dims.get("flux")) in (("basis",), ("source",))
    assert ("nu" in model.named_vars) == (kind == "robust")
    if kind != "shape":
        assert dims["flux"] == ("source",)
        assert machine.sources.source_id[3] in model.coords["source"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayesprf.errors.ConvergenceWarning")
def test_offsets_are_shown_for_the_sources_asked_for(machine):
    """The joint model moves all sources of the group; the answer holds those asked for."""
    target = int(np.argmax(machine.ws.mean(axis=0)))
    short = {"draws": 20, "tune": 20, "chains": 1, "sampler": "pymc", "random_seed": 1}
    tree = machine.sample([target], kind="joint", position=0.02, **short)
    assert tree.attrs["overlapping_sources"] != ""
    name = machine.sources.source_id[target]
    for variable in ("flux", "offset"):
        assert tree[f"posterior/{variable}"]["source"].to_numpy().tolist() == [name]


def test_refusals(machine):
    with pytest.raises(InputError, match="kind: expected one of 'linear', 'collapsed', 'robust', 'joint', 'shape'"):
        machine.pymc_model("cubic")
    with pytest.raises(InputError, match=r"settings: expected some of width.*got 'widht'"):
        machine.pymc_model("linear", sources=[3], widht=1.0)
    with pytest.raises(InputError, match=r"settings: expected some of .*got 'form'"):
        machine.sample([3], kind="collapsed", form="centered")
    field = make_field(rng=np.random.default_rng(1), n_source=10, n_time=3)
    with pytest.raises(StageError, match="call fit_model"):
        bp.Machine.from_pixels(field.pixels, field.sources, quiet=True).sample([0])


def test_importing_loads_no_pymc():
    code = "import sys, bayesprf, bayesprf.machine, bayesprf.sampling.questions; print('pymc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small field as files, and its results."""
    directory = tmp_path_factory.mktemp("field")
    from bayesprf.io.simulated import write_field

    files, catalog = write_field(directory, make_field(rng=np.random.default_rng(2), n_source=30, n_time=5))
    arguments = [*(str(path) for path in files), "--catalog", str(catalog), "--output", str(directory / "out.nc")]
    assert CliRunner().invoke(app, ["fit", *arguments, "--quiet"]).exit_code == 0
    return directory


def test_command_samples_saved_results(saved):
    name = str(load_tree(saved / "out.nc")["photometry"]["source"].to_numpy()[0])
    arguments = [
        "sample",
        str(saved / "out.nc"),
        "--source",
        name,
        "--kind",
        "collapsed",
        "--cadence",
        "0",
        "--seed",
        "3",
        "--learn",
        "width",
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f"flux[{name}]: " in done.output
    tree = load_tree(saved / "out-posterior.nc")
    assert list(tree["posterior"]["source"].to_numpy()) == [name]
    assert "width" in tree["posterior"].data_vars


def test_learning_takes_the_model_that_can(saved, tmp_path):
    name = str(load_tree(saved / "out.nc")["photometry"]["source"].to_numpy()[0])
    output = tmp_path / "draws.nc"
    arguments = ["sample", str(saved / "out.nc"), "--source", name, "--output", str(output)]
    done = CliRunner().invoke(app, [*arguments, "--cadence", "0", "--seed", "3", "--learn", "width"])
    assert done.exit_code == 0, done.output
    assert "width" in load_tree(output)["posterior"].data_vars


def test_rebuilding_checks_the_files(saved, tmp_path):
    tree = load_tree(saved / "out.nc")
    with pytest.raises(FileError, match="expected the file the results were made from below one of"):
        restore(tree, (tmp_path,))
    first = next(iter(sorted(saved.rglob("*.fits"))))
    (tmp_path / first.name).write_bytes(b"other")
    with pytest.raises(FileError, match=r"got another content|got none"):
        restore(tree, (tmp_path,))
    tree.attrs["input_files"] = "{}"
    with pytest.raises(InputError, match="expected results that name their input files"):
        restore(tree)


def test_misfit_of_the_joint_model_may_be_learned(machine):
    model = machine.pymc_model("joint", sources=[3], scatter="learn")
    assert "misfit" in {one.name for one in model.free_RVs}
    assert "misfit" not in machine.pymc_model("joint", sources=[3]).named_vars
    with pytest.raises(InputError, match="scatter: expected one of 'learn', got 'free'"):
        machine.pymc_model("joint", sources=[3], scatter="free")
