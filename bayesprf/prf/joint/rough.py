"""A PRF that deviates from one known beforehand as roughly as real ones do, after one that deviates smoothly."""

import warnings
from dataclasses import replace

from bayesprf.errors import ConvergenceWarning
from bayesprf.prf.joint.objective import JointFit, JointOptions, fit_joint
from bayesprf.prf.joint.problem import JointProblem


def fit_rough(fit: JointFit, options: JointOptions) -> JointFit:
    """Let the PRF deviate as roughly as real ones do from what is known of it beforehand, if it is smooth so far.

    A rough PRF of few stars follows a companion that the catalogue lacks: these are looked for before. Where it does
    not settle, its errors are those about the smooth one.
    """
    if fit.problem.prior.rough_factor is None:
        return fit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = fit_joint(_roughened(fit.problem), fit.state, fit.hyper, options, near=True)
    found = found if found.converged else with_rough_errors(fit, options)
    return replace(found, unlisted=fit.unlisted, found=fit.found, hidden=fit.hidden, extended=fit.extended, smooth=fit)


def with_rough_errors(fit: JointFit, options: JointOptions) -> JointFit:
    """Return a smooth fit as it is, with the errors of a PRF that deviates as roughly as real ones do."""
    if fit.problem.prior.rough_factor is None:
        return fit
    none = replace(options, max_iter=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        about = fit_joint(_roughened(fit.problem), fit.state, fit.hyper, none, near=True)
    return replace(about, converged=fit.converged)


def _roughened(problem: JointProblem) -> JointProblem:
    prior = problem.prior
    return replace(problem, prior=replace(prior, weights_factor=prior.rough_factor, rough_factor=None))
