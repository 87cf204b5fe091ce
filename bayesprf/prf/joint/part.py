"""A part of an image from which the joint fit starts: the pixels around its brightest stars."""

from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.prf.joint.layout import Layout
from bayesprf.prf.joint.problem import JointProblem, JointState
from bayesprf.prf.joint.start import NOMINAL_ERROR

# Cost: stars whose surroundings the fit starts from; only the number of steps depends on it, where the whole image
# decides.
_N_STAR = 50
# Derived: stars from which a PRF and its spread can be learned, at least.
_MIN_STARS = 5
MAX_QUICK_PIXEL, MAX_QUICK_PAIR = 20_000, 500_000
"""Cost: pixels, and pairs of star and pixel, up to which a step takes about half a second: what all stars share is
fitted to no more around the brightest."""
# Derived: beside a sky, share of the pixels around the brightest stars: these tell the wings, all others the sky, and
# the sum of two equal variances that fall with the number of pixels is least where each has half.
_AROUND = 0.5
# Definition: the golden ratio.
_GOLDEN = 0.5 * (1.0 + 5.0**0.5)
# Derived: pixels of a quick part for each weight, at least: they leave as many over as they fit.
_PER_WEIGHT = 2
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
    pixels : ndarray of bool, shape (n_pixel,)
        Pixels of the image that are in it.
    member : ndarray of bool, shape (n_source,)
        Stars whose central pixel is in it.
    decides : bool
        The image is so large that what all stars share is fitted to the part alone.
    """

    problem: JointProblem
    pixels: BoolArray
    member: BoolArray
    decides: bool = False

    def whole_state(self, start: JointState, found: JointState) -> JointState:
        """Return the state that the whole image starts from: stars outside are scaled as those in the part were."""
        good = self.member & (found.flux > 0) & (start.flux > 0)
        scale = np.exp(np.median(np.log(found.flux[good] / start.flux[good]))) if good.any() else 1.0
        return replace(found, flux=np.where(self.member, found.flux, scale * start.flux))


def brightest_part(
    problem: JointProblem, state: JointState, *, deciding: BoolArray | None = None, quick: bool = False
) -> Part | None:
    """Return the surroundings of the brightest stars, as far as the splines reach; None if few are most of the image.

    Only pixels that are `deciding`, shape (n_pixel,), are in it, if those are given; a `quick` part is a quarter of the
    image, or two pixels for each weight. Both decide what all stars share. Where a part decides beside a sky, as many
    pixels spread evenly over all others are added, which tell it from wings. All stars that are told from noise there
    are free, lest wrong fluxes of those outside become wings; where their middle lies outside their first fluxes are
    known to the error of the nominal PRF.
    """
    pairs, side = problem.pairs, float(np.sqrt(problem.pixel_area))
    central = (pairs.r < np.sqrt(0.5) * side) & problem.used[pairs.pixel]
    seen = np.zeros(problem.n_source, bool)
    seen[pairs.source[central]] = True
    crowd = np.bincount(pairs.pixel, minlength=pairs.n_pixel).astype(float)
    used = problem.used if deciding is None else problem.used & deciding
    first = _brightest_around(problem, used, np.where(seen, state.flux, -np.inf))
    n_pixel, n_pair = (
        np.cumsum(np.bincount(first[used], one[used], minlength=problem.n_source + 1)[:-1])
        for one in (np.ones(first.size), crowd)
    )
    large = bool(problem.used.sum() > MAX_QUICK_PIXEL) or pairs.n_pair > MAX_QUICK_PAIR
    decides = large or quick or deciding is not None
    most_pixel, most_pair = float(MAX_QUICK_PIXEL), float(MAX_QUICK_PAIR)
    if quick:
        enough = max(_SHARE * used.sum(), _PER_WEIGHT * problem.n_weight)
        most_pixel, most_pair = min(most_pixel, enough), min(most_pair, enough * float(np.mean(crowd[used])))
    around = _AROUND if decides and problem.sky.shape[1] else 1.0
    if decides:
        n_star = int(np.count_nonzero((n_pixel <= around * most_pixel) & (n_pair <= around * most_pair)))
    else:
        enough = n_pixel[min(_N_STAR, n_pixel.size) - 1] <= _SHARE * problem.used.sum()
        n_star = _N_STAR if enough else 0
    if n_star < _MIN_STARS:
        if deciding is None and not quick:
            return None
        n_star = min(_MIN_STARS, n_pixel.size)
    keep = first < n_star
    if around < 1.0:
        rest = most_pixel - n_pixel[n_star - 1], most_pair - n_pair[n_star - 1]
        keep |= spread(used & ~keep, crowd, *rest)
    member = np.zeros(problem.n_source, bool)
    member[pairs.source[central & keep[pairs.pixel]]] = True
    part = select_pixels(problem, keep)
    flux = np.where(member, part.prior.flux, np.maximum(state.flux, 0.0))
    prior = replace(part.prior, flux=flux, flux_width=np.where(member, part.prior.flux_width, NOMINAL_ERROR))
    return Part(replace(part, prior=prior), keep, member, decides)


def _brightest_around(problem: JointProblem, used: BoolArray, flux: FloatArray) -> IntArray:
    """Return the rank by flux of the brightest star as near as the splines reach, (n_pixel,); n_source if none is."""
    pairs, rank = problem.pairs, np.empty(problem.n_source, np.int64)
    rank[np.argsort(-flux, kind="stable")] = np.arange(problem.n_source)
    around = (pairs.r <= problem.basis.rmax) & used[pairs.pixel] & np.isfinite(flux)[pairs.source]
    first = np.full(pairs.n_pixel, problem.n_source)
    np.minimum.at(first, pairs.pixel[around], rank[pairs.source[around]])
    return first


def thinned(problem: JointProblem) -> BoolArray:
    """Tell as many pixels of all of an image as a quick step takes, spread evenly, shape (n_pixel,)."""
    crowd = np.bincount(problem.pairs.pixel, minlength=problem.flux.size).astype(float)
    return spread(problem.used, crowd, MAX_QUICK_PIXEL, MAX_QUICK_PAIR)


def spread(pixels: BoolArray, crowd: FloatArray, most_pixel: float, most_pair: float) -> BoolArray:
    """Choose so many of some pixels and pairs at most, spread evenly; `crowd` is how many each has, (n_pixel,)."""
    n_pixel, n_pair = max(int(pixels.sum()), 1), max(float(crowd[pixels].sum()), 1.0)
    share = min(1.0, most_pixel / n_pixel, most_pair / n_pair)
    # Multiples of the golden ratio modulo one leave no gaps (Weyl 1916).
    return pixels & (np.arange(pixels.size) * _GOLDEN % 1.0 < share)


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
        rough=problem.layout.rough,
    )
    home, at_least = problem.home, problem.at_least
    if home is not None and at_least is not None:
        home, at_least = np.where(keep[home], number[home], number)[keep], at_least[keep]
    return replace(
        problem, flux=problem.flux[keep], ivar=problem.ivar[keep], sky=problem.sky[keep], known=problem.known[keep],
        layout=layout, home=home, at_least=at_least,
        volume_slope=None if problem.volume_slope is None else problem.volume_slope[keep],
        known_growth=None if problem.known_growth is None else problem.known_growth[keep],
    )  # fmt: skip
