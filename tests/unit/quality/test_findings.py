"""The sentences of the verdict."""

import pytest

from bayesprf.quality.findings import rough


@pytest.mark.parametrize(
    ("value", "text"), [(118.0, "120"), (28.4, "28"), (0.00158, "0.0016"), (6.0, "6"), (0.0, "0"), (1530.0, "1500")]
)
def test_numbers_are_easily_read(value, text):
    assert rough(value) == text
