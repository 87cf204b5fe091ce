"""PixelTable -> target pixel file in the layout of the Kepler and TESS archives."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_shape
from bayesprf.errors import InputError
from bayesprf.io.files import atomic_path
from bayesprf.io.pixels.stamp import COLLECTED, OPTIMAL_APERTURE
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sky import ARCSEC_PER_DEG

# Header words of each mission: TELESCOP, name of the target number, prefix of OBJECT, name of the magnitude, and
# the keywords that say which detector and when.
_MISSION_HEADERS: Mapping[str, tuple[str, str, str, str, tuple[str, ...]]] = {
    "Kepler": ("Kepler", "KEPLERID", "KIC", "KEPMAG", ("CHANNEL", "QUARTER")),
    "K2": ("Kepler", "KEPLERID", "EPIC", "KEPMAG", ("CHANNEL", "CAMPAIGN")),
    "TESS": ("TESS", "TICID", "TIC", "TESSMAG", ("CAMERA", "CCD", "SECTOR")),
}


def write_tpf(
    path: str | Path,
    pixels: PixelTable,
    *,
    stamp: int | None = None,
    target: int = 0,
    ra_deg: float | None = None,
    dec_deg: float | None = None,
    mag: float = float("nan"),
    aperture: object = None,
    quality: object = None,
    position_tolerance: float = 0.01,
) -> Path:
    """Write one stamp as a target pixel file that `read_tpfs` and `lightkurve.read` open.

    Parameters
    ----------
    path : path-like
        File to write; ``.gz`` compresses.
    pixels : PixelTable
        `instrument` must be Kepler, K2 or TESS; `column` and `row` must be whole numbers. Flux is stored as
        float32, as in the archives' files. CHANNEL, QUARTER, ... come from `pixels.meta`, and are 1 by default.
    stamp : int, optional
        Write only the pixels of this stamp; all by default.
    target : int
        Number of the target in the mission's catalogue.
    ra_deg, dec_deg : float, optional
        Position of the target, degree; by default the middle of the stamp.
    mag : float
        Magnitude of the target in the mission's band.
    aperture : array-like of bool, shape (n_pixel,), optional
        Pixels of the mission's aperture, for all pixels of the table; none by default.
    quality : array-like of int, shape (n_time,), optional
        QUALITY bits; 0 by default.
    position_tolerance : float
        Largest distance allowed between the pixels' positions and the tangent-plane coordinates that the file
        can hold, arcsec.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        If the mission is not known, pixels do not lie on whole columns and rows or not on a tangent plane, or
        there is no pixel.
    ShapeError
        If `aperture` or `quality` has the wrong shape.
    """
    path = Path(path)
    if pixels.instrument.name not in _MISSION_HEADERS:
        raise InputError(
            f"pixels: expected the instrument to be one of {', '.join(_MISSION_HEADERS)}, got"
            f" {pixels.instrument.name!r}; give PixelTable the instrument of the mission"
        )
    chosen = np.arange(pixels.n_pixel) if stamp is None else np.flatnonzero(pixels.stamp == stamp)
    if chosen.size == 0:
        raise InputError(f"stamp: expected one of {np.unique(pixels.stamp).tolist()}, got {stamp}")
    x, y, corner = _grid(pixels, chosen)
    wcs = _fit_tangent_plane(pixels, chosen, corner, position_tolerance)
    image = np.zeros((y.max() + 1, x.max() + 1), np.int32)
    image[y, x] = COLLECTED
    if aperture is not None:
        check_shape(aperture, (pixels.n_pixel,), "aperture", "n_pixel")
        image[y, x] |= np.where(np.asarray(aperture, bool)[chosen], OPTIMAL_APERTURE, 0).astype(np.int32)
    quality = np.zeros(pixels.n_time, np.int32) if quality is None else np.asarray(quality, np.int32)
    check_shape(quality, (pixels.n_time,), "quality", "n_time")
    middle = wcs.wcs_pix2world([[x.mean(), y.mean()]], 0)[0]
    position = (middle[0] if ra_deg is None else ra_deg, middle[1] if dec_deg is None else dec_deg)
    hdus = fits.HDUList(
        [
            _primary(pixels, target, position, mag),
            _pixel_table(pixels, (chosen, x, y), quality, wcs, corner),
            _aperture_image(image, wcs, corner),
        ]
    )
    with atomic_path(path) as temporary:
        hdus.writeto(temporary)
    return path


def _grid(pixels: PixelTable, chosen: IntArray) -> tuple[IntArray, IntArray, tuple[int, int]]:
    """Return array indices x and y of the pixels and the detector position of index 0."""
    places = np.stack([pixels.column[chosen], pixels.row[chosen]])
    whole = np.rint(places)
    if np.abs(places - whole).max() > 1e-6:
        raise InputError("pixels: expected whole numbers as column and row of each pixel, got fractions")
    column, row = whole.astype(np.int64)
    return column - column.min(), row - row.min(), (int(column.min()), int(row.min()))


def _fit_tangent_plane(pixels: PixelTable, chosen: IntArray, corner: tuple[int, int], tolerance: float) -> WCS:
    """Return the TAN coordinates through the positions of the chosen pixels, counted from the corner.

    Gnomonic coordinates about a point on the sky are linear in the pixel indices, (xi, eta) = CD (x - x0, y - y0),
    so the matrix and the reference pixel follow from one least-squares fit (Calabretta & Greisen 2002). Pixels of a
    single row or column do not tell the whole matrix: all pixels of the table then do.
    """
    plane = WCS(naxis=2)
    plane.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    plane.wcs.crval = [one[chosen[chosen.size // 2]] for one in (pixels.ra_deg, pixels.dec_deg)]
    plane.wcs.cdelt = [1.0, 1.0]
    plane.wcs.crpix = [1.0, 1.0]
    columns = np.stack([np.ones(pixels.n_pixel), pixels.column - corner[0], pixels.row - corner[1]], axis=1)
    fitted = chosen if np.linalg.matrix_rank(columns[chosen]) == 3 else np.arange(pixels.n_pixel)
    if np.linalg.matrix_rank(columns[fitted]) < 3:
        raise InputError(
            "pixels: expected at least two columns and two rows to fit sky coordinates to, got one; keep the pixels of"
            " the other stamps in the table, or write a larger stamp"
        )
    standard = np.stack(plane.wcs_world2pix(pixels.ra_deg[fitted], pixels.dec_deg[fitted], 0), axis=1)
    solution = np.linalg.lstsq(columns[fitted], standard, rcond=None)[0]
    worst = np.abs(columns[fitted] @ solution - standard).max() * ARCSEC_PER_DEG
    if worst > tolerance:
        raise InputError(
            f"pixels: expected positions on a tangent plane to {tolerance} arcsec, got one that is {worst:.3g} arcsec"
            " off; write smaller stamps or raise position_tolerance"
        )
    matrix = solution[1:].T
    plane.wcs.crpix = 1.0 - np.linalg.solve(matrix, solution[0])
    plane.wcs.pc = matrix
    plane.wcs.radesys = "ICRS"
    plane.wcs.set()
    return plane


def _primary(pixels: PixelTable, target: int, position: tuple[float, float], mag: float) -> fits.PrimaryHDU:
    telescope, number, prefix, band, keywords = _MISSION_HEADERS[pixels.instrument.name]
    hdu = fits.PrimaryHDU()
    cards: list[tuple[str, str | float]] = [
        ("ORIGIN", "bayesprf"),
        ("CREATOR", "bayesprf TargetPixelFile"),
        ("TELESCOP", telescope),
        ("INSTRUME", f"{telescope} Photometer"),
        ("OBJECT", f"{prefix} {target}"),
        (number, target),
        ("RADESYS", "ICRS"),
        ("RA_OBJ", float(position[0])),
        ("DEC_OBJ", float(position[1])),
        ("EQUINOX", 2000.0),
    ]
    if telescope == "Kepler":
        cards += [("MISSION", pixels.instrument.name), ("OBSMODE", "long cadence")]
    cards += [(key, int(pixels.meta.get(key.lower(), 1))) for key in keywords]
    if np.isfinite(mag):
        cards.append((band, float(mag)))
    hdu.header.extend(cards)
    return hdu


def _pixel_table(
    pixels: PixelTable,
    places: tuple[IntArray, IntArray, IntArray],
    quality: NDArray[np.int32],
    wcs: WCS,
    corner: tuple[int, int],
) -> fits.BinTableHDU:
    """Return the table of cadences with the archives' columns, FLUX the fifth of them."""
    chosen, x, y = places
    n_time, shape = pixels.n_time, (int(y.max()) + 1, int(x.max()) + 1)

    def spread(values: FloatArray) -> NDArray[np.float32]:
        cube = np.full((n_time, *shape), np.nan, np.float32)
        cube[:, y, x] = values[:, chosen]
        return cube

    motion = np.zeros((n_time, 2)) if pixels.pos_corr is None else pixels.pos_corr
    dim, size = f"({shape[1]},{shape[0]})", shape[0] * shape[1]
    image = {"format": f"{size}E", "dim": dim, "unit": "e-/s"}
    zeros = np.zeros((n_time, *shape), np.float32)
    zero_jd = pixels.instrument.time_zero_jd
    columns = [
        fits.Column("TIME", "D", unit=f"BJD - {zero_jd:.0f}", array=pixels.time),
        fits.Column("TIMECORR", "E", unit="d", array=np.zeros(n_time, np.float32)),
        fits.Column("CADENCENO", "J", array=pixels.cadence_number.astype(np.int32)),
        fits.Column("RAW_CNTS", f"{size}J", dim=dim, unit="count", array=np.full((n_time, *shape), -1, np.int32)),
        fits.Column("FLUX", **image, array=spread(pixels.flux)),
        fits.Column("FLUX_ERR", **image, array=spread(pixels.flux_err)),
        fits.Column("FLUX_BKG", **image, array=zeros),
        fits.Column("FLUX_BKG_ERR", **image, array=zeros),
        fits.Column("QUALITY", "J", array=quality),
        fits.Column("POS_CORR1", "E", unit="pixel", array=motion[:, 0].astype(np.float32)),
        fits.Column("POS_CORR2", "E", unit="pixel", array=motion[:, 1].astype(np.float32)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="TARGETTABLES")
    hdu.header.extend(
        [
            ("BJDREFI", int(zero_jd)),
            ("BJDREFF", zero_jd - int(zero_jd)),
            ("TIMESYS", "TDB"),
            ("BACKAPP", bool(pixels.meta.get("background_subtracted", True))),
            *_column_wcs(wcs, corner),
        ]
    )
    return hdu


def _column_wcs(wcs: WCS, corner: tuple[int, int]) -> list[tuple[str, str | float]]:
    """Return the coordinates of the fifth column, FLUX, as the archives write them."""
    cards: list[tuple[str, str | float]] = []
    for i in (1, 2):
        cards += [
            (f"{i}CTYP5", wcs.wcs.ctype[i - 1]),
            (f"{i}CRPX5", float(wcs.wcs.crpix[i - 1])),
            (f"{i}CRVL5", float(wcs.wcs.crval[i - 1])),
            (f"{i}CUNI5", "deg"),
            (f"{i}CDLT5", 1.0),
            *((f"{i}{j}PC5", float(wcs.wcs.pc[i - 1, j - 1])) for j in (1, 2)),
            (f"{i}CRV5P", corner[i - 1]),
        ]
    return cards


def _aperture_image(image: NDArray[np.int32], wcs: WCS, corner: tuple[int, int]) -> fits.ImageHDU:
    hdu = fits.ImageHDU(image, header=wcs.to_header(), name="APERTURE")
    for axis, axis_name in ((1, "RAWX"), (2, "RAWY")):
        hdu.header[f"CTYPE{axis}P"] = axis_name
        hdu.header[f"CRPIX{axis}P"] = 1
        hdu.header[f"CRVAL{axis}P"] = corner[axis - 1]
        hdu.header[f"CDELT{axis}P"] = 1.0
    return hdu
