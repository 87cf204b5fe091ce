"""Figures outside pyplot's registry, and the few things all pictures share."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from bayesprf.arrays import FloatArray
from bayesprf.checks import make_directory, write_whole
from bayesprf.errors import InputError

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable

_DPI = 120
FLUX_LABEL = "flux (electron / s)"
# Colour of places without a pixel, told apart from faint ones.
NO_PIXEL = "#dbe7f3"
# Names of the zeros of time of Kepler and K2, and of TESS.
_TIME_SYSTEMS = {2454833.0: "BKJD", 2457000.0: "BTJD"}


class Colors(TypedDict):
    """How values become colours, as `Axes.imshow` and `Axes.scatter` take it."""

    cmap: str
    vmin: float
    vmax: float


class BarOptions(TypedDict, total=False):
    """Options of a colour bar, as `Figure.colorbar` takes them: distance, length, and length over width."""

    pad: float
    shrink: float
    aspect: float


class _Picture(Figure):
    """A figure that nothing has to close and that notebooks show by themselves."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure.

    Parameters
    ----------
    width, height : float
        Size, inch.

    Returns
    -------
    matplotlib.figure.Figure
        With labels laid out so that they do not overlap.
    """
    return _Picture(figsize=(width, height), layout="constrained")


def root_figure(drawn: Axes | Figure | SubFigure) -> Figure:
    """Return the whole figure that axes, or a part of a figure, belong to.

    Parameters
    ----------
    drawn : Axes, Figure or SubFigure
        Where something was drawn.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the axes were removed from their figure.
    """
    figure = drawn.get_figure(root=True)
    if figure is None:
        raise InputError("ax: expected axes of a figure, got axes that were removed from theirs; give others")
    return figure


def as_list(ax: Axes | Sequence[Axes]) -> list[Axes]:
    """Return panels as a list, be it one, or several of any shape."""
    return list(np.atleast_1d(np.asarray(ax, object)).ravel())


def save_figures(figures: Mapping[str, Figure], directory: Path) -> list[Path]:
    """Save figures as PNG files under their names.

    Parameters
    ----------
    figures : mapping of str to matplotlib.figure.Figure
        What to save.
    directory : Path
        Made if it does not exist.

    Returns
    -------
    list of Path
        Files written.

    Raises
    ------
    FileError
        If the directory cannot be made, or a file not written.
    """
    make_directory(directory)
    for name, figure in figures.items():
        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=_DPI)
        write_whole(directory / f"{name}.png", drawn.getvalue())
    return [directory / f"{name}.png" for name in figures]


def as_base64(figure: Figure, *, dpi: float) -> str:
    """Return a figure as a PNG in base64, as pages carry it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    dpi : float
        Dots per inch.

    Returns
    -------
    str
    """
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return b64encode(buffer.getvalue()).decode()


def stretch(image: FloatArray) -> AsinhNorm:
    """Return a colour scale that shows faint and bright pixels at once.

    Parameters
    ----------
    image : ndarray of float64
        Values, electron / s; NaN is ignored.

    Returns
    -------
    matplotlib.colors.AsinhNorm
        Linear up to the median magnitude of the values, logarithmic beyond.
    """
    finite = image[np.isfinite(image)]
    width = max(float(np.median(np.abs(finite))), 1e-6) if finite.size else 1.0
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return AsinhNorm(linear_width=width, vmin=low, vmax=high if high > low else low + 1.0)


def add_colorbar(
    drawn: "ScalarMappable", axes: Axes | Sequence[Axes], label: str, **options: Unpack[BarOptions]
) -> None:
    """Draw a colour bar with a few plain numbers.

    Parameters
    ----------
    drawn : matplotlib.cm.ScalarMappable
        What the colours belong to.
    axes : Axes or sequence of Axes
        Panels that share the bar.
    label : str
        Quantity and unit.
    **options
        Passed to ``Figure.colorbar``.
    """
    first = axes if isinstance(axes, Axes) else axes[0]
    bar = first.figure.colorbar(drawn, ax=axes, label=label, **options)
    if isinstance(drawn.norm, AsinhNorm):
        bar.set_ticks(asinh_ticks(drawn.norm))
        bar.ax.minorticks_off()
    elif isinstance(drawn.norm, LogNorm):
        return
    else:
        bar.locator = MaxNLocator(6)
        bar.update_ticks()
    axis = bar.ax.yaxis if bar.orientation == "vertical" else bar.ax.xaxis
    axis.set_major_formatter(ScalarFormatter())


def asinh_ticks(norm: AsinhNorm) -> list[float]:
    """Return round numbers spread evenly over an asinh colour scale.

    Parameters
    ----------
    norm : matplotlib.colors.AsinhNorm
        The scale, with both limits set.

    Returns
    -------
    list of float
        One to two digits each, inside the limits.
    """
    even = np.asarray(norm.inverse(np.linspace(0.0, 1.0, 7)), np.float64)
    size = 10.0 ** np.floor(np.log10(np.maximum(np.abs(even), 1e-12)))
    rounded = np.round(even / size) * size
    rounded[np.abs(even) < 1e-3 * np.abs(even).max()] = 0.0
    return sorted({float(value) for value in rounded if (norm.vmin or 0.0) <= value <= (norm.vmax or 0.0)})


def time_label(time_zero_jd: float) -> str:
    """Return the label of a time axis.

    Parameters
    ----------
    time_zero_jd : float
        Julian date of time 0, day.

    Returns
    -------
    str
        With the name of the time system where the zero is Kepler's or TESS's.
    """
    if not time_zero_jd:
        return "time (day)"
    name = _TIME_SYSTEMS.get(time_zero_jd)
    return f"time ({name} = BJD − {time_zero_jd:.10g}, day)" if name else f"time (JD − {time_zero_jd:.10g}, day)"


def plain_numbers(ax: Axes) -> None:
    """Write the numbers of both axes in full, without an offset that the reader has to add."""
    for axis in (ax.xaxis, ax.yaxis):
        if isinstance(axis.get_major_formatter(), ScalarFormatter):
            axis.set_major_formatter(ScalarFormatter(useOffset=False))
