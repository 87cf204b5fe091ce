"""Errors of the model in the pixels: the same as those that are carried into the fluxes, and light is conserved."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.machine import Machine
from bayesprf.simulation.fields import make_field
from bayesprf.uncertainty.model_errors import model_errors
from bayesprf.uncertainty.systematics import NuisanceWidths, fit_common_errors


@pytest.fixture(scope="module")
def machine():
    field = make_field(
        rng=np.random.default_rng(5), n_source=40, n_time=20, mag_range=(12.0, 16.5), position_scatter=0.05
    )
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.refine_scene(method="joint", field_variation=0)
    machine.fit_model()
    return machine


def widths_of(machine, **widths):
    zero = {"position": np.zeros(machine.nsources), "moments": 0.0, "model": 0.0, "tail": 0.0, "others": 0.0}
    return NuisanceWidths(**{**zero, **widths}, asked=tuple(widths))


def without_shape_error(shape):
    return replace(shape, weights_cov=np.zeros_like(shape.weights_cov))


@pytest.mark.parametrize("cause", ["others", "position", "moments", "model"])
def test_the_errors_of_the_fluxes_are_those_of_the_pixels(machine, cause):
    """Fluxes solved from one pattern after the other have the covariance that is carried into them.

    What is carried takes the covariance of stars that share no pixel as zero: the two differ by 1 % at most, for the
    stars between two others, which share pixels with both, by 3 %.
    """
    shape, flux = machine.fit.prf, machine.ws.mean(axis=0)
    ivar, own = machine.pixels.ivar.mean(axis=0), machine.fit.latest_flux.problem.prior
    given = {
        "others": {"others": 0.2},
        "position": {"position": np.full(machine.nsources, 0.05)},
        "moments": {"moments": 0.01},
        "model": {"model": 0.01},
    }[cause]
    shape, widths = without_shape_error(shape), widths_of(machine, **given)
    carried = fit_common_errors(shape, shape.matrix, flux=flux, ivar=ivar, prior=own, widths=widths)
    errors = model_errors(shape, np.arange(shape.pairs.n_pixel), flux, widths)
    problem = LinearProblem(
        shape.matrix.design(),
        np.ascontiguousarray(errors.T),
        np.broadcast_to(ivar, errors.T.shape).copy(),
        GaussianPrior(np.zeros(machine.nsources), own.precision),
    )
    found = np.sqrt((BlockSolver(1).solve(problem).mean ** 2).sum(axis=0))
    assert (carried.parts[cause] > 0).all()
    np.testing.assert_allclose(found, carried.parts[cause], rtol=0.03, atol=1e-4 * carried.parts[cause].max())
    assert np.median(np.abs(found / carried.parts[cause] - 1.0)) < 0.01


def test_misplaced_light_adds_up_to_nothing(machine):
    shape, flux = machine.fit.prf, machine.ws.mean(axis=0)
    star = int(np.argmax(flux))
    pixel = np.sort(shape.pairs.pixel[shape.pairs.source == star])
    alone = np.where(np.arange(machine.nsources) == star, flux, 0.0)
    errors = model_errors(without_shape_error(shape), pixel, alone, widths_of(machine, model=0.01))
    assert np.abs(errors.sum(axis=0)).max() < 1e-6 * np.abs(errors).max()


def test_wings_of_neighbors_err_where_they_fall(machine):
    """A pixel far from every star that has one errs by the wing's light there."""
    shape, flux = machine.fit.prf, machine.ws.mean(axis=0)
    beyond = (shape.pairs.r > shape.prf.basis.rmax) & (shape.values * flux[shape.pairs.source] > 0)
    pixel = np.unique(shape.pairs.pixel[beyond])
    errors = model_errors(without_shape_error(shape), pixel, flux, widths_of(machine, others=0.2))
    assert ((errors**2).sum(axis=1) > 0).all()
