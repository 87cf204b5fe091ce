"""The part of a Machine that models how the PRF changes in time."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import check_choice
from bayesprf.design.cartesian import CartesianBasis
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import DataWarning, InputError
from bayesprf.perturbation import PerturbationMatrix3D
from bayesprf.photometry.fluxes import default_prior, fit_flux
from bayesprf.prf.fit import ShapeFit
from bayesprf.reports import MachineReports
from bayesprf.scene.image import Image, reduce_image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import PerturbationOptions
from bayesprf.timemodel.diagnostics import bin_by_pointing
from bayesprf.timemodel.fit import PerturbationFit, fit_perturbation
from bayesprf.timemodel.roll import add_roll_gain
from bayesprf.timemodel.shift_fit import fit_shift, settle_light

_TIME_CORRECTORS = ("polynomial", "poscorr")
# A star with this share of its PRF on the data cannot lose or gain more than this factor by moving.
_WELL_COVERED, _WILD = 0.7, 2.0

# Options of `PerturbationOptions` that the documented arguments and settings set.
_DOCUMENTED = ("trends", "basis", "resolution", "bin_method", "positions", "pca_ncomponents", "pca_smooth_time_scale")


class FittedPerturbation(PerturbationMatrix3D):
    """The time model of a `Machine`, with the attributes of a `PerturbationMatrix3D`.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day.
    pairs : PairTable
        Pairs of the mean model: `dx` and `dy` are theirs.
    fit : PerturbationFit
        The time model.

    Notes
    -----
    `vectors`, `cartesian_matrix` and `weights` are those of the fit, the constant in time among them. `model` also
    holds the shift of the PRF where there is one, takes off the part that would change the sum of the PRF and applies
    the pixels' own mean, as the fluxes do; after a `fit` of one's own it is the plain product.
    """

    def __init__(self, time: FloatArray, pairs: PairTable, fit: PerturbationFit) -> None:
        basis = self._basis = fit.change.basis
        super().__init__(
            time,
            pairs.dx,
            pairs.dy,
            nknots=basis.n_knots,
            radius=basis.radius,
            degree=basis.degree,
            knot_spacing_type=basis.spacing,
        )
        self._operator, self.vectors = fit.bins, fit.vectors
        self.resolution = int(np.diff(fit.bins.indptr).max())
        self.cartesian_matrix = fit.change.columns(pairs.source, pairs.dx, pairs.dy)
        self._set_prior(np.arange(self.vectors.shape[1]) == 0)
        constant = np.arange(self.cartesian_matrix.shape[1]) < basis.n_column
        self.weights = np.concatenate([constant.astype(np.float64), fit.weights.ravel()])
        self._factors: FloatArray | None = fit.stack_parts(pairs)
        self._mix = fit.mix

    def fit(self, flux: Any, flux_err: Any = None, pixel_mask: Any = None) -> FloatArray:
        """Replace the coefficients by those of a plain fit: see `PerturbationMatrix3D.fit`."""
        if self._factors is not None:
            self._factors, self.cartesian_matrix = None, self._basis.columns(self.dx, self.dy)
            self._set_prior(np.arange(self.nvec) == 0)
        return super().fit(flux, flux_err, pixel_mask)

    def model(self, time_indices: Sequence[int] | IntArray | BoolArray | int | None = None) -> FloatArray:
        """Return the factor on the mean PRF, shape (n, n_pair): see `PerturbationMatrix3D.model`."""
        if self._factors is None:
            return super().model(time_indices)
        chosen = np.arange(self.ntime) if time_indices is None else np.atleast_1d(np.asarray(time_indices))
        return np.asarray(self._mix[chosen] @ self._factors)


class MachineChanges(MachineReports):
    """The time model of a Machine, under its documented names."""

    time_nknots: int
    time_resolution: int
    time_radius: float
    cartesian_knot_spacing: str
    time_corrector: str
    _learn_shape: Callable[[Image], ShapeFit]

    def build_time_model(
        self,
        plot: bool = False,  # noqa: FBT001, FBT002  (documented signature)
        bin_method: str = "bin",
        poly_order: int = 3,
        segments: bool = False,  # noqa: FBT001, FBT002
        focus: bool = False,  # noqa: FBT001, FBT002
        focus_exptime: float = 50,
        pca_ncomponents: int = 0,
        pca_smooth_time_scale: float = 0,
        positions: Any = False,  # noqa: FBT002
        other_vectors: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Learn how the PRF changes in time, by velocity aberration, focus or pointing.

        Parameters
        ----------
        plot : bool
            Return a diagnostic figure.
        bin_method : {"bin", "downsample"}
            Mean of the cadences of a bin, or one cadence of it.
        poly_order : int
            Highest power of time.
        segments : bool
            Give every stretch between gaps of more than five median steps its own time columns.
        focus : bool
            Add a decay from the start of every segment.
        focus_exptime : float
            Time after which that decay has fallen to 1/e, day.
        pca_ncomponents : int
            Add so many principal components of the pixels' time series.
        pca_smooth_time_scale : float
            Knot distance of the spline that smooths these series, day; 0 for none.
        positions : False, "poscorr" or "centroid"
            Follow the image motion, the mission's own or measured from the pixels: as time columns where it is small,
            as a shift of the PRF where its range exceeds `shift_limit` pixels (an option, 0.3 by default). Beside a
            shift, `shift_order` (0 by default) stands in for `poly_order`: the pointing holds slow drift too.
        other_vectors : array-like, shape (n_vector, n_time), optional
            Further time columns, such as cotrending basis vectors.
        **kwargs
            Other options of `PerturbationOptions`, for example `field_order`, `min_snr`, `clip_sigma`.

        Returns
        -------
        matplotlib.figure.Figure or None
            The figure if `plot`.

        Raises
        ------
        StageError
            Before `build_shape_model`.
        InputError
            If an option is unknown or out of range, the times do not increase, or position vectors are missing.

        Warns
        -----
        DataWarning
            If no pixel is fit to learn from; the PRF is then left constant. If the fitted change is larger than
            motion can explain.

        Notes
        -----
        The attributes `time_nknots`, `time_radius` and `cartesian_knot_spacing` set the position columns;
        `time_corrector`, "polynomial" or "poscorr", says which motion counts where `positions` is not given;
        `time_resolution` is the largest number of cadences per bin: short series get finer bins. Where the spacecraft
        rolls (K2) and `positions` are given, what the brightness of a star shares with the roll counts as change of
        the PRF; with a shift it counts, pixel by pixel, as light of unknown stars that moves along, and is taken off
        the data.
        """
        check_choice(self.time_corrector, _TIME_CORRECTORS, "time_corrector")
        options = PerturbationOptions(
            trends=TrendOptions(int(poly_order), bool(segments), bool(focus), float(focus_exptime)),
            basis=CartesianBasis(
                int(self.time_nknots), float(self.time_radius), spacing=str(self.cartesian_knot_spacing)
            ),
            resolution=int(self.time_resolution),
            bin_method=bin_method,
            positions=positions or (None if self.time_corrector == "polynomial" else self.time_corrector),
            pca_ncomponents=int(pca_ncomponents),
            pca_smooth_time_scale=float(pca_smooth_time_scale),
        )
        fit = self._learn_change(_replace(options, kwargs), other_vectors)
        self._warn_if_wild(fit)
        self._stages.keep("time", fit)
        return self.plot_time_model() if plot else None

    def _warn_if_wild(self, fit: PerturbationFit) -> None:
        """Warn if the light that a star puts on its pixels changes more than any motion could make it."""
        prf = self._shape.matrix
        share = prf.caught()[0]
        whole = share > _WELL_COVERED
        if fit.n_part == 1 or fit.shift is not None or not whole.any():
            return
        parts = prf.changing(fit.stack_parts(prf.pairs), fit.mix).caught()
        change = fit.mix @ (parts[:, whole] / share[whole])
        low, high = float(change.min()), float(change.max())
        if low < 1.0 / _WILD or high > _WILD:
            warnings.warn(
                f"build_time_model: a star's light on its pixels changes between {low:.2g} and {high:.2g} of its mean,"
                f" expected between {1 / _WILD:.2g} and {_WILD:g}; light curves fitted with fit_va=True are not to be"
                " trusted: take off the sky, use fewer terms, or fit without the time model",
                DataWarning,
                stacklevel=3,
            )

    def _learn_change(self, options: PerturbationOptions, other_vectors: Any) -> PerturbationFit:
        """Fit the time model to the pixels, or to what a shift of the PRF leaves of them where motion is large."""
        pixels = self._pixels_without_sky()
        shift = fit_shift(pixels, self._shape, options=options, relearn=self._shape_near)
        if shift is None:
            return self._learn_gain(pixels, self._learn_slowly(pixels, options, other_vectors), options)
        steady, light = settle_light(pixels, self._shape, shift)
        still = replace(pixels, flux=np.where(pixels.ivar > 0, steady, np.nan))
        trends = replace(options.trends, poly_order=options.shift_order)
        fix_pixels = options.fix_pixels and light is None
        options = replace(options, positions=None, trends=trends, fix_pixels=fix_pixels)
        fit = self._learn_slowly(still, options, other_vectors)
        return replace(fit, shift=shift, light=light)

    def _learn_slowly(self, pixels: PixelTable, options: PerturbationOptions, other_vectors: Any) -> PerturbationFit:
        """Fit the time columns."""
        shape = self._shape
        return fit_perturbation(
            pixels,
            shape.matrix,
            shape.flux,
            options=options,
            evaluate=shape.prf.evaluate,
            other_vectors=other_vectors,
        )

    def _learn_gain(self, pixels: PixelTable, fit: PerturbationFit, options: PerturbationOptions) -> PerturbationFit:
        """Where the spacecraft rolls, let fluxes fitted with the time model tell what they share with the roll."""
        shape, roll_hours = self._shape, pixels.instrument.roll_hours
        if roll_hours <= 0 or options.positions is None or fit.n_part == 1:
            return fit
        design = shape.matrix.changing(fit.stack_parts(shape.pairs), fit.mix).design()
        flux = fit_flux(
            pixels,
            design,
            default_prior(shape.flux, shape.image.cadence_error),
            source_flags=np.zeros(self.nsources, np.int32),
            known=shape.far_light,
        ).flux
        return add_roll_gain(fit, self.time, flux, roll_hours)

    def _shape_near(self, cadences: BoolArray) -> ShapeFit:
        """Return the shape that the mean over some cadences has, learned like the present one."""
        wanted = cadences if self.time_mask is None else cadences & np.asarray(self.time_mask)
        return self._learn_shape(reduce_image(self.pixels, "mean", wanted if wanted.any() else cadences))

    def _pixels_without_sky(self) -> PixelTable:
        """Return the pixels less the background of the mean image, if one was fitted."""
        background = self._shape.background
        return self.pixels if background is None else replace(self.pixels, flux=self.pixels.flux - background.light)

    @property
    def _time(self) -> PerturbationFit:
        fit: PerturbationFit = self._stages.need("time")
        return fit

    @property
    def P(self) -> FittedPerturbation:  # noqa: N802  (documented name)
        """The time model as a `PerturbationMatrix3D` over the pairs of `mean_model`."""
        return FittedPerturbation(self.time, self._shape.pairs, self._time)

    def perturbed_model(self, time_index: Any) -> Any:
        """Return the PRF of every source in every pixel at given cadences.

        Parameters
        ----------
        time_index : int or array-like of int
            Cadence, or several.

        Returns
        -------
        csr_matrix of float64, shape (n_source, n_pixel), or list of them
            1 / pixel; one matrix for one cadence, a list for several.

        Raises
        ------
        StageError
            Before `build_time_model`.
        InputError
            If a cadence does not exist.
        """
        chosen = np.asarray(time_index)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        if not np.issubdtype(chosen.dtype, np.integer) or np.any((chosen < -self.nt) | (chosen >= self.nt)):
            raise InputError(f"time_index: expected whole numbers from 0 to {self.nt - 1}, got {time_index!r}")
        prf = self._shape.matrix
        changing = prf.changing(self._time.stack_parts(prf.pairs), self._time.mix)
        return changing.at(int(chosen)) if chosen.ndim == 0 else [changing.at(int(one)) for one in chosen]

    def plot_time_model(self) -> Any:
        """Draw pixels in the first and the last bin, data, model and their ratio.

        Returns
        -------
        matplotlib.figure.Figure
            Bins of time; of the pointing where the time model shifts the PRF.

        Raises
        ------
        StageError
            Before `build_time_model`.
        """
        from bayesprf.plots.perturbation import plot_time_model

        fit = self._time
        if fit.shift is not None:
            bins = bin_by_pointing(self._pixels_without_sky(), self._shape, fit)
            return plot_time_model(
                bins.dx, bins.dy, bins.place, data=bins.data, model=bins.model, used=bins.used, along="pointing"
            )
        training = fit.training
        return plot_time_model(
            training.dx,
            training.dy,
            training.time,
            data=fit.data,
            model=fit.model,
            used=fit.used,
            time_zero_jd=self.pixels.instrument.time_zero_jd,
        )


def _replace(options: PerturbationOptions, changes: dict[str, Any]) -> PerturbationOptions:
    """Return the options with further ones set."""
    known = [name for name in PerturbationOptions.__dataclass_fields__ if name not in _DOCUMENTED]
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise InputError(f"kwargs: expected some of {', '.join(known)}, got {unknown[0]!r}")
    return replace(options, **changes)
