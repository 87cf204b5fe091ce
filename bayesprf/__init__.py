"""bayesprf: light curves of every star in crowded pixels, with uncertainties that can be believed."""

import importlib
import logging

__version__ = "0.2.0"

logging.getLogger("bayesprf").addHandler(logging.NullHandler())

_PUBLIC = {
    "fit": "bayesprf.pipeline",
    "load": "bayesprf.pipeline",
    "Machine": "bayesprf.machine",
    "read_tpfs": "bayesprf.io.pixels.tpf",
    "barycentric_shift": "bayesprf.io.pixels.barycenter",
    "read_image": "bayesprf.io.pixels.ffi",
    "read_catalog": "bayesprf.io.catalogs.catalog",
    "query_gaia": "bayesprf.io.catalogs.gaia",
    "compare": "bayesprf.results.scores",
    "PixelTable": "bayesprf.scene.pixels",
    "SourceTable": "bayesprf.scene.sources",
    "GaussianPrior": "bayesprf.linalg.problem",
    "LinearProblem": "bayesprf.linalg.problem",
    "pixel_likelihood": "bayesprf.sampling.pixel_likelihood",
    "ProcessKernel": "bayesprf.linalg.state_space",
    "QualityFlag": "bayesprf.flags",
    "Background": "bayesprf.settings",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for, so that importing the package stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'bayesprf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *_PUBLIC})
