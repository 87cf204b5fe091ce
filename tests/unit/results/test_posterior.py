"""The one layout of draws: what it holds, that ArviZ takes it, that it survives the disk."""

import arviz as az
import numpy as np
import pytest

from bayesprf.errors import InputError, ShapeError
from bayesprf.io.save import load_tree, save_tree
from bayesprf.results.posterior import GroupData, posterior_tree

SOURCES, N_PIXEL = ["star-a", "star-b"], 12


def make_arrays(n_time=None, *, gap=False, seed=0):
    """Return groups and data of a small posterior, for one cadence or several."""
    rng = np.random.default_rng(seed)
    lead = () if n_time is None else (n_time,)
    design = rng.uniform(0.0, 0.3, (N_PIXEL, 2))
    flux = np.array([100.0, 50.0])
    y = design @ flux + rng.normal(size=(*lead, N_PIXEL))
    draws = flux + rng.normal(0.0, 2.0, (4, 100, *lead, 2))
    predicted = draws @ design.T
    error = np.ones(y.shape)
    if gap:
        y[0, 3], error[0, 3] = np.nan, np.inf
    likelihood = -0.5 * (np.nan_to_num(y) - predicted) ** 2 / 9.0 - np.log(3.0 * np.sqrt(2 * np.pi))
    groups = {
        "posterior": {"flux": draws},
        "log_likelihood": {"y": likelihood},
        "log_prior": {"flux": -0.5 * (draws / 100.0) ** 2},
        "posterior_predictive": {"y": predicted + rng.normal(size=predicted.shape)},
        "prior": {"flux": rng.normal(100.0, 100.0, draws.shape)},
        "sample_stats": {"lp": likelihood.sum(axis=tuple(range(2, likelihood.ndim)))},
    }
    time = 3.5 if n_time is None else np.arange(n_time) * 0.02
    data = GroupData(
        y, error, np.zeros(N_PIXEL), flux, 10 * flux, SOURCES, time,
        np.arange(5, 5 + N_PIXEL), np.arange(N_PIXEL) // 4, np.arange(N_PIXEL) % 4, overlapping=["star-c"],
    )  # fmt: skip
    return groups, data


@pytest.mark.parametrize(("n_time", "time_axis"), [(None, ()), (3, ("time",))])
def test_axes_and_labels(n_time, time_axis):
    tree = posterior_tree(*make_arrays(n_time), attrs={"sampler": "exact"})
    assert tree.posterior.flux.dims == ("chain", "draw", *time_axis, "source")
    assert tree.log_likelihood.y.dims == ("chain", "draw", *time_axis, "pixel")
    assert tree.observed_data.y.dims == (*time_axis, "pixel")
    assert list(tree.posterior.source.values) == SOURCES
    assert list(tree.observed_data.row.values[:5]) == [0, 0, 0, 0, 1]
    assert tree.attrs["overlapping_sources"] == "star-c"
    assert tree.posterior.attrs["sampler"] == "exact"
    for node in tree.children.values():
        for name, array in node.data_vars.items():
            assert set(array.attrs) == {"units", "long_name"}, name
    assert tree.posterior.flux.attrs["units"] == "electron / s"
    assert tree.log_prior.flux.attrs["units"] == "1"


def test_data_that_do_not_exist_have_no_likelihood():
    groups, data = make_arrays(3, gap=True)
    tree = posterior_tree(groups, data)
    assert tree.log_likelihood.y.dims == ("chain", "draw", "observation")
    assert tree.observed_data.y.shape == (3 * N_PIXEL - 1,)
    np.testing.assert_array_equal(tree.observed_data.y, data.y[data.used])
    place = int(np.flatnonzero(tree.observed_data.observation_pixel.values == 8)[0])
    assert tree.observed_data.observation_time.values[place] == pytest.approx(0.02)
    assert az.loo(tree).n_data_points == 3 * N_PIXEL - 1


@pytest.mark.parametrize("n_time", [None, 3])
def test_arviz_reads_it(n_time):
    tree = posterior_tree(*make_arrays(n_time))
    summary = az.summary(tree)
    assert len(summary) == 2 * (n_time or 1)
    assert set(summary["r_hat"].astype(float) < 1.05) == {True}
    other = posterior_tree(*make_arrays(n_time, seed=0))
    assert set(az.compare({"one": az.loo(tree), "two": az.loo(other)}).index) == {"one", "two"}


def test_disk_and_back(tmp_path):
    for n_time, gap in ((None, False), (3, True)):
        groups, data = make_arrays(n_time, gap=gap)
        tree = posterior_tree(groups, data)
        assert load_tree(save_tree(tree, tmp_path / "draws.nc")).identical(tree)


def test_variables_of_a_model_have_axes_of_their_own():
    groups, data = make_arrays()
    groups["posterior"] |= {"jitter": np.ones((4, 100)), "weights": np.ones((4, 100, 7))}
    tree = posterior_tree(groups, data, dims={"weights": ["basis"]}, coords={"basis": np.arange(7)})
    assert tree.posterior.jitter.dims == ("chain", "draw")
    assert tree.posterior.weights.dims == ("chain", "draw", "basis")


def test_wrong_input_is_named():
    groups, data = make_arrays()
    with pytest.raises(InputError, match=r"expected some of posterior, .*, got 'posteriors'"):
        posterior_tree({**groups, "posteriors": {}}, data)
    with pytest.raises(InputError, match=r"groups\['posterior'\]: expected an array 'flux'"):
        posterior_tree({"posterior": {}}, data)
    with pytest.raises(ShapeError, match=r"groups\['log_likelihood'\]\['y'\]: expected axes \(chain, draw, pixel\)"):
        posterior_tree({**groups, "log_likelihood": {"y": np.zeros((4, 12))}}, data)
    with pytest.raises(ShapeError, match=r"y_err: expected shape \(12,\), got \(11,\)"):
        GroupData(data.y, np.ones(11), data.known, data.prior_mean, data.prior_sigma, SOURCES, 0.0,
                  data.pixel, data.row, data.column)  # fmt: skip
