"""A simulated field as the files that a real one comes in."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bayesprf.io.files import atomic_path
from bayesprf.io.pixels.tpf_writer import write_tpf
from bayesprf.simulation.fields import SimulatedField

# Definition: dips of which more than this share is ingress and egress are called eclipses.
_V_SHAPED = 0.5


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


def describe_truth(tree: xr.DataTree, field: SimulatedField) -> str:
    """Return how the fitted fluxes of a simulated field compare with the true ones, and what was injected.

    Parameters
    ----------
    tree : xarray.DataTree
        Results of the field's pixels, its sources in their order.
    field : SimulatedField
        The field and its truth.

    Returns
    -------
    str
        A line on the fluxes, and one for each injected dip.
    """
    names = "flux", "flux_err", "flux_err_total"
    flux, noise, total = (np.asarray(tree[f"photometry/{name}"]) for name in names)
    known = np.isfinite(flux).all(axis=0)
    fitted, truth = flux[:, known].mean(axis=0), field.mean_flux[known]
    # Noise of single cadences averages out in the mean, what they share does not.
    variance = np.mean(total**2 - (1.0 - 1.0 / flux.shape[0]) * noise**2, axis=0)
    away = np.abs(fitted - truth) / np.sqrt(variance[known])
    shares = " and ".join(f"{np.mean(away < k):.0%} within {k}" for k in (1, 2))
    ratio = np.median(fitted / truth)
    lines = [f"fitted over true flux: median {ratio:.4f}; {shares} total errors of the mean, of {truth.size} stars"]
    for dip in field.settings.transits:
        kind, name = "transit" if dip.flank < _V_SHAPED else "eclipse", field.sources.source_id[dip.source]
        lines.append(f"injected: {kind} of {name}, depth {dip.depth:g}, period {dip.period:g} days, day {dip.epoch:g}")
    return "\n".join(lines)
