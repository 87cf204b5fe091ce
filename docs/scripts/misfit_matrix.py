"""Misfit matrix: every family of PRF x {bright, faint, isolated, blended}: bias, scatter and coverage of the fluxes.

Developed on the families and seeds of DEVELOP; JUDGE was held back until the end and run once.

    python docs/scripts/misfit_matrix.py [develop|judge|colors] [METHOD] [seeds=41,42] [order0] [table] [family ...]

The first line of a family has the root mean square of all stars' errors in units of those claimed, field by field.

METHOD: `joint`; `build`, plain `build_shape_model`; `old`, plain
`refine_scene`; `machine`, ``refine_scene(method="joint")``. With `table` the lines are those of the page of evidence.
`colors` are fields whose PRF follows the colours of the stars, to be fitted by `build` with `color_column`, and without
it with `nocolor`; developed on the seeds 21 to 24.

BAYESPRF_TEST_DATA names the folder with the mission's tables (prf-models/).
"""

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from bayesprf.instruments import TESS
from bayesprf.io.prf_files import read_prf_table
from bayesprf.machine import Machine
from bayesprf.photometry.background import build_background
from bayesprf.prf.joint.objective import JointOptions, fit_joint
from bayesprf.prf.joint.start import JointSettings, build_joint
from bayesprf.scene.image import reduce_image
from bayesprf.settings import Background
from bayesprf.simulation.foreign import (
    ForeignField,
    TablePrf,
    Troubles,
    TruncatedPrf,
    airy_intensity,
    gaussian_table,
    integrate_table,
    make_foreign,
    scaled_mixture,
)
from bayesprf.simulation.settings import CASES, FieldSettings, replace
from bayesprf.simulation.true_prf import Moffat, MoffatMixture, asymmetric_prf

_FILES = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
DATA = _FILES / "prf-models"
N_TIME = 10
# Wrong catalogue: scale, scatter of fluxes, positions (pixel), common offset (pixel).
WRONG = {"catalog_scale": 1.3, "catalog_scatter": 0.05, "centroid_offset": (0.07, -0.05)}


def stamps(**changes):
    """Return 200 stars in Kepler cutouts."""
    exposure = 60.0 * 1625.0 / N_TIME
    return replace(
        CASES["medium"], n_time=N_TIME, mag_range=(11.0, 18.0), exposure=exposure, read_noise=1480.0 * np.sqrt(6.0),
        position_scatter=0.05, reach_level=1e-5, **{**WRONG, **changes},
    )  # fmt: skip


def tess_image(**changes):
    """Return 150 stars on 60 x 60 TESS pixels."""
    return FieldSettings(
        n_source=150, n_time=N_TIME, layout="image", image_shape=(60, 60), mag_slope=0.25,
        instrument=TESS, exposure=1426.0, read_noise=270.0, background=150.0, position_scatter=0.5, reach_level=1e-5,
        **{"mag_range": (8.5, 15.0), **WRONG, **changes},
    )  # fmt: skip


def tess_tables():
    """Return a PRF that is bilinear between the nine official tables."""
    grid = {}
    for path in sorted((DATA / "tess").glob("*.fits.gz")):
        one = read_prf_table(path)
        grid[one.column, one.row] = one
    columns, rows = sorted({c for c, _ in grid}), sorted({r for _, r in grid})
    values = np.array([[grid[c, r].values for c in columns] for r in rows])

    def at(u, v):
        x, y = (np.clip(1.0 + one, 0.0, 2.0) for one in (u, v))
        i, j = min(int(x), 1), min(int(y), 1)
        a, b = x - i, y - j
        mixed = (1 - b) * ((1 - a) * values[j, i] + a * values[j, i + 1])
        mixed = mixed + b * ((1 - a) * values[j + 1, i] + a * values[j + 1, i + 1])
        return TablePrf(mixed, 1.0 / 9.0)

    return at


def one_table(name):
    """Return one official table everywhere."""
    table = TablePrf(read_prf_table(next((DATA / "tess").glob(f"*{name}*"))).values, 1.0 / 9.0)
    return lambda u, v: table


def etem2():
    """Return Kepler's optical PSF of the field's edge, integrated over pixels."""
    from astropy.io import fits

    with fits.open(DATA / "kepler_etem2_psf_focus_1_z5f5.fits.gz") as file:
        table = integrate_table(np.asarray(file[0].data, np.float64), 0.5839 / 27.0)
    return lambda u, v: table


def kepler_mog(extension=5):
    """Return a mixture of Gaussians fitted to the official Kepler PRF."""
    from astropy.io import fits

    names = ("amp", "xpos", "ypos", "xvar", "covar", "yvar")
    with fits.open(DATA / "kplr07.4_2011265_prf.mog.fits") as file:
        parts = np.array([[row[name] for name in names] for row in file[extension].data], np.float64)
    table = gaussian_table(parts)
    return lambda u, v: table


def airy():
    """Return an obstructed telescope with vanes."""
    table = integrate_table(airy_intensity(), 1.0 / 8.0)
    return lambda u, v: table


def varying(amount):
    """Return the standard PRF, wider by `amount` from the centre to the edge of the field."""
    prf = asymmetric_prf()
    return lambda u, v: scaled_mixture(prf, 1.0 + amount * u)


def all_varying(u, v):
    """Return a PRF whose width, ellipticity, coma and wing vary."""
    return scaled_mixture(
        asymmetric_prf(
            ellipticity=0.15 + 0.08 * v, angle=0.6 + 0.5 * u, coma_fraction=0.15 + 0.08 * u * v,
            wing_fraction=0.06 + 0.02 * u,
        ),
        1.0 + 0.05 * u,
    )  # fmt: skip


def double_moffat(u, v):
    """Return a sharp core in a wide shallow halo."""
    return MoffatMixture((Moffat(0.8, 0.9, 0.75, 3.5, 0.3), Moffat(0.2, 2.2, 2.4, 2.2, 1.0, 0.1, -0.1)))


def ending(u, v):
    """Return the standard PRF with wings that end between 8 and 12 pixels."""
    return TruncatedPrf(asymmetric_prf(), 8.0, 12.0)


def gaussians(u, v):
    """Return four Gaussians of growing width, integrated over pixels."""
    parts = [
        [0.6, 0, 0, 0.35, 0.05, 0.3],
        [0.25, 0.2, 0.1, 1.0, 0, 0.8],
        [0.1, 0, 0, 4, 0.5, 3],
        [0.05, 0, 0, 12, 0, 12],
    ]
    # As wide as these once integrated over a pixel, whose variance is 1 / 12 per axis.
    optical = np.array(parts) - np.array([0.0, 0.0, 0.0, 1.0, 0.0, 1.0]) / 12.0
    return integrate_table(gaussian_table(optical, half=16.0, per_pixel=16).values, 1.0 / 16.0)


def colored(amount):
    """Return the standard PRF, wider by `amount` for two standard deviations of colour."""
    prf = asymmetric_prf()
    return lambda u, v, color: scaled_mixture(prf, 1.0 + amount * (color - 1.0) / 0.8)


def any_color(mag, rng):
    """Return colours of stars as Gaia has them, 1.0 +- 0.4 mag."""
    return rng.normal(1.0, 0.4, mag.size)


def redder_when_faint(mag, rng):
    """Return colours whose variance is half the magnitudes'."""
    return 1.0 + 0.17 * (mag - np.median(mag)) + rng.normal(0.0, 0.28, mag.size)


SKY = Troubles(sky=(150.0, 40.0, 25.0))
DEVELOP = {
    "constant": (stamps(), varying(0.0), None, (21, 22)),
    "width 5 %": (stamps(), varying(0.05), None, (21, 22)),
    "wings end": (stamps(), ending, None, (21, 22)),
    "Kepler Gaussians": (stamps(), lambda: kepler_mog(), None, (21, 22)),
    "TESS one table": (tess_image(), lambda: one_table("row1025-col1069"), None, (21, 22)),
    "TESS sky": (tess_image(), lambda: one_table("row1025-col1069"), SKY, (21, 22)),
    "TESS sky saturated": (
        tess_image(mag_range=(5.0, 15.0)),
        lambda: one_table("row1025-col1069"),
        replace(SKY, bleeding=True),
        (21, 22),
    ),
    "TESS sky missing": (tess_image(), lambda: one_table("row1025-col0557"), replace(SKY, missing_faint=0.5), (21, 22)),
}
JUDGE = {
    "width 1 %": (stamps(), varying(0.01), None, (31, 32)),
    "width 10 %": (stamps(), varying(0.10), None, (31, 32)),
    "all varies": (stamps(), all_varying, None, (31, 32)),
    "double Moffat": (stamps(), double_moffat, None, (31, 32)),
    "Gaussians": (stamps(), gaussians, None, (31, 32)),
    "Airy, vanes": (stamps(), airy, None, (31, 32)),
    "Kepler ETEM2": (stamps(), etem2, None, (31, 32)),
    "TESS nine tables": (tess_image(), tess_tables, None, (31, 32)),
    "Kepler Gaussians, corner": (stamps(), lambda: kepler_mog(2), None, (31, 32)),
    "TESS, sky": (tess_image(), lambda: one_table("row0513-col0557"), SKY, (31, 32)),
    "TESS, sky, saturated": (
        tess_image(mag_range=(5.0, 15.0)), lambda: one_table("row0513-col0557"), replace(SKY, bleeding=True), (31, 32)
    ),
    "TESS, sky, faint missing": (
        tess_image(), lambda: one_table("row1536-col1580"), replace(SKY, missing_faint=0.5), (31, 32)
    ),
}  # fmt: skip


COLORS = {
    "colour 0 %": (stamps(), colored(0.0), None, (31, 32, 33, 34), any_color),
    "colour 1 %": (stamps(), colored(0.01), None, (31, 32, 33, 34), any_color),
    "colour 3 %": (stamps(), colored(0.03), None, (31, 32, 33, 34), any_color),
    "colour 3 %, redder faint": (stamps(), colored(0.03), None, (31, 32, 33, 34), redder_when_faint),
}


def fit_new(field: ForeignField, order: int):
    """Fit with one objective; return flux and error."""
    pixels = field.field.pixels
    image, settings = reduce_image(pixels), JointSettings(order=order)
    if np.any(field.sky):
        settings = replace(settings, sky=build_background(pixels, image, Background("image", order=1)))
    problem = build_joint(pixels, field.field.sources, image, pixels.spilled, settings)
    fit = fit_joint(*problem, JointOptions())
    note = f"{fit.n_iter} iterations{'' if fit.converged else ', NOT CONVERGED'}"
    return fit.flux, fit.flux_err, note + sky_note(field, fit.problem.sky @ fit.state.sky)


def sky_note(field: ForeignField, sky):
    """Say how far the fitted sky is off, in the middle and at its worst."""
    if not np.any(field.sky):
        return ""
    error = (sky - field.sky)[~field.field.pixels.spilled]
    return f", sky {np.median(error):+.1f} e/s, at most {error[np.argmax(np.abs(error))]:+.1f}"


def fit_machine(field: ForeignField, order: int):
    """Fit with one objective as `refine_scene(method="joint")` does, and the fluxes of all cadences after it."""
    pixels = field.field.pixels
    background = Background("image", order=1) if np.any(field.sky) else None
    machine = Machine.from_pixels(pixels, field.field.sources, quiet=True, background=background)
    machine.refine_scene(method="joint", field_variation=order)
    machine.fit_model()
    return told(field, machine)


def told(field: ForeignField, machine: Machine):
    """Return flux and total error of a Machine, and which fit it chose."""
    total = np.hypot(machine.common_errors.std, machine.werrs.mean(axis=0) / np.sqrt(machine.pixels.n_time))
    joint = machine.fit.prf.joint
    note = f"order {joint.prf.order}{', colour' if joint.prf.colored else ''}"
    if np.any(field.sky):
        note += sky_note(field, machine.background_flux.mean(axis=0))
    return machine.ws.mean(axis=0), total, note


def fit_build(field: ForeignField, order: int):
    """Fit as `build_shape_model` does by default; return flux and total error."""
    return fit_old(field, order, refine=False)


def fit_old(field: ForeignField, order: int, *, refine: bool = True):
    """Fit as `refine_scene` does by default; return flux and total error."""
    pixels = field.field.pixels
    background = Background("image", order=1) if np.any(field.sky) else None
    machine = Machine.from_pixels(pixels, field.field.sources, quiet=True, background=background)
    color = {"color_column": "color"} if "color" in field.field.sources.columns and "nocolor" not in sys.argv else {}
    (machine.refine_scene if refine else machine.build_shape_model)(**color)
    machine.fit_model()
    return told(field, machine)


def score(field: ForeignField, flux, error):
    """Return (number, bias, scatter, claimed, 68, 95) of each kind of star."""
    share = np.asarray(field.field.prf_matrix.pattern.sum(axis=0)).ravel()[field.listed]
    everyone = np.stack([field.field.column, field.field.row], axis=1)
    nearest = cKDTree(everyone).query(field.position, k=2)[0][:, 1]
    mag = -2.5 * np.log10(field.flux / field.field.settings.instrument.flux_from_mag(0.0))
    bright, faint = np.quantile(mag, [0.15, 0.5])
    good = (share > 0.5) & np.isfinite(flux) & (error > 0)
    kinds = {
        "bright": mag < bright, "faint": mag > faint, "isolated": nearest > 4.0, "blended": nearest < 1.5,
        "all": np.ones(mag.size, bool),
    }  # fmt: skip
    return {name: (good & kind, flux / field.flux - 1.0, error / field.flux) for name, kind in kinds.items()}


def _bold(share: float, band: tuple[int, int]) -> str:
    """Return a percentage, in bold outside its band."""
    text = f"{100 * share:.0f}"
    return text if band[0] <= int(text) <= band[1] else f"**{text}**"


def main() -> None:
    """Print one line per family and kind."""
    which = JUDGE if "judge" in sys.argv else COLORS if "colors" in sys.argv else DEVELOP
    named = {"old": fit_old, "machine": fit_machine, "build": fit_build}
    method = next((named[one] for one in sys.argv if one in named), fit_new)
    asked = next((one.removeprefix("seeds=") for one in sys.argv if one.startswith("seeds=")), "")
    order = next((int(one[-1]) for one in sys.argv if one.startswith("order")), 1)
    chosen = [one for one in sys.argv[1:] if one in which] or list(which)
    for family in chosen:
        settings, prf, troubles, seeds, *colors = which[family]
        seeds = tuple(int(one) for one in asked.split(",")) if asked else seeds
        prf_at = prf if prf.__code__.co_argcount else prf()
        rows, started = {}, time.process_time()
        notes = []
        for seed in seeds:
            rng, more = np.random.default_rng(seed), dict(zip(("colors",), colors, strict=False))
            field = make_foreign(settings, prf_at, rng=rng, troubles=troubles, **more)
            started = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                flux, error, note = method(field, order)
            scores = score(field, flux, error)
            mask, bias, claimed = scores["all"]
            spread = np.sqrt(np.mean((bias / claimed)[mask] ** 2))
            notes.append(f"{note} {time.process_time() - started:.1f} s, rms z {spread:.2f}")
            for name, (mask, bias, claimed) in scores.items():
                rows.setdefault(name, []).append((bias[mask], claimed[mask]))
        print(f"## {family}: {'; '.join(notes)}")
        for name, parts in rows.items():
            bias, claimed = (np.concatenate(one) for one in zip(*parts, strict=True))
            z, middle = np.abs(bias / claimed), np.median(bias)
            fields = " ".join(f"{100 * np.median(one):+.3f}" if one.size else "none" for one, _ in parts)
            cover = np.mean(z < 0.994), np.mean(z < 1.96)
            scatter, claims = 148.26 * np.median(np.abs(bias - middle)), 100 * np.median(claimed)
            if "table" in sys.argv:
                shares = " | ".join(_bold(one, band) for one, band in zip(cover, ((60, 76), (90, 98)), strict=True))
                print(f"| {family} | {name} | {bias.size} | {fields} | {scatter:.3f} | {claims:.3f} | {shares} |")
                continue
            print(
                f"{name:9s} n {bias.size:4d}  bias % {fields}  scatter {scatter:.3f}"
                f"  claimed {claims:.3f}  cover {cover[0]:.2f} {cover[1]:.2f}"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
