"""Print draws of PRF and fluxes together (`kind="joint"`) beside the Gaussian closed form, family by family of PRF.

    python docs/scripts/compare_joint.py [seed] [family ...]

A group of about four stars at two cadences, fields of 40 stars, PRFs of our own family and of others. Means are
compared in Monte Carlo standard errors and in standard deviations. The table is in docs/evidence/calibration.md.
"""

import sys
import warnings
from dataclasses import replace

import arviz as az
import numpy as np
from misfit_matrix import kepler_mog, one_table, stamps, varying

import bayesprf as bp
from bayesprf.photometry.groups import component_labels
from bayesprf.sampling.joint import build_joint
from bayesprf.sampling.questions import ask_group
from bayesprf.sampling.run import SamplerOptions, sample_model
from bayesprf.sampling.scene import JointPriors, JointScene, with_misfit
from bayesprf.simulation.fields import make_field
from bayesprf.simulation.foreign import make_foreign

FAMILIES = {
    "own": None,
    "constant": lambda: varying(0.0),
    "Kepler Gaussians": kepler_mog,
    "TESS one table": lambda: one_table("row1025-col1069"),
}


def fit(family, seed):
    """Return a fit with few weights of the PRF."""
    rng = np.random.default_rng(seed)
    if FAMILIES[family] is None:
        field = make_field(rng=rng, n_source=40, n_time=6)
    else:
        field = make_foreign(replace(stamps(), n_source=40, n_stamp=36), FAMILIES[family](), rng=rng).field
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True, n_r_knots=8, n_phi_knots=6)
    machine.build_shape_model()
    machine.fit_model()
    return machine


def compare(machine):
    """Return the row of a family."""
    label = component_labels(machine.fit.flux.problem.design)
    target = int(np.argmin(np.abs(np.bincount(label)[label] - 4)))
    asked = ask_group(machine.fit, "joint", [target], [0, 1], {})
    group = with_misfit(asked.group, machine.fit.prf, machine.fit.prf.intrinsic_scatter)
    scene = JointScene.of(group, machine.fit.prf, JointPriors())
    closed = scene.approximate(np.tile(group.problem.prior.mean, (group.problem.n_batch, 1)))
    model = build_joint(scene, replace(asked.data, y_err=group.problem.ivar**-0.5), start=closed)
    tree = sample_model(model, SamplerOptions(draws=1000, tune=600, chains=2, cores=1, random_seed=1))
    flux = tree["posterior"].to_dataset()[["flux"]]
    mean, std = (one["flux"].to_numpy().ravel() for one in (flux.mean(("chain", "draw")), flux.std(("chain", "draw"))))
    away, first = mean - closed.mode[-mean.size :], closed.std[-mean.size :]
    error = az.mcse(flux)["flux"].to_numpy().ravel()
    ratio = std / first
    return (
        f"{mean.size} | {np.abs(away / error).max():.2f} | {np.abs(away / first).max():.3f} | {ratio.min():.3f} to"
        f" {ratio.max():.3f} | {np.median(ratio):.3f} | {float(az.rhat(flux)['flux'].max()):.4f}"
    )


def main():
    """Print one line per family."""
    warnings.simplefilter("ignore")
    seed = next((int(one) for one in sys.argv[1:] if one.isdigit()), 61)
    print(f"| PRF | fluxes | means, MCSE | means, sd | sd ratio | median | R-hat |\n|{' --- |' * 7}")
    for family in [one for one in sys.argv[1:] if one in FAMILIES] or FAMILIES:
        print(f"| {family} | {compare(fit(family, seed))} |", flush=True)


if __name__ == "__main__":
    main()
