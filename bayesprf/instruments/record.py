"""The Instrument record."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bayesprf.checks import check_positive

SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class PrfWidths:
    """How a mission's stars spread over the pixels, before one is seen: a Moffat profile, integrated over pixels.

    Parameters
    ----------
    width : float
        Core radius of the profile (1 + (r / width)**2)**-power, pixel: the median over field and detectors.
    power : float
        Its power.
    width_sigma, power_sigma : float
        Standard deviation over field and detectors of ln width and of ln (power - 1).
    table_half : float
        Half width of the mission's own tables, beyond which its convention knows no light, pixel.
    """

    width: float
    power: float
    width_sigma: float
    power_sigma: float
    table_half: float

    def __post_init__(self) -> None:
        for name in ("width", "width_sigma", "power_sigma", "table_half"):
            check_positive(getattr(self, name), name)
        check_positive(self.power - 1.0, "power - 1")


@dataclass(frozen=True, slots=True)
class Instrument:
    """Numbers that belong to a mission, not to the method.

    Parameters
    ----------
    name : str
        Mission name as results carry it.
    pixel_scale : float
        Side of a pixel, arcsec.
    saturation : float
        Flux above which a pixel no longer responds linearly, electron / s.
    time_zero_jd : float
        Julian date (TDB) of time 0 in the mission's files.
    zero_flux_mag : float
        Magnitude in the mission's band of a star of `zero_flux` electron / s.
    zero_flux : float
        Flux of a star of magnitude `zero_flux_mag`, electron / s.
    quality_bitmask : int
        Cadences with any of these QUALITY bits are left out by default.
    flux_column : str
        Catalogue column recommended as flux estimate.
    roll_hours : float
        Time scale on which the pointing moves back and forth, hours; 0 for a stable pointing.
    quality_names : mapping of int to str
        Meaning of each QUALITY bit, by its value.
    read_noise : float
        Noise of one read where a header does not tell it, electron; 0 if not known.
    read_seconds : float
        Time in which light is collected for one read, s; 0 if not known.
    duty : float
        Share of a cadence in which light is collected, where a header does not tell it.
    prf_widths : PrfWidths, optional
        The PRF to expect, where it is on record.
    """

    name: str
    pixel_scale: float
    saturation: float
    time_zero_jd: float = 0.0
    zero_flux_mag: float = 0.0
    zero_flux: float = 1.0
    quality_bitmask: int = 0
    flux_column: str = "phot_g_mean_flux"
    roll_hours: float = 0.0
    quality_names: Mapping[int, str] = field(default_factory=dict, repr=False, compare=False)
    read_noise: float = 0.0
    read_seconds: float = 0.0
    duty: float = 1.0
    prf_widths: PrfWidths | None = None

    def __post_init__(self) -> None:
        check_positive(self.pixel_scale, "pixel_scale")
        check_positive(self.saturation, "saturation")

    def flux_from_mag(self, mag: float) -> float:
        """Return the flux in electron / s of a star of this magnitude in the mission's band."""
        return float(self.zero_flux * 10.0 ** (-0.4 * (mag - self.zero_flux_mag)))

    def describe_quality(self, value: int) -> list[str]:
        """Return one phrase, value and meaning, for each bit set in a QUALITY value, lowest bit first."""
        bits = [1 << position for position in range(int(value).bit_length()) if value >> position & 1]
        return [f"{bit} ({self.quality_names.get(bit, 'not documented')})" for bit in bits]


GENERIC = Instrument(name="generic", pixel_scale=4.0, saturation=float("1e300"))
