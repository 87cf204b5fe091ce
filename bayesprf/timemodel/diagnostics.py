"""What a shift of the PRF explains: pixels of bright stars, measured and modelled, in bins of the pointing."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.binning import bin_mean
from bayesprf.prf.fit import PrfFit
from bayesprf.scene.pixels import PixelTable
from bayesprf.timemodel.shift import ShiftModel

# Shown: bins of the picture.
_N_BIN = 24
# Shown: pixels with less than this share of the brightest pixel's mean light are not shown: their ratio to it is noise.
_LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class PointingBins:
    """Pixels against the pointing.

    Parameters
    ----------
    dx, dy : ndarray of float64, shape (n_train,)
        Offset of each pixel from its star towards east and north, arcsec.
    pointing : ndarray of float64, shape (n_bin,)
        Mean pointing of each bin along the line of the largest motion, pixel.
    data, model : ndarray of float64, shape (n_bin, n_train)
        Light over the mean of the measured light.
    used : ndarray of bool, shape (n_bin, n_train)
        Where there are data, in pixels with at least a twentieth of the brightest one's light.
    """

    dx: FloatArray
    dy: FloatArray
    pointing: FloatArray
    data: FloatArray
    model: FloatArray
    used: BoolArray


def bin_by_pointing(pixels: PixelTable, shape: PrfFit, fit: ShiftModel) -> PointingBins:
    """Average the training pixels of a time model over cadences of like pointing.

    Parameters
    ----------
    pixels : PixelTable
        Data without sky.
    shape : PrfFit
        The PRF, the mean fluxes and where each source matters.
    fit : ShiftModel
        The time model.

    Returns
    -------
    PointingBins
        Bins hold equally many cadences, in the order of the pointing. The model is that of constant stars.
    """
    motion = fit.shift.motion - fit.shift.motion.mean(axis=0)
    axis = np.linalg.eigh(motion.T @ motion)[1][:, 1]
    along = motion @ axis / pixels.instrument.pixel_scale
    operator = _equal_bins(along, (pixels.ivar > 0).any(axis=1))
    chosen, pixel = fit.gain.training, fit.gain.training.pixel
    prf = replace(shape.matrix.changing(fit), mix=operator @ fit.mix)
    known = shape.fixed_light if fit.light is None else shape.fixed_light + operator @ fit.light.image()
    flux = np.tile(shape.flux, (operator.shape[0], 1))
    model = (prf.image(flux) + known)[:, pixel]
    data = bin_mean(operator, np.where(pixels.ivar[:, pixel] > 0, pixels.flux[:, pixel], np.nan))
    mean = np.nanmean(data, axis=0)
    used = np.isfinite(data) & (mean > _LEAST_SHARE * np.nanmax(mean))
    return PointingBins(chosen.dx, chosen.dy, operator @ along, data / mean, model / mean, used)


def _equal_bins(along: FloatArray, seen: BoolArray) -> csr_matrix:
    """Return the operator that averages cadences in the order of a number, shape (n_bin, n_time)."""
    order = np.flatnonzero(seen)[np.argsort(along[seen], kind="stable")]
    parts = [one for one in np.array_split(order, _N_BIN) if one.size]
    row = np.repeat(np.arange(len(parts)), [one.size for one in parts])
    share = np.concatenate([np.full(one.size, 1.0 / one.size) for one in parts])
    return csr_matrix((share, (row, order)), shape=(len(parts), along.size))
