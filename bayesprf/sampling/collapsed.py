"""All coefficients integrated out by the package's solver: NUTS on the hyperparameters, then exact draws."""

import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pymc.blocking import DictToArrayBijection, RaveledVars
from pytensor.gradient import DisconnectedType, grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op, OutputStorageType
from pytensor.link.numba.dispatch.basic import numba_funcify
from pytensor.tensor.shape import specify_shape
from scipy.optimize import minimize

from bayesprf.arrays import FloatArray, IntArray, NamedDict, Tensor
from bayesprf.errors import InputError, MissingDependencyError, UnsupportedError
from bayesprf.linalg.compiled.work import Prior
from bayesprf.linalg.evidence import HESSIAN_STEP, Evidence, compile_density
from bayesprf.linalg.hyperparameters import Hyperparameters
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockFactors
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.draws import draw_groups, label_draws
from bayesprf.sampling.hyper import SAMPLED, Priors, add_hyperparameters, proper_design, resolve
from bayesprf.sampling.linear import add_data, data_coords, data_dims, predict, spread_out
from bayesprf.sampling.run import SamplerOptions, check_convergence, sample_model, sampler_statistics

if TYPE_CHECKING:
    from bayesprf.linalg.compiled.evidence import Density


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
    evidence : Evidence
        Its evidence as a function of the hyperparameters.
    """

    problem: LinearProblem
    hyper: Hyperparameters
    factors: BlockFactors
    evidence: Evidence

    @classmethod
    def of(cls, problem: LinearProblem, hyper: Hyperparameters) -> "Conditional":
        """Prepare a problem with resolved hyperparameters."""
        proper_design(problem)
        return cls(problem, hyper, BlockFactors.prepare(problem, n_threads=1), Evidence.of(problem))

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

    def density(self, values: FloatArray, data: FloatArray | None = None) -> tuple[float, FloatArray]:
        """Return log p(y | hyperparameters) at a vector of `at`, and its gradient of the same shape."""
        value, slopes = self.evidence.gradient(self.at(values), SAMPLED, data)
        return value, np.concatenate(list(slopes.values()))

    def hessian(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the second derivatives of `density`, by central differences of its gradient."""
        steps = HESSIAN_STEP * np.maximum(np.abs(values), HESSIAN_STEP)
        ahead, behind = (
            np.array([self.density(values + sign * one, data)[1] for one in np.diag(steps)]) for sign in (1.0, -1.0)
        )
        found = (ahead - behind) / (2.0 * steps[:, None])
        return 0.5 * (found + found.T)

    def draw(self, values: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draw the coefficients given a vector of `at`, shape (n_batch, n_coeff)."""
        return self.solve(self.at(values).apply(self.problem)).draws(1, rng)[0]


class LogEvidence(Op):
    """log p(y | hyperparameters) and its gradient, from the vector of `Conditional.at` and the data (n_batch, n_obs).

    Its second derivatives are differences of the gradient; it has none with the data.
    """

    def __init__(self, conditional: Conditional) -> None:
        self.conditional = conditional

    def __str__(self) -> str:
        """Say what to do where PyTensor prints that it has no conversion of this Op."""
        return "LogEvidence, for numba and C; for JAX call bayesprf.sampling.collapsed.use_jax() first"

    def make_node(self, *inputs: Tensor) -> "Apply[LogEvidence]":
        """Return the node of the graph."""
        return Apply(self, [pt.as_tensor_variable(one) for one in inputs], [pt.dscalar(), pt.dvector()])

    def perform(self, node: object, inputs: Sequence[FloatArray], output_storage: OutputStorageType) -> None:
        """Compute both."""
        del node
        value, gradient = self.conditional.density(*inputs)
        output_storage[0][0], output_storage[1][0] = np.asarray(value), gradient

    def pullback(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], cotangents: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the gradient of what depends on the density, or on its gradient."""
        given = [not isinstance(one.type, DisconnectedType) for one in cotangents]
        total = cotangents[0] * outputs[1] if given[0] else pt.zeros_like(outputs[1])
        if given[1]:
            total = total + (EvidenceHessian(self.conditional)(*inputs) * cotangents[1]).sum(axis=1)
        return [total, grad_not_implemented(self, 1, inputs[1], "the evidence has no gradient with the data")]


class EvidenceHessian(Op):
    """Second derivatives of `LogEvidence` with the hyperparameters."""

    def __init__(self, conditional: Conditional) -> None:
        self.conditional = conditional

    def make_node(self, *inputs: Tensor) -> "Apply[EvidenceHessian]":
        """Return the node of the graph."""
        return Apply(self, [pt.as_tensor_variable(one) for one in inputs], [pt.dmatrix()])

    def perform(self, node: object, inputs: Sequence[FloatArray], output_storage: OutputStorageType) -> None:
        """Compute them."""
        del node
        output_storage[0][0] = self.conditional.hessian(*inputs)


@numba_funcify.register(LogEvidence)
def _compile_evidence(op: LogEvidence, node: object = None, **kwargs: object) -> "Density":
    """Return the compiled function of the density, so that no sampler steps through Python."""
    del node, kwargs
    return compile_density(op.conditional.evidence, op.conditional.hyper)


def use_jax() -> None:
    """Let models of kind "collapsed" be compiled for JAX: its programs then call the evidence on the host.

    Raises
    ------
    MissingDependencyError
        If JAX is not installed.

    Notes
    -----
    Once per process, as importing JAX starts threads. NumPyro, BlackJAX and nutpie's JAX backend can then sample such a
    model; each density is one call into compiled code, as without JAX, and chains wait for each other.
    """
    if importlib.util.find_spec("jax") is None:
        raise MissingDependencyError("use_jax: JAX is not installed; run pip install jax, or sample by nutpie or PyMC")
    from pytensor.link.jax.dispatch.basic import jax_funcify

    jax_funcify.register(LogEvidence, _jax_evidence)
    jax_funcify.register(EvidenceHessian, lambda op, **_: partial(_call_hessian, op.conditional))


def _jax_evidence(op: LogEvidence, **kwargs: object) -> Callable[..., object]:
    """Return the evidence as a function of JAX arrays, with two derivatives; third ones are NaN."""
    import jax

    del kwargs
    density = jax.custom_jvp(partial(_call_density, op.conditional))
    hessian = jax.custom_jvp(partial(_call_hessian, op.conditional))

    def differentiate(primals: tuple[FloatArray, ...], tangents: tuple[FloatArray, ...]) -> tuple[object, object]:
        moved, of_data = tangents
        if not isinstance(of_data, jax.custom_derivatives.SymbolicZero):
            raise UnsupportedError("data: the evidence has no gradient with the data; differentiate hyperparameters")
        value, slope = density(*primals)
        return (value, slope), (slope @ moved, hessian(*primals) @ moved)

    def differentiate_again(primals: tuple[FloatArray, ...], tangents: tuple[FloatArray, ...]) -> tuple[object, object]:
        del tangents
        found = hessian(*primals)
        return found, jax.numpy.full_like(found, np.nan)

    density.defjvp(differentiate, symbolic_zeros=True)
    hessian.defjvp(differentiate_again)
    return density


def _call_density(conditional: Conditional, values: FloatArray, data: FloatArray) -> object:
    """Compute the density and its gradient outside of JAX's program."""
    import jax

    shapes = jax.ShapeDtypeStruct((), np.float64), jax.ShapeDtypeStruct(values.shape, np.float64)
    return jax.pure_callback(
        lambda *given: conditional.density(*(np.asarray(one) for one in given)), shapes, values, data,
        vmap_method="sequential",
    )  # fmt: skip


def _call_hessian(conditional: Conditional, values: FloatArray, data: FloatArray) -> object:
    """Compute the second derivatives outside of JAX's program."""
    import jax

    return jax.pure_callback(
        lambda *given: conditional.hessian(*(np.asarray(one) for one in given)),
        jax.ShapeDtypeStruct((values.shape[0], values.shape[0]), np.float64), values, data,
        vmap_method="sequential",
    )  # fmt: skip


def build_collapsed(
    problem: LinearProblem,
    data: GroupData,
    hyper: Hyperparameters,
    *,
    priors: Priors | None = None,
) -> pm.Model:
    """Build the model of the hyperparameters, the coefficients integrated out exactly.

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior.
    data : GroupData
        Names of its axes.
    hyper : Hyperparameters
        What is free.
    priors : mapping of str to callable, optional
        As for `build_linear`.

    Returns
    -------
    pymc.Model
        The free hyperparameters, by name; `width` has the axis width_group if there are groups. The data `y` have the
        density p(y | hyperparameters); drawn at random, they are of fluxes drawn from the prior given these.

    Raises
    ------
    InputError
        If nothing is free, the prior is flat, or a hyperparameter out of range.

    Notes
    -----
    Two to six numbers, whatever the number of coefficients; each evaluation is one solution of the linear problem, with
    the gradient of `Evidence`. Given draws, `draw_coefficients` gives the coefficients.
    """
    resolved = resolve(hyper, problem)
    if not resolved.free and not priors:
        raise InputError("hyper: expected a free hyperparameter, got only numbers; give one as 'learn' or a Hyperprior")
    conditional = Conditional.of(problem, resolved)
    n_width = conditional.hyper.size("width")
    coords = data_coords(data) | ({"width_group": np.arange(n_width)} if resolved.has_groups else {})
    with pm.Model(coords=coords) as model:
        free = add_hyperparameters(problem, resolved, priors)
        others = [pt.as_tensor_variable(one) for one in (free.zero_point, free.noise_scale, free.jitter)]
        values = pt.concatenate([pt.zeros(n_width) + free.width, pt.stack(others)])
        add_marginal(conditional, data, values)
    return model


def add_marginal(conditional: Conditional, data: GroupData, values: Tensor) -> None:
    """Add the data `y` to the model in context, their coefficients integrated out.

    Parameters
    ----------
    conditional : Conditional
        The problem.
    data : GroupData
        The data, and which exist.
    values : TensorVariable, shape (n_width + 3,)
        Hyperparameters, as for `Conditional.at`.
    """
    problem, n_width = conditional.problem, conditional.hyper.size("width")
    design, prior = proper_design(problem), problem.prior
    group = conditional.hyper.groups(design.n_coeff)
    observed = add_data(data)
    variance = 1.0 / np.where(problem.ivar > 0, problem.ivar, 1.0)
    operation = LogEvidence(conditional)

    def draw(values: Tensor, size: Tensor = None) -> Tensor:
        del size
        zero_point, noise_scale, jitter = (values[n_width + k] for k in range(3))
        shape = (problem.n_batch, prior.mean.size)
        flux = pm.Normal.dist(zero_point * prior.mean, values[:n_width][group] * prior.precision**-0.5, shape=shape)
        noise = pm.Normal.dist(0.0, noise_scale * pt.sqrt(variance + jitter**2))
        full = predict(design, specify_shape(flux, shape)) + problem.known + noise
        return full.reshape(data.used.shape) if data.used.all() else full.flatten()[np.flatnonzero(data.used)]

    def log_density(value: Tensor, values: Tensor) -> Tensor:
        return operation.make_node(values, spread_out(value, data).reshape(problem.data.shape)).outputs[0]

    dims = data_dims(data)
    pm.CustomDist(
        "y", values, dist=draw, logp=log_density, ndim_supp=len(dims), ndims_params=[1], observed=observed, dims=dims
    )


def find_start(model: pm.Model) -> NamedDict:
    """Find where the density of a collapsed model, in the coordinates of the sampler, is largest.

    Parameters
    ----------
    model : pymc.Model
        Of `build_collapsed`: a density of few numbers.

    Returns
    -------
    dict of str to ndarray
        Values by name, for `pymc.sample(initvals=...)`: a sampler that starts at width 1 where data want a thousandth
        spends its tuning on the way.
    """
    function = model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    function.set_extra_values({})
    point = model.initial_point()
    start = DictToArrayBijection.map({one.name: point[one.name] for one in model.continuous_value_vars})
    found = minimize(lambda x: tuple(-one for one in function(x)), start.data, jac=True, method="L-BFGS-B")
    at = DictToArrayBijection.rmap(RaveledVars(found.x, start.point_map_info))
    variables = model.replace_rvs_by_values(model.free_RVs)
    values = model.compile_fn(variables, inputs=model.continuous_value_vars, mode="FAST_COMPILE")(at)
    return {one.name: value for one, value in zip(model.free_RVs, values, strict=True)}


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
    model = build_collapsed(problem, data, resolved, priors=priors)
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
