"""Options of a fit by their names, as a command line or a file gives them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path

import yaml

from bayesprf.arrays import Named, NamedDict
from bayesprf.checks import check_names
from bayesprf.design.trends import TrendOptions
from bayesprf.errors import FileError, InputError
from bayesprf.pipeline import READING, FitOptions
from bayesprf.settings import MaskOptions, PerturbationOptions, Settings, ShapeOptions

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_GROUPS = ("machine", "shape", "time_model", "catalog", "reading")


def names_of_options() -> dict[str, str]:
    """Return every option by name with the group it belongs to; "" for those of `FitOptions` itself."""
    single = [one.name for one in fields(FitOptions) if one.name not in _GROUPS]
    time = [one.name for one in (*fields(PerturbationOptions), *fields(TrendOptions))]
    groups = {
        "time_model": [name for name in time if name not in ("trends", "basis", "resolution")],
        "shape": [one.name for one in (*fields(MaskOptions), *fields(ShapeOptions))] + ["frame_index"],
        "machine": [one.name for one in fields(Settings)],
        "reading": list(READING),
        "": single,
    }
    return {name: group for group, names in groups.items() for name in names}


def change_options(options: FitOptions, changes: Named) -> FitOptions:
    """Return options with some changed by name.

    Parameters
    ----------
    options : FitOptions
        What to start from.
    changes : mapping of str to object
        Names of `FitOptions`, of `Settings`, or of options of `Machine.build_shape_model` and
        `Machine.build_time_model`; or the groups `machine`, `shape`, `time_model`, `catalog` and `reading` as mappings.

    Returns
    -------
    FitOptions
        With the time model, if one of its options is changed.

    Raises
    ------
    InputError
        If a name is not known.
    """
    groups = names_of_options()
    check_names(changes, [*groups, *_GROUPS], "set")
    for name, value in changes.items():
        group = name if name in _GROUPS else groups[name]
        if group == "":
            options = replace(options, **{name: value})
            continue
        if name in _GROUPS and not isinstance(value, Mapping):
            raise InputError(f"{name}: expected a mapping of options to values, got {type(value).__name__}")
        merged: NamedDict = {**getattr(options, group), **(value if name in _GROUPS else {name: value})}
        changed: NamedDict = {group: merged}
        options = replace(options, **changed, fit_va=options.fit_va or group == "time_model")
    return options


def parse_pairs(pairs: Iterable[str]) -> NamedDict:
    """Return the options given as texts ``name=value``; values are read as YAML: numbers, true, null, lists, texts.

    Parameters
    ----------
    pairs : iterable of str
        The texts.

    Returns
    -------
    dict of str to object

    Raises
    ------
    InputError
        If a text has no ``=``, or its value cannot be read.
    """
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"set: expected name=value, such as rmax=20, got {pair!r}")
        try:
            found[name.strip()] = _number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise InputError(f"set: expected a number, true, null, a list or a text after =, got {pair!r}") from error
    return found


def read_config(path: str | Path) -> NamedDict:
    """Return the options of a YAML file.

    Parameters
    ----------
    path : path-like
        One option per line, ``name: value``.

    Returns
    -------
    dict of str to object

    Raises
    ------
    FileError
        If the file cannot be read, or is not a mapping.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = str(error).partition(chr(10))[0]
        raise FileError(f"{path}: expected a YAML file of options that can be read ({said})") from error
    if not isinstance(found, dict):
        raise FileError(f"{path}: expected lines of name: value, got {type(found).__name__}; write rmax: 20, say")
    return {str(name): _number(value) for name, value in found.items()}


def _number(value: object) -> object:
    """Return text such as 1e-3 as the number it is: YAML 1.1 asks for a point in it."""
    if not isinstance(value, str) or not _EXPONENT.fullmatch(value):
        return value
    return float(value)
