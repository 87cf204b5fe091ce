"""The verdict of a Machine, in its flags and its tree."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.errors import InputError
from bayesprf.flags import QualityFlag
from bayesprf.results.schema import SCHEMA


def test_sound_field_is_sound(cases):
    assert str(cases.verdict()) == "The fit is sound."


def test_flags_hold_the_verdict(cases):
    _, machine = cases.fitted("sky")
    assert np.any(machine.flags & QualityFlag.SKY_LEFT)
    np.testing.assert_array_equal((machine.flags & QualityFlag.SKY_LEFT)[0] > 0, machine.verdict.flags & 256 > 0)


def test_verdict_is_kept_until_fluxes_change(cases):
    _, machine = cases.fitted("bands")
    first = machine.verdict
    assert machine.verdict is first
    machine.fit_model(n_threads=1)
    assert machine.verdict is not first


def test_options_change_what_counts(cases):
    _, machine = cases.fitted("sky")
    assert machine.quality(n_error=1e6, n_error_misfit=1e6).find(QualityFlag.SKY_LEFT) is None
    assert machine.quality().find(QualityFlag.SKY_LEFT) is not None
    with pytest.raises(InputError, match=r"^options: expected some of significance, .*, got sigma"):
        machine.quality(sigma=3.0)
    with pytest.raises(InputError, match=r"^error_ratio: expected a number above 1, got 1.0"):
        machine.quality(error_ratio=1.0)


def test_tree_holds_it(cases):
    _, machine = cases.fitted("sky")
    tree = machine.to_datatree()
    quality = tree["quality"]
    assert set(quality.data_vars) | {"finding", "cure"} == {one.name for one in SCHEMA["quality"]}
    assert "SKY_LEFT" in quality["finding"].values.tolist()
    np.testing.assert_array_equal(tree["photometry/flags"].values, machine.flags)
    np.testing.assert_array_equal(quality["quality_flags"].values, machine.verdict.flags)
    assert np.all(tree["catalog/source_flags"].values & quality["quality_flags"].values == quality["quality_flags"])
    assert float(quality["sky_left"]) == pytest.approx(20.0, rel=0.2)


@pytest.mark.filterwarnings("ignore:the PRF is fitted without")
def test_mean_fluxes_that_cosmic_rays_move_are_flagged(cases):
    """One pixel of a star is hit at three of 60 cadences; its robust fluxes are not moved, nor are other stars'."""
    field, _ = cases.fitted()
    star = int(np.argmax(field.mean_flux))
    flux = field.pixels.flux.copy()
    at = np.hypot(field.pixels.column - field.column[star], field.pixels.row - field.row[star])
    flux[[7, 21, 44], int(np.argmin(at))] += 5.0 * field.mean_flux[star]
    machine = Machine.from_pixels(replace(field.pixels, flux=flux), field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    (finding,) = (one for one in machine.verdict.findings if "cosmic rays" in one.sentence)
    assert finding.flag == QualityFlag.ERRORS_TOO_SMALL
    assert np.flatnonzero(finding.sources).tolist() == [star]
    assert "robust=True" in finding.cure
    machine.fit_model(robust=True)
    assert not any("cosmic rays" in one.sentence for one in machine.verdict.findings)
