"""Simulation-based calibration of every kind of PyMC model: truths and data from the prior, ranks among NUTS draws.

    python docs/scripts/sbc.py [--simulations 300] [--kind linear robust collapsed joint shape]

Truth and data of each simulation come from `pymc.sample_prior_predictive` of the model itself; the model is compiled
once (nutpie) and takes each data set in turn. A rank is that of the truth among 99 draws, one of ten; if prior,
likelihood and sampler agree, ranks are uniform. The table gives, for each variable, the p-value of the
Kolmogorov-Smirnov test, smallest over its entries times their number, and whether that stays inside the 99 % band.
"""

import argparse
import warnings

import numpy as np
import nutpie
import pymc as pm
from scipy.sparse import csr_matrix
from scipy.stats import kstest

import bayesprf as bp
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.collapsed import build_collapsed
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior
from bayesprf.sampling.linear import build_linear
from bayesprf.simulation.fields import make_field

N_RANKED, THIN, TUNE = 99, 10, 500
WIDTH, JITTER = Hyperprior("log-normal", 0.3, 0.2), Hyperprior("half-normal", 3.0)


def blend():
    """Four blended stars, two cadences, fluxes known to a fifth before."""
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2)
    star = rng.uniform(2.5, 6.5, (4, 2))
    radius = np.linalg.norm(grid[:, None] - star, axis=2)
    design = DesignStack.from_sparse(csr_matrix(0.2 * (1.0 + (radius / 1.5) ** 2) ** -2.5))
    mean = 10.0 ** rng.uniform(2.5, 3.5, 4)
    data = design.predict(np.tile(mean, (2, 1)))
    problem = LinearProblem(design, data, np.full(data.shape, 5.0**-2), GaussianPrior.from_sigma(mean, mean))
    pixel = np.arange(data.shape[1])
    names = GroupData(
        y=data, y_err=problem.ivar**-0.5, known=problem.known, prior_mean=mean, prior_sigma=mean,
        source=[str(k) for k in range(4)], time=np.arange(2.0), pixel=pixel, row=grid[:, 1], column=grid[:, 0],
    )  # fmt: skip
    return problem, names


def build(kind):
    """Return a small model of a kind."""
    if kind in ("linear", "robust", "collapsed"):
        problem, names = blend()
        hyper = Hyperparameters(width=WIDTH, jitter=JITTER)
        if kind == "collapsed":
            return build_collapsed(problem, names, hyper)
        return build_linear(problem, names, hyper, likelihood="student-t" if kind == "robust" else "normal")
    field = make_field(rng=np.random.default_rng(1), n_source=40, n_time=4)
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True, n_r_knots=6, n_phi_knots=6)
    machine.build_shape_model()
    expected = machine.sources.flux * machine.fit.prf.scale
    machine.fit_model(prior_mu=expected, prior_sigma=0.1 * expected)
    settings = {"sources": [3], "cadences": [0, 1]} if kind == "joint" else {"width": 1.0}
    return machine.pymc_model(kind, **settings)


def ranks(kind, n_simulation, seed=1):
    """Return ranks of the truths over 100, by variable, shape (n_simulation, n_entry)."""
    model, rng = build(kind), np.random.default_rng(seed)
    prior = pm.sample_prior_predictive(n_simulation, model, random_seed=seed, compile_kwargs={"mode": "FAST_COMPILE"})
    names = [one.name for one in model.free_RVs]
    compiled = nutpie.compile_pymc_model(model)
    found = {name: [] for name in names}
    for k in range(n_simulation):
        data = prior["prior_predictive/y"].to_numpy()[0, k]
        tree = nutpie.sample(
            compiled.with_data(y_observed=data), draws=THIN * N_RANKED, tune=TUNE, chains=1, cores=1,
            seed=int(rng.integers(2**31)), progress_bar=False,
        )  # fmt: skip
        for name in names:
            draws = tree["posterior"][name].to_numpy()[0, THIN - 1 :: THIN].reshape(N_RANKED, -1)
            below = (draws < prior["prior"][name].to_numpy()[0, k].ravel()).sum(axis=0)
            found[name].append((below + rng.uniform(size=below.shape)) / (N_RANKED + 1))
    return {name: np.array(one) for name, one in found.items()}


def main():
    """Print one line per kind and variable."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--kind", nargs="+", default=["linear", "robust", "collapsed", "joint", "shape"])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| kind | variable | entries | p | 99 % band |\n| --- | --- | --- | --- | --- |")
    for kind in given.kind:
        for name, one in ranks(kind, given.simulations).items():
            p = min(1.0, one.shape[1] * min(kstest(column, "uniform").pvalue for column in one.T))
            print(f"| {kind} | {name} | {one.shape[1]} | {p:.3f} | {'inside' if p > 0.01 else 'outside'} |", flush=True)


if __name__ == "__main__":
    main()
