"""The table of sources: what it takes, what it fills in, how it is asked."""

import numpy as np
import pytest

from bayesprf.errors import InputError, ShapeError
from bayesprf.scene.sources import SourceTable


@pytest.fixture
def sources():
    return SourceTable(("a", "b", "c", "d"), [1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0], [100.0, np.nan, 0.0, -5.0])


def test_magnitude_follows_from_the_flux(sources):
    np.testing.assert_allclose(sources.mag[0], 20.0, rtol=1e-15)
    assert not np.isfinite(sources.mag[1:]).any()
    np.testing.assert_array_equal(sources.has_flux, [True, False, False, False])
    given = SourceTable(("a",), [1.0], [2.0], [3.0], mag=[7.5])
    np.testing.assert_array_equal(given.mag, [7.5])


def test_sources_are_found_by_index_and_name(sources):
    np.testing.assert_array_equal(sources.indices(), [0, 1, 2, 3])
    np.testing.assert_array_equal(sources.indices(["c", -1, 0]), [2, 3, 0])
    np.testing.assert_array_equal(sources.indices("b"), [1])
    with pytest.raises(InputError, match="sources: expected names of the catalogue, got 'x'"):
        sources.indices("x")
    with pytest.raises(InputError, match="sources: expected names, or whole numbers from 0 to 3, got 4"):
        sources.indices(4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source_id": ("a", "a")}, InputError, "source_id: expected every source once, got 'a' more than once"),
        ({"source_id": ()}, InputError, "sources: expected at least one source, got an empty catalogue"),
        ({"ra_deg": [1.0, np.inf]}, InputError, "ra_deg: expected finite numbers, got inf at index 1"),
        ({"flux": [1.0]}, ShapeError, r"flux: expected shape \(2,\) \(n_source\), got \(1,\)"),
    ],
)
def test_bad_tables_are_refused(changes, error, message):
    good = {"source_id": ("a", "b"), "ra_deg": [1.0, 2.0], "dec_deg": [0.0, 0.0], "flux": [1.0, 2.0]}
    with pytest.raises(error, match=message):
        SourceTable(**(good | changes))
