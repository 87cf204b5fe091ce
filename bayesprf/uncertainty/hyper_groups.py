"""Groups of sources or pixels that share a width."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bayesprf.arrays import AnyArray, BoolArray, FloatArray, IntArray
from bayesprf.checks import check_shape, shown
from bayesprf.errors import InputError

# Derived: a width is known to a sixth from this many members; bins of brightness hold at least as many, and are no more
# than 4.
_MIN_MEMBERS, _MAX_BINS = 20, 4


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Members sorted into groups, and which of them say something about their group.

    Parameters
    ----------
    labels : tuple of str
        Names of the groups.
    group : ndarray of int64, shape (n_member,)
        Index of each member's group; -1 for none.
    trains : ndarray of bool, shape (n_member,)
        Members that the group's width is learned from.
    """

    labels: tuple[str, ...]
    group: IntArray
    trains: BoolArray

    @property
    def n_group(self) -> int:
        """Number of groups."""
        return len(self.labels)

    @property
    def learning(self) -> IntArray:
        """Group of each member to learn from, -1 for the others."""
        return np.where(self.trains, self.group, -1)

    def restrict(self, trains: BoolArray) -> "Groups":
        """Return the groups that have a member to learn from, numbered anew.

        Parameters
        ----------
        trains : ndarray of bool, shape (n_member,)
            Members that say something.

        Returns
        -------
        Groups
        """
        kept = np.unique(self.group[trains & (self.group >= 0)])
        number = np.full(self.n_group + 1, -1)
        number[kept] = np.arange(kept.size)
        return replace(self, labels=tuple(self.labels[k] for k in kept), group=number[self.group], trains=trains)

    def spread(self, values: FloatArray, *, elsewhere: float) -> FloatArray:
        """Return the value of each member's group.

        Parameters
        ----------
        values : ndarray of float64, shape (n_group,)
            One value per group.
        elsewhere : float
            Value of members of no group.

        Returns
        -------
        ndarray of float64, shape (n_member,)
        """
        return np.append(values, elsewhere)[self.group]


def make_groups(value: object, n_member: int, name: str, *, known: Mapping[str, AnyArray]) -> Groups:
    """Sort members into groups.

    Parameters
    ----------
    value : None, str or array-like of shape (n_member,)
        None for one group, a name of `known`, or a label per member.
    n_member : int
        Number of members.
    name : str
        Name of the argument in error messages.
    known : dict of str to ndarray, shape (n_member,)
        Labels by name; numbers of type float64 are cut into up to four bins of equal count.

    Returns
    -------
    Groups

    Raises
    ------
    InputError
        If the name is unknown.
    ShapeError
        If there is not one label per member.
    """
    everyone = np.ones(n_member, bool)
    if value is None:
        return Groups(("all",), np.zeros(n_member, np.int64), everyone)
    if isinstance(value, str):
        if value not in known:
            choices = ", ".join(repr(one) for one in known)
            raise InputError(f"{name}: expected None, {choices} or a label for each of {n_member}, got {shown(value)}")
        if np.asarray(known[value]).dtype.kind == "f":
            return _bins(known[value], value)
        labels = known[value]
    else:
        labels = np.asarray(value)
        check_shape(labels, (n_member,), name, "a label each")
    found, group = np.unique(labels, return_inverse=True)
    return Groups(tuple(str(one) for one in found), group.astype(np.int64), everyone)


def _bins(values: FloatArray, name: str) -> Groups:
    """Cut positive numbers into bins of equal count; the others belong to no group."""
    positive = np.nan_to_num(values) > 0
    count = int(np.clip(positive.sum() // _MIN_MEMBERS, 1, _MAX_BINS))
    edges = np.quantile(values[positive], np.linspace(0.0, 1.0, count + 1)) if positive.any() else np.zeros(2)
    group = np.where(positive, np.searchsorted(edges[1:-1], np.nan_to_num(values), side="right"), -1)
    labels = tuple(f"{name} {low:.4g} to {high:.4g}" for low, high in pairwise(edges))
    return Groups(labels, group.astype(np.int64), np.ones(values.size, bool))
