"""A small drifting field with known truth, for the tests of the time model."""

import numpy as np

from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import PerturbationOptions
from bayesprf.simulation.fields import make_field
from bayesprf.timemodel.fit import fit_gain
from bayesprf.timemodel.gain import build_plane
from bayesprf.timemodel.training import choose_training

OPTIONS = PerturbationOptions(splines=True, free_motion=False)


def drift(time):
    """Move by 0.2 pixel along columns and back and forth along rows."""
    u = np.linspace(0.0, 1.0, time.size)
    return 0.2 * np.stack([u + 0.3 * u**2 - 0.3 * u**3, 0.5 * (u - u**2)], axis=1)


def simulate(n_time=120, moves=drift, **changes):
    settings = {"n_source": 30, "n_stamp": 30, "mag_range": (12.0, 14.5), "stamp_sides": (7, 8)}
    return make_field(
        n_time=n_time, rng=np.random.default_rng(5), drift=moves, drift_differential=0.15, **(settings | changes)
    )


class Scene:
    """A field with the truth a fit needs: pairs, mean PRF, and the PRF as a function."""

    def __init__(self, field):
        self.field, pixels = field, field.pixels
        pairs = build_pairs(pixels, field.sources, 40.0)
        cadences = np.unique(np.linspace(0, pixels.n_time - 1, 15).astype(int))
        mean = sum(field.true_design(int(t)) for t in cadences).tocsr() / cadences.size
        prf = np.asarray(mean[pairs.pixel, pairs.source]).ravel()
        keep = prf * field.mean_flux[pairs.source] > 0.5
        self.pairs, self.prf = pairs.select(keep), prf[keep]
        self.matrix = PrfMatrix.constant(self.pairs, self.prf)
        inverse = np.linalg.inv(pixel_axes(pixels))
        centre = np.zeros(2) if pixels.pos_corr is None else pixels.pos_corr.mean(axis=0)

        def evaluate(source, dx, dy):
            column, row = inverse @ np.stack([dx, dy])
            return field.settings.prf.evaluate(column - centre[0], row - centre[1])

        self.evaluate = evaluate

    def fit(self, options=OPTIONS, pixels=None, **others):
        pixels = pixels or self.field.pixels
        pairs = choose_training(pixels, self.matrix, self.field.mean_flux, self.evaluate, options=options)
        return fit_gain(pixels, pairs, options=options, **{"plane": self.plane(pixels, pairs), **others})

    def plane(self, pixels, pairs):
        return build_plane(pairs.change, pixels, pairs.prf.pairs, evaluate=self.evaluate)

    def true_factor(self, time):
        design = self.field.true_design(time).tocsr()
        return np.asarray(design[self.pairs.pixel, self.pairs.source]).ravel() / self.prf

    def bright(self, least=0.02):
        return self.prf > least


def rms(values):
    return float(np.sqrt(np.mean(values**2)))


def changed(pixels, **arrays):
    """Return pixels with some arrays replaced."""
    names = ("time", "flux", "flux_err", "ra_deg", "dec_deg", "column", "row", "pos_corr", "instrument", "saturated")
    return PixelTable(**{name: arrays.get(name, getattr(pixels, name)) for name in names})
