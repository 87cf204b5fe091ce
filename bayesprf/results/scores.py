"""Scores of models from Machines and from saved trees, for comparison."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayesprf.arrays import Named, NamedDict
from bayesprf.checks import checked
from bayesprf.errors import InputError
from bayesprf.hypotheses.scores import Comparison, ModelScore, compare_scores


@checked
def compare(models: Named) -> Comparison:
    """Compare models of the same data: evidence, Bayes factors, exact leave-one-out.

    Parameters
    ----------
    models : mapping of str to Machine or xarray.DataTree
        Fitted Machines, trees of `to_datatree`, or trees of `Machine.posterior` with exact leave-one-out.

    Returns
    -------
    Comparison
        Printed, it is a table.

    Raises
    ------
    InputError
        If there are fewer than two models, one of them holds no evidence, or the data differ.

    See Also
    --------
    Machine.loo : The score of one model.
    Machine.blend_test : One star or two.

    Examples
    --------
    >>> import bayesprf as bp
    >>> refined = bp.Machine.from_fit(machine.fit, quiet=True)
    >>> refined.refine_scene()
    >>> refined.fit_model()
    >>> table = bp.compare({"catalogue positions": machine, "refined": refined})
    """
    if not isinstance(models, Mapping):
        raise InputError(
            f"models: expected a mapping of names to Machines or DataTrees, got {type(models).__name__}; give"
            " {'one star': machine, 'two stars': other}"
        )
    return compare_scores({name: read_score(name, model) for name, model in models.items()})


def read_score(name: str, model: object) -> ModelScore:
    """Return the score of a model.

    Parameters
    ----------
    name : str
        Its name, for messages.
    model : Machine or xarray.DataTree
        The model.

    Returns
    -------
    ModelScore

    Raises
    ------
    InputError
        If it is neither, or holds no evidence.
    """
    if hasattr(model, "loo"):
        score: ModelScore = model.loo()
        return score
    if not isinstance(model, xr.DataTree):
        raise InputError(f"models[{name!r}]: expected a Machine or a DataTree, got {type(model).__name__}")
    if "comparison" in model.children and "log_evidence" in model["comparison"]:
        return _from_results(name, model["comparison"].to_dataset())
    if "gaussian" in model.children:
        return _from_draws(name, model)
    raise InputError(
        f"models[{name!r}]: expected a tree with a group /comparison or /gaussian, got {sorted(model.children)};"
        " fit the fluxes before to_datatree()"
    )


def score_group(score: ModelScore) -> NamedDict:
    """Return the arrays of ``/comparison``.

    Parameters
    ----------
    score : ModelScore
        Score of the fit.

    Returns
    -------
    dict of str to array
    """
    return {
        "log_evidence": score.log_evidence,
        "elpd_loo": score.elpd_time,
        "elpd_loo_pixel": score.elpd_pixel,
        "data_digest": score.data_digest,
    }


def _from_results(name: str, group: xr.Dataset) -> ModelScore:
    lacking = [one for one in ("log_evidence", "elpd_loo", "elpd_loo_pixel", "data_digest") if one not in group]
    if lacking:
        raise InputError(
            f"models[{name!r}]: expected {lacking[0]} in the group /comparison, got none; the results are damaged, so"
            " fit anew"
        )
    return ModelScore(
        group["log_evidence"].values,
        group["elpd_loo"].values,
        group["elpd_loo_pixel"].values,
        str(group["data_digest"].values),
    )


def _from_draws(name: str, tree: xr.DataTree) -> ModelScore:
    exact = tree["gaussian"].to_dataset()
    if "elpd_loo" not in exact:
        raise InputError(f"models[{name!r}]: expected exact leave-one-out densities, got none; raise max_pointwise")
    density = np.nan_to_num(np.atleast_2d(exact["elpd_loo"].values))
    observed = tree["observed_data"].to_dataset()["y"].values
    return ModelScore(
        np.atleast_1d(exact["log_evidence"].values),
        density.sum(axis=1),
        density.sum(axis=0),
        f"{np.nansum(observed):.17g}/{np.count_nonzero(np.isfinite(observed))}",
    )
