import numpy as np
import pytest

from bayesprf.errors import InputError, ShapeError
from bayesprf.uncertainty.hyper_groups import make_groups


def test_one_group_by_default():
    groups = make_groups(None, 3, "name", known={})
    assert (groups.labels, groups.group.tolist()) == (("all",), [0, 0, 0])


def test_labels_of_any_kind_make_groups():
    groups = make_groups(["b", "a", "b"], 3, "name", known={})
    assert (groups.labels, groups.group.tolist()) == (("a", "b"), [1, 0, 1])
    assert make_groups([7, 7, 2], 3, "name", known={}).labels == ("2", "7")


@pytest.mark.parametrize(("count", "n_bin"), [(19, 1), (40, 2), (79, 3), (1000, 4)])
def test_bins_of_brightness_hold_twenty_or_more(count, n_bin):
    values = np.random.default_rng(0).permutation(np.arange(1.0, count + 1.0))
    groups = make_groups("flux", count, "name", known={"flux": values})
    sizes = np.bincount(groups.group)
    assert groups.n_group == n_bin
    assert sizes.min() >= min(count, 20) - 1
    assert sizes.max() - sizes.min() <= 1
    assert all(np.ptp(values[groups.group == one]) < count / n_bin for one in range(n_bin))


def test_what_has_no_flux_belongs_to_no_bin():
    groups = make_groups("flux", 4, "name", known={"flux": np.array([1.0, np.nan, -2.0, 3.0])})
    assert groups.group.tolist() == [0, -1, -1, 0]
    assert groups.spread(np.array([5.0]), elsewhere=1.0).tolist() == [5.0, 1.0, 1.0, 5.0]


def test_groups_without_a_teacher_vanish():
    groups = make_groups(["a", "b", "c", "c"], 4, "name", known={}).restrict(np.array([True, False, True, False]))
    assert groups.labels == ("a", "c")
    assert groups.group.tolist() == [0, -1, 1, 1]
    assert groups.learning.tolist() == [0, -1, 1, -1]


def test_unknown_names_and_wrong_lengths_are_refused():
    with pytest.raises(InputError, match="noise_groups: expected None, 'flux' or a label for each of 2, got 'mag'"):
        make_groups("mag", 2, "noise_groups", known={"flux": np.ones(2)})
    with pytest.raises(ShapeError, match=r"prior_groups: expected shape \(3,\) \(a label each\)"):
        make_groups([1, 2], 3, "prior_groups", known={})
