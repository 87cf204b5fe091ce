"""PyMC models with the PRF's shape inside: fluxes, positions and shape together, and the shape alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
from scipy.sparse import csc_matrix

from bayesprf.arrays import FloatArray
from bayesprf.checks import check_choice
from bayesprf.linalg.solver import choose_solver
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.hyper import Hyperprior, add_hyperprior
from bayesprf.sampling.laplace import Laplace
from bayesprf.sampling.linear import add_observed
from bayesprf.sampling.scene import LN10, JointScene


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
    from the shape fit. The sampler moves in xi, parameters = mode + L^-T xi; the mode only sets coordinates, so its
    bias does not matter.
    """
    check_choice(likelihood, ("normal", "student-t"), "likelihood")
    problem = scene.group.problem
    laplace = start or scene.approximate(choose_solver(problem).solve(problem).mean)
    n_shape, n_source, first = scene.n_shape, scene.group.source.size, scene.columns.shape[1]
    with pm.Model(coords=_coords(scene, data)) as model:
        x = whitened(laplace)
        pm.Deterministic("psf_w", x[: n_shape - 1], dims="basis")
        pm.Deterministic("tail_slope", x[n_shape - 1])
        shape = x[:n_shape]
        prior = scene.prior()
        pm.Potential("shape_prior", _quadratic(shape - scene.weights, np.linalg.inv(scene.weights_cov), "shape"))
        area = (scene.area_weight * _power(_times(scene.area_columns, shape))).sum()
        _name_own(scene, x[n_shape:first])
        log_prf = _times(scene.columns, x[:first]) + scene.fixed
        rest = np.arange(n_shape, prior.mean.size)
        away = (x[n_shape:] - prior.mean[rest]) ** 2 * prior.precision[rest, rest]
        pm.Potential("flux_prior", -0.5 * away.sum())
        flux = x[first:].reshape((-1, n_source))
        pm.Deterministic(
            "flux", flux if data.has_time else flux[0], dims=("time", "source") if data.has_time else "source"
        )
        light = flux[:, scene.source] * _power(log_prf) / area * scene.factor
        predicted = ps.structured_dot(scene.gather, light.T).T + problem.known
        extra: dict[str, Any] = {}
        if misfit is not None:
            extra = {"jitter": LN10 * add_hyperprior("misfit", misfit.prior), "template": misfit.template}
        add_observed(predicted if data.has_time else predicted[0], data, robust=likelihood == "student-t", **extra)
    return model


def _coords(scene: JointScene, data: GroupData) -> dict[str, Any]:
    coords: dict[str, Any] = {"source": [str(one) for one in data.source], "pixel": data.pixel}
    coords |= {"basis": np.arange(scene.n_shape - 1), "axis": ["east", "north"]}
    if data.has_time:
        coords["time"] = data.time
    if not data.used.all():
        coords["observation"] = np.arange(int(data.used.sum()))
    return coords


def _name_own(scene: JointScene, own: Any) -> None:
    if scene.n_offset:
        pm.Deterministic("offset", own[: scene.n_offset].reshape((-1, 2)), dims=("source", "axis"))
    if scene.own_sigma.size > scene.n_offset:
        pm.Deterministic("wing", own[scene.n_offset :], dims="source")


def whitened(laplace: Laplace) -> Any:
    """Return parameters mode + L^-T xi with the density of xi undone, so that the model's own priors follow.

    Parameters
    ----------
    laplace : Laplace
        Mode and spread.

    Returns
    -------
    TensorVariable, shape (n,)
    """
    xi = pm.Normal("xi", 0.0, 1.0, shape=laplace.mode.size)
    pm.Potential("whitening", 0.5 * (xi**2).sum())
    spread = pm.Data("spread", laplace.spread)
    return laplace.mode + pt.dot(spread, xi)


def _quadratic(away: Any, precision: np.ndarray[Any, Any], name: str) -> Any:
    matrix = pm.Data(f"{name}_precision", precision)
    return -0.5 * (away * pt.dot(matrix, away)).sum()


def _times(matrix: Any, vector: Any) -> Any:
    return ps.structured_dot(csc_matrix(matrix), vector[:, None])[:, 0]


def _power(log10: Any) -> Any:
    return pt.exp(LN10 * log10)
