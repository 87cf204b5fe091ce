"""Files that people really bring: the right number, or a flag and a sentence."""

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.errors import BayesprfWarning, QualityWarning
from bayesprf.flags import QualityFlag


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
def test_poor_prf_of_a_tess_stamp_is_flagged_and_mended(real_data):
    """TIC 25155310, 9259 electron / s by the mission: far off at first, and flagged; right to 5 % once refined."""
    pixels = bp.read_tpfs(real_data / "tess-tpf" / "tess25155310-s01-first-cadences.fits.gz")
    catalog = bp.read_catalog(real_data / "field-cases" / "tic25155310_tic_v17.csv")
    machine = bp.Machine.from_pixels(pixels, catalog, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    flux = machine.ws[:, 0].mean()
    assert abs(flux / 9259.0 - 1.0) < 0.05 or machine.verdict.flags[0] & QualityFlag.POOR_PRF
    machine.refine_scene()
    machine.fit_model()
    assert machine.ws[:, 0].mean() == pytest.approx(9259.0, rel=0.05)
    assert machine.verdict.find(QualityFlag.POOR_PRF) is None


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
def test_sky_of_a_tesscut_is_named_and_measured(real_data):
    """150 electron / s of sky: the level is in the sentence, and the star's flux is flagged."""
    pixels = bp.read_tpfs(real_data / "field-cases" / "astrocut-sky150-15x15.fits.gz")
    catalog = bp.read_catalog(real_data / "field-cases" / "astrocut-sky150-15x15_catalog.csv")
    machine = bp.Machine.from_pixels(pixels, catalog, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    finding = machine.verdict.find(QualityFlag.SKY_LEFT)
    # The wings take a quarter of the sky or more: the level is that of a fit with one.
    assert finding.sources[0]
    assert "BACKAPP = 0, the darkest hold 150 electron / s" in finding.sentence
    assert machine.verdict.field["sky_left"] == pytest.approx(150.0, abs=10.0)


@pytest.mark.filterwarnings("ignore::bayesprf.errors.DataWarning")
def test_sky_of_a_tesscut_is_fitted_by_default(real_data):
    """9000 electron / s to 5 %; 14,903 with the sky left in."""
    with pytest.warns(QualityWarning, match=r"the sky is still in these pixels \(BACKAPP = 0\).*background='stamp'"):
        machine = bp.fit(
            real_data / "field-cases" / "astrocut-sky150-15x15.fits.gz",
            real_data / "field-cases" / "astrocut-sky150-15x15_catalog.csv",
            quiet=True,
        )
    assert np.mean(machine.ws[:, 0]) == pytest.approx(9000.0, rel=0.05)
    assert machine.verdict.find(QualityFlag.SKY_LEFT) is None


@pytest.mark.parametrize("catalog", ["targets", "detect"])
@pytest.mark.filterwarnings("ignore::bayesprf.errors.DataWarning")
def test_a_target_among_stars_that_its_catalogue_lacks(real_data, catalog):
    """TIC 273589987, 11,045 electron / s by the mission: 20,201 +- 2,675 with the light of two neighbours as its own.

    The stamp shows the neighbours, one of two thirds of the target's light 3.3 pixels away, one beyond the edge, where
    its flux is known to a fifth; both join the fit. What is detected has the latter a pixel off and of a
    tenth of its light. The pixels do not ask for a third star (twice the log odds are 7.6; ten are asked for), and the
    PRF is said to be poor: 11,851 +- 868. One was found, and the target at 12,042 +- 705, as long as the fit took the
    mode of faint light: after two stars of odds 14.7 and 21.6 that were none and were left out again.
    """
    told = "gave them fluxes of their own" if catalog == "targets" else "the PRF puts"
    with pytest.warns(QualityWarning, match=told):
        machine = bp.fit(real_data / "tess-tpf" / "tess-tic273589987-s15-100cad.fits.gz", catalog, quiet=True)
    assert machine.nsources == 3
    assert abs(machine.ws[:, 0].mean() - 11045.0) < 3.0 * machine.common_errors.std[0]
    assert machine.common_errors.std[0] < 0.25 * machine.ws[:, 0].mean()
    assert [one.kept for one in machine.verdict.cures if one.name == "stars"] == [True] * (catalog == "targets")
    assert (machine.verdict.find(QualityFlag.POOR_PRF) is None) == (catalog == "targets")


def test_quality_warnings_are_warnings_of_the_package():
    assert issubclass(QualityWarning, BayesprfWarning)
