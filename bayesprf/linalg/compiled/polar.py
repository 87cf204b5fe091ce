"""Compiled polar splines: log10 of the PRF, its gradient, and its columns, pair by pair."""

from typing import NamedTuple

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.compiled.jit import inlined, kernel

_LN10 = float(np.log(10.0))


@inlined
def cubic_splines(x: float, knots: FloatArray, value: FloatArray, slope: FloatArray) -> int:
    """Fill the four cubic B-splines alive at x and their derivatives; return the index of the first.

    Parameters
    ----------
    x : float
        Where to evaluate, inside the bounds of the knots.
    knots : ndarray of float64, shape (n_knot,)
        Full knot vector.
    value, slope : ndarray of float64, shape (4,)
        Filled.

    Returns
    -------
    int
    """
    low, high = 3, knots.size - 5
    while low < high:
        middle = (low + high + 1) // 2
        if knots[middle] <= x:
            low = middle
        else:
            high = middle - 1
    span = low
    value[0] = 1.0
    for order in range(1, 4):
        carried, bent = 0.0, 0.0
        for k in range(order):
            right, left = knots[span + k + 1], knots[span + k + 1 - order]
            share = value[k] / (right - left)
            if order == 3:
                slope[k] = bent - 3.0 * share
                bent = 3.0 * share
            value[k] = carried + (right - x) * share
            carried = (x - left) * share
        value[order] = carried
        if order == 3:
            slope[3] = bent
    return span - 3


@inlined
def periodic_splines(phi: float, n_knot: int, value: FloatArray, slope: FloatArray) -> int:
    """Fill the four periodic cubic B-splines alive at an angle, -pi to pi, and their derivatives; return the first."""
    scaled = (phi + (2.0 * np.pi if phi < 0.0 else 0.0)) * (n_knot / (2.0 * np.pi))
    first = min(int(scaled), n_knot - 1)
    t = scaled - first
    s = 1.0 - t
    rate = n_knot / (2.0 * np.pi)
    value[0], value[3] = s * s * s / 6.0, t * t * t / 6.0
    value[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    value[2] = (4.0 - 6.0 * s * s + 3.0 * s * s * s) / 6.0
    slope[0], slope[3] = -0.5 * s * s * rate, 0.5 * t * t * rate
    slope[1] = (-2.0 * t + 1.5 * t * t) * rate
    slope[2] = (2.0 * s - 1.5 * s * s) * rate
    return first


@inlined
def _wrap(index: int, n: int) -> int:
    """Return an index around a circle, less than two turns."""
    return index if index < n else index - n


@inlined
def _around(
    own: FloatArray, offset: int, first: int, n_phi: int, value: FloatArray, slope: FloatArray
) -> tuple[float, float]:
    """Return the sum of the angular functions of one radius, and its derivative by the angle."""
    ring, turn = 0.0, 0.0
    for j in range(4):
        weight = own[offset + _wrap(first + j, n_phi)]
        ring += value[j] * weight
        turn += slope[j] * weight
    return ring, turn


@inlined
def _add_function(
    row: FloatArray,
    function: int,
    light: float,
    factors: FloatArray,
    shape: tuple[int, int],
    n_basis: int,
    first: int,
    around: FloatArray,
) -> None:
    """Add the derivatives by the weights of one radial function, of each column over the field."""
    n_core, n_phi = shape
    for k in range(factors.size):
        part = light * factors[k]
        if function < n_core:
            row[k * n_basis + function] += part
            continue
        offset = k * n_basis + n_core + (function - n_core) * n_phi
        for j in range(4):
            row[offset + _wrap(first + j, n_phi)] += part * around[j]


@kernel
def evaluate_pairs(
    source: IntArray,
    place: FloatArray,
    weights: FloatArray,
    wing: FloatArray,
    starts: FloatArray,
    knots: FloatArray,
    shape: tuple[int, int],
    log: FloatArray,
    gradient: FloatArray,
) -> None:
    """Evaluate log10 of the PRF and the gradient of its natural logarithm.

    Parameters
    ----------
    source : ndarray of int64, shape (n_pair,)
        Row of `weights` of each pair.
    place : ndarray of float64, shape (n_pair, 2)
        Offset of the pixel from the star in coordinates in which the core is round, arcsec.
    weights : ndarray of float64, shape (n_source, n_basis)
        Weights of log10 PRF of each source, dex.
    wing : ndarray of float64, shape (n_wing,)
        Power of r beyond the last knot, and its changes.
    starts : ndarray of float64, shape (n_wing,)
        Where these begin, log10 of the radius in units of the last knot.
    knots : ndarray of float64, shape (n_knot,)
        Full radial knot vector.
    shape : tuple of int
        Number of radial functions without angle, and of angular functions.
    log : ndarray of float64, shape (n_pair,)
        Filled: log10 PRF, dex.
    gradient : ndarray of float64, shape (n_pair, 2)
        Filled: d ln PRF / d place, 1 / arcsec.
    """
    n_core, n_phi = shape
    rmax, edge = knots[-1], knots.size - 6
    radial, radial_slope, around, around_slope = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for pair in range(source.size):
        x, y = place[pair, 0], place[pair, 1]
        r = np.sqrt(x * x + y * y)
        own = weights[source[pair]]
        first = periodic_splines(np.arctan2(y, x), n_phi, around, around_slope)
        level, by_r, by_phi = 0.0, 0.0, 0.0
        if r < rmax:
            start = cubic_splines(r, knots, radial, radial_slope)
            for i in range(4):
                function = max(start + i - 1, 0)
                if function < n_core:
                    level += radial[i] * own[function]
                    by_r += radial_slope[i] * own[function]
                    continue
                ring, turn = _around(own, n_core + (function - n_core) * n_phi, first, n_phi, around, around_slope)
                level += radial[i] * ring
                by_r += radial_slope[i] * ring
                by_phi += radial[i] * turn
        else:
            # Of the radial functions the last alone, which is one.
            if edge < n_core:
                level = own[edge]
            else:
                level, by_phi = _around(own, n_core + (edge - n_core) * n_phi, first, n_phi, around, around_slope)
            depth, power = np.log10(r / rmax), 0.0
            for k in range(wing.size):
                if depth > starts[k]:
                    level += wing[k] * (depth - starts[k])
                    power += wing[k]
            by_r = power / (r * _LN10)
        safe = max(r, 1e-12)
        by_r, by_phi = _LN10 * by_r / safe, _LN10 * by_phi / (safe * safe)
        log[pair] = level
        gradient[pair, 0] = by_r * x - by_phi * y
        gradient[pair, 1] = by_r * y + by_phi * x


@kernel
def add_columns(
    indptr: IntArray,
    order: IntArray,
    source: IntArray,
    place: FloatArray,
    light: FloatArray,
    factors: FloatArray,
    starts: FloatArray,
    knots: FloatArray,
    shape: tuple[int, int],
    rows: FloatArray,
) -> None:
    """Add up, pixel by pixel, the derivatives of the image with respect to the weights and the slope of the wing.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_row + 1,)
        Row i holds the pairs ``order[indptr[i]:indptr[i + 1]]``.
    order : ndarray of int64, shape (n_entry,)
        Pairs.
    source : ndarray of int64, shape (n_pair,)
        Source of each pair.
    place : ndarray of float64, shape (n_pair, 2)
        Offset in coordinates in which the core is round, arcsec.
    light : ndarray of float64, shape (n_pair,)
        Light of the pair times ln 10, electron / s.
    factors : ndarray of float64, shape (n_source, n_field)
        Columns over the field.
    starts : ndarray of float64, shape (n_wing,)
        Where slope and bends of the wing begin, log10 of the radius in units of the last knot.
    knots : ndarray of float64, shape (n_knot,)
        Full radial knot vector.
    shape : tuple of int
        Number of radial functions without angle, and of angular functions.
    rows : ndarray of float64, shape (n_row, n_global)
        Added to: the weights of each column over the field, then slope and bends of the wing.
    """
    n_core, n_phi = shape
    n_field = factors.shape[1]
    rmax, edge = knots[-1], knots.size - 6
    n_basis = n_core + (edge + 1 - n_core) * n_phi
    radial, around, unused = np.empty(4), np.empty(4), np.empty(4)
    for row in range(indptr.size - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            pair = order[entry]
            x, y = place[pair, 0], place[pair, 1]
            r = np.sqrt(x * x + y * y)
            first = periodic_splines(np.arctan2(y, x), n_phi, around, unused)
            if r < rmax:
                start = cubic_splines(r, knots, radial, unused)
                for i in range(4):
                    own = light[pair] * radial[i]
                    _add_function(
                        rows[row], max(start + i - 1, 0), own, factors[source[pair]], shape, n_basis, first, around
                    )
                continue
            # Of the radial functions the last alone, which is one.
            _add_function(rows[row], edge, light[pair], factors[source[pair]], shape, n_basis, first, around)
            depth = np.log10(r / rmax)
            for k in range(starts.size):
                if depth > starts[k]:
                    rows[row, n_field * n_basis + k] += light[pair] * (depth - starts[k])


class FarStars(NamedTuple):
    """What the far light of each star is made from.

    Parameters
    ----------
    place : ndarray of float64, shape (n_source, 2)
        Right ascension and declination past those of the field, arcsec, the first without cos(dec).
    stretch : ndarray of float64, shape (n_source,)
        cos(dec).
    inner, outer : ndarray of float64, shape (n_source,)
        Squares of the radii from which light is far, and beyond which there is too little, arcsec**2.
    shift : ndarray of float64, shape (n_source, 2)
        Offset from the catalogue position, arcsec.
    frame : ndarray of float64, shape (n_source, 2, 2)
        The map from the sky to coordinates in which the core is round.
    turn : ndarray of float64, shape (n_source, 2, 2, 2)
        Its derivatives by the shear along the axes and along the diagonals.
    flux : ndarray of float64, shape (n_source,)
        Flux, electron / s.
    peaks : ndarray of float64, shape (n_source, 2)
        Light at the centre, and the same times what its error grows by over the field, electron / s.
    edge : ndarray of float64, shape (n_source, n_edge + 3)
        Weights of log10 PRF at the last knot, dex, the first three again at the end.
    factors : ndarray of float64, shape (n_source, n_field)
        Columns over the field of the weights.
    geometry : ndarray of float64, shape (n_source, n_geometry)
        Columns over the field of shear and offset.
    """

    place: FloatArray
    stretch: FloatArray
    inner: FloatArray
    outer: FloatArray
    shift: FloatArray
    frame: FloatArray
    turn: FloatArray
    flux: FloatArray
    peaks: FloatArray
    edge: FloatArray
    factors: FloatArray
    geometry: FloatArray


@inlined
def _known_edge(angle: float, base: FloatArray) -> tuple[float, float]:
    """Return log10 of a known PRF at rmax and its derivative by the angle, between the entries of its table."""
    n_angle = base.size - 1
    step = (angle + (2.0 * np.pi if angle < 0.0 else 0.0)) * (n_angle / (2.0 * np.pi))
    left = min(int(step), n_angle - 1)
    rate = base[left + 1] - base[left]
    return base[left] + (step - left) * rate, rate * (n_angle / (2.0 * np.pi))


@inlined
def _add_ring(total: FloatArray, r2: float, rings: FloatArray, value: float) -> None:
    """Add a value to the ring that a radius falls into, given squared."""
    for k in range(rings.size - 1, -1, -1):
        if r2 >= rings[k]:
            total[k] += value
            break


@inlined
def gradient_of_wing(x: float, y: float, power: float, by_phi: float, gradient: FloatArray) -> None:
    """Fill d ln PRF / d place of a power law whose logarithm also changes with the angle."""
    r2 = x * x + y * y
    gradient[0], gradient[1] = (power * x - by_phi * y) / r2, (power * y + by_phi * x) / r2


@inlined
def bends(dx: float, dy: float, gradient: FloatArray, frame: FloatArray, turn: FloatArray, bend: FloatArray) -> None:
    """Fill d ln PRF by the two shears, whose frames change by `turn`, and by an offset east and north."""
    for k in range(2):
        along = gradient[0] * (turn[k, 0, 0] * dx + turn[k, 0, 1] * dy)
        bend[k] = along + gradient[1] * (turn[k, 1, 0] * dx + turn[k, 1, 1] * dy)
        bend[2 + k] = -(frame[0, k] * gradient[0] + frame[1, k] * gradient[1])


@inlined
def add_bends(row: FloatArray, start: int, light: float, geometry: FloatArray, bend: FloatArray) -> None:
    """Add the derivatives by shear and offset of each column over the field: shears, then offsets."""
    n_geometry = geometry.size
    for k in range(n_geometry):
        for j in range(2):
            row[start + 2 * k + j] += light * geometry[k] * bend[j]
            row[start + 2 * (n_geometry + k) + j] += light * geometry[k] * bend[2 + j]


@kernel
def add_geometry(
    indptr: IntArray,
    order: IntArray,
    source: IntArray,
    offset: FloatArray,
    gradient: FloatArray,
    light: FloatArray,
    frame: FloatArray,
    turn: FloatArray,
    geometry: FloatArray,
    start: int,
    rows: FloatArray,
) -> None:
    """Add up, pixel by pixel, the derivatives of the image with respect to shear and offset.

    Parameters
    ----------
    indptr : ndarray of int64, shape (n_row + 1,)
        Row i holds the pairs ``order[indptr[i]:indptr[i + 1]]``.
    order : ndarray of int64, shape (n_entry,)
        Pairs.
    source : ndarray of int64, shape (n_pair,)
        Source of each pair.
    offset, gradient : ndarray of float64, shape (n_pair, 2)
        Offset on the sky, arcsec, and d ln PRF / d place, 1 / arcsec.
    light : ndarray of float64, shape (n_pair,)
        Light of the pair, electron / s.
    frame : ndarray of float64, shape (n_source, 2, 2)
        The map from the sky to coordinates in which the core is round.
    turn : ndarray of float64, shape (n_source, 2, 2, 2)
        Its derivatives by the shear along the axes and along the diagonals.
    geometry : ndarray of float64, shape (n_source, n_geometry)
        Columns over the field.
    start : int
        First column of the shears.
    rows : ndarray of float64, shape (n_row, n_global)
        Added to.
    """
    bend = np.empty(4)
    for row in range(indptr.size - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            pair = order[entry]
            s = source[pair]
            bends(offset[pair, 0], offset[pair, 1], gradient[pair], frame[s], turn[s], bend)
            add_bends(rows[row], start, light[pair], geometry[s], bend)


class FarCells(NamedTuple):
    """Nested squares of the image, each before its parts: far from a star a few nodes stand for all of its pixels.

    Parameters
    ----------
    center : ndarray of float64, shape (n_cell, 2)
        As the places of pixels, arcsec, the first without cos(dec).
    radius : ndarray of float64, shape (n_cell,)
        Half the diagonal, arcsec.
    after : ndarray of int64, shape (n_cell,)
        The next cell that is no part of this one.
    first_pixel, last_pixel : ndarray of int64, shape (n_cell,)
        The cell holds the pixels ``pixel[first_pixel:last_pixel]``.
    first_node : ndarray of int64, shape (n_cell,)
        Where its nodes begin; -1 for a cell of so few pixels that it has none.
    pixel : ndarray of int64, shape (n_pixel,)
        Pixels, cell by cell.
    """

    center: FloatArray
    radius: FloatArray
    after: IntArray
    first_pixel: IntArray
    last_pixel: IntArray
    first_node: IntArray
    pixel: IntArray


N_NODE = 16
"""Format: nodes of a cell: four by four, for cubic polynomials."""
FAR_RADII = 2.0
"""Accuracy: a cell is seen as a whole from so many times its radius. Cubic polynomials then err by 0.3 % of the far
light, 0.006 of the noise of a pixel on an image of 500 stars, where light is cut at 0.02."""


@inlined
def _choose(cell: int, s: int, cells: FarCells, stars: FarStars, ring: float) -> tuple[int, int]:
    """Return the next cell, and how many pixels of this one to look at, or minus its number of nodes.

    A cell of which a part is close enough for its light to count is seen as a whole: the rest is light as well.
    """
    inner, outer = np.sqrt(stars.inner[s]), np.sqrt(stars.outer[s])
    dx = (cells.center[cell, 0] - stars.place[s, 0]) * stars.stretch[s]
    distance, radius = np.hypot(dx, cells.center[cell, 1] - stars.place[s, 1]), cells.radius[cell]
    if distance - radius > outer or distance + radius <= inner:
        return cells.after[cell], 0
    apart = distance - radius > max(inner, np.sqrt(ring))
    if cells.first_node[cell] >= 0 and apart and distance >= FAR_RADII * radius:
        return cells.after[cell], -N_NODE
    if cells.after[cell] > cell + 1:
        return cell + 1, 0
    return cells.after[cell], cells.last_pixel[cell] - cells.first_pixel[cell]


@inlined
def _wing_level(depth: float, wing: FloatArray, starts: FloatArray) -> tuple[float, float]:
    """Return by how much log10 of the PRF has changed since the last knot, and its power of r."""
    level, power = 0.0, 0.0
    for k in range(wing.size):
        if depth > starts[k]:
            level += wing[k] * (depth - starts[k])
            power += wing[k]
    return level, power


@inlined
def _add_far_level(
    row: FloatArray, start: int, first: int, light: float, depth: float, factors: FloatArray, starts: FloatArray,
    around: FloatArray,
) -> None:  # fmt: skip
    """Add the derivatives of far light by the edge of the splines and by slope and bends of the wing."""
    for i in range(factors.size):
        place = i * (start // factors.size) + first
        for j in range(4):
            row[place + j] += light * factors[i] * around[j]
    for j in range(starts.size):
        if depth > starts[j]:
            row[start + j] += light * (depth - starts[j])


@kernel
def add_far(
    node: FloatArray,
    cells: FarCells,
    stars: FarStars,
    wing: FloatArray,
    starts: FloatArray,
    rmax: float,
    base: FloatArray,
    rings: FloatArray,
    light: FloatArray,
    rows: FloatArray,
) -> None:
    """Add up, place by place, the light of stars far from it, where the PRF is a power law, and its derivatives.

    Parameters
    ----------
    node : ndarray of float64, shape (n_node, 2)
        Places, as those of the stars, arcsec: pixels, then nodes of the cells.
    cells : FarCells
        Cells of the image.
    stars : FarStars
        The stars.
    wing, starts : ndarray of float64, shape (n_wing,)
        Power of r beyond rmax and its changes; where these begin, log10(r / rmax).
    rmax : float
        Last knot, arcsec.
    base : ndarray of float64, shape (n_angle + 1,)
        log10 of a PRF known beforehand at rmax, at equal steps of the angle from 0 to a full turn, dex.
    rings : ndarray of float64, shape (n_ring,)
        Squares of the radii from which each ring of the wing begins, arcsec**2.
    light : ndarray of float64, shape (n_node, 3 + n_ring)
        Added to: light; light times the peaks of its stars; its square in each ring.
    rows : ndarray of float64, shape (n_node, n_field (n_edge + 3) + n_wing + 4 n_geometry)
        Added to: derivatives by the edge of the splines, by slope and bends of the wing, by shear, by offset; with no
        column, (n_node, 0), none are made.
    """
    n_edge = stars.edge.shape[1] - 3
    start = stars.factors.shape[1] * stars.edge.shape[1]
    around, slope, bend = np.empty(4), np.empty(4), np.empty(4)
    for s in range(stars.flux.size):
        frame, edge = stars.frame[s], stars.edge[s]
        cell = 0
        while cell < cells.radius.size:
            here, whole = cell, 0
            cell, count = _choose(cell, s, cells, stars, rings[-1])
            if count < 0:
                count, whole = -count, 1
            for k in range(count):
                p = cells.first_node[here] + k if whole else cells.pixel[cells.first_pixel[here] + k]
                dx, dy = (node[p, 0] - stars.place[s, 0]) * stars.stretch[s], node[p, 1] - stars.place[s, 1]
                r2 = dx * dx + dy * dy
                if not whole and (r2 <= stars.inner[s] or r2 > stars.outer[s]):
                    continue
                dx, dy = dx - stars.shift[s, 0], dy - stars.shift[s, 1]
                x, y = frame[0, 0] * dx + frame[0, 1] * dy, frame[1, 0] * dx + frame[1, 1] * dy
                angle = np.arctan2(y, x)
                first = periodic_splines(angle, n_edge, around, slope)
                level, by_phi = _known_edge(angle, base)
                for j in range(4):
                    level += around[j] * edge[first + j]
                    by_phi += slope[j] * edge[first + j]
                depth = 0.5 * np.log10((x * x + y * y) / (rmax * rmax))
                rise, power = _wing_level(depth, wing, starts)
                own = stars.flux[s] * np.exp(_LN10 * (level + rise))
                light[p, 0] += own
                light[p, 1] += own * stars.peaks[s, 0]
                light[p, 2] += own * stars.peaks[s, 1]
                _add_ring(light[p, 3:], dx * dx + dy * dy, rings, own * own)
                if rows.shape[1] == 0:
                    continue
                _add_far_level(rows[p], start, first, _LN10 * own, depth, stars.factors[s], starts, around)
                gradient_of_wing(x, y, power, _LN10 * by_phi, slope)
                bends(dx, dy, slope, frame, stars.turn[s], bend)
                add_bends(rows[p], start + wing.size, own, stars.geometry[s], bend)
