"""Run PSFMachine on a scene and write its figures and results. Runs in the peer's own environment (Python 3.10).

python peer_run.py scene.npz result.npz --stages machine,shape,fit [--cadences 100] [--limit-apertures 0]
"""

import argparse
import inspect
import json
import logging
import os
import warnings

warnings.simplefilter("ignore")  # the peer's old dependencies warn on import

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from meter import measured  # noqa: E402
from psfmachine import Machine  # noqa: E402

STAGES = ("machine", "shape", "fit", "time", "fit_va", "apertures", "apertures_fixed", "metrics")


def make_machine(scene):
    """Build the peer's Machine from the arrays of a scene."""
    sources = pd.DataFrame(
        {
            "ra": scene["source_ra"],
            "dec": scene["source_dec"],
            "phot_g_mean_flux": scene["source_flux"],
            "phot_g_mean_mag": scene["source_mag"],
        }
    )
    return Machine(
        time=scene["time"],
        flux=scene["flux"],
        flux_err=scene["flux_err"],
        ra=scene["ra"],
        dec=scene["dec"],
        sources=sources,
        column=scene["column"],
        row=scene["row"],
        time_resolution=max(1, scene["time"].size // 20),
    )


def run(scene, stages, n_fit):
    """Return the figures of the asked stages, and the machine. A first shape fit warms up imports and caches."""
    figures = {}
    make_machine(scene).build_shape_model()
    with measured(figures, "machine"):
        machine = make_machine(scene)
    machine.quiet = True
    with measured(figures, "shape"):
        machine.build_shape_model()
    if "time" in stages or "fit_va" in stages:
        with measured(figures, "time"):
            machine.build_time_model()
    n_time = machine.nt
    machine.nt = n_fit
    for stage in ("fit", "fit_va"):
        if stage in stages:
            with measured(figures, stage):
                machine.fit_model(fit_va=stage == "fit_va")
            figures[stage]["n_cadence"] = n_fit
    machine.nt = n_time
    if "apertures_fixed" in stages:
        with measured(figures, "apertures_fixed"):
            machine.compute_aperture_photometry(aperture_size=50)
    if "apertures" in stages:
        with measured(figures, "apertures"):
            machine.compute_aperture_photometry(aperture_size="optimal")
    if "metrics" in stages:
        with measured(figures, "metrics"):
            machine.get_psf_metrics(npoints_per_pixel=0)
    return figures, machine


def collect(machine, n_fit):
    """Return the design, the prior and the answers of the peer as arrays."""
    design = machine.mean_model.tocsr()
    estimates = machine.source_flux_estimates
    out = {
        "design_data": design.data,
        "design_indices": design.indices,
        "design_indptr": design.indptr,
        "design_shape": np.array(design.shape),
        "prior_mu": estimates,
        "prior_sigma": 5.0 * np.abs(estimates) ** 0.5,
    }
    for name in ("ws", "werrs", "ws_va", "werrs_va"):
        if hasattr(machine, name):
            out[name] = getattr(machine, name)[:n_fit]
    if hasattr(machine, "P"):
        columns = machine.P.cartesian_matrix
        weights = machine.P.weights.reshape(-1, columns.shape[1])
        out["va_parts"] = design.data * np.asarray(columns.dot(weights.T)).T
        out["va_mix"] = machine.P.vectors
        perturbed = machine.perturbed_model(0).tocsr().data
        np.testing.assert_allclose(out["va_mix"][0] @ out["va_parts"], perturbed, rtol=1e-9, atol=1e-14)
    return out


def main():
    """Read the scene, run, write."""
    parser = argparse.ArgumentParser(description=inspect.getdoc(inspect.getmodule(main)))
    parser.add_argument("scene")
    parser.add_argument("result")
    parser.add_argument("--stages", default="machine,shape,fit")
    parser.add_argument("--cadences", type=int, default=0, help="cadences to fit, 0 for all")
    options = parser.parse_args()
    stages = options.stages.split(",")
    unknown = set(stages) - set(STAGES)
    if unknown:
        parser.error(f"--stages: expected some of {', '.join(STAGES)}, got {', '.join(sorted(unknown))}")
    np.seterr(all="ignore")
    logging.disable(logging.WARNING)
    with np.load(options.scene) as stored:
        scene = {name: stored[name] for name in stored.files}
    n_fit = min(options.cadences or scene["time"].size, scene["time"].size)
    figures, machine = run(scene, stages, n_fit)
    figures["n_thread"] = os.environ.get("OPENBLAS_NUM_THREADS", "default")
    np.savez(options.result, figures=json.dumps(figures), **collect(machine, n_fit))


if __name__ == "__main__":
    main()
