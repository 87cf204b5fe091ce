"""Stars that the data cannot tell apart."""

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.flags import QualityFlag
from bayesprf.scene.sources import SourceTable


@pytest.mark.filterwarnings("ignore:.*lie within 0.01 arcsec:bayesprf.errors.DataWarning")
@pytest.mark.parametrize("separation_pix", [1e-6, 1e-4, 1e-2])
def test_star_listed_twice_is_degenerate(cases, separation_pix):
    field, _ = cases.fitted()
    sources = field.sources
    star = int(np.argmax(field.mean_flux))
    dec = np.append(sources.dec_deg, sources.dec_deg[star] + separation_pix * 3.98 / 3600.0)
    ra, flux = (np.append(one, one[star]) for one in (sources.ra_deg, sources.flux))
    machine = Machine.from_pixels(field.pixels, SourceTable((*sources.source_id, "twin"), ra, dec, flux), quiet=True)
    machine.build_shape_model()
    machine.fit_model(n_threads=1)
    degenerate = (machine.flags[0] & QualityFlag.DEGENERATE_BLEND) != 0
    np.testing.assert_array_equal(np.flatnonzero(degenerate), sorted([star, sources.n_source]))


def test_separate_stars_are_not(cases):
    assert cases.verdict().find(QualityFlag.DEGENERATE_BLEND) is None
    assert np.nanmedian(cases.verdict().sources["split_error"]) < 0.02
