"""How much of the PRF falls on the data, and how far the time model moves it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.interpolate import RectBivariateSpline

from bayesprf.arrays import FloatArray
from bayesprf.checks import check_integer, check_shape
from bayesprf.errors import StageError
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf_matrix import PrfMatrix

PrfFunction = Callable[[FloatArray, FloatArray], FloatArray]

# Accuracy: nodes per pixel of the table of the averaged PRF: cubic splines between them are good to 1e-5 of the peak
# even for a PRF of half a pixel's width.
_NODES_PER_PIXEL = 20
# Accuracy: farther from the star, in pixels, the PRF is so smooth that its value at the centre is its average: of a
# wing that falls as r**-3 the two differ by 0.3 %, and less than 1 % of the light is there.
_TABLE_RADIUS = 12.0
# Cost: the table of so many points along the side of a pixel takes 0.6 GB; it grows as the cube.
_MAX_POINTS = 32


@dataclass(frozen=True, slots=True, eq=False)
class PsfMetrics:
    """What `get_psf_metrics` found.

    Parameters
    ----------
    psf_fraction : ndarray of float64, shape (n_source,)
        Fraction of the PRF on the data.
    change : tuple of two ndarray of float64, shape (n_source,), optional
        Mean ratio and standard deviation of the perturbed PRF, if there is a time model.
    """

    psf_fraction: FloatArray
    change: tuple[FloatArray, FloatArray] | None

    @property
    def ratio_mean(self) -> FloatArray:
        """Mean over time of the perturbed PRF's sum over the mean PRF's, shape (n_source,)."""
        return self._needed_change()[0]

    @property
    def ratio_std(self) -> FloatArray:
        """Standard deviation over time of the perturbed PRF's sum, shape (n_source,)."""
        return self._needed_change()[1]

    def _needed_change(self) -> tuple[FloatArray, FloatArray]:
        if self.change is None:
            raise StageError("no time model to measure: call build_time_model() and then get_psf_metrics() first")
        return self.change


def psf_fraction(
    evaluate: PrfFunction,
    pairs: PairTable,
    axes: FloatArray,
    *,
    npoints_per_pixel: int = 10,
) -> FloatArray:
    """Return the fraction of each source's PRF that falls on the data.

    Parameters
    ----------
    evaluate : callable
        The PRF: takes offsets dx and dy, arcsec, shape (n,), returns its value, 1 / pixel, shape (n,);
        normalised to one over the plane.
    pairs : PairTable
        Pixels each source reaches.
    axes : ndarray of float64, shape (2, 2)
        Sky step of one column and of one row, ``[[dx/dcolumn, dx/drow], [dy/dcolumn, dy/drow]]``, arcsec per pixel.
    npoints_per_pixel : int, optional
        Points along each side of a pixel, symmetric about its centre; 0 takes the pixel centres alone.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        0 for sources without pixels.

    Raises
    ------
    InputError
        If `npoints_per_pixel` is not a whole number from 0 up.
    ShapeError
        If `axes` is not 2 x 2.

    Notes
    -----
    The PRF is what one pixel records, so it already holds the average over the pixel. Its sum over pixel centres
    (0 points) is the fraction for a star exactly where it is, with the ripple that a coarse pixel grid puts on any
    sum; its integral over the area of the pixels (many points), divided by the area of one, is that fraction
    averaged over where a star may sit within its pixel, and tends to one for a star well inside the data.
    """
    count = _as_count(npoints_per_pixel)
    check_shape(axes, (2, 2), "axes", "sky direction, column and row")
    pixel_dx, pixel_dy = np.linalg.solve(axes, np.stack([pairs.dx, pairs.dy]))
    near = (np.maximum(np.abs(pixel_dx), np.abs(pixel_dy)) < _TABLE_RADIUS) & (count > 1)
    values = np.empty(pairs.n_pair)
    values[~near] = evaluate(pairs.dx[~near], pairs.dy[~near])
    if near.any():
        values[near] = _averaged_prf(evaluate, axes, count).ev(pixel_dx[near], pixel_dy[near])
    return np.asarray(np.bincount(pairs.source, values, minlength=pairs.n_source), np.float64)


def _averaged_prf(evaluate: PrfFunction, axes: FloatArray, count: int) -> RectBivariateSpline:
    """Return the mean of the PRF over count x count points of a pixel, as a function of column and row offset.

    All points lie on one lattice of half their spacing (or a fraction of it), so the PRF is evaluated once per
    lattice node, and the means are sums of shifted lattices, first along columns, then along rows.
    """
    stride = ceil(_NODES_PER_PIXEL / (2 * count))
    step = 1.0 / (2 * count * stride)
    margin = (count - 1) * stride
    half = ceil(_TABLE_RADIUS / step)
    axis = step * np.arange(-half - margin, half + margin + 1)
    dx, dy = np.einsum("ij,jkl->ikl", axes, np.stack(np.meshgrid(axis, axis, indexing="ij")))
    table = evaluate(dx.ravel(), dy.ravel()).reshape(dx.shape)
    starts = 2 * stride * np.arange(count)
    table = np.mean([table[start : start + 2 * half + 1] for start in starts], axis=0)
    table = np.mean([table[:, start : start + 2 * half + 1] for start in starts], axis=0)
    inner = axis[margin : axis.size - margin]
    return RectBivariateSpline(inner, inner, table)


def perturbation_metrics(mean: PrfMatrix, changing: PrfMatrix) -> tuple[FloatArray, FloatArray]:
    """Return how the time model changes the light each source's PRF holds.

    Parameters
    ----------
    mean : PrfMatrix
        Mean PRF of each source in the pixels it reaches.
    changing : PrfMatrix
        The PRF with the time model, on the same pairs.

    Returns
    -------
    ratio_mean : ndarray of float64, shape (n_source,)
        Mean over time of the perturbed PRF's sum over pixels, in units of the mean PRF's sum; NaN for sources
        without pixels. Away from one, the time model moves the mean flux.
    std : ndarray of float64, shape (n_source,)
        Standard deviation over time of the perturbed PRF's sum; NaN for sources without pixels. Large values mean
        that the time model puts variability into, or takes it out of, the light curve.
    """
    perturbed = changing.mix @ changing.caught() if changing.mix is not None else changing.caught()
    empty = mean.pairs.count_per_source() == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = perturbed.mean(axis=0) / mean.caught()[0]
    return np.where(empty, np.nan, ratio), np.where(empty, np.nan, perturbed.std(axis=0))


def _as_count(npoints_per_pixel: int) -> int:
    """Return the number of points as a plain int."""
    check_integer(npoints_per_pixel, "npoints_per_pixel", low=0, high=_MAX_POINTS)
    return int(npoints_per_pixel)
