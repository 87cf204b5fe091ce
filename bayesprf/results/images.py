"""What pictures need of a Fit, small enough to be kept with its results: the mean image, and the PRF on a grid."""

import numpy as np

from bayesprf.arrays import NamedDict
from bayesprf.fit_record import Fit
from bayesprf.plots.records import PrfImages
from bayesprf.prf.fit import PrfFit
from bayesprf.scene.axes import source_places
from bayesprf.scene.field_prf import NODES

# Shown: the PRF is drawn out to so many pixels from the star, with so many points per pixel.
_HALF, _SAMPLES = 4.0, 6.0


def prf_images(shape: PrfFit) -> PrfImages:
    """Evaluate a fitted PRF on a grid, at nine places of the field where it varies.

    Parameters
    ----------
    shape : PrfFit
        The fit.

    Returns
    -------
    PrfImages
    """
    side = float(np.sqrt(shape.prf.pixel_area))
    n_half = int(_HALF * _SAMPLES)
    offset = np.arange(-n_half, n_half + 1) / _SAMPLES * side
    field = shape.joint.prf
    varies = field is not None and max(field.order, field.geometry_order) > 0
    place = NODES if varies else np.zeros((1, 2))
    models = [field.normalized_at(one) for one in NODES] if field is not None and varies else [shape.prf]
    dx, dy = (one.ravel() for one in np.meshgrid(offset, offset))
    values = [one.evaluate(dx, dy).reshape(offset.size, offset.size) for one in models]
    return PrfImages(np.array(values), offset, place)


def image_group(fit: Fit) -> NamedDict:
    """Return the arrays of ``/image``: the image that the PRF was fitted to, and its model."""
    prf, pixels = fit.need("prf"), fit.pixels
    seen = prf.image.ivar > 0
    error = np.divide(1.0, np.sqrt(prf.image.ivar), out=np.full(pixels.n_pixel, np.nan), where=seen)
    return {
        "column": pixels.column,
        "row": pixels.row,
        "stamp": pixels.stamp,
        "flux": np.where(seen, prf.image.flux, np.nan),
        "flux_err": error,
        "model": prf.matrix.image(prf.flux) + prf.fixed_light,
    }


def place_columns(fit: Fit) -> NamedDict:
    """Return where each source lies on the detector, at the positions that the PRF fit found."""
    column, row = source_places(fit.pixels, fit.sources, fit.need("prf").offset)
    return {"detector_column": column, "detector_row": row}


def prf_arrays(shape: PrfFit) -> NamedDict:
    """Return the arrays of ``/shape`` that hold the PRF as an image."""
    found = prf_images(shape)
    return {"prf_image": found.values, "prf_offset": found.offset, "prf_position": found.place}
