"""Run bayesprf on a scene and write its figures and results, beside the peer's design where that is asked for.

python ours_run.py scene.npz result.npz --stages kernel,machine,shape,fit --peer peer.npz
"""

import argparse
import inspect
import json

import numpy as np
import scenes
from meter import measured, peak_mb
from scipy.sparse import csr_matrix

from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.blocks import BlockSolver
from bayesprf.linalg.stack import DesignStack

STAGES = (
    "kernel", "kernel_va", "machine", "shape", "fit", "time", "fit_va",
    "apertures", "apertures_fixed", "metrics", "tree", "job",
)  # fmt: skip
# Cadences solved before the clock starts, so that compiled code is loaded.
_WARM_UP = 40


def peer_design(peer, moving):
    """Return the peer's matrix as a DesignStack of shape (n_pixel, n_source), static or following its time model."""
    shape = tuple(peer["design_shape"])
    entry = np.arange(peer["design_data"].size, dtype=np.int64)
    # Positions, one-based so that no entry counts as empty, tell how transposing reorders the values.
    order = csr_matrix((entry + 1, peer["design_indices"], peer["design_indptr"]), shape=shape).T.tocsr()
    order.sort_indices()
    parts = peer["va_parts"] if moving else peer["design_data"][None, :]
    return DesignStack(
        indptr=order.indptr.astype(np.int64),
        indices=order.indices.astype(np.int64),
        parts=np.ascontiguousarray(parts[:, order.data - 1]),
        n_coeff=shape[0],
        mix=np.ascontiguousarray(peer["va_mix"]) if moving else None,
    )


def solve_on(design, scene, peer, n_time):
    """Return the posterior of the first cadences under the peer's design and prior."""
    if design.mix is not None:
        design = DesignStack(design.indptr, design.indices, design.parts, design.n_coeff, design.mix[:n_time])
    prior = GaussianPrior.from_sigma(peer["prior_mu"], peer["prior_sigma"])
    problem = LinearProblem(design, scene["flux"][:n_time], scene["ivar"][:n_time], prior)
    return BlockSolver(n_threads=1).solve(problem)


def run_kernels(scene, peer, stages, figures):
    """Time the solver on the peer's own matrices; return means and errors of the cadences the peer fitted.

    Inverse variances are ready, as PixelTable holds them: their cost is part of the stage "machine".
    """
    scene = {**scene, "ivar": 1.0 / np.square(scene["flux_err"])}
    out = {}
    for stage, moving in (("kernel", False), ("kernel_va", True)):
        if stage not in stages:
            continue
        solve_on(peer_design(peer, moving), scene, peer, min(_WARM_UP, scene["time"].size))
        with measured(figures, stage):
            posterior = solve_on(peer_design(peer, moving), scene, peer, scene["time"].size)
        n_fit = peer["ws"].shape[0]
        out["mean_" + stage], out["std_" + stage] = posterior.mean[:n_fit], posterior.std[:n_fit]
    return out


def make_machine(scene):
    """Build our Machine from the arrays of a scene, with the peer's options."""
    import pandas as pd

    from bayesprf.machine import Machine

    sources = pd.DataFrame(
        {
            "ra": scene["source_ra"],
            "dec": scene["source_dec"],
            "phot_g_mean_flux": scene["source_flux"],
            "phot_g_mean_mag": scene["source_mag"],
        }
    )
    return Machine(
        scene["time"],
        scene["flux"],
        scene["flux_err"],
        scene["ra"],
        scene["dec"],
        sources,
        scene["column"],
        scene["row"],
        time_resolution=max(1, scene["time"].size // 20),
        quiet=True,
    )


def warm_up():
    """Run the main job on a small scene, so that imports and compiled code are loaded before the clock starts."""
    machine = make_machine(scenes.arrays(scenes.simulate("small")))
    machine.build_shape_model()
    machine.fit_model()


def run_machine(scene, stages, figures):
    """Time the stages of Machine; return what it found."""
    warm_up()
    with measured(figures, "machine"):
        machine = make_machine(scene)
    steps = {
        "shape": machine.build_shape_model,
        "fit": machine.fit_model,
        "time": lambda: machine.build_time_model(),
        "fit_va": lambda: machine.fit_model(fit_va=True),
        "apertures_fixed": lambda: machine.compute_aperture_photometry(aperture_size=50),
        "apertures": lambda: machine.compute_aperture_photometry(),
        "metrics": lambda: machine.get_psf_metrics(npoints_per_pixel=0),
        "tree": lambda: machine.to_datatree(),
    }
    for stage, step in steps.items():
        if stage in stages or stage == "shape":
            with measured(figures, stage):
                step()
    out = {"pair_count": np.array(machine.mean_model.nnz)}
    if "fit" in stages:
        out["flux_ratio"] = np.nanmean(machine.ws, axis=0) / scene["true_flux"]
    return out


def run_job(scene, figures):
    """Run the whole job, arrays to DataTree; note the peak of the process over the size of the input arrays."""
    warm_up()
    with measured(figures, "job"):
        machine = make_machine(scene)
        machine.build_shape_model()
        machine.fit_model()
        tree = machine.to_datatree()
    arrays_mb = (scene["flux"].nbytes + scene["flux_err"].nbytes) / 2**20
    figures["job"].update(arrays_mb=arrays_mb, process_peak_mb=peak_mb(), n_group=len(tree.children))


def main():
    """Read the scene, run, write."""
    parser = argparse.ArgumentParser(description=inspect.getdoc(inspect.getmodule(main)))
    parser.add_argument("scene")
    parser.add_argument("result")
    parser.add_argument("--peer", help="the peer's result, for the stages kernel and kernel_va")
    parser.add_argument("--stages", default="machine,shape,fit")
    options = parser.parse_args()
    stages = options.stages.split(",")
    unknown = set(stages) - set(STAGES)
    if unknown:
        parser.error(f"--stages: expected some of {', '.join(STAGES)}, got {', '.join(sorted(unknown))}")
    with np.load(options.scene) as stored:
        scene = {name: stored[name] for name in stored.files}
    figures, out = {}, {}
    if {"kernel", "kernel_va"} & set(stages):
        with np.load(options.peer) as stored:
            out.update(run_kernels(scene, stored, stages, figures))
    if "job" in stages:
        run_job(scene, figures)
    if set(stages) - {"kernel", "kernel_va", "job"}:
        out.update(run_machine(scene, stages, figures))
    np.savez(options.result, figures=json.dumps(figures), **out)


if __name__ == "__main__":
    main()
