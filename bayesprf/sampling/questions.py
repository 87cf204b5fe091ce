"""Questions to a Fit that PyMC answers: models of a group of sources on the matrices of the closed form, and draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from bayesprf.arrays import FloatArray, IntArray, NamedDict, shape_of
from bayesprf.checks import check_choice, check_positive, check_shape
from bayesprf.errors import InputError, PrecisionWarning, UnsupportedError, warn
from bayesprf.fit_record import Fit
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.groups import SourceGroup, hold_neighbors
from bayesprf.prf.fit import PrfFit
from bayesprf.results.posterior import GroupData
from bayesprf.uncertainty.questions import select_group

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr

    from bayesprf.linalg.hyperparameters import Hyperparameters
    from bayesprf.sampling.run import SamplerOptions

KINDS = ("linear", "collapsed", "robust", "joint", "shape")
HYPER = ("width", "zero_point", "noise_scale", "jitter", "width_group")
# Hyperparameters of the fluxes' prior, which say nothing about a background.
PRIOR_HYPER = ("width", "zero_point", "width_group")
# Derived: neighbours that share less than this part of the light are held, if asked: errors then fall short by its
# square.
DEFAULT_SHARE = 0.1
# Shown: errors that come out smaller by more than this share are reported.
MAX_SHRINKAGE = 0.05
# A model with more parameters is announced, with a forecast: seconds per number in a product, and steps per draw of
# NUTS in whitened coordinates, measured by tests/benchmarks/sampling.py.
MANY_PARAMETERS = 500
# Measured: both by tests/benchmarks/sampling.py, for the forecast alone.
SECONDS_PER_NUMBER, STEPS_PER_DRAW = 2e-9, 10
# Shown: names of overlapping sources that are listed.
_MAX_NAMED = 10
# Option: the default of `scatter`, a Hyperprior sets another. A learned misfit of the PRF: factor e to the power of
# this about the shape fit's, or about this where that is 0, dex.
_SCATTER_WIDTH, _NO_SCATTER = 0.5, 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A group of sources, and what the answer shows of it."""

    group: SourceGroup
    members: IntArray
    data: GroupData
    shown: GroupData
    n_source: int


def build_model(
    fit: Fit,
    kind: str,
    sources: object,
    cadences: object,
    settings: NamedDict,
    *,
    say: Callable[[str], None] | None = None,
) -> "pm.Model":
    """Build a PyMC model of a group of sources, or of the PRF: see `Machine.pymc_model`."""
    check_choice(kind, KINDS, "kind")
    if kind == "shape":
        return _prf_model(fit, settings)
    return _flux_model(fit, kind, ask_group(fit, kind, sources, cadences, settings, say=say), settings)


class SamplerSettings(TypedDict):
    """The fields of `SamplerOptions`, which is loaded with PyMC."""

    draws: int
    tune: int
    chains: int
    cores: int | None
    sampler: str | None
    target_accept: float
    random_seed: int | None
    quiet: bool


def choose_kind(kind: str | None, settings: NamedDict) -> str:
    """Return the kind asked for; by default "collapsed" where hyperparameters are learned, else "linear"."""
    if kind is not None:
        return kind
    learned = any(not isinstance(settings.get(name, 1.0), int | float | np.number) for name in HYPER[:4])
    return "collapsed" if learned and not {"form", "likelihood"} & set(settings) else "linear"


def sample_fit(
    fit: Fit,
    kind: str | None,
    sources: object,
    cadences: object,
    settings: NamedDict,
    *,
    say: Callable[[str], None] | None = None,
    **sampler: Unpack[SamplerSettings],
) -> "xr.DataTree":
    """Sample a model and check the draws: see `Machine.sample`; `sampler` are the fields of `SamplerOptions`."""
    kind = choose_kind(kind, settings)
    check_choice(kind, KINDS, "kind")
    asked = None if kind == "shape" else ask_group(fit, kind, sources, cadences, settings, say=say)
    if kind == "collapsed" and asked is not None:
        shape = (sampler["chains"], sampler["draws"])
        gridded = _sample_grid(asked, settings, shape, np.random.default_rng(sampler["random_seed"]))
        if gridded is not None:
            return gridded
    from bayesprf.sampling.run import SamplerOptions, sample_checked, sample_posterior

    options = SamplerOptions(**sampler)
    if asked is None:
        return sample_checked(_prf_model(fit, settings), options)
    if kind == "collapsed":
        return _sample_hyper(asked, settings, options)
    if say is not None:
        _forecast(asked, options, say)
    model = _flux_model(fit, kind, asked, dict(settings), follow=False)
    return sample_posterior(model, asked.shown, options, members=asked.members, attrs={"kind": kind})


def _flux_model(fit: Fit, kind: str, asked: _Asked, settings: NamedDict, *, follow: bool = True) -> "pm.Model":
    if kind == "joint":
        first = asked.members[0]
        prf = fit.need("prf")
        prf = prf.at(fit.sources.ra_deg[first], fit.sources.dec_deg[first], prf.color[first])
        return _joint_model(prf, asked, settings)
    from bayesprf.sampling.collapsed import build_collapsed
    from bayesprf.sampling.linear import build_linear

    hyper = _take_hyper(asked, settings)
    if kind == "collapsed":
        _check_settings(settings, ("priors",), HYPER)
        return build_collapsed(asked.group.problem, asked.data, hyper, **settings)
    _check_settings(settings, ("form", "likelihood", "priors"), HYPER)
    likelihood = {"likelihood": "student-t"} if kind == "robust" else {}
    return build_linear(asked.group.problem, asked.data, hyper, follow=follow, **{**likelihood, **settings})


def _joint_model(prf: PrfFit, asked: _Asked, settings: NamedDict) -> "pm.Model":
    from bayesprf.sampling.hyper import Hyperprior
    from bayesprf.sampling.joint import Misfit, build_joint
    from bayesprf.sampling.scene import JointPriors, JointScene, misfit_template, with_misfit

    names = ("position", "tail", "others", "shape_scale")
    own = {name: settings.pop(name) for name in names if name in settings}
    scatter = settings.pop("scatter", prf.intrinsic_scatter)
    _check_settings(settings, ("likelihood",), (*names, "scatter"))
    free = scatter
    if isinstance(free, str):
        check_choice(free, ("learn",), "scatter")
        free = Hyperprior("log-normal", _SCATTER_WIDTH, prf.intrinsic_scatter or _NO_SCATTER)
    fixed = (free.center or free.scale) if isinstance(free, Hyperprior) else free
    group = with_misfit(asked.group, prf, fixed)
    scene = JointScene.of(group, prf, JointPriors(**own))
    if isinstance(free, Hyperprior):
        start = scene.approximate(choose_solver(group.problem).solve(group.problem).mean)
        return build_joint(scene, asked.data, start=start, misfit=Misfit(free, misfit_template(group, prf)), **settings)
    with np.errstate(divide="ignore"):
        data = replace(asked.data, y_err=(group.problem.ivar**-0.5).reshape(asked.data.y_err.shape))
    return build_joint(scene, data, **settings)


def _prf_model(fit: Fit, settings: NamedDict) -> "pm.Model":
    from bayesprf.sampling.shape import ShapeScene, build_shape

    _check_settings(settings, ("width",), ())
    prf = fit.need("prf")
    options = fit.prf_recipe.shape if fit.prf_recipe else None
    return build_shape(ShapeScene.of(prf, prf.image, options), prf.prf.weights, **settings)


def ask_group(
    fit: Fit,
    kind: str,
    sources: object,
    cadences: object,
    settings: NamedDict,
    *,
    say: Callable[[str], None] | None = None,
) -> _Asked:
    """Cut the group out of the problem, and name its axes.

    The background is sampled along where the prior is that of the closed form, and known elsewhere.
    """
    from bayesprf.results.exact import group_data

    mean_image = kind == "joint" and cadences is None
    along = kind in ("linear", "robust") and not set(PRIOR_HYPER) & set(settings)
    latest, prf = fit.latest_flux, fit.need("prf")
    problem = latest.problem if along else latest.without_background()
    group, members = select_group(fit, sources, [0] if mean_image else cadences, problem)
    if mean_image:
        group = _with_image(group, prf.image.flux, prf.image.ivar)
    group, members, held = _hold(group, members, kind, settings, fit.coefficient_names)
    time: FloatArray | float = fit.pixels.time[group.cadence]
    if mean_image or (cadences is not None and shape_of(cadences) == ()):
        time = float(np.mean(fit.pixels.time if mean_image else time))
    places = np.stack([fit.pixels.row[group.pixel], fit.pixels.column[group.pixel]], axis=1)
    names = fit.coefficient_names
    whole = group_data(group, np.arange(group.source.size), names, time, places=places)
    shown = group_data(group, members, names, time, places=places)
    if held and say is not None:
        say(f"held at their fitted flux, for the little light they share: {_listed(held)}")
    if shown.overlapping and say is not None:
        say(f"sampled along, because their light overlaps: {_listed(shown.overlapping)}")
    return _Asked(group, members, whole, shown, fit.sources.n_source)


def _hold(
    group: SourceGroup, members: IntArray, kind: str, settings: NamedDict, names: Sequence[str]
) -> tuple[SourceGroup, IntArray, list[str]]:
    """Return the group, indices of the sources asked for, and names of the neighbours that are held, as is asked."""
    neighbors, share = settings.pop("neighbors", "free"), settings.pop("share", DEFAULT_SHARE)
    check_choice(neighbors, ("fixed", "free"), "neighbors")
    if neighbors == "free":
        return group, members, []
    if kind == "joint":
        raise UnsupportedError(
            "neighbors: expected 'free' for kind 'joint', whose PRF all neighbours share, got 'fixed'"
        )
    check_positive(share, "share")
    held = hold_neighbors(group, members, share)
    worst = int(np.argmax(held.shrinkage))
    if held.shrinkage[worst] > MAX_SHRINKAGE:
        warn(
            f"neighbors: the error of {names[group.source[members[worst]]]} comes out {held.shrinkage[worst]:.0%} too"
            f" small with neighbours held that share less than {share:g} of its light; give a smaller share, or 'free'",
            PrecisionWarning,
        )
    fixed = [names[int(one)] for one in np.delete(group.source, held.free)]
    return held.group, np.searchsorted(held.free, members), fixed


def _forecast(asked: _Asked, options: "SamplerOptions", say: Callable[[str], None]) -> None:
    """Say how large a model is and how long it may take, if it is large."""
    problem = asked.group.problem
    n_flux = problem.n_batch * problem.prior.mean.size
    if n_flux <= MANY_PARAMETERS:
        return
    design = asked.group.design
    numbers = problem.data.size + 4 * problem.n_batch * design.indices.size
    seconds = SECONDS_PER_NUMBER * numbers * options.chains * (options.draws + options.tune) * STEPS_PER_DRAW
    say(
        f"{n_flux} fluxes ({problem.prior.mean.size} sources at {problem.n_batch} cadences): about"
        f" {max(1, round(seconds / 60))} min of one core; kind='collapsed', neighbors='fixed' or fewer cadences are"
        " quicker"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _with_image(group: SourceGroup, flux: FloatArray, ivar: FloatArray) -> SourceGroup:
    """Return the group with an image as its one cadence; the PRF is the mean PRF."""
    design = group.design
    static = DesignStack(design.indptr, design.indices, design.parts[:1], design.n_coeff)
    problem = replace(group.problem, design=static, data=flux[group.pixel][None], ivar=ivar[group.pixel][None])
    return replace(group, problem=problem, cadence=group.cadence[:1])


def _check_settings(settings: NamedDict, known: tuple[str, ...], further: tuple[str, ...]) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"settings: expected some of {', '.join((*further, *known))}, got {unknown[0]!r}")


def _take_hyper(asked: _Asked, settings: NamedDict) -> "Hyperparameters":
    """Take the hyperparameters out of the settings."""
    from bayesprf.linalg.hyperparameters import Hyperparameters

    own = {name: settings.pop(name) for name in HYPER if name in settings}
    if own.get("width_group") is not None:
        given = np.asarray(own["width_group"])
        check_shape(given, (asked.n_source,), "width_group", "n_source")
        own["width_group"] = np.unique(given[asked.group.source], return_inverse=True)[1]
    return Hyperparameters(**own)


def _sample_grid(
    asked: _Asked, settings: NamedDict, shape: tuple[int, int], rng: np.random.Generator
) -> "xr.DataTree | None":
    """Integrate the hyperparameters on a grid and draw; None where a grid cannot."""
    from bayesprf.sampling.draws import grid_tree
    from bayesprf.sampling.grid import beyond_grid, integrate_grid
    from bayesprf.sampling.hyper import resolve

    rest = dict(settings)
    hyper = resolve(_take_hyper(asked, rest), asked.group.problem)
    _check_settings(rest, ("priors",), HYPER)
    if rest.get("priors") or beyond_grid(hyper):
        return None
    return grid_tree(integrate_grid(asked.group.problem, hyper), asked.shown, asked.members, shape, rng=rng)


def _sample_hyper(asked: _Asked, settings: NamedDict, options: "SamplerOptions") -> "xr.DataTree":
    """Sample the hyperparameters alone, then draw the fluxes."""
    from bayesprf.sampling.collapsed import sample_collapsed

    rest = dict(settings)
    hyper = _take_hyper(asked, rest)
    return sample_collapsed(asked.group.problem, hyper, asked.shown, asked.members, options, **rest)
