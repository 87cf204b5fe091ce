"""Two rows of one star are one star to the fit of the PRF."""

from dataclasses import replace

import numpy as np
import pytest

from bayesprf import Machine
from bayesprf.flags import QualityFlag
from bayesprf.prf.twins import find_groups
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import make_field


def add_row(sources, star, arcsec):
    """Return the catalogue with a star listed again."""
    near = sources.dec_deg[star] + arcsec / 3600.0
    return SourceTable(
        (*sources.source_id, "again"),
        np.append(sources.ra_deg, sources.ra_deg[star]),
        np.append(sources.dec_deg, near),
        np.append(sources.flux, sources.flux[star]),
    )


def fitted(field, sources, **options):
    machine = Machine.from_pixels(field.pixels, sources, quiet=True)
    machine.build_shape_model(**options)
    machine.fit_model(n_threads=1)
    return machine


@pytest.fixture(scope="module")
def field():
    return make_field(rng=np.random.default_rng(3), n_time=8, n_source=24, n_stamp=16, mag_range=(11.0, 15.0))


@pytest.fixture(scope="module")
def clean(field):
    return fitted(field, field.sources)


@pytest.mark.filterwarnings("ignore::bayesprf.errors.DataWarning")
@pytest.mark.parametrize("arcsec", [1e-6, 1e-3, 0.1, 0.9])
def test_a_star_listed_twice_leaves_the_others_alone(field, clean, arcsec):
    """Others move by a small part of their errors, one in its wing by a sixth; the two rows share the star's flux.

    The sixth is no leak: two rows a hair apart with free fluxes are one star with a free position along their line. The
    bright star takes 3 mas of it (8,360 of its 266,400 electron / s lie 0.1 arcsec north), and its neighbour 1.6 pixels
    away, eleven times fainter, gets what that moves. Nothing but the catalogue's word could hold the two fluxes' ratio.
    """
    star, n = int(np.argmax(field.sources.flux)), field.sources.n_source
    machine = fitted(field, add_row(field.sources, star, arcsec))
    error = np.median(clean.werrs_total, axis=0)
    away = np.abs(machine.ws[:, :n] - clean.ws).mean(axis=0) / error
    away = np.sort(away[np.arange(n) != star])
    assert away[-1] < 0.2
    assert away[-2] < 0.1
    assert np.median(away) < 0.01
    both = machine.ws[:, star] + machine.ws[:, n]
    assert np.abs(both - clean.ws[:, star]).mean() < 0.1 * error[star]
    assert np.all(machine.flags[0, [star, n]] & QualityFlag.DEGENERATE_BLEND)


@pytest.mark.filterwarnings("ignore::bayesprf.errors.BayesprfWarning")
def test_rows_of_one_star_share_its_light_as_in_the_catalogue():
    """Errors of their places do not tell them apart, and the total errors are those of the prior."""
    field = make_field(rng=np.random.default_rng(5), n_time=4, n_source=12, n_stamp=8, mag_range=(11.0, 13.0))
    star, n = int(np.argsort(-field.sources.flux)[3]), field.sources.n_source
    listed = add_row(field.sources, star, 0.15)
    flux = listed.flux.copy()
    flux[n] *= 0.5
    machine = fitted(field, replace(listed, flux=flux), method="joint")
    prf, rows = machine.fit.need("prf"), np.array([star, n])
    assert prf.joint.problem.n_source == n + 1
    columns = prf.matrix.at(0)[rows].toarray()
    np.testing.assert_array_equal(columns[0], columns[1])
    assert not np.any(prf.training[np.isin(prf.pairs.source, rows)])
    mean, error = machine.ws[:, rows].mean(axis=0), machine.werrs_total[:, rows].mean(axis=0)
    assert mean[1] / mean[0] == pytest.approx(0.5, rel=0.1)
    assert mean.sum() == pytest.approx(field.mean_flux[star], rel=0.02)
    assert np.all(error > mean)


def test_groups(field):
    sources = field.sources
    assert find_groups(sources, 0.01) is None
    twice = add_row(sources, 3, 0.1)
    groups = find_groups(replace(twice, flux=np.append(sources.flux, 2.0 * sources.flux[3])), 0.5)
    assert np.flatnonzero(~groups.alone).tolist() == [3, 24]
    assert groups.label[3] == groups.label[24]
    assert groups.brightest[groups.label[3]] == 24
    assert sorted(groups.brightest) == [0, 1, 2, *range(4, 25)]
