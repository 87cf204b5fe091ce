"""Settings of the time model, with their defaults."""

from dataclasses import dataclass, field

from bayesprf.checks import check_choice, check_positive
from bayesprf.design.binning import BIN_METHODS
from bayesprf.design.cartesian import CartesianBasis
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import InputError


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
