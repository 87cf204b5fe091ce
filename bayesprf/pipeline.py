"""The one way from files and a catalogue to results, and back from saved results to a Machine."""

import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import xarray as xr

from bayesprf.arrays import Named, NamedDict
from bayesprf.checks import check_choice, check_integer, check_names, check_types, checked, shown
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import (
    BayesprfError,
    BayesprfWarning,
    FileError,
    InputError,
    QualityWarning,
    warn,
)
from bayesprf.fit_record import Fit
from bayesprf.flags import QualityFlag
from bayesprf.io.catalogs.detect import add_missing
from bayesprf.io.catalogs.sources import read_sources
from bayesprf.io.files import sha256_of
from bayesprf.io.pixels.tpf import read_tpfs
from bayesprf.io.save import load_tree
from bayesprf.machine import Machine
from bayesprf.photometry.processes import solve_light_curves
from bayesprf.photometry.stage import choose_apertures, fit_fluxes, sum_apertures
from bayesprf.prf.stage import fit_prf
from bayesprf.quality.cures import (
    CURES,
    asks_for_sky,
    asks_for_stars,
    choose_bend,
    choose_sky,
    choose_slope,
    choose_stars,
    cure_fit,
    found_along,
    with_cures,
)
from bayesprf.quality.record import Cure
from bayesprf.quality.stage import with_verdict
from bayesprf.results.gather import cures_from_group, processes_from_group, widths_from_group
from bayesprf.results.recipes import Recipes, read_recipes
from bayesprf.results.scores import read_score
from bayesprf.sampling.questions import KINDS
from bayesprf.scene.colors import color_names
from bayesprf.scene.pixel_errors import PIXEL_ERRORS
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import (
    MAX_BACKGROUND_ORDER,
    Background,
    MaskOptions,
    PerturbationOptions,
    PrfRecipe,
    Settings,
    ShapeOptions,
)
from bayesprf.timemodel.stage import check_time_input, fit_time_model, parse_time_options

# Accuracy: fluxes that differ by more than this, in units of their errors, come from other options.
_SAME = 1e-3
# Options that are mappings, of one stage each, and those of the two readers that a fit passes on.
_GROUPS = ("machine", "shape", "time_model", "catalog", "reading")
READING = ("cadences", "wcs", "exposure", "error_floor", "time_at")
CATALOG = ("flux_column", "mag_column", "ra_column", "dec_column", "id_column", "ref_epoch", "table", "min_separation")
_log = logging.getLogger("bayesprf")


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How a field is fitted.

    Parameters
    ----------
    fit_va : bool
        Build the time model and fit with it; True where `time_model` has an option.
    apertures : bool
        Also sum the optimal apertures and measure the PRF.
    quality_bitmask : str or int
        As for `bayesprf.read_tpfs`.
    reading : mapping of str to object
        Further keyword arguments of `bayesprf.read_tpfs`: `cadences`, `wcs`, `exposure`, `error_floor`, `time_at`. By
        default errors far below photon and read noise are raised to it, and files without sky coordinates are read
        for ``catalog="detect"``.
    machine, shape, time_model : mapping of str to object
        Keyword arguments of `Machine.from_pixels`, `Machine.build_shape_model` and `Machine.build_time_model`.
    refine : bool, optional
        Fit every star's own position with the PRF, `Machine.refine_scene` with `shape` as its arguments, or hold them
        all; by default `Machine.build_shape_model` decides.
    robust : bool
        Down-weight cosmic rays; there are no leave-one-out scores then.
    pixel_errors : {"model", "time-mean", "given"}
        What the pixels are weighed by: see `Machine.fit_model`.
    follow_jitter : bool, optional
        Whether fluxes with the constant PRF follow jitter of the image: see `Machine.fit_model`.
    learn_widths : bool
        Learn prior width, noise and model error, and fit with them.
    loo : bool
        Compute exact leave-one-out scores, for `bayesprf.compare`.
    catalog : mapping of str to object
        Keyword arguments of `bayesprf.read_catalog`, and `detect_missing`. By default fluxes come from the column
        nearest to the instrument's band, and positions are moved to the epoch of the data.
    cures : bool or sequence of str
        What may be tried where a first fit has a fault, and kept where it is better: "sky", "stars", "positions" and
        "roll"; all by default.

    Raises
    ------
    InputError
        If a keyword of `machine`, `shape` or `time_model`, or a cure, is unknown or out of range.
    """

    fit_va: bool = False
    apertures: bool = True
    quality_bitmask: str | int = "default"
    machine: Named = field(default_factory=dict)
    shape: Named = field(default_factory=dict)
    time_model: Named = field(default_factory=dict)
    refine: bool | None = None
    robust: bool = False
    pixel_errors: str = "model"
    follow_jitter: bool | None = None
    learn_widths: bool = False
    loo: bool = False
    catalog: Named = field(default_factory=dict)
    cures: bool | Sequence[str] = True
    reading: Named = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)
        for name in _GROUPS:
            if not isinstance(getattr(self, name), Mapping):
                raise InputError(f"{name}: expected a mapping of options to values, got {getattr(self, name)!r}")
        _check_cures(self.cures)
        check_names(self.reading, READING, "reading")
        check_choice(self.pixel_errors, PIXEL_ERRORS, "pixel_errors")
        Settings().updated(**{name: value for name, value in self.machine.items() if name != "quiet"})
        apart = ("plot", "frame_index")
        PrfRecipe().updated(**{name: value for name, value in self.shape.items() if name not in apart})
        object.__setattr__(self, "fit_va", self.fit_va or bool(self.time_model))
        if self.fit_va:
            parse_time_options(Settings(), self.time_model)

    def updated(self, **changes: object) -> "FitOptions":
        """Return the same options with some changed by name.

        Parameters
        ----------
        **changes
            Names of these options, of `Settings`, or of arguments of `Machine.build_shape_model`,
            `Machine.build_time_model`, `bayesprf.read_tpfs` and `bayesprf.read_catalog`; or `machine`, `shape`,
            `time_model`, `catalog` and `reading` as mappings, which are merged.

        Returns
        -------
        FitOptions
            With the time model, if one of its options is changed.

        Raises
        ------
        InputError
            If a name is not known.
        """
        groups = names_of_options()
        check_names(changes, [*groups, *_GROUPS], "options")
        options = self
        for name, value in changes.items():
            group, given = (name, value) if name in _GROUPS else (groups[name], {name: value})
            if group == "":
                options = replace(options, **{name: value})  # type: ignore[arg-type]
            elif not isinstance(given, Mapping):
                raise InputError(f"{name}: expected a mapping of options to values, got {type(given).__name__}")
            else:
                merged: NamedDict = {group: {**getattr(options, group), **given}}
                options = replace(options, **merged)
        return options

    @property
    def chosen_cures(self) -> tuple[str, ...]:
        """Names of what may be tried."""
        if isinstance(self.cures, bool):
            return CURES if self.cures else ()
        return tuple(self.cures)


def names_of_options() -> dict[str, str]:
    """Return every option by name, with the group it belongs to.

    Returns
    -------
    dict of str to str
        "" for options of `FitOptions` itself, else "machine", "shape", "time_model", "reading" or "catalog".
    """
    single = [one.name for one in fields(FitOptions) if one.name not in _GROUPS]
    time = [one.name for one in (*fields(PerturbationOptions), *fields(TrendOptions))]
    groups = {
        "time_model": [name for name in time if name not in ("trends", "basis", "resolution")],
        "shape": [one.name for one in (*fields(MaskOptions), *fields(ShapeOptions))] + ["frame_index"],
        "machine": [one.name for one in fields(Settings)],
        "reading": list(READING),
        "catalog": list(CATALOG),
        "": single,
    }
    return {name: group for group, names in groups.items() for name in names}


def _check_cures(cures: object) -> None:
    if not isinstance(cures, bool | list | tuple) or (not isinstance(cures, bool) and not set(cures) <= set(CURES)):
        raise InputError(f"cures: expected True, False or some of {', '.join(CURES)}, got {shown(cures)}")


@checked
def fit(
    files: object,
    catalog: object,
    *,
    fit_va: bool = False,
    refine: bool | None = None,
    robust: bool = False,
    pixel_errors: str = "model",
    follow_jitter: bool | None = None,
    learn_widths: bool = False,
    background: object = None,
    shape: Mapping[str, object] | None = None,
    time_model: Mapping[str, object] | None = None,
    detect_missing: bool = False,
    cures: bool | Sequence[str] = True,
    quiet: bool = False,
    **settings: object,
) -> Machine:
    """Fit the fluxes of all stars of a catalogue in target pixel files.

    Parameters
    ----------
    files : path-like, HDUList, object with `hdu`, sequence of them, or PixelTable
        Target pixel files, patterns, directories or open files, as for `bayesprf.read_tpfs`; or pixels that were read
        before.
    catalog : path-like, table, SourceTable, "targets", "detect" or "gaia"
        As for `bayesprf.read_catalog`; or the stars that the headers name, those that the mean image shows, or those
        that Gaia's archive lists. Fluxes come from the column nearest to the instrument's band (Gaia RP for TESS, G
        otherwise), and positions are moved to the epoch of the data.
    fit_va : bool
        Build the time model and fit with it: drift, focus, or pointing (``time_model={"positions": "centroid"}``).
    refine : bool, optional
        Fit every star's own position together with the PRF, or hold them all where the catalogue has them. By default
        they are fitted where PRF and fluxes are fitted jointly (see `Machine.build_shape_model`).
    robust : bool
        Down-weight cosmic rays.
    pixel_errors : {"model", "time-mean", "given"}
        What the pixels are weighed by: see `Machine.fit_model`.
    follow_jitter : bool, optional
        Whether fluxes with the constant PRF follow jitter of the image: see `Machine.fit_model`.
    learn_widths : bool
        Learn prior width, noise and model error from the data, and fit with them.
    background : {"stamp", "image"} or Background, optional
        Residual background, fitted along. Where the files say that the sky is still in their pixels (BACKAPP = 0), a
        constant per file by default.
    shape, time_model : mapping of str to object, optional
        Keyword arguments of `Machine.build_shape_model` (`Machine.refine_scene`) and `Machine.build_time_model`; the
        latter ask for `fit_va`.
    detect_missing : bool
        Add the stars of the mean image that the catalogue lacks.
    cures : bool or sequence of str
        What may be tried where the first fit has a fault, and kept where it is better: a "sky" where the files or the
        pixels say that it is still there (a constant per file, or a plane where it slopes), the "stars" of the mean
        image that the catalogue lacks, which come after its own as detected-1 and so on, and free "positions", where
        the PRF is poor, and a time model that follows the "roll" of K2, whose fluxes are `Machine.ws_va`. Nothing that
        an argument asks for is changed.
    quiet : bool
        Silence progress bars.
    **settings
        Any further option by its name, as `FitOptions.updated` takes them: settings of `Machine.from_pixels` such as
        `rmax`, arguments of `shape` and `time_model` such as `field_variation` or `poly_order`, of reading such as
        `quality_bitmask` or `flux_column`, or `loo`.

    Returns
    -------
    Machine
        With PRF, fluxes, apertures and metrics. ``machine.to_datatree()`` holds all results.

    Raises
    ------
    FileError
        If a file cannot be read.
    InputError
        If an argument is out of range, or no pixel can train the PRF.

    Warns
    -----
    QualityWarning
        If something was tried to make the fit better, or a fault is left: once, with all cures. `Machine.verdict`
        holds the same as records.

    See Also
    --------
    load : Take a saved fit up again.
    bayesprf.batch.fit_batch : Many fields.

    Examples
    --------
    The six files of a small field, simulated where the real ones are not at hand:

    >>> import bayesprf as bp
    >>> from bayesprf import datasets
    >>> data = datasets.load("kepler-field")
    >>> machine = bp.fit(data.files, data.catalog, quiet=True)
    >>> machine.ws.shape == (machine.nt, machine.nsources)
    True
    """
    options = FitOptions(
        fit_va=fit_va,
        machine={"background": background},
        shape=shape or {},
        time_model=time_model or {},
        refine=refine,
        robust=robust,
        pixel_errors=pixel_errors,
        follow_jitter=follow_jitter,
        learn_widths=learn_widths,
        catalog={"detect_missing": True} if detect_missing else {},
        cures=cures,
    ).updated(**settings)
    machine = fit_files(files, catalog, options, quiet=quiet)
    if machine.verdict.sentences:
        warn(f"bayesprf.fit: {'; '.join(machine.verdict.sentences)}", QualityWarning)
    return machine


def fit_files(
    files: object,
    catalog: object,
    options: FitOptions | None = None,
    *,
    step: Callable[[str], object] = lambda name: None,
    on_error: str = "raise",
    quiet: bool = True,
) -> Machine:
    """Read files and catalogue, and run every stage.

    Parameters
    ----------
    files : path-like, sequence of them, or PixelTable
        Target pixel files, or pixels.
    catalog : path-like, table or SourceTable
        The stars.
    options : FitOptions, optional
        How.
    step : callable
        Called with the name of each step as it begins.
    on_error : {"raise", "skip"}
        What a file that cannot be read does.
    quiet : bool
        Silence progress bars.

    Returns
    -------
    Machine
    """
    options = options or FitOptions()
    step = _logged(step)
    step("reading files")
    pixels, sources = read_field(files, catalog, options, on_error=on_error)
    settings, cures = _with_sky(options, pixels)
    machine = Machine.from_pixels(pixels, sources, **{"quiet": quiet, **settings})
    _run(machine, options, step)
    step("judging the fit")
    machine.fit = with_verdict(machine.fit)
    machine.fit, found = _with_found_sky(machine.fit, options)
    machine.fit, slope = _with_sloping_sky(machine.fit, options, (*cures, *found))
    machine.fit, bend = _with_bending_sky(machine.fit, options)
    machine.fit, stars = _with_missing_stars(machine.fit, options)
    machine.fit = with_cures(cure_fit(machine.fit, options.chosen_cures), (*cures, *found, *slope, *bend, *stars))
    _finish(machine, options, step)
    return machine


def _run(machine: Machine, options: FitOptions, step: Callable[[str], object]) -> None:
    """Fit PRF, time model and fluxes, as the options ask."""
    if options.fit_va:  # before the PRF, not after it
        check_time_input(machine.fit.pixels, parse_time_options(machine.fit.settings, options.time_model))
    step("learning the PRF")
    build = machine.refine_scene if options.refine else machine.build_shape_model
    held = {"refine": False} if options.refine is False else {}
    build(**{**held, **options.shape})
    if options.fit_va:
        step("learning its change with time")
        machine.build_time_model(**options.time_model)
    step("solving fluxes")
    machine.fit_model(fit_va=options.fit_va, **_weights(options))


def _weights(options: FitOptions) -> NamedDict:
    """Return the options of the flux fit."""
    return {name: getattr(options, name) for name in ("robust", "pixel_errors", "follow_jitter")}


def _with_found_sky(fit: Fit, options: FitOptions) -> tuple[Fit, tuple[Cure, ...]]:
    """Fit with a sky per file too, where some is left in the pixels, and return the better fit.

    Where the verdict flags it that is a constant. Else few stars may have taken it for wings, which tell nothing of its
    slope: a plane, without which what it leaves would pass for a worse PRF.
    """
    reason = asks_for_sky(fit) if "sky" in options.chosen_cures else ""
    if not reason:
        return fit, ()
    flagged = with_verdict(fit).need("verdict").find(QualityFlag.SKY_LEFT) is not None
    settings = fit.settings.updated(background=Background("stamp", None if flagged else 1))
    bare = Fit.of(fit.pixels, fit.sources, settings)
    fit, said = _choose(fit, bare, options, choose_sky, Cure("sky", False, reason, "a fit with it failed"))
    return fit, tuple(one for one in said if one.kept or flagged)


def _with_sloping_sky(fit: Fit, options: FitOptions, cures: tuple[Cure, ...]) -> tuple[Fit, tuple[Cure, ...]]:
    """Fit with a plane of sky per file too, where a constant is a cure, and return the better fit.

    Few stars have a PRF that bends to the slope of a sky, and takes light of it for wings.
    """
    tried = fit.settings.background
    if tried is None or tried.order or not any(one.name == "sky" and one.kept for one in cures):
        return fit, ()
    bare = Fit.of(fit.pixels, fit.sources, fit.settings.updated(background=Background("stamp", 1)))
    fit, said = _choose(fit, bare, options, choose_slope, Cure("sky", False, "the sky may slope", "a fit of it failed"))
    return fit, tuple(one for one in said if one.kept)


def _with_bending_sky(fit: Fit, options: FitOptions) -> tuple[Fit, tuple[Cure, ...]]:
    """Fit with a sky whose order the pixels choose, where they tell of more than was asked for; return the better."""
    asked, told = fit.settings.background, fit.need("prf").sky_beyond
    if asked is None or told is None or told[0] > MAX_BACKGROUND_ORDER or "sky" not in options.chosen_cures:
        return fit, ()
    bare = Fit.of(fit.pixels, fit.sources, fit.settings.updated(background=Background("image", sigma=asked.sigma)))
    return _choose(fit, bare, options, choose_bend, Cure("sky", False, "the sky bends", "a fit of it failed"))


def _with_missing_stars(fit: Fit, options: FitOptions) -> tuple[Fit, tuple[Cure, ...]]:
    """Fit with the stars that the catalogue lacks too, where that may mend a fault, and return the better fit."""
    reason = asks_for_stars(fit) if "stars" in options.chosen_cures else ""
    if not reason:
        return fit, ()
    found = found_along(fit)
    grown = add_missing(fit.pixels, fit.sources) if found is None else fit.sources.joined(found)
    if grown.n_source == fit.sources.n_source:
        return fit, ()
    bare = Fit.of(fit.pixels, grown, fit.settings)
    return _choose(fit, bare, options, choose_stars, Cure("stars", False, reason, "a fit with them failed"))


def _choose(
    fit: Fit, bare: Fit, options: FitOptions, choose: Callable[[Fit, Fit], tuple[Fit, Cure]], failed: Cure
) -> tuple[Fit, tuple[Cure, ...]]:
    """Run all stages on another scene, and return the better fit and what is said of it, or why the run failed."""
    machine = Machine.from_fit(bare, quiet=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesprfWarning)
        try:
            _run(machine, options, lambda name: None)
        except BayesprfError as error:
            return fit, (replace(failed, result=f"{failed.result}: {error}"),)
        found, cure = choose(fit, machine.fit)
    return found, (cure,)


def _finish(machine: Machine, options: FitOptions, step: Callable[[str], object]) -> None:
    """Learn widths, score and sum apertures, as the options ask."""
    if options.learn_widths:
        fit_va, cures, widths = machine.fit.latest == "flux_va", machine.verdict.cures, machine.learn_widths()
        machine.fit_model(fit_va=fit_va, widths=widths, **_weights(options))
        machine.fit = with_cures(machine.fit, cures)
    if options.loo and not options.robust:
        machine.loo()
    if options.apertures:
        step("summing apertures")
        machine.compute_aperture_photometry()
        machine.get_psf_metrics()


def _with_sky(options: FitOptions, pixels: PixelTable) -> tuple[Named, tuple[Cure, ...]]:
    """Return the settings, with a background if the files say that their pixels hold the sky and none was asked for."""
    settings = options.machine
    if settings.get("background") is not None or pixels.background_removed is not False:
        return settings, ()
    if "sky" not in options.chosen_cures:
        return settings, ()
    reason = "the sky is still in these pixels (BACKAPP = 0)"
    told = "a constant per file, background='stamp', is fitted along"
    return {**settings, "background": "stamp"}, (Cure("sky", kept=True, reason=reason, result=told),)


def _logged(step: Callable[[str], object]) -> Callable[[str], object]:
    """Return a function that logs what begins, and says so."""

    def begin(name: str) -> None:
        _log.info("%s", name)
        step(name)

    return begin


def read_field(
    files: object, catalog: object, options: FitOptions, *, on_error: str = "raise"
) -> tuple[PixelTable, SourceTable]:
    """Read pixels and catalogue, as `Machine.from_pixels` takes them.

    Parameters
    ----------
    files : path-like, sequence of them, or PixelTable
        Target pixel files, or pixels that were read before.
    catalog : path-like, table or SourceTable
        The stars.
    options : FitOptions
        `quality_bitmask` and `catalog` matter here.
    on_error : {"raise", "skip"}
        What a file that cannot be read does.

    Returns
    -------
    tuple of PixelTable and SourceTable
    """
    pixels = files if isinstance(files, PixelTable) else _read_pixels(files, catalog, options, on_error)
    return pixels, read_sources(catalog, pixels, **options.catalog)


def _read_pixels(files: object, catalog: object, options: FitOptions, on_error: str) -> PixelTable:
    usual = {"error_floor": "auto"} if options.cures else {}
    usual |= {"wcs": "detector"} if isinstance(catalog, str | Path) and str(catalog) == "detect" else {}
    return read_tpfs(files, quality_bitmask=options.quality_bitmask, on_error=on_error, **{**usual, **options.reading})


@checked
def load(path: str | Path, *, directories: Sequence[str | Path] = (), quiet: bool = False) -> Machine:
    """Take a saved fit up again: read its files once more, and run its stages with the options they had.

    Parameters
    ----------
    path : path-like
        Results of `bayesprf fit`, `fit_batch`, or of `Machine.to_datatree` saved with `save_tree`.
    directories : sequence of path-like
        Where the pixel files are, or below; where they were and beside `path` by default.
    quiet : bool
        Silence progress bars.

    Returns
    -------
    Machine
        With all stages of the saved fit, ready to go on.

    Raises
    ------
    FileError
        If a file is not found, or is not the one that the results were made from.
    InputError
        If the results name no files, as those of arrays, or the fluxes come out differently.

    See Also
    --------
    fit : Fit files and a catalogue.
    Machine.save : Save a fit.

    Examples
    --------
    >>> import bayesprf as bp
    >>> path = machine.save("field.nc")
    >>> again = bp.load(path, quiet=True)
    >>> bool((again.ws == machine.ws).all())
    True
    """
    path = Path(path)
    return restore(load_tree(path), tuple(Path(one) for one in directories) or (path.resolve().parent,), quiet=quiet)


@checked
def restore(tree: xr.DataTree, directories: tuple[Path, ...] = (), *, quiet: bool = True) -> Machine:
    """Return the Machine whose results a tree holds: see `load`.

    Parameters
    ----------
    tree : xarray.DataTree
        The results.
    directories : tuple of Path
        Where to look for the files, and below.
    quiet : bool
        Silence progress bars.

    Returns
    -------
    Machine
    """
    recipes = read_recipes(tree)
    pixels = read_tpfs(_find_files(tree, directories), **recipes.reading)
    sources = _with_colors(_sources(tree), tree, recipes)
    found = _run_stages(tree, Fit.of(pixels, sources, recipes.settings), recipes)
    _compare(tree, found)
    return Machine.from_fit(found, quiet=quiet)


def check_question(tree: xr.DataTree, sources: object, kind: str, cadence: int | None) -> None:
    """Raise if a question to saved results has no answer, before the fit is made again.

    Parameters
    ----------
    tree : xarray.DataTree
        The results.
    sources : int, str or sequence of them
        Sources.
    kind : str
        Kind of model: see `Machine.sample`.
    cadence : int, optional
        A cadence.

    Raises
    ------
    InputError
        If a source, the kind or the cadence is none.
    """
    _sources(tree).indices(sources)
    check_choice(kind, KINDS, "kind")
    if cadence is not None and "time" in tree["photometry"].sizes:
        n_time = tree["photometry"].sizes["time"]
        check_integer(cadence, "cadence", low=-n_time, high=n_time - 1)


def _sources(tree: xr.DataTree) -> SourceTable:
    """Return the catalogue that a tree holds, at the epoch of the data."""
    catalog = tree["catalog"].to_dataset()
    names = tuple(str(one) for one in catalog["source"].to_numpy())
    ra_deg, dec_deg, flux, mag = (catalog[name].to_numpy() for name in ("ra_deg", "dec_deg", "catalog_flux", "mag"))
    return SourceTable(names, ra_deg, dec_deg, flux, mag)


def _with_colors(sources: SourceTable, tree: xr.DataTree, recipes: Recipes) -> SourceTable:
    """Return the sources with the columns of the tree that give their colours, if the PRF follows these."""
    asked, catalog = None if recipes.prf is None else recipes.prf.shape.color_column, tree["catalog"].to_dataset()
    if asked is None:
        return sources
    names = color_names(asked, {str(name): one for name, one in catalog.data_vars.items()})
    masked = {name: catalog[name].attrs.get("masked_value", np.nan) for name in names}
    columns = {name: np.ma.masked_equal(catalog[name].to_numpy(), masked[name]) for name in names}
    return replace(sources, columns=columns)


def _run_stages(tree: xr.DataTree, found: Fit, recipes: Recipes) -> Fit:
    """Run the stages that a tree holds."""
    if recipes.prf is not None:
        found = found.with_stage("prf", fit_prf(found, recipes.prf), prf_recipe=recipes.prf)
    if recipes.time_model is not None:
        record = fit_time_model(found, recipes.time_model)
        found = found.with_stage("time_model", record, time_recipe=recipes.time_model)
    if recipes.flux is not None:
        widths = widths_from_group(tree["widths"]) if "widths" in tree.children else None  # type: ignore[arg-type]
        for stage, flux in fit_fluxes(found, recipes.flux, widths=widths):
            found = found.with_stage(stage, flux, flux_recipe=recipes.flux)
        found = found if widths is None else found.with_stage("hyperparameters", widths)
        score = read_score("tree", tree)
        found = found.with_stage("score", score) if np.isfinite(score.elpd_time).any() else found
        cures = cures_from_group(tree["quality"]) if "quality" in tree.children else ()  # type: ignore[arg-type]
        found = with_cures(found, cures) if cures else found
    return _choose_apertures(tree, _solve_processes(tree, found), recipes)


def _solve_processes(tree: xr.DataTree, found: Fit) -> Fit:
    """Solve the light curves that a tree holds as processes, with the kernels that they had."""
    if "process" not in tree.children:
        return found
    known = processes_from_group(tree["process"])  # type: ignore[arg-type]
    return found.with_stage("process", solve_light_curves(found.latest_flux, found.pixels.time, known))


def _choose_apertures(tree: xr.DataTree, found: Fit, recipes: Recipes) -> Fit:
    """Choose the apertures of a tree, and sum them if it has sums."""
    if "aperture_percentile" not in tree["catalog"]:
        return found
    percentile = tree["catalog/aperture_percentile"].to_numpy()
    found = found.with_stage("apertures", choose_apertures(found, percentile))
    if "photometry" not in tree.children or "sap_flux" not in tree["photometry"]:
        return found
    found = found.with_stage("aperture_photometry", sum_apertures(found))
    return found.with_stage("optimal_percentile", percentile) if recipes.optimal else found


def _find_files(tree: xr.DataTree, directories: tuple[Path, ...]) -> list[Path]:
    """Return the files that a tree was made from, wherever they are now."""
    recorded = json.loads(tree.attrs.get("input_files", "{}"))
    if not recorded:
        raise InputError(
            "tree: expected results that name their input files, got none; results of arrays cannot be made again,"
            " so sample from the Machine itself"
        )
    return [_find(name, checksum, directories) for name, checksum in recorded.items()]


def _find(name: str, checksum: str, directories: tuple[Path, ...]) -> Path:
    """Return the file of that name and content."""
    below = [place for directory in directories for place in sorted(directory.rglob(Path(name).name))]
    found = [place for place in (Path(name), *below) if place.is_file()]
    if not found:
        looked = ", ".join(str(directory) for directory in (Path.cwd(), *directories))
        raise FileError(
            f"{Path(name).name}: expected the file the results were made from below one of {looked}, got none; name its"
            " directory with directories="
        )
    for place in found:
        if sha256_of(place) == checksum:
            return place
    raise FileError(f"{found[0]}: expected the file the results were made from, got another content; find the original")


def _compare(tree: xr.DataTree, found: Fit) -> None:
    """Raise if the fluxes are not those of the tree."""
    if not found.has_flux:
        return
    then, error = (tree[f"photometry/{name}"].to_numpy() for name in ("flux", "flux_err"))
    now = found.latest_flux.flux
    away = float(np.nanmax(np.abs(now - then) / error, initial=0.0)) if then.shape == now.shape else np.inf
    if not away < _SAME:
        raise InputError(
            f"tree: expected fluxes that these files and options give again, got some that differ by {away:.3g}"
            " errors; it was made by another version, so fit the files anew"
        )
