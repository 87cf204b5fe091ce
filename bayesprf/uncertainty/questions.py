"""Questions to the exact posterior of the latest fluxes of a Fit: which sources, which cadences, how they covary."""

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import InputError
from bayesprf.fit_record import Fit
from bayesprf.linalg.problem import LinearProblem
from bayesprf.photometry.groups import SourceGroup, extract_group

# Cost: largest number of sources whose full covariance is built, 200 MB.
_MAX_DENSE = 5000


def flux_covariance(fit: Fit, sources: object, cadence: int) -> FloatArray:
    """Return the posterior covariance of fluxes at one cadence, (electron / s)**2, in the order of the sources."""
    chosen = fit.sources.indices(sources)
    if chosen.size > _MAX_DENSE:
        raise InputError(
            f"sources: expected at most {_MAX_DENSE}, whose full covariance fits into memory, got {chosen.size};"
            " name those you need, or take the pairs in the group /covariance of to_datatree()"
        )
    return fit.latest_flux.posterior.covariance(int(fit.pixels.cadences(cadence)[0]), chosen)


def select_group(
    fit: Fit, sources: object, cadences: object = None, problem: LinearProblem | None = None
) -> tuple[SourceGroup, IntArray]:
    """Return the group of some sources in a problem, by default the latest, and their indices in it."""
    chosen, whole = fit.sources.indices(sources), fit.latest_flux.problem if problem is None else problem
    group = extract_group(whole, chosen, fit.pixels.cadences(cadences))
    return group, np.searchsorted(group.source, chosen)
