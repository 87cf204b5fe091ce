"""Models side by side."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.errors import InputError
from bayesprf.hypotheses.scores import ModelScore, compare_scores, data_digest, score_model
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.stack import DesignStack

DESIGN = DesignStack.from_sparse(csr_matrix(np.array([[1.0, 0.2], [0.5, 0.5], [0.1, 1.0], [0.0, 0.7]])))


def make_problem(width, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.normal(10.0, 1.0, (6, 4))
    return LinearProblem(DESIGN, data, np.ones((6, 4)), GaussianPrior.from_sigma(np.full(2, 10.0), np.full(2, width)))


def score(problem):
    return score_model(problem, BlockSolver().solve(problem))


def test_differences_and_probabilities_add_up():
    scores = {"narrow": score(make_problem(5.0)), "wide": score(make_problem(500.0))}
    table = compare_scores(scores)
    assert [one.name for one in table.models] == ["narrow", "wide"]
    best, other = table.models
    assert (best.log_bayes_factor, best.probability + other.probability) == (0.0, pytest.approx(1.0))
    assert other.log_bayes_factor == pytest.approx(
        scores["wide"].log_evidence.sum() - scores["narrow"].log_evidence.sum()
    )
    assert best.elpd_loo == pytest.approx(scores["narrow"].elpd_pixel.sum())
    by_time = scores["narrow"].elpd_time
    by_pixel = scores["narrow"].elpd_pixel
    assert best.elpd_se == pytest.approx(max(np.sqrt(6 * by_time.var()), np.sqrt(4 * by_pixel.var())))
    assert max(one.elpd_difference for one in table.models) == 0.0
    lines = str(table).splitlines()
    assert [len(lines), lines[0].split()[0], lines[1].split()[0]] == [3, "name", "narrow"]


def test_evidence_of_a_cadence_is_its_density_given_the_others():
    problem = make_problem(5.0)
    whole = BlockSolver().solve(problem).log_evidence.sum()
    rest = LinearProblem(DESIGN, problem.data[1:], problem.ivar[1:], problem.prior)
    assert score(problem).log_evidence[0] == pytest.approx(whole - BlockSolver().solve(rest).log_evidence.sum())


def test_different_data_are_refused():
    one, fewer = score(make_problem(5.0)), make_problem(5.0)
    other = score(make_problem(5.0, seed=1))
    with pytest.raises(InputError, match="'a' and 'b' were fitted to different pixel values"):
        compare_scores({"a": one, "b": other})
    fewer = LinearProblem(DESIGN, fewer.data[1:], fewer.ivar[1:], fewer.prior)
    with pytest.raises(InputError, match="got 6 cadences and 4 pixels for 'a' but 5 and 4 for 'b'"):
        compare_scores({"a": one, "b": score(fewer)})
    with pytest.raises(InputError, match="expected at least two models to compare, got 1"):
        compare_scores({"a": one})


def test_errors_may_differ_but_not_the_pixels_in_use():
    problem = make_problem(5.0)
    wider = replace(problem, ivar=0.5 * problem.ivar)
    assert data_digest(wider) == data_digest(problem)
    dropped = problem.ivar.copy()
    dropped[0, 0] = 0.0
    assert data_digest(replace(problem, ivar=dropped)) != data_digest(problem)


def test_a_flat_prior_is_noted():
    problem = make_problem(5.0)
    flat = replace(problem, prior=GaussianPrior(problem.prior.mean, np.zeros(2)))
    table = compare_scores({"flat": score(flat), "narrow": score(problem)})
    assert [one.name for one in table.models] == ["narrow", "flat"]
    assert table.notes == ("flat: a flat prior has no evidence; give every source a prior_sigma",)
    assert table.models[0].log_bayes_factor == 0.0


def test_numbers_are_written_to_be_read():
    scores = {"narrow": score(make_problem(5.0)), "wide": score(make_problem(500.0))}
    unknown = replace(scores["wide"], elpd_time=np.full(6, np.nan), elpd_pixel=np.full(4, np.nan))
    first, second = (line.split() for line in str(compare_scores({**scores, "wide": unknown})).splitlines()[1:3])
    assert first[1] == f"{scores['narrow'].log_evidence.sum():.1f}"
    assert second[4:] == ["-", "-", "-", "-"]


def test_disagreement_is_said_in_words():
    """The evidence prefers the right width of the prior, leave-one-out the wider one: data decide there, not priors."""
    one, two = np.zeros(6), np.zeros(4)
    wide = ModelScore(one - 3.0, one - 1.0, two - 1.5, "same")
    narrow = ModelScore(one - 1.0, one - 2.0, two - 3.0, "same")
    table = compare_scores({"wide": wide, "narrow": narrow})
    assert table.notes == ("evidence prefers narrow, leave-one-out wide, by 6.0 +- 0.0: ask which priors are meant",)
    scattered = ModelScore(one - 1.0, np.array([-9.0, 3.0, -2.0, -1.0, -2.0, -1.0]), two - 3.0, "same")
    table = compare_scores({"wide": wide, "narrow": scattered})
    assert table.notes[0].endswith(": which is no decision")
    assert compare_scores({"wide": wide, "same": wide}).notes == ()
