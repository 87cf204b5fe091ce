"""One star or two, where the PRF is of no family that the model has: false and found second stars, family by family.

    python docs/scripts/foreign_blends.py [seeds=51] [exact] [family ...]

176 stars of 11 to 16 mag in Kepler cutouts; the catalogue lacks companions of 24 of them, 3 mag fainter and 0.7 to 2
pixels away. `blend_test` is asked at the places of the companions, and at random places as far from single stars. The
families are those of the develop half of misfit_matrix.py. With `exact` the PRF is taken as exact (`prf_errors=False`).
The table is in docs/evidence/calibration.md.
"""

import sys
import warnings
from contextlib import suppress
from dataclasses import replace

import numpy as np
from misfit_matrix import ending, kepler_mog, one_table, stamps, varying
from scipy.spatial import cKDTree

import bayesprf as bp
from bayesprf.errors import InputError
from bayesprf.simulation.foreign import make_foreign

N_BRIGHT, N_HIDDEN = 176, 24
FAMILIES = {
    "constant": lambda: varying(0.0),
    "width 5 %": lambda: varying(0.05),
    "wings end": lambda: ending,
    "Kepler Gaussians": kepler_mog,
    "TESS one table": lambda: one_table("row1025-col1069"),
}


def fit(prf_at, seed):
    """Return places of all stars, hidden ones last, and the fit without these."""
    bright = np.random.default_rng([seed, 2]).uniform(11.0, 16.0, N_BRIGHT)
    settings = replace(
        stamps(), n_source=N_BRIGHT + N_HIDDEN, companion_distance=(0.7, 2.0),
        magnitudes=np.concatenate([bright, bright[:N_HIDDEN] + 3.0]),
    )  # fmt: skip
    field = make_foreign(settings, prf_at, rng=np.random.default_rng(seed)).field
    full = field.sources
    known = bp.SourceTable(*(one[:N_BRIGHT] for one in (full.source_id, full.ra_deg, full.dec_deg, full.flux)))
    machine = bp.Machine.from_pixels(field.pixels, known, quiet=True)
    machine.build_shape_model()
    machine.fit_model()
    return field, machine


def random_places(place, rng):
    """Yield single stars, none within 4 pixels, and a place beside each."""
    for star in np.flatnonzero(cKDTree(place).query(place, k=2)[0][:, 1] > 4.0):
        angle, distance = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.7, 2.0)
        yield int(star), place[star] + distance * np.array([np.cos(angle), np.sin(angle)])


def ask(machine, field, star, place, *, prf_errors):
    """Return the answer at a place in pixels, or nothing where it lies beside the star's own pixels."""
    ra, dec = (float(one[0]) for one in field.sky.to_sky(*(np.array([one]) for one in place)))
    with suppress(InputError):
        return [machine.blend_test(star, (ra, dec), prf_errors=prf_errors)]
    return []


def answers(prf_at, seed, *, prf_errors):
    """Return the tests of single stars, and those of companions with their true fluxes."""
    field, machine = fit(prf_at, seed)
    place = np.stack([field.column, field.row], axis=1) - np.array(field.settings.centroid_offset)
    single, double, flux = [], [], []
    for star, at in random_places(place, np.random.default_rng([seed, 3])):
        if star < N_BRIGHT and np.isfinite(machine.ws[0, star]):
            single += ask(machine, field, star, at, prf_errors=prf_errors)
    for star in range(N_HIDDEN):
        found = ask(machine, field, star, place[N_BRIGHT + star], prf_errors=prf_errors)
        double += found
        flux += [field.mean_flux[N_BRIGHT + star]] * len(found)
    return single, double, np.array(flux)


def main():
    """Print one line per family."""
    asked = next((one.removeprefix("seeds=") for one in sys.argv if one.startswith("seeds=")), "51")
    chosen = [one for one in sys.argv[1:] if one in FAMILIES] or list(FAMILIES)
    head = ("PRF", "single", "two, %", "largest ln B", "z rms", "blends", "two, %", "least ln B", "flux ratio", "z rms")
    print(f"| {' | '.join(head)} |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in chosen:
        single, double, flux = [], [], []
        for seed in asked.split(","):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one, two, true = answers(FAMILIES[name](), int(seed), prf_errors="exact" not in sys.argv)
            single, double, flux = single + one, double + two, np.append(flux, true)
        false, right = (100.0 * np.mean([one.probability > 0.5 for one in some]) for some in (single, double))
        z_one = np.array([one.flux / one.flux_err for one in single])
        z_two = np.array([(one.flux - true) / one.flux_err for one, true in zip(double, flux, strict=True)])
        ratio = np.median([one.flux / true for one, true in zip(double, flux, strict=True)])
        print(
            f"| {name} | {len(single)} | {false:.1f} | {max(one.log_bayes_factor for one in single):+.1f}"
            f" | {np.sqrt(np.mean(z_one**2)):.2f} | {len(double)} | {right:.1f}"
            f" | {min(one.log_bayes_factor for one in double):+.1f} | {ratio:.3f} | {np.sqrt(np.mean(z_two**2)):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
