"""Pictures of the calibration suite."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from bayesprf.plots.canvas import new_figure

if TYPE_CHECKING:
    from bayesprf.validation.suite import CalibrationReport, MarchCheck, ProbabilityCheck, RankCheck


_TICKS = (0.25, 0.5, 1.0, 2.0, 3.0)


def draw_calibration(report: "CalibrationReport") -> dict[str, Figure]:
    """Draw all pictures of a report.

    Parameters
    ----------
    report : CalibrationReport
        What to draw.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        "ranks", "march", "second_star", "eclipse" and, if samplers were checked, "samplers".
    """
    figures = {
        "ranks": plot_ranks(report.ranks),
        "march": plot_march(report.march),
        "second_star": plot_verdicts(report.second_star, "one star or two?"),
        "eclipse": plot_verdicts(report.eclipse, "which star eclipses?"),
    }
    return figures | ({"samplers": plot_ranks(report.samplers.checks)} if report.samplers else {})


def plot_ranks(checks: "Sequence[RankCheck]") -> Figure:
    """Draw how far the ranks of the truths are from uniform.

    Parameters
    ----------
    checks : sequence of RankCheck
        One line each.

    Returns
    -------
    matplotlib.figure.Figure
        Distribution minus the uniform one, with the 99 % band.
    """
    figure = new_figure(7.0, 4.0)
    axes = figure.add_subplot()
    for check in checks:
        rank = np.sort(check.rank)
        axes.plot(rank, np.arange(1, rank.size + 1) / rank.size - rank, lw=0.8, label=check.label)
    band = max(check.band for check in checks)
    axes.fill_between([0, 1], -band, band, color="0.9", zorder=0, label="99 % band")
    axes.set(xlabel="rank of the truth in the posterior", ylabel="share below minus rank", xlim=(0, 1))
    axes.legend(fontsize=6, ncols=2)
    return figure


def plot_march(checks: "Sequence[MarchCheck]") -> Figure:
    """Draw the scores and correlations of the march of the second star.

    Parameters
    ----------
    checks : sequence of MarchCheck
        All steps.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(9.0, 3.2)
    left, middle, right = figure.subplots(1, 3)
    for ratio in sorted({check.ratio for check in checks}):
        some = [check for check in checks if check.ratio == ratio]
        place = [check.separation for check in some]
        left.plot(place, [check.mean[1] for check in some], marker="o", ms=3, label=f"1:{ratio:g}")
        middle.plot(place, [check.std[1] for check in some], marker="o", ms=3)
        line = right.plot(place, [check.reported for check in some])[0]
        right.plot(place, [check.seen for check in some], "o", ms=4, color=line.get_color())
    left.set(ylabel="mean score of the fainter star", ylim=(-0.1, 0.1))
    middle.set(ylabel="standard deviation of its score", ylim=(0.93, 1.07))
    right.set(ylabel="correlation (line reported, dots seen)")
    for axes in (left, middle, right):
        axes.set(xlabel="separation (pixel)", xscale="log")
        axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.minorticks_off()
    left.legend(fontsize=7)
    return figure


def plot_verdicts(checks: "Sequence[ProbabilityCheck]", title: str) -> Figure:
    """Draw how often verdicts were right against their probability.

    Parameters
    ----------
    checks : sequence of ProbabilityCheck
        Bins.
    title : str
        What was asked.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(3.5, 3.2)
    axes = figure.add_subplot()
    claimed = np.array([check.claimed for check in checks])
    error = np.sqrt(claimed * (1.0 - claimed) / np.array([check.count for check in checks]))
    axes.plot([0.5, 1.0], [0.5, 1.0], color="0.7")
    axes.errorbar(claimed, [check.right for check in checks], yerr=error, fmt="o", ms=4)
    axes.set(xlabel="probability of the verdict", ylabel="share that was right", title=title)
    return figure
