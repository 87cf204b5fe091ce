"""The calibration suite's report as Markdown."""

import numpy as np
from scipy.stats import binom

from bayesprf.validation.suite import COVERAGE, CalibrationReport, ProbabilityCheck, SamplerReport

_CALIBRATION_HEAD = """# Calibration

Made by `bayesprf calibrate --output docs --trials {trials} --verdicts {verdicts} --seed {seed}
--samplers {samplers}`: simulations with known truth, whose PRF, noise and prior are those of the model. They show that
the closed form and the samplers are right, not that a fitted PRF is.

![Ranks of the truths minus the uniform distribution](_static/calibration/ranks.png)

![Scores and correlations of the march](_static/calibration/march.png)

![Verdicts on second stars](_static/calibration/second_star.png)
![Verdicts on eclipses](_static/calibration/eclipse.png)

"""
_SAMPLERS_PICTURE = "![Ranks of the truths among draws of the samplers](_static/calibration/samplers.png)\n\n"


def format_report(report: CalibrationReport) -> str:
    """Return the tables of a report as Markdown.

    Parameters
    ----------
    report : CalibrationReport
        What to write.

    Returns
    -------
    str
    """
    levels = [f"{level:.0%}" for level in COVERAGE]
    spread = ", ".join(f"{100 * np.sqrt(one * (1 - one) / report.n_trial):.2f}" for one in COVERAGE)
    outside = sum(one.distance > one.band for one in report.ranks)
    blocks = [
        f"## Truths drawn from the prior\n\n{report.n_trial} trials per blend; standard errors of the coverage {spread}"
        f" per cent. Ranks leave the 99 % band in {outside} of {len(report.ranks)} rows.",
        _table(
            ("blend", "flux", "distance from uniform", "99 % band", *levels),
            [
                (
                    one.of,
                    one.name,
                    f"{one.distance:.4f}",
                    f"{one.band:.4f}",
                    *(f"{100 * share:.2f} %" for share in one.coverage or (np.nan,) * len(COVERAGE)),
                )
                for one in report.ranks
            ],
        ).replace("nan %", ""),
        "## A second star marched across the first\n\nScores (estimate - truth) / error of both stars over"
        f" {report.n_realisation} noise realisations, shape known; a standard deviation has an error of"
        f" {(2 * report.n_realisation) ** -0.5:.3f}, a mean of {report.n_realisation**-0.5:.3f}.",
        _table(
            ("separation (pixel)", "flux ratio", "mean 1", "mean 2", "std 1", "std 2", "correlation", "seen"),
            [
                (f"{one.separation:g}", f"{one.ratio:g}", *(f"{x:.3f}" for x in (*one.mean, *one.std)),
                 f"{one.reported:.3f}", f"{one.seen:.3f}")
                for one in report.march
            ],
        ),
        "## One star or two?\n\nOf the scenes of one star, "
        + ", ".join(f"{100 * share:.2f} %" for share in report.false_stars)
        + f" are given two with a probability above 0.5, 0.9, 0.99 ({report.n_verdict} scenes, PRF known).",
        _verdict_table(report.second_star),
        f"## Which star eclipses?\n\n{report.n_verdict} blends of two stars.",
        _verdict_table(report.eclipse),
        *(_sampler_blocks(report.samplers) if report.samplers else ()),
    ]  # fmt: skip
    return "\n\n".join(blocks) + "\n"


def _sampler_blocks(report: SamplerReport) -> tuple[str, str]:
    outside = sum(one.distance > one.band for one in report.checks)
    bounds = ", ".join(
        f"{100 * binom.ppf(0.005, report.n_trial, level) / report.n_trial:.1f} to"
        f" {100 * binom.ppf(0.995, report.n_trial, level) / report.n_trial:.1f}"
        for level in COVERAGE
    )
    text = (
        f"## Learned width and jitter: grid and NUTS\n\n{report.n_trial} trials: four stars in 2 pixels, eight"
        " cadences; width, jitter and fluxes drawn from their priors, all learned from the pixels."
        " Both samplers get the same data; NUTS is nutpie on the model of `build_linear`, compiled once. The truth is"
        f" ranked among 99 draws; those of NUTS are one of ten, neighbours correlated by {report.correlation:.3f} at"
        f" most; {report.n_divergent} transitions diverged. Ranks leave the 99 % band in {outside} of"
        f" {len(report.checks)} rows; 99 of 100 right coverages lie in {bounds} per cent."
    )
    rows = [
        (one.of, one.name, f"{one.distance:.4f}", f"{one.band:.4f}", *(f"{100 * x:.1f} %" for x in one.coverage))
        for one in report.checks
    ]
    levels = (f"{level:.0%}" for level in COVERAGE)
    return text, _table(("sampler", "parameter", "distance from uniform", "99 % band", *levels), rows)


def _verdict_table(checks: tuple[ProbabilityCheck, ...]) -> str:
    rows: list[tuple[str, ...]] = [
        (f"{one.low:g} to {one.high:g}", f"{one.count}", f"{100 * one.claimed:.1f} %", f"{100 * one.right:.1f} %",
         f"{100 * np.sqrt(one.claimed * (1 - one.claimed) / one.count):.1f} %")
        for one in checks
    ]  # fmt: skip
    return _table(("probability of the verdict", "verdicts", "claimed", "right", "standard error"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def calibration_page(text: str, *, trials: int, verdicts: int, samplers: int, seed: int) -> str:
    """Return the page of a calibration: how it was made, its pictures, and its tables."""
    head = _CALIBRATION_HEAD.format(trials=trials, verdicts=verdicts, samplers=samplers, seed=seed)
    return head + (_SAMPLERS_PICTURE if samplers else "") + text
