"""The part of a Machine that answers questions about its posterior: covariances, draws, comparisons."""

from typing import Any

import numpy as np

from bayesprf.apertures import MachineApertures
from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import InputError, UnsupportedError
from bayesprf.hypotheses.scores import ModelScore, data_digest, score_model
from bayesprf.linalg.problem import LinearProblem
from bayesprf.photometry.groups import SourceGroup, extract_group

# Largest number of sources whose full covariance is built, 200 MB.
_MAX_DENSE = 5000
# How far rounding may carry a template out of 0 ... 1.
_ROUNDING = 1e-9


class MachineInference(MachineApertures):
    """Questions to the exact posterior of a Machine's fluxes."""

    def covariance(self, sources: Any = None, cadence: int = 0) -> FloatArray:
        """Return the posterior covariance of fluxes at one cadence.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Index or name of each source, in the order of the answer; all by default.
        cadence : int
            Index of the cadence.

        Returns
        -------
        ndarray of float64, shape (n_chosen, n_chosen)
            (electron / s)**2; zero between sources that do not overlap, directly or through others.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source or the cadence does not exist, or more than 5000 sources are asked for.
        """
        chosen = self._source_indices(sources)
        if chosen.size > _MAX_DENSE:
            raise InputError(
                f"sources: expected at most {_MAX_DENSE}, whose full covariance fits into memory, got {chosen.size};"
                " name those you need, or take the pairs in the group /covariance of to_datatree()"
            )
        return self._latest_flux.posterior.covariance(int(self._cadence_indices(cadence)[0]), chosen)

    def posterior(
        self,
        sources: Any = None,
        cadences: Any = None,
        draws: int = 1000,
        random_seed: Any = None,
        *,
        max_pointwise: int = 4_000_000,
    ) -> Any:
        """Draw fluxes from their exact joint posterior, as an ArviZ DataTree.

        Parameters
        ----------
        sources : int, str or sequence of them, optional
            Index or name of each source; all by default.
        cadences : int, sequence of int or mask, optional
            Cadences; all by default. A single number leaves the axis of time away.
        draws : int
            Number of independent draws in all, a multiple of 4: they come as four chains.
        random_seed : int, sequence of int or numpy.random.Generator, optional
            The same seed gives the same draws.
        max_pointwise : int
            `log_likelihood`, `posterior_predictive`, `prior` and `log_prior` are left out if draws x cadences x
            pixels exceeds this (4 million numbers are 32 MB); exact leave-one-out densities if cadences x pixels does.

        Returns
        -------
        xarray.DataTree
            The layout of `bayesprf.results.posterior`, the same as that of a sampler. Sources that overlap with those
            asked for are marginalised in the fluxes; the pixels and their likelihood are those of the whole group,
            whose further members the attribute `overlapping_sources` names. Where pixels drop out of some cadences,
            `y` has one axis of observations. ArviZ's plot_ppc_pit and plot_ppc_interval take a single cadence.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If a source or cadence does not exist, no pixel belongs to the sources, or `draws` is no multiple of 4.
        """
        from bayesprf.results.exact import DrawOptions, exact_tree, group_data

        options = DrawOptions(int(draws), int(max_pointwise))
        group, members = self._group(sources, cadences)
        time: Any = self.time[group.cadence]
        time = float(time[0]) if np.ndim(cadences) == 0 and cadences is not None else time
        places = np.stack([self.pixels.row[group.pixel], self.pixels.column[group.pixel]], axis=1)
        data = group_data(group, members, self._coefficient_names, time, places=places)
        return exact_tree(group, data, members, np.random.default_rng(random_seed), options=options)

    def loo(self) -> ModelScore:
        """Score the fluxes' model by its evidence and by exact leave-one-pixel-out densities.

        Returns
        -------
        ModelScore
            Kept until the fluxes are fitted anew; `bayesprf.compare` puts several side by side, and `to_datatree`
            writes it into the tree.

        Raises
        ------
        StageError
            Before `fit_model`.
        UnsupportedError
            After a robust fit, whose weights were chosen by looking at the data.
        """
        score: ModelScore | None = self._stages.get("score")
        if score is None:
            fit = self._latest_flux
            if fit.down_weighted is not None:
                raise UnsupportedError("loo: expected a plain fit, got a robust one; call fit_model() without robust")
            score = score_model(fit.problem, fit.posterior)
            self._stages.keep("score", score)
        return score

    def _score(self) -> ModelScore:
        """Return the score as far as it is known: without leave-one-out before `loo`."""
        score: ModelScore | None = self._stages.get("score")
        fit = self._latest_flux
        unknown = np.full(self.nt, np.nan), np.full(self.npixels, np.nan)
        return score or ModelScore(fit.log_evidence, *unknown, data_digest(fit.problem))

    def _group(
        self, sources: Any, cadences: Any = None, problem: LinearProblem | None = None
    ) -> tuple[SourceGroup, IntArray]:
        """Return the group of some sources in a problem, by default the latest, and their places in it."""
        chosen, whole = self._source_indices(sources), self._latest_flux.problem if problem is None else problem
        group = extract_group(whole, chosen, self._cadence_indices(cadences))
        return group, np.searchsorted(group.source, chosen)

    def _source_indices(self, sources: Any) -> IntArray:
        """Return indices of sources given by index or name; all for None."""
        if sources is None:
            return np.arange(self.nsources)
        given = [sources] if isinstance(sources, str) or np.ndim(sources) == 0 else list(sources)
        return np.array([self._source_index(one) for one in given], np.int64)

    def _source_index(self, source: Any) -> int:
        if isinstance(source, str):
            if source not in self.sources.source_id:
                raise InputError(f"sources: expected names of the catalogue, got {source!r}")
            return self.sources.source_id.index(source)
        if not isinstance(source, int | np.integer) or not -self.nsources <= source < self.nsources:
            raise InputError(f"sources: expected names, or whole numbers from 0 to {self.nsources - 1}, got {source!r}")
        return int(source) % self.nsources

    def _cadence_indices(self, cadences: Any) -> IntArray:
        """Return indices of cadences given by index or mask; all for None."""
        if cadences is None:
            return np.arange(self.nt)
        given = np.atleast_1d(np.asarray(cadences))
        if given.dtype == bool and given.shape == (self.nt,):
            given = np.flatnonzero(given)
        whole = np.issubdtype(given.dtype, np.integer) and given.ndim == 1 and given.size > 0
        if not whole or np.any((given < -self.nt) | (given >= self.nt)):
            raise InputError(f"cadences: expected whole numbers from 0 to {self.nt - 1} or a mask, got {cadences!r}")
        return given.astype(np.int64) % self.nt


def as_template(event: Any, n_time: int) -> FloatArray:
    """Return the shape of an event in time as numbers from 0 (outside) to 1 (full depth).

    Parameters
    ----------
    event : array-like of bool or float, shape (n_time,)
        Mask of the cadences in the event, or its shape.
    n_time : int
        Number of cadences.

    Returns
    -------
    ndarray of float64, shape (n_time,)

    Raises
    ------
    InputError
        If it has another shape, leaves 0 to 1, or is the same everywhere.
    """
    template = np.asarray(event, np.float64)
    inside = np.all((template >= -_ROUNDING) & (template <= 1.0 + _ROUNDING))
    fits = template.shape == (n_time,) and inside and np.ptp(template) > 0
    if not fits:
        raise InputError(
            f"event: expected a mask or {n_time} numbers from 0 (outside) to 1 (full depth), not all the same,"
            f" got shape {template.shape}"
        )
    return np.clip(template, 0.0, 1.0)
