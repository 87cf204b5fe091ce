"""The part of a Machine that weighs hypotheses: one star or two, and which star it is that dims."""

from dataclasses import replace
from typing import Any

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_positive
from bayesprf.errors import InputError
from bayesprf.hypotheses.event_depth import EventDepth, carry_flux_error, fit_dip, without_prior
from bayesprf.hypotheses.event_host import (
    EventHost,
    event_evidence,
    event_length,
    flux_series,
    host_probabilities,
)
from bayesprf.hypotheses.second_star import BlendTest, second_star
from bayesprf.inference import as_template
from bayesprf.photometry.groups import SourceGroup, component_labels, extract_pixels
from bayesprf.prf.positions import place_width
from bayesprf.scene.pairs import offsets
from bayesprf.total_errors import MachineErrors, mean_over_time
from bayesprf.uncertainty.model_errors import model_errors

# Knots of a star's own slow changes are this many event lengths apart, and no closer than this, day.
_BASELINE_LENGTHS, _BASELINE_DAYS = 6.0, 0.5
_DEPTH_SIGMA = 0.3


class MachineHypotheses(MachineErrors):
    """Hypotheses about the scene, weighed by their exact evidence."""

    def blend_test(
        self,
        source: Any,
        position: tuple[float, float],
        *,
        prior_sigma: float | None = None,
        prior_odds: float = 1.0,
        prf_errors: bool = True,
        cadences: Any = None,
    ) -> BlendTest:
        """Weigh the hypothesis that a further star of constant flux stands at a place near a source.

        Parameters
        ----------
        source : int or str
            Index or name of the source; its pixels are looked at, with all sources that light them.
        position : tuple of float
            Right ascension and declination of the further star, degree.
        prior_sigma : float, optional
            Scale of the half-normal prior of its flux, electron / s; the flux of the source by default.
        prior_odds : float
            Prior probability of two stars over that of one.
        prf_errors : bool
            Let the model of all catalogue stars err at all cadences alike, by everything that `fit_common_errors`
            carries: the posterior of the PRF's shape, the slopes of wings, positions, second moments and the relative
            model error. Without, the PRF is taken as known exactly, and any misfit of it will be called a star.
        cadences : sequence of int or mask, optional
            Cadences to use; all by default.

        Returns
        -------
        BlendTest

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If the source does not exist, the place lies outside its pixels, or a prior is not positive.

        Notes
        -----
        Without the star: every catalogue star has a free flux at every cadence, under the prior of `fit_model`. With
        it: the same, plus PRF x g with one g > 0 for all cadences. The evidence of both is exact
        (`bayesprf.hypotheses.second_star`). The further star has the mean PRF at all cadences.

        Positions that `refine_scene` fitted to these very pixels, with one star in mind, err here as far as stars lie
        from the catalogue, not by their posterior: it may have moved a star towards its companion.
        """
        check_positive(prior_odds, "prior_odds")
        index = int(self._source_indices(source)[0])
        group = self._window(index, cadences)
        column = self._prf_at(position, group.pixel)
        if column.max() < 0.1 * self._shape.prf.peak:
            raise InputError(
                f"position: expected a place on the pixels of source {self.sources.source_id[index]},"
                f" got {position}, which none of them is near"
            )
        flux = float(np.nanmedian(self._latest_flux.flux[group.cadence, index]))
        scale = flux if prior_sigma is None else float(prior_sigma)
        check_positive(scale, "prior_sigma")
        errors = self._prf_errors(group) if prf_errors else np.empty((group.pixel.size, 0))
        log_bayes, best, error = second_star(group.problem, column, errors=errors, prior_sigma=scale)
        at = (np.array([one]) for one in (*position, self.sources.ra_deg[index], self.sources.dec_deg[index]))
        return BlendTest(
            log_bayes_factor=log_bayes,
            probability=float(np.exp(-np.logaddexp(0.0, -log_bayes - np.log(prior_odds)))),
            flux=best,
            flux_err=error,
            prior_sigma=scale,
            prior_odds=float(prior_odds),
            separation=float(np.hypot(*offsets(*at))[0]),
            n_pixel=group.pixel.size,
            n_time=group.cadence.size,
        )

    def which_source(
        self,
        event: Any,
        sources: Any = None,
        *,
        depth_sigma: float = _DEPTH_SIGMA,
        baseline: float | None = None,
        cadences: Any = None,
    ) -> EventHost:
        """Weigh which source an event, such as an eclipse, belongs to.

        Parameters
        ----------
        event : array-like of bool or float, shape (n_time,)
            Mask of the cadences in the event, or its shape from 0 (outside) to 1 (full depth).
        sources : int, str or sequence of them, optional
            Candidates; sources that share a pixel with them are candidates too. All sources by default.
        depth_sigma : float
            Scale of the prior of the depth, a Gaussian around zero cut to 0 ... 1: a star cannot lose more light than
            it has.
        baseline : float, optional
            Distance of the knots of each star's own slow changes, day; six times the event's length, and half a day
            or more, by default.
        cadences : sequence of int or mask, optional
            Cadences to use; all by default. Leave out those of other events, which the baselines cannot follow.

        Returns
        -------
        EventHost

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If the event has the wrong shape, a source does not exist, or too many sources overlap.

        Notes
        -----
        One hypothesis per candidate: its flux is its baseline minus flux x depth x template, all other stars keep
        their baselines. Baselines are splines, white scatter beyond the errors is learned per star outside the event,
        and all of this is integrated out exactly (`bayesprf.hypotheses.event_host`), with the full covariance of the
        fluxes at every cadence, so that light shared by a blend is weighed as what it is.
        """
        check_positive(depth_sigma, "depth_sigma")
        template = as_template(event, self.nt)
        rows = self._cadence_indices(cadences)
        as_template(template[rows], rows.size)
        spacing = self._baseline_spacing(template) if baseline is None else float(baseline)
        check_positive(spacing, "baseline")
        candidates = self._candidates(sources)
        label = component_labels(self._latest_flux.problem.design)[candidates]
        found = np.zeros((4, candidates.size))
        for one in np.unique(label):
            found[:, label == one] = self._weigh(candidates[label == one], template, rows, spacing, depth_sigma)
        return EventHost(tuple(self.sources.source_id[one] for one in candidates), host_probabilities(found[0]), *found)

    def event_depth(
        self, source: Any, event: Any, *, baseline: float | None = None, cadences: Any = None
    ) -> EventDepth:
        """Measure which share of its light a source loses in an event, such as a transit.

        Parameters
        ----------
        source : int or str
            Index or name of the source.
        event : array-like of bool or float, shape (n_time,)
            Mask of the cadences in the event, or its shape from 0 (outside) to 1 (full depth).
        baseline : float, optional
            Distance of the knots of the star's own slow changes, day, infinite for a constant; six times the event's
            length, and half a day or more, by default.
        cadences : sequence of int or mask, optional
            Cadences to use; all by default. Leave out those of other events, which the baseline cannot follow.

        Returns
        -------
        EventDepth
            Depth, its standard deviation and its intervals.

        Raises
        ------
        StageError
            Before `fit_model`.
        InputError
            If the event has the wrong shape or no data, or the source does not exist or has no pixel.

        Notes
        -----
        Dip and baseline are linear in the light curve, whose errors have the fluxes of all neighbours marginalised.
        The flux of a blended star may be wrong at all cadences alike, by light of its neighbours that an error of the
        PRF, of its wing or of the positions gives to it; this error, of `fit_common_errors`, is carried into the
        depth, whose posterior is that of a ratio (`bayesprf.hypotheses.event_depth`).
        """
        template, rows = as_template(event, self.nt), self._cadence_indices(cadences)
        as_template(template[rows], rows.size)
        spacing = self._baseline_spacing(template) if baseline is None else float(baseline)
        if not spacing > 0:
            raise InputError(f"baseline: expected a number above 0, got {baseline!r}")
        index = int(self._source_indices(source)[0])
        fit = self._latest_flux
        if not np.isfinite(fit.flux[rows, index]).any():
            raise InputError(f"source: expected a source with data, got {self.sources.source_id[index]!r}")
        flux, variance = without_prior(
            fit.posterior.mean[rows, index],
            fit.posterior.std[rows, index] ** 2,
            prior_mean=float(fit.problem.prior.mean[index]),
            prior_precision=float(fit.problem.prior.precision[index]),
        )
        dip = fit_dip(self.time[rows], flux, variance, template[rows], spacing=spacing)
        return carry_flux_error(self.sources.source_id[index], dip, self._leak(index))

    def _leak(self, source: int) -> float:
        """Return the error of a source's flux by light of all other sources, at all cadences alike, electron / s."""
        flux = mean_over_time(self._latest_flux.flux)
        flux[source] = 0.0
        return float(self._carry_errors(flux, self.common_errors.widths).std[source])

    def _weigh(
        self, members: IntArray, template: FloatArray, rows: IntArray, spacing: float, depth_sigma: float
    ) -> Any:
        """Return log Bayes factor, dip, its error and the flux of overlapping candidates."""
        fit = self._latest_flux
        prior = fit.problem.prior
        series = flux_series(
            self.time[rows],
            fit.posterior.mean[np.ix_(rows, members)],
            fit.posterior.covariances(rows, members),
            prior_mean=prior.mean[members],
            prior_precision=prior.precision[members],
            common_error=self.common_errors.std[members],
            outside=template[rows] == 0,
        )
        return *event_evidence(series, template[rows], spacing=spacing, depth_sigma=depth_sigma), series.scale

    def _baseline_spacing(self, template: FloatArray) -> float:
        return max(_BASELINE_LENGTHS * event_length(self.time, template), _BASELINE_DAYS)

    def _candidates(self, sources: Any) -> IntArray:
        """Return the sources asked for and those that share a pixel with them, as far as they have pixels."""
        shared = self._latest_flux.source_design.astype(bool).astype(np.float64)
        lit = np.asarray(shared.sum(axis=0)).ravel() > 0
        asked = self._source_indices(sources)
        if not lit[asked].any():
            raise InputError("sources: expected sources with data, got none with a pixel")
        touched = np.asarray(shared[:, asked].sum(axis=1)).ravel() > 0
        return np.flatnonzero(lit & (np.asarray(shared[touched].sum(axis=0)).ravel() > 0))

    def _window(self, source: int, cadences: Any) -> SourceGroup:
        """Return the problem of the pixels that a source lights; a background, which many more tell, is known."""
        problem = self._latest_flux.without_background()
        pixels = np.flatnonzero(problem.design.matrix()[:, [source]].toarray().ravel())
        if not pixels.size:
            raise InputError(f"source: expected a source with pixels, got {self.sources.source_id[source]!r}")
        return extract_pixels(problem, pixels, self._cadence_indices(cadences))

    def _prf_at(self, position: tuple[float, float], pixel: IntArray) -> FloatArray:
        """Return the PRF of a star at a sky position in some pixels, 1 / pixel."""
        ra, dec = (np.full(pixel.size, float(one)) for one in position)
        dx, dy = offsets(self.pixels.ra_deg[pixel], self.pixels.dec_deg[pixel], ra, dec)
        shape = self._shape
        return shape.prf.evaluate(dx - shape.offset[0], dy - shape.offset[1])

    def _prf_errors(self, group: SourceGroup) -> FloatArray:
        """Return the common errors of the model in the pixels of a group, (n_pixel, n_error), electron / s."""
        flux = self._latest_flux.posterior.mean[:, : self.nsources].mean(axis=0)
        widths = self.common_errors.widths
        if widths.places is not None:
            before = np.full(self.nsources, place_width(self.positions.shift))
            widths = replace(widths, position=before, places=None)
        return model_errors(self._shape, group.pixel, flux, widths)
