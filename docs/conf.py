"""Sphinx settings; pages that list names are made from the package, so that they cannot drift from it."""

import os
import shutil
import sys
from pathlib import Path

import bayesprf

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS)]

# The notebooks live at the top level, and pages must lie below docs; copy2 keeps dates, so that builds stay short.
shutil.rmtree(DOCS / "tutorials" / "notebooks", ignore_errors=True)
(DOCS / "tutorials" / "notebooks").mkdir()
for notebook in (DOCS.parent / "notebooks").glob("*.ipynb"):
    shutil.copy2(notebook, DOCS / "tutorials" / "notebooks")

project = "bayesprf"
author = copyright = "The bayesprf developers"
version = release = bayesprf.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "one_tree",
    "package_pages",
    "package_tables",
    "plain_docstrings",
]
exclude_patterns = ["_build", "changes", "_static/*.md", "**.ipynb_checkpoints", "**/bayesprf-data"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = "bayesprf"
html_static_path = ["_static"]
html_css_files = ["site.css"]

autosummary_generate = True
default_role = "code"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# The site builds, and `sphinx -b linkcheck` passes, without internet; what lies outside is asked where this is set.
online = bool(os.environ.get("BAYESPRF_ONLINE"))
# The table of notebooks is made together with their pages.
linkcheck_ignore = [r"notebooks/.*", *([] if online else [r"https?://.*"])]
if online:
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
        "astropy": ("https://docs.astropy.org/en/stable", None),
        "pymc": ("https://www.pymc.io/projects/docs/en/stable", None),
    }


def draw_gallery(app: object) -> None:
    """Draw the pictures of the gallery, if the script or the package is newer than they are."""
    from make_figures import HERE, PICTURES, make_pictures

    directory = HERE / "_static" / "gallery"
    sources = [*HERE.glob("make_figures.py"), *Path(bayesprf.__file__).parent.rglob("*.py")]
    drawn = [directory / f"{name}.png" for name in PICTURES]
    newest = max(one.stat().st_mtime for one in sources)
    if any(not one.exists() or one.stat().st_mtime < newest for one in drawn):
        make_pictures(directory)


def setup(app: object) -> None:
    """Ask Sphinx to draw the gallery."""
    app.connect("builder-inited", draw_gallery)
