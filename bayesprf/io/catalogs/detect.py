"""Stars without a catalogue: those that the headers name, and those that the mean image shows."""

import warnings
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import sigma_clipped_stats
from scipy.ndimage import binary_dilation, label
from scipy.spatial import cKDTree

from bayesprf.arrays import BoolArray, FloatArray, IntArray, Named
from bayesprf.checks import check_positive
from bayesprf.errors import InputError, MissingDependencyError
from bayesprf.instruments import Instrument
from bayesprf.io.catalogs.epoch import julian_year_of
from bayesprf.scene.axes import pixel_area, pixel_axes
from bayesprf.scene.image import Image, reduce_image
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.placement import SAME_PLACE
from bayesprf.scene.sky import ARCSEC_PER_DEG, chord, close_pairs, nearest, unit_vectors
from bayesprf.scene.sources import SourceTable
from bayesprf.stats import SIGMA_PER_MAD

if TYPE_CHECKING:
    from astropy.table import Table
    from photutils.detection import DAOStarFinder


# Format: epoch of the positions in headers of Kepler, K2 and TESS.
_HEADER_EPOCH = 2000.0
# Derived: full width at half maximum of a star in pixels: the nominal PRF's, wide enough for Kepler's 1.4 to 2.2 and
# TESS's 1.9.
_FWHM = 1.5
# Definition: power of the nominal Moffat profile (Trujillo et al. 2001, MNRAS 328, 977: 2.5 to 5), and how far its wing
# is looked at, in widths.
_MOFFAT_POWER, _WING = 2.5, 3.0
# Definition: pixels that touch, corners too.
_TOUCH = np.ones((3, 3), bool)
# An image of a scattered stack holds its gaps too; more pixels than this are not looked at in one piece.
_MAX_GRID = 5 * 10**7


def sources_from_targets(pixels: PixelTable) -> SourceTable:
    """Return the stars that the headers of target pixel files name: one per file, no star beside them.

    Parameters
    ----------
    pixels : PixelTable
        As `read_tpfs` returns it: `meta["targets"]` holds names, positions, magnitudes and motions.

    Returns
    -------
    SourceTable
        With the epoch of the headers, J2000. Fluxes are those of the mission's magnitudes, electron / s; where a
        header has none, the light within 1.5 pixels of the star above the background.

    Raises
    ------
    InputError
        If no header names a star with a position.
    """
    targets = [one for one in pixels.meta.get("targets", ()) if _names_a_star(one)]
    if not targets:
        raise InputError(
            "catalog: 'targets' expects target pixel files whose headers name a star with RA_OBJ and DEC_OBJ, got none;"
            " give a catalogue, or catalog='detect'"
        )
    ra_deg, dec_deg, mag = (np.array([one[key] for one in targets], np.float64) for key in ("ra_deg", "dec_deg", "mag"))
    of_mag = pixels.instrument.flux_from_mag(0.0) * 10.0 ** (-0.4 * mag)
    sources = SourceTable(
        source_id=_distinct([str(one["id"]) for one in targets]),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        flux=np.where(np.isfinite(mag), of_mag, _light_around(pixels, ra_deg, dec_deg)),
        mag=mag,
        columns={"file": np.array([one["file"] for one in targets], object)},
        motion=np.array([[one.get("pmra", np.nan), one.get("pmdec", np.nan)] for one in targets], np.float64),
        epoch=np.asarray(_HEADER_EPOCH),
    )
    return sources.select(_first_within(sources.ra_deg, sources.dec_deg, SAME_PLACE))


def _light_around(pixels: PixelTable, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Return the light of the mean image above the background within 1.5 pixels of each place, electron / s."""
    image = reduce_image(pixels)
    light = np.where(image.ivar > 0, image.flux - _level(pixels, image)[0], 0.0)
    tree = cKDTree(unit_vectors(pixels.ra_deg, pixels.dec_deg))
    near = tree.query_ball_point(unit_vectors(ra_deg, dec_deg), chord(_FWHM * _side(pixels)))
    return np.array([light[one].sum() for one in near], np.float64)


def _side(pixels: PixelTable) -> float:
    return float(np.sqrt(pixel_area(pixels)))


def _names_a_star(target: Named) -> bool:
    """Return whether a header names a star: one without a name is the middle of a cutout."""
    return bool(np.isfinite([target["ra_deg"], target["dec_deg"]]).all()) and target["id"] != target["file"]


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Return the names with a count added to each that came before: K2 gives one name to many cutouts of a cluster."""
    made: list[str] = []
    for name in names:
        earlier = sum(one == name or one.startswith(f"{name} (") for one in made)
        made.append(f"{name} ({earlier + 1})" if earlier else name)
    return tuple(made)


def detect_sources(pixels: PixelTable, *, threshold: float = 5.0, fwhm: float = _FWHM) -> SourceTable:
    """Find the stars that the mean image shows.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    threshold : float
        Least height of a star, in standard deviations of the image: of its pixel errors, or of the scatter of its
        pixels below the background, which stars cannot widen, whichever is larger.
    fwhm : float
        Full width at half maximum of a star, pixel.

    Returns
    -------
    SourceTable
        The brightest first. Positions at the epoch of the data, good to some tenths of a pixel; fluxes are sums over
        3 x 3 pixels above the background, electron / s, and magnitudes are the mission's of these.

    Raises
    ------
    InputError
        If no star is found.
    MissingDependencyError
        If photutils is not installed.

    Notes
    -----
    `photutils.detection.DAOStarFinder` (Stetson 1987). Blended stars less than about 1.5 pixels apart come out as one,
    and so do the peaks of saturated pixels that touch.
    """
    check_positive(threshold, "threshold")
    check_positive(fwhm, "fwhm")
    found = _find(pixels, threshold, fwhm)
    if found is None:
        raise InputError(
            f"catalog: 'detect' expects a star above {threshold:g} standard deviations of the mean image, found none;"
            " lower the threshold, or give a catalogue"
        )
    column, row, flux = found
    order = np.argsort(-flux, kind="stable")
    ra_deg, dec_deg = _to_sky(pixels, column[order], row[order])
    keep = _first_within(ra_deg, dec_deg, fwhm * _side(pixels)) & _first_of_trail(_trail_of(pixels, ra_deg, dec_deg))
    ra_deg, dec_deg, order = ra_deg[keep], dec_deg[keep], order[keep]
    return SourceTable(
        source_id=tuple(f"detected-{number + 1}" for number in range(order.size)),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        flux=flux[order],
        mag=_magnitude(pixels.instrument, flux[order]),
        epoch=np.asarray(julian_year_of(pixels)) if pixels.instrument.time_zero_jd else None,
    )


def add_missing(pixels: PixelTable, sources: SourceTable) -> SourceTable:
    """Return the sources with the stars of the mean image that they lack.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    sources : SourceTable
        The catalogue, at the epoch of the data.

    Returns
    -------
    SourceTable
        Stars farther than 1.5 pixels from every source, not on the saturated pixels of one, and brighter than its wing
        there by a nominal profile, are added, on the scale of the catalogue's fluxes, which is the median over the
        stars that are in both.
    """
    try:
        found = detect_sources(pixels)
    except InputError:
        return sources
    match, distance = nearest(found.ra_deg, found.dec_deg, sources.ra_deg, sources.dec_deg)
    new = distance > _FWHM * _side(pixels)
    trail = _trail_of(pixels, found.ra_deg, found.dec_deg)
    new &= (trail == 0) | ~np.isin(trail, _trail_of(pixels, sources.ra_deg, sources.dec_deg))
    known = ~new & sources.has_flux[match]
    scale = float(np.median(sources.flux[match[known]] / found.flux[known])) if known.any() else 1.0
    expected = np.where(sources.has_flux, np.nan_to_num(sources.flux), 0.0)
    peak, star = (_to_pixels(pixels, one.ra_deg, one.dec_deg) for one in (found, sources))
    new &= ~_in_a_wing(peak, scale * found.flux * _nine_pixels(0.0), star, expected)
    if not new.any():
        return sources
    added = found.select(new).scaled(scale)
    free = (name for number in count(1) if (name := f"detected-{number}") not in sources.source_id)
    return sources.joined(replace(added, source_id=tuple(islice(free, added.n_source))))


def _first_within(ra_deg: FloatArray, dec_deg: FloatArray, limit: float) -> BoolArray:
    """Return which places have none before them within some arcsec: a star of several files counts once."""
    keep = np.ones(ra_deg.size, bool)
    for first, second in close_pairs(ra_deg, dec_deg, limit):
        keep[second] &= ~keep[first]
    return keep


def _first_of_trail(trail: IntArray) -> BoolArray:
    """Return which places are the first on their saturated pixels, or on none."""
    return (trail == 0) | (np.bincount(np.unique(trail, return_index=True)[1], minlength=trail.size) > 0)


def _in_a_wing(peak: FloatArray, light: FloatArray, star: FloatArray, flux: FloatArray) -> BoolArray:
    """Return which peaks hold less light in 3 x 3 pixels than the wing of a star there; places are (n, 2), pixel."""
    wing = np.zeros(light.size)
    for one, near in enumerate(cKDTree(star).query_ball_point(peak, _WING * _FWHM)):
        share = [_nine_pixels(distance) for distance in np.hypot(*(star[near] - peak[one]).T)]
        wing[one] = np.max(flux[near] * share, initial=0.0)
    return light < wing


def _nine_pixels(distance: float) -> float:
    """Return the share of the light of a Moffat profile in 3 x 3 pixels at some distance from its middle."""
    width = 0.5 * _FWHM / np.sqrt(2.0 ** (1.0 / _MOFFAT_POWER) - 1.0)
    along = np.arange(-1.375, 1.5, 0.25)
    r2 = (along[:, None] ** 2 + (along + distance) ** 2) / width**2
    density = (_MOFFAT_POWER - 1.0) / (np.pi * width**2) * (1.0 + r2) ** -_MOFFAT_POWER
    return float(np.sum(density)) / 16.0


def _trail_of(pixels: PixelTable, ra_deg: FloatArray, dec_deg: FloatArray) -> IntArray:
    """Return which patch of saturated pixels that touch, and their neighbours, each place lies on; 0 for none."""
    if not pixels.saturated.any():
        return np.zeros(ra_deg.size, np.int64)
    _, place, shape = _grid(pixels)
    full = np.zeros(shape, bool)
    full[place] = pixels.saturated
    patch = label(binary_dilation(full, _TOUCH), _TOUCH)[0][place]
    pixel, distance = nearest(ra_deg, dec_deg, pixels.ra_deg, pixels.dec_deg)
    return np.where(distance < _side(pixels), patch[pixel], 0).astype(np.int64)


def _find(pixels: PixelTable, threshold: float, fwhm: float) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Return column, row and flux of the stars of the mean image, or None."""
    image = reduce_image(pixels)
    corner, place, shape = _grid(pixels)
    background, error = _level(pixels, image)
    grid = np.zeros(shape)
    grid[place] = np.where(image.ivar > 0, image.flux - background, 0.0)
    gaps = np.ones(shape, bool)
    gaps[place] = image.ivar <= 0
    # The finder's own least distance between two stars, 2.5 times the width, would merge most blends.
    finder = _finder()(
        threshold * error, fwhm, sharpness_range=(0.0, 2.0), roundness_range=(-1.0, 1.0), min_separation=fwhm
    )
    table = _run(finder, grid, gaps)
    if table is None or len(table) == 0:
        return None
    x, y = (np.asarray(table[name], np.float64) for name in ("x_centroid", "y_centroid"))
    flux = _sums(grid, x, y)
    good = flux > 0
    return (x[good] + corner[0], y[good] + corner[1], flux[good]) if good.any() else None


def _magnitude(instrument: Instrument, flux: FloatArray) -> FloatArray:
    """Return magnitudes in the mission's band; NaN where the instrument has no zero point."""
    if instrument.zero_flux_mag == 0.0:
        return np.full(flux.size, np.nan)
    return instrument.zero_flux_mag - 2.5 * np.log10(flux / instrument.zero_flux)


def _grid(pixels: PixelTable) -> tuple[tuple[int, int], tuple[IntArray, IntArray], tuple[int, int]]:
    """Return column and row of the corner, place of each pixel (row, column), and shape of the image of all pixels."""
    column, row = np.rint(pixels.column).astype(np.int64), np.rint(pixels.row).astype(np.int64)
    corner = int(column.min()), int(row.min())
    shape = int(row.max()) - corner[1] + 1, int(column.max()) - corner[0] + 1
    if shape[0] * shape[1] > _MAX_GRID:
        raise InputError(
            f"catalog: 'detect' expects pixels of one detector, got columns and rows that span {shape[1]} x {shape[0]};"
            " read the files of each detector apart"
        )
    return corner, (row - corner[1], column - corner[0]), shape


def _level(pixels: PixelTable, image: Image) -> tuple[FloatArray, float]:
    """Return the background of each pixel, the clipped median of its stamp, and the noise of the image."""
    used = image.ivar > 0
    background = np.zeros(pixels.n_pixel)
    for stamp in np.unique(pixels.stamp[used]):
        here = used & (pixels.stamp == stamp)
        background[here] = sigma_clipped_stats(image.flux[here])[1]
    if not used.any():
        return background, 1.0
    error = float(np.median(image.ivar[used] ** -0.5))
    below = (background - image.flux)[used & (image.flux < background)]
    return background, max(error, SIGMA_PER_MAD * float(np.median(below)) if below.size else 0.0)


def _sums(grid: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the sums over the 3 x 3 pixels around each place."""
    padded = np.pad(grid, 2)
    column, row = np.rint(x).astype(np.int64) + 2, np.rint(y).astype(np.int64) + 2
    steps = (-1, 0, 1)
    parts = [padded[row + down, column + right] for down in steps for right in steps]
    return np.sum(parts, axis=0)


def _to_sky(pixels: PixelTable, column: FloatArray, row: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the sky positions of places on the detector, from the nearest pixel on, degree."""
    _, index = cKDTree(np.stack([pixels.column, pixels.row], axis=1)).query(np.stack([column, row], axis=1))
    east, north = pixel_axes(pixels) @ np.stack([column - pixels.column[index], row - pixels.row[index]])
    dec_deg = pixels.dec_deg[index] + north / ARCSEC_PER_DEG
    ra_deg = pixels.ra_deg[index] + east / ARCSEC_PER_DEG / np.cos(np.radians(pixels.dec_deg[index]))
    return ra_deg % 360.0, dec_deg


def _to_pixels(pixels: PixelTable, ra_deg: FloatArray, dec_deg: FloatArray) -> FloatArray:
    """Return positions on the sky in pixels about the first pixel, shape (n, 2)."""
    north = (dec_deg - pixels.dec_deg[0]) * ARCSEC_PER_DEG
    turn = (ra_deg - pixels.ra_deg[0] + 180.0) % 360.0 - 180.0
    east = turn * ARCSEC_PER_DEG * np.cos(np.radians(pixels.dec_deg[0]))
    return np.asarray(np.linalg.solve(pixel_axes(pixels), np.stack([east, north])).T)


def _run(finder: "DAOStarFinder", grid: FloatArray, gaps: BoolArray) -> "Table | None":
    from photutils.utils.exceptions import NoDetectionsWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        return finder.find_stars(grid, mask=gaps)


def _finder() -> "type[DAOStarFinder]":
    try:
        from photutils.detection import DAOStarFinder
    except ImportError as error:
        raise MissingDependencyError(
            "catalog: 'detect' needs the package photutils; install it with: pip install photutils"
        ) from error
    return DAOStarFinder
