"""Directives that make tables from the package itself: ``schema-table`` and ``flag-table``."""

from collections.abc import Sequence
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from bayesprf.flags import FLAG_SENTENCES
from bayesprf.results.schema import COORDINATES, GROUP_SENTENCES, SCHEMA, Variable


def build_table(header: Sequence[str], rows: Sequence[Sequence[nodes.Node]]) -> nodes.table:
    """Return a docutils table with one node per cell."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    head = nodes.row("", *[nodes.entry("", nodes.paragraph(text=one)) for one in header])
    body = [nodes.row("", *[nodes.entry("", nodes.paragraph("", "", one)) for one in row]) for row in rows]
    group += [nodes.thead("", head), nodes.tbody("", *body)]
    return nodes.table("", group, classes=["colwidths-auto"])


def describe_variable(variable: Variable) -> list[nodes.Node]:
    """Return the cells of one line of the schema."""
    return [
        nodes.literal(text=variable.name),
        nodes.Text(", ".join(variable.dims) or "a single value"),
        nodes.Text(variable.unit),
        nodes.Text(variable.dtype),
        nodes.Text(variable.long_name),
    ]


class SchemaTable(Directive):
    """One section per group of the tree, each with a table of its variables."""

    def run(self) -> list[nodes.Node]:
        header = ("name", "dimensions", "unit", "type", "what it is")
        coordinates = ("coordinates", "Carried by every group that uses their dimension.", COORDINATES)
        groups = [(f"/{name}", GROUP_SENTENCES[name], variables) for name, variables in SCHEMA.items()]
        found = []
        for title, sentence, variables in (coordinates, *groups):
            section = nodes.section(ids=[nodes.make_id(f"group-{title}")])
            section += [nodes.title(text=title), nodes.paragraph(text=sentence)]
            section += build_table(header, [describe_variable(one) for one in variables])
            found.append(section)
        return found


class FlagTable(Directive):
    """Every quality bit with its value and sentence."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [nodes.Text(str(int(flag))), nodes.literal(text=flag.name), nodes.Text(sentence)]
            for flag, sentence in FLAG_SENTENCES.items()
        ]
        return [build_table(("value", "name", "meaning"), rows)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("schema-table", SchemaTable)
    app.add_directive("flag-table", FlagTable)
    return {"parallel_read_safe": True}
