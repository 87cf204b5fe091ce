"""The calibration suite: small runs pass, faults are seen, the report says what was found."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest
from typer.testing import CliRunner

from bayesprf.cli import app
from bayesprf.errors import InputError, MissingDependencyError
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.validation.closed_form import BLENDS, prior_trials
from bayesprf.validation.suite import (
    COVERAGE,
    RankCheck,
    SamplerReport,
    calibrate,
    check_march,
    check_ranks,
    check_samplers,
    check_verdicts,
)
from bayesprf.validation.tables import format_report


@pytest.mark.parametrize("blend", BLENDS, ids=lambda one: one.name)
def test_ranks_are_uniform(blend):
    checks = check_ranks(blend, 2000, np.random.default_rng(5))
    assert len(checks) == blend.flux.size + 1
    for check in checks:
        assert check.distance < 1.25 * check.band
        for share, claimed in zip(check.coverage, (0.5, 0.8, 0.95), strict=False):
            assert share == pytest.approx(claimed, abs=3.5 * np.sqrt(claimed * (1 - claimed) / 2000))


def test_errors_too_small_by_a_tenth_are_seen(monkeypatch):
    trials = prior_trials(BLENDS[2], 2000, np.random.default_rng(1))
    assert kstest(trials.joint, "uniform").pvalue > 1e-3
    shrunk = GaussianPrior.from_sigma

    def wrong(mean, sigma):
        return shrunk(mean, 0.05 * sigma)

    monkeypatch.setattr(GaussianPrior, "from_sigma", wrong)
    wrong_trials = prior_trials(BLENDS[1], 2000, np.random.default_rng(1))
    assert kstest(wrong_trials.joint, "uniform").pvalue < 1e-6


@pytest.mark.parametrize("separation", [3.0, 1.0, 0.25])
def test_scores_of_blends_are_standard_normal(separation):
    check = check_march(separation, 10.0, 4000, np.random.default_rng(2))
    assert np.abs(check.mean).max() < 3.5 / np.sqrt(4000)
    assert np.abs(np.array(check.std) - 1.0).max() < 3.5 / np.sqrt(8000)
    assert check.seen == pytest.approx(check.reported, abs=3.5 * (1 - check.reported**2) / np.sqrt(4000))


def test_verdicts_are_counted_by_their_probability():
    probability = np.array([0.05, 0.95, 0.55, 0.45, 1.0])
    truth = np.array([False, False, True, True, True])
    low, high, sure = check_verdicts(probability, truth)
    assert (low.count, low.right, low.claimed) == (2, 0.5, pytest.approx(0.55))
    assert (high.count, high.right, high.claimed) == (2, 0.5, pytest.approx(0.95))
    assert (sure.count, sure.right, sure.high) == (1, 1.0, 1.0)


def test_numbers_of_trials_are_checked():
    with pytest.raises(InputError, match="n_trial: expected a finite number above 0, got 0"):
        calibrate(np.random.default_rng(0), n_trial=0)


def test_command_writes_page_and_pictures(tmp_path):
    done = CliRunner().invoke(
        app, ["calibrate", "--output", str(tmp_path), "--trials", "50", "--verdicts", "20"], catch_exceptions=False
    )
    assert done.exit_code == 0
    page = (tmp_path / "calibration.md").read_text()
    assert "--trials 50 --verdicts 20 --seed 0" in page
    assert page.split("\n\n## ", 1)[1].rstrip() in done.output
    for name in ("ranks", "march", "second_star", "eclipse"):
        assert (tmp_path / "_static" / "calibration" / f"{name}.png").stat().st_size > 5000


def test_report_is_the_same_for_the_same_seed():
    reports = [calibrate(np.random.default_rng(3), n_trial=30, n_realisation=30, n_verdict=10) for _ in range(2)]
    assert format_report(reports[0]) == format_report(reports[1])


def test_samplers_have_their_table():
    rank = np.random.default_rng(0).uniform(size=200)
    check = RankCheck("NUTS", "width", rank, 0.05, 0.114, (0.5, 0.81, 0.94))
    report = calibrate(np.random.default_rng(3), n_trial=30, n_realisation=30, n_verdict=10)
    assert "grid and NUTS" not in format_report(report)
    samplers = SamplerReport(200, (check, replace(check, distance=0.2)), 0.012, 3)
    text = format_report(replace(report, samplers=samplers))
    assert "| NUTS | width | 0.0500 | 0.1140 | 50.0 % | 81.0 % | 94.0 % |" in text
    assert "leave the 99 % band in 1 of 2 rows" in text
    assert "correlated by 0.012 at most; 3 transitions diverged" in text
    assert "in 41.0 to 59.0, 72.5 to 87.0, 90.5 to 98.5 per cent" in text
    assert len(COVERAGE) == 3


def test_samplers_need_nutpie(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "nutpie" else find(name, *rest)
    )
    with pytest.raises(MissingDependencyError, match="n_sampler: nutpie is not installed"):
        check_samplers(3, np.random.default_rng(0))
