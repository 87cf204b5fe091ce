"""The solver contract, and the choice of a solver for a problem."""

from typing import Protocol

from bayesprf.linalg.problem import GaussianPosterior, LinearProblem


class Solver(Protocol):
    """Anything that turns a LinearProblem into its GaussianPosterior."""

    def solve(self, problem: LinearProblem) -> GaussianPosterior:
        """Return the posterior of every batch row."""
        ...
