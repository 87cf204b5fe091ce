"""Effective draws per second of the ways to sample the linear model: grid, adaptive, and the naive non-centred form.

    python tests/benchmarks/sampling.py [--quick] [--output docs/_static/sampling_figures.md]

Bright, faint and blended fields; the times of compilation and of sampling are apart. Two cores, chains side by side.
CPU seconds (of all threads) do not depend on what else the machine does; effective draws are given per CPU second.
"""

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import arviz as az
import numpy as np
import pymc as pm

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "sampling"))

from sampling_scenes import group_data, make_problem

from bayesprf.sampling.grid import integrate_grid
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior
from bayesprf.sampling.linear import add_data, add_observed, build_linear, predict

WIDTH, JITTER = Hyperprior("half-normal", 0.5), Hyperprior("half-normal", 5.0)
SCENES = {
    "5 stars": {"n_source": 5},
    "50 stars": {"n_source": 50},
    "50 stars, faint": {"n_source": 50, "faint": 0.03},
    "50 stars, blended": {"n_source": 50, "density": 0.12, "tau": 1.0},
    "300 stars": {"n_source": 300},
    "50 stars, 100 cadences": {"n_source": 50, "n_time": 100},
}
QUICK = ("5 stars",)
HEAD = ("field", "way", "compile: nutpie", "PyMC", "sample: clock", "CPU", "ESS width", "per CPU s", "flux per CPU s",
        "divergences")  # fmt: skip
TUNE, DRAWS, N_CHAIN = 500, 1000, 2
# Draws of the largest problem, whose naive forms take minutes.
FEW = 300


@dataclass(frozen=True)
class Seconds:
    """Clock and CPU time since the start."""

    clock: float
    cpu: float

    @classmethod
    def now(cls):
        return cls(time.perf_counter(), time.process_time())

    def passed(self):
        now = Seconds.now()
        return Seconds(now.clock - self.clock, now.cpu - self.cpu)


def non_centred(problem, data):
    """The naive form: flux = m + width s z with z ~ N(0, 1)."""
    coords = {"source": data.source, "time": data.time, "pixel": data.pixel}
    with pm.Model(coords=coords) as model:
        width, jitter = pm.HalfNormal("width", 0.5), pm.HalfNormal("jitter", 5.0)
        z = pm.Normal(
            "z", 0.0, 1.0, dims=("time", "source"), shape=problem.prior.mean[None].repeat(problem.n_batch, 0).shape
        )
        prior = problem.prior
        flux = pm.Deterministic("flux", prior.mean + width * prior.precision**-0.5 * z, dims=("time", "source"))
        add_observed(predict(problem.design, flux), data, add_data(data), jitter=jitter)
    return model


def compile_pymc(model):
    """Return the CPU seconds until PyMC has log density and gradient."""
    start = Seconds.now()
    function = model.logp_dlogp_function(ravel_inputs=True)
    function.set_extra_values({})
    point = model.initial_point()
    function(np.concatenate([np.ravel(point[one.name]) for one in function._grad_vars]))
    return start.passed().cpu


def run_nutpie(model, draws, seed=1):
    """Return the times of compilation and of sampling, and the draws of two chains."""
    import nutpie

    start = Seconds.now()
    compiled = nutpie.compile_pymc_model(model)
    compiling, start = start.passed(), Seconds.now()
    tune = min(TUNE, draws)
    tree = nutpie.sample(compiled, draws=draws, tune=tune, chains=N_CHAIN, cores=2, seed=seed, progress_bar=False)
    return compiling, start.passed(), tree


def run_grid(problem, n_draw=2000):
    """Return the times of integration and exact draws: medians of five runs."""
    hyper = Hyperparameters(width=WIDTH, jitter=JITTER)
    found = []
    for _ in range(5):
        start = Seconds.now()
        integrate_grid(problem, hyper).draw(n_draw, np.random.default_rng(0))
        found.append(start.passed())
    return Seconds(*(float(np.median([getattr(one, name) for one in found])) for name in ("clock", "cpu")))


def row(name, way, problem, data):
    """Return one line of the table."""
    if way == "grid":
        spent = run_grid(problem)
        ess_width, ess_flux, divergent = 2000.0, 2000.0, 0
        compiling = ("-", "-")
    else:
        hyper = Hyperparameters(width=WIDTH, jitter=JITTER)
        model = (
            non_centred(problem, data)
            if way == "non-centred"
            else build_linear(problem, data, hyper, form=way, follow=False)
        )
        pymc = compile_pymc(model)
        nutpie, spent, tree = run_nutpie(model, FEW if problem.data.shape[0] > 1 else DRAWS)
        posterior = tree["posterior"].to_dataset()
        ess = az.ess(posterior[["width", "flux"]])
        ess_width, ess_flux = float(ess["width"]), float(ess["flux"].median())
        divergent = int(tree["sample_stats"]["diverging"].sum())
        compiling = (f"{nutpie.cpu:.1f}", f"{pymc:.1f}")
    figures = (f"{spent.clock:.3f}", f"{spent.cpu:.3f}", f"{ess_width:.0f}", f"{ess_width / spent.cpu:.0f}")
    return (name, way, *compiling, *figures, f"{ess_flux / spent.cpu:.0f}", str(divergent))


def main():
    """Run all scenes and ways, print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest field only")
    parser.add_argument("--output", type=Path, help="file for the table, Markdown")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
    print("\n".join(lines))
    for name, settings in SCENES.items():
        if options.quick and name not in QUICK:
            continue
        problem = make_problem(**settings)
        data = group_data(problem)
        for way in ("grid", "adaptive", "centered", "non-centred"):
            lines.append("| " + " | ".join(row(name, way, problem, data)) + " |")
            print(lines[-1], flush=True)
            if options.output:
                options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
