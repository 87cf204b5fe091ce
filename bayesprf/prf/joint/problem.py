"""What the joint fit of the PRF is given, what it looks for, and what the image is for a given state."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lstsq
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray, pointers
from bayesprf.design.polar import PolarBasis
from bayesprf.prf.joint.areas import AreaRule
from bayesprf.prf.joint.layout import Layout
from bayesprf.prf.pixel_phase import PixelPhases
from bayesprf.scene.field_prf import N_COLUMN, FieldFrame, FieldPrf, fit_surface
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import LogPrf, wing_starts

LN10 = float(np.log(10.0))
TOGETHER = 20_000
"""Cost: pixels whose columns of the global parameters are held at once, where not all are."""
# Derived: the innermost knot and the number around a ring are PSFMachine's, 1 arcsec over Kepler's pixel (Hedges et al.
# 2021).
RMIN, N_PHI = 0.25, 15
"""Radius of the innermost knot of the splines of log10 PRF, pixel, and knots around a ring."""

# Derived: twice PSFMachine's 16 arcsec over Kepler's pixel (Hedges et al. 2021): the profile of a bright star is no
# power law yet where those end.
RMAX = 8.0
"""Radius where the splines end, pixel."""

# Measured by docs/scripts/constants.py --truth plain: with half the radius errors of 0.025 % are 0.027 %, with
# twice 0.046 %; with half the knots 0.051 %, with twice 0.024 %.
CUT, N_R = 0.375, 13
"""Radius within which the splines are round, pixel, and knots along the radius."""

# Derived: where pixels are silent there may be no light, twice as much as believed, or any between: as a uniform number
# the relative error has the variance 1 / 3.
ANY_LIGHT = 3.0
"""Inverse variance of the relative error of light of which nothing is known."""

WING_RINGS = tuple(RMAX * 2.0**octave for octave in (-1, 0, 1))
"""Radii from which each ring of the wing begins, pixel: octaves, the second where the splines end."""


def joint_basis(side: float, half: float, density: int = 1) -> PolarBasis:
    """Return the columns of log10 PRF for pixels of a given side, arcsec, out to `half` pixels.

    `density` cuts each interval of radius and angle in so many.
    """
    return PolarBasis(RMIN * side, half * side, CUT * side, density * (N_R - 1) + 1, density * N_PHI)


def finer(basis: PolarBasis) -> PolarBasis:
    """Return columns whose intervals of radius and angle are half as wide."""
    return replace(basis, n_r_knots=2 * basis.n_r_knots - 1, n_phi_knots=2 * basis.n_phi_knots)


def embedding(coarse: PolarBasis, fine: PolarBasis) -> FloatArray:
    """Return the weights of finer columns that make each coarse one, shape (n_fine, n_coarse)."""
    angles = 2.0 * np.pi * np.arange(fine.n_phi_knots) / fine.n_phi_knots
    r, phi = np.repeat(fine.greville, angles.size), np.tile(angles, fine.n_radial)
    return np.asarray(lstsq(fine.matrix(r, phi).toarray(), coarse.matrix(r, phi).toarray(), lapack_driver="gelsy")[0])


@dataclass(frozen=True, slots=True, eq=False)
class JointPrior:
    """What is believed before a pixel is seen: means, and standard deviations where a number stands alone.

    Parameters
    ----------
    weights : ndarray of float64, shape (n_basis,)
        Weights of log10 PRF, dex.
    weights_sigma : float
        Standard deviation of each weight, dex.
    weights_factor : ndarray of float64, shape (n_basis, n_factor), optional
        L: covariance L L' + weights_sigma**2 of the weights, in place of independent ones and of smoothness.
    slope, slope_sigma : float
        Power of r beyond rmax.
    shear_sigma, offset_sigma : ndarray of float64, shape (n_geometry,)
        Shear, and common offset in arcsec, per column over the field.
    flux : ndarray of float64, shape (n_source,)
        Relative scale of the fluxes, catalogue units; NaN where unknown.
    flux_width : ndarray of float64, shape (n_source,)
        Standard deviation of the fluxes in units of the expected ones: wide, a flat prior, but where the PRF is that of
        a record and the catalogue has a flux.
    sky, sky_sigma : ndarray of float64, shape (n_sky,)
        Heights of the background columns, electron / s.
    table_half : float
        Half width of the mission's own PRF tables, pixel; infinity where there are none.
    rough_factor : ndarray of float64, shape (n_basis, n_factor), optional
        L of the covariance of deviations as real PRFs have them, for errors where no pixel tells.
    """

    weights: FloatArray
    weights_sigma: float
    weights_factor: FloatArray | None
    slope: float
    slope_sigma: float
    shear_sigma: FloatArray
    offset_sigma: FloatArray
    flux: FloatArray
    flux_width: FloatArray
    sky: FloatArray
    sky_sigma: FloatArray
    table_half: float
    rough_factor: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class JointProblem:
    """Pixels, pairs and columns of one image.

    Parameters
    ----------
    flux, ivar : ndarray of float64, shape (n_pixel,)
        The image, electron / s, and its inverse variances; 0 leaves a pixel out.
    layout : Layout
        Pairs at catalogue positions, in the order of their pixels, and the light of stars beyond them.
    columns : ndarray of float64, shape (n_source, n_field)
        Columns over the field at each star, of the weights.
    geometry : ndarray of float64, shape (n_source, n_geometry)
        Columns over the field of shear and offset.
    place : ndarray of float64, shape (n_source, 2), or (n_source, 3) if the weights follow colours
        u and v of each star, and its scaled colour.
    frame : FieldFrame
        Places in the field.
    sky : csr_matrix of float64, shape (n_pixel, n_sky)
        Background columns.
    known : ndarray of float64, shape (n_pixel,)
        Light that is not fitted, electron / s.
    known_growth : ndarray of float64, shape (n_pixel, n_kind - 1), optional
        What the model's errors of that light grow with, as in `growth`.
    basis : PolarBasis
        Columns of log10 PRF.
    pixel_area : float
        arcsec**2.
    phases : PixelPhases
        Pixel phases over which flux is conserved.
    prior : JointPrior
        Prior.
    rule : AreaRule
        How the PRF is integrated.
    bends, turns : csr_matrix of float64, shape (n_row, n_basis)
        Rows whose squares penalise bends of the weights along the radius and around the circle.
    base : LogPrf, optional
        A PRF known beforehand.
    free : bool
        Positions are fitted.
    n_wing : int
        Slope of the wing and its bends.
    loose : ndarray of float64, shape (n_source,), optional
        Variance of the places of stars beyond that of the catalogue's positions, per axis, arcsec**2.
    home : ndarray of int64, shape (n_pixel,), optional
        Pixel under whose number the light of each is summed, in `pairs` too: that of a column in which charge spilled.
        By default its own.
    at_least : ndarray of float64, shape (n_pixel,), optional
        Inverse variance of sums that lost charge beyond the data, by which no model may be below them; 0 elsewhere.
    volume_slope : ndarray of float64, shape (n_pixel,), optional
        How fast the log volume of the posterior falls with the light of each pixel, 1 / (electron / s): `log_volume`.
    """

    flux: FloatArray
    ivar: FloatArray
    layout: Layout
    columns: FloatArray
    geometry: FloatArray
    place: FloatArray
    frame: FieldFrame
    sky: csr_matrix
    known: FloatArray
    basis: PolarBasis
    pixel_area: float
    phases: PixelPhases
    prior: JointPrior
    rule: AreaRule
    bends: csr_matrix
    turns: csr_matrix
    base: LogPrf | None = None
    free: bool = True
    n_wing: int = 5
    loose: FloatArray | None = None
    home: IntArray | None = None
    at_least: FloatArray | None = None
    volume_slope: FloatArray | None = None
    known_growth: FloatArray | None = None

    def place_variance(self, position: float) -> FloatArray:
        """Return the variance of each star's place for positions of some width, shape (n_source,), arcsec**2."""
        return np.full(self.n_source, position**2) + (0.0 if self.loose is None else self.loose)

    @property
    def pairs(self) -> PairTable:
        """Pairs at catalogue positions."""
        return self.layout.pairs

    def bounded(self, image: FloatArray) -> "JointProblem":
        """Return the problem in which sums that lost charge count where an image, shape (n_pixel,), is below them."""
        if self.at_least is None:
            return self
        low = np.where(image < self.flux, self.at_least, 0.0)
        return replace(self, ivar=np.where(self.at_least > 0.0, low, self.ivar))

    def unbounded(self) -> "JointProblem":
        """Return the problem without sums that lost charge: a bound that holds is no measurement."""
        if self.at_least is None:
            return self
        return replace(self, ivar=np.where(self.at_least > 0.0, 0.0, self.ivar))

    @property
    def counted(self) -> BoolArray:
        """Pixels of columns that hold all charge that spilled in them, which count by their sum, shape (n_pixel,)."""
        if self.home is None or self.at_least is None:
            return np.zeros(self.flux.size, bool)
        return (np.bincount(self.home, minlength=self.home.size) > 1)[self.home] & (self.at_least[self.home] == 0.0)

    def summed(self, light: csr_matrix) -> csr_matrix:
        """Return light, shape (n_pixel, n), summed under the numbers of the pixels' homes."""
        if self.home is None:
            return light
        n_pixel = self.home.size
        return csr_matrix(csr_matrix((np.ones(n_pixel), (self.home, np.arange(n_pixel))), (n_pixel, n_pixel)) @ light)

    @property
    def used(self) -> BoolArray:
        """Pixels that count, shape (n_pixel,)."""
        return self.ivar > 0

    @property
    def single(self) -> BoolArray:
        """Pixels that count, each for itself, shape (n_pixel,)."""
        return self.used if self.home is None else self.used & (np.bincount(self.home, minlength=self.home.size) == 1)

    @property
    def n_source(self) -> int:
        """Number of stars."""
        return self.pairs.n_source

    @property
    def n_field(self) -> int:
        """Number of columns of the weights over the field."""
        return int(self.columns.shape[1])

    @property
    def n_geometry(self) -> int:
        """Number of columns of shear and offset over the field."""
        return int(self.geometry.shape[1])

    @property
    def colored(self) -> bool:
        """Whether the last column of the weights is that of the colour."""
        return self.place.shape[1] > 2

    @property
    def n_weight(self) -> int:
        """Number of weights in all."""
        return self.n_field * self.basis.n_basis

    @property
    def n_global(self) -> int:
        """Number of parameters that all stars share: weights, slope, shear, offset, sky."""
        return self.n_weight + self.n_wing + 4 * self.n_geometry + int(self.sky.shape[1])

    @property
    def rotation(self) -> FloatArray:
        """From east and north at each star to the axes of the PRF, shape (n_source, 2, 2)."""
        angle = self.frame.turn(self.place)
        c, s = np.cos(angle), np.sin(angle)
        return np.stack([np.stack([c, -s], axis=1), np.stack([s, c], axis=1)], axis=1)

    @property
    def n_own(self) -> int:
        """Number of parameters of one star."""
        return 3 if self.free else 1


@dataclass(frozen=True, slots=True, eq=False)
class JointState:
    """Values of all parameters.

    Parameters
    ----------
    weights : ndarray of float64, shape (n_field, n_basis)
        Weights of log10 PRF, dex.
    wing : ndarray of float64, shape (n_wing,)
        Power of r beyond rmax, and its changes at `wing_starts`.
    shear, offset : ndarray of float64, shape (n_geometry, 2)
        Shear, and common offset of the stars from their catalogue positions, arcsec.
    sky : ndarray of float64, shape (n_sky,)
        Heights of the background columns, electron / s.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s.
    shift : ndarray of float64, shape (n_source, 2)
        Each star's own offset, arcsec.
    """

    weights: FloatArray
    wing: FloatArray
    shear: FloatArray
    offset: FloatArray
    sky: FloatArray
    flux: FloatArray
    shift: FloatArray

    def moved(self, common: FloatArray, own: FloatArray) -> "JointState":
        """Return the state after a step of the global parameters and of those of the stars, (n_source, n_own)."""
        n_weight, n_geometry = self.weights.size, self.shear.shape[0]
        start, stop = n_weight + self.wing.size, n_weight + self.wing.size + 4 * n_geometry
        bend = common[start:stop].reshape(2, n_geometry, 2)
        return JointState(
            weights=self.weights + common[:n_weight].reshape(self.weights.shape),
            wing=self.wing + common[n_weight:start],
            shear=self.shear + bend[0],
            offset=self.offset + bend[1],
            sky=self.sky + common[stop:],
            flux=self.flux + own[:, 0],
            shift=self.shift + own[:, 1:] if own.shape[1] == 3 else self.shift,
        )

    def widened(self, problem: JointProblem, basis: PolarBasis) -> "JointState":
        """Return the state, with weights of a `basis`, in a problem with more columns, or finer ones."""
        field, bend = problem.n_field - len(self.weights), problem.n_geometry - len(self.shear)
        fine = basis.n_basis != problem.basis.n_basis
        weights = self.weights @ embedding(basis, problem.basis).T if fine else self.weights
        weights = np.pad(weights, ((0, field), (0, 0)))
        shear, offset = (np.pad(one, ((0, bend), (0, 0))) for one in (self.shear, self.offset))
        sky = np.pad(self.sky, (0, problem.sky.shape[1] - self.sky.size))
        return replace(self, weights=weights, shear=shear, offset=offset, sky=sky)


def prf_of(problem: JointProblem, state: JointState) -> FieldPrf:
    """Return the PRF of a state."""
    slope, *bends = (float(one) for one in state.wing)
    return FieldPrf(
        problem.basis, state.weights, state.shear, slope, problem.pixel_area, problem.frame, problem.base, tuple(bends),
        problem.colored,
    )  # fmt: skip


def shifts(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the offset of each star from its catalogue position, shape (n_source, 2), arcsec."""
    return problem.geometry @ state.offset + state.shift


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The model of the image: pair by pair near the stars, in sums far from them.

    Parameters
    ----------
    place : ndarray of float64, shape (n_pair, 2)
        Offset of the pixel from the star in coordinates in which the core is round, arcsec.
    values : ndarray of float64, shape (n_pair,)
        PRF, 1 / pixel.
    gradient : ndarray of float64, shape (n_pair, 2)
        d ln PRF / d place, 1 / arcsec.
    offset : ndarray of float64, shape (n_pair, 2)
        Offset on the sky, arcsec.
    frame : ndarray of float64, shape (n_source, 2, 2)
        The map from the sky to round coordinates.
    turn : ndarray of float64, shape (n_source, 2, 2, 2)
        Its derivatives by the two shears.
    image : ndarray of float64, shape (n_pixel,)
        Model of the pixels, electron / s.
    far : ndarray of float64, shape (n_pixel, 3 + n_ring)
        The far light in it, this light times `_peaks_that_err` of its stars, and its square in the rings of the wing.
    far_rows : ndarray of float64, shape (n_pixel, n_far)
        Derivatives of the far light by edge and wing of the PRF, shear and offset.
    far_at : ndarray of float64, shape (n_far,)
        What these are of the state.
    """

    place: FloatArray
    values: FloatArray
    gradient: FloatArray
    offset: FloatArray
    frame: FloatArray
    turn: FloatArray
    image: FloatArray
    far: FloatArray
    far_rows: FloatArray
    far_at: FloatArray


def look(problem: JointProblem, state: JointState, *, alone: bool = False, near: View | None = None) -> View:
    """Evaluate the image of a state; with `alone`, without the derivatives of far light by what stars share.

    With `near`, the far light is that of the view of a state near by, moved along its derivatives if it has some.
    """
    view = _look_near(problem, state)
    alone = alone if near is None else near.far_at.size == 0
    if near is None:
        return with_far(problem, state, view, alone=alone)
    far_at, far = np.zeros(0) if alone else _far_parameters(problem, state), near.far.copy()
    far[:, 0] += near.far_rows @ (far_at - near.far_at)
    return replace(view, image=view.image + far[:, 0], far=far, far_rows=near.far_rows, far_at=far_at)


def with_far(problem: JointProblem, state: JointState, view: View, *, alone: bool = False) -> View:
    """Return the view with its far light evaluated anew; with `alone`, without derivatives."""
    weights, shift = problem.columns @ state.weights, shifts(problem, state)
    far_at = np.zeros(0) if alone else _far_parameters(problem, state)
    n_far = 0 if alone else far_at.size + 3 * problem.n_field
    far, far_rows = _look_far(problem, state, weights, shift, (view.frame, view.turn), n_far)
    return replace(view, image=view.image + (far[:, 0] - view.far[:, 0]), far=far, far_rows=far_rows, far_at=far_at)


def _look_near(problem: JointProblem, state: JointState) -> View:
    """Evaluate the pairs, with no light of stars beyond them."""
    from bayesprf.linalg.compiled.light import place_pairs
    from bayesprf.linalg.compiled.polar import evaluate_pairs

    pairs, basis = problem.pairs, problem.basis
    frame, turn = turning_frames(problem.geometry @ state.shear, problem.rotation)
    offset, place = np.empty((pairs.n_pair, 2)), np.empty((pairs.n_pair, 2))
    place_pairs(pairs.source, pairs.dx, pairs.dy, shifts(problem, state), frame, offset, place)
    log, gradient = np.empty(pairs.n_pair), np.empty((pairs.n_pair, 2))
    evaluate_pairs(
        pairs.source, place, problem.columns @ state.weights, state.wing, wing_starts(problem.n_wing), basis.knots,
        (basis.n_core, basis.n_phi_knots), log, gradient,
    )  # fmt: skip
    if problem.base is not None:
        log += problem.base.log10(place[:, 0], place[:, 1])
        gradient += problem.base.gradient(place[:, 0], place[:, 1])
    values = np.exp(LN10 * log)
    image = problem.known + problem.sky @ state.sky
    image += np.bincount(pairs.pixel, weights=state.flux[pairs.source] * values, minlength=pairs.n_pixel)
    none = np.zeros((pairs.n_pixel, 0))
    return View(place, values, gradient, offset, frame, turn, image, np.zeros((pairs.n_pixel, 1)), none, np.zeros(0))


def _far_parameters(problem: JointProblem, state: JointState) -> FloatArray:
    """Return what far light follows: the edge of the splines, slope and bends of the wing, shear, offset, (n_far,)."""
    edge = state.weights[:, -edge_size(problem.basis) :]
    return np.concatenate([edge.ravel(), state.wing, state.shear.ravel(), state.offset.ravel()])


def _look_far(
    problem: JointProblem,
    state: JointState,
    weights: FloatArray,
    shift: FloatArray,
    frames: tuple[FloatArray, FloatArray],
    n_far: int,
) -> tuple[FloatArray, FloatArray]:
    """Evaluate the light of stars far from the pixels, and its derivatives, or none of them for n_far = 0."""
    from bayesprf.linalg.compiled.polar import FarCells, FarStars, add_far

    basis, far, cells = problem.basis, problem.layout.far, problem.layout.cells
    rings = (np.array(WING_RINGS) ** 2) * problem.pixel_area
    n_edge, n_field = edge_size(basis), problem.n_field
    edge = weights[:, -n_edge:]
    edge = np.concatenate([edge, edge[:, np.arange(3) % n_edge]], axis=1)
    n_light, n_edge_row = 3 + rings.size, edge.shape[1] * n_field
    sums = np.zeros((cells.place.shape[0], n_light + n_far))
    stars = FarStars(
        far.place, far.stretch, far.inner, far.outer, shift, *frames, state.flux, _peaks_that_err(problem, state), edge,
        problem.columns, problem.geometry,
    )  # fmt: skip
    add_far(
        cells.place, FarCells(*(getattr(cells, name) for name in FarCells._fields)), stars, state.wing,
        wing_starts(problem.n_wing), basis.rmax, far.base, rings, sums[:, :n_light], sums[:, n_light:],
    )  # fmt: skip
    light, rows = np.split(cells.add_nodes(sums), [n_light], axis=1)
    if n_far == 0:
        return light, rows
    around = rows[:, :n_edge_row].reshape(-1, n_field, edge.shape[1])
    for k in range(3):
        around[:, :, k % n_edge] += around[:, :, n_edge + k]
    by_edge = around[:, :, :n_edge].reshape(-1, n_field * n_edge)
    return light, np.concatenate([by_edge, rows[:, n_edge_row:]], axis=1)


def edge_size(basis: PolarBasis) -> int:
    """Return how many weights the PRF has at rmax: one per angle, or one alone."""
    return basis.n_phi_knots if basis.n_core < basis.n_radial else 1


def peaks(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the light of each star in a pixel at its centre, shape (n_source,), electron / s; no less than 0."""
    middle = problem.columns @ state.weights[:, 0]
    if problem.base is not None:
        middle = middle + problem.base.log10(np.zeros(1), np.zeros(1))[0]
    return np.asarray(np.maximum(state.flux, 0.0) * 10.0**middle)


def turning_frames(shear: FloatArray, rotation: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the frames of each row, and their derivatives by the two shears, shape (n, 2, 2, 2)."""
    step = 1e-5
    ahead, behind = ([frames(shear + side * axis, rotation) for axis in np.eye(2)] for side in (step, -step))
    turns = [(one - other) / (2.0 * step) for one, other in zip(ahead, behind, strict=True)]
    return frames(shear, rotation), np.stack(turns, axis=1)


def frames(shear: FloatArray, rotation: FloatArray) -> FloatArray:
    """Return exp([[e1, e2], [e2, -e1]]) R of each row and rotation R, shape (n, 2, 2)."""
    size = np.hypot(shear[:, 0], shear[:, 1])
    grow = np.where(size > 1e-8, np.sinh(size) / np.maximum(size, 1e-8), 1.0)
    even, e1, e2 = np.cosh(size), grow * shear[:, 0], grow * shear[:, 1]
    stretch = np.stack([np.stack([even + e1, e2], axis=1), np.stack([e2, even - e1], axis=1)], axis=1)
    return stretch @ rotation


def star_parts(problem: JointProblem, state: JointState, view: View) -> FloatArray:
    """Return the derivative of the image by flux, east and north of each star told from noise, (n_near, n_own)."""
    near = problem.layout.order.near
    source, values = problem.pairs.source[near], view.values[near]
    if not problem.free:
        return values[:, None]
    parts = np.empty((near.size, 3))
    light, gradient, frame = state.flux[source] * values, view.gradient[near], view.frame[source]
    parts[:, 0] = values
    for k in range(2):
        parts[:, 1 + k] = -light * (frame[:, 0, k] * gradient[:, 0] + frame[:, 1, k] * gradient[:, 1])
    return parts


def star_columns(problem: JointProblem, state: JointState, view: View) -> csr_matrix:
    """Return the derivative of the image by flux, east and north of each star, (n_pixel, n_own n_source)."""
    order, n_own = problem.layout.order, problem.n_own
    column = problem.pairs.source[order.near][:, None] * n_own + np.arange(n_own)
    shape = (problem.pairs.n_pixel, n_own * problem.n_source)
    parts = star_parts(problem, state, view)
    return csr_matrix((parts.ravel(), column.ravel(), order.near_indptr * n_own), shape=shape)


def global_columns(problem: JointProblem, state: JointState, view: View, pixels: IntArray | None = None) -> FloatArray:
    """Return the derivative of some pixels, or all, with respect to all global parameters, shape (n, n_global)."""
    from bayesprf.linalg.compiled.polar import add_columns, add_geometry

    pairs, basis, order = problem.pairs, problem.basis, problem.layout.order
    light = state.flux[pairs.source] * view.values
    indptr, pair = order.indptr, order.pair
    chosen: IntArray | slice = slice(None)
    if pixels is not None:
        indptr, pair = order.of_pixels(pixels)
        chosen = pixels
    rows = np.zeros((indptr.size - 1, problem.n_global))
    add_columns(
        indptr, pair, pairs.source, view.place, LN10 * light, problem.columns, wing_starts(problem.n_wing),
        basis.knots, (basis.n_core, basis.n_phi_knots), rows,
    )  # fmt: skip
    start = problem.n_weight + problem.n_wing
    add_geometry(
        indptr, pair, pairs.source, view.offset, view.gradient, light, view.frame, view.turn,
        problem.geometry, start, rows,
    )  # fmt: skip
    n_edge, far_rows = edge_size(basis), view.far_rows[chosen]
    for k in range(problem.n_field):
        stop = (k + 1) * basis.n_basis
        rows[:, stop - n_edge : stop] += far_rows[:, k * n_edge : (k + 1) * n_edge]
    sky = start + 4 * problem.n_geometry
    rows[:, problem.n_weight : sky] += far_rows[:, problem.n_field * n_edge :]
    rows[:, sky:] = problem.sky[chosen].toarray()
    return rows


def weight_scores(
    problem: JointProblem, state: JointState, view: View, pull: FloatArray, group: IntArray
) -> FloatArray:
    """Return G'b of groups of pixels, (n_group, n_weight), for the derivatives G of the image by all weights.

    `pull`, the b of each pixel, and the number of its `group` have the shape (n_pixel,). G itself is never held.
    """
    from bayesprf.linalg.compiled.polar import add_columns

    pairs, basis, n_weight = problem.pairs, problem.basis, problem.n_weight
    light = state.flux[pairs.source] * view.values * pull[pairs.pixel]
    indptr, pair = problem.layout.order.of_pixels(np.argsort(group, kind="stable"))
    n_pixel = np.bincount(group)
    rows = np.zeros((n_pixel.size, n_weight + problem.n_wing))
    add_columns(
        indptr[pointers(n_pixel)], pair, pairs.source, view.place, LN10 * light, problem.columns,
        wing_starts(problem.n_wing), basis.knots, (basis.n_core, basis.n_phi_knots), rows,
    )  # fmt: skip
    n_edge = edge_size(basis)
    by_group = csr_matrix((pull, (group, np.arange(group.size))), (n_pixel.size, group.size))
    by_edge = by_group @ view.far_rows[:, : problem.n_field * n_edge]
    for k in range(problem.n_field):
        stop = (k + 1) * basis.n_basis
        rows[:, stop - n_edge : stop] += by_edge[:, k * n_edge : (k + 1) * n_edge]
    return rows[:, :n_weight]


def answer_to_globals(problem: JointProblem, state: JointState, view: View, gain: csr_matrix) -> FloatArray:
    """Return rows over the pixels times `global_columns`, (n_row, n_pixel) -> (n_row, n_global), some at a time."""
    by_pixel, total = gain.tocsc(), np.zeros((gain.shape[0], problem.n_global))
    for pixels in np.array_split(np.arange(problem.flux.size), problem.flux.size // TOGETHER + 1):
        total += by_pixel[:, pixels] @ global_columns(problem, state, view, pixels)
    return total


def growth(problem: JointProblem, state: JointState, view: View) -> FloatArray:
    """Return what the squares of the errors are multiplied by, shape (n_pixel, n_kind), (electron / s)**2.

    F**2 P P(0) of all stars, the same times `field_growth`, and (F P)**2 of the wings in each ring; one, beside a sky,
    for that of unlisted stars.
    """
    from bayesprf.linalg.compiled.light import add_growth

    pairs, flux = problem.pairs, np.maximum(state.flux, 0.0)
    grown = np.maximum(view.far[:, 1:], 0.0)
    rings = np.array(WING_RINGS) ** 2 * problem.pixel_area
    add_growth(
        pairs.pixel, pairs.source, view.values, view.offset, flux, _peaks_that_err(problem, state), rings, grown
    )  # fmt: skip
    if problem.known_growth is not None:
        grown += problem.known_growth
    return np.column_stack([grown, np.full(pairs.n_pixel, float(problem.sky.shape[1] > 0))])


def _peaks_that_err(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the light of each star at its centre, and the same times its `field_growth`, (n_source, 2)."""
    return peaks(problem, state)[:, None] * np.stack([np.ones(problem.n_source), field_growth(problem)], axis=1)


def field_growth(problem: JointProblem, place: FloatArray | None = None) -> FloatArray:
    """Return (u**2 + v**2)**3 of each star, or at each place, for a PRF that varies as a quadratic surface, (n_place,).

    What that cannot follow begins with the cube. It is none for other PRFs: an error that grows towards the edges would
    explain the columns that are still to be asked for. Nor is it where few stars lean on a PRF known beforehand, which
    do not tell it from what each of them errs by.
    """
    place = problem.place if place is None else place
    if problem.base is not None or problem.n_field - problem.colored < N_COLUMN[-1]:
        return np.zeros(len(place))
    return np.asarray(np.sum(place[:, :2] ** 2, axis=1) ** len(N_COLUMN))


def light_in_rings(problem: JointProblem, state: JointState, view: View) -> tuple[FloatArray, IntArray]:
    """Return the light of each pair, electron / s, and in which of `WING_RINGS` it lies; 0 nearer, shape (n_pair,)."""
    light = np.maximum(state.flux, 0.0)[problem.pairs.source] * view.values
    radius = np.hypot(*view.offset.T) / np.sqrt(problem.pixel_area)
    return light, np.searchsorted(WING_RINGS, radius, side="right")


def normalized(problem: JointProblem, state: JointState) -> JointState:
    """Return the same image with a PRF whose area is one over the field as nearly as its columns can."""
    colored = problem.colored
    areas = problem.rule.areas(state.weights, state.wing, colored=colored)
    level = fit_surface(np.log10(areas), prf_of(problem, state).order, colored=colored)
    weights = state.weights - level[:, None]
    return replace(state, weights=weights, flux=state.flux * 10.0 ** (problem.columns @ level))


def same_image(problem: JointProblem, view: View, before: JointState, after: JointState) -> View:
    """Return the view after `normalized`: the image stays, what the PRF gains the fluxes lose."""
    gain = np.divide(before.flux, after.flux, out=np.ones_like(after.flux), where=after.flux != 0.0)
    far_at = _far_parameters(problem, after)
    return replace(view, values=view.values * gain[problem.pairs.source], far_at=far_at)
