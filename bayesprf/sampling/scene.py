"""The non-linear model of a group of sources: fluxes times 10**(A psf_w), moved by small offsets."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, hstack, vstack

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.models.group import SourceGroup
from bayesprf.models.prf import PrfModel, round_coordinates
from bayesprf.models.shape import ShapeFit
from bayesprf.sampling.laplace import GaussianTerm, Laplace, find_mode

LN10 = float(np.log(10.0))
# Step of the numerical derivative of log10 PRF with position, in pixels.
_STEP = 1e-3
_N_NODE, _N_ANGLE = 4, 30
# Least variance of a combination of shape weights, dex**2: the shape fit may hold some, as the PRF's area, exactly.
_LEAST_VARIANCE = 1e-10


@dataclass(frozen=True, slots=True)
class JointPriors:
    """Priors of what is common to all cadences.

    Parameters
    ----------
    position : float, optional
        Standard deviation of each source's offset per axis, arcsec; None leaves the positions fixed.
    normalisation : float
        Relative standard deviation with which the PRF's area is one.
    shape_scale : float
        Factor on the standard deviations of `psf_w`, whose prior is its posterior from the shape fit.
    """

    position: float | None = None
    normalisation: float = 0.01
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
    columns : csr_matrix of float64, shape (n_pair, n_basis)
        A.
    fixed : ndarray of float64, shape (n_pair,)
        Part of log10 PRF that `psf_w` does not change: the wing beyond rmax.
    slope : ndarray of float64, shape (n_pair, 2)
        Change of log10 PRF per arcsec that the source moves east and north.
    factor : ndarray of float64, shape (n_time or 1, n_pair)
        PRF of each cadence over the mean PRF.
    weights, weights_cov : ndarray of float64, shape (n_basis,) and (n_basis, n_basis)
        Prior of `psf_w`, dex.
    area_columns, area_weight : csr_matrix (n_node, n_basis) and ndarray (n_node,)
        Quadrature of the PRF's area: sum of weight 10**(columns psf_w).
    priors : JointPriors
        Further priors.

    Notes
    -----
    y[t, p] = known[p] + sum_s f[t, s] 10**(A psf_w + fixed + slope . offset_s)[p, s] factor[t].
    """

    group: SourceGroup
    source: IntArray
    pixel: IntArray
    columns: csr_matrix
    fixed: FloatArray
    slope: FloatArray
    factor: FloatArray
    weights: FloatArray
    weights_cov: FloatArray
    area_columns: csr_matrix
    area_weight: FloatArray
    priors: JointPriors

    @classmethod
    def of(cls, group: SourceGroup, shape: ShapeFit, priors: JointPriors) -> "JointScene":
        """Gather the constants from a group and the shape fit."""
        design, prf = group.design, shape.prf
        pixel = np.repeat(np.arange(group.pixel.size), np.diff(design.indptr))
        source = design.indices
        dx, dy = _offsets(shape, group, source, pixel)
        columns = prf.basis.matrix(*round_coordinates(dx, dy, prf.shear))
        mean_prf = prf.evaluate(dx, dy)
        values = design.parts if design.mix is None else design.mix @ design.parts
        area_columns, area_weight = _area_quadrature(prf)
        scale = _STEP * np.sqrt(prf.pixel_area)
        ahead = [prf.evaluate(dx - scale * (k == 0), dy - scale * (k == 1)) for k in (0, 1)]
        behind = [prf.evaluate(dx + scale * (k == 0), dy + scale * (k == 1)) for k in (0, 1)]
        slope = np.stack([np.log10(a / b) / (2.0 * scale) for a, b in zip(ahead, behind, strict=True)], axis=1)
        return cls(
            group, source, pixel, columns, np.log10(mean_prf) - columns @ prf.weights, slope, values / mean_prf,
            prf.weights, priors.shape_scale**2 * _proper(shape.weights_cov), area_columns, area_weight, priors,
        )  # fmt: skip

    @property
    def n_basis(self) -> int:
        """Number of shape weights."""
        return self.weights.size

    @property
    def n_offset(self) -> int:
        """Number of position parameters."""
        return 0 if self.priors.position is None else 2 * self.group.source.size

    @property
    def gather(self) -> csc_matrix:
        """Sum over the pairs of each pixel, shape (n_pixel, n_pair)."""
        n_pair = self.pixel.size
        return csc_matrix((np.ones(n_pair), (self.pixel, np.arange(n_pair))), shape=(self.group.pixel.size, n_pair))

    def split(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Split parameters into shape weights, offsets (n_source, 2) and fluxes (n_time, n_source)."""
        nb, no, n_source = self.n_basis, self.n_offset, self.group.source.size
        offset = x[nb : nb + no].reshape(-1, 2) if no else np.zeros((n_source, 2))
        return x[:nb], offset, x[nb + no :].reshape(-1, n_source)

    def prior(self) -> GaussianTerm:
        """Return the Gaussian prior of all parameters."""
        flux = self.group.problem.prior
        n_time = self.group.problem.n_batch
        nb, no = self.n_basis, self.n_offset
        n = nb + no + n_time * flux.mean.size
        mean = np.concatenate([self.weights, np.zeros(no), np.tile(flux.mean, n_time)])
        precision = np.zeros((n, n))
        precision[:nb, :nb] = np.linalg.inv(self.weights_cov)
        gradient = self.log_area(self.weights)[1]
        precision[:nb, :nb] += np.outer(gradient, gradient) / self.priors.normalisation**2
        rest = np.arange(nb, n)
        offsets = np.full(no, (self.priors.position or 1.0) ** -2.0)
        precision[rest, rest] = np.concatenate([offsets, np.tile(flux.precision, n_time)])
        return GaussianTerm(mean, precision)

    def log_area(self, weights: FloatArray) -> tuple[float, FloatArray]:
        """Return the log of the PRF's area and its gradient."""
        terms = self.area_weight * 10.0 ** (self.area_columns @ weights)
        return float(np.log(terms.sum())), LN10 * (self.area_columns.T @ terms) / terms.sum()

    def predict(self, x: FloatArray) -> tuple[FloatArray, csr_matrix]:
        """Return the pixels, flattened (n_time * n_pixel,), and their derivatives with all parameters."""
        weights, offset, flux = self.split(x)
        log_prf = self.columns @ weights + self.fixed + np.einsum("ij,ij->i", self.slope, offset[self.source])
        prf = 10.0**log_prf
        gather, n_pair, n_source = self.gather, self.pixel.size, flux.shape[1]
        pick = csr_matrix((np.ones(n_pair), (np.arange(n_pair), self.source)), shape=(n_pair, n_source))
        moves = [self._move_columns()] if self.n_offset else []
        inner = hstack([self.columns, *moves]).tocsr()
        rows, n_time = [], flux.shape[0]
        for time in range(n_time):
            one = prf * self.factor[min(time, self.factor.shape[0] - 1)]
            light = flux[time, self.source] * one
            common = gather @ inner.multiply((LN10 * light)[:, None])
            own = gather @ pick.multiply(one[:, None])
            before = csr_matrix((own.shape[0], time * n_source))
            after = csr_matrix((own.shape[0], (n_time - time - 1) * n_source))
            rows.append((gather @ light + self.group.problem.known, hstack([common, before, own, after])))
        return np.concatenate([one for one, _ in rows]), vstack([one for _, one in rows]).tocsr()

    def _move_columns(self) -> csr_matrix:
        """Return the derivative of log10 PRF of each pair with the offsets, shape (n_pair, 2 n_source)."""
        n_pair = self.pixel.size
        row = np.repeat(np.arange(n_pair), 2)
        column = (2 * self.source[:, None] + np.arange(2)).ravel()
        return csr_matrix((self.slope.ravel(), (row, column)), shape=(n_pair, self.n_offset))

    def approximate(self, flux: FloatArray) -> Laplace:
        """Return the Laplace approximation.

        Parameters
        ----------
        flux : ndarray of float64, shape (n_time, n_source)
            Fluxes to start from, electron / s.

        Returns
        -------
        Laplace
            Parameters in the order shape weights, offsets, fluxes.
        """
        problem = self.group.problem
        start = np.concatenate([self.weights, np.zeros(self.n_offset), flux.ravel()])
        return find_mode(self.predict, problem.data.ravel(), problem.ivar.ravel(), self.prior(), start)


def with_misfit(group: SourceGroup, shape: ShapeFit, scatter: float) -> SourceGroup:
    """Return the group with errors that hold the misfit of the PRF beside the noise.

    Parameters
    ----------
    group : SourceGroup
        The group, with the pixels' own errors.
    shape : ShapeFit
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


def misfit_template(group: SourceGroup, shape: ShapeFit) -> FloatArray:
    """Return the standard deviation of a pixel per relative misfit of the PRF at a star's centre.

    Parameters
    ----------
    group : SourceGroup
        The group.
    shape : ShapeFit
        Gives the fluxes and the PRF.

    Returns
    -------
    ndarray of float64, shape (n_pixel,)
        The root of sum_s f_s PRF_s f_s PRF(0), electron / s.
    """
    flux = np.maximum(np.nan_to_num(shape.flux[group.source]), 0.0)
    return np.sqrt(group.design.matrix() @ (flux**2 * shape.prf.peak))


def _proper(covariance: FloatArray) -> FloatArray:
    """Return a covariance with an inverse."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, _LEAST_VARIANCE)) @ vectors.T


def _offsets(shape: ShapeFit, group: SourceGroup, source: IntArray, pixel: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the offsets of the group's pairs, looked up in the pairs of the shape fit."""
    pairs = shape.pairs
    key = pairs.source * pairs.n_pixel + pairs.pixel
    place = np.searchsorted(key, group.source[source] * pairs.n_pixel + group.pixel[pixel])
    return pairs.dx[place], pairs.dy[place]


def _area_quadrature(prf: PrfModel) -> tuple[csr_matrix, FloatArray]:
    """Return columns and weights with which the area is sum of weight 10**(columns psf_w)."""
    nodes, node_weights = np.polynomial.legendre.leggauss(_N_NODE)
    bounds = np.unique(prf.basis.knots)
    half = 0.5 * np.diff(bounds)
    radius = (0.5 * (bounds[1:] + bounds[:-1])[:, None] + half[:, None] * nodes).ravel()
    ring = (half[:, None] * node_weights).ravel() * radius
    radius = np.append(radius, prf.basis.rmax)
    ring = np.append(ring, prf.basis.rmax**2 / (-prf.tail_slope - 2.0))
    phi = np.linspace(0.0, 2.0 * np.pi, _N_ANGLE, endpoint=False)
    columns = prf.basis.matrix(np.repeat(radius, _N_ANGLE), np.tile(phi, radius.size))
    return columns, 2.0 * np.pi / prf.pixel_area / _N_ANGLE * np.repeat(ring, _N_ANGLE)
