"""Every archive's names, units and epochs."""

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Column, QTable, Table

from bayesprf.errors import InputError
from bayesprf.instruments import KEPLER, TESS
from bayesprf.io.catalogs.archives import recognise
from bayesprf.io.catalogs.catalog import read_catalog

TWO = {"ra": [10.0, 20.0], "dec": [5.0, -5.0]}
GAIA = [5730932475468906240, 5730933471901319424]


def vizier(ra="RA_ICRS", dec="DE_ICRS", **others):
    return {ra: TWO["ra"], dec: TWO["dec"]} | others


# Columns, archive, first name, epoch of the positions, proper motion east of the first star (mas / yr).
EXPORTS = {
    "Gaia archive": (
        TWO | {"source_id": GAIA, "ref_epoch": [2016.0] * 2, "pmra": [3.0, 4.0], "pmdec": [1.0, 1.0]}
        | {"phot_g_mean_mag": [9.0, 9.0]},
        "Gaia archive and X-Match", str(GAIA[0]), 2016.0, 3.0,
    ),
    "Gaia archive by designation": (
        TWO | {"designation": ["Gaia DR2 1", "Gaia DR2 2"], "phot_g_mean_flux": [1.0, 2.0], "pmra": [3.0, 4.0]}
        | {"pmdec": [1.0, 1.0]},
        "Gaia archive and X-Match", "Gaia DR2 1", 2015.5, 3.0,
    ),
    "X-Match": (
        {"angDist": [0.1, 0.2], "ra_epoch2000": [10.1, 20.1], "dec_epoch2000": [5.1, -5.1]} | TWO
        | {"source_id": GAIA, "pmra": [3.0, 4.0], "pmdec": [1.0, 1.0], "ref_epoch": [2015.5] * 2, "FG": [1.0, 2.0]},
        "Gaia archive and X-Match", str(GAIA[0]), 2015.5, 3.0,
    ),
    "Gaia DR3 of VizieR": (
        vizier(DR3Name=["Gaia DR3 1", "Gaia DR3 2"], Source=GAIA, pmRA=[3.0, 4.0], pmDE=[1.0, 1.0], FG=[1.0, 2.0]),
        "Gaia of VizieR", str(GAIA[0]), 2016.0, 3.0,
    ),
    "members of a cluster": (
        vizier(GaiaDR2=GAIA, **{"pmRA*": [3.0, 4.0]}, pmDE=[1.0, 1.0], Gmag=[9.0, 9.0]),
        "Gaia of VizieR", str(GAIA[0]), 2015.5, 3.0,
    ),
    "TIC of MAST": (
        TWO | {"ID": [1, 2], "KIC": [np.nan, np.nan], "GAIA": GAIA, "pmRA": [3.0, 4.0], "pmDEC": [1.0, 1.0]}
        | {"Tmag": [9.0, 9.0]},
        "TIC of MAST", "1", 2000.0, 3.0,
    ),
    "TIC of VizieR": (
        vizier("RAJ2000", "DEJ2000", TIC=[1, 2], KIC=[np.nan, 3], pmRA=[3.0, 4.0], pmDE=[1.0, 1.0], Tmag=[9.0, 9.0]),
        "TIC of MAST", "1", 2000.0, 3.0,
    ),
    "ExoFOP": (
        {"TIC ID": [1, 2], "TESS Mag": [9.0, 9.0], "RA": ["00:40:00", "01:20:00"], "Dec": ["+05:00:00", "-05:00:00"]}
        | {"PM RA (mas/yr)": [3.0, 4.0], "PM Dec (mas/yr)": [1.0, 1.0], "Epoch (BJD)": [2459000.0] * 2},
        "ExoFOP", "1", 2000.0, 3.0,
    ),
    "KIC of MAST": (
        {"kic_kepler_id": [1, 2], "kic_ra": [10 / 15, 20 / 15], "kic_dec": [5.0, -5.0], "kic_pmra": [0.003, 0.004]}
        | {"kic_pmdec": [0.001, 0.001], "kic_kepmag": [9.0, 9.0]},
        "KIC of MAST", "1", 2000.0, 3.0,
    ),
    "KIC of MAST in degree": (
        {"kic_kepler_id": [1, 2], "kic_degree_ra": TWO["ra"], "kic_ra": [0.6, 1.3], "kic_dec": [5.0, -5.0]}
        | {"kepmag": [9.0, 9.0]},
        "KIC of MAST", "1", 2000.0, None,
    ),
    "KIC of VizieR": (
        vizier("RAJ2000", "DEJ2000", KIC=[1, 2], pmRA=[3.0, 4.0], pmDE=[1.0, 1.0], kepmag=[9.0, 9.0]),
        "KIC", "1", 2000.0, 3.0,
    ),
    "EPIC of MAST": (
        {"epic_number": [1, 2], "k2_ra": TWO["ra"], "k2_dec": TWO["dec"], "pmra": [3.0, 4.0], "pmdec": [1.0, 1.0]}
        | {"kp": [9.0, 9.0]},
        "EPIC", "1", 2000.0, 3.0,
    ),
    "EPIC of VizieR": (
        vizier("RAJ2000", "DEJ2000", ID=[1, 2], pmRA=[3.0, 4.0], pmDE=[1.0, 1.0], Kpmag=[9.0, 9.0]),
        "EPIC of VizieR", "1", 2000.0, 3.0,
    ),
    "headers of Kepler": (
        {"OBJECT": ["KIC 1", "KIC 2"], "RA_OBJ": TWO["ra"], "DEC_OBJ": TWO["dec"], "KEPMAG": [9.0, 9.0]}
        | {"PMRA": [0.003, 0.004], "PMDEC": [0.001, 0.001]},
        "headers of Kepler files", "KIC 1", 2000.0, 3.0,
    ),
    "headers of TESS": (
        {"OBJECT": ["TIC 1", "TIC 2"], "RA_OBJ": TWO["ra"], "DEC_OBJ": TWO["dec"], "TESSMAG": [9.0, 9.0]}
        | {"PMRA": [3.0, 4.0], "PMDEC": [1.0, 1.0]},
        "headers of TESS files", "TIC 1", 2000.0, 3.0,
    ),
    "by hand": (TWO | {"name": ["x", "y"], "phot_g_mean_flux": [1.0, 2.0]}, "any table", "x", None, None),
}  # fmt: skip


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("kind", [pd.DataFrame, Table])
def test_archives_are_known_by_their_columns(export, kind):
    columns, archive, name, epoch, motion = EXPORTS[export]
    table = kind(columns)
    assert recognise(columns).name == archive
    sources = read_catalog(table)
    assert sources.source_id[0] == name
    np.testing.assert_allclose(sources.ra_deg, TWO["ra"], rtol=1e-12)
    np.testing.assert_allclose(sources.dec_deg, TWO["dec"], rtol=1e-12)
    assert (None if sources.epoch is None else sources.epoch[0]) == epoch
    assert (None if sources.motion is None else sources.motion[0, 0]) == (motion and pytest.approx(motion))
    assert sources.has_flux.all()


def test_names_of_one_archive_go_with_its_positions():
    """A crossmatch in which two stars of the TIC share one of Gaia: names and positions are the TIC's."""
    columns = vizier(Source=[GAIA[0]] * 2, TIC=[1, 2], RAdeg=[10.0, 10.001], DEdeg=[5.0, 5.0], Tmag=[9.0, 9.0])
    sources = read_catalog(pd.DataFrame(columns))
    assert sources.source_id == ("1", "2")
    np.testing.assert_array_equal(sources.ra_deg, [10.0, 10.001])


@pytest.mark.parametrize("text", ["Right ascension (ICRS) at Ep=2016.0", "RA at Epoch=J2015.5", "mean RA, Ep 2000.0"])
def test_the_epoch_that_a_column_states_comes_first(text):
    table = Table(vizier(Source=GAIA, Gmag=[9.0, 9.0]))
    table["RA_ICRS"] = Column(TWO["ra"], description=text)
    assert read_catalog(table).epoch[0] == float(text[-6:])
    table = Table(TWO | {"source_id": GAIA, "phot_g_mean_flux": [1.0, 2.0]})
    table["ra"].meta["CoosysEpoch"] = "J2016.0"
    assert read_catalog(table).epoch[0] == 2016.0
    assert read_catalog(table, ref_epoch=1991.25).epoch[0] == 1991.25


def test_epochs_that_are_dates_are_refused():
    table = pd.DataFrame(TWO | {"source_id": GAIA, "phot_g_mean_flux": [1.0, 2.0], "ref_epoch": [2457389.0] * 2})
    with pytest.raises(InputError, match=r"ref_epoch: expected Julian years as 2016.0, got 2.45739e\+06; a Jul"):
        read_catalog(table)
    with pytest.raises(InputError, match=r"ref_epoch: expected Julian years"):
        read_catalog(table, ref_epoch=15.5)


@pytest.mark.parametrize(
    ("ra", "dec"),
    [
        (["20:49:49.8", "00 00 01"], ["-24:25:43.3", "+00 00 36"]),
        (["20h49m49.8s", "0h0m1s"], ["-24d25m43.3s", "0d0m36s"]),
    ],
)
def test_sexagesimal_positions(ra, dec):
    sources = read_catalog(pd.DataFrame({"RAJ2000": ra, "DEJ2000": dec, "kepmag": [9.0, 9.0]}))
    np.testing.assert_allclose(sources.ra_deg, [312.4575, 15 / 3600], rtol=1e-12)
    np.testing.assert_allclose(sources.dec_deg, [-24.4286944444, 0.01], rtol=1e-10)


def test_positions_that_are_neither():
    table = pd.DataFrame({"ra": ["20:49:49.8", "north"], "dec": [1.0, 2.0], "kepmag": [9.0, 9.0]})
    with pytest.raises(InputError, match=r"^ra: expected a position in every row, got .north. in row 1, as lines"):
        read_catalog(table)
    with pytest.raises(InputError, match=r"ra, dec: expected a position in every row, got none .* in 1 of 2, rows 1"):
        read_catalog(table.assign(ra=["20:49:49.8", ""]))


def test_numbers_among_sexagesimal_right_ascensions_may_be_hours_or_degree():
    table = pd.DataFrame({"ra": ["20:49:49.8", "12.5"], "dec": ["-24:25:43.3", "-24.5"], "kepmag": [12.0, 13.0]})
    with pytest.raises(InputError, match=r"^ra: expected text such as .* got the number 12.5 in row 1, which"):
        read_catalog(table)
    dec_deg = read_catalog(table.assign(ra=["20:49:49.8", "20:49:50"])).dec_deg
    np.testing.assert_allclose(dec_deg, [-24.4286944, -24.5], atol=1e-6)


def test_a_column_of_sky_coordinates():
    table = QTable(
        {"name": ["x", "y"], "place": SkyCoord(TWO["ra"], TWO["dec"], unit="deg").galactic, "kepmag": [9.0, 9]}
    )
    sources = read_catalog(table)
    np.testing.assert_allclose(sources.ra_deg, TWO["ra"], rtol=1e-12)
    np.testing.assert_allclose(sources.columns["place_dec_deg"], TWO["dec"], rtol=1e-12)


@pytest.mark.parametrize(("instrument", "flux"), [(KEPLER, [1.0, 2.0]), (TESS, [3.0, 4.0])], ids=["Kepler", "TESS"])
def test_the_mission_chooses_the_band(instrument, flux):
    columns = TWO | {"phot_g_mean_flux": [1.0, 2.0], "phot_rp_mean_flux": [3.0, 4.0], "phot_rp_mean_mag": [7.0, 8.0]}
    sources = read_catalog(pd.DataFrame(columns))
    np.testing.assert_array_equal(sources.flux, [1.0, 2.0])
    np.testing.assert_array_equal(sources.in_band(instrument.flux_column).flux, flux)
    fixed = read_catalog(pd.DataFrame(columns), flux_column="phot_g_mean_flux")
    np.testing.assert_array_equal(fixed.in_band(instrument.flux_column).flux, [1.0, 2.0])


@pytest.mark.parametrize("band", ["g", "rp"])
def test_one_band_is_enough_for_every_mission(band):
    sources = read_catalog(pd.DataFrame(TWO | {f"phot_{band}_mean_flux": [1.0, 2.0]}))
    for instrument in (KEPLER, TESS):
        np.testing.assert_array_equal(sources.in_band(instrument.flux_column).flux, [1.0, 2.0])


def test_case_decides_between_two_columns_that_fit():
    """VizieR's TIC has both: gmag of the SDSS and Gmag of Gaia."""
    sources = read_catalog(pd.DataFrame(TWO | {"gmag": [1.0, 1.0], "Gmag": [9.0, 9.0]}))
    np.testing.assert_array_equal(sources.mag, [9.0, 9.0])


def test_names_column_with_holes_is_refused_and_an_empty_one_passed_over():
    table = pd.DataFrame(TWO | {"source_id": [np.nan, np.nan], "name": ["x", "y"], "kepmag": [9.0, 9.0]})
    assert read_catalog(table).source_id == ("x", "y")
    holed = table.drop(columns="source_id").assign(name=["x", None])
    with pytest.raises(InputError, match=r"name: expected a name for every source, got missing .* first row 1; drop"):
        read_catalog(holed)


def test_stars_listed_twice_are_merged_with_a_word():
    table = pd.DataFrame({"name": ["x", "y", "z"], "ra": [10.0, 10.0, 11.0], "dec": [5.0, 5.0 + 1e-9, 5.0]})
    with pytest.warns(match=r"'x' and 'y' \(rows 0 and 1, 3.6e-06 arcsec\) one row is kept; min_separation=0"):
        assert read_catalog(table.assign(kepmag=9.0)).source_id == ("x", "z")
    assert read_catalog(table.assign(kepmag=9.0), min_separation=0.0).n_source == 3
