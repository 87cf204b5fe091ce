"""The part of a Machine that samples: PyMC models of a group of sources, and draws from them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_choice, check_shape
from bayesprf.errors import InputError
from bayesprf.inference import MachineInference
from bayesprf.linalg.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.groups import SourceGroup

KINDS = ("linear", "collapsed", "robust", "joint", "shape")
HYPER = ("width", "zero_point", "noise_scale", "jitter", "width_group")
# Hyperparameters of the fluxes' prior, which say nothing about a background.
PRIOR_HYPER = ("width", "zero_point", "width_group")
# Names of overlapping sources that are listed.
_MAX_NAMED = 10
# A learned misfit of the PRF: factor e to the power of this about the shape fit's, or about this where that is 0, dex.
_SCATTER_WIDTH, _NO_SCATTER = 0.5, 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A group of sources, and what the answer shows of it."""

    group: SourceGroup
    members: IntArray
    data: Any
    shown: Any
    n_source: int


class MachineSampling(MachineInference):
    """Models for PyMC on the very matrices of the closed form; PyMC is loaded when first needed."""

    def pymc_model(self, kind: str = "linear", *, sources: Any = None, cadences: Any = None, **settings: Any) -> Any:
        """Build a PyMC model, to read, change or sample by hand.

        Parameters
        ----------
        kind : {"linear", "collapsed", "robust", "joint", "shape"}
            "linear": fluxes, as in the closed form. "collapsed": the hyperparameters alone, the fluxes integrated out.
            "robust": the same under a Student-t likelihood, which bears cosmic
            rays. "joint": fluxes, PRF shape and, if asked, positions together. "shape": the PRF shape alone.
        sources : int, str or sequence of them, optional
            Sources of interest, all by default; widened to all that overlap with them, directly or through others.
        cadences : int, sequence of int or mask, optional
            Cadences; the mean image by default for "joint", else all. A single number leaves the
            axis of time away.
        **settings
            For "linear", "collapsed" and "robust": `width`, `zero_point`, `noise_scale`, `jitter` (see
            `Hyperparameters`: a number, "learn" or a Hyperprior), `width_group` (for all sources of the machine, a
            number of its group each), `priors`, and, but for "collapsed", `form`, `likelihood` (see `build_linear`).
            For "joint": `likelihood`,
            `position`, `tail`, `others`, `shape_scale` (see `JointPriors`), and `scatter`, the relative misfit of the
            PRF at a star's centre beside noise, dex: a number, "learn" or a Hyperprior; by default that of the shape
            fit, as in the closed form. For "shape": `width`.

        Returns
        -------
        pymc.Model

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a kind, source, cadence or setting is unknown.
        """
        check_choice(kind, KINDS, "kind")
        if kind == "shape":
            return self._shape_model(settings)
        return self._flux_model(kind, self._ask(kind, sources, cadences, settings), settings)

    def sample(
        self,
        sources: Any = None,
        cadences: Any = None,
        *,
        kind: str = "linear",
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        cores: int | None = None,
        random_seed: int | None = None,
        sampler: str | None = None,
        target_accept: float = 0.8,
        **settings: Any,
    ) -> Any:
        """Sample a model and check the draws; the answer has the layout of `posterior`.

        Parameters
        ----------
        sources, cadences
            As for `pymc_model`.
        kind : {"linear", "collapsed", "robust", "joint", "shape"}
            As for `pymc_model`; "collapsed" integrates one or two hyperparameters and a zero point on a grid, without
            any sampler: the draws are exact and independent, and the evidence is a by-product. With more of them, or
            with `priors`, NUTS samples these alone, and the fluxes follow exactly.
        draws, tune, chains : int
            Draws kept and tuning steps per chain, and chains.
        cores : int, optional
            Chains run at the same time.
        random_seed : int, optional
            The same seed gives the same draws.
        sampler : {"nutpie", "pymc"}, optional
            nutpie where it is installed, else PyMC's NUTS.
        target_accept : float
            Acceptance rate that sets the step size.
        **settings
            As for `pymc_model`.

        Returns
        -------
        xarray.DataTree
            The layout of `bayesprf.results.posterior`. Its attribute `convergence` says in words whether the draws can
            be trusted, `overlapping_sources` which sources were sampled along.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a kind, source, cadence or setting is unknown.

        Warns
        -----
        ConvergenceWarning
            If the draws cannot be trusted.
        """
        check_choice(kind, KINDS, "kind")
        asked = None if kind == "shape" else self._ask(kind, sources, cadences, settings)
        if kind == "collapsed" and asked is not None:
            gridded = _sample_grid(asked, settings, (chains, draws), np.random.default_rng(random_seed))
            if gridded is not None:
                return gridded
        from bayesprf.sampling.run import SamplerOptions, sample_checked, sample_posterior

        options = SamplerOptions(
            draws=draws, tune=tune, chains=chains, cores=cores, sampler=sampler, target_accept=target_accept,
            random_seed=random_seed, quiet=self.quiet,
        )  # fmt: skip
        if asked is None:
            return sample_checked(self._shape_model(settings), options)
        if kind == "collapsed":
            return _sample_hyper(asked, settings, options)
        model = self._flux_model(kind, asked, dict(settings))
        return sample_posterior(model, asked.shown, options, members=asked.members, attrs={"kind": kind})

    def _flux_model(self, kind: str, asked: _Asked, settings: dict[str, Any]) -> Any:
        if kind == "joint":
            return self._joint_model(asked, settings)
        from bayesprf.sampling.collapsed import build_collapsed
        from bayesprf.sampling.linear import build_linear

        hyper = _take_hyper(asked, settings)
        if kind == "collapsed":
            _check_settings(settings, ("priors",), HYPER)
            return build_collapsed(asked.group.problem, hyper, **settings)
        _check_settings(settings, ("form", "likelihood", "priors"), HYPER)
        likelihood = {"likelihood": "student-t"} if kind == "robust" else {}
        return build_linear(asked.group.problem, asked.data, hyper, **{**likelihood, **settings})

    def _joint_model(self, asked: _Asked, settings: dict[str, Any]) -> Any:
        from bayesprf.sampling.hyper import Hyperprior
        from bayesprf.sampling.joint import Misfit, build_joint
        from bayesprf.sampling.scene import JointPriors, JointScene, misfit_template, with_misfit

        names = ("position", "tail", "others", "shape_scale")
        own = {name: settings.pop(name) for name in names if name in settings}
        scatter = settings.pop("scatter", self._shape.intrinsic_scatter)
        _check_settings(settings, ("likelihood",), (*names, "scatter"))
        free = scatter
        if isinstance(free, str):
            check_choice(free, ("learn",), "scatter")
            free = Hyperprior("log-normal", _SCATTER_WIDTH, self._shape.intrinsic_scatter or _NO_SCATTER)
        fixed = (free.center or free.scale) if isinstance(free, Hyperprior) else free
        group = with_misfit(asked.group, self._shape, fixed)
        scene = JointScene.of(group, self._shape, JointPriors(**own))
        if isinstance(free, Hyperprior):
            start = scene.approximate(choose_solver(group.problem).solve(group.problem).mean)
            misfit = Misfit(free, misfit_template(group, self._shape))
            return build_joint(scene, asked.data, start=start, misfit=misfit, **settings)
        with np.errstate(divide="ignore"):
            data = replace(asked.data, y_err=(group.problem.ivar**-0.5).reshape(asked.data.y_err.shape))
        return build_joint(scene, data, **settings)

    def _shape_model(self, settings: dict[str, Any]) -> Any:
        from bayesprf.sampling.shape import ShapeScene, build_shape

        _check_settings(settings, ("width",), ())
        return build_shape(ShapeScene.of(self._shape, self._shape.image), self._shape.prf.weights, **settings)

    def _ask(self, kind: str, sources: Any, cadences: Any, settings: dict[str, Any]) -> _Asked:
        """Cut the group out of the problem, and name its axes.

        The background is sampled along where the prior is that of the closed form, and known elsewhere.
        """
        from bayesprf.results.exact import group_data

        mean_image = kind == "joint" and cadences is None
        along = kind in ("linear", "robust") and not set(PRIOR_HYPER) & set(settings)
        problem = self._latest_flux.problem if along else self._latest_flux.without_background()
        group, members = self._group(sources, [0] if mean_image else cadences, problem)
        if mean_image:
            group = _with_image(group, self._shape.image.flux, self._shape.image.ivar)
        time: Any = self.time[group.cadence]
        if mean_image or (cadences is not None and np.ndim(cadences) == 0):
            time = float(np.mean(self.time)) if mean_image else float(time[0])
        places = np.stack([self.pixels.row[group.pixel], self.pixels.column[group.pixel]], axis=1)
        names = self._coefficient_names
        whole = group_data(group, np.arange(group.source.size), names, time, places=places)
        shown = group_data(group, members, names, time, places=places)
        self._say_overlapping(shown.overlapping)
        return _Asked(group, members, whole, shown, self.nsources)

    def _say_overlapping(self, names: Sequence[str]) -> None:
        """Say which sources are sampled along, unless the machine is quiet."""
        if names and not self.quiet:
            more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
            listed = ", ".join(names[:_MAX_NAMED])
            tqdm.write(f"sampled along, because their light overlaps: {listed}{more}", file=sys.stderr)


def _with_image(group: SourceGroup, flux: FloatArray, ivar: FloatArray) -> SourceGroup:
    """Return the group with an image as its one cadence; the PRF is the mean PRF."""
    design = group.design
    static = DesignStack(design.indptr, design.indices, design.parts[:1], design.n_coeff)
    problem = replace(group.problem, design=static, data=flux[group.pixel][None], ivar=ivar[group.pixel][None])
    return replace(group, problem=problem, cadence=group.cadence[:1])


def _check_settings(settings: dict[str, Any], known: tuple[str, ...], further: tuple[str, ...]) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"settings: expected some of {', '.join((*further, *known))}, got {unknown[0]!r}")


def _take_hyper(asked: _Asked, settings: dict[str, Any]) -> Any:
    """Take the hyperparameters out of the settings."""
    from bayesprf.sampling.hyper import Hyperparameters

    own = {name: settings.pop(name) for name in HYPER if name in settings}
    if own.get("width_group") is not None:
        given = np.asarray(own["width_group"])
        check_shape(given, (asked.n_source,), "width_group", "n_source")
        own["width_group"] = np.unique(given[asked.group.source], return_inverse=True)[1]
    return Hyperparameters(**own)


def _sample_grid(asked: _Asked, settings: dict[str, Any], shape: tuple[int, int], rng: np.random.Generator) -> Any:
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


def _sample_hyper(asked: _Asked, settings: dict[str, Any], options: Any) -> Any:
    """Sample the hyperparameters alone, then draw the fluxes."""
    from bayesprf.sampling.collapsed import sample_collapsed

    rest = dict(settings)
    hyper = _take_hyper(asked, rest)
    return sample_collapsed(asked.group.problem, hyper, asked.shown, asked.members, options, **rest)
