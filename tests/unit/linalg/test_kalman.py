"""Processes by filter and smoother beside the dense matrices of all data."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bayesprf.errors import InputError, ShapeError
from bayesprf.linalg.kalman import FixedColumns, RowInformation, draw_processes, solve_processes
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.linalg.state_space import ProcessKernel
from bayesprf.testing import dense_processes

N_TIME, N_PIXEL, LEVEL = 24, 12, 200.0
FAMILIES = ("matern32", "matern12", "matern52", "oscillator", "constant", "matern32", "matern52", "matern12")


def make_case(n_star, seed=0):
    """Return problem, kernels, times and columns of blended stars with gaps in time and in pixels."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0.0, 3.0, N_TIME))
    kernels = tuple(
        ProcessKernel(family, sigma=rng.uniform(5, 30), scale=rng.uniform(0.2, 2.0), white=white)
        for family, white in zip(FAMILIES[:n_star], (0.0, 3.0, 0.0, 0.0, 2.0, 1.0, 0.0, 4.0), strict=False)
    )
    light = rng.uniform(0.0, 1.0, (N_PIXEL, n_star))
    ivar = rng.uniform(0.5, 2.0, (N_TIME, N_PIXEL)) ** -2
    ivar[rng.uniform(size=ivar.shape) < 0.1] = 0.0
    ivar[5], ivar[11, 2:] = 0.0, 0.0  # a whole cadence, and nearly all of another
    flux = LEVEL + 20.0 * rng.normal(size=(N_TIME, n_star))
    data = np.where(
        ivar > 0, flux @ light.T + rng.normal(size=ivar.shape) / np.sqrt(np.where(ivar > 0, ivar, 1)), np.nan
    )
    values = np.zeros((N_TIME, n_star, n_star + 1))
    values[:, np.arange(n_star), np.arange(n_star)] = 1.0
    values[:, 0, -1] = -np.exp(-0.5 * ((time - 1.5) / 0.2) ** 2)
    mean = np.append(LEVEL + rng.uniform(-20, 20, n_star), 0.0)
    columns = FixedColumns(values, mean, np.eye(n_star + 1) * 50.0**-2)
    prior = GaussianPrior.from_sigma(np.zeros(n_star), np.ones(n_star))
    problem = LinearProblem(
        DesignStack.from_sparse(csr_matrix(light)), data, ivar, prior, 0.1 * rng.normal(size=N_PIXEL)
    )
    return problem, kernels, time, columns


def inform(problem):
    """Return the normal equations of each row, pixel by pixel."""
    light, used = problem.design.matrix().toarray(), problem.ivar > 0
    data = np.where(used, problem.data - problem.known, 0.0)
    noise = np.where(used, np.log(2 * np.pi / np.where(used, problem.ivar, 1.0)), 0.0)
    return RowInformation(
        np.einsum("ps,tp,pq->tsq", light, problem.ivar, light),
        (problem.ivar * data) @ light,
        -0.5 * (noise + problem.ivar * data**2).sum(axis=1),
    )


@pytest.mark.parametrize("n_star", [1, 3, 8])
def test_equals_the_dense_twin(n_star):
    problem, kernels, time, columns = make_case(n_star)
    found = solve_processes(inform(problem), kernels, time, columns)
    twin = dense_processes(problem, kernels, time, columns)
    covariance = np.einsum("titj->tij", twin.covariance)
    std = np.sqrt(np.einsum("tii->ti", covariance))
    np.testing.assert_allclose((found.mean - twin.mean) / std, 0.0, atol=1e-9)
    np.testing.assert_allclose(found.std, std, rtol=1e-9)
    outer = std[:, :, None] * std[:, None]
    np.testing.assert_allclose(found.covariance / outer, covariance / outer, atol=1e-9)
    assert found.log_evidence.sum() == pytest.approx(twin.log_evidence.sum(), rel=1e-9)
    np.testing.assert_allclose(found.log_evidence, twin.log_evidence, rtol=1e-8, atol=1e-6)
    np.testing.assert_allclose(found.log_loo, twin.log_loo, rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize("name", ["sigma", "scale", "white", "quality"])
def test_gradient_of_the_kernels_equals_finite_differences(name):
    problem, kernels, time, columns = make_case(5)
    seen, h = inform(problem), 1e-5
    gradient = solve_processes(seen, kernels, time, columns, gradient=True).gradient
    slope = {"white": "white_variance", "quality": "quality"}.get(name, f"log_{name}")
    for k, one in enumerate(kernels):
        value = getattr(one, name)
        slopes = getattr(gradient, slope) * (2.0 * one.white**2 if name == "white" else 1.0)
        ends = (value + h, value - h) if name == "quality" else (value * np.exp(h), value * np.exp(-h))
        sides = [(*kernels[:k], replace(one, **{name: end}), *kernels[k + 1 :]) for end in ends]
        up, down = (solve_processes(seen, side, time, columns).log_evidence.sum() for side in sides)
        assert slopes[k] == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-4)


def test_gradient_of_the_columns_equals_finite_differences():
    problem, kernels, time, columns = make_case(3)
    seen, h = inform(problem), 1e-6
    found = solve_processes(seen, kernels, time, columns, gradient=True).gradient.columns
    change = np.random.default_rng(1).normal(size=found.shape)
    up, down = (
        solve_processes(seen, kernels, time, replace(columns, values=columns.values + s * change)).log_evidence.sum()
        for s in (h, -h)
    )
    assert np.sum(found * change) == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_draws_have_the_moments_of_the_dense_posterior():
    problem, kernels, time, columns = make_case(3)
    draws = draw_processes(inform(problem), kernels, time, columns, n_draw=4000, rng=np.random.default_rng(2))
    twin = dense_processes(problem, kernels, time, columns)
    flat = twin.covariance.reshape(2 * [N_TIME * 3])
    whole = np.linalg.solve(
        np.linalg.cholesky(flat + 1e-9 * np.diag(np.diag(flat))), (draws - twin.mean).reshape(4000, -1).T
    )
    assert np.abs(whole.mean(axis=1)).max() < 4.5 / np.sqrt(4000)
    assert (whole**2).mean() == pytest.approx(1.0, abs=4.0 * np.sqrt(2.0 / whole.size))
    assert np.linalg.norm(np.cov(whole) - np.eye(len(whole)), 2) < 4.0 * np.sqrt(len(whole) / 4000)


def test_a_wide_prior_of_the_level_costs_no_digits():
    """Ten million times wider than the error: the answer stays that of an infinitely wide one."""
    problem, kernels, time, columns = make_case(3)
    seen = inform(problem)
    wide, wider = (
        solve_processes(seen, kernels, time, replace(columns, precision=np.eye(4) * sigma**-2)) for sigma in (1e7, 1e10)
    )
    np.testing.assert_allclose((wide.mean - wider.mean) / wide.std, 0.0, atol=1e-7)
    np.testing.assert_allclose(wide.std, wider.std, rtol=1e-9)


def test_a_flat_prior_has_no_evidence():
    problem, kernels, time, columns = make_case(3)
    found = solve_processes(inform(problem), kernels, time, replace(columns, precision=np.zeros((4, 4))))
    assert np.isnan(found.log_evidence).all()
    assert np.isfinite(found.mean).all()


def test_the_same_call_gives_the_same_bits():
    problem, kernels, time, columns = make_case(8)
    first, second = (solve_processes(inform(problem), kernels, time, columns) for _ in range(2))
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.covariance, second.covariance)


def test_refuses_what_does_not_fit():
    problem, kernels, time, columns = make_case(3)
    seen = inform(problem)
    with pytest.raises(ShapeError, match="kernels: expected 3, one per coefficient, got 2"):
        solve_processes(seen, kernels[:2], time, columns)
    with pytest.raises(InputError, match="time: expected times that ascend"):
        solve_processes(seen, kernels, time[::-1], columns)
    with pytest.raises(ShapeError, match="columns: expected shape"):
        solve_processes(seen, kernels, time, replace(columns, values=columns.values[:, :2]))
