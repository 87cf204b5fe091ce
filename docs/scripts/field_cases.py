"""What people really bring: the answers today to the field cases for which a file exists, as a table.

    python docs/scripts/field_cases.py [CASE ...]

With cases, by the numbers of their rows such as 1 or "8, 9", only these are asked again.

Needs the real files (`BAYESPRF_TEST_DATA` names their directory); writes docs/evidence/field_cases.md. A right answer
is a number with the true one beside it; otherwise the sentence is printed that the user sees.
"""

import os
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.io.votable.tree import Resource, VOTableFile
from astropy.table import Table
from astropy.wcs import WCS

import bayesprf as bp
from bayesprf.errors import BayesprfError, BayesprfWarning
from bayesprf.flags import QualityFlag
from bayesprf.instruments import TESS as TESS_MISSION
from bayesprf.io.pixels.ffi import read_image
from bayesprf.io.save import load_tree, save_tree
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.foreign import gaussian_table

DATA = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
CASES, TESS = DATA / "field-cases", DATA / "tess-tpf" / "tess25155310-s01-first-cadences.fits.gz"
STAMP = DATA / "tess-tpf" / "tess-tic273589987-s15-100cad.fits.gz"
PAGE = Path(__file__).parents[1] / "evidence" / "field_cases.md"
SKY, SKY_CATALOG = CASES / "astrocut-sky150-15x15.fits.gz", CASES / "astrocut-sky150-15x15_catalog.csv"
# A Gaussian of 0.8 pixel, integrated over the pixel.
GAUSSIAN = gaussian_table(np.array([[1.0, 0.0, 0.0, 0.8**2 + 1.0 / 12.0, 0.0, 0.8**2 + 1.0 / 12.0]]))
LONGEST = 330

HEAD = """# What people really bring

Made by `python docs/scripts/field_cases.py`: problems of public threads and files of public repositories, as `bayesprf`
answers them. Before: the answer when the cases were collected, in words. Rows of real files have a test in `tests/real`
(`test_field_cases_*.py`, `test_k2_roll.py`). Cases about other tools are tests only.

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
    machine = bp.fit(SKY, SKY_CATALOG, quiet=True)
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


def simulated(side, n_source, scale):
    """Cases 3, 4: TESS pixels and a Gaussian PRF of 0.8 pixel, which the PRF's splines do not hold."""

    def ask():
        inside, bias = [], []
        for seed in range(1, 1 + max(1, 200 // n_source)):
            settings = {
                "layout": "image", "image_shape": (side, side), "n_source": n_source, "n_time": 10,
                "instrument": TESS_MISSION, "prf": GAUSSIAN, "mag_range": (8.0, 15.0),
            }  # fmt: skip
            field = make_field(rng=np.random.default_rng(seed), **settings)
            sources = replace(field.sources, flux=scale * field.sources.flux)
            machine = bp.fit(field.pixels, sources, quiet=True)
            mean, error = machine.fit.latest_flux.flux.mean(axis=0), machine.werrs_total.mean(axis=0)
            bright = (field.mean_flux > 3000.0) & np.isfinite(mean)
            bias += (mean / field.mean_flux - 1.0)[bright].tolist()
            inside += (np.abs(mean - field.mean_flux) < error)[bright].tolist()
        share = 100 * np.mean(inside)
        return f"median bias {100 * np.median(bias):+.2f} %, {share:.0f} % of {len(bias)} inside 1 sigma"

    return ask


def target_only():
    machine = bp.fit(STAMP, "targets", quiet=True)
    return f"{machine.ws[:, 0].mean():.0f} +- {machine.werrs_total[:, 0].mean():.0f}; mission 11,044"


def few_of_the_stars(number):
    """Case 1 with the brightest stars of its catalogue alone."""

    def ask():
        rows = Table.read(CASES / "tic25155310_tic_v17.csv")[:number]
        machine = bp.fit(TESS, rows, quiet=True)
        flags = QualityFlag(int(np.bitwise_or.reduce(machine.flags, axis=0)[0])).name
        return f"{machine.ws[:, 0].mean():.0f} +- {machine.werrs_total[:, 0].mean():.0f}; mission 9259; {flags}"

    return ask


def two_blended_stars():
    """Cases 5, 6: two bright stars 3.3 pixels apart, from the peaks of their image; the mission has the first alone."""
    rows = Table.read(DATA / "tess-tpf" / "tess-tic273589987-s15_detections.csv")
    machine = bp.fit(STAMP, rows, quiet=True, flux_column="sum3x3")
    flux, error = machine.ws.mean(axis=0), machine.werrs_total.mean(axis=0)
    return f"{flux[0]:.0f} +- {error[0]:.0f} and {flux[1]:.0f} +- {error[1]:.0f}; mission 11,044 for the first"


def saturated_with_sky():
    """Case 11: a cut of full frame images with sky, around a star that bleeds."""
    path = DATA / "tess-tpf" / "tess-s0001-4-2_84.291190_-80.469170_6x6_astrocut.fits.gz"
    machine = bp.fit(path, "detect", quiet=True)
    flags = QualityFlag(int(np.bitwise_or.reduce(machine.flags, axis=0)[0])).name
    return f"{machine.nsources} stars, the first {machine.ws[:, 0].mean():.3g} electron / s, {flags}"


def changed(path, change):
    """Return the HDUs of a file in memory, changed."""
    with fits.open(path) as hdus:
        copies = fits.HDUList([hdu.copy() for hdu in hdus[:3]])
    change(copies)
    return copies


def empty_cadence():
    def change(hdus):
        hdus[1].data["FLUX"][3] = 0.0

    pixels = bp.read_tpfs(changed(SKY, change))
    return f"{pixels.n_time} of {bp.read_tpfs(SKY).n_time} cadences; {pixels.meta['notes'][-1]}"


def no_motion():
    machine = bp.Machine.from_pixels(bp.read_tpfs(SKY), SKY_CATALOG, quiet=True, background="stamp")
    machine.build_shape_model()
    machine.build_time_model(positions="poscorr")


def time_of_star():
    paths = sorted((DATA / "kepler-tpf").glob("tpf_test_0*.fits"))
    stack, alone = bp.read_tpfs(paths), bp.read_tpfs(paths[3])
    target = alone.meta["targets"][0]
    moved = bp.read_tpfs(paths, time_at=(target["ra_deg"], target["dec_deg"]))
    before, after = (86400.0 * np.abs(one.time - alone.time).max() for one in (stack, moved))
    return f"off by {before:.2f} s in the stack, by {after:.4f} s with time_at="


def long_series():
    rng, n_time = np.random.default_rng(1), 110_000
    settings = {"layout": "image", "image_shape": (11, 11), "instrument": TESS_MISSION, "mag_range": (8.0, 12.0)}
    field = make_field(rng=rng, n_time=n_time, n_source=6, **settings)
    machine = bp.fit(field.pixels, field.sources, quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        size = Path(save_tree(machine.to_datatree(), Path(folder) / "out.nc")).stat().st_size
    return f"{n_time} cadences x {field.pixels.n_pixel} pixels, {machine.nsources} stars: file of {size / 1e6:.0f} MB"


def off_the_pixels():
    field = make_field(rng=np.random.default_rng(1), n_source=12, n_stamp=8, n_time=10, mag_range=(11.0, 13.0))
    stars, pixels = field.sources, field.pixels
    far = SourceTable(
        (*stars.source_id, "far"), np.append(stars.ra_deg, stars.ra_deg[0]),
        np.append(stars.dec_deg, stars.dec_deg[0] + 1.0), np.append(stars.flux, stars.flux[0]),
    )  # fmt: skip
    dead = np.argmax(np.where(pixels.stamp == 0, pixels.flux[0], 0.0))
    flux = pixels.flux.copy()
    flux[:, dead] = np.nan
    star = int(np.argmax(field.true_design()[dead].toarray() * field.mean_flux))
    machine = bp.fit(replace(pixels, flux=flux), far, quiet=True)
    share = machine.ws[:, star].mean() / field.mean_flux[star]
    far_flags, flags = (QualityFlag(int(machine.fit.flux.flags[0, one])).name for one in (-1, star))
    far_flux = machine.ws[0, -1]
    return f"far: {far_flux}, {far_flags}; without its brightest pixel {share:.3f} of its flux, {flags}"


def missing_rp():
    rng = np.random.default_rng(2)
    field = make_field(rng=rng, n_source=20, n_stamp=16, n_time=6, instrument=TESS_MISSION, mag_range=(8.0, 12.0))
    full, own, others = bp.fit(field.pixels, field.sources, quiet=True), [], []
    error = full.werrs_total.mean(axis=0)
    for star in range(5):
        flux = field.sources.flux.copy()
        flux[star] = np.nan
        machine = bp.fit(field.pixels, replace(field.sources, flux=flux), quiet=True)
        away = np.abs(machine.ws - full.ws).mean(axis=0)
        own.append(away[star] / full.ws[0, star])
        others.append(np.delete(away / error, star).max())
    return f"own flux moves by at most {100 * max(own):.2f} %, others by at most {max(others):.2f} total errors"


def no_position():
    def change(hdus):
        for key in ("RA_OBJ", "DEC_OBJ", "PMRA", "PMDEC"):
            del hdus[0].header[key]

    pixels, whole = bp.read_tpfs(changed(STAMP, change)), bp.read_tpfs(STAMP)
    same = np.array_equal(pixels.ra_deg, whole.ra_deg) and np.array_equal(pixels.flux, whole.flux)
    return f"pixels the same: {same}; position of the target {pixels.meta['targets'][0]['ra_deg']}"


def in_memory():
    with fits.open(STAMP) as hdus:
        return f"HDUList: {bp.read_tpfs(hdus).n_pixel} pixels, as from the file: {bp.read_tpfs(STAMP).n_pixel}"


def no_sky_coordinates():
    def change(hdus):
        for key in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"):
            del hdus[2].header[key]
        for key in ("1CTYP5", "2CTYP5"):
            del hdus[1].header[key]

    return bp.read_tpfs(changed(STAMP, change))


def list_of_images():
    path = CASES / "tess2018206192942-s0001-1-4-0120-s_ffic-128rows.fits.gz"
    pixels = read_image([path, path], extension=1)
    return f"{pixels.n_time} images of {pixels.n_pixel} pixels"


def cube_of_images():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cube.fits"
        header = WCS(naxis=2).to_header()
        header.update(TELESCOP="TESS", INT_TIME=1.98, NUM_FRM=720, BUNIT="electron / s")
        fits.PrimaryHDU(np.ones((3, 4, 4), np.float32), header).writeto(path)
        return read_image(path, wcs=WCS(naxis=2), exposure=1.98, read_noise=10.0)


def other_epoch():
    def change(hdus):
        hdus[1].header["BJDREFI"] = 2454833
        hdus[1].data["TIME"] += 2457000 - 2454833

    found, whole = bp.read_tpfs(changed(STAMP, change)), bp.read_tpfs(STAMP)
    return f"times differ by {np.abs(found.time - whole.time).max():.1e} day"


def strip():
    machine = bp.fit(DATA / "k2-tpf" / "ktwo200071160-c91-3x3-cutout.fits.gz", "targets", quiet=True)
    return f"{machine.nsources} stars, flux of the first {np.nanmean(machine.ws[:, 0]):.0f}"


def no_vectors():
    def change(hdus):
        del hdus[0].header["TESSMAG"]
        for name in ("POS_CORR1", "POS_CORR2"):
            hdus[1].data[name] = np.nan

    pixels = bp.read_tpfs(changed(STAMP, change))
    return f"pos_corr {pixels.pos_corr}, magnitude {pixels.meta['targets'][0]['mag']}"


def hard_bitmask():
    return bp.read_tpfs(STAMP, quality_bitmask="hard").n_time


def archive_votable():
    rows = Table.read(CASES / "gaia_bulk_null_5rows.ecsv.gz", format="ascii.ecsv", fill_values=[("null", "0")])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.vot"
        rows.write(path, format="votable")
        return f"first {bp.read_catalog(path).source_id[0]}; 6636090334814214528"


def motion_at_the_epoch():
    field = make_field(rng=np.random.default_rng(1), n_source=12, n_stamp=8, n_time=6)
    stars = field.sources
    frame = Table({"source_id": list(stars.source_id), "ra": stars.ra_deg, "dec": stars.dec_deg})
    frame["phot_g_mean_flux"], frame["pmra"], frame["pmdec"], frame["ref_epoch"] = stars.flux, 3000.0, 0.0, 2016.0
    machine = bp.Machine.from_pixels(field.pixels, frame, quiet=True)
    east = 3600.0 * (machine.sources.ra_deg - stars.ra_deg) * np.cos(np.radians(stars.dec_deg))
    return f"moved by {np.median(east):.1f} arcsec: {np.median(east) / 3.0:.1f} years, to the epoch of the data"


def several_tables():
    rows = Table.read(CASES / "tic_mast_10rows.csv")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "two.vot"
        votable = VOTableFile()
        resource = Resource()
        votable.resources.append(resource)
        for name in ("one", "two"):
            plain = Table({"ID": np.array(rows["ID"]), "ra": np.array(rows["ra"]), "dec": np.array(rows["dec"])})
            plain["Tmag"] = np.array(rows["Tmag"], float)
            table = from_table(plain).get_first_table()
            table.ID = table.name = name
            resource.tables.append(table)
        votable.to_xml(str(path))
        return bp.read_catalog(path).n_source


def listed_twice():
    rows = Table.read(CASES / "tic_mast_10rows.csv")
    return bp.read_catalog(rows[[0, 1, 1]]).n_source


def exports():
    field = make_field(rng=np.random.default_rng(1), n_source=12, n_stamp=8, n_time=10, mag_range=(11.0, 13.0))
    machine = bp.fit(field.pixels, field.sources, quiet=True)
    count = machine.posterior(sources=[0, 0], draws=8, random_seed=1)["posterior"].sizes["draw"]
    return f"posterior([0, 0]): {count} draws"


ROWS = (
    ("1", "flux of TIC 25155310 with 8 TIC stars", "3575 +- 487, no flag", tic_flux),
    *(
        ("1", f"the same with the first {number} of its stars", "not tried", few_of_the_stars(number))
        for number in (1, 2, 3, 4)
    ),
    ("2", "flux with 8 stars, catalogue x 0.01, 1, 53, 1000", "9420 to 140,851", tic_scale),
    ("3", "own simulation: 21 x 21 pixels, 120 stars, Gaussian PRF", "+4.6 %, 0 to 29 %", simulated(21, 120, 1.0)),
    ("3", "the same, catalogue x 53", "+15.3 %", simulated(21, 120, 53.0)),
    ("4", "the same in 11 x 11 pixels with 7 stars", "+7 % (-4 to +19 %), 25 %", simulated(11, 7, 1.0)),
    ("5, 6", "two blended TESS stars, from the peaks of their image", "wrong, not noticed", two_blended_stars),
    ("7", "flux of TIC 273589987, target only", "11,377 +- 3090", target_only),
    ("8, 9", "simulated K2 star that rolls, impossible errors, no coordinates", "6988, scatter 52 %", k2_arrays),
    ("10", "TESScut with its sky", "14,903 for 9000, no word", sky),
    ("11", "TESScut with sky around a star that bleeds", "sky left, no word", saturated_with_sky),
    ("12", "a cadence of zeros with errors, QUALITY 0", "4 electron/s, flags 0", empty_cadence),
    ("13", "bit 4096 of one target", "40 cadences left for both", bits_per_target),
    ("14", "POS_CORR of a TESScut: all zero", "accepted, no word", no_motion),
    ("15", "TICA cutout: electrons, errors 0", "misleading sentence", tica),
    ("16", "errors of a TESS full frame image", "0.827 of the mission's", image_errors),
    ("17", "time of one star in a stack", "not corrected", time_of_star),
    ("18", "20-second TESS: 110,000 cadences, 6 stars", "0.95 GB", long_series),
    ("19", "a star off the pixels, and one with a dead pixel", "NaN, NO_PIXELS; PIXELS_DROPPED", off_the_pixels),
    ("20", "stars without RP flux", "own flux 0.15 %, others 4 %", missing_rp),
    ("21", "lightkurve's cutout", "off by 103 arcsec", cutout),
    ("22", "headers without position and motion", "same pixels", no_position),
    ("23, 24", "open files, as objects", "refused", in_memory),
    ("25, 26", "cutout that was saved: CADENCENO all 0", "refused", saved_cutout),
    ("27", "POS_CORR2 without width", "false advice", broken_column),
    ("28", "empty cards, no coordinates", "false sentence", no_coordinates),
    ("29", "a stamp without sky coordinates", "refused, no way on", no_sky_coordinates),
    ("30", "a list of images", "TypeError", list_of_images),
    ("31", "a cube of images", "unclear", cube_of_images),
    ("32", "TESS times that count from 2454833", "converted", other_epoch),
    ("33", "a K2 stamp of 3 x 3 pixels", "12 electron/s from 3 training pixels", strip),
    ("34", "file cut short in a header", "unclear", cut_short),
    ("35", "missing vectors and magnitudes", "None, NaN", no_vectors),
    ("36", "URL", "unclear", address),
    ("37", "quality_bitmask='hard'", "one sentence", hard_bitmask),
    ("38", "the Gaia archive's result as VOTable", "exact", archive_votable),
    ("39", "Gaia bulk file with null", "refused", catalog("gaia_bulk_null_5rows.ecsv.gz")),
    ("40, 41", "TIC of MAST", "refused", catalog("tic_mast_10rows.csv")),
    ("42, 44", "VizieR text, pmRA*", "refused; not moved", catalog("vizier_ic2391_60rows.csv")),
    ("43", "proper motions, epoch of the data", "20 arcsec off, no word", motion_at_the_epoch),
    ("45", "ExoFOP, sexagesimal", "refused", catalog("exofop_toi103_sexagesimal.csv")),
    ("46", "masks filled with 1e20", "taken as a star", catalog("ic2391_1e20_10rows.fits")),
    ("47", "names in GaiaDR2", "0, 1, 2, no word", catalog("vizier_ic2391_60rows.csv")),
    ("48", "VOTable with several tables", "unclear", several_tables),
    ("49", "one name twice", "refused, id named", listed_twice),
    ("50", "column S/G", "traceback after the fit", slash),
    ("51", "masked 64 bit ids", "...496, digits lost", masked_ids),
    ("52", "draws of one star named twice", "LinAlgError", exports),
)


def answer(ask):
    """Return what a user gets: number and warnings, or the error's sentence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BayesprfWarning)
        try:
            found = str(ask()).replace("|", "/")
        except BayesprfError as error:
            return f"refused: {clean(error)}"
    said = [clean(one.message) for one in caught if issubclass(one.category, BayesprfWarning)]
    return "; said: ".join([found, *dict.fromkeys(said)][:3])


def clean(message):
    """Return a message in one line, without directories, cut at a length."""
    text = " ".join(Path(one).name if one.startswith("/") else one for one in str(message).split())
    return (text if len(text) <= LONGEST else text[: LONGEST - 3] + "...").replace("|", "/")


def main():
    """Ask, print, and write the page row by row; rows that are not asked for stay as they were."""
    found = {tuple(line.split(" | ")[:2]): line for line in PAGE.read_text().splitlines()}
    keys = [(f"| {case}", asked) for case, asked, *_ in ROWS]
    for key, (case, asked, before, ask) in zip(keys, ROWS, strict=True):
        if not sys.argv[1:] or case in sys.argv[1:] or key not in found:
            found[key] = f"| {case} | {asked} | {before} | {answer(ask)} |"
            print(found[key], flush=True)
            PAGE.write_text(HEAD + "\n".join(found[one] for one in keys if one in found) + "\n")


if __name__ == "__main__":
    main()
