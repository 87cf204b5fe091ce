"""Differences between trees are found, sized and counted."""

import numpy as np

from bayesprf.results.diff import Difference, differences
from bayesprf.results.tree import build_tree

FLUX = np.array([[1.0, 2.0], [np.nan, 4.0], [0.0, 6.0]])


def make_tree(flux=FLUX, names=("a", "b"), instrument="Kepler", **photometry):
    coords = {"time": [1.0, 2.0, 3.0], "source": list(names)}
    return build_tree({"photometry": {"flux": flux, **photometry}}, coords, {"instrument": instrument})


def test_equal_trees_have_no_differences_and_nan_equals_nan():
    assert differences(make_tree(), make_tree()) == ()


def test_values_are_compared_relative_to_the_larger():
    other = FLUX.copy()
    other[0, 0], other[2, 1] = 1.25, 6.0 + 6e-9
    (found,) = differences(make_tree(), make_tree(other), rtol=1e-6)
    assert (found.path, found.what, found.count) == ("/photometry/flux", "values", 1)
    np.testing.assert_allclose(found.largest, 0.2)
    (strict,) = differences(make_tree(), make_tree(other))
    assert strict.count == 2


def test_a_number_that_became_nan_is_an_infinite_difference():
    other = FLUX.copy()
    other[0, 0] = np.nan
    (found,) = differences(make_tree(), make_tree(other), rtol=0.5)
    assert found.largest == np.inf
    assert found.count == 1


def test_names_attributes_and_missing_variables_are_listed_in_order():
    a = make_tree(chi2=FLUX)
    b = make_tree(names=("a", "c"), instrument="K2", flux_err=FLUX)
    found = differences(a, b)
    assert [(one.path, one.what) for one in found] == [
        ("/@instrument", "attribute"),
        ("/photometry/chi2", "only in a"),
        ("/photometry/flux_err", "only in b"),
        ("/photometry/source", "values"),
    ]
    assert found[-1].count == 1


def test_shapes_are_compared_before_values():
    a = build_tree({"shape": {"psf_w": np.ones(3)}}, {}, {})
    b = build_tree({"shape": {"psf_w": np.ones(4)}}, {}, {})
    assert [(one.path, one.what) for one in differences(a, b)] == [("/shape/psf_w", "shape")]
    assert isinstance(differences(a, b)[0], Difference)
