"""What is expected of any PRF before a pixel is seen."""

import numpy as np

from bayesprf.design.polar import PolarBasis
from bayesprf.scene.prf import PrfModel

# Derived: the slope of stars' wings before a pixel is seen: between an Airy pattern's and a seeing halo's.
STAR_WINGS = (-3.5, 0.5)
# Derived: the nominal profile is a round Moffat of this width, pixel, wide enough for Kepler's 1.4 to 2.2 and TESS's
# 1.9, and the power of a turbulent one's lower end, 2.5 to 5 (Trujillo et al. 2001, MNRAS 328, 977).
_NOMINAL_FWHM, _NOMINAL_BETA = 1.5, 2.5


def nominal_prf(basis: PolarBasis, pixel_area: float) -> PrfModel:
    """Return the prior mean of the PRF: a round Moffat profile of area one.

    Parameters
    ----------
    basis : PolarBasis
        Columns.
    pixel_area : float
        arcsec**2.

    Returns
    -------
    PrfModel
    """
    width = _NOMINAL_FWHM * np.sqrt(pixel_area) / (2.0 * np.sqrt(2.0 ** (1.0 / _NOMINAL_BETA) - 1.0))
    weights = -_NOMINAL_BETA * np.log10(1.0 + (basis.centers / width) ** 2)
    return PrfModel(basis, weights, pixel_area).normalized()
