"""How far each source's light reaches, from its flux alone, before the PRF is known."""

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.settings import MaskOptions
from bayesprf.stats import fit_clipped

# Defaults of the reach, in pixels, where the options leave it open.
_UPPER_RADIUS_PIX = 7.0
_LOWER_RADIUS_PIX = 1.13
_LOWER_FLUX_ERRORS = 10.0
_CLIP_SIGMA, _N_CLIP = 3.0, 3
_MIN_PAIRS = 12


def fit_extent(
    pairs: PairTable, image: Image, flux: FloatArray, *, pixel_scale: float, options: MaskOptions
) -> FloatArray:
    """Fit how the light of a star falls with radius, and return the radius where it drops to a limit.

    Parameters
    ----------
    pairs : PairTable
        Near pairs.
    image : Image
        The image to look at.
    flux : ndarray of float64, shape (n_source,)
        Catalogue fluxes on any common scale; not positive or NaN means unknown.
    pixel_scale : float
        arcsec per pixel.
    options : MaskOptions
        Limits.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        Reach of each source, arcsec.

    Notes
    -----
    log10 y = a0 + a1 r + a2 log10 f + a3 r log10 f over the pixels nearest to one star that clearly
    see it (Hedges et al. 2021, section 2.1), with 3 sigma clipping, solved for r at the limit.
    """
    limit = options.lower_flux_limit or _LOWER_FLUX_ERRORS * image.cadence_error
    lower = options.lower_radius_limit or _LOWER_RADIUS_PIX * pixel_scale
    upper = options.upper_radius_limit or _UPPER_RADIUS_PIX * pixel_scale
    known = np.isfinite(flux) & (np.nan_to_num(flux) > 0)
    log_flux = np.log10(np.where(known, flux, np.median(flux[known]) if known.any() else 1.0))
    coefficients = _fit_profile(pairs, image, log_flux, _nearest(pairs), limit)
    if coefficients is None:
        return np.full(pairs.n_source, lower)
    a0, a1, a2, a3 = coefficients
    slope = a1 + a3 * log_flux
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = (np.log10(limit) - a0 - a2 * log_flux) / slope
    # A fit that does not fall with radius says nothing: such stars get the widest reach.
    return np.clip(np.where(slope < 0, reach, upper), lower, upper)


def _nearest(pairs: PairTable) -> BoolArray:
    """Return the pairs in which no other source is nearer to the pixel."""
    best = np.full(pairs.n_pixel, np.inf)
    np.minimum.at(best, pairs.pixel, pairs.r)
    return pairs.r == best[pairs.pixel]


def _fit_profile(
    pairs: PairTable, image: Image, log_flux: FloatArray, use: BoolArray, limit: float
) -> FloatArray | None:
    y = image.flux[pairs.pixel]
    use = use & (image.ivar[pairs.pixel] > 0) & (y > limit / 3.0)
    r, f, y = pairs.r[use], log_flux[pairs.source[use]], np.log10(y[use])
    if y.size < _MIN_PAIRS:
        return None
    matrix = np.stack([np.ones_like(r), r, f, r * f], axis=1)
    solution, keep = fit_clipped(matrix, y, _rms, limit=_CLIP_SIGMA, n_pass=_N_CLIP, least=_MIN_PAIRS)
    return None if np.count_nonzero(keep) < _MIN_PAIRS else solution


def _rms(residual: FloatArray, keep: BoolArray) -> float:
    """Return the rms; not the scatter about the mean: exact data leave a common rounding offset, far above that."""
    return float(np.sqrt(np.mean(residual[keep] ** 2)))
