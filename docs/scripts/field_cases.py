"""What people really bring: the answers today to the field cases for which a file exists, as a table.

    python docs/scripts/field_cases.py

Needs the real files (`BAYESPRF_TEST_DATA` names their directory); writes docs/evidence/field_cases.md. A right answer
is a number with the true one beside it; otherwise the sentence is printed that the user sees.
"""

import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table

import bayesprf as bp
from bayesprf.errors import BayesprfError, BayesprfWarning
from bayesprf.io.pixels.ffi import read_image
from bayesprf.io.save import load_tree, save_tree

DATA = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
CASES, TESS = DATA / "field-cases", DATA / "tess-tpf" / "tess25155310-s01-first-cadences.fits.gz"
STAMP = DATA / "tess-tpf" / "tess-tic273589987-s15-100cad.fits.gz"
PAGE = Path(__file__).parents[1] / "evidence" / "field_cases.md"
LONGEST = 330

HEAD = """# What people really bring

Made by `python docs/scripts/field_cases.py`: problems of public threads and files of public repositories, as `bayesprf`
answers them. Before: the answer when the cases were collected, in words. Each row has a test in `tests/real`
(`test_field_cases_*.py`, `test_k2_roll.py`). Cases about objects in memory and other tools are tests only.

| case | asked | before | today |
| --- | --- | --- | --- |
"""


def tic_flux():
    machine = bp.fit(TESS, CASES / "tic25155310_tic_v17.csv", quiet=True)
    return f"{machine.ws[:, 0].mean():.0f} +- {machine.werrs_total[:, 0].mean():.0f}; mission 9259"


def tic_scale():
    catalog, found = bp.read_catalog(CASES / "tic25155310_tic_v17.csv"), []
    for scale in (0.01, 1.0, 53.0, 1000.0):
        machine = bp.fit(TESS, replace(catalog, flux=scale * catalog.flux), quiet=True)
        found.append(machine.ws[:, 0].mean())
    return f"{', '.join(f'{one:.1f}' for one in found)}; spread {np.ptp(found) / found[0]:.0e}"


def k2_arrays():
    machine = bp.fit(CASES / "synthetic-k2-flat.targ.fits.gz", "detect", quiet=True)
    flux = machine.ws_va[:, 0]
    return f"{flux.mean():.0f} (pixel sum 168,704), scatter {1e6 * flux.std() / flux.mean():.0f} ppm (pixel sum 391)"


def sky():
    machine = bp.fit(CASES / "astrocut-sky150-15x15.fits.gz", CASES / "astrocut-sky150-15x15_catalog.csv", quiet=True)
    return f"{machine.ws[:, 0].mean():.0f} +- {machine.werrs_total[:, 0].mean():.0f}; truth 9000"


def tica():
    pixels = bp.read_tpfs(CASES / "astrocut-tica-electrons-15x15.fits.gz")
    return f"{pixels.n_time} x {pixels.n_pixel}, errors {np.median(pixels.flux_err):.3g} electron / s"


def image_errors():
    pixels = read_image(CASES / "tess2018206192942-s0001-1-4-0120-s_ffic-128rows.fits.gz", extension=1)
    return f"{pixels.n_pixel} pixels, median error {np.nanmedian(pixels.flux_err):.3g}, the mission's"


def bits_per_target():
    pixels = bp.read_tpfs([STAMP, CASES / "tess-neighbour-stamp-bit4096.fits.gz"])
    kept = [int(np.isfinite(pixels.flux[:, pixels.stamp == one]).any(axis=1).sum()) for one in (0, 1)]
    return f"{kept[0]} and {kept[1]} cadences of 100"


def cutout():
    pixels = bp.read_tpfs(CASES / "lightkurve-cutout-tic25155310-4x4.fits.gz")
    return f"column {pixels.column[0]}, row {pixels.row[0]}, RA {pixels.ra_deg[0]:.6f}, Dec {pixels.dec_deg[0]:.6f}"


def saved_cutout():
    pixels = bp.read_tpfs(CASES / "lightkurve-saved-cutout-kic8462852-5x5.fits.gz")
    return f"{pixels.n_time} cadences, {pixels.n_pixel} pixels"


def broken_column():
    pixels = bp.read_tpfs(CASES / "lightkurve-saved-kic8462852-poscorr.fits.gz")
    return f"{pixels.n_time} x {pixels.n_pixel}, pos_corr {pixels.pos_corr}"


def no_coordinates():
    return bp.read_tpfs(CASES / "synthetic-k2-flat.targ.fits.gz")


def cut_short():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.fits"
        path.write_bytes((DATA / "kepler-tpf" / "tpf_test_00.fits").read_bytes()[:4000])
        return bp.read_tpfs(path)


def address():
    return bp.read_tpfs("https://archive.stsci.edu/one.fits")


def catalog(name):
    def read():
        sources = bp.read_catalog(CASES / name)
        epoch = "" if sources.epoch is None else f", epoch {sources.epoch[0]:g}"
        place = f"RA {sources.ra_deg[0]:.5f}, Dec {sources.dec_deg[0]:.5f}"
        return f"{sources.n_source} sources, first {sources.source_id[0]}, {place}{epoch}"

    return read


def slash():
    sources = bp.read_catalog(CASES / "tic_vizier_slash_8rows.csv")
    return (
        f"{sources.n_source} sources, first {sources.source_id[0]}, columns {', '.join(list(sources.columns)[:4])}, ..."
    )


def masked_ids():
    rows = Table.read(TESS.parent.parent / "field-cases" / "masked_int64_ids_6rows.ecsv")
    field = bp.read_tpfs(TESS)
    frame = Table({name: rows[name] for name in rows.colnames})
    frame["ra"], frame["dec"] = field.ra_deg[: len(rows)], field.dec_deg[: len(rows)]
    machine = bp.Machine.from_pixels(field, bp.read_catalog(frame, flux_column=flux_of(frame)), quiet=True)
    machine.build_shape_model()
    with tempfile.TemporaryDirectory() as folder:
        tree = load_tree(save_tree(machine.to_datatree(), Path(folder) / "out.nc"))
        return f"{int(tree['catalog/dr2_source_id'].to_numpy()[1])} in the file; 5730932475468906240"


def flux_of(frame):
    """Give the rows fluxes, if they have none."""
    frame["flux"] = np.linspace(1e4, 2e4, len(frame))
    return "flux"


ROWS = (
    ("1", "flux of TIC 25155310 with 8 TIC stars", "3575 +- 487, no flag", tic_flux),
    ("2", "the same, catalogue x 0.01, 1, 53, 1000", "9420 to 140,851", tic_scale),
    ("8, 9", "simulated K2 star that rolls, impossible errors, no coordinates", "6988, scatter 52 %", k2_arrays),
    ("10", "TESScut with its sky", "14,903 for 9000, no word", sky),
    ("13", "bit 4096 of one target", "40 cadences left for both", bits_per_target),
    ("15", "TICA cutout: electrons, errors 0", "misleading sentence", tica),
    ("16", "errors of a TESS full frame image", "0.827 of the mission's", image_errors),
    ("21", "lightkurve's cutout", "off by 103 arcsec", cutout),
    ("25, 26", "cutout that was saved: CADENCENO all 0", "refused", saved_cutout),
    ("27", "POS_CORR2 without width", "false advice", broken_column),
    ("28", "empty cards, no coordinates", "false sentence", no_coordinates),
    ("34", "file cut short in a header", "unclear", cut_short),
    ("36", "URL", "unclear", address),
    ("39", "Gaia bulk file with null", "refused", catalog("gaia_bulk_null_5rows.ecsv.gz")),
    ("40, 41", "TIC of MAST", "refused", catalog("tic_mast_10rows.csv")),
    ("42, 44", "VizieR text, pmRA*", "refused; not moved", catalog("vizier_ic2391_60rows.csv")),
    ("45", "ExoFOP, sexagesimal", "refused", catalog("exofop_toi103_sexagesimal.csv")),
    ("46", "masks filled with 1e20", "taken as a star", catalog("ic2391_1e20_10rows.fits")),
    ("50", "column S/G", "traceback after the fit", slash),
    ("51", "masked 64 bit ids", "...496, digits lost", masked_ids),
)


def answer(ask):
    """Return what a user gets: number and warnings, or the error's sentence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BayesprfWarning)
        try:
            found = str(ask())
        except BayesprfError as error:
            return f"refused: {clean(error)}"
    said = [clean(one.message) for one in caught if issubclass(one.category, BayesprfWarning)]
    return "; said: ".join([found, *dict.fromkeys(said)][:3])


def clean(message):
    """Return a message in one line, without directories, cut at a length."""
    text = " ".join(Path(one).name if one.startswith("/") else one for one in str(message).split())
    return (text if len(text) <= LONGEST else text[: LONGEST - 3] + "...").replace("|", "/")


def main():
    """Ask, print and write the page."""
    lines = []
    for case, asked, before, ask in ROWS:
        lines.append(f"| {case} | {asked} | {before} | {answer(ask)} |")
        print(lines[-1], flush=True)
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
