"""The options of the fits, each with its default."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Self

from bayesprf.arrays import BoolArray, NamedDict, same_content
from bayesprf.checks import check_choice, check_names, check_positive, check_types, shown
from bayesprf.design.binning import BIN_METHODS
from bayesprf.design.cartesian import KNOT_SPACINGS, CartesianBasis
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import InputError
from bayesprf.instruments import Instrument
from bayesprf.scene.pixel_errors import PIXEL_ERRORS

BACKGROUND_SCOPES = ("stamp", "image")
# Definition: what bends more often than a surface of this order over the pixels is no sky.
MAX_BACKGROUND_ORDER = 6
INSTRUMENT_PRF = "instrument"
"""Name of the PRF that the record of the instrument leads to expect, in place of that of a file."""
MISSION_PRF = "mission"
"""Name of the PRF that the mission's own files for the detector hold."""
_TIME_CORRECTORS = ("polynomial", "poscorr")
# Format: documented radii are those of Kepler, whose pixels are so large, arcsec; missions this close, relatively, take
# them.
_DOCUMENTED_SCALE, _SAME_SCALE = 3.98, 0.05
# Settings that the time model reads first; the others shape the PRF, but for the name of a column.
_TIME_SETTINGS = ("time_nknots", "time_resolution", "time_radius", "cartesian_knot_spacing", "time_corrector")


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How far a star matters before its PRF is known, and which stars and pixels the PRF may be trained on.

    By default all pixels decide the PRF, blended ones too. Where a limit is set, those decide it alone that no limit
    forbids, within the radius of a star; all others give only their stars their fluxes.

    Parameters
    ----------
    upper_radius_limit, lower_radius_limit : float, optional
        Bounds of the radius of a star, arcsec; 7 and 1.1 pixels by default.
    upper_flux_limit, lower_flux_limit : float, optional
        The PRF is not trained on pixels above the first (by default the instrument's saturation); a star
        matters as far as its flux in a pixel exceeds the second (by default 10 times the median error
        of a pixel in one cadence), electron / s.
    correct_centroid_offset : bool
        Measure the common offset between catalogue and pixel positions, and apply it. Otherwise it is zero, and each
        star has its own position alone, unless these are held too.
    contaminant_mag_limit : float, optional
        Sources fainter than this magnitude do not count as contaminants; all count by default.
    limit_radius : float
        The PRF is not trained on pixels farther from the star than this, arcsec; the default limits nothing.
    """

    upper_radius_limit: float | None = None
    lower_radius_limit: float | None = None
    upper_flux_limit: float | None = None
    lower_flux_limit: float | None = None
    correct_centroid_offset: bool = True
    contaminant_mag_limit: float | None = None
    limit_radius: float = 24.0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("upper_radius_limit", "lower_radius_limit", "upper_flux_limit", "lower_flux_limit"):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)
        check_positive(self.limit_radius, "limit_radius")


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """Settings of the PRF fit.

    Parameters
    ----------
    flux_cut_off : float
        A source's model is evaluated where it exceeds this flux in a pixel, electron / s.
    bin_data : bool
        Fit faster, and approximately: the surroundings of the brightest stars decide the PRF, a quarter of the pixels
        or two for each of its weights, as long as no more than 20,000 pixels do.
    smoothness : float, optional
        Prior standard deviation of the curvature of log10 PRF between neighbouring weights, dex; learned by default.
        With `prf`, which tells how smooth a PRF is, there is none.
    max_neighbor_share : float
        The PRF is trained on a pixel of a star only if neighbours give less than this share of its light. This limit
        and the next two count where they, or one of `MaskOptions`, are changed: by default all pixels decide the PRF.
    min_snr : float
        The PRF is not trained on stars fainter than this signal-to-noise ratio.
    max_pairs : int
        At most this many (star, pixel) pairs, of the stars with the highest signal-to-noise ratio, are used.
    refine : bool, optional
        Fit every star's own position, jointly with all fluxes, with a prior whose width is learned; by default so.
        False holds the positions of the catalogue.
    method : {"auto", "joint"}
        Choose what is fitted jointly, or fit just what the other options ask for. By default ``prf="instrument"`` is
        taken where fewer than five bright stars light pixels alone, or fewer pixels than the PRF has weights, or where
        a fit without does not settle.
    field_variation : int, optional
        The PRF is constant over the field, a plane or a quadratic surface: 0, 1 or 2. By default constant, or a plane
        where the stars agree on how the PRF would vary, and the joint fit of a plane leaves less light in the wrong
        pixels; a quadratic surface likewise, also where no plane is kept.
    knot_density : int, optional
        1, or 2 for splines with twice as many knots along the radius and around the circle, four times
        the weights. By default 2 where the PRF is constant over the field, all pixels decide and lose half of their
        weight to what it misses, stars light as many alone as it has weights then and agree on finer columns, and
        these leave less light in the wrong pixels.
    position_error : float, optional
        Standard deviation of the catalogue's positions per axis, arcsec; learned by default.
    prf : str, optional
        The PRF that is expected, so that few stars are enough: a file, as `Machine.save_prf` or
        `bayesprf.io.prf_files.save_prf_tables` write it; "mission", the mission's own files for the detector, fetched
        from the archive the first time; or "instrument", what the handbooks of Kepler and TESS tell
        of its width and wings, with the spread over field and detectors as its error.
    color_column : str, optional
        Colours that the PRF follows: a column of the catalogue, such as "bp_rp", or the difference of two,
        "phot_bp_mean_mag - phot_rp_mean_mag". The logarithm of the PRF is linear in them; a star without a colour
        counts as of median colour. By default none. With ``method="auto"`` they are followed where the stars agree on
        how, and that leaves less light in the wrong pixels; with "joint" always.
    """

    flux_cut_off: float = 1.0
    bin_data: bool = False
    smoothness: float | None = None
    max_neighbor_share: float = 0.1
    min_snr: float = 20.0
    max_pairs: int = 100_000
    refine: bool | None = None
    method: str = "auto"
    field_variation: int | None = None
    knot_density: int | None = None
    position_error: float | None = None
    prf: str | None = None
    color_column: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_choice(self.method, ("auto", "joint"), "method")
        if self.field_variation not in (None, 0, 1, 2):
            raise InputError(f"field_variation: expected 0, 1, 2 or None, got {shown(self.field_variation)}")
        if self.knot_density not in (None, 1, 2):
            raise InputError(f"knot_density: expected 1, 2 or None, got {shown(self.knot_density)}")
        if self.position_error is not None:
            check_positive(self.position_error, "position_error")
        if self.smoothness is not None:
            check_positive(self.smoothness, "smoothness")
            if self.prf is not None:
                raise InputError(
                    "smoothness: expected None beside prf, which tells how smooth a PRF is, got"
                    f" {shown(self.smoothness)}; leave one of them out"
                )
        for name in ("flux_cut_off", "max_neighbor_share", "min_snr"):
            check_positive(getattr(self, name), name)

    @property
    def is_chosen(self) -> bool:
        """Whether just what is asked for is fitted, and nothing chosen by what the stars are."""
        finer = self.knot_density == 2
        asked = self.prf is not None or bool(self.field_variation) or finer or self.position_error is not None
        return asked or self.method == "joint"


@dataclass(frozen=True, slots=True)
class PerturbationOptions:
    """How the PRF may change in time.

    Parameters
    ----------
    trends : TrendOptions
        Time columns.
    basis : CartesianBasis
        Position columns.
    resolution : int
        Largest number of cadences per bin.
    bin_method : {"bin", "downsample"}
        Mean of the cadences of a bin, or one cadence of it.
    positions : {"poscorr", "centroid"}, optional
        Follow the image motion, the mission's own or measured from the pixels: as time columns, or as a shift.
    shift_limit : float
        Motion over more than this, pixel, is modelled as a shift of the PRF; infinity always leaves it to time
        columns, 0 never.
    shift_order : int
        Highest power of time in what a shift leaves, in place of that of `trends`: a pointing known at every cadence
        holds slow drifts too.
    pca_ncomponents : int
        Number of principal components of the pixels' time series to add.
    pca_smooth_time_scale : float
        Knot distance of the spline that smooths these series, day; 0 for none.
    n_bin_per_vector : int
        At least this many bins per time column, if there are as many cadences: short series get finer bins.
    field_order : int
        The motion of the stars may differ over the detector as a polynomial of this degree in column and row;
        0 takes it to be the same everywhere.
    min_share : float
        The time model is trained on a pixel if its brightest source gives at least this share of the model's light.
    min_snr : float
        And if the light of that source is this many times the noise of the pixel in one bin.
    clip_sigma : float
        Pixels farther than this from the model in a bin, in standard deviations, are left out of that bin.
    n_round : int
        Most rounds of fit, clipping and noise estimate.
    prior_sigma : float
        Prior standard deviation of the coefficients in the first round, which are relative changes of the PRF where
        it is described by position columns and pixels of motion where it is described by the PRF's gradient; later
        rounds learn it from the data.
    splines : bool, optional
        Let the PRF also change by splines in position, which hold what motion, size and shear do not explain. They are
        learned from the pixels near stars, and may carry light off the others: see `docs/explanation/model.md`. By
        default a Machine uses them where `time_nknots`, `time_radius` or `cartesian_knot_spacing` is set.
    fix_pixels : bool
        Give every bright pixel its own mean and its own change beyond the common one: see `GainModel`. Beside a shift
        of the PRF none has.
    free_motion : bool
        Let the image also move, differently over the field, and change its size and shear at every cadence, by as much
        as the pixels tell: jitter, and focus that changes within days, which no time column follows. Where motion
        spans more than `shift_limit`, and where the PRF is shifted, there is none beyond the time columns.
    max_worse : float
        A star keeps its mean PRF if the time model makes its scatter or its slow trends this many times as large;
        infinity leaves it to the time model.
    max_level : float
        Likewise if the time model changes the level of its light curve by more than this factor.

    Raises
    ------
    InputError
        If a number is out of range or the method unknown.
    """

    trends: TrendOptions = field(default_factory=TrendOptions)
    basis: CartesianBasis = field(default_factory=CartesianBasis)
    resolution: int = 200
    bin_method: str = "bin"
    positions: str | None = None
    shift_limit: float = 0.3
    shift_order: int = 0
    pca_ncomponents: int = 0
    pca_smooth_time_scale: float = 0.0
    n_bin_per_vector: int = 5
    field_order: int = 1
    min_share: float = 0.7
    min_snr: float = 10.0
    clip_sigma: float = 5.0
    n_round: int = 10
    prior_sigma: float = 0.5
    splines: bool | None = None
    fix_pixels: bool = True
    free_motion: bool = True
    max_worse: float = 4.0
    max_level: float = 5.0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("max_worse", "max_level"):
            if not getattr(self, name) > 1.0:
                raise InputError(f"{name}: expected a number above 1, got {getattr(self, name)}")
        check_choice(self.bin_method, BIN_METHODS, "bin_method")
        for name in ("min_share", "min_snr", "clip_sigma", "prior_sigma"):
            check_positive(getattr(self, name), name)
        if not self.shift_limit >= 0 or self.shift_order < 0:
            raise InputError(
                f"shift_limit, shift_order: expected 0 or more, got {self.shift_limit} and {self.shift_order}"
            )
        if self.pca_ncomponents < 0 or not self.pca_smooth_time_scale >= 0:
            raise InputError(
                "pca_ncomponents, pca_smooth_time_scale: expected 0 or more, got"
                f" {self.pca_ncomponents} and {self.pca_smooth_time_scale}"
            )
        if self.resolution < 1 or self.n_bin_per_vector < 1 or self.n_round < 1 or self.field_order < 0:
            raise InputError(
                "resolution, n_bin_per_vector, n_round, field_order: expected at least 1, 1, 1 and 0, got"
                f" {self.resolution}, {self.n_bin_per_vector}, {self.n_round} and {self.field_order}"
            )


@dataclass(frozen=True, slots=True)
class Background:
    """What sky is left in the pixels, and how wide its prior is.

    Parameters
    ----------
    scope : {"stamp", "image"}
        One surface per cutout, or one for all pixels.
    order : int, optional
        Degree of the surface in column and row: 0 a constant, 1 a plane, 2 a paraboloid, up to 6. By default a constant
        per cutout, and beside few stars; one surface for all pixels is a plane, and what more they tell of.
    sigma : float, optional
        Prior standard deviation of every coefficient around zero, electron / s per pixel. By default ten times the
        level that a fifth of the pixels of the mean image stay below, or ten times the error of a pixel in one
        cadence, whichever is larger.

    Raises
    ------
    InputError
        If a value is out of range.

    See Also
    --------
    bayesprf.fit : Takes it as `background`.

    Examples
    --------
    >>> import bayesprf as bp
    >>> sky = bp.Background("stamp", order=1)
    """

    scope: str = "stamp"
    order: int | None = None
    sigma: float | None = None

    def __post_init__(self) -> None:
        check_choice(self.scope, BACKGROUND_SCOPES, "background")
        check_types(self)
        if self.order is not None and self.order not in range(MAX_BACKGROUND_ORDER + 1):
            raise InputError(
                f"order: expected a whole number from 0 to {MAX_BACKGROUND_ORDER}, or None, got {shown(self.order)}"
            )
        if self.sigma is not None:
            check_positive(self.sigma, "sigma")

    @property
    def finds_order(self) -> bool:
        """Whether the pixels decide of what order the sky is."""
        return self.scope == "image" and self.order is None

    @classmethod
    def parse(cls, value: object) -> "Background | None":
        """Return what a user's setting means: None, the name of a scope, a mapping of the fields, or a Background.

        Parameters
        ----------
        value : None, str, mapping or Background
            The setting.

        Returns
        -------
        Background or None

        Raises
        ------
        InputError
            If it is anything else.
        """
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, dict) and set(value) <= set(cls.__slots__):
            return cls(**value)
        raise InputError(f"background: expected None, 'stamp', 'image' or a Background, got {shown(value)}")


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """When a fault of a fit is worth a flag.

    A fault is reported if it is significant, and if it matters: if it moves a flux by more than its total error and a
    share of it, or if it makes a light curve scatter more than its error says.

    Parameters
    ----------
    significance : float
        In standard deviations of noise and of the errors that the total errors count: 5, one chance in 1.7 million.
    n_error : float
        A flux is moved if it is by more than this many total errors,
    flux_share : float
        and by more than this share of it.
    n_error_misfit, share_misfit : float
        As `n_error` and `flux_share`, for what an imperfect PRF also makes: peaks of the residuals, and fluxes that
        depend on how pixels weigh. In sound simulated fields these reach 3 total errors, and 1 % of single stars.
    error_ratio : float
        A light curve is disturbed if it scatters by more than this over its error.
    error_excess : float
        Errors of pixels are too large if they exceed the scatter by more than this factor: 2, from which on intervals
        of 68 % hold 95 %.
    max_misplaced : float
        Share of the starlight that a usable PRF puts into wrong pixels at most.
    min_calibrators : int
        Stars from which the errors of positions and of sizes can be learned, at least.
    split : float
        Error over flux above which the data do not tell a star from its neighbour: a third, three standard deviations.

    Raises
    ------
    InputError
        If a number is not above 0, or `error_ratio` not above 1.
    """

    significance: float = 5.0
    n_error: float = 1.0
    flux_share: float = 0.01
    n_error_misfit: float = 4.0
    share_misfit: float = 0.02
    error_ratio: float = 1.1
    error_excess: float = 2.0
    max_misplaced: float = 0.1
    min_calibrators: int = 5
    split: float = 1.0 / 3.0

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            check_positive(getattr(self, name), name)
        if not self.error_ratio > 1.0:
            raise InputError(f"error_ratio: expected a number above 1, got {self.error_ratio}")

    @classmethod
    def of(cls, **options: float) -> Self:
        """Return the options with some set, and raise if one is unknown."""
        check_names(options, [one.name for one in fields(cls)], "options")
        return cls(**options)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """Every setting of a Machine, listed once, with its documented default.

    Parameters
    ----------
    limit_radius : float
        Pixels farther from a star than this are no training pixels of the PRF, arcsec.
    time_mask : array-like of bool, shape (n_time,), optional
        Cadences that enter the mean image the PRF is fitted to; all by default.
    n_r_knots, n_phi_knots : int
        Radial and azimuthal knots of the PRF. Where these and the next three settings are all as documented, or all
        those for the pixels of the instrument, the fit has its own: 13 by 15 from a quarter of a pixel to 8 pixels,
        round within 3/8 pixel.
    time_nknots, time_resolution, time_radius
        Knots in position, cadences per bin (at most) and radius (arcsec) of the time model.
    rmin, rmax : float
        Range of the PRF's radial knots, arcsec.
    cut_r : float
        Radius inside which the PRF depends on the radius only, arcsec.
    sparse_dist_lim : float
        Pixels within this distance of a source are paired with it, arcsec.
    sources_flux_column : str, optional
        Column of the catalogue that gave the expected fluxes, where it was a table.
    contaminant_mag_limit : float, optional
        Sources fainter than this magnitude do not count as contaminants; all count by default.
    cartesian_knot_spacing : {"sqrt", "linear"}
        Spacing of the time model's knots in position.
    time_corrector : {"polynomial", "poscorr"}
        Motion that the time model follows where `positions` is not given.
    background : Background, optional
        Residual background in the pixels, fitted along; also the name of a scope, or a mapping of its fields.

    Raises
    ------
    InputError
        If the background is none.
    """

    limit_radius: float = 24.0
    time_mask: BoolArray | None = None
    n_r_knots: int = 10
    n_phi_knots: int = 15
    time_nknots: int = 10
    time_resolution: int = 200
    time_radius: float = 8.0
    rmin: float = 1.0
    rmax: float = 16.0
    cut_r: float = 6.0
    sparse_dist_lim: float = 40.0
    sources_flux_column: str | None = None
    contaminant_mag_limit: float | None = None
    cartesian_knot_spacing: str = "sqrt"
    time_corrector: str = "polynomial"
    background: Background | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "background", Background.parse(self.background))
        check_types(self)
        check_choice(self.cartesian_knot_spacing, KNOT_SPACINGS, "cartesian_knot_spacing")
        check_choice(self.time_corrector, _TIME_CORRECTORS, "time_corrector")
        object.__setattr__(self, "sparse_dist_lim", float(self.sparse_dist_lim))

    def __eq__(self, other: object) -> bool:
        return same_content(self, other)

    @classmethod
    def for_instrument(cls, instrument: Instrument, **given: object) -> "Settings":
        """Return the settings for a pixel scale: radii that are not given are the documented ones in its pixels.

        Two differ: `cut_r` is three quarters of a pixel, as real PRFs are asymmetric closer in than the documented 1.5
        pixels, and `time_radius` is `rmax`, as the wings move too.
        """
        stretch = instrument.pixel_scale / _DOCUMENTED_SCALE
        stretch = 1.0 if abs(stretch - 1.0) < _SAME_SCALE else stretch
        radii = {
            "limit_radius": 24.0,
            "time_radius": 16.0,
            "rmin": 1.0,
            "rmax": 16.0,
            "cut_r": 3.0,
            "sparse_dist_lim": 40.0,
        }
        return cls().updated(**{name: value * stretch for name, value in radii.items()}).updated(**given)

    def updated(self, **changes: object) -> "Settings":
        """Return the settings with some changed."""
        known = [one.name for one in fields(self)]
        check_names(changes, [*known, "quiet"], "settings")
        given: NamedDict = changes
        return replace(self, **given)

    def differs(self, names: Iterable[str], instrument: Instrument) -> bool:
        """Whether some settings are neither the documented ones nor those for the pixels of an instrument."""
        usual = (Settings(), Settings.for_instrument(instrument))
        return not any(all(getattr(self, name) == getattr(one, name) for name in names) for one in usual)

    @staticmethod
    def first_reader(name: str) -> str | None:
        """Return the first stage that reads a setting."""
        if name == "sources_flux_column":
            return None
        return "time_model" if name in _TIME_SETTINGS else "prf"


@dataclass(frozen=True, slots=True)
class PrfRecipe:
    """How the PRF is fitted: what `build_shape_model` was given.

    Parameters
    ----------
    mask : MaskOptions
        Which stars and pixels are trained on.
    shape : ShapeOptions
        Settings of the fit.
    frame_index : "mean" or int
        Image that is fitted.
    """

    mask: MaskOptions = field(default_factory=MaskOptions)
    shape: ShapeOptions = field(default_factory=ShapeOptions)
    frame_index: object = "mean"

    @classmethod
    def from_settings(cls, settings: Settings, *, frame_index: object = "mean") -> "PrfRecipe":
        """Return the recipe with what the settings say of stars and pixels, and defaults."""
        mask = MaskOptions(limit_radius=settings.limit_radius, contaminant_mag_limit=settings.contaminant_mag_limit)
        return cls(mask, frame_index=frame_index)

    def updated(self, **changes: object) -> "PrfRecipe":
        """Return the recipe with some options of mask or shape changed."""
        recipe = self
        known = [*MaskOptions.__dataclass_fields__, *ShapeOptions.__dataclass_fields__]
        check_names(changes, known, "kwargs")
        for name, value in changes.items():
            part = "mask" if hasattr(self.mask, name) else "shape"
            recipe = replace(recipe, **{part: replace(getattr(recipe, part), **{name: value})})
        return recipe


def limits_training(mask: MaskOptions, shape: ShapeOptions, instrument: Instrument) -> bool:
    """Tell whether options limit the pixels that train the PRF.

    Parameters
    ----------
    mask : MaskOptions
        Its documented radii, and those for the instrument, limit none.
    shape : ShapeOptions
        Likewise by default.
    instrument : Instrument
        Gives the pixel scale.

    Returns
    -------
    bool
    """
    usual = (PrfRecipe.from_settings(one).mask for one in (Settings(), Settings.for_instrument(instrument)))
    plain, names = ShapeOptions(), ("max_neighbor_share", "min_snr", "max_pairs")
    limited = replace(mask, correct_centroid_offset=True) not in usual
    return limited or any(getattr(shape, name) != getattr(plain, name) for name in names)


@dataclass(frozen=True, slots=True, eq=False)
class TimeRecipe:
    """How the time model is fitted: what `build_time_model` was given.

    Parameters
    ----------
    options : PerturbationOptions
        Settings of the fit.
    other_vectors : array-like, shape (n_vector, n_time), optional
        Further time columns.
    """

    options: PerturbationOptions
    other_vectors: object = None


@dataclass(frozen=True, slots=True, eq=False)
class FluxRecipe:
    """How the fluxes are fitted: what `fit_model` was given.

    Parameters
    ----------
    fit_va : bool
        With the time model too.
    prior_mu, prior_sigma : array-like, shape (n_source,), or float, optional
        Mean and standard deviation of the prior of each flux, electron / s.
    robust : bool
        Outliers are down-weighted.
    pixel_errors : {"model", "time-mean", "given"}
        What the pixels are weighed by: see `bayesprf.photometry.fluxes.weigh_pixels`.
    follow_jitter : bool, optional
        Whether fluxes with the constant PRF follow the jitter that all stars share; by default unless `pixel_errors`
        is "given" or the spacecraft rolls, as K2 does, whose stars move apart.

    Raises
    ------
    InputError
        If `pixel_errors` is unknown.
    """

    fit_va: bool = False
    prior_mu: object = None
    prior_sigma: object = None
    robust: bool = False
    pixel_errors: str = "model"
    follow_jitter: bool | None = None

    def __post_init__(self) -> None:
        check_choice(self.pixel_errors, PIXEL_ERRORS, "pixel_errors")

    def follows_jitter(self, *, rolls: bool) -> bool:
        """Whether jitter is followed, of a spacecraft that rolls or of one that does not."""
        if self.follow_jitter is None:
            return self.pixel_errors != "given" and not rolls
        return bool(self.follow_jitter)
