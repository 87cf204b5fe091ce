"""The background of the image that the PRF is fitted to, with the PRF itself left free: wings and sky look the same."""

import numpy as np
from scipy.sparse import csr_matrix, hstack, identity, vstack

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.background import ImageBackground
from bayesprf.photometry.fluxes import default_prior
from bayesprf.prf.rounds.light import Light
from bayesprf.prf.rounds.splines import Profile
from bayesprf.prf.scene import Scene
from bayesprf.scene.prf import LN10, PrfModel

# Accuracy: knots in radius between which the correction of the PRF is linear.
_N_KNOT = 8
# Cost: more pixels than this do not determine the sky any better.
_MAX_PIXEL = 200_000


def fit_background(scene: Scene, light: Light, profile: Profile, found: ImageBackground) -> ImageBackground:
    """Fit the background of an image with all fluxes and with a correction of the PRF's radial profile.

    Parameters
    ----------
    scene : Scene
        Image less the present background.
    light : Light
        Light of the stars as of this round.
    profile : Profile
        PRF of this round, and its relative error.
    found : ImageBackground
        The present background.

    Returns
    -------
    ImageBackground

    Notes
    -----
    y = sum_s F_s PRF + sum_s f_s sum_k c_k h_k(r) + B w, with the fluxes F, the heights w and the c free, hat functions
    h_k in radius (the last one falls on as the wing does), and f the fluxes of this round. In a cutout that one star
    fills, a pedestal under the PRF is the same as sky, in proportion to the star's flux. What separates them is that
    sky does not depend on the flux: w ~ N(b, sigma**2) in all cutouts with one free b per surface. Pixels count with
    the variance of `StarPixels.model_variance`.
    """
    columns, prf = found.columns, profile.prf
    raw = scene.image.flux + np.where(scene.image.ivar > 0, found.light, 0.0) - light.fixed
    stars = light.fitted(scene.saturated).at(0).T.tocsr()
    weights = _weights(scene, light, profile)
    rows = _few(np.flatnonzero(weights > 0))
    design, n_row = _design(columns.matrix[rows], columns.power, stars[rows], _corrections(light, prf)[rows])
    fluxes = default_prior(light.flux, scene.image.cadence_error)
    n_column, n_rest = columns.n_column, design.shape[1] - stars.shape[1] - columns.n_column
    single = n_row == 0
    prior = GaussianPrior(
        np.concatenate([fluxes.mean, np.zeros(n_column + n_rest)]),
        np.concatenate(
            [
                fluxes.precision,
                np.full(n_column, columns.sigma**-2.0 if single else 0.0),
                np.full(n_rest - _N_KNOT, columns.sigma**-2.0),
                np.full(_N_KNOT, prf.peak**-2.0),
            ]
        ),
    )
    ivar = np.concatenate([weights[rows], np.full(n_row, columns.sigma**-2.0)])
    data = np.concatenate([raw[rows], np.zeros(n_row)])
    problem = LinearProblem(DesignStack.from_sparse(design), data[None], ivar[None], prior)
    posterior = choose_solver(problem).solve(problem)
    own = slice(stars.shape[1], stars.shape[1] + n_column)
    return ImageBackground(columns, posterior.mean[0, own], posterior.std[0, own])


def _few(pixel: IntArray) -> IntArray:
    """Return pixels, ascending; of too many an even choice, always the same."""
    if pixel.size <= _MAX_PIXEL:
        return pixel
    return np.sort(np.random.default_rng(0).choice(pixel, _MAX_PIXEL, replace=False))


def _design(sky: csr_matrix, power: IntArray, stars: csr_matrix, corrections: FloatArray) -> tuple[csr_matrix, int]:
    """Return the columns of stars, sky, the sky's common level and the PRF, and the number of rows that tie the sky."""
    n_column = sky.shape[1]
    _, member = np.unique(power, axis=0, return_inverse=True)
    shared = csr_matrix((np.ones(n_column), (np.arange(n_column), member.ravel())))
    if shared.shape[1] == n_column:
        return hstack([stars, sky, csr_matrix(corrections)], format="csr"), 0
    none = csr_matrix((n_column, stars.shape[1]))
    pixels = hstack([stars, sky, csr_matrix((stars.shape[0], shared.shape[1])), csr_matrix(corrections)])
    ties = hstack([none, identity(n_column), -shared, csr_matrix((n_column, _N_KNOT))])
    return vstack([pixels, ties], format="csr"), n_column


def _corrections(light: Light, prf: PrfModel) -> FloatArray:
    """Return the light of hat functions in the square root of the radius around all stars, (n_pixel, n_knot)."""
    pairs, rmax = light.pairs, prf.basis.rmax
    knot = np.sqrt(np.minimum(pairs.r, rmax) / rmax) * (_N_KNOT - 1)
    wing = np.maximum(pairs.r / rmax, 1.0) ** prf.wing_slope
    flux = np.nan_to_num(light.flux)[pairs.source] * wing
    hats = [np.maximum(1.0 - np.abs(knot - k), 0.0) * flux for k in range(_N_KNOT)]
    return np.stack([np.bincount(pairs.pixel, weights=hat, minlength=pairs.n_pixel) for hat in hats], axis=1)


def _weights(scene: Scene, light: Light, profile: Profile) -> FloatArray:
    """Return the inverse variances of the pixels about a model that is not perfect; 0 for those without usable data."""
    flux = np.nan_to_num(light.flux)[light.pairs.source]
    misfit = (LN10 * profile.scatter) ** 2 * profile.prf.peak * flux**2 * light.prf.values
    used = (scene.image.ivar > 0) & ~scene.saturated
    variance = np.bincount(light.pairs.pixel, weights=misfit, minlength=used.size)
    return np.where(used, 1.0 / (1.0 / np.where(used, scene.image.ivar, 1.0) + variance), 0.0)
