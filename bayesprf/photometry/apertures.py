"""Apertures drawn from the PRF: isophotes, their completeness and crowding, and the sums inside them."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray, pointers
from bayesprf.checks import as_float, check_shape, shown
from bayesprf.errors import InputError, ShapeError
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix


@dataclass(frozen=True, slots=True, eq=False)
class ApertureSet:
    """One aperture per source, with what it catches.

    Parameters
    ----------
    pairs : PairTable
        The (source, pixel) pairs the apertures were chosen from.
    mask : ndarray of bool, shape (n_pair,)
        Pairs inside the aperture of their source.
    percentile : ndarray of float64, shape (n_source,)
        Percentile of the source's PRF values at which its isophote was cut; NaN for a source without pixels.
    completeness : ndarray of float64, shape (n_source,)
        FLFRCSAP, the fraction of the source's light inside its aperture; NaN for a source without pixels.
    crowding : ndarray of float64, shape (n_source,)
        CROWDSAP, the source's share of the light inside its aperture; NaN for a source without pixels.
    """

    pairs: PairTable
    mask: BoolArray
    percentile: FloatArray
    completeness: FloatArray
    crowding: FloatArray

    @property
    def matrix(self) -> csr_matrix:
        """Pixels of each aperture, sparse bool matrix of shape (n_source, n_pixel)."""
        inside = self.pairs.select(self.mask)
        return inside.to_sparse(np.ones(inside.n_pair, bool))

    @property
    def n_pixel(self) -> IntArray:
        """Number of pixels of each aperture, shape (n_source,)."""
        return _count(self.pairs, self.mask)


@dataclass(frozen=True, slots=True, eq=False)
class ApertureSums:
    """Sums of the pixels in the apertures.

    Parameters
    ----------
    flux, flux_err : ndarray of float64, shape (n_time, n_source)
        Electron / s.
    """

    flux: FloatArray
    flux_err: FloatArray


def build_apertures(prf: PrfMatrix, flux: FloatArray, percentile: object) -> ApertureSet:
    """Cut every source's PRF at a percentile of its values, with what the apertures catch.

    Parameters
    ----------
    prf : PrfMatrix
        PRF of each source in the pixels it reaches, 1 / pixel; normalised to one over the plane.
    flux : ndarray of float64, shape (n_source,)
        Flux of each source, on any common linear scale.
    percentile : float or array-like of float, shape (n_source,)
        0 takes all of a source's pixels, 100 only its brightest.

    Returns
    -------
    ApertureSet

    Raises
    ------
    InputError
        If a percentile lies outside 0 to 100.
    ShapeError
        If an array does not have one entry per pair or source.
    """
    mask = aperture_at_percentile(prf, percentile)
    completeness, crowding = aperture_metrics(prf, flux, mask)
    level = np.where(_count(prf.pairs, mask) > 0, as_float(percentile, "percentile"), np.nan)
    return ApertureSet(prf.pairs, mask, level, completeness, crowding)


def aperture_at_percentile(prf: PrfMatrix, percentile: object) -> BoolArray:
    """Return the isophote of each source: its pixels at or above a percentile of its PRF values.

    Parameters
    ----------
    prf : PrfMatrix
        PRF of each source in the pixels it reaches, 1 / pixel. Pairs whose PRF is not above 0 belong to no isophote
        and do not count towards the percentile.
    percentile : float or array-like of float, shape (n_source,)
        Between 0 (all pixels) and 100 (the brightest); linear between neighbouring values, as `numpy.percentile`.
        NaN is accepted for sources without pixels.

    Returns
    -------
    ndarray of bool, shape (n_pair,)

    Raises
    ------
    InputError
        If a percentile lies outside 0 to 100.
    ShapeError
        If an array does not have one entry per pair or source.
    """
    ranked = _Ranked.by_prf(prf)
    level = _as_percentile(percentile, prf.pairs.n_source, ranked.source_of)
    last = ranked.count - 1
    rank = last * (level / 100.0)
    lower = np.minimum(rank.astype(np.int64), last)
    upper = np.minimum(lower + 1, last)
    values, end = prf.values[ranked.order], ranked.start + last
    cut = _interpolate(values[end - lower], values[end - upper], rank - lower)
    mask = np.zeros(prf.pairs.n_pair, bool)
    mask[ranked.order] = values >= np.repeat(cut, ranked.count)
    return mask


def aperture_metrics(prf: PrfMatrix, flux: FloatArray, mask: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return completeness (FLFRCSAP) and crowding (CROWDSAP) of every aperture.

    Parameters
    ----------
    prf : PrfMatrix
        PRF of each source in the pixels it reaches, 1 / pixel; normalised to one over the plane.
    flux : ndarray of float64, shape (n_source,)
        Flux of each source, on any common linear scale; a negative or missing one lights no pixel.
    mask : ndarray of bool, shape (n_pair,)
        Pairs inside the aperture of their source.

    Returns
    -------
    completeness, crowding : ndarray of float64, shape (n_source,)
        NaN for sources whose aperture is empty; crowding is also NaN where the flux is.

    Raises
    ------
    ShapeError
        If an array does not have one entry per pair or source.

    Notes
    -----
    With A_s the aperture of source s, completeness = sum_{p in A_s} prf_sp and
    crowding = f_s sum_{p in A_s} prf_sp / sum_{p in A_s} sum_j f_j prf_jp: neighbours count by their flux.
    As the PRF is normalised over the plane, completeness is the fraction of all of the source's light, light that
    misses the data included, as the missions define FLFRCSAP (Kinemuchi et al. 2012, PASP 124, 963).
    """
    pairs = prf.pairs
    check_shape(mask, (pairs.n_pair,), "mask", "n_pair")
    own, total = _own_and_total(prf, flux)
    n_source, source = pairs.n_source, pairs.source[mask]
    empty = np.bincount(source, minlength=n_source) == 0
    completeness = np.bincount(source, prf.values[mask], minlength=n_source)
    with np.errstate(divide="ignore", invalid="ignore"):
        crowding = np.bincount(source, own[mask], minlength=n_source) / np.bincount(
            source, total[mask], minlength=n_source
        )
    return np.where(empty, np.nan, completeness), np.where(empty | ~np.isfinite(flux), np.nan, crowding)


def optimal_percentile(
    prf: PrfMatrix,
    flux: FloatArray,
    target_complete: float | None = 0.9,
    target_crowd: float | None = 0.9,
) -> FloatArray:
    """Return the percentile of each source's best isophote, found exactly among all it has.

    Parameters
    ----------
    prf : PrfMatrix
        PRF of each source in the pixels it reaches, 1 / pixel; normalised to one over the plane.
    flux : ndarray of float64, shape (n_source,)
        Flux of each source, on any common linear scale.
    target_complete, target_crowd : float or None, optional
        Target completeness (FLFRCSAP) and crowding (CROWDSAP), up to 1; None or a negative number switches one off.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        The middle of the range of percentiles that give the best isophote; NaN for sources without pixels.

    Raises
    ------
    InputError
        If a target is above 1 or NaN, or both are switched off.
    ShapeError
        If an array does not have one entry per pair or source.

    Notes
    -----
    A source with n pixels has at most n isophotes: its k brightest pixels, pixels of equal PRF together.
    The best one has the least total shortfall, max(0, target_complete - completeness)
    + max(0, target_crowd - crowding) over the targets that are on. Among isophotes of equal shortfall (those that
    meet all targets) the smallest is taken, as further pixels would only add noise; without a target for
    completeness the largest is taken, as it holds most light. A source of unknown flux is judged by its
    completeness alone and, if that is switched off, gets its smallest isophote.
    """
    targets = (_as_target(target_complete, "target_complete"), _as_target(target_crowd, "target_crowd"))
    if targets == (None, None):
        raise InputError(
            "target_complete, target_crowd: expected at least one target, got both switched off;"
            " give one, or choose the aperture by a percentile"
        )
    ranked = _Ranked.by_prf(prf)
    shortfall = _shortfall(prf, flux, ranked, targets)
    rank = np.arange(ranked.order.size) - np.repeat(ranked.start, ranked.count)
    best = _first_minimum(shortfall, rank if targets[0] is not None else -rank, ranked)
    left_out = ranked.count - 1 - (best - ranked.start)
    percentile = np.full(prf.pairs.n_source, np.nan)
    percentile[ranked.source_of] = np.where(
        left_out > 0, 100.0 * (left_out - 0.5) / np.maximum(ranked.count - 1, 1), 0.0
    )
    return percentile


def find_pixels_with_data(ivar: FloatArray) -> BoolArray:
    """Return which pixels have usable data at one cadence at least, shape (n_pixel,).

    Parameters
    ----------
    ivar : ndarray of float64, shape (n_time, n_pixel)
        Inverse variances, (electron / s)**-2; 0 marks a pixel without usable data at that cadence.

    Returns
    -------
    ndarray of bool, shape (n_pixel,)
    """
    found = ivar[0] > 0
    missing = np.flatnonzero(~found)
    found[missing] = (ivar[:, missing] > 0).any(axis=0)
    return found


def sum_in_apertures(
    flux: FloatArray, ivar: FloatArray, pairs: PairTable, mask: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Return the sum of the pixels inside each aperture at every cadence, and its standard deviation.

    Parameters
    ----------
    flux : ndarray of float64, shape (n_time, n_pixel)
        Pixel fluxes, electron / s.
    ivar : ndarray of float64, shape (n_time, n_pixel)
        Their inverse variances, (electron / s)**-2; 0 marks a pixel without usable data at that cadence.
    pairs : PairTable
        Pixels each source reaches.
    mask : ndarray of bool, shape (n_pair,)
        Pairs inside the aperture of their source.

    Returns
    -------
    sap_flux, sap_flux_err : ndarray of float64, shape (n_time, n_source)
        Electron / s. NaN at cadences where any pixel of the aperture has no usable data, as the sum of the others
        would be low without a sign of it, and for sources without pixels.

    Raises
    ------
    ShapeError
        If an array does not have the shape above.
    """
    n_time = flux.shape[0]
    check_shape(flux, (n_time, pairs.n_pixel), "flux", "n_time, n_pixel")
    check_shape(ivar, flux.shape, "ivar", "n_time, n_pixel, as flux")
    check_shape(mask, (pairs.n_pair,), "mask", "n_pair")
    from bayesprf.linalg.compiled.sums import sum_groups

    inside = pairs.select(mask)
    indptr = pointers(inside.count_per_source())
    sums, errors = np.empty((2, n_time, pairs.n_source))
    sum_groups(indptr, inside.pixel, np.ascontiguousarray(flux), np.ascontiguousarray(ivar), sums, errors)
    return sums, errors


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Pairs of positive PRF, each source's from the brightest pixel down; sources without such pairs left out.

    `order` indexes the pairs; source `source_of[i]` owns ``order[start[i]:start[i] + count[i]]``.
    """

    order: IntArray
    source_of: IntArray
    start: IntArray
    count: IntArray

    @classmethod
    def by_prf(cls, prf: PrfMatrix) -> "_Ranked":
        """Rank the pairs; pixels of equal PRF keep the order of their index."""
        used = np.flatnonzero(prf.values > 0)
        order = used[np.lexsort((-prf.values[used], prf.pairs.source[used]))]
        count = _count(prf.pairs, prf.values > 0)
        source_of = np.flatnonzero(count)
        return cls(order, source_of, np.cumsum(count)[source_of] - count[source_of], count[source_of])


def _shortfall(
    prf: PrfMatrix, flux: FloatArray, ranked: _Ranked, targets: tuple[float | None, float | None]
) -> FloatArray:
    """Return by how much each isophote misses the targets, shape of `ranked.order`; inf where it splits equal pixels.

    Running sums are taken source by source, so that no other source changes their last digits.
    """
    own, total = _own_and_total(prf, flux)
    values, source = prf.values[ranked.order], prf.pairs.source[ranked.order]
    sums = np.stack([values, own[ranked.order], total[ranked.order]])
    for start, stop in zip(ranked.start.tolist(), (ranked.start + ranked.count).tolist(), strict=True):
        np.cumsum(sums[:, start:stop], axis=1, out=sums[:, start:stop])
    shortfall = np.zeros(ranked.order.size)
    if targets[0] is not None:
        shortfall += np.maximum(0.0, targets[0] - sums[0])
    if targets[1] is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            crowding = sums[1] / sums[2]
        crowding[~np.isfinite(flux)[source]] = targets[1]
        shortfall += np.maximum(0.0, targets[1] - np.nan_to_num(crowding))
    shortfall[:-1][(values[1:] == values[:-1]) & (source[1:] == source[:-1])] = np.inf
    return shortfall


def _first_minimum(cost: FloatArray, tie_break: IntArray, ranked: _Ranked) -> IntArray:
    """Return the index of each source's least cost; the least `tie_break` decides between equal ones."""
    if cost.size == 0:
        return np.zeros(0, np.int64)
    least = cost == np.repeat(np.minimum.reduceat(cost, ranked.start), ranked.count)
    rank = np.where(least, tie_break, np.iinfo(np.int64).max)
    return np.flatnonzero(least & (rank == np.repeat(np.minimum.reduceat(rank, ranked.start), ranked.count)))


def _own_and_total(prf: PrfMatrix, flux: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return, for each pair, the light of the source in the pixel and of all sources in it."""
    check_shape(flux, (prf.pairs.n_source,), "flux", "n_source")
    bright = np.where(np.isfinite(flux) & (np.nan_to_num(flux) > 0), flux, 0.0)
    return prf.light(bright), prf.image(bright)[prf.pairs.pixel]


def _count(pairs: PairTable, mask: BoolArray) -> IntArray:
    """Return how many pairs of each source the mask holds, shape (n_source,)."""
    return np.bincount(pairs.source[mask], minlength=pairs.n_source)


def _interpolate(lower: FloatArray, upper: FloatArray, fraction: FloatArray) -> FloatArray:
    """Return the value between two, exactly one of them at a fraction of 0 or 1."""
    step = upper - lower
    return np.where(fraction < 0.5, lower + step * fraction, upper - step * (1.0 - fraction))


def _as_percentile(percentile: object, n_source: int, source_of: IntArray) -> FloatArray:
    """Return the percentiles of the sources `source_of`; those of others, which have no pixels, may be NaN."""
    level = as_float(percentile, "percentile")
    if level.shape not in ((), (n_source,)):
        raise ShapeError(f"percentile: expected one number or one per source ({n_source}), got shape {level.shape}")
    level = np.broadcast_to(level, n_source)
    bad = ~((level >= 0) & (level <= 100))
    bad[np.setdiff1d(np.flatnonzero(np.isnan(level)), source_of)] = False
    if bad.any():
        first = int(np.argmax(bad))
        raise InputError(f"percentile: expected numbers from 0 to 100, got {level[first]} for source {first}")
    return level[source_of]


def _as_target(target: float | None, name: str) -> float | None:
    """Return a target, or None where it is switched off."""
    if target is None:
        return None
    if not target <= 1:
        raise InputError(f"{name}: expected a fraction up to 1, or None to switch it off, got {shown(target)}")
    return float(target) if target >= 0 else None
