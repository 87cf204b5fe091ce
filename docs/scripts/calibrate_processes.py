"""Print how light curves as processes do: speed, learning, coverage of known, learned and wrong kernels, transits.

    python docs/scripts/calibrate_processes.py [--fields 100] [--first 0] [--part speed learn cover transit]
        [--kernel known learned wrong]

Stars of a stamp overlap; levels and processes are drawn from their priors, kernels at random: a Matern family,
sigma 3 to 30 electron / s, a correlation time of 0.1 to 2 days, white variation up to 5 electron / s. The noise of a
pixel is 1 electron / s. The tables are in docs/evidence/calibration.md.
"""

import argparse
import time as clock
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix
from scipy.stats import norm

from bayesprf.linalg.kalman import draw_prior
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.linalg.stack import DesignStack
from bayesprf.linalg.state_space import ProcessKernel
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.photometry.processes import fit_light_curves

FAMILIES = ("matern12", "matern32", "matern52")
CADENCE = 0.0204336


def draw_kernels(n_star, rng):
    """Return kernels drawn at random."""
    return tuple(
        ProcessKernel(
            FAMILIES[rng.integers(3)],
            sigma=10.0 ** rng.uniform(0.5, 1.5),
            scale=10.0 ** rng.uniform(-1.0, 0.3),
            white=rng.uniform(0.0, 5.0),
        )
        for _ in range(n_star)
    )


def make_fit(time, kernels, rng, *, side=7, dip=None):
    """Return the fluxes of a stamp of overlapping stars, and their true light curves; a dip is the first star's."""
    prior = GaussianPrior.from_sigma(*(2 * [10.0 ** rng.uniform(2.8, 3.6, len(kernels))]))
    level = prior.mean + prior.mean * rng.normal(size=len(kernels))
    truth = level + draw_prior(kernels, time, n_draw=1, rng=rng)[0]
    if dip is not None:
        truth[:, 0] -= dip
    axis = np.arange(side, dtype=np.float64)
    pixel = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    place = rng.uniform(1.5, side - 2.5, (len(kernels), 2))
    light = np.exp(-0.5 * np.sum((pixel[:, None] - place) ** 2, axis=2) / 0.64) / (2 * np.pi * 0.64)
    ivar = np.ones((time.size, len(pixel)))
    ivar[rng.uniform(size=ivar.shape) < 0.02] = 0.0
    start = int(rng.integers(time.size // 2))
    ivar[start : start + time.size // 12] = 0.0
    data = np.where(ivar > 0, truth @ light.T + rng.normal(size=ivar.shape), np.nan)
    problem = LinearProblem(DesignStack.from_sparse(csr_matrix(light)), data, ivar, prior)
    posterior = choose_solver(problem).solve(problem)
    return FluxFit(posterior.mean, posterior.std, np.zeros(truth.shape, np.int64), problem, posterior), truth


def speed():
    """Print the CPU time of 20 blended stars at 4,000 cadences, kernels known, with smoother."""
    rng = np.random.default_rng(1)
    kernels, time = draw_kernels(20, rng), np.arange(4000) * CADENCE
    fit, _ = make_fit(time, kernels, rng, side=12)
    fit_light_curves(fit, time, dict(enumerate(kernels)))
    start = clock.process_time()
    fit_light_curves(fit, time, dict(enumerate(kernels)))
    print(f"20 stars, 4000 cadences, kernels known: {clock.process_time() - start:.2f} CPU s", flush=True)


def learn():
    """Print the CPU time of learning 20 blended stars at 1,000 cadences, and how near the numbers come."""
    rng = np.random.default_rng(2)
    kernels, time = draw_kernels(20, rng), np.arange(1000) * CADENCE
    fit, truth = make_fit(time, kernels, rng, side=12)
    fit_light_curves(*make_fit(time[:50], kernels[:2], rng)[:1], time[:50], {0: "learn"})
    start, start_cpu = clock.perf_counter(), clock.process_time()
    curves = fit_light_curves(fit, time, dict.fromkeys(range(20), "learn"))
    wall, cpu = clock.perf_counter() - start, clock.process_time() - start_cpu
    z = (curves.flux - truth) / curves.flux_err
    ratio = np.array([curves.kernel(k).sigma / kernels[k].sigma for k in range(20)])
    print(
        f"20 stars, 1000 cadences, kernels learned: {wall:.1f} s, {cpu:.1f} CPU s; z rms {np.sqrt(np.mean(z**2)):.3f}"
    )
    print(f"learned over true sigma, quartiles: {np.percentile(ratio, [25, 50, 75]).round(2)}", flush=True)


def wrong(kernel):
    """Return a kernel that is wrong: smooth, slow and a third as wide, without white variation."""
    return replace(kernel, family="matern52", sigma=kernel.sigma / 3.0, scale=3.0 * kernel.scale, white=0.0)


def cover(seeds, asked):
    """Print z and coverage of fields of four stars and 300 cadences, gaps included, for some of the kernels."""
    time = np.arange(300) * CADENCE
    scores, narrower, preferred = {name: [] for name in asked}, [], 0
    for seed in seeds:
        rng = np.random.default_rng([3, seed])
        kernels = draw_kernels(4, rng)
        fit, truth = make_fit(time, kernels, rng)
        given = {
            "known": dict(enumerate(kernels)),
            "learned": dict.fromkeys(range(4), "learn"),
            "wrong": {k: wrong(one) for k, one in enumerate(kernels)},
        }
        curves = {name: fit_light_curves(fit, time, given[name]) for name in asked}
        for name, one in curves.items():
            scores[name].append(((one.flux - truth) / one.flux_err).ravel())
        seen = np.abs(fit.flux_err / fit.prior.precision**-0.5) < 0.9
        narrower.append(np.median((fit.flux_err / curves[asked[0]].flux_err)[seen]))
        total = {name: sum(g.posterior.log_evidence.sum() for g in one.groups) for name, one in curves.items()}
        preferred += total.get("known", 0.0) > total.get("wrong", 0.0)
    print("| kernel | z rms | within 68.3 % | within 95.4 % |\n| --- | --- | --- | --- |")
    for name, one in scores.items():
        z = np.concatenate(one)
        inside = [100.0 * np.mean(np.abs(z) < k) for k in (1.0, 2.0)]
        print(f"| {name} | {np.sqrt(np.mean(z**2)):.3f} | {inside[0]:.1f} | {inside[1]:.1f} |", flush=True)
    nominal = [100.0 * (2.0 * norm.cdf(k) - 1.0) for k in (1.0, 2.0)]
    print(f"nominal {nominal[0]:.1f} and {nominal[1]:.1f}; {len(seeds)} fields of 4 stars and 300 cadences")
    print(f"errors smaller than those of free fluxes, {asked[0]}: {np.median(narrower):.1f} times (median)")
    if {"known", "wrong"} <= set(asked):
        print(
            f"fields whose evidence prefers the true kernels to the wrong ones: {preferred} of {len(seeds)}", flush=True
        )


def transit(seeds):
    """Print the bias of the depth of a 1 % transit, named as template, and how much of it is eaten if not."""
    time = np.arange(300) * CADENCE
    shape = np.clip((0.15 - np.abs(time - 3.0)) / 0.03, 0.0, 1.0)
    named, learned, eaten = [], [], []
    for seed in seeds:
        rng, again = (np.random.default_rng([4, seed]) for _ in range(2))
        kernels = draw_kernels(3, rng)
        draw_kernels(3, again)
        quiet, _ = make_fit(time, kernels, again)
        depth = 0.01 * float(quiet.prior.mean[0])
        fit, _ = make_fit(time, kernels, rng, dip=depth * shape)
        for scores, kernel in ((named, dict(enumerate(kernels))), (learned, dict.fromkeys(range(3), "learn"))):
            group, place = fit_light_curves(fit, time, kernel, templates={0: shape}).find(0)
            scores.append((group.dip[place] - depth) / group.dip_err[place])
        both = [fit_light_curves(one, time, dict.fromkeys(range(3), "learn")).flux[:, 0] for one in (quiet, fit)]
        kept = (both[0] - both[1])[shape == 1.0].mean() / depth
        eaten.append(100.0 * kept)
    for name, scores in (("kernel known", named), ("kernel learned", learned)):
        z = np.array(scores)
        error = z.std() / len(z) ** 0.5
        print(f"1 % transit with template, {name}: (depth - truth) / error = {z.mean():+.3f} +- {error:.3f}")
    print(
        f"without template the process takes {np.median(eaten):.0f} % of it along (median of {len(seeds)})", flush=True
    )


def main():
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="seed of the first field")
    parser.add_argument("--part", nargs="+", default=["speed", "learn", "cover", "transit"])
    parser.add_argument("--kernel", nargs="+", default=["known", "learned", "wrong"])
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.fields)
    run = {
        "speed": speed, "learn": learn, "cover": lambda: cover(seeds, given.kernel), "transit": lambda: transit(seeds)
    }  # fmt: skip
    for part in given.part:
        run[part]()


if __name__ == "__main__":
    main()
