"""Files of tables: text of every kind, several tables in one file, identifiers with all digits."""

import gzip
import re
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.io.votable.tree import Resource as VOResource
from astropy.io.votable.tree import TableElement, VOTableFile
from astropy.table import Table

from bayesprf.errors import DataWarning, FileError, InputError
from bayesprf.io.catalogs.catalog import read_catalog
from bayesprf.io.catalogs.tables import read_columns

GAIA = 5730932475468906240
VIZIER = """#
#   VizieR Astronomical Server
#INFO\tqueryParameters=25

#RESOURCE=yCat_1
#Name: I/1/a
#Table\tI_1_a:
#Column\tRA_ICRS\t(F15.11)\tRight ascension (ICRS) at Ep=2015.5\t[ucd=pos.eq.ra;meta.main]
#Column\tS/G\t(a1)\tStar or galaxy\t[ucd=src]
RA_ICRS|DE_ICRS|Source|pmRA*|pmDE|Gmag|S/G
deg|deg| |mas/yr|mas/yr|mag|
-------|-------|-------------------|-----|-----|-----|---
 10.000| 5.0000|5730932475468906240| -3.5|  1.5|  9.5|G
 20.000|-5.0000|5730933471901319424|     |     |     |
"""


@pytest.mark.parametrize("delimiter", ["|", ";", "\t"])
@pytest.mark.parametrize("ending", [".tsv", ".csv.gz", ".txt"])
def test_text_of_vizier(tmp_path, delimiter, ending):
    path = tmp_path / f"export{ending}"
    content = VIZIER.replace("|", delimiter).encode()
    path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    sources = read_catalog(path)
    assert sources.source_id == (str(GAIA), "5730933471901319424")
    np.testing.assert_array_equal(sources.epoch, 2015.5)
    np.testing.assert_array_equal(sources.motion, [[-3.5, 1.5], [np.nan, np.nan]])
    np.testing.assert_array_equal(sources.mag, [9.5, np.nan])
    assert list(sources.columns["S_G"]) == ["G", ""]


def test_units_of_vizier_are_kept(tmp_path):
    path = tmp_path / "export.tsv"
    path.write_text(VIZIER.replace("mas/yr", "arcsec/yr"))
    assert read_catalog(path).motion[0, 0] == pytest.approx(-3500.0, rel=1e-12)
    path.write_text(
        VIZIER.replace("deg|deg|", '"h:m:s"|"d:m:s"|').replace(" 10.000|", "0:40:00|").replace(" 20.000|", "1:20:00|")
    )
    np.testing.assert_allclose(read_catalog(path).ra_deg, [10.0, 20.0], rtol=1e-12)


def test_several_tables_of_vizier(tmp_path):
    path = tmp_path / "export.tsv"
    lines = VIZIER[VIZIER.index("#RESOURCE") :]
    path.write_text(VIZIER + "\n\n" + lines.replace("I/1/a", "I/1/b").replace("10.000", "11.000"))
    with pytest.raises(InputError, match=r"^table: .* holds 2 with positions, got none; choose .* 0 \(I/1/a\), 1 \(I"):
        read_catalog(path)
    for which in (1, "I/1/b"):
        assert read_catalog(path, table=which).ra_deg[0] == 11.0
    with pytest.raises(InputError, match=r"^table: expected one of the tables of export.tsv, 0 \(I/1/a\), .* got 'II'"):
        read_catalog(path, table="II")
    path.write_text(VIZIER + "\n\n" + lines.replace("RA_ICRS|DE_ICRS", "x|y").replace("I/1/a", "I/1/b"))
    assert read_catalog(path).ra_deg[0] == 10.0  # the only one with positions


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_text_by_hand(tmp_path, delimiter):
    path = tmp_path / "stars.dat"
    rows = [("name", "ra", "dec", "kepmag"), ("x", "1.5", "2", "9"), ("y", "3", "-4", "null")]
    path.write_text("# by hand\n" + "\n".join(delimiter.join(row) for row in rows) + "\n\n")
    sources = read_catalog(path)
    assert sources.source_id == ("x", "y")
    np.testing.assert_array_equal(sources.ra_deg, [1.5, 3.0])
    np.testing.assert_array_equal(sources.mag, [9.0, np.nan])


def test_bulk_files_of_gaia_write_null(tmp_path):
    table = Table({"source_id": [GAIA, GAIA + 1], "ra": [1.0, 2.0], "dec": [3.0, 4.0], "phot_g_mean_flux": [5.0, 6.0]})
    path = tmp_path / "GaiaSource.csv"
    table.write(path, format="ascii.ecsv", delimiter=",")
    path.write_text(path.read_text().replace("4.0,6.0", "4.0,null"))
    sources = read_catalog(path)
    assert sources.source_id == (str(GAIA), str(GAIA + 1))
    np.testing.assert_array_equal(sources.flux, [5.0, np.nan])


def test_integers_keep_their_digits_beside_missing_ones(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"name,ra,dec,kepmag,other\nx,1,2,9,{GAIA + 1}\ny,3,4,9,\n")
    pd.DataFrame({"other": pd.array([GAIA + 1, None], "Int64")}).to_parquet(tmp_path / "a.parquet")
    for columns in (
        read_columns(path),
        read_columns(tmp_path / "a.parquet"),
        read_columns(pd.DataFrame({"other": pd.array([GAIA + 1, None], "Int64")})),
    ):
        assert columns["other"].dtype == np.int64
        assert columns["other"][0] == GAIA + 1
        np.testing.assert_array_equal(columns["other"].mask, [False, True])


def votable(path, *tables):
    file = VOTableFile()
    for name, columns in tables:
        resource = VOResource()
        file.resources.append(resource)
        element = TableElement.from_table(file, Table(columns))
        element.name = name
        resource.tables.append(element)
    file.to_xml(str(path))


STARS = {"ra": [1.0, 2.0], "dec": [3.0, 4.0], "kepmag": [9.0, 9.0]}


def test_several_tables_of_a_votable(tmp_path):
    path = tmp_path / "viz.xml"
    votable(path, ("notes", {"text": [1.0]}), ("stars", STARS))
    assert read_catalog(path).n_source == 2
    votable(path, ("notes", {"text": [1.0]}), ("stars", STARS), ("others", STARS))
    with pytest.raises(InputError, match=r"viz.xml holds 2 with positions, .* 1 \(stars\), 2 \(others\), for exa"):
        read_catalog(path)
    assert read_catalog(path, table="others").n_source == 2


def test_several_tables_of_a_fits_file(tmp_path):
    path = tmp_path / "stars.fits"
    hdus = [fits.table_to_hdu(Table(one)) for one in ({"text": [1.0]}, STARS)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    assert read_catalog(path).n_source == 2
    fits.PrimaryHDU(np.ones((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(FileError, match=r"image.fits: expected a table, found none"):
        read_catalog(tmp_path / "image.fits")


def test_filled_masks_are_missing_and_named_by_row(tmp_path):
    path = tmp_path / "a.fits"
    Table({"ra": [1.0, 2.0], "dec": [3.0, 4.0], "kepmag": [9.0, 1e20], "pmra": [1e20, 1.0], "pmdec": [1.0, 1.0]}).write(
        path
    )
    sources = read_catalog(path)
    np.testing.assert_array_equal(sources.has_flux, [True, False])
    assert np.isnan(sources.motion[0, 0])
    Table({"ra": [1.0, 1e20], "dec": [3.0, 1e20], "kepmag": [9.0, 9.0]}).write(path, overwrite=True)
    with pytest.raises(InputError, match=r"^ra, dec: expected a position .* or 1e20 as filled masks are.* rows 1; "):
        read_catalog(path)


def test_text_in_latin_letters_of_old(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("name,ra,dec,kepmag\nCôte,1,2,9\n".encode("latin-1"))
    assert read_catalog(path).source_id == ("Côte",)
    path.write_bytes("\ufeffname,ra,dec,kepmag\nx,1,2,9\n".encode())
    assert read_catalog(path).source_id == ("x",)
    path.write_bytes("name,ra,dec,kepmag\ny,1,2,9\n".encode("utf-16"))
    assert read_catalog(path).source_id == ("y",)


def test_a_web_page_is_no_table(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("<!DOCTYPE html><html><body>404</body></html>")
    with pytest.raises(FileError, match=r"a\.csv: .* \(it is a web page; download the table itself\)"):
        read_catalog(path)


FIXED = """#
#Column\tRA_ICRS\t(F15.11)\tRight ascension (ICRS) at Ep=2016.0
RA_ICRS   DE_ICRS   Source              Gmag    RPmag
deg       deg                           mag     mag
--------- --------- ------------------- ------- -------
 10.000    5.0000   5730932475468906240          12.0
 20.000   -5.0000   5730933471901319424 13.0     12.5
"""


def test_columns_of_fixed_width_keep_their_gaps(tmp_path):
    """A magnitude that is missing is not taken from the next column."""
    path = tmp_path / "asu.txt"
    path.write_text(FIXED)
    sources = read_catalog(path)
    assert sources.source_id == (str(GAIA), "5730933471901319424")
    np.testing.assert_array_equal(sources.mag, [np.nan, 13.0])
    np.testing.assert_array_equal(sources.bands["phot_rp_mean_flux"].mag, [12.0, 12.5])
    path.write_text(FIXED.replace("20.000   -5.0000", "20.000-5.0000   "))
    with pytest.raises(FileError, match=r"expected every entry under the dashes of its column, got the line ' 20"):
        read_catalog(path)


@pytest.mark.parametrize(
    "text",
    [
        "id,ra,dec,phot_g_mean_flux\n1,290.0,44.5,1,234\n2,290.1,44.6,2,345\n",  # thousands
        "ra,dec,phot_g_mean_flux\n29,5,14,5,5200\n29,6,14,6,100\n",  # decimal commas
        "id,ra,dec,phot_g_mean_flux\nHD 1,12,29.0,4.5,100\n2,29.1,4.6,345\n",  # a comma in a name
        "name ra dec phot_g_mean_flux\nHD 12 29.0 4.5 12.3\nHD 13 29.1 4.6 12.4\n",  # a blank in a name
        "ra dec phot_g_mean_flux\n1 29.0 4.5 12.3\n2 29.1 4.6 12.4\n",  # names of rows, as R writes them
        "name ra dec phot_g_mean_flux phot_rp_mean_flux\na 12 29.0 100\nb 13 29.1 50 12\n",  # a flux is missing
    ],
)
def test_entries_that_would_slip_into_another_column_are_refused(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(FileError, match=r"a.txt: .*expected \d entries as in the header, got \d in row 1: put those"):
        read_catalog(path)


def test_entries_between_quotes_and_at_the_end_of_a_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,ra,dec,kepmag,kic\n"HD 1, A",1,2,9,7,\n"b",3,4,9\n')
    sources = read_catalog(path)
    assert sources.source_id == ("HD 1, A", "b")
    assert list(sources.columns["kic"].mask) == [False, True]


@pytest.mark.parametrize("header", ["# ra dec kepmag", "#ra,dec,kepmag", "# by hand\n#  ra\tdec\tkepmag "])
def test_names_of_columns_in_a_comment(tmp_path, header):
    """As TOPCAT and NumPy write them."""
    path = tmp_path / "a.txt"
    path.write_text(f"{header}\n1.5 2 9\n3 -4 10\n")
    np.testing.assert_array_equal(read_catalog(path).ra_deg, [1.5, 3.0])


def test_tables_of_ipac_and_packed_files_under_any_name(tmp_path):
    table = Table({"source_id": [1, 2], "ra": [1.0, 2.0], "dec": [3.0, 4.0], "phot_g_mean_flux": [5.0, 6.0]})
    table.write(tmp_path / "irsa.tbl", format="ascii.ipac")
    np.testing.assert_array_equal(read_catalog(tmp_path / "irsa.tbl").flux, [5.0, 6.0])
    table.write(tmp_path / "plain.csv", format="ascii.csv")
    (tmp_path / "packed.csv").write_bytes(gzip.compress((tmp_path / "plain.csv").read_bytes()))
    np.testing.assert_array_equal(read_catalog(tmp_path / "packed.csv").ra_deg, [1.0, 2.0])


def test_files_that_were_cut_at_a_limit_of_rows_say_so(tmp_path):
    path = tmp_path / "result.vot"
    votable(path, ("one", {"source_id": [1, 2], "ra": [1.0, 2.0], "dec": [3.0, 4.0], "phot_g_mean_flux": [5.0, 6.0]}))
    whole = path.read_text()
    assert read_catalog(path).n_source == 2
    for status, cut in {"OK": False, "OVERFLOW": True}.items():
        info = f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="{status}"/>'
        path.write_text(re.sub("<RESOURCE[^>]*>", info, whole))
        said = pytest.warns(DataWarning, match=r"result.vot says that its rows were cut .*OVERFLOW\); ask the archive")
        with said if cut else nullcontext():
            assert read_catalog(path).n_source == 2
    path = tmp_path / "export.tsv"
    path.write_text(VIZIER + "#INFO\ttruncated result (>2)\n")
    with pytest.warns(DataWarning, match=r"export.tsv says that its rows were cut at a limit \(#INFO\ttruncated"):
        read_catalog(path)


@pytest.mark.parametrize(
    ("row", "column"), [("290,123;44,5;12", "ra"), ("290.1;44,5;12", "dec"), ("290.1;44.5;12,5", "phot_g_mean_mag")]
)
def test_commas_in_numbers_are_named(tmp_path, row, column):
    """In 290,123 the comma may be the point or stand for thousands."""
    path = tmp_path / "export.csv"
    path.write_text(f"ra;dec;phot_g_mean_mag\n{row}\n")
    with pytest.raises(InputError, match=rf"^{column}: expected .*,.*; write numbers with a point"):
        read_catalog(path)
