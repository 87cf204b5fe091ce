"""Small stamps with strange content, with all defaults: which fluxes are wrong, and which of these without a flag.

A star is silent where its flux is more than four total errors off and none of the flags that speak of it is set:
all but those that nearly every stamp has (FEW_CALIBRATORS) or that say nothing of the mean flux. Each seed draws
another PRF, size of the stamp, number of stars (1 to 8) and strength of what is strange. Seeds below 48 were looked at.

    python docs/scripts/strange_stamps.py [list] [KIND ...] seeds=48,49

With `list` each star that is silent is printed. BAYESPRF_TEST_DATA names the folder with the mission's tables.
"""

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from few_stars import path_of
from misfit_matrix import etem2, kepler_mog

import bayesprf
from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.errors import BayesprfError
from bayesprf.flags import QualityFlag
from bayesprf.instruments import KEPLER, TESS, Instrument
from bayesprf.io.prf_files import read_prf_table
from bayesprf.machine import Machine
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.foreign import TablePrf, airy_intensity, bleed, integrate_table, scaled_mixture
from bayesprf.simulation.sky import TangentPlane
from bayesprf.simulation.true_prf import PrfTruth, asymmetric_prf

N_TIME = 12
# Flags that say that a flux may be wrong. Left out: few calibrators, errors too large, and what concerns single images.
SPEAKING = int(
    QualityFlag.LOW_PSF_FRACTION | QualityFlag.SATURATED | QualityFlag.SATURATED_NEIGHBOR | QualityFlag.NO_CATALOG_FLUX
    | QualityFlag.DEGENERATE_BLEND | QualityFlag.POOR_PRF | QualityFlag.SKY_LEFT | QualityFlag.UNCATALOGUED_LIGHT
    | QualityFlag.NOT_CONVERGED | QualityFlag.POSITION_OFF | QualityFlag.PRF_VARIES | QualityFlag.ERRORS_TOO_SMALL
    | QualityFlag.EXTENDED_LIGHT
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A stamp as it is, and what its catalogue says."""

    instrument: Instrument
    prf: PrfTruth
    column: FloatArray
    row: FloatArray
    x: FloatArray
    y: FloatArray
    flux: FloatArray
    listed_x: FloatArray
    listed_y: FloatArray
    listed_flux: FloatArray
    is_listed: BoolArray
    light: FloatArray
    curve: FloatArray
    unit: float = 1.0
    spills: bool = False
    spoil: Callable[[FloatArray, FloatArray], None] | None = None


def star_light(prf: PrfTruth, scene: Scene) -> FloatArray:
    """Return the light of each star in each pixel, shape (n_pixel, n_star)."""
    reach = np.arange(-40.0, 41.0)
    found = []
    for x, y, flux in zip(scene.x, scene.y, scene.flux, strict=True):
        values = prf.evaluate(scene.column - x, scene.row - y)
        if isinstance(prf, TablePrf):
            dx, dy = (one.ravel() for one in np.meshgrid(reach - (x - np.round(x)), reach - (y - np.round(y))))
            values = values / prf.evaluate(dx, dy).sum()
        found.append(flux * values)
    return np.array(found).T


def draw_prf(rng: np.random.Generator) -> tuple[Instrument, PrfTruth]:
    """Draw an instrument and a PRF as those of it are, half of them of another family than its tables."""
    which = rng.integers(6)
    if which < 2:
        return TESS, TablePrf(read_prf_table(path_of(*rng.integers(0, 3, 2))).values, 1.0 / 9.0)
    if which == 2:
        shape = {
            "ellipticity": rng.uniform(0.0, 0.2),
            "angle": rng.uniform(0.0, 3.0),
            "coma_fraction": rng.uniform(0, 0.2),
        }
        return TESS, scaled_mixture(asymmetric_prf(**shape), rng.uniform(0.9, 1.3))
    if which == 3:
        return TESS, integrate_table(airy_intensity(), 1.0 / 8.0, scale=rng.uniform(0.9, 1.3))
    return KEPLER, (kepler_mog(int(rng.integers(1, 6))) if which == 4 else etem2())(0.0, 0.0)


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a stamp with nothing strange: a target near the middle, and fainter stars anywhere."""
    instrument, prf = draw_prf(rng)
    sides = (11, 11) if instrument is TESS else (int(rng.integers(6, 12)), int(rng.integers(6, 12)))
    if rng.random() < 0.15:
        sides = (22, 18)
    column, row = (one.ravel() for one in np.meshgrid(*(np.arange(float(n)) for n in sides)))
    n_star = int(rng.integers(1, 9))
    target = 10.0 ** rng.uniform(3.3, 4.6)
    x, y = (np.append((n - 1) / 2.0 + rng.uniform(-0.5, 0.5), rng.uniform(-0.5, n - 0.5, n_star - 1)) for n in sides)
    flux = target * np.append(1.0, 10.0 ** rng.uniform(-2.0, -0.2, n_star - 1))
    off = rng.normal(0.0, 0.05, 2)
    seen = [one + shift + rng.normal(0.0, 0.02, n_star) for one, shift in ((x, off[0]), (y, off[1]))]
    listed = 1.2 * flux * np.exp(rng.normal(0.0, 0.05, n_star))
    nothing, curve = np.zeros(column.size), np.ones((N_TIME, n_star))
    return Scene(instrument, prf, column, row, x, y, flux, *seen, listed, np.ones(n_star, bool), nothing, curve)


def with_stars(
    scene: Scene, x: float, y: float, flux: float, *, listed: bool, listed_flux: float | None = None
) -> Scene:
    """Add a star."""
    return replace(
        scene, x=np.append(scene.x, x), y=np.append(scene.y, y), flux=np.append(scene.flux, flux),
        listed_x=np.append(scene.listed_x, x), listed_y=np.append(scene.listed_y, y),
        listed_flux=np.append(scene.listed_flux, 1.2 * flux if listed_flux is None else listed_flux),
        is_listed=np.append(scene.is_listed, listed), curve=np.ones((N_TIME, scene.x.size + 1)),
    )  # fmt: skip


def at_some_side(scene: Scene, rng: np.random.Generator, beyond: float) -> tuple[float, float]:
    """Draw a place beyond the edge of a stamp, pixel."""
    wide, high = scene.column.max(), scene.row.max()
    along, side = rng.uniform(0.15, 0.85), int(rng.integers(4))
    where = ((along * wide, -0.5 - beyond), (along * wide, high + 0.5 + beyond), (-0.5 - beyond, along * high))
    return (*where, (wide + 0.5 + beyond, along * high))[side]


def wrong_magnitude(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let one star be listed 2 mag too bright or too faint."""
    listed = scene.listed_flux.copy()
    listed[rng.integers(listed.size)] *= 10.0 ** (0.8 * rng.choice([-1.0, 1.0]))
    return replace(scene, listed_flux=listed)


def companion(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let the catalogue lack a companion of the target."""
    away, turn = rng.uniform(0.7, 2.5), rng.uniform(0.0, 2.0 * np.pi)
    x, y = scene.x[0] + away * np.cos(turn), scene.y[0] + away * np.sin(turn)
    return with_stars(scene, x, y, scene.flux[0] * rng.uniform(0.05, 0.6), listed=False)


def offset(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let all positions be off by a pixel."""
    turn = rng.uniform(0.0, 2.0 * np.pi)
    return replace(scene, listed_x=scene.listed_x + np.cos(turn), listed_y=scene.listed_y + np.sin(turn))


def motion(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let one star have moved since the catalogue's epoch."""
    star, turn, away = rng.integers(scene.x.size), rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.5, 2.0)
    x, y = scene.listed_x.copy(), scene.listed_y.copy()
    x[star] += away * np.cos(turn)
    y[star] += away * np.sin(turn)
    return replace(scene, listed_x=x, listed_y=y)


def duplicate(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let one star be listed twice; each row has half of it."""
    star = int(rng.integers(scene.x.size))
    x, y = (one[star] + rng.normal(0.0, 0.02) for one in (scene.listed_x, scene.listed_y))
    half = 0.5 * scene.flux[star]
    flux, listed = scene.flux.copy(), scene.listed_flux[star]
    flux[star] = half
    return with_stars(replace(scene, flux=flux), x, y, half, listed=True, listed_flux=listed)


def beside(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let a bright star lie beside the stamp, unknown to the catalogue."""
    x, y = at_some_side(scene, rng, rng.uniform(0.2, 3.0))
    return with_stars(scene, x, y, scene.flux[0] * 10.0 ** rng.uniform(-0.5, 1.0), listed=False)


def listed_beside(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let a bright star lie beside the stamp, which the catalogue has."""
    x, y = at_some_side(scene, rng, rng.uniform(0.2, 3.0))
    return with_stars(scene, x, y, scene.flux[0] * 10.0 ** rng.uniform(-0.5, 1.0), listed=True)


def variable(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let the target vary by a third."""
    curve = scene.curve.copy()
    curve[:, 0] = 1.0 + 0.33 * np.sin(np.linspace(0.0, 2.0 * np.pi, N_TIME) + rng.uniform(0.0, 6.0))
    return replace(scene, curve=curve)


def gaps(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let a third of all values be missing, and whole images."""

    def spoil(flux: FloatArray, error: FloatArray) -> None:
        flux[rng.random(flux.shape) < 0.3] = np.nan
        flux[rng.integers(N_TIME)] = np.nan

    return replace(scene, spoil=spoil)


def bad_pixels(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let three pixels be dead, or hot, with errors that do not say so."""

    def spoil(flux: FloatArray, error: FloatArray) -> None:
        bad = rng.choice(flux.shape[1], 3, replace=False)
        flux[:, bad] = rng.choice([0.0, 0.3, 3.0]) * np.max(scene.flux) * rng.uniform(0.05, 0.3)

    return replace(scene, spoil=spoil)


def missing_columns(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let one or two columns be missing."""

    def spoil(flux: FloatArray, error: FloatArray) -> None:
        first = rng.integers(int(scene.column.max()))
        flux[:, np.isin(scene.column, first + np.arange(rng.integers(1, 3)))] = np.nan

    return replace(scene, spoil=spoil)


def cosmic_rays(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let cosmic rays hit one value in fifty."""

    def spoil(flux: FloatArray, error: FloatArray) -> None:
        hit = rng.random(flux.shape) < 0.02
        flux[hit] += rng.exponential(0.3 * scene.flux[0], np.count_nonzero(hit))

    return replace(scene, spoil=spoil)


def gradient(scene: Scene, rng: np.random.Generator) -> Scene:
    """Leave a sky with a slope."""
    level, slope = 10.0 ** rng.uniform(1.0, 2.5), rng.uniform(-1.0, 1.0, 2)
    x, y = (one / one.max() - 0.5 for one in (scene.column, scene.row))
    return replace(scene, light=level * (1.0 + slope[0] * x + slope[1] * y))


def negative_sky(scene: Scene, rng: np.random.Generator) -> Scene:
    """Subtract too much sky."""
    return replace(scene, light=np.full(scene.column.size, -(10.0 ** rng.uniform(0.7, 2.2))))


def counts(scene: Scene, rng: np.random.Generator) -> Scene:
    """Give counts of an exposure, not electron / s."""
    return replace(scene, unit=float(rng.choice([1426.0, 1 / 1426.0, 100.0])))


def nebula(scene: Scene, rng: np.random.Generator) -> Scene:
    """Lay an oval spot of light over the stamp."""
    width, ratio = rng.uniform(1.5, 5.0), rng.uniform(0.4, 1.0)
    x, y = (one - rng.uniform(0.0, one.max()) for one in (scene.column, scene.row))
    light = scene.flux[0] * 10.0 ** rng.uniform(-3.0, -1.7)
    return replace(scene, light=light * np.exp(-0.5 * (x**2 + (y / ratio) ** 2) / width**2))


def saturated(scene: Scene, rng: np.random.Generator) -> Scene:
    """Let the target be saturated and bleed."""
    flux = scene.flux.copy()
    factor = 10.0 ** rng.uniform(0.7, 1.5) * scene.instrument.saturation / flux[0]
    return replace(scene, flux=flux * factor, listed_flux=scene.listed_flux * factor, spills=True)


KINDS: dict[str, Callable[[Scene, np.random.Generator], Scene]] = {
    "plain": lambda scene, rng: scene, "magnitude": wrong_magnitude, "companion": companion, "offset": offset,
    "motion": motion, "duplicate": duplicate, "beside": beside, "listed-beside": listed_beside, "variable": variable,
    "gaps": gaps, "bad-pixels": bad_pixels, "columns": missing_columns, "cosmic": cosmic_rays, "gradient": gradient,
    "negative": negative_sky, "counts": counts, "nebula": nebula, "saturated": saturated,
}  # fmt: skip


def observe(scene: Scene, rng: np.random.Generator) -> tuple[PixelTable, SourceTable, FloatArray]:
    """Return pixels, catalogue, and true mean fluxes of its stars, in the units of the pixels."""
    instrument = scene.instrument
    exposure, floor = (1426.0, 5.0) if instrument is TESS else (9750.0, 1.0)
    star = star_light(scene.prf, scene)
    image = scene.curve @ star.T + scene.light
    if scene.spills:
        image = np.array([bleed(one, scene.column, scene.row, instrument.saturation) for one in image[:1]]).repeat(
            N_TIME, axis=0
        )
    error = np.sqrt(np.maximum(image, 0.0) / exposure + floor**2 * (0.2 if instrument is TESS else 1.0))
    flux = image + error * rng.standard_normal(image.shape)
    if scene.spoil is not None:
        scene.spoil(flux, error)
    frame = TangentPlane(290.0, 44.5, scene.x[0], scene.y[0], instrument.pixel_scale, float(rng.uniform(0.0, 360.0)))
    pixels = PixelTable(
        1500.0 + np.arange(N_TIME) / 48.0, scene.unit * flux, scene.unit * error,
        *frame.to_sky(scene.column, scene.row), scene.column, scene.row, instrument=instrument,
    )  # fmt: skip
    keep = np.flatnonzero(scene.is_listed)
    ra, dec = frame.to_sky(scene.listed_x[keep], scene.listed_y[keep])
    sources = SourceTable(tuple(f"star-{i}" for i in keep), ra, dec, scene.listed_flux[keep])
    return pixels, sources, (scene.unit * scene.flux * scene.curve.mean(axis=0))[keep]


def fit_scene(kind: str, seed: int) -> tuple[Machine, FloatArray, FloatArray, FloatArray]:
    """Return the Machine of a scene, bias and total error of its stars in units of the truth, and their flags."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind), 3])
    pixels, sources, truth = observe(KINDS[kind](draw_scene(rng), rng), rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        machine = bayesprf.fit(pixels, sources, quiet=True)
    n, seen = truth.size, np.maximum(np.isfinite(machine.ws).sum(axis=0), 1)
    noise = np.sqrt(np.nansum(machine.werrs**2, axis=0) / seen**2)
    total = np.hypot(machine.common_errors.std, noise)[:n]
    mean = np.where(np.isfinite(machine.ws).any(axis=0), np.nansum(machine.ws, axis=0) / seen, np.nan)
    flags = np.bitwise_and.reduce(machine.flags, axis=0)[:n]
    return machine, mean[:n] / truth - 1.0, total / truth, flags


def main() -> None:
    """Print one line per kind."""
    seeds = [int(one) for one in next(a for a in sys.argv if a.startswith("seeds="))[6:].split(",")]
    totals = np.zeros(7, int)
    for kind in [one for one in KINDS if one in sys.argv] or list(KINDS):
        rows, started, silent, failed = [], time.process_time(), 0, 0
        for seed in seeds:
            try:
                machine, bias, total, flags = fit_scene(kind, seed)
            except (BayesprfError, ArithmeticError, np.linalg.LinAlgError) as error:
                print(f"  {kind} {seed}: {type(error).__name__}: {error}")
                failed += 1
                continue
            known = np.isfinite(bias)
            z = np.abs(bias) / np.maximum(total, 1e-12)
            told = (flags & SPEAKING) != 0
            wrong = known & (z > 4.0)
            silent += bool(np.any(wrong & ~told))
            rows.append(np.stack([z, told, wrong, known], axis=1))
            for star in np.flatnonzero(wrong & ~told) if "list" in sys.argv else []:
                print(
                    f"  {kind} {seed}: star {star} of {z.size}, {machine.pixels.instrument.name}"
                    f" {100 * bias[star]:+.1f} % +- {100 * total[star]:.1f}, {machine.ws[:, star].mean():.0f} e/s,"
                    f" flags {flags[star]}"
                    f" {[str(one) for one in machine.verdict.cures]}"
                )
        if not rows:
            continue
        z, told, wrong, known = np.concatenate(rows).T
        good, wrong, told = (known > 0), wrong > 0, told > 0
        line = [
            len(seeds),
            failed,
            silent,
            good.sum(),
            wrong.sum(),
            (wrong & ~told).sum(),
            (good & ~wrong & told).sum(),
        ]
        totals += np.array(line, int)
        seconds = (time.process_time() - started) / len(seeds)
        print(
            f"| {kind} | {' | '.join(str(int(one)) for one in line)} | {100 * np.mean(z[good] < 0.994):.0f}"
            f" | {100 * np.mean(z[good] < 1.96):.0f} | {seconds:.1f} |",
            flush=True,
        )
    print(f"| all | {' | '.join(str(one) for one in totals)} |")


if __name__ == "__main__":
    main()
