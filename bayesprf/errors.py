"""Exception and warning classes: every error of the package has one base and one familiar built-in."""

import warnings
from pathlib import Path

from numpy.linalg import LinAlgError

PACKAGE_FILES = (str(Path(__file__).parent),)


class BayesprfError(Exception):
    """Base of every error that bayesprf raises."""


class InputError(BayesprfError, ValueError):
    """An argument has the wrong value."""


class ShapeError(InputError):
    """An array argument has the wrong shape."""


class UnitError(InputError):
    """An argument carries a unit that cannot be converted to the documented one."""


class FileError(BayesprfError, OSError):
    """A file is missing, truncated or not what its name promises."""


class StageError(BayesprfError, RuntimeError):
    """A result was asked for before the stage that makes it."""


class NotPositiveDefiniteError(BayesprfError, LinAlgError):
    """A linear problem has no unique solution: a coefficient is constrained by neither data nor prior."""

    def __init__(self, message: str, *, coefficient: int = -1, batch: int = -1) -> None:
        super().__init__(message)
        self.coefficient = coefficient
        self.batch = batch


class MissingDependencyError(BayesprfError, ImportError):
    """An optional package is needed and not installed."""


class UnsupportedError(BayesprfError, NotImplementedError):
    """The chosen solver or record cannot do what was asked."""


class BayesprfWarning(UserWarning):
    """Base of every warning that bayesprf gives."""


class DataWarning(BayesprfWarning):
    """Part of the input could not be used; the rest was."""


class QualityWarning(DataWarning):
    """A fit has faults that move fluxes by more than their errors; the message names them and the cures."""


class ConvergenceWarning(BayesprfWarning):
    """An iteration or a sampler stopped before it converged."""


class PrecisionWarning(BayesprfWarning):
    """An approximation that was asked for is coarser than it should be."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn, pointing at the line outside of the package that led to it."""
    warnings.warn(message, category, skip_file_prefixes=PACKAGE_FILES)
