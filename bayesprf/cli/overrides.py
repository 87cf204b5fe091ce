"""Options of a fit as texts: what a command line or a file gives."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from bayesprf.arrays import NamedDict
from bayesprf.errors import FileError, InputError

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


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
