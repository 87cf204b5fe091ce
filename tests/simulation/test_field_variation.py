"""A PRF that varies over the field is fitted as one, and a constant one is not."""

import numpy as np
import pymc as pm
import pytest

from bayesprf.flags import QualityFlag
from bayesprf.machine import Machine
from bayesprf.simulation.foreign import make_foreign, scaled_mixture
from bayesprf.simulation.settings import CASES, replace
from bayesprf.simulation.true_prf import asymmetric_prf

SETTINGS = replace(
    CASES["medium"], n_source=60, n_stamp=52, n_time=4, mag_range=(11.0, 15.5), exposure=24000.0, position_scatter=0.0,
    reach_level=1e-3,
)  # fmt: skip


def simulate(amount):
    """Sixty stars whose PRF is wider by `amount` at the edge of the field than in its middle."""
    prf = asymmetric_prf()
    return make_foreign(SETTINGS, lambda u, v: scaled_mixture(prf, 1.0 + amount * u), rng=np.random.default_rng(7))


def fit(field, **options):
    machine = Machine.from_pixels(field.field.pixels, field.field.sources, quiet=True)
    machine.build_shape_model(**options)
    machine.fit_model()
    return machine


def scatter(field, machine):
    """Robust scatter of fitted over true flux of the brighter half, relative."""
    bright = field.flux > np.median(field.flux)
    ratio = (machine.ws.mean(axis=0) / field.flux)[bright]
    return float(1.4826 * np.median(np.abs(ratio - np.median(ratio))))


@pytest.fixture(scope="module")
def varying():
    return simulate(0.05)


@pytest.fixture(scope="module")
def default(varying):
    return fit(varying)


def test_a_surface_is_found_where_the_prf_varies(varying, default):
    """A plane, and more: the logarithm of a PRF that widens along a line is no line."""
    constant = fit(varying, field_variation=0)
    assert default.fit.prf_recipe.shape.field_variation == 2
    assert constant.fit.prf_recipe.shape.field_variation == 0
    assert scatter(varying, constant) > 0.01
    assert scatter(varying, default) < 0.1 * scatter(varying, constant)
    assert constant.verdict.find(QualityFlag.PRF_VARIES) is not None
    assert default.verdict.find(QualityFlag.PRF_VARIES) is None


def test_a_constant_prf_stays_constant():
    machine = fit(simulate(0.0))
    # 0 where twice the knots were tried on a constant PRF, which holds it for whoever opens the fit again.
    assert not machine.fit.prf_recipe.shape.field_variation
    assert machine.fit.need("prf").joint.problem.n_field == 1


def test_questions_are_asked_with_the_prf_of_the_place(default):
    """The weights at a star's place give its own column of the design, and the joint model starts from them."""
    machine = default
    prf, sources = machine.fit.need("prf"), machine.sources
    star = int(np.argmax(np.abs(prf.joint.problem.place[:, 0]) * (machine.ws[0] > 1e4)))
    here = prf.at(sources.ra_deg[star], sources.dec_deg[star])
    pairs = prf.pairs.select(prf.pairs.source == star)
    own = prf.values[prf.pairs.source == star]
    near = own > 0.01
    assert np.abs(here.prf.evaluate(pairs.dx, pairs.dy) / own - 1.0)[near].max() < 1e-3
    assert np.abs(prf.prf.evaluate(pairs.dx, pairs.dy) / own - 1.0)[near].max() > 0.05
    model = machine.pymc_model("joint", sources=[star])
    draws = pm.draw(model["psf_w"], 200, random_seed=1)
    core = slice(0, 16)  # the outer weights are hardly known; the group's first star lies nearby, not at the same place
    away = np.abs(draws.mean(axis=0) - here.prf.weights)[core].max()
    assert away < 0.2 * np.abs(prf.prf.weights - here.prf.weights)[core].min()
    assert np.linalg.eigvalsh(here.weights_cov).min() > -1e-12
