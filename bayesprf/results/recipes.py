"""Options of a Fit, into a tree and back: with these and its files, any saved fit can be made again."""

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray, Named, NamedDict
from bayesprf.design.cartesian import CartesianBasis
from bayesprf.design.trends import TrendOptions
from bayesprf.fit_record import Fit
from bayesprf.settings import (
    Background,
    FluxRecipe,
    MaskOptions,
    PerturbationOptions,
    PrfRecipe,
    Settings,
    ShapeOptions,
    TimeRecipe,
)
from bayesprf.timemodel.stage import time_options

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Settings that are no plain values, or that say where the catalogue came from.
_APART = ("time_mask", "sources_flux_column")


@dataclass(frozen=True, slots=True, eq=False)
class Recipes:
    """What a saved fit was made with; stages that had not run have None.

    Parameters
    ----------
    settings : Settings
        Every setting.
    reading : dict
        Options of the reader of the files.
    prf, time_model, flux : PrfRecipe, TimeRecipe, FluxRecipe, optional
        Options of the stages.
    optimal : bool
        Whether the apertures were optimised.
    """

    settings: Settings
    reading: NamedDict
    prf: PrfRecipe | None
    time_model: TimeRecipe | None
    flux: FluxRecipe | None
    optimal: bool


def plain_settings(fit: Fit) -> NamedDict:
    """Return the settings that are plain values, and whether the fluxes are robust."""
    values = {one.name: getattr(fit.settings, one.name) for one in fields(fit.settings) if one.name not in _APART}
    plain = {name: asdict(one) if isinstance(one, Background) else one for name, one in values.items()}
    robust = fit.has_flux and fit.latest_flux.down_weighted is not None
    return {**plain, "robust": robust}


def plain_recipes(fit: Fit) -> NamedDict:
    """Return the options of reader and stages that are plain values."""
    found: NamedDict = {"reading": dict(fit.pixels.meta.get("reading", {}))}
    if fit.prf_recipe is not None:
        found["prf"] = asdict(fit.prf_recipe)
    if fit.time_recipe is not None:
        found["time_model"] = asdict(fit.time_recipe.options)
    if fit.flux_recipe is not None:
        found["flux"] = {
            "fit_va": fit.latest == "flux_va" and fit.flux_va is not None,
            "robust": fit.flux_recipe.robust,
            "pixel_errors": fit.flux_recipe.pixel_errors,
            "follow_jitter": fit.flux_recipe.follow_jitter,
        }
    if fit.apertures is not None:
        found["apertures"] = {"optimal": fit.optimal_percentile is not None}
    return found


def recipe_arrays(fit: Fit) -> NamedDict:
    """Return the options that are arrays, as far as they were given."""
    time, flux, n_source = fit.time_recipe, fit.flux_recipe, fit.sources.n_source
    given = {
        "time_mask": fit.settings.time_mask,
        "other_vectors": None if time is None else _in_rows(time.other_vectors, fit.pixels.n_time),
        "prior_mu": None if flux is None else flux.prior_mu,
        "prior_sigma": None if flux is None else flux.prior_sigma,
    }
    for name in ("prior_mu", "prior_sigma"):
        if given[name] is not None:
            given[name] = np.broadcast_to(np.asarray(given[name], np.float64), (n_source,))
    return {name: values for name, values in given.items() if values is not None}


def read_recipes(tree: xr.DataTree) -> Recipes:
    """Return what a tree was made with; trees of earlier versions name no options of stages, which are the defaults."""
    options, recipes = (json.loads(tree.attrs.get(name, "{}")) for name in ("options", "recipes"))
    arrays = {name: one.to_numpy() for name, one in tree["recipe"].items()} if "recipe" in tree.children else {}
    settings = Settings(**_known(Settings, options), time_mask=arrays.get("time_mask"))
    time = TimeRecipe(_time_options(settings, recipes.get("time_model")), arrays.get("other_vectors"))
    fluxes = recipes.get("flux", {"fit_va": "time_model" in tree.children, "robust": bool(options.get("robust"))})
    priors: NamedDict = {name: arrays.get(name) for name in ("prior_mu", "prior_sigma")}
    has_flux = "photometry" in tree.children and "flux" in tree["photometry"]
    return Recipes(
        settings=settings,
        reading=recipes.get("reading", {}),
        prf=_prf_recipe(settings, recipes.get("prf")) if "shape" in tree.children else None,
        time_model=time if "time_model" in tree.children else None,
        flux=FluxRecipe(**{"pixel_errors": "given", **_known(FluxRecipe, fluxes)}, **priors) if has_flux else None,
        optimal=recipes.get("apertures", {}).get("optimal", True),
    )


def _prf_recipe(settings: Settings, plain: Named | None) -> PrfRecipe:
    if plain is None:
        return PrfRecipe.from_settings(settings)
    mask, shape = MaskOptions(**_known(MaskOptions, plain["mask"])), _known(ShapeOptions, plain["shape"])
    if "n_round" in plain["shape"]:  # of a version with a fit in rounds, whose smoothness was never learned
        shape |= {"smoothness": None, "method": shape["method"].replace("rounds", "auto")}
    return PrfRecipe(mask, ShapeOptions(**shape), plain["frame_index"])


def _time_options(settings: Settings, plain: Named | None) -> PerturbationOptions:
    if plain is None:
        return time_options(settings, TrendOptions(), positions=False, further={})
    parts = {"trends": TrendOptions(**plain["trends"]), "basis": CartesianBasis(**plain["basis"])}
    return PerturbationOptions(**{**_known(PerturbationOptions, plain), **parts})


def _known(kind: "type[DataclassInstance]", plain: Named) -> NamedDict:
    """Return the entries that are fields of a record: other versions have others."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in plain.items() if name in names}


def _in_rows(vectors: object, n_time: int) -> FloatArray | None:
    """Return given time columns as (n_vector, n_time); their transpose is accepted too."""
    if vectors is None:
        return None
    found = np.atleast_2d(np.asarray(vectors, np.float64))
    return found if found.shape[1] == n_time else found.T
