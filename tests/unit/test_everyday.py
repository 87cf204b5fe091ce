"""What one does with a Machine every day: look at it, save it, hand its light curves on."""

import copy
import re

import numpy as np
import pytest

from bayesprf.errors import InputError, StageError
from bayesprf.hypotheses.missing_stars import MissingStars
from bayesprf.io.lightcurves import to_lightkurve
from bayesprf.io.save import load_tree
from bayesprf.machine import Machine
from bayesprf.results.scores import compare
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def field():
    return make_field(
        rng=np.random.default_rng(1), n_source=4, n_time=6, n_stamp=4, mag_range=(11.0, 12.5), stamp_fill=0.02,
        catalog_scatter=0.05,
    )  # fmt: skip


@pytest.fixture(scope="module")
def machine(field):
    made = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    made.build_shape_model()
    made.fit_model()
    return made


def test_repr_says_size_stages_scatter_and_flags(field, machine):
    assert repr(Machine.from_pixels(field.pixels, field.sources, quiet=True)).endswith("sources: 4; stages: none yet>")
    text = repr(machine)
    assert text.startswith(f"<Machine: pixels: Kepler, 6 cadences x {field.pixels.n_pixel} pixels; sources: 4;")
    assert "stages: prf, flux" in text
    assert f"PRF scatter: {machine.fit.prf.intrinsic_scatter:.3g} dex" in text
    assert "flags: " in text
    assert machine._repr_html_().count("<tr>") == 5


def test_save_and_light_curves_are_those_of_the_tree(machine, tmp_path):
    path = machine.save(tmp_path / "field.nc")
    np.testing.assert_array_equal(load_tree(path)["photometry/flux"], machine.ws)
    written = machine.to_fits(tmp_path / "curves", sources=["star-00002", 0])
    assert [one.name for one in written] == ["star-00002.fits", "star-00000.fits"]
    curve = machine.to_lightkurve("star-00002")
    np.testing.assert_array_equal(curve.flux.value, machine.ws[:, 2])
    assert curve.label == to_lightkurve(machine.to_datatree(), "star-00002").label
    assert [one.label for one in machine.to_lightkurve([3, 1])] == ["star-00003", "star-00001"]


def test_light_curves_need_fluxes_and_known_names(field, machine, tmp_path):
    with pytest.raises(StageError, match=r"call fit_model\(\) first"):
        Machine.from_pixels(field.pixels, field.sources, quiet=True).to_fits(tmp_path)
    with pytest.raises(InputError, match="got 'star-7'"):
        machine.to_lightkurve("star-7")


def test_a_copy_shares_nothing_that_changes(machine):
    flux = machine.ws
    for other in (copy.copy(machine), copy.deepcopy(machine)):
        other.rmax = 12.0
        assert other.fit.prf is None
        assert machine.rmax == 16.0
        assert machine.ws is flux


@pytest.fixture(scope="module")
def answers(machine):
    """Everything that a Machine hands out, by the beginning of what it says of itself."""
    event = np.arange(6) == 3
    at = (machine.sources.ra_deg[0] + 5e-4, machine.sources.dec_deg[0])
    curves = machine.fit_light_curves(kernel="matern32")
    return {
        "<PixelTable: Kepler, 6 cadences x ": machine.pixels,
        "<SourceTable: 4 sources (star-00000, star-00001, star-00002, ...), catalogue flux ": machine.sources,
        "<Fit: pixels: Kepler, 6 cadences": machine.fit,
        "<Verdict: ": machine.verdict,
        "<CommonErrors: median of 4 sources ": machine.common_errors,
        "<FluxWidths: prior width ": machine.learn_widths(),
        "<ModelScore: ln evidence ": machine.loo(),
        "<DownWeighted: 0 outliers in 0 cadences>": machine.down_weighted,
        "<LightCurves: 4 stars in ": curves,
        "<BlendTest: ": machine.blend_test(0, at),
        "<EventHost: most probable host: ": machine.which_source(event),
        "<EventDepth: star-00000: depth ": machine.event_depth(0, event),
        "<EventPosition: RA ": machine.event_position(event, 0),
        "<MissingStars: ": machine.find_missing(),
        "<Comparison: 2 models, the best by evidence is o": compare({"one": machine, "other": machine}),
    }


def test_everything_says_in_a_line_what_it_is(answers):
    for beginning, one in answers.items():
        assert repr(one).startswith(beginning)
        assert len(repr(one)) < 400
        assert repr(one).isprintable()
        html = one._repr_html_()
        assert re.fullmatch(r"<(pre|p|table)>.*</(pre|p|table)>", html, re.DOTALL)
        assert "array(" not in repr(one) + str(one) + html


def test_what_is_printed_names_stars_and_numbers(answers):
    said = {repr(one).partition(":")[0][1:]: str(one) for one in answers.values()}
    assert re.search(
        r"\n  star-0000\d: probability \S+\n.*none of the catalogue: probability", said["EventPosition"], re.S
    )
    assert said["MissingStars"].startswith("0 stars found, searched at ")
    assert re.search(r"by cause: (\w+ \S+, )+model \S+$", said["CommonErrors"])
    assert "  source 0: matern32, sigma " in said["LightCurves"]
    assert re.search(r"exact leave-one-pixel-out -?\d+\.\d, of 6 cadences", said["ModelScore"])
    found = MissingStars(*np.zeros((5, 3)), *np.array([[290.0], [44.5], [50.0], [5.0], [9.0], [0.97]]), scale=1.0)
    assert str(found).endswith("\n  RA 290.00000, Dec +44.50000: flux 50 +- 5 electron / s, probability 0.97")
