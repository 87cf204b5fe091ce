"""How quiet light curves are, against magnitude, beside what photons alone would leave."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.checks import as_float, check_shape
from bayesprf.plots.canvas import new_figure, root_figure
from bayesprf.plots.labels import Labels

# Stars whose scatter exceeds their error most are named, so many at most, and from this ratio on.
_N_NAMED, _LOUD = 5, 2.0


def plot_noise(
    mag: object,
    scatter: object,
    error: object,
    *,
    photon: object = None,
    names: Sequence[str] = (),
    ax: Axes | None = None,
) -> Figure:
    """Draw the scatter of every light curve, and its quoted error, against magnitude.

    Parameters
    ----------
    mag : array-like, shape (n_source,)
        Magnitudes.
    scatter, error : array-like, shape (n_source,)
        Point-to-point scatter and cadence-to-cadence error, relative to the flux. NaN is not drawn.
    photon : array-like, shape (n_source,), optional
        What the star's own photons alone would leave, relative to the flux: drawn as a line.
    names : sequence of str, shape (n_source,), optional
        Names; the five stars that scatter most beyond twice their error carry theirs.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ShapeError
        If the arrays differ in length.
    """
    mag = as_float(mag, "mag", ndim=1)
    scatter, error = as_float(scatter, "scatter"), as_float(error, "error")
    for values, name in ((scatter, "scatter"), (error, "error")):
        check_shape(values, mag.shape, name, "n_source")
    ax = new_figure(6.4, 4.4).subplots() if ax is None else ax
    if photon is not None:
        _draw_photon_noise(ax, mag, as_float(photon, "photon", ndim=1))
    good = _drawable(mag, error)
    ax.scatter(mag[good], 1e6 * error[good], marker="_", s=60, color="tab:orange", label="quoted error")
    good = _drawable(mag, scatter)
    ax.scatter(mag[good], 1e6 * scatter[good], marker="o", s=14, color="tab:blue", label="point-to-point scatter")
    if len(names):
        check_shape(names, mag.shape, "names", "n_source")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(good, scatter / error, 0.0)
        loud = [i for i in np.argsort(-ratio)[:_N_NAMED] if ratio[i] > _LOUD]
        Labels(ax, mag[loud], 1e6 * scatter[loud], [names[i] for i in loud])
    ax.grid(which="both", alpha=0.2)
    ax.set(xlabel="magnitude", ylabel="noise per cadence, relative to the flux (ppm)", yscale="log")
    ax.legend(frameon=False)
    return root_figure(ax)


def _drawable(mag: FloatArray, values: FloatArray) -> BoolArray:
    with np.errstate(invalid="ignore"):
        return np.isfinite(mag) & np.isfinite(values) & (values > 0)


def _draw_photon_noise(ax: Axes, mag: FloatArray, photon: FloatArray) -> None:
    """Draw the line of photon noise: its square grows as the flux falls, with one zero point for all stars."""
    good = _drawable(mag, photon)
    if not good.any():
        return
    level = np.median(np.log10(photon[good]) - 0.2 * mag[good])
    along = np.linspace(mag[good].min(), mag[good].max(), 50)
    ax.plot(along, 1e6 * 10.0 ** (level + 0.2 * along), color="0.4", lw=1.2, label="photon noise of the star alone")
