"""SourceTable: the stars the catalogue knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import as_float, check_finite, check_shape
from bayesprf.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class SourceTable:
    """Positions and expected fluxes of the sources.

    Parameters
    ----------
    source_id : sequence of str, shape (n_source,)
        Names, each used once.
    ra_deg, dec_deg : array-like, shape (n_source,)
        Sky position at the epoch of the data, degree.
    flux : array-like, shape (n_source,)
        Catalogue flux, on any common linear scale; NaN, zero or negative means unknown.
    mag : array-like, shape (n_source,), optional
        Magnitude; by default 25 - 2.5 log10(flux).
    columns : mapping of str to array, optional
        The catalogue as given, for the results.

    Raises
    ------
    InputError
        If the table is empty, a position is not finite, or a name is used twice.
    ShapeError
        If the shapes do not agree.
    """

    source_id: tuple[str, ...]
    ra_deg: FloatArray
    dec_deg: FloatArray
    flux: FloatArray
    mag: FloatArray = None  # type: ignore[assignment]  # filled on construction
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "source_id", tuple(str(one) for one in self.source_id))
        n_source = len(self.source_id)
        if n_source == 0:
            raise InputError(
                "sources: expected at least one source, got an empty catalogue; check the field and the cuts"
            )
        for name, unit in (("ra_deg", "deg"), ("dec_deg", "deg"), ("flux", None)):
            put(self, name, as_float(getattr(self, name), name, ndim=1, unit=unit))
            check_shape(getattr(self, name), (n_source,), name, "n_source")
        check_finite(self.ra_deg, "ra_deg")
        check_finite(self.dec_deg, "dec_deg")
        if len(set(self.source_id)) < n_source:
            twice = next(one for one in self.source_id if self.source_id.count(one) > 1)
            raise InputError(
                f"source_id: expected every source once, got {twice!r} more than once; drop the duplicate rows"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            mag = 25.0 - 2.5 * np.log10(self.flux) if self.mag is None else self.mag
        put(self, "mag", as_float(mag, "mag", ndim=1))
        check_shape(self.mag, (n_source,), "mag", "n_source")

    def __repr__(self) -> str:
        """Give number, brightness and first names instead of the arrays."""
        known = self.flux[self.has_flux]
        flux = f"catalogue flux {known.min():.4g} to {known.max():.4g}" if known.size else "no catalogue flux"
        first = ", ".join(self.source_id[:3]) + (", ..." if self.n_source > 3 else "")
        return f"<SourceTable: {self.n_source} sources ({first}), {flux}, {self.n_source - known.size} without flux>"

    @property
    def n_source(self) -> int:
        """Number of sources."""
        return len(self.source_id)

    @property
    def has_flux(self) -> BoolArray:
        """Whether the catalogue flux is a positive number, shape (n_source,)."""
        return np.isfinite(self.flux) & (np.nan_to_num(self.flux) > 0)

    def indices(self, sources: Any = None) -> IntArray:
        """Return the indices of sources given by index or name, one or several; of all for None.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Which sources.

        Returns
        -------
        ndarray of int64, shape (n_chosen,)

        Raises
        ------
        InputError
            If one does not exist.
        """
        if sources is None:
            return np.arange(self.n_source)
        given = [sources] if isinstance(sources, str) or np.ndim(sources) == 0 else list(sources)
        return np.array([self._index(one) for one in given], np.int64)

    def _index(self, source: Any) -> int:
        if isinstance(source, str):
            if source not in self.source_id:
                raise InputError(f"sources: expected names of the catalogue, got {source!r}")
            return self.source_id.index(source)
        if not isinstance(source, int | np.integer) or not -self.n_source <= source < self.n_source:
            raise InputError(f"sources: expected names, or whole numbers from 0 to {self.n_source - 1}, got {source!r}")
        return int(source) % self.n_source
