"""The pictures that a saved tree can give by itself."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import InputError
from bayesprf.instruments import INSTRUMENTS, SECONDS_PER_DAY
from bayesprf.plots.errors import plot_errors
from bayesprf.plots.lightcurve import plot_lightcurves
from bayesprf.plots.noise import plot_noise
from bayesprf.plots.prf import plot_prf
from bayesprf.plots.records import FieldImage, FieldStars, PrfImages
from bayesprf.plots.scene import plot_field
from bayesprf.plots.time_model import plot_vectors
from bayesprf.results.summary import SourceSummary, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Shown: light curves shown: so many of the brightest, and as many of the most variable among the rest.
_N_BRIGHT, _N_VARIABLE = 6, 6
# Shown: sources whose errors are shown.
_N_ERROR = 20
# Causes of errors, in words.
CAUSES = {
    "noise": "noise of one cadence",
    "shape": "PRF shape",
    "wing": "PRF wing",
    "others": "wings of neighbours",
    "position": "positions",
    "moments": "sizes and shears of stars",
    "model": "scatter about the PRF",
    "common": "all that cadences share",
}


def draw_report(tree: xr.DataTree) -> "dict[str, Figure]":
    """Draw what a saved tree shows.

    Parameters
    ----------
    tree : xarray.DataTree
        Results with fluxes.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        "lightcurves" of the brightest and the most variable stars, "noise", "errors", and, if the tree holds what they
        need, "scene", "prf" and "time_columns".

    Raises
    ------
    InputError
        If the tree holds no fluxes.
    """
    lines = summarize(tree)
    names = [line.source for line in choose_curves(lines)]
    figures = {"lightcurves": draw_tree_lightcurves(tree, names), "noise": draw_tree_noise(tree)}
    figures["errors"] = draw_tree_errors(tree)
    if has_image(tree):
        figures["scene"] = draw_tree_scene(tree)
    if has_prf(tree):
        figures["prf"] = draw_tree_prf(tree)
    if "time_model" in tree.children:
        figures["time_columns"] = draw_tree_time_columns(tree)
    return figures


def has_image(tree: xr.DataTree) -> bool:
    """Return whether a tree holds the image of its field and the places of its sources."""
    return "image" in tree.children and "detector_column" in tree["catalog"]


def has_prf(tree: xr.DataTree) -> bool:
    """Return whether a tree holds the PRF as an image."""
    return "shape" in tree.children and "prf_image" in tree["shape"]


def choose_curves(lines: tuple[SourceSummary, ...]) -> tuple[SourceSummary, ...]:
    """Return the lines worth a look: the brightest, then the most variable of the rest.

    Parameters
    ----------
    lines : tuple of SourceSummary
        Summary of a tree, brightest first.

    Returns
    -------
    tuple of SourceSummary
        At most twelve, of sources that have a flux; the first line if none has.
    """
    finite = [line for line in lines if np.isfinite(line.flux)] or list(lines[:1])
    rest = sorted(finite[_N_BRIGHT:], key=lambda line: -np.nan_to_num(line.variability))
    return (*finite[:_N_BRIGHT], *rest[:_N_VARIABLE])


def draw_tree_lightcurves(
    tree: xr.DataTree, sources: object = None, *, relative: bool = True, ax: "Axes | Sequence[Axes] | None" = None
) -> "Figure":
    """Draw the light curves of some sources of a tree, by default of the brightest and the most variable."""
    lines = summarize(tree)
    chosen = _named(tree, [line.source for line in choose_curves(lines)] if sources is None else sources)
    photometry, mag = tree["photometry"].to_dataset(), {line.source: line.mag for line in lines}
    names = [str(one) for one in photometry["source"].values[chosen]]
    return plot_lightcurves(
        photometry["time"].values,
        photometry["flux"].values[:, chosen],
        photometry["flux_err"].values[:, chosen],
        labels=[f"{name}, {mag[name]:.1f} mag" if np.isfinite(mag[name]) else name for name in names],
        flags=photometry["flags"].values[:, chosen],
        time_zero_jd=float(tree.attrs.get("time_zero_jd", 0.0)),
        relative=relative,
        ax=ax,
    )


def draw_tree_noise(tree: xr.DataTree, *, ax: "Axes | None" = None) -> "Figure":
    """Draw scatter and error of every light curve of a tree against magnitude, with the line of photon noise."""
    lines = summarize(tree)
    mag, scatter, error, flux = (
        np.array([getattr(one, name) for one in lines]) for name in ("mag", "scatter", "error", "flux")
    )
    return plot_noise(
        mag, scatter, error, photon=photon_noise(tree, flux), names=[line.source for line in lines], ax=ax
    )


def photon_noise(tree: xr.DataTree, flux: FloatArray) -> FloatArray | None:
    """Return what the photons of a star leave in one cadence, relative to its flux; None without several cadences.

    Parameters
    ----------
    tree : xarray.DataTree
        Results: the usual step of its times, and the share of it in which its instrument collects light.
    flux : ndarray of float64, shape (n_source,)
        electron / s.

    Returns
    -------
    ndarray of float64, shape (n_source,), or None
        1 / sqrt(flux x time).
    """
    time = tree["photometry"]["time"].to_numpy()
    if time.size < 2 or "instrument" not in tree.attrs:
        return None
    instrument = INSTRUMENTS.get(str(tree.attrs["instrument"]))
    duty = 1.0 if instrument is None else instrument.duty
    collected = float(np.median(np.diff(time))) * SECONDS_PER_DAY * duty
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flux > 0, 1.0 / np.sqrt(np.abs(flux) * collected), np.nan)


def draw_tree_errors(tree: xr.DataTree, sources: object = None, *, ax: "Axes | None" = None) -> "Figure":
    """Draw the errors of some sources of a tree, split into their parts; by default of the twenty brightest."""
    names = [line.source for line in summarize(tree)[:_N_ERROR]] if sources is None else sources
    chosen = _named(tree, names)
    parts = {CAUSES.get(name, name): one[chosen] for name, one in error_parts(tree).items()}
    return plot_errors([str(one) for one in tree["photometry"]["source"].to_numpy()[chosen]], parts, ax=ax)


def error_parts(tree: xr.DataTree) -> dict[str, FloatArray]:
    """Return the parts of the error of every flux of a tree, relative to the flux.

    Parameters
    ----------
    tree : xarray.DataTree
        Results with fluxes.

    Returns
    -------
    dict of str to ndarray of float64, shape (n_source,)
        "noise" of one cadence, then what all cadences share: by cause where the tree has it, or "common" as a whole.
    """
    photometry = tree["photometry"].to_dataset()
    level = np.abs(np.ma.median(np.ma.masked_invalid(photometry["flux"].values), axis=0).filled(np.nan))
    noise = np.ma.median(np.ma.masked_invalid(photometry["flux_err"].values), axis=0).filled(np.nan)
    found = {"noise": noise}
    if "flux_err_part" in photometry:
        causes = [str(one) for one in photometry["error_part"].values]
        found |= dict(zip(causes, photometry["flux_err_part"].values, strict=True))
    elif "flux_err_common" in photometry:
        found["common"] = photometry["flux_err_common"].values
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: one / level for name, one in found.items()}


def draw_tree_scene(
    tree: xr.DataTree, sources: object = None, *, residual: bool = False, ax: "Axes | None" = None
) -> "Figure":
    """Draw the image of a tree with its sources, or what the model leaves of it in units of its errors."""
    image, catalog = tree["image"].to_dataset(), tree["catalog"].to_dataset()
    flux, model, error = (image[name].to_numpy() for name in ("flux", "model", "flux_err"))
    field = FieldImage(
        image["column"].to_numpy(),
        image["row"].to_numpy(),
        (flux - model) / error if residual else flux,
        image["stamp"].to_numpy(),
    )
    stars = FieldStars(
        catalog["detector_column"].to_numpy(),
        catalog["detector_row"].to_numpy(),
        catalog["catalog_flux"].to_numpy(),
        tuple(str(one) for one in catalog["source"].to_numpy()),
    )
    label = "(image − model) / error" if residual else "mean flux (electron / s)"
    named = None if sources is None else _named(tree, sources)
    return plot_field(field, stars, label=label, named=named, diverging=residual, ax=ax)


def draw_tree_prf(tree: xr.DataTree, *, figure: "Figure | SubFigure | None" = None) -> "Figure":
    """Draw the PRF of a tree as a smooth image, at nine places where it varies."""
    shape = tree["shape"].to_dataset()
    values, offset, place = (shape[name].to_numpy() for name in ("prf_image", "prf_offset", "prf_position"))
    return plot_prf(PrfImages(values, offset, place), figure=figure)


def draw_tree_time_columns(tree: xr.DataTree) -> "Figure":
    """Draw the columns in time that the PRF of a tree follows."""
    time_model = tree["time_model"].to_dataset()
    names = [str(one) for one in time_model["time_vector_name"].to_numpy()]
    zero = float(tree.attrs.get("time_zero_jd", 0.0))
    return plot_vectors(
        time_model["time"].to_numpy(), time_model["time_vectors"].to_numpy(), names=names, time_zero_jd=zero
    )


def _named(tree: xr.DataTree, sources: object) -> IntArray:
    """Return the indices of sources of a tree given by name or index, one or several."""
    names = [str(one) for one in tree["catalog"]["source"].to_numpy()]
    given = list(sources) if isinstance(sources, Iterable) and not isinstance(sources, str) else [sources]
    index: dict[object, int] = {name: i for i, name in enumerate(names)} | {i: i for i in range(len(names))}
    unknown = [one for one in given if one not in index]
    if unknown:
        raise InputError(f"sources: expected names or indices of the tree's sources, got {unknown[0]!r}")
    return np.array([index[one] for one in given], np.int64)
