"""From fit records to the named arrays of each group of the DataTree."""

from dataclasses import replace

import numpy as np

from bayesprf.arrays import AnyArray, FloatArray, Named, NamedDict
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.residuals import residual_sums
from bayesprf.linalg.state_space import ProcessKernel
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.photometry.overlaps import BlendTable
from bayesprf.photometry.processes import KnownProcesses, LightCurves
from bayesprf.prf.fit import PrfFit
from bayesprf.quality.record import Cure, Verdict
from bayesprf.results.columns import plain_columns
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.timemodel.fit import GainModel
from bayesprf.timemodel.shift import ShiftModel
from bayesprf.uncertainty.hyperparameters import FluxWidths


def photometry_group(fit: FluxFit) -> NamedDict:
    """Return the arrays of ``/photometry`` that a flux fit gives.

    Parameters
    ----------
    fit : FluxFit
        Fluxes of all sources.

    Returns
    -------
    dict of str to ndarray
    """
    chi2, count = residual_sums(fit.problem, fit.posterior.mean)
    return {
        "flux": fit.flux,
        "flux_err": fit.flux_err,
        "flags": fit.flags,
        "chi2": chi2[:, : fit.n_source],
        "n_pixel_used": count[:, : fit.n_source],
        "log_evidence": fit.log_evidence,
    }


def quality_group(verdict: Verdict) -> NamedDict:
    """Return the arrays of ``/quality``.

    Parameters
    ----------
    verdict : Verdict
        What is known against the fit.

    Returns
    -------
    dict of str to ndarray
    """
    findings, cures = verdict.findings, verdict.cures
    texts = {
        "cure": [one.name for one in cures],
        "cure_reason": [one.reason for one in cures],
        "cure_result": [one.result for one in cures],
        "finding": [str(one.flag.name) for one in findings],
        "finding_sentence": [one.sentence for one in findings],
        "finding_cure": [one.cure for one in findings],
    }
    return {
        **{name: np.array(values, object) for name, values in texts.items()},
        "cure_kept": np.array([one.kept for one in cures], bool),
        "finding_effect": np.array([one.effect for one in findings], np.float64),
        "quality_flags": verdict.flags,
        **verdict.field,
        **verdict.sources,
    }


def cures_from_group(group: Named) -> tuple[Cure, ...]:
    """Return what a fit's ``/quality`` says was tried; none in trees of earlier versions."""
    if "cure" not in group:
        return ()
    names, kept, reasons, results = (
        np.asarray(group[name]).tolist() for name in ("cure", "cure_kept", "cure_reason", "cure_result")
    )
    rows = zip(names, kept, reasons, results, strict=True)
    return tuple(Cure(str(one), bool(good), str(why), str(what)) for one, good, why, what in rows)


def background_group(fit: FluxFit) -> NamedDict:
    """Return the arrays of ``/background``: enough to evaluate the sky of every pixel again.

    Parameters
    ----------
    fit : FluxFit
        Fluxes of all sources, and the background fitted with them.

    Returns
    -------
    dict of str to ndarray
        Empty if no background was fitted.
    """
    columns = fit.background
    if columns is None:
        return {}
    return {
        "background_w": fit.background_w,
        "background_w_err": fit.background_w_err,
        "background_name": np.array(columns.names, object),
        "background_patch": columns.patch,
        "background_power": columns.power,
        "background_centre": columns.centre,
        "background_half": columns.half,
        "background_sigma": columns.sigma,
    }


def widths_group(widths: FluxWidths) -> NamedDict:
    """Return the arrays of ``/widths``: enough to fit with them again.

    Parameters
    ----------
    widths : FluxWidths
        Learned or fixed widths of the flux fit.

    Returns
    -------
    dict of str to ndarray
    """
    return {
        "prior_width": widths.prior_width,
        "prior_width_err": widths.prior_width_err,
        "variability": widths.variability,
        "variability_err": widths.variability_err,
        "prior_group": np.array(widths.prior_labels, object),
        "zero_point": widths.zero_point,
        "zero_point_err": widths.zero_point_err,
        "noise_scale": widths.noise_scale,
        "noise_scale_err": widths.noise_scale_err,
        "noise_group": np.array(widths.noise_labels, object),
        "model_error": widths.model_error,
        "model_error_err": widths.model_error_err,
        "image_scale": widths.image_scale,
        "log_evidence_widths": widths.log_evidence,
        "widths_converged": widths.converged,
        "n_source_widths": widths.n_source,
        "n_cadence_widths": widths.n_cadence,
        "n_clipped_widths": widths.n_clipped,
        "prior_mean": widths.prior.mean,
        "prior_sigma": widths.prior.precision**-0.5,
        "noise_factor": widths.noise_factor,
        "model_variance": widths.model_variance,
    }


def process_group(curves: LightCurves) -> NamedDict:
    """Return the arrays of ``/process``.

    Parameters
    ----------
    curves : LightCurves
        Light curves as processes.

    Returns
    -------
    dict of str to ndarray
    """
    n_source, members = curves.flux.shape[1], [group.source for group in curves.groups]
    where = np.concatenate([*members, np.zeros(0, np.int64)]).astype(np.int64)
    kernels = [one for group in curves.groups for one in group.kernels]

    def spread(values: object, empty: float | str = np.nan) -> AnyArray:
        answer = np.full(n_source, empty)
        answer[where] = values
        return answer

    def gather(name: str) -> AnyArray:
        return spread(np.concatenate([getattr(group, name) for group in curves.groups] or [np.zeros(0)]))

    family = np.full(n_source, "", object)
    family[where] = [one.family for one in kernels]
    rows = {
        name: np.stack([getattr(group.posterior, name) for group in curves.groups], axis=1)
        for name in ("log_evidence", "log_loo")
        if curves.groups
    }
    return {
        "flux": curves.flux,
        "flux_err": curves.flux_err,
        **{name: gather(name) for name in ("level", "level_err", "dip", "dip_err", "log_bayes_factor")},
        "kernel": family,
        **{name: spread([getattr(one, name) for one in kernels]) for name in ("sigma", "scale", "white")},
        "quality": spread([one.quality if one.family == "oscillator" else np.nan for one in kernels]),
        "process_group": spread(np.repeat(np.arange(len(members)), [one.size for one in members]), -1),
        **_event_shapes(curves),
        "kernel_err": _by_source(curves),
        **rows,
    }


def _by_source(curves: LightCurves) -> FloatArray:
    """Return the errors by learned kernels, NaN for stars of no group."""
    errors = np.full(curves.flux.shape, np.nan)
    for group in curves.groups:
        errors[:, group.source] = group.kernel_err
    return errors


def _event_shapes(curves: LightCurves) -> NamedDict:
    """Return the shapes of the events that were given, if any."""
    templates = {star: shape for group in curves.groups for star, shape in group.templates.items()}
    if not templates:
        return {}
    shapes = np.full(curves.flux.shape, np.nan)
    shapes[:, list(templates)] = np.stack(list(templates.values()), axis=1)
    return {"event_template": shapes}


def processes_from_group(group: Named) -> list[KnownProcesses]:
    """Return the processes that ``/process`` of a saved tree holds, to be solved again.

    Parameters
    ----------
    group : mapping of str to array-like
        The variables of the group.

    Returns
    -------
    list of KnownProcesses
    """
    values = {name: np.asarray(one) for name, one in group.items()}
    shapes = values.get("event_template", np.full((1, values["process_group"].size), np.nan))
    found = []
    for number in range(int(values["process_group"].max(initial=-1)) + 1):
        source = np.flatnonzero(values["process_group"] == number)
        kernels = tuple(_kernel_of(values, int(one)) for one in source)
        with_event = source[np.isfinite(shapes[:, source]).all(axis=0)]
        templates = {int(one): shapes[:, one].astype(np.float64) for one in with_event}
        verdicts, errors = values["log_bayes_factor"][source], values["kernel_err"][:, source].astype(np.float64)
        found.append(KnownProcesses(source, kernels, verdicts, templates, errors))
    return found


def _kernel_of(values: Named, source: int) -> ProcessKernel:
    """Return the kernel of a source; only an oscillator has a quality factor of its own."""
    sigma, scale, white, quality = (float(values[name][source]) for name in ("sigma", "scale", "white", "quality"))
    kernel = ProcessKernel(str(values["kernel"][source]), sigma=sigma, scale=scale, white=white)
    return kernel if np.isnan(quality) else replace(kernel, quality=quality)


def widths_from_group(group: Named) -> FluxWidths:
    """Return the widths that ``/widths`` of a saved tree holds.

    Parameters
    ----------
    group : mapping of str to array-like
        The variables of the group.

    Returns
    -------
    FluxWidths
    """
    widths = ("prior_width", "variability", "noise_scale")
    arrays = (*widths, *(f"{name}_err" for name in widths), "noise_factor", "model_variance")
    numbers = ("zero_point", "zero_point_err", "model_error", "model_error_err", "image_scale")
    found: NamedDict = {name: np.asarray(group[name], np.float64) for name in arrays}
    found |= {name: float(group[name]) for name in numbers}
    return FluxWidths(
        **found,
        prior_labels=tuple(str(one) for one in np.asarray(group["prior_group"])),
        noise_labels=tuple(str(one) for one in np.asarray(group["noise_group"])),
        log_evidence=float(group["log_evidence_widths"]),
        converged=bool(group["widths_converged"]),
        n_source=int(group["n_source_widths"]),
        n_cadence=int(group["n_cadence_widths"]),
        n_clipped=int(group["n_clipped_widths"]),
        prior=GaussianPrior.from_sigma(np.asarray(group["prior_mean"]), np.asarray(group["prior_sigma"])),
    )


def catalog_group(sources: SourceTable, extra: Named) -> NamedDict:
    """Return the arrays of ``/catalog``: the catalogue as given, and diagnostics of each source.

    Parameters
    ----------
    sources : SourceTable
        The catalogue.
    extra : mapping of str to array-like
        Diagnostics, shape (n_source,).

    Returns
    -------
    dict of str to ndarray
    """
    known = {
        "ra_deg": sources.ra_deg,
        "dec_deg": sources.dec_deg,
        "mag": sources.mag,
        "catalog_flux": sources.flux,
        **extra,
    }
    return {**plain_columns(sources.columns), **known}


def covariance_group(blends: BlendTable, names: tuple[str, ...]) -> NamedDict:
    """Return the arrays of ``/covariance``: the pairs of sources that share a pixel.

    Parameters
    ----------
    blends : BlendTable
        Their correlations.
    names : tuple of str
        Names of the sources.

    Returns
    -------
    dict of str to ndarray
    """
    labels = np.array(names, object)
    return {
        "source_i": labels[blends.first],
        "source_j": labels[blends.second],
        "correlation": blends.correlation,
    }


def shape_group(fit: PrfFit) -> NamedDict:
    """Return the arrays of ``/shape``: enough to evaluate the PRF again.

    Parameters
    ----------
    fit : PrfFit
        The PRF.

    Returns
    -------
    dict of str to ndarray
    """
    basis = fit.prf.basis
    return {
        "psf_w": fit.prf.weights,
        "psf_w_err": np.sqrt(np.diag(fit.weights_cov)),
        "psf_w_cov": fit.weights_cov,
        "radial_knots": basis.knots,
        "n_r_knots": basis.n_r_knots,
        "n_phi_knots": basis.n_phi_knots,
        "rmin": basis.rmin,
        "rmax": basis.rmax,
        "cut_r": basis.cut_r,
        "pixel_area": fit.prf.pixel_area,
        "tail_slope": fit.prf.wing_slope,
        **({"tail_bends": np.asarray(fit.prf.wing_bends)} if fit.prf.wing_bends else {}),
        "prf_sum": fit.star_sum,
        "prf_turn": fit.turn,
        **({"prf_color": fit.color} if fit.color.any() else {}),
        "scale": fit.scale,
        "offset": np.asarray(fit.offset),
        "shear": np.asarray(fit.prf.shear),
        "intrinsic_scatter": fit.intrinsic_scatter,
        "n_pixel_shape": int(fit.training.sum()),
        "n_clipped": fit.n_clipped,
    }


def time_model_group(model: GainModel | ShiftModel, pixels: PixelTable) -> NamedDict:
    """Return the arrays of ``/time_model``: enough to evaluate the change of the PRF again.

    Parameters
    ----------
    model : GainModel or ShiftModel
        The time model.
    pixels : PixelTable
        The stack it was fitted to.

    Returns
    -------
    dict of str to ndarray
    """
    fit, change = model.gain, model.gain.change
    return {
        "time_vectors": fit.vectors,
        "time_vector_name": np.asarray(fit.names),
        "time_w": fit.weights,
        "time_w_err": fit.weights_err,
        "position_knots": change.basis.breaks,
        "position_spacing": change.basis.spacing,
        "position_degree": change.basis.degree,
        "field_order": change.field_order,
        "place": change.position,
        "pixel_w": fit.pixel_weights,
        "source_w": fit.source_weights,
        "pixel_factor": fit.pixel_factor,
        "pixel_column": pixels.column,
        "pixel_row": pixels.row,
        "time_scatter": fit.scatter,
        "n_clipped_time": fit.n_clipped,
        **(_shift_arrays(model) if isinstance(model, ShiftModel) else {}),
    }


def _shift_arrays(model: ShiftModel) -> NamedDict:
    """Return the arrays of a shift of the PRF, and of the light that moves along."""
    shift, light = model.shift, model.light
    found = {"shift": shift.motion, "shift_mix": shift.mix, "shift_combine": shift.combine}
    found |= {"shift_place": shift.grid.nodes, "shift_sums": shift.sums}
    if light is not None:
        found |= {"moving_light": light.parts, "moving_light_constant": light.constant}
    return found
