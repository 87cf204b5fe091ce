"""PyMC models with the PRF's shape inside: fluxes, positions and shape together, and the shape alone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
from scipy.sparse import csc_matrix

from bayesprf.arrays import FloatArray, NamedDict, Tensor
from bayesprf.checks import check_choice
from bayesprf.errors import InputError
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.coordinates import Block, add_blocks, gaussian_block
from bayesprf.sampling.hyper import Hyperprior, add_hyperprior
from bayesprf.sampling.laplace import Laplace
from bayesprf.sampling.linear import add_data, add_observed, data_coords
from bayesprf.sampling.scene import JointScene
from bayesprf.scene.prf import LN10


@dataclass(frozen=True, slots=True, eq=False)
class Misfit:
    """A relative misfit of the PRF that is learned.

    Parameters
    ----------
    prior : Hyperprior
        Its prior, dex at a star's centre.
    template : ndarray of float64, shape (n_pixel,)
        Standard deviation of each pixel per relative misfit, `misfit_template`.
    """

    prior: Hyperprior
    template: FloatArray


def build_joint(
    scene: JointScene,
    data: GroupData,
    *,
    likelihood: str = "normal",
    start: Laplace | None = None,
    misfit: Misfit | None = None,
) -> pm.Model:
    """Build the joint model of shape weights, offsets and fluxes, whitened by its Laplace approximation.

    Parameters
    ----------
    scene : JointScene
        Constants.
    data : GroupData
        Names of the axes.
    likelihood : {"normal", "student-t"}
        "student-t" learns its degrees of freedom `nu`.
    start : Laplace, optional
        Made from the scene when omitted.
    misfit : Misfit, optional
        Adds the variable `misfit`, the relative misfit of the PRF beside the errors of `data`; a fixed one belongs into
        these errors, see `with_misfit`.

    Returns
    -------
    pymc.Model
        Variables `psf_w` (basis), `tail_slope`, `offset` (source, axis) if positions are free, `wing` (source) if each
        star's wing has a slope of its own, beside the common one, `flux` (time, source), `y`.

    Raises
    ------
    InputError
        If the likelihood is unknown.

    Notes
    -----
    y = known + sum f 10**(A psf_w + ...) / area of `JointScene`, psf_w and the slope of the wing ~ their posterior
    from the shape fit. The sampler moves in xi, parameters = mode + M xi (`LaplaceCoordinates`); the mode only sets
    coordinates, so its bias does not matter.
    """
    check_choice(likelihood, ("normal", "student-t"), "likelihood")
    problem = scene.group.problem
    if not problem.prior.is_proper:
        raise InputError("prior: expected finite widths, got a flat prior of a flux; give prior_sigma")
    laplace = start or scene.approximate(choose_solver(problem).solve(problem).mean)
    with pm.Model(coords=_coords(scene, data)) as model:
        observed = add_data(data)
        psf_w, slope, *own, flux = add_blocks(laplace, _blocks(scene, data))
        shape = pt.concatenate([psf_w, slope[None]])
        area = (scene.area_weight * _power(_times(scene.area_columns, shape))).sum()
        log_prf = _times(scene.columns, pt.concatenate([shape, *(one.flatten() for one in own)])) + scene.fixed
        light = flux.reshape((-1, scene.group.source.size))[:, scene.source] * _power(log_prf) / area * scene.factor
        predicted = ps.structured_dot(scene.gather, light.T).T + problem.known
        extra: NamedDict = {}
        if misfit is not None:
            extra = {"jitter": LN10 * add_hyperprior("misfit", misfit.prior), "template": misfit.template}
        model_y = predicted if data.has_time else predicted[0]
        add_observed(model_y, data, observed, robust=likelihood == "student-t", **extra)
    return model


def _blocks(scene: JointScene, data: GroupData) -> list[Block]:
    """Return the parameters with their priors, in the order of `JointScene.split`."""
    n_basis, prior = scene.n_shape - 1, scene.group.problem.prior
    n_time, n_source = scene.group.problem.n_batch, prior.mean.size
    blocks = [
        gaussian_block("psf_w", scene.weights[:n_basis], scene.weights_cov[:n_basis, :n_basis], dims=("basis",)),
        Block("tail_slope", _normal(scene.weights[-1], np.sqrt(scene.weights_cov[-1, -1]))),
    ]
    if scene.n_offset:
        offset = _normal(0.0, scene.own_sigma[0])
        blocks.append(Block("offset", offset, (scene.n_offset // 2, 2), ("source", "axis")))
    if scene.own_sigma.size > scene.n_offset:
        blocks.append(Block("wing", _normal(0.0, scene.own_sigma[-1]), (n_source,), ("source",)))
    flux = _normal(prior.mean, prior.precision**-0.5)
    if not data.has_time:
        return [*blocks, Block("flux", flux, (n_source,), ("source",))]
    return [*blocks, Block("flux", flux, (n_time, n_source), ("time", "source"))]


def _normal(mean: object, sigma: object) -> Callable[..., Tensor]:
    return lambda size=None: pm.Normal.dist(mean, sigma, size=size)


def _coords(scene: JointScene, data: GroupData) -> NamedDict:
    names = {"source": [str(one) for one in data.source], "basis": np.arange(scene.n_shape - 1)}
    return {**names, "axis": ["east", "north"], **data_coords(data)}


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return ps.structured_dot(csc_matrix(matrix), vector[:, None])[:, 0]


def _power(log10: Tensor) -> Tensor:
    return pt.exp(LN10 * log10)
