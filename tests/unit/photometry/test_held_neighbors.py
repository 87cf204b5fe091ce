"""Neighbours held at their fitted flux: what is asked for is as in the whole group, and the shortfall is measured."""

import warnings

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.errors import InputError, PrecisionWarning
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.photometry.groups import extract_group, hold_neighbors
from bayesprf.simulation.fields import make_field


def whole_groups(seeds, n_group):
    """Yield the whole group of the first sources of simulated fields, and the place of the source in it."""
    for seed in seeds:
        field = make_field(rng=np.random.default_rng(seed), n_source=60, n_time=4)
        machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
        machine.build_shape_model()
        machine.fit_model()
        for one in range(n_group):
            group = extract_group(machine.fit.flux.problem, np.array([one]), np.arange(4))
            yield group, np.searchsorted(group.source, [one])


@pytest.mark.slow
def test_fifty_groups_agree_with_the_whole_to_five_percent_of_an_error():
    """Default share 0.1, on fields no number was chosen by: means and errors, or the shrinkage says so."""
    shares, smaller = [], 0
    for group, asked in whole_groups((11, 12, 13), 17):
        held = hold_neighbors(group, asked, 0.1)
        whole = choose_solver(group.problem).solve(group.problem)
        part = choose_solver(held.group.problem).solve(held.group.problem)
        place = np.searchsorted(held.free, asked)
        away = np.abs(part.mean[:, place] - whole.mean[:, asked]) / whole.std[:, asked]
        ratio = part.std[:, place] / whole.std[:, asked]
        assert away.max() < 0.05
        assert np.abs(ratio - 1.0).max() == pytest.approx(held.shrinkage.max(), abs=1e-3)
        shares.append(held.shrinkage.max())
        smaller += held.free.size < group.source.size
    assert np.sum(np.array(shares) < 0.05) >= 50
    assert smaller > 25


@pytest.fixture(scope="module")
def machine():
    field = make_field(rng=np.random.default_rng(1), n_source=40, n_time=6)
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    return machine


def test_a_machine_holds_neighbors_if_asked(machine):
    target = int(np.argmax(machine.ws.mean(axis=0)))
    shared = {"kind": "collapsed", "draws": 2000, "random_seed": 1}
    free = machine.sample([target], [0, 2], **shared)
    fixed = machine.sample([target], [0, 2], neighbors="fixed", **shared)
    n_free, n_fixed = (len(one.attrs["overlapping_sources"].split(", ")) for one in (free, fixed))
    assert n_fixed < n_free
    sd = free["posterior/flux"].std(("chain", "draw"))
    away = (fixed["posterior/flux"].mean(("chain", "draw")) - free["posterior/flux"].mean(("chain", "draw"))) / sd
    assert float(np.abs(away).max()) < 0.05 + 4.0 * np.sqrt(2.0 / 8000)
    model = machine.pymc_model("linear", sources=[target], cadences=0, neighbors="fixed", share=0.3)
    assert len(model.coords["source"]) <= n_fixed + 1


def test_coarse_holding_is_said(machine):
    """Of two stars that blend most, each alone has too small an error."""
    covariance = machine.covariance()
    correlation = np.abs(covariance) / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    blended = int(np.argmax((correlation - np.eye(machine.nsources)).max(axis=0)))
    with pytest.warns(PrecisionWarning, match=r"neighbors: the error of .* comes out \d+% too small"):
        machine.pymc_model("linear", sources=[blended], cadences=0, neighbors="fixed", share=1.0)


def test_refusals(machine):
    with pytest.raises(InputError, match="neighbors: expected one of 'fixed', 'free', got 'near'"):
        machine.pymc_model("linear", sources=[3], neighbors="near")
    with pytest.raises(InputError, match="share: expected"):
        machine.pymc_model("linear", sources=[3], neighbors="fixed", share=-0.1)


@pytest.mark.plots
def test_draws_are_flat_for_arviz(machine):
    """Both functions that fail on a tree of two axes or of one variable draw; docs/contributing/upstream.md."""
    import arviz as az

    from bayesprf.results.posterior import flat_tree

    tree = machine.posterior([3], [0, 2], draws=200, random_seed=1)
    flat = flat_tree(tree)
    assert flat["observed_data/y"].dims == ("observation",)
    np.testing.assert_array_equal(flat["posterior/total_flux"], tree["posterior/flux"].sum("source"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        az.plot_ppc_pit(flat)
        az.plot_psense_dist(flat)
