"""The volume of the posterior: light that is told from noise by little is the mean of what it may be, not the mode."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf.instruments import TESS
from bayesprf.photometry.background import build_background
from bayesprf.prf.joint.objective import JointOptions, fit_joint
from bayesprf.prf.joint.problem import LN10, global_columns, look, star_columns
from bayesprf.prf.joint.start import JointSettings, build_joint
from bayesprf.prf.joint.step import all_beliefs, find_posterior, log_volume
from bayesprf.prf.joint.unseen import _cells_about, _loss_if_it_ends
from bayesprf.scene.image import reduce_image
from bayesprf.settings import Background
from bayesprf.simulation.fields import make_field


@pytest.fixture(scope="module")
def fit():
    """The joint fit of a dozen stars on 20 x 20 TESS pixels with a sky."""
    field = make_field(
        rng=np.random.default_rng(11), n_source=12, n_time=4, layout="image", image_shape=(20, 20),
        mag_range=(9.5, 14.0), instrument=TESS, background=150.0,
    )  # fmt: skip
    image = reduce_image(field.pixels)
    settings = JointSettings(
        slope=(-4.26, 1.15), table_half=6.5, sky=build_background(field.pixels, image, Background("image", order=1))
    )
    start = build_joint(field.pixels, field.sources, image, field.pixels.spilled, settings)
    return fit_joint(*start, JointOptions())


def _changes(fit, common, own):
    """Return how the log volume, and half the log determinant, change along a step to either side."""
    found = []
    for sign in (1.0, -1.0):
        shift = np.zeros((fit.problem.n_source, fit.problem.n_own))
        shift[:, 0] = sign * own * fit.state.flux
        state = fit.state.moved(sign * common, shift)
        view = look(fit.problem, state)
        posterior = find_posterior(fit.problem, state, view, fit.hyper, weight=fit.weight, error=1.0)
        volume = log_volume(fit.problem, state, view.image)
        found.append((volume, np.linalg.slogdet(posterior.global_factor)[1]))
    return np.subtract(*found)


@pytest.mark.parametrize("ring", [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.5), (4.5, 8.5)])
def test_it_follows_the_light_of_a_ring_as_the_covariance_does(fit, ring):
    """To two fifths: gradients of the PRF, by which it tells positions and shear, follow neighbouring rings too."""
    problem, common = fit.problem, np.zeros(fit.problem.n_global)
    radius = problem.basis.centers / np.sqrt(problem.pixel_area)
    common[: problem.n_weight][(radius >= ring[0]) & (radius < ring[1])] = 0.01
    volume, wanted = _changes(fit, common, 0.0)
    assert volume < 0.0
    assert volume == pytest.approx(wanted, rel=0.4)


def test_it_follows_all_fluxes_as_the_covariance_does(fit):
    volume, wanted = _changes(fit, np.zeros(fit.problem.n_global), 0.01)
    assert volume == pytest.approx(wanted, rel=0.02)


def test_it_does_not_follow_what_leaves_the_light_as_it_is(fit):
    """All weights up and all fluxes down by as much."""
    common = np.zeros(fit.problem.n_global)
    common[: fit.problem.n_weight] = 0.01
    volume, _ = _changes(fit, common, -0.01 * LN10)
    gained, _ = _changes(fit, common, 0.0)
    assert abs(volume) < 1e-3 * abs(gained)


def test_light_that_is_told_by_little_is_fainter_than_its_mode(fit, monkeypatch):
    """Without the volume the same pixels have brighter wings and a darker sky."""
    monkeypatch.setattr("bayesprf.prf.joint.objective.with_volume", lambda problem, *_, **__: problem)
    start = replace(fit.problem, volume_slope=None), fit.state, fit.hyper
    mode = fit_joint(*start, JointOptions(), near=True)
    assert mode.problem.volume_slope is None
    assert np.median(mode.problem.sky @ (mode.state.sky - fit.state.sky)) < 0.0
    assert np.median(mode.flux / fit.flux) > 1.0


def test_chance_that_light_goes_on_is_that_of_a_dense_solution(fit):
    """An amplitude of the light beyond the tables' corners, with the shape of the PRF held there."""
    problem, state, posterior = fit.problem, fit.state, fit.posterior
    view, corner = look(problem, state), np.sqrt(2.0 * problem.pixel_area) * problem.prior.table_half
    light = np.where(np.hypot(*view.place.T) > corner, state.flux[problem.pairs.source] * view.values, 0.0)
    beyond = view.far[:, 0] + np.bincount(problem.pairs.pixel, light, problem.pairs.n_pixel)
    columns = np.hstack([global_columns(problem, state, view), star_columns(problem, state, view).toarray()])
    free = np.ones(columns.shape[1], bool)
    free[problem.n_weight : problem.n_weight + problem.n_wing] = False
    free[: problem.n_weight] = problem.basis.centers <= corner
    precision, _ = all_beliefs(problem, state, fit.hyper, 1.0)
    normal = (columns.T @ (fit.weight[:, None] * columns) + precision)[np.ix_(free, free)]
    pulled = columns[:, free].T @ (fit.weight * beyond)
    follows = np.linalg.solve(normal, pulled)
    told = beyond @ (fit.weight * beyond) - pulled @ follows
    score = beyond @ (fit.weight * (problem.flux - view.image))
    stars = np.zeros(columns.shape[1])
    stars[free] = follows
    gained = stars[problem.n_global :: problem.n_own].sum() / state.flux.sum()
    cells = _cells_about(problem, state, view, fit.weight)
    chance, loss = _loss_if_it_ends(problem, state, view, posterior, cells, weight=fit.weight)
    assert np.log(chance / (1.0 - chance)) == pytest.approx(0.5 * told + score, rel=1e-3)
    assert loss == pytest.approx(cells.share[cells.radius > corner].sum() - gained, rel=1e-3)
