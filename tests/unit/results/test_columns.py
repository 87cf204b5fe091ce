"""Columns of any catalogue go through results and netCDF: no name and no type stops them."""

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable
from astropy.time import Time

from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.save import load_tree, save_tree
from bayesprf.results.columns import plain_columns
from bayesprf.results.gather import catalog_group
from bayesprf.results.tree import build_tree

GAIA = 5730932475468906240


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("S/G", "S_G"), ("E(BR/RP)", "E(BR_RP)"), ("u/g", "u_g"), ("", "column_0"), (".", "column_0"), (" x ", "x"),
        ("a\tb", "a_b"), ("source", "source_given"), ("time", "time_given"), ("mag", "mag_given"),
        ("ra_deg", "ra_deg_given"), ("2MASS", "2MASS"), ("Größe", "Größe"),
    ],
)  # fmt: skip
def test_names(name, stored):
    columns = plain_columns({name: np.array([1.0, 2.0])})
    assert list(columns) == [stored]
    assert list(plain_columns(columns)) == [stored]


def test_names_that_become_the_same_keep_their_columns():
    columns = plain_columns({"a/b": [1], "a_b": [2], "a\tb": [3]})
    assert {name: int(values[0]) for name, values in columns.items()} == {"a_b": 1, "a_b_2": 2, "a_b_3": 3}


def everything():
    table = QTable({"name": ["x", "y", "z"], "ra": [1.0, 2.0, 3.0] * u.deg, "dec": [4.0, 5.0, 6.0] * u.deg})
    table["phot_g_mean_flux"] = [1.0, 2.0, 3.0]
    table["u/g"] = [0.1, 0.2, 0.3]
    table["source"] = ["p", "q", "r"]
    table["mag"] = [10.0, 11.0, 12.0]
    table["seen"] = Time([2459000.5, 2459001.5, 2459002.5], format="jd")
    table["place"] = SkyCoord([1.0, 2.0, 3.0] * u.deg, [4.0, 5.0, 6.0] * u.deg)
    table["dr2_source_id"] = MaskedColumn([GAIA + 1, 1, GAIA + 3], mask=[False, True, False])
    table["count"] = MaskedColumn(np.array([1, 2, 3], np.uint8), mask=[False, True, False])
    table["note"] = MaskedColumn(["a", "b", "c"], mask=[True, False, False])
    table["flag"] = [True, False, True]
    table["half"] = np.array([1.5, 2.5, 3.5], np.float16)
    table["big"] = np.array([1.5, 2.5, 3.5], ">f8")
    table["wave"] = [1 + 2j, 2j, 3.0]
    return table


def test_everything_comes_back_from_netcdf(tmp_path):
    sources = read_catalog(everything())
    tree = build_tree({"catalog": catalog_group(sources, {})}, {"source": list(sources.source_id)}, {})
    saved = load_tree(save_tree(tree, tmp_path / "tree.nc"))["catalog"].to_dataset()
    lowest = np.iinfo(np.int64).min
    expected = {
        "u_g": [0.1, 0.2, 0.3], "source_given": ["p", "q", "r"], "mag_given": [10.0, 11.0, 12.0],
        "place_ra_deg": [1.0, 2.0, 3.0], "place_dec_deg": [4.0, 5.0, 6.0], "count": [1, 255, 3],
        "seen": ["2020-05-31T00:00:00.000", "2020-06-01T00:00:00.000", "2020-06-02T00:00:00.000"],
        "dr2_source_id": [GAIA + 1, lowest, GAIA + 3], "note": ["", "b", "c"], "flag": [True, False, True],
        "half": [1.5, 2.5, 3.5], "big": [1.5, 2.5, 3.5], "wave": ["(1+2j)", "2j", "(3+0j)"],
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_array_equal(saved[name], np.array(values, saved[name].dtype), err_msg=name)
    assert saved["dr2_source_id"].dtype == np.int64
    assert saved["dr2_source_id"].attrs["masked_value"] == lowest
    assert saved["source"].to_numpy().tolist() == ["p", "q", "r"]  # a column of this name holds the names


@pytest.mark.parametrize(
    ("column", "stored"),
    [
        (pd.array(["a", None, "c"], "string"), ["a", "", "c"]),
        (pd.array([True, None, False], "boolean"), [1.0, np.nan, 0.0]),
        (pd.Categorical(["a", "b", "a"]), ["a", "b", "a"]),
        (pd.to_datetime(["2020-01-02", None, "2020-01-04"]), ["2020-01-02", "", "2020-01-04"]),
        ([["a", 1], None, ("b",)], ["['a', 1]", "", "('b',)"]),
        ([b"a ", None, b"c"], ["a", "", "c"]),
        ([2**70, 1, 2], [str(2**70), "1", "2"]),
    ],
    ids=["string", "boolean", "categories", "dates", "mixed", "bytes", "large"],
)
def test_columns_of_pandas(column, stored, tmp_path):
    frame = pd.DataFrame({"name": ["x", "y", "z"], "ra": [1.0, 2.0, 3.0], "dec": [4.0, 5.0, 6.0], "kepmag": [9.0] * 3})
    sources = read_catalog(frame.assign(other=column))
    tree = build_tree({"catalog": catalog_group(sources, {})}, {"source": list(sources.source_id)}, {})
    saved = load_tree(save_tree(tree, tmp_path / "tree.nc"))["catalog/other"].to_numpy()
    if isinstance(stored[0], str):
        assert [str(one)[: len(want)] if want else str(one) for one, want in zip(saved, stored, strict=True)] == stored
    else:
        np.testing.assert_array_equal(saved, stored)
