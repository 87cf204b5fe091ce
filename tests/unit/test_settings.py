"""Options of the fits."""

import pytest

from bayesprf.errors import InputError
from bayesprf.settings import MaskOptions, ShapeOptions


@pytest.mark.parametrize("name", ["flux_cut_off", "smoothness", "clip_sigma", "max_neighbor_share", "min_snr"])
def test_bad_option_of_the_fit_is_refused(name):
    with pytest.raises(InputError, match=rf"^{name}: expected a finite number above 0, got -1"):
        ShapeOptions(**{name: -1})


@pytest.mark.parametrize("name", ["upper_radius_limit", "lower_flux_limit", "limit_radius"])
def test_bad_option_of_the_mask_is_refused(name):
    with pytest.raises(InputError, match=rf"^{name}: expected a finite number above 0, got 0"):
        MaskOptions(**{name: 0})
