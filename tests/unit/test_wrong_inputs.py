"""Every wrong input of the list ends in one sentence that names the argument, what was expected and what came."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.errors import InputError, StageError
from bayesprf.simulation.fields import make_field

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "wrong_inputs.py"
_SPEC = importlib.util.spec_from_file_location("wrong_inputs", SCRIPT)
assert _SPEC is not None
assert _SPEC.loader is not None
TABLE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(TABLE)
CASES = [case for _, case in TABLE.load_cases()]
# Sentences of the command line's parser, and of stages that have not run, name no argument.
_OTHER = re.compile(r"No such|Missing option|Invalid value|--dask needs the package|no [\w ]+ result yet: call ")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("wrong"))
        patch.setenv("COLUMNS", "300")
        made = TABLE.make_names()
        TABLE.write_files(made)
        yield made


@pytest.mark.parametrize("case", CASES, ids=[case.call for case in CASES])
def test_wrong_input_ends_in_one_sentence(names, case):
    said = TABLE.answer(case.call, names)
    assert re.search(case.answer, said), said
    assert "\n" not in said
    assert _OTHER.match(said) or re.match(r"[\w, ./-]+: expected ", said)


def test_the_list_and_its_page():
    """The sentences of the page are those of the run that made it; the lines are compared with the list."""
    rows = [line[2:-2].split(" | ", 1) for line in TABLE.PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [call for call, _ in rows] == [f"`{TABLE.cell(case.call)}`" for case in CASES], f"run {SCRIPT}"
    assert len(CASES) == len({case.call for case in CASES}) >= 96


def test_knots_that_would_fill_the_memory():
    field = make_field(rng=np.random.default_rng(1), n_source=4, n_time=6, n_stamp=4, mag_range=(11.0, 12.5))
    made = bp.Machine.from_pixels(field.pixels, field.sources, time_nknots=50, quiet=True)
    with pytest.raises(StageError, match="build_shape_model"):
        made.plot_shape_model()
    with pytest.raises(InputError, match=r"time_nknots, field_order, poly_order: .* \(0\.869 GB\); take fewer knots"):
        made.build_time_model()
