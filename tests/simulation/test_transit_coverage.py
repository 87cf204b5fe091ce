"""Depths of transits on faint stars beside bright ones cover the truth: whole jobs from pixels, everything wrong."""

from functools import cache

import numpy as np
import pytest

from bayesprf.simulation.fields import redraw_noise
from bayesprf.validation.transit_depth import N_PAIR, DepthScores, make_blends, score_depths

pytestmark = pytest.mark.filterwarnings("ignore::bayesprf.errors.ConvergenceWarning")

DRIFT = pytest.mark.parametrize("drifting", [False, True], ids=["static", "drift"])
WANTED = ((0.60, 0.76), (0.90, 0.98))
N_REALISATION, N_FEW, N_SCENE = 100, 2, 10


def gather(found):
    return {kind: DepthScores.gather(one[kind] for one in found) for kind in found[0]}


@cache
def new_fields(n_field, *, drifting, refined):
    """Return the scores of fields that differ in stars, catalogue and noise."""
    return gather([score_depths(make_blends(seed, drifting=drifting), refined=refined) for seed in range(n_field)])


@cache
def new_noise(n_field, *, drifting):
    """Return the scores of ten fields under different noise.

    One field alone would not do: what its PRF and places are wrong by is the same under any noise.
    """
    scenes = [make_blends(1000 + one, drifting=drifting) for one in range(N_SCENE)]
    return gather(
        [score_depths(redraw_noise(scenes[one % N_SCENE], np.random.default_rng(one))) for one in range(n_field)]
    )


def rms_score(found):
    return np.sqrt(np.mean((found.error / found.claimed) ** 2))


def test_a_few_fields():
    """Errors of the brighter star's PRF and place are most of the depth's error where the catalogue is trusted."""
    found = new_fields(N_FEW, drifting=False, refined=False)
    total, noise = found["total"], found["noise"]
    assert total.error.size == N_FEW * N_PAIR
    assert rms_score(total) == pytest.approx(1.0, abs=3.0 / np.sqrt(2.0 * total.error.size))
    assert rms_score(found["true PRF"]) == pytest.approx(1.0, abs=3.0 / np.sqrt(2.0 * total.error.size))
    assert rms_score(noise) > 2.0
    assert np.median(total.claimed) > 2.0 * np.median(noise.claimed)


def test_refined_positions_give_sharper_depths():
    refined, trusted = (new_fields(N_FEW, drifting=False, refined=one)["total"] for one in (True, False))
    assert np.median(refined.claimed) < 0.6 * np.median(trusted.claimed)
    assert np.std(refined.error) < 0.7 * np.std(trusted.error)
    assert rms_score(refined) == pytest.approx(1.0, abs=3.0 / np.sqrt(2.0 * refined.error.size))


def held(found, record_property):
    total, noise = found["total"], found["noise"]
    record_property("coverage of 68 % and 95 %", f"{total.coverage[0]:.3f}, {total.coverage[1]:.3f}")
    record_property("coverage of 68 % by noise alone", f"{noise.coverage[0]:.3f}")
    record_property("median bias of the depth", f"{np.median(total.error):.4f}")
    for share, (low, high) in zip(total.coverage, WANTED, strict=True):
        assert low <= share <= high
    assert abs(np.median(total.error)) < 0.25 * np.median(total.claimed)


@pytest.mark.slow
@DRIFT
def test_depths_cover_the_truth_over_fields(drifting, record_property):
    held(new_fields(N_REALISATION, drifting=drifting, refined=True), record_property)


@pytest.mark.slow
@DRIFT
def test_depths_cover_the_truth_over_noise(drifting, record_property):
    held(new_noise(N_REALISATION, drifting=drifting), record_property)


@pytest.mark.slow
def test_depths_cover_the_truth_where_the_catalogue_is_trusted(record_property):
    held(new_fields(N_REALISATION, drifting=False, refined=False), record_property)
