"""From fit records to the named arrays of each group of the DataTree."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayesprf.linalg.residuals import residual_sums
from bayesprf.models.photometry import FluxFit
from bayesprf.models.shape import ShapeFit
from bayesprf.scene.sources import SourceTable


def photometry_group(fit: FluxFit) -> dict[str, Any]:
    """Return the arrays of ``/photometry`` that a flux fit gives.

    Parameters
    ----------
    fit : FluxFit
        Fluxes of all sources.

    Returns
    -------
    dict of str to ndarray
    """
    chi2, count = residual_sums(fit.problem, fit.posterior.mean)
    return {
        "flux": fit.flux,
        "flux_err": fit.flux_err,
        "flags": fit.flags,
        "chi2": chi2,
        "n_pixel_used": count,
        "log_evidence": fit.log_evidence,
    }


def catalog_group(sources: SourceTable, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of ``/catalog``: the catalogue as given, and diagnostics of each source.

    Parameters
    ----------
    sources : SourceTable
        The catalogue.
    extra : mapping of str to array-like
        Diagnostics, shape (n_source,).

    Returns
    -------
    dict of str to ndarray
    """
    known = {
        "ra_deg": sources.ra_deg,
        "dec_deg": sources.dec_deg,
        "mag": sources.mag,
        "catalog_flux": sources.flux,
        **extra,
    }
    given = {name: values for name, values in sources.columns.items() if name not in known}
    return {**given, **known}


def shape_group(fit: ShapeFit) -> dict[str, Any]:
    """Return the arrays of ``/shape``: enough to evaluate the PRF again.

    Parameters
    ----------
    fit : ShapeFit
        The PRF.

    Returns
    -------
    dict of str to ndarray
    """
    basis = fit.prf.basis
    return {
        "psf_w": fit.prf.weights,
        "psf_w_err": np.sqrt(np.diag(fit.weights_cov)),
        "psf_w_cov": fit.weights_cov,
        "radial_knots": basis.knots,
        "n_phi_knots": basis.n_phi_knots,
        "rmin": basis.rmin,
        "rmax": basis.rmax,
        "cut_r": basis.cut_r,
        "pixel_area": fit.prf.pixel_area,
        "scale": fit.scale,
        "offset": np.asarray(fit.offset),
        "shear": np.asarray(fit.prf.shear),
        "intrinsic_scatter": fit.intrinsic_scatter,
        "n_pixel_shape": int(fit.training.sum()),
        "n_clipped": fit.n_clipped,
    }
