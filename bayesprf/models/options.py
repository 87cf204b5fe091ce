"""Every threshold of the astronomy, with its default: nothing is hidden inside a fit."""

from dataclasses import dataclass

from bayesprf.checks import check_positive
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
