"""The tangent-plane projection that gives simulated pixels their position on the sky."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.scene.sky import ARCSEC_PER_DEG


@dataclass(frozen=True, slots=True)
class TangentPlane:
    """A gnomonic (FITS "TAN") world coordinate system with square pixels and no distortion.

    Parameters
    ----------
    ra0, dec0 : float
        Sky position of the reference point, degree.
    column0, row0 : float
        Detector position of the reference point, pixel.
    pixel_scale : float
        Side of a pixel, arcsec.
    position_angle : float
        Direction of increasing rows from north through east, degree. At 0, east lies towards lower columns.
    """

    ra0: float
    dec0: float
    column0: float
    row0: float
    pixel_scale: float
    position_angle: float = 0.0

    @property
    def cd_matrix(self) -> FloatArray:
        """FITS CD matrix: (east, north) in degree per pixel of (column, row), shape (2, 2)."""
        angle = np.radians(self.position_angle)
        rotation = np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.asarray(rotation * self.pixel_scale / ARCSEC_PER_DEG)

    def to_sky(self, column: FloatArray, row: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return (ra, dec) in degree, ra in 0 to 360, of detector positions in pixels.

        Notes
        -----
        Calabretta & Greisen (2002), A&A 395, 1077, section 5.1.3.
        """
        plane = np.radians(self.cd_matrix) @ np.stack([column - self.column0, row - self.row0])
        xi, eta = plane
        cos0, sin0 = np.cos(np.radians(self.dec0)), np.sin(np.radians(self.dec0))
        depth = cos0 - eta * sin0
        ra = self.ra0 + np.degrees(np.arctan2(xi, depth))
        dec = np.degrees(np.arctan2(sin0 + eta * cos0, np.hypot(xi, depth)))
        return np.mod(ra, 360.0), dec
