"""Directives that make pages from the package itself: ``machine-attributes``, ``command-line``, ``notebook-table``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from docutils.parsers.rst import Directive
from package_tables import build_table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bayesprf.attributes import Result, Setting
from bayesprf.cli import app as command_line
from bayesprf.machine import Machine

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
# The attributes of a Machine, in the order of a reader's questions: heading, and the stages that set them.
ATTRIBUTE_GROUPS = {
    "settings": (),
    "data": ("data",),
    "prf": ("prf",),
    "fluxes": ("time_model", "flux", "flux_va", "latest", "hyperparameters"),
    "apertures": ("apertures", "aperture_photometry", "optimal_percentile", "metrics"),
}


def group_attributes() -> dict[str, list[str]]:
    """Return the names of a Machine's settings and results by group."""
    found: dict[str, list[str]] = {group: [] for group in ATTRIBUTE_GROUPS}
    for name, value in vars(Machine).items():
        if isinstance(value, Setting):
            found["settings"].append(name)
        elif isinstance(value, Result):
            stage = value._set_by
            found[next(group for group, stages in ATTRIBUTE_GROUPS.items() if stage in stages)].append(name)
    return found


class MachineAttributes(SphinxDirective):
    """A table of the attributes of one group, each with what it is; names can be linked to as in any class."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        rows = []
        for name in group_attributes()[self.arguments[0]]:
            target = f"bayesprf.Machine.{name}"
            self.env.domains.python_domain.note_object(target, "attribute", target, location=self.get_location())
            sentence = nodes.inline("", "", *_parse_quotes(str(vars(Machine)[name].__doc__)))
            rows.append([nodes.literal(text=name, ids=[target]), sentence])
        return [build_table(("name", "what it is"), rows)]


def _parse_quotes(text: str) -> Iterator[nodes.Node]:
    """Yield text and, where it stands in back quotes, code."""
    for number, part in enumerate(re.split(r"`+", text)):
        yield nodes.literal(text=part) if number % 2 else nodes.Text(part)


class CommandLine(Directive):
    """A section for every command, with its usage, arguments and options, from the application itself."""

    def run(self) -> list[nodes.Node]:
        commands = typer.main.get_command(command_line).commands  # type: ignore[attr-defined]
        return [self.describe(name, command) for name, command in commands.items() if not command.hidden]

    def describe(self, name: str, command: Any) -> nodes.section:
        """Return the section of one command."""
        context = command.make_context(f"bayesprf {name}", [], resilient_parsing=True)
        usage = command.get_usage(context).removeprefix("Usage: ")
        section = nodes.section(ids=[nodes.make_id(f"bayesprf-{name}")])
        section += [nodes.title(text=f"bayesprf {name}"), nodes.paragraph(text=command.help.replace("\b", ""))]
        section += nodes.literal_block(text=usage, language="text")
        rows = [
            (nodes.literal(text=flags), nodes.inline("", "", *_parse_quotes(text)))
            for flags, text in _parameters(command, context)
        ]
        section += build_table(("argument or option", "what it does"), rows)
        return section


def _parameters(command: Any, context: Any) -> Iterator[tuple[str, str]]:
    """Yield how each argument and option is written, and its help."""
    for one in command.get_params(context):
        record = one.get_help_record(context)
        if record is not None:
            yield record


class NotebookTable(SphinxDirective):
    """One row per notebook: its title, linked, and its question."""

    def run(self) -> list[nodes.Node]:
        rows = []
        for path in sorted(NOTEBOOKS.glob("*.ipynb")):
            title, question = read_heading(path)
            link = nodes.reference("", title, internal=True, refuri=f"notebooks/{path.stem}.html")
            rows.append([link, nodes.Text(question)])
        return [build_table(("tutorial", "the question"), rows)]


def read_heading(path: Path) -> tuple[str, str]:
    """Return the title of a notebook and the question it asks, the first words in italics."""
    text = "".join(json.loads(path.read_text())["cells"][0]["source"])
    title, question = re.search(r"^# (.+)$", text, re.MULTILINE), re.search(r"(?<!\*)\*([^*]+)\*(?!\*)", text)
    return (title[1] if title else path.stem), (question[1] if question else "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("machine-attributes", MachineAttributes)
    app.add_directive("command-line", CommandLine)
    app.add_directive("notebook-table", NotebookTable)
    return {"parallel_read_safe": True}
