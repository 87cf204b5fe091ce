"""Tables as text: comma, tab, semicolon or bar between columns, with the comments, units and dashes of VizieR."""

import codecs
import csv
import gzip
import io
import re
from pathlib import Path

import pandas as pd
from astropy import units
from astropy.table import Table

_DELIMITERS = ("\t", ";", "|", ",")
# A comment of VizieR that begins another table of the same file.
_NEXT_TABLE = ("#RESOURCE=", "#Table\t")
_MISSING = ("null", "--", "~")
_GZIP = b"\x1f\x8b"


def read_text(path: Path) -> list[tuple[str, Table | pd.DataFrame]]:
    """Read the tables of a text file.

    Parameters
    ----------
    path : Path
        Comma-, tab-, semicolon-, bar- or blank-separated values after lines of comment (#), of which the last may name
        the columns, compressed with gzip or not; ECSV; IPAC; or an export of VizieR with one or several tables.

    Returns
    -------
    list of (str, Table or DataFrame)
        Name and content of each; whole numbers keep all digits where others are missing.

    Raises
    ------
    ValueError
        If it is no table, or entries cannot be told to be of one column.
    """
    content = path.read_bytes()
    text = _decode(gzip.decompress(content) if content.startswith(_GZIP) else content)
    if text.lstrip()[:9].lower().startswith(("<html", "<!doctype")):
        raise ValueError("it is a web page; download the table itself")
    if text.startswith("# %ECSV"):
        return [(path.name, _read_ecsv(text))]
    if text.startswith(("\\", "|")):
        return [(path.name, Table.read(text.splitlines(), format="ascii.ipac"))]
    blocks = _split_tables(text.splitlines())
    return [_read_block(comments, rows, path.name) for comments, rows in blocks]


def _decode(content: bytes) -> str:
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # as spreadsheets export it
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _read_ecsv(text: str) -> Table:
    """Read ECSV; the bulk files of Gaia write "null" where an entry is missing (data model, section 1.2)."""
    return Table.read(text.splitlines(), format="ascii.ecsv", fill_values=[("null", "0"), ("", "0")])


def _split_tables(lines: list[str]) -> list[tuple[list[str], list[str]]]:
    """Return comments and rows of each table; blank lines count for nothing."""
    blocks: list[tuple[list[str], list[str]]] = [([], [])]
    for line in lines:
        comments, rows = blocks[-1]
        if line.startswith(_NEXT_TABLE) and rows:
            blocks.append(([line], []))
        elif line.startswith("#"):
            comments.append(line)
        elif line.strip():
            rows.append(line)
    return blocks if len(blocks) == 1 else [block for block in blocks if block[1]]


def _read_block(comments: list[str], rows: list[str], name: str) -> tuple[str, Table | pd.DataFrame]:
    rows = [*_header_in(comments, rows), *rows]
    delimiter = _find_delimiter(rows[0]) if rows else ","
    dashes = next((i for i in (1, 2) if i < len(rows) and _is_rule(rows[i], delimiter)), None)
    if dashes is not None and delimiter == " ":
        rows, delimiter = _cut_columns(rows, rows[dashes]), "\t"
    body = rows if dashes is None else [rows[0], *rows[dashes + 1 :]]
    _check_lengths(body, delimiter)
    frame = _read_rows(body, delimiter)
    if dashes is None:
        return name, frame
    table = Table.from_pandas(frame)
    described = _descriptions(comments)
    unit_row = rows[1].split(delimiter) if dashes == 2 else []
    for column, unit in zip(table.colnames, [*unit_row, *[""] * len(table.colnames)], strict=False):
        table[column].description = described.get(column)
        table[column].unit = _unit(unit)
    return _table_name(comments) or name, table


def _header_in(comments: list[str], rows: list[str]) -> list[str]:
    """Return the last comment if it names the columns, as TOPCAT and NumPy write them: the first row holds numbers."""
    if not comments or not rows:
        return []
    header, delimiter = comments[-1].lstrip("#").strip(), _find_delimiter(rows[0])
    names, entries = _fields(header, _find_delimiter(header)), _fields(rows[0], delimiter)
    if len(names) != len(entries) or any(map(_is_number, names)) or not any(map(_is_number, entries)):
        return []
    return [delimiter.join(f'"{one.strip()}"' for one in names)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity")


def _fields(line: str, delimiter: str) -> list[str]:
    """Return the entries of a line; between quotes they may hold the delimiter."""
    if '"' not in line:
        return line.split() if delimiter == " " else line.split(delimiter)
    return next(csv.reader([line.strip()], delimiter=delimiter, skipinitialspace=True), [])


def _cut_columns(rows: list[str], rule: str) -> list[str]:
    """Return rows of columns of fixed width, which the dashes of a rule span, with tabs between entries."""
    spans = [slice(*one.span()) for one in re.finditer("-+", rule)]
    cut = [[line[span].strip() for span in spans] for line in rows]
    for line, entries in zip(rows, cut, strict=True):
        if "".join(entries).replace(" ", "") != "".join(line.split()):
            raise ValueError(f"expected every entry under the dashes of its column, got the line {line!r}")
    return ["\t".join(entries) for entries in cut]


def _check_lengths(rows: list[str], delimiter: str) -> None:
    """Raise unless every row has as many entries as the header, so that none is taken for that of another column.

    Blank entries at the end of a row may be one too many, or lacking where it is plain that the last are missing.
    """
    expected = len(_fields(rows[0], delimiter)) if rows else 0
    for number, line in enumerate(rows[1:], 1):
        if delimiter != " " and line.count(delimiter) < expected:
            continue
        entries = _fields(line, delimiter)
        if any(one.strip() for one in entries[expected:]) or (delimiter == " " and len(entries) < expected):
            raise ValueError(
                f"expected {expected} entries as in the header, got {len(entries)} in row {number}: put those that hold"
                f" {delimiter!r} between quotes, and write -- where there is none"
            )


def _find_delimiter(header: str) -> str:
    counts = {one: header.count(one) for one in _DELIMITERS}
    best = max(_DELIMITERS, key=counts.__getitem__)
    if counts[best]:
        return best
    return " " if " " in header.strip() else ","


def _is_rule(line: str, delimiter: str) -> bool:
    """Return whether a line holds dashes alone: the rule under the header of VizieR's tables."""
    fields = line.split() if delimiter == " " else [one.strip() for one in line.split(delimiter)]
    return all(one and set(one) == {"-"} for one in fields)


def _read_rows(rows: list[str], delimiter: str) -> pd.DataFrame:
    frame = pd.read_csv(
        io.StringIO("\n".join(rows)),
        sep=r"\s+" if delimiter == " " else delimiter,
        skipinitialspace=True,
        na_values=list(_MISSING),
        dtype_backend="numpy_nullable",
        float_precision="round_trip",
        index_col=False,
    )
    return frame.rename(columns=lambda name: str(name).strip())


def _unit(text: str) -> units.UnitBase | None:
    """Return a unit where astropy knows it; "h:m:s" and the like say how numbers are written, not what they are."""
    try:
        return units.Unit(text.strip()) if text.strip() else None
    except ValueError:
        return None


def _descriptions(comments: list[str]) -> dict[str, str]:
    """Return what VizieR's comments say of each column, by its name."""
    fields = [line.split("\t") for line in comments if line.startswith("#Column")]
    return {one[1].strip(): one[3] for one in fields if len(one) > 3}


def _table_name(comments: list[str]) -> str | None:
    return next((line.split(":", 1)[1].strip() for line in reversed(comments) if line.startswith("#Name:")), None)
