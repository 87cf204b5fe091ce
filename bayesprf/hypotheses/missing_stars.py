"""Stars that the catalogue lacks: the evidence for a further star of constant flux at every position."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bayesprf.arrays import FloatArray, brief, brief_html
from bayesprf.hypotheses.event_position import dip_evidence
from bayesprf.linalg.common import RowSum
from bayesprf.scene.sources import SourceTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Derived: a found star's own flux is free: under a prior this many times wider than its flux it is pulled by less than
# 1e-4 of it.
_FREE = 100.0
# Rounding: less than this share of the information that noise alone would leave is nothing but rounding.
_TOLD, _NOTHING = 1e-8, 1e-300
# Accuracy: the peak is looked for on finer and finer grids of so many positions a side, each this share of the one
# before.
_ZOOM_SIDE, _ZOOM, _N_ZOOM = 7, 0.4, 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A star that the catalogue seems to lack.

    Parameters
    ----------
    x, y : float
        Offset from the reference of its grid, arcsec.
    flux, flux_err : float
        Flux from the data and a flat prior, and its standard deviation with the errors of the PRF, electron / s.
    log_bayes_factor : float
        Log evidence of a star there minus that of none, its flux integrated out.
    log_odds : float
        Log of the posterior odds of a star within a pixel, its position integrated out too.
    """

    x: float
    y: float
    flux: float
    flux_err: float
    log_bayes_factor: float
    log_odds: float


@dataclass(frozen=True, slots=True, eq=False)
class MissingStars:
    """Where a further star of constant flux would explain the pixels better.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n_cell,)
        Positions of the map, degree.
    log_bayes_factor : ndarray of float64, shape (n_cell,)
        Log evidence of one further star there minus that of none.
    flux, flux_err : ndarray of float64, shape (n_cell,)
        Its flux if there is one there, from the data and a flat prior, electron / s: it may come out negative.
    candidates_ra_deg, candidates_dec_deg : ndarray of float64, shape (n_candidate,)
        Positions of the stars found, the most probable first, degree.
    candidates_flux, candidates_flux_err : ndarray of float64, shape (n_candidate,)
        Their fluxes and standard deviations, electron / s.
    candidates_log_bayes_factor, candidates_probability : ndarray of float64, shape (n_candidate,)
        Log evidence of each, and its posterior probability, those found before included in the model.
    scale : float
        electron / s per unit of the catalogue's flux.
    """

    ra_deg: FloatArray
    dec_deg: FloatArray
    log_bayes_factor: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    candidates_ra_deg: FloatArray
    candidates_dec_deg: FloatArray
    candidates_flux: FloatArray
    candidates_flux_err: FloatArray
    candidates_log_bayes_factor: FloatArray
    candidates_probability: FloatArray
    scale: float

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        """List the stars found."""
        found = zip(
            self.candidates_ra_deg, self.candidates_dec_deg, self.candidates_flux, self.candidates_flux_err,
            self.candidates_probability, strict=True,
        )  # fmt: skip
        lines = [
            f"  RA {ra:.5f}, Dec {dec:+.5f}: flux {flux:.4g} +- {err:.2g} electron / s, probability {probability:.3g}"
            for ra, dec, flux, err, probability in found
        ]
        return "\n".join([f"{self.n_candidate} stars found, searched at {self.ra_deg.size} positions", *lines])

    @property
    def n_candidate(self) -> int:
        """Number of stars found."""
        return int(self.candidates_flux.size)

    def plot(self, sources: "SourceTable | None" = None, *, ax: "Axes | None" = None) -> "Figure":
        """Draw the evidence for a further star at every position, and the stars found.

        Parameters
        ----------
        sources : SourceTable, optional
            Catalogue, such as `Machine.sources`, to mark its stars with.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.sky import plot_missing_stars

        return plot_missing_stars(self, sources, ax=ax)

    def add_to(self, sources: SourceTable, *, prefix: str = "found-") -> SourceTable:
        """Return a catalogue with the stars found at its end, to fit again with.

        Parameters
        ----------
        sources : SourceTable
            The catalogue.
        prefix : str
            Names of the new stars are this and a number from 1 on.

        Returns
        -------
        SourceTable
            Fluxes of the new stars are on the catalogue's scale; other columns of the catalogue are left out.
        """
        names = tuple(f"{prefix}{k + 1}" for k in range(self.n_candidate))
        flux = self.candidates_flux / self.scale
        known = sources.has_flux
        zero = np.nanmedian(sources.mag[known] + 2.5 * np.log10(sources.flux[known]))
        return SourceTable(
            (*sources.source_id, *names),
            np.concatenate([sources.ra_deg, self.candidates_ra_deg]),
            np.concatenate([sources.dec_deg, self.candidates_dec_deg]),
            np.concatenate([sources.flux, flux]),
            np.concatenate([sources.mag, zero - 2.5 * np.log10(flux)]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class StarSearch:
    """What the pixels around some positions say about a further star.

    Parameters
    ----------
    rows : RowSum
        What the pixels say about a pattern in them, the catalogue's stars and all errors of the model integrated out.
    ivar : ndarray of float64, shape (n_pixel,)
        Inverse variances of the pixels by their noise alone.
    light : callable
        Returns the PRF of stars at offsets x and y, arcsec, in the pixels, (n_position, n_pixel), 1 / pixel.
    errors : callable
        Returns how the PRF of a star at an offset may err, (n_pixel, n_error), 1 / pixel.
    least, most : float
        Smallest flux that matters, and the largest that a missing star may have, electron / s.
    """

    rows: RowSum
    ivar: FloatArray
    light: Callable[[FloatArray, FloatArray], FloatArray]
    errors: Callable[[float, float], FloatArray]
    least: float
    most: float

    def amplitudes(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return precision and right-hand side of the flux of stars at some offsets."""
        columns = self.light(x, y)
        precision = np.einsum("ip,ip->i", columns @ self.rows.information, columns)
        told = precision > _TOLD * (columns**2 @ self.ivar)
        return np.where(told, precision, _NOTHING), np.where(told, columns @ self.rows.residual, 0.0)

    def evidence(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the log Bayes factor of a star at some offsets, shape (n_position,)."""
        precision, rhs = self.amplitudes(x, y)
        return dip_evidence(precision, rhs, least=self.least, most=np.full(x.size, self.most))

    def climb(self, x: float, y: float, step: float) -> tuple[float, float]:
        """Return where near an offset the evidence is highest."""
        axis = np.linspace(-1.0, 1.0, _ZOOM_SIDE)
        dx, dy = (one.ravel() for one in np.meshgrid(axis, axis))
        for _ in range(_N_ZOOM):
            best = int(np.argmax(self.evidence(x + step * dx, y + step * dy)))
            x, y, step = x + step * dx[best], y + step * dy[best], step * _ZOOM
        return float(x), float(y)

    def candidate(self, x: float, y: float, *, pixel: float, density: float) -> Candidate:
        """Describe a star at an offset.

        Parameters
        ----------
        x, y : float
            Offset, arcsec.
        pixel : float
            Side of a pixel, arcsec.
        density : float
            Missing stars expected before, per arcsec**2.

        Returns
        -------
        Candidate
        """
        precision, rhs = (float(one[0]) for one in self.amplitudes(np.array([x]), np.array([y])))
        width = self._width(x, y, pixel)
        axis = np.linspace(-4.0, 4.0, 2 * _ZOOM_SIDE + 1) * width
        dx, dy = (one.ravel() for one in np.meshgrid(axis, axis))
        mass = np.logaddexp.reduce(self.evidence(x + dx, y + dy)) + 2.0 * np.log(axis[1] - axis[0])
        own = float(self.evidence(np.array([x]), np.array([y]))[0])
        return Candidate(x, y, rhs / precision, precision**-0.5, own, float(mass + np.log(density)))

    def with_star(self, found: Candidate) -> "StarSearch":
        """Return the search with a star that was found in the model: its flux is free, its PRF errs."""
        column = self.light(np.array([found.x]), np.array([found.y])).T
        errors = np.concatenate([_FREE * found.flux * column, found.flux * self.errors(found.x, found.y)], axis=1)
        return replace(self, rows=self.rows.with_errors(errors))

    def _width(self, x: float, y: float, pixel: float) -> float:
        """Return how far from its peak the evidence falls by a half, a quarter pixel at most, arcsec."""
        step = 0.25 * pixel
        here = float(self.evidence(np.array([x]), np.array([y]))[0])
        around = self.evidence(x + step * np.array([1.0, -1.0, 0.0, 0.0]), y + step * np.array([0.0, 0.0, 1.0, -1.0]))
        fall = max(here - float(around.mean()), 0.5)
        return step * float(np.sqrt(0.5 / fall))


def find_stars(
    search: StarSearch, x: FloatArray, y: FloatArray, *, pixel: float, density: float, apart: float
) -> list[Candidate]:
    """Find stars one after the other, the most probable first, until none is more probable than not.

    Parameters
    ----------
    search : StarSearch
        The pixels.
    x, y : ndarray of float64, shape (n_position,)
        Offsets to look at, arcsec, at most half a pixel apart.
    pixel : float
        Side of a pixel, arcsec.
    density : float
        Missing stars expected before, per arcsec**2.
    apart : float
        Least distance of two stars, arcsec.

    Returns
    -------
    list of Candidate
    """
    found: list[Candidate] = []
    while x.size:
        peak = int(np.argmax(search.evidence(x, y)))
        one = search.candidate(*search.climb(float(x[peak]), float(y[peak]), 0.5 * pixel), pixel=pixel, density=density)
        if one.log_odds < 0.0 or one.flux <= 0.0:
            break
        found.append(one)
        search = search.with_star(one)
        rest = (np.hypot(x - one.x, y - one.y) > apart) & (np.arange(x.size) != peak)
        x, y = x[rest], y[rest]
    return found
