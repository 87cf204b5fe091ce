"""Bad input from arrays to fluxes: refused with a sentence, or flagged and handled exactly, never silently wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bayesprf.errors import DataWarning, InputError, NotPositiveDefiniteError, ShapeError, StageError
from bayesprf.flags import QualityFlag
from bayesprf.instruments import KEPLER, Instrument
from bayesprf.machine import Machine
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import make_field

# Kepler's numbers without a saturation level: for tests that are not about saturation.
LINEAR = replace(KEPLER, name="linear", saturation=1e300)
CADENCE = 5


def pixels_like(pixels, **changes):
    """Return the pixels with some fields replaced."""
    names = ("time", "flux", "flux_err", "ra_deg", "dec_deg", "column", "row", "stamp", "instrument")
    return PixelTable(**{name: getattr(pixels, name) for name in names} | changes)


def sources_like(sources, **changes):
    """Return the catalogue with some fields replaced."""
    names = ("source_id", "ra_deg", "dec_deg", "flux")
    return SourceTable(**{name: getattr(sources, name) for name in names} | changes)


def with_source(sources, ra_deg, dec_deg, flux, name="extra"):
    """Return the catalogue with one more source."""
    return SourceTable(
        (*sources.source_id, name),
        np.append(sources.ra_deg, ra_deg),
        np.append(sources.dec_deg, dec_deg),
        np.append(sources.flux, flux),
    )


COARSE = {"n_r_knots": 4, "n_phi_knots": 4, "rmin": 4.0, "cut_r": 10.0}


def solved(pixels, sources, settings=(), **options):
    """Return a Machine with shape and fluxes."""
    machine = Machine.from_pixels(pixels, sources, quiet=True, **dict(settings))
    machine.build_shape_model(**options)
    machine.fit_model(n_threads=1)
    return machine


def changed(array, where, value):
    """Return a copy with one entry replaced."""
    copy = np.array(array, np.float64)
    copy[where] = value
    return copy


def dense_posterior(machine, time, keep, usual=None):
    """Solve one cadence densely, from the pixels in `keep` alone, less the misfit that is usual for them."""
    design = machine.mean_model.toarray()[:, keep].T
    ivar = machine.flux_err[time, keep] ** -2.0
    known = machine.fit.prf.fixed_light if usual is None else machine.fit.prf.fixed_light + usual
    data = machine.flux[time, keep] - known[keep]
    prior = machine.fit.flux.problem.prior
    precision = design.T @ (ivar[:, None] * design) + np.diag(prior.precision)
    mean = np.linalg.solve(precision, design.T @ (ivar * data) + prior.precision * prior.mean)
    return mean, np.sqrt(np.diag(np.linalg.inv(precision)))


def spread(machine, field):
    """Return median and scatter of flux over true flux, of stars whose light is on the data."""
    lit = np.asarray(machine.mean_model.sum(axis=1)).ravel() > 0.7
    ratio = (machine.ws.mean(axis=0) / field.mean_flux)[lit]
    return np.median(ratio), 1.4826 * np.median(np.abs(ratio - np.median(ratio)))


@pytest.fixture(scope="module")
def field():
    return make_field(rng=np.random.default_rng(3), n_source=30, n_time=20, instrument=LINEAR)


@pytest.fixture(scope="module")
def good(field):
    return solved(field.pixels, field.sources)


@pytest.fixture(scope="module")
def star(field):
    """The brightest star."""
    return int(np.argmax(field.mean_flux))


@pytest.fixture(scope="module")
def peak(good, star):
    """The pixel that holds most of its light."""
    return int(good.mean_model[star].argmax())


@pytest.fixture
def arguments(field):
    """Arguments of Machine by their documented names."""
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
    }


# Refused


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("time", lambda a: a[:-1], r"^flux: expected shape \(19, \d+\) \(n_time, n_pixel\), got \(20, "),
        ("flux", lambda a: a[:, :-1], r"^flux: expected shape"),
        ("flux", lambda a: a[0], r"^flux: expected 2 dimensions .* a single image goes in as flux\[np.newaxis\]"),
        ("flux", lambda a: a.T, r"^flux: expected shape"),
        ("flux_err", lambda a: a[:-1], r"^flux_err: expected shape .* as flux\), got"),
        ("flux_err", lambda a: a[0], r"^flux_err: expected 2 dimensions"),
        ("ra", lambda a: a[:-1], r"^flux: expected shape"),
        ("dec", lambda a: a[:-1], r"^dec_deg: expected shape \(\d+,\) \(n_pixel, as ra\), got"),
        ("column", lambda a: a[1:], r"^column: expected shape"),
        ("row", lambda a: a[1:], r"^row: expected shape"),
        ("row", lambda a: a[:, None], r"^row: expected 1 dimension"),
    ],
)
def test_wrong_shape_is_refused(arguments, name, cut, message):
    arguments[name] = cut(arguments[name])
    with pytest.raises(ShapeError, match=message):
        Machine(**arguments)


@pytest.mark.parametrize("name", ["time", "ra", "dec", "column", "row"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_position_or_time_that_is_not_finite_is_refused(arguments, name, bad):
    arguments[name] = changed(arguments[name], 7, bad)
    with pytest.raises(InputError, match=rf"^{name}.*: expected finite numbers, got {bad} at index 7 \(1 in all\)"):
        Machine(**arguments)


@pytest.mark.parametrize("name", ["flux", "time", "ra"])
def test_array_of_words_is_refused(arguments, name):
    arguments[name] = np.full(np.shape(arguments[name]), "bright")
    with pytest.raises(InputError, match=rf"^{name}.*: expected an array of real numbers, got ndarray"):
        Machine(**arguments)


def test_no_cadence_or_no_pixel_is_refused(arguments):
    empty = arguments | {"time": [], "flux": np.empty((0, 3)), "flux_err": np.empty((0, 3))}
    with pytest.raises(InputError, match=r"^flux: expected at least one cadence and one pixel, got shape \(0, 3\)"):
        Machine(**empty)


def test_empty_catalogue_is_refused(arguments):
    """PSFMachine: a ValueError about axes."""
    arguments["sources"] = arguments["sources"].iloc[:0]
    with pytest.raises(InputError, match="expected at least one source, got an empty table"):
        Machine(**arguments)


@pytest.mark.parametrize("column", ["ra", "dec", "phot_g_mean_flux"])
def test_missing_column_is_refused(arguments, column):
    arguments["sources"] = arguments["sources"].drop(columns=column)
    with pytest.raises(InputError, match=r"_column: expected a column .* the table has .* name it with"):
        Machine(**arguments)


def test_catalogue_that_is_no_table_is_refused(arguments):
    arguments["sources"] = arguments["sources"].to_numpy()
    with pytest.raises(InputError, match=r"^sources: expected a pandas DataFrame or an astropy Table, got ndarray"):
        Machine(**arguments)


def test_source_without_position_is_refused(arguments):
    arguments["sources"].loc[4, "ra"] = np.nan
    with pytest.raises(InputError, match=r"ra, dec: expected a position in every row, got none .* rows 4; drop"):
        Machine(**arguments)


def test_name_used_twice_is_refused(field):
    sources = field.sources
    with pytest.raises(InputError, match=r"^source_id: expected every source once, got 'star-00000' more than once"):
        with_source(sources, sources.ra_deg[0], sources.dec_deg[0], 1.0, name="star-00000")


def test_negative_error_is_refused_with_its_place(arguments):
    """PSFMachine: squared away."""
    arguments["flux_err"] = changed(arguments["flux_err"], (3, 11), -2.0)
    with pytest.raises(InputError, match=r"^flux_err: expected 0 or more, got -2.0 at cadence 3, pixel 11; .*use NaN"):
        Machine(**arguments)


def test_duplicate_pixels_are_refused(arguments):
    """PSFMachine: errors too small by a square root of two, silently."""
    arguments["row"], arguments["column"] = (
        changed(arguments[name], 1, arguments[name][0]) for name in ("row", "column")
    )
    with pytest.raises(InputError, match=r"^row, column: expected every pixel once, got pixel \(row \d+, column \d+\)"):
        Machine(**arguments)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"prior_mu": np.nan}, r"^prior_mu: expected finite fluxes, got nan for source 0"),
        ({"prior_sigma": 0.0}, r"^prior_sigma: expected widths above 0 electron / s, got 0.0 for source 0"),
        ({"prior_sigma": -1.0}, r"^prior_sigma: expected widths above 0"),
        ({"prior_sigma": np.nan}, r"^prior_sigma: expected widths above 0"),
        ({"prior_sigma": "wide"}, r"^prior_sigma: expected an array of real numbers, got 'wide'"),
    ],
)
def test_bad_prior_is_refused(good, prior, message):
    with pytest.raises(InputError, match=message):
        good.fit_model(**prior)


@pytest.mark.parametrize("name", ["prior_mu", "prior_sigma"])
def test_prior_of_wrong_shape_is_refused(good, name):
    with pytest.raises(ShapeError, match=rf"^{name}: expected shape \(30,\) \(n_source\), got \(3,\)"):
        good.fit_model(**{name: np.ones(3)})


@pytest.mark.parametrize("frame_index", ["median", 20, -21, 1.5, None])
def test_bad_frame_is_refused(good, frame_index):
    with pytest.raises(InputError, match=r"^frame_index: expected 'mean' or an integer below 20, got"):
        good.build_shape_model(frame_index=frame_index)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("rmin", 0.0, "^rmin: expected a finite number above 0, got 0.0"),
        ("rmax", 0.5, "^rmax: expected a radius above rmin = 1.0 arcsec, got 0.5"),
        ("cut_r", -1.0, "^cut_r: expected 0 or more arcsec, got -1.0"),
        ("n_r_knots", 2, "^n_r_knots: expected at least 3, got 2"),
        ("n_phi_knots", 3, "^n_phi_knots: expected at least 4, got 3"),
        ("limit_radius", 0.0, "^limit_radius: expected a finite number above 0, got 0.0"),
    ],
)
def test_setting_out_of_range_is_refused(field, setting, value, message):
    machine = Machine.from_pixels(field.pixels, field.sources, **{setting: value})
    with pytest.raises(InputError, match=message):
        machine.build_shape_model()


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan])
def test_pair_distance_out_of_range_is_refused(field, limit):
    with pytest.raises(InputError, match=r"^sparse_dist_lim: expected a finite number above 0"):
        Machine.from_pixels(field.pixels, field.sources, sparse_dist_lim=limit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"flux_cutoff": 3},
            r"^kwargs: .* got flux_cutoff; did you mean flux_cut_off",
        ),
        ({"flux_cut_off": 0}, r"^flux_cut_off: expected a finite number above 0, got 0"),
        ({"upper_flux_limit": -1.0}, r"^upper_flux_limit: expected a finite number above 0"),
        ({"max_pairs": 0.5}, r"^max_pairs: expected a whole number, got 0.5"),
    ],
)
def test_bad_option_of_the_shape_is_refused(good, options, message):
    with pytest.raises(InputError, match=message):
        good.build_shape_model(**options)


def test_unknown_setting_is_refused(field):
    with pytest.raises(InputError, match=r"^settings: expected some of .*sparse_dist_lim, .*quiet, got radius_max"):
        Machine.from_pixels(field.pixels, field.sources, radius_max=3.0)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones(3, bool), ShapeError, r"^time_mask: expected shape \(20,\) \(n_time\), got \(3,\)"),
        (np.zeros(20, bool), InputError, "^time_mask: expected at least one True, got none"),
    ],
)
def test_bad_time_mask_is_refused(field, mask, error, message):
    with pytest.raises(error, match=message):
        Machine.from_pixels(field.pixels, field.sources, time_mask=mask)
    machine = Machine.from_pixels(field.pixels, field.sources)
    with pytest.raises(error, match=message):
        machine.time_mask = mask


def test_stages_out_of_order_name_the_method_to_call(field):
    """PSFMachine, defect 31: AttributeError, or an error from inside the loop."""
    machine = Machine.from_pixels(field.pixels, field.sources)
    with pytest.raises(StageError, match=r"^no prf result yet: call build_shape_model\(\) first"):
        machine.fit_model()
    machine.build_shape_model()
    with pytest.raises(StageError, match=r"^no time model result yet: call build_time_model\(\) first"):
        machine.fit_model(fit_va=True)
    with pytest.raises(StageError, match=r"^no flux result yet: call fit_model\(\) first"):
        _ = machine.ws


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (
            lambda p, s: (pixels_like(p, flux=np.full_like(p.flux, np.nan)), s),
            r"\d+ are of stars .* 0 of these have data",
        ),
        (
            lambda p, s: (p, sources_like(s, flux=np.zeros(s.n_source))),
            r" 0 are of stars with a catalogue flux above 0",
        ),
        (
            lambda p, s: (pixels_like(p, instrument=Instrument("dim", 3.98, saturation=1e-3)), s),
            r"0 of these are near the star and neither saturated",
        ),
    ],
    ids=["no data", "no catalogue flux", "all saturated"],
)
def test_field_that_teaches_nothing_says_why(field, spoil, where):
    """PSFMachine, defects 29 and 30: ZeroDivisionError and LinAlgError."""
    machine = Machine.from_pixels(*spoil(field.pixels, field.sources))
    with pytest.raises(InputError, match=rf"^sources: expected stars that light pixels alone.*{where}"):
        machine.build_shape_model()


def test_flat_prior_without_data_names_the_source(field, good):
    sources = with_source(field.sources, field.sources.ra_deg[0], field.sources.dec_deg[0] + 1.0, 1e4, name="nowhere")
    machine = solved(field.pixels, sources)
    with pytest.raises(NotPositiveDefiniteError, match=r"^prior_sigma: source nowhere at cadence 0 is held by neither"):
        machine.fit_model(prior_sigma=np.inf)


# Missing pixels


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("flux", np.nan),
        ("flux", np.inf),
        ("flux", -np.inf),
        ("flux_err", np.nan),
        ("flux_err", np.inf),
        ("flux_err", 0.0),
        ("flux_err", 1e-200),
        ("flux_err", 1e200),
    ],
)
def test_missing_pixel_leaves_the_exact_posterior_of_the_rest(field, star, peak, name, bad):
    """PSFMachine, defects 6 and 7: -57 +- 21 instead of 9.1e5, or NaN for every source of the cadence.

    Exact but for the misfit that each pixel has at all cadences, which the pixel that is missing would have cancelled:
    few knots make one of several errors.
    """
    spoiled = changed(getattr(field.pixels, name), (CADENCE, peak), bad)
    machine = solved(pixels_like(field.pixels, **{name: spoiled}), field.sources, COARSE)
    keep = np.arange(machine.npixels) != peak
    usual = np.delete(machine.flux - machine.model_flux, CADENCE, axis=0).mean(axis=0)
    mean, std = dense_posterior(machine, CADENCE, keep, usual=usual)
    plain, _ = dense_posterior(machine, CADENCE, keep)
    assert abs(machine.ws[CADENCE, star] - plain[star]) > 4.0 * std[star]
    assert abs(machine.ws[CADENCE, star] - mean[star]) < 0.3 * std[star]
    assert np.mean(np.abs(machine.ws[CADENCE] / plain - 1.0) < 1e-9) > 0.6
    np.testing.assert_allclose(machine.werrs[CADENCE], std, rtol=1e-9)
    owners = machine.mean_model[:, [peak]].toarray().ravel() > 0
    dropped = (machine.flags & QualityFlag.PIXELS_DROPPED) != 0
    assert star in np.flatnonzero(owners)
    np.testing.assert_array_equal(dropped[CADENCE], owners)
    assert not np.delete(dropped, CADENCE, axis=0).any()
    assert not machine.pixels.saturated.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_pixel_is_as_good_as_any_other_missing_pixel(field, peak, bad):
    """PSFMachine: half the sources NaN for an infinite flux."""
    reference = solved(
        pixels_like(field.pixels, flux_err=changed(field.pixels.flux_err, (CADENCE, peak), 0.0)), field.sources
    )
    machine = solved(pixels_like(field.pixels, flux=changed(field.pixels.flux, (CADENCE, peak), bad)), field.sources)
    np.testing.assert_array_equal(machine.ws, reference.ws)
    np.testing.assert_array_equal(machine.flags, reference.flags)


def test_missing_pixel_hardly_touches_other_cadences(field, good, peak):
    """PSFMachine: other cadences move by up to 34 standard deviations."""
    machine = solved(pixels_like(field.pixels, flux=changed(field.pixels.flux, (CADENCE, peak), np.nan)), field.sources)
    shift = np.delete(machine.ws / good.ws - 1.0, CADENCE, axis=0)
    assert np.abs(shift).max() < 1e-3


def test_pixel_with_a_huge_error_does_not_spoil_the_mean_image(field, good, star, peak):
    """A value of 1e9 +- 1e9 says nothing, in its cadence and in the mean image, which is that of the other cadences."""
    where = (CADENCE, peak)
    flux, error = (changed(one, where, 1e9) for one in (field.pixels.flux, field.pixels.flux_err))
    with pytest.warns(DataWarning, match=r"^the PRF is fitted without 1 of \d+ values of flux, .* 1e\+09 \+- 1e\+09"):
        machine = solved(pixels_like(field.pixels, flux=flux, flux_err=error), field.sources)
    rest = np.delete(field.pixels.flux_err[:, peak], CADENCE)
    assert machine.fit.prf.image.ivar[peak] == pytest.approx(rest.size**2 / np.sum(rest**2), rel=1e-12)
    others = np.delete(machine.ws[:, star] / good.ws[:, star], CADENCE)
    assert np.abs(others - 1.0).max() < 5e-3


def test_pixel_that_never_has_data_is_left_out(field, good, star, peak):
    flux = field.pixels.flux.copy()
    flux[:, peak] = np.nan
    machine = solved(pixels_like(field.pixels, flux=flux), field.sources)
    mean, _ = dense_posterior(machine, 0, np.arange(machine.npixels) != peak)
    np.testing.assert_allclose(machine.ws[0], mean, rtol=1e-9)
    assert np.all(machine.flags[:, star] & QualityFlag.PIXELS_DROPPED)
    assert abs(machine.ws[0, star] / good.ws[0, star] - 1.0) < 0.02


def test_cadence_without_data_is_nan_and_flagged(field, good):
    flux = field.pixels.flux.copy()
    flux[CADENCE] = np.nan
    machine = solved(pixels_like(field.pixels, flux=flux), field.sources)
    assert np.isnan(machine.ws[CADENCE]).all()
    assert np.isnan(machine.werrs[CADENCE]).all()
    assert np.all(machine.flags[CADENCE] & QualityFlag.NO_DATA)
    kept = np.arange(machine.nt) != CADENCE
    assert not np.any(machine.flags[kept] & QualityFlag.NO_DATA)
    np.testing.assert_allclose(machine.ws[kept], good.ws[kept], rtol=5e-3)


def test_masked_array_counts_as_missing(field, peak):
    hidden = np.ma.masked_array(field.pixels.flux, mask=np.zeros(field.pixels.flux.shape, bool))
    hidden[CADENCE, peak] = np.ma.masked
    pixels = pixels_like(field.pixels, flux=hidden)
    assert pixels.ivar[CADENCE, peak] == 0.0
    assert pixels.gaps.sum() == pixels.gaps[peak] == 1


# Sources without a match in the data, or in the catalogue


def test_source_without_pixels_is_nan_and_flagged(field, good):
    """PSFMachine: NaN without a reason, and defect 21: an aperture flux of 0."""
    sources = with_source(field.sources, field.sources.ra_deg[0], field.sources.dec_deg[0] + 1.0, 1e4)
    machine = solved(field.pixels, sources)
    machine.compute_aperture_photometry()
    for result in (machine.ws, machine.werrs, machine.sap_flux):
        assert np.isnan(result[:, -1]).all()
    assert np.all(machine.flags[:, -1] & QualityFlag.NO_PIXELS)
    assert np.isnan(machine.CROWDSAP[-1])
    assert not np.any(machine.flags[:, :-1] & QualityFlag.NO_PIXELS)
    # It has a place among those of the fit, whose steps end elsewhere within a share of the errors.
    np.testing.assert_allclose((machine.ws[:, :-1] - good.ws) / good.werrs, 0.0, atol=0.01)


@pytest.mark.parametrize("bad", [0.0, np.nan, -7.0, np.inf])
def test_star_without_catalogue_flux_is_measured_and_flagged(field, good, star, bad):
    """PSFMachine, defect 30: LinAlgError, TypeError, or NaN."""
    machine = solved(field.pixels, sources_like(field.sources, flux=changed(field.sources.flux, star, bad)))
    assert np.all(machine.flags[:, star] & QualityFlag.NO_CATALOG_FLUX)
    assert not np.any(np.delete(machine.flags, star, axis=1) & QualityFlag.NO_CATALOG_FLUX)
    np.testing.assert_allclose(machine.ws[:, star], good.ws[:, star], rtol=5e-3)
    np.testing.assert_allclose(machine.ws, good.ws, rtol=1e-2)


@pytest.mark.parametrize("separation", [1e-6, 1e-5, 1e-4, 1e-3])
def test_star_listed_twice_a_hair_apart_does_not_set_the_scale(field, good, star, separation):
    """What the pair's fluxes are no pixel tells; they came out 1e8 times too large, and set the scale of the field."""
    sources = field.sources
    ra = sources.ra_deg[star] + separation / 3600.0 / np.cos(np.radians(sources.dec_deg[star]))
    doubled = with_source(sources, ra, sources.dec_deg[star], sources.flux[star])
    with pytest.warns(DataWarning, match=r"^1 pairs of stars lie within 0.01 arcsec, closer than any data"):
        machine = solved(field.pixels, doubled)
    assert machine.fit.prf.scale == pytest.approx(good.fit.prf.scale, rel=0.01)
    others = np.arange(sources.n_source) != star
    move = np.abs(machine.ws[:, :-1] - good.ws)[:, others] / good.werrs_total[:, others]
    # One bright star less trains the PRF, so the others move, but within their total errors.
    assert np.median(move) < 1.0
    assert move.max() < 3.0
    pair = machine.ws[:, [star, -1]].sum(axis=1)
    np.testing.assert_allclose(pair, good.ws[:, star], rtol=0.01)


def test_same_position_twice_shares_the_light_and_says_so(field, good, star):
    """PSFMachine, defect 21: split evenly by the prior, the width of which is the error, without a flag."""
    sources = field.sources
    machine = solved(
        field.pixels, with_source(sources, sources.ra_deg[star], sources.dec_deg[star], sources.flux[star])
    )
    twins = [star, -1]
    assert np.all(machine.flags[:, twins] & QualityFlag.DEGENERATE_BLEND)
    alone = np.delete(machine.flags, twins, axis=1)
    assert not np.any(alone & QualityFlag.DEGENERATE_BLEND)
    np.testing.assert_allclose(machine.ws[:, twins].sum(axis=1), good.ws[:, star], rtol=1e-2)
    covariance = machine.fit.flux.posterior.covariance(0, twins)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert correlation == pytest.approx(-1.0, abs=1e-6)
    assert np.sqrt(covariance.sum()) == pytest.approx(good.werrs[0, star], rel=0.05)


# Saturation


@pytest.fixture(scope="module")
def bright_field():
    """Like the other field, but two stars saturate Kepler's pixels."""
    return make_field(rng=np.random.default_rng(8), n_source=30, n_time=12, mag_range=(8.5, 14.0), stamp_sides=(7, 9))


def test_saturated_pixels_are_left_out_and_flagged(bright_field):
    pixels = bright_field.pixels
    machine = solved(pixels, bright_field.sources)
    saturated = pixels.flux.mean(axis=0) > KEPLER.saturation
    np.testing.assert_array_equal(pixels.saturated, saturated)
    assert saturated.sum() > 3
    mean, std = dense_posterior(machine, 0, ~pixels.spilled)
    lit = np.isfinite(machine.ws[0])
    np.testing.assert_allclose(machine.ws[0, lit], mean[lit], rtol=1e-8)
    np.testing.assert_allclose(machine.werrs[0, lit], std[lit], rtol=1e-8)
    scale = pixels.instrument.pixel_scale
    near = machine.r.copy()
    near.data = near.data < scale
    # Charge spills along the column: those pixels are left out, and count, like the saturated ones.
    own = near.multiply(machine.source_mask).toarray()[:, pixels.spilled]
    owner = own.any(axis=1)
    touched = machine.source_mask.toarray()[:, pixels.spilled].any(axis=1) & ~owner
    assert owner.sum() >= 2
    assert touched.sum() >= 1
    for bit, expected in ((QualityFlag.SATURATED, owner), (QualityFlag.SATURATED_NEIGHBOR, touched)):
        np.testing.assert_array_equal((machine.flags[0] & bit) != 0, expected)


def test_saturated_values_do_not_matter(bright_field):
    """Whatever a saturated pixel reads, the fluxes are the same."""
    pixels = bright_field.pixels
    machine = solved(pixels, bright_field.sources)
    flux = pixels.flux.copy()
    flux[:, pixels.saturated] *= 3.0
    np.testing.assert_array_equal(solved(pixels_like(pixels, flux=flux), bright_field.sources).ws, machine.ws)


def test_one_cosmic_ray_does_not_saturate_a_pixel(field):
    flux = np.repeat(field.pixels.flux, 10, axis=0)
    flux[3, 5] = 1e9
    n_time = flux.shape[0]
    pixels = PixelTable(
        np.arange(n_time), flux, np.ones_like(flux), field.pixels.ra_deg, field.pixels.dec_deg,
        field.pixels.column, field.pixels.row, instrument=Instrument("x", 4.0, saturation=1e8),
    )  # fmt: skip
    assert not pixels.saturated.any()
    flux[4, 5] = 1e9
    assert pixels_like(pixels, flux=flux, flux_err=np.ones_like(flux)).saturated.nonzero()[0] == [5]


# Where and how the scene is given


def test_right_ascension_may_wrap(field, good):
    """PSFMachine, defect 9: half the pixels of a star on the seam are lost."""
    shift = 360.0 - field.sources.ra_deg[field.sources.n_source // 2]
    pixels = pixels_like(field.pixels, ra_deg=(field.pixels.ra_deg + shift) % 360.0)
    sources = sources_like(field.sources, ra_deg=(field.sources.ra_deg + shift) % 360.0)
    assert np.ptp(pixels.ra_deg) > 359.0
    np.testing.assert_allclose(solved(pixels, sources).ws, good.ws, rtol=1e-9)


@pytest.mark.parametrize("dec", [80.0, -85.0])
def test_high_declination_is_as_good_as_the_equator(dec):
    """PSFMachine, defect 4: without cos(dec) the error of the shape triples at declination 80."""
    made = [
        make_field(rng=np.random.default_rng(5), n_source=30, n_time=10, dec0=d, instrument=LINEAR) for d in (0.0, dec)
    ]
    equator, high = (spread(solved(one.pixels, one.sources), one) for one in made)
    assert abs(high[0] - equator[0]) < 0.015
    assert high[1] < 1.5 * equator[1]


@pytest.mark.parametrize(
    "index",
    [
        lambda n: np.random.default_rng(1).permutation(n),
        lambda n: [f"star {i}" for i in range(n)],
        lambda n: np.zeros(n),
    ],
    ids=["shuffled", "strings", "all the same"],
)
def test_index_of_the_catalogue_does_not_matter(arguments, good, index):
    """PSFMachine, defects 8 and 28: the position of another star, or KeyError."""
    frame = arguments["sources"]
    frame.index = index(len(frame))
    machine = Machine(**arguments, cut_r=good.cut_r, instrument=LINEAR)
    machine.build_shape_model()
    machine.fit_model(n_threads=1)
    np.testing.assert_array_equal(machine.ws, good.ws)


@pytest.mark.parametrize(("dtype", "rtol"), [(">f8", 0), ("<f4", 1e-6), (">f4", 1e-6)])
def test_number_format_does_not_matter(field, good, dtype, rtol):
    """PSFMachine, defect 20: answers move by 1.7e-4 with float32."""
    pixels = pixels_like(
        field.pixels, flux=field.pixels.flux.astype(dtype), flux_err=field.pixels.flux_err.astype(dtype)
    )
    assert pixels.flux.dtype == np.float64
    np.testing.assert_allclose(solved(pixels, field.sources).ws, good.ws, rtol=rtol)


def test_integer_flux_is_taken_at_its_value(field):
    whole = np.rint(field.pixels.flux)
    as_integer = solved(pixels_like(field.pixels, flux=whole.astype(np.int32)), field.sources)
    np.testing.assert_array_equal(as_integer.ws, solved(pixels_like(field.pixels, flux=whole), field.sources).ws)


def test_star_on_a_pixel_centre_keeps_its_pixels(field, good, star, peak):
    """PSFMachine, defect 25: IndexError, because explicit zeros are dropped."""
    pixels, sources = field.pixels, field.sources
    moved = sources_like(
        sources,
        ra_deg=changed(sources.ra_deg, star, pixels.ra_deg[peak]),
        dec_deg=changed(sources.dec_deg, star, pixels.dec_deg[peak]),
    )
    machine = Machine.from_pixels(pixels, moved)
    for matrix in (machine.r, machine.dra, machine.ddec, machine.phi):
        assert matrix.nnz == machine.r.nnz
        assert matrix[star, peak] == 0.0
    assert peak in machine.r[star].indices
    machine.build_shape_model(correct_centroid_offset=False, refine=False)
    machine.fit_model(n_threads=1)
    prf = machine.fit.prf
    assert machine.mean_model[star, peak] == pytest.approx(prf.prf.peak / prf.star_sum[star])
    assert machine.mean_model[star].nnz > 10
    assert np.isfinite(machine.ws).all()


def test_single_cadence(field):
    """One image is enough: its shape and its fluxes, as those of the frame in a stack."""
    pixels = field.pixels
    one = pixels_like(pixels, time=pixels.time[:1], flux=pixels.flux[:1], flux_err=pixels.flux_err[:1])
    machine = solved(one, field.sources)
    assert machine.ws.shape == (1, field.sources.n_source)
    np.testing.assert_allclose(machine.ws[0], solved(pixels, field.sources, frame_index=0).ws[0], rtol=1e-12)
    assert spread(machine, field)[0] == pytest.approx(1.0, abs=0.03)


def test_faint_field():
    """PSFMachine, defect 29: ZeroDivisionError when nothing is above 100 electron / s."""
    faint = make_field(rng=np.random.default_rng(3), n_source=30, n_time=20, mag_range=(18.0, 19.5), instrument=LINEAR)
    mean = faint.pixels.flux.mean(axis=0)
    assert mean.max() < 150.0
    median, scatter = spread(solved(faint.pixels, faint.sources), faint)
    assert median == pytest.approx(1.0, abs=0.02)
    assert scatter < 0.03


def test_bright_field():
    """PSFMachine, defect 29: LinAlgError when everything is above 2e5 electron / s."""
    bright = make_field(rng=np.random.default_rng(3), n_source=30, n_time=20, mag_range=(5.0, 7.0), instrument=LINEAR)
    assert bright.mean_flux.min() > 1e7
    median, scatter = spread(solved(bright.pixels, bright.sources), bright)
    assert median == pytest.approx(1.0, abs=0.02)
    assert scatter < 0.02


def test_one_source():
    """PSFMachine, defect 12: flux / truth 0.066."""
    one = make_field(rng=np.random.default_rng(3), n_source=1, n_time=20, mag_range=(12.0, 12.5), instrument=LINEAR)
    assert one.pixels.n_pixel <= 49
    assert spread(solved(one.pixels, one.sources), one)[0] == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("factor", [100.0, 0.01, 1626.0])
def test_other_unit_of_flux(field, good, factor):
    """PSFMachine, defect 11: thresholds in electron / s are hard-coded; LinAlgError for electrons per cadence."""
    pixels = pixels_like(field.pixels, flux=field.pixels.flux * factor, flux_err=field.pixels.flux_err * factor)
    sources = sources_like(field.sources, flux=field.sources.flux * factor)
    exact = solved(pixels, sources, flux_cut_off=factor)
    np.testing.assert_allclose(exact.ws / factor, good.ws, rtol=1e-11)
    np.testing.assert_allclose(exact.werrs / factor, good.werrs, rtol=1e-11)


@pytest.mark.parametrize("factor", [100.0, 1626.0])
def test_other_unit_with_the_default_cut(field, good, factor):
    """Only the cut at 1 has a unit: light below it is known instead of fitted, and little changes."""
    pixels = pixels_like(field.pixels, flux=field.pixels.flux * factor, flux_err=field.pixels.flux_err * factor)
    machine = solved(pixels, field.sources)
    np.testing.assert_allclose(machine.ws / factor, good.ws, rtol=5e-3)


# The remaining defects of PSFMachine that touch shape and fluxes


def test_catalogue_scale_does_not_reach_the_flux(field, good):
    """PSFMachine, defect 1: flux / truth 0.22 for a zero point 5 times off, no pixels at 0.135."""
    for scale in (5.0, 0.135):
        machine = solved(field.pixels, sources_like(field.sources, flux=field.sources.flux * scale))
        np.testing.assert_allclose(machine.ws, good.ws, rtol=1e-11)
        np.testing.assert_allclose(machine.mean_model.data, good.mean_model.data, rtol=1e-10)


def test_prf_sums_to_one_over_an_infinite_pixel_grid(good):
    """PSFMachine, defect 2: the integral has no Jacobian, 8.0 for a PRF that sums to one."""
    side = np.sqrt(good.fit.prf.prf.pixel_area)
    grid = side * (np.arange(-60, 61) + 0.3)
    dx, dy = (one.ravel() for one in np.meshgrid(grid, grid))
    inside = good.fit.prf.prf.evaluate(dx, dy).sum()
    slope, edge = good.fit.prf.prf.wing_slope, 60.5
    rim = good.fit.prf.prf.evaluate(np.array([edge * side]), np.zeros(1))[0]
    outside = rim * 2.0 * np.pi * edge**2 / (-slope - 2.0)
    assert inside + outside == pytest.approx(1.0, abs=0.01)


def test_mask_follows_the_flux_of_the_source_itself(good):
    """PSFMachine, defect 3: the mask asked for PRF times the whole scene, light of 8800 electron / s was left out."""
    shape = good.fit.prf
    model = good.mean_model.multiply(np.nan_to_num(shape.flux)[:, None]).tocsr()
    assert model.data.min() > 1.0
    everywhere = shape.prf.evaluate(good.dra.data * 3600.0, good.ddec.data * 3600.0)
    expected = np.repeat(shape.flux, np.diff(good.dra.indptr)) * everywhere > 1.0
    assert expected.sum() == model.multiply(good.r > 0.0).nnz


def test_bad_pixel_does_not_lose_the_flux_estimates(field, good, star, peak):
    """PSFMachine, defect 6: the re-estimation of all 80 catalogue fluxes was lost."""
    machine = solved(pixels_like(field.pixels, flux=changed(field.pixels.flux, (CADENCE, peak), np.nan)), field.sources)
    np.testing.assert_allclose(machine.fit.prf.flux, good.fit.prf.flux, rtol=1e-3)


def test_negative_pixels_teach_the_wings():
    """PSFMachine, defect 12: negative pixels dropped, so wings come out 1.3 to 6 times too high beyond 10 arcsec."""
    made = make_field(
        rng=np.random.default_rng(2), layout="image", image_shape=(60, 60), n_source=14, n_time=8,
        mag_range=(14.0, 15.0), min_separation=11.0, instrument=LINEAR, read_noise=6000.0,
    )  # fmt: skip
    prf = solved(made.pixels, made.sources).fit.prf.prf
    radius = np.array([10.0, 12.0, 14.0])
    phi = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    dx, dy = (np.outer(radius, one(phi)).ravel() for one in (np.cos, np.sin))
    true = made.settings.prf.evaluate(dx / 3.98, dy / 3.98).reshape(3, -1).mean(axis=1)
    fitted = prf.evaluate(dx, dy).reshape(3, -1).mean(axis=1)
    assert np.abs(fitted / true - 1.0).max() < 0.25


def test_catalogue_and_arguments_are_not_changed(field):
    """PSFMachine, defect 16: estimates overwritten, the offset applied again at a second call."""
    before = field.sources.flux.copy(), field.pixels.flux.copy()
    machine = solved(field.pixels, field.sources)
    np.testing.assert_array_equal(machine.source_flux_estimates, before[0])
    np.testing.assert_array_equal(field.pixels.flux, before[1])


def test_flux_error_is_the_closed_form(good):
    """PSFMachine, defect 17: the prior counted the data twice; ours is the catalogue's and ten times as wide."""
    mean, std = dense_posterior(good, 3, np.arange(good.npixels))
    np.testing.assert_allclose(good.ws[3], mean, rtol=1e-9)
    np.testing.assert_allclose(good.werrs[3], std, rtol=1e-9)
    prior = good.fit.flux.problem.prior
    np.testing.assert_allclose(prior.precision**-0.5, 10.0 * prior.mean, rtol=1e-12)
    np.testing.assert_allclose(prior.mean, good.source_flux_estimates * good.fit.prf.scale, rtol=1e-12)


def test_unsorted_times_give_the_same_fluxes(field, good):
    """PSFMachine, defect 26: without a time model the order of the cadences does not matter."""
    order = np.random.default_rng(0).permutation(field.pixels.n_time)
    pixels = field.pixels
    shuffled = pixels_like(pixels, time=pixels.time[order], flux=pixels.flux[order], flux_err=pixels.flux_err[order])
    np.testing.assert_allclose(solved(shuffled, field.sources).ws, good.ws[order], rtol=1e-10)


def test_fluxes_in_a_crowd_are_not_negative():
    """PSFMachine, defect 14: 142 of 1500 stars negative, to -4900 standard deviations."""
    crowd = make_field(
        rng=np.random.default_rng(2), layout="image", image_shape=(40, 40), n_source=150, n_time=4, instrument=LINEAR
    )
    machine = solved(crowd.pixels, crowd.sources)
    assert np.min(machine.ws / machine.werrs) > -3.0
    assert np.median(machine.ws / crowd.flux) == pytest.approx(1.0, abs=0.02)
    assert not np.any(machine.flags & QualityFlag.NEGATIVE_FLUX)
