"""Small fields to learn with: real pixel files where they are at hand, simulated stand-ins elsewhere."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.checks import check_choice
from bayesprf.instruments import K2, TESS
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.simulated import write_field
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import SimulatedField, make_case, make_field
from bayesprf.simulation.settings import Transit

# Where real files are looked for, in this order; the first is meant for users.
_PLACES = ("BAYESPRF_DATA", "BAYESPRF_TEST_DATA")
# Format: the seed of the demo of every version; any would do.
_SEED = 6  # any: the demo's field of seed 0 has another name


@dataclass(frozen=True, slots=True)
class Dataset:
    """A field to learn with.

    Parameters
    ----------
    name : str
        Name of the data set.
    files : tuple of Path
        Target pixel files.
    catalog : Path, SourceTable or str
        Catalogue, or "targets" for the stars that the files name.
    origin : str
        One sentence: real files and where they come from, or a simulated stand-in.
    is_real : bool
        Whether the pixels were taken by a telescope.
    """

    name: str
    files: tuple[Path, ...]
    catalog: Path | SourceTable | str
    origin: str
    is_real: bool


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Where the real files are below the data folder (no pattern: there are none), and what stands in for them."""

    pattern: str
    catalog: str
    origin: str
    simulate: Callable[[np.random.Generator], SimulatedField]
    stand_in: str
    flux_column: str | None = None

    def open_catalog(self, root: Path) -> Path | SourceTable | str:
        """Return the catalogue of the real files; read here if its flux column has a name of its own."""
        if self.catalog == "targets":
            return self.catalog
        path = root / self.catalog
        return path if self.flux_column is None else read_catalog(path, flux_column=self.flux_column)


def names() -> tuple[str, ...]:
    """Return the names of all data sets."""
    return tuple(_RECIPES)


def load(name: str, directory: str | Path = "bayesprf-data") -> Dataset:
    """Return a field to learn with, from real files or simulated.

    Parameters
    ----------
    name : str
        One of `names()`.
    directory : path-like
        Where a simulated stand-in is written; made if it does not exist.

    Returns
    -------
    Dataset
        ``bayesprf.fit(data.files, data.catalog)`` fits it. `origin` says what it is.

    Raises
    ------
    InputError
        If there is no data set of that name.

    Notes
    -----
    Real files are looked for in the folder that the environment variable BAYESPRF_DATA names. Nothing is downloaded.

    Examples
    --------
    >>> from bayesprf import datasets
    >>> datasets.names()
    ('kepler-field', 'kepler-eclipse', 'k2-roll', 'tess-sky')
    """
    check_choice(name, names(), "name")
    recipe = _RECIPES[name]
    for root in (Path(os.environ[place]) for place in _PLACES if os.environ.get(place)):
        files = tuple(sorted(root.glob(recipe.pattern))) if recipe.pattern else ()
        if files:
            return Dataset(name, files, recipe.open_catalog(root), recipe.origin, is_real=True)
    simulated, catalog = write_field(Path(directory) / name, recipe.simulate(np.random.default_rng(_SEED)))
    return Dataset(name, tuple(simulated), catalog, recipe.stand_in, is_real=False)


def _roll(time: FloatArray) -> FloatArray:
    """Return the roll of K2: up to a pixel to and fro every six hours, pixel, shape (n_time, 2)."""
    turn, phase = np.divmod((time - time[0]) / 0.25, 1.0)
    along = (0.7 + 0.3 * np.sin(1.7 * turn)) * (phase - 0.5)
    return np.stack([0.8 * along, -0.6 * along], axis=1)


def _kepler(rng: np.random.Generator) -> SimulatedField:
    return make_case("small", rng, n_time=250, n_source=12, n_stamp=6, mag_range=(11.5, 16.0))


def _eclipse(rng: np.random.Generator) -> SimulatedField:
    """Return a bright star and a faint one two pixels away that eclipses."""
    eclipse = Transit(source=1, depth=0.3, period=0.70, epoch=121.3, duration=0.06)
    return make_field(
        rng=rng, n_source=6, n_stamp=1, stamp_sides=(9,), n_time=800, min_separation=1.6,
        magnitudes=np.array([12.6, 15.5, 16.0, 16.5, 17.0, 17.5]), transits=(eclipse,),
    )  # fmt: skip


def _k2(rng: np.random.Generator) -> SimulatedField:
    return make_field(
        rng=rng, instrument=K2, drift=_roll, n_source=9, n_stamp=1, n_time=600, mag_range=(12.5, 15.0),
        stamp_sides=(10,), min_separation=1.5,
    )  # fmt: skip


def _tess(rng: np.random.Generator) -> SimulatedField:
    """Return a TESS cutout of 15 x 15 pixels with 120 electron / s of sky in it and a star that pulsates."""
    n_time, n_source = 960, 12
    variability = np.ones((n_time, n_source))
    variability[:, 0] += 0.01 * np.sin(2.0 * np.pi * np.arange(n_time) / 37.0)
    field = make_field(
        rng=rng, instrument=TESS, n_source=n_source, n_stamp=1, n_time=n_time, stamp_sides=(15,),
        mag_range=(9.5, 13.5), variability=variability, background=120.0,
    )  # fmt: skip
    return replace(field, pixels=replace(field.pixels, flux=field.pixels.flux + 120.0))


_RECIPES: Mapping[str, _Recipe] = MappingProxyType(
    {
        "kepler-field": _Recipe(
            "kepler-tpf/q12-ch04-250cad/*.fits.gz",
            "targets",
            "Kepler, quarter 12, channel 4: six stars around Kepler-16, 250 cadences (NASA, public).",
            _kepler,
            "Simulated stand-in for six Kepler pixel files: twelve stars, 250 cadences.",
        ),
        "kepler-eclipse": _Recipe(
            "kepler-tpf/long/kplr006804648-q10-1000cad.fits.gz",
            "targets",
            "Kepler, quarter 10: KIC 6804648 and an eclipsing binary two pixels away (NASA, public).",
            _eclipse,
            "Simulated stand-in for KIC 6804648: a star of 12.6 mag, and an eclipsing one three magnitudes fainter.",
        ),
        "k2-roll": _Recipe(
            "k2-tpf/ktwo221312395-c91_lpd-targ.fits.gz",
            "k2-tpf/ktwo221312395-c91_detections.csv",
            "K2, campaign 9a: EPIC 221312395 in the bulge, an eclipsing binary among blends (NASA, public).",
            _k2,
            "Simulated stand-in for a K2 pixel file of the bulge: nine blended stars that roll by a pixel in 6 hours.",
            "sum3x3",
        ),
        "tess-sky": _Recipe(
            "",
            "",
            "",
            _tess,
            "Simulated TESS cutout, 15 x 15 pixels and 20 days, with 120 electron / s of sky and a star that pulsates.",
        ),
    }
)
