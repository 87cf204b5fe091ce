"""Errors of motion in those of fluxes, beside the dense formula."""

import numpy as np
import pytest

from bayesprf.linalg.problem import GaussianPrior
from bayesprf.photometry.background import build_background
from bayesprf.photometry.fluxes import fit_flux
from bayesprf.photometry.motion_errors import add_motion_errors
from bayesprf.scene.image import reduce_image
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import Background
from bayesprf.simulation.fields import make_field

N_TIME = 6


@pytest.fixture(scope="module")
def varying():
    """Return pixels, PRF and its change by two coefficients, of four stars in one cutout, the first of which varies."""
    factor = np.ones((N_TIME, 4))
    factor[3:, 0] = 0.4
    field = make_field(
        n_source=4, n_stamp=1, n_time=N_TIME, mag_range=(12.0, 14.0), stamp_sides=(9,), rng=np.random.default_rng(3),
        variability=factor,
    )  # fmt: skip
    pairs = build_pairs(field.pixels, field.sources, 30.0)
    values = np.asarray(field.true_design().tocsr()[pairs.pixel, pairs.source]).ravel()
    parts = values * np.random.default_rng(4).normal(size=(2, values.size))
    return field, PrfMatrix.constant(pairs, values), parts


def dense(fit, prf, parts, covariance):
    """Return the standard deviations of the formula, with every flux and surface solved together."""
    pairs = prf.pairs
    design = pairs.to_sparse(prf.values).toarray().T
    if fit.background is not None:
        design = np.hstack([design, fit.background.matrix.toarray()])
    weight = fit.problem.ivar.mean(axis=0)
    normal = design.T @ (weight[:, None] * design) + np.diag(fit.problem.prior.precision)
    gain = np.linalg.solve(normal, design.T * weight)[: fit.n_source]
    answer = np.stack([fit.flux @ (gain @ pairs.to_sparse(one).toarray().T).T for one in parts])
    return np.sqrt(fit.flux_err**2 + np.einsum("its,tij,jts->ts", answer, covariance, answer))


@pytest.mark.parametrize("with_sky", [False, True])
def test_errors_of_motion_follow_the_flux_of_each_cadence(varying, with_sky):
    field, prf, parts = varying
    sky = build_background(field.pixels, reduce_image(field.pixels), Background("stamp")) if with_sky else None
    prior = GaussianPrior.from_sigma(field.mean_flux, 10.0 * field.mean_flux)
    fit = fit_flux(field.pixels, prf.design(), prior, source_flags=np.zeros(4, np.int64), background=sky)
    covariance = np.broadcast_to(np.array([[4e-4, 1e-4], [1e-4, 9e-4]]), (N_TIME, 2, 2))
    found = add_motion_errors(fit, parts, prf, covariance)
    np.testing.assert_allclose(found.flux_err, dense(fit, prf, parts, covariance), rtol=1e-6)
    motion = np.sqrt(found.flux_err**2 - fit.flux_err**2)
    assert motion[3:, 0].mean() < 0.6 * motion[:3, 0].mean()
    assert add_motion_errors(fit, parts[:0], prf, covariance[:, :0, :0]) is fit
