"""Motion, correlated noise and errors that are too small or too large, from cadence to cadence."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.flags import QualityFlag
from bayesprf.quality.series import measure_motion, measure_noise, take_series
from bayesprf.quality.stage import measure_fit
from bayesprf.settings import QualityOptions


def true_scatter(cases, fault):
    """Return the scatter of each light curve about the truth, in units of its error."""
    field, machine = cases.fitted(fault)
    truth = field.flux[:, : machine.nsources]
    ratio = machine.ws / truth
    return ((ratio - ratio.mean(axis=0)) * truth / machine.werrs).std(axis=0)


def test_motion_foretells_the_scatter(cases):
    """What the motion adds to the light curves explains the scatter of those that it adds most to."""
    series = cases.series("roll")
    found = measure_motion(series)
    truth = cases.fitted("roll")[0].pixels.pos_corr
    assert found.rms == pytest.approx(np.sqrt(truth.var(axis=0).sum()), rel=0.1)
    assert found.significance > 30.0
    seen = series.left.caught > 0.7
    foretold = np.sqrt(1.0 + (found.scatter / series.noise) ** 2)[seen]
    scatter = true_scatter(cases, "roll")[seen]
    assert scatter.max() > 3.0
    worst = foretold > 1.5
    assert worst.sum() > 4
    assert np.median(foretold[worst] / scatter[worst]) == pytest.approx(1.0, abs=0.15)


def test_still_images(cases):
    found = measure_motion(cases.series())
    assert found.rms < 1e-3
    assert np.max(found.scatter / cases.series().noise) < 0.3


def test_bands_foretell_the_scatter(cases):
    """Sky of 1 electron / s that differs by cutout and cadence."""
    series = cases.series("bands")
    found = measure_noise(series, 5.0)
    assert found.level == pytest.approx(1.0, rel=0.2)
    seen = series.left.caught > 0.7
    foretold = np.sqrt(1.0 + (found.scatter / series.noise) ** 2)[seen]
    assert np.median(foretold / true_scatter(cases, "bands")[seen]) == pytest.approx(1.0, abs=0.15)


def test_white_noise(cases):
    found = measure_noise(cases.series(), 5.0)
    assert np.max(found.scatter) == 0.0
    assert found.scale == pytest.approx(1.0, abs=0.05)


def test_errors_too_small(cases):
    found = measure_noise(cases.series("errors"), 5.0)
    assert found.scale == pytest.approx(2.0, abs=0.1)
    assert np.median(found.scale_per_source) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(
    ("fault", "flag", "cure"),
    [
        ("drift", QualityFlag.MOTION_LEFT, "build_time_model()"),
        ("bands", QualityFlag.CORRELATED_NOISE, "background='stamp'"),
        ("errors", QualityFlag.ERRORS_TOO_SMALL, "learn_widths()"),
        ("large", QualityFlag.ERRORS_TOO_LARGE, "check the unit of the errors"),
    ],
)
def test_finding_names_the_cure(cases, fault, flag, cure):
    finding = cases.verdict(fault).find(flag)
    assert finding.sources.sum() > 3
    assert cure in finding.cure
    assert cases.verdict().find(flag) is None


def test_few_cadences_tell_nothing(cases):
    fit = cases.fitted()[1].fit.latest_flux
    short = type(fit)(fit.flux[:7], fit.flux_err[:7], fit.flags[:7], fit.problem.take(np.arange(7)), fit.posterior)
    assert take_series(cases.residuals(), short) is None


def test_the_mean_image_tells_errors_that_are_too_large_where_cadences_are_few(cases):
    """Of 60 cadences, 1.6 times its errors here: those of the model are as large, and grow with those of the pixels."""
    sound, large = (
        replace(measure_fit(cases.fitted(fault)[1].fit, QualityOptions()), noise=None).noise_scale
        for fault in ("none", "large")
    )
    assert 1.0 < sound < 2.0
    assert 0.1 * sound < large < 0.2 * sound
