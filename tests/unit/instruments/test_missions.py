"""Numbers of the missions."""

import pytest

from bayesprf.errors import InputError
from bayesprf.instruments import GENERIC, INSTRUMENTS, K2, KEPLER, TESS, Instrument


def test_kepler_flux_scale():
    assert KEPLER.flux_from_mag(12.0) == pytest.approx(1.74e5)
    assert K2.flux_from_mag(14.5) == pytest.approx(1.74e4)


def test_tess_flux_scale_is_the_handbook_zero_point():
    # A zero point of 20.44 mag (Instrument Handbook) is 1 electron / s to 1 %.
    assert TESS.flux_from_mag(20.44) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("one", [KEPLER, K2, TESS], ids=lambda one: one.name)
def test_every_default_bit_is_documented(one):
    known = 0
    for bit in one.quality_names:
        assert bit.bit_count() == 1
        known |= bit
    assert one.quality_bitmask & ~known == 0


def test_rolling_band_and_possible_firing_are_kept_and_definite_firing_is_not():
    assert K2.quality_bitmask & (131072 | 262144 | 524288) == 0
    assert K2.quality_bitmask & 1048576
    assert K2.quality_names[1048576] == "thruster firing"


def test_quality_values_are_explained_bit_by_bit():
    assert KEPLER.describe_quality(32 | 131072) == [
        "32 (reaction wheel desaturation)",
        "131072 (rolling band in the optimal aperture)",
    ]
    assert GENERIC.describe_quality(4) == ["4 (not documented)"]
    assert TESS.describe_quality(0) == []


def test_records_are_found_by_name_and_can_be_keys():
    assert INSTRUMENTS["K2"] is K2
    assert {KEPLER: 1}[KEPLER] == 1


@pytest.mark.parametrize("field", ["pixel_scale", "saturation"])
def test_numbers_that_must_be_positive(field):
    values = {"name": "x", "pixel_scale": 1.0, "saturation": 1.0} | {field: 0.0}
    with pytest.raises(InputError, match=f"{field}: expected a finite number above 0, got 0.0"):
        Instrument(**values)
