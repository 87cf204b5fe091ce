"""One whole fit, from target pixel files and a catalogue to a Machine with all results."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesprf.machine import Machine
    from bayesprf.settings import Background


@dataclass(frozen=True, slots=True)
class FitJob:
    """What is to be fitted, and how.

    Parameters
    ----------
    files : tuple of str
        Target pixel files, patterns or directories.
    catalog : Path
        Catalogue file.
    output : Path
        File of the tree.
    va : bool
        Whether to fit the time model too.
    plots, lightcurves : Path, optional
        Directories for pictures and light curves.
    quiet : bool
        Neither progress nor table.
    background : Background, optional
        Sky left in the pixels, fitted along.
    robust : bool
        Whether to hold cosmic rays down; there are no scores then.
    loo : bool
        Whether to compute exact leave-one-out scores for `compare`.
    learn_widths : bool
        Whether to learn prior width, noise and model error, and fit with them.
    """

    files: tuple[str, ...]
    catalog: Path
    output: Path
    va: bool = False
    plots: Path | None = None
    lightcurves: Path | None = None
    quiet: bool = False
    background: "Background | None" = None
    robust: bool = False
    loo: bool = True
    learn_widths: bool = False


def fit_files(job: FitJob, step: Callable[[str], Any]) -> "Machine":
    """Read files and catalogue, and run every stage.

    Parameters
    ----------
    job : FitJob
        What to do.
    step : callable
        Called with the name of each step as it begins.

    Returns
    -------
    Machine
        With PRF, fluxes, apertures and, as asked, time model, learned widths and leave-one-out scores.
    """
    import bayesprf as bp

    step("reading files")
    pixels = bp.read_tpfs(list(job.files))
    sources = bp.read_catalog(job.catalog, epoch=pixels, flux_column=pixels.instrument.flux_column)
    machine: Machine = bp.Machine.from_pixels(pixels, sources, quiet=True, background=job.background)
    step("learning the PRF")
    machine.build_shape_model()
    if job.va:
        step("learning its change with time")
        machine.build_time_model()
    step("solving fluxes")
    machine.fit_model(fit_va=job.va, robust=job.robust)
    if job.learn_widths:
        machine.fit_model(fit_va=job.va, robust=job.robust, widths=machine.learn_widths())
    if job.loo and not job.robust:
        machine.loo()
    step("summing apertures")
    machine.compute_aperture_photometry()
    machine.get_psf_metrics()
    return machine
