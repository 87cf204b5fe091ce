"""The options of the fits, each with its default."""

from dataclasses import dataclass, field

from bayesprf.checks import check_choice, check_positive
from bayesprf.design.binning import BIN_METHODS
from bayesprf.design.cartesian import CartesianBasis
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import InputError


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """How far a star reaches before its PRF is known, and which stars and pixels may teach the PRF.

    Parameters
    ----------
    upper_radius_limit, lower_radius_limit : float, optional
        Bounds of the reach of a star, arcsec; 7 and 1.1 pixels by default.
    upper_flux_limit, lower_flux_limit : float, optional
        Pixels above the first do not teach the PRF (by default the instrument's saturation); a star
        reaches as far as its flux in a pixel exceeds the second (by default 10 times the median error
        of a pixel in one cadence), electron / s.
    correct_centroid_offset : bool
        Measure the common offset between catalogue and pixel positions, and apply it.
    contaminant_mag_limit : float, optional
        Sources fainter than this magnitude do not count as contaminants; all count by default.
    limit_radius : float
        Pixels farther from the star than this do not teach the PRF, arcsec.
    """

    upper_radius_limit: float | None = None
    lower_radius_limit: float | None = None
    upper_flux_limit: float | None = None
    lower_flux_limit: float | None = None
    correct_centroid_offset: bool = True
    contaminant_mag_limit: float | None = None
    limit_radius: float = 24.0

    def __post_init__(self) -> None:
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
        Average the training pixels in cells of radius and angle before the fit.
    smoothness : float
        Prior standard deviation of a bend of log10 PRF between neighbouring weights, dex.
    n_round : int
        Rounds of shape, flux and offset.
    clip_sigma : float
        Training pixels farther than this from the model, in standard deviations, are left out.
    max_neighbor_share : float
        A pixel teaches the PRF of a star only if neighbours give less than this share of its light.
    min_snr : float
        Stars fainter than this signal-to-noise ratio do not teach the PRF.
    max_pairs : int
        At most this many (star, pixel) pairs, of the stars with the highest signal-to-noise ratio, are used.
    refine : bool
        Each round also measures every star's own position, jointly with all fluxes.
    """

    flux_cut_off: float = 1.0
    bin_data: bool = False
    smoothness: float = 0.2
    n_round: int = 4
    clip_sigma: float = 3.0
    max_neighbor_share: float = 0.1
    min_snr: float = 20.0
    max_pairs: int = 100_000
    refine: bool = False

    def __post_init__(self) -> None:
        for name in ("flux_cut_off", "smoothness", "clip_sigma", "max_neighbor_share", "min_snr"):
            check_positive(getattr(self, name), name)
        if self.n_round < 1:
            raise InputError(f"n_round: expected at least 1, got {self.n_round}")


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
        Add so many principal components of the pixels' time series.
    pca_smooth_time_scale : float
        Knot distance of the spline that smooths these series, day; 0 for none.
    n_bin_per_vector : int
        At least this many bins per time column, if there are as many cadences: short series get finer bins.
    field_order : int
        The motion of the stars may differ over the detector as a polynomial of this degree in column and row;
        0 takes it to be the same everywhere.
    min_share : float
        A pixel teaches the time model if its brightest source gives at least this share of the model's light.
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
    fix_pixels : bool
        Give every bright pixel its own mean and its own change beyond the common one: see `PerturbationFit`.

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
    n_round: int = 5
    prior_sigma: float = 0.5
    fix_pixels: bool = True

    def __post_init__(self) -> None:
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
