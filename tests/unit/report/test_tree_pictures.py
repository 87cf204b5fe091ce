"""A saved tree draws itself, with the numbers it holds."""

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.errors import InputError
from bayesprf.io.save import load_tree
from bayesprf.report.tree_pictures import error_parts
from bayesprf.simulation.fields import make_field

pytestmark = pytest.mark.plots


@pytest.fixture(scope="module")
def machine():
    field = make_field(rng=np.random.default_rng(2), n_source=6, n_stamp=6, n_time=6, mag_range=(12.0, 14.0))
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model(n_threads=1)
    return machine


@pytest.fixture(scope="module")
def tree(machine, tmp_path_factory):
    path = tmp_path_factory.mktemp("tree") / "field.nc"
    machine.save(path)
    return load_tree(path)


def test_scene_shows_the_fitted_image_and_what_is_left_of_it(machine, tree):
    prf = machine.fit.need("prf")
    image = tree.bayesprf.plot_scene().axes[0].images[0].get_array().compressed()
    np.testing.assert_allclose(np.sort(image[np.isfinite(image)]), np.sort(prf.image.flux[prf.image.ivar > 0]))
    left = tree.bayesprf.plot_scene(residual=True).axes[0].images[0]
    model = prf.matrix.image(prf.flux) + prf.fixed_light
    expected = (prf.image.flux - model) * np.sqrt(prf.image.ivar)
    shown = left.get_array().compressed()
    np.testing.assert_allclose(np.sort(shown[np.isfinite(shown)]), np.sort(expected))
    assert left.get_clim()[0] == -left.get_clim()[1]


def test_prf_of_the_tree_is_that_of_the_machine(machine, tree):
    shape = tree["shape"]
    dx, dy = np.meshgrid(shape["prf_offset"], shape["prf_offset"])
    np.testing.assert_allclose(
        shape["prf_image"][0], machine.fit.need("prf").prf.evaluate(dx.ravel(), dy.ravel()).reshape(dx.shape)
    )
    assert tree.bayesprf.plot_prf().axes[0].get_title() == "PRF, contours over its peak"


def test_parts_of_the_errors_add_up(machine, tree):
    parts = error_parts(tree)
    level = np.median(machine.ws, axis=0)
    shared = np.sqrt(sum(one**2 for name, one in parts.items() if name != "noise"))
    np.testing.assert_allclose(shared, machine.common_errors.std / level, rtol=1e-9)
    figure = tree.bayesprf.plot_errors([machine.sources.source_id[2]])
    assert len(figure.axes[0].patches) == 1


def test_sources_are_given_by_name_or_index(machine, tree):
    name = machine.sources.source_id[3]
    titles = [tree.bayesprf.plot(one).axes[0].get_title(loc="left") for one in (name, 3, [name])]
    assert len({*titles}) == 1
    assert titles[0].startswith(name)
    with pytest.raises(InputError, match="sources: expected names or indices of the tree's sources, got 'x'"):
        tree.bayesprf.plot_lightcurves("x")
