"""PyMC model of the PRF's shape alone: its weights and the width of their smoothness prior."""

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
from scipy.linalg import solve_triangular
from scipy.sparse import csc_matrix, csr_matrix, diags_array

from bayesprf.arrays import FloatArray, Tensor
from bayesprf.design.polar import PolarBasis
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.prf.fit import PrfFit
from bayesprf.prf.nominal import nominal_prf
from bayesprf.prf.star_pixels import StarPixels, gather_star_pixels
from bayesprf.sampling.coordinates import Block, add_blocks
from bayesprf.sampling.hyper import Hyperprior, add_hyperprior
from bayesprf.sampling.laplace import GaussianTerm, Laplace, find_mode
from bayesprf.scene.image import Image
from bayesprf.scene.prf import LN10, round_offsets, turned
from bayesprf.settings import ShapeOptions

DEFAULT_WIDTH = Hyperprior("log-normal", 0.5, 1.0)
# Derived: prior of each weight beside the nominal profile, dex: wide, as profiles of 1.4 to 2.2 pixels that fall by
# powers of 2.5 to 3.5 (Trujillo et al. 2001) differ from it by up to one dex within the splines.
_PRIOR_SIGMA = 1.0
# Definition: bends of the weights, dex, that have the width 1; the width is learned beside the weights.
_SMOOTHNESS = 0.2
# Derived: pixels farther from the model are left out, standard deviations: one normal number in 370 is so far off.
_OUTLIER = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class ShapePrior:
    """Prior of the weights before a pixel is seen.

    Parameters
    ----------
    weights : GaussianPrior
        Independent priors around the nominal profile, dex; flat beside a PRF known beforehand.
    rows : csr_matrix, shape (n_row, n_basis)
        Rows that measure bends of the weights, or, beside a PRF known beforehand, deviations in units of their standard
        deviations.
    expected, ivar : ndarray of float64, shape (n_row,)
        What they are expected to measure, and inverse variances.
    """

    weights: GaussianPrior
    rows: csr_matrix
    expected: FloatArray
    ivar: FloatArray

    @classmethod
    def of(cls, shape: PrfFit, smoothness: float | None) -> "ShapePrior":
        """Expect what the fit did: a smooth PRF near the nominal profile, or one near that known beforehand."""
        prior = shape.joint.problem.prior
        if prior.weights_factor is not None:
            return cls.around_known(prior.weights, prior.weights_factor, prior.weights_sigma)
        return cls.around_nominal(shape.prf.basis, shape.prf.pixel_area, smoothness or _SMOOTHNESS)

    @classmethod
    def around_nominal(cls, basis: PolarBasis, pixel_area: float, smoothness: float) -> "ShapePrior":
        """Expect the nominal profile, its curvature with standard deviation `smoothness`, dex."""
        nominal, rough = nominal_prf(basis, pixel_area).weights, basis.roughness()
        curvature = rough @ nominal
        prior = GaussianPrior.from_sigma(nominal, np.full(nominal.size, _PRIOR_SIGMA))
        return cls(prior, rough, curvature, np.full(curvature.size, smoothness**-2.0))

    @classmethod
    def around_known(cls, mean: FloatArray, factor: FloatArray, sigma: float) -> "ShapePrior":
        """Expect deviations from a PRF known beforehand of covariance L L' + sigma**2, as the joint fit does."""
        covariance = factor @ factor.T + sigma**2 * np.eye(mean.size)
        rows = solve_triangular(np.linalg.cholesky(covariance), np.eye(mean.size), lower=True)
        return cls(GaussianPrior(mean, np.zeros(mean.size)), csr_matrix(rows), rows @ mean, np.ones(mean.size))

    @property
    def precisions(self) -> tuple[FloatArray, FloatArray]:
        """Precision matrices of the rows, at width one, and of the independent priors, shape (n_basis, n_basis)."""
        rows = (self.rows.T @ self.rows.multiply(self.ivar[:, None])).toarray()
        return rows, np.diag(self.weights.precision)

    @property
    def towards(self) -> tuple[FloatArray, FloatArray]:
        """Precision times mean of both, shape (n_basis,)."""
        return self.rows.T @ (self.ivar * self.expected), self.weights.precision * self.weights.mean


@dataclass(frozen=True, slots=True, eq=False)
class ShapeScene:
    """Constants of the shape model.

    Parameters
    ----------
    training : StarPixels
        Pixels lit by one star.
    std : ndarray of float64, shape (n,)
        Their standard deviation about the model, electron / s.
    scale : ndarray of float64, shape (n,)
        What no weight changes: the flux of the star, electron / s, times the PRF known beforehand if there is one, and
        by its own place in field and pixel.
    columns : csr_matrix
        A, shape (n, n_basis).
    prior : ShapePrior
        Prior of the closed form.
    """

    training: StarPixels
    std: FloatArray
    scale: FloatArray
    columns: csr_matrix
    prior: ShapePrior

    @classmethod
    def of(cls, shape: PrfFit, image: Image, options: ShapeOptions | None = None) -> "ShapeScene":
        """Gather the pixels that a PRF was trained on, without outliers."""
        options = options or ShapeOptions()
        training = gather_star_pixels(shape.matrix, shape.flux, image, fixed=shape.fixed_light, chosen=shape.training)
        prf = shape.prf
        x, y = round_offsets(*turned(training.dx, training.dy, shape.turn[training.source]), prf.shear)
        columns = prf.basis.matrix(np.hypot(x, y), np.arctan2(y, x))
        model = training.flux * shape.values[shape.training]
        scale = model * 10.0 ** -(columns @ prf.weights)
        std = np.sqrt(training.model_variance(model, prf.peak, shape.intrinsic_scatter))
        good = np.flatnonzero(np.abs(training.light - model) < _OUTLIER * std)
        prior = ShapePrior.of(shape, options.smoothness)
        return cls(training.select(good), std[good], scale[good], columns[good], prior)

    def approximate(self, start: FloatArray) -> Laplace:
        """Return the Laplace approximation at the closed form's prior width, begun at some weights."""
        precision = np.sum(self.prior.precisions, axis=0)
        prior = GaussianTerm(np.linalg.solve(precision, np.sum(self.prior.towards, axis=0)), precision)

        def predict(weights: FloatArray) -> tuple[FloatArray, csr_matrix]:
            model = self.scale * 10.0 ** (self.columns @ weights)
            return model, (diags_array(LN10 * model) @ self.columns).tocsr()

        return find_mode(predict, self.training.light, self.std**-2.0, prior, start)


def build_shape(scene: ShapeScene, start: FloatArray, *, width: float | Hyperprior = DEFAULT_WIDTH) -> pm.Model:
    """Build the model of the PRF's shape.

    Parameters
    ----------
    scene : ShapeScene
        Constants.
    start : ndarray of float64, shape (n_basis,)
        Weights to start from.
    width : float or Hyperprior
        Factor on the width of the smoothness prior, or of what is believed of a PRF known beforehand; log-normal by
        default.

    Returns
    -------
    pymc.Model
        Variables `psf_w` (basis), `width` if free, `y` (pixel).

    Notes
    -----
    y = f s 10**(A psf_w), fluxes f fixed, and s what brings a star's pixels to the sum that its place in field and
    pixel leaves, one but for few per mille. The prior of psf_w given the width is the normalised product of rough psf_w
    ~ N(bends, (width smoothness)**2) and psf_w ~ N(nominal, 1 dex), so that the width has the prior that it is given.
    Beside a PRF known beforehand s holds it, and psf_w ~ N(0, width**2 C) with the covariance of the fit.
    """
    training = scene.training
    names = {"basis": np.arange(start.size), "pixel": np.arange(training.light.size)}
    with pm.Model(coords=names) as model:
        factor = _add_width(width) if isinstance(width, Hyperprior) else pt.constant(float(width))
        observed = pm.Data("y_observed", training.light, shape=training.light.shape, dims="pixel")
        prior = SmoothPrior.of(scene)
        block = Block("psf_w", prior.draw, start.shape, ("basis",), (factor, *prior.matrices()), prior.log_density)
        (weights,) = add_blocks(scene.approximate(start), [block])
        log_prf = ps.structured_dot(csc_matrix(scene.columns), weights[:, None])[:, 0]
        predicted = scene.scale * pt.exp(LN10 * log_prf)
        pm.Normal("y", mu=predicted, sigma=pm.Data("y_std", scene.std), observed=observed, dims="pixel")
    return model


def _add_width(width: Hyperprior) -> Tensor:
    """Add the factor on the smoothness prior's width to the model in context; it is positive."""
    if width.family == "normal":
        return pm.TruncatedNormal("width", width.center, width.scale, lower=0.0)
    return add_hyperprior("width", width)


@dataclass(frozen=True, slots=True, eq=False)
class SmoothPrior:
    """The prior of the weights at every width v at once, in coordinates z = T^-1 w that it leaves independent.

    Parameters
    ----------
    share : ndarray of float64, shape (n_basis,)
        s, from 0 to 1: z ~ N((b / v**2 + n) / q, 1 / q) with q = s / v**2 + 1 - s.
    towards_bends, towards_nominal : ndarray of float64, shape (n_basis,)
        b and n.
    columns, back : ndarray of float64, shape (n_basis, n_basis)
        T and its inverse.

    Notes
    -----
    The prior is the normalised product of N(rows w; expected, v**2 B^-1) and N(w; nominal, P^-1): its precision is
    R' B R / v**2 + P = T'^-1 (S / v**2 + 1 - S) T^-1.
    """

    share: FloatArray
    towards_bends: FloatArray
    towards_nominal: FloatArray
    columns: FloatArray
    back: FloatArray

    @classmethod
    def of(cls, scene: ShapeScene) -> "SmoothPrior":
        """Decompose the prior of a scene."""
        (rows, single), towards = scene.prior.precisions, scene.prior.towards
        root = np.linalg.cholesky(rows + single)
        half = solve_triangular(root, rows, lower=True)
        share, vectors = np.linalg.eigh(solve_triangular(root, half.T, lower=True))
        columns = solve_triangular(root, vectors, lower=True, trans="T")
        bends, nominal = (columns.T @ one for one in towards)
        return cls(np.clip(share, 0.0, 1.0), bends, nominal, columns, vectors.T @ root.T)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Add T and its inverse to the model in context, as data."""
        return pm.Data("psf_w_columns", self.columns), pm.Data("psf_w_back", self.back)

    def _moments(self, width: Tensor) -> tuple[Tensor, Tensor]:
        q = 1.0 - self.share + self.share / width**2
        return (self.towards_bends / width**2 + self.towards_nominal) / q, q

    def draw(self, width: object, columns: object, back: object, size: object = None) -> Tensor:
        """Return the random weights of a width."""
        del back, size
        mean, q = self._moments(width)
        return pt.dot(columns, pm.Normal.dist(mean, 1.0 / pt.sqrt(q)))

    def log_density(self, value: object, width: object, columns: object, back: object) -> Tensor:
        """Return the log density of weights."""
        del columns
        mean, q = self._moments(width)
        away = pt.dot(back, value) - mean
        constant = float(np.linalg.slogdet(self.back)[1]) - 0.5 * self.share.size * np.log(2.0 * np.pi)
        return constant + 0.5 * (pt.log(q) - q * away**2).sum()
