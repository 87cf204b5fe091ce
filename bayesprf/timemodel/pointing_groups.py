"""Groups of bright stars that share pixels: what the pointing is measured from."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.stats import mad_sigma

# The brightest stars tell the pointing, from pixels this near, of which each must have so many.
_MAX_STARS, _CORE_PIX, _LEAST_PIXELS = 30, 3.0, 4
# Relative error that the PRF is taken to have, and prior width of a flux relative to its mean.
_PRF_ERROR, _FLUX_WIDTH = 0.03, 1.0


@dataclass(frozen=True, slots=True, eq=False)
class StarGroup:
    """Stars that share pixels, and the light of all others in these pixels.

    Parameters
    ----------
    pairs : PairTable
        Pairs of any source with the group's pixels.
    column : ndarray of int64, shape (n_pair,)
        Number of the source among the group's stars; n_star for the others, whose flux is held.
    cell : ndarray of int64, shape (n_pair,)
        Number of the pixel in `pixel`.
    pixel : ndarray of int64, shape (n_cell,)
        The group's pixels.
    flux : ndarray of float64, shape (n_pair,)
        Mean flux of each pair's source, electron / s.
    mean, precision : ndarray of float64, shape (n_star + 1,)
        Prior of the stars' fluxes and of the sky, which is flat.
    error : ndarray of float64, shape (n_cell,)
        What the scene may be wrong by in each pixel, electron / s.
    source : ndarray of int64, shape (n_star,)
        The group's stars.
    """

    pairs: PairTable
    column: IntArray
    cell: IntArray
    pixel: IntArray
    flux: FloatArray
    mean: FloatArray
    precision: FloatArray
    error: FloatArray
    source: IntArray

    def design(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the columns of stars and sky, and the light of the others, from PRF values of the pairs.

        Parameters
        ----------
        values : ndarray of float64, shape (n, n_pair)
            1 / pixel, for any number of cadences.

        Returns
        -------
        columns : ndarray of float64, shape (n, n_cell, n_star + 1)
        others : ndarray of float64, shape (n, n_cell)
        """
        columns = np.zeros((values.shape[0], self.pixel.size, self.source.size + 1))
        own = self.column < self.source.size
        columns[:, self.cell[own], self.column[own]] = values[:, own]
        columns[:, :, -1] = 1.0
        rest = csr_matrix((self.flux[~own], (np.flatnonzero(~own), self.cell[~own])), shape=(own.size, self.pixel.size))
        return columns, np.asarray(values @ rest)

    def weight(self, pixels: PixelTable, cadences: IntArray) -> FloatArray:
        """Return the inverse variance of the group's pixels, the errors of the scene included, shape (n, n_cell)."""
        ivar = pixels.ivar[np.ix_(cadences, self.pixel)]
        return ivar / (1.0 + ivar * self.error**2)


def make_groups(pixels: PixelTable, prf: PrfMatrix, flux: FloatArray) -> list[StarGroup]:
    """Choose bright stars and sort them into groups that share pixels.

    Parameters
    ----------
    pixels : PixelTable
        Data.
    prf : PrfMatrix
        Mean PRF of the pairs in which the sources matter.
    flux : ndarray of float64, shape (n_source,)
        Mean fluxes, electron / s; NaN counts as dark.

    Returns
    -------
    list of StarGroup
    """
    pairs, flux = prf.pairs, np.nan_to_num(flux)
    usable = (pixels.gaps < pixels.n_time) & ~pixels.saturated
    near = pairs.r < _CORE_PIX * pixels.instrument.pixel_scale
    stars = _bright_stars(pairs, near & usable[pairs.pixel], pixels.saturated, flux)
    core = near & usable[pairs.pixel] & stars[pairs.source]
    shared = csr_matrix((np.ones(core.sum()), (pairs.source[core], pairs.pixel[core])), (flux.size, pixels.n_pixel))
    label = connected_components(shared @ shared.T, directed=False)[1]
    light = prf.image(np.maximum(flux, 0.0))
    mean = np.where(pixels.ivar > 0, pixels.flux, 0.0).sum(axis=0) / np.maximum(pixels.n_time - pixels.gaps, 1)
    groups = []
    for number in np.unique(label[stars]):
        source = np.flatnonzero((label == number) & stars)
        pixel = np.unique(pairs.pixel[core & (label[pairs.source] == number)])
        inside = np.flatnonzero(np.isin(pairs.pixel, pixel))
        members = pairs.select(np.isin(pairs.pixel, pixel))
        column = np.full(flux.size, source.size)
        column[source] = np.arange(source.size)
        groups.append(
            StarGroup(
                pairs=members,
                column=column[members.source],
                cell=np.searchsorted(pixel, members.pixel),
                pixel=pixel,
                flux=flux[pairs.source[inside]],
                mean=np.append(flux[source], 0.0),
                precision=np.append((_FLUX_WIDTH * flux[source]) ** -2.0, 0.0),
                error=_scene_error(mean[pixel], light[pixel]),
                source=source,
            )
        )
    return groups


def _scene_error(mean: FloatArray, light: FloatArray) -> FloatArray:
    """Return the error of a scene: a share of its light, and how far the mean image strays from it, electron / s."""
    stray = mean - light
    return np.hypot(_PRF_ERROR * light, mad_sigma(stray - np.median(stray)))


def _bright_stars(pairs: PairTable, core: BoolArray, saturated: BoolArray, flux: FloatArray) -> BoolArray:
    """Return which stars tell the pointing, shape (n_source,)."""
    n_source = flux.size
    seen = np.bincount(pairs.source[core], minlength=n_source) >= _LEAST_PIXELS
    reach = pairs.select(saturated[pairs.pixel])
    blooming = np.bincount(reach.source, minlength=n_source) > 0
    fit = seen & ~blooming & (flux > 0)
    order = np.argsort(-np.where(fit, flux, 0.0), kind="stable")[:_MAX_STARS]
    chosen = np.zeros(n_source, bool)
    chosen[order] = fit[order]
    return chosen
