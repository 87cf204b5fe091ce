"""Stars are eliminated region by region: nested dissection of the field, and dense algebra within each front."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import NotPositiveDefiniteError

# Cost: stars below which a region is not divided further: dense algebra of so few is as fast as calls to it.
_LEAF = 32
# Accuracy: smaller correlations of two stars are left out where errors of all are carried to all: the errors of fluxes
# change by one in a hundred.
_LEAST = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """Stars that are eliminated together, and those they are coupled to by then.

    Parameters
    ----------
    own, bound : ndarray of int64
        Stars eliminated here, and stars eliminated later, in the order of elimination.
    children : tuple of int
        Earlier fronts that leave their remainder to this one.
    tiles : tuple of int
        Tiles whose first star in the order of elimination is eliminated here.
    """

    own: IntArray
    bound: IntArray
    children: tuple[int, ...]
    tiles: tuple[int, ...]

    @property
    def stars(self) -> IntArray:
        """All stars of the front, in the order of elimination."""
        return np.concatenate([self.own, self.bound])


@dataclass(frozen=True, slots=True, eq=False)
class EliminationTree:
    """The order in which stars are eliminated, front by front.

    Parameters
    ----------
    fronts : tuple of Front
        Children before their parents.
    rank : ndarray of int64, shape (n_star,)
        Place of each star in the order.
    places : tuple of ndarray of int64
        Where the stars of each tile stand among those of its front.
    """

    fronts: tuple[Front, ...]
    rank: IntArray
    places: tuple[IntArray, ...]

    @classmethod
    def of(cls, place: FloatArray, members: csr_matrix) -> "EliminationTree":
        """Order stars at `place`, shape (n_star, 2), that are coupled if they are members of one tile.

        Notes
        -----
        Nested dissection (George 1973, SIAM J. Numer. Anal. 10, 345): a region is cut in halves, the stars coupled
        across the cut come last. `members` has the shape (n_tile, n_star).
        """
        groups = list(_dissect(np.arange(place.shape[0]), place, members.tocsr(), members.tocsc()))
        order = np.concatenate([*groups, np.zeros(0, np.int64)])
        rank = np.empty(order.size, np.int64)
        rank[order] = np.arange(order.size)
        fronts = _fronts(groups, rank, members.tocsr())
        places: list[IntArray] = [np.zeros(0, np.int64)] * members.shape[0]
        for front in fronts:
            ranks = rank[front.stars]
            for tile in front.tiles:
                places[tile] = np.searchsorted(ranks, np.sort(rank[_row(members, tile)]))
        return cls(fronts, rank, tuple(places))


def _row(matrix: csr_matrix, row: int) -> IntArray:
    return np.asarray(matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]])


def _dissect(stars: IntArray, place: FloatArray, by_tile: csr_matrix, by_star: csr_matrix) -> Iterator[IntArray]:
    """Yield groups of stars in the order of elimination."""
    if stars.size <= _LEAF:
        if stars.size:
            yield stars
        return
    axis = int(np.argmax(np.ptp(place[stars], axis=0)))
    order = stars[np.argsort(place[stars, axis], kind="stable")]
    halves = order[: order.size // 2], order[order.size // 2 :]
    cuts = [np.intersect1d(one, _coupled(other, by_tile, by_star)) for one, other in (halves, halves[::-1])]
    first = int(cuts[1].size < cuts[0].size)
    cut, rest = cuts[first], np.setdiff1d(halves[first], cuts[first])
    if rest.size < _LEAF // 2:
        yield stars
        return
    yield from _dissect(rest, place, by_tile, by_star)
    yield from _dissect(np.sort(halves[1 - first]), place, by_tile, by_star)
    if cut.size:
        yield cut


def _coupled(stars: IntArray, by_tile: csr_matrix, by_star: csr_matrix) -> IntArray:
    """Return all members of the tiles of some stars."""
    tiles = np.unique(by_star[:, stars].indices)
    return np.unique(by_tile[tiles].indices)


def _fronts(groups: list[IntArray], rank: IntArray, members: csr_matrix) -> tuple[Front, ...]:
    """Find the stars that each group leaves coupled."""
    home = np.empty(rank.size, np.int64)
    for k, group in enumerate(groups):
        home[group] = k
    tiles: list[list[int]] = [[] for _ in groups]
    children: list[list[int]] = [[] for _ in groups]
    for tile in range(members.shape[0]):
        stars = _row(members, tile)
        if stars.size:
            tiles[int(home[stars].min())].append(tile)
    fronts: list[Front] = []
    for k, own in enumerate(groups):
        coupled = [_row(members, tile) for tile in tiles[k]] + [fronts[child].bound for child in children[k]]
        bound = np.setdiff1d(np.unique(np.concatenate([*coupled, np.zeros(0, np.int64)])), own)
        bound = bound[np.argsort(rank[bound])].astype(np.int64)
        if bound.size:
            children[int(home[bound[0]])].append(k)
        fronts.append(Front(own, bound, tuple(children[k]), tuple(tiles[k])))
    return tuple(fronts)


@dataclass(frozen=True, slots=True, eq=False)
class StarFactor:
    """The Cholesky factor of the precision of all stars' parameters at known global ones.

    Parameters
    ----------
    tree : EliminationTree
        Order of elimination.
    pivots : tuple of ndarray of float64
        Lower triangles of the stars eliminated in each front.
    couplings : tuple of ndarray of float64
        Their rows below.
    n_own : int
        Parameters of one star.
    """

    tree: EliminationTree
    pivots: tuple[FloatArray, ...]
    couplings: tuple[FloatArray, ...]
    n_own: int

    @classmethod
    def of(cls, tree: EliminationTree, tiles: list[FloatArray], ivar: FloatArray) -> "StarFactor":
        """Factorise the sum of J'J of the tiles and of diag(ivar).

        Parameters
        ----------
        tree : EliminationTree
            Order of elimination.
        tiles : list of ndarray of float64, shape (n_tile_pixel, n_own n_tile_star)
            Weighted columns J of each tile's stars, in the order of elimination.
        ivar : ndarray of float64, shape (n_star, n_own)
            Prior precision.
        """
        n_own = int(ivar.shape[1])
        pivots, couplings = [], []
        left: dict[int, FloatArray] = {}
        for k, front in enumerate(tree.fronts):
            whole = _assemble(tree, front, tiles, ivar, left)
            n = n_own * front.own.size
            pivot, info = dpotrf(whole[:n, :n], lower=1, clean=1)
            if info:
                raise NotPositiveDefiniteError("normal equations of the stars: not positive definite")
            coupling = dtrsm(1.0, pivot, whole[n:, :n], side=1, lower=1, trans_a=1)
            if front.bound.size:
                left[k] = dsyrk(-1.0, coupling, beta=1.0, c=whole[n:, n:], lower=1)
            pivots.append(pivot)
            couplings.append(coupling)
        return cls(tree, tuple(pivots), tuple(couplings), n_own)

    def _parts(self) -> list[tuple[Front, FloatArray, FloatArray]]:
        return list(zip(self.tree.fronts, self.pivots, self.couplings, strict=True))

    def index(self, stars: IntArray) -> IntArray:
        """Return where the parameters of some stars stand, shape (n_own n,)."""
        return (stars[:, None] * self.n_own + np.arange(self.n_own)).ravel()

    def halve(self, right: FloatArray) -> FloatArray:
        """Return L^-1 B, shape (n_own n_star, n_column), rows of each star in its place."""
        out = right.copy()
        for front, pivot, coupling in self._parts():
            own = self.index(front.own)
            part = out[own]
            if not part.any():
                continue
            out[own] = part = dtrsm(1.0, pivot, part, lower=1)
            if front.bound.size:
                out[self.index(front.bound)] -= coupling @ part
        return out

    def finish(self, half: FloatArray) -> FloatArray:
        """Return L^-T B: of a half solution the whole."""
        out = half.copy()
        for front, pivot, coupling in reversed(self._parts()):
            own = self.index(front.own)
            part = out[own]
            if front.bound.size:
                part = part - coupling.T @ out[self.index(front.bound)]
            out[own] = dtrsm(1.0, pivot, part, lower=1, trans_a=1)
        return out

    def solve(self, right: FloatArray) -> FloatArray:
        """Return the solution for one right-hand side, shape (n_own n_star,)."""
        return self.finish(self.halve(right[:, None]))[:, 0]

    def covariances(self) -> Iterator[tuple[Front, FloatArray]]:
        """Yield the covariance of the stars of each front, parents first.

        Notes
        -----
        With W = L21 L11^-1 and the covariance Z22 of the stars eliminated later, Z21 = -Z22 W and
        Z11 = (L11 L11')^-1 + W' Z22 W (Takahashi, Fagan & Chin 1973): the stars of a tile are all in one front.
        """
        known: dict[int, FloatArray] = {}
        parts = self._parts()
        for k in range(len(parts) - 1, -1, -1):
            front, pivot, coupling = parts[k]
            n, whole = pivot.shape[0], np.empty((pivot.shape[0] + coupling.shape[0],) * 2, order="F")
            whole[:n, :n] = _symmetric(dpotri(pivot, lower=1)[0])
            if front.bound.size:
                later = known.pop(k)
                across = dtrsm(1.0, pivot, coupling, side=1, lower=1)
                mixed = later @ across
                whole[n:, n:], whole[n:, :n], whole[:n, n:] = later, -mixed, -mixed.T
                whole[:n, :n] += across.T @ mixed
            for child in front.children:
                index = self.index(_positions(self.tree, front, self.tree.fronts[child].bound))
                known[child] = whole[np.ix_(index, index)]
            yield front, whole

    def rows(self, *parameters: int) -> list[csr_matrix]:
        """Return the covariance of a parameter of each star with those of all stars in one front with it, for some.

        Sparse, shape (n_star, n_own n_star): those left out share no tile, or correlate by less than `_LEAST`.
        """
        gathered = [RowGatherer(self, parameter) for parameter in parameters]
        for front, covariance in self.covariances():
            for one in gathered:
                one.add(front, covariance)
        return [one.matrix() for one in gathered]

    def dense(self) -> FloatArray:
        """Return the covariance of all stars' parameters, shape (n_own n_star, n_own n_star)."""
        half = self.halve(np.eye(self.n_own * self.tree.rank.size))
        return np.asarray(half.T @ half)


class RowGatherer:
    """Collects the covariance of one parameter of each star from those of the fronts: see `StarFactor.rows`."""

    def __init__(self, factor: StarFactor, parameter: int) -> None:
        self._factor, self._parameter = factor, parameter
        self._parts: list[tuple[IntArray, IntArray, FloatArray]] = []

    def add(self, front: Front, covariance: FloatArray) -> None:
        """Take the covariance of the stars of a front."""
        n_own, std = self._factor.n_own, np.sqrt(np.diag(covariance))
        first, index = covariance[self._parameter :: n_own], self._factor.index(front.stars)
        kept = np.abs(first) > _LEAST * std[self._parameter :: n_own, None] * std
        kept[front.own.size :, front.own.size * n_own :] = False
        row, column = np.nonzero(kept)
        self._parts.append((front.stars[row], index[column], first[row, column]))

    def matrix(self) -> csr_matrix:
        """Return what was collected, shape (n_star, n_own n_star)."""
        n_star = self._factor.tree.rank.size
        none = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        row, column, value = (np.concatenate(one) for one in zip(none, *self._parts, strict=True))
        return csr_matrix((value, (row, column)), shape=(n_star, self._factor.n_own * n_star))


def _assemble(
    tree: EliminationTree, front: Front, tiles: list[FloatArray], ivar: FloatArray, left: dict[int, FloatArray]
) -> FloatArray:
    """Add up what tiles and earlier fronts say of the stars of a front, lower triangle."""
    from bayesprf.linalg.compiled.sums import add_block

    n_own, n = ivar.shape[1], front.own.size + front.bound.size
    whole = np.zeros((n * n_own, n * n_own), order="F")
    diagonal = np.arange(front.own.size * n_own)
    whole[diagonal, diagonal] = ivar[front.own].ravel()
    for tile in front.tiles:
        add_block(tree.places[tile], n_own, dsyrk(1.0, tiles[tile].T, lower=1).T, whole.T)
    for child in front.children:
        place = _positions(tree, front, tree.fronts[child].bound)
        add_block(place, n_own, left.pop(child).T, whole.T)
    return whole


def _positions(tree: EliminationTree, front: Front, stars: IntArray) -> IntArray:
    return np.searchsorted(tree.rank[front.stars], tree.rank[stars])


def _symmetric(lower: FloatArray) -> FloatArray:
    half = np.tril(lower)
    return half + np.tril(half, -1).T
