"""What is drawn, as plain arrays; made without matplotlib."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_shape


@dataclass(frozen=True, slots=True, eq=False)
class FieldImage:
    """Values of pixels where they are on the detector.

    Parameters
    ----------
    column, row : ndarray of float64, shape (n_pixel,)
        Detector position, pixel.
    values : ndarray of float64, shape (n_pixel,)
        What is drawn; NaN is left blank.
    stamp : ndarray of int64, shape (n_pixel,)
        Number of the cutout.
    """

    column: FloatArray
    row: FloatArray
    values: FloatArray
    stamp: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class FieldStars:
    """Sources where they are on the detector.

    Parameters
    ----------
    column, row : ndarray of float64, shape (n_source,)
        Detector position, pixel.
    flux : ndarray of float64, shape (n_source,)
        Flux, on any linear scale, for sizes and the order of names; NaN where it is not known.
    names : tuple of str, shape (n_source,)
        What is written beside them.
    """

    column: FloatArray
    row: FloatArray
    flux: FloatArray
    names: tuple[str, ...]

    def select(self, chosen: IntArray) -> "FieldStars":
        """Return some of the sources."""
        names = tuple(self.names[i] for i in chosen)
        return FieldStars(self.column[chosen], self.row[chosen], self.flux[chosen], names)


@dataclass(frozen=True, slots=True, eq=False)
class PrfImages:
    """The PRF on a grid, at one or several places of the field.

    Parameters
    ----------
    values : ndarray of float64, shape (n_place, n, n)
        PRF, 1 / pixel; rows towards north, columns towards east.
    offset : ndarray of float64, shape (n,)
        Offsets of columns and rows from the star, arcsec.
    place : ndarray of float64, shape (n_place, 2)
        Places in the field, -1 to 1 towards east and north.
    """

    values: FloatArray
    offset: FloatArray
    place: FloatArray

    def __post_init__(self) -> None:
        n = self.offset.size
        check_shape(self.values, (self.place.shape[0], n, n), "values", "n_place, n, n")

    @property
    def middle(self) -> FloatArray:
        """PRF at the place nearest to the middle of the field, shape (n, n), 1 / pixel."""
        return self.values[int(np.argmin(np.hypot(*self.place.T)))]

    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Return the size of the core, arcsec, and its ellipticity (e1, e2) at each place.

        Returns
        -------
        size : ndarray of float64, shape (n_place,)
            Root mean square radius.
        ellipticity : ndarray of float64, shape (n_place, 2)
            (xx - yy) / (xx + yy) and 2 xy / (xx + yy) of the light above a tenth of the peak.
        """
        x, y = np.meshgrid(self.offset, self.offset)
        peak = self.values.max(axis=(1, 2), keepdims=True)
        light = np.where(self.values > 0.1 * peak, self.values, 0.0)
        light /= light.sum(axis=(1, 2), keepdims=True)
        east, north = ((light * one).sum(axis=(1, 2)) for one in (x, y))
        xx = (light * x**2).sum(axis=(1, 2)) - east**2
        yy = (light * y**2).sum(axis=(1, 2)) - north**2
        xy = (light * x * y).sum(axis=(1, 2)) - east * north
        return np.sqrt(xx + yy), np.stack([(xx - yy) / (xx + yy), 2.0 * xy / (xx + yy)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class PrfData:
    """Pixels of stars over the flux of their star.

    Parameters
    ----------
    dx, dy : ndarray of float64, shape (n_pair,)
        Offset of each pixel from its star towards east and north, arcsec.
    data, model : ndarray of float64, shape (n_pair,)
        Light of the star in the pixel over its flux, measured and modelled, 1 / pixel.
    weight : ndarray of float64, shape (n_pair,)
        Inverse variance of `data`, pixel**2.
    """

    dx: FloatArray
    dy: FloatArray
    data: FloatArray
    model: FloatArray
    weight: FloatArray
