"""The compiled splines agree with the basis they compile, and their derivatives with differences."""

import numpy as np
import pytest

from bayesprf.design.polar import PolarBasis
from bayesprf.linalg.compiled.polar import add_columns, evaluate_pairs
from bayesprf.scene.prf import PrfModel, wing_starts

LN10 = np.log(10.0)
BASIS = PolarBasis(1.0, 16.0, 3.0, 7, 8)
SHAPE = (BASIS.n_core, BASIS.n_phi_knots)
WING = np.array([-3.3, -0.4, 0.2])
STARTS = wing_starts(3)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def places(rng):
    place = rng.normal(size=(600, 2)) * 12.0
    place[0] = 0.0
    return place


def evaluate(source, place, weights):
    log, gradient = np.empty(source.size), np.empty((source.size, 2))
    evaluate_pairs(source, place, weights, WING, STARTS, BASIS.knots, SHAPE, log, gradient)
    return log, gradient


def test_values_are_those_of_the_prf_model(rng, places):
    weights, source = rng.normal(size=(2, BASIS.n_basis)), rng.integers(0, 2, places.shape[0])
    log, _ = evaluate(source, places, weights)
    for k, own in enumerate(weights):
        here = source == k
        model = PrfModel(BASIS, own, 16.0, wing_slope=WING[0], wing_bends=tuple(WING[1:]))
        np.testing.assert_allclose(log[here], np.log10(model.evaluate(*places[here].T)), rtol=0, atol=1e-12)


def test_gradient_agrees_with_differences(rng, places):
    weights, source = rng.normal(size=(1, BASIS.n_basis)), np.zeros(places.shape[0], np.int64)
    places = places[np.abs(np.hypot(*places.T)[:, None] - 16.0 * 10.0**STARTS).min(axis=1) > 1e-3]
    source = source[: places.shape[0]]
    _, gradient = evaluate(source, places, weights)
    for axis in range(2):
        step = 1e-5 * np.eye(2)[axis]
        ahead, behind = (evaluate(source, places + sign * step, weights)[0] for sign in (1.0, -1.0))
        np.testing.assert_allclose(LN10 * (ahead - behind) / 2e-5, gradient[:, axis], rtol=0, atol=1e-7)


def test_columns_add_up_the_basis(rng, places):
    source, factors = rng.integers(0, 3, places.shape[0]), rng.normal(size=(3, 2))
    light = rng.random(places.shape[0])
    indptr, rows = np.array([0, 200, 200, 600]), np.zeros((3, 2 * BASIS.n_basis + 3))
    add_columns(indptr, np.arange(600), source, places, light, factors, STARTS, BASIS.knots, SHAPE, rows)
    r, phi = np.hypot(*places.T), np.arctan2(places[:, 1], places[:, 0])
    columns = BASIS.matrix(r, phi).toarray() * light[:, None]
    depth = np.maximum(np.log10(np.maximum(r, 1e-9) / 16.0)[:, None] - STARTS, 0.0) * light[:, None]
    for row, part in enumerate((slice(0, 200), slice(0, 0), slice(200, 600))):
        for k in range(2):
            expected = (columns[part] * factors[source[part], k][:, None]).sum(axis=0)
            np.testing.assert_allclose(rows[row, k * BASIS.n_basis :][: BASIS.n_basis], expected, atol=1e-12)
        np.testing.assert_allclose(rows[row, -3:], depth[part].sum(axis=0), atol=1e-12)
