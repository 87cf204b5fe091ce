"""Draws of fluxes as a DataTree in ArviZ's layout: the same from exact draws and from a sampler.

==================== ================================================================  ================================
group                variables                                                         dimensions
==================== ================================================================  ================================
posterior, prior     flux, and any parameter of the model                              chain, draw, [time,] source
log_prior            flux                                                              chain, draw, [time,] source
log_likelihood       y                                                                 chain, draw, [time,] pixel
posterior_predictive y                                                                 chain, draw, [time,] pixel
prior_predictive     y                                                                 chain, draw, [time,] pixel
sample_stats         lp, and what a sampler adds                                       chain, draw
observed_data        y                                                                 [time,] pixel
constant_data        y_err, known, prior_mean, prior_sigma                             [time,] pixel; pixel; source
gaussian             flux_mean, flux_sd, flux_cov, leverage, elpd_loo, log_evidence    what is exact: [time,] ...
==================== ================================================================  ================================

The axis time is there unless a single cadence was asked for. The coordinate pixel is the index in the stack, with
`row` and `column` beside it. Where some pixels drop out of some cadences, y has the one axis observation (with the
coordinates observation_time and observation_pixel) in place of [time,] pixel: a datum that does not exist has no
likelihood, and would count as a point in leave-one-out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np
import xarray as xr

from bayesprf.arrays import BoolArray, FloatArray, IntArray, Named, NamedDict, shape_of
from bayesprf.errors import InputError, ShapeError
from bayesprf.results.schema import FLUX_UNIT
from bayesprf.results.tree import creation_time

SAMPLE_DIMS = ("chain", "draw")

# What a variable is, whatever its group: axes after the sample's, unit, sentence; "time" falls away for one cadence.
LAYOUT: dict[str, tuple[tuple[str, ...], str, str]] = {
    "flux": (("time", "source"), FLUX_UNIT, "total flux of the source"),
    "y": (("time", "pixel"), FLUX_UNIT, "flux of the pixel"),
    "y_err": (("time", "pixel"), FLUX_UNIT, "standard deviation of y, infinite where a pixel drops out"),
    "known": (("pixel",), FLUX_UNIT, "light in the pixel that is known, not fitted"),
    "prior_mean": (("source",), FLUX_UNIT, "prior mean of flux"),
    "prior_sigma": (("source",), FLUX_UNIT, "prior standard deviation of flux"),
    "lp": ((), "1", "log posterior density of the fluxes"),
    "flux_mean": (("time", "source"), FLUX_UNIT, "posterior mean of flux"),
    "flux_sd": (("time", "source"), FLUX_UNIT, "posterior standard deviation of flux"),
    "flux_cov": (("time", "source", "source_bis"), f"({FLUX_UNIT})2", "posterior covariance of flux"),
    "leverage": (("time", "pixel"), "1", "share of a pixel's own datum in its fitted value"),
    "elpd_loo": (("time", "pixel"), "1", "log density of y given all other pixels"),
    "log_evidence": (("time",), "1", "log evidence of the cadence; given all other cadences, too"),
}

# Units of a group whose variables are log densities, not the quantity itself.
_LOG_GROUPS = {"log_likelihood": "log density of", "log_prior": "log prior density of"}

GROUP_ORDER = (
    "posterior",
    "posterior_predictive",
    "log_likelihood",
    "log_prior",
    "sample_stats",
    "prior",
    "prior_predictive",
    "observed_data",
    "constant_data",
    "gaussian",
)
_SAMPLED = GROUP_ORDER[:7]


@dataclass(frozen=True, slots=True, eq=False)
class GroupData:
    """What was observed of a group of sources, and under which prior.

    Parameters
    ----------
    y, y_err : ndarray of float64, shape (n_time, n_pixel), or (n_pixel,) for a single cadence
        Pixel fluxes and their standard deviations, electron / s; infinite errors where a pixel drops out.
    known : ndarray of float64, shape (n_pixel,)
        Light that is known, not fitted, electron / s.
    prior_mean, prior_sigma : ndarray of float64, shape (n_source,)
        Gaussian prior of the fluxes, electron / s.
    source : sequence of str
        Names of the sources whose fluxes are given.
    time : ndarray of float64, shape (n_time,), or float for a single cadence
        Day.
    pixel : ndarray of int64, shape (n_pixel,)
        Index of each pixel in the stack.
    row, column : ndarray of float64, shape (n_pixel,)
        Detector position.
    overlapping : sequence of str
        Names of further sources, marginalised, that overlap with those, directly or through others: the pixels and
        their likelihood are those of the whole group.

    Raises
    ------
    ShapeError
        If the arrays do not agree.
    """

    y: FloatArray
    y_err: FloatArray
    known: FloatArray
    prior_mean: FloatArray
    prior_sigma: FloatArray
    source: Sequence[str]
    time: FloatArray | float
    pixel: IntArray
    row: FloatArray
    column: FloatArray
    overlapping: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        shape = (*np.shape(self.time), np.size(self.pixel))
        for name, expected in (
            ("y", shape),
            ("y_err", shape),
            ("known", shape[-1:]),
            ("row", shape[-1:]),
            ("column", shape[-1:]),
            ("prior_mean", (len(self.source),)),
            ("prior_sigma", (len(self.source),)),
        ):
            if np.shape(getattr(self, name)) != expected:
                raise ShapeError(f"{name}: expected shape {expected}, got {np.shape(getattr(self, name))}")

    @property
    def has_time(self) -> bool:
        """Whether there is an axis of time."""
        return np.ndim(self.time) == 1

    @property
    def used(self) -> BoolArray:
        """Which data exist, shape of `y`."""
        return np.isfinite(self.y_err)


def posterior_tree(
    groups: Mapping[str, Named],
    data: GroupData,
    *,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, object] | None = None,
    attrs: Mapping[str, object] | None = None,
) -> xr.DataTree:
    """Label draws and what belongs to them in ArviZ's layout.

    Parameters
    ----------
    groups : mapping of str to mapping of str to array-like
        Arrays by group and name, see the table above; `posterior` with `flux` of shape (n_chain, n_draw,
        [n_time,] n_source) is needed, all others may be left out. `observed_data` and `constant_data` are made
        from `data`; what is given for them is added.
    data : GroupData
        What was observed.
    dims : mapping of str to sequence of str, optional
        Axes, after chain and draw, of variables the table does not name; a variable without an entry has none.
    coords : mapping of str to array-like, optional
        Values of further axes.
    attrs : mapping of str to str or number, optional
        Attributes of the root and of `posterior`, such as `inference_library`, `sampler`, `sampling_time`.

    Returns
    -------
    xarray.DataTree
        Groups in a fixed order. The root's attribute `overlapping_sources` names the sources that were added to the
        likelihood because their light overlaps.

    Raises
    ------
    InputError
        If a group is unknown, or `posterior` has no flux.
    ShapeError
        If an array does not have the axes of the layout.
    """
    unknown = sorted(set(groups) - set(GROUP_ORDER))
    if unknown:
        raise InputError(f"groups: expected some of {', '.join(GROUP_ORDER)}, got {unknown[0]!r}")
    if "flux" not in groups.get("posterior", {}):
        raise InputError("groups['posterior']: expected an array 'flux', got none; give its draws")
    n_chain, n_draw = np.shape(groups["posterior"]["flux"])[:2]
    axes = _coordinates(data, {"chain": np.arange(n_chain), "draw": np.arange(n_draw), **(coords or {})})
    marks = {"created_at": creation_time(), **_library(), **(attrs or {})}
    datasets = {}
    for group, arrays in _with_data(groups, data).items():
        labelled = {name: _label(group, name, values, data, dims or {}) for name, values in arrays.items()}
        used = {dim for array in labelled.values() for dim in array.dims}
        here = {name: axis for name, axis in axes.items() if set(axis.dims) <= used}
        dataset = xr.Dataset(labelled, coords=here, attrs=marks if group in _SAMPLED else {})
        if group in _SAMPLED:
            dataset.attrs["sample_dims"] = list(SAMPLE_DIMS)
        datasets[f"/{group}"] = dataset
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={**marks, "overlapping_sources": ", ".join(data.overlapping)}), **datasets}
    )


def flat_tree(tree: xr.DataTree) -> xr.DataTree:
    """Return draws in the form that every ArviZ function takes: data along one axis, two variables or more.

    Parameters
    ----------
    tree : xarray.DataTree
        From `posterior_tree`.

    Returns
    -------
    xarray.DataTree
        Time and pixel of `y` are one axis, `observation`; where `posterior` has the flux alone, all groups of draws
        gain `total_flux`, its sum over the sources. The tree given is left as it is.

    Notes
    -----
    Two functions of ArviZ 1.3 fail otherwise: `plot_ppc_pit` on data of two axes, `plot_psense_dist` on one variable.
    """
    alone = list(tree["posterior"].data_vars) == ["flux"]

    def flatten(group: xr.Dataset) -> xr.Dataset:
        if "flux" in group and alone and "chain" in group.dims:
            group = group.assign(total_flux=group["flux"].sum("source"))
        if "y" in group and {"time", "pixel"} <= set(group["y"].dims):
            y = group["y"].stack(observation=("time", "pixel")).drop_vars(["observation", "time", "pixel"])
            group = group.drop_vars("y").assign(y=y.reset_coords(drop=True))
        return group

    return tree.map_over_datasets(flatten)


def _with_data(groups: Mapping[str, Named], data: GroupData) -> dict[str, NamedDict]:
    """Return the groups in their order, with the observed and constant data among them."""
    filled = {
        **groups,
        "observed_data": {"y": data.y, **groups.get("observed_data", {})},
        "constant_data": {
            **{name: getattr(data, name) for name in ("y_err", "known", "prior_mean", "prior_sigma")},
            **groups.get("constant_data", {}),
        },
    }
    return {name: dict(filled[name]) for name in GROUP_ORDER if filled.get(name)}


def _coordinates(data: GroupData, further: Named) -> dict[str, xr.DataArray]:
    names = np.array([str(one) for one in data.source], object)
    axes = {name: xr.DataArray(np.asarray(values), dims=(name,)) for name, values in further.items()}
    axes["source"] = xr.DataArray(names, dims=("source",), attrs={"long_name": "name of the source"})
    axes["source_bis"] = xr.DataArray(names, dims=("source_bis",), attrs={"long_name": "name of the other source"})
    axes["pixel"] = xr.DataArray(np.asarray(data.pixel), dims=("pixel",), attrs={"long_name": "index in the stack"})
    for name in ("row", "column"):
        axes[name] = xr.DataArray(np.asarray(getattr(data, name)), dims=("pixel",), attrs={"units": "pix"})
    time = xr.DataArray(np.asarray(data.time), dims=("time",) if data.has_time else (), attrs={"units": "day"})
    axes["time"] = time
    if not data.used.all():
        axes["observation_time"], axes["observation_pixel"] = (
            xr.DataArray(np.broadcast_to(values, data.used.shape)[data.used], dims=("observation",))
            for values in (np.asarray(data.time)[..., None], data.pixel)
        )
    return axes


def _label(group: str, name: str, values: object, data: GroupData, dims: Mapping[str, Sequence[str]]) -> xr.DataArray:
    """Return an array with the axes, unit and sentence of its name."""
    axes, unit, sentence = LAYOUT.get(name, (tuple(dims.get(name, ())), "", name))
    axes = tuple(dims.get(name, axes))
    axes = axes if data.has_time or name in dims else tuple(one for one in axes if one != "time")
    if name == "y" and not data.used.all():
        array = np.asarray(values)
        if array.shape[array.ndim - data.used.ndim :] == data.used.shape:
            values, axes = array[..., data.used], ("observation",)
    axes = (*SAMPLE_DIMS, *axes) if group in _SAMPLED else axes
    if group in _LOG_GROUPS:
        unit, sentence = "1", f"{_LOG_GROUPS[group]} {sentence}"
    if len(shape_of(values)) != len(axes):
        wanted = ", ".join(axes)
        raise ShapeError(f"groups[{group!r}][{name!r}]: expected axes ({wanted}), got shape {shape_of(values)}")
    return xr.DataArray(np.asarray(values), dims=axes, attrs={"units": unit, "long_name": sentence})


def _library() -> dict[str, str]:
    return {"creation_library": "bayesprf", "creation_library_version": version("bayesprf")}
