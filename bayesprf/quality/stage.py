"""The verdict on a Fit."""

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.fit_record import Fit
from bayesprf.flags import QualityFlag
from bayesprf.linalg.blas import in_one_blas_thread
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.twins import listed_twice
from bayesprf.prf.unlisted.fit import UNNAMED, is_small
from bayesprf.prf.unlisted.search import UnlistedStar, light_in_cores
from bayesprf.quality.astrometry import measure_offsets
from bayesprf.quality.blends import measure_splits
from bayesprf.quality.companions import outshone
from bayesprf.quality.findings import Measurements, field_misplaced, find_faults
from bayesprf.quality.light import find_peaks
from bayesprf.quality.pointing import measure_pointing
from bayesprf.quality.prf import measure_misfit, measure_trends
from bayesprf.quality.record import Cure, Verdict
from bayesprf.quality.residuals import MeanResiduals
from bayesprf.quality.series import measure_motion, measure_noise, take_series
from bayesprf.quality.sky import measure_sky, prefer_told
from bayesprf.settings import QualityOptions
from bayesprf.stats import median_over_time
from bayesprf.uncertainty.stage import with_systematics


@in_one_blas_thread
def judge_fit(fit: Fit, options: QualityOptions | None = None) -> Verdict:
    """Measure what a Fit leaves of the pixels, and say what is known against it.

    Parameters
    ----------
    fit : Fit
        With fluxes.
    options : QualityOptions, optional
        What counts as a fault.

    Returns
    -------
    Verdict

    Raises
    ------
    StageError
        If no fluxes have been fitted.
    """
    options = options or QualityOptions()
    found = measure_fit(fit, options)
    return Verdict(find_faults(found, options), _field_numbers(fit, found), _source_numbers(found), _along(fit))


def with_verdict(fit: Fit) -> Fit:
    """Return the Fit with the verdict on its latest fluxes, and with their systematic errors."""
    if fit.verdict is not None:
        return fit
    fit = with_systematics(fit)
    return fit.with_stage("verdict", judge_fit(fit))


def quality_flags(fit: Fit) -> IntArray:
    """Return the flags of the latest fluxes and of the verdict, shape (n_time, n_source)."""
    verdict = with_verdict(fit).need("verdict")
    return fit.latest_flux.flags | verdict.flags[None]


def measure_fit(fit: Fit, options: QualityOptions) -> Measurements:
    """Measure what a Fit leaves of the pixels.

    Parameters
    ----------
    fit : Fit
        With fluxes.
    options : QualityOptions
        What counts as significant.

    Returns
    -------
    Measurements
    """
    fit = with_systematics(fit)
    prf, latest, systematics = fit.need("prf"), fit.latest_flux, fit.need("systematics")
    error_in_time = median_over_time(latest.flux_err, empty=np.inf)
    seen = np.maximum(np.isfinite(latest.flux).sum(axis=0), 1)
    error = np.hypot(systematics.std, error_in_time / np.sqrt(seen))
    left = MeanResiduals(fit.pixels, prf, latest.prior, systematics.widths, error)
    stars = prf.star_residuals()
    series = take_series(left, latest)
    noise = None if series is None else measure_noise(series, options.significance)
    misfit, sky, light = measure_misfit(left), measure_sky(left), find_peaks(left)
    positions = measure_offsets(left)
    errors = [np.sqrt(one) for one in left.variances(misfit.tests, sky.test, light.tests)]
    sky, sky_error = prefer_told(sky, max(float(errors[1][0]), sky.scatter), prf)
    offset_error = np.sqrt(left.variances(positions.tests, positions=False)[0]).reshape(2, -1).T
    added = np.array([name.startswith(UNNAMED) for name in fit.sources.source_id])
    return Measurements(
        left=left,
        misfit=misfit,
        trends=measure_trends(left, stars, _places(left)),
        sky=sky,
        light=light,
        positions=positions,
        misfit_error=errors[0],
        sky_error=sky_error,
        light_error=errors[2],
        offset_error=offset_error,
        motion=None if series is None or noise is None else measure_motion(series, noise.scale),
        noise=noise,
        hits=_hits(prf, latest),
        pointing=measure_pointing(left, latest.flux),
        noise_error=error_in_time,
        split=measure_splits(left, stars, twice=listed_twice(fit.sources, fit.pixels.instrument.pixel_scale)),
        expected=np.where(fit.sources.has_flux, fit.sources.flux, np.nan) * prf.scale,
        saturated=np.any(latest.flags & QualityFlag.SATURATED, axis=0),
        added=added,
        outshone=outshone(left, fit.sources, added),
        cores=_cores(fit),
        n_calibrator=int(stars.source.size),
        n_training=int(np.count_nonzero(prf.training)),
        n_weight=int(prf.weights_cov.shape[0]),
        n_decided=prf.joint.n_decided,
        positions_free=bool(np.any(prf.positions.shift)),
        sky_removed=fit.pixels.background_removed,
        sky_fitted=prf.background is not None,
        follows_motion=fit.latest == "flux_va",
        roll_hours=fit.pixels.instrument.roll_hours,
        unsettled=_unsettled(fit),
    )


def _cores(fit: Fit) -> tuple[BoolArray, UnlistedStar | None]:
    """Return the stars in whose cores another seems to lie, where few stars tell of the PRF, and that other one."""
    joint = fit.need("prf").joint
    if not is_small(joint.problem):
        return np.zeros(fit.sources.n_source, bool), None
    return light_in_cores(fit.pixels, fit.sources, joint.smooth or joint)


def _hits(prf: PrfFit, latest: FluxFit) -> FloatArray:
    """Return what single values that no star can have made add to the mean fluxes, shape (n_source,), electron / s.

    The mean image and its fluxes are without them; fluxes of single cadences that are not robust are not.
    """
    left_out, seen = prf.image.left_out, np.isfinite(latest.flux)
    robust = np.any(latest.flags & QualityFlag.DOWN_WEIGHTED, axis=0)
    if left_out is None or not left_out.size:
        return np.zeros(robust.size)
    mean = np.where(seen, latest.flux, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.where(robust | ~seen.any(axis=0), 0.0, np.nan_to_num(mean - prf.flux))


def _places(left: MeanResiduals) -> FloatArray:
    """Return column and row of each source, shape (n_source, 2): those of its pixels, weighted by its light."""
    pairs, pixels = left.pairs, left.pixels
    total = np.bincount(pairs.source, left.matrix.values, pairs.n_source)
    columns = [
        np.bincount(pairs.source, left.matrix.values * axis[pairs.pixel], pairs.n_source)
        for axis in (pixels.column, pixels.row)
    ]
    return np.stack([np.divide(one, total, out=np.zeros_like(one), where=total > 0) for one in columns], axis=1)


def _along(fit: Fit) -> tuple[Cure, ...]:
    """Return what is said of stars that the catalogue lacks and the fit of the PRF found and fitted along."""
    prf = fit.need("prf")
    found = prf.found_stars
    if found is None:
        return ()
    most = int(np.argmax(found.flux))
    reason = (
        f"light that no source explains, {found.flux[most] * prf.scale:.3g} electron / s near RA"
        f" {found.ra_deg[most]:.5f} Dec {found.dec_deg[most]:+.5f} deg"
    )
    stars = "1 star" if found.n_source == 1 else f"{found.n_source} stars"
    return (Cure("stars", True, reason, f"{stars} of the mean image, without fluxes of their own, fitted along"),)


def _unsettled(fit: Fit) -> str:
    """Return what has not converged, as the subject of a sentence; empty if all has."""
    prf, widths = fit.need("prf"), fit.hyperparameters
    if not prf.joint.converged:
        return "the fit of the PRF"
    return "" if widths is None or widths.converged else "the search for the hyperparameters"


def _field_numbers(fit: Fit, found: Measurements) -> dict[str, float]:
    left, prf = found.left, fit.need("prf")
    used = left.ivar > 0
    squares = (left.residual**2 * left.ivar)[used]
    motion, noise = found.motion, found.noise
    return {
        "chi2_image": float(squares.mean()) if squares.size else np.nan,
        "misplaced_field": field_misplaced(found),
        "n_calibrator": found.n_calibrator,
        "n_training_pixel": found.n_training,
        "offset_pixel": float(np.hypot(*prf.offset) / np.sqrt(prf.prf.pixel_area)),
        "converged": float(not found.unsettled),
        "pointing_span": found.pointing.span,
        "motion_left": np.nan if motion is None else motion.rms,
        "sky_left": found.sky.level,
        "sky_left_err": found.sky_error,
        "n_peak": int(np.count_nonzero(found.peaks > 5.0)),
        "field_trend": found.trends.largest,
        "field_trend_significance": found.trends.significance,
        "correlated_noise": np.nan if noise is None else noise.level,
        "noise_ratio": np.nan if noise is None else noise.scale,
    }


def _source_numbers(found: Measurements) -> dict[str, FloatArray]:
    left = found.left
    with np.errstate(divide="ignore", invalid="ignore"):
        flux = np.where(left.flux != 0.0, left.flux, np.nan)
        offset = np.hypot(*found.positions.offset.T) / np.sqrt(left.prf.prf.pixel_area)
        nothing = np.full(flux.size, np.nan)
        light = np.abs(found.light.shift) * (found.peaks > 5.0)
        return {
            "misplaced": found.misfit.misplaced,
            "mismatch": found.misfit.mismatch / flux,
            "mismatch_err": found.misfit_error / np.abs(flux),
            "position_offset": offset,
            "light_lost": found.positions.loss / flux,
            "flux_from_sky": found.sky.shift / flux,
            "flux_from_unknown": light.max(axis=1, initial=0.0) / np.abs(flux),
            "split_error": found.split.error / np.abs(flux),
            "scatter_from_motion": nothing if found.motion is None else found.motion.scatter / found.noise_error,
            "scatter_from_noise": nothing if found.noise is None else found.noise.scatter / found.noise_error,
        }
