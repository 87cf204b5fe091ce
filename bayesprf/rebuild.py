"""A Machine made again from its saved results: the same files, checked, the same catalogue, the same settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bayesprf.errors import FileError, InputError
from bayesprf.io.files import sha256_of
from bayesprf.io.tpf import read_tpfs
from bayesprf.machine import Machine
from bayesprf.results.gather import widths_from_group
from bayesprf.scene.sources import SourceTable


def rebuild_machine(tree: Any, directories: tuple[Path, ...] = ()) -> Machine:
    """Read the files that a tree was made from, and run the stages that it holds again.

    Parameters
    ----------
    tree : xarray.DataTree
        Results of `bayesprf fit` or `Machine.to_datatree`.
    directories : tuple of Path
        Where to look for the files, and below.

    Returns
    -------
    Machine
        With shape model and fluxes, the time model and learned widths if the tree has them. Options given to the
        stages by hand are not kept in a tree: the stages run with their defaults.

    Raises
    ------
    InputError
        If the tree names no input files.
    FileError
        If a file is not found, or is not the one that the tree was made from.
    """
    recorded = json.loads(tree.attrs.get("input_files", "{}"))
    if not recorded:
        raise InputError(
            "tree: expected results that name their input files, got none; results of arrays cannot be made again,"
            " so sample from the Machine itself"
        )
    pixels = read_tpfs([_find(name, checksum, directories) for name, checksum in recorded.items()])
    settings = json.loads(tree.attrs["options"])
    catalog = tree["catalog"]
    sources = SourceTable(
        tuple(str(one) for one in catalog["source"].to_numpy()),
        *(catalog[name].to_numpy() for name in ("ra_deg", "dec_deg", "catalog_flux", "mag")),
    )
    made = ("contaminant_mag_limit", "cartesian_knot_spacing", "time_corrector", "background")
    given = {name: value for name, value in settings.items() if name not in made and name in _SETTINGS}
    machine = Machine.from_pixels(pixels, sources, quiet=True, **given)
    for name in made:
        setattr(machine, name, settings.get(name, getattr(machine, name)))
    machine.build_shape_model()
    if "time_model" in tree.children:
        machine.build_time_model()
    widths = widths_from_group(tree["widths"]) if "widths" in tree.children else None
    robust = bool(settings.get("robust", False))
    machine.fit_model(fit_va="time_model" in tree.children, robust=robust, widths=widths)
    _compare(tree, machine)
    return machine


def sample_saved(
    tree_file: Path, sources: list[str], *, output: Path, directories: tuple[Path, ...] = (), **settings: Any
) -> Any:
    """Sample sources of saved results, and save the draws.

    Parameters
    ----------
    tree_file : Path
        Results of `bayesprf fit`.
    sources : list of str
        Names of the sources.
    output : Path
        File for the draws, netCDF.
    directories : tuple of Path
        Where to look for the input files; the folder of `tree_file` by default.
    **settings
        As for `Machine.sample`.

    Returns
    -------
    xarray.DataTree
        The draws.
    """
    from bayesprf.io.save import load_tree, save_tree

    machine = rebuild_machine(load_tree(tree_file), directories or (tree_file.resolve().parent,))
    draws = machine.sample(sources, **settings)
    save_tree(draws, output)
    return draws


def format_draws(tree: Any) -> str:
    """Return what matters of draws as text: convergence, sources sampled along, means and standard deviations.

    Parameters
    ----------
    tree : xarray.DataTree
        Draws of `Machine.sample`.

    Returns
    -------
    str
    """
    posterior = tree["posterior"].to_dataset()
    lines = [str(tree.attrs["convergence"])]
    along = tree.attrs.get("overlapping_sources", "")
    along = along if isinstance(along, str) else ", ".join(along)
    lines += [f"sampled along, because their light overlaps: {along}"] if along else []
    for name, draws in posterior.data_vars.items():
        mean, std = (one.to_numpy() for one in (draws.mean(("chain", "draw")), draws.std(("chain", "draw"))))
        labels = [""] if mean.ndim == 0 else [f"[{one}]" for one in draws[draws.dims[-1]].to_numpy()]
        if mean.ndim <= 1 and mean.size <= _MAX_LINES:
            values = zip(labels, np.atleast_1d(mean), np.atleast_1d(std), strict=True)
            lines += [f"{name}{label}: {one:.6g} +- {error:.3g}" for label, one, error in values]
    return "\n".join(lines)


_MAX_LINES = 20
_SETTINGS = (
    "limit_radius", "n_r_knots", "n_phi_knots", "time_nknots", "time_resolution", "time_radius", "rmin", "rmax",
    "cut_r", "sparse_dist_lim",
)  # fmt: skip
# Fluxes that differ by more than this, in units of their errors, come from other options.
_SAME = 1e-3


def _find(name: str, checksum: str, directories: tuple[Path, ...]) -> Path:
    """Return the file of that name and content."""
    below = [place for directory in directories for place in sorted(directory.rglob(Path(name).name))]
    found = [place for place in (Path(name), *below) if place.is_file()]
    if not found:
        looked = ", ".join(str(directory) for directory in (Path.cwd(), *directories))
        raise FileError(
            f"{Path(name).name}: expected the file the results were made from below one of {looked}, got none"
        )
    for place in found:
        if sha256_of(place) == checksum:
            return place
    raise FileError(f"{found[0]}: expected the file the results were made from, got another content; find the original")


def _compare(tree: Any, machine: Machine) -> None:
    """Raise if the rebuilt fluxes are not those of the tree."""
    if "photometry" not in tree.children or "flux" not in tree["photometry"]:
        return
    then, error = (tree[f"photometry/{name}"].to_numpy() for name in ("flux", "flux_err"))
    now = machine.fit.latest_flux.flux
    away = float(np.nanmax(np.abs(now - then) / error, initial=0.0)) if then.shape == now.shape else np.inf
    if not away < _SAME:
        raise InputError(
            f"tree: expected fluxes that these files and settings give again, got some that differ by {away:.3g}"
            " errors; it was made with options of its own or by another version, so sample from that Machine itself"
        )
