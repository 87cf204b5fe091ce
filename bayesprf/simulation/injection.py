"""Stars of known flux put into real pixels, with the PRF that other stars have shown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import as_float, check_shape, shown
from bayesprf.errors import InputError
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import PrfModel
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.settings import Transit

# A star is put into the pixels where it gives more than this share of the smallest error.
_LEVEL = 1e-3
# The brightest and the darkest pixels: this share of all.
_BRIGHT = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Injected:
    """Pixels and catalogue with further stars, and the truth about these.

    Parameters
    ----------
    pixels : PixelTable
        The pixels, with light and photon noise of the further stars.
    sources : SourceTable
        The catalogue, with the further stars at its end, named ``injected-0``, ``injected-1``, ...
    source : ndarray of int64, shape (n_star,)
        Where they stand in it.
    flux : ndarray of float64, shape (n_time, n_star)
        Their true fluxes, electron / s.
    """

    pixels: PixelTable
    sources: SourceTable
    source: IntArray
    flux: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class NewStars:
    """Stars to be put into pixels.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n_star,)
        Catalogue positions, degree.
    flux : ndarray of float64, shape (n_star,)
        Fluxes out of transit, electron / s.
    transits : sequence of Transit
        Dips; `source` counts the stars given here.

    Raises
    ------
    InputError
        If a flux is not above 0, or a transit belongs to no star.
    ShapeError
        If the shapes do not agree.
    """

    ra_deg: FloatArray
    dec_deg: FloatArray
    flux: FloatArray
    transits: Sequence[Transit] = ()

    def __post_init__(self) -> None:
        for name, unit in (("ra_deg", "deg"), ("dec_deg", "deg"), ("flux", "electron / s")):
            value = as_float(np.atleast_1d(getattr(self, name)), name, ndim=1, unit=unit)
            object.__setattr__(self, name, value)
            check_shape(value, (self.ra_deg.size,), name, "n_star, as ra_deg")
        if not np.all(self.flux > 0):
            raise InputError(f"flux: expected fluxes above 0 electron / s, got {self.flux.min()}")
        if not isinstance(self.transits, list | tuple) or not all(isinstance(one, Transit) for one in self.transits):
            raise InputError(f"transits: expected a list of Transit records, got {shown(self.transits)}")
        for one in self.transits:
            if not 0 <= one.source < self.flux.size:
                raise InputError(f"transits: expected stars 0 to {self.flux.size - 1}, got {one.source}")

    def light_curves(self, time: FloatArray) -> FloatArray:
        """Return the fluxes, shape (n_time, n_star), electron / s."""
        flux = np.tile(self.flux, (time.size, 1))
        for one in self.transits:
            flux[:, one.source] *= one.factor(time)
        return flux


def inject_stars(
    pixels: PixelTable,
    sources: SourceTable,
    prf: PrfModel,
    stars: NewStars,
    *,
    offset: tuple[float, float],
    scale: float,
    rng: np.random.Generator,
) -> Injected:
    """Add the light of stars, and its photon noise, to pixels.

    Parameters
    ----------
    pixels, sources : PixelTable, SourceTable
        Real pixels and their catalogue.
    prf : PrfModel
        PRF of the further stars.
    stars : NewStars
        The stars.
    offset : tuple of float
        How far stars lie from their catalogue positions, east and north, arcsec.
    scale : float
        electron / s per unit of catalogue flux.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    Injected

    Notes
    -----
    Light of L electron / s in a pixel adds the variance L / t, with the time t in which a cadence collects light: that
    of the brightest pixels, whose variance above the darkest ones' is that of their own light.
    """
    names = tuple(f"injected-{number}" for number in range(stars.flux.size))
    known = SourceTable(names, stars.ra_deg, stars.dec_deg, stars.flux / scale)
    radii = np.linspace(0.0, 100.0, 401) * np.sqrt(prf.pixel_area)
    level = _LEVEL * float(pixels.ivar.max()) ** -0.5 / float(stars.flux.max())
    reach = float(radii[min(int(np.searchsorted(-prf.envelope(radii), -level)), radii.size - 1)])
    pairs = build_pairs(pixels, known, reach).shifted(-offset[0], -offset[1])
    curves = stars.light_curves(pixels.time)
    light = curves @ pairs.to_sparse(prf.evaluate(pairs.dx, pairs.dy))
    variance = light / collecting_time(pixels)
    changed = replace(
        pixels,
        flux=pixels.flux + light + np.sqrt(variance) * rng.standard_normal(light.shape),
        flux_err=np.where(pixels.ivar > 0, np.sqrt(pixels.flux_err**2 + variance), pixels.flux_err),
        saturated=None,  # type: ignore[arg-type]  # found anew on construction
    )
    changed = replace(changed, saturated=changed.saturated | pixels.saturated)
    index = sources.n_source + np.arange(stars.flux.size)
    return Injected(changed, _appended(sources, known), index, curves)


def collecting_time(pixels: PixelTable) -> float:
    """Return the time in which a cadence collects light, s, from the noise of the brightest pixels."""
    good = (pixels.ivar > 0) & (pixels.flux > 0)
    if not good.any():
        raise InputError("pixels: expected some with light and an error, got none; stars cannot be injected")
    flux, variance = pixels.flux[good], 1.0 / pixels.ivar[good]
    bright = flux >= np.quantile(flux, 1.0 - _BRIGHT)
    own = variance[bright] - np.quantile(variance, _BRIGHT)
    return float(np.median(flux[bright] / np.maximum(own, 1e-3 * variance[bright])))


def _appended(sources: SourceTable, stars: SourceTable) -> SourceTable:
    return SourceTable(
        (*sources.source_id, *stars.source_id),
        np.concatenate([sources.ra_deg, stars.ra_deg]),
        np.concatenate([sources.dec_deg, stars.dec_deg]),
        np.concatenate([sources.flux, stars.flux]),
        np.concatenate([sources.mag, stars.mag]),
    )
