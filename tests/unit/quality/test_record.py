"""Verdicts in words."""

import numpy as np
import pytest

from bayesprf.flags import QualityFlag
from bayesprf.quality.record import Finding, Verdict

SKY = Finding(QualityFlag.SKY_LEFT, np.array([True, True, False]), 3.0, "sky of 5 < 6", "background='stamp'")
DRIFT = Finding(QualityFlag.MOTION_LEFT, np.array([False, True, False]), 9.0, "the image moves", "follow it")


@pytest.fixture
def verdict():
    return Verdict((DRIFT, SKY), {"sky_left": 5.0}, {"mismatch": np.zeros(3)})


def test_flags_add_up(verdict):
    both = QualityFlag.SKY_LEFT | QualityFlag.MOTION_LEFT
    np.testing.assert_array_equal(verdict.flags, [QualityFlag.SKY_LEFT, both, 0])
    assert not verdict.is_sound


def test_words(verdict):
    lines = str(verdict).splitlines()
    assert lines == [
        "MOTION_LEFT (1 of 3 sources): the image moves: follow it",
        "SKY_LEFT (2 of 3 sources): sky of 5 < 6: background='stamp'",
    ]
    assert "sky of 5 &lt; 6" in verdict._repr_html_()


def test_find(verdict):
    assert verdict.find(QualityFlag.SKY_LEFT) is SKY
    assert verdict.find(QualityFlag.POOR_PRF) is None


def test_sound():
    sound = Verdict((), {}, {"mismatch": np.zeros(3)})
    assert sound.is_sound
    assert str(sound) == "The fit is sound."
    assert sound.flags.tolist() == [0, 0, 0]
