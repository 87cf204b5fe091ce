"""PyMC model of the hyperparameters alone: all coefficients integrated out, by the package's own solver."""

import warnings
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.blocking import DictToArrayBijection, RaveledVars
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from scipy.optimize import minimize

from bayesprf.errors import InputError
from bayesprf.linalg.problem import LinearProblem
from bayesprf.sampling.conditional import Conditional, HyperValues
from bayesprf.sampling.hyper import Hyperparameters
from bayesprf.sampling.hyper_variables import HyperVariables, Priors
from bayesprf.sampling.run import OBJECT_MODE


class LogEvidence(Op):
    """log p(y | hyperparameters) and its gradient, from the vector of all hyperparameters (`HyperValues.split`)."""

    def __init__(self, conditional: Conditional) -> None:
        self.conditional = conditional

    def make_node(self, values: Any) -> Apply:
        """Return the node of the graph: a vector in; a number and a vector out."""
        return Apply(self, [pt.as_tensor_variable(values)], [pt.dscalar(), pt.dvector()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Compute both."""
        del node
        value, gradient = self.conditional.density(HyperValues.split(inputs[0]))
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
    resolved = hyper.resolve(problem)
    if not resolved.free and not priors:
        raise InputError("hyper: expected a free hyperparameter, got only numbers; give one as 'learn' or a Hyperprior")
    conditional = Conditional.of(problem, resolved)
    n_width = int(conditional.group.max()) + 1
    coords = {"width_group": np.arange(n_width)} if resolved.has_groups else {}
    with pm.Model(coords=coords) as model:
        free = HyperVariables.add(problem, resolved, priors)
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
