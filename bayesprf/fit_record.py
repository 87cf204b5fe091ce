"""Fit: data, settings and the result of every stage in one frozen record, and what each stage stands on.

The records of the stages are named in annotations alone, so that every package can write its stages and questions as
functions of a Fit.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self, overload

import numpy as np

from bayesprf.arrays import FloatArray, NamedDict, brief, brief_html, same_content
from bayesprf.errors import StageError
from bayesprf.flags import QualityFlag
from bayesprf.scene.image import masked_cadences
from bayesprf.scene.pairs import PairTable, build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import FluxRecipe, PrfRecipe, Settings, TimeRecipe

if TYPE_CHECKING:
    from bayesprf.hypotheses.scores import ModelScore
    from bayesprf.photometry.apertures import ApertureSet, ApertureSums
    from bayesprf.photometry.fluxes import FluxFit
    from bayesprf.photometry.metrics import PsfMetrics
    from bayesprf.photometry.processes import LightCurves
    from bayesprf.prf.fit import PrfFit
    from bayesprf.quality.record import Verdict
    from bayesprf.timemodel.fit import GainModel
    from bayesprf.timemodel.shift import ShiftModel
    from bayesprf.uncertainty.hyperparameters import FluxWidths
    from bayesprf.uncertainty.systematics import CommonErrors

# What each stage is made from; rerunning one drops all that stand on it.
STANDS_ON: dict[str, tuple[str, ...]] = {
    "prf": (),
    "time_model": ("prf",),
    "flux": ("prf",),
    "flux_va": ("prf", "time_model"),
    "score": ("flux", "flux_va"),
    "hyperparameters": ("flux", "flux_va"),
    "systematics": ("prf", "flux", "flux_va"),
    "verdict": ("prf", "flux", "flux_va", "systematics"),
    "process": ("flux", "flux_va"),
    "apertures": ("prf",),
    "aperture_photometry": ("apertures",),
    "optimal_percentile": ("apertures",),
    "metrics": ("prf", "time_model"),
}

# The methods of a Machine that run each stage.
HOW_TO: dict[str, str] = {
    "prf": "build_shape_model()",
    "time_model": "build_time_model()",
    "flux": "fit_model()",
    "flux_va": "fit_model(fit_va=True)",
    "score": "loo()",
    "hyperparameters": "fit_model(widths=learn_widths())",
    "systematics": "fit_common_errors()",
    "verdict": "fit_model()",
    "process": "fit_light_curves()",
    "apertures": "create_aperture_mask() or compute_aperture_photometry()",
    "aperture_photometry": "compute_aperture_photometry()",
    "optimal_percentile": "compute_aperture_photometry('optimal')",
    "metrics": "get_psf_metrics()",
}

# Where the options of a stage are kept.
_RECIPES = {"prf": "prf_recipe", "time_model": "time_recipe", "flux": "flux_recipe"}


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Pixels, catalogue, settings, and the results of the stages that have run.

    Parameters
    ----------
    pixels : PixelTable
        The stack.
    sources : SourceTable
        The catalogue.
    settings : Settings
        Every setting.
    pairs : PairTable
        Pixels within `settings.sparse_dist_lim` of each source, at catalogue positions.
    prf : PrfFit, optional
        Mean PRF, and where each source matters.
    time_model : GainModel or ShiftModel, optional
        How the PRF changes in time.
    flux, flux_va : FluxFit, optional
        Fluxes with the mean PRF, and with the time model.
    score : ModelScore, optional
        Evidence and exact leave-one-out densities of the latest fluxes.
    hyperparameters : FluxWidths, optional
        Learned prior and noise that the latest fluxes were fitted with.
    systematics : CommonErrors, optional
        Errors of the latest fluxes that all cadences share.
    verdict : Verdict, optional
        What is known against the latest fluxes.
    process : LightCurves, optional
        Light curves as processes in time.
    apertures : ApertureSet, optional
        Aperture of every source.
    aperture_photometry : ApertureSums, optional
        Sums in the apertures.
    optimal_percentile : ndarray of float64, shape (n_source,), optional
        Percentile of each aperture, if they were optimised.
    metrics : PsfMetrics, optional
        How much of each PRF is on the data.
    prf_recipe, time_recipe, flux_recipe : PrfRecipe, TimeRecipe, FluxRecipe, optional
        Options that PRF, time model and latest fluxes were fitted with.
    latest : {"flux", "flux_va"}
        Which fluxes were fitted last.

    Notes
    -----
    Nothing in a Fit changes: copies share its arrays, and a stage that runs gives a new Fit. Two are equal where all
    their numbers are.
    """

    pixels: PixelTable
    sources: SourceTable
    settings: Settings
    pairs: PairTable
    prf: "PrfFit | None" = None
    time_model: "GainModel | ShiftModel | None" = None
    flux: "FluxFit | None" = None
    flux_va: "FluxFit | None" = None
    score: "ModelScore | None" = None
    hyperparameters: "FluxWidths | None" = None
    systematics: "CommonErrors | None" = None
    verdict: "Verdict | None" = None
    process: "LightCurves | None" = None
    apertures: "ApertureSet | None" = None
    aperture_photometry: "ApertureSums | None" = None
    optimal_percentile: FloatArray | None = None
    metrics: "PsfMetrics | None" = None
    prf_recipe: PrfRecipe | None = None
    time_recipe: TimeRecipe | None = None
    flux_recipe: FluxRecipe | None = None
    latest: Literal["flux", "flux_va"] = "flux"

    def __eq__(self, other: object) -> bool:
        return same_content(self, other)

    def __str__(self) -> str:
        """Give in a few words what it holds."""
        return "; ".join(f"{name}: {text}" for name, text in describe_fit(self).items())

    __repr__, _repr_html_ = brief, brief_html

    @classmethod
    def of(cls, pixels: PixelTable, sources: SourceTable, settings: Settings) -> Self:
        """Return a Fit before any stage."""
        masked_cadences(settings.time_mask, pixels.n_time)
        return cls(pixels, sources, settings, build_pairs(pixels, sources, settings.sparse_dist_lim))

    def with_stage(self, stage: str, record: object, **recipe: object) -> Self:
        """Return the Fit with the record of a stage, and without all that stood on an earlier one.

        Parameters
        ----------
        stage : str
            Name of the stage.
        record : object
            Its result.
        **recipe
            The options it was run with, by the name of their field.

        Returns
        -------
        Fit
        """
        changes: NamedDict = {stage: record, **recipe}
        if stage in ("flux", "flux_va"):
            changes["latest"] = stage
        return replace(self.without(stage), **changes)

    def without(self, stage: str) -> Self:
        """Return the Fit without a stage and all that stand on it, and without their options."""
        dropped = {stage, *_standing_on(stage)}
        nothing: NamedDict = dict.fromkeys(dropped | {_RECIPES[one] for one in dropped & _RECIPES.keys()})
        return replace(self, **nothing)

    def with_settings(self, **changes: object) -> Self:
        """Return the Fit with some settings changed, without the stages that read them."""
        settings = self.settings.updated(**changes)
        masked_cadences(settings.time_mask, self.pixels.n_time)
        fit = replace(self, settings=settings)
        if "sparse_dist_lim" in changes:
            fit = replace(fit, pairs=build_pairs(self.pixels, self.sources, settings.sparse_dist_lim))
        for stage in {Settings.first_reader(name) for name in changes} - {None}:
            fit = fit.without(str(stage))
        return fit

    @overload
    def need(self, stage: Literal["prf"]) -> "PrfFit": ...
    @overload
    def need(self, stage: Literal["time_model"]) -> "GainModel | ShiftModel": ...
    @overload
    def need(self, stage: Literal["flux", "flux_va"]) -> "FluxFit": ...
    @overload
    def need(self, stage: Literal["score"]) -> "ModelScore": ...
    @overload
    def need(self, stage: Literal["hyperparameters"]) -> "FluxWidths": ...
    @overload
    def need(self, stage: Literal["systematics"]) -> "CommonErrors": ...
    @overload
    def need(self, stage: Literal["verdict"]) -> "Verdict": ...
    @overload
    def need(self, stage: Literal["process"]) -> "LightCurves": ...
    @overload
    def need(self, stage: Literal["apertures"]) -> "ApertureSet": ...
    @overload
    def need(self, stage: Literal["aperture_photometry"]) -> "ApertureSums": ...
    @overload
    def need(self, stage: Literal["optimal_percentile"]) -> FloatArray: ...
    @overload
    def need(self, stage: Literal["metrics"]) -> "PsfMetrics": ...
    @overload
    def need(self, stage: str) -> object: ...
    def need(self, stage: str) -> object:
        """Return the record of a stage.

        Parameters
        ----------
        stage : str
            Name of the stage.

        Returns
        -------
        object

        Raises
        ------
        StageError
            If the stage has not been run, naming the method of a Machine that runs it.
        """
        record: object = getattr(self, stage)
        if record is None:
            raise StageError(f"no {stage.replace('_', ' ')} result yet: call {HOW_TO[stage]} first")
        return record

    @property
    def latest_flux(self) -> "FluxFit":
        """The fluxes that were fitted last, with or without the time model."""
        return self.flux_va if self.latest == "flux_va" and self.flux_va is not None else self.need("flux")

    @property
    def has_flux(self) -> bool:
        """Whether any fluxes have been fitted."""
        return self.flux is not None

    @property
    def shifted_pairs(self) -> PairTable:
        """Pixels near each source, at the positions that the PRF fit found, if there is one."""
        if self.prf is None:
            return self.pairs
        return self.pairs.moved(np.asarray(self.prf.offset) + self.prf.positions.shift)

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        """Names of what the flux problem solves for: the sources, then the columns of the background."""
        background = self.need("prf").background
        return (*self.sources.source_id, *(() if background is None else background.columns.names))


def describe_fit(fit: Fit) -> dict[str, str]:
    """Return in a few words what a Fit holds: data, stages, scatter of the PRF, flags of the latest fluxes."""
    done = [name.replace("_", " ") for name in STANDS_ON if getattr(fit, name) is not None]
    pixels = f"{fit.pixels.instrument.name}, {fit.pixels.n_time} cadences x {fit.pixels.n_pixel} pixels"
    words = {"pixels": pixels, "sources": str(fit.sources.n_source), "stages": ", ".join(done) or "none yet"}
    if fit.prf is not None:
        words["PRF scatter"] = f"{fit.prf.intrinsic_scatter:.3g} dex"
    if fit.has_flux:
        bits = np.bitwise_or.reduce(fit.latest_flux.flags, axis=0)
        counts = {str(flag.name): int(np.count_nonzero(bits & flag)) for flag in QualityFlag}
        words["flags"] = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "none"
    return words


def _standing_on(stage: str) -> set[str]:
    """Return all stages that stand on one, directly or through others."""
    above = {name for name, needed in STANDS_ON.items() if stage in needed}
    return above.union(*(_standing_on(name) for name in above))
