"""The PRF stage of a Fit: which image it looks at, and what it warns of."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.prf import stage
from bayesprf.prf.stage import fit_prf, select_image
from bayesprf.settings import PrfRecipe
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def machine():
    field = make_field(rng=np.random.default_rng(3), n_source=24, n_time=6, mag_range=(11.0, 15.0))
    return Machine.from_pixels(field.pixels, field.sources, quiet=True)


def test_image_is_a_frame_or_the_mean_over_the_mask(machine):
    flux = machine.pixels.flux
    np.testing.assert_allclose(select_image(machine.fit, "mean").flux, flux.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(select_image(machine.fit, 2).flux, flux[2])
    masked = replace(machine.fit, settings=replace(machine.fit.settings, time_mask=np.arange(6) < 3))
    np.testing.assert_allclose(select_image(masked, "mean").flux, flux[:3].mean(axis=0), rtol=1e-12)


def test_the_stage_fits_the_image_it_is_given(machine):
    image = select_image(machine.fit, 0)
    np.testing.assert_array_equal(fit_prf(machine.fit, PrfRecipe(), image).image.flux, image.flux)


@pytest.mark.parametrize(("score", "needs", "kept"), [(0.0, False, True), (0.0, True, False), (9.0, False, False)])
def test_finer_columns_are_asked_for_before_a_sky_is_believed(monkeypatch, score, needs, kept):
    """Coarse columns of a constant PRF may need a sky that is none: one of 0.6 electron / s cost 5 % of all fluxes."""
    coarse, finer = SimpleNamespace(joint=object()), SimpleNamespace(joint=object())
    sky = 0.6, 0.1
    monkeypatch.setattr(stage, "variation_score", lambda *_: score)
    monkeypatch.setattr(stage, "_detailed", lambda *_: (finer, "denser"))
    monkeypatch.setattr(stage, "_find_sky", lambda *_, few: sky if needs else None)
    found = stage._finer_without_sky(None, None, coarse, "coarse")
    assert found == ((finer, "denser") if kept else None)
