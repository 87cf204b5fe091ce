"""Docstrings are plain text with equations: keep their |, * and trailing _ from being read as markup."""

import re
from typing import Any

from sphinx.application import Sphinx

_QUOTED = re.compile(r"(`+[^`]*`+)")
_MARKUP = re.compile(r"(?<!\\)([|*]|_(?=\W|$))")


def escape_markup(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put a backslash before markup outside back quotes, in place."""
    for i, line in enumerate(lines):
        parts = _QUOTED.split(line)
        lines[i] = "".join(part if part.startswith("`") else _MARKUP.sub(r"\\\1", part) for part in parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Run before numpydoc adds its own markup."""
    app.connect("autodoc-process-docstring", escape_markup, priority=100)
    return {"parallel_read_safe": True}
