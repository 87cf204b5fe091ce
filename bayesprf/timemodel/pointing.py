"""Pointing at every cadence from bright stars: shifts of any size, with all their fluxes and a sky free."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.stats import mad_sigma
from bayesprf.timemodel.shift import FieldMotion, MovedPrf, ShiftGrid

# Accuracy: the first guess is the best of a grid of shifts out to this many pixels at these steps.
_FARTHEST_PIX, _SEARCH_PIX = 2.5, 0.5
# Accuracy: Gauss-Newton steps: how many, how long at most, and when they end, pixel; the field joins in after the
# second.
_N_STEP, _LONGEST_PIX, _SETTLED_PIX, _FIELD_FROM = 10, 0.4, 3e-4, 2
# Derived: a jump of the pointing from one cadence to the next: an exposure spent at two places this far apart, pixel,
# widens the narrowest PRF of these missions (0.9 pixel rms) by at most 2 % of its second moment, a quarter of the
# distance squared; and steps that noise makes are Rayleigh's, beyond so many times their median by a chance of 2**-16.
_JUMP_PIX, _JUMP_STEPS = 0.25, 4.0
# Derived: prior width of how much the motion differs over the field: roll moves stars in proportion to their distance
# from the axis, by 0.1 to 0.3 of it over half a channel of Kepler, 0.6 of 2 to 7 degrees.
_GAIN_WIDTH = 0.3
# Cost: cadences times pixels times columns handled at once.
_CHUNK_ELEMENTS = 1 << 20
# Cost: the pointing is measured from the brightest stars, at most this many.
_MAX_STARS = 30
# Derived: they are seen in pixels this near, where a Moffat profile (slope 2.5) of 2 pixels full width at half maximum,
# wider than those of these missions, has 87 % of its light.
_CORE_PIX = 3.0
# Derived: a star has as many pixels as there are unknowns: its flux, the sky, and two of the shift.
_LEAST_PIXELS = 4
# Measured: relative error that the PRF is taken to have: at the peaks of bright stars pixels scatter about a fitted PRF
# by 2 % in six files of Kepler (joint fit), by 5 % in M67 (in rounds). A smaller share of an exposure beyond a jump
# could be that, too.
PRF_ERROR = 0.03
"""Relative error that the PRF is taken to have."""

# Derived: prior width of a flux relative to its mean: wide, as the pixels of bright stars tell it to a hundredth.
_FLUX_WIDTH = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class StarGroup:
    """Stars that share pixels, and the light of all others in these pixels.

    Parameters
    ----------
    pairs : PairTable
        Pairs of any source with the group's pixels.
    column : ndarray of int64, shape (n_pair,)
        Number of the source among the group's stars; n_star for the others, whose flux is held.
    cell : ndarray of int64, shape (n_pair,)
        Number of the pixel in `pixel`.
    pixel : ndarray of int64, shape (n_cell,)
        The group's pixels.
    flux : ndarray of float64, shape (n_pair,)
        Mean flux of each pair's source, electron / s.
    mean, precision : ndarray of float64, shape (n_star + 1,)
        Prior of the stars' fluxes and of the sky, which is flat.
    error : ndarray of float64, shape (n_cell,)
        What the scene may be wrong by in each pixel, electron / s.
    source : ndarray of int64, shape (n_star,)
        The group's stars.
    """

    pairs: PairTable
    column: IntArray
    cell: IntArray
    pixel: IntArray
    flux: FloatArray
    mean: FloatArray
    precision: FloatArray
    error: FloatArray
    source: IntArray

    def design(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the columns of stars and sky, and the light of the others, from PRF values of the pairs.

        Parameters
        ----------
        values : ndarray of float64, shape (n, n_pair)
            1 / pixel, for any number of cadences.

        Returns
        -------
        columns : ndarray of float64, shape (n, n_cell, n_star + 1)
        others : ndarray of float64, shape (n, n_cell)
        """
        columns = np.zeros((values.shape[0], self.pixel.size, self.source.size + 1))
        own = self.column < self.source.size
        columns[:, self.cell[own], self.column[own]] = values[:, own]
        columns[:, :, -1] = 1.0
        rest = csr_matrix((self.flux[~own], (np.flatnonzero(~own), self.cell[~own])), shape=(own.size, self.pixel.size))
        return columns, np.asarray(values @ rest)

    def weight(self, pixels: PixelTable, cadences: IntArray) -> FloatArray:
        """Return the inverse variance of the group's pixels, the errors of the scene included, shape (n, n_cell)."""
        ivar = pixels.ivar[np.ix_(cadences, self.pixel)]
        return ivar / (1.0 + ivar * self.error**2)


def make_groups(pixels: PixelTable, prf: PrfMatrix, flux: FloatArray) -> list[StarGroup]:
    """Choose bright stars and sort them into groups that share pixels.

    Parameters
    ----------
    pixels : PixelTable
        Data.
    prf : PrfMatrix
        Mean PRF of the pairs in which the sources matter.
    flux : ndarray of float64, shape (n_source,)
        Mean fluxes, electron / s; NaN counts as dark.

    Returns
    -------
    list of StarGroup
    """
    pairs, flux = prf.pairs, np.nan_to_num(flux)
    usable = (pixels.gaps < pixels.n_time) & ~pixels.spilled
    near = pairs.r < _CORE_PIX * pixels.instrument.pixel_scale
    stars = _bright_stars(pairs, near & usable[pairs.pixel], pixels.saturated, flux)
    core = near & usable[pairs.pixel] & stars[pairs.source]
    shared = csr_matrix((np.ones(core.sum()), (pairs.source[core], pairs.pixel[core])), (flux.size, pixels.n_pixel))
    label = connected_components(shared @ shared.T, directed=False)[1]
    light = prf.image(np.maximum(flux, 0.0))
    mean = np.where(pixels.ivar > 0, pixels.flux, 0.0).sum(axis=0) / np.maximum(pixels.n_time - pixels.gaps, 1)
    groups = []
    for number in np.unique(label[stars]):
        source = np.flatnonzero((label == number) & stars)
        pixel = np.unique(pairs.pixel[core & (label[pairs.source] == number)])
        inside = np.flatnonzero(np.isin(pairs.pixel, pixel))
        members = pairs.select(np.isin(pairs.pixel, pixel))
        column = np.full(flux.size, source.size)
        column[source] = np.arange(source.size)
        groups.append(
            StarGroup(
                pairs=members,
                column=column[members.source],
                cell=np.searchsorted(pixel, members.pixel),
                pixel=pixel,
                flux=flux[pairs.source[inside]],
                mean=np.append(flux[source], 0.0),
                precision=np.append((_FLUX_WIDTH * flux[source]) ** -2.0, 0.0),
                error=_scene_error(mean[pixel], light[pixel]),
                source=source,
            )
        )
    return groups


def _scene_error(mean: FloatArray, light: FloatArray) -> FloatArray:
    """Return the error of a scene: a share of its light, and how far the mean image deviates from it, electron / s."""
    deviation = mean - light
    return np.hypot(PRF_ERROR * light, mad_sigma(deviation - np.median(deviation)))


def _bright_stars(pairs: PairTable, core: BoolArray, saturated: BoolArray, flux: FloatArray) -> BoolArray:
    """Return which stars the pointing is measured from, shape (n_source,)."""
    n_source = flux.size
    seen = np.bincount(pairs.source[core], minlength=n_source) >= _LEAST_PIXELS
    blooming = pairs.select(saturated[pairs.pixel]).count_per_source() > 0
    fit = seen & ~blooming & (flux > 0)
    order = np.argsort(-np.where(fit, flux, 0.0), kind="stable")[:_MAX_STARS]
    chosen = np.zeros(n_source, bool)
    chosen[order] = fit[order]
    return chosen


def measure_pointing(
    pixels: PixelTable, prf: MovedPrf, matrix: PrfMatrix, flux: FloatArray
) -> tuple[FloatArray, FieldMotion]:
    """Measure how far the field has moved at every cadence.

    Parameters
    ----------
    pixels : PixelTable
        Data: float64, shape (n_time, n_pixel), electron / s.
    prf : MovedPrf
        The PRF at the reference pointing; `field` holds how motion may differ over the field.
    matrix : PrfMatrix
        Mean PRF of the pairs in which the sources matter.
    flux : ndarray of float64, shape (n_source,)
        Mean fluxes, electron / s; NaN counts as dark.

    Returns
    -------
    motion : ndarray of float64, shape (n_time, 2)
        From the reference, towards east and north, arcsec; NaN without data.
    field : FieldMotion
        How far each source moves when the middle of the field does.

    Notes
    -----
    Minimises sum (y - sum_s F_s PRF_s(motion) - sky)**2 / variance at every cadence: the best of a grid of shifts,
    then Gauss-Newton steps. The fluxes of each group of overlapping stars and its sky are marginalised, and bright
    pixels weigh no more than the PRF is good for.
    """
    scale = pixels.instrument.pixel_scale
    groups = make_groups(pixels, matrix, flux)
    motion = _search(pixels, groups, prf, scale)
    for count in range(_N_STEP):
        grid = ShiftGrid.around(motion[np.isfinite(motion).all(axis=1)], scale)
        normal = [_normal(pixels, group, prf, grid, motion=motion) for group in groups]
        step = _solve(*(np.sum(one, axis=0) for one in zip(*normal, strict=True)))
        if count >= _FIELD_FROM and prf.field.powers:
            prf = replace(prf, field=_fit_field(prf.field, groups, motion, normal))
        length = np.hypot(*step.T)[:, None]
        step = step * np.minimum(1.0, _LONGEST_PIX * scale / np.maximum(length, 1e-300))
        motion = np.clip(motion + step, -_FARTHEST_PIX * scale, _FARTHEST_PIX * scale)
        if count > _FIELD_FROM and np.nanmax(length) < _SETTLED_PIX * scale:
            break
    return motion, prf.field


def _search(pixels: PixelTable, groups: list[StarGroup], prf: MovedPrf, scale: float) -> FloatArray:
    """Return the best shift of a grid for every cadence, shape (n_time, 2); NaN without data."""
    steps = scale * np.arange(-_FARTHEST_PIX, _FARTHEST_PIX + 0.5 * _SEARCH_PIX, _SEARCH_PIX)
    trials = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    misfit = np.zeros((pixels.n_time, trials.shape[0]))
    seen = np.zeros(pixels.n_time, bool)
    for group in groups:
        known = pixels.ivar[:, group.pixel] > 0
        data = np.where(known, pixels.flux[:, group.pixel], 0.0)
        data = np.where(known, data, data.sum(axis=0) / np.maximum(known.sum(axis=0), 1))
        root = np.sqrt(group.weight(pixels, np.arange(pixels.n_time)).mean(axis=0))
        seen |= known.any(axis=1)
        pairs, own = group.pairs, np.sqrt(group.precision)
        for number, shift in enumerate(trials):
            moved = prf.offset[pairs.source] + prf.field.matrices[pairs.source] @ shift
            values = prf.evaluate(pairs.source, pairs.dx - moved[:, 0], pairs.dy - moved[:, 1])
            columns, others = group.design(values[None])
            left = np.linalg.qr(np.vstack([columns[0] * root[:, None], np.diag(own)]))[0]
            right = np.hstack([(data - others) * root, np.tile(group.mean * own, (pixels.n_time, 1))])
            misfit[:, number] += np.sum(right**2, axis=1) - np.sum((right @ left) ** 2, axis=1)
    return np.where(seen[:, None], trials[np.argmin(misfit, axis=1)], np.nan)


def measure_smear(
    pixels: PixelTable, prf: MovedPrf, matrix: PrfMatrix, flux: FloatArray, *, motion: FloatArray
) -> FloatArray:
    """Measure which part of an exposure stars spent where they were in the cadence before, and in that after.

    Parameters
    ----------
    pixels : PixelTable
        Data: float64, shape (n_time, n_pixel), electron / s.
    prf : MovedPrf
        The PRF at the reference pointing.
    matrix : PrfMatrix
        Mean PRF of the pairs in which the sources matter.
    flux : ndarray of float64, shape (n_source,)
        Mean fluxes, electron / s; NaN counts as dark.
    motion : ndarray of float64, shape (n_time, 2)
        The motion, arcsec.

    Returns
    -------
    ndarray of float64, shape (n_time, 2)
        Shares of the exposure, up to a half each; zero where the stars hardly moved, or the share is not evident.

    Notes
    -----
    When the thrusters fire within an exposure, its light is that of two pointings.
    """
    scale = pixels.instrument.pixel_scale
    grid = ShiftGrid.around(motion, scale)
    smear = np.zeros((pixels.n_time, 2))
    step = np.hypot(*np.diff(motion, axis=0).T)
    jumps = np.flatnonzero(step > max(_JUMP_PIX * scale, _JUMP_STEPS * float(np.median(step))))
    if jumps.size:
        groups = make_groups(pixels, matrix, flux)
        for side, (now, other) in enumerate(((jumps + 1, jumps), (jumps, jumps + 1))):
            information, score = (np.zeros(now.size) for _ in range(2))
            for group in groups:
                found = _normal(pixels, group, prf, grid, motion=motion[now], cadences=now, other=motion[other])
                information += found[0][:, 0, 0]
                score += found[1][:, 0]
            share = np.divide(score, information, out=np.zeros(now.size), where=information > 0)
            smear[now, side] = np.where(share > PRF_ERROR, np.minimum(share, 0.5), 0.0)
    return smear


def _normal(
    pixels: PixelTable,
    group: StarGroup,
    prf: MovedPrf,
    grid: ShiftGrid,
    *,
    motion: FloatArray,
    cadences: IntArray | None = None,
    other: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return information (n, k, k) and score (n, k) of a group, with fluxes and sky marginalised.

    Of the motion, k = 2, or of the share of the exposure spent at another pointing, k = 1.
    """
    cadences = np.arange(pixels.n_time) if cadences is None else cadences
    nodes = prf.at_nodes(grid, group.pairs.source, group.pairs.dx, group.pairs.dy)
    size = 2 if other is None else 1
    information, score = np.zeros((cadences.size, size, size)), np.zeros((cadences.size, size))
    step = max(1, _CHUNK_ELEMENTS // (group.pixel.size * (group.source.size + 1)))
    ridge = np.diag(group.precision + 1e-12 * group.precision.max())
    for start in range(0, cadences.size, step):
        part = slice(start, start + step)
        here_at = np.nan_to_num(motion[part])
        weight = group.weight(pixels, cadences[part])
        here = grid.weights(here_at)
        directions = grid.slopes(here_at) if other is None else (grid.weights(np.nan_to_num(other[part])) - here,)
        columns, others = group.design(here @ nodes)
        data = np.where(weight > 0, pixels.flux[np.ix_(cadences[part], group.pixel)] - others, 0.0)
        weighted = np.swapaxes(columns * weight[:, :, None], 1, 2)
        gram = weighted @ columns + ridge
        flux = np.linalg.solve(gram, weighted @ data[:, :, None] + (group.precision * group.mean)[:, None])
        slopes = []
        for one in directions:
            moving, rest = group.design(one @ nodes)
            slopes.append((moving[:, :, :-1] @ flux[:, :-1])[:, :, 0] + rest)
        slope = np.stack(slopes, axis=-1)
        free = slope - columns @ np.linalg.solve(gram, weighted @ slope)
        residual = data - (columns @ flux)[:, :, 0]
        information[part] = np.swapaxes(free * weight[:, :, None], 1, 2) @ slope
        score[part] = np.einsum("tpk,tp->tk", slope, weight * residual)
    return information, score


def _solve(information: FloatArray, score: FloatArray) -> FloatArray:
    """Return information^-1 score, shape (n_time, 2); NaN where there is none."""
    a, b, c = information[:, 0, 0], information[:, 0, 1], information[:, 1, 1]
    determinant = a * c - b * b
    good = determinant > 1e-9 * a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.stack([c * score[:, 0] - b * score[:, 1], a * score[:, 1] - b * score[:, 0]], axis=1)
        return np.where(good[:, None], both / determinant[:, None], np.nan)


def _fit_field(
    field: FieldMotion, groups: list[StarGroup], motion: FloatArray, normal: list[tuple[FloatArray, FloatArray]]
) -> FieldMotion:
    """Return the field's motion after one step of its coefficients, with the motion of all cadences marginalised."""
    shift, n_power = np.nan_to_num(motion), len(field.powers)
    terms = np.stack([field.terms[group.source].mean(axis=0) for group in groups])
    inverse = [np.linalg.inv(field.matrices[group.source].mean(axis=0)) for group in groups]
    information = np.stack([m.T @ h @ m for m, (h, _) in zip(inverse, normal, strict=True)])
    score = np.stack([b @ m for m, (_, b) in zip(inverse, normal, strict=True)])
    total = information.sum(axis=0)
    seen = np.linalg.det(total) > 0
    total = np.where(seen[:, None, None], total, np.eye(2))
    shared = np.einsum("gl,gtij->tlij", terms, information)
    common = np.linalg.solve(total, score.sum(axis=0)[:, :, None])[:, :, 0]
    own = np.einsum("gl,gm,gtij->tlimj", terms, terms, information)
    known = np.einsum("tlij,tjmk->tlimk", shared, np.linalg.solve(total[:, None], shared).transpose(0, 2, 1, 3))
    gram = np.einsum("tlimk,ta,tb->liamkb", own - known, shift, shift).reshape(4 * n_power, -1)
    left = np.einsum("gl,gti->tli", terms, score) - np.einsum("tlij,tj->tli", shared, common)
    right = np.einsum("tli,ta->lia", left, shift).ravel()
    prior = np.eye(4 * n_power) / _GAIN_WIDTH**2
    step = np.linalg.solve(gram + prior, right - prior @ field.gain.ravel())
    return replace(field, gain=field.gain + step.reshape(field.gain.shape))
