"""Digests of every answer on a fixed set of cases: what a change that must not move a bit is held against.

    python tests/net/digests.py --output before.json [--case NAME ...]
    python tests/net/digests.py --compare before.json after.json [--case NAME ...]

The package that Python imports is measured: an installed one, or that of PYTHONPATH.
"""

# ruff: noqa: E402  (threads are set before NumPy loads)

import argparse
import contextlib
import dataclasses
import hashlib
import importlib
import io
import itertools
import json
import os
import sys
import tempfile
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Before NumPy and PyTensor load: sums must not depend on the number of cores, nor graphs on the order of sets.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["MPLBACKEND"] = "Agg"
if __name__ == "__main__" and os.environ.get("PYTHONHASHSEED") != "0":
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import csr_matrix, issparse

import bayesprf as bp

PACKAGE_ROOT = Path(bp.__file__).resolve().parents[1]

# The only names that are not of the public API, each with the modules it may live in, newest first: what makes a field
# with known truth, what writes and reads a tree and what is documented but not exported are not in `bayesprf` itself.
_MOVED = {
    "make_case": ("bayesprf.simulation.fields", "bayesprf.models.simulate"),
    "Transit": (
        "bayesprf.simulation.field_settings", "bayesprf.simulation.settings", "bayesprf.simulation.fields",
        "bayesprf.models.field_settings",
    ),
    "save_tree": ("bayesprf", "bayesprf.io.save"),
    "load_tree": ("bayesprf", "bayesprf.io.save"),
    "PerturbationMatrix": ("bayesprf", "bayesprf.perturbation"),
    "PerturbationMatrix3D": ("bayesprf", "bayesprf.perturbation"),
    "Field": ("bayesprf.batch",),
    "fit_batch": ("bayesprf.batch",),
}  # fmt: skip


def moved(name: str) -> Any:
    """Return a name of `_MOVED` from wherever it is in this version of the package."""
    for module in _MOVED[name]:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"{name}: found in none of {', '.join(_MOVED[name])}; add its new home to _MOVED")


def command_line() -> Callable[[], None]:
    """Return what `bayesprf` runs, as the pyproject.toml beside the package says: an install may name an old home."""
    script = tomllib.loads((PACKAGE_ROOT / "pyproject.toml").read_text())["project"]["scripts"]["bayesprf"]
    module, name = script.split(":")
    return getattr(importlib.import_module(module), name)


# Digests

_SKIPPED_ATTRS = ("created", "created_at", "versions", "sampling_time", "tuning_time")
_SKIPPED_VARIABLES = ("perf_counter_diff", "perf_counter_start", "process_time_diff")
_N_SAMPLE = 16
_MAX_DEPTH = 6
_WRITTEN_NOW = ("DATE", "CREATOR", "PROCVER", "CHECKSUM", "DATASUM")


@dataclasses.dataclass
class Digests:
    """Digests by key, with a summary of the numbers behind each."""

    entries: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    skipped: set[str] = dataclasses.field(default_factory=set)

    def add(self, key: str, value: Any, depth: int = 0) -> None:
        """Add a value, or all that it holds, under a key."""
        if isinstance(value, xr.DataTree):
            self._add_tree(key, value)
        elif issparse(value):
            matrix = csr_matrix(value)
            matrix.sort_indices()
            self._add_array(f"{key}.data", matrix.data)
            for name in ("indptr", "indices"):
                self._add_array(f"{key}.{name}", getattr(matrix, name).astype(np.int64))
            self._add_array(f"{key}.shape", np.array(matrix.shape, np.int64))
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            self._add_record(key, value, depth)
        elif isinstance(value, Mapping):
            for name, one in value.items():
                self.add(f"{key}/{name}", one, depth)
        elif isinstance(value, np.ndarray | np.generic | bool | int | float):
            self._add_array(key, np.asarray(value))
        elif value is None or isinstance(value, str):
            self._put(key, f"text:{value}", {"text": str(value)[:200]})
        elif isinstance(value, list | tuple):
            self._add_sequence(key, value, depth)
        else:
            self.skipped.add(f"{key}: {type(value).__name__}")

    def _add_sequence(self, key: str, value: Any, depth: int) -> None:
        kinds = {type(one) for one in value}
        if kinds <= {int, float, bool} or kinds <= {str}:
            self._add_array(key, np.array(value, object if kinds == {str} else None))
            return
        for index, one in enumerate(value):
            self.add(f"{key}/{index}", one, depth)

    def _add_record(self, key: str, value: Any, depth: int) -> None:
        """Add the public fields and properties of a dataclass."""
        if depth > _MAX_DEPTH:
            return
        names = [one.name for one in dataclasses.fields(value)]
        names += [name for name in dir(type(value)) if isinstance(getattr(type(value), name), property)]
        for name in dict.fromkeys(names):
            if not name.startswith("_"):
                one = getattr(value, name)
                self.add(f"{key}.{name}", _without_paths(one) if name == "meta" else one, depth + 1)

    def _add_tree(self, key: str, tree: xr.DataTree) -> None:
        for node in tree.subtree:
            path = f"{key}:{node.path}".rstrip("/")
            self._add_attrs(path, node.attrs)
            for name, variable in node.to_dataset(inherit=False).variables.items():
                if name in _SKIPPED_VARIABLES:
                    continue
                self._add_array(f"{path}/{name}", variable.to_numpy())
                self._add_attrs(f"{path}/{name}", {"dims": list(variable.dims), **variable.attrs})

    def _add_attrs(self, key: str, attrs: Mapping[Any, Any]) -> None:
        kept = {str(name): one for name, one in attrs.items() if not _is_of_the_run(str(name))}
        if "input_files" in kept:
            kept["input_files"] = {Path(name).name: one for name, one in json.loads(kept["input_files"]).items()}
        if kept:
            text = json.dumps(kept, sort_keys=True, default=lambda one: np.asarray(one).tolist())
            self._put(f"{key}@attrs", text, {"text": text[:400]})

    def _add_array(self, key: str, array: Any) -> None:
        if array.dtype.kind in "OUSM":
            text = json.dumps(array.astype(str).tolist())
            self._put(key, f"{array.shape}{text}", {"shape": list(array.shape), "text": text[:200]})
            return
        values = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)  # one NaN has many bits
        head = f"{values.dtype.str}{values.shape}".encode()
        self._put(key, head + values.tobytes(), _summarise(values))

    def _put(self, key: str, content: str | bytes, summary: dict[str, Any]) -> None:
        if key in self.entries:
            raise KeyError(f"{key}: digested twice")
        raw = content.encode() if isinstance(content, str) else content
        self.entries[key] = {"sha256": hashlib.sha256(raw).hexdigest(), **summary}


def _is_of_the_run(name: str) -> bool:
    """Whether an attribute says when or with which versions a tree was made."""
    return name in _SKIPPED_ATTRS or name.endswith("_version")


def _without_paths(meta: Any) -> Any:
    """Return metadata with names of files in place of their paths."""
    if isinstance(meta, Mapping):
        return {name: _without_paths(one) for name, one in meta.items()}
    if isinstance(meta, list | tuple):
        return [_without_paths(one) for one in meta]
    return Path(meta).name if isinstance(meta, Path) or (isinstance(meta, str) and os.sep in meta) else meta


def _summarise(values: Any) -> dict[str, Any]:
    """Return shape, count of NaN, sum, largest absolute value and a few values of an array of numbers."""
    finite = np.asarray(values[np.isfinite(values)], np.float64)
    flat = values.ravel()
    chosen = flat[np.linspace(0, flat.size - 1, min(flat.size, _N_SAMPLE)).astype(int)] if flat.size else flat
    return {
        "shape": list(values.shape),
        "not_finite": int(values.size - finite.size),
        "sum": float(finite.sum()),
        "abs_max": float(np.abs(finite).max(initial=0.0)),
        "sample": [float(one) for one in chosen],
    }


# Fields and machines

_VIEWS = (
    "dra", "ddec", "r", "phi", "source_mask", "uncontaminated_source_mask", "mean_model", "radius", "psf_w",
    "psf_w_err", "centroid_offset", "ws", "werrs", "ws_va", "werrs_va", "background_w", "background_w_err",
    "background_flux", "down_weighted", "flags", "model_flux", "source_flux_estimates", "positions", "common_errors",
    "werrs_total", "widths", "aperture_mask", "FLFRCSAP", "CROWDSAP", "sap_flux", "sap_flux_err",
    "optimal_percentile", "source_psf_fraction", "perturbed_ratio_mean", "perturbed_std",
)  # fmt: skip


class NoDataError(Exception):
    """Real files that a case needs are absent."""


def real_data() -> Path:
    """Return the directory of the real files: BAYESPRF_TEST_DATA, or ../shared/data beside the repository."""
    named = os.environ.get("BAYESPRF_TEST_DATA")
    path = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    if not path.is_dir():
        raise NoDataError(f"no real files at {path}")
    return path


def start(field: Any, **settings: Any) -> Any:
    """Return a Machine of a simulated field, nothing built."""
    return bp.Machine.from_pixels(field.pixels, field.sources, quiet=True, **settings)


def build(field: Any, **settings: Any) -> Any:
    """Return a Machine of a simulated field with shape and fluxes."""
    machine = start(field, **settings)
    machine.build_shape_model()
    machine.fit_model()
    return machine


def views(machine: Any) -> dict[str, Any]:
    """Return every documented attribute; for those whose stage has not run, the name of the error."""
    found = {}
    for name in _VIEWS:
        try:
            found[name] = getattr(machine, name)
        except Exception as error:
            if type(error).__name__ != "StageError":
                raise
            found[name] = "StageError"
    return found


def answers(machine: Any) -> dict[str, Any]:
    """Return every documented attribute and the tree."""
    return {"views": views(machine), "tree": machine.to_datatree()}


def demo_field(seed: int = 0, **changes: Any) -> Any:
    return moved("make_case")("demo", np.random.default_rng(seed), **{"n_time": 120, **changes})


def drift(times: Any) -> Any:
    """Return a slow drift with a little jitter, column and row, pixel."""
    t = (times - times[0]) / max(float(np.ptp(times)), 1e-9)
    return np.stack([0.12 * (t - 0.5) + 0.01 * np.sin(40.0 * t), 0.08 * (t**2 - 0.3)], axis=1)


def medium_field() -> Any:
    changes = {"n_source": 120, "n_time": 250, "n_stamp": 104, "drift": drift, "drift_differential": 0.2}
    return moved("make_case")("medium", np.random.default_rng(1), **changes)


def kepler_catalog(data: Path) -> Any:
    """Return the targets of the six Kepler files with fluxes of their magnitudes."""
    header = pd.read_csv(data / "tpf_header_sources.csv")
    rows = header[header["file"].str.startswith("kepler-tpf/q12-ch04-250cad/")]
    flux = 1.74e5 * 10.0 ** (-0.4 * (rows["kepmag"] - 12.0))
    return pd.DataFrame(
        {"source_id": rows["object"], "ra": rows["ra_obj"], "dec": rows["dec_obj"], "phot_g_mean_flux": flux}
    )


# Cases: each gives what is digested, by name


def case_simulator() -> dict[str, Any]:
    """Every standard layout: pixels, catalogue and truth."""
    make_case, found = moved("make_case"), {}
    sizes = {
        "demo": {}, "small": {}, "medium": {"n_source": 30, "n_time": 20, "n_stamp": 25},
        "crowded": {"n_source": 100, "n_time": 3, "image_shape": (40, 40)},
        "ffi": {"n_source": 200, "image_shape": (60, 60)},
    }  # fmt: skip
    for name, changes in sizes.items():
        noisy = {"catalog_scatter": 0.2, "position_scatter": 0.05, "centroid_offset": (0.1, -0.05), "drift": drift}
        field = make_case(name, np.random.default_rng(5), **changes, **(noisy if name == "small" else {}))
        truth = {one: getattr(field, one) for one in ("flux", "column", "row", "shift", "mean_flux", "is_target")}
        truth |= {"design": field.true_design(), "expected": field.expected(0, 1), "bound": field.cramer_rao(0)}
        found[name] = {"pixels": field.pixels, "sources": field.sources, "truth": truth}
    return found


def case_demo() -> dict[str, Any]:
    """The whole road on the demo field, attributes after each stage."""
    field = demo_field(n_time=300)
    machine = start(field)
    found = {"before": {name: getattr(machine, name) for name in ("dra", "ddec", "r", "phi")}}
    machine.build_shape_model()
    found["shape"] = answers(machine)
    machine.fit_model()
    found["loo"] = machine.loo()
    machine.compute_aperture_photometry()
    machine.get_psf_metrics()
    found |= answers(machine)
    found["covariance"] = {"all": machine.covariance(), "some": machine.covariance([3, "star-00013"], cadence=7)}
    return found


def case_shape_options() -> dict[str, Any]:
    """Options of the shape fit, one at a time, and priors of the flux fit."""
    field = demo_field(n_time=40, centroid_offset=(0.1, 0.05))
    found = {}
    options = {
        "frame": {"frame_index": 3}, "binned": {"bin_data": True}, "cut_off": {"flux_cut_off": 5.0},
        "limits": {"upper_flux_limit": 5e4, "lower_flux_limit": 50.0, "correct_centroid_offset": False},
    }  # fmt: skip
    for name, one in options.items():
        machine = start(field)
        machine.build_shape_model(**one)
        found[name] = machine.to_datatree()
    machine = start(field, n_r_knots=8, n_phi_knots=9, rmin=0.5, rmax=14.0, cut_r=5.0, limit_radius=20.0)
    machine.contaminant_mag_limit, machine.time_mask = 15.0, np.arange(40) % 2 == 0
    machine.build_shape_model()
    found["settings"] = machine.to_datatree()
    for name, prior in {"narrow": {"prior_mu": 900.0, "prior_sigma": 50.0}, "wide": {"prior_sigma": 1e6}}.items():
        machine.fit_model(**prior, n_threads=1)
        found[name] = {"ws": machine.ws, "werrs": machine.werrs, "covariance": machine.covariance(cadence=1)}
    return found


def case_medium_drift() -> dict[str, Any]:
    """Drift over many stamps, time model and fluxes with it."""
    machine = start(medium_field())
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    machine.loo()
    machine.get_psf_metrics()
    matrix = machine.P
    names = ("vectors", "matrix", "cartesian_matrix", "weights", "prior_mu", "prior_sigma", "dx", "dy", "breaks",
             "segment_masks", "shape", "nvec", "ntime", "nbins", "resolution")  # fmt: skip
    found = answers(machine)
    found["P"] = {name: getattr(matrix, name) for name in names}
    found["P"] |= {"model": matrix.model(), "some": matrix.model([0, 5]), "binned": matrix.bin_func(machine.time)}
    found["P_fit"] = matrix.fit(1.0 + 0.01 * np.sin(np.arange(machine.nt))[:, None] * np.ones(matrix.dx.size))
    found["P_fit_model"] = matrix.model([1, 2])
    found["perturbed"] = {"one": machine.perturbed_model(4), "many": machine.perturbed_model([0, 40, 249])}
    return found


def case_time_options() -> dict[str, Any]:
    """Options of the time model, one set at a time."""
    field = medium_field()
    vector = np.sin(np.arange(field.pixels.time.size) / 5.0)[None]
    options = {
        "poscorr": {"positions": "poscorr"}, "centroid": {"positions": "centroid", "field_order": 1},
        "segments": {"segments": True, "focus": True, "focus_exptime": 1.0, "poly_order": 2},
        "pca": {"pca_ncomponents": 2, "pca_smooth_time_scale": 0.3}, "downsample": {"bin_method": "downsample"},
        "vectors": {"other_vectors": vector, "poly_order": 1}, "shift": {"positions": "poscorr", "shift_limit": 0.05},
    }  # fmt: skip
    machine, found = start(field, time_nknots=8, time_resolution=9), {}
    machine.cartesian_knot_spacing = "linear"
    machine.build_shape_model()
    for name, one in options.items():
        machine.build_time_model(**one)
        machine.fit_model(fit_va=True)
        found[name] = {"tree": machine.to_datatree(), "perturbed": machine.perturbed_model(3)}
    return found


def case_crowded() -> dict[str, Any]:
    """A crowded image."""
    changes = {"n_source": 800, "n_time": 8, "image_shape": (88, 88)}
    machine = build(moved("make_case")("crowded", np.random.default_rng(2), **changes))
    machine.loo()
    return answers(machine)


def case_refine_scene() -> dict[str, Any]:
    """PRF, fluxes and positions together, blends too."""
    field = demo_field(n_time=30, position_scatter=0.2, centroid_offset=(0.1, 0.0))
    machine = start(field)
    machine.refine_scene()
    machine.fit_model()
    return answers(machine)


def case_total_errors() -> dict[str, Any]:
    """Errors common to all cadences: learned widths, and widths of one's own."""
    machine = build(demo_field(seed=4, n_time=40))
    found = {"common": machine.common_errors, "total": machine.werrs_total}
    own = {"position": 0.03, "moments": 0.01, "model": 0.02, "tail": 0.1, "others": 0.2}
    found["own"] = machine.fit_common_errors(**own)
    found["own_total"] = machine.werrs_total
    found["each"] = machine.fit_common_errors(position=np.linspace(0.01, 0.05, machine.nsources))
    return found


def case_posterior() -> dict[str, Any]:
    """Exact draws: all cadences, one, missing pixels; grids of hyperparameters, which need no sampler."""
    field = demo_field(seed=6, n_time=12)
    machine = build(field)
    flux = field.pixels.flux.copy()
    flux[3, ::7] = np.nan
    gaps = build(dataclasses.replace(field, pixels=dataclasses.replace(field.pixels, flux=flux)))
    short = {"draws": 24, "random_seed": 7}
    return {
        "some": machine.posterior([0, 13], [1, 4], **short),
        "one": machine.posterior([3], 2, **short),
        "few": machine.posterior(draws=8, random_seed=1, max_pointwise=10),
        "gaps": gaps.posterior([0, 3], [2, 3, 4], **short),
        "fixed": machine.sample([3], [1, 4], kind="collapsed", **short),
        "width": machine.sample([3], 0, kind="collapsed", width="learn", **short),
        "noise": machine.sample([3], [0, 2], kind="collapsed", width="learn", noise_scale="learn", **short),
    }


def event_field() -> tuple[Any, Any]:
    """Return a Machine whose star 13 has an eclipse, and the shape of the eclipse."""
    transit = moved("Transit")(source=13, depth=0.4, period=1.6, epoch=120.7, duration=0.3, flank=0.9)
    field = demo_field(seed=8, n_time=150, transits=(transit,))
    return build(field), 1.0 - (transit.factor(field.pixels.time) - 0.6) / 0.4


def case_blend_test() -> dict[str, Any]:
    """One star or two."""
    machine = build(demo_field(seed=7, n_time=40))
    sources, found = machine.sources, {}
    for index, (east, north) in itertools.product((0, 5), ((1.5, 0.0), (-2.0, 2.5))):
        place = (sources.ra_deg[index] + east / 3600.0, sources.dec_deg[index] + north / 3600.0)
        found[f"{index}:{east}:{north}"] = machine.blend_test(index, place)
    place = (sources.ra_deg[5], sources.dec_deg[5] + 1.0 / 3600.0)
    more = {"prior_sigma": 200.0, "prior_odds": 0.1, "prf_errors": False, "cadences": [0, 3, 5]}
    found["known_prf"] = machine.blend_test("star-00005", place, **more)
    return found


def case_which_source() -> dict[str, Any]:
    """Which star an eclipse belongs to."""
    machine, event = event_field()
    return {
        "shape": machine.which_source(event),
        "mask": machine.which_source(event > 0.5, [13], depth_sigma=0.5, baseline=1.0),
        "part": machine.which_source(event, ["star-00001"], cadences=np.arange(100)),
    }


def case_event_depth() -> dict[str, Any]:
    """Depth of an eclipse, blended and not."""
    machine, event = event_field()
    return {
        "own": machine.event_depth(13, event),
        "neighbour": machine.event_depth(1, event),
        "mask": machine.event_depth("star-00013", event > 0.5, baseline=np.inf, cadences=np.arange(90)),
    }


def case_apertures() -> dict[str, Any]:
    """Apertures: optimal, with targets of one's own, percentiles."""
    machine, found = start(demo_field(seed=9, n_time=30)), {}
    machine.build_shape_model()
    names = ("aperture_mask", "FLFRCSAP", "CROWDSAP", "sap_flux", "sap_flux_err", "optimal_percentile")
    machine.create_aperture_mask(30)
    found["mask"] = {name: getattr(machine, name) for name in names[:3]}
    kinds: dict[str, dict[str, Any]] = {
        "optimal": {}, "complete": {"target_crowd": None}, "targets": {"target_complete": 0.5, "target_crowd": 0.99},
        "number": {"aperture_size": 60}, "each": {"aperture_size": np.linspace(0, 100, machine.nsources)},
    }  # fmt: skip
    for name, one in kinds.items():
        machine.compute_aperture_photometry(**one)
        every = views(machine)
        found[name] = {one: every[one] for one in names}
    found["tree"] = machine.to_datatree()
    return found


def case_psf_metrics() -> dict[str, Any]:
    """Share of the PRF on the data, and how far a time model moves it."""
    machine, found = start(medium_field()), {}
    machine.build_shape_model()
    for points in (0, 4, 10):
        machine.get_psf_metrics(points)
        found[f"points_{points}"] = machine.source_psf_fraction
    machine.build_time_model()
    machine.get_psf_metrics()
    return found | {name: getattr(machine, name) for name in ("perturbed_ratio_mean", "perturbed_std")}


def case_widths() -> dict[str, Any]:
    """Learned widths, and fits with them."""
    field = demo_field(seed=3, n_time=60, catalog_scatter=0.15)
    machine = build(field)
    stamps = np.where(field.pixels.stamp % 2 == 0, "even", "odd")
    found = {
        "plain": machine.learn_widths(),
        "groups": machine.learn_widths(noise_groups=stamps, n_cadence=20),
        "flux": machine.learn_widths(prior_groups="flux", noise_groups="flux"),
        "fixed": machine.learn_widths(prior_width=0.5, zero_point=1.0, variability=0.0, noise="learn", model=0.0),
        "in_fit": machine.learn_widths(model_in_fit=True),
    }
    fits = {}
    for name, widths in found.items():
        machine.fit_model(widths=widths)
        fits[name] = answers(machine)
    return {"widths": found, "fits": fits}


def case_robust() -> dict[str, Any]:
    """Cosmic rays, and a fit that bears them."""
    field = demo_field(seed=10, n_time=40)
    flux = field.pixels.flux.copy()
    rng = np.random.default_rng(3)
    hits = rng.integers(0, flux.shape[0], 40), rng.integers(0, flux.shape[1], 40)
    flux[hits] += rng.uniform(200.0, 5000.0, 40)
    machine = start(dataclasses.replace(field, pixels=dataclasses.replace(field.pixels, flux=flux)))
    machine.build_shape_model()
    machine.build_time_model(poly_order=1)
    machine.fit_model(fit_va=True, robust=True)
    return answers(machine)


def case_background() -> dict[str, Any]:
    """Sky per cutout and over the image, of every order, with scores, draws and widths."""
    field, found = demo_field(seed=11, n_time=20), {}
    level = 30.0 + 0.5 * (field.pixels.column - field.pixels.column.mean()) / 10.0
    field = dataclasses.replace(field, pixels=dataclasses.replace(field.pixels, flux=field.pixels.flux + level))
    kinds = {
        "stamp": "stamp", "image": "image", "plane": bp.Background("image", 1),
        "paraboloid": {"scope": "image", "order": 2, "sigma": 100.0},
    }  # fmt: skip
    for name, background in kinds.items():
        machine = build(field, background=background)
        machine.loo()
        found[name] = answers(machine)
    machine = build(field, background="stamp")
    found["draws"] = machine.posterior([0, 3], [1, 4], draws=8, random_seed=2)
    machine.fit_model(widths=machine.learn_widths())
    found["widths"] = machine.to_datatree()
    found["joint"] = log_density(machine.pymc_model("joint", sources=[3]), fast=True)
    return found


def log_density(model: Any, *, fast: bool) -> dict[str, Any]:
    """Return the log density of a PyMC model, term by term, at its start and beside it; and its slope if fast."""
    mode = {"mode": "FAST_COMPILE"} if fast else {}
    point = model.initial_point(random_seed=0)
    beside = {}
    for name, one in point.items():
        step = 0.05 * np.sin(1.0 + np.arange(np.size(one))).reshape(np.shape(one))
        beside[name] = np.asarray(one + step, np.asarray(one).dtype)
    found: dict[str, Any] = {"start": point, "names": [str(one) for one in model.basic_RVs + model.potentials]}
    terms, slope = model.compile_logp(sum=False, **mode), model.compile_dlogp(**mode) if fast else None
    for place, at in (("start", point), ("beside", beside)):
        found[f"logp_{place}"] = list(terms(at))
        if slope is not None:
            found[f"dlogp_{place}"] = slope(at)
    return found


def case_pymc() -> dict[str, Any]:
    """Log densities of every model that is sampled; no sampling."""
    machine = build(demo_field(seed=12, n_time=8))
    some = {"sources": [3], "cadences": [0, 1]}
    learned = {"width": "learn", "zero_point": "learn", "noise_scale": "learn", "jitter": "learn"}
    groups = {"width": "learn", "width_group": np.arange(machine.nsources) % 2}
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "linear": ("linear", some),
        "one_cadence": ("linear", {"sources": [3], "cadences": 0}),
        "centered": ("linear", {**some, "form": "centered"}),
        "whitened": ("linear", {**some, "form": "whitened"}),
        "statistics": ("linear", {**some, "likelihood": "statistics", "noise_scale": "learn"}),
        "learned": ("linear", {**some, **learned}),
        "groups": ("linear", {**some, **groups, "form": "centered"}),
        "robust": ("robust", some),
        "robust_learned": ("robust", {**some, "width": "learn"}),
        "collapsed": ("collapsed", {**some, "width": "learn"}),
        "collapsed_learned": ("collapsed", {**some, **learned}),
        "collapsed_groups": ("collapsed", {**some, **groups}),
        "joint": ("joint", {"sources": [3]}),
        "joint_free": ("joint", {"sources": [3], "position": 0.05, "tail": 0.1, "others": 0.2, "scatter": "learn"}),
        "joint_times": ("joint", {"sources": [3], "cadences": [0, 1]}),
        "joint_robust": ("joint", {"sources": [3], "likelihood": "student-t"}),
        "shape": ("shape", {}),
        "shape_width": ("shape", {"width": 1.0}),
    }
    found = {name: log_density(machine.pymc_model(kind, **one), fast=True) for name, (kind, one) in models.items()}
    for name in ("linear", "robust", "collapsed", "joint", "shape"):
        kind, one = models[name]
        found[f"{name}_compiled"] = log_density(machine.pymc_model(kind, **one), fast=False)
    return found


def case_sampled() -> dict[str, Any]:
    """A few steps of PyMC's own sampler for every kind: not draws to trust, but always the same."""
    machine = build(demo_field(seed=12, n_time=4))
    few = {"draws": 6, "tune": 8, "chains": 2, "cores": 1, "sampler": "pymc", "random_seed": 5}
    learned = {"width": "learn", "noise_scale": "learn", "jitter": "learn"}
    kinds = {
        "linear": {"cadences": [0, 1]},
        "robust": {"cadences": 0},
        "joint": {},
        "collapsed": {"cadences": 0, **learned},
    }
    found = {kind: machine.sample([3], kind=kind, **few, **one) for kind, one in kinds.items()}
    return found | {"shape": machine.sample(kind="shape", **few)}


def case_perturbation_matrices() -> dict[str, Any]:
    """The linear models of slow change by themselves."""
    rng = np.random.default_rng(20)
    times = np.concatenate([np.arange(60.0), np.arange(75.0, 120.0)]) * 0.02
    flux = 1.0 + 0.01 * np.sin(3.0 * times) + 0.001 * rng.standard_normal(times.size)
    flux[4], names = np.nan, ("vectors", "matrix", "weights", "prior_mu", "breaks", "segment_masks", "shape")
    flat, deep = moved("PerturbationMatrix"), moved("PerturbationMatrix3D")
    found: dict[str, Any] = {}
    for method in ("bin", "downsample"):
        for focus in (False, True):
            matrix = flat(times, np.sin(times)[:, None], focus=focus, bin_method=method, resolution=5)
            matrix.fit(flux, np.full(times.size, 0.001))
            one = {name: getattr(matrix, name) for name in names} | {"model": matrix.model()}
            one["error"] = matrix.bin_func(np.full(times.size, 0.001), quad=True)
            matrix.pca(flux[:, None] * rng.uniform(0.5, 1.5, 12), ncomponents=2, smooth_time_scale=0.3)
            found[f"{method}:{focus}"] = one | {"pca": matrix.vectors}
    dx, dy = rng.uniform(-9.0, 9.0, (2, 150))
    cube = flux[:, None] * (1.0 + 0.001 * np.multiply.outer(times, dx))
    for spacing in ("linear", "sqrt"):
        matrix = deep(times, dx, dy, nknots=6, radius=7.0, poly_order=2, knot_spacing_type=spacing, resolution=10)
        matrix.fit(cube, pixel_mask=np.hypot(dx, dy) < 8.0)
        found[spacing] = {name: getattr(matrix, name) for name in names} | {"model": matrix.model([0, 50])}
        matrix.pca(cube, ncomponents=1)
        found[spacing]["pca"] = matrix.vectors
    return found


def case_constructor() -> dict[str, Any]:
    """Plain arrays and a table against from_pixels with the same settings."""
    field = demo_field(seed=13, n_time=20)
    pixels, sources = field.pixels, field.sources
    table = pd.DataFrame({"ra": sources.ra_deg, "dec": sources.dec_deg, "phot_g_mean_flux": sources.flux})
    arrays = (pixels.time, pixels.flux, pixels.flux_err, pixels.ra_deg, pixels.dec_deg)
    plain = bp.Machine(*arrays, table, pixels.column, pixels.row, quiet=True)
    same = start(field, cut_r=6.0, time_radius=8.0)
    found = {}
    for name, machine in (("arrays", plain), ("pixels", same), ("defaults", start(field))):
        machine.build_shape_model()
        machine.fit_model()
        found[name] = answers(machine)
    return found


def case_compare() -> dict[str, Any]:
    """Models side by side: Machines, trees, with and without leave-one-out."""
    field = demo_field(seed=14, n_time=20)
    one, other = build(field), build(field, n_r_knots=6, n_phi_knots=7)
    flat = start(field)
    flat.build_shape_model()
    flat.fit_model(prior_sigma=1e4)
    found = {"before": bp.compare({"one": one, "other": other, "wide": flat})}
    for machine in (one, other, flat):
        machine.loo()
    found["after"] = bp.compare({"one": one, "other": other, "wide": flat.to_datatree()})
    return found | {f"{name}_text": str(table) for name, table in found.items()}


def case_saved_tree() -> dict[str, Any]:
    """A tree written and read again, by the package and by xarray."""
    machine = build(demo_field(seed=15, n_time=15))
    machine.loo()
    tree = machine.to_datatree()
    with tempfile.TemporaryDirectory() as place:
        path = moved("save_tree")(tree, Path(place) / "field.nc")
        again = moved("load_tree")(path)
        with xr.open_datatree(path, engine="h5netcdf") as plain:
            return {
                "tree": tree,
                "again": again,
                "xarray": plain.load(),
                "compare": bp.compare({"a": tree, "b": again}),
            }


def case_pictures() -> dict[str, Any]:
    """Every picture of a Machine, as its pixels."""
    machine = start(medium_field())
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    machine.compute_aperture_photometry()
    figures = {
        "scene": machine.plot_scene(), "shape": machine.plot_shape_model(), "binned": machine.plot_shape_model(0, True),
        "lightcurves": machine.plot_lightcurves([0, 5]), "time_model": machine.plot_time_model(),
        "aperture": machine.plot_aperture(3), "P": machine.P.plot(),
    }  # fmt: skip
    return {name: drawn(figure) for name, figure in figures.items()}


def drawn(figure: Any) -> Any:
    """Return a figure as its pixels."""
    from matplotlib.image import imread

    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=60)
    picture.seek(0)
    return imread(picture)


@contextlib.contextmanager
def inside(directory: str) -> Iterator[None]:
    """Work in a directory, so that what is printed names no other."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def run_command(*words: str) -> dict[str, Any]:
    """Run `bayesprf` in this process; return what it printed and its exit code."""
    arguments, out, code = sys.argv, io.StringIO(), 0
    sys.argv = ["bayesprf", *words]
    try:
        with contextlib.redirect_stdout(out):
            command_line()()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = arguments
    return {"code": code, "printed": out.getvalue().splitlines()}


def read_tree(path: str) -> xr.DataTree:
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        return tree.load()


def read_fits(path: Path) -> dict[str, Any]:
    """Return cards and columns of a FITS file, but for cards that say when and by what it was written."""
    from astropy.io import fits

    found: dict[str, Any] = {}
    with fits.open(path) as units:
        for index, unit in enumerate(units):
            cards = [repr((one.keyword, one.value)) for one in unit.header.cards if one.keyword not in _WRITTEN_NOW]
            found[f"{index}/cards"] = cards
            if getattr(unit, "columns", None) is not None:
                found |= {f"{index}/{name}": np.array(unit.data[name]) for name in unit.columns.names}
            elif unit.data is not None:
                found[f"{index}/data"] = np.array(unit.data)
    return found


def case_command_line() -> dict[str, Any]:
    """`bayesprf` demo, fit in all its ways, report, compare and sample."""
    from matplotlib.image import imread

    with tempfile.TemporaryDirectory() as place, inside(place):
        found: dict[str, Any] = {"demo": run_command("demo", "demo")}
        files = sorted(Path("demo/pixels").glob("*.fits"))
        catalog = Path("demo/catalog.csv")
        found["pixels"] = bp.read_tpfs([str(one) for one in files])
        found["catalog"] = bp.read_catalog(catalog, epoch=found["pixels"])
        found["demo_tree"] = read_tree("demo/field.nc")
        for one in sorted(Path("demo").rglob("*.png")):
            found[f"picture/{one.stem}"] = imread(one)
        for one in [files[0], *sorted(Path("demo/lightcurves").iterdir())[:3]]:
            found[f"fits/{one.name}"] = read_fits(one)
        words = [*map(str, files), "--catalog", str(catalog), "--quiet", "--output"]
        ways = {
            "va": ("--va",), "background": ("--background", "stamp", "--learn-widths"),
            "robust": ("--robust",), "plane": ("--background", "image", "--background-order", "1", "--no-loo"),
        }  # fmt: skip
        for name, more in ways.items():
            found[f"fit_{name}"] = run_command("fit", *words, f"{name}.nc", *more)
            found[f"tree_{name}"] = read_tree(f"{name}.nc")
        found["report"] = run_command("report", "background.nc")
        found["compare"] = run_command("compare", "va.nc", "background.nc", "demo/field.nc")
        sample = ("sample", "demo/field.nc", "--source", "star-00003", "--learn", "width", "--cadence", "2")
        found["sample"] = run_command(*sample, "--draws", "20", "--seed", "1", "--output", "draws.nc")
        found["draws"] = read_tree("draws.nc")
        sample = ("sample", "background.nc", "--source", "star-00003", "--learn", "width", "--cadence", "2")
        found["sample_widths"] = run_command(*sample, "--files", "demo/pixels", "--draws", "20", "--seed", "1")
        found["draws_widths"] = read_tree("background-posterior.nc")
        found["calibrate"] = run_command("calibrate", "--trials", "60", "--verdicts", "4", "--output", "report")
        for one in sorted(Path("report").rglob("*.png")):
            found[f"picture/{one.stem}"] = imread(one)
        moved("fit_batch")([moved("Field")("one", tuple(map(str, files)), str(catalog))], "batch")
        found["batch"] = read_tree("batch/one.nc")
        return found


# Cases of real files


def case_kepler_files() -> dict[str, Any]:
    """Six Kepler files of one channel: read, fitted with and without time model, and by the command line."""
    data = real_data()
    pattern = str(data / "kepler-tpf" / "q12-ch04-250cad" / "*.fits.gz")
    pixels, table = bp.read_tpfs(pattern), kepler_catalog(data)
    sources = bp.read_catalog(table, epoch=pixels)
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    machine.loo()
    machine.compute_aperture_photometry()
    machine.get_psf_metrics()
    found = {"pixels": pixels, "sources": sources, **answers(machine)}
    with tempfile.TemporaryDirectory() as place, inside(place):
        table.to_csv("targets.csv", index=False)
        more = ("--output", "field.nc", "--lightcurves", "lightcurves")
        found["fit"] = run_command("fit", pattern, "--catalog", "targets.csv", *more)
        found["fit_tree"] = read_tree("field.nc")
        for one in sorted(Path("lightcurves").iterdir()):
            found[f"fits/{one.name}"] = read_fits(one)
    return found


def case_k2_star() -> dict[str, Any]:
    """A K2 star that rolls by more than a pixel: sky taken off by hand, time model that shifts the PRF."""
    folder = real_data() / "k2-tpf"
    pixels = bp.read_tpfs(folder / "ktwo221312395-c91_lpd-targ.fits.gz")
    level = np.percentile(np.nanmean(pixels.flux, axis=0), 20.0)
    pixels = dataclasses.replace(pixels, flux=pixels.flux - level)
    catalog = pd.read_csv(folder / "ktwo221312395-c91_detections.csv")
    machine = bp.Machine.from_pixels(pixels, bp.read_catalog(catalog, flux_column="sum3x3"), quiet=True)
    machine.build_shape_model()
    machine.build_time_model(positions="centroid")
    machine.fit_model(fit_va=True)
    found = {"pixels": pixels, **answers(machine), "perturbed": machine.perturbed_model([0, 50])}
    found["picture"] = drawn(machine.plot_time_model())
    machine.build_time_model(positions="centroid", shift_limit=99.0)
    machine.fit_model(fit_va=True)
    return found | {"columns": machine.to_datatree()}


def case_tess_file() -> dict[str, Any]:
    """A TESS file with its sky fitted."""
    folder = real_data() / "tess-tpf"
    pixels = bp.read_tpfs(folder / "tess-tic273589987-s15-100cad.fits.gz")
    catalog = pd.read_csv(folder / "tess-tic273589987-s15_detections.csv")
    sources = bp.read_catalog(catalog, flux_column="sum3x3")
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True, background="stamp")
    machine.build_shape_model()
    machine.fit_model()
    return {"pixels": pixels, **answers(machine)}


def case_ffi() -> dict[str, Any]:
    """A corner of a full frame image, its sky fitted."""
    folder = real_data() / "kepler-ffi"
    pixels = bp.read_image(folder / "kplr-ffi_ch01_test.fits")
    sources = bp.read_catalog(pd.read_csv(folder / "kplr-ffi_ch01_test_detections.csv"), flux_column="flux_ap2")
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True, background="image")
    machine.build_shape_model()
    machine.fit_model()
    return answers(machine)


def case_real_event() -> dict[str, Any]:
    """KIC 6804648: an eclipse beside a bright star."""
    pixels = bp.read_tpfs(real_data() / "kepler-tpf" / "long" / "kplr006804648-q10-1000cad.fits.gz")
    sources = bp.SourceTable(("target", "faint"), [298.48257, 298.48589], [42.24038, 42.24003], [1e5, 1e3])
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    phase = np.mod(machine.time - 131.59767 + 0.350303, 0.700606) - 0.350303
    event = np.clip((0.993 / 48.0 + 0.0102 - np.abs(phase)) / 0.0204, 0.0, 1.0)
    return {"host": machine.which_source(event), "depth": machine.event_depth("faint", event), "ws": machine.ws}


def case_readers() -> dict[str, Any]:
    """Files and catalogues of many kinds, as read."""
    data = real_data()
    cases, found = data / "field-cases", {}
    for path in sorted([*cases.glob("*.fits.gz"), *(data / "k2-tpf").glob("*.fits.gz")]):
        found[path.name] = attempt(bp.read_tpfs, path)
    for path in sorted([*cases.glob("*.csv"), *cases.glob("*.ecsv*"), *cases.glob("*rows.fits")]):
        found[path.name] = attempt(bp.read_catalog, path)
    found["ffi"] = attempt(bp.read_image, data / "kepler-ffi" / "kplr-ffi_ch01_test.fits")
    moving = pd.DataFrame(
        {"source_id": [1, 2], "ra": [10.0, 20.0], "dec": [5.0, 80.0], "pmra": [100.0, -3e3], "pmdec": [20.0, 1e3],
         "ref_epoch": [2015.5, 2016.0], "phot_g_mean_flux": [1e4, 2e4]}
    )  # fmt: skip
    found["moving"] = bp.read_catalog(moving, epoch=2009.4)
    found["ffi_sky"] = bp.read_image(data / "kepler-ffi" / "kplr-ffi_ch01_test.fits", sky_block=40)
    return found


def attempt(read: Callable[..., Any], path: Path) -> Any:
    """Return what was read, or the error's kind and words without the place of the file."""
    try:
        return read(path)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).replace(str(path), path.name)}"


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    name.removeprefix("case_"): one for name, one in list(globals().items()) if name.startswith("case_")
}


# Command line of this script


def measure(names: list[str]) -> dict[str, Any]:
    """Run cases and return their digests, with what they were run on."""
    digests = Digests()
    print(f"measuring {bp.__file__}", flush=True)
    for name in names:
        begin, before = time.perf_counter(), len(digests.entries)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                digests.add(name, CASES[name]())
        except NoDataError as absent:
            print(f"{name}: skipped, {absent}", flush=True)
            continue
        seconds = time.perf_counter() - begin
        print(f"{name}: {len(digests.entries) - before} digests, {seconds:.1f} s", flush=True)
    for one in sorted(digests.skipped):
        print(f"not digested: {one}")
    versions = {one.__name__: one.__version__ for one in (np, pd, xr)} | {"python": sys.version.split()[0]}
    return {"cases": names, "versions": versions, "digests": digests.entries}


def describe(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return how two entries of one key differ, as far as their summaries tell."""
    if "text" in before or "text" in after:
        return f"{before.get('text')!r} -> {after.get('text')!r}"
    if before["shape"] != after["shape"]:
        return f"shape {before['shape']} -> {after['shape']}"
    if before["not_finite"] != after["not_finite"]:
        return f"not finite: {before['not_finite']} -> {after['not_finite']} values"
    numbers = [np.array([one["sum"], one["abs_max"], *one["sample"]]) for one in (before, after)]
    scale = np.maximum(np.abs(numbers[0]), np.abs(numbers[1]))
    away = np.abs(numbers[0] - numbers[1])
    relative = np.divide(away, scale, out=np.zeros_like(away), where=np.isfinite(scale) & (scale > 0))
    return f"relative difference up to {np.nanmax(relative):.3g} (sum, largest and {len(numbers[0]) - 2} values)"


def compare_files(first: Path, second: Path, names: list[str]) -> int:
    """Print the keys of some cases that differ; return how many."""
    files = [json.loads(path.read_text()) for path in (first, second)]
    before, after = (
        {key: entry for key, entry in one["digests"].items() if key.split("/")[0] in names} for one in files
    )
    if files[0]["versions"] != files[1]["versions"]:
        print(f"note: versions {files[0]['versions']} and {files[1]['versions']}")
    lines = [f"only in {first.name}: {key}" for key in before if key not in after]
    lines += [f"only in {second.name}: {key}" for key in after if key not in before]
    both = [key for key in before if key in after]
    differ = [key for key in both if before[key]["sha256"] != after[key]["sha256"]]
    lines += [f"differs: {key}: {describe(before[key], after[key])}" for key in differ]
    print("\n".join([*lines, f"{len(both) - len(differ)} digests equal, {len(lines)} not"]))
    return len(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="file for the digests, JSON")
    parser.add_argument("--case", nargs="+", action="extend", choices=list(CASES), help="cases; all by default")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="files to compare")
    given = parser.parse_args()
    if given.compare:
        raise SystemExit(1 if compare_files(*given.compare, given.case or list(CASES)) else 0)
    if given.output is None:
        parser.error("expected --output or --compare")
    begin = time.perf_counter()
    result = measure(given.case or list(CASES))
    given.output.write_text(json.dumps(result, indent=0, sort_keys=True) + "\n")
    print(f"{len(result['digests'])} digests in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
