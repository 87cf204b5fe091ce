"""The part of a Machine that says how far fluxes may be wrong at all cadences alike."""

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray
from bayesprf.prf.fit import ShapeFit
from bayesprf.prf.positions import PositionFit, fit_place_errors
from bayesprf.prf.splines import Training
from bayesprf.prf.star_residuals import StarMoments, measure_stars
from bayesprf.uncertainty.systematics import CommonErrors, NuisanceWidths, fit_common_errors, fit_wing_error
from bayesprf.widths import MachineWidths


class MachineErrors(MachineWidths):
    """Errors common to all cadences, and the total errors they make."""

    def fit_common_errors(
        self,
        *,
        position: Any = None,
        moments: float | None = None,
        model: float | None = None,
        tail: float | None = None,
        others: float | None = None,
    ) -> CommonErrors:
        """Carry the errors of PRF, wing, positions and second moments into the fluxes.

        Parameters
        ----------
        position : float or array-like of shape (n_source,), optional
            Standard deviation of a star's position per axis, arcsec; learned from the lone stars, or what
            `refine_scene` left of it, by default.
        moments : float, optional
            Standard deviation of a star's size (ratio) and shear; learned from the lone stars by default.
        model : float, optional
            Relative error of the model at the centre of the PRF, dex; learned from the residuals by default, and 0 if
            the fit has it among the errors of its pixels (`learn_widths(model_in_fit=True)`).
        tail : float, optional
            Standard deviation of the wing's slope; by default that of its fit, which counts star by star.
        others : float, optional
            Error of the slope of other stars' wings towards a star; learned from the pixels they dominate by default.

        Returns
        -------
        CommonErrors

        Raises
        ------
        StageError
            If no fluxes have been fitted.
        """
        shape, fit = self._shape, self._latest_flux
        stars = self._star_moments()
        refined = np.isfinite(shape.positions.moved)
        places = self._place_errors() if position is None and refined else None
        if position is None:
            position = shape.positions.std.mean(axis=1) if refined else stars.width("east", "north")
        widths = NuisanceWidths(
            position=np.broadcast_to(np.asarray(position, np.float64), (self.nsources,)),
            moments=stars.width("size", "stretch", "skew") if moments is None else moments,
            model=self._model_scatter() * stars.excess[0] if model is None else model,
            tail=shape.tail_err if tail is None else tail,
            others=fit_wing_error(shape) if others is None else others,
            places=places,
        )
        errors = self._carry_errors(mean_over_time(fit.flux), widths)
        self._stages.keep("common", errors)
        return errors

    def _carry_errors(self, flux: FloatArray, widths: NuisanceWidths) -> CommonErrors:
        """Carry nuisances into the fluxes of stars that are as bright as given, electron / s."""
        shape = self._shape
        usable = ~self.pixels.saturated[shape.pairs.pixel]
        return fit_common_errors(
            shape,
            shape.pairs.select(usable),
            shape.values[usable],
            flux=flux,
            ivar=self._mean_ivar(),
            prior=self._latest_flux.prior,
            widths=widths,
        )

    @property
    def common_errors(self) -> CommonErrors:
        """Errors common to all cadences, with learned widths unless `fit_common_errors` was given some."""
        found: CommonErrors | None = self._stages.get("common")
        return self.fit_common_errors() if found is None else found

    @property
    def werrs_total(self) -> FloatArray:
        """Total standard deviation of the latest fluxes, shape (n_time, n_source), electron / s."""
        return np.hypot(self._latest_flux.flux_err, self.common_errors.std)

    @property
    def positions(self) -> PositionFit:
        """How far each star lies from its catalogue position after the common offset, as `refine_scene` found."""
        return self._shape.positions

    def _model_scatter(self) -> float:
        counted = self.widths is not None and self.widths.model_in_fit
        return 0.0 if counted else self._shape.intrinsic_scatter

    def _place_errors(self) -> csr_matrix:
        """Return how the refined positions may err together."""
        shape = self._shape
        return fit_place_errors(
            shape.matrix.without(self.pixels.saturated),
            (shape.prf, shape.intrinsic_scatter),
            flux=np.nan_to_num(shape.flux),
            image=shape.image,
            shift=shape.positions.shift,
        )

    def _star_moments(self) -> StarMoments:
        shape: ShapeFit = self._shape
        chosen, pixel = shape.training, shape.pairs.pixel[shape.training]
        source = shape.pairs.source[chosen]
        training = Training(
            source=source,
            dx=shape.pairs.dx[chosen],
            dy=shape.pairs.dy[chosen],
            y=shape.image.flux[pixel] - shape.matrix.neighbor_light(shape.flux)[chosen] - shape.far_light[pixel],
            var=1.0 / shape.image.ivar[pixel],
            flux=shape.flux[source],
        )
        return measure_stars(shape.prf, training, shape.intrinsic_scatter)


def mean_over_time(flux: FloatArray) -> FloatArray:
    """Return the mean of the finite fluxes of each source, 0 without any.

    Parameters
    ----------
    flux : ndarray of float64, shape (n_time, n_source)
        electron / s; NaN is left out.

    Returns
    -------
    ndarray of float64, shape (n_source,)
    """
    good = np.isfinite(flux)
    total = np.where(good, flux, 0.0).sum(axis=0)
    return np.divide(total, good.sum(axis=0), out=np.zeros_like(total), where=good.any(axis=0))
