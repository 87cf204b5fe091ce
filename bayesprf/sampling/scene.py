"""The non-linear model of a group of sources: fluxes times a PRF of area one, moved by small offsets."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import block_diag
from scipy.sparse import csc_matrix, csr_matrix, hstack, vstack

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.photometry.groups import SourceGroup
from bayesprf.prf.fit import PrfFit
from bayesprf.sampling.laplace import GaussianTerm, Laplace, find_mode
from bayesprf.scene.prf import LN10, area_columns, log_motion_gradients, round_coordinates
from bayesprf.uncertainty.systematics import fit_wing_error

# Rounding: least variance of a combination of shape weights, dex**2: the shape fit may hold some, as the PRF's area,
# exactly.
_LEAST_VARIANCE = 1e-10


@dataclass(frozen=True, slots=True)
class JointPriors:
    """Priors of what is common to all cadences.

    Parameters
    ----------
    position : float, optional
        Standard deviation of each source's offset per axis, arcsec; None leaves the positions fixed.
    tail : float, optional
        Standard deviation of the slope of the PRF's wing beyond rmax; by default that of its fit.
    others : float, optional
        Standard deviation of a star's own slope of the wing towards the pixels of the group; by default what differs
        from one direction to the other (`fit_wing_error`).
    shape_scale : float
        Factor on the standard deviations of `psf_w` and the slope, whose prior is their posterior from the shape fit.
    """

    position: float | None = None
    tail: float | None = None
    others: float | None = None
    shape_scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class JointScene:
    """Constants of the joint model.

    Parameters
    ----------
    group : SourceGroup
        Sources, pixels, data and flux prior; the values of its design are replaced by the non-linear PRF.
    source, pixel : ndarray of int64, shape (n_pair,)
        Source and pixel of each pair, as places in the group.
    columns : csr_matrix of float64, shape (n_pair, n_shape + n_own)
        B: columns of the basis; log10(r / rmax) beyond rmax for the slope of the wing; and what each source has of its
        own: change of log10 PRF per arcsec that it moves east and north, and log10(r / rmax) once more.
    fixed : ndarray of float64, shape (n_pair,)
        Part of log10 PRF that no parameter changes.
    factor : ndarray of float64, shape (n_time or 1, n_pair)
        PRF of each cadence over the mean PRF.
    weights, weights_cov : ndarray of float64, shape (n_shape,) and (n_shape, n_shape)
        Prior of the shape v: `psf_w`, dex, and last the slope of the wing.
    area_columns, area_weight : csr_matrix (n_node, n_shape) and ndarray (n_node,)
        Quadrature of the area before it is divided out: sum of weight 10**(columns v).
    priors : JointPriors
        Further priors, none of them left open but the position's.

    Notes
    -----
    y[t, p] = known[p] + sum_s f[t, s] 10**(B (v, own) + fixed)[p, s] factor[t] / area(v), where area(v) is one at the
    prior's mean: what the wing gains beyond the pixels, all fluxes lose equally.
    """

    group: SourceGroup
    source: IntArray
    pixel: IntArray
    columns: csr_matrix
    fixed: FloatArray
    factor: FloatArray
    weights: FloatArray
    weights_cov: FloatArray
    area_columns: csr_matrix
    area_weight: FloatArray
    priors: JointPriors

    @classmethod
    def of(cls, group: SourceGroup, shape: PrfFit, priors: JointPriors) -> "JointScene":
        """Gather the constants from a group and the shape fit."""
        design, prf = group.design, shape.prf
        pixel = np.repeat(np.arange(group.pixel.size), np.diff(design.indptr))
        source = design.indices
        dx, dy = _offsets(shape, group, source, pixel)
        r, phi = round_coordinates(dx, dy, prf.shear)
        wing = np.log10(np.maximum(r / prf.basis.rmax, 1.0))
        common = hstack([prf.basis.matrix(r, phi), wing[:, None]]).tocsr()
        weights = np.append(prf.weights, prf.wing_slope)
        tail = shape.wing_err if priors.tail is None else priors.tail
        others = fit_wing_error(shape) if priors.others is None else priors.others
        covariance = priors.shape_scale**2 * _proper(block_diag(shape.weights_cov, tail**2))
        mean_prf = prf.evaluate(dx, dy)
        values = design.parts if design.mix is None else design.mix @ design.parts
        columns_of_area, area_weight = area_columns(prf)
        own = []
        if priors.position is not None:
            own.append(_by_source(log_motion_gradients(prf, dx, dy), source, group.source.size))
        if others > 0:
            own.append(_by_source(wing[:, None], source, group.source.size))
        return cls(
            group, source, pixel, hstack([common, *own]).tocsr(), np.log10(mean_prf) - common @ weights,
            values / mean_prf, weights, covariance, columns_of_area, area_weight,
            replace(priors, tail=tail, others=others),
        )  # fmt: skip

    @property
    def n_shape(self) -> int:
        """Number of shape parameters: the weights and the slope of the wing."""
        return self.weights.size

    @property
    def n_offset(self) -> int:
        """Number of position parameters."""
        return 0 if self.priors.position is None else 2 * self.group.source.size

    @property
    def own_sigma(self) -> FloatArray:
        """Prior standard deviations of what each source has of its own: offsets (source, axis), slopes of wings."""
        offset, slope = self.priors.position, self.priors.others or 0.0
        n_slope = self.group.source.size if slope > 0 else 0
        return np.concatenate([np.full(self.n_offset, offset or 0.0), np.full(n_slope, slope)])

    @property
    def gather(self) -> csc_matrix:
        """Sum over the pairs of each pixel, shape (n_pixel, n_pair)."""
        n_pair = self.pixel.size
        return csc_matrix((np.ones(n_pair), (self.pixel, np.arange(n_pair))), shape=(self.group.pixel.size, n_pair))

    def split(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Split parameters into shape, what each source has of its own, and fluxes (n_time, n_source)."""
        first = self.columns.shape[1]
        return x[: self.n_shape], x[self.n_shape : first], x[first:].reshape(-1, self.group.source.size)

    def prior(self) -> GaussianTerm:
        """Return the Gaussian prior of all parameters."""
        flux = self.group.problem.prior
        n_time = self.group.problem.n_batch
        nb, own = self.n_shape, self.own_sigma
        n = nb + own.size + n_time * flux.mean.size
        mean = np.concatenate([self.weights, np.zeros(own.size), np.tile(flux.mean, n_time)])
        precision = np.zeros((n, n))
        precision[:nb, :nb] = np.linalg.inv(self.weights_cov)
        rest = np.arange(nb, n)
        precision[rest, rest] = np.concatenate([own**-2.0, np.tile(flux.precision, n_time)])
        return GaussianTerm(mean, precision)

    def log_area(self, weights: FloatArray) -> tuple[float, FloatArray]:
        """Return the log of the area that is divided out, 0 at the prior's mean, and its gradient."""
        terms = self.area_weight * 10.0 ** (self.area_columns @ weights)
        return float(np.log(terms.sum())), LN10 * (self.area_columns.T @ terms) / terms.sum()

    def predict(self, x: FloatArray) -> tuple[FloatArray, csr_matrix]:
        """Return the pixels, flattened (n_time * n_pixel,), and their derivatives with all parameters."""
        weights, own, flux = self.split(x)
        log_prf = self.columns @ np.concatenate([weights, own]) + self.fixed
        log_area, area_gradient = self.log_area(weights)
        prf = 10.0**log_prf * np.exp(-log_area)
        gather, n_pair, n_source = self.gather, self.pixel.size, flux.shape[1]
        pick = csr_matrix((np.ones(n_pair), (np.arange(n_pair), self.source)), shape=(n_pair, n_source))
        shrink = csr_matrix(np.append(area_gradient, np.zeros(own.size)))
        rows, n_time = [], flux.shape[0]
        for time in range(n_time):
            one = prf * self.factor[min(time, self.factor.shape[0] - 1)]
            light = flux[time, self.source] * one
            common = (
                gather @ self.columns.multiply((LN10 * light)[:, None]) - csr_matrix((gather @ light)[:, None]) @ shrink
            )
            of_flux = gather @ pick.multiply(one[:, None])
            before = csr_matrix((of_flux.shape[0], time * n_source))
            after = csr_matrix((of_flux.shape[0], (n_time - time - 1) * n_source))
            rows.append((gather @ light + self.group.problem.known, hstack([common, before, of_flux, after])))
        return np.concatenate([one for one, _ in rows]), vstack([one for _, one in rows]).tocsr()

    def approximate(self, flux: FloatArray) -> Laplace:
        """Return the Laplace approximation.

        Parameters
        ----------
        flux : ndarray of float64, shape (n_time, n_source)
            Fluxes to start from, electron / s.

        Returns
        -------
        Laplace
            Parameters in the order of `split`.
        """
        problem = self.group.problem
        start = np.concatenate([self.weights, np.zeros(self.own_sigma.size), flux.ravel()])
        return find_mode(self.predict, problem.data.ravel(), problem.ivar.ravel(), self.prior(), start)


def with_misfit(group: SourceGroup, shape: PrfFit, scatter: float) -> SourceGroup:
    """Return the group with errors that hold the misfit of the PRF beside the noise.

    Parameters
    ----------
    group : SourceGroup
        The group, with the pixels' own errors.
    shape : PrfFit
        Gives the fluxes and the PRF.
    scatter : float
        Relative misfit at a star's centre, dex.

    Returns
    -------
    SourceGroup

    Notes
    -----
    sigma**2 + (ln10 scatter)**2 sum_s f_s PRF_s f_s PRF(0), as in the shape fit (`model_variance`): without it a bright
    star's pixels would hold the PRF to photon noise, which no spline follows.
    """
    problem = group.problem
    used = problem.ivar > 0
    misfit = (LN10 * scatter * misfit_template(group, shape)) ** 2
    variance = np.where(used, 1.0 / np.where(used, problem.ivar, 1.0), 1.0) + misfit
    return replace(group, problem=replace(problem, ivar=np.where(used, 1.0 / variance, 0.0)))


def misfit_template(group: SourceGroup, shape: PrfFit) -> FloatArray:
    """Return the standard deviation of a pixel per relative misfit of the PRF at a star's centre.

    Parameters
    ----------
    group : SourceGroup
        The group.
    shape : PrfFit
        Gives the fluxes and the PRF.

    Returns
    -------
    ndarray of float64, shape (n_pixel,)
        The root of sum_s f_s PRF_s f_s PRF(0), each by how much its star errs more than all, electron / s.
    """
    flux = np.maximum(np.nan_to_num(shape.flux[group.source]), 0.0)
    return np.sqrt(group.design.matrix() @ ((flux * shape.scatter_ratio[group.source]) ** 2 * shape.prf.peak))


def _by_source(values: FloatArray, source: IntArray, n_source: int) -> csr_matrix:
    """Give each source columns of its own: from (n_pair, k) to (n_pair, k n_source), source by source."""
    n_pair, k = values.shape
    column = (k * source[:, None] + np.arange(k)).ravel()
    return csr_matrix((values.ravel(), (np.repeat(np.arange(n_pair), k), column)), shape=(n_pair, k * n_source))


def _proper(covariance: FloatArray) -> FloatArray:
    """Return a covariance with an inverse."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, _LEAST_VARIANCE)) @ vectors.T


def _offsets(shape: PrfFit, group: SourceGroup, source: IntArray, pixel: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the offsets of the group's pairs, looked up in the pairs of the shape fit."""
    pairs = shape.pairs
    key = pairs.source * pairs.n_pixel + pairs.pixel
    place = np.searchsorted(key, group.source[source] * pairs.n_pixel + group.pixel[pixel])
    return pairs.dx[place], pairs.dy[place]
