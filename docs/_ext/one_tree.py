"""Pages of source code, which no table of contents lists, share one navigation tree, made once for each depth."""

from collections.abc import Callable
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Run before the theme asks for the tree."""
    trees: dict[object, str] = {}

    def share_tree(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
        """Make the tree once for all such pages of one depth, whose links are the same."""
        if pagename in app.env.found_docs or "toctree" not in context:
            return
        make: Callable[..., str] = context["toctree"]

        def shared(**options: object) -> str:
            key = pagename.count("/"), *sorted(options.items())
            if key not in trees:
                trees[key] = make(**options)
            return trees[key]

        context["toctree"] = shared

    app.connect("html-page-context", share_tree, priority=100)
    return {"parallel_read_safe": True}
