"""Catalogues: every format, every name, every way to be wrong."""

import gzip

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table

from bayesprf.errors import DataWarning, FileError, InputError, MissingDependencyError, UnitError
from bayesprf.instruments import KEPLER, TESS
from bayesprf.io.catalogs.catalog import read_catalog, sources_from_frame

GAIA_ID = 2133476355197071616  # more digits than a float holds


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "source_id": [GAIA_ID, GAIA_ID + 1, 7],
            "ra": [289.0757982, 289.1, 289.2],
            "dec": [51.757299, 51.7, 51.8],
            "phot_g_mean_flux": [379684.909773, 3941.997142, np.nan],
            "phot_g_mean_mag": [11.738809, 16.698076, np.nan],
            "phot_rp_mean_flux": [3.0e5, 2.0e3, 10.0],
            "name_of_field": ["a # b", "", "c"],
        }
    )


def write(frame, path):
    """Write the table in the format of the ending."""
    table = Table.from_pandas(frame)
    for name in ("ra", "dec"):
        table[name].unit = "deg"
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        table.write(path, format={"ecsv": "ascii.ecsv", "vot": "votable"}.get(kind, kind))
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.ecsv", "a.fits", "a.fits.gz", "a.vot", "a.parquet"])
def test_every_format_gives_the_same_sources(frame, tmp_path, name):
    sources = read_catalog(write(frame, tmp_path / name))
    assert sources.source_id == (str(GAIA_ID), str(GAIA_ID + 1), "7")
    np.testing.assert_array_equal(sources.ra_deg, frame["ra"])
    np.testing.assert_array_equal(sources.dec_deg, frame["dec"])
    np.testing.assert_array_equal(sources.flux, frame["phot_g_mean_flux"])
    np.testing.assert_array_equal(sources.mag, frame["phot_g_mean_mag"])
    assert list(sources.columns) == list(frame.columns)
    assert str(sources.columns["name_of_field"][0]) == "a # b"


def test_ecsv_saved_as_csv_and_comments(frame, tmp_path):
    path = tmp_path / "a.csv"
    Table.from_pandas(frame).write(path, format="ascii.ecsv")
    assert read_catalog(path).source_id[0] == str(GAIA_ID)
    path.write_text("# made by hand\n# twice\n" + frame.to_csv(index=False))
    assert read_catalog(path).source_id[0] == str(GAIA_ID)
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_catalog(packed).source_id[0] == str(GAIA_ID)


def test_the_index_of_a_frame_is_not_used(frame):
    shuffled = frame.set_index(pd.Index([10, 3, 3]))
    np.testing.assert_array_equal(sources_from_frame(shuffled).flux, frame["phot_g_mean_flux"])
    one = sources_from_frame(frame[frame["source_id"] == 7])  # its label is 2
    assert (one.source_id, one.n_source) == (("7",), 1)


def test_an_index_with_a_name_is_a_column(frame):
    named = frame.set_index("source_id")
    assert read_catalog(named).source_id == read_catalog(frame).source_id
    assert list(read_catalog(named.reset_index()).columns) == list(read_catalog(named).columns)


def test_sources_pass_through(frame):
    sources = sources_from_frame(frame, "phot_rp_mean_flux")
    assert sources_from_frame(sources) is sources
    np.testing.assert_array_equal(sources.flux, frame["phot_rp_mean_flux"])
    with pytest.raises(InputError, match=r"sources: expected a pandas DataFrame or an astropy Table, got list"):
        sources_from_frame([1, 2])


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        ("RA", "DEC", "Source_ID"),
        ("ra_deg", "dec_deg", "designation"),
        ("RA_ICRS", "DE_ICRS", "Source"),
        ("RAJ2000", "DEJ2000", "KIC"),
        ("ra_obj", "dec_obj", "id"),
    ],
)
def test_common_names_are_understood(ra, dec, name):
    table = pd.DataFrame({name: ["x", "y"], ra: [1.0, 2.0], dec: [3.0, 4.0], "Phot_G_Mean_Flux": [5.0, 6.0]})
    sources = read_catalog(table)
    assert sources.source_id == ("x", "y")
    assert (sources.ra_deg[1], sources.dec_deg[1], sources.flux[1]) == (2.0, 4.0, 6.0)


def test_columns_can_be_named():
    table = pd.DataFrame({"alpha": [1.0], "delta": [2.0], "star": ["s"], "counts": [3.0], "ra": [9.0], "m": [12.0]})
    sources = read_catalog(
        table, ra_column="alpha", dec_column="delta", id_column="star", flux_column="counts", mag_column="m"
    )
    assert sources.source_id == ("s",)
    assert (sources.ra_deg[0], sources.dec_deg[0], sources.flux[0], sources.mag[0]) == (1.0, 2.0, 3.0, 12.0)
    by_mag = read_catalog(table.rename(columns={"delta": "dec"}), mag_column="m")
    assert by_mag.flux[0] == pytest.approx(10 ** (0.4 * 13))


def test_sources_without_name_are_numbered():
    sources = read_catalog(pd.DataFrame({"ra": [1.0, 2.0], "dec": [3.0, 4.0], "phot_g_mean_flux": [1, 2]}))
    assert sources.source_id == ("0", "1")


@pytest.mark.parametrize(
    ("columns", "flux_column", "flux"),
    [
        # 25.6874 is Gaia's zero point: Kepler-16 has G = 11.738809 and 379684.91 electron / s in Gaia DR3.
        ({"phot_g_mean_mag": 11.738809}, "phot_g_mean_flux", 379684.91),
        ({"Gmag": 11.738809}, "phot_g_mean_flux", 379684.91),
        ({"phot_rp_mean_mag": 10.0, "kepmag": 1.0}, "phot_rp_mean_flux", 10 ** (0.4 * 14.7478955)),
        ({"kepmag": 12.0, "gmag": 13.0}, "phot_g_mean_flux", KEPLER.zero_flux),  # gmag of the KIC is Sloan g
        ({"Tmag": 10.0}, "phot_g_mean_flux", TESS.zero_flux),
        ({"tessmag": 10.0, "kepmag": 3.0}, "phot_rp_mean_flux", TESS.zero_flux),
    ],
)
def test_flux_is_made_from_magnitudes(columns, flux_column, flux):
    table = pd.DataFrame({"ra": [1.0], "dec": [2.0]} | {name: [value] for name, value in columns.items()})
    sources = read_catalog(table, flux_column=flux_column)
    assert sources.flux[0] == pytest.approx(flux, rel=1e-5)
    assert sources.mag[0] == next(iter(columns.values()))


def test_unknown_fluxes_are_kept_for_flagging():
    table = pd.DataFrame({"ra": [1.0, 2, 3], "dec": [1.0, 2, 3], "phot_g_mean_flux": [np.nan, 0.0, -5.0]})
    with pytest.warns(DataWarning, match="phot_g_mean_flux: expected fluxes above 0, got 0 in 2 of 3, rows 1, 2; they"):
        sources = read_catalog(table)
    np.testing.assert_array_equal(sources.flux, [np.nan, 0.0, -5.0])
    assert not sources.has_flux.any()


@pytest.mark.parametrize("nothing", ["", " ", "--", "null", "N/A", "nan", "...", None, np.nan])
def test_texts_that_stand_for_nothing_are_unknown(nothing):
    """Numbers as text, as scripts write them; what is neither number nor nothing is named by row."""
    mags = pd.DataFrame({"ra": ["1.0", "2"], "dec": [1.0, 2], "kepmag": ["12.5", nothing]})
    for table in (mags, Table.from_pandas(mags.fillna(""))):
        sources = read_catalog(table)
        np.testing.assert_array_equal(sources.has_flux, [True, False])
        assert sources.mag[0] == 12.5
    with pytest.raises(InputError, match=r"^kepmag: expected numbers, got '12\.5 \+- 0\.1' in row 1; correct that row"):
        read_catalog(mags.assign(kepmag=["12", "12.5 +- 0.1"]))
    with pytest.raises(InputError, match=r"ra, dec: expected a position in every row, got none .* rows 1; drop"):
        read_catalog(mags.assign(ra=["1.0", "--"]))


def test_motions_that_no_star_has_are_left_out():
    table = pd.DataFrame({"ra": [1.0, 2], "dec": [1.0, 2], "kepmag": [9.0, 9.0], "ref_epoch": "J2016.0"})
    table["pmra"] = table["pmdec"] = [3.0, -9999.0]
    with pytest.warns(DataWarning, match=r"pmra, pmdec: expected motions of up to 11000 mas / yr, .* 1 of 2, rows 1;"):
        moved = read_catalog(table, epoch=2010.0)
    np.testing.assert_allclose((moved.dec_deg - table["dec"]) * 3.6e6, [-18.0, 0.0], atol=1e-3)


@pytest.mark.parametrize("missing", [99.0, -99.9, -999.0, 999.0, -9999.0])
def test_magnitudes_that_can_be_none_are_unknown(missing):
    table = pd.DataFrame({"ra": [1.0, 2], "dec": [1.0, 2], "kepmag": [12.0, missing]})
    said = rf"kepmag: expected magnitudes from -27 to 40, got {missing:g} in 1 of 2, rows 1; they count as unknown"
    with pytest.warns(DataWarning, match=said):
        sources = read_catalog(table)
    np.testing.assert_array_equal(sources.has_flux, [True, False])
    with pytest.raises(InputError, match=r"kepmag: expected magnitudes .* and no magnitude in any row; name another"):
        read_catalog(table.assign(kepmag=missing))


@pytest.mark.parametrize("unit", ["mag", "s", "deg", "mag(AB)"])
def test_columns_that_are_no_fluxes_are_refused(unit):
    table = Table({"ra": [1.0, 2], "dec": [1.0, 2], "flux": [12.0, 13.0], "Gmag": [12.0, 13.0]})
    table["flux"].unit = "Jy"
    assert read_catalog(table, flux_column="flux").has_flux.all()
    table["flux"].unit = unit
    with pytest.raises(UnitError, match=r"flux: expected fluxes on a linear scale, .*, got a column in .*mag_column"):
        read_catalog(table, flux_column="flux")
    with pytest.raises(UnitError, match=r"Gmag: expected fluxes on a linear scale, .*, got a column of magnitudes"):
        read_catalog(table, flux_column="Gmag")


def test_motion_to_the_epoch_of_the_data(make_pixels):
    table = pd.DataFrame(
        {"ra": [10.0, 20.0], "dec": [60.0, 0.0], "pmra": [1000.0, np.nan], "pmdec": [-500.0, np.nan]}
        | {"ref_epoch": [2016.0, 2016.0], "phot_g_mean_flux": [1.0, 1.0]}
    )
    moved = read_catalog(table, epoch=2012.0)
    # Four years back: -4 arcsec on the sky in RA is -8 arcsec in coordinate at dec 60; +2 arcsec in dec.
    assert (moved.ra_deg[0] - 10.0) * 3600 == pytest.approx(-8.0, abs=1e-3)
    assert (moved.dec_deg[0] - 60.0) * 3600 == pytest.approx(2.0, abs=1e-3)
    assert (moved.ra_deg[1], moved.dec_deg[1]) == (20.0, 0.0)
    np.testing.assert_array_equal(moved.columns["ra"], table["ra"])  # as given
    by_data = read_catalog(table, epoch=make_pixels())  # day 1000 of Kepler: 2011.740
    assert (by_data.dec_deg[0] - 60.0) * 3600 == pytest.approx(0.5 * (2016 - 2011.7400), abs=1e-3)
    np.testing.assert_array_equal(read_catalog(table).ra_deg, table["ra"])
    with pytest.raises(InputError, match=r"epoch: expected a finite number above 0, got nan"):
        read_catalog(table, epoch=np.nan)


def test_motion_without_reference_epoch_is_reported():
    table = pd.DataFrame({"ra": [10.0], "dec": [60.0], "pmra": [9e3], "pmdec": [0.0], "phot_g_mean_flux": [1.0]})
    with pytest.warns(DataWarning, match=r"proper motions but not the epoch of its positions, so these were not"):
        assert read_catalog(table, epoch=2012.0).ra_deg[0] == 10.0
    assert read_catalog(table, epoch=2012.0, ref_epoch=2016.0).ra_deg[0] == pytest.approx(9.98, abs=1e-4)


def test_units_of_astropy_tables_are_converted():
    table = QTable({"ra": [1.0, 2.0] * u.rad, "dec": [60.0, 120.0] * u.arcmin, "phot_g_mean_flux": [1.0, 2.0] * u.ct})
    table["pmra"], table["pmdec"] = [1.0, 0.0] * u.arcsec / u.yr, [0.0, 0.0] * u.arcsec / u.yr
    table["ref_epoch"] = [2016.0, 2016.0] * u.yr
    sources = read_catalog(table, epoch=2017.0)
    assert sources.dec_deg[1] == 2.0
    assert sources.ra_deg[0] == pytest.approx(np.degrees(1.0) + 1 / 3600 / np.cos(np.radians(1)), abs=1e-9)
    table["dec"] = [1.0, 2.0] * u.s
    with pytest.raises(UnitError, match=r"dec: expected a unit that converts to deg, got s"):
        read_catalog(table)


def test_masked_entries_are_missing():
    table = Table({"ra": [1.0, 2.0], "dec": [3.0, 4.0]})
    table["phot_g_mean_flux"] = MaskedColumn([5, 6], mask=[False, True])
    np.testing.assert_array_equal(read_catalog(table).flux, [5.0, np.nan])
    table["source_id"] = MaskedColumn(["a", "b"], mask=[False, True])
    with pytest.raises(InputError, match=r"source_id: expected a name for every source, got missing entries"):
        read_catalog(table)
    nullable = pd.DataFrame({"ra": [1.0], "dec": [2.0], "phot_g_mean_flux": pd.array([pd.NA], "Int64")})
    assert np.isnan(read_catalog(nullable).flux[0])


def test_names_that_lost_digits_are_refused():
    table = pd.DataFrame({"source_id": [3.0, float(GAIA_ID)], "ra": [1.0, 2], "dec": [1.0, 2], "kepmag": [9.0, 9]})
    with pytest.raises(InputError, match=r"source_id: .*got the float .*, which does not hold all digits"):
        read_catalog(table)
    assert read_catalog(table[:1]).source_id == ("3",)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("ra", r"ra_column: expected a column of right ascension called ra or .* has dec, kepmag; name it with ra_col"),
        ("dec", r"dec_column: expected a column of declination .* the table has ra, kepmag; name it with dec_column="),
        ("kepmag", r"flux_column: expected a column phot_g_mean_flux or a magnitude, the table has ra, dec; name it"),
    ],
)
def test_missing_columns_are_named(missing, message):
    table = pd.DataFrame({"ra": [1.0], "dec": [2.0], "kepmag": [3.0]}).drop(columns=missing)
    with pytest.raises(InputError, match=message):
        read_catalog(table)


def test_a_named_column_that_is_not_there():
    table = pd.DataFrame({"ra": [1.0], "dec": [2.0], "kepmag": [3.0]})
    with pytest.raises(InputError, match=r"flux_column: expected a column flux_psf, the table has ra, dec, kepmag"):
        read_catalog(table, flux_column="flux_psf")
    with pytest.raises(InputError, match=r"id_column: expected a column of names called star, the table has"):
        read_catalog(table, id_column="star")
    with pytest.raises(InputError, match=r"mag_column: expected a column of magnitudes called m, the table has"):
        read_catalog(table, mag_column="m")


@pytest.mark.parametrize("empty", [pd.DataFrame(), pd.DataFrame({"ra": [], "dec": [], "phot_g_mean_flux": []})])
def test_empty_catalogues_are_refused(empty):
    with pytest.raises(InputError, match=r"catalog: expected at least one source, got an empty table"):
        read_catalog(empty)


def test_bad_rows_are_refused():
    table = pd.DataFrame({"source_id": [1, 1], "ra": [1.0, 2.0], "dec": [3.0, 4.0], "kepmag": [9.0, 9.0]})
    with pytest.raises(InputError, match=r"source_id: expected every source once, got '1' more than once"):
        read_catalog(table)
    with pytest.raises(
        InputError, match=r"ra, dec: expected a position in every row, got none .* in 1 of 2, rows 1; drop"
    ):
        read_catalog(table.assign(source_id=[1, 2], ra=[1.0, np.nan]))
    with pytest.raises(InputError, match=r"^ra: expected a position in every row, got 'x' in row 1, as lines of"):
        read_catalog(table.assign(source_id=[1, 2], ra=["19:16:18", "x"]))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match=r"catalog: expected a file, got .*absent.csv', where there is none; check"):
        read_catalog(tmp_path / "absent.csv")
    odd = tmp_path / "stars.xlsx"
    odd.write_bytes(b"x")
    with pytest.raises(InputError, match=r"expected a file that ends in .csv, .*got 'stars.xlsx'"):
        read_catalog(odd)
    for name in ("a.fits", "a.vot", "a.parquet", "a.ecsv", "a.csv"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(FileError, match=rf"{name}: expected a table, but it cannot be read"):
            read_catalog(tmp_path / name)
    with pytest.raises(InputError, match=r"catalog: expected a path, a pandas DataFrame or an astropy Table, got int"):
        read_catalog(3)


def test_a_cut_file_is_named(frame, tmp_path):
    path = write(frame, tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(FileError, match=r"a.fits: expected a table, but it cannot be read"):
        read_catalog(path)


def test_parquet_without_pyarrow(frame, tmp_path, monkeypatch):
    path = write(frame, tmp_path / "a.parquet")

    def refuse(*_args, **_kwargs):
        raise ImportError("no engine")

    monkeypatch.setattr("bayesprf.io.catalogs.tables._READERS", {"parquet": refuse})
    with pytest.raises(MissingDependencyError, match=r"reading a.parquet needs pyarrow; install it with: pip install"):
        read_catalog(path)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([True, False], "flags"),
        (pd.array([True, None], "boolean"), "flags"),
        (np.array(["2016", "2017"], "M8[Y]"), "dates"),
        (pd.to_timedelta([11, 12]), "lengths of time"),
    ],
)
@pytest.mark.parametrize("column", ["phot_g_mean_mag", "phot_g_mean_flux", "ra", "ref_epoch", "pmra"])
def test_what_only_turns_into_numbers_is_none(values, what, column):
    table = pd.DataFrame({"ra": [1.0, 2], "dec": [1.0, 2], "pmra": 1.0, "pmdec": 1.0, "kepmag": [12.0, 13.0]})
    with pytest.raises(InputError, match=rf"^{column}: expected an array of real numbers, got .* \(they are {what}\)"):
        read_catalog(table.assign(**{column: values}))


def test_a_column_in_which_nothing_stands_gives_way_to_another():
    table = pd.DataFrame({"ra": [1.0, 2], "dec": [1.0, 2], "Kep Mag": np.nan, "TESS Mag": [10.0, np.nan]})
    np.testing.assert_allclose(read_catalog(table).flux, [1.5e4, np.nan], rtol=1e-12)
    both = table.assign(phot_g_mean_flux=np.nan)
    np.testing.assert_allclose(read_catalog(both).flux, [1.5e4, np.nan], rtol=1e-12)


@pytest.mark.parametrize("names", [("pmra",), ("pmRAstar", "pmDEC"), ("mu_alpha", "mu_delta"), ("Proper motion RA",)])
def test_motions_under_other_names_are_not_passed_over_in_silence(names):
    table = pd.DataFrame({"ra": [1.0, 2], "dec": [1.0, 2], "kepmag": [12.0, 13.0]})
    named = table.assign(**dict.fromkeys(names, 1.0), pmra_error=0.1, PMflag="x")
    with pytest.warns(DataWarning, match=rf"proper motions in two columns called pmra and pmdec, got {names[0]}.* ren"):
        assert read_catalog(named).motion is None
    read_catalog(table.assign(**dict.fromkeys(names, np.nan), pmra_error=0.1))  # nothing stands there


def test_rows_of_the_tic_that_are_no_stars():
    table = pd.DataFrame(
        {"ID": [1, 2, 3, 4, 5, 6], "ra": np.arange(6.0), "dec": 1.0, "Tmag": 10.0}
        | {"disposition": ["", "DUPLICATE", "ARTIFACT", "SPLIT", None, "DUPLICATE"]}
        | {"duplicate_id": [np.nan, 1.0, np.nan, np.nan, 4.0, 99.0]}
    )
    with pytest.warns(DataWarning, match=r"left out 3 of 6 .* disposition: 2 \(DUPLICATE\), 3 \(ARTIFACT\), 4 \(SPL"):
        assert read_catalog(table).source_id == ("1", "5", "6")  # the star of 6 is not there
    alone = table.drop(columns="duplicate_id")
    with pytest.warns(DataWarning, match=r"left out 1 of 6"):
        assert read_catalog(alone).n_source == 5
    assert read_catalog(table.assign(disposition=np.nan)).n_source == 6


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (",deg,deg,mag\n1,63.37,-69.22,10.1\n", "'deg' in row 0"),
        ("1,63.37,-69.22,10.1\nID,ra,dec,Tmag\n2,63.38,-69.22,10.0\n", "'ra' in row 1"),
        ('1,04:13:29,-69:13:36,10.1\n,"h:m:s","d:m:s",mag\n', "'h:m:s' in row 1"),
    ],
)
def test_lines_of_units_and_second_headers_are_named(tmp_path, rows, said):
    """Tables put together by hand; numbers beside such a line were taken for hours or degree."""
    path = tmp_path / "stars.csv"
    path.write_text("ID,ra,dec,Tmag\n" + rows)
    with pytest.raises(InputError, match=rf"^ra: expected a position in every row, got {said}, as lines of units"):
        read_catalog(path)
