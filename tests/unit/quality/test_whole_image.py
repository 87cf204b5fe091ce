"""What is said of all stars of an image: a catalogue that is of another place."""

from types import SimpleNamespace

import numpy as np
import pytest

from bayesprf.flags import QualityFlag
from bayesprf.quality.whole_image import name_strangers


def _left(flux, found=None):
    joint = SimpleNamespace(found=None if found is None else SimpleNamespace(flux=np.array(found)))
    return SimpleNamespace(flux=np.array(flux), caught=np.ones(len(flux)), prf=SimpleNamespace(joint=joint))


@pytest.mark.parametrize("beside", [None, [0.0]])
def test_a_catalogue_whose_stars_are_dark_is_of_another_place(beside):
    """Its own stars are flagged, those that the image showed are not."""
    added, seen = np.array([False, False, True]), np.array([True, False, True])
    (finding,) = name_strangers(_left([-5.0, 10.0, 1000.0], beside), added, seen)
    assert finding.flag == QualityFlag.POSITION_OFF
    np.testing.assert_array_equal(finding.sources, [True, False, False])
    assert "99 % of the starlight is of stars that the catalogue lacks" in finding.sentence


def test_a_catalogue_that_lacks_some_stars_is_not():
    """Stars found beside the fit count as well."""
    added, seen = np.array([False, False, True]), np.ones(3, bool)
    assert name_strangers(_left([500.0, 600.0, 1000.0]), added, seen) == []
    assert len(name_strangers(_left([500.0, 600.0, 1000.0], [200.0]), added, seen)) == 1
