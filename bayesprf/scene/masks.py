"""Which pixels belong to which source: pure logic on pairs."""

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.scene.pairs import PairTable


def radius_mask(pairs: PairTable, radius: FloatArray) -> BoolArray:
    """Return the pairs closer than the radius of their source, shape (n_source,), arcsec."""
    return pairs.r < radius[pairs.source]


def alone_mask(pairs: PairTable, member: BoolArray, contaminant: BoolArray) -> BoolArray:
    """Return the member pairs whose pixel no other contaminant claims.

    Parameters
    ----------
    pairs : PairTable
        Near pairs.
    member : ndarray of bool, shape (n_pair,)
        Pairs that belong to their source.
    contaminant : ndarray of bool, shape (n_source,)
        Sources that count as contaminants.

    Returns
    -------
    ndarray of bool, shape (n_pair,)
    """
    claims = member & contaminant[pairs.source]
    count = np.bincount(pairs.pixel[claims], minlength=pairs.n_pixel)
    return member & (count[pairs.pixel] - claims == 0)
