"""PyMC model of the PRF's shape alone: its weights and the width of their smoothness prior."""

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
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
from bayesprf.scene.prf import LN10, round_coordinates
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
        Independent priors around the nominal profile, dex.
    curvature, curvature_ivar : ndarray of float64, shape (n_row,)
        Pseudo-observations of the smoothness: the curvature of the nominal profile, dex, and inverse variances, one
        per row of `PolarBasis.roughness`.
    """

    weights: GaussianPrior
    curvature: FloatArray
    curvature_ivar: FloatArray

    @classmethod
    def around_nominal(cls, basis: PolarBasis, pixel_area: float, smoothness: float) -> "ShapePrior":
        """Expect the nominal profile, its curvature with standard deviation `smoothness`, dex."""
        nominal = nominal_prf(basis, pixel_area).weights
        curvature = basis.roughness() @ nominal
        prior = GaussianPrior.from_sigma(nominal, np.full(nominal.size, _PRIOR_SIGMA))
        return cls(prior, curvature, np.full(curvature.size, smoothness**-2.0))


@dataclass(frozen=True, slots=True, eq=False)
class ShapeScene:
    """Constants of the shape model.

    Parameters
    ----------
    training : StarPixels
        Pixels lit by one star.
    std : ndarray of float64, shape (n,)
        Their standard deviation about the model, electron / s.
    columns, rough : csr_matrix
        A, shape (n, n_basis), and the rows that measure bends.
    prior : ShapePrior
        Prior of the closed form.
    """

    training: StarPixels
    std: FloatArray
    columns: csr_matrix
    rough: csr_matrix
    prior: ShapePrior

    @classmethod
    def of(cls, shape: PrfFit, image: Image, options: ShapeOptions | None = None) -> "ShapeScene":
        """Gather the pixels that a PRF was trained on, without outliers."""
        options = options or ShapeOptions()
        training = gather_star_pixels(shape.matrix, shape.flux, image, fixed=shape.fixed_light, chosen=shape.training)
        prf = shape.prf
        columns = prf.basis.matrix(*round_coordinates(training.dx, training.dy, prf.shear))
        model = training.flux * 10.0 ** (columns @ prf.weights)
        std = np.sqrt(training.model_variance(model, prf.peak, shape.intrinsic_scatter))
        good = np.flatnonzero(np.abs(training.light - model) < _OUTLIER * std)
        prior = ShapePrior.around_nominal(prf.basis, prf.pixel_area, options.smoothness or _SMOOTHNESS)
        return cls(training.select(good), std[good], columns[good], prf.basis.roughness(), prior)

    def approximate(self, start: FloatArray) -> Laplace:
        """Return the Laplace approximation at the closed form's prior width, begun at some weights."""
        single, ivar = self.prior.weights, self.prior.curvature_ivar
        precision = (self.rough.T @ self.rough.multiply(ivar[:, None])).toarray() + np.diag(single.precision)
        towards = self.rough.T @ (ivar * self.prior.curvature) + single.precision * single.mean
        prior = GaussianTerm(np.linalg.solve(precision, towards), precision)

        def predict(weights: FloatArray) -> tuple[FloatArray, csr_matrix]:
            model = self.training.flux * 10.0 ** (self.columns @ weights)
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
        Factor on the smoothness prior's width; log-normal by default.

    Returns
    -------
    pymc.Model
        Variables `psf_w` (basis), `width` if free, `y` (pixel).

    Notes
    -----
    y = f 10**(A psf_w), fluxes fixed. The prior of psf_w given the width is the normalised product of rough psf_w ~
    N(bends, (width smoothness)**2) and psf_w ~ N(nominal, 1 dex), so that the width has the prior that it is given.
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
        predicted = training.flux * pt.exp(LN10 * log_prf)
        pm.Normal("y", mu=predicted, sigma=pm.Data("y_std", scene.std), observed=observed, dims="pixel")
    return model


def _add_width(width: Hyperprior) -> Tensor:
    """Add the factor on the smoothness prior's width to the model in context; it is positive."""
    if width.family == "normal":
        return pm.TruncatedNormal("width", width.center, width.scale, lower=0.0)
    return add_hyperprior("width", width)


@dataclass(frozen=True, slots=True, eq=False)
class SmoothPrior:
    """The smoothness prior at every width v at once, in coordinates z = T^-1 w that it leaves independent.

    Parameters
    ----------
    eigenvalues : ndarray of float64, shape (n_basis,)
        e: z ~ N((b / v**2 + n) / q, 1 / q) with q = 1 + e / v**2.
    towards_bends, towards_nominal : ndarray of float64, shape (n_basis,)
        b and n.
    columns, back : ndarray of float64, shape (n_basis, n_basis)
        T and its inverse.

    Notes
    -----
    The prior is the normalised product of N(rough w; bends, (v smoothness)**2) and N(w; nominal, P^-1): its precision
    is R' B R / v**2 + P = T'^-1 (E / v**2 + 1) T^-1.
    """

    eigenvalues: FloatArray
    towards_bends: FloatArray
    towards_nominal: FloatArray
    columns: FloatArray
    back: FloatArray

    @classmethod
    def of(cls, scene: ShapeScene) -> "SmoothPrior":
        """Decompose the prior of a scene."""
        single, ivar = scene.prior.weights, scene.prior.curvature_ivar
        sigma = single.precision**-0.5
        rough = (scene.rough.T @ scene.rough.multiply(ivar[:, None])).toarray()
        eigenvalues, vectors = np.linalg.eigh(sigma[:, None] * rough * sigma)
        columns = sigma[:, None] * vectors
        bends = columns.T @ (scene.rough.T @ (ivar * scene.prior.curvature))
        nominal = columns.T @ (single.precision * single.mean)
        return cls(np.maximum(eigenvalues, 0.0), bends, nominal, columns, (vectors / sigma[:, None]).T)

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Add T and its inverse to the model in context, as data."""
        return pm.Data("psf_w_columns", self.columns), pm.Data("psf_w_back", self.back)

    def _moments(self, width: Tensor) -> tuple[Tensor, Tensor]:
        q = 1.0 + self.eigenvalues / width**2
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
        constant = float(np.linalg.slogdet(self.back)[1]) - 0.5 * self.eigenvalues.size * np.log(2.0 * np.pi)
        return constant + 0.5 * (pt.log(q) - q * away**2).sum()
