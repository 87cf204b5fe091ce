"""Small fields with and without a fault, fitted once."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.prf.star_residuals import StarResiduals
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.quality.series import take_series
from bayesprf.quality.stage import judge_fit
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import make_field
from bayesprf.stats import median_over_time
from bayesprf.uncertainty.stage import with_systematics

N_SOURCE, N_TIME = 26, 60


def wander(time):
    """Move stars by 0.03 pixel, smoothly."""
    phase = (time - time[0]) * np.array([[1.7], [2.3]])
    return 0.03 * np.sin(phase).T


def roll(time):
    """Move stars by up to 0.05 pixel, and back at once, at times that do not repeat."""
    since = time - time[0]
    return 0.05 * (np.mod(3.0 * since + 2.5 * since**2, 1.0) - 0.5)[:, None] * np.array([0.8, 0.6])


def without(sources: SourceTable, star: int) -> SourceTable:
    """Return the catalogue without one star."""
    keep = np.arange(sources.n_source) != star
    names = tuple(np.array(sources.source_id)[keep])
    return SourceTable(names, sources.ra_deg[keep], sources.dec_deg[keep], sources.flux[keep])


@cache
def fitted(fault: str = "none"):
    """Return field and Machine: "none", "sky", "drift", "roll", "bands", "errors", "large", "missing", "moved"."""
    mags = np.random.default_rng(8).uniform(11.5, 15.5, N_SOURCE)
    mags[-1] = mags[0] + 2.0
    changes = {"companion_distance": (1.0, 2.0)} if fault == "missing" else {}
    field = make_field(
        rng=np.random.default_rng(8), n_source=N_SOURCE, n_time=N_TIME, n_stamp=N_SOURCE - 1, magnitudes=mags,
        min_separation=0.5 if fault == "missing" else 2.5, drift={"drift": wander, "roll": roll}.get(fault), **changes,
    )  # fmt: skip
    pixels, sources = field.pixels, field.sources
    rng = np.random.default_rng(9)
    if fault == "sky":
        pixels = replace(pixels, flux=pixels.flux + 20.0)
    elif fault == "bands":
        pixels = replace(pixels, flux=pixels.flux + rng.standard_normal((N_TIME, N_SOURCE))[:, pixels.stamp])
    elif fault == "errors":
        pixels = replace(pixels, flux_err=pixels.flux_err / 2.0)
    elif fault == "large":
        pixels = replace(pixels, flux_err=pixels.flux_err * 10.0)
    elif fault == "missing":
        sources = without(sources, N_SOURCE - 1)
    elif fault == "moved":
        dec = sources.dec_deg.copy()
        dec[0] += 0.25 * 3.98 / 3600.0
        sources = replace(sources, dec_deg=dec)
    machine = Machine.from_pixels(pixels, sources, quiet=True)
    # Positions are held at the catalogue's, or nearly: free, they follow a star that was moved, and take the light of
    # one that is missing.
    held: dict[str, dict[str, object]] = {"moved": {"refine": False}, "missing": {"position_error": 0.01}}
    machine.build_shape_model(**({"field_variation": 0} | held[fault] if fault in held else {}))
    machine.fit_model(n_threads=1, follow_jitter=fault != "roll")  # a fault that is mended cannot be measured
    machine.fit = with_systematics(machine.fit)
    return field, machine


@cache
def residuals_of(fault: str = "none") -> MeanResiduals:
    fit = fitted(fault)[1].fit
    latest = fit.latest_flux
    noise = median_over_time(latest.flux_err, empty=np.inf)
    error = np.hypot(fit.systematics.std, noise / np.sqrt(N_TIME))
    return MeanResiduals(fit.pixels, fit.prf, latest.prior, fit.systematics.widths, error)


@cache
def series_of(fault: str = "none"):
    return take_series(residuals_of(fault), fitted(fault)[1].fit.latest_flux)


@cache
def verdict_of(fault: str = "none"):
    return judge_fit(fitted(fault)[1].fit)


@cache
def stars_of(fault: str = "none") -> StarResiduals:
    return fitted(fault)[1].fit.need("prf").star_residuals()


class Cases:
    """The cases, by the name of their fault."""

    fitted, residuals, series, verdict, stars = map(
        staticmethod, (fitted, residuals_of, series_of, verdict_of, stars_of)
    )


@pytest.fixture(scope="session")
def cases():
    return Cases
