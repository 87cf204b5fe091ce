"""Stars close to listed ones that the catalogue lacks."""

from dataclasses import replace

import numpy as np

from bayesprf.flags import QualityFlag
from bayesprf.quality.companions import name_outshone, outshone
from bayesprf.scene.sky import ARCSEC_PER_DEG


def test_a_star_close_to_a_brighter_one_that_the_catalogue_lacks_is_named(cases):
    """The light of a star whose position is of another epoch is told as another's, a pixel off."""
    left, sources = cases.residuals(), cases.fitted()[1].sources
    added = np.zeros(sources.n_source, bool)
    faint = int(np.argmin(np.where(left.flux > 0, left.flux, np.inf)))
    bright = int(np.argmax(left.flux))
    added[bright] = True
    assert not outshone(left, sources, added).any()
    dec = sources.dec_deg.copy()
    for away, expected in ((1.0, left.flux[bright]), (3.0, 0.0)):
        dec[bright], ra = dec[faint] + away * 3.98 / ARCSEC_PER_DEG, sources.ra_deg.copy()
        ra[bright] = ra[faint]
        found = outshone(left, replace(sources, ra_deg=ra, dec_deg=dec), added)
        assert found[faint] == expected
        assert not found[bright]


def test_a_star_that_is_outshone_is_flagged(cases):
    """The finding names the sources, and how far beyond their errors the light is that may be theirs."""
    left = cases.residuals()
    brightest = np.zeros(left.flux.size)
    assert name_outshone(brightest, left) == []
    brightest[3] = 5.0 * left.error[3]
    (finding,) = name_outshone(brightest, left)
    assert finding.flag == QualityFlag.POSITION_OFF
    assert np.flatnonzero(finding.sources).tolist() == [3]
    assert finding.effect == 5.0
