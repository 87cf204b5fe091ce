"""Whatever is given to the constructor, a method or a question is answered, or refused by an error of the package."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from hypothesis import strategies as st

from bayesprf.errors import BayesprfError
from bayesprf.fit_record import Fit
from bayesprf.machine import Machine
from bayesprf.sampling.questions import HYPER
from bayesprf.settings import PerturbationOptions, QualityOptions, Settings, ShapeOptions
from bayesprf.simulation.fields import make_field
from bayesprf.testing import any_value, odd_array

# Arguments that a method cannot do without, by method.
EVENT = np.arange(8) == 5
NEEDED = {
    "inject": {"ra_deg": 290.0, "dec_deg": 44.5, "flux": 100.0},
    "blend_test": {"source": 0, "position": (290.0, 44.5)},
    "event_depth": {"source": 0, "event": EVENT},
    "event_position": {"event": EVENT},
    "perturbed_model": {"time_index": 0},
    "plot_aperture": {"source": 0},
    "which_source": {"event": EVENT},
}
# Options behind **kwargs.
OPTIONS = {
    "build_shape_model": tuple(ShapeOptions.__dataclass_fields__),
    "build_time_model": tuple(PerturbationOptions.__dataclass_fields__),
    "from_pixels": tuple(Settings.__dataclass_fields__),
    "pymc_model": (*HYPER, "form", "likelihood", "priors", "unknown"),
    "quality": tuple(QualityOptions.__dataclass_fields__),
    "refine_scene": tuple(ShapeOptions.__dataclass_fields__),
    "sample": (*HYPER, "form", "likelihood", "priors", "unknown"),
}
# Axes and figures of matplotlib, whatever draws like them.
DRAWN_INTO = ("ax", "figure")
# Models of PyMC and what is written to disk have fewer inputs, in tests of their own; constructors likewise.
SAMPLED = ("sample", "pymc_model")
WRITTEN = ("report", "save", "save_prf", "to_fits")
ELSEWHERE = (*SAMPLED, *WRITTEN, "from_fit", "from_pixels")


def arguments_of(name):
    """Return every argument of a method by name, with its options."""
    parameters = inspect.signature(getattr(Machine, name)).parameters.values()
    plain = [one.name for one in parameters if one.name != "self" and one.kind is not one.VAR_KEYWORD]
    return [one for one in (*plain, *OPTIONS.get(name, ())) if one not in DRAWN_INTO]


def cases_of(*names):
    """Return methods with each of their arguments."""
    return st.sampled_from([(name, argument) for name in names for argument in arguments_of(name)])


METHODS = [
    name
    for name, one in vars(Machine).items()
    if inspect.isfunction(one) and not name.startswith("_") and name not in ELSEWHERE
]


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(1), n_source=4, n_time=8, n_stamp=4, mag_range=(11.0, 12.5), stamp_fill=0.02
    )


@pytest.fixture(scope="module")
def fitted(field) -> Fit:
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True, time_nknots=3)
    machine.build_shape_model()
    machine.fit_model(n_threads=1)
    machine.compute_aperture_photometry()
    machine.fit_common_errors()
    return machine.fit


@pytest.mark.parametrize("n_example", [150, pytest.param(6000, marks=pytest.mark.slow)])
def test_methods(fuzz, fitted, n_example):
    arrays = odd_array(fitted.sources.flux), odd_array(EVENT), odd_array(np.array([290.0, 44.5]))

    def check(case, value):
        name, argument = case
        machine = Machine.from_fit(fitted, quiet=True)
        try:
            getattr(machine, name)(**{**NEEDED.get(name, {}), argument: value})
        finally:
            plt.close("all")

    fuzz(check, n_example, case=cases_of(*METHODS), value=st.one_of(any_value(), *arrays))


class ReachedSampler(BayesprfError):
    """All arguments were taken; the draws themselves are no question here."""


@pytest.mark.parametrize("n_example", [30, pytest.param(600, marks=pytest.mark.slow)])
def test_sampling(fuzz, fitted, monkeypatch, n_example):
    def stop(**_):
        raise ReachedSampler("sampling")

    monkeypatch.setattr(pm, "sample", stop)

    def check(case, value):
        name, argument = case
        getattr(Machine.from_fit(fitted, quiet=True), name)(**{"sources": [0], argument: value})

    fuzz(check, n_example, case=cases_of(*SAMPLED), value=st.one_of(any_value(), st.sampled_from(["learn", "linear"])))


@pytest.mark.parametrize("n_example", [25, pytest.param(600, marks=pytest.mark.slow)])
def test_what_is_written(fuzz, fitted, tmp_path, monkeypatch, n_example):
    """Texts are names of files: they are written below a directory of this test."""
    monkeypatch.chdir(tmp_path)

    def check(case, value):
        name, argument = case
        needed = {"directory": tmp_path / "out"} if name == "to_fits" else {}
        value = value.replace("/", "_") if isinstance(value, str) else value
        getattr(Machine.from_fit(fitted, quiet=True), name)(**{**needed, argument: value})

    fuzz(check, n_example, case=cases_of(*WRITTEN), value=any_value())


@pytest.mark.parametrize("n_example", [75, pytest.param(1500, marks=pytest.mark.slow)])
def test_constructor_and_what_it_leads_to(fuzz, field, n_example):
    pixels, sources = field.pixels, field.sources
    frame = pd.DataFrame({"ra": sources.ra_deg, "dec": sources.dec_deg, "phot_g_mean_flux": sources.flux})
    given = {
        "time": pixels.time, "flux": pixels.flux, "flux_err": pixels.flux_err, "ra": pixels.ra_deg,
        "dec": pixels.dec_deg, "column": pixels.column, "row": pixels.row, "sources": frame,
    }  # fmt: skip
    arrays = {name: one for name, one in given.items() if name != "sources"}
    columns = st.sampled_from(list(frame)).flatmap(
        lambda name: odd_array(frame[name]).filter(lambda one: one.shape == (4,)).map(lambda one: (name, one))
    )
    changes = st.one_of(
        st.sampled_from(list(arrays)).flatmap(lambda name: st.tuples(st.just(name), odd_array(arrays[name]))),
        st.tuples(st.sampled_from(arguments_of("__init__")), any_value()),
        columns.map(lambda change: ("sources", frame.assign(**{change[0]: change[1]}))),
    )

    def check(change):
        machine = Machine(**{**given, "quiet": True, change[0]: change[1]})
        machine.build_shape_model()
        machine.fit_model(n_threads=1)
        assert np.all(np.isfinite(machine.ws) | (machine.flags != 0))

    fuzz(check, n_example, change=changes)


@pytest.mark.parametrize("n_example", [75, pytest.param(1500, marks=pytest.mark.slow)])
def test_from_pixels(fuzz, field, n_example):
    def check(name, value):
        Machine.from_pixels(**{"pixels": field.pixels, "sources": field.sources, "quiet": True, name: value})

    fuzz(check, n_example, name=st.sampled_from(["pixels", "sources", *OPTIONS["from_pixels"]]), value=any_value())
