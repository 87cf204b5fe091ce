"""What the joint fit of the PRF is given, what it looks for, and what the image is for a given state."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.polar import PolarBasis
from bayesprf.prf.pixel_phase import PixelPhases
from bayesprf.scene.field_prf import FieldFrame, FieldPrf, fit_surface
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import LogPrf, wing_starts

LN10 = float(np.log(10.0))


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
    flux_width : float
        Standard deviation of the fluxes in units of the expected ones: wide, a flat prior.
    sky, sky_sigma : ndarray of float64, shape (n_sky,)
        Heights of the background columns, electron / s.
    """

    weights: FloatArray
    weights_sigma: float
    weights_factor: FloatArray | None
    slope: float
    slope_sigma: float
    shear_sigma: FloatArray
    offset_sigma: FloatArray
    flux: FloatArray
    flux_width: float
    sky: FloatArray
    sky_sigma: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class JointProblem:
    """Pixels, pairs and columns of one image.

    Parameters
    ----------
    flux, ivar : ndarray of float64, shape (n_pixel,)
        The image, electron / s, and its inverse variances; 0 leaves a pixel out.
    pairs : PairTable
        Pairs at catalogue positions.
    columns : ndarray of float64, shape (n_source, n_field)
        Columns over the field at each star, of the weights.
    geometry : ndarray of float64, shape (n_source, n_geometry)
        Columns over the field of shear and offset.
    place : ndarray of float64, shape (n_source, 2)
        u and v of each star.
    frame : FieldFrame
        Places in the field.
    sky : csr_matrix of float64, shape (n_pixel, n_sky)
        Background columns.
    known : ndarray of float64, shape (n_pixel,)
        Light that is not fitted, electron / s.
    basis : PolarBasis
        Columns of log10 PRF.
    pixel_area : float
        arcsec**2.
    phases : PixelPhases
        Pixel phases over which flux is conserved.
    prior : JointPrior
        Prior.
    near : ndarray of bool, shape (n_pair,)
        Pairs whose light is told from noise: the others count, but not one by one.
    base : LogPrf, optional
        A PRF known beforehand.
    free : bool
        Positions are fitted.
    n_wing : int
        Slope of the wing and its bends.
    """

    flux: FloatArray
    ivar: FloatArray
    pairs: PairTable
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
    near: BoolArray
    base: LogPrf | None = None
    free: bool = True
    n_wing: int = 5

    @property
    def used(self) -> BoolArray:
        """Pixels that count, shape (n_pixel,)."""
        return self.ivar > 0

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
    def n_weight(self) -> int:
        """Number of weights in all."""
        return self.n_field * self.basis.n_basis

    @property
    def n_global(self) -> int:
        """Number of parameters that all stars share: weights, slope, shear, offset, sky."""
        return self.n_weight + self.n_wing + 4 * self.n_geometry + int(self.sky.shape[1])

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


def prf_of(problem: JointProblem, state: JointState) -> FieldPrf:
    """Return the PRF of a state."""
    slope, *bends = (float(one) for one in state.wing)
    return FieldPrf(
        problem.basis, state.weights, state.shear, slope, problem.pixel_area, problem.frame, problem.base, tuple(bends)
    )


def shifts(problem: JointProblem, state: JointState) -> FloatArray:
    """Return the offset of each star from its catalogue position, shape (n_source, 2), arcsec."""
    return problem.geometry @ state.offset + state.shift


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The model of the image, pair by pair.

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
    image : ndarray of float64, shape (n_pixel,)
        Model of the pixels, electron / s.
    """

    place: FloatArray
    values: FloatArray
    gradient: FloatArray
    offset: FloatArray
    frame: FloatArray
    image: FloatArray


def look(problem: JointProblem, state: JointState) -> View:
    """Evaluate the image of a state."""
    from bayesprf.linalg.compiled.polar import evaluate_pairs

    pairs, basis = problem.pairs, problem.basis
    shift = shifts(problem, state)[pairs.source]
    offset = np.stack([pairs.dx - shift[:, 0], pairs.dy - shift[:, 1]], axis=1)
    frame = frames(problem.geometry @ state.shear)
    place = np.einsum("pij,pj->pi", frame[pairs.source], offset)
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
    return View(place, values, gradient, offset, frame, image)


def frames(shear: FloatArray) -> FloatArray:
    """Return exp([[e1, e2], [e2, -e1]]) of each row, shape (n, 2, 2)."""
    size = np.hypot(shear[:, 0], shear[:, 1])
    grow = np.where(size > 1e-8, np.sinh(size) / np.maximum(size, 1e-8), 1.0)
    even, e1, e2 = np.cosh(size), grow * shear[:, 0], grow * shear[:, 1]
    return np.stack([np.stack([even + e1, e2], axis=1), np.stack([e2, even - e1], axis=1)], axis=1)


def star_columns(problem: JointProblem, state: JointState, view: View) -> csr_matrix:
    """Return the derivative of the image by flux, east and north of each star, (n_pixel, n_own n_source)."""
    pairs, parts = problem.pairs, [view.values]
    if problem.free:
        light = state.flux[pairs.source] * view.values
        parts += list(-light * np.einsum("pji,pj->ip", view.frame[pairs.source], view.gradient))
    n_own, near = len(parts), problem.near
    column = pairs.source[near, None] * n_own + np.arange(n_own)
    row = np.broadcast_to(pairs.pixel[near, None], column.shape)
    values = np.stack([part[near] for part in parts], axis=1)
    return csr_matrix((values.ravel(), (row.ravel(), column.ravel())), shape=(pairs.n_pixel, n_own * pairs.n_source))


def global_columns(problem: JointProblem, state: JointState, view: View) -> FloatArray:
    """Return the derivative of the image with respect to all global parameters, shape (n_pixel, n_global)."""
    from bayesprf.linalg.compiled.polar import add_columns

    pairs, basis = problem.pairs, problem.basis
    light = state.flux[pairs.source] * view.values
    order = np.argsort(pairs.pixel, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(pairs.pixel, minlength=pairs.n_pixel))])
    rows = np.zeros((pairs.n_pixel, problem.n_global))
    add_columns(
        indptr, order, pairs.source, view.place, LN10 * light, problem.columns, wing_starts(problem.n_wing),
        basis.knots, (basis.n_core, basis.n_phi_knots), rows,
    )  # fmt: skip
    start = problem.n_weight + problem.n_wing
    bends = [*_shear_slopes(problem, state, view), *(-np.einsum("pji,pj->ip", view.frame[pairs.source], view.gradient))]
    for number, bend in enumerate(bends):
        for k in range(problem.n_geometry):
            column = start + (number // 2) * 2 * problem.n_geometry + 2 * k + number % 2
            per_pair = light * bend * problem.geometry[pairs.source, k]
            rows[:, column] = np.bincount(pairs.pixel, weights=per_pair, minlength=pairs.n_pixel)
    rows[:, start + 4 * problem.n_geometry :] = problem.sky.toarray()
    return rows


def _shear_slopes(problem: JointProblem, state: JointState, view: View) -> list[FloatArray]:
    """Return d ln PRF / d shear of each pair, along the axes and along the diagonals."""
    shear, step, slopes = problem.geometry @ state.shear, 1e-5, []
    for axis in np.eye(2):
        turn = (frames(shear + step * axis) - frames(shear - step * axis)) / (2.0 * step)
        moved = np.einsum("pij,pj->pi", turn[problem.pairs.source], view.offset)
        slopes.append(np.einsum("pi,pi->p", view.gradient, moved))
    return slopes


def normalized(problem: JointProblem, state: JointState) -> JointState:
    """Return the same image with a PRF whose area is one over the field as nearly as its columns can."""
    prf = prf_of(problem, state)
    level = fit_surface(np.log10(prf.areas()), prf.order)
    return replace(state, weights=prf.less(level).weights, flux=state.flux * 10.0 ** (problem.columns @ level))
