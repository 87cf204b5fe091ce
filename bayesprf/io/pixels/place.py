"""Where the pixels of one file lie: on the detector and on the sky."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.coordinates import FK5, ICRS, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

from bayesprf.arrays import FloatArray, NamedDict
from bayesprf.errors import FileError
from bayesprf.io.pixels.fits_file import guarded_read
from bayesprf.io.pixels.headers import Header, read_number

# Derived: headers that place a pixel farther apart than this, pixel, contradict each other: the missions' own agree to
# 1e-9, and their coordinates are true to a few tenths.
_TOLERANCE = 0.1
# Keywords of a column's image coordinates (FITS standard 4.0, table 22) and those of an image.
_COLUMN_KEYS = (
    (r"([12])CTYP{n}", r"CTYPE\1"),
    (r"([12])CRPX{n}", r"CRPIX\1"),
    (r"([12])CRVL{n}", r"CRVAL\1"),
    (r"([12])CUNI{n}", r"CUNIT\1"),
    (r"([12])CDLT{n}", r"CDELT\1"),
    (r"([12])([12])PC{n}", r"PC\1_\2"),
    (r"([12])([12])CD{n}", r"CD\1_\2"),
    (r"LONP{n}", "LONPOLE"),
    (r"LATP{n}", "LATPOLE"),
    (r"RADE{n}", "RADESYS"),
    (r"EQUI{n}", "EQUINOX"),
)
_IMAGE_KEY = re.compile(
    r"(CTYPE|CRPIX|CRVAL|CUNIT|CDELT|CROTA)[12]|(PC|CD)[12]_[12]|PV[12]_\d+|[AB]P?_(ORDER|DMAX|\d_\d)"
    r"|LONPOLE|LATPOLE|RADESYS|EQUINOX"
)
# Format: column and row where the detector's own plane touches the sky: near the middle of the detectors of all
# missions.
_PLANE_CENTRE = 600.0
# Unit: Julian year of the equinox J2000.
_J2000 = 2000.0
_TEXT_KEYS = ("CTYPE", "CUNIT", "RADESYS")


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Detector corner of array index (0, 0), and sky coordinates of the array.

    Parameters
    ----------
    column, row : int
        Detector position of index 0.
    wcs : astropy.wcs.WCS
        Sky coordinates of array indices.
    notes, alarms : list of str
        What was found in the headers: harmless, and worth a warning.
    """

    column: int
    row: int
    wcs: WCS
    notes: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def sky(self, x: object, y: object) -> tuple[FloatArray, FloatArray]:
        """Return right ascension and declination of pixel centres, degree, from array indices."""
        return sky_of(self.wcs, x, y)


def sky_of(wcs: WCS, x: object, y: object) -> tuple[FloatArray, FloatArray]:
    """Return where array indices lie on the sky.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Celestial coordinates, their axes in either order: right ascension and declination, or those of another frame.
    x, y : array-like, shape (n_pixel,)
        Indices of columns and rows.

    Returns
    -------
    ra_deg, dec_deg : ndarray of float64, shape (n_pixel,)
        ICRS, degree; those of FK5 at J2000 count as such, to 0.03 arcsec.
    """
    world = wcs.all_pix2world(x, y, 0)
    longitude, latitude = (np.asarray(world[axis], np.float64) for axis in (wcs.wcs.lng, wcs.wcs.lat))
    frame = wcs_to_celestial_frame(wcs)
    if isinstance(frame, ICRS) or (isinstance(frame, FK5) and frame.equinox.jyear == _J2000):
        return longitude, latitude
    sky = SkyCoord(longitude, latitude, unit="deg", frame=frame).icrs
    return np.asarray(sky.ra.deg, np.float64), np.asarray(sky.dec.deg, np.float64)


def find_place(
    table: Header, aperture: Header, number: int, path: Path, *, wcs: WCS | None = None, plane: float | None = None
) -> Place:
    """Return where a stamp lies, by the header of its FLUX column, and by that of the APERTURE image where it is empty.

    Parameters
    ----------
    table, aperture : mapping
        Headers of the pixel table and the APERTURE image.
    number : int
        Number of the FLUX column, from 1.
    path : Path
        The file, for messages.
    wcs : astropy.wcs.WCS, optional
        Sky coordinates given by hand.
    plane : float, optional
        Side of a pixel, arcsec: where there are no sky coordinates, pixels lie on the detector's own plane.

    Returns
    -------
    Place

    Raises
    ------
    FileError
        If neither header has the detector corner or, without `wcs` and `plane`, sky coordinates.

    Notes
    -----
    A cut made by lightkurve moves the coordinates of the columns and leaves those of the APERTURE image: the column's
    come first, and the two must agree as maps from the detector to the sky.
    """
    corners = [_corner(table, f"{{axis}}CRV{number}P", f"{{axis}}CRP{number}P"), image_corner(aperture)]
    skies = [_make_wcs(_column_cards(table, number), path), image_wcs(aperture, path)]
    corner = next((one for one in corners if one is not None), None)
    if corner is None:
        raise FileError(
            f"{path}: expected the detector position of the stamp in 1CRV{number}P and 2CRV{number}P of the pixel"
            " table, or CRVAL1P and CRVAL2P of APERTURE, found neither"
        )
    sky = wcs if wcs is not None else next((one for one in skies if one is not None), None)
    if sky is None and plane is not None:
        said = f"{path.name}: has no sky coordinates; its pixels are laid on the detector's own plane at RA 180 Dec 0"
        return Place(*corner, detector_plane(*corner, plane), notes=[], alarms=[said])
    if sky is None:
        raise FileError(
            f"{path}: expected sky coordinates of the FLUX column or in the APERTURE extension, found none;"
            " give those of the array with wcs=, or take the detector's own plane with wcs='detector' and find the"
            " stars with catalog='detect'"
        )
    place = Place(*corner, sky)
    if wcs is None:
        _compare(place, corners, skies, path)
    return place


def detector_plane(column: int, row: int, scale: float) -> WCS:
    """Return made-up sky coordinates: the detector's columns and rows on a plane that touches the sky at (180, 0) deg.

    Parameters
    ----------
    column, row : int
        Detector position of array index 0.
    scale : float
        Side of a pixel, arcsec.

    Returns
    -------
    astropy.wcs.WCS
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [180.0, 0.0]
    wcs.wcs.crpix = [_PLANE_CENTRE + 1.0 - column, _PLANE_CENTRE + 1.0 - row]
    wcs.wcs.cdelt = [-scale / 3600.0, scale / 3600.0]
    return wcs


def _compare(place: Place, corners: list[tuple[int, int] | None], skies: list[WCS | None], path: Path) -> None:
    """Note where the two headers differ: an old corner alone is harmless, two places on the sky are not."""
    if corners[0] is None or corners[1] is None:
        return
    shift = np.subtract(corners[0], corners[1])
    if shift.any():
        place.notes.append(
            f"{path.name}: APERTURE begins at column {corners[1][0]}, row {corners[1][1]}, the FLUX column at"
            f" {corners[0][0]}, {corners[0][1]}, which is used"
        )
    if skies[0] is None or skies[1] is None:
        return
    x, y = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    ours, theirs = place.sky(x, y), Place(0, 0, skies[1]).sky(x + shift[0], y + shift[1])
    away = _distance(ours, theirs)[0] / max(_distance(ours, (ours[0][[1]], ours[1][[1]]))[0], 1e-12)
    if away > _TOLERANCE:
        place.alarms.append(
            f"{path.name}: expected one place on the sky in the headers of the FLUX column and of APERTURE, got two"
            f" {away:.3g} pixels apart; the column's is used, give another with wcs="
        )


def _distance(one: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Return the distance between sky positions that lie close together, degree."""
    east = ((one[0] - other[0] + 180.0) % 360.0 - 180.0) * np.cos(np.radians(one[1]))
    return np.hypot(east, one[1] - other[1])


def image_corner(header: Header) -> tuple[int, int] | None:
    """Return the detector column and row of array index 0 of an image, or None where its header does not tell."""
    return _corner(header, "CRVAL{axis}P", "CRPIX{axis}P")


def _corner(header: Header, value: str, reference: str) -> tuple[int, int] | None:
    """Return column and row of array index 0: the value at the reference pixel, which is 1 unless said."""
    ends = []
    for axis in (1, 2):
        number = read_number(header, value.format(axis=axis))
        if number is None:
            return None
        pixel = read_number(header, reference.format(axis=axis))
        ends.append(round(number + 1.0 - (1.0 if pixel is None else pixel)))
    return ends[0], ends[1]


def _column_cards(table: Header, number: int) -> NamedDict:
    """Return the coordinates of a column's images as those of an image."""
    found = {}
    for pattern, name in _COLUMN_KEYS:
        wanted = re.compile(pattern.replace("{n}", str(number)))
        for key, value in table.items():
            match = wanted.fullmatch(key)
            if match:
                found[match.expand(name)] = value
    return found


def image_wcs(header: Header, path: Path) -> WCS | None:
    """Return the sky coordinates of an image, or None where its header has none."""
    return _make_wcs({key: value for key, value in header.items() if _IMAGE_KEY.fullmatch(key)}, path)


def _make_wcs(cards: NamedDict, path: Path) -> WCS | None:
    """Return celestial coordinates, or None where the cards are not enough for them."""
    sound = {key: one for key, one in cards.items() if isinstance(one, str) == key.startswith(_TEXT_KEYS)}
    if not all(f"{key}{axis}" in sound for key in ("CTYPE", "CRPIX", "CRVAL") for axis in (1, 2)):
        return None
    matrices = [kind for kind in ("PC", "CD") if any(key.startswith(f"{kind}1_") for key in sound)]
    if len(matrices) == 2:
        raise FileError(
            f"{path}: expected sky coordinates with one matrix, got PC and CD, which the FITS standard forbids and"
            " which readers take differently; give coordinates with wcs="
        )
    wcs = guarded_read(path, lambda: WCS(fits.Header(sound), naxis=2), "sky coordinates")
    return wcs if wcs.has_celestial else None


def check_positions(ra_deg: FloatArray, dec_deg: FloatArray, path: Path) -> None:
    """Raise unless sky positions are finite and on the sphere.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray of float64, shape (n_pixel,)
        Degree.
    path : Path
        The file, for the message.

    Raises
    ------
    FileError
        If one is not.
    """
    with np.errstate(invalid="ignore"):
        good = np.isfinite(ra_deg) & (np.abs(dec_deg) <= 90.0)
    if not good.all():
        raise FileError(
            f"{path}: expected sky coordinates that place every pixel, but those of the header place"
            f" {int((~good).sum())} of {good.size} nowhere; give others with wcs="
        )
