"""PixelTable: what was measured, when and where."""

from copy import copy
from dataclasses import dataclass, field
from html import escape

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray, Named
from bayesprf.checks import as_array, as_flag, as_float, as_integer, check_finite, check_shape, check_types, shown
from bayesprf.errors import InputError, ShapeError
from bayesprf.instruments.record import GENERIC, Instrument
from bayesprf.scene.sky import check_sky


@dataclass(frozen=True, slots=True, eq=False)
class PixelTable:
    """A stack of images as flat pixels, with their errors and positions.

    Parameters
    ----------
    time : array-like, shape (n_time,)
        Mid-exposure times, day.
    flux, flux_err : array-like, shape (n_time, n_pixel)
        Flux and its standard deviation, electron / s. A pixel whose flux or error is NaN or infinite,
        or whose error is 0, drops out of that cadence.
    ra_deg, dec_deg : array-like, shape (n_pixel,)
        Sky position of the pixel centres, degree.
    column, row : array-like, shape (n_pixel,)
        Position on the detector, pixel.
    saturated : array-like of bool, shape (n_pixel,), optional
        Pixels that do not respond linearly; by default those whose flux exceeds the instrument's
        saturation in at least one cadence in a hundred.
    stamp : array-like of int, shape (n_pixel,), optional
        Index of the cutout (file) each pixel came from; 0 for all by default.
    cadence_number : array-like of int, shape (n_time,), optional
        Mission cadence numbers; 0, 1, 2, ... by default.
    pos_corr : array-like, shape (n_time, 2), optional
        Local image motion as the mission's files give it, column and row, pixel.
    instrument : Instrument
        Numbers of the mission.
    meta : mapping
        Where the data came from: file names, checksums, channel, quarter, ...

    Raises
    ------
    ShapeError
        If the shapes do not agree.
    UnitError
        If a quantity cannot be converted to the unit above.
    InputError
        If a position or time is not finite, an error negative, or a pixel (row, column) given twice.

    See Also
    --------
    bayesprf.read_tpfs, bayesprf.read_image : Read one from files.
    bayesprf.Machine.from_pixels : Fit it.

    Notes
    -----
    `ivar` holds flux_err**-2, and 0 for every pixel that drops out; `gaps` counts for each pixel the
    cadences in which it does. `spilled` tells the saturated pixels and those to which their charge may have spilled:
    the next two along the column. No fit uses these.

    Examples
    --------
    A stack of ten images of 5 x 5 pixels:

    >>> import bayesprf as bp
    >>> import numpy as np
    >>> column, row = (one.ravel() for one in np.meshgrid(np.arange(5.0), np.arange(5.0)))
    >>> flux = np.full((10, 25), 100.0)
    >>> ra, dec = 290.0 + column / 900, 44.5 + row / 900
    >>> pixels = bp.PixelTable(np.arange(10) / 48, flux, np.sqrt(flux), ra, dec, column, row)
    >>> pixels.n_time, pixels.n_pixel
    (10, 25)
    """

    time: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    ra_deg: FloatArray
    dec_deg: FloatArray
    column: FloatArray
    row: FloatArray
    saturated: BoolArray = None  # type: ignore[assignment]  # filled on construction
    stamp: IntArray = None  # type: ignore[assignment]
    cadence_number: IntArray = None  # type: ignore[assignment]
    pos_corr: FloatArray | None = None
    instrument: Instrument = GENERIC
    meta: Named = field(default_factory=dict)
    ivar: FloatArray = field(init=False, repr=False)
    gaps: IntArray = field(init=False, repr=False)
    spilled: BoolArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        check_types(self)
        units = {"time": "day", "ra_deg": "deg", "dec_deg": "deg", "column": "pix", "row": "pix"}
        for name, unit in units.items():
            put(self, name, as_float(getattr(self, name), name, ndim=1, unit=unit))
            check_finite(getattr(self, name), name)
        for name in ("flux", "flux_err"):
            put(self, name, as_float(getattr(self, name), name, unit="electron / s"))
            if getattr(self, name).ndim != 2:
                raise ShapeError(
                    f"{name}: expected 2 dimensions (n_time, n_pixel), got shape {getattr(self, name).shape};"
                    f" a single image goes in as {name}[np.newaxis]"
                )
        n_time, n_pixel = self.time.size, self.ra_deg.size
        if n_time == 0 or n_pixel == 0:
            raise InputError(f"flux: expected at least one cadence and one pixel, got shape {self.flux.shape}")
        check_shape(self.flux, (n_time, n_pixel), "flux", "n_time, n_pixel")
        check_shape(self.flux_err, (n_time, n_pixel), "flux_err", "n_time, n_pixel, as flux")
        for name in ("dec_deg", "column", "row"):
            check_shape(getattr(self, name), (n_pixel,), name, "n_pixel, as ra")
        check_sky(self.ra_deg, self.dec_deg, "pixel")
        for name in ("column", "row"):
            _check_detector(getattr(self, name), name)
        self._check_duplicates()
        ivar, gaps = _inverse_variance(self.flux, self.flux_err)
        put(self, "ivar", ivar)
        put(self, "gaps", gaps)
        self._fill_optional(n_time, n_pixel)

    def _fill_optional(self, n_time: int, n_pixel: int) -> None:
        put = object.__setattr__
        saturated = _find_saturated(self.flux, self.instrument) if self.saturated is None else self.saturated
        put(self, "saturated", as_flag(saturated, "saturated"))
        put(self, "stamp", as_integer(np.zeros(n_pixel, np.int64) if self.stamp is None else self.stamp, "stamp"))
        numbers = np.arange(n_time) if self.cadence_number is None else self.cadence_number
        put(self, "cadence_number", as_integer(numbers, "cadence_number"))
        check_shape(self.saturated, (n_pixel,), "saturated", "n_pixel")
        put(self, "spilled", _find_spilled(self.column, self.row, self.saturated))
        check_shape(self.stamp, (n_pixel,), "stamp", "n_pixel")
        check_shape(self.cadence_number, (n_time,), "cadence_number", "n_time")
        if self.pos_corr is not None:
            put(self, "pos_corr", as_float(self.pos_corr, "pos_corr", ndim=2))
            check_shape(self.pos_corr, (n_time, 2), "pos_corr", "n_time, column and row")

    def _check_duplicates(self) -> None:
        detector = np.stack([self.row, self.column], axis=1)
        unique, counts = np.unique(detector, axis=0, return_counts=True)
        if unique.shape[0] < detector.shape[0]:
            row, column = unique[np.argmax(counts > 1)]
            raise InputError(
                f"row, column: expected every pixel once, got pixel (row {row:g}, column {column:g}) more than once"
                f" ({int((counts > 1).sum())} pixels in all); keep one copy of each, or their errors count twice"
            )

    def __repr__(self) -> str:
        """Give size, span and place instead of the arrays."""
        dropped = int(self.gaps.sum())
        return (
            f"<PixelTable: {self.instrument.name}, {self.n_time} cadences x {self.n_pixel} pixels"
            f" in {np.unique(self.stamp).size} stamps, day {self.time.min():.3f} to {self.time.max():.3f},"
            f" centre RA {np.median(self.ra_deg):.4f} Dec {np.median(self.dec_deg):+.4f} deg,"
            f" {dropped} values without data, {int(self.saturated.sum())} saturated pixels>"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>"

    @property
    def background_removed(self) -> bool | None:
        """Whether the mission subtracted the sky from all pixels; None where no file tells."""
        said = self.meta.get("background_subtracted")
        return None if said is None else bool(said)

    @property
    def n_time(self) -> int:
        """Number of cadences."""
        return int(self.time.size)

    @property
    def n_pixel(self) -> int:
        """Number of pixels."""
        return int(self.ra_deg.size)

    def reweighed(self, flux: FloatArray, ivar: FloatArray) -> "PixelTable":
        """Return the table with other flux and weights, (n_time, n_pixel); nothing is checked, and `flux_err` stays."""
        other = copy(self)
        object.__setattr__(other, "flux", flux)
        object.__setattr__(other, "ivar", ivar)
        return other

    def counted(self, home: IntArray | None) -> "PixelTable":
        """Return the table with the light of each pixel counted under the number of its home, shape (n_pixel,).

        The others of a home count no more, nor does a sum of which a value is missing.
        """
        if home is None:
            return self
        flux, ivar = self.flux.copy(), self.ivar.copy()
        shared = np.flatnonzero(np.bincount(home, minlength=home.size) > 1)
        for one in shared:
            run = np.flatnonzero(home == one)
            known = np.all(self.ivar[:, run] > 0, axis=1)
            variance = np.sum(1.0 / np.where(self.ivar[:, run] > 0, self.ivar[:, run], 1.0), axis=1)
            ivar[:, run] = 0.0
            flux[:, one], ivar[:, one] = self.flux[:, run].sum(axis=1), np.where(known, 1.0 / variance, 0.0)
        return self.reweighed(flux, ivar)

    def cadences(self, cadences: object = None) -> IntArray:
        """Return the indices of cadences given by index or mask, one or several; of all for None.

        Parameters
        ----------
        cadences : int, sequence of int or mask, optional
            Which cadences.

        Returns
        -------
        ndarray of int64, shape (n_chosen,)

        Raises
        ------
        InputError
            If one does not exist, or none is given.
        """
        if cadences is None:
            return np.arange(self.n_time)
        given = np.atleast_1d(as_array(cadences, "cadences"))
        if given.dtype == bool and given.shape == (self.n_time,):
            given = np.flatnonzero(given)
        whole = np.issubdtype(given.dtype, np.integer) and given.ndim == 1 and given.size > 0
        if not whole or np.any((given < -self.n_time) | (given >= self.n_time)):
            raise InputError(
                f"cadences: expected whole numbers from 0 to {self.n_time - 1} or a mask, got {shown(cadences)}"
            )
        return given.astype(np.int64) % self.n_time


def _check_detector(places: FloatArray, name: str) -> None:
    """Raise unless all positions are on a detector that can be."""
    if np.any(np.abs(places) > _LARGEST_DETECTOR):
        raise InputError(
            f"{name}: expected detector positions from {-_LARGEST_DETECTOR:g} to {_LARGEST_DETECTOR:g} pixel, got"
            f" {places[np.argmax(np.abs(places))]:g}; give the positions in pixels"
        )


# Whole numbers up to this are apart in float32, and no detector has so many pixels along a side.
_LARGEST_DETECTOR = 2.0**24
# Definition: share of the cadences above the saturation level that makes a pixel saturated: not a single cosmic ray.
_SATURATED_SHARE = 0.01
# Derived: a bleed ends in a pixel that it fills in part, and leaves charge in the next one.
_SPILL_ROWS = 2.1
# Cadences handled at once, so that temporaries stay in cache and small beside the data.
_CHUNK_ELEMENTS = 1 << 18


def _inverse_variance(flux: FloatArray, flux_err: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return flux_err**-2, 0 where flux or error is unusable, and the count of these; raise on negative errors."""
    ivar, gaps = np.empty_like(flux), np.zeros(flux.shape[1], np.int64)
    step = max(1, _CHUNK_ELEMENTS // flux.shape[1])
    for start in range(0, flux.shape[0], step):
        part = slice(start, start + step)
        error = flux_err[part]
        if np.any(error < 0):
            time, pixel = (int(i) for i in np.argwhere(error < 0)[0])
            raise InputError(
                f"flux_err: expected 0 or more, got {error[time, pixel]} at cadence {start + time}, pixel {pixel};"
                " errors are standard deviations, use NaN for pixels to leave out"
            )
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            np.multiply(error, error, out=ivar[part])
            np.divide(1.0, ivar[part], out=ivar[part])
        bad = ~(np.isfinite(ivar[part]) & (ivar[part] > 0) & np.isfinite(flux[part]))
        if bad.any():
            ivar[part][bad] = 0.0
            gaps += bad.sum(axis=0)
    return ivar, gaps


def _find_spilled(column: FloatArray, row: FloatArray, saturated: BoolArray) -> BoolArray:
    """Return the saturated pixels and those up to two rows away along their columns."""
    found = saturated.copy()
    for one in np.unique(column[saturated]):
        here = np.flatnonzero(column == one)
        full = np.sort(row[here[saturated[here]]])
        after = np.searchsorted(full, row[here] - _SPILL_ROWS)
        found[here] |= full[np.minimum(after, full.size - 1)] < row[here] + _SPILL_ROWS
        found[here] &= (after < full.size) | saturated[here]
    return found


def _find_saturated(flux: FloatArray, instrument: Instrument) -> BoolArray:
    """Return which pixels lie above the saturation level, and are finite, in at least 1 % of the cadences."""
    count = np.zeros(flux.shape[1], np.int64)
    step = max(1, _CHUNK_ELEMENTS // flux.shape[1])
    for start in range(0, flux.shape[0], step):
        above = flux[start : start + step] > instrument.saturation
        if above.any():
            count += np.count_nonzero(above & (flux[start : start + step] < np.inf), axis=0)
    return (count > 0) & (count >= _SATURATED_SHARE * flux.shape[0])
