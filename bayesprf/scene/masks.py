"""Which pixels belong to which source: pure logic on pairs."""

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.scene.pairs import PairTable


def reach_mask(pairs: PairTable, reach: FloatArray) -> BoolArray:
    """Return the pairs closer than the reach of their source.

    Parameters
    ----------
    pairs : PairTable
        Near pairs.
    reach : ndarray of float64, shape (n_source,)
        arcsec.

    Returns
    -------
    ndarray of bool, shape (n_pair,)
    """
    return pairs.r < reach[pairs.source]


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


def neighbor_flux(pairs: PairTable, model: FloatArray) -> FloatArray:
    """Return, for each pair, the light that all other sources put into its pixel.

    Parameters
    ----------
    pairs : PairTable
        Near pairs.
    model : ndarray of float64, shape (n_pair,)
        Light of the pair's source in its pixel, electron / s.

    Returns
    -------
    ndarray of float64, shape (n_pair,)
        electron / s.
    """
    total = np.bincount(pairs.pixel, weights=model, minlength=pairs.n_pixel)
    return total[pairs.pixel] - model
