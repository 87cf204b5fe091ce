"""Speed, memory and agreement beside PSFMachine 1.1.4, in one run, one core each.

    python tests/benchmarks/compare.py --peer-python .venv-peer/bin/python [--cases small,medium] [--quick]

Each round simulates nothing new: it runs the peer, then bayesprf, as fresh processes on the same arrays, pinned to one
core with one BLAS thread. Figures are medians over rounds of CPU seconds. The peer fits only some cadences of the long
cases and its time is scaled to all. `make_peer_env.sh` makes the peer's environment.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import scenes

_HERE = Path(__file__).parent
# Cadences the peer fits in each case; 0 for all.
PEER_CADENCES = {"small": 0, "medium": 100, "quarter": 100, "crowded": 4, "ffi": 0}
# The stages compared: our name, the peer's, and what the row says.
ROWS = (
    ("kernel", "fit", "fit, same design and prior"),
    ("kernel_va", "fit_va", "fit with time model, same design and prior"),
    ("machine", "machine", "Machine()"),
    ("shape", "shape", "build_shape_model"),
    ("fit", "fit", "fit_model, own designs"),
    ("time", "time", "build_time_model"),
    ("fit_va", "fit_va", "fit_model(fit_va=True), own designs"),
    ("apertures_fixed", "apertures_fixed", "compute_aperture_photometry(50)"),
    ("apertures", "apertures", "compute_aperture_photometry"),
    ("metrics", "metrics", "get_psf_metrics(0)"),
)
STAGES = ("kernel", "machine", "shape", "fit")
_THREADS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
ENVIRONMENT = dict.fromkeys(_THREADS, "1")


def run_pinned(python, script, *arguments):
    """Run a script of this folder on one core with one thread; return when it has ended well."""
    core = max(os.sched_getaffinity(0))
    done = subprocess.run(
        [str(python), "-W", "ignore", str(_HERE / script), *map(str, arguments)],
        env={**os.environ, **ENVIRONMENT},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(map(str, arguments))} failed:\n{done.stderr[-3000:]}")


def read_result(path):
    """Return the arrays of a result and its figures."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays, json.loads(str(arrays.pop("figures")))


def run_round(folder, case, stages, pythons):
    """Run both sides once on the scene in the folder; return (peer arrays, peer figures), (our arrays, our figures)."""
    scene, theirs, ours = (folder / f"{case}-{part}.npz" for part in ("scene", "peer", "ours"))
    wanted = {peer for own, peer, _ in ROWS if own in stages} | {"fit"}
    run_pinned(
        pythons[0], "peer_run.py", scene, theirs,
        "--stages", ",".join(sorted(wanted)), "--cadences", PEER_CADENCES[case],
    )  # fmt: skip
    run_pinned(pythons[1], "ours_run.py", scene, ours, "--stages", ",".join(stages), "--peer", theirs)
    return read_result(theirs), read_result(ours)


def scaled_cpu(figure, n_time):
    """Return the CPU seconds of a stage; a fit of some cadences counts as one of all."""
    return figure["cpu"] * n_time / figure.get("n_cadence", n_time)


def largest_difference(peer, ours):
    """Return the largest |dw| / max(|w|, sigma) and relative difference of sigma on the same problem, in dict form."""
    out = {}
    for stage, suffix in (("kernel", ""), ("kernel_va", "_va")):
        if "mean_" + stage in ours:
            mean, std = peer["ws" + suffix], peer["werrs" + suffix]
            lit = np.isfinite(mean)
            scale = np.maximum(np.abs(mean), std)
            out[stage] = (
                float(np.max(np.abs(ours["mean_" + stage] - mean)[lit] / scale[lit])),
                float(np.max(np.abs(ours["std_" + stage] / std - 1.0)[lit])),
            )
    return out


def compare_case(case, *, stages, rounds, pythons, folder):
    """Return one record per row of the table for a case."""
    field = scenes.simulate(case, moving="kernel_va" in stages or "time" in stages)
    size = f"{field.sources.n_source} x {field.pixels.n_pixel} x {field.pixels.n_time}"
    n_time = field.pixels.n_time
    scenes.write_scene(folder / f"{case}-scene.npz", field)
    del field
    results = [run_round(folder, case, stages, pythons) for _ in range(rounds)]
    for path in folder.glob(f"{case}-*.npz"):
        path.unlink()
    differences = largest_difference(results[0][0][0], results[0][1][0])
    records = []
    for own, peer, label in ROWS:
        if own not in stages or peer not in results[0][0][1]:
            continue
        theirs = [scaled_cpu(one[0][1][peer], n_time) for one in results]
        ours = [one[1][1][own]["cpu"] for one in results]
        records.append(
            {
                "case": case,
                "size": size,
                "stage": label,
                "peer_cpu": float(np.median(theirs)),
                "our_cpu": float(np.median(ours)),
                "ratio": float(np.median(np.divide(theirs, ours))),
                "peer_mb": max(one[0][1][peer]["peak_mb"] for one in results),
                "our_mb": max(one[1][1][own]["peak_mb"] for one in results),
                "difference": differences.get(own),
            }
        )
    return records


def run_alone(case, stages, *, python, folder):
    """Return our figures for a case the peer does not run."""
    scenes.write_scene(folder / f"{case}-scene.npz", scenes.simulate(case))
    run_pinned(python, "ours_run.py", folder / f"{case}-scene.npz", folder / "alone.npz", "--stages", stages)
    (folder / f"{case}-scene.npz").unlink()
    return read_result(folder / "alone.npz")[1]


def format_table(records):
    """Return the records as a Markdown table."""
    lines = [
        "| case (sources x pixels x cadences) | stage | peer, CPU s | ours, CPU s | ratio"
        " | peer, peak MB | ours, peak MB | largest difference: mean, error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in records:
        agreement = "" if one["difference"] is None else "{:.0e}, {:.0e}".format(*one["difference"])
        lines.append(
            f"| {one['case']} ({one['size']}) | {one['stage']} | {one['peer_cpu']:.3g} | {one['our_cpu']:.3g}"
            f" | {one['ratio']:.3g} | {one['peer_mb']:.0f} | {one['our_mb']:.0f} | {agreement} |"
        )
    return "\n".join(lines)


def format_alone(job, scale):
    """Return the figures of the whole job and of the scale case as sentences."""
    lines = []
    if job:
        share = job["job"]["process_peak_mb"] / job["job"]["arrays_mb"]
        lines.append(
            f"Whole job, quarter, arrays to DataTree: {job['job']['cpu']:.1f} CPU s; peak of the"
            f" process {job['job']['process_peak_mb']:.0f} MB = {share:.2f} x flux and flux_err."
        )
    if scale:
        cpu = {stage: scale[stage]["cpu"] for stage in ("machine", "shape", "fit")}
        peak = max(scale[stage]["peak_mb"] for stage in cpu)
        lines.append(
            f"20,000 sources on 1000 x 1000 pixels: Machine() {cpu['machine']:.1f}, shape {cpu['shape']:.1f}, fluxes"
            f" {cpu['fit']:.1f} CPU s, {sum(cpu.values()):.1f} in all; peak {peak:.0f} MB above the input."
        )
    return "\n\n".join(lines)


def parse_arguments():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=inspect.getdoc(inspect.getmodule(parse_arguments)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peer-python", default=os.environ.get("BAYESPRF_PEER_PYTHON", ".venv-peer/bin/python"))
    parser.add_argument("--cases", default="small,medium,quarter,crowded,ffi")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"some of {', '.join(own for own, _, _ in ROWS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of small and medium")
    parser.add_argument("--alone", default="", help="ours only: job (whole quarter), scale (20,000 sources), or both")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    if options.quick:
        options.cases, options.rounds = "small,medium", 1
    if options.cases and not Path(options.peer_python).exists():
        parser.error(
            f"--peer-python: expected the peer's Python, got {options.peer_python}, which does not exist;"
            " make it with tests/benchmarks/make_peer_env.sh"
        )
    return options


def main():
    """Run the asked comparisons and print their tables."""
    options = parse_arguments()
    # Not resolved: a virtual environment is found through the name of its interpreter.
    pythons = Path(options.peer_python).absolute(), sys.executable
    records, alone = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in filter(None, options.cases.split(",")):
            records += compare_case(
                case, stages=options.stages.split(","), rounds=options.rounds, pythons=pythons, folder=folder
            )
            print(f"{case} done", file=sys.stderr, flush=True)
        if "job" in options.alone:
            alone["job"] = run_alone("quarter", "job", python=sys.executable, folder=folder)
        if "scale" in options.alone:
            alone["scale"] = run_alone("scale", "machine,shape,fit", python=sys.executable, folder=folder)
    print(format_table(records))
    print(format_alone(alone.get("job"), alone.get("scale")))
    if options.json:
        options.json.write_text(json.dumps({"records": records, "alone": alone}, indent=1))


if __name__ == "__main__":
    main()
