"""Arrays become one labelled tree that survives a file."""

import json

import numpy as np
import pytest
import xarray as xr

from bayesprf.errors import InputError, ShapeError
from bayesprf.results.schema import GROUP_SENTENCES, SCHEMA, find_variable
from bayesprf.results.tree import build_tree, root_attributes

N = {"time": 4, "source": 3, "pair": 2}
COORDS = {"time": [1.0, 2.0, 3.0, 4.5], "cadence_number": [7, 8, 9, 11], "source": ["a", "b", "c"]}


def full_groups():
    """Every variable of the schema, with other axes 5, 6, 7, ... long."""
    rng = np.random.default_rng(3)
    sizes = dict(N)
    groups = {}
    for group, variables in SCHEMA.items():
        groups[group] = {}
        for variable in variables:
            shape = tuple(sizes.setdefault(dim, 5 + len(sizes)) for dim in variable.dims)
            values = rng.normal(size=shape)
            if variable.dtype == "str":
                values = np.full(shape, "name")
            elif variable.dtype != "float64":
                values = rng.integers(0, 2 if variable.dtype == "bool" else 9, size=shape)
            groups[group][variable.name] = values
    return groups


def full_attributes():
    options = {"rmax": np.float64(16), "knots": np.arange(2), "time_mask": None}
    files = {"one.fits": "sha256:12"}
    return root_attributes(
        instrument="Kepler",
        time_zero_jd=2454833.0,
        options=options,
        recipes={"reading": {"cadences": "common"}},
        files=files,
        created="2020-01-01T00:00:00Z",
    )


def test_every_variable_is_labelled_by_the_schema():
    groups = full_groups()
    tree = build_tree(groups, COORDS, full_attributes())
    for group, variables in SCHEMA.items():
        for variable in variables:
            array = tree[group][variable.name]
            assert array.dims == variable.dims
            assert array.attrs == {"units": variable.unit, "long_name": variable.long_name}
            np.testing.assert_array_equal(array, groups[group][variable.name])
            assert variable.dtype == "str" or array.dtype == variable.dtype
        assert tree[group].attrs["description"] == GROUP_SENTENCES[group]
    for name in ("time", "cadence_number", "source"):
        assert {"units", "long_name"} <= set(tree["photometry"][name].attrs)


def test_a_file_reopens_to_an_identical_tree(tmp_path):
    groups = full_groups()
    groups["catalog"] |= {
        "designation": np.array(["Gaia 1", None, "Gaia 3"], object),
        "phot_g_mean_flux": np.array([1.0, np.nan, 3.0], ">f8"),
        "variable": np.array([True, False, True]),
    }
    tree = build_tree(groups, COORDS, full_attributes())
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as reopened:
        xr.testing.assert_identical(reopened.load(), tree)


def test_same_call_gives_same_bytes_of_attributes():
    assert full_attributes() == full_attributes()
    options = json.loads(full_attributes()["options"])
    assert options == {"rmax": 16.0, "knots": [0, 1], "time_mask": None}
    assert set(json.loads(full_attributes()["versions"])) == {"bayesprf", "numpy", "scipy", "xarray", "python"}


def test_what_was_not_computed_is_left_out():
    groups = {"photometry": {"flux": np.ones((4, 3)), "sap_flux": None}, "covariance": {}}
    tree = build_tree(groups, COORDS, {})
    assert set(tree.children) == {"photometry"}
    assert set(tree["photometry"].data_vars) == {"flux"}


def test_groups_carry_only_their_own_coordinates():
    tree = build_tree({"catalog": {"ra_deg": np.ones(3)}, "shape": {"psf_w": np.ones(5)}}, COORDS, {})
    assert set(tree["catalog"].coords) == {"source"}
    assert set(tree["shape"].coords) == set()


def test_masked_catalogue_columns_become_missing():
    columns = {
        "mag_g": np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
        "n_obs": np.ma.array([1, 2, 3], mask=[1, 0, 0]),
        "n_all": np.ma.array([1, 2, 3], mask=False),
        "name": np.ma.array(["x", "y", "z"], mask=[0, 0, 1]),
    }
    catalog = build_tree({"catalog": columns}, COORDS, {})["catalog"]
    np.testing.assert_array_equal(catalog["mag_g"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(catalog["n_obs"], [np.iinfo(np.int64).min, 2, 3])
    assert catalog["n_obs"].attrs["masked_value"] == np.iinfo(np.int64).min
    assert "masked_value" not in catalog["n_all"].attrs
    np.testing.assert_array_equal(catalog["n_all"], [1, 2, 3])
    assert catalog["n_all"].dtype.kind == "i"
    np.testing.assert_array_equal(catalog["name"], ["x", "y", ""])


@pytest.mark.parametrize(
    ("groups", "coords", "error", "message"),
    [
        ({"fotometry": {"flux": 1}}, {}, InputError, "groups: expected some of photometry, .*, got 'fotometry'"),
        ({"photometry": {"flus": 1}}, {}, InputError, r"groups\['photometry'\]: expected names of the schema .*'flus'"),
        ({}, {"tim": [1.0]}, InputError, "coords: expected some of time, cadence_number, source, got 'tim'"),
        (
            {"photometry": {"flux": np.ones((3, 4))}},
            COORDS,
            ShapeError,
            r"\['flux'\]: expected shape \(time = 4, source = 3\), got \(3, 4\)",
        ),
        (
            {"shape": {"psf_w": np.ones(5), "psf_w_cov": np.eye(4)}},
            {},
            ShapeError,
            r"expected shape \(basis = 5, basis_bis = any\), got \(4, 4\)",
        ),
        ({"photometry": {"log_evidence": ["a"] * 4}}, COORDS, InputError, "expected values that are float64"),
        ({"catalog": {"any": np.ones((3, 2))}}, COORDS, ShapeError, r"expected shape \(source = 3\), got \(3, 2\)"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(groups, coords, error, message):
    with pytest.raises(error, match=message):
        build_tree(groups, coords, {})


def test_schema_names_are_unique_and_sentences_short():
    for variables in SCHEMA.values():
        names = [variable.name for variable in variables]
        assert len(set(names)) == len(names)
        assert all(0 < len(variable.long_name) <= 80 and "\n" not in variable.long_name for variable in variables)
    assert set(SCHEMA) == set(GROUP_SENTENCES)


def test_only_open_groups_take_further_names():
    assert find_variable("catalog", "parallax").dims == ("source",)
    with pytest.raises(InputError, match="add it to the schema"):
        find_variable("shape", "parallax")
