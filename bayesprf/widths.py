"""The part of a Machine that learns the widths of its flux fit from the data."""

from typing import Any

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.checks import as_float, check_shape
from bayesprf.errors import InputError
from bayesprf.flags import QualityFlag
from bayesprf.inference import MachineInference
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.photometry.fluxes import make_prior
from bayesprf.scene.image import reduce_image
from bayesprf.scene.pixels import PixelTable
from bayesprf.uncertainty.hyper_groups import make_groups
from bayesprf.uncertainty.hyper_problems import WidthData
from bayesprf.uncertainty.hyperparameters import LEARN, FluxWidths, WidthChoice, learn_flux_widths


class MachineWidths(MachineInference):
    """Prior width and zero point, noise inflation and relative model error, learned by maximising the evidence."""

    def learn_widths(
        self,
        *,
        prior_width: Any = LEARN,
        zero_point: Any = LEARN,
        variability: Any = LEARN,
        noise: Any = LEARN,
        model: Any = LEARN,
        expected: Any = None,
        prior_groups: Any = None,
        noise_groups: Any = None,
        n_cadence: int = 200,
        model_in_fit: bool = False,
    ) -> FluxWidths:
        """Learn how far the catalogue, the pixel errors and the model can be trusted; `fit_model` takes the answer.

        Parameters
        ----------
        prior_width : "learn" or float
            How far the mean flux of a star may be from what the catalogue foretells: standard deviation over the
            expected flux, or the number to fix it to.
        zero_point : "learn" or float
            Mean of the flux prior over the expected flux.
        variability : "learn" or float
            How much a star's flux changes in time: standard deviation over the expected flux; 0 for none. The prior
            at each cadence is as wide as both together.
        noise : "learn" or float
            Factor of the pixel errors.
        model : "learn" or float
            Relative error of the model in a pixel, the same at all cadences; 0 for none.
        expected : array-like, shape (n_source,), optional
            Expected fluxes, electron / s; the catalogue's times the scale that `build_shape_model` found by default.
            Where one is not a positive number, the source keeps the default prior.
        prior_groups : "flux" or array-like of labels, shape (n_source,), optional
            Sources of a group share a prior width: "flux" cuts them into up to four bins of expected flux, with at
            least 20 sources each. One group by default.
        noise_groups : "flux", "stamp" or array-like of labels, shape (n_pixel,), optional
            Pixels of a group share a factor: "flux" cuts them into up to four bins of their mean flux, "stamp" takes
            each cutout alone. One group by default.
        n_cadence : int
            Most cadences that noise and variability are learned from, spread over the series.
        model_in_fit : bool
            Add the model's error to the pixel errors of the fits that use the widths, as if it were new at every
            cadence. `flux_err` then holds it and is no longer the error from cadence to cadence; the error common to
            all cadences no longer counts it. For a single image, or to weigh models by their evidence.

        Returns
        -------
        FluxWidths
            For `fit_model(widths=...)`.

        Raises
        ------
        StageError
            Before `fit_model`, whose design this takes.
        InputError
            If an argument is out of range, or no source has both an expected flux and data.
        ShapeError
            If there is not one expected flux or label for each.

        Warns
        -----
        ConvergenceWarning
            If the evidence has no maximum.

        Notes
        -----
        Neither errors nor prior of the latest fit matter, only its design (with the time model or without), so the
        answer does not change when it has been used. Saturated stars do not teach the prior, and pixels farther off
        than five standard deviations are left out (`n_clipped`). The widths of positions, second moments and wings
        are learned by `fit_common_errors`.
        """
        fit, shape = self._latest_flux, self._shape
        choice = WidthChoice(prior_width, zero_point, variability, noise, model, n_cadence)
        flux = (
            np.where(self.sources.has_flux, self.sources.flux, np.nan) * shape.scale if expected is None else expected
        )
        flux = as_float(flux, "expected", ndim=1, unit="electron / s")
        check_shape(flux, (self.nsources,), "expected", "n_source")
        image = reduce_image(self.pixels)
        after = fit.problem.prior
        data = WidthData(
            pixels=self.pixels,
            image=image,
            design=fit.problem.design,  # type: ignore[arg-type]
            expected=flux,
            surface_prior=GaussianPrior(after.mean[self.nsources :], after.precision[self.nsources :]),
            known=shape.far_light,
            trusted=~np.any(fit.flags & QualityFlag.SATURATED, axis=0),
        )
        return learn_flux_widths(
            data,
            choice,
            sources=make_groups(prior_groups, self.nsources, "prior_groups", known={"flux": flux}),
            pixels=make_groups(
                noise_groups, self.npixels, "noise_groups", known={"flux": image.flux, "stamp": self.pixels.stamp}
            ),
            model_in_fit=model_in_fit,
        )

    @property
    def widths(self) -> FluxWidths | None:
        """Learned widths that the latest fluxes were fitted with; None for the default prior and the given errors."""
        found: FluxWidths | None = self._stages.get("widths")
        return found

    def _prepare_fit(
        self, prior_mu: Any, prior_sigma: Any, widths: FluxWidths | None
    ) -> tuple[PixelTable, GaussianPrior]:
        """Return the pixels with the errors of a fit, and the prior of its fluxes."""
        shape = self._shape
        if widths is None:
            expected, noise = self.sources.flux * shape.scale, shape.image.cadence_error
            return self.pixels, make_prior(expected, noise, prior_mu=prior_mu, prior_sigma=prior_sigma)
        if not isinstance(widths, FluxWidths):
            raise InputError(f"widths: expected what learn_widths() returns, got {type(widths).__name__}")
        if prior_mu is not None or prior_sigma is not None:
            raise InputError(
                "prior_mu, prior_sigma: expected neither beside widths, which hold a prior; give one of them"
            )
        check_shape(widths.prior.mean, (self.nsources,), "widths", "n_source, as the sources they are used on")
        return widths.rescale(self.pixels), widths.prior

    def _mean_ivar(self) -> FloatArray:
        """Return the inverse variance of each pixel in the latest fit, mean over time, shape (n_pixel,)."""
        used = self.pixels if self.widths is None else self.widths.rescale(self.pixels)
        return np.asarray(used.ivar.mean(axis=0))
