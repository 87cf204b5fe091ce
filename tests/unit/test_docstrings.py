"""Every public function, class and method has a See Also and an Example that runs."""

import doctest
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest

import bayesprf as bp
from bayesprf import datasets
from bayesprf.attributes import Result, Setting

TOP = {name: getattr(bp, name) for name in bp.__all__ if not name.startswith("__")}
METHODS = {
    f"Machine.{name}": value
    for name, value in vars(bp.Machine).items()
    if not name.startswith("_") and not isinstance(value, Setting | Result | str)
}
PUBLIC = TOP | METHODS


def text_of(value):
    return inspect.getdoc(value.__func__ if isinstance(value, classmethod) else value) or ""


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Return the fit that the Examples of Machine begin with."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ("BAYESPRF_DATA", "BAYESPRF_TEST_DATA"):
            patch.delenv(place, raising=False)
        patch.chdir(tmp_path_factory.mktemp("docstrings"))
        data = datasets.load("kepler-field")
        pixels, sources = bp.read_tpfs(data.files), bp.read_catalog(data.catalog)
        machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
        machine.build_shape_model()
        machine.fit_model()
        machine.verdict  # noqa: B018  (kept in the fit, for all examples)
        yield {"bp": bp, "np": np, "machine": machine, "pixels": pixels, "sources": sources}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_see_also_and_an_example(name):
    text = text_of(PUBLIC[name])
    for section in ("See Also", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text, f"{name} lacks {section}"


@pytest.mark.parametrize("name", [name for name, value in PUBLIC.items() if ">>>" in text_of(value)])
def test_the_examples_run_as_written(name, names, recwarn):
    machine = bp.Machine.from_fit(names["machine"].fit, quiet=True)
    example = doctest.DocTestParser().get_doctest(text_of(PUBLIC[name]), names | {"machine": machine}, name, None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    said = []
    runner.run(example, out=said.append)
    plt.close("all")
    assert runner.failures == 0, "".join(said)
