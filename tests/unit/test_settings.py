"""Options of the fits."""

import numpy as np
import pytest

from bayesprf.errors import InputError
from bayesprf.settings import MaskOptions, PerturbationOptions, ShapeOptions


@pytest.mark.parametrize("name", ["flux_cut_off", "smoothness", "clip_sigma", "max_neighbor_share", "min_snr"])
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
