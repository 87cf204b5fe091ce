"""Every tuned number that is left: where it stands, what its comment says, and what halving and doubling it does.

Run as ``python docs/scripts/constants.py [--every] [--joint] [--flags] [--only prf/joint]``. A number is changed in its
module, a field is fitted again, and the largest and the median change of a star's flux are given in units of its total
error. Numbers of compiled kernels and of plots are not listed: the first are fixed when the kernel is compiled, the
others change no answer. Units and formats are not changed either; of the other numbers that are not tuned
(`house_figures.KINDS`) those are listed whose effect contradicts that. Without ``--every`` numbers without any effect
are only counted. ``--joint`` fits the PRF by the joint fit, ``--flags`` judges the fits with other numbers of quality/.
"""

import argparse
import ast
import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from house_figures import comment_on, is_number, kind_of

import bayesprf as bp
from bayesprf.quality.stage import judge_fit
from bayesprf.simulation.fields import make_field

PACKAGE = Path(bp.__file__).parent
_ROOMS = ("design/", "linalg/", "photometry/", "prf/", "scene/", "timemodel/", "uncertainty/", "stats.py")
_LEFT_OUT = ("linalg/compiled/", "photometry/process")
# Kinds of numbers that are not changed; and the median shift that contradicts any other kind, in total errors.
_DEFINED, _UNTUNED = ("Unit", "Format"), 0.05
_INTRO = """# Constants

Numbers that stand in the code, outside the options, and what they do. Each was halved and doubled. Two simulated fields
were fitted again, one as it is and one with `refine_scene`, the time model and a fitted background. The shift of the
fluxes is given in units of their total errors: the median over stars, and the largest. Made by
`python docs/scripts/constants.py`.

Units and formats are left out. Of the other numbers that are not tuned (bounds on memory, guards against rounding,
nodes of integrals and the like: [](../contributing/architecture.md) has the list of kinds) those are shown whose effect
says otherwise.
"""


@dataclass(frozen=True)
class Constant:
    """A number at the top of a module."""

    module: str
    name: str
    value: object
    comment: str
    kind: str


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
        found += [Constant(module, *one, comment, kind_of(written)) for one in zip(names, values, strict=True)]
    return found


def scaled(value: object, factor: float) -> object:
    """Return a number, or each of several, times a factor; whole numbers stay whole and above zero."""
    if isinstance(value, tuple):
        return tuple(scaled(one, factor) for one in value)
    return max(1, round(value * factor)) if isinstance(value, int) else value * factor  # type: ignore[operator]


def fields() -> list[tuple[object, bool]]:
    """Return the two fields, and whether every stage is to run."""
    common = {"catalog_scale": 1.3, "catalog_scatter": 0.05, "position_scatter": 0.05}
    plain = make_field(rng=np.random.default_rng(31), n_source=30, n_stamp=26, n_time=20, **common)
    moved = make_field(rng=np.random.default_rng(32), n_source=30, n_stamp=26, n_time=40, drift=_drift, **common)
    return [(plain, False), (moved, True)]


def _drift(time: np.ndarray) -> np.ndarray:
    phase = (time - time[0]) / np.ptp(time)
    return 0.1 * np.stack([phase, phase**2], axis=1)


def fit_all(cases: list[tuple[object, bool]], method: str) -> list[bp.Machine]:
    """Return the fit of each field."""
    machines = []
    for field, whole in cases:
        settings = {"background": "image"} if whole else {}
        machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True, **settings)  # type: ignore[attr-defined]
        machine.build_shape_model(method=method, refine=whole and method == "rounds")
        if whole:
            machine.build_time_model()
        machine.fit_model(fit_va=whole)
        machines.append(machine)
    return machines


def measure(cases: list[tuple[object, bool]], method: str = "rounds") -> list[tuple[np.ndarray, np.ndarray]]:
    """Return mean fluxes and their total errors of each field, electron / s."""
    return [(one.fit.latest_flux.flux.mean(axis=0), one.werrs_total.mean(axis=0)) for one in fit_all(cases, method)]


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


def effect(
    constant: Constant, factor: float, cases: list[tuple[object, bool]], usual: list, method: str = "rounds"
) -> tuple[float, float]:
    """Return the median and the largest shift of a flux, in total errors; NaN where the fit fails."""
    try:
        with changed(constant, factor):
            found = measure(cases, method)
    except Exception:  # a number may be out of range, which is an answer too
        return np.nan, np.nan
    shift = np.concatenate([np.abs(now - then) / err for (now, _), (then, err) in zip(found, usual, strict=True)])
    return float(np.nanmedian(shift)), float(np.nanmax(shift))


def count_flagged(constant: Constant, factor: float, machines: list[bp.Machine]) -> int:
    """Return how many sources have other flags when the fits are judged with a changed number."""
    usual = [judge_fit(one.fit).flags for one in machines]
    with changed(constant, factor):
        return sum(int((judge_fit(one.fit).flags != then).sum()) for one, then in zip(machines, usual, strict=True))


def print_effects(rooms: tuple[str, ...], method: str, *, every: bool) -> None:
    """Print the table of what numbers do to fluxes."""
    cases = fields()
    usual = measure(cases, method)
    print(f"| constant | value | halved | doubled | what it is |\n|{' --- |' * 5}")
    idle = 0
    for constant in find_constants(rooms):
        half, double = (effect(constant, factor, cases, usual, method) for factor in (0.5, 2.0))
        print(".", end="", file=sys.stderr, flush=True)
        largest = max(half[0], double[0]) if constant.kind else max(*half, *double)
        if not every and largest < (_UNTUNED if constant.kind else 1e-9):
            idle += 1
            continue
        cells = [f"{one[0]:.3f}, {one[1]:.2f}" if np.isfinite(one[0]) else "refused" for one in (half, double)]
        print_row(constant, *cells)
    print(f"\n{idle} further numbers move no flux of these fields.")


def print_flags(method: str, *, every: bool) -> None:
    """Print the table of how many sources are flagged otherwise by the verdict."""
    machines = fit_all(fields(), method)
    print(f"| constant | value | halved | doubled | what it is |\n|{' --- |' * 5}")
    idle = 0
    for constant in find_constants(("quality/",)):
        counts = [count_flagged(constant, factor, machines) for factor in (0.5, 2.0)]
        idle += not any(counts)
        if every or any(counts):
            print_row(constant, *map(str, counts))
    print(f"\n{idle} further numbers change no flag of these fields.")


def print_row(constant: Constant, half: str, double: str) -> None:
    """Print the line of a number."""
    place = constant.module.removeprefix("bayesprf.")
    print(f"| `{place}.{constant.name}` | {constant.value} | {half} | {double} | {constant.comment} |", flush=True)


def main() -> None:
    """Print the page, or the table of some packages."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", action="store_true", help="list numbers without effect too")
    parser.add_argument("--joint", action="store_true", help="fit the PRF by the joint fit")
    parser.add_argument("--only", nargs="+", default=_ROOMS, help="packages, prf/joint for example")
    parser.add_argument("--flags", action="store_true", help="count other flags of the verdict for numbers of quality")
    asked = parser.parse_args()
    method = "joint" if asked.joint else "rounds"
    warnings.simplefilter("ignore")
    print(_INTRO)
    if asked.flags:
        print_flags(method, every=asked.every)
    else:
        print_effects(tuple(asked.only), method, every=asked.every)


if __name__ == "__main__":
    main()
