"""Every tuned number that is left: where it stands, what its comment says, and what halving and doubling it does.

Run as ``python docs/scripts/constants.py [--every] > docs/evidence/constants.md``. A number is changed in its module, a
field is fitted again, and the largest and the median change of a star's flux are given in units of its total error.
Numbers of compiled kernels and of plots are not listed: the first are fixed when the kernel is compiled, the others
change no answer. Without ``--every`` numbers without any effect are only counted.
"""

import argparse
import ast
import importlib
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from house_figures import is_number

import bayesprf as bp
from bayesprf.simulation.fields import make_field

PACKAGE = Path(bp.__file__).parent
_ROOMS = ("design/", "linalg/", "photometry/", "prf/", "scene/", "timemodel/", "uncertainty/", "stats.py")
_LEFT_OUT = ("linalg/compiled/", "prf/joint", "photometry/process")
# Numbers of mathematics and units, which are not tuned.
_DEFINED = ("ARCSEC_PER_DEG", "NORMAL_MEDIAN", "SIGMA_PER_MAD")
_INTRO = """# Constants

Numbers that stand in the code, outside the options, and what they do. Each was halved and doubled. Two simulated fields
were fitted again, one as it is and one with `refine_scene`, the time model and a fitted background. The shift of the
fluxes is given in units of their total errors: the median over stars, and the largest. Made by
`python docs/scripts/constants.py`.
"""


@dataclass(frozen=True)
class Constant:
    """A number at the top of a module."""

    module: str
    name: str
    value: object
    comment: str


def find_constants() -> list[Constant]:
    """Return the numeric constants of the rooms that a fit goes through."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if not place.startswith(_ROOMS) or place.startswith(_LEFT_OUT):
            continue
        text = path.read_text()
        module = "bayesprf." + place.removesuffix(".py").replace("/", ".")
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and is_number(node.value):
                found += _of_node(node, module, text.splitlines())
    return [one for one in found if one.name not in _DEFINED]


def _of_node(node: ast.Assign, module: str, lines: list[str]) -> list[Constant]:
    above = node.lineno - 2
    while above >= 0 and lines[above].startswith("#"):
        above -= 1
    comment = " ".join(line.lstrip("# ") for line in lines[above + 1 : node.lineno - 1])
    comment += " ".join(re.findall(r"#\s*(.*)$", lines[node.lineno - 1]))
    value, found = ast.literal_eval(node.value), []
    for target in node.targets:
        names = [one.id for one in target.elts] if isinstance(target, ast.Tuple) else [target.id]  # type: ignore[attr-defined]
        values = value if isinstance(target, ast.Tuple) else (value,)
        found += [Constant(module, *one, comment) for one in zip(names, values, strict=True)]
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


def measure(cases: list[tuple[object, bool]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return mean fluxes and their total errors of each field, electron / s."""
    answers = []
    for field, whole in cases:
        settings = {"background": "image"} if whole else {}
        machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True, **settings)  # type: ignore[attr-defined]
        if whole:
            machine.refine_scene(n_round=4)
            machine.build_time_model()
        else:
            machine.build_shape_model()
        machine.fit_model(fit_va=whole)
        answers.append(((machine.ws_va if whole else machine.ws).mean(axis=0), machine.werrs_total.mean(axis=0)))
    return answers


def effect(constant: Constant, factor: float, cases: list[tuple[object, bool]], usual: list) -> tuple[float, float]:
    """Return the median and the largest shift of a flux, in total errors; NaN where the fit fails."""
    importlib.import_module(constant.module)
    # modules that import the number hold it under the same name
    holders = [one for name, one in sys.modules.items() if name.startswith("bayesprf.") and hasattr(one, constant.name)]
    own = getattr(sys.modules[constant.module], constant.name)
    holders = [one for one in holders if getattr(one, constant.name) is own]
    for module in holders:
        setattr(module, constant.name, scaled(constant.value, factor))
    try:
        shifts = [np.abs(now - then) / err for (now, _), (then, err) in zip(measure(cases), usual, strict=True)]
    except Exception:  # a number may be out of range, which is an answer too
        return np.nan, np.nan
    finally:
        for module in holders:
            setattr(module, constant.name, constant.value)
    shift = np.concatenate(shifts)
    return float(np.nanmedian(shift)), float(np.nanmax(shift))


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", action="store_true", help="list numbers without effect too")
    every = parser.parse_args().every
    warnings.simplefilter("ignore")
    cases = fields()
    usual = measure(cases)
    print(f"{_INTRO}\n| constant | value | halved | doubled | what it is |\n|" + " --- |" * 5)
    idle = 0
    for constant in find_constants():
        half, double = (effect(constant, factor, cases, usual) for factor in (0.5, 2.0))
        print(".", end="", file=sys.stderr, flush=True)
        if not every and max(*half, *double) < 1e-9:
            idle += 1
            continue
        place = constant.module.removeprefix("bayesprf.")
        cells = (f"{one[0]:.3f}, {one[1]:.2f}" if np.isfinite(one[0]) else "refused" for one in (half, double))
        print(
            f"| `{place}.{constant.name}` | {constant.value} | {' | '.join(cells)} | {constant.comment} |", flush=True
        )
    print(
        f"\n{idle} further numbers move no flux of these fields: sizes of chunks, limits of loops, other instruments."
    )


if __name__ == "__main__":
    main()
