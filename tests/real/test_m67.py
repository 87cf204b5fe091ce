"""The K2 image of the cluster M67 with its Gaia catalogue: magnitudes from PRF fluxes against Gaia's."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

import bayesprf as bp
from bayesprf.io.catalogs.catalog import read_catalog

pytestmark = pytest.mark.real

SKY_BLOCK = 40
# Isolated: no star brighter than G + 2.5 within 5 pixels, and 3 pixels from the edge.
CLEAR_RADIUS, CLEAR_MAG, EDGE = 5.0, 2.5, 3.0


@pytest.fixture(scope="module")
def catalog(real_data):
    return pd.read_csv(real_data / "k2-superstamp" / "m67-c05-cols000-199_gaiadr2.csv")


@pytest.fixture(scope="module")
def pixels(real_data):
    """The image as one cadence: sky from clipped medians of blocks taken off, photon and read noise as errors."""
    return bp.read_image(real_data / "k2-superstamp" / "m67-c05-cols000-199.fits.gz", sky_block=SKY_BLOCK)


def fit(pixels, catalog, **settings):
    """Return a Machine with shape and fluxes."""
    machine = bp.Machine.from_pixels(pixels, read_catalog(catalog), quiet=True, **settings)
    machine.build_shape_model()
    machine.fit_model()
    return machine


@pytest.fixture(scope="module")
def machine(pixels, catalog):
    return fit(pixels, catalog)


@pytest.fixture(scope="module")
def chosen(catalog):
    """Isolated stars with 12.5 < G < 15."""
    place, mag = catalog[["x_pix", "y_pix"]].to_numpy(), catalog["phot_g_mean_mag"].to_numpy()
    near = cKDTree(place).query_ball_point(place, CLEAR_RADIUS)
    alone = np.array([np.sum(mag[others] < mag[i] + CLEAR_MAG) == 1 for i, others in enumerate(near)])
    inside = np.all((place > EDGE) & (place < np.array([199.0, 399.0]) - EDGE), axis=1)
    return alone & inside & (mag > 12.5) & (mag < 15.0)


def zero_points(machine, catalog):
    """Return Gaia's G minus the instrumental magnitude of each star."""
    with np.errstate(invalid="ignore"):
        return catalog["phot_g_mean_mag"].to_numpy() + 2.5 * np.log10(machine.ws[0])


def robust_scatter(values):
    """Return 1.48 times the median absolute deviation."""
    return float(1.48 * np.median(np.abs(values - np.median(values))))


def test_magnitudes_of_isolated_stars_follow_gaia(machine, catalog, chosen, record_property):
    """Aperture photometry by hand reaches 0.012."""
    points = zero_points(machine, catalog)[chosen]
    record_property("isolated stars with 12.5 < G < 15", f"{chosen.sum()}")
    record_property("G minus PRF magnitude, robust scatter", f"{robust_scatter(points):.4f}")
    record_property("G minus PRF magnitude, median", f"{np.median(points):.3f}")
    assert chosen.sum() > 100
    assert robust_scatter(points) < 0.03


def test_light_of_unlisted_stars_is_no_error_of_the_model(real_data, catalog):
    """With 20 or 30 knots around a ring it passed for one of 9 %, and bright stars were 1 to 4 % too bright."""
    columns, rows = (60, 105), (150, 195)
    part = bp.read_image(
        real_data / "k2-superstamp" / "m67-c05-cols000-199.fits.gz", sky_block=SKY_BLOCK, columns=columns, rows=rows
    )
    inside = catalog["x_pix"].between(58, 107) & catalog["y_pix"].between(148, 197)
    listed = catalog[inside].reset_index(drop=True)
    bright = np.argsort(listed["phot_g_mean_mag"].to_numpy())[:4]
    flux = {n: fit(part, listed, n_phi_knots=n).ws[0, bright] for n in (15, 20, 30)}
    for n in (20, 30):
        assert flux[n] / flux[15] == pytest.approx(np.ones(4), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("cut_r", [6.0, 2.0])
def test_other_radii_of_the_round_core(pixels, catalog, chosen, cut_r, record_property):
    """6 arcsec, the documented one, make the core round; 2 leave it free."""
    scatter = robust_scatter(zero_points(fit(pixels, catalog, cut_r=cut_r), catalog)[chosen])
    record_property(f"G minus PRF magnitude, robust scatter, cut_r = {cut_r} arcsec", f"{scatter:.4f}")
    assert scatter < 0.03


@pytest.mark.slow
def test_the_joint_fit_leaves_less_than_any_aperture_of_a_straight_colour_term(
    pixels, catalog, chosen, record_property
):
    """Apertures of 1.5 to 4 pixels scatter by 0.0077 mag at best about it, the fit in rounds by 0.0108."""
    machine = bp.Machine.from_pixels(pixels, read_catalog(catalog), quiet=True)
    machine.build_shape_model(method="joint", field_variation=0)
    machine.fit_model()
    points, color = zero_points(machine, catalog)[chosen], catalog["bp_rp"].to_numpy()[chosen]
    good = np.isfinite(color)
    for _ in range(5):
        left = points - np.polyval(np.polyfit(color[good], points[good], 1), color)
        good = np.isfinite(color) & (np.abs(left) < 3.0 * robust_scatter(left[good]))
    record_property("joint fit: G minus PRF magnitude, robust scatter", f"{robust_scatter(points):.4f}")
    record_property("joint fit: scatter about a straight colour term", f"{robust_scatter(left[good]):.4f}")
    assert robust_scatter(points) < 0.015
    assert robust_scatter(left[good]) < 0.0077


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayesprf.errors.ConvergenceWarning")
# The pixels of one star hold the light of a brighter one that is missing.
@pytest.mark.filterwarnings("ignore:catalogue. expected fluxes on one scale:bayesprf.errors.DataWarning")
def test_half_of_the_catalogue_may_be_missing(pixels, catalog, machine, chosen, record_property):
    """No star moves by more than five errors of the catalogue (0.06 pixel); it was 2 pixels, and chi-square 8 to 14."""
    keep = np.random.default_rng(3).random(len(catalog)) < 0.5
    half = bp.Machine.from_pixels(pixels, read_catalog(catalog[keep].reset_index(drop=True)), quiet=True)
    half.refine_scene()
    half.fit_model()
    positions, side = half.fit.need("prf").positions, np.sqrt(half.fit.need("prf").prf.pixel_area)
    farthest = float(np.hypot(*positions.shift.T).max() / side)
    scatter = robust_scatter(zero_points(half, catalog[keep])[chosen[keep]])
    whole = robust_scatter(zero_points(machine, catalog)[chosen])
    record_property("farthest star, pixel", f"{farthest:.3f}")
    record_property("robust scatter, half and whole catalogue", f"{scatter:.4f}, {whole:.4f}")
    assert farthest < 5.0 * 0.06
    assert scatter < 1.3 * whole


def test_all_light_is_counted(machine, catalog, chosen, record_property):
    """The zero point of a 2-pixel aperture is 25.16; such an aperture holds 85 to 97 % of a star's light."""
    point = np.median(zero_points(machine, catalog)[chosen])
    share = 10.0 ** (0.4 * (25.16 - point))
    record_property("2-pixel aperture / PRF flux", f"{share:.3f}")
    assert 0.85 < share < 0.97


def test_faint_and_bright_stars_share_a_zero_point(machine, catalog, chosen, record_property):
    points, mag = zero_points(machine, catalog), catalog["phot_g_mean_mag"].to_numpy()
    step = np.median(points[chosen & (mag > 13.75)]) - np.median(points[chosen & (mag < 13.75)])
    record_property("zero point, fainter minus brighter than G 13.75", f"{step:.4f}")
    assert abs(step) < 0.03


def test_residual_image_is_small_beside_the_light(machine, record_property):
    model = machine.model_flux[0]
    residual = machine.pixels.flux[0] - model
    lit = (model > 100.0) & ~machine.pixels.saturated
    relative = robust_scatter(residual[lit] / model[lit])
    record_property("robust scatter of data / model - 1 where the model exceeds 100 e-/s", f"{relative:.3f}")
    assert relative < 0.15
