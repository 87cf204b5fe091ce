"""Do errors stay right where pixels are missing, share their noise, or a star is listed twice?

    python docs/scripts/borders.py [number of fields] [first seed]

Says every field as it is done, and writes docs/evidence/borders.md: scatter of light curves over their quoted errors,
median over the stars with most of their light on the pixels, range over fields of 28 stars in 24 cutouts and 100
cadences.
"""

import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bayesprf import Machine
from bayesprf.arrays import FloatArray
from bayesprf.errors import BayesprfWarning
from bayesprf.flags import QualityFlag
from bayesprf.scene.sources import SourceTable
from bayesprf.simulation.fields import SimulatedField, make_field

PAGE = Path(__file__).parents[1] / "evidence" / "borders.md"
SHARES, BANDS, N_TIME = (0.01, 0.1, 0.3), (0.0, 0.5, 2.0, 5.0), 100
TWINS = (1e-6, 1e-3, 0.03, 0.1, 0.3, 1.0)

HEAD = """# Missing pixels, rolling bands, and stars listed twice

Made by `python docs/scripts/borders.py {count} {seed}`: scatter of light curves about the true ones over their quoted
errors, from cadence to cadence: the median over the stars of a field that have most of their light on the pixels, and
its range over {count} fields of 28 stars (magnitudes 11 to 16, 24 cutouts, {n_time} cadences). With {n_time} cadences
and 25 stars the median of right errors scatters by 0.02. "Time model": stars move by up to 0.1 pixel, and it follows.

| pixels missing | static | time model |
| --- | --- | --- |
"""
BAND_HEAD = """
Rolling bands: every cutout and cadence has a level of its own, drawn from a normal distribution of this standard
deviation. The cure that the flag names is `background="stamp"`.

| band, electron / s | CORRELATED_NOISE | scatter over error | with the cure | flagged then |
| --- | --- | --- | --- | --- |
"""

TWIN_HEAD = """
A star listed twice: the brightest star has a second row, as bright, at this distance to the north. The other stars'
mean fluxes move by this much, in their total errors: the largest of all stars, over the fields. `read_catalog`, and
with it `bayesprf.fit`, merges rows within 0.01 arcsec; here both rows are given. Two rows with free fluxes are one star
with a free position along their line, which the data place to some 0.2 mas: neighbours within 1.5 pixels, 8 to 70 times
fainter, get what that moves, and all others move by less than 0.1.

| distance, arcsec | others move by at most | the sum of the two, total errors | flagged DEGENERATE_BLEND |
| --- | --- | --- | --- |
"""


def drift(time: FloatArray) -> FloatArray:
    """Move stars by up to 0.1 pixel, smoothly."""
    phase = (time - time[0]) / 1.5
    return 0.1 * np.stack([np.sin(phase), np.cos(phase)], axis=1)


def make(seed: int, *, moving: bool = False) -> SimulatedField:
    """Return a field, drifting or not."""
    settings = {"n_source": 28, "n_time": N_TIME, "n_stamp": 24, "mag_range": (11.0, 16.0)}
    return make_field(rng=np.random.default_rng(seed), drift=drift if moving else None, **settings)


def scatter(machine: Machine, truth: FloatArray) -> FloatArray:
    """Return scatter over quoted error of each star with most of its light on the pixels, NaN for others.

    What all cadences have in common is taken off first: it is no scatter, and errors differ from cadence to cadence.
    """
    fit = machine.fit.latest_flux
    lit = np.asarray(machine.mean_model.sum(axis=1)).ravel() > 0.7
    away = fit.flux - truth
    away = (away - np.nanmean(np.where(lit, away, 0.0), axis=0)) / fit.flux_err
    return np.where(lit, np.nanstd(np.where(lit, away, 0.0), axis=0), np.nan)


def missing(seed: int, *, moving: bool) -> dict[str, float]:
    """Return the scatter without holes, with pixels missing at random, and with the brightest missing by turns."""
    field = make(seed, moving=moving)
    found, rng = {}, np.random.default_rng([seed, 1])
    peak = int(np.argmax(field.pixels.flux.mean(axis=0)))
    bright = np.zeros(field.pixels.flux.shape, bool)
    bright[::3, peak] = True
    star = int(np.argmax(field.true_design()[peak].toarray().ravel() * field.mean_flux))
    holes = {"none": np.zeros_like(bright), **{f"{share:.0%}": rng.random(bright.shape) < share for share in SHARES}}
    for name, hole in {**holes, "brightest pixel of a star, every third cadence": bright}.items():
        pixels = replace(field.pixels, flux=np.where(hole, np.nan, field.pixels.flux))
        machine = Machine.from_pixels(pixels, field.sources, quiet=True)
        machine.build_shape_model()
        if moving:
            machine.build_time_model()
        machine.fit_model(fit_va=moving, n_threads=1)
        ratio = scatter(machine, field.flux)
        found[name] = float(ratio[star] if hole is bright else np.nanmedian(ratio))
    sys.stderr.write(f"field {seed}, {'moving' if moving else 'static'}: {found}\n")
    return found


def banded(seed: int, level: float) -> tuple[bool, float, float, bool]:
    """Return whether a band is flagged, the scatter, that with a sky per cutout, and whether it is flagged then."""
    field = make(seed)
    pixels, rng = field.pixels, np.random.default_rng([seed, 2])
    band = level * rng.standard_normal((pixels.n_time, int(pixels.stamp.max()) + 1))
    found: list[tuple[bool, float]] = []
    for background in (None, "stamp"):
        given = replace(pixels, flux=pixels.flux + band[:, pixels.stamp])
        machine = Machine.from_pixels(given, field.sources, quiet=True, background=background)
        machine.build_shape_model()
        machine.fit_model(n_threads=1)
        flagged = machine.verdict.find(QualityFlag.CORRELATED_NOISE) is not None
        found.append((flagged, float(np.nanmedian(scatter(machine, field.flux)))))
    sys.stderr.write(f"field {seed}, band {level:g}, without and with a sky: {found}\n")
    return found[0][0], found[0][1], found[1][1], found[1][0]


def doubled(seed: int) -> list[tuple[float, float, bool]]:
    """Return how far others move at each distance, and the sum of the two rows, and whether these are flagged."""
    field = make(seed)
    sources, n = field.sources, field.sources.n_source
    star = int(np.argmax(sources.flux * (np.asarray(field.true_design().sum(axis=0)).ravel() > 0.7)))
    clean = fitted(field, sources)
    error = np.median(clean.werrs_total, axis=0)
    found = []
    for arcsec in TWINS:
        places = np.append(sources.ra_deg, sources.ra_deg[star]), np.append(sources.dec_deg, sources.dec_deg[star])
        places[1][n] += arcsec / 3600.0
        names, flux = (*sources.source_id, "again"), np.append(sources.flux, sources.flux[star])
        machine = fitted(field, SourceTable(names, *places, flux))
        away = np.abs((machine.ws[:, :n] - clean.ws).mean(axis=0)) / error
        both = (machine.ws[:, star] + machine.ws[:, n] - clean.ws[:, star]).mean() / error[star]
        flagged = bool(np.all(machine.flags[0, [star, n]] & QualityFlag.DEGENERATE_BLEND))
        found.append((float(np.nanmax(np.delete(away, star))), float(abs(both)), flagged))
    sys.stderr.write(f"field {seed}, listed twice at {TWINS}: {found}\n")
    return found


def fitted(field: SimulatedField, sources: SourceTable) -> Machine:
    """Return the fit of a field with a catalogue."""
    machine = Machine.from_pixels(field.pixels, sources, quiet=True)
    machine.build_shape_model()
    machine.fit_model(n_threads=1)
    return machine


def _range(values: Iterable[float], form: Callable[[float], str] = "{:.2f}".format) -> str:
    low, middle, high = np.quantile(list(values), [0.0, 0.5, 1.0])
    return f"{form(middle)} ({form(low)} to {form(high)})"


def main(count: int, seed: int) -> None:
    """Measure, print and write the page."""
    seeds = range(seed, seed + count)
    still, moving = ([missing(one, moving=drifts) for one in seeds] for drifts in (False, True))
    lines = [
        f"| {name} | {_range(one[name] for one in still)} | {_range(one[name] for one in moving)} |"
        for name in still[0]
    ]
    bands = []
    for level in BANDS:
        judged = [banded(one, level) for one in seeds]
        flagged, after = (sum(one[place] for one in judged) for place in (0, 3))
        ratios = " | ".join(_range(one[place] for one in judged) for place in (1, 2))
        bands.append(f"| {level:g} | {flagged} of {count} | {ratios} | {after} of {count} |")
    twins = []
    for arcsec, judged in zip(TWINS, zip(*(doubled(one) for one in seeds), strict=True), strict=True):
        others, both = (max(one[place] for one in judged) for place in (0, 1))
        twins.append(f"| {arcsec:g} | {others:.3f} | {both:.3f} | {sum(one[2] for one in judged)} of {count} |")
    tables = ["\n".join(lines), BAND_HEAD + "\n".join(bands), TWIN_HEAD + "\n".join(twins)]
    text = HEAD.format(count=count, seed=seed, n_time=N_TIME) + "\n".join(tables)
    sys.stdout.write(text + "\n")
    PAGE.write_text(text + "\n")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesprfWarning)
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, int(sys.argv[2]) if len(sys.argv) > 2 else 300)
