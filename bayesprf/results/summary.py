"""A tree in one line per source: how bright, how quiet, how certain, what to look at."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError
from bayesprf.flags import QualityFlag
from bayesprf.stats import SIGMA_PER_MAD

# Shown: variables of draws with more values than this are not listed.
_MAX_DRAWN = 20


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """One source of a tree.

    Parameters
    ----------
    source : str
        Name.
    mag : float
        Catalogue magnitude.
    flux : float
        Median over time, electron / s.
    scatter : float
        Point-to-point scatter of the light curve over its median; NaN for fewer than three cadences.
    error : float
        Median of the cadence-to-cadence error over the median flux.
    variability : float
        Standard deviation over time in units of the median error: 1 for a constant star.
    flags : int
        All bits that are set at any cadence.
    """

    source: str
    mag: float
    flux: float
    scatter: float
    error: float
    variability: float
    flags: int

    @property
    def flag_names(self) -> str:
        """Names of the bits, as "SATURATED, NO_DATA"; empty for none."""
        return ", ".join(str(flag.name) for flag in QualityFlag if self.flags & flag)


def summarize(tree: xr.DataTree) -> tuple[SourceSummary, ...]:
    """Return one line per source, brightest first.

    Parameters
    ----------
    tree : xarray.DataTree
        Results, as `build_tree` makes them.

    Returns
    -------
    tuple of SourceSummary
        Ordered by median flux; sources without flux last.

    Raises
    ------
    InputError
        If the tree holds no fluxes, or parts of it do not fit together.
    """
    if "photometry" not in tree.children or "flux" not in tree["photometry"]:
        raise InputError("tree: expected a group /photometry with the variable flux, got none; call fit_model() first")
    photometry, catalog = tree["photometry"], tree["catalog"]
    flux, flux_err = np.asarray(photometry["flux"]), np.asarray(photometry["flux_err"])
    level, error = _median(flux), _median(flux_err)
    flags = np.bitwise_or.reduce(np.asarray(photometry["flags"]), axis=0)
    mag = np.asarray(catalog["mag"]) if "mag" in catalog else np.full(level.size, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        scatter, relative = point_scatter(flux) / np.abs(level), error / np.abs(level)
        variability = np.ma.filled(np.ma.masked_invalid(flux).std(axis=0).astype(np.float64), np.nan) / error
    names = [str(name) for name in np.asarray(photometry["source"])]
    columns = (mag, level, scatter, relative, variability, flags)
    if any(one.shape != (len(names),) for one in columns):
        raise InputError("tree: expected one number per source in /photometry and /catalog, got arrays of other sizes")
    lines = [SourceSummary(*one) for one in zip(names, *(x.tolist() for x in columns), strict=True)]
    return tuple(sorted(lines, key=lambda line: -line.flux if np.isfinite(line.flux) else np.inf))


def describe_widths(tree: xr.DataTree) -> tuple[str, ...]:
    """Return what was learned of prior and noise, in a few lines.

    Parameters
    ----------
    tree : xarray.DataTree
        Results, as `build_tree` makes them.

    Returns
    -------
    tuple of str
        Empty if the fluxes were fitted with the default prior and the given errors.
    """
    if "widths" not in tree.children:
        return ()
    group = tree["widths"].to_dataset()

    def each(name: str, labels: str, word: str) -> list[str]:
        found = (np.atleast_1d(group[one].to_numpy()) for one in (name, f"{name}_err"))
        names = [f" ({one})" if one != "all" else "" for one in group[labels].to_numpy()] if labels else [""]
        return [f"{word} {_with_error(*one)}{end}" for *one, end in zip(*found, names, strict=True)]

    prior = each("prior_width", "prior_group", "prior width") + each("variability", "prior_group", "variability")
    prior += each("zero_point", "", "zero point")
    noise = each("noise_scale", "noise_group", "noise x") + each("model_error", "", "model error")
    return (f"learned: {', '.join(prior)}", f"learned: {', '.join(noise)}")


def _with_error(value: float, error: float) -> str:
    return f"{value:.4g} (fixed)" if error == 0 else f"{value:.4g} +- {error:.2g}"


def point_scatter(flux: FloatArray) -> FloatArray:
    """Return the point-to-point scatter of each light curve.

    Parameters
    ----------
    flux : ndarray of float64, shape (n_time, n_source)
        Any unit; NaN is left out.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        1.4826 MAD of the differences of neighbours over sqrt(2), in the unit of `flux`: blind to slow
        variation and to a few outliers. NaN for fewer than three cadences.
    """
    if flux.shape[0] < 3:
        return np.full(flux.shape[1], np.nan)
    steps = np.diff(flux, axis=0)
    return SIGMA_PER_MAD / np.sqrt(2.0) * _median(np.abs(steps - _median(steps)))


def _median(values: FloatArray) -> FloatArray:
    """Return the median over time, NaN where there is no value."""
    masked = np.ma.masked_invalid(values)
    return np.ma.filled(np.ma.median(masked, axis=0).astype(np.float64), np.nan)


def describe_draws(tree: xr.DataTree) -> str:
    """Return what matters of draws as text: convergence, sources sampled along, means and standard deviations.

    Parameters
    ----------
    tree : xarray.DataTree
        Draws of `Machine.sample`.

    Returns
    -------
    str
    """
    posterior = tree["posterior"].to_dataset()
    lines = [str(tree.attrs["convergence"])]
    along = tree.attrs.get("overlapping_sources", "")
    along = along if isinstance(along, str) else ", ".join(along)
    lines += [f"sampled along, because their light overlaps: {along}"] if along else []
    for name, draws in posterior.data_vars.items():
        mean, std = (one.to_numpy() for one in (draws.mean(("chain", "draw")), draws.std(("chain", "draw"))))
        labels = [""] if mean.ndim == 0 else [f"[{one}]" for one in draws[draws.dims[-1]].to_numpy()]
        if mean.ndim <= 1 and mean.size <= _MAX_DRAWN:
            values = zip(labels, np.atleast_1d(mean), np.atleast_1d(std), strict=True)
            lines += [f"{name}{label}: {one:.6g} +- {error:.3g}" for label, one, error in values]
    return "\n".join(lines)
