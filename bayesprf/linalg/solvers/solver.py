"""The solver contract, and the choice of a solver for a problem."""

from typing import Protocol

from bayesprf.linalg.problem import GaussianPosterior, LinearProblem
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.linalg.stack import DesignStack


class Solver(Protocol):
    """Anything that turns a LinearProblem into its GaussianPosterior."""

    def solve(self, problem: LinearProblem) -> GaussianPosterior:
        """Return the posterior of every batch row."""
        ...


def choose_solver(problem: LinearProblem) -> Solver:
    """Choose the solver that makes most of the structure of a problem.

    Parameters
    ----------
    problem : LinearProblem
        The problem to be solved.

    Returns
    -------
    Solver
        BlockSolver for a DesignStack, whose pattern it can use, and DenseSolver for any other design; within a
        WeightedSolver where the weights are not those of the noise.
    """
    solver: Solver = DenseSolver()
    if isinstance(problem.design, DesignStack):
        from bayesprf.linalg.solvers.blocks import BlockSolver

        solver = BlockSolver()
    if problem.noise_ratio is None:
        return solver
    from bayesprf.linalg.solvers.weighted import WeightedSolver

    return WeightedSolver(solver)
