"""Solvers of the linear problem, and the choice among them."""
