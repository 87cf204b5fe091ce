"""Numbers at the top of modules say what they are, and fewer and fewer are tuned without a source."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Tuned numbers whose comment names no source: what they do is measured on the page of constants. It may only fall.
UNSOURCED = 2


@pytest.fixture(scope="module")
def figures():
    """Return the script that reads the constants, as a module."""
    sys.path.insert(0, str(ROOT / "docs" / "scripts"))
    try:
        import house_figures

        yield house_figures
    finally:
        sys.path.remove(str(ROOT / "docs" / "scripts"))
        sys.modules.pop("house_figures", None)


@pytest.fixture(scope="module")
def constants(figures):
    """Return name and comment of every numeric constant."""
    return figures.House(ROOT)._constants()


def test_every_constant_says_what_it_is(constants):
    """Each has a comment above it, beside it or below it."""
    assert [name for name, written in constants if "# " not in written and '"""' not in written] == []


def test_no_new_number_is_tuned_without_a_source(figures, constants):
    """A new number is a unit, format or the like, or its comment says where it comes from."""
    assert sum(not figures.has_source(written) for _, written in constants) <= UNSOURCED


@pytest.mark.parametrize(
    ("written", "kind", "sourced"),
    [
        ("# Rounding: below this all is noise.\nA = 1e-9", "Rounding", True),
        ('A = 8\n"""Cost: width of a vector."""', "Cost", True),
        ("# Derived: half of a pixel.\nA = 0.5", "", True),
        ("# As in PSFMachine (Hedges et al. 2021).\nA = 5.0", "", True),
        ("# Measured by tests/benchmarks/sampling.py.\nA = 5.0", "", True),
        ("# A star is bright from here on.\nA = 5.0", "", False),
        ("# Rounding errors are smaller.\nA = 5.0", "", False),
    ],
)
def test_kinds_and_sources_are_read_from_the_comment(figures, written, kind, sourced):
    """The first word, or what is cited, decides; words in passing do not."""
    assert (figures.kind_of(written), figures.has_source(written)) == (kind, sourced)
