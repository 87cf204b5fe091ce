"""Whatever is given for an option or an array is taken, or refused by an error of the package."""

import warnings
from contextlib import suppress
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayesprf.design.cartesian import CartesianBasis
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import BayesprfError
from bayesprf.pipeline import FitOptions
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import Background, MaskOptions, PerturbationOptions, Settings, ShapeOptions
from bayesprf.testing import any_value

RECORDS = (
    CartesianBasis, TrendOptions, Background, MaskOptions, PerturbationOptions, Settings, ShapeOptions, FitOptions,
)  # fmt: skip
OPTIONS = [(record, one.name) for record in RECORDS for one in fields(record)]
PIXELS = {
    "time": np.arange(3.0), "flux": np.ones((3, 4)), "flux_err": np.ones((3, 4)), "ra_deg": np.arange(4) / 1e3,
    "dec_deg": np.arange(4) / 1e3, "column": np.arange(4.0), "row": np.zeros(4),
}  # fmt: skip
SOURCES = {"source_id": ("a", "b"), "ra_deg": [0.0, 0.1], "dec_deg": [0.0, 0.1], "flux": [1.0, 2.0], "mag": [9.0, 8.0]}


def check_option(case, value):
    record, name = case
    with suppress(BayesprfError):
        record(**{name: value})


def check_table(case, value):
    table, name = case
    given = dict(PIXELS if table is PixelTable else SOURCES)
    with warnings.catch_warnings(), suppress(BayesprfError):
        warnings.simplefilter("ignore")
        table(**{**given, name: value})


FUZZ = [
    (check_option, OPTIONS),
    (check_table, [(PixelTable, name) for name in PIXELS] + [(SourceTable, name) for name in SOURCES]),
]


@pytest.mark.parametrize(("check", "cases"), FUZZ, ids=["options", "tables"])
@pytest.mark.parametrize("n_example", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_nothing_else_is_raised(request, check, cases, n_example):
    same = request.config.getoption("--hypothesis-seed") is None

    @settings(
        max_examples=n_example, deadline=None, derandomize=same, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.sampled_from(cases), any_value())
    def run(case, value):
        check(case, value)

    run()
