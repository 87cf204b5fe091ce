"""The pixels that teach the time model: one bright source each, binned in time."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import PerturbationOptions

# Cadences looked at to learn the typical noise of a pixel.
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
        Whether the pixel lies in the square of the position columns, and so teaches what all stars share.
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


def choose_training(
    pixels: PixelTable, pairs: PairTable, light: FloatArray, *, options: PerturbationOptions
) -> IntArray:
    """Choose the pairs that teach the time model.

    Parameters
    ----------
    pixels : PixelTable
        Data, noise and saturation.
    pairs : PairTable
        Pairs in which the sources matter.
    light : ndarray of float64, shape (n_pair,)
        Model light of the pair, electron / s.
    options : PerturbationOptions
        `min_share` of the pixel's light must come from the pair's source, and the light be `min_snr` times the noise
        of a bin.

    Returns
    -------
    ndarray of int64, shape (n_train,)
        Numbers of the pairs, in their order; at most one per pixel. Sources that own a saturated pixel are left
        out, as are sources with fewer than two pixels in the square of the position columns, which cannot tell a
        change of shape from one of brightness.
    """
    total = np.bincount(pairs.pixel, np.abs(light), minlength=pairs.n_pixel)[pairs.pixel]
    owned = (light > 0) & (light >= options.min_share * total)
    blooming = np.bincount(pairs.source[owned & pixels.saturated[pairs.pixel]], minlength=pairs.n_source) > 0
    step = max(1, pixels.n_time // _N_NOISE_SAMPLES)
    ivar = pixels.ivar[::step].mean(axis=0)[pairs.pixel]
    resolution = min(options.resolution, pixels.n_time)
    bright = light * np.sqrt(ivar * resolution) >= options.min_snr
    chosen = owned & bright & ~blooming[pairs.source]
    inside = chosen & lies_inside(pairs.dx, pairs.dy, options.basis.radius)
    several = np.bincount(pairs.source[inside], minlength=pairs.n_source) > 1
    return np.flatnonzero(chosen & several[pairs.source])


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
    pixels: PixelTable, pairs: PairTable, chosen: IntArray, operator: csr_matrix, *, radius: float
) -> TrainingPixels:
    """Bin the chosen pixels in one pass over the data.

    Parameters
    ----------
    pixels : PixelTable
        Data and inverse variances.
    pairs : PairTable
        Pairs in which the sources matter.
    chosen : ndarray of int64, shape (n_train,)
        From `choose_training`.
    operator : csr_matrix of float64, shape (n_bin, n_time)
        From `bayesprf.design.binning.build_binning`.
    radius : float
        Half side of the square of the position columns, arcsec.

    Returns
    -------
    TrainingPixels
    """
    from bayesprf.linalg.compiled.binning import bin_columns  # compiled on first use

    source, pixel = pairs.source[chosen], pairs.pixel[chosen]
    sums = np.zeros((2, operator.shape[0], chosen.size))
    bin_columns(
        operator.indptr.astype(np.int64), operator.indices.astype(np.int64), pixel, pixels.flux, pixels.ivar, sums
    )
    ivar = sums[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        flux = np.where(ivar > 0, sums[1] / ivar, 0.0)
    return TrainingPixels(
        source=source,
        pixel=pixel,
        group=np.unique(source, return_inverse=True)[1].astype(np.int64),
        dx=pairs.dx[chosen],
        dy=pairs.dy[chosen],
        inside=lies_inside(pairs.dx[chosen], pairs.dy[chosen], radius),
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
