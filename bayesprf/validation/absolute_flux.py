"""Do the total errors of absolute fluxes cover the truth, when PRF, catalogue and positions are all wrong?"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import norm

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.flags import QualityFlag
from bayesprf.machine import Machine
from bayesprf.simulation.fields import SimulatedField, make_case
from bayesprf.stats import mad_sigma

LEVELS = (0.68, 0.95)
"""Central intervals whose coverage is counted."""

# What is wrong with the catalogue: common factor, scatter of the fluxes, positions per axis (arcsec).
_CATALOG = {"catalog_scale": 1.3, "catalog_scatter": 0.05, "position_scatter": 0.05}
_MAG_RANGE = (11.0, 18.0)
# Accuracy: what the simulation cuts off is no error of a fit: at 2e-3 electron / s all fluxes are 0.04 % too large.
_REACH_LEVEL = 1e-4
_BRIGHT, _FAINT = 14.0, 16.0
_ISOLATED_PIX, _BLENDED_PIX = 4.0, 1.5
# Stars with less of their light on the pixels are not counted.
_MIN_SHARE = 0.5
# `_MIN_SHARE` asks for the true share of the light; any other flag takes a star out.
_EXCUSED = int(QualityFlag.LOW_PSF_FRACTION)
_DRIFT_PIX, _DIFFERENTIAL = 0.2, 0.15


@dataclass(frozen=True, slots=True, eq=False)
class FieldScores:
    """Absolute fluxes of one simulated field against the truth.

    Parameters
    ----------
    error, total : ndarray of float64, shape (n_source,)
        Mean flux over the true mean flux minus one, and the total error of the mean over the true mean flux.
    subsets : dict of str to ndarray of bool, shape (n_source,)
        "all", "bright", "faint", "isolated" and "blended" stars.
    """

    error: FloatArray
    total: FloatArray
    subsets: dict[str, BoolArray]


@dataclass(frozen=True, slots=True)
class SubsetCheck:
    """One kind of stars over all fields.

    Parameters
    ----------
    name : str
        Subset.
    n_star : int
        Stars in it.
    bias : float
        Median of flux / truth - 1.
    scatter, claimed : float
        Robust scatter of flux / truth, and the median total error.
    coverage : tuple of float
        Share of truths inside the intervals of `LEVELS`.
    """

    name: str
    n_star: int
    bias: float
    scatter: float
    claimed: float
    coverage: tuple[float, ...]


def drift(time: FloatArray) -> FloatArray:
    """Move the stars smoothly over a fifth of a pixel.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day.

    Returns
    -------
    ndarray of float64, shape (n_time, 2), pixel
        Columns and rows.
    """
    u = (time - time[0]) / (time[-1] - time[0])
    return _DRIFT_PIX * np.stack([u + 0.3 * u**2 - 0.3 * u**3, 0.3 * u - 0.6 * u**2 + 0.12 * np.sin(2 * u)], axis=1)


def score_field(seed: int, *, drifting: bool, n_time: int = 60) -> FieldScores:
    """Simulate 200 stars with everything wrong, refine the scene, and compare the mean fluxes with the truth.

    Parameters
    ----------
    seed : int
        Seed of the simulation.
    drifting : bool
        Let the stars drift, and fit them with the time model.
    n_time : int
        Number of cadences.

    Returns
    -------
    FieldScores
    """
    moves = {"drift": drift, "drift_differential": _DIFFERENTIAL} if drifting else {}
    rng = np.random.default_rng(seed)
    scene = {"mag_range": _MAG_RANGE, "reach_level": _REACH_LEVEL, **_CATALOG, **moves}
    field = make_case("medium", rng, n_time=n_time, **scene)
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.refine_scene()
    if drifting:
        machine.build_time_model()
    machine.fit_model(fit_va=drifting)
    flux, plain = (machine.ws_va, machine.werrs_va) if drifting else (machine.ws, machine.werrs)
    total = np.hypot(machine.common_errors.std, plain.mean(axis=0) / np.sqrt(n_time))
    subsets = choose_subsets(field, ((machine.flags & ~_EXCUSED) == 0).all(axis=0))
    return FieldScores(flux.mean(axis=0) / field.mean_flux - 1.0, total / field.mean_flux, subsets)


def choose_subsets(field: SimulatedField, good: BoolArray) -> dict[str, BoolArray]:
    """Sort the stars by brightness and by the distance of the nearest other one.

    Parameters
    ----------
    field : SimulatedField
        The truth.
    good : ndarray of bool, shape (n_source,)
        Stars without a flag that takes them out.

    Returns
    -------
    dict of str to ndarray of bool, shape (n_source,)
    """
    place = np.stack([field.column, field.row], axis=1)
    nearest = cKDTree(place).query(place, k=2)[0][:, 1]
    good = good & (np.asarray(field.true_design().sum(axis=0)).ravel() > _MIN_SHARE)
    mag = -2.5 * np.log10(field.mean_flux / field.settings.instrument.flux_from_mag(0.0))
    return {
        "all": good,
        "bright": good & (mag < _BRIGHT),
        "faint": good & (mag > _FAINT),
        "isolated": good & (nearest > _ISOLATED_PIX),
        "blended": good & (nearest < _BLENDED_PIX),
    }


def check_subsets(fields: Iterable[FieldScores]) -> tuple[SubsetCheck, ...]:
    """Count coverage over all fields.

    Parameters
    ----------
    fields : iterable of FieldScores
        Fields.

    Returns
    -------
    tuple of SubsetCheck
        One per subset.
    """
    fields = tuple(fields)
    checks = []
    for name in fields[0].subsets:
        error = np.concatenate([one.error[one.subsets[name]] for one in fields])
        total = np.concatenate([one.total[one.subsets[name]] for one in fields])
        bias = float(np.median(error))
        scatter = float(mad_sigma(error - bias))
        inside = tuple(float(np.mean(np.abs(error) < width * total)) for width in norm.interval(LEVELS)[1])
        checks.append(SubsetCheck(name, error.size, bias, scatter, float(np.median(total)), inside))
    return tuple(checks)


def format_checks(checks: Iterable[SubsetCheck]) -> str:
    """Return a Markdown table.

    Parameters
    ----------
    checks : iterable of SubsetCheck
        What to write.

    Returns
    -------
    str
    """
    head = ("stars", "number", "median bias", "robust scatter", "median total error", "68 %", "95 %")
    lines = [head, tuple("---" for _ in head)]
    for one in checks:
        shares = (f"{100 * share:.1f} %" for share in one.coverage)
        percent = (f"{100 * value:.2f} %" for value in (one.bias, one.scatter, one.claimed))
        lines.append((one.name, f"{one.n_star}", *percent, *shares))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
