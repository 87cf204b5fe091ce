"""A Fit: later stages dropped, copies that share nothing that changes, settings that drop what read them."""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.errors import InputError, StageError
from bayesprf.fit_record import HOW_TO, STANDS_ON, Fit
from bayesprf.results.recipes import _prf_recipe
from bayesprf.settings import PrfRecipe, Settings
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def field():
    return make_field(rng=np.random.default_rng(1), n_source=6, n_stamp=6, n_time=12, mag_range=(12.0, 14.0))


@pytest.fixture(scope="module")
def empty(field):
    return Fit.of(field.pixels, field.sources, Settings())


@pytest.fixture(scope="module")
def finished(field):
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model(fit_va=True, n_threads=1)
    machine.compute_aperture_photometry()
    machine.get_psf_metrics()
    return machine


def test_every_stage_is_a_field_and_says_how_to_run_it():
    assert set(STANDS_ON) == set(HOW_TO)
    assert set(STANDS_ON) <= {one.name for one in fields(Fit)}


@pytest.mark.parametrize("stage", STANDS_ON)
def test_new_record_drops_all_that_came_of_the_old_one(empty, stage):
    full = replace(empty, **{name: name for name in STANDS_ON})
    fit = full.with_stage(stage, "new")
    assert fit.need(stage) == "new"
    lost, front = set(), {stage}
    while front:
        front = {name for name, needed in STANDS_ON.items() if front & set(needed)} - lost
        lost |= front
    for name in set(STANDS_ON) - {stage}:
        assert (getattr(fit, name) is None) == (name in lost)
    assert all(getattr(full, name) == name for name in STANDS_ON)


@pytest.mark.parametrize("stage", STANDS_ON)
def test_missing_stage_names_its_method(empty, stage):
    with pytest.raises(StageError) as caught:
        empty.need(stage)
    assert str(caught.value) == f"no {stage.replace('_', ' ')} result yet: call {HOW_TO[stage]} first"


def test_latest_flux_is_what_was_fitted_last(empty):
    both = empty.with_stage("flux", "mean").with_stage("flux_va", "changing")
    assert both.latest_flux == "changing"
    assert both.with_stage("flux", "again").latest_flux == "again"
    assert both.without("time_model").latest_flux == "mean"


def test_settings_drop_the_stages_that_read_them(empty):
    full = replace(empty, **{name: name for name in STANDS_ON})
    slow = full.with_settings(time_nknots=5)
    assert (slow.prf, slow.time_model, slow.flux, slow.flux_va) == ("prf", None, "flux", None)
    fresh = full.with_settings(rmin=2.0)
    assert all(getattr(fresh, name) is None for name in STANDS_ON)
    assert fresh.pairs is full.pairs
    narrow = full.with_settings(sparse_dist_lim=12.0)
    assert narrow.pairs.r.max() <= 12.0 < full.pairs.r.max()
    assert full.with_settings(sources_flux_column="flux").prf == "prf"
    with pytest.raises(InputError, match=r"^settings: .* limit_radius, .*, got rmim; did you mean rmin\?$"):
        full.with_settings(rmim=2.0)


def test_recipe_names_the_option_that_is_unknown():
    recipe = PrfRecipe().updated(min_snr=2.0, upper_flux_limit=10.0)
    assert (recipe.shape.min_snr, recipe.mask.upper_flux_limit) == (2.0, 10.0)
    with pytest.raises(InputError, match=r"^kwargs: .*, got max_pair; did you mean max_pairs\?$"):
        recipe.updated(max_pair=3)
    with pytest.raises(InputError, match=r"^kwargs: .*, got n_round"):
        recipe.updated(n_round=3)


def test_a_recipe_of_a_version_with_rounds_is_read_as_a_default_one():
    """Its smoothness was that of rounds: the fit learns its own."""
    shape = {"n_round": 4, "method": "rounds", "smoothness": 0.2, "min_snr": 5.0}
    recipe = _prf_recipe(Settings(), {"mask": {}, "shape": shape, "frame_index": "mean"})
    assert recipe == PrfRecipe().updated(min_snr=5.0)


def test_copies_are_equal_and_independent(finished):
    twin = copy.copy(finished)
    assert twin.fit == finished.fit
    twin.fit_model(n_threads=1, prior_sigma=1.0)
    assert twin.fit != finished.fit
    assert finished.fit.flux_va is not None
    assert np.abs(twin.ws - finished.ws).max() > 0.0
    twin.rmin = 2.0
    assert (finished.rmin, finished.fit.settings.rmin) == (1.0, 1.0)


def test_pickle_gives_the_same_fit_back(finished):
    back = pickle.loads(pickle.dumps(finished))
    assert back.fit == finished.fit
    assert back.fit is not finished.fit
    np.testing.assert_array_equal(back.covariance([0, 1]), finished.covariance([0, 1]))
    moved = back.fit.with_stage("flux", replace(back.fit.flux, flux=back.fit.flux.flux + 1.0))
    assert moved != finished.fit


def test_a_fit_is_frozen(empty):
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'settings'"):
        empty.settings = Settings()
