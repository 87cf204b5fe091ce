"""Answers to questions as pictures: one star or two, whose event, how deep, which model, what is wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesprf.plots.canvas import as_list, new_figure, plain_numbers, root_figure, time_label
from bayesprf.plots.scene import shorten

if TYPE_CHECKING:
    from bayesprf.hypotheses.event_depth import EventDepth
    from bayesprf.hypotheses.event_host import EventHost
    from bayesprf.hypotheses.scores import Comparison
    from bayesprf.hypotheses.second_star import BlendTest
    from bayesprf.photometry.processes import LightCurves
    from bayesprf.quality.record import Verdict

_N_POINT = 400
_SHADES = {0.95: "#dbe7f3", 0.68: "#9ec3e6"}
# Candidates that are shown, the most probable ones.
_N_HOST = 12


def plot_blend_test(test: "BlendTest", *, ax: Axes | None = None) -> Figure:
    """Draw what the data say of the flux of a second star, beside its prior: see `BlendTest.plot`."""
    ax = new_figure(6.4, 4.0).subplots() if ax is None else ax
    reach = max(abs(test.flux) + 5.0 * test.flux_err, 3.0 * test.flux_err)
    flux = np.linspace(min(0.0, test.flux - 5.0 * test.flux_err), reach, _N_POINT)
    likelihood = np.exp(-0.5 * ((flux - test.flux) / test.flux_err) ** 2)
    prior = np.where(flux >= 0.0, np.exp(-0.5 * (flux / test.prior_sigma) ** 2), 0.0)
    posterior = likelihood * prior
    ax.fill_between(flux, posterior / max(posterior.max(), 1e-300), color=_SHADES[0.68], label="posterior")
    ax.plot(flux, likelihood, color="tab:blue", label="data alone")
    ax.plot(flux, prior, color="0.4", ls="--", label="prior")
    ax.axvline(0.0, color="0.7", lw=0.8)
    word = "two stars" if test.log_bayes_factor > 0 else "one star"
    ax.set_title(
        f"{word}: probability of a second star {test.probability:.3g}\nln Bayes factor {test.log_bayes_factor:+.1f},"
        f" {test.separation:.2f}″ away",
        fontsize="medium",
    )
    ax.set(xlabel="flux of a second star (electron / s)", ylabel="density over its peak", ylim=(0.0, 1.08))
    ax.legend(frameon=False)
    plain_numbers(ax)
    return root_figure(ax)


def plot_event_host(host: "EventHost", *, ax: Axes | None = None) -> Figure:
    """Draw the probability of each source to host an event: see `EventHost.plot`."""
    order = np.argsort(-host.probability)[:_N_HOST]
    ax = new_figure(7.0, 1.2 + 0.32 * order.size).subplots() if ax is None else ax
    place = np.arange(order.size)
    ax.barh(place, host.probability[order], color="tab:blue", height=0.7)
    for k, i in enumerate(order):
        depth = f"{host.dip[i]:.4g} ± {host.dip_err[i]:.2g} electron / s"
        late = host.probability[i] > 0.5
        ax.text(
            host.probability[i] + (-0.01 if late else 0.01), k, f"dip {depth}", va="center",
            ha="right" if late else "left", color="white" if late else "0.3", fontsize="small",
        )  # fmt: skip
    ax.set_yticks(place, [shorten(host.source[i]) for i in order])
    ax.set(xlabel="probability that the event is its own", xlim=(0.0, 1.0), ylim=(order.size - 0.4, -0.6))
    left_out = len(host.source) - order.size
    ax.set_title(f"{left_out} less probable sources not shown" if left_out else "", fontsize="small", loc="right")
    return root_figure(ax)


def plot_event_depth(depth: "EventDepth", *, ax: Axes | None = None) -> Figure:
    """Draw the posterior of the depth of an event with its intervals: see `EventDepth.plot`."""
    ax = new_figure(6.4, 4.0).subplots() if ax is None else ax
    share = np.linspace(0.001, 0.999, _N_POINT)
    value = np.array([depth.quantile(float(one)) for one in share])
    density = np.gradient(share, value)
    for level, color in _SHADES.items():
        low, high = depth.interval(level)
        inside = (value >= low) & (value <= high)
        label = f"{100 * level:.0f} %: {low:.4g} to {high:.4g}"
        ax.fill_between(value[inside], density[inside], color=color, label=label)
    ax.plot(value, density, color="tab:blue", lw=1.2)
    ax.axvline(depth.depth, color="tab:blue", lw=0.8, ls=":")
    ax.set_title(f"{shorten(depth.source)}: depth {depth.depth:.4g} ± {depth.depth_err:.2g}", fontsize="medium")
    ax.set(xlabel="depth, share of the star's light", ylabel="posterior density", ylim=(0.0, None))
    ax.legend(loc="upper right", fontsize="small", framealpha=0.8)
    plain_numbers(ax)
    return root_figure(ax)


def plot_comparison(comparison: "Comparison", *, ax: Axes | None = None) -> Figure:
    """Draw how far models lie behind the best one: see `Comparison.plot`."""
    models = comparison.models
    ax = new_figure(7.0, 1.6 + 0.4 * len(models)).subplots() if ax is None else ax
    place = np.arange(len(models))
    ax.errorbar(
        [one.elpd_difference for one in models], place - 0.1, xerr=[one.difference_se for one in models], fmt="o",
        capsize=3, label="leave-one-out, with its standard error",
    )  # fmt: skip
    ax.plot([one.log_bayes_factor for one in models], place + 0.1, "D", color="tab:orange", label="log evidence")
    ax.axvline(0.0, color="0.7", lw=0.8)
    ax.set_yticks(place, [one.name for one in models])
    ax.set(xlabel="behind the best model", ylim=(len(models) - 0.4, -0.6))
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize="small", frameon=False)
    return root_figure(ax)


def plot_verdict(verdict: "Verdict", *, ax: Axes | None = None) -> Figure:
    """Draw what each fault does to the flux that it touches most: see `Verdict.plot`."""
    findings = verdict.findings
    ax = new_figure(7.0, 1.4 + 0.4 * max(len(findings), 1)).subplots() if ax is None else ax
    place = np.arange(len(findings))
    ax.barh(place, [one.effect for one in findings], color="tab:red", height=0.6)
    names = [f"{one.flag.name} ({int(one.sources.sum())} of {one.sources.size})" for one in findings]
    ax.set_yticks(place, names)
    ax.set(xlabel="shift of the flux that it touches most, in units of its error", ylim=(len(findings) - 0.4, -0.6))
    ax.set_title("the fit is sound" if verdict.is_sound else "what was found against the fit", fontsize="medium")
    return root_figure(ax)


def plot_processes(
    curves: "LightCurves",
    sources: int | Sequence[int],
    *,
    names: Sequence[str] | None = None,
    time_zero_jd: float = 0.0,
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw light curves as processes, with the bands that hold 68 and 95 %: see `LightCurves.plot`."""
    chosen = np.atleast_1d(np.asarray(sources, np.int64))
    if ax is None:
        figure = new_figure(7.0, 1.0 + 2.0 * chosen.size)
        panels = list(figure.subplots(chosen.size, 1, sharex=True, squeeze=False).ravel())
    else:
        panels = as_list(ax)
    for panel, source in zip(panels, chosen, strict=True):
        level = float(np.nanmedian(curves.flux[:, source]))
        change, error = (100.0 * one[:, source] / level for one in (curves.flux - level, curves.flux_err))
        for width, color in ((1.96, _SHADES[0.95]), (1.0, _SHADES[0.68])):
            panel.fill_between(curves.time, change - width * error, change + width * error, color=color, lw=0)
        panel.plot(curves.time, change, color="tab:blue", lw=1.0)
        panel.set_title(f"source {source}" if names is None else str(names[source]), loc="left", fontsize="medium")
        panel.set_ylabel("change of flux (%)")
        plain_numbers(panel)
    panels[-1].set_xlabel(time_label(time_zero_jd))
    return root_figure(panels[0])
