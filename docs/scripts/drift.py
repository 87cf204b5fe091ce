"""Light curves of drifting fields beside the Cramer-Rao bound, and how often their errors cover.

Of isolated stars, the bright ones among them, blended stars, and those with more than half of their light beside the
pixels: median and ninth decile of the scatter.

    python docs/scripts/drift.py [seeds=51,52,53] [half=0.22,0.44] [columns]

Two hundred stars in Kepler cutouts, half of the bright ones with transits, 250 cadences; the field drifts smoothly by
`half` pixel to either side, by 15 % more or less at its edges. PRF and time model are those that are chosen by
themselves; with `columns` the motion is left to terms in time, ``shift_limit=inf, free_motion=False``. Developed on the
seeds 41 to 43.
"""

import sys
import warnings

import numpy as np

from bayesprf.machine import Machine
from bayesprf.scene.pairs import build_pairs
from bayesprf.simulation.fields import make_case
from bayesprf.simulation.settings import Transit

TRANSITS = tuple(Transit(source=i, depth=0.01, period=3.3, epoch=121.5, duration=0.5) for i in range(0, 100, 2))


def drift(time, half):
    """Return a smooth motion in column and row, pixel: the first by `half` to either side."""
    u = (time - time[0]) / (time[-1] - time[0])
    return 2.0 * half * np.stack([u + 0.3 * u**2 - 0.3 * u**3, 0.3 * u - 0.6 * u**2 + 0.12 * np.sin(2 * u)], axis=1)


def choose(field):
    """Return which stars are isolated, which of these bright, which are blended, and which lie beside the pixels."""
    pairs = build_pairs(field.pixels, field.sources, 40.0)
    prf = np.asarray(field.true_design().tocsr()[pairs.pixel, pairs.source]).ravel()
    light, n_source = field.mean_flux[pairs.source] * prf, field.sources.n_source
    total = np.bincount(pairs.pixel, light, field.pixels.n_pixel)[pairs.pixel]
    own, others = (np.bincount(pairs.source, one * prf, n_source) for one in (light, total - light))
    seen = np.bincount(pairs.source, prf, n_source)
    saturated = np.bincount(pairs.source, field.pixels.saturated[pairs.pixel] & (prf > 0.01), n_source)
    usable = (seen > 0.5) & (saturated == 0)
    isolated = usable & (others < 0.01 * own)
    bright = isolated & (field.mean_flux > field.settings.instrument.flux_from_mag(14.0))
    return {
        "isolated": isolated, "bright": bright, "blended": usable & ~isolated,
        "beside": (seen > 0.05) & (seen < 0.5) & (saturated == 0),
    }  # fmt: skip


def tell(seed, half, **options):
    """Print one line."""
    field = make_case(
        "medium", np.random.default_rng(seed), drift=lambda time: drift(time, half), drift_differential=0.15,
        transits=TRANSITS, n_time=250,
    )  # fmt: skip
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model(**options)
    machine.fit_model(fit_va=True)
    left = machine.ws_va / machine.ws_va.mean(axis=0) - field.flux / field.flux.mean(axis=0)
    scatter = left.std(axis=0) / (field.cramer_rao() / field.mean_flux)
    pull = np.abs(left * machine.ws_va.mean(axis=0) / machine.werrs_va)
    words = [f"half {half:.2f} seed {seed} {type(machine.fit.time_model).__name__}"]
    for name, stars in choose(field).items():
        cover = " ".join(f"{100 * np.mean(pull[:, stars] < size):.0f}" for size in (1, 2))
        middle, high = np.quantile(scatter[stars], [0.5, 0.9])
        words.append(f"{stars.sum()} {name} {middle:.2f}, {high:.2f} x bound, cover {cover} %")
    print("; ".join(words), flush=True)


def main() -> None:
    """Print one line per field."""
    given = dict(one.split("=") for one in sys.argv[1:] if "=" in one)
    options = {"shift_limit": np.inf, "free_motion": False} if "columns" in sys.argv else {}
    for half in given.get("half", "0.22,0.44").split(","):
        for seed in given.get("seeds", "51,52,53").split(","):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tell(int(seed), float(half), **options)


if __name__ == "__main__":
    main()
