"""Questions to a Fit: one star or two, which source hosts an event, how deep is it, how well is the data predicted."""

from dataclasses import replace

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import as_float, check_pair, check_positive, shown
from bayesprf.errors import InputError, UnsupportedError
from bayesprf.fit_record import Fit
from bayesprf.hypotheses.event_depth import EventDepth, carry_flux_error, fit_dip, without_prior
from bayesprf.hypotheses.event_host import EventHost, event_evidence, event_length, flux_series, host_probabilities
from bayesprf.hypotheses.scores import ModelScore, data_digest, score_model
from bayesprf.hypotheses.second_star import BlendTest, second_star
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.stack import stack_of
from bayesprf.photometry.groups import SourceGroup, component_labels, extract_pixels
from bayesprf.prf.positions import position_width
from bayesprf.scene.pairs import offsets
from bayesprf.uncertainty.model_errors import model_errors
from bayesprf.uncertainty.stage import leak_covariance, with_systematics

# Option: the default of `baseline`: knots of a star's own slow changes are this many event lengths apart, and no closer
# than this, day.
_BASELINE_LENGTHS, _BASELINE_DAYS = 6.0, 0.5
# Option: the default of `depth_sigma`.
DEPTH_SIGMA = 0.3
# Rounding: how far rounding may carry a template out of 0 ... 1.
_ROUNDING = 1e-9
# Definition: a position is on the pixels of a source if the PRF there reaches this share of its peak.
_LEAST_PEAK = 0.1


def _sky_position(position: object) -> tuple[float, float]:
    """Return right ascension and declination, degree, of a pair of numbers or a SkyCoord."""
    pair = (position.icrs.ra.deg, position.icrs.dec.deg) if hasattr(position, "icrs") else position
    ra_deg, dec_deg = (float(one) for one in check_pair(pair, "position", "right ascension and declination, degree"))
    return ra_deg, dec_deg


def weigh_second_star(
    fit: Fit,
    source: object,
    position: tuple[float, float],
    *,
    prior_sigma: float | None = None,
    prior_odds: float = 1.0,
    prf_errors: bool = True,
    cadences: object = None,
) -> BlendTest:
    """Weigh whether a further star of constant flux stands at a position near a source: see `Machine.blend_test`."""
    check_positive(prior_odds, "prior_odds")
    position = _sky_position(position)
    index = fit.sources.index(source)
    group = _window(fit, index, cadences)
    column = _prf_at(fit, position, group.pixel)
    if column.max() < _LEAST_PEAK * fit.need("prf").prf.peak:
        raise InputError(
            f"position: expected a place on the pixels of source {fit.sources.source_id[index]},"
            f" got {position}, which none of them is near"
        )
    flux = float(np.nanmedian(fit.latest_flux.flux[group.cadence, index]))
    scale = flux if prior_sigma is None else float(prior_sigma)
    check_positive(scale, "prior_sigma")
    errors = model_patterns(fit, group.pixel) if prf_errors else np.empty((group.pixel.size, 0))
    log_bayes, best, error = second_star(group.problem, column, errors=errors, prior_sigma=scale)
    at = (np.array([one]) for one in (*position, fit.sources.ra_deg[index], fit.sources.dec_deg[index]))
    return BlendTest(
        log_bayes_factor=log_bayes,
        probability=float(np.exp(-np.logaddexp(0.0, -log_bayes - np.log(prior_odds)))),
        flux=best,
        flux_err=error,
        prior_sigma=scale,
        prior_odds=float(prior_odds),
        separation=float(np.hypot(*offsets(*at))[0]),
        n_pixel=group.pixel.size,
        n_time=group.cadence.size,
    )


def find_host(
    fit: Fit,
    event: object,
    sources: object = None,
    *,
    depth_sigma: float = DEPTH_SIGMA,
    baseline: float | None = None,
    cadences: object = None,
) -> EventHost:
    """Weigh which source hosts an event: see `Machine.which_source`."""
    check_positive(depth_sigma, "depth_sigma")
    template, rows, spacing = see_event(fit, event, cadences, baseline)
    check_positive(spacing, "baseline")
    fit = with_systematics(fit)
    candidates = _candidates(fit, sources)
    label = component_labels(stack_of(fit.latest_flux.problem))[candidates]
    found = np.zeros((4, candidates.size))
    for one in np.unique(label):
        found[:, label == one] = _weigh(
            fit, candidates[label == one], template, rows, spacing=spacing, depth_sigma=depth_sigma
        )
    return EventHost(tuple(fit.sources.source_id[one] for one in candidates), host_probabilities(found[0]), *found)


def measure_depth(
    fit: Fit, source: object, event: object, *, baseline: float | None = None, cadences: object = None
) -> EventDepth:
    """Measure which share of its light a source loses in an event: see `Machine.event_depth`."""
    template, rows, spacing = see_event(fit, event, cadences, baseline)
    if not spacing > 0:
        raise InputError(f"baseline: expected a number above 0, got {shown(baseline)}")
    index = fit.sources.index(source)
    latest = fit.latest_flux
    if not np.isfinite(latest.flux[rows, index]).any():
        raise InputError(f"source: expected a source with data, got {fit.sources.source_id[index]!r}")
    flux, variance = without_prior(
        latest.posterior.mean[rows, index],
        latest.posterior.std[rows, index] ** 2,
        prior_mean=float(latest.problem.prior.mean[index]),
        prior_precision=float(latest.problem.prior.precision[index]),
    )
    dip = fit_dip(fit.pixels.time[rows], flux, variance, template[rows], spacing=spacing)
    return carry_flux_error(fit.sources.source_id[index], dip, _leak(fit, index))


def score_fit(fit: Fit) -> ModelScore:
    """Score the latest fluxes by their evidence and by exact leave-one-pixel-out densities."""
    latest = fit.latest_flux
    if latest.down_weighted is not None:
        raise UnsupportedError("loo: expected a plain fit, got a robust one; call fit_model() without robust")
    return score_model(latest.problem, latest.posterior)


def known_score(fit: Fit) -> ModelScore:
    """Return the score as far as it is known: without leave-one-out before it has been computed."""
    if fit.score is not None:
        return fit.score
    latest = fit.latest_flux
    unknown = np.full(fit.pixels.n_time, np.nan), np.full(fit.pixels.n_pixel, np.nan)
    return ModelScore(latest.log_evidence, *unknown, data_digest(latest.problem))


def as_template(event: object, n_time: int) -> FloatArray:
    """Return the shape of an event in time, a mask or numbers, as numbers from 0 (outside) to 1 (full depth).

    Raises
    ------
    InputError
        If it has another shape, leaves 0 to 1, or is the same everywhere.
    """
    template = as_float(event, "event", flags=True)
    inside = np.all((template >= -_ROUNDING) & (template <= 1.0 + _ROUNDING))
    fits = template.shape == (n_time,) and inside and np.ptp(template) > 0
    if not fits:
        raise InputError(
            f"event: expected a mask or {n_time} numbers from 0 (outside) to 1 (full depth), not all the same,"
            f" got shape {template.shape}"
        )
    return np.clip(template, 0.0, 1.0)


def see_event(fit: Fit, event: object, cadences: object, baseline: float | None) -> tuple[FloatArray, IntArray, float]:
    """Return an event at all cadences, the cadences to use, over which it must vary, and the knots' distance, day."""
    template, rows = as_template(event, fit.pixels.n_time), fit.pixels.cadences(cadences)
    as_template(template[rows], rows.size)
    return template, rows, baseline_spacing(fit, template) if baseline is None else float(baseline)


def baseline_spacing(fit: Fit, template: FloatArray) -> float:
    """Return the default distance of the knots of slow changes beside an event, day."""
    return max(_BASELINE_LENGTHS * event_length(fit.pixels.time, template), _BASELINE_DAYS)


def _leak(fit: Fit, source: int) -> float:
    """Return the error of a source's flux by light of all other sources, shared by all cadences, electron / s."""
    return float(np.sqrt(leak_covariance(fit, np.array([source]))[0, 0]))


def _weigh(
    fit: Fit, members: IntArray, template: FloatArray, rows: IntArray, *, spacing: float, depth_sigma: float
) -> tuple[FloatArray, ...]:
    """Return log Bayes factor, dip, its error and the flux of overlapping candidates."""
    latest = fit.latest_flux
    prior = latest.problem.prior
    series = flux_series(
        fit.pixels.time[rows],
        latest.posterior.mean[np.ix_(rows, members)],
        latest.posterior.covariances(rows, members),
        prior_mean=prior.mean[members],
        prior_precision=prior.precision[members],
        common_error=fit.need("systematics").std[members],
        outside=template[rows] == 0,
    )
    return *event_evidence(series, template[rows], spacing=spacing, depth_sigma=depth_sigma), series.scale


def _candidates(fit: Fit, sources: object) -> IntArray:
    """Return the sources asked for and those that share a pixel with them, as far as they have pixels."""
    shared = fit.latest_flux.source_design.astype(bool).astype(np.float64)
    lit = np.asarray(shared.sum(axis=0)).ravel() > 0
    asked = fit.sources.indices(sources)
    if not lit[asked].any():
        raise InputError("sources: expected sources with data, got none with a pixel")
    touched = np.asarray(shared[:, asked].sum(axis=1)).ravel() > 0
    return np.flatnonzero(lit & (np.asarray(shared[touched].sum(axis=0)).ravel() > 0))


def problem_of_listed(fit: Fit) -> LinearProblem:
    """Return the fluxes of the catalogue's stars; a background, which many more pixels tell, is known.

    Stars that the fit of the PRF found are not, where it is asked which stars there are.
    """
    problem, prf = fit.latest_flux.without_background(), fit.need("prf")
    light = prf.found_light
    light = light if prf.home is None else np.bincount(prf.home, light, prf.home.size)
    return replace(problem, known=problem.known - light)


def _window(fit: Fit, source: int, cadences: object) -> SourceGroup:
    """Return the problem of the pixels that a source lights."""
    problem = problem_of_listed(fit)
    pixels = np.flatnonzero(stack_of(problem).matrix()[:, [source]].toarray().ravel())
    if not pixels.size:
        raise InputError(f"source: expected a source with pixels, got {fit.sources.source_id[source]!r}")
    return extract_pixels(problem, pixels, fit.pixels.cadences(cadences))


def _prf_at(fit: Fit, position: tuple[float, float], pixel: IntArray) -> FloatArray:
    """Return the PRF of a star at a sky position in some pixels, 1 / pixel."""
    ra, dec = (np.full(pixel.size, float(one)) for one in position)
    dx, dy = offsets(fit.pixels.ra_deg[pixel], fit.pixels.dec_deg[pixel], ra, dec)
    prf = fit.need("prf").at(*position)
    return prf.prf.evaluate(dx - prf.offset[0], dy - prf.offset[1])


def model_patterns(fit: Fit, pixel: IntArray) -> FloatArray:
    """Return the systematic errors of the model in some pixels, (n_pixel, n_error), electron / s."""
    prf, n_source = fit.need("prf"), fit.sources.n_source
    flux = fit.latest_flux.posterior.mean[:, :n_source].mean(axis=0)
    widths = with_systematics(fit).need("systematics").widths
    if widths.places is not None:
        before = np.full(n_source, position_width(prf.positions.shift))
        widths = replace(widths, position=before, places=None)
    return model_errors(prf, pixel, flux, widths)
