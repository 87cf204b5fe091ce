"""One objective for PRF, positions, fluxes and sky of an image: the log posterior given all usable pixels."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.errors import PACKAGE_FILES, ConvergenceWarning
from bayesprf.prf.joint.discrepancy import missed_light, ring_errors
from bayesprf.prf.joint.hyper import (
    JointHyper,
    Outliers,
    find_outliers,
    fit_errors,
    fit_noise,
    pixel_variance,
)
from bayesprf.prf.joint.pace import Pace, moved, rests
from bayesprf.prf.joint.part import brightest_part
from bayesprf.prf.joint.problem import (
    JointProblem,
    JointState,
    View,
    field_growth,
    growth,
    look,
    normalized,
    peaks,
    prf_of,
    same_image,
    shifts,
    with_far,
)
from bayesprf.prf.joint.step import (
    Posterior,
    Solution,
    find_posterior,
    objective,
    shared_gain,
    shared_step,
    solve_step,
    with_volume,
    within_walls,
)
from bayesprf.prf.joint.sums import StarSums, star_sums
from bayesprf.prf.joint.unseen import unseen_light
from bayesprf.prf.joint.widths import learn_widths
from bayesprf.scene.field_prf import FieldPrf
from bayesprf.scene.sources import SourceTable

# Accuracy: halvings of a step that makes the objective larger.
_MAX_HALVINGS = 8
# Accuracy: a rise of the objective by less than this share of its own standard deviation is none.
_SLACK = 0.1
# Accuracy: a part of an image has settled when fluxes have moved by this share of their errors: half and twice move no
# flux of docs/evidence/constants.md by more than 0.04 of its error.
_ROUGHLY = 0.5
# Accuracy: hyperparameters, and from the next step on uncatalogued stars, are learned once fluxes move by less than
# this multiple of their errors, or after that many steps: from residuals of a wrong PRF the model's error comes out so
# large that it explains them for good. Half and twice move no flux of docs/evidence/constants.md by more than 0.07 of
# its error.
_N_FIRST, _NEARLY, _N_WAIT = 2, 1.0, 12


@dataclass(frozen=True, slots=True, eq=False)
class JointOptions:
    """Settings of the iteration.

    Parameters
    ----------
    max_iter : int
        Most steps.
    tolerance : float
        The fit has settled when no flux, slope or position moves by more than this share of its error, and no
        hyperparameter by more than this share; in a large image, too, when the brightest fluxes stay within it.
    position_error : float, optional
        Standard deviation of the catalogue's positions per axis, arcsec; learned by default.
    smoothness : float, optional
        Standard deviation of the bends of the weights, dex; learned by default.
    robust : bool
        Give pixels that hold light of no catalogued star less weight.
    deciding : ndarray of bool, shape (n_pixel,), optional
        Pixels that alone may decide what all stars share; by default all may.
    quick : bool
        The surroundings of the brightest stars decide it, of an image of any size.
    """

    max_iter: int = 80
    tolerance: float = 0.05
    position_error: float | None = None
    smoothness: float | None = None
    robust: bool = True
    deciding: BoolArray | None = None
    quick: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class KnownLight:
    """Light in the pixels that was found, and what it errs by.

    Parameters
    ----------
    light : ndarray of float64, shape (n_pixel,)
        electron / s.
    errors : csr_matrix of float64, shape (n_pixel, n_error)
        Its errors, independent and of unit standard deviation, electron / s.
    """

    light: FloatArray
    errors: csr_matrix


@dataclass(frozen=True, slots=True, eq=False)
class JointFit:
    """What the joint fit found.

    Parameters
    ----------
    problem : JointProblem
        What it was given.
    state : JointState
        Parameters at the end, fluxes in units of the PRF as its columns normalise it.
    prf : FieldPrf
        The PRF.
    flux : ndarray of float64, shape (n_source,)
        Fluxes, electron / s.
    flux_err : ndarray of float64, shape (n_source,)
        Standard deviation with everything else free, electron / s.
    rings : ndarray of float64, shape (3, n_ring, n_ring)
        L with the covariances L L' of the relative errors of a star's rings as a whole, of dipoles and of ellipses.
    missed_err : float
        Relative error of all fluxes together by the light that the mean profile misses.
    unseen_err : float
        The same by light where no pixel tells of it.
    shift : ndarray of float64, shape (n_source, 2)
        Offset of each star from its catalogue position, east and north, arcsec.
    shift_err : ndarray of float64, shape (n_source, 2)
        Standard deviation of the stars' own offsets, arcsec; 0 where positions are held.
    values : ndarray of float64, shape (n_pair,)
        PRF of the pairs of `problem`, each star's of sum one, 1 / pixel.
    sums : StarSums
        Light of each star's PRF as the columns normalise it, and its gradient.
    weight : ndarray of float64, shape (n_pixel,)
        Weights of the pixels in the last step.
    hyper : JointHyper
        Hyperparameters.
    posterior : Posterior
        Covariance of all parameters.
    clean : ndarray of float64, shape (n_pixel,)
        Probability that a pixel holds no light but that of the model.
    trust : ndarray of float64, shape (n_pixel,)
        Share of its weight that each pixel keeps beside stars whose middle is left out.
    image : ndarray of float64, shape (n_pixel,)
        The model, electron / s.
    far : ndarray of float64, shape (n_pixel,)
        Light of stars beyond their pairs in it, electron / s.
    n_iter : int
        Steps taken.
    converged : bool
        Whether the test was met.
    decided : ndarray of bool, shape (n_pixel,), optional
        Pixels that decide what all stars share, if not all do.
    unlisted : csr_matrix of float64, shape (n_pixel, n_error), optional
        What errs, in standard deviations, of the light of stars that the catalogue lacks, in `problem.known`.
    found : SourceTable, optional
        These stars, their fluxes in electron / s.
    hidden : ndarray of float64, shape (n_source,), optional
        Light of stars like these that none would find beside brighter ones, root mean square, electron / s.
    extended : KnownLight, optional
        Light of no star and no sky, in `problem.known` and `unlisted` too.
    smooth : JointFit, optional
        The fit that this one began from, in which the PRF deviates smoothly from one known beforehand.
    """

    problem: JointProblem
    state: JointState
    prf: FieldPrf
    flux: FloatArray
    flux_err: FloatArray
    rings: FloatArray
    missed_err: float
    unseen_err: float
    shift: FloatArray
    shift_err: FloatArray
    values: FloatArray
    sums: StarSums
    weight: FloatArray
    hyper: JointHyper
    posterior: Posterior
    clean: FloatArray
    trust: FloatArray
    image: FloatArray
    far: FloatArray
    n_iter: int
    converged: bool
    decided: BoolArray | None = None
    unlisted: csr_matrix | None = None
    found: SourceTable | None = None
    hidden: FloatArray | None = None
    extended: KnownLight | None = None
    smooth: "JointFit | None" = None

    @property
    def star_sum(self) -> FloatArray:
        """Sum over the pixels of the PRF of area one at each star's own place, shape (n_source,)."""
        places = np.zeros((1, 2)) if self.problem.n_field == 1 else self.problem.place
        return self.sums.total / np.array([self.prf.at(one).area() for one in places])

    @property
    def star_errors(self) -> FloatArray:
        """Relative error of the model at the peak of each star, shape (n_source,)."""
        return self.hyper.star_errors(field_growth(self.problem))

    @property
    def n_decided(self) -> float:
        """Number of weights that the pixels decide, tr(1 - posterior / prior covariance); NaN without a given prior."""
        prior, n_basis = self.problem.prior, self.problem.basis.n_basis
        if prior.weights_factor is None:
            return float(np.nan)
        expected = prior.weights_factor @ prior.weights_factor.T + prior.weights_sigma**2 * np.eye(n_basis)
        factor = self.posterior.global_factor[:n_basis]
        return n_basis - float(np.trace(np.linalg.solve(expected, factor @ factor.T)))


@dataclass(frozen=True, slots=True, eq=False)
class _Iteration:
    """Where the steps led, and the view there."""

    problem: JointProblem
    state: JointState
    view: View
    hyper: JointHyper
    outliers: Outliers
    n_iter: int
    converged: bool
    moved: float


def fit_joint(
    problem: JointProblem, state: JointState, hyper: JointHyper, options: JointOptions, *, near: bool = False
) -> JointFit:
    """Maximise the log posterior by Gauss-Newton, and learn the hyperparameters; from a state that is `near` at once.

    Notes
    -----
    A large image starts from the PRF of its brightest stars' surroundings; in one whose steps take longer than a
    second, and where the options ask for it, that PRF, with its sky and widths, is held, and the stars follow.

    Warns
    -----
    ConvergenceWarning
        If fluxes, slope, positions or hyperparameters still move at the last step.
    """
    state, warm, held = normalized(problem, state), near, None
    part = brightest_part(problem, state, deciding=options.deciding, quick=options.quick)
    part = None if near and part is not None and not part.decides else part
    if part is not None:
        tolerance = options.tolerance if part.decides else _ROUGHLY
        first = _iterate(part.problem, state, hyper, replace(options, tolerance=tolerance), warm=near, large=True)
        warm = first.converged
        if warm or part.decides:
            state, hyper = part.whole_state(state, first.state), first.hyper
        if part.decides:
            held = _posterior_of(first)
    if held is None:
        found = _iterate(problem, state, hyper, options, warm=warm, large=part is not None)
    else:
        found = _follow(problem, state, hyper, options)
        found = replace(found, converged=found.converged and warm)
    if not found.converged:
        warnings.warn(
            f"fit_joint: expected steps below {options.tolerance} of the errors within max_iter = {options.max_iter}"
            f" iterations, got {found.moved:.3g}; check the catalogue, or raise max_iter",
            ConvergenceWarning,
            skip_file_prefixes=PACKAGE_FILES,
        )
    if held is None or part is None:
        return _finish(found, _posterior_of(found))
    posterior = _posterior_of(found, held.global_factor)
    # Stars take from all pixels, what they share from those that decide it.
    posterior.leverage[part.pixels] = held.leverage
    return replace(_finish(found, posterior, decided=True), decided=part.pixels)


def next_step(
    problem: JointProblem, state: JointState, hyper: JointHyper, *, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the next step of what all stars share at given weights of the pixels, and L with its covariance L L'."""
    state, error = normalized(problem, state), _typical_error(problem)
    return shared_step(problem, state, look(problem, state), hyper, weight=weight, error=error)


def last_gain(problem: JointProblem, state: JointState, hyper: JointHyper, *, weight: FloatArray, n: int) -> FloatArray:
    """Return how the last n of the parameters that all stars share answer to the pixels, shape (n, n_pixel)."""
    state, error = normalized(problem, state), _typical_error(problem)
    return shared_gain(problem, state, look(problem, state), hyper, weight=weight, error=error, n=n)


def refit(problem: JointProblem, state: JointState, hyper: JointHyper) -> tuple[JointState, FloatArray]:
    """Return where steps from a state that is near lead, and L with the covariance L L' of what all stars share."""
    found = _iterate(problem, normalized(problem, state), hyper, JointOptions(tolerance=_ROUGHLY), warm=True)
    return found.state, _posterior_of(found).global_factor


def _iterate(
    problem: JointProblem,
    state: JointState,
    hyper: JointHyper,
    options: JointOptions,
    *,
    warm: bool = False,
    large: bool = False,
) -> _Iteration:
    """Take steps until nothing moves; from a `warm` start, hyperparameters are learned from the first step on.

    Light far from the stars is moved along its derivatives while a step is tried, and evaluated anew at its end. Until
    it is looked for, light of unlisted stars passes for errors of the model: these begin anew then.

    In a `large` image steps cost the most, and many faint stars, or wings of which no light tells, go to and fro for
    ever: steps are damped, and stars that turn back slowed down. After `_N_WAIT` steps in which pixels are judged less
    and less of every update of the hyperparameters is taken, 1 / (n + 1) of the n-th, as in stochastic approximation
    (Delyon, Lavielle & Moulines 1999, Ann. Statist. 27, 94); the fit has settled too when the brightest fluxes have.
    """
    view = look(problem, state)
    learning, robust, converged, count, n_robust, motion = warm, False, False, 0, 0, np.inf
    outliers, pace = Outliers.none(problem.flux.size), Pace.full(problem.n_source)
    error, older, crawling, expected = _typical_error(problem), hyper, False, hyper.errors
    past: list[tuple[FloatArray, float]] = []
    for count in range(1, options.max_iter + 1):
        problem, before, old = problem.bounded(view.image), state, hyper
        late = max(n_robust - _N_WAIT, 0) if large else 0
        weight, target = _weigh(problem, state, view, hyper, outliers)
        aimed = replace(problem, flux=target)
        # Nothing is learned from the first steps.
        steep = not learning and count <= _N_FIRST
        found = solve_step(aimed, state, view, hyper, weight=weight, error=error, steep=steep, damped=large)
        pace = pace.after(found, judged=robust and large)
        solution = pace.cut(problem, found)
        raw, seen = _advance(aimed, state, view, solution, hyper=hyper, weight=weight, error=error)
        state = normalized(problem, raw)
        # A step that only made things worse, and was not taken, settles nothing.
        motion = np.inf if steep or raw is before else moved(problem, before, state, solution)
        view = with_far(problem, state, same_image(problem, seen, raw, state))
        problem = with_volume(problem, state, view.image, weight=weight, leverage=found.shape_leverage)
        robust = robust or (options.robust and learning and motion < _NEARLY)
        learning = learning or (count > _N_FIRST and (motion < _NEARLY or count > _N_WAIT))
        if learning:
            wider = _learn_widths(problem, state, solution, hyper, options, crawling=crawling)
            crawling = crawling or _turns_back(wider.position, hyper.position, older.position)
            hyper = _learn_errors(problem, state, view, wider, leverage=solution.leverage, outliers=outliers)
        if robust:
            n_robust += 1
            hyper = hyper if n_robust > 1 else hyper.with_errors(np.minimum(hyper.errors, expected))
            hyper, outliers = _find_outliers(problem, state, view, hyper, leverage=solution.leverage)
        wished, older = _half_way_back(hyper, old, older), old
        hyper = wished.on_the_way(old, 1.0 / (late + 1)) if late else wished
        state, view = _inside(problem, state, view, hyper)
        told = state.flux, float(np.log(wished.eps / old.eps))
        past, pace = ([], pace.refused()) if raw is before else ([*past, told], pace)
        resting = large and rests(past, solution, options.tolerance)
        still = resting or max(motion, wished.distance(old)) < options.tolerance
        converged = learning and still and (n_robust > 1 or not options.robust)
        if converged:
            break
    # A bound that the fit has come to rest on tells that a flux is no lower, and nothing of how far it is above.
    return _Iteration(problem.unbounded(), state, view, hyper, outliers, count, converged, motion)


def _inside(problem: JointProblem, state: JointState, view: View, hyper: JointHyper) -> tuple[JointState, View]:
    """Return the state with no star farther from its place than it may be, and the view there."""
    near = within_walls(problem, state, hyper)
    return (state, view) if near is state else (near, look(problem, near))


def _follow(problem: JointProblem, state: JointState, hyper: JointHyper, options: JointOptions) -> _Iteration:
    """Let the stars follow what all share, which is held, and so are the hyperparameters.

    The second step corrects what the first one bends: from then on pixels are judged, and light far from the stars is
    evaluated anew. A step that leaves all as it is ends the fit. A star that turns back goes half as far from then on;
    after `_N_WAIT` steps pixels are judged no more: weights that follow the model may lead to and fro for ever.
    """
    view, error = look(problem, state, alone=True), _typical_error(problem)
    outliers, motion, known = Outliers.none(problem.flux.size), np.inf, False
    weight, target = _weigh(problem, state, view, hyper, outliers)
    pace = Pace.full(problem.n_source)
    for count in range(1, options.max_iter + 1):
        judged = count <= _N_WAIT
        weight, target = _weigh(problem, state, view, hyper, outliers) if judged else (weight, target)
        aimed, before = replace(problem, flux=target), state
        found = solve_step(aimed, state, view, hyper, weight=weight, error=error, alone=True)
        pace = pace.after(found, judged=True)
        solution = pace.cut(problem, found)
        state, view = _advance(aimed, state, view, solution, hyper=hyper, weight=weight, error=error)
        motion = np.inf if state is before else moved(problem, before, state, solution)
        if known and motion < options.tolerance:
            return _Iteration(problem, state, view, hyper, outliers, count, True, motion)
        if count > 1:
            view = view if known else with_far(problem, state, view)
            outliers = _judge_pixels(problem, state, view, hyper) if options.robust and judged else outliers
            known = True
    return _Iteration(
        problem,
        state,
        view if known else with_far(problem, state, view),
        hyper,
        outliers,
        options.max_iter,
        False,
        motion,
    )


def _judge_pixels(problem: JointProblem, state: JointState, view: View, hyper: JointHyper) -> Outliers:
    """Find the light of uncatalogued stars with hyperparameters that are known."""
    used, ivar = problem.used, problem.ivar[problem.used]
    variance = pixel_variance(ivar, growth(problem, state, view)[used], hyper.errors)
    return find_outliers((problem.flux - view.image)[used], variance, 1.0 / ivar, hyper).spread(used)


def _turns_back(now: float, before: float, last: float) -> bool:
    """Whether an update of a width undoes the one before."""
    return bool(np.log(now / before) * np.log(before / last) < 0.0)


def _half_way_back(hyper: JointHyper, old: JointHyper, older: JointHyper) -> JointHyper:
    """Take half of an update that undoes the one before: relative errors, or a width of positions, would go on so."""
    now, before, last = (np.append(one.errors, one.position) for one in (hyper, old, older))
    back = np.log(now / before) * np.log(before / last) < 0.0
    found = np.where(back, np.sqrt(now * before), now)
    return replace(hyper.with_errors(found[:-1]), position=float(found[-1]))


def _weigh(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, outliers: Outliers
) -> tuple[FloatArray, FloatArray]:
    """Return the weight of each pixel, and the data of a least-squares step that climbs the mixture's likelihood."""
    used = problem.used
    variance = pixel_variance(problem.ivar, growth(problem, state, view), hyper.errors)
    weight = np.where(
        used, outliers.clean / variance + (1.0 - outliers.clean) / (variance + hyper.outlier_sigma**2), 0.0
    )
    residual = np.where(used, problem.flux - view.image, 0.0)
    score = (residual - (1.0 - outliers.clean) * outliers.light) / np.where(used, variance, 1.0)
    return weight, view.image + np.divide(score, weight, out=np.zeros_like(score), where=weight > 0)


def _typical_error(problem: JointProblem) -> float:
    used = problem.ivar[problem.used]
    return float(np.median(used)) ** -0.5 if used.size else 1.0


def _advance(
    problem: JointProblem,
    state: JointState,
    view: View,
    solution: Solution,
    *,
    hyper: JointHyper,
    weight: FloatArray,
    error: float,
) -> tuple[JointState, View]:
    """Take the step, shortened until the objective falls; far light is moved along its derivatives.

    Where pixels in which a star has no columns of its own have no part in its step, but in the objective, this may rise
    by a share of its own noise.
    """
    share = 1.0
    now = objective(problem, state, view.image, hyper, weight=weight, error=error)
    slack = _SLACK * np.sqrt(0.5 * np.count_nonzero(weight)) if problem.layout.rough else 1e-6 * max(abs(now), 1.0)
    for _ in range(_MAX_HALVINGS):
        trial = within_walls(problem, state.moved(share * solution.common, share * solution.own), hyper)
        seen = look(problem, trial, near=view)
        then = objective(problem, trial, seen.image, hyper, weight=weight, error=error)
        if np.isfinite(then) and then <= now + slack:
            return trial, seen
        share *= 0.5
    return state, view


def _learn_widths(
    problem: JointProblem,
    state: JointState,
    solution: Solution,
    hyper: JointHyper,
    options: JointOptions,
    *,
    crawling: bool,
) -> JointHyper:
    """Learn the widths of the priors, but for those that are given."""
    given = {"position_error": options.position_error, "smoothness": options.smoothness}
    return learn_widths(problem, state, solution, hyper, **given, crawling=crawling)


def _learn_errors(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, *, leverage: FloatArray, outliers: Outliers
) -> JointHyper:
    """Learn the relative errors of the model."""
    residual = np.where(problem.used, problem.flux - view.image, 0.0)
    grown = growth(problem, state, view)
    return hyper.with_errors(
        fit_errors(residual, problem.ivar, grown, leverage=leverage, share=outliers.clean, errors=hyper.errors)
    )


def _find_outliers(
    problem: JointProblem, state: JointState, view: View, hyper: JointHyper, *, leverage: FloatArray
) -> tuple[JointHyper, Outliers]:
    """Learn errors of the model and light of uncatalogued stars together."""
    used, grown = problem.used, growth(problem, state, view)
    residual, ivar = (problem.flux - view.image)[used], problem.ivar[used]
    hyper = fit_noise(residual, ivar, grown[used], leverage=leverage[used], hyper=hyper)
    variance = pixel_variance(ivar, grown[used], hyper.errors)
    return hyper, find_outliers(residual, variance, 1.0 / ivar, hyper).spread(used)


def _posterior_of(found: _Iteration, held: FloatArray | None = None) -> Posterior:
    """Return the covariance of all parameters; L with that of the global ones may be `held`."""
    problem, state, view = found.problem, found.state, found.view
    weight, error = _weigh(problem, state, view, found.hyper, found.outliers)[0], _typical_error(problem)
    return find_posterior(problem, state, view, found.hyper, weight=weight, error=error, held=held)


def _finish(found: _Iteration, posterior: Posterior, *, decided: bool = False) -> JointFit:
    """Return what was found, with its errors."""
    problem, state, view, hyper, outliers = found.problem, found.state, found.view, found.hyper, found.outliers
    weight, target = _weigh(problem, state, view, hyper, outliers)
    aimed = replace(problem, flux=target)
    missed, missed_std = missed_light(aimed, state, view, weight=weight)
    sums = star_sums(problem, state)
    unseen = unseen_light(aimed, state, view, hyper, posterior, weight=weight, decided=decided)
    sums = replace(sums, total=sums.total * (1.0 + missed - unseen.absent), gradient=sums.gradient - unseen.gradient)
    flux = state.flux * sums.total
    # What the model of a star's pixels errs by adds up to nothing.
    conserved = hyper.star_errors(field_growth(problem)) ** 2 * np.maximum(flux, 0.0) * peaks(problem, state)
    own = np.maximum(posterior.own_blocks[:, 0, 0] * sums.total**2 - conserved, 0.0)
    response = flux[:, None] * sums.gradient - sums.total[:, None] * posterior.response[:: problem.n_own]
    response = np.concatenate([response @ posterior.global_factor, flux[:, None] * missed_std], axis=1)
    rings, ring_std = ring_errors(aimed, state, view, posterior, weight=weight, sums=sums, hyper=hyper)
    return JointFit(
        problem=problem,
        state=state,
        prf=prf_of(problem, state),
        flux=flux,
        flux_err=np.sqrt(own + np.einsum("sg,sg->s", response, response) + ring_std**2),
        rings=rings,
        missed_err=missed_std,
        unseen_err=unseen.std,
        shift=shifts(problem, state),
        shift_err=_shift_errors(problem, posterior),
        values=view.values / sums.total[problem.pairs.source],
        sums=sums,
        weight=weight,
        hyper=hyper,
        posterior=posterior,
        clean=outliers.clean,
        trust=_trust(problem, state, view, hyper),
        image=view.image,
        far=view.far[:, 0],
        n_iter=found.n_iter,
        # Light of which nothing but an error is known, and more of it than a star has, is no PRF to rest on.
        converged=found.converged and bool(np.all(sums.total > 0.0)),
    )


def _trust(problem: JointProblem, state: JointState, view: View, hyper: JointHyper) -> FloatArray:
    """Return the share of its weight that each pixel keeps beside stars whose middle is left out, shape (n_pixel,).

    Of saturated stars pixels tell the wings alone, whose errors exceed the noise farther out than those of any other.
    """
    pairs, side = problem.pairs, float(np.sqrt(problem.pixel_area))
    core = ~problem.used[pairs.pixel] & (pairs.r < np.sqrt(0.5) * side)
    masked = np.bincount(pairs.source[core], minlength=problem.n_source) > 0
    if not masked.any():
        return np.ones(problem.flux.size)
    alone = replace(state, flux=np.where(masked, state.flux, 0.0))
    return 1.0 / (1.0 + problem.ivar * (growth(problem, alone, view) @ replace(hyper, unlisted=0.0).errors ** 2))


def _shift_errors(problem: JointProblem, posterior: Posterior) -> FloatArray:
    if not problem.free:
        return np.zeros((problem.n_source, 2))
    return posterior.own_std.reshape(-1, 3)[:, 1:]
