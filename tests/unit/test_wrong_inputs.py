"""A table of wrong inputs: each ends in one sentence that names the argument, what was expected and what came."""

import re

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

import bayesprf as bp
from bayesprf.errors import BayesprfError, InputError, StageError
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(1), n_source=4, n_time=6, n_stamp=4, mag_range=(11.0, 12.5), stamp_fill=0.02
    )


@pytest.fixture(scope="module")
def machine(field):
    made = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    made.build_shape_model()
    made.fit_model()
    made.compute_aperture_photometry()
    return made


ARRAY = np.zeros(3)
CASES = [
    ("unknown option", lambda m: m.build_shape_model(flux_cutoff=1), "flux_cutoff; did you mean flux_cut_off"),
    ("unknown setting", lambda m: bp.Machine.from_pixels(m.pixels, m.sources, rmaks=1), "did you mean rmax"),
    ("unknown option of time", lambda m: m.build_time_model(minsnr=2), "did you mean min_snr"),
    ("array for positions", lambda m: m.build_time_model(positions=ARRAY), "positions: expected one of False, None"),
    ("wrong positions", lambda m: m.build_time_model(positions="centre"), "positions: expected one of .*'centroid'"),
    ("fraction as order", lambda m: m.build_time_model(poly_order=2.5), "poly_order: expected a whole number, got 2.5"),
    ("negative order", lambda m: m.build_time_model(poly_order=-1), "poly_order: expected a whole number from 0 up"),
    ("number as flag", lambda m: m.build_time_model(segments=3), "segments: expected True or False, got 3"),
    ("text as number", lambda m: m.build_time_model(focus_exptime="long"), "focus_exptime: expected a number"),
    ("unknown bins", lambda m: m.build_time_model(bin_method=["bin"]), "bin_method: expected .*, got"),
    ("text as cut", lambda m: m.build_shape_model(flux_cut_off="low"), "flux_cut_off: expected a number, got 'low'"),
    ("none as cut", lambda m: m.build_shape_model(flux_cut_off=None), "flux_cut_off: expected a number, got None"),
    ("complex cut", lambda m: m.build_shape_model(flux_cut_off=1j), "flux_cut_off: expected a number"),
    (
        "nan as cut",
        lambda m: m.build_shape_model(flux_cut_off=np.nan),
        "flux_cut_off: expected a finite number above 0",
    ),
    ("number as flag of bins", lambda m: m.build_shape_model(bin_data=2), "bin_data: expected True or False, got 2"),
    ("fraction of rounds", lambda m: m.build_shape_model(n_round=2.0), "n_round: expected a whole number, got 2.0"),
    ("list as method", lambda m: m.build_shape_model(method=["joint"]), "method: expected a text"),
    ("text as radius", lambda m: bp.Machine.from_pixels(m.pixels, m.sources, rmax="far"), "rmax: expected a number"),
    ("knots", lambda m: bp.Machine.from_pixels(m.pixels, m.sources, n_r_knots=9.5), "n_r_knots: expected a whole"),
    ("list as radius", lambda m: bp.Machine.from_pixels(m.pixels, m.sources, cut_r=[3]), "cut_r: expected a number"),
    ("background", lambda m: bp.Machine.from_pixels(m.pixels, m.sources, background="sky"), "expected one of 'stamp'"),
    ("points", lambda m: m.get_psf_metrics(64), "npoints_per_pixel: expected a whole number from 0 to 32, got 64"),
    ("fraction of points", lambda m: m.get_psf_metrics(2.5), "npoints_per_pixel: expected a whole number"),
    ("list to compare", lambda m: bp.compare([m, m]), "models: expected a mapping of names"),
    ("seed", lambda m: m.posterior(random_seed="a"), "random_seed: expected None, a whole number"),
    ("negative seed", lambda m: m.posterior(random_seed=-1), "random_seed: expected None, a whole number"),
    ("draws", lambda m: m.posterior(draws=10), "draws: expected a multiple of 4"),
    ("fraction of draws", lambda m: m.posterior(draws=8.0), "draws: expected a whole number, got 8.0"),
    ("three numbers as position", lambda m: m.blend_test(0, (1.0, 2.0, 3.0)), r"position: expected shape \(2,\)"),
    ("text as position", lambda m: m.blend_test(0, "here"), "position: expected"),
    ("far position", lambda m: m.blend_test(0, SkyCoord(10.0, 10.0, unit="deg")), "position: expected a place on"),
    ("odds", lambda m: m.blend_test(0, (1.0, 2.0), prior_odds="even"), "prior_odds: expected a finite number above 0"),
    ("plot of no source", lambda m: m.plot_lightcurves(["star-9"]), "sources: expected names .* got 'star-9'"),
    ("aperture of no source", lambda m: m.plot_aperture("star-9"), "sources: expected names .* got 'star-9'"),
    ("aperture of index", lambda m: m.plot_aperture(99), "sources: expected .* whole numbers from 0 to 3, got 99"),
    ("fraction as source", lambda m: m.covariance([0.5]), "sources: expected .* got 0.5"),
    ("cadence", lambda m: m.covariance(cadence=99), "cadence"),
    ("time model first", lambda m: m.plot_time_model(), "build_time_model"),
    ("bits", lambda m: bp.read_tpfs("no-such-file.fits", quality_bitmask="best"), "no-such-file"),
]


@pytest.mark.parametrize(("call", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_wrong_input_ends_in_one_sentence(machine, call, message):
    with pytest.raises(BayesprfError, match=message) as caught:
        call(machine)
    assert "\n" not in str(caught.value)
    assert re.match(r"[\w, \[\]'./-]+:? ", str(caught.value))


def test_knots_that_would_fill_the_memory(field):
    made = bp.Machine.from_pixels(field.pixels, field.sources, time_nknots=50, quiet=True)
    with pytest.raises(StageError, match="build_shape_model"):
        made.plot_shape_model()
    with pytest.raises(InputError, match=r"time_nknots, poly_order: .* \(0\.866 GB\); take fewer knots"):
        made.build_time_model()
