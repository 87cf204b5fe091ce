"""Stars of the catalogue that lie between the cutouts, whose wings alone fall on pixels."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.machine import Machine
from bayesprf.prf.joint.start import JointSettings, build_joint
from bayesprf.scene.image import reduce_image
from bayesprf.scene.pixels import PixelTable
from bayesprf.simulation.foreign import gaussian_table, make_foreign
from bayesprf.simulation.settings import CASES

SETTINGS = replace(
    CASES["medium"], n_source=60, n_stamp=45, n_time=4, mag_range=(11.0, 15.5), exposure=24000.0, reach_level=1e-3,
    catalog_scale=1.3, catalog_scatter=0.1,
)  # fmt: skip


def half_of_the_cutouts(field):
    """The pixels of every other cutout."""
    p = field.field.pixels
    keep = p.stamp % 2 == 0
    return PixelTable(
        p.time, p.flux[:, keep], p.flux_err[:, keep], p.ra_deg[keep], p.dec_deg[keep], p.column[keep], p.row[keep],
        stamp=p.stamp[keep], instrument=p.instrument,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    """Stars whose light ends: a core and a halo that are Gaussian."""
    prf = gaussian_table(np.array([[0.8, 0.0, 0.0, 0.35, 0.05, 0.3], [0.2, 0.2, 0.1, 1.0, 0.0, 0.8]]))
    field = make_foreign(SETTINGS, lambda u, v: prf, rng=np.random.default_rng(17))
    pixels = half_of_the_cutouts(field)
    place = np.stack([pixels.column, pixels.row], axis=1)
    nearest = np.array([np.hypot(*(place - one).T).min() for one in field.position])
    return field, pixels, nearest


def test_fluxes_beside_the_pixels_are_expected_as_the_catalogue_has_them(scene):
    field, pixels, nearest = scene
    problem = build_joint(pixels, field.field.sources, reduce_image(pixels), pixels.spilled, JointSettings())[0]
    beside, on = nearest > 2.0, nearest < 0.7
    assert min(np.count_nonzero(beside), np.count_nonzero(on)) > 10
    assert np.all(problem.prior.flux_width[beside] == 1.0)
    assert np.median(problem.prior.flux_width[on]) > 10.0
    # On the scale of the image, as first fluxes by a nominal PRF that is too wide have it.
    ratio = problem.prior.flux[beside] / field.field.sources.flux[beside]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
    assert 0.25 < ratio[0] < 1.0


def test_wings_do_not_make_up_for_stars_between_the_cutouts(scene):
    field, pixels, nearest = scene
    machine = Machine.from_pixels(pixels, field.field.sources, quiet=True)
    machine.build_shape_model(method="joint", field_variation=0, knot_density=1)
    joint = machine.fit.prf.joint
    assert not np.any(joint.flux < -2.0 * joint.flux_err)
    off = joint.flux / field.flux - 1.0
    assert abs(np.median(off[nearest < 0.7])) < 3e-3
