"""Machine: the documented names of PSFMachine over the stages of the package."""

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from bayesprf.changes import MachineChanges
from bayesprf.design.polar import PolarBasis
from bayesprf.errors import ConvergenceWarning, InputError
from bayesprf.instruments import GENERIC, Instrument
from bayesprf.linalg.blocks import BlockSolver
from bayesprf.photometry.background import Background, build_background, first_guess
from bayesprf.photometry.fluxes import fit_flux, flag_sources
from bayesprf.prf.fit import ShapeFit, fit_shape
from bayesprf.prf.image_fluxes import Scene
from bayesprf.samplers import MachineSampling
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import MaskOptions, ShapeOptions
from bayesprf.stages import Setting, Stages
from bayesprf.uncertainty.hyperparameters import FluxWidths

# Positions have settled when no star moves farther than this in a round, pixel.
_CONVERGED_PIX = 0.01


class Machine(MachineChanges, MachineSampling):
    """Fast PRF photometry of all sources in a stack of images, with a posterior.

    Parameters
    ----------
    time : array-like, shape (n_time,)
        Times, day.
    flux, flux_err : array-like, shape (n_time, n_pixel)
        Flux and its standard deviation in each pixel, electron / s.
    ra, dec : array-like, shape (n_pixel,)
        Sky position of each pixel, degree.
    sources : pandas.DataFrame or SourceTable
        Catalogue with columns ``ra``, ``dec`` (degree) and `sources_flux_column`.
    column, row : array-like, shape (n_pixel,)
        Detector position of each pixel.
    limit_radius : float
        Pixels farther from a star than this do not teach the PRF, arcsec.
    time_mask : array-like of bool, shape (n_time,), optional
        Cadences that enter the mean image the PRF is fitted to.
    n_r_knots, n_phi_knots : int
        Radial and azimuthal knots of the PRF.
    time_nknots, time_resolution, time_radius
        Knots in position, cadences per bin (at most) and radius (arcsec) of the time model.
    rmin, rmax : float
        Range of the PRF's radial knots, arcsec.
    cut_r : float
        Radius inside which the PRF depends on the radius only, arcsec.
    sparse_dist_lim : float
        Pixels within this distance of a source are paired with it, arcsec.
    sources_flux_column : str
        Column of `sources` used as flux estimate.
    instrument : Instrument, optional
        Saturation level and other numbers of the mission.
    background : {"stamp", "image"} or Background, optional
        Sky left in the pixels, fitted with PRF and fluxes and integrated out of their errors: a constant per cutout,
        one for all pixels, or what `Background` says. None by default: the pixels hold stars alone.
    quiet : bool
        Silence progress bars.

    Raises
    ------
    ShapeError
        If arrays disagree in shape.
    InputError
        If the catalogue is empty or lacks a column, a pixel is given twice, or an error is negative.

    Notes
    -----
    Hedges et al. (2021), with the linear algebra of Luger, Foreman-Mackey & Hogg (2017). The stages are
    `build_shape_model`, `build_time_model`, `fit_model`; each can be repeated, and gives the same bits.
    """

    limit_radius = Setting("shape")
    time_mask = Setting("shape")
    n_r_knots = Setting("shape")
    n_phi_knots = Setting("shape")
    rmin = Setting("shape")
    rmax = Setting("shape")
    cut_r = Setting("shape")
    contaminant_mag_limit = Setting("shape")
    time_nknots = Setting("time")
    time_resolution = Setting("time")
    time_radius = Setting("time")
    cartesian_knot_spacing = Setting("time")
    time_corrector = Setting("time")
    background = Setting("shape", Background.parse)

    def __init__(
        self,
        time: Any,
        flux: Any,
        flux_err: Any,
        ra: Any,
        dec: Any,
        sources: Any,
        column: Any,
        row: Any,
        limit_radius: float = 24.0,
        time_mask: Any = None,
        n_r_knots: int = 10,
        n_phi_knots: int = 15,
        time_nknots: int = 10,
        time_resolution: int = 200,
        time_radius: float = 8,
        rmin: float = 1,
        rmax: float = 16,
        cut_r: float = 6,
        sparse_dist_lim: float = 40,
        sources_flux_column: str = "phot_g_mean_flux",
        *,
        instrument: Instrument = GENERIC,
        background: Any = None,
        quiet: bool = False,
    ) -> None:
        pixels = PixelTable(time, flux, flux_err, ra, dec, column, row, instrument=instrument)
        self._start(pixels, _source_table(sources, sources_flux_column), sparse_dist_lim, quiet=quiet)
        self.sources_flux_column = sources_flux_column
        self.limit_radius, self.time_mask = limit_radius, time_mask
        self.n_r_knots, self.n_phi_knots = n_r_knots, n_phi_knots
        self.time_nknots, self.time_resolution, self.time_radius = time_nknots, time_resolution, time_radius
        self.rmin, self.rmax, self.cut_r = rmin, rmax, cut_r
        self.background = background

    @classmethod
    def from_pixels(cls, pixels: PixelTable, sources: SourceTable, **settings: Any) -> "Machine":
        """Build a Machine from tables, as `read_tpfs` and `read_catalog` return them.

        Parameters
        ----------
        pixels : PixelTable
            The stack.
        sources : SourceTable
            The catalogue.
        **settings
            Any of the constructor's settings from `limit_radius` on. Radii left out are the documented
            ones times the instrument's pixel scale over Kepler's 3.98 arcsec, but two. `cut_r` is three
            quarters of a pixel: real PRFs are lopsided closer in than the documented 1.5 pixels.
            `time_radius` is `rmax`: the wings move too.

        Returns
        -------
        Machine
        """
        machine = cls.__new__(cls)
        stretch = pixels.instrument.pixel_scale / 3.98
        stretch = 1.0 if abs(stretch - 1.0) < 0.05 else stretch
        defaults = {
            "limit_radius": 24.0 * stretch,
            "time_mask": None,
            "n_r_knots": 10,
            "n_phi_knots": 15,
            "time_nknots": 10,
            "time_resolution": 200,
            "time_radius": 16.0 * stretch,
            "rmin": 1.0 * stretch,
            "rmax": 16.0 * stretch,
            "cut_r": 3.0 * stretch,
            "background": None,
        }
        limit = settings.pop("sparse_dist_lim", 40.0 * stretch)
        machine._start(pixels, sources, limit, quiet=settings.pop("quiet", False))
        unknown = sorted(set(settings) - set(defaults))
        if unknown:
            known = ", ".join([*defaults, "sparse_dist_lim", "quiet"])
            raise InputError(f"settings: expected some of {known}, got {', '.join(unknown)}")
        for name, value in {**defaults, **settings}.items():
            setattr(machine, name, value)
        return machine

    def _start(self, pixels: PixelTable, sources: SourceTable, sparse_dist_lim: float, *, quiet: bool) -> None:
        self._stages = Stages()
        self.pixels, self.sources, self.quiet = pixels, sources, quiet
        self.sparse_dist_lim = sparse_dist_lim
        self.contaminant_mag_limit = None
        self.cartesian_knot_spacing = "sqrt"
        self.time_corrector = "polynomial"
        self.sources_flux_column: str | None = None

    @property
    def sparse_dist_lim(self) -> float:
        """Pixels within this distance of a source are paired with it, arcsec; setting it pairs anew."""
        return self._sparse_dist_lim

    @sparse_dist_lim.setter
    def sparse_dist_lim(self, limit: float) -> None:
        self._near = build_pairs(self.pixels, self.sources, limit)
        self._sparse_dist_lim = float(limit)
        self._stages.drop("shape")

    # Stages

    def build_shape_model(
        self,
        plot: bool = False,  # noqa: FBT001, FBT002  (documented signature)
        flux_cut_off: float = 1,
        frame_index: Any = "mean",
        bin_data: bool = False,  # noqa: FBT001, FBT002
        **kwargs: Any,
    ) -> Any:
        """Learn the PRF and where each source matters.

        Parameters
        ----------
        plot : bool
            Return a diagnostic figure.
        flux_cut_off : float
            Flux of a source in a pixel at which to stop evaluating its model, electron / s. Light below
            it is not fitted, but still known to the neighbours.
        frame_index : "mean" or int
            Image to fit: the mean over time, or one cadence.
        bin_data : bool
            Average the pixels in cells of radius and angle before the fit.
        **kwargs
            Options of `MaskOptions`: `upper_radius_limit`, `lower_radius_limit`, `upper_flux_limit`,
            `lower_flux_limit`, `correct_centroid_offset`; and of `ShapeOptions`.

        Returns
        -------
        matplotlib.figure.Figure or None
            The figure if `plot`.

        Raises
        ------
        InputError
            If an option is unknown or out of range, or no pixel is fit to teach the PRF.
        """
        self._shape_recipe = self._shape_options(flux_cut_off, bin_data, kwargs)
        self._stages.keep("shape", self._learn_shape(self._image(frame_index)))
        return self.plot_shape_model(frame_index, bin_data) if plot else None

    def refine_scene(self, *, n_round: int = 10, **kwargs: Any) -> None:
        """Learn PRF, fluxes and every star's own position together, on all pixels, blended ones too.

        Parameters
        ----------
        n_round : int
            Rounds of shape, positions and fluxes.
        **kwargs
            As for `build_shape_model`.

        Warns
        -----
        ConvergenceWarning
            If a star still moved by more than a hundredth of a pixel, and its own error, in the last round.

        Notes
        -----
        Alternates the fit of the PRF, whose area stays one, with a Gauss-Newton step of positions and fluxes of
        all overlapping stars; the prior width of the positions is learned from the lone stars. It replaces the
        result of `build_shape_model`; `positions` and `common_errors` hold what is left of the uncertainty.
        """
        self.build_shape_model(n_round=n_round, refine=True, **kwargs)
        moved, side = self.positions.moved, float(np.sqrt(self._shape.prf.pixel_area))
        if moved > _CONVERGED_PIX * side:
            warnings.warn(
                f"refine_scene: a star still moved by {moved:.3f} arcsec in the last of {n_round} rounds,"
                " expected less than a hundredth of a pixel; raise n_round",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _shape_options(
        self,
        flux_cut_off: float,
        bin_data: Any,
        kwargs: dict[str, Any],
    ) -> tuple[MaskOptions, ShapeOptions]:
        mask = MaskOptions(limit_radius=self.limit_radius, contaminant_mag_limit=self.contaminant_mag_limit)
        shape = ShapeOptions(flux_cut_off=flux_cut_off, bin_data=bin_data)
        for name, value in kwargs.items():
            if hasattr(mask, name):
                mask = replace(mask, **{name: value})
            elif hasattr(shape, name):
                shape = replace(shape, **{name: value})
            else:
                known = [*MaskOptions.__dataclass_fields__, *ShapeOptions.__dataclass_fields__]
                raise InputError(f"kwargs: expected some of {', '.join(known)}, got {name!r}")
        return mask, shape

    def _learn_shape(self, image: Image) -> ShapeFit:
        """Fit the PRF to an image, with the options that `build_shape_model` was called with last."""
        mask_options, options = self._shape_recipe
        return fit_shape(
            self._scene(image),
            self._basis(),
            mask_options=mask_options,
            options=options,
            progress=partial(tqdm, desc="PRF", unit="round", disable=self.quiet, leave=False),
        )

    def _basis(self) -> PolarBasis:
        return PolarBasis(self.rmin, self.rmax, self.cut_r, self.n_r_knots, self.n_phi_knots)

    def _scene(self, image: Image) -> Scene:
        scene = Scene(self.pixels, self.sources, self._near, self.sparse_dist_lim, image)
        if self.background is None:
            return scene
        columns = build_background(self.pixels, image, self.background)
        return scene.without(first_guess(columns, image))

    def fit_model(
        self,
        fit_va: bool = False,  # noqa: FBT001, FBT002  (documented signature)
        *,
        prior_mu: Any = None,
        prior_sigma: Any = None,
        widths: FluxWidths | None = None,
        robust: bool = False,
        n_threads: int | None = None,
    ) -> None:
        """Find the flux of every source at every cadence, all sources at once.

        Parameters
        ----------
        fit_va : bool
            Fit with the time model of `build_time_model` too; its results are `ws_va` and `werrs_va`.
        prior_mu, prior_sigma : array-like, shape (n_source,), or float, optional
            Mean and standard deviation of the Gaussian prior of each flux, electron / s. By default the
            flux that the catalogue and the mean image foretell, and ten times as much: the prior then
            decides nothing but blends that the data cannot tell apart.
        widths : FluxWidths, optional
            Prior and pixel errors as `learn_widths` found them; the given errors and the prior above by default.
        robust : bool
            Bear cosmic rays: pixels far from their usual misfit lose weight at that cadence (Student-t errors).
            `down_weighted` lists them, and the flag DOWN_WEIGHTED marks the fluxes. The usual misfit of each pixel
            joins `model_flux`; there is no evidence, and no leave-one-out score.
        n_threads : int, optional
            Threads over cadences; all cores by default. The answer does not depend on it.

        Raises
        ------
        StageError
            If a model that is needed has not been built.
        InputError
            If a prior is not finite, a width not above zero, or one is given beside `widths`; or if there are less
            than five cadences for a robust fit.
        NotPositiveDefiniteError
            If a flat prior leaves a source without any constraint.
        """
        shape = self._shape
        prf = shape.matrix.without(self.pixels.saturated)
        data, prior = self._prepare_fit(prior_mu, prior_sigma, widths)
        flags = flag_sources(
            shape.matrix,
            saturated=self.pixels.saturated,
            known=self.sources.has_flux,
            core=float(np.sqrt(shape.prf.pixel_area)),
        )
        designs = {"flux": prf.design()}
        if fit_va:
            designs["flux_va"] = prf.changing(self._time.stack_parts(prf.pairs), self._time.mix).design()
        for stage, design in designs.items():
            light = self._time.light if stage == "flux_va" else None
            fit = fit_flux(
                data,
                design,
                prior,
                source_flags=flags,
                known=shape.far_light,
                solver=BlockSolver(n_threads),
                robust=robust,
                names=self._coefficient_names,
                background=None if shape.background is None else shape.background.columns,
                moving_light=None if light is None else light.image(),
            )
            self._stages.keep(stage, fit)
        if widths is not None:
            self._stages.keep("widths", widths)


def _source_table(sources: Any, flux_column: str) -> SourceTable:
    from bayesprf.io.catalog import sources_from_frame

    return sources_from_frame(sources, flux_column)
