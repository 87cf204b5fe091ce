"""Simulation-based calibration of every kind of PyMC model: truths and data from the prior, ranks among NUTS draws.

    python docs/scripts/sbc.py [--simulations 300] [--kind linear robust collapsed joint shape pixels] [--simuk]
        [--piece 50] [--seed 1] [--keep ranks.pkl]

Truth and data of each simulation come from `pymc.sample_prior_predictive` of the model itself; the model is compiled
once (nutpie) and takes each data set in turn. A rank is that of the truth among 99 draws, one of ten; if prior,
likelihood and sampler agree, ranks are uniform. The table gives, for each variable, the p-value of the
Kolmogorov-Smirnov test, smallest over its entries times their number, and whether that stays inside the 99 % band; it
is printed again after each piece, of all simulations so far. With --keep ranks are added to those of a file, so that a
run in pieces, each with a seed of its own, makes one table.

"pixels" is a transit on the fainter of two blended stars, `bayesprf.sampling.pixel_likelihood`: levels and the
neighbour's light, drawn from their priors too, are integrated out. With --simuk the simulations are run by the package
of that name, which compiles anew for each: with PyMC's own sampler, and ranks among all of 400 draws.
"""

import argparse
import pickle
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import nutpie
import pymc as pm
from scipy.sparse import csr_matrix
from scipy.stats import kstest

import bayesprf as bp
from bayesprf.linalg.kalman import RowInformation
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.photometry.processes import flux_information
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.collapsed import build_collapsed
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior
from bayesprf.sampling.linear import build_linear
from bayesprf.sampling.pixel_likelihood import light_curve_likelihood
from bayesprf.simulation.fields import make_field

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "unit" / "sampling"))
from transit_scenes import make_transit_fit, transit

KINDS = ("linear", "robust", "collapsed", "joint", "shape")
N_RANKED, THIN, TUNE = 99, 10, 500
SIMUK_DRAWS = 400
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


def transit_of(depth, middle, seed):
    """Return what the pixels of a blend say about its fainter star, and times and prior."""
    fit, time, _ = make_transit_fit(n_time=100, depth=depth, middle=middle, seed=seed)
    level = GaussianPrior(fit.prior.mean[1:], fit.prior.precision[1:])
    return flux_information(fit, np.array([1])), time, level


@dataclass(frozen=True)
class Seen:
    """A `RowInformation` whose right-hand side is a variable of a model."""

    matrix: object
    rhs: object
    constant: object
    about = RowInformation.about
    n_coeff = 1


def pixel_model():
    """Return the model of a transit whose depth and time are unknown; its data are set anew."""
    seen, time, level = transit_of(0.0, 0.5, 0)
    with pm.Model() as model:
        depth, middle = pm.Uniform("depth", 0.0, 0.3), pm.Normal("middle", 0.5, 0.03)
        rhs = pm.Data("rhs", seen.rhs, shape=seen.rhs.shape)
        light = 1.0 - depth * transit(time, middle)
        open_data = Seen(seen.matrix, rhs, seen.constant)
        value = light_curve_likelihood(open_data, light, level, leak=np.zeros((1, 1)))
        pm.Potential("pixels", value)
    return model


def pixel_ranks(n_simulation, seed=1):
    """Yield the ranks of depth and time, as `ranks` does."""
    compiled, rng = nutpie.compile_pymc_model(pixel_model()), np.random.default_rng(seed)
    for _ in range(n_simulation):
        truth = {"depth": rng.uniform(0.0, 0.3), "middle": rng.normal(0.5, 0.03)}
        rhs = transit_of(**truth, seed=int(rng.integers(2**31)))[0].rhs
        yield rank_draws(compiled.with_data(rhs=rhs), truth, rng)


def rank_draws(compiled, truth, rng):
    """Sample once, and return the ranks of the truth."""
    tree = nutpie.sample(
        compiled, draws=THIN * N_RANKED, tune=TUNE, chains=1, cores=1, seed=int(rng.integers(2**31)),
        progress_bar=False,
    )  # fmt: skip
    found = {}
    for name, known in truth.items():
        draws = tree["posterior"][name].to_numpy()[0, THIN - 1 :: THIN].reshape(N_RANKED, -1)
        below = (draws < np.ravel(known)).sum(axis=0)
        found[name] = (below + rng.uniform(size=below.shape)) / (N_RANKED + 1)
    return found


def simuk_ranks(kind, n_simulation, seed=1):
    """Yield the ranks that simuk finds, as `ranks` does."""
    import simuk

    draws = {"draws": SIMUK_DRAWS, "tune": SIMUK_DRAWS, "chains": 1, "cores": 1, "nuts_sampler": "pymc"}
    suite = simuk.SBC(build(kind), num_simulations=n_simulation, sample_kwargs=draws, seed=seed, progress_bar=False)
    suite.run_simulations()
    found, rng = suite.simulations["prior_sbc"], np.random.default_rng(seed)
    counts = {str(name): one.to_numpy().reshape(n_simulation, -1) for name, one in found.data_vars.items()}
    for k in range(n_simulation):
        yield {name: (one[k] + rng.uniform(size=one[k].shape)) / (SIMUK_DRAWS + 1) for name, one in counts.items()}


def ranks(kind, n_simulation, seed=1):
    """Yield for each simulation the ranks of the truths over 100, by variable, shape (n_entry,)."""
    model, rng = build(kind), np.random.default_rng(seed)
    prior = pm.sample_prior_predictive(n_simulation, model, random_seed=seed, compile_kwargs={"mode": "FAST_COMPILE"})
    names = [one.name for one in model.free_RVs]
    compiled = nutpie.compile_pymc_model(model)
    for k in range(n_simulation):
        data = prior["prior_predictive/y"].to_numpy()[0, k]
        truth = {name: prior["prior"][name].to_numpy()[0, k] for name in names}
        yield rank_draws(compiled.with_data(y_observed=data), truth, rng)


def print_rows(kind, found):
    """Print one line per variable."""
    print(f"{len(found)} simulations\n| kind | variable | entries | p | 99 % band |\n| --- | --- | --- | --- | --- |")
    for name in found[0]:
        one = np.array([rank[name] for rank in found])
        p = min(1.0, one.shape[1] * min(kstest(column, "uniform").pvalue for column in one.T))
        print(f"| {kind} | {name} | {one.shape[1]} | {p:.3f} | {'inside' if p > 0.01 else 'outside'} |", flush=True)


def main():
    """Print a table per kind and piece."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=300)
    parser.add_argument("--kind", nargs="+", default=[*KINDS, "pixels"])
    parser.add_argument("--simuk", action="store_true")
    parser.add_argument("--piece", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="file of the ranks so far")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for kind in given.kind:
        run = simuk_ranks if given.simuk else ranks
        found = pickle.loads(given.keep.read_bytes()) if given.keep and given.keep.exists() else []
        last, asked = len(found) + given.simulations, (given.simulations, given.seed)
        for rank in pixel_ranks(*asked) if kind == "pixels" else run(kind, *asked):
            found.append(rank)
            if len(found) % given.piece == 0 or len(found) == last:
                print_rows(kind, found)
                if given.keep:
                    given.keep.write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main()
