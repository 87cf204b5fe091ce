"""The calibration suite: do intervals cover the truth as often as they say, and probabilities come true?"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.checks import check_positive
from bayesprf.validation.closed_form import (
    BLENDS,
    Blend,
    eclipse_trials,
    fixed_trials,
    prior_problem,
    prior_trials,
    second_star_trials,
)

COVERAGE = (0.5, 0.8, 0.95)
"""Central intervals whose coverage is counted."""

SEPARATIONS = (3.0, 2.0, 1.5, 1.0, 0.75, 0.5, 0.25)
"""Distance of the second star in the march, pixel."""

RATIOS = (1.0, 3.0, 10.0, 30.0)
"""Flux of the first star over that of the second in the march."""

_MAIN_FLUX = 2e4
_SAMPLED_BLEND, _SAMPLED_CADENCES, _WIDTH_SCALE = BLENDS[-1], 8, 0.5
_BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class RankCheck:
    """A flux or parameter that was drawn from its prior, ranked in the posterior or among draws of it.

    Parameters
    ----------
    of : str
        Name of the blend, or of the sampler: "grid" or "NUTS".
    name : str
        Which star or parameter; "all together" for the distance of all fluxes from the truth.
    rank : ndarray of float64, shape (n_trial,)
        Ranks of the truths, 0 to 1.
    distance : float
        Largest distance of their distribution from the uniform one (Kolmogorov and Smirnov).
    band : float
        Distance that the ranks of a right posterior exceed in 1 % of such checks.
    coverage : tuple of float
        Share of truths inside the intervals of `COVERAGE`; empty for all fluxes together.
    """

    of: str
    name: str
    rank: FloatArray
    distance: float
    band: float
    coverage: tuple[float, ...]

    @classmethod
    def judge(cls, of: str, name: str, rank: FloatArray, coverage: tuple[float, ...]) -> "RankCheck":
        """Measure how far ranks are from uniform."""
        distance, band = stats.kstest(rank, "uniform").statistic, stats.kstwo.ppf(0.99, rank.size)
        return cls(of, name, rank, float(distance), float(band), coverage)

    @property
    def label(self) -> str:
        """Name of its line in a picture."""
        return f"{self.of}, {self.name}"


@dataclass(frozen=True, slots=True)
class MarchCheck:
    """Two stars at one distance and flux ratio.

    Parameters
    ----------
    separation, ratio : float
        Pixel; flux of the first over that of the second star.
    mean, std : tuple of float
        Of (estimate - truth) / error, for both stars.
    reported, seen : float
        Correlation of the two errors: as reported, and as found.
    """

    separation: float
    ratio: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    reported: float
    seen: float


@dataclass(frozen=True, slots=True)
class ProbabilityCheck:
    """How often a verdict of some probability was right.

    Parameters
    ----------
    low, high : float
        Bin of the probability of the more probable answer.
    count : int
        Verdicts in the bin.
    claimed, right : float
        Their mean probability, and the share that was right.
    """

    low: float
    high: float
    count: int
    claimed: float
    right: float


@dataclass(frozen=True, slots=True, eq=False)
class SamplerReport:
    """Simulation-based calibration of the samplers.

    Parameters
    ----------
    n_trial : int
        Number of trials.
    checks : tuple of RankCheck
        One per sampler and parameter.
    correlation : float
        Of neighbours among the ranked draws of NUTS, largest of the parameters.
    n_divergent : int
        Transitions that diverged, in all trials together.
    """

    n_trial: int
    checks: tuple[RankCheck, ...]
    correlation: float
    n_divergent: int


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """All checks of a run.

    Parameters
    ----------
    n_trial, n_realisation, n_verdict : int
        Trials per blend, noise realisations per step of the march, and scenes per kind of verdict.
    ranks : tuple of RankCheck
        Simulation-based calibration.
    march : tuple of MarchCheck
        The second star marched across the first.
    second_star, eclipse : tuple of ProbabilityCheck
        One star or two; which star eclipses.
    false_stars : tuple of float
        Share of scenes of one star whose probability of two exceeded 0.5, 0.9 and 0.99.
    samplers : SamplerReport, optional
        Calibration of grid and NUTS.
    """

    n_trial: int
    n_realisation: int
    n_verdict: int
    ranks: tuple[RankCheck, ...]
    march: tuple[MarchCheck, ...]
    second_star: tuple[ProbabilityCheck, ...]
    eclipse: tuple[ProbabilityCheck, ...]
    false_stars: tuple[float, ...]
    samplers: SamplerReport | None = None


def calibrate(
    rng: np.random.Generator,
    *,
    n_trial: int = 10_000,
    n_realisation: int = 20_000,
    n_verdict: int = 2000,
    n_sampler: int = 0,
) -> CalibrationReport:
    """Run the whole suite.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    n_trial : int
        Trials per blend of simulation-based calibration.
    n_realisation : int
        Noise realisations per step of the march.
    n_verdict : int
        Scenes for "one star or two?" and for "which star eclipses?".
    n_sampler : int
        Trials of the samplers, which need nutpie; none by default.

    Returns
    -------
    CalibrationReport
    """
    for name, value in (("n_trial", n_trial), ("n_realisation", n_realisation), ("n_verdict", n_verdict)):
        check_positive(value, name)
    ranks = tuple(check for blend in BLENDS for check in check_ranks(blend, n_trial, rng))
    steps = [(separation, ratio) for separation in SEPARATIONS for ratio in RATIOS]
    march = tuple(check_march(separation, ratio, n_realisation, rng) for separation, ratio in steps)
    probability, two = second_star_trials(n_verdict, rng)
    false = tuple(float((probability[~two] > limit).mean()) for limit in (0.5, 0.9, 0.99))
    return CalibrationReport(
        n_trial,
        n_realisation,
        n_verdict,
        ranks,
        march,
        check_verdicts(probability, two),
        check_verdicts(*eclipse_trials(n_verdict, rng)),
        false,
        check_samplers(n_sampler, rng) if n_sampler else None,
    )


def check_ranks(blend: Blend, n_trial: int, rng: np.random.Generator) -> tuple[RankCheck, ...]:
    """Draw truths from the prior and look where they lie in the posterior.

    Parameters
    ----------
    blend : Blend
        The stars.
    n_trial : int
        Number of trials.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    tuple of RankCheck
        One per star, and one for all fluxes together.
    """
    trials = prior_trials(blend, n_trial, rng)
    inside = [np.abs(trials.score) < stats.norm.ppf(0.5 + 0.5 * level) for level in COVERAGE]
    stars = [
        RankCheck.judge(blend.name, f"star {k + 1}", rank, tuple(float(one[:, k].mean()) for one in inside))
        for k, rank in enumerate(trials.rank.T)
    ]
    return (*stars, RankCheck.judge(blend.name, "all together", trials.joint, ()))


def check_samplers(n_trial: int, rng: np.random.Generator) -> SamplerReport:
    """Draw width, jitter and fluxes from their priors, and look where they lie among the draws of grid and of NUTS.

    Parameters
    ----------
    n_trial : int
        Number of trials: four stars in 2 pixels, eight cadences each.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    SamplerReport

    Raises
    ------
    MissingDependencyError
        If nutpie is not installed.
    """
    from bayesprf.sampling.hyper import Hyperprior
    from bayesprf.validation.samplers import sampler_trials

    width = Hyperprior("half-normal", _WIDTH_SCALE)
    jitter = Hyperprior("half-normal", float(np.median(_SAMPLED_BLEND.noise())))
    trials = sampler_trials(prior_problem(_SAMPLED_BLEND, _SAMPLED_CADENCES), width, jitter, n_trial, rng)
    checks = []
    for sampler, ranks in trials.rank.items():
        for name, rank in zip(trials.names, ranks.T, strict=True):
            coverage = tuple(float(np.mean(np.abs(rank - 0.5) < 0.5 * level)) for level in COVERAGE)
            checks.append(RankCheck.judge(sampler, name, rank, coverage))
    return SamplerReport(n_trial, tuple(checks), trials.correlation, trials.n_divergent)


def check_march(separation: float, ratio: float, n_realisation: int, rng: np.random.Generator) -> MarchCheck:
    """Put a second star at a distance from the first, and fit many noise realisations.

    Parameters
    ----------
    separation : float
        Pixel; the direction is no axis of the grid.
    ratio : float
        Flux of the first star over that of the second.
    n_realisation : int
        Number of noise realisations.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    MarchCheck
    """
    second = (0.8 * separation, 0.6 * separation, _MAIN_FLUX / ratio)
    trials = fixed_trials(Blend("march", ((0.0, 0.0, _MAIN_FLUX), second)), n_realisation, rng)
    mean, std = trials.score.mean(axis=0), trials.score.std(axis=0, ddof=1)
    return MarchCheck(separation, ratio, tuple(mean.tolist()), tuple(std.tolist()), trials.reported, trials.seen)


def check_verdicts(probability: FloatArray, truth: BoolArray) -> tuple[ProbabilityCheck, ...]:
    """Count how often the more probable of two answers was right, by its probability.

    Parameters
    ----------
    probability : ndarray of float64, shape (n,)
        Probability of the first answer.
    truth : ndarray of bool, shape (n,)
        Whether the first answer is right.

    Returns
    -------
    tuple of ProbabilityCheck
        One per bin that is not empty.
    """
    claimed = np.maximum(probability, 1.0 - probability)
    right = (probability > 0.5) == truth
    place = np.clip(np.searchsorted(_BINS, claimed, side="right") - 1, 0, len(_BINS) - 2)
    checks = []
    for k in np.unique(place):
        here = place == k
        checks.append(
            ProbabilityCheck(
                _BINS[k], _BINS[k + 1], int(here.sum()), float(claimed[here].mean()), float(right[here].mean())
            )
        )
    return tuple(checks)
