"""Stars of a known PRF, for the tests of the parts of its fit."""

from dataclasses import replace

import numpy as np

from bayesprf.design.polar import PolarBasis
from bayesprf.instruments import GENERIC
from bayesprf.prf.pixel_phase import PixelPhases
from bayesprf.prf.scene import Scene
from bayesprf.prf.star_pixels import StarPixels
from bayesprf.scene.image import reduce_image
from bayesprf.scene.pairs import build_pairs
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import PrfModel
from bayesprf.scene.sources import SourceTable

AREA = 15.84
N_STAR, N_EACH = 30, 40
PHASES = PixelPhases.around(np.sqrt(AREA) * np.eye(2), 16.0)


def truth(**changes):
    """Return a PRF whose core is a Moffat, with some dependence on the angle outside, that conserves flux."""
    basis = PolarBasis()
    weights = -2.5 * np.log10(1.0 + (basis.centers / 6.0) ** 2)
    index = np.arange(basis.n_basis - basis.n_core)
    weights[basis.n_core :] += 0.05 * np.cos(2.0 * np.pi * (index % basis.n_phi_knots) / basis.n_phi_knots)
    prf = PrfModel(basis, weights, AREA, **changes)
    for _ in range(6):
        rows, data = PHASES.equations(prf)
        prf = replace(prf, weights=prf.weights + np.linalg.lstsq(rows, data - rows @ prf.weights, rcond=1e-10)[0])
    return prf.normalized()


def pixels_of(prf, *, radius=15.0, noise=0.0, seed=0):
    """Return training pixels around stars of 1e5 to 1e6 electron / s."""
    rng = np.random.default_rng(seed)
    n = N_STAR * N_EACH
    r, phi = radius * np.sqrt(rng.uniform(0, 1, n)), rng.uniform(0, 2 * np.pi, n)
    flux = np.repeat(10.0 ** rng.uniform(5, 6, N_STAR), N_EACH)
    dx, dy = r * np.cos(phi), r * np.sin(phi)
    y = flux * prf.evaluate(dx, dy)
    var = np.full(n, 4.0 if noise == 0.0 else noise**2)
    return StarPixels(np.repeat(np.arange(N_STAR), N_EACH), dx, dy, y + noise * rng.normal(size=n), var, flux)


def make_scene(prf, *, n_star=16, spacing=40.0, flux=None, jitter=3.0, sky=0.0, scale=1.0, seed=1):
    """Return the scene of one image without noise, and the true fluxes.

    Stars stand on a square grid, `spacing` arcsec apart, displaced by up to `jitter` arcsec. The catalogue's fluxes
    are the true ones over `scale`.
    """
    rng, side = np.random.default_rng(seed), int(np.ceil(np.sqrt(n_star)))
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:n_star] * spacing
    star = grid + rng.uniform(-jitter, jitter, (n_star, 2))
    pixel_side = np.sqrt(AREA)
    count = int(np.ceil((side * spacing + 20.0) / pixel_side))
    row, column = (one.ravel().astype(float) for one in np.mgrid[:count, :count])
    x, y = column * pixel_side - 20.0, row * pixel_side - 20.0
    flux = 10.0 ** rng.uniform(4.5, 6.0, n_star) if flux is None else flux
    image = np.full(x.size, sky)
    for one, place in zip(flux, star, strict=True):
        image += one * prf.evaluate(x - place[0], y - place[1])
    error = np.full(x.size, 2.0)
    instrument = replace(GENERIC, pixel_scale=float(pixel_side))
    pixels = PixelTable(
        [0.0], image[None], error[None], x / 3600.0, y / 3600.0, column, row, instrument=instrument,
    )  # fmt: skip
    sources = SourceTable([f"s{i}" for i in range(n_star)], star[:, 0] / 3600.0, star[:, 1] / 3600.0, flux / scale)
    pairs = build_pairs(pixels, sources, 40.0)
    return Scene(pixels, sources, pairs, 40.0, reduce_image(pixels)), flux
