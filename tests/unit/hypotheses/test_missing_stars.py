"""A further star at every position: beside the test of one position, and from pixels."""

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.errors import InputError
from bayesprf.hypotheses.missing_stars import StarSearch, find_stars
from bayesprf.linalg.common import sum_rows
from bayesprf.scene.pairs import offsets
from bayesprf.simulation.fields import make_field
from bayesprf.testing import make_problem

SIDE = 12


def light(x, y):
    """Return a Gaussian PRF, 1 pixel = 1 arcsec, on a stamp."""
    axis = np.arange(SIDE, dtype=np.float64)
    column, row = (one.ravel() for one in np.meshgrid(axis, axis))
    squared = (column - np.asarray(x)[:, None]) ** 2 + (row - np.asarray(y)[:, None]) ** 2
    return np.exp(-0.5 * squared / 0.64) / (2 * np.pi * 0.64)


def make_search(stars, *, seed=0, sigma=0.3):
    """Return the search of an image whose known star is the first of some (x, y, flux)."""
    from dataclasses import replace

    from scipy.sparse import csr_matrix

    from bayesprf.linalg.problem import GaussianPrior
    from bayesprf.linalg.stack import DesignStack

    place = np.array(stars)
    image = place[:, 2] @ light(place[:, 0], place[:, 1])
    data = image + sigma * np.random.default_rng(seed).normal(size=image.size)
    problem = make_problem(np.random.default_rng(0))
    design = DesignStack.from_sparse(csr_matrix(light(place[:1, 0], place[:1, 1]).T))
    prior = GaussianPrior.from_sigma(place[:1, 2], 10.0 * place[:1, 2])
    ivar = np.full((1, image.size), sigma**-2.0)
    problem = replace(problem, design=design, data=data[None], ivar=ivar, prior=prior, known=np.zeros(image.size))

    def errors(x, y):
        step = 1e-3
        ahead, behind = light([x + step, x, x - step, x], [y, y + step, y, y - step]).reshape(2, 2, -1)
        return (0.02 * (ahead - behind) / (2 * step)).T

    return StarSearch(sum_rows(problem), ivar[0], light, errors, least=1.0, most=1e4)


GRID = tuple(one.ravel() for one in np.meshgrid(np.arange(0.0, SIDE, 0.5), np.arange(0.0, SIDE, 0.5)))


def test_flux_and_error_are_those_of_a_fit_of_both_stars():
    search = make_search([(4.0, 4.0, 1000.0), (7.3, 6.8, 60.0)])
    precision, rhs = search.amplitudes(np.array([7.3]), np.array([6.8]))
    assert abs(rhs[0] / precision[0] - 60.0) < 4.0 * precision[0] ** -0.5
    alone = light([7.3], [6.8])[0]
    known = light([4.0], [4.0])[0]
    gram = np.array([[known @ known, known @ alone], [known @ alone, alone @ alone]]) / 0.09
    gram[0, 0] += 1e-8
    assert precision[0] == pytest.approx(1.0 / np.linalg.inv(gram)[1, 1], rel=1e-6)


def test_stars_are_found_one_after_the_other():
    search = make_search([(4.0, 4.0, 1000.0), (8.3, 7.8, 60.0), (2.6, 9.1, 30.0)])
    found = find_stars(search, *GRID, pixel=1.0, density=1e-3, apart=2.0)
    assert [round(one.flux, -1) for one in found] == [60.0, 30.0]
    np.testing.assert_allclose([(one.x, one.y) for one in found], [(8.3, 7.8), (2.6, 9.1)], atol=0.1)
    assert all(one.log_odds > 5.0 for one in found)


def test_none_is_found_where_there_is_none():
    n_found = [
        len(find_stars(make_search([(4.0, 4.0, 1000.0)], seed=s), *GRID, pixel=1.0, density=1e-3, apart=2.0))
        for s in range(20)
    ]
    assert sum(n_found) == 0


@pytest.fixture(scope="module")
def machine_and_field():
    magnitudes = np.array([12.0, 12.5, 13.0, 13.5, 12.2, 12.8, 13.2, 13.8, 12.4, 15.0])
    field = make_field(
        n_source=10, n_stamp=9, n_time=60, stamp_sides=(7,), magnitudes=magnitudes, companion_distance=(1.6, 1.8),
        rng=np.random.default_rng(5),
    )  # fmt: skip
    full, known = field.sources, slice(9)
    catalog = bp.SourceTable(full.source_id[known], full.ra_deg[known], full.dec_deg[known], full.flux[known])
    machine = bp.Machine.from_pixels(field.pixels, catalog, quiet=True)
    # Positions are those of the catalogue: free, the host moves by 0.03 arcsec and takes a fifth of the hidden star.
    machine.build_shape_model(position_error=0.01, field_variation=0)
    machine.fit_model()
    return machine, field


def test_a_hidden_star_is_found_and_added(machine_and_field):
    machine, field = machine_and_field
    missing = machine.find_missing()
    assert missing.n_candidate == 1
    ra, dec = field.sky.to_sky(field.column[9:], field.row[9:])
    distance = np.hypot(*offsets(missing.candidates_ra_deg, missing.candidates_dec_deg, ra, dec))[0]
    assert distance < 1.0
    assert missing.candidates_flux[0] == pytest.approx(field.mean_flux[9], rel=0.2)
    assert missing.candidates_probability[0] > 0.99
    catalog = missing.add_to(machine.sources)
    assert catalog.source_id[-1] == "found-1"
    again = bp.Machine.from_pixels(field.pixels, catalog, quiet=True)
    again.build_shape_model()
    again.fit_model()
    assert again.ws[:, -1].mean() == pytest.approx(field.mean_flux[9], rel=0.1)
    assert again.find_missing().n_candidate == 0


def test_the_map_agrees_with_the_test_of_one_position(machine_and_field):
    """Flux and error of `blend_test` at a cell far from smooth light's reach are those of the map, give or take."""
    machine, _ = machine_and_field
    missing = machine.find_missing()
    best = int(np.argmax(missing.log_bayes_factor))
    place = (missing.ra_deg[best], missing.dec_deg[best])
    test = machine.blend_test(0, place)
    assert missing.flux[best] == pytest.approx(test.flux, rel=0.3)
    assert missing.log_bayes_factor[best] > 20.0
    assert test.log_bayes_factor > 20.0


def test_names_what_it_cannot_use(machine_and_field):
    machine, _ = machine_and_field
    with pytest.raises(InputError, match="expected: expected a finite number above 0"):
        machine.find_missing(expected=0.0)
