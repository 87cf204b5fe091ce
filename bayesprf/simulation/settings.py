"""What a simulated field is made of: its settings, and the standard cases by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.checks import check_choice, check_positive
from bayesprf.errors import InputError
from bayesprf.instruments import KEPLER, Instrument
from bayesprf.simulation.true_prf import PrfTruth, asymmetric_prf

Drift = FloatArray | Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Transit:
    """Periodic dips of one source: flat bottom, straight flanks.

    Parameters
    ----------
    source : int
        Index of the source.
    depth : float
        Share of the star's own light that is lost, 0 to 1.
    period, epoch, duration : float
        Period, time of one mid-transit, and time from first to last contact, day.
    flank : float
        Share of the duration taken by ingress plus egress; 1 is a V-shaped eclipse.
    """

    source: int
    depth: float
    period: float
    epoch: float
    duration: float
    flank: float = 0.2

    def factor(self, time: FloatArray) -> FloatArray:
        """Return flux relative to out of transit, shape (n_time,)."""
        phase = np.mod(time - self.epoch + self.period / 2, self.period) - self.period / 2
        inside = (self.duration / 2 - np.abs(phase)) / (self.duration / 2 * self.flank)
        return np.asarray(1.0 - self.depth * np.clip(inside, 0.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class FieldSettings:
    """Everything that `make_field` lets a caller choose.

    Parameters
    ----------
    n_source, n_time : int
        Number of catalogue stars and of cadences.
    layout : {"stamps", "image"}
        Cutouts around target stars, as target pixel files, or one contiguous image.
    n_stamp : int, optional
        Number of cutouts; two for three stars by default. Sources 0 ... n_stamp - 1 are the targets; source
        n_stamp + i is a companion placed at random within (or up to a pixel outside) cutout i mod n_stamp.
    stamp_sides : tuple of int
        Sides of the square cutouts, pixel, from the faintest to the brightest targets, in equal shares.
    stamp_fill : float
        Share of the detector area that cutouts cover; overlapping pixels are listed once.
    image_shape : tuple of int
        Rows and columns of the image layout.
    mag_range, mag_slope : tuple of float, float
        Brightest and faintest magnitude; numbers grow as 10^(mag_slope mag).
    min_separation : float
        Smallest distance between two stars, pixel; companions of `companion_distance` keep it from no star.
    magnitudes : ndarray of float64, shape (n_source,), optional
        Magnitudes to use instead of drawn ones.
    companion_distance : tuple of float, optional
        Least and largest distance of a companion from the target of its cutout, pixel, in any direction; anywhere
        within the cutout, and a pixel around it, by default.
    prf : PrfTruth
        The PRF, in pixels of the detector.
    instrument : Instrument
        Pixel scale and magnitude zero point.
    ra0, dec0, position_angle : float
        Sky position of the field's centre and direction of the rows, degree (see `TangentPlane`).
    exposure, cadence : float
        Exposure time in second, time between cadences in day.
    read_noise : float
        Read noise of one cadence's sum, electron.
    background : float
        Subtracted sky, whose photon noise remains, electron / s / pixel.
    catalog_scale, catalog_scatter : float
        Common factor of the catalogue's fluxes, and standard deviation of their natural logarithm.
    position_scatter : float
        Standard deviation of the catalogue's positions per axis, arcsec.
    centroid_offset : tuple of float
        Where stars fall minus where catalogue and sky coordinates of the pixels put them: columns, rows, pixel.
    drift : ndarray of float64, shape (n_time, 2), or callable, optional
        Motion of the stars on the detector, columns and rows, pixel; a callable gets the times.
    drift_differential : float
        Share by which the motion is larger at the right edge (last column) of the field than at its centre.
    variability : ndarray of float64, shape (n_time, n_source), optional
        Factor on the flux of each star.
    transits : tuple of Transit
        Dips multiplied on top.
    reach_level : float
        A star lights the pixels where it adds more than this share of the noise of an empty pixel.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    n_source: int = 20
    n_time: int = 50
    layout: str = "stamps"
    n_stamp: int | None = None
    stamp_sides: tuple[int, ...] = (5, 6, 7)
    stamp_fill: float = 0.15
    image_shape: tuple[int, int] = (60, 60)
    mag_range: tuple[float, float] = (12.0, 17.0)
    mag_slope: float = 0.2
    min_separation: float = 0.25
    magnitudes: FloatArray | None = None
    companion_distance: tuple[float, float] | None = None
    prf: PrfTruth = field(default_factory=asymmetric_prf)
    instrument: Instrument = KEPLER
    ra0: float = 290.0
    dec0: float = 44.5
    position_angle: float = 20.0
    exposure: float = 1625.0
    cadence: float = 0.0204336
    read_noise: float = 1480.0
    background: float = 150.0
    catalog_scale: float = 1.0
    catalog_scatter: float = 0.0
    position_scatter: float = 0.0
    centroid_offset: tuple[float, float] = (0.0, 0.0)
    drift: Drift | None = None
    drift_differential: float = 0.0
    variability: FloatArray | None = None
    transits: tuple[Transit, ...] = ()
    reach_level: float = 2e-3

    def __post_init__(self) -> None:
        check_choice(self.layout, ("stamps", "image"), "layout")
        for name in ("n_source", "n_time", "exposure", "cadence", "catalog_scale", "stamp_fill", "reach_level"):
            check_positive(getattr(self, name), name)
        if self.n_stamp is not None and not 1 <= self.n_stamp <= self.n_source:
            raise InputError(f"n_stamp: expected 1 to n_source = {self.n_source}, got {self.n_stamp}")
        if self.mag_range[0] > self.mag_range[1]:
            raise InputError(f"mag_range: expected (brightest, faintest), got {self.mag_range}")
        for one in self.transits:
            if not 0 <= one.source < self.n_source:
                raise InputError(f"transits: expected sources 0 to {self.n_source - 1}, got {one.source}")

    @property
    def noise_floor(self) -> float:
        """Noise of a pixel without stars, electron / s."""
        return float(np.sqrt(self.background / self.exposure + (self.read_noise / self.exposure) ** 2))


_IMAGE = FieldSettings(layout="image", mag_slope=0.25)

CASES: Mapping[str, FieldSettings] = MappingProxyType(
    {
        "demo": FieldSettings(
            n_source=28,
            n_time=300,
            n_stamp=12,
            mag_range=(12.0, 16.5),
            transits=(
                Transit(source=0, depth=0.01, period=2.1, epoch=121.0, duration=0.35),
                Transit(source=13, depth=0.4, period=1.6, epoch=120.7, duration=0.3, flank=0.9),
            ),
        ),
        "small": FieldSettings(n_source=20, n_time=50, n_stamp=9, stamp_fill=0.08),
        "medium": FieldSettings(n_source=200, n_time=500, n_stamp=176),
        "quarter": FieldSettings(n_source=500, n_time=4000, n_stamp=352),
        "crowded": replace(_IMAGE, n_source=1500, n_time=20, image_shape=(120, 120)),
        "ffi": replace(_IMAGE, n_source=5000, n_time=1, image_shape=(400, 400)),
        "scale": replace(_IMAGE, n_source=20000, n_time=1, image_shape=(1000, 1000)),
    }
)
