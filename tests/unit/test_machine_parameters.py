"""Every documented argument, attribute and method of Machine: it is there, and does what the documentation says."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.sparse import issparse

from bayesprf.errors import StageError
from bayesprf.instruments import KEPLER, TESS, Instrument
from bayesprf.machine import Machine
from bayesprf.scene.prf import round_coordinates
from bayesprf.simulation.fields import make_field

LINEAR = Instrument("linear", 3.98, saturation=1e300, zero_flux_mag=12.0, zero_flux=1.74e5)


def arguments_of(field, **changes):
    """Return the documented arguments of Machine."""
    pixels, sources = field.pixels, field.sources
    frame = pd.DataFrame({"ra": sources.ra_deg, "dec": sources.dec_deg, "phot_g_mean_flux": sources.flux})
    return {
        "time": pixels.time,
        "flux": pixels.flux,
        "flux_err": pixels.flux_err,
        "ra": pixels.ra_deg,
        "dec": pixels.dec_deg,
        "sources": frame,
        "column": pixels.column,
        "row": pixels.row,
    } | changes


def shaped(field, settings=(), **options):
    """Return a Machine with some settings and a shape."""
    machine = Machine(**arguments_of(field), instrument=LINEAR, **dict(settings))
    machine.build_shape_model(**options)
    return machine


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(7),
        layout="image",
        image_shape=(44, 44),
        n_source=22,
        n_time=12,
        mag_range=(12.0, 16.0),
        min_separation=3.0,
        instrument=LINEAR,
    )


@pytest.fixture(scope="module")
def machine(field):
    made = shaped(field)
    made.fit_model(n_threads=1)
    return made


# Attributes


def test_sizes(field, machine):
    assert machine.nsources == field.sources.n_source == 22
    assert machine.nt == 12
    assert machine.npixels == 44 * 44


def test_inputs_under_their_names(field, machine):
    for name in ("time", "flux", "flux_err"):
        np.testing.assert_array_equal(getattr(machine, name), getattr(field.pixels, name))
    np.testing.assert_array_equal(machine.source_flux_estimates, field.sources.flux)


@pytest.mark.parametrize("name", ["dra", "ddec", "r", "phi", "source_mask", "uncontaminated_source_mask", "mean_model"])
def test_matrices_are_sparse_sources_by_pixels(machine, name):
    matrix = getattr(machine, name)
    assert issparse(matrix)
    assert matrix.format == "csr"
    assert matrix.shape == (machine.nsources, machine.npixels)
    assert 0 < matrix.nnz < 0.9 * machine.nsources * machine.npixels


def test_geometry_before_the_shape_is_the_catalogue_s(field):
    """dra, ddec in degree, r in arcsec, phi in radian, from formulas on the sphere."""
    machine = Machine(**arguments_of(field), instrument=LINEAR)
    source, pixel = machine.r.nonzero()
    ra, dec = np.radians(field.pixels.ra_deg[pixel]), np.radians(field.pixels.dec_deg[pixel])
    ra0, dec0 = np.radians(field.sources.ra_deg[source]), np.radians(field.sources.dec_deg[source])
    angle = 2.0 * np.arcsin(
        np.sqrt(np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2)
    )
    at = (source, pixel)
    np.testing.assert_allclose(np.asarray(machine.r[at]).ravel(), np.degrees(angle) * 3600.0, atol=0.01)
    np.testing.assert_allclose(np.asarray(machine.dra[at]).ravel(), np.degrees((ra - ra0) * np.cos(dec0)), atol=1e-12)
    np.testing.assert_allclose(np.asarray(machine.ddec[at]).ravel(), np.degrees(dec - dec0), atol=1e-12)
    expected = np.arctan2(np.asarray(machine.ddec[at]), np.asarray(machine.dra[at])).ravel()
    np.testing.assert_allclose(np.asarray(machine.phi[at]).ravel(), expected, rtol=1e-12)


def test_geometry_after_the_shape_takes_the_measured_offset_off(field):
    made = make_field(field.settings, rng=np.random.default_rng(7), centroid_offset=(0.1, 0.0))
    machine = Machine(**arguments_of(made), instrument=LINEAR)
    before = machine.dra.copy(), machine.ddec.copy()
    machine.build_shape_model(refine=False)
    east, north = machine.centroid_offset
    assert np.hypot(east, north) == pytest.approx(0.1 * 3.98, abs=0.15)
    np.testing.assert_allclose((before[0] - machine.dra).data * 3600.0, east, atol=1e-9)
    np.testing.assert_allclose((before[1] - machine.ddec).data * 3600.0, north, atol=1e-9)


def test_masks_and_mean_model_share_their_pixels(machine):
    mask, teach, model = machine.source_mask, machine.uncontaminated_source_mask, machine.mean_model
    assert mask.dtype == teach.dtype == bool
    np.testing.assert_array_equal(mask.indices, model.indices)
    assert teach.multiply(mask).nnz == teach.nnz
    assert 0 < teach.nnz < mask.nnz
    assert model.data.min() > 0
    assert model.data.max() < 1


def test_uncontaminated_pixels_are_lit_by_one_star(machine, field):
    light = machine.mean_model.multiply(field.mean_flux[:, None]).tocsr()
    total = np.asarray(light.sum(axis=0)).ravel()
    source, pixel = machine.uncontaminated_source_mask.nonzero()
    own = np.asarray(light[source, pixel]).ravel()
    assert np.all(own > 0.85 * total[pixel])


def test_mean_model_is_the_fraction_of_light_in_a_pixel(field, machine):
    truth = field.true_design().T.tocsr()
    bright = np.argsort(-field.mean_flux)[:5]
    source, pixel = machine.mean_model[bright].nonzero()
    fitted = np.asarray(machine.mean_model[bright][source, pixel]).ravel()
    true = np.asarray(truth[bright][source, pixel]).ravel()
    assert np.abs(fitted - true).max() < 0.05 * true.max()


def test_source_flux_estimates_are_not_overwritten(field, machine):
    np.testing.assert_array_equal(machine.source_flux_estimates, field.sources.flux)


def test_quiet_is_stored(field):
    """Nothing inside the stages draws a progress bar yet; the setting is kept for those that will."""
    assert Machine(**arguments_of(field), quiet=True).quiet is True
    assert Machine(**arguments_of(field)).quiet is False


def test_nothing_is_written_while_fitting(field, capfd):
    shaped(field, settings={"quiet": True}).fit_model(n_threads=1)
    assert capfd.readouterr() == ("", "")


def test_contaminant_mag_limit_is_a_magnitude(field):
    """Fainter stars do not count: their neighbours' pixels teach, as if the faint ones were not there."""
    machine = Machine(**arguments_of(field), instrument=LINEAR)
    assert machine.contaminant_mag_limit is None
    machine.build_shape_model()
    mag = machine.sources.mag
    np.testing.assert_allclose(mag, 25.0 - 2.5 * np.log10(field.sources.flux))
    teaching = []
    for limit in (mag.max() + 1.0, np.median(mag), mag.min() - 1.0):
        machine.contaminant_mag_limit = limit
        machine.build_shape_model()
        teaching.append(machine.uncontaminated_source_mask.nnz)
    assert teaching[0] < teaching[1] < teaching[2]


def test_contaminant_mag_limit_uses_the_magnitude_of_the_catalogue(field):
    arguments = arguments_of(field)
    arguments["sources"]["phot_g_mean_mag"] = np.linspace(10.0, 12.0, 22)
    machine = Machine(**arguments)
    np.testing.assert_array_equal(machine.sources.mag, np.linspace(10.0, 12.0, 22))


def test_cartesian_knot_spacing(field, machine):
    assert machine.cartesian_knot_spacing == "sqrt"


# Settings of the constructor


def test_limit_radius_bounds_the_pixels_that_teach(field):
    """PSFMachine, defect 19: never used."""
    for limit in (20.0, 9.0, 6.0):
        machine = shaped(field, {"limit_radius": limit})
        taught = machine.r[machine.uncontaminated_source_mask.nonzero()].max()
        assert taught < limit
        assert taught > 0.8 * limit


def test_time_mask_chooses_the_cadences_of_the_mean_image(field):
    mask = np.arange(12) < 4
    flux = field.pixels.flux.copy()
    flux[~mask] *= 3.0
    arguments = arguments_of(field, flux=flux)
    machine = Machine(**arguments, time_mask=mask, instrument=LINEAR)
    machine.build_shape_model()
    np.testing.assert_allclose(machine.fit.prf.image.flux, flux[:4].mean(axis=0), rtol=1e-12)
    few = {name: arguments[name][:4] for name in ("time", "flux", "flux_err")}
    alone = Machine(**(arguments | few), instrument=LINEAR)
    alone.build_shape_model()
    np.testing.assert_allclose(machine.psf_w, alone.psf_w, rtol=1e-9)


def test_time_mask_holds_for_the_re_estimated_fluxes(field):
    """PSFMachine, defect 15: with the masked half three times brighter the prior doubles."""
    mask = np.arange(12) < 6
    flux = field.pixels.flux.copy()
    flux[~mask] *= 3.0
    machine = Machine(**arguments_of(field, flux=flux), time_mask=mask, instrument=LINEAR)
    machine.build_shape_model()
    machine.fit_model(n_threads=1)
    bright = field.mean_flux > np.median(field.mean_flux)
    np.testing.assert_allclose(machine.fit.flux.problem.prior.mean[bright] / field.mean_flux[bright], 1.0, atol=0.05)


def test_knots_set_the_columns_of_the_prf(field):
    sizes = {}
    for n_r, n_phi in ((11, 15), (12, 15), (11, 9)):
        machine = shaped(field, {"n_r_knots": n_r, "n_phi_knots": n_phi})
        basis = machine.fit.prf.prf.basis
        sizes[n_r, n_phi] = basis.n_basis
        assert machine.psf_w.shape == machine.psf_w_err.shape == (basis.n_basis,)
        assert (basis.n_basis - basis.n_core) % n_phi == 0
    assert sizes[12, 15] > sizes[11, 15] > sizes[11, 9]


def test_radial_knots_run_from_rmin_to_rmax(field):
    machine = shaped(field, {"rmin": 2.0, "rmax": 12.0, "cut_r": 0.0})
    knots = np.unique(machine.fit.prf.prf.basis.knots)
    np.testing.assert_allclose(knots[1:], np.linspace(np.sqrt(2.0), np.sqrt(12.0), 10) ** 2)
    taught = machine.r[machine.uncontaminated_source_mask.nonzero()].max()
    assert taught < 12.0


@pytest.mark.parametrize("cut_r", [4.0, 7.0, 10.0])
def test_angle_does_not_count_inside_cut_r(field, cut_r):
    """In the coordinates in which the core is round."""
    prf = shaped(field, {"cut_r": cut_r}).fit.prf.prf
    phi = np.linspace(0.0, 2.0 * np.pi, 17)
    for share, counts in ((0.3, False), (0.99, False), (1.25, True)):
        radius = share * cut_r
        unit = np.stack([np.cos(phi), np.sin(phi)])
        inverse = round_to_sky(prf.shear)
        dx, dy = radius * (inverse @ unit)
        np.testing.assert_allclose(round_coordinates(dx, dy, prf.shear)[0], radius, rtol=1e-12)
        assert (np.ptp(np.log10(prf.evaluate(dx, dy))) > 1e-3) == counts


def round_to_sky(shear):
    """Return the matrix from round coordinates to the sky: exp(-[[e1, e2], [e2, -e1]])."""
    value, vector = np.linalg.eigh(-np.array([[shear[0], shear[1]], [shear[1], -shear[0]]]))
    return vector @ np.diag(np.exp(value)) @ vector.T


def test_sparse_dist_lim_bounds_the_pairs(field):
    for limit in (12.0, 40.0):
        machine = Machine(**arguments_of(field), sparse_dist_lim=limit)
        assert 0.97 * limit < machine.r.data.max() <= limit
        assert machine.sparse_dist_lim == limit


def test_sparse_dist_lim_may_be_set_later(field):
    machine = shaped(field)
    machine.sparse_dist_lim = 20
    assert machine.r.data.max() <= 20.0
    with pytest.raises(StageError, match="no prf result yet"):
        _ = machine.mean_model


def test_sources_flux_column_names_the_estimate(field):
    arguments = arguments_of(field)
    arguments["sources"]["phot_rp_mean_flux"] = 2.0 * field.sources.flux
    machine = Machine(**arguments, sources_flux_column="phot_rp_mean_flux")
    np.testing.assert_array_equal(machine.source_flux_estimates, 2.0 * field.sources.flux)


@pytest.mark.parametrize("name", ["time_nknots", "time_resolution", "time_radius"])
def test_settings_of_the_time_model_are_kept(field, name):
    assert getattr(Machine(**arguments_of(field), **{name: 5}), name) == 5


def test_instrument_sets_the_radii_of_from_pixels(field):
    """The documented radii are Kepler's; other pixel scales stretch them."""
    kepler = Machine.from_pixels(field.pixels, field.sources)
    assert (kepler.rmax, kepler.cut_r, kepler.sparse_dist_lim, kepler.limit_radius) == (16.0, 3.0, 40.0, 24.0)
    seen = make_field(rng=np.random.default_rng(1), n_source=4, n_time=2, instrument=TESS)
    tess = Machine.from_pixels(seen.pixels, seen.sources)
    stretch = TESS.pixel_scale / KEPLER.pixel_scale
    assert tess.rmax == pytest.approx(16.0 * stretch)
    assert tess.sparse_dist_lim == pytest.approx(40.0 * stretch)
    assert Machine.from_pixels(seen.pixels, seen.sources, rmax=50.0).rmax == 50.0


# build_shape_model


def test_flux_cut_off_stops_the_model(field):
    """The lower the cut, the more pixels; what lies below is known."""
    counts, known = [], []
    for cut in (0.1, 1.0, 10.0, 100.0):
        machine = shaped(field, flux_cut_off=cut)
        light = machine.mean_model.multiply(np.nan_to_num(machine.fit.prf.flux)[:, None]).tocsr()
        assert light.data.min() > cut
        counts.append(machine.source_mask.nnz)
        known.append(machine.fit.prf.fixed_light.sum())
    assert counts[0] > counts[1] > counts[2] > counts[3]
    assert known[1] < known[3]


def test_light_below_the_cut_is_known(field):
    machine = shaped(field, flux_cut_off=100.0)
    machine.fit_model(n_threads=1)
    assert machine.fit.prf.fixed_light.max() > 10.0
    np.testing.assert_array_equal(machine.fit.flux.problem.known, machine.fit.prf.fixed_light)
    expected = machine.ws @ machine.mean_model + machine.fit.prf.fixed_light
    np.testing.assert_allclose(machine.model_flux, expected, rtol=1e-10)


@pytest.mark.parametrize("index", [3, np.int64(3), np.int32(3), -9])
def test_frame_index_chooses_one_image(field, index):
    """PSFMachine, defect 24: UnboundLocalError for a numpy integer."""
    image = shaped(field, frame_index=index).fit.prf.image
    np.testing.assert_array_equal(image.flux, field.pixels.flux[3])
    np.testing.assert_allclose(image.ivar, field.pixels.flux_err[3] ** -2.0)


def test_frame_index_mean_is_the_mean_over_time(field, machine):
    np.testing.assert_allclose(machine.fit.prf.image.flux, field.pixels.flux.mean(axis=0), rtol=1e-12)


def test_bin_data_fits_fewer_pixels_to_the_same_shape(field, machine):
    binned = shaped(field, bin_data=True)
    assert not np.array_equal(binned.psf_w, machine.psf_w)
    core = machine.mean_model.data > 0.01
    np.testing.assert_allclose(binned.mean_model.data[: core.size].max(), machine.mean_model.data.max(), rtol=0.1)


@pytest.mark.parametrize("draw", ["build", "plot_shape_model"])
def test_plot_returns_a_figure(field, machine, draw):
    with mpl.rc_context({"backend": "agg"}):
        if draw == "build":
            figure = Machine(**arguments_of(field), instrument=LINEAR).build_shape_model(plot=True)
        else:
            figure = machine.plot_shape_model(frame_index=2, bin_data=True)
    assert isinstance(figure, Figure)


def test_without_plot_nothing_is_returned(field):
    assert Machine(**arguments_of(field), instrument=LINEAR).build_shape_model() is None


@pytest.mark.parametrize("option", ["upper_radius_limit", "lower_radius_limit"])
def test_radius_limits_bound_the_reach(field, option):
    reach = shaped(field, **{option: 10.0}).radius
    assert reach.max() <= 10.0 if option == "upper_radius_limit" else reach.min() >= 10.0


def test_lower_flux_limit_shortens_the_reach(field):
    near, far = (shaped(field, lower_flux_limit=limit).radius for limit in (2000.0, 20.0))
    assert np.all(near <= far)
    assert near.mean() < 0.8 * far.mean()


def test_upper_flux_limit_keeps_bright_pixels_from_teaching(field):
    machine = shaped(field, upper_flux_limit=500.0)
    taught = machine.uncontaminated_source_mask.nonzero()[1]
    assert field.pixels.flux.mean(axis=0)[taught].max() < 500.0


def test_correct_centroid_offset_may_be_switched_off(field):
    """The offset of the catalogue's own errors is some hundredths of an arcsec."""
    held, free = (np.hypot(*shaped(field, correct_centroid_offset=one).centroid_offset) for one in (False, True))
    assert held < 1e-6 < 1e-3 < free


# fit_model


def test_fluxes_have_one_row_per_cadence(field, machine):
    assert machine.ws.shape == machine.werrs.shape == machine.flags.shape == (12, 22)
    assert machine.model_flux.shape == (12, 44 * 44)
    np.testing.assert_allclose(np.median(machine.ws / field.flux), 1.0, atol=0.04)


@pytest.mark.parametrize("per_source", [False, True])
def test_prior_mu_and_prior_sigma(field, per_source):
    """A prior far narrower than the data's error is the answer; a far wider one does not matter."""
    machine = shaped(field)
    machine.fit_model(n_threads=1)
    free = machine.ws.copy()
    mu = np.arange(22.0) + 5.0 if per_source else 7.0
    sigma = np.full(22, 1e-6) if per_source else 1e-6
    machine.fit_model(prior_mu=mu, prior_sigma=sigma, n_threads=1)
    np.testing.assert_allclose(machine.ws, np.broadcast_to(mu, (12, 22)), atol=1e-3)
    np.testing.assert_allclose(machine.werrs, 1e-6, rtol=1e-3)
    machine.fit_model(prior_mu=mu, prior_sigma=1e12, n_threads=1)
    np.testing.assert_allclose(machine.ws, free, rtol=1e-3)
    machine.fit_model(prior_sigma=np.inf, n_threads=1)
    np.testing.assert_allclose(machine.ws, free, rtol=1e-3)


def test_number_of_threads_does_not_change_the_answer(machine):
    before = machine.ws.copy()
    machine.fit_model(n_threads=2)
    np.testing.assert_array_equal(machine.ws, before)


# The same call twice, and calls out of order


def test_second_call_gives_the_same_bits(field):
    """PSFMachine, defect 16: 26 to 63 % apart on the second call."""
    machine = shaped(field)
    machine.fit_model()
    first = machine.psf_w.copy(), machine.mean_model.data.copy(), machine.ws.copy(), machine.werrs.copy()
    machine.build_shape_model()
    machine.fit_model()
    machine.fit_model()
    second = machine.psf_w, machine.mean_model.data, machine.ws, machine.werrs
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def finished(field):
    made = shaped(field)
    made.fit_model(n_threads=1)
    made.compute_aperture_photometry(50)
    made.get_psf_metrics(0)
    return made


RESULTS = {
    "ws": r"fit_model\(\)",
    "werrs": r"fit_model\(\)",
    "model_flux": r"fit_model\(\)",
    "sap_flux": r"compute_aperture_photometry\(\)",
    "aperture_mask": r"create_aperture_mask\(\)",
    "source_psf_fraction": r"get_psf_metrics\(\)",
}


def test_new_shape_drops_what_came_of_the_old_one(finished):
    finished.build_shape_model()
    for name, method in RESULTS.items():
        with pytest.raises(StageError, match=rf"call {method}"):
            getattr(finished, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit_radius", 20.0),
        ("time_mask", None),
        ("n_r_knots", 9),
        ("n_phi_knots", 12),
        ("rmin", 1.5),
        ("rmax", 12.0),
        ("cut_r", 5.0),
        ("contaminant_mag_limit", 15.0),
        ("sparse_dist_lim", 30.0),
    ],
)
def test_new_setting_drops_the_shape(finished, name, value):
    setattr(finished, name, value)
    assert getattr(finished, name) == value
    for result in ("mean_model", "psf_w", "source_mask"):
        with pytest.raises(StageError, match=r"^no prf result yet: call build_shape_model\(\) first$"):
            getattr(finished, result)


@pytest.mark.parametrize("name", ["time_nknots", "time_resolution", "time_radius", "cartesian_knot_spacing"])
def test_setting_of_the_time_model_keeps_the_shape_and_the_fluxes(finished, name):
    before = finished.ws, finished.psf_w
    setattr(finished, name, getattr(finished, name))
    assert finished.ws.shape == (12, 22)
    for one, other in zip(before, (finished.ws, finished.psf_w), strict=True):
        np.testing.assert_array_equal(one, other)


def test_plain_refit_keeps_the_apertures(finished):
    before = finished.sap_flux
    finished.fit_model(n_threads=1)
    assert before.shape == (12, 22)
    np.testing.assert_array_equal(finished.sap_flux, before)
