"""Light that no source explains."""

import numpy as np

from bayesprf.flags import QualityFlag
from bayesprf.quality.light import find_peaks


def test_missing_star_is_found(cases):
    """The most significant peak lies within a pixel of the star that the catalogue lacks, and has its flux to 40 %."""
    field, _ = cases.fitted("missing")
    left = cases.residuals("missing")
    found = find_peaks(left)
    best = int(np.argmax(found.gain))
    pixels = field.pixels
    away = np.hypot(pixels.column[found.pixel[best]] - field.column[-1], pixels.row[found.pixel[best]] - field.row[-1])
    assert away < 1.2
    assert abs(found.flux[best] / field.mean_flux[-1] - 1.0) < 0.4
    assert int(np.argmax(np.abs(found.shift[:, best]))) == 0


def test_only_its_host_is_flagged(cases):
    finding = cases.verdict("missing").find(QualityFlag.UNCATALOGUED_LIGHT)
    np.testing.assert_array_equal(np.flatnonzero(finding.sources), [0])
    assert "add the missing stars" in finding.cure


def test_complete_catalogue_has_no_peak(cases):
    assert cases.verdict().find(QualityFlag.UNCATALOGUED_LIGHT) is None
