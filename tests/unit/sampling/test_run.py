"""Samplers: labels, seeds, diagnostics in words; the agreement with the closed form is in test_agreement."""

import warnings
from dataclasses import replace

import arviz as az
import numpy as np
import pytest
import xarray as xr
from sampling_scenes import group_data, make_problem

from bayesprf.errors import ConvergenceWarning, InputError
from bayesprf.io.save import load_tree, save_tree
from bayesprf.sampling.draws import grid_tree
from bayesprf.sampling.grid import integrate_grid
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior
from bayesprf.sampling.linear import build_linear
from bayesprf.sampling.run import SamplerOptions, check_convergence, sample_model, sample_posterior

HYPER = Hyperparameters(width=Hyperprior("half-normal", 0.5), jitter=Hyperprior("half-normal", 5.0))
SHORT = SamplerOptions(draws=600, tune=300, chains=2, cores=1, sampler="pymc", random_seed=11)


@pytest.fixture(scope="module")
def problem():
    return make_problem(5)


@pytest.fixture(scope="module")
def sampled(problem):
    """One short run of PyMC's NUTS with free width and jitter."""
    data = group_data(problem, with_time=False)
    model = build_linear(problem, data, HYPER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return sample_posterior(model, data, SHORT)


@pytest.fixture(scope="module")
def gridded(problem):
    data = group_data(problem, with_time=False)
    grid = integrate_grid(problem, HYPER)
    return grid_tree(grid, data, np.arange(5), (4, 1000), rng=np.random.default_rng(0))


def test_sampler_agrees_with_the_grid(sampled, gridded):
    for name in ("width", "jitter", "flux"):
        ours, exact = sampled[f"posterior/{name}"], gridded[f"posterior/{name}"]
        error = np.hypot(az.mcse(ours), az.mcse(exact))
        assert float(np.abs((ours.mean(("chain", "draw")) - exact.mean(("chain", "draw"))) / error).max()) < 4.0


def test_both_results_have_the_same_groups_and_axes(sampled, gridded):
    shared = {"posterior", "posterior_predictive", "log_likelihood", "observed_data", "constant_data"}
    assert shared <= set(sampled.children)
    assert shared <= set(gridded.children)
    for group in shared:
        ours, exact = sampled[group].to_dataset(), gridded[group].to_dataset()
        assert set(ours.data_vars) == set(exact.data_vars)
        for name in ours.data_vars:
            assert ours[name].dims == exact[name].dims
            assert ours[name].attrs["units"] == exact[name].attrs["units"]


def test_log_likelihood_is_that_of_the_draws(sampled, gridded, problem):
    for tree in (sampled, gridded):
        draw = tree["posterior"].to_dataset().isel(chain=1, draw=7)
        sd = np.sqrt(1.0 / problem.ivar[0] + float(draw["jitter"]) ** 2)
        z = (problem.data[0] - problem.predict(draw["flux"].to_numpy()[None])[0]) / sd
        expected = -0.5 * z**2 - np.log(sd) - 0.5 * np.log(2.0 * np.pi)
        np.testing.assert_allclose(tree["log_likelihood/y"].isel(chain=1, draw=7), expected, rtol=1e-8)


def test_the_internal_coordinates_are_not_shown(sampled):
    assert set(sampled["posterior"].data_vars) == {"flux", "width", "jitter"}
    assert "no problem found" in sampled.attrs["convergence"] or "; " in sampled.attrs["convergence"]
    assert sampled.attrs["inference_library"] == "pymc"
    assert {"diverging", "energy", "lp"} <= set(sampled["sample_stats"].data_vars)


@pytest.mark.parametrize("which", ["sampled", "gridded"])
def test_files_reopen_equal(which, request, tmp_path):
    tree = request.getfixturevalue(which)
    save_tree(tree, tmp_path / "draws.nc")
    again = load_tree(tmp_path / "draws.nc")
    for node in tree.subtree:
        xr.testing.assert_equal(again[node.path].to_dataset(), node.to_dataset())


@pytest.mark.parametrize("which", ["sampled", "gridded"])
def test_arviz_reads_both(which, request):
    tree = request.getfixturevalue(which)
    table = az.summary(tree)
    assert {"width", "jitter", "flux[star-0]"} <= set(table.index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the high leverage of the brightest pixels is meant
        assert np.isfinite(az.loo(tree).elpd)


def test_same_seed_same_draws(problem):
    model = build_linear(problem, group_data(problem, with_time=False))
    short = replace(SHORT, draws=20, tune=20)
    first, second = (sample_model(model, short)["posterior"]["flux"].to_numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


def make_tree(draws, diverging):
    posterior = xr.Dataset({"flux": (("chain", "draw"), draws)})
    stats = xr.Dataset({"diverging": (("chain", "draw"), diverging)})
    return xr.DataTree.from_dict({"/posterior": posterior, "/sample_stats": stats})


def test_diagnostics_find_nothing_wrong_in_good_draws():
    draws = np.random.default_rng(0).standard_normal((4, 2000))
    found = check_convergence(make_tree(draws, np.zeros(draws.shape, bool)))
    assert found.problems == ()
    assert found.sentence.endswith("no problem found")
    assert found.ess_bulk > 6000


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda draws, bad: (draws + np.arange(4)[:, None], bad), "the chains disagree"),
        (lambda draws, bad: (np.repeat(draws[:, :40], 50, axis=1), bad), "effective draws, less than 400"),
        (lambda draws, bad: (draws, np.arange(draws.size).reshape(draws.shape) < 3), "3 transitions diverged"),
    ],
)
def test_diagnostics_say_what_is_wrong(spoil, message):
    draws = np.random.default_rng(1).standard_normal((4, 2000))
    with pytest.warns(ConvergenceWarning, match=message):
        found = check_convergence(make_tree(*spoil(draws, np.zeros(draws.shape, bool))))
    assert found.problems


def test_diagnostics_know_energies_and_long_paths():
    """E-BFMI of independent energies is 2; of a random walk it is far below the bound."""
    rng = np.random.default_rng(2)
    draws = rng.standard_normal((4, 2000))
    tree = make_tree(draws, np.zeros(draws.shape, bool))
    tree["sample_stats"] = xr.DataTree(
        xr.Dataset({
            "energy": (("chain", "draw"), rng.standard_normal(draws.shape)),
            "reached_max_treedepth": (("chain", "draw"), rng.uniform(size=draws.shape) < 0.005),
        })
    )  # fmt: skip
    found = check_convergence(tree)
    assert found.problems == ()
    assert found.bfmi == pytest.approx(2.0, abs=0.2)
    assert 0 < found.n_longest < 80
    walk = tree["sample_stats"].to_dataset().assign(
        energy=(("chain", "draw"), np.cumsum(rng.standard_normal(draws.shape), axis=1)),
        maxdepth_reached=(("chain", "draw"), rng.uniform(size=draws.shape) < 0.5),
    )  # fmt: skip
    tree["sample_stats"] = xr.DataTree(walk.drop_vars("reached_max_treedepth"))
    with pytest.warns(ConvergenceWarning, match=r"paths reached the greatest length.*E-BFMI 0\.\d\d < 0\.3"):
        assert len(check_convergence(tree).problems) == 2


@pytest.mark.slow
def test_nutpie_is_checked_too(problem):
    pytest.importorskip("nutpie")
    data = group_data(problem, with_time=False)
    options = replace(SHORT, sampler="nutpie", draws=30, tune=100)
    with pytest.warns(ConvergenceWarning, match="effective draws, less than 200"):
        tree = sample_posterior(build_linear(problem, data, HYPER), data, options)
    assert "R-hat" in tree.attrs["convergence"]
    assert "paths cut short, E-BFMI at least" in tree.attrs["convergence"]
    assert {"diverging", "reached_max_treedepth", "energy"} <= set(tree["sample_stats"].data_vars)


def test_options_are_checked():
    with pytest.raises(InputError, match="draws: expected a whole number from 1 up, got 0"):
        SamplerOptions(draws=0)
    with pytest.raises(InputError, match="target_accept: expected a number between 0 and 1"):
        SamplerOptions(target_accept=1.0)
    with pytest.raises(InputError, match="sampler: expected one of None, 'nutpie', 'pymc', got 'stan'"):
        SamplerOptions(sampler="stan")
