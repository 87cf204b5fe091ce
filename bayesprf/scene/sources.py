"""SourceTable: the stars of the catalogue."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import cast

import numpy as np

from bayesprf.arrays import LARGEST, AnyArray, BoolArray, FloatArray, IntArray, Named, shape_of
from bayesprf.checks import as_float, check_positive, check_shape, did_you_mean, listed, shown
from bayesprf.errors import DataWarning, InputError, warn
from bayesprf.scene.sky import check_sky, format_angle, move_positions, nearest

# Derived: a position within one Kepler pixel of a star names it, arcsec.
_SAME_STAR = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Brightness:
    """Fluxes of the sources in one band.

    Parameters
    ----------
    flux : ndarray of float64, shape (n_source,)
        Catalogue flux, on any common linear scale; NaN, zero or negative means unknown.
    mag : ndarray of float64, shape (n_source,), optional
        Magnitude; by default 25 - 2.5 log10(flux).
    """

    flux: FloatArray
    mag: FloatArray | None = None

    def select(self, keep: BoolArray) -> "Brightness":
        """Return only the sources where the mask, shape (n_source,), is True."""
        return Brightness(self.flux[keep], None if self.mag is None else self.mag[keep])


@dataclass(frozen=True, slots=True, eq=False)
class SourceTable:
    """Positions and expected fluxes of the sources.

    Parameters
    ----------
    source_id : sequence of str, shape (n_source,)
        Names, each used once.
    ra_deg, dec_deg : array-like, shape (n_source,)
        Sky position, ICRS, degree: at `epoch`, or at the epoch of the data where there is none.
    flux : array-like, shape (n_source,)
        Catalogue flux, on any common linear scale; NaN, zero or negative means unknown;
        beyond 1e100, or nearer to zero than its inverse, it becomes NaN.
    mag : array-like, shape (n_source,), optional
        Magnitude; by default 25 - 2.5 log10(flux).
    columns : mapping of str to array, optional
        The catalogue as given, for the results.
    motion : array-like, shape (n_source, 2), optional
        Proper motion towards east (with cos dec) and north, mas / yr; NaN means none known.
    epoch : array-like, shape (n_source,), or float, optional
        Julian year of the positions, NaN where it is not known.
    bands : mapping of str to Brightness, optional
        Fluxes in other bands, by the name that `Instrument.flux_column` gives them.

    Raises
    ------
    InputError
        If the table is empty, a position is not on the sky, or a name is used twice or cannot be printed.
    ShapeError
        If the shapes do not agree.

    See Also
    --------
    bayesprf.read_catalog : Read one from a file or a table.

    Examples
    --------
    >>> import bayesprf as bp
    >>> sources = bp.SourceTable(("a", "b"), [290.0, 290.001], [44.5, 44.502], [5200.0, 830.0])
    >>> sources.n_source
    2
    """

    source_id: tuple[str, ...]
    ra_deg: FloatArray
    dec_deg: FloatArray
    flux: FloatArray
    mag: FloatArray = None  # type: ignore[assignment]  # filled on construction
    columns: Named = field(default_factory=dict)
    motion: FloatArray | None = None
    epoch: FloatArray | None = None
    bands: Mapping[str, Brightness] = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        try:
            put(self, "source_id", tuple(str(one) for one in self.source_id))
        except TypeError as error:
            raise InputError(f"source_id: expected a sequence of names, got {shown(self.source_id)}") from error
        n_source = len(self.source_id)
        if n_source == 0:
            raise InputError(
                "sources: expected at least one source, got an empty catalogue; check the field and the cuts"
            )
        for name, unit in (("ra_deg", "deg"), ("dec_deg", "deg"), ("flux", None)):
            put(self, name, as_float(getattr(self, name), name, ndim=1, unit=unit))
            check_shape(getattr(self, name), (n_source,), name, "n_source")
        size = np.abs(self.flux)
        put(
            self,
            "flux",
            np.where((size > LARGEST) | ((size > 0) & (size < 1.0 / LARGEST)), np.nan, self.flux),
        )
        check_sky(self.ra_deg, self.dec_deg, "row")
        _check_names(self.source_id)
        with np.errstate(divide="ignore", invalid="ignore"):
            mag = 25.0 - 2.5 * np.log10(self.flux) if self.mag is None else self.mag
        put(self, "mag", as_float(mag, "mag", ndim=1))
        check_shape(self.mag, (n_source,), "mag", "n_source")
        self._fill_motion(n_source)

    def _fill_motion(self, n_source: int) -> None:
        put = object.__setattr__
        if self.motion is not None:
            put(self, "motion", as_float(self.motion, "motion", ndim=2, unit="mas / yr"))
            check_shape(self.motion, (n_source, 2), "motion", "n_source, east and north")
        if self.epoch is not None:
            put(self, "epoch", np.array(np.broadcast_to(as_float(self.epoch, "epoch"), (n_source,))))

    def __repr__(self) -> str:
        """Give number, brightness and first names instead of the arrays."""
        known = self.flux[self.has_flux]
        flux = f"catalogue flux {known.min():.4g} to {known.max():.4g}" if known.size else "no catalogue flux"
        first = listed(self.source_id, 3)
        return f"<SourceTable: {self.n_source} sources ({first}), {flux}, {self.n_source - known.size} without flux>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>"

    @property
    def n_source(self) -> int:
        """Number of sources."""
        return len(self.source_id)

    @property
    def has_flux(self) -> BoolArray:
        """Whether the catalogue flux is a positive number, shape (n_source,)."""
        return np.isfinite(self.flux) & (np.nan_to_num(self.flux) > 0)

    def at_epoch(self, year: float) -> "SourceTable":
        """Return the sources where they are in another year.

        Parameters
        ----------
        year : float
            Julian year.

        Returns
        -------
        SourceTable
            The same table if it has no motions.

        Raises
        ------
        InputError
            If `year` is not a positive number.

        Warns
        -----
        DataWarning
            If there are proper motions but no reference epoch: positions are left unchanged.
        """
        check_positive(year, "epoch")
        if self.motion is None:
            return self
        if self.epoch is None:
            warn(
                "the catalogue has proper motions but not the epoch of its positions, so these were not carried to the"
                " epoch of the data; give ref_epoch=2016.0 (Gaia DR3), 2015.5 (Gaia DR2) or 2000.0 (TIC, KIC, EPIC)",
                DataWarning,
            )
            return self
        years = year - self.epoch
        ra_deg, dec_deg = move_positions(self.ra_deg, self.dec_deg, self.motion[:, 0], self.motion[:, 1], years)
        return replace(self, ra_deg=ra_deg, dec_deg=dec_deg, epoch=np.full(self.n_source, float(year)))

    def in_band(self, name: str) -> "SourceTable":
        """Return the sources with the fluxes of another band; the same table where it is not known.

        Parameters
        ----------
        name : str
            Name of the band, as `Instrument.flux_column` gives it.

        Returns
        -------
        SourceTable
        """
        if name not in self.bands:
            return self
        band = self.bands[name]
        return replace(self, flux=band.flux, mag=band.mag)  # type: ignore[arg-type]  # None is filled on construction

    def select(self, keep: BoolArray) -> "SourceTable":
        """Return only the sources where the mask, shape (n_source,), is True."""
        chosen = np.flatnonzero(keep)
        return replace(
            self,
            source_id=tuple(self.source_id[one] for one in chosen),
            **{name: getattr(self, name)[keep] for name in ("ra_deg", "dec_deg", "flux", "mag")},
            columns={name: values[keep] for name, values in self.columns.items()},
            motion=None if self.motion is None else self.motion[keep],
            epoch=None if self.epoch is None else self.epoch[keep],
            bands={name: band.select(keep) for name, band in self.bands.items()},
        )

    def scaled(self, factor: float) -> "SourceTable":
        """Return the sources with all fluxes times a factor, and magnitudes as they are."""
        return replace(self, flux=self.flux * factor, bands={})

    def joined(self, others: "SourceTable") -> "SourceTable":
        """Return these sources and others after them, in the columns of these; those that others lack are missing."""
        count = others.n_source
        return SourceTable(
            source_id=(*self.source_id, *others.source_id),
            ra_deg=np.concatenate([self.ra_deg, others.ra_deg]),
            dec_deg=np.concatenate([self.dec_deg, others.dec_deg]),
            flux=np.concatenate([self.flux, others.flux]),
            mag=np.concatenate([self.mag, others.mag]),
            columns={name: _with_missing(values, count) for name, values in self.columns.items()},
            motion=None if self.motion is None else np.concatenate([self.motion, np.full((count, 2), np.nan)]),
            epoch=None if self.epoch is None else np.concatenate([self.epoch, np.full(count, np.nan)]),
        )

    def indices(self, sources: object = None) -> IntArray:
        """Return the indices of sources given by index, name or position, one or several; of all for None.

        Parameters
        ----------
        sources : int, str, astropy.coordinates.SkyCoord, or sequence of int or str, or mask, optional
            Which sources. A whole number that is no index may be a name, as a Gaia identifier. A position means the
            star nearest to it, within 4 arcsec. A mask is bool, shape (n_source,).

        Returns
        -------
        ndarray of int64, shape (n_chosen,)
            In the order given.

        Raises
        ------
        InputError
            If one does not exist, or is given twice.
        """
        if sources is None:
            return np.arange(self.n_source)
        if hasattr(sources, "icrs"):
            found = self._at(np.atleast_1d(sources.icrs.ra.deg), np.atleast_1d(sources.icrs.dec.deg))
        else:
            one = isinstance(sources, str) or shape_of(sources) == ()
            found = np.array([self._index(sources)]) if one else self._chosen(list(cast("Iterable[object]", sources)))
        repeated = np.flatnonzero(np.bincount(found, minlength=self.n_source) > 1)
        if repeated.size:
            raise InputError(
                f"sources: expected each source once, got {self.source_id[repeated[0]]!r} more than once; name it once"
            )
        return found

    def index(self, source: object) -> int:
        """Return the index of one source given by index, name or position; raise for none or several."""
        found = self.indices([] if source is None else source)
        if found.size != 1:
            raise InputError(f"source: expected one source, got {found.size}; choose one of them")
        return int(found[0])

    def _chosen(self, given: Sequence[object]) -> IntArray:
        if given and all(isinstance(one, bool | np.bool_) for one in given):
            check_shape(given, (self.n_source,), "sources", "n_source, as a mask")
            return np.flatnonzero(np.asarray(given))
        return np.array([self._index(one) for one in given], np.int64)

    def _index(self, source: object) -> int:
        number = int(source) if isinstance(source, int | np.integer) and not isinstance(source, bool) else None
        if number is not None and -self.n_source <= number < self.n_source:
            return number % self.n_source
        name = str(source)
        if (number is not None or isinstance(source, str)) and name in self.source_id:
            return self.source_id.index(name)
        raise InputError(
            f"sources: expected {self._describe_names()} or whole numbers from 0 to {self.n_source - 1}, got"
            f" {shown(source)}{did_you_mean(source, self.source_id) if isinstance(source, str) else ''}"
        )

    def _describe_names(self) -> str:
        return f"names of the catalogue ({listed([repr(one) for one in self.source_id], 3)})"

    def _at(self, ra_deg: FloatArray, dec_deg: FloatArray) -> IntArray:
        found, distance = nearest(ra_deg, dec_deg, self.ra_deg, self.dec_deg)
        if np.any(~(distance <= _SAME_STAR)):
            one = int(np.argmax(~(distance <= _SAME_STAR)))
            near, away = self.source_id[found[one]], format_angle(distance[one])
            raise InputError(
                f"sources: expected a position within {_SAME_STAR:g} arcsec of a source, got RA {ra_deg[one]:.5f}, Dec"
                f" {dec_deg[one]:+.5f}; the nearest is {near!r}, {away} away"
            )
        return found


def _with_missing(values: AnyArray, count: int) -> AnyArray:
    """Return a column with missing entries after it: NaN, "", or masked."""
    kind = values.dtype.kind
    if kind == "f":
        return np.concatenate([values, np.full(count, np.nan, values.dtype)])
    if kind == "O":
        return np.concatenate([values, np.full(count, "", object)])
    mask = np.concatenate([np.ma.getmaskarray(values), np.ones(count, bool)])
    return np.ma.MaskedArray(np.concatenate([np.ma.getdata(values), np.zeros(count, values.dtype)]), mask=mask)


def _check_names(names: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for row, name in enumerate(names):
        if not name.strip() or not name.isprintable():
            raise InputError(
                f"source_id: expected names of printable characters, got {name!r} in row {row}; give another name"
            )
        if name in seen:
            raise InputError(
                f"source_id: expected every source once, got {name!r} more than once; drop the duplicate rows"
            )
        seen.add(name)
