"""The part of a Machine that sums apertures and measures its PRF."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError, StageError
from bayesprf.photometry.apertures import (
    ApertureSet,
    build_apertures,
    find_pixels_with_data,
    optimal_percentile,
    sum_in_apertures,
)
from bayesprf.photometry.metrics import perturbation_metrics, psf_fraction
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.views import MachineViews


@dataclass(frozen=True, slots=True, eq=False)
class ApertureSums:
    """Sums of the pixels in the apertures.

    Parameters
    ----------
    flux, flux_err : ndarray of float64, shape (n_time, n_source)
        Electron / s.
    """

    flux: FloatArray
    flux_err: FloatArray


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


class MachineApertures(MachineViews):
    """Apertures and metrics of a Machine, under their documented names; they need no fitted fluxes."""

    def create_aperture_mask(self, percentile: Any = 50) -> None:
        """Choose the aperture of every source as an isophote of its PRF.

        Sets `aperture_mask`, `FLFRCSAP` and `CROWDSAP`, and drops sums over earlier apertures.

        Parameters
        ----------
        percentile : float or array-like of float, shape (n_source,)
            Percentile of the source's PRF values above which pixels belong to its aperture: 0 takes all of its
            pixels, 100 the brightest one. One number for all sources, or one each.

        Raises
        ------
        StageError
            Before `build_shape_model`.
        InputError
            If a percentile lies outside 0 to 100.
        ShapeError
            If there is neither one percentile nor one per source.
        """
        self._stages.keep("aperture", build_apertures(*self._aperture_inputs(), percentile))

    def compute_aperture_photometry(
        self,
        aperture_size: Any = "optimal",
        target_complete: float | None = 0.9,
        target_crowd: float | None = 0.9,
    ) -> None:
        """Sum the pixels in an aperture around every source at every cadence.

        Sets `sap_flux`, `sap_flux_err`, `aperture_mask`, `FLFRCSAP`, `CROWDSAP` and, for optimal apertures,
        `optimal_percentile`.

        Parameters
        ----------
        aperture_size : "optimal", float or array-like of float, shape (n_source,)
            "optimal" takes the isophote of least total shortfall below the targets, and the smallest of those
            that meet them; otherwise a percentile, as for `create_aperture_mask`.
        target_complete : float, optional
            Wanted completeness (FLFRCSAP) of optimal apertures; None or a negative number switches it off.
        target_crowd : float, optional
            Wanted crowding (CROWDSAP) of optimal apertures; None or a negative number switches it off.

        Raises
        ------
        StageError
            Before `build_shape_model`.
        InputError
            If a percentile lies outside 0 to 100, a target is above 1, or both are switched off.
        ShapeError
            If there is neither one percentile nor one per source.
        """
        optimal = isinstance(aperture_size, str)
        if optimal and aperture_size != "optimal":
            raise InputError(f"aperture_size: expected 'optimal' or percentiles from 0 to 100, got {aperture_size!r}")
        if optimal:
            aperture_size = optimal_percentile(*self._aperture_inputs(), target_complete, target_crowd)
        self.create_aperture_mask(aperture_size)
        chosen = self._apertures
        sums = sum_in_apertures(self.pixels.flux, self.pixels.ivar, chosen.pairs, chosen.mask)
        self._stages.keep("aperture_photometry", ApertureSums(*sums))
        if optimal:
            self._stages.keep("optimal_percentile", chosen.percentile)

    def get_psf_metrics(self, npoints_per_pixel: int = 10) -> None:
        """Measure how much of each source's PRF is on the data, and how far the time model moves it.

        Sets `source_psf_fraction` and, after `build_time_model`, `perturbed_ratio_mean` and `perturbed_std`.

        Parameters
        ----------
        npoints_per_pixel : int
            Points along each side of a pixel at which the PRF is evaluated; 0 takes the pixel centres alone.

        Raises
        ------
        StageError
            Before `build_shape_model`.
        InputError
            If `npoints_per_pixel` is not a whole number from 0 up.
        """
        shape, time = self._shape, self._stages.get("time")
        near = self._pairs.select(find_pixels_with_data(self.pixels.ivar)[self._pairs.pixel])
        axes = pixel_axes(self.pixels)
        fraction = psf_fraction(shape.prf.evaluate, near, axes, npoints_per_pixel=npoints_per_pixel)
        change = None
        if time is not None:
            changing = shape.matrix.changing(time.stack_parts(shape.pairs), time.mix)
            change = perturbation_metrics(shape.matrix, changing)
        self._stages.keep("metrics", PsfMetrics(fraction, change))

    def plot_aperture(self, source: int) -> Any:
        """Draw the pixels around a source with its aperture outlined.

        Parameters
        ----------
        source : int
            Index of the source.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        StageError
            Before `create_aperture_mask` or `compute_aperture_photometry`.
        InputError
            If there is no such source, or it has no pixels.
        """
        from bayesprf.plots.aperture import plot_aperture

        apertures = self._apertures
        name = self.sources.source_id[source] if 0 <= source < self.nsources else ""
        return plot_aperture(self.pixels, apertures, source, name=name)

    @property
    def aperture_mask(self) -> csr_matrix:
        """Pixels of each aperture, sparse bool (n_source, n_pixel)."""
        return self._apertures.matrix

    @property
    def FLFRCSAP(self) -> FloatArray:  # noqa: N802  (documented name)
        """Completeness: fraction of each source's light inside its aperture, shape (n_source,)."""
        return self._apertures.completeness

    @property
    def CROWDSAP(self) -> FloatArray:  # noqa: N802
        """Crowding: the source's share of the light inside its aperture, shape (n_source,)."""
        return self._apertures.crowding

    @property
    def sap_flux(self) -> FloatArray:
        """Sum over each aperture, shape (n_time, n_source), electron / s; NaN where a pixel has no data."""
        return self._sums.flux

    @property
    def sap_flux_err(self) -> FloatArray:
        """Standard deviation of `sap_flux`, shape (n_time, n_source), electron / s."""
        return self._sums.flux_err

    @property
    def optimal_percentile(self) -> FloatArray:
        """Percentile of each source's optimal isophote, shape (n_source,); NaN without pixels."""
        percentile: FloatArray = self._stages.need("optimal_percentile")
        return percentile

    @property
    def source_psf_fraction(self) -> FloatArray:
        """Fraction of each source's PRF that falls on the data, shape (n_source,)."""
        return self._metrics.psf_fraction

    @property
    def perturbed_ratio_mean(self) -> FloatArray:
        """Mean over time of the perturbed PRF's sum over the mean PRF's, shape (n_source,)."""
        return self._change_metrics[0]

    @property
    def perturbed_std(self) -> FloatArray:
        """Standard deviation over time of the perturbed PRF's sum, shape (n_source,)."""
        return self._change_metrics[1]

    def _aperture_inputs(self) -> tuple[PrfMatrix, FloatArray]:
        """Return the PRF (0 in pixels that never have data) and fluxes, from which apertures are chosen."""
        shape = self._shape
        lit = find_pixels_with_data(self.pixels.ivar)[shape.pairs.pixel]
        return PrfMatrix.constant(shape.pairs, np.where(lit, shape.values, 0.0)), shape.flux

    def _aperture_results(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what there is for the photometry and catalog groups of the results, by their names there."""
        apertures: ApertureSet | None = self._stages.get("aperture")
        sums: ApertureSums | None = self._stages.get("aperture_photometry")
        metrics: PsfMetrics | None = self._stages.get("metrics")
        photometry: dict[str, Any] = {}
        catalog: dict[str, Any] = {}
        if sums is not None:
            photometry = {"sap_flux": sums.flux, "sap_flux_err": sums.flux_err}
        if apertures is not None:
            catalog |= {
                "completeness": apertures.completeness,
                "crowding": apertures.crowding,
                "aperture_percentile": apertures.percentile,
                "n_pixel_aperture": apertures.n_pixel,
            }
        if metrics is not None:
            catalog["psf_fraction"] = metrics.psf_fraction
            catalog |= dict(zip(("perturbed_ratio_mean", "perturbed_std"), metrics.change or (), strict=False))
        return photometry, catalog

    @property
    def _apertures(self) -> ApertureSet:
        apertures: ApertureSet = self._stages.need("aperture")
        return apertures

    @property
    def _sums(self) -> ApertureSums:
        sums: ApertureSums = self._stages.need("aperture_photometry")
        return sums

    @property
    def _metrics(self) -> PsfMetrics:
        metrics: PsfMetrics = self._stages.need("metrics")
        return metrics

    @property
    def _change_metrics(self) -> tuple[FloatArray, FloatArray]:
        change = self._metrics.change
        if change is None:
            raise StageError("no time model to measure: call build_time_model() and then get_psf_metrics() first")
        return change
