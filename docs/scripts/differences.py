"""Measure the size of differences from PSFMachine that are choices of formula: ours beside what its formula gives.

Run as ``python docs/scripts/differences.py``;
docs/evidence/differences.md quotes the figures.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from bayesprf import Machine
from bayesprf.photometry.apertures import build_apertures, optimal_percentile
from bayesprf.photometry.metrics import psf_fraction
from bayesprf.photometry.stage import aperture_inputs
from bayesprf.scene.axes import pixel_axes
from bayesprf.simulation.fields import SimulatedField, make_field


def shaped(field: SimulatedField, **options: object) -> Machine:
    """Return a Machine with its shape."""
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(**options)
    return machine


def measure_apertures() -> None:
    """Crowding by flux or by count, completeness of all light or of that on the data, exact or scalar optimum."""
    machine = shaped(make_field(rng=np.random.default_rng(1), n_source=60, n_time=10, mag_range=(11.0, 17.0)))
    prf, flux = aperture_inputs(machine.fit)
    lit = prf.caught()[0] > 0.05
    half = build_apertures(prf, flux, 50)
    by_count = build_apertures(prf, np.ones_like(flux), 50)
    away = np.abs(by_count.crowding - half.crowding)[lit]
    print(f"CROWDSAP, unit fluxes minus weighted by flux: median {np.median(away):.3f}, largest {away.max():.2f}")
    on_data = prf.caught()[0]
    away = (half.completeness / on_data - half.completeness)[lit]
    print(
        f"FLFRCSAP, of the light on the data minus of all light: median {np.median(away):.3f}, largest {away.max():.2f}"
    )

    def shortfall(percentile: np.ndarray) -> np.ndarray:
        found = build_apertures(prf, flux, percentile)
        return np.maximum(0.9 - found.completeness, 0.0) + np.maximum(0.9 - found.crowding, 0.0)

    def scalar(source: int) -> float:
        everywhere = np.full(machine.nsources, 50.0)

        def objective(percentile: float) -> float:
            everywhere[source] = percentile
            return float(shortfall(everywhere)[source])

        return float(minimize_scalar(objective, bounds=(0.0, 100.0), method="bounded").x)

    exact = shortfall(optimal_percentile(prf, flux, target_complete=0.9, target_crowd=0.9))
    searched = shortfall(np.array([scalar(source) for source in range(machine.nsources)]))
    worse = (searched - exact)[lit]
    share = np.mean(worse > 1e-3)
    print(f"optimal aperture, scalar search minus exact shortfall: worse for {share:.0%}, largest {worse.max():.2f}")
    fine = psf_fraction(
        machine.fit.prf.prf.evaluate, machine.fit.shifted_pairs, pixel_axes(machine.pixels), npoints_per_pixel=10
    )
    axes = pixel_axes(machine.pixels)
    low = machine.fit.shifted_pairs.moved(np.tile(0.05 * np.asarray(axes).sum(axis=1), (machine.nsources, 1)))
    moved = psf_fraction(machine.fit.prf.prf.evaluate, low, axes, npoints_per_pixel=10)
    print(f"PRF fraction, grid 0.05 pixel low minus symmetric: largest {np.abs(moved - fine).max():.4f}")


def measure_prior() -> None:
    """A catalogue 10 % too bright under a prior of 5 sqrt(f), which is narrow, and under the default."""
    field = make_field(rng=np.random.default_rng(2), n_source=60, n_time=20, mag_range=(14.0, 20.0))
    machine = shaped(field)
    machine.fit_model()
    free, error = machine.ws.mean(axis=0), machine.werrs.mean(axis=0)
    wrong = 1.1 * field.mean_flux
    machine.fit_model(prior_mu=wrong, prior_sigma=5.0 * np.sqrt(wrong))
    lit = np.isfinite(free)
    faint, bright = np.quantile(field.mean_flux[lit], [1 / 3, 2 / 3])
    for name, chosen in (("brightest", field.mean_flux > bright), ("faintest", field.mean_flux < faint)):
        where = chosen & lit
        pull = np.median(((machine.ws.mean(axis=0) - free) / error)[where])
        share = np.median((machine.ws.mean(axis=0) / free - 1.0)[where])
        print(f"prior 5 sqrt(f) around 1.1 f, {name} third: moves by {pull:+.2f} errors, {share:+.2%}")


def measure_offset() -> None:
    """Catalogue 0.1 pixel off, with the common offset fitted or not."""
    for offset in ((0.0, 0.0), (0.1, 0.0)):
        field = make_field(
            rng=np.random.default_rng(4), n_source=60, n_time=10, mag_range=(11.0, 15.0), stamp_sides=(7, 9),
            centroid_offset=offset,
        )  # fmt: skip
        for fitted in (True, False):
            machine = shaped(field, correct_centroid_offset=fitted)
            machine.fit_model()
            ratio = (machine.ws.mean(axis=0) / field.mean_flux)[field.is_target]
            print(f"offset {offset[0]} pixel, fitted {fitted}: spread of flux / truth {np.std(ratio):.2%}")


if __name__ == "__main__":
    measure_apertures()
    measure_prior()
    measure_offset()
