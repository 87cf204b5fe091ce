"""Whether catalogue fluxes are those of the stars that the pixels show: a row that is far off counts as unknown."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.errors import DataWarning, InputError
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import chord, unit_vectors
from bayesprf.scene.sources import SourceTable
from bayesprf.stats import mad_sigma, weighted_median

# Derived: a flux is another star's, or a slip of the pen, if the brightest pixel holds less or more than it by this,
# dex, beside the other stars: one for the prior of a flux, ten times as wide as the flux, and a half for the share of a
# PRF that one pixel holds, a tenth to nearly all.
_FAR = 1.5
# Derived: with fewer stars nothing tells which one is off.
_FEWEST = 3
# Derived: magnitudes are told from fluxes if they explain the light of this many stars so many times as well; what is
# called a magnitude lies between that of the Sun and the faintest that any telescope sees.
_ENOUGH, _BETTER, _MAGNITUDES = 5, 3.0, (-27.0, 40.0)
_LOGARITHMS = (
    "magnitudes do; name the column with mag_column='...' instead",
    "logarithms do; give 10 to their power",
)
# Derived: distances, pixel, that just hold the eight pixels around one, and a pixel's own corners.
_CORE_PIX, _ON_DATA_PIX = 1.5, 0.75
# Derived: other stars within this distance may light a star's brightest pixel, pixel: a Moffat profile (slope 2.5) of
# 2 pixels full width at half maximum, wider than those of these missions, has 4 % of its light beyond.
_REACH_PIX = 5.0
# Derived: the brightest pixel of a star is one of the three by three around it.
_N_CORE = 9
# Other stars explain a peak if they make expect this share of its light; theirs falls with this power of the distance
# in pixels beyond the first, as in a Moffat profile of 2 pixels full width at half maximum.
_EXPLAINED, _FALL = 1.0 / 3.0, 3.0
# Cost: cadences, evenly spaced, that are looked at; the light of a star is so many times the scatter of the image.
_LOOKED_AT, _CLEAR = 32, 5.0
# Derived: percentile of a file's image that is taken for its sky: where all is dark it lies 0.8 of the scatter too low,
# little beside the five of a clear star, and stars may light four fifths of the pixels.
_DARK_PERCENT = 20.0
# Shown: stars that a message names.
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Peaks:
    """The brightest pixel near each star."""

    pixel: IntArray
    light: FloatArray
    distance: FloatArray
    seen: BoolArray
    summit: BoolArray
    noise: float

    @property
    def clear(self) -> BoolArray:
        """Sources near a pixel that is well above the noise and the highest around."""
        return self.seen & self.summit & (self.light > _CLEAR * self.noise)


def question_fluxes(pixels: PixelTable, sources: SourceTable) -> SourceTable:
    """Return the sources without fluxes that the pixels contradict.

    Parameters
    ----------
    pixels : PixelTable
        The data.
    sources : SourceTable
        The catalogue, at the epoch of the data.

    Returns
    -------
    SourceTable
        With NaN for such fluxes; the same table if there are none.

    Raises
    ------
    InputError
        If the fluxes are magnitudes or logarithms: if as such they explain the light of the pixels, and as fluxes not.

    Warns
    -----
    DataWarning
        If there are, naming them.

    Notes
    -----
    The light of the brightest pixel of each star over its catalogue flux, in comparison with the median over the
    stars. A star is too bright if its pixels are dark, and too faint if it lies on a peak of the image that no other
    star explains.
    """
    known = sources.has_flux
    if np.count_nonzero(known) < _FEWEST:
        return sources
    image, noise = _typical_image(pixels)
    peaks = _find_peaks(pixels, sources, image, noise)
    _refuse_logarithms(peaks, sources.flux, known)
    usual = _usual_ratio(peaks, sources.flux, known)
    if not np.isfinite(usual):
        return sources
    light = np.log10(np.maximum(peaks.light, peaks.noise))
    ratio = light - np.log10(np.where(known, sources.flux, 1.0)) - usual
    wrong = known & peaks.seen & (ratio < -_FAR)
    asked = known & (ratio > _FAR)
    lit = np.where(known & ~wrong & ~asked, 10.0**usual * np.where(known, sources.flux, 0.0), 0.0)
    lit[~known] = np.inf
    wrong |= _unexplained(pixels, sources, peaks, lit=lit, asked=asked)
    if not wrong.any():
        return sources
    _warn(sources, np.flatnonzero(wrong), 10.0**-ratio)
    return replace(sources, flux=np.where(wrong, np.nan, sources.flux))


def _typical_image(pixels: PixelTable) -> tuple[FloatArray, float]:
    """Return the median of some cadences less the dark level of each cutout, shape (n_pixel,), and its scatter."""
    part = slice(None, None, max(1, pixels.n_time // _LOOKED_AT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels without data
        image = np.nanmedian(np.where(pixels.ivar[part] > 0, pixels.flux[part], np.nan), axis=0)
    image = np.where(np.isfinite(image), image, -np.inf)
    for stamp in np.unique(pixels.stamp):
        inside = (pixels.stamp == stamp) & np.isfinite(image)
        if inside.any():
            image[inside] -= np.percentile(image[inside], _DARK_PERCENT)
    seen = image[np.isfinite(image)]
    error = pixels.flux_err[part][pixels.ivar[part] > 0]
    typical = float(np.median(error)) if error.size else 1.0
    dark = seen[seen <= np.median(seen)] if seen.size else np.zeros(1)
    return image, max(float(mad_sigma(dark - np.median(dark))), typical)


def _find_peaks(pixels: PixelTable, sources: SourceTable, image: FloatArray, noise: float) -> _Peaks:
    side = pixels.instrument.pixel_scale
    tree = cKDTree(unit_vectors(pixels.ra_deg, pixels.dec_deg))
    where = unit_vectors(sources.ra_deg, sources.dec_deg)
    number = min(_N_CORE, pixels.n_pixel)
    distance, index = tree.query(where, k=list(range(1, number + 1)), distance_upper_bound=chord(_CORE_PIX * side))
    near = np.isfinite(distance)
    index = np.where(near, index, 0)
    light = np.where(near, image[index], -np.inf)
    best = np.argmax(light, axis=1)
    rows = np.arange(sources.n_source)
    saturated = (near & pixels.saturated[index]).any(axis=1)
    on_data = np.where(near & np.isfinite(light), distance, np.inf).min(axis=1) < chord(_ON_DATA_PIX * side)
    pixel = index[rows, best]
    around = tree.query(tree.data[pixel], k=list(range(1, number + 1)), distance_upper_bound=chord(_CORE_PIX * side))[1]
    highest = np.append(image, -np.inf)[around].max(axis=1)
    seen, summit = on_data & ~saturated, image[pixel] >= highest
    return _Peaks(pixel, light[rows, best], distance[rows, best], seen, summit, noise)


def _refuse_logarithms(peaks: _Peaks, flux: FloatArray, known: BoolArray) -> None:
    """Raise if fluxes, taken as magnitudes or logarithms, explain the light of clear peaks, and as fluxes do not."""
    use = known & peaks.clear
    value = flux[use]
    if value.size < _ENOUGH or np.ptp(value) == 0.0 or not np.all((value > _MAGNITUDES[0]) & (value < _MAGNITUDES[1])):
        return
    light = np.log10(peaks.light[use])
    spread = [mad_sigma(one - np.median(one)) for one in (light - np.log10(value), light + 0.4 * value, light - value)]
    for found, what, cure in zip(spread[1:], ("fall", "rise"), _LOGARITHMS, strict=True):
        if spread[0] > _BETTER * found:
            raise InputError(
                f"flux_column: expected fluxes on a linear scale, got numbers from {value.min():g} to {value.max():g}"
                f" that {what} with the light of the pixels as {cure}"
            )


def _usual_ratio(peaks: _Peaks, flux: FloatArray, known: BoolArray) -> float:
    """Return the median over stars on a summit of log light over flux, weighted by the square root of the light.

    Of stars that share a pixel the brightest counts.
    """
    use = np.flatnonzero(known & peaks.clear)
    use = use[np.argsort(-flux[use], kind="stable")]
    use = use[np.unique(peaks.pixel[use], return_index=True)[1]]
    if use.size < _FEWEST:
        return np.nan
    return float(weighted_median(np.log10(peaks.light[use]) - np.log10(flux[use]), np.sqrt(peaks.light[use])))


def _unexplained(
    pixels: PixelTable, sources: SourceTable, peaks: _Peaks, *, lit: FloatArray, asked: BoolArray
) -> BoolArray:
    """Return which of the sources lie on a clear peak that no other makes, shape (n_source,).

    `lit` is the light of the brightest pixel as the catalogue makes expect it of other stars, infinite if unknown.
    """
    side = pixels.instrument.pixel_scale
    centre, stars = unit_vectors(pixels.ra_deg, pixels.dec_deg), cKDTree(unit_vectors(sources.ra_deg, sources.dec_deg))
    found = np.zeros(sources.n_source, bool)
    for one in np.flatnonzero(asked & peaks.clear & (peaks.distance < chord(side))):
        place = centre[peaks.pixel[one]]
        near = [other for other in stars.query_ball_point(place, chord(_REACH_PIX * side)) if other != one]
        if np.any(pixels.saturated & (np.linalg.norm(centre - place, axis=1) < chord(_REACH_PIX * side))):
            continue  # light of a saturated star: nothing tells how much
        away = np.linalg.norm(stars.data[near] - place, axis=1) / chord(side)
        found[one] = np.sum(lit[near] * np.maximum(away, 1.0) ** -_FALL) < _EXPLAINED * peaks.light[one]
    return found


def _warn(sources: SourceTable, rows: IntArray, factor: FloatArray) -> None:
    named = ", ".join(
        f"{sources.source_id[one]!r} ({sources.flux[one]:.3g}, {factor[one]:.2g} times what its pixels hold)"
        for one in rows[:_MAX_NAMED]
    )
    more = f" and {len(rows) - _MAX_NAMED} more" if len(rows) > _MAX_NAMED else ""
    warnings.warn(
        f"catalogue: expected fluxes on one scale, but those of {len(rows)} stars are not, beside the other stars:"
        f" {named}{more}; they are taken as unknown: correct these rows",
        DataWarning,
        stacklevel=5,
    )
