"""Where simulated stars and pixels lie on the detector, and how bright the stars are."""

import numpy as np
from scipy.spatial import cKDTree

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_shape
from bayesprf.errors import InputError
from bayesprf.simulation.settings import FieldSettings

# Detector position of the first pixel: numbers as mission files have them.
_FIRST_COLUMN, _FIRST_ROW = 500, 300
# How far outside its cutout a companion may lie, pixel.
_MARGIN = 1.0
# Attempts to move stars apart before giving up.
_MAX_REDRAWS = 200


def count_stamps(settings: FieldSettings) -> int:
    """Count the cutouts of a field.

    Parameters
    ----------
    settings : FieldSettings
        What the field is made from.

    Returns
    -------
    int
        0 for an image, by default two for three stars.
    """
    if settings.layout == "image":
        return 0
    return -(-2 * settings.n_source // 3) if settings.n_stamp is None else settings.n_stamp


def draw_magnitudes(settings: FieldSettings, rng: np.random.Generator) -> FloatArray:
    """Draw magnitudes whose density grows as 10^(mag_slope mag) between the limits.

    Parameters
    ----------
    settings : FieldSettings
        `n_source`, `mag_range`, `mag_slope` and `magnitudes` are read.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float64, shape (n_source,)

    Raises
    ------
    ShapeError
        If `magnitudes` has the wrong shape.
    """
    if settings.magnitudes is not None:
        check_shape(settings.magnitudes, (settings.n_source,), "magnitudes", "n_source")
        return settings.magnitudes
    bright, faint = settings.mag_range
    share = rng.random(settings.n_source)
    growth = settings.mag_slope * np.log(10.0)
    if abs(growth * (faint - bright)) < 1e-9:
        return bright + share * (faint - bright)
    return np.asarray(bright + np.log1p(share * np.expm1(growth * (faint - bright))) / growth)


def place_stars(settings: FieldSettings, mag: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw star positions and list the pixels.

    Parameters
    ----------
    settings : FieldSettings
        Layout, number and sizes.
    mag : ndarray of float64, shape (n_source,)
        Magnitudes; brighter targets get larger cutouts.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    position : ndarray of float64, shape (n_source, 2)
        Column and row of each star, pixel.
    grid : ndarray of float64, shape (n_pixel, 3)
        Column, row and cutout index of each pixel.

    Raises
    ------
    InputError
        If the stars cannot be kept `min_separation` apart.
    """
    first = np.array([_FIRST_COLUMN, _FIRST_ROW], np.float64)
    if settings.layout == "image":
        n_row, n_column = settings.image_shape
        size = np.array([n_column, n_row], np.float64)
        low = np.broadcast_to(first - 0.5, (settings.n_source, 2))
        grid = _pixels(first[None, :].astype(np.int64), np.array([n_column]), np.array([n_row]))
        return _draw_apart(low, np.broadcast_to(size, low.shape), settings.min_separation, rng), grid
    n_stamp = count_stamps(settings)
    sides = _stamp_sides(settings, mag[:n_stamp])
    extent = float(np.sqrt(np.sum(sides**2) / settings.stamp_fill))
    low, width = np.full((n_stamp, 2), first), np.full((n_stamp, 2), extent)
    target = _draw_apart(low, width, settings.min_separation, rng)
    corner = np.rint(target - (sides[:, None] - 1) / 2).astype(np.int64)
    host = np.arange(settings.n_source - n_stamp) % n_stamp
    if settings.companion_distance is not None:
        beside = _draw_around(target[host], settings.companion_distance, rng)
        return np.concatenate([target, beside]), _pixels(corner, sides, sides)
    low = np.concatenate([target, corner[host] - 0.5 - _MARGIN])
    width = np.concatenate([np.zeros_like(target), np.repeat(sides[host, None] + 2 * _MARGIN, 2, axis=1)])
    return _draw_apart(low, width, settings.min_separation, rng), _pixels(corner, sides, sides)


def _stamp_sides(settings: FieldSettings, mag: FloatArray) -> IntArray:
    """Give each target a cutout side; the brighter, the larger, in equal shares."""
    rank = np.empty(mag.size, np.int64)
    rank[np.argsort(-mag, kind="stable")] = np.arange(mag.size)
    sides = np.sort(np.array(settings.stamp_sides, np.int64))
    return np.asarray(sides[rank * sides.size // mag.size])


def _pixels(corner: IntArray, n_column: IntArray, n_row: IntArray) -> FloatArray:
    """List each pixel of the cutouts once: column, row and the first cutout it lies in."""
    parts = []
    for stamp, (column, row) in enumerate(corner):
        rows, columns = np.mgrid[row : row + n_row[stamp], column : column + n_column[stamp]]
        parts.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stamp)], axis=1))
    grid = np.concatenate(parts)
    kept = np.sort(np.unique(grid[:, :2], axis=0, return_index=True)[1])
    return np.asarray(grid[kept], np.float64)


def _draw_around(centre: FloatArray, distance: tuple[float, float], rng: np.random.Generator) -> FloatArray:
    """Draw one point around each centre, uniform in distance and direction."""
    angle = rng.uniform(0.0, 2.0 * np.pi, centre.shape[0])
    return centre + rng.uniform(*distance, (centre.shape[0], 1)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _draw_apart(low: FloatArray, width: FloatArray, separation: float, rng: np.random.Generator) -> FloatArray:
    """Draw points in boxes, and draw again those closer than `separation` to an earlier one."""
    position = low + width * rng.random(low.shape)
    for _ in range(_MAX_REDRAWS):
        close = cKDTree(position).query_pairs(separation, output_type="ndarray")
        if close.size == 0:
            return position
        again = np.unique(close.max(axis=1))
        position[again] = low[again] + width[again] * rng.random((again.size, 2))
    raise InputError(
        f"min_separation: expected a distance at which {low.shape[0]} stars fit, got {separation} pixel;"
        " lower it or enlarge the field"
    )
