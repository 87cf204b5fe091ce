"""Stars closer together than a PRF can tell: one star while the PRF is fitted, and apart again after it."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.prf.fit import PrfFit
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.scene.sky import close_pairs
from bayesprf.scene.sources import SourceTable

# Definition: the second moment of such a pair grows by 6e-4 pixel**2, less than any PRF is known to.
SAME_STAR_PIX = 0.05
"""Closer than this, pixel, two rows are one star listed twice."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Which sources are one star to the fit of the PRF.

    Parameters
    ----------
    label : ndarray of int64, shape (n_source,)
        Number of the star that each source belongs to.
    brightest : ndarray of int64, shape (n_star,)
        The brightest source of each star.
    alone : ndarray of bool, shape (n_source,)
        Sources that are a star each.
    """

    label: IntArray
    brightest: IntArray
    alone: BoolArray


def find_groups(sources: SourceTable, limit: float) -> Groups | None:
    """Return which sources lie within `limit` of another, arcsec, as stars; None if there are none."""
    near = close_pairs(sources.ra_deg, sources.dec_deg, limit)
    if not near.size:
        return None
    n = sources.n_source
    label = connected_components(coo_matrix((np.ones(len(near)), near.T), (n, n)), directed=False)[1]
    order = np.lexsort((np.arange(n), -np.where(sources.has_flux, sources.flux, 0.0)))
    brightest = np.full(label.max() + 1, n)
    brightest[label[order[::-1]]] = order[::-1]
    return Groups(label.astype(np.int64), brightest, np.bincount(label)[label] == 1)


def listed_twice(sources: SourceTable, pixel_scale: float) -> BoolArray:
    """Tell rows that are one star with another, for pixels of some size, arcsec, shape (n_source,)."""
    groups = find_groups(sources, SAME_STAR_PIX * pixel_scale)
    return np.zeros(sources.n_source, bool) if groups is None else ~groups.alone


def as_one_star(found: PrfFit, groups: Groups, flux: FloatArray) -> PrfFit:
    """Return a fit in which the rows of one star have the same PRF in every pixel: that of all of them together.

    Rows a hair apart are told from each other by errors of their places alone, and would come out as a large and a
    negative flux. As one star the pixels tell their sum, and the prior how they share it, as in the catalogue. They
    train nothing.

    Parameters
    ----------
    found : PrfFit
        The fit.
    groups : Groups
        Which rows are one star.
    flux : ndarray of float64, shape (n_source,)
        Fluxes of all rows with places of their own, electron / s.
    """
    pairs, values = found.pairs, found.values
    total = np.bincount(groups.label, np.nan_to_num(flux))[groups.label]
    brightest = groups.brightest[groups.label] == np.arange(flux.size)
    weight = np.where(total > 0, np.nan_to_num(flux) / np.where(total > 0, total, 1.0), brightest)
    alone = groups.alone[pairs.source]
    star = pairs.source[~alone]
    key = groups.label[star] * pairs.n_pixel + pairs.pixel[~alone]
    cell, first, index = np.unique(key, return_index=True, return_inverse=True)
    light = np.bincount(index, weight[star] * values[~alone])
    label, pixel = np.divmod(cell, pairs.n_pixel)
    rows = np.flatnonzero(~groups.alone)
    row, at = np.nonzero(groups.label[rows][:, None] == label)
    dx, dy = pairs.dx[~alone][first][at], pairs.dy[~alone][first][at]
    numbers = [np.concatenate(one) for one in ((pairs.source[alone], rows[row]), (pairs.pixel[alone], pixel[at]))]
    order = np.lexsort(numbers[::-1])
    dx, dy = (np.concatenate(one)[order] for one in ((pairs.dx[alone], dx), (pairs.dy[alone], dy)))
    merged = PairTable(numbers[0][order], numbers[1][order], dx, dy, pairs.n_source, pairs.n_pixel)
    return replace(
        found,
        matrix=PrfMatrix.constant(merged, np.concatenate([values[alone], light[at]])[order]),
        training=np.concatenate([found.training[alone], np.zeros(row.size, bool)])[order],
        shared=~groups.alone,
    )
