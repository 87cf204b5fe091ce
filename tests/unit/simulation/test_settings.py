"""What a field is made of: transits, standard cases, and what is refused."""

import numpy as np
import pytest

from bayesprf.errors import InputError, ShapeError
from bayesprf.simulation.fields import make_case, make_field
from bayesprf.simulation.settings import CASES, Transit


def _rng(seed=7):
    return np.random.default_rng(seed)


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
     ("crowded", 1500, 14400, 20)],
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
