"""Write simulated scenes as plain arrays that both sides read."""

import numpy as np

from bayesprf.simulation.fields import make_case

SEED = 20240607
# Motion of the images that the time model has something to do with, pixel.
_DRIFT = 0.05


def simulate(name, *, seed=SEED, moving=False):
    """Return a standard case, at rest or drifting smoothly by 0.2 arcsec."""

    def drift(time):
        phase = (time - time[0]) / max(float(np.ptp(time)), 1e-9)
        return _DRIFT * np.stack([phase, np.sin(2.0 * phase)], axis=1)

    return make_case(name, np.random.default_rng(seed), drift=drift if moving else None)


def arrays(field):
    """Return the arrays of a SimulatedField by name."""
    pixels, sources = field.pixels, field.sources
    return {
        "time": pixels.time,
        "flux": pixels.flux,
        "flux_err": pixels.flux_err,
        "ra": pixels.ra_deg,
        "dec": pixels.dec_deg,
        "column": pixels.column,
        "row": pixels.row,
        "source_ra": sources.ra_deg,
        "source_dec": sources.dec_deg,
        "source_flux": sources.flux,
        "source_mag": sources.mag,
        "true_flux": field.mean_flux,
    }


def write_scene(path, field):
    """Write the arrays of a SimulatedField to an .npz file."""
    np.savez(path, **arrays(field))
