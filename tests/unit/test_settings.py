"""Options of the fits."""

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.instruments import KEPLER, TESS
from bayesprf.settings import (
    MaskOptions,
    PerturbationOptions,
    PrfRecipe,
    Settings,
    ShapeOptions,
    limits_training,
)


@pytest.mark.parametrize("name", ["flux_cut_off", "smoothness", "max_neighbor_share", "min_snr"])
def test_bad_option_of_the_fit_is_refused(name):
    with pytest.raises(InputError, match=rf"^{name}: expected a finite number above 0, got -1"):
        ShapeOptions(**{name: -1})


@pytest.mark.parametrize("name", ["upper_radius_limit", "lower_flux_limit", "limit_radius"])
def test_bad_option_of_the_mask_is_refused(name):
    with pytest.raises(InputError, match=rf"^{name}: expected a finite number above 0, got 0"):
        MaskOptions(**{name: 0})


@pytest.mark.parametrize("options", [{"shift_limit": -1.0}, {"shift_limit": np.nan}, {"shift_order": -1}])
def test_limits_of_a_shift_are_checked(options):
    with pytest.raises(InputError, match="shift_limit, shift_order: expected 0 or more"):
        PerturbationOptions(**options)


@pytest.mark.parametrize("name", ["field_order", "n_round", "resolution", "pca_ncomponents"])
def test_bad_option_of_the_time_model_is_refused(name):
    value = -1 if name in ("field_order", "pca_ncomponents") else 0
    with pytest.raises(InputError, match=f"{name}.*expected"):
        PerturbationOptions(**{name: value})


def test_smoothness_is_that_of_a_prior_where_there_is_one():
    with pytest.raises(InputError, match=r"smoothness: expected None beside prf, .*, got 0.1; leave one of them out"):
        ShapeOptions(smoothness=0.1, prf="instrument")


def test_only_changed_limits_limit_the_training():
    for scale in (KEPLER, TESS):
        for settings in (Settings(), Settings.for_instrument(scale)):
            plain = PrfRecipe.from_settings(settings)
            assert not limits_training(plain.mask, plain.shape, scale)
            for limit in ({"limit_radius": 30.0}, {"upper_flux_limit": 1e5}, {"min_snr": 3.0}, {"max_pairs": 9}):
                recipe = plain.updated(**limit)
                assert limits_training(recipe.mask, recipe.shape, scale)
            held = plain.updated(correct_centroid_offset=False)
            assert not limits_training(held.mask, held.shape, scale)
