"""Which of two fits of the PRF predicts the pixels, and whether one that varies over the field is worth a try."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import hstack, identity

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.photometry.background import BackgroundColumns
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.joint.hyper import JointHyper
from bayesprf.prf.joint.objective import JointFit, last_gain, next_step, refit
from bayesprf.prf.joint.part import select_pixels, thinned
from bayesprf.prf.joint.problem import (
    JointProblem,
    JointState,
    View,
    embedding,
    finer,
    global_columns,
    look,
    normalized,
    weight_scores,
)
from bayesprf.prf.joint.start import rows_around
from bayesprf.prf.joint.trust import MAX_POWER
from bayesprf.scene.field_prf import order_columns
from bayesprf.scene.pairs import PairTable

SIGNIFICANT = 5.0
"""Definition: a level of the sky counts from so many of its standard errors on."""
WORTH_A_TRY = 2.0
"""Cost: a PRF that varies is fitted from so many standard deviations on, by one in forty fields that do not vary."""
# Derived: standard deviation of |z| for a standard normal z.
_STD_ABS = float(np.sqrt(1.0 - 2.0 / np.pi))
# Rounding: it decides what is left of a pixel that the fit follows altogether.
_LEAST_KEPT = 1e-3
# Rounding: share of the largest square below which a combination of columns is none.
_ROUNDING = 1e-12
# Definition: where the model errs by as much as noise, a pixel has this share of the weight that noise alone gives it.
_NOISE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a fit that was tried is kept, and why.

    Parameters
    ----------
    kept : bool
        Whether it is.
    reason : str
        What decided, as the end of a sentence about it.
    """

    kept: bool
    reason: str


def choose_fit(plain: PrfFit, other: PrfFit, *, demanding: bool = False) -> Choice:
    """Choose between two joint fits of the PRF to the same image.

    Parameters
    ----------
    plain : PrfFit
        The PRF that is there.
    other : PrfFit
        The one that is tried.
    demanding : bool
        It must leave less light in the wrong pixels.

    Returns
    -------
    Choice
        The other, if it has settled, and leaves no more light in the wrong pixels.

    Notes
    -----
    Light in wrong pixels is M = sum (|r| + n) / sqrt(F), over the pixels in which a star of flux F gives most of the
    light, with n the light below zero that a fit gives to stars: its share of the star, weighted by the square root of
    the flux. No more means: the sum over the stars of M with the other fit less M without is no larger than its own
    standard error, from the spread over the stars, and from the noise of the pixels. Its residuals are standardised,
    r / sqrt(1 - h) with the leverage h: what it takes of noise and misfit counts against it; those of the plain fit are
    not, in its favour. A fit that leans on a PRF from elsewhere must leave less, by as much.
    """
    joint = other.joint
    if not joint.converged:
        return Choice(False, "does not settle")
    demanding |= joint.problem.prior.weights_factor is not None
    used = (plain.image.ivar > 0) & joint.problem.single
    star, weight = _main_stars(other, used)
    wrong = np.abs(_residual(plain)) + _below_zero(plain), np.abs(_standardised(other)) + _below_zero(other)
    before, after = (np.bincount(star[used], (weight * one)[used]) for one in wrong)
    noise = weight[used] ** 2 / other.image.ivar[used]
    limit = np.hypot(_error_of_sum(after - before), _STD_ABS * np.sqrt(np.sum(noise)))
    told = f"leaves {100.0 * after.sum() / max(before.sum(), 1e-300):.3g} % of what the other fit leaves of the pixels"
    more = after.sum() - before.sum()
    return Choice(bool(more < -limit if demanding else more <= limit), told)


def is_settled(found: PrfFit) -> bool:
    """Whether a joint fit has settled."""
    return found.joint.converged


def dark_light(shape: PrfFit) -> float:
    """Return the median light of the stars in the darker half of the pixels, electron / s."""
    model, dark = _dark_half(shape)
    return float(np.median(model[dark]))


def expected_dark_light(found: JointFit, shape: PrfFit) -> float:
    """Return the same by the PRF that is expected before a pixel is seen, for the fluxes that were found."""
    problem, n_bend = found.problem, found.problem.n_wing - 1
    nominal = replace(
        found.state,
        weights=np.pad(problem.prior.weights[None], ((0, problem.n_field - 1), (0, 0))),
        wing=np.append(problem.prior.slope, np.zeros(n_bend)),
        shear=np.zeros_like(found.state.shear),
        sky=np.zeros_like(found.state.sky),
        flux=np.ones_like(found.flux),
    )
    nominal = normalized(problem, nominal)
    nominal = replace(nominal, flux=nominal.flux * found.flux)
    light = look(problem, nominal).image - problem.known
    return float(np.median(light[_dark_half(shape)[1]]))


def may_hold_sky(found: JointFit, columns: BackgroundColumns) -> bool:
    """Whether one step from a fit without a sky to one with a level of it finds one above its error.

    Where a part of the image decides, a level that counts is asked for: see `level_of_sky`.
    """
    heights, errors = step_to_sky(found, columns)
    if not heights[-1] > errors[-1]:
        return False
    if found.decided is None:
        return True
    level, error = level_of_sky(found, columns)
    return level > SIGNIFICANT * error


def step_to_sky(found: JointFit, columns: BackgroundColumns) -> tuple[FloatArray, FloatArray]:
    """Return where one step takes the heights of further columns of a sky, and their errors, (n_column,).

    Stars that the catalogue lacks light several pixels at once: they count as what they are, beside the noise of single
    pixels.
    """
    keep = _tells_of_sky(found)
    (problem, state), weight = _with_sky(found, columns, keep), found.weight[keep]
    common, factor = next_step(problem, state, found.hyper, weight=weight)
    own = slice(-columns.n_column, None)
    error = np.linalg.norm(factor[own], axis=1)
    if found.unlisted is not None:
        gain = last_gain(problem, state, found.hyper, weight=weight, n=columns.n_column)
        error = np.hypot(error, np.linalg.norm(gain @ found.unlisted[keep], axis=1))
    return common[own], error


def level_of_sky(found: JointFit, columns: BackgroundColumns) -> tuple[float, float]:
    """Return the level of a sky beside a fit of which a part decides, and its error, electron / s.

    The surroundings of bright stars do not tell a sky from wings. As many pixels as a quick step takes, spread evenly
    over the image, do.
    """
    problem, state = _with_sky(found, columns, _tells_of_sky(found))
    level, factor = refit(problem, state, found.hyper)
    return float(level.sky[-1]), float(np.linalg.norm(factor[-1]))


def _tells_of_sky(found: JointFit) -> BoolArray:
    """Return which pixels are asked for more sky, shape (n_pixel,).

    All; where a part of the image decides that part, if it tells a sky already, else as many as a quick step takes.
    """
    if found.decided is None:
        return np.ones(found.weight.size, bool)
    return found.decided if found.problem.sky.shape[1] else thinned(found.problem)


def _with_sky(found: JointFit, columns: BackgroundColumns, keep: BoolArray) -> tuple[JointProblem, JointState]:
    """Return the problem of some pixels with further columns of the sky, and where it starts."""
    problem, matrix = found.problem, found.problem.summed(columns.matrix)
    if not keep.all():
        problem, matrix = select_pixels(problem, keep), matrix[keep]
    none, prior = np.zeros(columns.n_column), problem.prior
    sigma = np.append(prior.sky_sigma, np.full(columns.n_column, columns.sigma))
    prior = replace(prior, sky=np.append(prior.sky, none), sky_sigma=sigma)
    problem = replace(problem, sky=hstack([problem.sky, matrix], format="csr"), prior=prior)
    return problem, replace(found.state, sky=np.append(found.state.sky, none))


def _dark_half(shape: PrfFit) -> tuple[FloatArray, BoolArray]:
    """Return the light of the stars, and which pixels are the darker half by it, shape (n_pixel,)."""
    used = shape.image.ivar > 0
    model = np.asarray(shape.fixed_light + shape.matrix.image(np.nan_to_num(shape.flux)))
    return model, used & (model <= np.median(model[used]))


def never_ends(shape: PrfFit) -> bool:
    """Whether the wing of a joint fit falls, within its error, as slowly as light may at all."""
    joint = shape.joint
    wing = slice(joint.problem.n_weight, joint.problem.n_weight + joint.problem.n_wing)
    error = float(np.linalg.norm(joint.posterior.global_factor[wing].sum(axis=0)))
    return float(joint.state.wing.sum()) > MAX_POWER - error


def _error_of_sum(parts: FloatArray) -> float:
    """Return the standard error of a sum from the spread of its parts; 0 for a single one."""
    return float(np.sqrt(parts.size) * np.std(parts, ddof=1)) if parts.size > 1 else 0.0


def _residual(shape: PrfFit) -> FloatArray:
    """Return data less model of the image, shape (n_pixel,), electron / s.

    The model is that of the fit: rows of a star that is listed twice share its light afterwards.
    """
    problem = shape.joint.problem
    left = problem.flux - shape.joint.image
    return left if problem.home is None else np.where(problem.single, left, 0.0)


def _standardised(shape: PrfFit) -> FloatArray:
    """Return what a joint fit leaves of the pixels, larger by what it took, shape (n_pixel,), electron / s."""
    return np.asarray(_residual(shape) / np.sqrt(np.maximum(1.0 - shape.joint.posterior.leverage, _LEAST_KEPT)))


def _below_zero(shape: PrfFit) -> FloatArray:
    """Return the light below zero that a fit gives to stars, shape (n_pixel,), electron / s."""
    flux = np.nan_to_num(shape.joint.flux)
    light = np.maximum(-flux, 0.0)[shape.pairs.source] * shape.values
    return np.bincount(shape.pairs.pixel, light, shape.pairs.n_pixel)


def _main_stars(shape: PrfFit, used: BoolArray) -> tuple[IntArray, FloatArray]:
    """Return the star that gives most of each pixel's light, and one over the root of its flux, shape (n_pixel,)."""
    flux = np.maximum(np.nan_to_num(shape.flux), 0.0)
    star = _brightest(shape.pairs, flux, shape.values)
    faintest = np.median(shape.image.ivar[used]) ** -0.5
    return star, 1.0 / np.sqrt(np.maximum(flux[star], faintest))


def _brightest(pairs: PairTable, flux: FloatArray, values: FloatArray) -> IntArray:
    """Return the star that gives most of each pixel's light, the brightest of all where none does, shape (n_pixel,)."""
    order = np.argsort(flux[pairs.source] * values, kind="stable")
    star = np.full(pairs.n_pixel, np.argmax(flux))
    star[pairs.pixel[order]] = pairs.source[order]
    return star


def variation_score(fit: JointFit, order: int) -> float:
    """Return how far stars agree on a PRF that follows further columns over the field, in standard deviations.

    Parameters
    ----------
    fit : JointFit
        A fit of a PRF that is constant, or a plane over the field.
    order : int
        Whose own columns are asked for: 1 for those of a plane, 2 for those that bend it.

    Returns
    -------
    float
        0 where no two stars tell.

    Notes
    -----
    The score test of a variance that is zero (Rao 1948; Lin 1997, Biometrika 84, 309): with the columns G of the
    further weights, of prior covariance L L', the log evidence rises with their variance by half of |y|**2 less its
    expectation, y = L'G'W r. The sum over the pixels in which each star is the brightest, y = sum y_i, gives what
    stars have in common, sum_(i != j) y_i'y_j, which is zero on average where they err each on its own, in however
    many pixels, and has the variance 2 sum_(i != j) (y_i'y_j)**2.

    Where a part of the image decides, r is without what the present columns could still make of it: they were fitted
    before the light of the stars around the part was known.
    """
    return _further_score(fit, order_columns(fit.problem.place, order))


def color_score(fit: JointFit, color: FloatArray) -> float:
    """Return how far stars agree on a PRF that follows their scaled colours, (n_source,), in standard deviations.

    The test of `variation_score`, with the colours as the further column.
    """
    return _further_score(fit, color[:, None])


def _further_score(fit: JointFit, further: FloatArray) -> float:
    """Return the score of further columns of the weights, shape (n_source, n_further)."""
    problem, weight = _deciding(fit)
    n_weight = problem.n_weight
    wider = replace(problem, columns=np.concatenate([problem.columns, further], axis=1))
    more = np.zeros((further.shape[1], problem.basis.n_basis))
    state = replace(fit.state, weights=np.concatenate([fit.state.weights, more]))
    view = look(wider, state)
    left = problem.flux - view.image
    if fit.decided is not None:
        # The columns of the fit itself are those without the further ones.
        columns = global_columns(wider, state, view)
        left = _without(left, np.delete(columns, np.s_[n_weight : wider.n_weight], axis=1), weight)
    by_star = _pulls(wider, state, view, left=left, weight=weight)[:, n_weight:]
    return _agreement(_scaled(by_star, problem, JointHyper().field_widths))


def _deciding(fit: JointFit) -> tuple[JointProblem, FloatArray]:
    """Return the problem of the pixels that decide what all stars share, and their weights."""
    if fit.decided is None:
        return fit.problem, fit.weight
    return select_pixels(fit.problem, fit.decided), fit.weight[fit.decided]


def may_be_finer(fit: JointFit) -> bool:
    """Whether finer columns are worth their cost: a constant PRF of its own misses pixels by as much as noise does."""
    problem, used = fit.problem, fit.problem.used
    own = problem.n_field == 1 and problem.prior.weights_factor is None
    return own and float(np.mean(fit.weight[used] / problem.ivar[used])) < _NOISE_SHARE


def detail_score(fit: JointFit) -> float:
    """Return how far stars agree on a PRF with finer columns, in standard deviations.

    Parameters
    ----------
    fit : JointFit
        A fit of a PRF that is constant over the field.

    Returns
    -------
    float
        0 where no two stars tell.

    Notes
    -----
    The test of `variation_score`, with columns of twice as many knots along the radius and around the circle, less what
    the present ones can make of them at the weights of the pixels.
    """
    coarse, fine = fit.problem.basis, finer(fit.problem.basis)
    held, hyper = embedding(coarse, fine), JointHyper()
    around = rows_around(fine)
    rough = fine.roughness()
    problem = replace(fit.problem, basis=fine, bends=rough[~around], turns=rough[around])
    state = replace(fit.state, weights=fit.state.weights @ held.T)
    view = look(problem, state)
    columns = np.sqrt(fit.weight)[:, None] * global_columns(problem, state, view)[:, : problem.n_weight]
    common = held.T @ (columns.T @ columns)
    by_star = _pulls(problem, state, view, left=problem.flux - view.image, weight=fit.weight)
    by_star -= (by_star @ held) @ _solve_told(common @ held, common)
    return _agreement(_scaled(by_star, problem, (hyper.tau, hyper.turn, problem.prior.weights_sigma)))


def _without(left: FloatArray, held: FloatArray, weight: FloatArray) -> FloatArray:
    """Return what is left of pixels less what columns make of it at the weights of the pixels, shape (n_pixel,)."""
    weighted = weight[:, None] * held
    return np.asarray(left - held @ _solve_told(held.T @ weighted, weighted.T @ left))


def _solve_told(square: FloatArray, right: FloatArray) -> FloatArray:
    """Return the solution of S x = b where S tells of one, 0 along all that it does not tell of."""
    scale = 1.0 / np.sqrt(np.maximum(np.diag(square), 1e-300))
    size, axes = np.linalg.eigh(square * np.outer(scale, scale))
    told = size > _ROUNDING * size[-1]
    axes = scale[:, None] * axes[:, told]
    return np.asarray(axes / size[told] @ (axes.T @ right))


def _pulls(problem: JointProblem, state: JointState, view: View, *, left: FloatArray, weight: FloatArray) -> FloatArray:
    """Return G'W r of the pixels in which each star is the brightest, (n_star, n_weight), of stars that have some."""
    pull = weight * np.where(weight > 0, left, 0.0)
    star = _brightest(problem.pairs, state.flux, view.values)
    return weight_scores(problem, state, view, pull, np.unique(star, return_inverse=True)[1])


def _agreement(likeness: FloatArray) -> float:
    """Return how far products y_i'y_j of different stars are positive in all, in standard deviations."""
    np.fill_diagonal(likeness, 0.0)
    spread = float(np.sqrt(2.0 * np.sum(likeness**2)))
    return float(likeness.sum()) / spread if spread > 0 else 0.0


def _scaled(by_star: FloatArray, problem: JointProblem, widths: tuple[float, float, float]) -> FloatArray:
    """Return the products y_i'y_j of the stars' scores, by the prior covariance of bends, turns and weights."""
    kinds = problem.bends, problem.turns, identity(problem.basis.n_basis, format="csr")
    precision = sum((rows.T @ rows).toarray() / width**2 for rows, width in zip(kinds, widths, strict=True))
    parts = np.split(by_star, by_star.shape[1] // problem.basis.n_basis, axis=1)
    return np.asarray(sum(part @ np.linalg.solve(precision, part.T) for part in parts))
