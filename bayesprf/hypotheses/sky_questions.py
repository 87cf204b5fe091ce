"""Questions to a Fit about places on the sky: where an event happened, and where stars are missing."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import check_positive, shown
from bayesprf.errors import InputError
from bayesprf.fit_record import Fit
from bayesprf.hypotheses.event_position import (
    EventFits,
    EventPosition,
    PositionLikelihood,
    dip_evidence,
    fit_events,
    host_shares,
    image_covariance,
    quick_image,
    refine_cells,
)
from bayesprf.hypotheses.missing_stars import Candidate, MissingStars, StarSearch, find_stars
from bayesprf.hypotheses.questions import model_patterns, problem_of_listed, see_event
from bayesprf.hypotheses.sky_grid import CELL, SkyGrid
from bayesprf.linalg.common import sum_rows
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.background import find_patches
from bayesprf.photometry.groups import SourceGroup, extract_pixels
from bayesprf.uncertainty.stage import mean_over_time, usual_flux, with_systematics
from bayesprf.uncertainty.systematics import star_errors

# Derived: the light of an event is looked at within this distance of a position, pixel: a Moffat profile (slope 2.5) of
# 2 pixels full width at half maximum, wider than those of these missions, has 96 % of its light there.
_REACH = 5.0
# Accuracy: cells that could hold less than this share of the probability, all together, are left out.
_NEGLIGIBLE = 1e-4
# Cost: squares of this many pixels are searched together for missing stars.
_BLOCK = 8.0
# Derived: two stars found in one search are at least so far apart, pixel: within lies 87 % of the light of a Moffat
# profile (slope 2.5) of 2 pixels full width at half maximum, so that a nearer one is told from errors of the first only
# after that has been fitted.
_APART = 3.0
# Cost: where the log odds at the best position are below this, no star is looked for.
_HOPELESS = -3.0
# Cost: pixels whose difference image is solved with its full covariance, at most.
_MAX_PIXELS = 2000


def find_event_position(
    fit: Fit,
    event: object,
    sources: object = None,
    *,
    baseline: float | None = None,
    cadences: object = None,
    none_prior: float | None = None,
    margin: float = 1.0,
) -> EventPosition:
    """Find where an event happened: see `Machine.event_position`."""
    template, rows, spacing = see_event(fit, event, cadences, baseline)
    check_positive(spacing, "baseline")
    if none_prior is not None and not 0.0 < none_prior < 1.0:
        raise InputError(f"none_prior: expected a probability between 0 and 1, got {shown(none_prior)}")
    fit = with_systematics(fit)
    grid = search_grid(fit, sources, margin)
    return locate_event(grid, cell_light(grid), SeenEvent(rows, template[rows], spacing), none_prior=none_prior)


@dataclass(frozen=True, slots=True, eq=False)
class SeenEvent:
    """An event at the cadences that are looked at.

    Parameters
    ----------
    rows : ndarray of int64, shape (n_used,)
        The cadences.
    template : ndarray of float64, shape (n_used,)
        Shape of the event there, 0 outside, 1 at full depth.
    spacing : float
        Distance of the knots of slow changes, day.
    """

    rows: IntArray
    template: FloatArray
    spacing: float


def search_grid(fit: Fit, sources: object = None, margin: float = 1.0) -> SkyGrid:
    """Return the cells on and around the pixels of some sources, of all by default, `margin` pixels beyond them."""
    return SkyGrid.of(fit, _pixels_of(fit, sources), margin)


def cell_light(grid: SkyGrid) -> csr_matrix:
    """Return the PRF of stars at the cells of a grid in the pixels around, sparse (n_cell, n_pixel), 1 / pixel."""
    return grid.local_light(_REACH * grid.side / CELL)


def locate_event(
    grid: SkyGrid, near_light: csr_matrix, event: SeenEvent, *, none_prior: float | None = None
) -> EventPosition:
    """Find where on a grid an event happened.

    Parameters
    ----------
    grid : SkyGrid
        All cells and pixels that are searched, of a fit with systematic errors.
    near_light : csr_matrix of float64, shape (n_cell, n_pixel)
        `cell_light` of the grid, which many events can share.
    event : SeenEvent
        The event.
    none_prior : float, optional
        Prior probability that no star of the catalogue is the host; that of one star more than it has by default.

    Returns
    -------
    EventPosition

    Raises
    ------
    InputError
        If no pixel has data in the event, or too many may show it.
    """
    fit, rows, time = grid.fit, event.rows, grid.fit.pixels.time[event.rows]
    grid = _narrow(grid, near_light, event)
    problem, at = fit.latest_flux.problem, np.ix_(rows, grid.pixel)
    image = fit_events(time, problem.data[at], problem.ivar[at], event.template, spacing=event.spacing)
    seen = np.isfinite(image.variance)
    if not seen.any():
        raise InputError("event: expected pixels with data in the event, got none")
    grid, image = grid.select(np.ones(grid.x.size, bool), seen), image.select(seen)
    light = fit.latest_flux.source_design[grid.pixel].tocsc()
    stars = np.flatnonzero(np.diff(light.indptr) > 0)
    covariance = image_covariance(image, _fit_stars(fit, stars, event), light[:, stars].toarray())
    return _weigh_positions(grid, image.dip, covariance, none_prior)


def _pixels_of(fit: Fit, sources: object) -> IntArray:
    """Return the pixels that respond linearly and that some sources light; all of them for None."""
    usable = ~fit.pixels.spilled & (fit.latest_flux.problem.ivar > 0).any(axis=0)
    if sources is not None:
        lit = fit.latest_flux.source_design[:, fit.sources.indices(sources)]
        usable &= np.asarray(lit.sum(axis=1)).ravel() > 0
    if not usable.any():
        raise InputError("sources: expected sources with data, got none with a usable pixel")
    return np.flatnonzero(usable)


def _narrow(grid: SkyGrid, light: csr_matrix, event: SeenEvent) -> SkyGrid:
    """Keep the cells whose likelihood is not hopeless, and the pixels that tell about them."""
    problem, at, reach = grid.fit.latest_flux.problem, np.ix_(event.rows, grid.pixel), _REACH * grid.side / CELL
    time = grid.fit.pixels.time[event.rows]
    dip, ivar = quick_image(time, problem.data[at], problem.ivar[at], event.template, spacing=event.spacing)
    rhs, precision = light @ (ivar * dip), light.power(2) @ ivar
    gain = 0.5 * np.maximum(rhs, 0.0) ** 2 / np.maximum(precision, 1e-300)
    # A cell is as likely as its best place: that of a bright event between two centres may lie in the lower one.
    cells = grid.beside(gain >= gain.max() - np.log(gain.size / _NEGLIGIBLE))
    pixels = grid.near(grid.x[cells], grid.y[cells], reach)
    if np.count_nonzero(pixels) > _MAX_PIXELS:
        raise InputError(
            f"event: expected an event that at most {_MAX_PIXELS} pixels may show, got {np.count_nonzero(pixels)} that"
            " cannot be told apart; name the sources near which to look"
        )
    return grid.select(cells, pixels)


def _fit_stars(fit: Fit, stars: IntArray, event: SeenEvent) -> EventFits:
    """Fit baseline and event to the fluxes of some stars."""
    at = np.ix_(event.rows, stars)
    flux, error = fit.latest_flux.flux[at], fit.latest_flux.flux_err[at]
    seen = np.isfinite(flux) & (error > 0)
    ivar = np.where(seen, 1.0 / np.where(seen, error, 1.0) ** 2, 0.0)
    time = fit.pixels.time[event.rows]
    return fit_events(time, np.where(seen, flux, 0.0), ivar, event.template, spacing=event.spacing)


def _likeliest(grid: SkyGrid, likelihood: PositionLikelihood) -> tuple[FloatArray, FloatArray]:
    """Return the most probable place on a grid, arcsec, each of shape (1,); far finer than its cells."""

    def gain(x: FloatArray, y: FloatArray) -> FloatArray:
        precision, rhs = likelihood.amplitudes(grid.light(x, y))
        return 0.5 * np.maximum(rhs, 0.0) ** 2 / precision

    found = refine_cells(grid.x, grid.y, grid.side, gain)
    best = [int(np.argmax(found.value))]
    return found.x[best], found.y[best]


def _with_prf_errors(
    grid: SkyGrid, dip: FloatArray, covariance: FloatArray, positions: tuple[float, ...]
) -> list[PositionLikelihood]:
    """Add what errors of the PRF, and each of some of the position, arcsec, make of the light where it is likeliest."""
    plain = PositionLikelihood.of(dip, covariance)
    place = _likeliest(grid, plain)
    precision, rhs = plain.amplitudes(grid.light(*place))
    dx, dy = (one[0] for one in grid.pixel_offsets(*place))
    found, shape = [], grid.fit.need("prf")
    for position in positions:
        widths = replace(grid.fit.need("systematics").widths, position=np.array([position]), places=None)
        light = max(float(rhs[0] / precision[0]), 0.0) * star_errors(shape, dx, dy, widths)
        found.append(PositionLikelihood.of(dip, covariance + light @ light.T))
    return found


def _position_errors(fit: Fit) -> tuple[float, float]:
    """Return how far a star may be from where sky and PRF put it on the map, and from its position, arcsec.

    On the map the offset of the sky errs, which a fit of positions counts among the errors of the PRF; where they were
    held it is the mean over the training stars. A star of the catalogue stands beside its position by its own error.
    """
    star = float(np.median(fit.need("systematics").widths.position))
    if fit.need("prf").joint.problem.free:
        return 0.0, star
    n_star = max(np.unique(fit.need("prf").star_pixels.source).size, 1)
    return star / float(np.sqrt(n_star)), star


def _losable(fit: Fit) -> FloatArray:
    """Return the light that each star can lose: its flux, zero at least, and its total error, electron / s."""
    latest = fit.latest_flux
    error = np.hypot(np.nan_to_num(mean_over_time(latest.flux_err)), fit.need("systematics").std)
    return np.maximum(usual_flux(fit), 0.0) + error


def _weigh_positions(grid: SkyGrid, dip: FloatArray, covariance: FloatArray, none_prior: float | None) -> EventPosition:
    """Compare stars at all positions, and the catalogue's stars among them."""
    fit, flux = grid.fit, _losable(grid.fit)
    likelihood, listed = _with_prf_errors(grid, dip, covariance, _position_errors(fit))
    least = float(likelihood.amplitudes(grid.light(grid.x, grid.y))[0].max() ** -0.5)

    def density(x: FloatArray, y: FloatArray) -> FloatArray:
        return dip_evidence(*likelihood.amplitudes(grid.light(x, y)), least=least, most=np.full(x.size, flux.max()))

    found = refine_cells(grid.x, grid.y, grid.side, density)
    best = [int(np.argmax(found.value))]
    precision, rhs = likelihood.amplitudes(grid.light(found.x[best], found.y[best]))
    stars, x, y = grid.stars()
    own = dip_evidence(*listed.amplitudes(grid.light(x, y)), least=least, most=flux[stars])
    own += listed.log_density - likelihood.log_density
    none = float(np.logaddexp.reduce(found.value + 2.0 * np.log(found.size)) - np.log(grid.area))
    shares = host_shares(own, none, 1.0 / (stars.size + 1) if none_prior is None else none_prior)
    return EventPosition(
        *grid.to_sky(found.x, found.y),
        size=found.size,
        probability=found.probability,
        log_bayes_factor=found.value,
        dip=float(rhs[0] / precision[0]),
        dip_err=float(precision[0] ** -0.5),
        source=tuple(fit.sources.source_id[one] for one in stars),
        source_probability=shares[0],
        none_probability=shares[1],
        source_log_bayes_factor=own,
    )


def find_missing_stars(
    fit: Fit, sources: object = None, *, expected: float = 0.01, margin: float = 0.5
) -> MissingStars:
    """Find stars that the catalogue lacks: see `Machine.find_missing`."""
    check_positive(expected, "expected")
    fit = with_systematics(fit)
    grid = search_grid(fit, sources, margin)
    pixel = grid.side / CELL
    problem, density = _mean_problem(fit), expected * max(grid.stars()[0].size, 1) / grid.area
    maps, blocks = np.zeros((3, grid.x.size)), _blocks(grid)
    for cells in blocks:
        search = _star_search(grid.around(cells, _REACH * pixel), problem)
        precision, rhs = search.amplitudes(grid.x[cells], grid.y[cells])
        maps[:, cells] = search.evidence(grid.x[cells], grid.y[cells]), rhs / precision, precision**-0.5
    found: list[Candidate] = []
    blocks.sort(key=lambda cells: -float(maps[0, cells].max()))
    for cells in blocks:
        if float(maps[0, cells].max()) + np.log(density * pixel**2) < _HOPELESS:
            break
        found += _find_in_block(grid.around(cells, _REACH * pixel), problem, found, density)
    found.sort(key=lambda one: -one.log_odds)
    map_ra, map_dec = grid.to_sky(grid.x, grid.y)
    ra, dec = grid.to_sky(np.array([one.x for one in found]), np.array([one.y for one in found]))
    odds = np.array([one.log_odds for one in found])
    return MissingStars(
        ra_deg=map_ra,
        dec_deg=map_dec,
        log_bayes_factor=maps[0],
        flux=maps[1],
        flux_err=maps[2],
        candidates_ra_deg=ra,
        candidates_dec_deg=dec,
        candidates_flux=np.array([one.flux for one in found]),
        candidates_flux_err=np.array([one.flux_err for one in found]),
        candidates_log_bayes_factor=np.array([one.log_bayes_factor for one in found]),
        candidates_probability=np.exp(-np.logaddexp(0.0, -odds)),
        scale=fit.need("prf").scale,
    )


def _find_in_block(part: SkyGrid, problem: LinearProblem, known: list[Candidate], density: float) -> list[Candidate]:
    """Find the stars of one block, those found before in the model; none is believed beside a brighter new one."""
    pixel = part.side / CELL
    search, x, y = _star_search(part, problem), part.x, part.y
    for one in known:
        if part.near(np.array([one.x]), np.array([one.y]), _REACH * pixel).any():
            search = search.with_star(one)
            apart = np.hypot(x - one.x, y - one.y) > _APART * pixel
            x, y = x[apart], y[apart]
    return find_stars(search, x, y, pixel=pixel, density=density, apart=_APART * pixel)


def _mean_problem(fit: Fit) -> LinearProblem:
    """Return the fluxes of the mean image as one problem."""
    problem = problem_of_listed(fit)
    used, design = problem.ivar > 0, problem.design
    count = used.sum(axis=0)
    mean = np.where(used, problem.data, 0.0).sum(axis=0) / np.maximum(count, 1)
    variance = np.where(used, 1.0 / np.where(used, problem.ivar, 1.0), 0.0).sum(axis=0)
    ivar = np.where(count > 0, count**2 / np.where(count > 0, variance, 1.0), 0.0)
    if isinstance(design, DesignStack) and design.mix is not None:
        parts = (design.mix.mean(axis=0) @ design.parts)[None]
        design = DesignStack(design.indptr, design.indices, parts, design.n_coeff)
    return LinearProblem(design, mean[None], ivar[None], problem.prior, problem.known)


def _blocks(grid: SkyGrid) -> list[BoolArray]:
    """Split the cells of a grid into squares, whose pixels are looked at together."""
    side = _BLOCK * grid.side / CELL
    label = np.stack([np.floor(grid.x / side), np.floor(grid.y / side)], axis=1)
    _, of = np.unique(label, axis=0, return_inverse=True)
    return [of.ravel() == k for k in range(int(of.max()) + 1)]


def _smooth_light(fit: Fit, group: SourceGroup) -> FloatArray:
    """Return planes of light over each cutout, as bright as its brightest pixel: sky, or wings of stars far away."""
    patch = find_patches(fit.pixels)[group.pixel]
    place = np.stack([fit.pixels.column, fit.pixels.row], axis=1)[group.pixel]
    bright = float(np.max(np.abs(group.problem.data[0])))
    columns = []
    for one in np.unique(patch):
        here = (patch == one).astype(np.float64)
        middle = place[patch == one].mean(axis=0)
        columns += [here, *(here * (place - middle).T / _BLOCK)]
    return bright * np.stack(columns, axis=1)


def _star_search(grid: SkyGrid, problem: LinearProblem) -> StarSearch:
    """Return what the pixels of a grid say about a further star, from one factorisation."""
    fit = grid.fit
    group = extract_pixels(problem, grid.pixel, np.array([0]))
    seen = grid.select(np.ones(grid.x.size, bool), np.isin(grid.pixel, group.pixel))
    prf, widths = fit.need("prf"), fit.need("systematics").widths
    flux = usual_flux(fit)

    def errors(x: float, y: float) -> FloatArray:
        dx, dy = (one[0] for one in seen.pixel_offsets(np.array([x]), np.array([y])))
        return star_errors(prf, dx, dy, widths)

    patterns = np.concatenate([model_patterns(fit, group.pixel), _smooth_light(fit, group)], axis=1)
    search = StarSearch(
        rows=sum_rows(group.problem).with_errors(patterns),
        ivar=group.problem.ivar[0],
        light=seen.light,
        errors=errors,
        least=1.0,
        most=float(np.max(flux[group.source], initial=0.0)) or float(flux.max()),
    )
    return replace(search, least=float(search.amplitudes(grid.x, grid.y)[0].max() ** -0.5))
