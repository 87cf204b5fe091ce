"""Cadences that miss pixels: there, what each pixel usually differs from the model by no longer cancels."""

from dataclasses import replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import Solver
from bayesprf.linalg.stack import stack_of
from bayesprf.photometry.groups import SourceGroup, component_labels, extract_pixels
from bayesprf.photometry.misfit import MIN_CADENCES, UsualMisfit, find_misfit
from bayesprf.stats import median_over_time

# Accuracy: rounds at most: each leaves of the error the share of the weight that is missing. Rest, in standard
# deviations.
_N_ROUND, _SETTLED = 10, 0.03
# Derived: a pixel misses at a cadence if more than this share of the cadences have it.
_USUAL_SHARE = 0.5


def settle_gaps(problem: LinearProblem, posterior: GaussianPosterior, solver: Solver) -> GaussianPosterior:
    """Subtract from the fluxes what missing pixels let through of the misfit that is usual for the others.

    Parameters
    ----------
    problem : LinearProblem
        Batch rows are cadences in order, observations pixels; the design is a DesignStack.
    posterior : GaussianPosterior
        Its answer.
    solver : Solver
        That gave it.

    Returns
    -------
    GaussianPosterior
        With other means of the sources that miss a pixel at a cadence which most other cadences have, and of those
        that overlap with them.

    Notes
    -----
    With the misfit r of a pixel's model the fluxes err by K r, K = Lambda^-1 X' C^-1, equally at all cadences. Where
    pixels drop out, K becomes K_t, and the fluxes jump by (K_t - K) r. The usual misfit is found from residuals, in
    some rounds, as the fluxes of cadences with gaps enter them; its part K r, which is flux, is left out.
    """
    missing = _find_missing(problem)
    if problem.n_batch < MIN_CADENCES or not missing.any():
        return posterior
    group = _touched_group(problem, missing.any(axis=0))
    cadences = np.flatnonzero(missing.any(axis=1))
    mean = posterior.mean.copy()
    mean[np.ix_(cadences, group.source)] -= _let_through(
        group.problem, mean[:, group.source], posterior.std[:, group.source], cadences=cadences, solver=solver
    )
    return replace(posterior, mean=mean)


def _find_missing(problem: LinearProblem) -> BoolArray:
    """Return which lit pixels miss at a cadence that has others, shape (n_time, n_pixel)."""
    known = problem.ivar > 0
    if known.all():
        return np.zeros_like(known)
    lit = np.diff(stack_of(problem).indptr) > 0
    usual = lit & (known.sum(axis=0) > _USUAL_SHARE * problem.n_batch)
    some = known[:, usual].any(axis=1)
    return ~known & usual & some[:, None]


def _touched_group(problem: LinearProblem, missing: BoolArray) -> SourceGroup:
    """Return the problem of the sources that lie on pixels which miss somewhere, with all that overlap with them."""
    design = stack_of(problem)
    lit = np.flatnonzero(np.diff(design.indptr) > 0)
    label = component_labels(design)[design.indices[design.indptr[lit]]]
    touched = np.isin(label, label[missing[lit]])
    return extract_pixels(problem, lit[touched], np.arange(problem.n_batch))


def _let_through(
    problem: LinearProblem, first: FloatArray, error: FloatArray, *, cadences: IntArray, solver: Solver
) -> FloatArray:
    """Return what the fluxes `first` of some cadences take of the usual misfit, shape (n_cadence, n_coeff)."""
    part = problem.take(cadences)
    still = GaussianPrior(np.zeros_like(problem.prior.mean), problem.prior.precision)
    ivar = _usual_ivar(problem.ivar)
    mean, taken = first.copy(), np.zeros((cadences.size, first.shape[1]))
    for _ in range(_N_ROUND):
        usual = _without_flux(find_misfit(problem, mean), problem, ivar, still, solver)
        before = taken
        taken = solver.solve(LinearProblem(part.design, usual.at(cadences), part.ivar, still)).mean
        mean[cadences] = first[cadences] - taken
        if np.max(np.abs(taken - before) / error[cadences], initial=0.0) < _SETTLED:
            break
    return taken


def _without_flux(
    usual: UsualMisfit, problem: LinearProblem, ivar: FloatArray, prior: GaussianPrior, solver: Solver
) -> UsualMisfit:
    """Return the misfit less what fluxes fitted to all pixels would take of it."""
    rows = np.rint(usual.middle).astype(np.int64)
    design, ivar = problem.design.take(rows), np.repeat(ivar[None], rows.size, axis=0)
    flux = solver.solve(LinearProblem(design, usual.values, ivar, prior)).mean
    return replace(usual, values=usual.values - design.predict(flux))


def _usual_ivar(ivar: FloatArray) -> FloatArray:
    """Return the median inverse variance of each pixel over the cadences that have it, shape (n_pixel,)."""
    return median_over_time(np.where(ivar > 0, ivar, np.nan), empty=0.0)
