"""All coefficients integrated out by the package's solver: NUTS on the hyperparameters, then exact draws."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pymc.blocking import DictToArrayBijection, RaveledVars
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from scipy.optimize import minimize

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.errors import InputError
from bayesprf.linalg.blocks import BlockFactors
from bayesprf.linalg.compiled.work import Prior
from bayesprf.linalg.evidence import evidence_gradient
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.draws import draw_groups, label_draws
from bayesprf.sampling.hyper import SAMPLED, Hyperparameters, Priors, add_hyperparameters, proper_design, resolve
from bayesprf.sampling.run import OBJECT_MODE, SamplerOptions, check_convergence, sample_model, sampler_statistics


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """A linear problem as a function of its hyperparameters; the pattern of the matrices is analysed once.

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior.
    hyper : Hyperparameters
        Resolved.
    factors : BlockFactors
        The problem as the solver wants it.
    """

    problem: LinearProblem
    hyper: Hyperparameters
    factors: BlockFactors

    @classmethod
    def of(cls, problem: LinearProblem, hyper: Hyperparameters) -> "Conditional":
        """Prepare a problem with resolved hyperparameters."""
        proper_design(problem)
        return cls(problem, hyper, BlockFactors.prepare(problem, n_threads=1))

    def at(self, values: FloatArray) -> Hyperparameters:
        """Return the hyperparameters of a vector: the width of each group, zero point, noise scale and jitter."""
        zero_point, noise_scale, jitter = (float(one) for one in values[-3:])
        return replace(self.hyper, width=values[:-3], zero_point=zero_point, noise_scale=noise_scale, jitter=jitter)

    def solve(self, problem: LinearProblem) -> GaussianPosterior:
        """Return the posterior of the coefficients of `problem` with other errors and another prior."""
        order, prior = self.factors.plan.order, problem.prior
        factors = replace(self.factors, ivar=problem.ivar, prior=Prior(prior.mean[order], prior.precision[order]))
        answer = factors.solve()
        log_prior = 0.5 * float(np.sum(np.log(prior.precision)))
        return GaussianPosterior(answer.mean, answer.std, answer.log_density + log_prior, factors)

    def density(self, values: FloatArray) -> tuple[float, FloatArray]:
        """Return log p(y | hyperparameters) at a vector of `at`, and its gradient of the same shape."""
        value, slopes = evidence_gradient(self.problem, self.at(values), SAMPLED, solve=self.solve)
        return value, np.concatenate(list(slopes.values()))

    def draw(self, values: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draw the coefficients given a vector of `at`, shape (n_batch, n_coeff)."""
        return self.solve(self.at(values).apply(self.problem)).draws(1, rng)[0]


class LogEvidence(Op):
    """log p(y | hyperparameters) and its gradient, from the vector of all hyperparameters (`Conditional.at`)."""

    def __init__(self, conditional: Conditional) -> None:
        self.conditional = conditional

    def make_node(self, values: Any) -> Apply:
        """Return the node of the graph: a vector in; a number and a vector out."""
        return Apply(self, [pt.as_tensor_variable(values)], [pt.dscalar(), pt.dvector()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Compute both."""
        del node
        value, gradient = self.conditional.density(inputs[0])
        output_storage[0][0], output_storage[1][0] = np.asarray(value), gradient

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Return the gradient of what depends on the number."""
        del inputs
        return [cotangents[0] * outputs[1]]


def build_collapsed(
    problem: LinearProblem,
    hyper: Hyperparameters,
    *,
    priors: Priors | None = None,
) -> pm.Model:
    """Build the model of the hyperparameters, the coefficients integrated out exactly.

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior.
    hyper : Hyperparameters
        What is free.
    priors : mapping of str to callable, optional
        As for `build_linear`.

    Returns
    -------
    pymc.Model
        The free hyperparameters, by name; `width` has the axis width_group if there are groups. The potential
        `evidence` is log p(y | hyperparameters).

    Raises
    ------
    InputError
        If nothing is free, the prior is flat, or a hyperparameter out of range.

    Notes
    -----
    Two to six numbers, whatever the number of coefficients; each evaluation is one solution of the linear problem, with
    the gradient of `Conditional.density`. Given draws, `Conditional.draw` gives the coefficients.
    """
    resolved = resolve(hyper, problem)
    if not resolved.free and not priors:
        raise InputError("hyper: expected a free hyperparameter, got only numbers; give one as 'learn' or a Hyperprior")
    conditional = Conditional.of(problem, resolved)
    n_width = conditional.hyper.size("width")
    coords = {"width_group": np.arange(n_width)} if resolved.has_groups else {}
    with pm.Model(coords=coords) as model:
        free = add_hyperparameters(problem, resolved, priors)
        others = [pt.as_tensor_variable(one) for one in (free.zero_point, free.noise_scale, free.jitter)]
        values = pt.concatenate([pt.zeros(n_width) + free.width, pt.stack(others)])
        pm.Potential("evidence", LogEvidence(conditional)(values)[0])
    return model


def find_start(model: pm.Model) -> dict[str, Any]:
    """Find where the density of a collapsed model, in the coordinates of the sampler, is largest.

    Parameters
    ----------
    model : pymc.Model
        Of `build_collapsed`: a density of few numbers.

    Returns
    -------
    dict of str to ndarray
        Values of the sampler's coordinates by name, for `pymc.sample(initvals=...)`: a sampler that starts at width 1
        where data want a thousandth spends its tuning on the way.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", OBJECT_MODE, UserWarning)
        function = model.logp_dlogp_function(ravel_inputs=True)
    function.set_extra_values({})
    point = model.initial_point()
    start = DictToArrayBijection.map({one.name: point[one.name] for one in model.continuous_value_vars})
    found = minimize(lambda x: tuple(-one for one in function(x)), start.data, jac=True, method="L-BFGS-B")
    return dict(DictToArrayBijection.rmap(RaveledVars(found.x, start.point_map_info)))


def sample_collapsed(
    problem: LinearProblem,
    hyper: Hyperparameters,
    data: GroupData,
    members: IntArray,
    options: SamplerOptions | None = None,
    *,
    priors: Priors | None = None,
) -> xr.DataTree:
    """Sample the hyperparameters with NUTS, then draw the coefficients from their exact conditional.

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior.
    hyper : Hyperparameters
        What is free; any number of them.
    data : GroupData
        Names of the axes of the answer.
    members : ndarray of int64
        Sources of the problem whose fluxes the answer shows.
    options : SamplerOptions, optional
        How to sample.
    priors : mapping of str to callable, optional
        As for `build_linear`.

    Returns
    -------
    xarray.DataTree
        The layout of `bayesprf.results.posterior`. The attribute `convergence` speaks of the hyperparameters; given
        these, the fluxes are independent.

    Warns
    -----
    ConvergenceWarning
        If the draws cannot be trusted.
    """
    options = options or SamplerOptions()
    resolved = resolve(hyper, problem)
    start = time.perf_counter()
    model = build_collapsed(problem, resolved, priors=priors)
    raw = sample_model(model, options, find_start(model))
    sentence = check_convergence(raw).sentence
    shape = (raw["posterior"].sizes["chain"], raw["posterior"].sizes["draw"])
    drawn = {str(name): one.to_numpy() for name, one in raw["posterior"].data_vars.items()}
    drawn = {name: drawn[name].reshape(-1, *drawn[name].shape[2:]) for name in SAMPLED if name in drawn}
    rng = np.random.default_rng(options.random_seed)
    flux = draw_coefficients(Conditional.of(problem, resolved), drawn, rng)
    seconds = time.perf_counter() - start
    groups = draw_groups(problem, resolved, {"flux": flux, **drawn}, shape, rng=rng)
    groups["sample_stats"] = sampler_statistics(raw)
    marks = {
        "inference_library": options.chosen_sampler, "sampler": "NUTS, coefficients integrated out",
        "sampling_time": seconds, "tuning_steps": options.tune, "kind": "collapsed", "convergence": sentence,
    }  # fmt: skip
    return label_draws(groups, data, members, attrs=marks)


def draw_coefficients(
    conditional: Conditional, draws: Mapping[str, FloatArray], rng: np.random.Generator
) -> FloatArray:
    """Draw the coefficients given each draw of the hyperparameters.

    Parameters
    ----------
    conditional : Conditional
        The problem, with the numbers of all that is fixed.
    draws : mapping of str to ndarray of float64
        Draws of what is not fixed, shape (n_draw,), or (n_draw, n_width) for several widths.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of float64, shape (n_draw, n_batch, n_coeff)
    """
    n_draw = len(next(iter(draws.values())))
    n_width = conditional.hyper.size("width")
    columns = []
    for name in SAMPLED:
        given = draws[name] if name in draws else np.full(n_draw, getattr(conditional.hyper, name))
        column = np.asarray(given, np.float64).reshape(n_draw, -1)
        columns.append(np.broadcast_to(column, (n_draw, n_width)) if name == "width" else column)
    return np.stack([conditional.draw(one, rng) for one in np.hstack(columns)])
