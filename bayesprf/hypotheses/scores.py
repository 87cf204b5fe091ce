"""How well models predict the same data: exact evidence and exact leave-one-out, side by side."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from bayesprf.arrays import FloatArray, brief, brief_html
from bayesprf.errors import InputError
from bayesprf.linalg.loo import total_densities
from bayesprf.linalg.problem import GaussianPosterior, LinearProblem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Batch rows times observations digested at once, so that temporaries stay small beside the data.
_CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class ModelScore:
    """What a model gives to the data it was fitted to.

    Parameters
    ----------
    log_evidence : ndarray of float64, shape (n_time,)
        Log evidence of each cadence. Cadences are independent given the model, so this is also the log density of a
        cadence given all others: the sum is the leave-one-cadence-out score.
    elpd_time : ndarray of float64, shape (n_time,)
        Exact leave-one-pixel-out log densities, summed over the pixels of each cadence; NaN if not computed.
    elpd_pixel : ndarray of float64, shape (n_pixel,)
        The same, summed over the cadences of each pixel.
    data_digest : str
        Which data these are: equal for equal pixels, cadences and values.
    """

    log_evidence: FloatArray
    elpd_time: FloatArray
    elpd_pixel: FloatArray
    data_digest: str

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        """Give the sums over all cadences and pixels."""
        loo = float(np.sum(self.elpd_time))
        scored = f"exact leave-one-pixel-out {loo:.1f}" if np.isfinite(loo) else "leave-one-out not computed"
        n_time, n_pixel = self.log_evidence.size, self.elpd_pixel.size
        return f"ln evidence {np.sum(self.log_evidence):.1f}, {scored}, of {n_time} cadences x {n_pixel} pixels"


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One model of a comparison.

    Parameters
    ----------
    name : str
        Name.
    log_evidence : float
        Log evidence of all data; NaN under a flat prior.
    log_bayes_factor : float
        That minus the log evidence of the best model by evidence: 0 for it, negative for the others.
    probability : float
        Posterior probability if all models are equally probable before.
    elpd_loo : float
        Exact leave-one-pixel-out log density; NaN if it was not computed.
    elpd_se : float
        Its standard error.
    elpd_difference : float
        It minus that of the best model by leave-one-out: 0 for that, negative for the others.
    difference_se : float
        Standard error of this difference.
    """

    name: str
    log_evidence: float
    log_bayes_factor: float
    probability: float
    elpd_loo: float
    elpd_se: float
    elpd_difference: float
    difference_se: float


_COLUMNS = ComparedModel.__slots__


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models side by side, the best by evidence first.

    Parameters
    ----------
    models : tuple of ComparedModel
        The models.
    notes : tuple of str
        What to keep in mind.
    """

    models: tuple[ComparedModel, ...]
    notes: tuple[str, ...] = ()

    def plot(self, *, ax: "Axes | None" = None) -> "Figure":
        """Draw how far each model lies behind the best one, by leave-one-out and by evidence.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.answers import plot_comparison

        return plot_comparison(self, ax=ax)

    def __repr__(self) -> str:
        """Give the number of models, and the best."""
        return f"<Comparison: {len(self.models)} models, the best by evidence is {self.models[0].name}>"

    def __str__(self) -> str:
        """Return an aligned table."""
        rows = [_COLUMNS, *((m.name, *(_written(one, getattr(m, one)) for one in _COLUMNS[1:])) for m in self.models)]
        width = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        lines = ["  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(r, width, strict=True)))
                 for r in rows]  # fmt: skip
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        cells = [
            "".join(f"<td>{escape(_written(one, getattr(m, one)))}</td>" for one in _COLUMNS[1:]) for m in self.models
        ]
        rows = [f"<tr><th>{escape(m.name)}</th>{row}</tr>" for m, row in zip(self.models, cells, strict=True)]
        head = "".join(f"<th>{escape(one)}</th>" for one in _COLUMNS)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>{notes}"


def _written(column: str, value: float) -> str:
    """Return a log density with one decimal, a probability with three digits, a dash for what is not known."""
    if not np.isfinite(value):
        return "-"
    return f"{value:.3g}" if column == "probability" else f"{value:.1f}"


def score_model(problem: LinearProblem, posterior: GaussianPosterior) -> ModelScore:
    """Score a fit by its evidence and by exact leave-one-out.

    Parameters
    ----------
    problem : LinearProblem
        Its design must be a DesignStack.
    posterior : GaussianPosterior
        Its answer, from BlockSolver.

    Returns
    -------
    ModelScore
    """
    return ModelScore(posterior.log_evidence, *total_densities(problem, posterior), data_digest(problem))


def data_digest(problem: LinearProblem) -> str:
    """Return a digest that is equal for problems with the same data: the same values dropped and kept.

    Parameters
    ----------
    problem : LinearProblem
        Any problem; its errors, design and prior do not matter, they belong to the model.

    Returns
    -------
    str
        16 hexadecimal digits, from the number and the sum of the data of every batch row and observation.
    """
    n_batch, n_obs = problem.data.shape
    parts = [np.zeros(n_obs, np.int64), np.zeros(n_batch, np.int64), np.zeros(n_obs), np.zeros(n_batch)]
    step = max(1, _CHUNK_ELEMENTS // max(n_obs, 1))
    for start in range(0, n_batch, step):
        rows = slice(start, start + step)
        used = problem.ivar[rows] > 0
        values = np.where(used, problem.data[rows], 0.0)
        parts[0] += used.sum(axis=0)
        parts[1][rows] = used.sum(axis=1)
        parts[2] += values.sum(axis=0)
        parts[3][rows] = values.sum(axis=1)
    return hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in parts)).hexdigest()[:16]


def compare_scores(scores: Mapping[str, ModelScore]) -> Comparison:
    """Put the scores of models of the same data side by side.

    Parameters
    ----------
    scores : mapping of str to ModelScore
        Scores by name, at least two.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If there are fewer than two, or the data differ.

    Notes
    -----
    A misfit of the PRF repeats from cadence to cadence, and one of the pointing from pixel to pixel. Standard errors
    are therefore taken over pixels (sums over cadences) and over cadences (sums over pixels), sqrt(n var), and the
    larger of the two is given. Evidence also weighs how wide the priors are; leave-one-out hardly does. When they
    disagree, it is about the priors.
    """
    if len(scores) < 2:
        raise InputError(f"models: expected at least two models to compare, got {len(scores)}")
    _check_same_data(scores)
    evidence = {name: float(one.log_evidence.sum()) for name, one in scores.items()}
    elpd = {name: float(one.elpd_time.sum()) for name, one in scores.items()}
    proper = np.array([one for one in evidence.values() if np.isfinite(one)])
    top = float(proper.max()) if proper.size else np.nan
    total = float(np.logaddexp.reduce(proper - top)) if proper.size else np.nan
    known = [name for name in elpd if np.isfinite(elpd[name])]
    best = scores[max(known, key=elpd.__getitem__)] if known else None
    rows = []
    for name in sorted(scores, key=lambda one: -np.nan_to_num(evidence[one], nan=-np.inf)):
        one = scores[name]
        against = one if best is None else best
        rows.append(
            ComparedModel(
                name,
                evidence[name],
                evidence[name] - top,
                float(np.exp(evidence[name] - top - total)),
                elpd[name],
                _standard_error(one.elpd_time, one.elpd_pixel),
                float((one.elpd_time - against.elpd_time).sum()),
                _standard_error(one.elpd_time - against.elpd_time, one.elpd_pixel - against.elpd_pixel),
            )
        )
    return Comparison(tuple(rows), (*_notes(evidence, elpd), *_disagreement(rows)))


def _check_same_data(scores: Mapping[str, ModelScore]) -> None:
    (first, reference), *rest = scores.items()
    shape = (reference.log_evidence.size, reference.elpd_pixel.size)
    for name, one in rest:
        found = (one.log_evidence.size, one.elpd_pixel.size)
        if found != shape:
            raise InputError(
                f"models: expected the same data for all, got {shape[0]} cadences and {shape[1]} pixels for {first!r}"
                f" but {found[0]} and {found[1]} for {name!r}; fit both to the same pixels"
            )
        if one.data_digest != reference.data_digest:
            raise InputError(
                f"models: expected the same data for all, but {first!r} and {name!r} were fitted to different pixel"
                " values or use different pixels; fit both to the same pixels"
            )


def _standard_error(by_time: FloatArray, by_pixel: FloatArray) -> float:
    return float(max(np.sqrt(one.size * one.var()) for one in (by_time, by_pixel)))


def _notes(evidence: Mapping[str, float], elpd: Mapping[str, float]) -> tuple[str, ...]:
    flat = [name for name, one in evidence.items() if not np.isfinite(one)]
    unscored = [name for name, one in elpd.items() if not np.isfinite(one)]
    notes = [f"{name}: a flat prior has no evidence; give every source a prior_sigma" for name in flat]
    return (*notes, *(f"{name}: no leave-one-out score; call loo() before saving" for name in unscored))


def _disagreement(rows: Sequence[ComparedModel]) -> tuple[str, ...]:
    """Say so if evidence and leave-one-out prefer different models."""
    first = rows[0]
    scored = [one for one in rows if np.isfinite(one.elpd_loo)]
    best = max(scored, key=lambda one: one.elpd_loo, default=first)
    if not np.isfinite(first.log_evidence) or not np.isfinite(first.elpd_loo) or best is first:
        return ()
    lead, error = -first.elpd_difference, first.difference_se
    advice = "which is no decision" if lead < 2.0 * error else "ask which priors are meant"
    return (f"evidence prefers {first.name}, leave-one-out {best.name}, by {lead:.1f} +- {error:.1f}: {advice}",)
