"""Checks and flags: messages that name the argument, one sentence per bit."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import random as random_sparse

from bayesprf import errors
from bayesprf.arrays import row_entries, shape_of
from bayesprf.checks import as_float, as_integer, check_choice, check_finite, check_positive, check_shape, write_whole
from bayesprf.errors import InputError, ShapeError
from bayesprf.flags import FLAG_SENTENCES, QualityFlag, describe_flags


@pytest.mark.parametrize("dtype", [">f8", "<f4", ">i2", "u1"])
def test_any_number_format_becomes_native_float64(dtype):
    found = as_float(np.array([0, 1, 1], dtype), "x")
    assert found.dtype == np.dtype("=f8")
    np.testing.assert_array_equal(found, [0.0, 1.0, 1.0])


def test_flags_are_numbers_only_where_a_mask_is_meant():
    """A column of True and False was taken for magnitudes."""
    mask = np.array([False, True])
    np.testing.assert_array_equal(as_float(mask, "x", flags=True), [0.0, 1.0])
    for value in (mask, True, [True, False], np.ma.masked_array([True, False], [False, True])):
        with pytest.raises(InputError, match=r"^x: expected an array of real numbers, got .* \(they are flags\)"):
            as_float(value, "x")


def test_float64_is_not_copied():
    array = np.arange(6.0).reshape(2, 3)
    assert as_float(array, "x") is array
    assert as_float(array.T, "x").flags.c_contiguous


def test_masked_becomes_nan_even_for_integers():
    found = as_float(np.ma.masked_array([1, 2, 3], [False, True, False]), "x")
    np.testing.assert_array_equal(found, [1.0, np.nan, 3.0])


def test_checks_name_argument_expectation_and_what_came():
    with pytest.raises(InputError, match=r"^x: expected an array of real numbers, got \[1.0, 'a'\]"):
        as_float([1.0, "a"], "x")
    with pytest.raises(ShapeError, match=r"^x: expected 2 dimension\(s\), got shape \(3,\)"):
        as_float([1.0, 2.0, 3.0], "x", ndim=2)
    with pytest.raises(ShapeError, match=r"^x: expected shape \(2,\) \(n_source\), got \(3,\)"):
        check_shape(np.zeros(3), (2,), "x", "n_source")
    with pytest.raises(InputError, match=r"^x: expected finite numbers, got inf at index \(1, 0\) \(2 in all\); drop"):
        check_finite(np.array([[1.0, 2.0], [np.inf, np.nan]]), "x")
    with pytest.raises(InputError, match=r"^x: expected a finite number above 0, got -1"):
        check_positive(-1, "x")
    with pytest.raises(InputError, match=r"^x: expected one of 'a', 'b', got 'c'"):
        check_choice("c", ("a", "b"), "x")


def test_lists_that_make_no_array_have_a_length_and_are_refused_in_words():
    mixed, ragged = [b"\x94", 9.0, "a"], [[1.0], [1.0, 2.0]]
    assert (shape_of(mixed), shape_of(ragged), shape_of(3), shape_of([1, 2])) == ((3,), (2,), (), (2,))
    for wrong in (mixed, ragged):
        with pytest.raises(InputError, match=r"^x: expected an array, got \[.*\] \("):
            as_integer(wrong, "x")


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_is_refused(path):
    with pytest.raises(InputError, match=r"^path: expected a name of a file, got '[./]'; add a name"):
        write_whole(Path(path), b"")


@pytest.mark.parametrize(
    ("child", "familiar"),
    [
        (errors.InputError, ValueError),
        (errors.ShapeError, InputError),
        (errors.UnitError, InputError),
        (errors.FileError, OSError),
        (errors.StageError, RuntimeError),
        (errors.NotPositiveDefiniteError, np.linalg.LinAlgError),
        (errors.MissingDependencyError, ImportError),
        (errors.UnsupportedError, NotImplementedError),
    ],
)
def test_every_error_has_the_base_and_a_familiar_parent(child, familiar):
    assert issubclass(child, familiar)
    assert issubclass(child, errors.BayesprfError)


def test_every_bit_has_one_sentence():
    assert set(FLAG_SENTENCES) == set(QualityFlag)
    assert all(one.endswith(".") and one.count(". ") == 0 for one in FLAG_SENTENCES.values())
    assert describe_flags(0) == []
    both = QualityFlag.NO_PIXELS | QualityFlag.NO_DATA
    assert describe_flags(int(both)) == [FLAG_SENTENCES[QualityFlag.NO_PIXELS], FLAG_SENTENCES[QualityFlag.NO_DATA]]


def test_bits_of_a_cadence_are_the_upper_ones():
    cadence = {QualityFlag.PIXELS_DROPPED, QualityFlag.NO_DATA, QualityFlag.NEGATIVE_FLUX, QualityFlag.DOWN_WEIGHTED}
    # Of a source, but the sixteen lower bits are taken.
    cadence |= {QualityFlag.TIME_MODEL_WORSE, QualityFlag.ERRORS_TOO_LARGE, QualityFlag.EXTENDED_LIGHT}
    assert {bit for bit in QualityFlag if bit.value >= 1 << 16} == cadence


def test_entries_of_some_rows_make_the_matrix_of_these_rows():
    matrix = random_sparse(9, 6, density=0.3, format="csr", random_state=np.random.default_rng(4))
    rows = np.array([7, 0, 3, 3])
    pointers, entry = row_entries(matrix.indptr, rows)
    np.testing.assert_array_equal(pointers, matrix[rows].indptr)
    np.testing.assert_array_equal(matrix.data[entry], matrix[rows].data)
    np.testing.assert_array_equal(matrix.indices[entry], matrix[rows].indices)
