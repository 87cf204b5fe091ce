import numpy as np
import pytest

from bayesprf.linalg.compiled.jit import kernel
from bayesprf.linalg.compiled.lanes import (
    LANES,
    all_above,
    copy_tile,
    fill,
    is_used,
    load,
    magnitude,
    mantissa,
    shifted_exponent,
    square_root,
    store,
    where_used,
)


@kernel
def arithmetic(x, y):
    total = load(x, 0)
    for row in range(1, x.shape[0]):
        total += 2.0 * load(x, row) * load(y, row) - load(y, row) / load(x, row)
    store(x, 0, square_root(total * total) + fill(1.0))


@kernel
def on_bits(x, out):
    value = load(x, 0)
    store(out, 0, mantissa(value))
    store(out, 1, shifted_exponent(value) - 2.0**52)
    store(out, 2, magnitude(load(x, 1)))
    store(out, 3, is_used(load(x, 1)))
    store(out, 4, where_used(load(x, 1), load(x, 2)))


@kernel
def compare(x):
    return all_above(load(x, 0), load(x, 1))


@kernel
def transpose(source, rows, column, target, place):
    copy_tile(source, rows, column, target, place)


def test_arithmetic_equals_numpy():
    x, y = np.random.default_rng(0).uniform(1, 2, (2, 5, LANES))
    wanted = np.abs(x[0] + np.sum(2 * x[1:] * y[1:] - y[1:] / x[1:], axis=0)) + 1
    arithmetic(x, y)
    np.testing.assert_allclose(x[0], wanted, rtol=1e-14)


def test_bits_split_a_number():
    x, out = np.zeros((3, LANES)), np.empty((5, LANES))
    x[0] = [1.0, 2.0, 0.75, 1e-300, 1e300, np.pi, 3e-5, 0.0]
    x[1] = [-1.0, 0.0, 2.0, -0.0, 1e-300, np.inf, 5.0, 0.0]
    x[2] = [1.0, np.nan, 3.0, np.inf, 5.0, 6.0, 7.0, np.nan]
    on_bits(x, out)
    wanted, exponent = np.frexp(x[0, :7])
    np.testing.assert_array_equal(out[0, :7], 2 * wanted)
    np.testing.assert_array_equal(out[1, :7], exponent - 1 + 1023)
    assert (out[0, 7], out[1, 7]) == (1.0, 0.0)
    np.testing.assert_array_equal(out[2], np.abs(x[1]))
    np.testing.assert_array_equal(out[3], [0, 0, 1, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(out[4], [1, 0, 3, 0, 5, 6, 7, 0])


@pytest.mark.parametrize(("change", "wanted"), [(0.0, True), (1.0, False), (np.nan, False)])
def test_all_above_needs_every_lane(change, wanted):
    x = np.stack([np.full(LANES, 0.5), np.zeros(LANES)])
    x[1, 3] += change
    assert compare(x) is wanted


def test_copy_tile_transposes_any_rows():
    rng = np.random.default_rng(0)
    source, target, rows = rng.normal(size=(20, 30)), np.zeros((12, LANES)), rng.integers(0, 20, LANES)
    transpose(source, rows, 11, target, 3)
    np.testing.assert_array_equal(target[3:11], source[rows, 11:19].T)
    assert not target[:3].any()
    assert not target[11:].any()
