"""The training pixels of the time model: one bright source each, binned in time."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import check_shape
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import PerturbationOptions
from bayesprf.timemodel.gain import PrfChange, StarFunction, build_change

# Cost: cadences looked at to learn the typical noise of a pixel.
_N_NOISE_SAMPLES = 64


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPixels:
    """Binned pixels lit by one bright source each, sorted by source.

    Parameters
    ----------
    source, pixel, group : ndarray of int64, shape (n_train,)
        Source and pixel of each, and the source's number among those present.
    dx, dy : ndarray of float64, shape (n_train,)
        Offset, arcsec.
    inside : ndarray of bool, shape (n_train,)
        Whether the pixel lies in the square of the position columns, on which what all stars share is trained.
    time : ndarray of float64, shape (n_bin,)
        Mean time of each bin, day.
    flux, ivar : ndarray of float64, shape (n_bin, n_train)
        Weighted mean flux, electron / s, and its inverse variance; 0 without data.
    count : ndarray of float64, shape (n_bin,)
        Cadences in each bin.
    """

    source: IntArray
    pixel: IntArray
    group: IntArray
    dx: FloatArray
    dy: FloatArray
    inside: BoolArray
    time: FloatArray
    flux: FloatArray
    ivar: FloatArray
    count: FloatArray

    @property
    def n_train(self) -> int:
        """Number of pixels."""
        return int(self.pixel.size)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPairs:
    """The pairs whose pixels the time model is trained on, at most one per pixel, and what motion does to their PRF.

    Parameters
    ----------
    prf : PrfMatrix
        Mean PRF of all pairs in which the sources matter.
    light : ndarray of float64, shape (n_pair,)
        Mean light of these, electron / s.
    chosen : ndarray of int64, shape (n_train,)
        Numbers of the pairs trained on, in their order.
    change : PrfChange
        Position columns.
    """

    prf: PrfMatrix
    light: FloatArray
    chosen: IntArray
    change: PrfChange

    @property
    def source(self) -> IntArray:
        """Source of each training pixel, shape (n_train,)."""
        return self.prf.pairs.source[self.chosen]

    @property
    def pixel(self) -> IntArray:
        """The training pixels, shape (n_train,)."""
        return self.prf.pairs.pixel[self.chosen]

    @property
    def group(self) -> IntArray:
        """Number of each training pixel's source among those present, shape (n_train,)."""
        return np.unique(self.source, return_inverse=True)[1].astype(np.int64)

    @property
    def motion(self) -> FloatArray:
        """Relative change of each training pixel per pixel of motion east and north, shape (n_train, 2)."""
        pairs = self.prf.pairs
        return self.change.motion(self.source, pairs.dx[self.chosen], pairs.dy[self.chosen])

    def select(self, chosen: IntArray) -> "TrainingPairs":
        """Return the same with only some of the training pixels, given by their numbers among these."""
        return replace(self, chosen=self.chosen[chosen])


def choose_training(
    pixels: PixelTable, prf: PrfMatrix, flux: FloatArray, evaluate: StarFunction, *, options: PerturbationOptions
) -> TrainingPairs:
    """Choose the pairs that the time model is trained on.

    Parameters
    ----------
    pixels : PixelTable
        Data, noise and saturation.
    prf : PrfMatrix
        Mean PRF of the pairs in which the sources matter.
    flux : ndarray of float64, shape (n_source,)
        Mean flux of the sources, electron / s; NaN counts as dark.
    evaluate : callable
        The mean PRF of sources at offsets, arcsec.
    options : PerturbationOptions
        `min_share` of the pixel's light must come from the pair's source, and the light be `min_snr` times the noise
        of a bin; `basis` and `field_order` set the position columns.

    Returns
    -------
    TrainingPairs
        Sources that own a saturated pixel are left out, as are sources with fewer than two pixels in the square of
        the position columns, in which a change of shape looks like one of brightness.

    Raises
    ------
    ShapeError
        If `flux` has the wrong shape.
    """
    pairs = prf.pairs
    check_shape(flux, (pairs.n_source,), "flux", "n_source")
    light = prf.light(flux)
    total = np.bincount(pairs.pixel, np.abs(light), minlength=pairs.n_pixel)[pairs.pixel]
    owned = (light > 0) & (light >= options.min_share * total)
    blooming = np.bincount(pairs.source[owned & pixels.spilled[pairs.pixel]], minlength=pairs.n_source) > 0
    step = max(1, pixels.n_time // _N_NOISE_SAMPLES)
    ivar = pixels.ivar[::step].mean(axis=0)[pairs.pixel]
    resolution = min(options.resolution, pixels.n_time)
    bright = light * np.sqrt(ivar * resolution) >= options.min_snr
    chosen = owned & bright & ~blooming[pairs.source]
    inside = chosen & lies_inside(pairs.dx, pairs.dy, options.basis.radius)
    several = np.bincount(pairs.source[inside], minlength=pairs.n_source) > 1
    change = build_change(pixels, prf, evaluate, basis=options.basis, field_order=options.field_order)
    return TrainingPairs(prf, light, np.flatnonzero(chosen & several[pairs.source]), change)


def lies_inside(dx: FloatArray, dy: FloatArray, radius: float) -> BoolArray:
    """Find the offsets that lie in a square.

    Parameters
    ----------
    dx, dy : ndarray of float64, shape (n,)
        Offsets, arcsec.
    radius : float
        Half side of the square, arcsec.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    return np.maximum(np.abs(dx), np.abs(dy)) <= radius


def bin_training(
    pixels: PixelTable,
    pairs: TrainingPairs,
    operator: csr_matrix,
    *,
    radius: float,
    fixed_light: FloatArray | None = None,
) -> TrainingPixels:
    """Bin the chosen pixels in one pass over the data.

    Parameters
    ----------
    pixels : PixelTable
        Data and inverse variances.
    pairs : TrainingPairs
        From `choose_training`.
    operator : csr_matrix of float64, shape (n_bin, n_time)
        From `bayesprf.design.binning.build_binning`.
    radius : float
        Half side of the square of the position columns, arcsec.
    fixed_light : ndarray of float64, shape (n_pixel,), optional
        Light that is no part of the stars' pairs, electron / s: it is subtracted.

    Returns
    -------
    TrainingPixels
    """
    from bayesprf.linalg.compiled.sums import bin_columns  # compiled on first use

    pixel, dx, dy = pairs.pixel, pairs.prf.pairs.dx[pairs.chosen], pairs.prf.pairs.dy[pairs.chosen]
    sums = np.zeros((2, operator.shape[0], pixel.size))
    bin_columns(
        operator.indptr.astype(np.int64), operator.indices.astype(np.int64), pixel, pixels.flux, pixels.ivar, sums
    )
    ivar = sums[0]
    known = 0.0 if fixed_light is None else fixed_light[pixel]
    with np.errstate(divide="ignore", invalid="ignore"):
        flux = np.where(ivar > 0, sums[1] / ivar - known, 0.0)
    return TrainingPixels(
        source=pairs.source,
        pixel=pixel,
        group=pairs.group,
        dx=dx,
        dy=dy,
        inside=lies_inside(dx, dy, radius),
        time=operator @ pixels.time,
        flux=flux,
        ivar=ivar,
        count=np.diff(operator.indptr).astype(np.float64),
    )


def used_cadences(pixels: PixelTable) -> BoolArray:
    """Find the cadences with data in at least one pixel.

    Parameters
    ----------
    pixels : PixelTable
        `ivar` is read.

    Returns
    -------
    ndarray of bool, shape (n_time,)
    """
    if pixels.gaps.min() == 0:
        return np.ones(pixels.n_time, bool)
    return pixels.ivar.max(axis=1) > 0
