"""A part of an image from which the joint fit starts: the pixels around its brightest stars."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.prf.joint.layout import Layout
from bayesprf.prf.joint.problem import JointProblem, JointState

# Cost: stars whose surroundings the fit starts from; only the number of steps depends on it, as the whole image
# decides.
_N_STAR = 50
MAX_QUICK_PIXEL = 20_000
"""Cost: pixels up to which a step takes less than a second: no larger fit is chosen without being asked, and what all
stars share is then fitted to so many pixels around the brightest."""
# Cost: a part saves time if it is no more than this share of the image: some nine steps in it replace five of the
# whole.
_SHARE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The joint fit of some pixels, and the stars that it gets right.

    Parameters
    ----------
    problem : JointProblem
        With the pixels of the part alone.
    member : ndarray of bool, shape (n_source,)
        Stars whose central pixel is in it.
    decides : bool
        The image is so large that what all stars share is fitted to the part alone.
    """

    problem: JointProblem
    member: BoolArray
    decides: bool = False

    def whole_state(self, start: JointState, found: JointState) -> JointState:
        """Return the state that the whole image starts from: stars outside are scaled as those in the part were."""
        good = self.member & (found.flux > 0) & (start.flux > 0)
        scale = np.exp(np.median(np.log(found.flux[good] / start.flux[good]))) if good.any() else 1.0
        return replace(found, flux=np.where(self.member, found.flux, scale * start.flux))


def carry_over(found: JointState, start: JointState) -> JointState:
    """Return the state that a fit with further columns starts from where one of the same stars ended: they are zero."""

    def as_far(known: FloatArray, wanted: FloatArray) -> FloatArray:
        return np.concatenate([known, np.zeros((wanted.shape[0] - known.shape[0], *wanted.shape[1:]))])

    return JointState(
        weights=as_far(found.weights, start.weights),
        wing=found.wing,
        shear=as_far(found.shear, start.shear),
        offset=as_far(found.offset, start.offset),
        sky=as_far(found.sky, start.sky),
        flux=found.flux,
        shift=found.shift,
    )


def brightest_part(problem: JointProblem, state: JointState) -> Part | None:
    """Return the surroundings of the brightest stars, as far as the splines reach; None if they are most of the image.

    All stars that are told from noise there are free, lest wrong fluxes of those outside become wings.
    """
    pairs, side = problem.pairs, float(np.sqrt(problem.pixel_area))
    central = (pairs.r < np.sqrt(0.5) * side) & problem.used[pairs.pixel]
    seen = np.zeros(problem.n_source, bool)
    seen[pairs.source[central]] = True
    decides = int(problem.used.sum()) > MAX_QUICK_PIXEL
    order = np.argsort(np.where(seen, -state.flux, np.inf), kind="stable")
    size = np.bincount(pairs.source[(pairs.r <= problem.basis.rmax)], minlength=problem.n_source)
    n_star = int(np.searchsorted(np.cumsum(size[order]), MAX_QUICK_PIXEL)) if decides else _N_STAR
    bright = np.zeros(problem.n_source, bool)
    bright[order[:n_star]] = True
    keep = np.zeros(pairs.n_pixel, bool)
    keep[pairs.pixel[bright[pairs.source] & (pairs.r <= problem.basis.rmax)]] = True
    keep &= problem.used
    if not decides and keep.sum() > _SHARE * problem.used.sum():
        return None
    member = np.zeros(problem.n_source, bool)
    member[pairs.source[central & keep[pairs.pixel]]] = True
    return Part(select_pixels(problem, keep), member, decides)


def select_pixels(problem: JointProblem, keep: BoolArray) -> JointProblem:
    """Return the problem with some of its pixels."""
    pairs, order, far = problem.pairs, problem.layout.order, problem.layout.far
    near = np.zeros(pairs.n_pair, bool)
    near[order.near] = True
    chosen = keep[pairs.pixel]
    number = np.cumsum(keep) - 1
    fewer = pairs.select(chosen)
    fewer = replace(fewer, pixel=number[fewer.pixel], n_pixel=int(keep.sum()))
    layout = Layout.of(
        fewer,
        near[chosen],
        replace(far, node=far.node[keep]),
        float(np.sqrt(problem.pixel_area)),
    )
    return replace(
        problem, flux=problem.flux[keep], ivar=problem.ivar[keep], sky=problem.sky[keep], known=problem.known[keep],
        layout=layout,
    )  # fmt: skip
