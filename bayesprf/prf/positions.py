"""Where the stars are, beside the places that the catalogue has them at."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray

# Rounding: positions are never held tighter than this, arcsec: catalogues print no more digits.
MIN_WIDTH = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class PositionFit:
    """Places of all stars beside the catalogue's.

    Parameters
    ----------
    shift : ndarray of float64, shape (n_source, 2)
        Posterior mean of the offset from the catalogue position after the common one, east and north, arcsec.
    std : ndarray of float64, shape (n_source, 2)
        Its standard deviation, arcsec.
    fitted : bool
        Whether they were fitted, and the fit settled.
    """

    shift: FloatArray
    std: FloatArray
    fitted: bool

    @classmethod
    def at_catalog(cls, n_source: int) -> "PositionFit":
        """Leave every star where the catalogue has it."""
        return cls(np.zeros((n_source, 2)), np.zeros((n_source, 2)), fitted=False)


def position_width(shift: FloatArray) -> float:
    """Return how far stars lie from their catalogue positions, per axis.

    Parameters
    ----------
    shift : ndarray of float64, shape (n_source, 2)
        Fitted shifts, arcsec.

    Returns
    -------
    float
        Standard deviation, arcsec.
    """
    return max(float(np.std(shift)), MIN_WIDTH)
