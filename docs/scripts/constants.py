"""Every tuned number that is left: where it stands, what its comment says, and what halving and doubling it does.

Run as ``python docs/scripts/constants.py [--every] [--unsourced] [--flags] [--only prf/joint]``. A number is changed in
its module, the fields are fitted again, and of each field the median and the largest change of a star's fluxes (root
mean square over the cadences) are given in units of their total error, and the median change of that error. A field is
not fitted again where no function that its fit calls names the number. Numbers of compiled kernels and of plots are not
listed: the first are fixed when the kernel is compiled, the others change no answer. Units and formats are not changed
either; of the other numbers that are not tuned (`house_figures.KINDS`) those are listed whose effect contradicts that;
``--unsourced`` leaves out all but tuned numbers whose comment names no source, ``--names`` all but some. Without
``--every`` numbers without any effect are only counted. ``--fields 0 3`` takes the plain field and M67 alone (1 drifts,
2 rolls), ``--flags`` judges the fits with other numbers of quality/. M67 is one of the fields if BAYESPRF_TEST_DATA
names the folder with the real files. ``--truth plain``, ``drift`` or ``roll`` asks eight simulated fields with a known
truth whether half or twice a number would be better.
"""

import argparse
import ast
import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

import numpy as np
import pandas as pd
from house_figures import comment_on, has_source, is_number, kind_of

import bayesprf as bp
from bayesprf.instruments import K2
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.quality.stage import judge_fit
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import SimulatedField, make_field

PACKAGE = Path(bp.__file__).parent
_ROOMS = ("design/", "linalg/", "photometry/", "prf/", "scene/", "timemodel/", "uncertainty/", "stats.py")
_LEFT_OUT = ("linalg/compiled/", "photometry/process")
# Kinds of numbers that are not changed; and the median shift that contradicts any other kind, in total errors.
_DEFINED, _UNTUNED = ("Unit", "Format"), 0.05
_FILES = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
_M67 = _FILES / "k2-superstamp"
_CORNER, _SIDE, _MARGIN = (60, 150), 45, 2  # of the part of M67, pixels
_CLUSTER = 3  # its place among the fields
_SEEDS = range(61, 69)  # of the fields with a known truth
_INTRO = """# Constants

Numbers that stand in the code, outside the options, and what they do. Each was halved and doubled, and four fields
were fitted again: a plain one, one with drift, the time model and a fitted background, the same of a K2 field that
rolls, and 45 x 45 pixels of M67. A cell has the median and the
largest shift of a star's fluxes, root mean square over the cadences, in units of their total error, and the median
change of the total errors; of the simulated fields, each where it is larger. Made by
`python docs/scripts/constants.py`.

Units and formats are left out. Of the other numbers that are not tuned (bounds on memory, guards against rounding,
nodes of integrals and the like: [](../contributing/architecture.md) has the list of kinds) those are shown whose effect
says otherwise.
"""


@dataclass(frozen=True)
class Case:
    """A field, whether every stage is to run, and what its time model follows beside time."""

    pixels: PixelTable
    sources: SourceTable
    whole: bool = False
    positions: str | None = None


@dataclass(frozen=True)
class Measured:
    """Fluxes, mean total errors, electron / s, and the functions that the fit went through."""

    flux: np.ndarray
    error: np.ndarray
    functions: frozenset[CodeType]


@dataclass(frozen=True)
class Effect:
    """Median and largest shift of a flux in total errors, and the median change of the latter; infinite: no fit."""

    median: float = 0.0
    largest: float = 0.0
    error: float = 0.0


@dataclass(frozen=True)
class Score:
    """How far the fluxes of fields are from their truths."""

    error: float
    claimed: float
    within: tuple[float, float]
    scatter: float

    def __str__(self) -> str:
        """Return errors in per cent, the truths within 68 and 95 %, and the scatter in time over its error."""
        one, two = self.within
        return f"{self.error:.3f} of {self.claimed:.3f}, {one:.0f}, {two:.0f}, {self.scatter:.3f}"


@dataclass(frozen=True)
class Constant:
    """A number at the top of a module."""

    module: str
    name: str
    value: object
    comment: str
    kind: str
    sourced: bool


def find_constants(rooms: tuple[str, ...] = _ROOMS) -> list[Constant]:
    """Return the numeric constants of the rooms that a fit goes through, but for units and formats."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if not place.startswith(rooms) or place.startswith(_LEFT_OUT):
            continue
        text = path.read_text()
        module = "bayesprf." + place.removesuffix(".py").replace("/", ".")
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and is_number(node.value):
                found += _of_node(node, module, text.splitlines())
    return [one for one in found if one.kind not in _DEFINED]


def _of_node(node: ast.Assign, module: str, lines: list[str]) -> list[Constant]:
    written = comment_on(node, lines)
    code = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    comment = " ".join(line.strip('#" ') for line in written.replace(code, "").splitlines()).strip()
    comment += code.partition("#")[2]
    value, found = ast.literal_eval(node.value), []
    for target in node.targets:
        names = [one.id for one in target.elts] if isinstance(target, ast.Tuple) else [target.id]  # type: ignore[attr-defined]
        values = value if isinstance(target, ast.Tuple) else (value,)
        found += [
            Constant(module, *one, comment, kind_of(written), has_source(written))
            for one in zip(names, values, strict=True)
        ]
    return found


def scaled(value: object, factor: float) -> object:
    """Return a number, or each of several, times a factor; whole numbers stay whole and above zero."""
    if isinstance(value, tuple):
        return tuple(scaled(one, factor) for one in value)
    return max(1, round(value * factor)) if isinstance(value, int) else value * factor  # type: ignore[operator]


def fields() -> list[Case]:
    """Return three simulated fields, and M67 where the real files are."""
    common = {"catalog_scale": 1.3, "catalog_scatter": 0.05, "position_scatter": 0.05}
    plain = make_field(rng=np.random.default_rng(31), n_source=30, n_stamp=26, n_time=20, **common)
    moved = make_field(rng=np.random.default_rng(32), n_source=30, n_stamp=26, n_time=40, drift=_drift, **common)
    rolled = make_field(
        rng=np.random.default_rng(33), n_source=24, n_stamp=20, n_time=60, mag_range=(11.0, 14.0), drift=_roll,
        drift_differential=0.15, instrument=K2, **common,
    )  # fmt: skip
    cases = [
        Case(plain.pixels, plain.sources),
        Case(moved.pixels, moved.sources, whole=True),
        Case(rolled.pixels, rolled.sources, whole=True, positions="centroid"),
    ]
    return [*cases, cluster()] if _M67.is_dir() else cases


def cluster() -> Case:
    """Return a part of the K2 image of M67 with its Gaia catalogue."""
    columns, rows = ((first, first + _SIDE) for first in _CORNER)
    pixels = bp.read_image(_M67 / "m67-c05-cols000-199.fits.gz", sky_block=40, columns=columns, rows=rows)
    table = pd.read_csv(_M67 / "m67-c05-cols000-199_gaiadr2.csv")
    near = table["x_pix"].between(columns[0] - _MARGIN, columns[1] + _MARGIN)
    return Case(pixels, read_catalog(table[near & table["y_pix"].between(rows[0] - _MARGIN, rows[1] + _MARGIN)]))


def known_fields(kind: str) -> list[SimulatedField]:
    """Return eight fields of 60 stars with a known truth that are at rest, drift or roll."""
    common = {"n_source": 60, "n_stamp": 45, "catalog_scale": 1.3, "catalog_scatter": 0.05, "position_scatter": 0.05}
    moving = {
        "plain": {"n_time": 10},
        "drift": {"n_time": 40, "drift": _drift, "drift_differential": 0.15},
        "roll": {"n_time": 60, "drift": _roll, "drift_differential": 0.15, "instrument": K2, "mag_range": (11.0, 15.0)},
    }[kind]
    return [make_field(rng=np.random.default_rng(seed), **common, **moving) for seed in _SEEDS]


def score(fields: list[SimulatedField], kind: str) -> Score:
    """Return how far the fits of the fields are from the truths: of the brightest twenty, and coverage of all."""
    errors, claimed, z, scatter = [], [], [], []
    for field in fields:
        positions = "centroid" if kind == "roll" else None
        machine = fit_case(Case(field.pixels, field.sources, whole=kind != "plain", positions=positions))
        flux, total = machine.fit.latest_flux.flux, machine.werrs_total.mean(axis=0)
        error = (flux - field.flux).mean(axis=0)
        bright = np.argsort(-field.mean_flux)[:20]
        errors.append(np.median(np.abs(error / field.mean_flux)[bright]))
        claimed.append(np.median((total / field.mean_flux)[bright]))
        z.append(error / total)
        spread = np.std(flux - field.flux, axis=0, ddof=1) / machine.fit.latest_flux.flux_err.mean(axis=0)
        scatter.append(np.nanmedian(spread))
    size = np.abs(np.concatenate(z))
    within = tuple(100.0 * float(np.mean(size < limit)) for limit in (1.0, 1.96))
    rms = [100.0 * float(np.sqrt(np.mean(np.square(one)))) for one in (errors, claimed)]
    return Score(rms[0], rms[1], within, float(np.median(scatter)))


def print_scores(constants: list[Constant], kind: str) -> None:
    """Print the table of how half and twice each number does against the truth."""
    fields = known_fields(kind)
    usual = score(fields, kind)
    print("Errors in %, of the claimed ones; truths within 68 and 95 %; scatter in time over its error.")
    print(f"As it is: {usual}\n\n| constant | value | halved | doubled | what it is |\n|{' --- |' * 5}", flush=True)
    for constant in constants:
        cells = []
        for factor in (0.5, 2.0):
            try:
                with changed(constant, factor):
                    cells.append(str(score(fields, kind)))
            except Exception:  # a number may be out of range, which is an answer too
                cells.append("refused")
        print_row(constant, *cells)


def _drift(time: np.ndarray) -> np.ndarray:
    phase = (time - time[0]) / np.ptp(time)
    return 0.1 * np.stack([phase, phase**2], axis=1)


def _roll(time: np.ndarray) -> np.ndarray:
    """Move stars by up to 0.8 pixel in six hours, and back at once."""
    return 0.8 * (np.mod((time - time[0]) / 0.25, 1.0) - 0.5)[:, None] * np.array([0.8, 0.6])


def fit_case(case: Case) -> bp.Machine:
    """Return the fit of a field."""
    settings = {"background": "image"} if case.whole else {}
    machine = bp.Machine.from_pixels(case.pixels, case.sources, quiet=True, **settings)
    machine.build_shape_model(method="joint")
    if case.whole:
        machine.build_time_model(positions=case.positions)
    machine.fit_model(fit_va=case.whole)
    return machine


def measure(case: Case) -> Measured:
    """Return what the fit of a field finds, and which functions it calls."""
    with called() as functions:
        machine = fit_case(case)
        flux, error = machine.fit.latest_flux.flux, machine.werrs_total.mean(axis=0)
    return Measured(flux, error, frozenset(functions))


@contextlib.contextmanager
def called() -> Iterator[set[CodeType]]:
    """Collect the functions that are called inside."""
    found: set[CodeType] = set()

    def note(code: CodeType, _: int) -> object:
        found.add(code)
        return sys.monitoring.DISABLE

    tool, event = sys.monitoring.PROFILER_ID, sys.monitoring.events.PY_START
    sys.monitoring.use_tool_id(tool, "constants")
    sys.monitoring.register_callback(tool, event, note)
    sys.monitoring.set_events(tool, event)
    sys.monitoring.restart_events()
    try:
        yield found
    finally:
        sys.monitoring.set_events(tool, 0)
        sys.monitoring.free_tool_id(tool)


@contextlib.contextmanager
def changed(constant: Constant, factor: float) -> Iterator[None]:
    """Change a number wherever it is held: modules that import it hold it under the same name."""
    importlib.import_module(constant.module)
    own = getattr(sys.modules[constant.module], constant.name)
    modules = [one for name, one in sys.modules.items() if name.startswith("bayesprf.")]
    holders = [one for one in modules if getattr(one, constant.name, None) is own]
    for module in holders:
        setattr(module, constant.name, scaled(constant.value, factor))
    try:
        yield
    finally:
        for module in holders:
            setattr(module, constant.name, constant.value)


def effect(constant: Constant, factor: float, case: Case, usual: Measured) -> Effect:
    """Return what a number times a factor does to the fluxes of a field."""
    if not any(constant.name in function.co_names for function in usual.functions):
        return Effect()
    try:
        with changed(constant, factor):
            found = measure(case)
    except Exception:  # a number may be out of range, which is an answer too
        return Effect(np.inf, np.inf, np.inf)
    shift = np.sqrt(np.mean((found.flux - usual.flux) ** 2, axis=0)) / usual.error
    return Effect(
        float(np.nanmedian(shift)), float(np.nanmax(shift)), float(np.nanmedian(found.error / usual.error) - 1.0)
    )


def largest(effects: list[Effect]) -> Effect:
    """Return the largest of each over the fields."""
    return Effect(
        max(one.median for one in effects),
        max(one.largest for one in effects),
        max((one.error for one in effects), key=abs),
    )


def count_flagged(constant: Constant, factor: float, machines: list[bp.Machine]) -> int:
    """Return how many sources have other flags when the fits are judged with a changed number."""
    usual = [judge_fit(one.fit).flags for one in machines]
    with changed(constant, factor):
        return sum(int((judge_fit(one.fit).flags != then).sum()) for one, then in zip(machines, usual, strict=True))


def print_effects(constants: list[Constant], chosen: list[int], *, every: bool) -> None:
    """Print the table of what numbers do to fluxes and their errors."""
    cases = {i: case for i, case in enumerate(fields()) if i in chosen}
    usual = {i: measure(case) for i, case in cases.items()}
    groups = [group for group in ([i for i in cases if i < _CLUSTER], [i for i in cases if i == _CLUSTER]) if group]
    names = ["M67, " if group == [_CLUSTER] else "" for group in groups]
    heads = [f"{name}{change}" for name in names for change in ("halved", "doubled")]
    print(f"| constant | value | {' | '.join(heads)} | what it is |\n|{' --- |' * (3 + len(heads))}")
    idle = 0
    for constant in constants:
        found = [
            largest([effect(constant, factor, cases[i], usual[i]) for i in group])
            for group in groups
            for factor in (0.5, 2.0)
        ]
        print(".", end="", file=sys.stderr, flush=True)
        if not every and not matters(constant, found):
            idle += 1
            continue
        print_row(constant, *map(cell, found))
    print(f"\n{idle} further numbers move no flux of these fields and no total error.", flush=True)


def matters(constant: Constant, found: list[Effect]) -> bool:
    """Return whether a number has any effect, or, if it is not tuned, one that contradicts that."""
    if constant.kind:
        return not max(one.median for one in found) < _UNTUNED
    return not max(max(one.largest, abs(one.error)) for one in found) < 1e-9


def cell(found: Effect) -> str:
    """Return the text of an effect."""
    if np.isinf(found.median):
        return "refused"
    return f"{found.median:.3f}, {found.largest:.2f}, {100.0 * found.error:+.1f} %"


def print_flags(*, every: bool) -> None:
    """Print the table of how many sources are flagged otherwise by the verdict."""
    machines = [fit_case(case) for case in fields()]
    print(f"| constant | value | halved | doubled | what it is |\n|{' --- |' * 5}")
    idle = 0
    for constant in find_constants(("quality/",)):
        counts = [count_flagged(constant, factor, machines) for factor in (0.5, 2.0)]
        idle += not any(counts)
        if every or any(counts):
            print_row(constant, *map(str, counts))
    print(f"\n{idle} further numbers change no flag of these fields.")


def print_row(constant: Constant, *cells: str) -> None:
    """Print the line of a number."""
    place = constant.module.removeprefix("bayesprf.")
    texts = [f"`{place}.{constant.name}`", str(constant.value), *cells, constant.comment]
    print(f"| {' | '.join(texts)} |", flush=True)


def main() -> None:
    """Print the page, or the table of some packages."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", action="store_true", help="list numbers without effect too")
    parser.add_argument("--unsourced", action="store_true", help="tuned numbers without a source alone")
    parser.add_argument("--only", nargs="+", default=_ROOMS, help="packages, prf/joint for example")
    parser.add_argument("--names", nargs="+", help="some numbers alone")
    parser.add_argument("--fields", nargs="+", type=int, default=[0, 1, 2, 3], help="plain, drifting, rolling, M67")
    parser.add_argument("--truth", choices=("plain", "drift", "roll"), help="ask fields with a known truth instead")
    parser.add_argument("--flags", action="store_true", help="count other flags of the verdict for numbers of quality")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    print(_INTRO)
    if asked.flags:
        print_flags(every=asked.every)
    else:
        constants = [one for one in find_constants(tuple(asked.only)) if not (asked.unsourced and one.sourced)]
        constants = [one for one in constants if not asked.names or one.name in asked.names]
        if asked.truth:
            print_scores(constants, asked.truth)
            return
        print_effects(constants, asked.fields, every=asked.every)


if __name__ == "__main__":
    main()
