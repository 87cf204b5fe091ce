"""Machine: the documented names of PSFMachine over one Fit."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from bayesprf.arrays import BoolArray, FloatArray, IntArray, NamedDict, shape_of
from bayesprf.attributes import Result, Setting
from bayesprf.checks import check_absent, checked_methods, make_generator
from bayesprf.design.trends import TrendOptions
from bayesprf.fit_record import Fit, describe_fit
from bayesprf.hypotheses.event_depth import EventDepth
from bayesprf.hypotheses.event_host import EventHost
from bayesprf.hypotheses.event_position import EventPosition
from bayesprf.hypotheses.missing_stars import MissingStars
from bayesprf.hypotheses.questions import DEPTH_SIGMA, find_host, measure_depth, score_fit, weigh_second_star
from bayesprf.hypotheses.scores import ModelScore
from bayesprf.hypotheses.second_star import BlendTest
from bayesprf.hypotheses.sky_questions import find_event_position, find_missing_stars
from bayesprf.instruments import GENERIC, Instrument
from bayesprf.linalg.hyperparameters import LEARN
from bayesprf.perturbation import fitted_perturbation
from bayesprf.photometry.processes import MAX_GROUP, LightCurves
from bayesprf.photometry.robust import DownWeighted
from bayesprf.photometry.stage import (
    choose_apertures,
    choose_percentile,
    fit_fluxes,
    fit_processes,
    measure_prf,
    sum_apertures,
)
from bayesprf.prf.prior import tabulate
from bayesprf.prf.stage import fit_chosen_prf, warn_if_left_out
from bayesprf.quality.record import Verdict
from bayesprf.quality.stage import judge_fit, quality_flags, with_verdict
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG
from bayesprf.settings import MISSION_PRF, Background, FluxRecipe, PrfRecipe, QualityOptions, Settings, TimeRecipe
from bayesprf.simulation.injection import Injected, NewStars, inject_stars
from bayesprf.simulation.settings import Transit
from bayesprf.timemodel.stage import fit_time_model, perturbed_prf, time_options
from bayesprf.uncertainty.hyperparameters import FluxWidths, WidthChoice
from bayesprf.uncertainty.questions import flux_covariance
from bayesprf.uncertainty.stage import (
    check_widths,
    fit_systematics,
    learn_hyperparameters,
    total_errors,
    with_systematics,
)
from bayesprf.uncertainty.systematics import CommonErrors

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr
    from lightkurve import LightCurve
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from scipy.sparse import csr_matrix

    from bayesprf.report.page import Report


@checked_methods
class Machine:
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
        Pixels farther from a star than this do not train the PRF, arcsec.
    time_mask : array-like of bool, shape (n_time,), optional
        Cadences that enter the mean image the PRF is fitted to.
    n_r_knots, n_phi_knots : int
        Radial and azimuthal knots of the PRF. Where these, `rmin`, `rmax` and `cut_r` are all as documented, or as
        `from_pixels` has them, the fit takes its own: see `bayesprf.settings.Settings`.
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

    See Also
    --------
    fit : All stages in one call, from files and a catalogue.
    load : Take a saved fit up again.

    Notes
    -----
    Hedges et al. (2021), with the linear algebra of Luger, Foreman-Mackey & Hogg (2017). The stages are
    `build_shape_model`, `build_time_model`, `fit_model`; each can be repeated, and gives the same bits.

    Examples
    --------
    The examples of all methods go on from this fit:

    >>> import bayesprf as bp
    >>> from bayesprf import datasets
    >>> data = datasets.load("kepler-field")
    >>> pixels, sources = bp.read_tpfs(data.files), bp.read_catalog(data.catalog)
    >>> machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
    >>> machine.build_shape_model()
    >>> machine.fit_model()
    >>> machine.ws.shape
    (250, 12)
    """

    fit: Fit
    quiet: bool

    # Settings

    limit_radius = Setting[float]("Pixels farther from a star than this are no training pixels of the PRF, arcsec.")
    time_mask = Setting[BoolArray | None]("Cadences that enter the mean image the PRF is fitted to, shape (n_time,).")
    n_r_knots = Setting[int]("Radial knots of the PRF.")
    n_phi_knots = Setting[int]("Azimuthal knots of the PRF.")
    time_nknots = Setting[int]("Knots of the time model on each axis of position.")
    time_resolution = Setting[int]("Largest number of cadences per bin of the time model.")
    time_radius = Setting[float]("Half side of the square that the time model's knots cover, arcsec.")
    rmin = Setting[float]("Innermost radial knot of the PRF, arcsec.")
    rmax = Setting[float]("Outermost radial knot of the PRF, arcsec.")
    cut_r = Setting[float]("Radius inside which the PRF depends on the radius only, arcsec.")
    sparse_dist_lim = Setting[float]("Pixels within this distance of a source are paired with it, arcsec.")
    sources_flux_column = Setting[str | None]("Column of the catalogue that gave the expected fluxes.")
    contaminant_mag_limit = Setting[float | None]("Fainter sources do not count as contaminants, magnitude.")
    cartesian_knot_spacing = Setting[str]('Spacing of the time model\'s knots in position, "sqrt" or "linear".')
    time_corrector = Setting[str]('Motion the time model follows by default, "polynomial" (none) or "poscorr".')
    background = Setting[Background | None]("Residual background that is fitted along, if any.")

    # Data

    pixels = Result("data", lambda fit: fit.pixels, "The stack of pixels, as a PixelTable.")
    sources = Result("data", lambda fit: fit.sources, "The catalogue, as a SourceTable.")
    nsources = Result("data", lambda fit: fit.sources.n_source, "Number of sources.")
    nt = Result("data", lambda fit: fit.pixels.n_time, "Number of cadences.")
    npixels = Result("data", lambda fit: fit.pixels.n_pixel, "Number of pixels.")
    time = Result("data", lambda fit: fit.pixels.time, "Times, shape (n_time,), day.")
    flux = Result("data", lambda fit: fit.pixels.flux, "Pixel fluxes, shape (n_time, n_pixel), electron / s.")
    flux_err = Result("data", lambda fit: fit.pixels.flux_err, "Pixel errors, shape (n_time, n_pixel), electron / s.")
    ra = Result("data", lambda fit: fit.pixels.ra_deg, "Right ascension of each pixel, shape (n_pixel,), degree.")
    dec = Result("data", lambda fit: fit.pixels.dec_deg, "Declination of each pixel, shape (n_pixel,), degree.")
    column = Result("data", lambda fit: fit.pixels.column, "Detector column of each pixel, shape (n_pixel,).")
    row = Result("data", lambda fit: fit.pixels.row, "Detector row of each pixel, shape (n_pixel,).")
    source_flux_estimates = Result(
        "data",
        lambda fit: fit.sources.flux,
        "First estimate of each source's flux, shape (n_source,): the catalogue's, never overwritten.",
    )

    # Geometry

    dra = Result(
        "data",
        lambda fit: fit.pairs.to_sparse(fit.shifted_pairs.dx / ARCSEC_PER_DEG),
        "Offset of pixels from sources towards east (true angle), sparse (n_source, n_pixel), degree.",
    )
    ddec = Result(
        "data",
        lambda fit: fit.pairs.to_sparse(fit.shifted_pairs.dy / ARCSEC_PER_DEG),
        "Offset of pixels from sources towards north, sparse (n_source, n_pixel), degree.",
    )
    r = Result(
        "data",
        lambda fit: fit.pairs.to_sparse(fit.shifted_pairs.r),
        "Distance of pixels from sources, sparse (n_source, n_pixel), arcsec.",
    )
    phi = Result(
        "data",
        lambda fit: fit.pairs.to_sparse(fit.shifted_pairs.phi),
        "Angle of pixels around sources, sparse (n_source, n_pixel), radian.",
    )

    # PRF

    source_mask = Result(
        "prf",
        lambda prf: prf.pairs.to_sparse(np.ones(prf.pairs.n_pair, bool)),
        "Pixels in which a source is modelled, sparse bool (n_source, n_pixel).",
    )
    uncontaminated_source_mask = Result(
        "prf",
        lambda prf: prf.training_pairs.to_sparse(np.ones(prf.training_pairs.n_pair, bool)),
        "Training pixels of each source, sparse bool (n_source, n_pixel).",
    )
    mean_model = Result(
        "prf",
        lambda prf: prf.pairs.to_sparse(prf.values),
        "PRF value of each source in each pixel, sparse (n_source, n_pixel), 1 / pixel.",
    )
    radius = Result(
        "prf", lambda prf: prf.radius, "Radius of each source as its flux alone predicts it, shape (n_source,), arcsec."
    )
    psf_w = Result("prf", lambda prf: prf.prf.weights, "Weights of log10 PRF, shape (n_basis,), dex.")
    psf_w_err = Result(
        "prf",
        lambda prf: np.sqrt(np.diag(prf.weights_cov)),
        "Standard deviation of `psf_w`, shape (n_basis,), dex.",
    )
    centroid_offset = Result(
        "prf",
        lambda prf: prf.offset,
        "How far the stars lie from their catalogue positions, east and north, arcsec.",
    )
    positions = Result(
        "prf",
        lambda prf: prf.positions,
        "How far each star lies from its catalogue position after the common offset, as `refine_scene` found.",
    )

    # Time model

    P = Result(
        "data",
        lambda fit: fitted_perturbation(fit.pixels.time, fit.need("prf").pairs, fit.need("time_model")),
        "The time model as a `PerturbationMatrix3D` over the pairs of `mean_model`.",
        set_by="time_model",
    )

    # Fluxes

    ws = Result("flux", lambda flux: flux.flux, "Flux of each source, shape (n_time, n_source), electron / s.")
    werrs = Result(
        "flux",
        lambda flux: flux.flux_err,
        "Cadence-to-cadence standard deviation of `ws`, shape (n_time, n_source), electron / s.",
    )
    ws_va = Result(
        "flux_va", lambda flux: flux.flux, "Flux with the time model, shape (n_time, n_source), electron / s."
    )
    werrs_va = Result(
        "flux_va",
        lambda flux: flux.flux_err,
        "Cadence-to-cadence standard deviation of `ws_va`, shape (n_time, n_source), electron / s.",
    )
    model_flux = Result(
        "latest",
        lambda flux: flux.model(),
        "Model of every pixel, shape (n_time, n_pixel), electron / s; no fitted light in saturated pixels.",
    )
    down_weighted = Result(
        "latest",
        lambda flux: flux.down_weighted or DownWeighted.empty(),
        "Outliers of a robust fit (`cadence`, `pixel`, `weight`); none after a plain one.",
    )
    widths = Result(
        "data",
        lambda fit: fit.hyperparameters,
        "Learned widths that the latest fluxes were fitted with; None for the default prior and the given errors.",
        set_by="hyperparameters",
    )
    background_w = Result(
        "latest",
        lambda flux: flux.background_w,
        "Coefficients of the background (see `Background`), shape (n_time, n_column), electron / s.",
    )
    background_w_err = Result(
        "latest",
        lambda flux: flux.background_w_err,
        "Cadence-to-cadence standard deviation of `background_w`, shape (n_time, n_column), electron / s.",
    )
    background_flux = Result(
        "latest",
        lambda flux: flux.background_flux(),
        "Background of every pixel, shape (n_time, n_pixel), electron / s; zero if none is fitted.",
    )

    # Apertures and metrics

    aperture_mask = Result(
        "apertures", lambda chosen: chosen.matrix, "Pixels of each aperture, sparse bool (n_source, n_pixel)."
    )
    FLFRCSAP = Result(
        "apertures",
        lambda chosen: chosen.completeness,
        "Completeness: fraction of each source's light inside its aperture, shape (n_source,).",
    )
    CROWDSAP = Result(
        "apertures",
        lambda chosen: chosen.crowding,
        "Crowding: the source's share of the light inside its aperture, shape (n_source,).",
    )
    sap_flux = Result(
        "aperture_photometry",
        lambda sums: sums.flux,
        "Sum over each aperture, shape (n_time, n_source), electron / s; NaN where a pixel has no data.",
    )
    sap_flux_err = Result(
        "aperture_photometry",
        lambda sums: sums.flux_err,
        "Standard deviation of `sap_flux`, shape (n_time, n_source), electron / s.",
    )
    optimal_percentile = Result(
        "optimal_percentile",
        lambda percentile: percentile,
        "Percentile of each source's optimal isophote, shape (n_source,); NaN without pixels.",
    )
    source_psf_fraction = Result(
        "metrics",
        lambda metrics: metrics.psf_fraction,
        "Fraction of each source's PRF that falls on the data, shape (n_source,).",
    )
    perturbed_ratio_mean = Result(
        "metrics",
        lambda metrics: metrics.ratio_mean,
        "Mean over time of the perturbed PRF's sum over the mean PRF's, shape (n_source,).",
    )
    perturbed_std = Result(
        "metrics",
        lambda metrics: metrics.ratio_std,
        "Standard deviation over time of the perturbed PRF's sum, shape (n_source,).",
    )

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
        time_mask: BoolArray | None = None,
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
        background: object = None,
        quiet: bool = False,
    ) -> None:
        from bayesprf.io.catalogs.catalog import sources_from_frame

        settings = Settings(
            limit_radius, time_mask, n_r_knots, n_phi_knots, time_nknots, time_resolution, time_radius, rmin, rmax,
            cut_r, sparse_dist_lim, sources_flux_column, background=Background.parse(background),
        )  # fmt: skip
        pixels = PixelTable(time, flux, flux_err, ra, dec, column, row, instrument=instrument)
        self.fit = Fit.of(pixels, sources_from_frame(sources, sources_flux_column, pixels=pixels), settings)
        self.quiet = quiet

    @classmethod
    def from_pixels(cls, pixels: PixelTable, sources: object, *, quiet: bool = False, **settings: object) -> "Machine":
        """Build a Machine from tables, as `read_tpfs` and `read_catalog` return them.

        Parameters
        ----------
        pixels : PixelTable
            The stack.
        sources : SourceTable, path-like, pandas.DataFrame, astropy.table.Table, "targets", "detect" or "gaia"
            The catalogue, moved to the epoch of the data; or the stars that the headers name, those that the mean
            image shows, or those of Gaia's archive.
        **settings
            Any of the constructor's settings from `limit_radius` on. Radii left out are the documented
            ones times the instrument's pixel scale over Kepler's 3.98 arcsec, but two. `cut_r` is three
            quarters of a pixel: real PRFs are asymmetric closer in than the documented 1.5 pixels.
            `time_radius` is `rmax`: the wings move too.

        Returns
        -------
        Machine

        See Also
        --------
        bayesprf.fit : Read files and catalogue, and run every stage.
        bayesprf.read_tpfs, bayesprf.read_image : Read pixels.
        bayesprf.read_catalog : Read a catalogue.

        Examples
        --------
        >>> machine = bp.Machine.from_pixels(pixels, sources, rmax=16.0, quiet=True)
        >>> machine.nsources, machine.rmax
        (12, 16.0)
        """
        from bayesprf.io.catalogs.sources import as_sources

        given = Settings.for_instrument(pixels.instrument, **settings)
        return cls.from_fit(Fit.of(pixels, as_sources(sources, pixels), given), quiet=quiet)

    @classmethod
    def from_fit(cls, fit: Fit, *, quiet: bool = False) -> "Machine":
        """Put the documented names over a Fit.

        Parameters
        ----------
        fit : Fit
            Data, settings and results so far.
        quiet : bool
            Silence progress bars.

        Returns
        -------
        Machine

        See Also
        --------
        from_pixels : Begin with pixels and a catalogue.

        Examples
        --------
        Two Machines over one record of results go different ways from there:

        >>> twin = bp.Machine.from_fit(machine.fit, quiet=True)
        >>> twin.fit_model(prior_sigma=1e6)
        >>> machine.fit is twin.fit
        False
        """
        machine = cls.__new__(cls)
        machine.fit, machine.quiet = fit, quiet
        return machine

    @property
    def _say(self) -> Callable[[str], None] | None:
        return None if self.quiet else partial(tqdm.write, file=sys.stderr)

    # Stages

    def build_shape_model(
        self,
        plot: bool = False,  # noqa: FBT001, FBT002  (documented signature)
        flux_cut_off: float = 1,
        frame_index: object = "mean",
        bin_data: bool = False,  # noqa: FBT001, FBT002
        **kwargs: object,
    ) -> "Figure | None":
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
            Fit faster, and approximately: the surroundings of the brightest stars decide the PRF.
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
            If an option is unknown or out of range, no pixel is fit to train the PRF, or for ``prf="mission"`` the
            pixels do not tell their detector.
        FileError
            If the mission's PRF files are neither kept nor to be had.

        See Also
        --------
        refine_scene : Fit every star's own position too.
        plot_shape_model : Look at data, model and residuals.
        save_prf : Keep the PRF for other files.

        Examples
        --------
        >>> machine.build_shape_model()
        >>> machine.psf_w.shape == machine.psf_w_err.shape
        True
        """
        from bayesprf.io.prf_files import fetch_prf_tables

        recipe = PrfRecipe.from_settings(self.fit.settings, frame_index=frame_index)
        recipe = recipe.updated(flux_cut_off=flux_cut_off, bin_data=bin_data).updated(**kwargs)
        if recipe.shape.prf == MISSION_PRF:
            recipe = recipe.updated(prf=str(fetch_prf_tables(self.fit.pixels)))
        with tqdm(total=1, desc="PRF", unit="fit", disable=self.quiet, leave=False):
            found, recipe = fit_chosen_prf(self.fit, recipe)
        self.fit = self.fit.with_stage("prf", found, prf_recipe=recipe)
        warn_if_left_out(self.fit)
        return self.plot_shape_model(frame_index, bin_data) if plot else None

    def refine_scene(self, **kwargs: object) -> None:
        """Learn PRF, fluxes and every star's own position together, on all pixels, blended ones too.

        Parameters
        ----------
        **kwargs
            As for `build_shape_model`.

        Warns
        -----
        ConvergenceWarning
            If fluxes, wings or positions still moved in the last step.

        See Also
        --------
        build_shape_model : Positions are fitted, or held with ``refine=False``.
        fit_common_errors : What errors of positions do to the fluxes.

        Notes
        -----
        The fit of `build_shape_model`, which frees the positions by default too. It replaces the result of that;
        `positions` and `common_errors` hold what is left of the uncertainty.

        Examples
        --------
        >>> machine.refine_scene()
        >>> machine.fit_model()
        >>> machine.ws.shape
        (250, 12)
        """
        check_absent(kwargs, "refine", "refine_scene refines always")
        given: NamedDict = kwargs
        self.build_shape_model(refine=True, **given)

    def inject(
        self,
        ra_deg: object,
        dec_deg: object,
        flux: object,
        *,
        transits: Sequence[Transit] = (),
        random_seed: object = None,
    ) -> Injected:
        """Put stars of known flux into the pixels, with the PRF that the other stars have shown.

        Parameters
        ----------
        ra_deg, dec_deg : float or array-like, shape (n_star,)
            Catalogue positions of the further stars, degree; beside a star of the catalogue for a blend.
        flux : float or array-like, shape (n_star,)
            Their fluxes, electron / s.
        transits : sequence of bayesprf.simulation.settings.Transit
            Their dips; `source` counts the stars given here.
        random_seed : int, sequence of int or numpy.random.Generator, optional
            Seed of the photon noise that their light adds.

        Returns
        -------
        bayesprf.simulation.injection.Injected
            New pixels and catalogue, for another Machine, and the true fluxes; this Machine stays as it is.

        Raises
        ------
        StageError
            If no PRF has been fitted.
        InputError
            If a flux is not above 0, or a transit belongs to none of the stars.

        See Also
        --------
        find_missing : Find the stars again, without a catalogue.
        event_depth : Measure the dips that were put in.

        Notes
        -----
        The PRF is that of the middle of the field, the same at all cadences, and the stars share the common offset
        between catalogue and pixels.

        Examples
        --------
        >>> found = machine.inject(290.0, 44.5, 1000.0, random_seed=1)
        >>> found.sources.source_id[found.source[0]]
        'injected-0'
        """
        prf, stars = self.fit.need("prf"), NewStars(ra_deg, dec_deg, flux, transits)  # type: ignore[arg-type]
        rng = make_generator(random_seed)
        return inject_stars(self.pixels, self.sources, prf.prf, stars, offset=prf.offset, scale=prf.scale, rng=rng)

    def save_prf(self, path: str | Path) -> None:
        """Write the fitted PRF and its errors to a file, as a prior for other data of the same instrument.

        Parameters
        ----------
        path : str or Path
            An ``.npz`` file, to be given as ``build_shape_model(method="joint", prf=path)``.

        Raises
        ------
        StageError
            If no PRF has been fitted.

        See Also
        --------
        build_shape_model : Takes the file as a prior: ``method="joint", prf=path``.

        Notes
        -----
        Nine draws from the posterior, at nine places of the field where the PRF varies, as tables in detector pixels.

        Examples
        --------
        >>> machine.save_prf("prf.npz")
        """
        tabulate(self.fit.need("prf"), pixel_axes(self.pixels), np.random.default_rng(0)).save(path)

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
        positions: object = False,  # noqa: FBT002
        other_vectors: object = None,
        **kwargs: object,
    ) -> "Figure | None":
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
            shift, `shift_order` (0 by default) replaces `poly_order`: the pointing already contains slow drift. By
            default time columns, and where the measured motion exceeds `shift_limit`, beside a PRF that was fitted
            jointly or where the spacecraft rolls, a shift too: the one that leaves less of the pixels' change is kept.
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

        See Also
        --------
        fit_model : ``fit_model(fit_va=True)`` fits with the time model.
        plot_time_model : Look at data and model.

        Notes
        -----
        The attributes `time_nknots`, `time_radius` and `cartesian_knot_spacing` set the position columns;
        `time_corrector`, "polynomial" or "poscorr", says which motion counts where `positions` is not given;
        `time_resolution` is the largest number of cadences per bin: short series get finer bins. Where the spacecraft
        rolls (K2) and `positions` are given, what the brightness of a star shares with the roll counts as change of
        the PRF; with a shift it counts, pixel by pixel, as light of unknown stars that moves along, and is
        subtracted from the data.

        Examples
        --------
        >>> machine.build_time_model()
        >>> machine.fit_model(fit_va=True)
        >>> machine.ws_va.shape
        (250, 12)
        """
        trends = TrendOptions(poly_order, segments, focus, focus_exptime)
        options = time_options(
            self.fit.settings, trends, positions=positions, further=kwargs, bin_method=bin_method,
            pca_ncomponents=pca_ncomponents, pca_smooth_time_scale=pca_smooth_time_scale,
        )  # fmt: skip
        recipe = TimeRecipe(options, other_vectors)
        found = fit_time_model(self.fit, recipe)
        self.fit = self.fit.with_stage("time_model", found, time_recipe=recipe)
        return self.plot_time_model() if plot else None

    def fit_model(
        self,
        fit_va: bool = False,  # noqa: FBT001, FBT002  (documented signature)
        *,
        prior_mu: object = None,
        prior_sigma: object = None,
        widths: FluxWidths | None = None,
        robust: bool = False,
        pixel_errors: str = "model",
        follow_jitter: bool | None = None,
        n_threads: int | None = None,
    ) -> None:
        """Find the flux of every source at every cadence, all sources at once.

        Parameters
        ----------
        fit_va : bool
            Fit with the time model of `build_time_model` too; its results are `ws_va` and `werrs_va`.
        prior_mu, prior_sigma : array-like, shape (n_source,), or float, optional
            Mean and standard deviation of the Gaussian prior of each flux, electron / s. By default the
            prior mean is the flux predicted from catalogue and mean image, and its width ten times that, so it
            matters only for unresolved blends.
        widths : FluxWidths, optional
            Prior and pixel errors as `learn_widths` found them; the given errors and the prior above by default.
        robust : bool
            Down-weight cosmic rays: pixels far from their usual misfit lose weight at that cadence (Student-t errors).
            `down_weighted` lists them, and the flag DOWN_WEIGHTED marks the fluxes. The usual misfit of each pixel
            joins `model_flux`; there is no evidence, and no leave-one-out score.
        pixel_errors : {"model", "time-mean", "given"}
            What the pixels are weighed by: the variance that modelled counts, read noise and sky make; the given
            variances averaged over time; or the given errors, as PSFMachine has it, which follow the noise and every
            misfit where they were made from the measured counts. Quoted errors are honest for each; where the given
            errors are constant in time, all three are the same.
        follow_jitter : bool, optional
            Whether fluxes with the constant PRF follow the jitter that all stars share from cadence to cadence, as
            far as the pixels tell of one; its error is in `werrs`. By default unless `pixel_errors` is "given" or the
            spacecraft rolls, as K2 does, whose stars move apart.
        n_threads : int, optional
            Threads over cadences; all cores by default. The answer does not depend on it.

        Raises
        ------
        StageError
            If a model that is needed has not been built.
        InputError
            If a prior is not finite, a width not above zero, or one is given beside `widths`; if `pixel_errors` is
            unknown; or if there are less than five cadences for a robust fit.
        NotPositiveDefiniteError
            If a flat prior leaves a source without any constraint.

        See Also
        --------
        learn_widths : Learn the prior and the noise from the data.
        covariance, posterior : How the fluxes depend on each other.

        Examples
        --------
        >>> machine.fit_model()
        >>> bool((machine.werrs_total >= machine.werrs).all())
        True
        """
        recipe = FluxRecipe(fit_va, prior_mu, prior_sigma, robust, pixel_errors, follow_jitter)
        check_widths(widths, recipe, self.nsources)
        free = self.fit.without("flux")  # so that the earlier fluxes are freed when the new ones replace them
        for stage, flux in fit_fluxes(free, recipe, widths=widths, n_threads=n_threads):
            self.fit = self.fit.with_stage(stage, flux, flux_recipe=recipe)
        if widths is not None:
            self.fit = self.fit.with_stage("hyperparameters", widths)

    def learn_widths(
        self,
        *,
        prior_width: object = LEARN,
        zero_point: object = LEARN,
        variability: object = LEARN,
        noise: object = LEARN,
        model: object = LEARN,
        expected: object = None,
        prior_groups: object = None,
        noise_groups: object = None,
        n_cadence: int = 200,
        model_in_fit: bool = False,
    ) -> FluxWidths:
        """Learn how far the catalogue, the pixel errors and the model can be trusted; `fit_model` takes the answer.

        Parameters
        ----------
        prior_width : "learn" or float
            How far the mean flux of a star may be from what the catalogue predicts: standard deviation over the
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
            If the evidence has no maximum; a prior width is then held at the widest as likely as zero, without error.

        See Also
        --------
        fit_model : Takes the widths.
        sample : Samples hyperparameters instead.

        Notes
        -----
        Neither errors nor prior of the latest fit matter, only its design (with the time model or without), so the
        answer does not change when it has been used. Saturated stars do not train the prior, and pixels farther off
        than five standard deviations are left out (`n_clipped`). The widths of positions, second moments and wings
        are learned by `fit_common_errors`.

        Examples
        --------
        >>> widths = machine.learn_widths(n_cadence=20)
        >>> machine.fit_model(widths=widths)
        """
        choice = WidthChoice(prior_width, zero_point, variability, noise, model, n_cadence)
        return learn_hyperparameters(
            self.fit,
            choice,
            expected=expected,
            prior_groups=prior_groups,
            noise_groups=noise_groups,
            model_in_fit=model_in_fit,
        )

    # Systematic errors

    def fit_common_errors(
        self,
        *,
        position: object = None,
        moments: float | None = None,
        model: float | None = None,
        tail: float | None = None,
        others: float | None = None,
    ) -> CommonErrors:
        """Carry the errors of PRF, wing, positions and second moments into the fluxes.

        Parameters
        ----------
        position : float or array-like of shape (n_source,), optional
            Standard deviation of a star's position per axis, arcsec; learned from the isolated stars, or what
            `refine_scene` left of it, by default.
        moments : float, optional
            Standard deviation of a star's size (ratio) and shear; learned from the isolated stars by default.
        model : float, optional
            Relative error of the model at the centre of the PRF, dex; learned from the residuals by default, and 0 if
            the fit has it among the errors of its pixels (`learn_widths(model_in_fit=True)`).
        tail : float, optional
            Standard deviation of the wing's slope; by default that of its fit, which counts star by star.
        others : float, optional
            Error of the slope of other stars' wings towards a star; learned from the pixels they dominate by default.

        A joint fit knows its own errors of positions, shape and wings; what is given replaces them or comes beside.

        Returns
        -------
        CommonErrors

        Raises
        ------
        StageError
            If no fluxes have been fitted.

        See Also
        --------
        learn_widths : Learn the widths of prior and noise.

        Examples
        --------
        Positions are good to 0.05 arcsec:

        >>> errors = machine.fit_common_errors(position=0.05)
        >>> errors.std.shape
        (12,)
        """
        errors = fit_systematics(self.fit, position=position, moments=moments, model=model, tail=tail, others=others)
        self.fit = self.fit.with_stage("systematics", errors)
        return errors

    @property
    def common_errors(self) -> CommonErrors:
        """Errors common to all cadences, with learned widths unless `fit_common_errors` was given some.

        See Also
        --------
        fit_common_errors : Choose the widths.

        Examples
        --------
        >>> machine.common_errors.std.shape
        (12,)
        """
        self.fit = with_systematics(self.fit)
        return self.fit.need("systematics")

    @property
    def werrs_total(self) -> FloatArray:
        """Total standard deviation of the latest fluxes, shape (n_time, n_source), electron / s.

        See Also
        --------
        fit_common_errors : What it adds to `werrs`.

        Examples
        --------
        >>> machine.werrs_total.shape
        (250, 12)
        """
        self.fit = with_systematics(self.fit)
        return total_errors(self.fit)

    # Quality

    @property
    def verdict(self) -> Verdict:
        """What is known against the latest fluxes: numbers, flags, sentences, cures; `quality` changes what counts.

        See Also
        --------
        quality : Judge with other limits.

        Examples
        --------
        >>> len(machine.verdict.sources["mismatch"])
        12
        """
        self.fit = with_verdict(self.fit)
        return self.fit.need("verdict")

    @property
    def flags(self) -> IntArray:
        """Quality bits of the latest fluxes, those of `verdict` among them: `QualityFlag`, (n_time, n_source).

        See Also
        --------
        bayesprf.QualityFlag : The bits.

        Examples
        --------
        >>> machine.flags.shape
        (250, 12)
        """
        self.fit = with_verdict(self.fit)
        return quality_flags(self.fit)

    def quality(self, **options: float) -> Verdict:
        """Judge the fit: is the PRF that of the stars, is sky, motion or light of unknown stars left, do errors cover?

        Parameters
        ----------
        **options
            Options of `bayesprf.settings.QualityOptions`: what counts as significant, and what as a fault.

        Returns
        -------
        Verdict
            Kept as `verdict` until the fluxes are fitted anew.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If an option is unknown or out of range.

        See Also
        --------
        bayesprf.QualityFlag : The bits of `flags`.

        Examples
        --------
        >>> verdict = machine.quality(significance=8.0)
        >>> len(verdict.sources["mismatch"])
        12
        """
        fit = with_systematics(self.fit)
        self.fit = fit.with_stage("verdict", judge_fit(fit, QualityOptions.of(**options)))
        return self.fit.need("verdict")

    # Questions to the posterior

    def covariance(self, sources: object = None, cadence: int = 0) -> FloatArray:
        """Return the posterior covariance of fluxes at one cadence.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Index or name of each source, in the order of the answer; all by default.
        cadence : int
            Index of the cadence.

        Returns
        -------
        ndarray of float64, shape (n_chosen, n_chosen)
            (electron / s)**2; zero between sources that do not overlap, directly or through others.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source or the cadence does not exist, or more than 5000 sources are asked for.

        See Also
        --------
        posterior : Draws from the same distribution.

        Examples
        --------
        >>> machine.covariance([0, 1]).shape
        (2, 2)
        """
        return flux_covariance(self.fit, sources, cadence)

    def posterior(
        self,
        sources: object = None,
        cadences: object = None,
        draws: int = 1000,
        random_seed: object = None,
        *,
        max_pointwise: int = 4_000_000,
    ) -> "xr.DataTree":
        """Draw fluxes from their exact joint posterior, as an ArviZ DataTree.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Index or name of each source; all by default.
        cadences : int, sequence of int or mask, optional
            Cadences; all by default. A single number leaves the axis of time away.
        draws : int
            Number of independent draws in all, a multiple of 4: they come as four chains.
        random_seed : int, sequence of int or numpy.random.Generator, optional
            The same seed gives the same draws.
        max_pointwise : int
            `log_likelihood`, `posterior_predictive`, `prior` and `log_prior` are left out if draws x cadences x
            pixels exceeds this (4 million numbers are 32 MB); exact leave-one-out densities if cadences x pixels does.

        Returns
        -------
        xarray.DataTree
            The layout of `bayesprf.results.posterior`, the same as that of a sampler. Sources that overlap with those
            asked for are marginalised in the fluxes; the pixels and their likelihood are those of the whole group,
            whose further members the attribute `overlapping_sources` names. Where pixels drop out of some cadences,
            `y` has one axis of observations. ArviZ's plot_ppc_pit and plot_ppc_interval take a single cadence.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source or cadence does not exist, no pixel belongs to the sources, or `draws` is no multiple of 4.

        See Also
        --------
        sample : Draws of a PyMC model, in the same layout.
        covariance : Their covariance, without draws.

        Examples
        --------
        >>> draws = machine.posterior([0, 1], cadences=0, draws=400, random_seed=1)
        >>> dict(draws["posterior/flux"].sizes)
        {'chain': 4, 'draw': 100, 'source': 2}
        """
        from bayesprf.report.accessor import with_pictures
        from bayesprf.results.exact import DrawOptions, draw_posterior

        options = DrawOptions(draws, max_pointwise)
        return with_pictures(draw_posterior(self.fit, sources, cadences, options, make_generator(random_seed)))

    def loo(self) -> ModelScore:
        """Score the fluxes' model by its evidence and by exact leave-one-pixel-out densities.

        Returns
        -------
        ModelScore
            Kept until the fluxes are fitted anew; `bayesprf.compare` puts several side by side, and `to_datatree`
            writes it into the tree.

        Raises
        ------
        StageError
            Before `fit_model`.
        UnsupportedError
            After a robust fit, whose weights were chosen by looking at the data.

        See Also
        --------
        bayesprf.compare : Several models side by side.

        Examples
        --------
        >>> score = machine.loo()
        >>> score.elpd_pixel.shape == (machine.npixels,)
        True
        """
        if self.fit.score is None:
            self.fit = self.fit.with_stage("score", score_fit(self.fit))
        return self.fit.need("score")

    def pymc_model(
        self, kind: str = "linear", *, sources: object = None, cadences: object = None, **settings: object
    ) -> "pm.Model":
        """Build a PyMC model, to read, change or sample by hand.

        Parameters
        ----------
        kind : {"linear", "collapsed", "robust", "joint", "shape"}
            "linear": fluxes, as in the closed form. "collapsed": the hyperparameters alone, the fluxes integrated out.
            "robust": the same under a Student-t likelihood, which tolerates cosmic
            rays. "joint": fluxes, PRF shape and, if asked, positions together. "shape": the PRF shape alone.
        sources : int, str or sequence of them, optional
            Sources of interest, all by default; widened to all that overlap with them, directly or through others.
        cadences : int, sequence of int or mask, optional
            Cadences; the mean image by default for "joint", else all. A single number leaves the
            axis of time away.
        **settings
            For "linear", "collapsed" and "robust": `width`, `zero_point`, `noise_scale`, `jitter` (see
            `Hyperparameters`: a number, "learn" or a Hyperprior), `width_group` (for all sources of the machine, a
            number of its group each), `priors`, and, but for "collapsed", `form`, `likelihood` (see `build_linear`);
            `neighbors`: "free" (the default), or "fixed" to hold the sources that share less than `share` (0.1) of the
            light at their fitted flux. The closed form then measures by how much errors come out too small, and above
            5 % a `PrecisionWarning` says so.
            For "joint": `likelihood`,
            `position`, `tail`, `others`, `shape_scale` (see `JointPriors`), and `scatter`, the relative misfit of the
            PRF at a star's centre beside noise, dex: a number, "learn" or a Hyperprior; by default that of the shape
            fit, as in the closed form. For "shape": `width`.

        Returns
        -------
        pymc.Model

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a kind, source, cadence or setting is unknown.

        See Also
        --------
        sample : Build the model, sample it and check the draws.
        bayesprf.pixel_likelihood : The pixels as a term of a model of your own.

        Examples
        --------
        >>> model = machine.pymc_model("collapsed", sources=[0], cadences=0, jitter="learn")
        >>> [variable.name for variable in model.free_RVs]
        ['jitter']
        """
        from bayesprf.sampling.questions import build_model

        return build_model(self.fit, kind, sources, cadences, settings, say=self._say)

    def sample(
        self,
        sources: object = None,
        cadences: object = None,
        *,
        kind: str | None = None,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        cores: int | None = None,
        random_seed: int | None = None,
        sampler: str | None = None,
        target_accept: float = 0.8,
        **settings: object,
    ) -> "xr.DataTree":
        """Sample a model and check the draws; the answer has the layout of `posterior`.

        Parameters
        ----------
        sources, cadences
            As for `pymc_model`.
        kind : {"linear", "collapsed", "robust", "joint", "shape"}, optional
            As for `pymc_model`; by default "collapsed" where hyperparameters are learned, else "linear". "collapsed"
            integrates one or two hyperparameters and a zero point on a grid, without
            any sampler: the draws are exact and independent, and the evidence is a by-product. With more of them, or
            with `priors`, NUTS samples these alone, and the fluxes follow exactly.
        draws, tune, chains : int
            Draws kept and tuning steps per chain, and chains.
        cores : int, optional
            Chains run at the same time.
        random_seed : int, optional
            The same seed gives the same draws.
        sampler : {"nutpie", "pymc"}, optional
            nutpie where it is installed, else PyMC's NUTS.
        target_accept : float
            Acceptance rate that sets the step size.
        **settings
            As for `pymc_model`.

        Returns
        -------
        xarray.DataTree
            The layout of `bayesprf.results.posterior`. Its attribute `convergence` says in words whether the draws can
            be trusted, `overlapping_sources` which sources were sampled along.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a kind, source, cadence or setting is unknown.

        Warns
        -----
        ConvergenceWarning
            If the draws cannot be trusted.

        See Also
        --------
        posterior : Exact draws where nothing but fluxes is unknown.
        pymc_model : The model itself.

        Examples
        --------
        One or two hyperparameters are integrated on a grid; no sampler runs:

        >>> draws = machine.sample([0], cadences=0, jitter="learn", draws=100, random_seed=1)
        >>> sorted(draws["posterior"].data_vars)
        ['flux', 'jitter']
        """
        from bayesprf.report.accessor import with_pictures
        from bayesprf.sampling.questions import sample_fit

        tree = sample_fit(
            self.fit, kind, sources, cadences, settings, say=self._say, quiet=self.quiet, draws=draws, tune=tune,
            chains=chains, cores=cores, random_seed=random_seed, sampler=sampler, target_accept=target_accept,
        )  # fmt: skip
        return with_pictures(tree)

    def fit_light_curves(
        self, sources: object = None, kernel: object = "learn", *, template: object = None, max_group: int = MAX_GROUP
    ) -> LightCurves:
        """Solve the light curves of all stars of a blend together as Gaussian processes in time.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Stars that vary as processes; all by default. All others keep a free flux at every cadence.
        kernel : str, ProcessKernel, or mapping of source to either
            How the stars vary. "learn": the best of the Matern families by the evidence, with learned numbers; the
            name of a family ("matern12", "matern32", "matern52", "oscillator", "constant"): that one, with learned
            numbers.
        template : array-like of shape (n_time,), or mapping of source to it, optional
            Shape of an event of a star, 0 outside and 1 at full depth. A process follows whatever its star does, and
            takes most of a transit with it, unless the transit is named here.
        max_group : int
            Stars that are solved together at most; the cost grows as the cube.

        Returns
        -------
        LightCurves
            Means and errors at all cadences, gaps included, given all cadences; kernels, levels, events, evidences,
            draws of whole light curves, and predictions at any time. Also `fit.process`, and ``/process`` of the tree.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source, kernel or template does not fit, or the prior of the fluxes is flat.

        See Also
        --------
        fit_model : A free flux at every cadence.
        bayesprf.ProcessKernel : A kernel of your own.

        Notes
        -----
        Exact, by a Kalman filter and smoother on the fluxes of every cadence and their covariance
        (`bayesprf.linalg.kalman`). The errors are relative: those that all cadences share are in `common_errors`.

        Examples
        --------
        >>> kernel = bp.ProcessKernel("matern32", sigma=20.0, scale=1.0)
        >>> curves = machine.fit_light_curves(0, kernel)
        >>> curves.flux.shape
        (250, 12)
        """
        curves = fit_processes(self.fit, sources, kernel, template=template, max_group=max_group)
        self.fit = self.fit.with_stage("process", curves)
        return curves

    # Hypotheses

    def blend_test(
        self,
        source: object,
        position: tuple[float, float],
        *,
        prior_sigma: float | None = None,
        prior_odds: float = 1.0,
        prf_errors: bool = True,
        cadences: object = None,
    ) -> BlendTest:
        """Weigh the hypothesis that a further star of constant flux stands at a place near a source.

        Parameters
        ----------
        source : int or str
            Index or name of the source; its pixels are looked at, with all sources that light them.
        position : tuple of float
            Right ascension and declination of the further star, degree.
        prior_sigma : float, optional
            Scale of the half-normal prior of its flux, electron / s; the flux of the source by default.
        prior_odds : float
            Prior probability of two stars over that of one.
        prf_errors : bool
            Let the model of all catalogue stars be wrong, equally at all cadences, by everything that
            `fit_common_errors` carries: the posterior of the PRF's shape, the slopes of wings, positions, second
            moments and the relative model error. Without, the PRF is taken as known exactly, and any misfit of it
            will be called a star.
        cadences : sequence of int or mask, optional
            Cadences to use; all by default.

        Returns
        -------
        BlendTest

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If the source does not exist, the place lies outside its pixels, or a prior is not positive.

        See Also
        --------
        find_missing : Look everywhere for stars that the catalogue lacks.
        bayesprf.compare : Compare whole models.

        Notes
        -----
        Without the star: every catalogue star has a free flux at every cadence, under the prior of `fit_model`. With
        it: the same, plus PRF x g with one g > 0 for all cadences. The evidence of both is exact
        (`bayesprf.hypotheses.second_star`). The further star has the mean PRF at all cadences.

        Positions that `refine_scene` fitted to these very pixels, with one star in mind, err here as far as stars lie
        from the catalogue, not by their posterior: it may have moved a star towards its companion.

        Examples
        --------
        Is there a second star, four arcsec north of source 0?

        >>> position = machine.sources.ra_deg[0], machine.sources.dec_deg[0] + 4 / 3600
        >>> test = machine.blend_test(0, position)
        >>> test.probability < 0.5
        True
        """
        return weigh_second_star(
            self._weighed() if prf_errors else self.fit, source, position, prior_sigma=prior_sigma,
            prior_odds=prior_odds, prf_errors=prf_errors, cadences=cadences,
        )  # fmt: skip

    def which_source(
        self,
        event: object,
        sources: object = None,
        *,
        depth_sigma: float = DEPTH_SIGMA,
        baseline: float | None = None,
        cadences: object = None,
    ) -> EventHost:
        """Weigh which source an event, such as an eclipse, belongs to.

        Parameters
        ----------
        event : array-like of bool or float, shape (n_time,)
            Mask of the cadences in the event, or its shape from 0 (outside) to 1 (full depth).
        sources : int, str or sequence of them, optional
            Candidates; sources that share a pixel with them are candidates too. All sources by default.
        depth_sigma : float
            Scale of the prior of the depth, a Gaussian around zero cut to 0 ... 1: a star cannot lose more light than
            it has.
        baseline : float, optional
            Distance of the knots of each star's own slow changes, day; six times the event's length, and half a day
            or more, by default.
        cadences : sequence of int or mask, optional
            Cadences to use; all by default. Leave out those of other events, which the baselines cannot follow.

        Returns
        -------
        EventHost

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If the event has the wrong shape, a source does not exist, or too many sources overlap.

        See Also
        --------
        event_position : Where on the sky, catalogue or not.
        event_depth : How deep, once the star is known.

        Notes
        -----
        One hypothesis per candidate: its flux is its baseline minus flux x depth x template, all other stars keep
        their baselines. Baselines are splines, white scatter beyond the errors is learned per star outside the event,
        and all of this is integrated out exactly (`bayesprf.hypotheses.event_host`), with the full covariance of the
        fluxes at every cadence, so that light shared by a blend is weighed as what it is.

        Examples
        --------
        >>> in_event = abs(machine.time - machine.time[100]) < 0.1
        >>> host = machine.which_source(in_event)
        """
        return find_host(self._weighed(), event, sources, depth_sigma=depth_sigma, baseline=baseline, cadences=cadences)

    def event_position(
        self,
        event: object,
        sources: object = None,
        *,
        baseline: float | None = None,
        cadences: object = None,
        none_prior: float | None = None,
        margin: float = 1.0,
    ) -> EventPosition:
        """Find where on the sky an event, such as an eclipse, happened, catalogue or not.

        Parameters
        ----------
        event : array-like of bool or float, shape (n_time,)
            Mask of the cadences in the event, or its shape from 0 (outside) to 1 (full depth).
        sources : int, str or sequence of them, optional
            Look in the pixels of these sources only; in all pixels by default.
        baseline : float, optional
            Distance of the knots of each pixel's own slow changes, day; six times the event's length, and half a day
            or more, by default.
        cadences : sequence of int or mask, optional
            Cadences to use; all by default. Leave out those of other events, which the baselines cannot follow.
        none_prior : float, optional
            Probability before that the event is none of the catalogue's stars in sight; that of one star by default.
        margin : float
            Positions so far beyond the outermost pixels are searched too, pixel.

        Returns
        -------
        EventPosition
            Probability of every position, credible regions, and probabilities of the catalogue's stars.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If the event has the wrong shape, a source does not exist, or nothing tells where to look.

        See Also
        --------
        which_source : Which star of the catalogue.

        Notes
        -----
        Every pixel is fitted by its own baseline and the event: the difference image holds what the event took away,
        and nothing of the errors of the mean model. A star at each position would take away dip x PRF; the dip has a
        prior uniform in its logarithm up to the light of the brightest star, or of the star of the catalogue. Errors of
        the PRF, of positions and second moments count as far as the dip is bright, as in `fit_common_errors`; noise
        counts as dips at other times scatter.

        Examples
        --------
        >>> in_event = abs(machine.time - machine.time[100]) < 0.1
        >>> position = machine.event_position(in_event)
        """
        return find_event_position(
            self._weighed(), event, sources, baseline=baseline, cadences=cadences, none_prior=none_prior, margin=margin
        )

    def find_missing(self, sources: object = None, *, expected: float = 0.01, margin: float = 0.5) -> MissingStars:
        """Look for stars of constant flux that the catalogue lacks.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Look in the pixels of these sources only; in all pixels by default.
        expected : float
            Missing stars expected before, per star of the catalogue in sight.
        margin : float
            Positions so far beyond the outermost pixels are searched too, pixel.

        Returns
        -------
        MissingStars
            The map of the log Bayes factor, and the stars found: those more probable than not. Its `add_to` makes a
            catalogue with them. Add them, fit again and ask again: of stars closer than three pixels to each other one
            is found at a time.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source does not exist, or a number is not positive.

        See Also
        --------
        blend_test : One place only.

        Notes
        -----
        The mean image against the fluxes of the catalogue's stars, free under their prior, and one star more, at every
        half pixel: with the precision S and the score v of the pixels from one factorisation per 8 x 8 pixels, a star
        with PRF q has the flux q'v / q'S q. Errors of PRF, wings, positions and second moments are taken out of S as
        in `blend_test`, and so is light that is smooth over a cutout, such as wings of stars far away. The flux has a
        prior uniform in its logarithm up to the brightest star nearby.

        Examples
        --------
        >>> missing = machine.find_missing()
        """
        return find_missing_stars(self._weighed(), sources, expected=expected, margin=margin)

    def event_depth(
        self, source: object, event: object, *, baseline: float | None = None, cadences: object = None
    ) -> EventDepth:
        """Measure which share of its light a source loses in an event, such as a transit.

        Parameters
        ----------
        source : int or str
            Index or name of the source.
        event : array-like of bool or float, shape (n_time,)
            Mask of the cadences in the event, or its shape from 0 (outside) to 1 (full depth).
        baseline : float, optional
            Distance of the knots of the star's own slow changes, day, infinite for a constant; six times the event's
            length, and half a day or more, by default.
        cadences : sequence of int or mask, optional
            Cadences to use; all by default. Leave out those of other events, which the baseline cannot follow.

        Returns
        -------
        EventDepth
            Depth, its standard deviation and its intervals.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If the event has the wrong shape or no data, or the source does not exist or has no pixel.

        See Also
        --------
        which_source : Whose event it is.
        fit_light_curves : The star's own variability as a Gaussian process.

        Notes
        -----
        Dip and baseline are linear in the light curve, whose errors have the fluxes of all neighbours marginalised.
        The flux of a blended star may be wrong equally at all cadences, by light of its neighbours that an error of the
        PRF, of its wing or of the positions gives to it; this error, of `fit_common_errors`, is carried into the
        depth, whose posterior is that of a ratio (`bayesprf.hypotheses.event_depth`).

        Examples
        --------
        >>> in_event = abs(machine.time - machine.time[100]) < 0.1
        >>> depth = machine.event_depth(0, in_event)
        >>> low, high = depth.interval(0.95)
        >>> bool(low < depth.depth < high)
        True
        """
        return measure_depth(self._weighed(), source, event, baseline=baseline, cadences=cadences)

    def _weighed(self) -> Fit:
        """Return the fit with its systematic errors, and keep them."""
        self.fit = with_systematics(self.fit)
        return self.fit

    # Apertures and metrics

    def create_aperture_mask(self, percentile: object = 50) -> None:
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

        See Also
        --------
        compute_aperture_photometry : Choose apertures, and sum them.

        Examples
        --------
        >>> machine.create_aperture_mask(percentile=70)
        >>> machine.aperture_mask.shape == machine.source_mask.shape
        True
        """
        self.fit = self.fit.with_stage("apertures", choose_apertures(self.fit, percentile))

    def compute_aperture_photometry(
        self,
        aperture_size: object = "optimal",
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
            Target completeness (FLFRCSAP) of optimal apertures; None or a negative number switches it off.
        target_crowd : float, optional
            Target crowding (CROWDSAP) of optimal apertures; None or a negative number switches it off.

        Raises
        ------
        StageError
            Before `build_shape_model`.
        InputError
            If a percentile lies outside 0 to 100, a target is above 1, or both are switched off.
        ShapeError
            If there is neither one percentile nor one per source.

        See Also
        --------
        create_aperture_mask : Choose apertures alone.
        plot_aperture : Look at one.

        Examples
        --------
        >>> machine.compute_aperture_photometry()
        >>> machine.sap_flux.shape
        (250, 12)
        """
        percentile, optimal = choose_percentile(self.fit, aperture_size, target_complete, target_crowd)
        self.create_aperture_mask(percentile)
        self.fit = self.fit.with_stage("aperture_photometry", sum_apertures(self.fit))
        if optimal:
            self.fit = self.fit.with_stage("optimal_percentile", self.fit.need("apertures").percentile)

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

        See Also
        --------
        compute_aperture_photometry : Completeness and crowding of apertures.

        Examples
        --------
        >>> machine.get_psf_metrics()
        >>> bool((machine.source_psf_fraction <= 1.0).all())
        True
        """
        self.fit = self.fit.with_stage("metrics", measure_prf(self.fit, npoints_per_pixel))

    def perturbed_model(self, time_index: object) -> "csr_matrix | list[csr_matrix]":
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

        See Also
        --------
        build_time_model : Learn how the PRF changes.

        Examples
        --------
        >>> machine.build_time_model()
        >>> machine.perturbed_model(0).shape == machine.mean_model.shape
        True
        """
        return perturbed_prf(self.fit, time_index)

    # Results and pictures; xarray and matplotlib are loaded when first needed

    def to_datatree(self) -> "xr.DataTree":
        """Return all results so far as one labelled tree.

        Returns
        -------
        xarray.DataTree
            Groups ``/photometry``, ``/catalog``, ``/covariance``, ``/comparison``, ``/background``, ``/widths``,
            ``/process``, ``/shape``, ``/image``, ``/time_model``, as far as their stages have run. It draws itself:
            ``tree.bayesprf.plot()``, and ``plot_scene``, ``plot_prf``, ``plot_noise``, ``plot_errors``.

        Raises
        ------
        StageError
            If no PRF has been fitted.

        See Also
        --------
        save : Write it to a file.
        to_lightkurve : Light curves as lightkurve objects.

        Examples
        --------
        >>> tree = machine.to_datatree()
        >>> tree["photometry/flux"].dims
        ('time', 'source')
        """
        from bayesprf.report.accessor import with_pictures
        from bayesprf.results.fit_tree import fit_tree

        return with_pictures(fit_tree(self._weighed() if self.fit.has_flux else self.fit))

    def save(self, path: str | Path) -> Path:
        """Save all results so far in one netCDF file; `bayesprf.load` takes the fit up again from there.

        Parameters
        ----------
        path : path-like
            File to write, ``.nc``.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        StageError
            If no PRF has been fitted.
        FileError
            If the file cannot be written.

        See Also
        --------
        bayesprf.load : Take the fit up again.
        to_fits : Light curves for other programs.

        Examples
        --------
        >>> machine.save("field.nc").name
        'field.nc'
        """
        from bayesprf.io.save import save_tree

        return save_tree(self.to_datatree(), path)

    def to_fits(self, directory: str | Path, sources: object = None) -> list[Path]:
        """Save one FITS light curve per source, which lightkurve reads.

        Parameters
        ----------
        directory : path-like
            Where to; made if it does not exist.
        sources : int, str, SkyCoord or sequence of them, optional
            Which sources; all by default.

        Returns
        -------
        list of Path
            The files written, in the order of the sources.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source does not exist.

        See Also
        --------
        to_lightkurve : The same as objects.

        Examples
        --------
        >>> len(machine.to_fits("lightcurves", sources=[0, 1]))
        2
        """
        from bayesprf.io.lightcurves import save_lightcurves

        return save_lightcurves(directory, self._photometry(), sources=self._names(sources))

    def to_lightkurve(self, sources: object = None) -> "LightCurve | list[LightCurve]":
        """Return light curves as lightkurve objects; needs lightkurve.

        Parameters
        ----------
        sources : int, str, SkyCoord or sequence of them, optional
            Which sources; all by default.

        Returns
        -------
        lightkurve.LightCurve, or list of them
            One for a single name or index, else a list in the order asked for.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source does not exist.
        MissingDependencyError
            If lightkurve is not installed.

        See Also
        --------
        to_fits : The same as files.

        Examples
        --------
        >>> curve = machine.to_lightkurve(0)
        >>> len(curve)
        250
        """
        from bayesprf.io.lightcurves import to_lightkurve

        tree = self._photometry()
        curves = [to_lightkurve(tree, name) for name in self._names(sources)]
        return curves[0] if sources is not None and shape_of(sources) == () else curves

    def _photometry(self) -> "xr.DataTree":
        """Return the tree, or raise before `fit_model`."""
        self.fit.need("flux")
        return self.to_datatree()

    def _names(self, sources: object) -> list[str]:
        return [self.fit.sources.source_id[i] for i in self.fit.sources.indices(sources)]

    def __repr__(self) -> str:
        """Give size, stages that have run, scatter of the PRF and flags."""
        return f"<Machine: {'; '.join(f'{name}: {text}' for name, text in describe_fit(self.fit).items())}>"

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in describe_fit(self.fit).items())
        return f"<table><caption>bayesprf.Machine</caption>{''.join(rows)}</table>"

    def report(self, path: str | Path | None = None) -> "Report":
        """Make one page of all results so far: verdict, scene, PRF, light curves, errors, table, provenance.

        Parameters
        ----------
        path : path-like, optional
            File to write, ``.html``.

        Returns
        -------
        Report
            Notebooks show it; its `save` writes the file.

        Raises
        ------
        StageError
            If no PRF has been fitted.

        See Also
        --------
        to_datatree : The results as a tree, whose `tree.bayesprf.report()` makes the same page.

        Examples
        --------
        >>> report = machine.report()
        >>> "verdict" in report.html
        True
        """
        from bayesprf.report.page import make_report

        page = make_report(self.to_datatree())
        if path is not None:
            page.save(path)
        return page

    def plot_shape_model(
        self,
        frame_index: object = "mean",
        bin_data: bool = False,  # noqa: FBT001, FBT002  (documented signature)
        *,
        figure: "Figure | SubFigure | None" = None,
    ) -> "Figure":
        """Draw data, model and residual of the PRF, in sky and polar coordinates.

        Parameters
        ----------
        frame_index : "mean" or int
            Image whose pixels are drawn.
        bin_data : bool
            Draw medians in cells instead of single pixels.
        figure : matplotlib.figure.Figure or SubFigure, optional
            Where to draw; a new one by default.

        Returns
        -------
        matplotlib.figure.Figure

        See Also
        --------
        plot_prf : The PRF as a smooth image.
        build_shape_model : Learn the PRF.

        Examples
        --------
        >>> figure = machine.plot_shape_model()
        """
        from bayesprf.report.pictures import draw_shape

        return draw_shape(self.fit, frame_index, bin_data=bin_data, figure=figure)

    def plot_prf(self, *, figure: "Figure | SubFigure | None" = None) -> "Figure":
        """Draw the PRF as a smooth image with contours, beside the pixels that trained it and what it leaves of them.

        Parameters
        ----------
        figure : matplotlib.figure.Figure or SubFigure, optional
            Where to draw; a new one by default.

        Returns
        -------
        matplotlib.figure.Figure
            Where the PRF varies over the field, also its change at nine places, with sticks of its ellipticity.

        Raises
        ------
        StageError
            Before `build_shape_model`.

        See Also
        --------
        plot_shape_model : Pixels of stars, in sky and polar coordinates.

        Examples
        --------
        >>> figure = machine.plot_prf()
        """
        from bayesprf.report.pictures import draw_prf

        return draw_prf(self.fit, figure=figure)

    def plot_time_model(self, *, figure: "Figure | SubFigure | None" = None) -> "Figure":
        """Draw what the time model learned from: pixels measured, modelled, and what is left of them.

        Parameters
        ----------
        figure : matplotlib.figure.Figure or SubFigure, optional
            Where to draw; a new one by default.

        Returns
        -------
        matplotlib.figure.Figure
            Bins of time; of the pointing where the time model shifts the PRF.

        Raises
        ------
        StageError
            Before `build_time_model`.

        See Also
        --------
        build_time_model : Learn how the PRF changes.

        Examples
        --------
        >>> machine.build_time_model()
        >>> figure = machine.plot_time_model()
        """
        from bayesprf.report.pictures import draw_time_model

        return draw_time_model(self.fit, figure=figure)

    def plot_scene(self, sources: object = None, *, ax: "Axes | None" = None) -> "Figure":
        """Draw the mean image with the sources on it.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Sources whose names are written; by default all, the brightest first, as far as there is room.
        ax : matplotlib.axes.Axes, optional
            Where to draw the whole field; by default a new figure, with a panel per cutout where they are far apart.

        Returns
        -------
        matplotlib.figure.Figure

        See Also
        --------
        plot_aperture : One source and its aperture.

        Examples
        --------
        >>> figure = machine.plot_scene()
        """
        from bayesprf.report.pictures import draw_scene

        return draw_scene(self.fit, sources, ax=ax)

    def plot_lightcurves(
        self, sources: object = None, *, relative: bool = True, ax: "Axes | Sequence[Axes] | None" = None
    ) -> "Figure":
        """Draw light curves with errors; flagged cadences are open circles.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Index or name of each source; the first twelve by default.
        relative : bool
            Draw the change from the median flux; otherwise the flux in electron / s.
        ax : matplotlib.axes.Axes or sequence of them, one per source, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source does not exist.

        See Also
        --------
        to_lightkurve : Light curves for lightkurve's own plots.

        Examples
        --------
        >>> figure = machine.plot_lightcurves([0, 1])
        """
        from bayesprf.report.pictures import draw_lightcurves

        return draw_lightcurves(self.fit, sources, relative=relative, ax=ax)

    def plot_noise(self, *, ax: "Axes | None" = None) -> "Figure":
        """Draw scatter and error of every light curve against magnitude, with the line of photon noise.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        StageError
            Before `fit_model`.

        See Also
        --------
        plot_errors : Errors split into their parts.

        Examples
        --------
        >>> figure = machine.plot_noise()
        """
        from bayesprf.report.tree_pictures import draw_tree_noise

        return draw_tree_noise(self._photometry(), ax=ax)

    def plot_errors(self, sources: object = None, *, ax: "Axes | None" = None) -> "Figure":
        """Draw the errors of fluxes split into their parts: noise, and by cause what all cadences share.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Index or name of each source; the twenty brightest by default.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source does not exist.

        See Also
        --------
        plot_noise : Scatter and error against magnitude.
        common_errors : The parts that all cadences share.

        Examples
        --------
        >>> figure = machine.plot_errors([0, 1])
        """
        from bayesprf.report.tree_pictures import draw_tree_errors

        return draw_tree_errors(self._photometry(), None if sources is None else self._names(sources), ax=ax)

    def plot_aperture(self, source: object, *, ax: "Axes | None" = None) -> "Figure":
        """Draw the pixels around a source with its aperture outlined.

        Parameters
        ----------
        source : int, str or SkyCoord
            Index, name or position of the source.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        StageError
            Before `create_aperture_mask` or `compute_aperture_photometry`.
        InputError
            If there is no such source, or it has no pixels.

        See Also
        --------
        compute_aperture_photometry : Choose and sum apertures.

        Examples
        --------
        >>> machine.create_aperture_mask()
        >>> figure = machine.plot_aperture(0)
        """
        from bayesprf.report.pictures import draw_aperture

        return draw_aperture(self.fit, source, ax=ax)
