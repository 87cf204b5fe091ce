"""What a tree holds is enough to evaluate the PRF, its change with time and the fluxes again."""

import numpy as np
import pytest

from bayesprf.design.cartesian import CartesianBasis
from bayesprf.design.polar import PolarBasis
from bayesprf.io.save import load_tree, save_tree
from bayesprf.machine import Machine
from bayesprf.scene.prf import PrfModel, StarPrf, turned
from bayesprf.simulation.fields import make_case
from bayesprf.timemodel.gain import PrfChange


@pytest.fixture(scope="module")
def machine():
    drift = 0.02 * np.stack([np.arange(60.0), -np.arange(60.0)], axis=1) / 20.0
    field = make_case("demo", np.random.default_rng(8), n_time=60, drift=drift)
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True, time_resolution=10)
    machine.build_shape_model()
    machine.build_time_model()
    machine.fit_model(fit_va=True)
    return machine


@pytest.fixture(scope="module")
def tree(machine, tmp_path_factory):
    return load_tree(save_tree(machine.to_datatree(), tmp_path_factory.mktemp("gather") / "tree.nc"))


def offsets_of(machine):
    """Return the offsets of all pairs, by source and pixel; after a joint fit some lie beyond those of `dra`."""
    pairs = machine.fit.prf.matrix.pairs
    order = np.lexsort((pairs.pixel, pairs.source))
    return pairs.dx[order], pairs.dy[order]


def prf_of(shape):
    """Return the PRF of a file."""
    names = ("rmin", "rmax", "cut_r", "n_r_knots", "n_phi_knots")
    basis = PolarBasis(*(shape[name].item() for name in names))
    np.testing.assert_array_equal(basis.knots, shape["radial_knots"])
    return PrfModel(
        basis,
        shape["psf_w"].values,
        shape["pixel_area"].item(),
        tuple(shape["shear"].values),
        shape["tail_slope"].item(),
        wing_bends=tuple(shape["tail_bends"].values) if "tail_bends" in shape else (),
    )


def test_prf_is_evaluated_again_from_the_file(machine, tree):
    shape = tree["shape"]
    prf = prf_of(shape)
    np.testing.assert_allclose(prf.area(), 1.0, atol=1e-6)
    pairs = machine.fit.prf.matrix.pairs
    source = pairs.source[np.lexsort((pairs.pixel, pairs.source))]
    turn = shape["prf_turn"].values
    assert np.ptp(turn) > 0.0
    values = prf.evaluate(*turned(*offsets_of(machine), turn[source])) / shape["prf_sum"].values[source]
    np.testing.assert_allclose(values, machine.mean_model.data, rtol=1e-9)


def test_change_of_the_prf_is_evaluated_again_from_the_file(machine, tree):
    group = tree["time_model"]
    knots = group["position_knots"].values
    basis = CartesianBasis(
        knots.size, knots.max(), group["position_degree"].item(), str(group["position_spacing"].item())
    )
    np.testing.assert_allclose(basis.breaks, knots)
    scale = machine.pixels.instrument.pixel_scale
    change = PrfChange(
        basis,
        StarPrf((prf_of(tree["shape"]),), tree["shape"]["prf_turn"].values),
        group["place"].values,
        group["field_order"].item(),
        scale,
    )
    source, pixel = machine.source_mask.nonzero()
    columns = change.columns(source, *offsets_of(machine))
    weights = group["time_w"].values
    parts = (columns @ weights.T).T + group["pixel_w"].values[:, pixel] + group["source_w"].values[:, source]
    factor = 1.0 + group["time_vectors"].values[7, 1:] @ parts
    factor *= group["pixel_factor"].values[pixel]
    assert np.ptp(factor) > 0.01
    expected = machine.perturbed_model(7)
    np.testing.assert_allclose(machine.mean_model.data * factor, expected.data, rtol=1e-8)


def test_photometry_of_the_file_is_that_of_the_machine(machine, tree):
    photometry = tree["photometry"]
    np.testing.assert_array_equal(photometry["flux"], machine.ws_va)
    np.testing.assert_array_equal(photometry["flux_err"], machine.werrs_va)
    np.testing.assert_array_equal(photometry["time"], machine.time)
    assert photometry["source"].values.tolist() == list(machine.sources.source_id)
