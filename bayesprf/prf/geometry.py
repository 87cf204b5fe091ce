"""The geometry that all stars share: where the pixels see them, and the stretch that makes them round."""

from dataclasses import replace

import numpy as np
from scipy.sparse import bmat, csr_matrix, diags

from bayesprf.arrays import FloatArray
from bayesprf.linalg.dense import DenseSolver
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.prf.pixel_phase import Lattice
from bayesprf.prf.splines import LN10, Profile, ShapePrior, Training, model_variance
from bayesprf.scene.prf import PrfModel, round_coordinates
from bayesprf.stats import inliers

_STEP, _SHEAR_STEP = 0.05, 0.005  # arcsec and 1, of the numerical gradients
_MIN_SNR = 20.0
_OUTLIER = 10.0  # standard deviations
_WEIGHT_SIGMA = 1.0  # dex, of a change of the weights
_GEOMETRY_SIGMA = (2.0, 2.0, 0.3, 0.3)  # arcsec, and shear
# A star's centroid is trusted when its pixels lie on both sides of it: at least this many of them.
_MIN_PIXELS = 4


def centroid_offset(training: Training) -> FloatArray:
    """Return the median over stars of their flux-weighted centroid: a first guess.

    Parameters
    ----------
    training : Training
        Pixels of lone stars at catalogue positions.

    Returns
    -------
    ndarray of float64, shape (2,)
        How far the stars lie from their catalogue positions, east and north, arcsec; zero when no
        star is bright enough.
    """
    n_source = int(training.source.max()) + 1 if training.source.size else 0
    light = np.maximum(training.y, 0.0)

    def total(values: FloatArray) -> FloatArray:
        return np.bincount(training.source, weights=values, minlength=n_source)

    flux, variance = total(light), total(training.var)
    trusted = (flux > _MIN_SNR * np.sqrt(variance)) & (np.bincount(training.source, minlength=n_source) >= _MIN_PIXELS)
    if not trusted.any():
        return np.zeros(2)
    return np.array([np.median(total(light * d)[trusted] / flux[trusted]) for d in (training.dx, training.dy)])


def fit_geometry(profile: Profile, training: Training, lattice: Lattice, *, smoothness: float) -> FloatArray:
    """Return the common shift and stretch of all stars that fit the pixels best, to first order.

    Parameters
    ----------
    profile : Profile
        The PRF, normalised, and its intrinsic scatter.
    training : Training
        Pixels of lone stars, fluxes in electron / s.
    lattice : Lattice
        Pixels over which the PRF has the same sum wherever a star lies in its pixel.
    smoothness : float
        Prior standard deviation of a bend of the weights, dex.

    Returns
    -------
    ndarray of float64, shape (4,)
        Shift east and north, arcsec; change of the two components of the shear.

    Notes
    -----
    One Gauss-Newton step of weights and geometry together, y - m = m ln10 A dw + f dPRF/dg dg: the
    splines of the outer PRF could otherwise hide what the core alone can tell.
    """
    prf = profile.prf
    model = training.flux * prf.evaluate(training.dx, training.dy)
    variance = model_variance(training, model, prf.peak, profile.scatter)
    usable = inliers(training.y - model, variance, _OUTLIER)
    shape = diags(LN10 * model) @ prf.basis.matrix(*round_coordinates(training.dx, training.dy, prf.shear))
    geometry = csr_matrix(np.stack(_gradients(prf, training), axis=1) * training.flux[:, None])
    roughness, expected = prf.basis.roughness(), ShapePrior.around_nominal(prf.basis, prf.pixel_area, smoothness)
    rows, sums = lattice.equations(prf)
    blocks = [[shape, geometry], [roughness, None], [csr_matrix(rows), None]]
    design = DesignStack.from_sparse(bmat(blocks, format="csr"))
    data = np.concatenate([training.y - model, expected.bends - roughness @ prf.weights, sums - rows @ prf.weights])
    ivar = np.concatenate([np.where(usable, 1.0 / variance, 0.0), expected.bends_ivar, lattice.ivar(profile.scatter)])
    sigma = np.concatenate([np.full(prf.basis.n_basis, _WEIGHT_SIGMA), _GEOMETRY_SIGMA])
    prior = GaussianPrior.from_sigma(np.zeros(sigma.size), sigma)
    solution = DenseSolver().solve(LinearProblem(design, data[None], ivar[None], prior))
    return solution.mean[0, prf.basis.n_basis :]


def _gradients(prf: PrfModel, training: Training) -> list[FloatArray]:
    """Return the derivatives of the PRF with respect to shift (1 / arcsec) and shear, by central differences."""
    dx, dy, (e1, e2) = training.dx, training.dy, prf.shear
    sides = []
    for sign in (1.0, -1.0):
        step, bend = sign * _STEP, sign * _SHEAR_STEP
        sides.append(
            [
                prf.evaluate(dx - step, dy),
                prf.evaluate(dx, dy - step),
                replace(prf, shear=(e1 + bend, e2)).evaluate(dx, dy),
                replace(prf, shear=(e1, e2 + bend)).evaluate(dx, dy),
            ]
        )
    widths = (_STEP, _STEP, _SHEAR_STEP, _SHEAR_STEP)
    return [(ahead - behind) / (2.0 * width) for ahead, behind, width in zip(*sides, widths, strict=True)]
