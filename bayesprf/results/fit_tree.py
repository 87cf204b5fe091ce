"""All results of a Fit as one labelled tree."""

import numpy as np
import xarray as xr

from bayesprf.arrays import NamedDict
from bayesprf.fit_record import Fit
from bayesprf.hypotheses.questions import known_score
from bayesprf.linalg.blas import in_one_blas_thread
from bayesprf.photometry.overlaps import BlendTable, measure_blends
from bayesprf.quality.stage import quality_flags, with_verdict
from bayesprf.results.gather import (
    background_group,
    catalog_group,
    covariance_group,
    photometry_group,
    process_group,
    quality_group,
    shape_group,
    time_model_group,
    widths_group,
)
from bayesprf.results.images import image_group, place_columns, prf_arrays
from bayesprf.results.recipes import plain_recipes, plain_settings, recipe_arrays
from bayesprf.results.scores import score_group
from bayesprf.results.tree import build_tree, creation_time, root_attributes
from bayesprf.uncertainty.stage import total_errors


@in_one_blas_thread
def fit_tree(fit: Fit) -> xr.DataTree:
    """Return the results of all stages that have run: see `Machine.to_datatree`."""
    fit = with_verdict(fit) if fit.has_flux else fit
    groups = {
        **_flux_groups(fit),
        "shape": shape_group(fit.need("prf")) | prf_arrays(fit.need("prf")),
        "image": image_group(fit),
        "time_model": {} if fit.time_model is None else time_model_group(fit.time_model, fit.pixels),
        "recipe": recipe_arrays(fit),
    }
    coords = {
        "time": fit.pixels.time,
        "cadence_number": fit.pixels.cadence_number,
        "source": list(fit.sources.source_id),
    }
    meta = fit.pixels.meta
    attrs = root_attributes(
        instrument=fit.pixels.instrument.name,
        time_zero_jd=fit.pixels.instrument.time_zero_jd,
        options=plain_settings(fit),
        recipes=plain_recipes(fit),
        files=dict(zip(meta.get("files", ()), meta.get("sha256", ()), strict=False)),
        created=creation_time(),
    )
    return build_tree(groups, coords, attrs)


def _flux_groups(fit: Fit) -> dict[str, NamedDict]:
    """Return the groups that come of the fluxes, as far as there are any, and of the apertures."""
    sums, catalog = _aperture_results(fit), {"radius": fit.need("prf").radius, **place_columns(fit)}
    if not fit.has_flux:
        return {"photometry": sums, "catalog": catalog_group(fit.sources, catalog | aperture_catalog(fit))}
    latest = fit.latest_flux
    blends = measure_blends(latest.problem, latest.posterior, latest.n_source)
    catalog |= _flux_catalog(fit, blends) | aperture_catalog(fit)
    common = {**_common_errors(fit), "flux_err_total": total_errors(fit)}
    return {
        "photometry": {**photometry_group(latest), "flags": quality_flags(fit), **common, **sums},
        "catalog": catalog_group(fit.sources, catalog),
        "quality": quality_group(fit.need("verdict")),
        "covariance": covariance_group(blends, fit.sources.source_id),
        "comparison": score_group(known_score(fit)),
        "background": background_group(latest),
        "widths": {} if fit.hyperparameters is None else widths_group(fit.hyperparameters),
        "process": {} if fit.process is None else process_group(fit.process),
    }


def _common_errors(fit: Fit) -> NamedDict:
    """Return the errors that all cadences share, and their parts."""
    errors = fit.need("systematics")
    parts = {name: one for name, one in errors.parts.items() if one.any()}
    found: NamedDict = {"flux_err_common": errors.std}
    if parts:
        found |= {"flux_err_part": np.stack(list(parts.values())), "error_part": np.array(list(parts), object)}
    return found


def _flux_catalog(fit: Fit, blends: BlendTable) -> NamedDict:
    """Return what the latest fluxes say of each source."""
    latest = fit.latest_flux
    return {
        "flux_estimate": latest.prior.mean,
        "source_flags": np.bitwise_and.reduce(quality_flags(fit), axis=0),
        "variance_from_neighbors": blends.variance_from_neighbors,
    }


def _aperture_results(fit: Fit) -> NamedDict:
    sums = fit.aperture_photometry
    return {} if sums is None else {"sap_flux": sums.flux, "sap_flux_err": sums.flux_err}


def aperture_catalog(fit: Fit) -> NamedDict:
    """Return what apertures and metrics say of each source."""
    found: NamedDict = {}
    if fit.apertures is not None:
        found |= {
            "completeness": fit.apertures.completeness,
            "crowding": fit.apertures.crowding,
            "aperture_percentile": fit.apertures.percentile,
            "n_pixel_aperture": fit.apertures.n_pixel,
        }
    if fit.metrics is not None:
        found["psf_fraction"] = fit.metrics.psf_fraction
        found |= dict(zip(("perturbed_ratio_mean", "perturbed_std"), fit.metrics.change or (), strict=False))
    return found
