"""PyMC model of the PRF's shape alone: its weights and the width of their smoothness prior."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
from scipy.sparse import csc_matrix, csr_matrix, diags_array

from bayesprf.arrays import FloatArray
from bayesprf.prf.fit import ShapeFit
from bayesprf.prf.splines import ShapePrior
from bayesprf.prf.star_pixels import StarPixels, gather_star_pixels
from bayesprf.sampling.hyper import Hyperprior
from bayesprf.sampling.joint import whitened
from bayesprf.sampling.laplace import GaussianTerm, Laplace, find_mode
from bayesprf.scene.image import Image
from bayesprf.scene.prf import LN10, round_coordinates
from bayesprf.settings import ShapeOptions

# Pixels farther from the fit than this are left out, as the fit leaves out its outliers.
_CLIP_SIGMA = 5.0

DEFAULT_WIDTH = Hyperprior("log-normal", 0.5, 1.0)


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
    def of(cls, shape: ShapeFit, image: Image, options: ShapeOptions | None = None) -> "ShapeScene":
        """Gather the pixels that a PRF was trained on."""
        training = gather_star_pixels(shape.matrix, shape.flux, image, fixed=shape.far_light, chosen=shape.training)
        prf = shape.prf
        columns = prf.basis.matrix(*round_coordinates(training.dx, training.dy, prf.shear))
        model = training.flux * 10.0 ** (columns @ prf.weights)
        std = np.sqrt(training.model_variance(model, prf.peak, shape.intrinsic_scatter))
        good = np.flatnonzero(np.abs(training.light - model) < _CLIP_SIGMA * std)
        prior = ShapePrior.around_nominal(prf.basis, prf.pixel_area, (options or ShapeOptions()).smoothness)
        return cls(training.select(good), std[good], columns[good], prf.basis.roughness(), prior)

    def approximate(self, start: FloatArray) -> Laplace:
        """Return the Laplace approximation at the closed form's prior width, begun at some weights."""
        single, ivar = self.prior.weights, self.prior.bends_ivar
        precision = (self.rough.T @ self.rough.multiply(ivar[:, None])).toarray() + np.diag(single.precision)
        towards = self.rough.T @ (ivar * self.prior.bends) + single.precision * single.mean
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
    y = f 10**(A psf_w), fluxes fixed; rough psf_w ~ N(bends, (width smoothness)**2), psf_w ~ N(nominal, 1 dex).
    """
    names = {"basis": np.arange(start.size), "pixel": np.arange(scene.training.light.size)}
    with pm.Model(coords=names) as model:
        factor: Any = width
        if isinstance(width, Hyperprior):
            kinds = {
                "half-normal": lambda: pm.HalfNormal("width", width.scale),
                "log-normal": lambda: pm.LogNormal("width", np.log(width.center), width.scale),
                "normal": lambda: pm.TruncatedNormal("width", width.center, width.scale, lower=0.0),
            }
            factor = kinds[width.family]()
        weights = pm.Deterministic("psf_w", whitened(scene.approximate(start)), dims="basis")
        bend = ps.structured_dot(csc_matrix(scene.rough), weights[:, None])[:, 0]
        spread = factor * scene.prior.bends_ivar**-0.5
        pm.Potential("smoothness", (-0.5 * ((bend - scene.prior.bends) / spread) ** 2 - pt.log(spread)).sum())
        single = scene.prior.weights
        pm.Potential("weak_prior", -0.5 * (single.precision * (weights - single.mean) ** 2).sum())
        log_prf = ps.structured_dot(csc_matrix(scene.columns), weights[:, None])[:, 0]
        predicted = scene.training.flux * pt.exp(LN10 * log_prf)
        pm.Normal("y", mu=predicted, sigma=pm.Data("y_std", scene.std), observed=scene.training.light, dims="pixel")
    return model
