"""Do depths of transits on blended faint stars cover the truth, when PRF, catalogue and positions are all wrong?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from bayesprf.arrays import BoolArray, FloatArray, NamedDict
from bayesprf.hypotheses.event_depth import EventDepth, carry_flux_error, fit_dip
from bayesprf.machine import Machine
from bayesprf.simulation.fields import SimulatedField, make_field
from bayesprf.simulation.settings import FieldSettings, Transit
from bayesprf.stats import mad_sigma
from bayesprf.validation.absolute_flux import LEVELS, drift

DEPTH = 0.01
"""True depth of every transit."""

N_PAIR = 6
"""Blended pairs of a field: the star with index i < N_PAIR is the bright one, the last N_PAIR stars are the faint."""

_N_STAMP = 36
_FAINTER_MAG, _DISTANCE_PIX = 3.0, (1.5, 1.9)
_HOST_MAG, _LONE_MAG = (11.5, 13.5), (11.5, 16.0)
_PERIOD, _DURATION, _SPACING = 2.05, 0.3, 1.8
_CATALOG: NamedDict = {"catalog_scale": 1.3, "catalog_scatter": 0.05, "position_scatter": 0.05}
_DRIFT_SHARE, _DIFFERENTIAL = 0.25, 0.15
# Pairs whose brighter star is brighter than this are counted apart: there noise matters least.
_BRIGHT_HOST = 12.5


@dataclass(frozen=True, slots=True, eq=False)
class DepthScores:
    """Depths of the faint stars of some fields against the truth.

    Parameters
    ----------
    error, claimed : ndarray of float64, shape (n_star,)
        Depth over the true depth minus one, and its standard deviation over the true depth.
    inside : ndarray of bool, shape (2, n_star)
        Whether the truth lies inside the intervals of `LEVELS`.
    bright : ndarray of bool, shape (n_star,)
        Whether the brighter star is brighter than G 12.5.
    """

    error: FloatArray
    claimed: FloatArray
    inside: BoolArray
    bright: BoolArray

    @classmethod
    def gather(cls, scores: Iterable["DepthScores"]) -> "DepthScores":
        """Join the stars of several fields."""
        all_scores = tuple(scores)
        fields = ("error", "claimed", "inside", "bright")
        return cls(*(np.concatenate([getattr(one, name) for one in all_scores], axis=-1) for name in fields))

    def select(self, chosen: BoolArray | slice) -> "DepthScores":
        """Return some of the stars."""
        return DepthScores(self.error[chosen], self.claimed[chosen], self.inside[:, chosen], self.bright[chosen])

    @property
    def coverage(self) -> tuple[float, float]:
        """Share of truths inside the intervals of `LEVELS`."""
        return float(self.inside[0].mean()), float(self.inside[1].mean())


def make_blends(seed: int, *, drifting: bool, n_time: int = 400) -> SimulatedField:
    """Simulate 36 stars in cutouts, six with a companion 3 mag fainter, 1.5 to 1.9 pixels away, that has transits.

    Parameters
    ----------
    seed : int
        Seed of stars, catalogue and noise.
    drifting : bool
        Let the stars drift by a twentieth of a pixel.
    n_time : int
        Number of cadences.

    Returns
    -------
    SimulatedField
    """
    for_mag, rng = np.random.default_rng(seed).spawn(2)
    host = for_mag.uniform(*_HOST_MAG, N_PAIR)
    magnitudes = np.concatenate([host, for_mag.uniform(*_LONE_MAG, _N_STAMP - N_PAIR), host + _FAINTER_MAG])
    transits = tuple(
        Transit(_N_STAMP + one, DEPTH, period=_PERIOD, epoch=121.0 + 0.03 * one, duration=_DURATION)
        for one in range(N_PAIR)
    )
    settings = FieldSettings(
        n_source=_N_STAMP + N_PAIR,
        n_time=n_time,
        n_stamp=_N_STAMP,
        magnitudes=magnitudes,
        companion_distance=_DISTANCE_PIX,
        transits=transits,
        drift=_small_drift if drifting else None,
        drift_differential=_DIFFERENTIAL if drifting else 0.0,
        **_CATALOG,
    )
    return make_field(settings, rng=rng)


def score_depths(field: SimulatedField, *, refined: bool = True) -> dict[str, DepthScores]:
    """Do the whole job on a field of `make_blends`, and compare the depths of the faint stars with the truth.

    Parameters
    ----------
    field : SimulatedField
        The field; if its stars drift, the time model is fitted.
    refined : bool
        Learn the positions of all stars with `refine_scene`; without, those of the catalogue are held.

    Returns
    -------
    dict of str to DepthScores
        "total", by `event_depth`; "noise", the same depths with the error of noise alone; "true PRF", the same
        pixels with the true PRF at the true places.
    """
    drifting = field.shift is not None
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    if refined:
        machine.refine_scene()
    else:
        machine.build_shape_model(refine=False)
    if drifting:
        machine.build_time_model()
    machine.fit_model(fit_va=drifting)
    found = [
        machine.event_depth(one.source, _template(one, machine.time), baseline=_SPACING)
        for one in field.settings.transits
    ]
    return {
        "total": _score(found, field, noise_only=False),
        "noise": _score(found, field, noise_only=True),
        "true PRF": _score(_oracle_depths(field), field, noise_only=True),
    }


def format_depths(scores: Sequence[tuple[str, dict[str, DepthScores]]]) -> str:
    """Return a Markdown table.

    Parameters
    ----------
    scores : sequence of (str, dict of str to DepthScores)
        Name of the row, and what `score_depths` returns, gathered over fields.

    Returns
    -------
    str
    """
    head = ("job", "depths", "median bias", "robust scatter", "noise error", "total error", "68 %", "95 %",
            "68 %, noise error alone", "68 %, true PRF")  # fmt: skip
    lines = [head, tuple("---" for _ in head)]
    for name, kinds in scores:
        for label, chosen in ((name, slice(None)), (f"{name}, bright", kinds["total"].bright)):
            total, noise, oracle = (kinds[kind].select(chosen) for kind in ("total", "noise", "true PRF"))
            if not total.error.size:
                continue
            bias = float(np.median(total.error))
            scatter = float(mad_sigma(total.error - bias))
            sizes = (bias, scatter, float(np.median(noise.claimed)), float(np.median(total.claimed)))
            shares = (*total.coverage, noise.coverage[0], oracle.coverage[0])
            cells = [f"{100 * one:.2f} %" for one in sizes] + [f"{100 * one:.1f} %" for one in shares]
            lines.append((label, f"{total.error.size}", *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _small_drift(time: FloatArray) -> FloatArray:
    """Move the stars smoothly over a twentieth of a pixel."""
    return _DRIFT_SHARE * drift(time)


def _template(transit: Transit, time: FloatArray) -> FloatArray:
    return (1.0 - transit.factor(time)) / transit.depth


def _score(found: Sequence[EventDepth], field: SimulatedField, *, noise_only: bool) -> DepthScores:
    depth = np.array([one.depth for one in found])
    error = np.array([one.noise_err if noise_only else one.depth_err for one in found])
    inside = []
    for level in LEVELS:
        if noise_only:
            inside.append(np.abs(depth - DEPTH) < ndtri(0.5 + 0.5 * level) * error)
        else:
            low, high = np.array([one.interval(level) for one in found]).T
            inside.append((low < DEPTH) & (high > DEPTH))
    limit = field.settings.instrument.flux_from_mag(_BRIGHT_HOST)
    return DepthScores(depth / DEPTH - 1.0, error / DEPTH, np.array(inside), field.flux[0, :N_PAIR] > limit)


def _oracle_depths(field: SimulatedField) -> list[EventDepth]:
    """Return the depths that the true PRF at the true places gives, all stars free at every cadence."""
    n_time, n_source = field.flux.shape
    flux, variance = np.empty((n_time, n_source)), np.empty((n_time, n_source))
    design = field.true_design()
    for time in range(n_time):
        design = design if field.shift is None else field.true_design(time)
        ivar = field.pixels.ivar[time]
        covariance = np.linalg.inv((design.T @ design.multiply(ivar[:, None])).toarray())
        flux[time] = covariance @ (design.T @ (ivar * field.pixels.flux[time]))
        variance[time] = np.diag(covariance)
    depths = []
    for one in field.settings.transits:
        template, star = _template(one, field.pixels.time), one.source
        dip = fit_dip(field.pixels.time, flux[:, star], variance[:, star], template, spacing=_SPACING)
        depths.append(carry_flux_error(field.sources.source_id[star], dip, 0.0))
    return depths
