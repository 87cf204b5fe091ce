"""Names of the top level for editors and type checkers: `__init__.py` loads them when they are first used."""

from bayesprf.flags import QualityFlag as QualityFlag
from bayesprf.io.catalogs.catalog import read_catalog as read_catalog
from bayesprf.io.catalogs.gaia import query_gaia as query_gaia
from bayesprf.io.pixels.barycenter import barycentric_shift as barycentric_shift
from bayesprf.io.pixels.ffi import read_image as read_image
from bayesprf.io.pixels.tpf import read_tpfs as read_tpfs
from bayesprf.linalg.problem import GaussianPrior as GaussianPrior
from bayesprf.linalg.problem import LinearProblem as LinearProblem
from bayesprf.linalg.state_space import ProcessKernel as ProcessKernel
from bayesprf.machine import Machine as Machine
from bayesprf.pipeline import fit as fit
from bayesprf.pipeline import load as load
from bayesprf.results.scores import compare as compare
from bayesprf.sampling.pixel_likelihood import pixel_likelihood as pixel_likelihood
from bayesprf.scene.pixels import PixelTable as PixelTable
from bayesprf.scene.sources import SourceTable as SourceTable
from bayesprf.settings import Background as Background

__version__: str
__all__: list[str]
