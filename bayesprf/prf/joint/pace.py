"""How much of a step of the joint fit is taken, and when its steps have led to rest."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.prf.joint.problem import JointProblem, JointState
from bayesprf.prf.joint.step import Solution
from bayesprf.prf.joint.trust import MAX_DEX, MAX_PIX

# Derived: the cosine of 45 degrees from the opposite direction.
_OPPOSITE = 0.5**0.5
# Accuracy: the brightest stars, whose fluxes say whether the fit has settled.
_N_BRIGHT = 30
# Accuracy: steps over which fluxes that do not leave their place have settled, whatever else moves.
_N_REST = 8


@dataclass(frozen=True, slots=True, eq=False)
class Pace:
    """The shares of a step that are taken.

    With weights that follow the model, half of a step may go on to undo the one before for ever. All take half of such
    a step, and twice as much of the next ones. A star that turns back goes half as far from then on, until a step is
    refused: what stars leave out may be what lets all others go on.

    Parameters
    ----------
    share : float
        Share of what all take.
    alone : ndarray of float64, shape (n_source,)
        Shares of what each star takes.
    common, own : ndarray of float64, shapes (n_global,) and (n_source, n_own), optional
        The last step of what all share, and that of the stars in standard deviations.
    """

    share: float
    alone: FloatArray
    common: FloatArray | None = None
    own: FloatArray | None = None

    @classmethod
    def full(cls, n_source: int) -> "Pace":
        """Return the pace of the first step."""
        return cls(1.0, np.ones(n_source))

    def after(self, found: Solution, *, judged: bool) -> "Pace":
        """Return the pace of a step that was found; stars are slowed down if they are `judged`."""
        std = np.linalg.norm(found.global_factor, axis=1)
        std, own = np.where(std > 0.0, std, np.inf), found.own / found.own_std
        turned = self.common is not None and np.any(opposed(found.common / std, self.common / std))
        share = 0.5 * self.share if turned else min(1.0, 2.0 * self.share)
        back = opposed(own, self.own) & judged
        return Pace(share, np.where(back, 0.5 * self.alone, self.alone), found.common, own)

    def refused(self) -> "Pace":
        """Return the pace after a step that was not taken."""
        return replace(self, alone=np.ones_like(self.alone))

    def cut(self, problem: JointProblem, found: Solution) -> Solution:
        """Return the step at this pace, in which no weight moves by more than `MAX_DEX`, and no star by `MAX_PIX`."""
        start = problem.n_weight + problem.n_wing + 2 * problem.n_geometry
        offset, shift = found.common[start : start + 2 * problem.n_geometry], found.own[:, 1:]
        dex = float(np.max(np.abs(found.common[: problem.n_weight]), initial=1e-300))
        pix = max(float(np.max(np.abs(one), initial=1e-300)) for one in (offset, shift)) / problem.pixel_area**0.5
        share = min(self.share, MAX_DEX / dex, MAX_PIX / pix)
        return replace(found, common=share * found.common, own=np.minimum(share, self.alone)[:, None] * found.own)


def opposed(now: FloatArray, before: FloatArray | None) -> BoolArray:
    """Tell steps, shape (..., n), that lead back by less than 45 degrees from where others led."""
    if before is None:
        return np.zeros(now.shape[:-1], bool)
    length = np.linalg.norm(now, axis=-1) * np.linalg.norm(before, axis=-1)
    return np.asarray((np.sum(now * before, axis=-1) <= -_OPPOSITE * length) & (length > 0.0))


def moved(problem: JointProblem, before: JointState, state: JointState, solution: Solution) -> float:
    """Return how far the brightest fluxes, the slope and the positions moved, in units of their errors."""
    std = solution.own_std
    bright = np.argsort(-before.flux)[:_N_BRIGHT]
    step = (state.flux - before.flux)[bright] / std[bright, 0]
    slope = np.linalg.norm(solution.global_factor[problem.n_weight : problem.n_weight + problem.n_wing], axis=1)
    wing = np.divide(np.abs(state.wing - before.wing), slope, out=np.zeros_like(slope), where=slope > 0)
    parts = [np.median(np.abs(step)), abs(np.mean(step)), np.max(wing)]
    if problem.free:
        parts.append(np.sqrt(np.mean(((state.shift - before.shift) / std[:, 1:]) ** 2)))
    return float(max(parts))


def rests(past: list[tuple[FloatArray, float]], solution: Solution, tolerance: float) -> bool:
    """Whether the brightest of the fluxes, shape (n_source,), of some steps have stayed where they are for long enough.

    Slopes of a wing that holds no light, and widths that little tells of, may go on to and fro without them; so may the
    model's error, whose logarithm was to change by the number beside, but it may not lead one way.
    """
    if len(past) < _N_REST:
        return False
    fluxes, changes = zip(*past[-_N_REST:], strict=True)
    bright = np.argsort(-fluxes[-1])[:_N_BRIGHT]
    away = (np.array(fluxes[:-1]) - fluxes[-1])[:, bright] / solution.own_std[bright, 0]
    moves = [*np.median(np.abs(away), axis=1), *np.abs(away.mean(axis=1)), abs(np.mean(changes))]
    return bool(np.max(moves) < tolerance)
