"""The missions' own PRF files: TESS and Kepler tables, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bayesprf.arrays import FloatArray
from bayesprf.errors import InputError
from bayesprf.prf.prior import PrfTables


@dataclass(frozen=True, slots=True, eq=False)
class PrfTable:
    """One PRF of a mission's file, integrated over pixels.

    Parameters
    ----------
    values : ndarray of float64, shape (n, n)
        Share of the light in a pixel, rows first, the star at the middle; sums to `samples`**2.
    samples : float
        Points per pixel.
    column, row : float
        Place on the CCD for which it was made, pixel.
    """

    values: FloatArray
    samples: float
    column: float
    row: float


def read_prf_table(path: str | Path) -> PrfTable:
    """Read one official TESS PRF file.

    Parameters
    ----------
    path : str or Path
        ``tess...-prf-<camera>-<ccd>-row<row>-col<column>.fits``, compressed or not.

    Returns
    -------
    PrfTable

    Raises
    ------
    InputError
        If the file is not a square table with the keyword NSAMP.
    """
    from astropy.io import fits

    with fits.open(path) as file:
        header, values = file[0].header, np.asarray(file[0].data, np.float64)
    if "NSAMP" not in header or values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise InputError(f"path: expected a square PRF table with the keyword NSAMP, got {path}; use a TESS PRF file")
    samples = float(header["NSAMP"])
    values = values / values.sum() * samples**2
    return PrfTable(values, samples, float(header.get("CCD_CREF", 0.0)), float(header.get("CCD_RREF", 0.0)))


def save_prf_tables(paths: Sequence[str | Path], output: str | Path) -> None:
    """Gather official TESS PRF files of one CCD into the file that ``build_shape_model(prf=...)`` reads.

    Parameters
    ----------
    paths : sequence of str or Path
        Two or more files, at best those around the place of the data.
    output : str or Path
        Written, an ``.npz`` file.

    Raises
    ------
    InputError
        If a file is no PRF table, or there are fewer than two.
    """
    tables = [read_prf_table(path) for path in paths]
    PrfTables(np.array([one.values for one in tables]), tables[0].samples if tables else 1.0, complete=True).save(
        output
    )
