"""A catalogue flux that is not on the scale of the others counts as unknown."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.errors import DataWarning, InputError
from bayesprf.flags import QualityFlag
from bayesprf.scene.plausible import question_fluxes
from bayesprf.simulation.fields import make_field

FACTORS = 10.0 ** np.array([-12.0, -6.0, -3.0, -2.0, 2.0, 3.0, 6.0, 12.0])


def made(kind):
    """Return a stack of cutouts, or a small image of a few stars."""
    if kind == "small":
        layout = {"layout": "image", "image_shape": (11, 11), "n_source": 6, "mag_range": (11.0, 15.0)}
    else:
        layout = {"n_stamp": 14, "n_source": 20, "mag_range": (11.0, 15.0)}
    return make_field(rng=np.random.default_rng(3), n_time=6, **layout)


def fluxes(field, flux):
    machine = Machine.from_pixels(field.pixels, replace(field.sources, flux=flux), quiet=True)
    machine.build_shape_model()
    machine.fit_model(n_threads=1)
    return machine


@pytest.mark.parametrize("kind", ["small", "cutouts"])
def test_one_garbage_flux_leaves_the_others_alone(kind):
    """Whatever stands in the row, the fit is that with an unknown flux: others move by a fraction of their errors."""
    field = made(kind)
    clean = fluxes(field, field.sources.flux)
    star = int(np.argsort(-field.sources.flux)[field.sources.n_source // 3])
    others = np.arange(field.sources.n_source) != star
    given = field.sources.flux.copy()
    given[star] = np.nan
    unknown = fluxes(field, given)
    away = np.abs(unknown.ws - clean.ws).mean(axis=0) / np.median(clean.werrs_total, axis=0)
    assert away[others].max() < 0.5
    assert np.median(away[others]) < 0.3
    assert unknown.flags[0, star] & QualityFlag.NO_CATALOG_FLUX
    for factor in FACTORS:
        given[star] = factor * field.sources.flux[star]
        with pytest.warns(DataWarning, match=r"^catalogue: expected fluxes on one scale, but those of 1 stars are not"):
            one = Machine.from_pixels(field.pixels, replace(field.sources, flux=given), quiet=True)
        np.testing.assert_array_equal(np.isnan(one.sources.flux), ~others)
    for value in (-1.0, 0.0):
        given[star] = value
        np.testing.assert_array_equal(fluxes(field, given).ws, unknown.ws)


def test_true_fluxes_pass():
    """Variable stars, faint neighbours of bright stars and saturated ones are left alone, and any scale is."""
    field = make_field(
        rng=np.random.default_rng(4),
        n_time=3,
        layout="image",
        image_shape=(40, 40),
        n_source=200,
        mag_range=(9.0, 19.0),
    )
    for scale in (1e-6, 1.0, 1e9):
        sources = replace(field.sources, flux=scale * field.sources.flux)
        assert question_fluxes(field.pixels, sources) is sources
    wild = replace(field.sources, flux=field.sources.flux * np.random.default_rng(5).choice([0.6, 1.6], 200))
    assert question_fluxes(field.pixels, wild) is wild


def test_two_stars_cannot_say_which_is_wrong():
    field = make_field(rng=np.random.default_rng(3), n_time=3, n_source=2, n_stamp=2)
    sources = replace(field.sources, flux=np.array([1.0, 1e9]))
    assert question_fluxes(field.pixels, sources) is sources


def test_magnitudes_in_place_of_fluxes_are_refused():
    field = made("cutouts")
    with pytest.raises(InputError, match=r"flux_column: expected fluxes on a linear scale, .* as magnitudes do; name"):
        question_fluxes(field.pixels, replace(field.sources, flux=field.sources.mag))
    small = replace(field.sources, flux=field.sources.flux / field.sources.flux.max() * 25.0)  # of magnitudes' size
    assert question_fluxes(field.pixels, small) is small


def test_logarithms_in_place_of_fluxes_are_refused():
    field = made("cutouts")
    with pytest.raises(InputError, match=r"flux_column: .* rise with the light of the pixels as logarithms do; give"):
        question_fluxes(field.pixels, replace(field.sources, flux=np.log10(field.sources.flux)))
