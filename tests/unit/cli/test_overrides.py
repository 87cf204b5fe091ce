"""Options by name: on the right stage, or one sentence with the nearest name."""

import pytest

from bayesprf.cli.overrides import parse_pairs, read_config
from bayesprf.errors import FileError, InputError
from bayesprf.pipeline import FitOptions, names_of_options


def test_names_reach_their_stage():
    changed = FitOptions().updated(**parse_pairs(["rmax=20", "flux_cut_off=2.5", "poly_order=1", "loo=true"]))
    assert changed.machine == {"rmax": 20}
    assert changed.shape == {"flux_cut_off": 2.5}
    assert changed.time_model == {"poly_order": 1}
    assert changed.loo is changed.fit_va is True


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("2E5", 2e5), ("-1.5e+2", -150.0), ("1e", "1e"), ("e3", "e3")]
)
def test_numbers_with_an_exponent_need_no_point(text, value, tmp_path):
    assert parse_pairs([f"rmax={text}"]) == {"rmax": value}
    (tmp_path / "options.yaml").write_text(f"rmax: {text}\n")
    assert read_config(tmp_path / "options.yaml") == {"rmax": value}


def test_groups_are_merged():
    start = FitOptions(machine={"rmin": 2.0})
    changed = start.updated(machine={"rmax": 20.0}, catalog={"ref_epoch": 2016.0})
    assert changed.machine == {"rmin": 2.0, "rmax": 20.0}
    assert changed.catalog == {"ref_epoch": 2016.0}


def test_every_option_of_the_records_has_a_name():
    assert {"rmax", "cut_r", "background", "min_snr", "positions", "segments", "robust"} <= names_of_options().keys()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("flux_cutoff=1", "options: expected some of .*, got flux_cutoff; did you mean flux_cut_off"),
        ("position=centroid", "got position; did you mean positions"),
        ("rmax", "set: expected name=value, such as rmax=20, got 'rmax'"),
        ("rmax=[", "set: expected a number, true, null, a list or a text after =, got 'rmax=\\['"),
        ("rmax=wide", "rmax: expected a number, got 'wide'"),
        ("machine=3", "machine: expected a mapping of options to values, got int"),
    ],
)
def test_wrong_options_end_in_one_sentence(pair, message):
    with pytest.raises(InputError, match=message):
        FitOptions().updated(**parse_pairs([pair]))


def test_a_file_of_options(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("rmax: 20\ncatalog:\n  ref_epoch: 2016.0\n")
    assert read_config(path) == {"rmax": 20, "catalog": {"ref_epoch": 2016.0}}
    path.write_text("- rmax\n")
    with pytest.raises(FileError, match=r"config\.yaml: expected lines of name: value, got list"):
        read_config(path)
    with pytest.raises(FileError, match=r"none\.yaml: expected a YAML file of options that can be read"):
        read_config(tmp_path / "none.yaml")
