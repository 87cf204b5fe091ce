"""The forward model: its PRF, its sky, its noise and its truth agree with independent formulas."""

import numpy as np
import pytest
from scipy import integrate, stats

from bayesprf.errors import InputError, ShapeError
from bayesprf.scene.pairs import build_pairs
from bayesprf.simulation.fields import make_case, make_field
from bayesprf.simulation.layout import place_stars
from bayesprf.simulation.settings import CASES, FieldSettings, Transit
from bayesprf.simulation.sky import TangentPlane
from bayesprf.simulation.true_prf import Moffat, MoffatMixture, asymmetric_prf


def _rng(seed=7):
    return np.random.default_rng(seed)


# ---------------------------------------------------------------- PRF


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.31, -0.47), (0.5, 0.5)])
def test_prf_sums_to_one_over_an_infinite_grid(place):
    prf = asymmetric_prf()
    half = 60
    column, row = (
        one.ravel() - at for one, at in zip(np.mgrid[-half : half + 1, -half : half + 1], place, strict=True)
    )
    inside = prf.evaluate(column, row).sum()
    # Beyond the grid every profile is close to w (beta - 1) / (pi a b) (u^2/a^2 + v^2/b^2)^-beta: integrate it.
    outside = 0.0
    for part in prf.parts:
        angle = np.linspace(0, 2 * np.pi, 4001)
        edge = (half + 0.5) / np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
        turned = angle - part.angle
        q = (np.cos(turned) / part.major) ** 2 + (np.sin(turned) / part.minor) ** 2
        density = part.weight * (part.beta - 1) / (np.pi * part.major * part.minor) * q**-part.beta
        radial = edge ** (2 - 2 * part.beta) / (2 * part.beta - 2)
        outside += integrate.trapezoid(density * radial, angle)
    assert outside > 1e-4
    assert inside + outside == pytest.approx(1.0, abs=2e-5)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.7, -0.4), (2.9, 1.0), (5.9, 0.3), (0.5, 19.9), (-20.2, 3.0)])
def test_pixel_values_are_integrals_over_the_pixel(offset):
    prf = asymmetric_prf()
    exact, _ = integrate.dblquad(
        lambda y, x: float(prf.intensity(np.float64(x), np.float64(y))),
        offset[0] - 0.5, offset[0] + 0.5, offset[1] - 0.5, offset[1] + 0.5, epsabs=0, epsrel=1e-9,
    )  # fmt: skip
    value = prf.evaluate(np.array([offset[0]]), np.array([offset[1]]))[0]
    assert value == pytest.approx(exact, rel=3e-6)


def test_one_moffat_matches_its_curve_of_growth():
    part = Moffat(1.0, 1.3, 1.3, 2.5)
    flux, _ = integrate.quad(lambda r: 2 * np.pi * r * float(part.intensity(np.float64(r), np.float64(0.0))), 0, 4.0)
    assert flux == pytest.approx(1 - (1 + (4.0 / 1.3) ** 2) ** -1.5, rel=1e-9)


def test_anchor_says_what_lies_at_zero_offset():
    peak, centred = asymmetric_prf(), asymmetric_prf(anchor="centroid")
    assert np.hypot(*centred.centroid) < 1e-12
    assert np.hypot(*peak.centroid) > 0.03
    column, row = np.mgrid[-1:1:401j, -1:1:401j]
    brightest = np.unravel_index(np.argmax(peak.intensity(column, row)), column.shape)
    assert np.hypot(column[brightest], row[brightest]) < 0.005


def test_prf_is_asymmetric_and_has_wings():
    prf = asymmetric_prf()
    above, below = prf.evaluate(np.array([0.0, 0.0]), np.array([2.0, -2.0]))
    assert above / below > 1.2
    gaussian = stats.norm.pdf(8.0, scale=1.5 / 2.355)
    assert prf.evaluate(np.array([8.0]), np.array([0.0]))[0] > 1e6 * gaussian


def test_reach_bounds_the_light():
    prf = asymmetric_prf()
    level = np.array([1e-2, 1e-4, 1e-6])
    angle = np.linspace(0, 2 * np.pi, 721)
    for one, radius in zip(level, prf.reach(level), strict=True):
        at = prf.intensity(radius * np.cos(angle), radius * np.sin(angle)).max()
        assert one * 0.9 < at < one * 1.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: asymmetric_prf(fwhm_pix=0.0), "fwhm_pix: expected a finite number above 0"),
        (lambda: asymmetric_prf(anchor="middle"), "anchor: expected one of 'peak', 'centroid'"),
        (lambda: asymmetric_prf(wing_beta=1.2), "beta: expected a slope above 1.5"),
        (lambda: MoffatMixture((Moffat(0.5, 1.0, 1.0, 2.0),)), "parts: expected weights that sum to 1, got 0.5"),
    ],
)
def test_prf_refuses_what_it_cannot_be(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ---------------------------------------------------------------- sky


def test_tangent_plane_agrees_with_astropy():
    from astropy.wcs import WCS

    sky = TangentPlane(359.99, 71.0, 500.0, 300.0, 3.98, 33.0)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cd = (359.99, 71.0), (501.0, 301.0), sky.cd_matrix
    column, row = _rng().uniform(0, 1000, (2, 50))
    ra, dec = sky.to_sky(column, row)
    expected = wcs.all_pix2world(column, row, 0)
    np.testing.assert_allclose(ra, expected[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(dec, expected[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("ra0", "dec0"), [(290.0, 44.5), (0.0, 10.0), (359.999, -60.0), (120.0, 80.0)])
def test_pairs_see_the_true_pixel_distances(ra0, dec0):
    """Across RA 0 and at high declination, offsets on the sky are offsets on the detector."""
    field = make_field(n_source=30, n_time=2, rng=_rng(), ra0=ra0, dec0=dec0, position_angle=25.0)
    pairs = build_pairs(field.pixels, field.sources, 20.0)
    column = field.pixels.column[pairs.pixel] - field.column[pairs.source]
    row = field.pixels.row[pairs.pixel] - field.row[pairs.source]
    assert pairs.n_pair > 500
    # The plane pairs use is tangent at each star; over 20 arcsec it bends by up to 20'' ^2 / 2 tan(dec).
    bend = 20.0**2 / 206265 * np.tan(np.radians(abs(dec0))) + 1e-3
    np.testing.assert_allclose(pairs.r, 3.98 * np.hypot(column, row), atol=bend)
    east, north = 3600 * field.sky.cd_matrix @ np.stack([column, row])
    # Far from the field's centre north turns by the convergence of the meridians, here below 1 %.
    assert np.abs(np.angle(np.exp(1j * (pairs.phi - np.arctan2(north, east))))).max() < 0.02


def test_position_angle_turns_north():
    upright = TangentPlane(10.0, 0.0, 0.0, 0.0, 4.0, 0.0)
    ra, dec = upright.to_sky(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose([(ra[0] - 10) * 3600, dec[1] * 3600], [-4.0, 4.0], rtol=1e-8)
    turned = TangentPlane(10.0, 0.0, 0.0, 0.0, 4.0, 90.0)
    ra, _ = turned.to_sky(np.array([0.0]), np.array([1.0]))
    assert (ra[0] - 10) * 3600 == pytest.approx(4.0)


# ---------------------------------------------------------------- fields


def test_design_times_flux_is_the_expected_image():
    field = make_field(n_source=25, n_time=6, rng=_rng(), variability=_rng(1).uniform(0.5, 1.5, (6, 25)))
    images = field.true_design() @ field.flux.T
    np.testing.assert_allclose(field.expected(), images.T, rtol=1e-12)
    np.testing.assert_array_equal(field.expected(2, 4), field.expected()[2:4])
    np.testing.assert_allclose(field.mean_flux, field.flux.mean(axis=0))


def test_design_holds_the_prf_at_the_true_positions():
    field = make_field(n_source=25, n_time=2, rng=_rng(), centroid_offset=(0.1, -0.2))
    design = field.true_design().tocoo()
    column = field.pixels.column[design.row] - field.column[design.col]
    row = field.pixels.row[design.row] - field.row[design.col]
    np.testing.assert_allclose(design.data, field.settings.prf.evaluate(column, row), rtol=1e-10)


def test_what_the_design_leaves_out_is_below_the_noise():
    field = make_field(n_source=25, n_time=1, rng=_rng())
    column = field.pixels.column[:, None] - field.column
    row = field.pixels.row[:, None] - field.row
    full = field.settings.prf.evaluate(column.ravel(), row.ravel()).reshape(column.shape) @ field.flux[0]
    missing = full - field.expected()[0]
    assert np.abs(missing).max() < 25 * field.settings.reach_level * field.settings.noise_floor


@pytest.mark.parametrize("size", [0.03, 0.22])
def test_drift_moves_the_prf(size):
    def drift(time):
        return size * np.stack([np.sin(3 * time), np.cos(2 * time)], axis=1)

    field = make_field(n_source=25, n_time=30, rng=_rng(), drift=drift, drift_differential=0.15)
    assert np.abs(field.shift.mean(axis=0)).max() < 1e-12
    for time in (0, 13, 29):
        design = field.true_design(time).tocoo()
        column = field.pixels.column[design.row] - field.column[design.col] - field.shift[time, design.col, 0]
        row = field.pixels.row[design.row] - field.row[design.col] - field.shift[time, design.col, 1]
        np.testing.assert_allclose(design.data, field.settings.prf.evaluate(column, row), rtol=1e-5)
        image = field.true_design(time) @ field.flux[time]
        np.testing.assert_allclose(field.expected(time, time + 1)[0], image, rtol=1e-9)


def test_drift_differs_over_the_field():
    drift = 0.1 * np.stack([np.arange(5.0), np.zeros(5)], axis=1)
    field = make_field(n_source=40, n_time=5, rng=_rng(), drift=drift, drift_differential=0.15)
    size = field.shift[-1, :, 0] / 0.2
    place = field.column - field.column.mean()
    assert np.corrcoef(place, size)[0, 1] > 0.999
    assert np.abs(size - 1).max() == pytest.approx(0.15, rel=1e-6)
    np.testing.assert_array_equal(field.pixels.pos_corr, drift)


def test_noise_has_the_quoted_size_and_is_white():
    field = make_field(n_source=20, n_time=400, rng=_rng())
    score = (field.pixels.flux - field.expected()) / field.pixels.flux_err
    n = score.size
    assert abs(score.mean()) < 4 / np.sqrt(n)
    assert abs(score.std() - 1) < 4 / np.sqrt(2 * n)
    lag = np.mean(score[1:] * score[:-1])
    assert abs(lag) < 4 / np.sqrt(n)
    variance = (field.expected() + 150.0) / 1625.0 + (1480.0 / 1625.0) ** 2
    np.testing.assert_allclose(field.pixels.flux_err**2, variance, rtol=1e-12)


def test_cramer_rao_is_the_dense_formula_and_is_reached():
    field = make_field(n_source=15, n_time=600, rng=_rng(3))
    dense = field.true_design().toarray()
    variance = np.mean(field.pixels.flux_err**2, axis=0)
    covariance = np.linalg.inv(dense.T @ (dense / variance[:, None]))
    np.testing.assert_allclose(field.cramer_rao(), np.sqrt(np.diag(covariance)), rtol=1e-8)
    fitted = covariance @ dense.T @ (field.pixels.flux / variance).T
    scatter = (fitted.T - field.flux).std(axis=0)
    np.testing.assert_allclose(scatter / field.cramer_rao(), 1.0, atol=4 / np.sqrt(2 * 600))


def test_cramer_rao_is_infinite_for_a_source_without_pixels():
    field = make_field(n_source=12, n_time=2, n_stamp=12, rng=_rng(), reach_level=1e5)
    lit = np.diff(field.true_design().tocsc().indptr) > 0
    assert 0 < lit.sum() < 12
    np.testing.assert_array_equal(np.isfinite(field.cramer_rao()), lit)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_catalog_scale_changes_only_the_catalog(scale):
    plain = make_field(n_source=20, n_time=3, rng=_rng())
    field = make_field(n_source=20, n_time=3, rng=_rng(), catalog_scale=scale)
    np.testing.assert_allclose(field.sources.flux, scale * field.mean_flux, rtol=1e-12)
    np.testing.assert_array_equal(field.pixels.flux, plain.pixels.flux)


def test_catalog_errors_have_the_asked_size():
    field = make_field(n_source=800, n_time=1, rng=_rng(), catalog_scatter=0.1, position_scatter=0.2)
    assert np.log(field.sources.flux / field.mean_flux).std() == pytest.approx(0.1, rel=0.1)
    ra, dec = field.sky.to_sky(field.column, field.row)
    north = (field.sources.dec_deg - dec) * 3600
    east = (field.sources.ra_deg - ra) * np.cos(np.radians(dec)) * 3600
    assert north.std() == pytest.approx(0.2, rel=0.1)
    assert east.std() == pytest.approx(0.2, rel=0.1)


def test_centroid_offset_separates_stars_from_the_catalog():
    field = make_field(n_source=20, n_time=1, rng=_rng(), centroid_offset=(0.3, -0.1))
    ra, dec = field.sky.to_sky(field.column - 0.3, field.row + 0.1)
    np.testing.assert_allclose(field.sources.ra_deg, ra, atol=1e-10)
    np.testing.assert_allclose(field.sources.dec_deg, dec, atol=1e-10)


def test_same_seed_same_bits_other_seed_other_field():
    one, two = (make_field(n_source=15, n_time=4, rng=_rng(11)) for _ in range(2))
    np.testing.assert_array_equal(one.pixels.flux, two.pixels.flux)
    np.testing.assert_array_equal(one.sources.ra_deg, two.sources.ra_deg)
    assert not np.array_equal(one.flux, make_field(n_source=15, n_time=4, rng=_rng(12)).flux)


def test_longer_series_have_the_same_stars():
    short, long = (make_field(n_source=15, n_time=n, rng=_rng()) for n in (2, 9))
    np.testing.assert_array_equal(short.column, long.column)
    np.testing.assert_array_equal(short.flux, long.flux[:2])


def test_stamps_hold_their_targets_and_no_pixel_twice():
    field = make_field(n_source=60, n_time=1, n_stamp=40, stamp_fill=0.5, rng=_rng())
    places = set(zip(field.pixels.column, field.pixels.row, strict=True))
    assert len(places) == field.pixels.n_pixel
    for column, row in zip(np.rint(field.column[:40]), np.rint(field.row[:40]), strict=True):
        assert (column, row) in places
    assert field.is_target.sum() == 40
    sizes = np.bincount(field.pixels.stamp)
    by_flux = np.argsort(field.mean_flux[:40])
    assert sizes[by_flux[:13]].max() == 25
    assert sizes[by_flux[-13:]].max() == 49


def test_image_is_a_full_grid_with_all_stars_inside():
    field = make_field(n_source=50, n_time=1, layout="image", image_shape=(30, 40), rng=_rng())
    assert field.pixels.n_pixel == 1200
    assert np.ptp(field.pixels.row) == 29
    assert np.ptp(field.pixels.column) == 39
    assert field.column.min() > field.pixels.column.min() - 0.5
    assert field.row.max() < field.pixels.row.max() + 0.5
    assert not field.is_target.any()


def test_stars_keep_their_distance():
    settings = FieldSettings(n_source=300, layout="image", image_shape=(40, 40), min_separation=0.8)
    place, _ = place_stars(settings, np.zeros(300), _rng())
    from scipy.spatial.distance import pdist

    assert pdist(place).min() > 0.8
    with pytest.raises(InputError, match="min_separation: expected a distance at which 300 stars fit"):
        make_field(settings, rng=_rng(), min_separation=8.0)


def test_magnitudes_follow_the_asked_slope():
    field = make_field(n_source=4000, n_time=1, layout="image", image_shape=(300, 300), reach_level=100.0, rng=_rng())
    mag = 12.0 - 2.5 * np.log10(field.mean_flux / 1.74e5)
    assert mag.min() >= 12.0
    assert mag.max() <= 17.0
    counts, _ = np.histogram(mag, bins=[12, 13, 14, 15, 16, 17])
    slope = np.polyfit(np.arange(5), np.log10(counts), 1)[0]
    assert slope == pytest.approx(0.2, abs=0.03)
    flat = make_field(n_source=9, n_time=1, mag_range=(14.0, 14.0), rng=_rng())
    np.testing.assert_allclose(flat.mean_flux, 1.74e5 * 10**-0.8)


def test_transit_has_its_depth_duration_and_period():
    transit = Transit(source=2, depth=0.01, period=2.0, epoch=121.0, duration=0.2, flank=0.5)
    time = np.array([120.899, 120.925, 120.95, 121.0, 121.05, 121.101, 123.0])
    np.testing.assert_allclose(transit.factor(time), [1, 0.995, 0.99, 0.99, 0.99, 1, 0.99], atol=1e-9)
    field = make_field(n_source=5, n_time=100, rng=_rng(), transits=(transit,))
    dip = field.flux / field.flux.max(axis=0)
    assert dip[:, 2].min() == pytest.approx(0.99)
    assert dip[:, [0, 1, 3, 4]].min() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "n_source", "n_pixel", "n_time"),
    [("demo", 28, 430, 300), ("small", 20, 296, 50), ("medium", 200, 5960, 500), ("quarter", 500, 12038, 4000),
     ("crowded", 1500, 14400, 20), ("ffi", 5000, 160000, 1)],
)  # fmt: skip
def test_cases_have_the_sizes_of_their_names(name, n_source, n_pixel, n_time):
    assert (CASES[name].n_source, CASES[name].n_time) == (n_source, n_time)
    field = make_case(name, _rng(1), n_time=1)
    assert field.sources.n_source == n_source
    assert field.pixels.n_pixel == pytest.approx(n_pixel, rel=0.06)
    assert not field.pixels.saturated.any()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"layout": "cube"}, InputError, "layout: expected one of 'stamps', 'image', got 'cube'"),
        ({"n_source": 0}, InputError, "n_source: expected a finite number above 0"),
        ({"n_stamp": 30}, InputError, "n_stamp: expected 1 to n_source = 20, got 30"),
        ({"mag_range": (17.0, 12.0)}, InputError, "mag_range: expected"),
        ({"transits": (Transit(40, 0.1, 1.0, 0.0, 0.1),)}, InputError, "transits: expected sources 0 to 19, got 40"),
        ({"drift": np.zeros((3, 2))}, ShapeError, r"drift: expected shape \(50, 2\)"),
        ({"variability": np.ones((50, 3))}, ShapeError, r"variability: expected shape \(50, 20\)"),
    ],
)
def test_settings_refuse_nonsense(changes, error, message):
    with pytest.raises(error, match=message):
        make_field(rng=_rng(), **changes)


def test_unknown_case_is_refused():
    with pytest.raises(InputError, match="name: expected one of 'demo', 'small'"):
        make_case("tiny", _rng())
