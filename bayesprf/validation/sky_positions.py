"""Do credible regions of events hold them, and are missing stars found, on fields whose PRF and catalogue are wrong?"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.hypotheses.questions import baseline_spacing
from bayesprf.hypotheses.sky_grid import SkyGrid
from bayesprf.hypotheses.sky_questions import (
    SeenEvent,
    cell_light,
    find_missing_stars,
    locate_event,
    search_grid,
)
from bayesprf.machine import Machine
from bayesprf.photometry.stage import fit_fluxes
from bayesprf.scene.pairs import offsets
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import FluxRecipe
from bayesprf.simulation.fields import SimulatedField, make_case
from bayesprf.uncertainty.stage import with_systematics
from bayesprf.validation.absolute_flux import LEVELS

# Share of the stars that the catalogue lacks, at random; errors of the catalogue, arcsec and relative.
_MISSING = 0.2
_CATALOG = {"position_scatter": 0.05, "catalog_scatter": 0.05}
# Cadences of an event and of a field; range of the event's signal-to-noise ratio in its own pixels.
_LENGTH, _N_TIME, _SIGNAL = 8, 180, (12.0, 200.0)


@dataclass(frozen=True, slots=True, eq=False)
class PositionScores:
    """Regions of events against the truth.

    Parameters
    ----------
    inside : ndarray of bool, shape (2, n_event)
        Whether the event lies inside the regions of `LEVELS`.
    listed : ndarray of bool, shape (n_event,)
        Whether its star is in the catalogue.
    probability : ndarray of float64, shape (n_event,)
        Probability given to its star, or to "none of them" if it is not in the catalogue.
    score : ndarray of float64, shape (n_event,)
        Signal-to-noise ratio of the dip.
    error, area : ndarray of float64, shape (n_event,)
        Distance of the most probable position from the truth, arcsec, and area of the 95 % region, arcsec**2.
    """

    inside: BoolArray
    listed: BoolArray
    probability: FloatArray
    score: FloatArray
    error: FloatArray
    area: FloatArray

    @classmethod
    def gather(cls, scores: list["PositionScores"]) -> "PositionScores":
        """Join the events of several fields."""
        names = ("inside", "listed", "probability", "score", "error", "area")
        return cls(*(np.concatenate([getattr(one, name) for one in scores], axis=-1) for name in names))

    def select(self, chosen: BoolArray) -> "PositionScores":
        """Return some of the events."""
        return PositionScores(
            self.inside[:, chosen],
            self.listed[chosen],
            self.probability[chosen],
            self.score[chosen],
            self.error[chosen],
            self.area[chosen],
        )


def fit_incomplete(seed: int, *, missing: float = _MISSING) -> tuple[SimulatedField, BoolArray, Machine]:
    """Simulate 200 stars, leave some out of the catalogue, and fit PRF and fluxes.

    Parameters
    ----------
    seed : int
        Seed of stars, catalogue and noise.
    missing : float
        Share of the stars that the catalogue lacks.

    Returns
    -------
    field : SimulatedField
    listed : ndarray of bool, shape (n_source,)
        Which stars are in the catalogue.
    machine : Machine
    """
    rng = np.random.default_rng(seed)
    field = make_case("medium", np.random.default_rng(seed), n_time=_N_TIME, **_CATALOG)
    listed = rng.uniform(size=field.sources.n_source) >= missing
    full = field.sources
    names = tuple(np.array(full.source_id)[listed])
    catalog = SourceTable(names, full.ra_deg[listed], full.dec_deg[listed], full.flux[listed])
    machine = Machine.from_pixels(field.pixels, catalog, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    return field, listed, machine


def score_positions(seed: int, n_event: int) -> PositionScores:
    """Place events on stars of one field, one at a time, and ask where they happened, all pixels searched.

    Parameters
    ----------
    seed : int
        Seed of the field and of the events.
    n_event : int
        Number of events; hosts are chosen among all stars, listed or not.

    Returns
    -------
    PositionScores
    """
    field, listed, machine = fit_incomplete(seed)
    grid, rng = search_grid(with_systematics(machine.fit)), np.random.default_rng([seed, 1])
    near, light = cell_light(grid), field.true_design().tocsc()
    noise = field.pixels.flux_err.mean(axis=0)
    own = np.sqrt(np.asarray(light.power(2).T @ noise**-2.0)).ravel()
    found: list[tuple[BoolArray, bool, float, float, float, float]] = []
    while len(found) < n_event:
        star = int(rng.integers(listed.size))
        limit = field.mean_flux[star] * own[star] * np.sqrt(_LENGTH)
        if limit < 2.0 * _SIGNAL[0]:
            continue
        signal = float(np.exp(rng.uniform(np.log(_SIGNAL[0]), np.log(min(_SIGNAL[1], 0.5 * limit)))))
        dip = signal / (own[star] * np.sqrt(_LENGTH))
        found.append(_place_event((grid, near), field, star, dip, listed, rng=rng))
    columns = [np.array(one) for one in zip(*found, strict=True)]
    return PositionScores(columns[0].T, *columns[1:])


def _place_event(
    search: tuple[SkyGrid, csr_matrix],
    field: SimulatedField,
    star: int,
    dip: float,
    listed: BoolArray,
    *,
    rng: np.random.Generator,
) -> tuple[BoolArray, bool, float, float, float, float]:
    """Put one event on a star, and score the answer of a search of all pixels."""
    grid, near = search
    start = int(rng.integers(20, _N_TIME - 20 - _LENGTH))
    event = np.zeros(_N_TIME)
    event[start : start + _LENGTH] = 1.0
    lost = event[:, None] * (dip * field.true_design()[:, [star]].toarray().ravel())
    pixels = replace(field.pixels, flux=field.pixels.flux - lost)
    changed = replace(grid.fit, pixels=pixels)
    changed = replace(changed, flux=next(fit_fluxes(changed, FluxRecipe()))[1])
    seen = SeenEvent(np.arange(_N_TIME), event, baseline_spacing(changed, event))
    answer = locate_event(replace(grid, fit=changed), near, seen)
    ra, dec = (float(one[0]) for one in field.sky.to_sky(field.column[[star]], field.row[[star]]))
    inside = np.array([answer.contains(ra, dec, level) for level in LEVELS])
    distance = np.hypot(*offsets(*(np.array([one]) for one in (*answer.best, ra, dec))))
    name = field.sources.source_id[star]
    given = dict(zip(answer.source, answer.source_probability, strict=True)).get(name, 0.0)
    share = given if listed[star] else answer.none_probability
    return inside, bool(listed[star]), float(share), answer.dip / answer.dip_err, float(distance[0]), answer.area()


@dataclass(frozen=True, slots=True, eq=False)
class MissingScores:
    """Stars that were hidden from the catalogue, and those made up.

    Parameters
    ----------
    found : ndarray of bool, shape (n_hidden,)
        Whether a candidate lies within half a pixel of the star.
    separation : ndarray of float64, shape (n_hidden,)
        Distance from its bright neighbour, pixel.
    flux_ratio : ndarray of float64, shape (n_hidden,)
        Flux found over the true one; NaN where none was found.
    n_false, n_star : int
        Candidates farther than a pixel from every hidden star, and stars in the catalogue.
    """

    found: BoolArray
    separation: FloatArray
    flux_ratio: FloatArray
    n_false: int
    n_star: int

    @classmethod
    def gather(cls, scores: list["MissingScores"]) -> "MissingScores":
        """Join several fields."""
        return cls(
            np.concatenate([one.found for one in scores]),
            np.concatenate([one.separation for one in scores]),
            np.concatenate([one.flux_ratio for one in scores]),
            sum(one.n_false for one in scores),
            sum(one.n_star for one in scores),
        )


def score_missing(seed: int, *, n_hidden: int = 24) -> MissingScores:
    """Hide companions 3 mag fainter than their stars, 0.7 to 2 pixels away, and look for them.

    Parameters
    ----------
    seed : int
        Seed of the field.
    n_hidden : int
        Companions, of 176 stars; with 0 the catalogue is complete.

    Returns
    -------
    MissingScores
    """
    bright = np.random.default_rng([seed, 2]).uniform(11.0, 16.0, 176)
    field = make_case(
        "medium", np.random.default_rng(seed), n_time=_N_TIME, n_source=176 + n_hidden,
        magnitudes=np.concatenate([bright, bright[:n_hidden] + 3.0]), companion_distance=(0.7, 2.0), **_CATALOG,
    )  # fmt: skip
    full, known = field.sources, slice(176)
    catalog = SourceTable(full.source_id[known], full.ra_deg[known], full.dec_deg[known], full.flux[known])
    machine = Machine.from_pixels(field.pixels, catalog, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    answer = find_missing_stars(with_systematics(machine.fit))
    ra, dec = field.sky.to_sky(field.column[176:], field.row[176:])
    east, north = offsets(answer.candidates_ra_deg[:, None], answer.candidates_dec_deg[:, None], ra, dec)
    distance = np.hypot(east, north) / field.sky.pixel_scale
    hidden, nearest = np.arange(n_hidden), np.full(n_hidden, np.inf)
    ratio = np.full(n_hidden, np.nan)
    if answer.n_candidate and n_hidden:
        nearest = distance.min(axis=0)
        ratio = answer.candidates_flux[distance.argmin(axis=0)] / field.mean_flux[176:]
    n_false = int(np.count_nonzero(distance.min(axis=1, initial=np.inf) > 1.0))
    place = np.stack([field.column, field.row], axis=1)
    separation = np.hypot(*(place[176:] - place[hidden]).T)
    found = nearest < 0.5
    return MissingScores(found, separation, np.where(found, ratio, np.nan), n_false, 176)
