"""A simulated field as the files that a real one comes in."""

from pathlib import Path

import numpy as np
import pandas as pd

from bayesprf.io.files import atomic_path
from bayesprf.io.tpf_writer import write_tpf
from bayesprf.simulation.fields import SimulatedField


def write_field(directory: str | Path, field: SimulatedField) -> tuple[list[Path], Path]:
    """Write a simulated field as target pixel files with a catalogue, and its truth beside them.

    Parameters
    ----------
    directory : path-like
        Made if it does not exist; files of the same names are replaced.
    field : SimulatedField
        Pixels, catalogue and truth.

    Returns
    -------
    files : list of Path
        Target pixel files, ``pixels/stamp-00.fits`` and so on, one per cutout.
    catalog : Path
        ``catalog.csv`` with `source_id`, `ra`, `dec` (degree), `phot_g_mean_flux` and `phot_g_mean_mag`.

    Notes
    -----
    ``truth.csv`` holds the true mean flux of every source, electron / s.
    """
    directory = Path(directory)
    (directory / "pixels").mkdir(parents=True, exist_ok=True)
    pixels, sources = field.pixels, field.sources
    files = [
        write_tpf(directory / "pixels" / f"stamp-{stamp:02d}.fits", pixels, stamp=stamp, target=stamp + 1)
        for stamp in np.unique(pixels.stamp).tolist()
    ]
    catalog = pd.DataFrame(
        {
            "source_id": sources.source_id,
            "ra": sources.ra_deg,
            "dec": sources.dec_deg,
            "phot_g_mean_flux": sources.flux,
            "phot_g_mean_mag": sources.mag,
        }
    )
    truth = pd.DataFrame({"source_id": sources.source_id, "mean_flux": field.mean_flux})
    for name, table in (("catalog.csv", catalog), ("truth.csv", truth)):
        with atomic_path(directory / name) as temporary:
            table.to_csv(temporary, index=False)
    return files, directory / "catalog.csv"
