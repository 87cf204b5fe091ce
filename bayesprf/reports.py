"""What a Machine shows: its results as one labelled tree, and pictures."""

from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from bayesprf.machine_hypotheses import MachineHypotheses
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.photometry.overlaps import measure_blends
from bayesprf.prf.fit import ShapeFit
from bayesprf.scene.image import Image, reduce_image
from bayesprf.stages import Setting
from bayesprf.timemodel.fit import PerturbationFit


class MachineReports(MachineHypotheses):
    """Results and pictures of a Machine; xarray and matplotlib are loaded when first needed."""

    time_mask: Any
    sparse_dist_lim: float

    def to_datatree(self) -> Any:
        """Return all results so far as one labelled tree.

        Returns
        -------
        xarray.DataTree
            Groups ``/photometry``, ``/catalog``, ``/covariance``, ``/comparison``, ``/background``, ``/widths``,
            ``/shape``, ``/time_model``, as far as their stages have run.

        Raises
        ------
        StageError
            If no PRF has been fitted.
        """
        from bayesprf.results.gather import (
            background_group,
            catalog_group,
            covariance_group,
            photometry_group,
            shape_group,
            time_model_group,
            widths_group,
        )
        from bayesprf.results.scores import score_group
        from bayesprf.results.tree import build_tree, root_attributes

        flux: FluxFit | None = self._stages.latest("flux", "flux_va")
        time: PerturbationFit | None = self._stages.get("time")
        sums, metrics = self._aperture_results()
        blends = None if flux is None else measure_blends(flux.problem, flux.posterior, flux.n_source)
        shares = {} if blends is None else {"variance_from_neighbors": blends.variance_from_neighbors}
        groups = {
            "photometry": sums if flux is None else {**photometry_group(flux), **self._total_errors(), **sums},
            "catalog": catalog_group(
                self.sources, {"radius": self.radius, **self._source_results(), **shares, **metrics}
            ),
            "covariance": {} if blends is None else covariance_group(blends, self.sources.source_id),
            "comparison": {} if flux is None else score_group(self._score()),
            "background": {} if flux is None else background_group(flux),
            "widths": {} if self.widths is None else widths_group(self.widths),
            "shape": shape_group(self._shape),
            "time_model": {} if time is None else time_model_group(time, self.pixels),
        }
        coords = {
            "time": self.time,
            "cadence_number": self.pixels.cadence_number,
            "source": list(self.sources.source_id),
        }
        attrs = root_attributes(
            instrument=self.pixels.instrument.name,
            time_zero_jd=self.pixels.instrument.time_zero_jd,
            options=self._settings(),
            files=dict(zip(self.pixels.meta.get("files", ()), self.pixels.meta.get("sha256", ()), strict=False)),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return build_tree(groups, coords, attrs)

    def _total_errors(self) -> dict[str, Any]:
        """Return the errors common to all cadences, and the total errors."""
        return {"flux_err_common": self.common_errors.std, "flux_err_total": self.werrs_total}

    def _source_results(self) -> dict[str, Any]:
        """Return the per-source results of the stages that have run."""
        flux: FluxFit | None = self._stages.latest("flux", "flux_va")
        found: dict[str, Any] = {}
        if flux is not None:
            found["flux_estimate"] = flux.prior.mean
            found["source_flags"] = np.bitwise_and.reduce(flux.flags, axis=0)
        return found

    def _settings(self) -> dict[str, Any]:
        """Return the settings that can be told apart from data, and whether the fluxes are robust, for the record."""
        declared = {name: one for owner in type(self).__mro__[::-1] for name, one in vars(owner).items()}
        names = [name for name, one in declared.items() if isinstance(one, Setting) and name != "time_mask"]
        values = {name: getattr(self, name) for name in names}
        plain = {name: asdict(one) if is_dataclass(one) else one for name, one in values.items()}
        flux: FluxFit | None = self._stages.latest("flux", "flux_va")
        robust = flux is not None and flux.down_weighted is not None
        return {**plain, "sparse_dist_lim": self.sparse_dist_lim, "robust": robust}

    def _image(self, frame_index: Any) -> Image:
        """Return one frame, or the mean over the cadences that `time_mask` leaves."""
        return reduce_image(self.pixels, frame_index, self.time_mask)

    def plot_shape_model(self, frame_index: Any = "mean", bin_data: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Draw data, model and residual of the PRF, in sky and polar coordinates.

        Parameters
        ----------
        frame_index : "mean" or int
            Image whose pixels are drawn.
        bin_data : bool
            Draw medians in cells instead of single pixels.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.shape import plot_shape

        shape = self._shape
        taught = shape.pairs.select(shape.training)
        image = self._image(frame_index)
        others = shape.matrix.neighbor_light(shape.flux)
        known = shape.far_light if shape.background is None else shape.far_light + shape.background.light
        own = image.flux[taught.pixel] - others[shape.training] - known[taught.pixel]
        with np.errstate(invalid="ignore", divide="ignore"):
            data = np.log10(own / shape.flux[taught.source])
        return plot_shape(taught.dx, taught.dy, data, np.log10(shape.values[shape.training]), bin_data=bin_data)

    def plot_scene(self) -> Any:
        """Draw the mean image with the sources on it.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.scene import plot_scene

        shape: ShapeFit | None = self._stages.get("shape")
        return plot_scene(self.pixels, self.sources, offset=(0.0, 0.0) if shape is None else shape.offset)

    def plot_lightcurves(self, sources: Any = None) -> Any:
        """Draw light curves with errors.

        Parameters
        ----------
        sources : sequence of int, optional
            Which sources; the first twelve by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.lightcurve import plot_lightcurves

        fit = self._latest_flux
        chosen = np.arange(min(self.nsources, 12)) if sources is None else np.asarray(sources, int)
        return plot_lightcurves(
            self.time,
            fit.flux[:, chosen],
            fit.flux_err[:, chosen],
            labels=[self.sources.source_id[i] for i in chosen],
            flags=fit.flags[:, chosen],
            time_zero_jd=self.pixels.instrument.time_zero_jd,
        )
