"""Which errors should weigh the pixels? Light curves and quoted errors with those given, averaged and modelled.

    python docs/scripts/pixel_errors.py [SEED ...]

Simulated fields with errors made from the measured counts, as the missions make them: at rest, with a jitter of 0.02
pixel and with a drift of 0.22 pixel (half peak to peak), without and with the time model, and with eclipses of 50 %
and stars that vary by 20 %. Bright stars are the brightest quarter. Then real files, if `BAYESPRF_TEST_DATA`
names their directory: scatter from point to point and slow trends (means of 25 cadences), with and without the time
model; and slow trends of the stars of the TESS file beside the pointing that the mission measured.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import bayesprf as bp
from bayesprf.instruments import KEPLER
from bayesprf.scene.pixel_errors import PIXEL_ERRORS
from bayesprf.simulation.fields import make_field

DATA = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
N_TIME, N_SOURCE = 120, 40


def changes(scene, rng):
    """Return motion and variability of a scene."""
    ramp = np.linspace(-1.0, 1.0, N_TIME)
    if scene.startswith("jitter 0.02 pixel"):
        return {"drift": 0.02 * rng.standard_normal((N_TIME, 2))}
    if scene.startswith("drift 0.22 pixel"):
        return {"drift": 0.22 * np.stack([ramp, 0.5 * ramp**2], axis=1)}
    if scene == "eclipses and variable stars":
        factor = np.ones((N_TIME, N_SOURCE))
        factor[50:70, ::4] = 0.5
        factor[:, 1::4] += 0.2 * np.sin(8.0 * ramp)[:, None]
        return {"variability": factor}
    return {}


def simulate(scene, seed):
    """Return a field whose errors follow its counts."""
    rng = np.random.default_rng(seed)
    field = make_field(
        rng=rng, n_source=N_SOURCE, n_stamp=36, n_time=N_TIME, stamp_sides=(7, 8, 9), mag_range=(10.0, 16.0),
        **changes(scene, rng),
    )  # fmt: skip
    variance = np.maximum(field.pixels.flux, 0.0) / field.settings.exposure + field.settings.noise_floor**2
    return field, replace(field.pixels, flux_err=np.sqrt(variance))


def judge(field, flux, err):
    """Return scatter over the bound, scatter over the quoted error, bias and depth error of bright and of all stars."""
    bound = np.array([field.cramer_rao(time) for time in range(0, N_TIME, 10)]).mean(axis=0)
    ratio = flux / field.flux
    scatter = ratio.std(axis=0) * field.mean_flux
    inside = np.zeros(N_TIME, bool)
    inside[50:70] = True
    depth = ratio[inside].mean(axis=0) / ratio[~inside].mean(axis=0) - 1.0
    bright = field.mean_flux >= np.quantile(field.mean_flux, 0.75)
    return {
        "bright, scatter / bound": np.median((scatter / bound)[bright]),
        "all, scatter / bound": np.median(scatter / bound),
        "all, scatter / error": np.median(scatter / np.median(err, axis=0)),
        "bright, bias %": 100.0 * np.median((ratio.mean(axis=0) - 1.0)[bright]),
        "bright, cadences 50-70 against others, ppm": 1e6 * np.median(np.abs(depth[bright])),
    }


def simulated(seeds):
    """Print the table of the simulated fields, medians over the seeds."""
    print(f"seeds {', '.join(map(str, seeds))}")
    for scene in ("static", "jitter 0.02 pixel", "jitter 0.02 pixel, time model", "drift 0.22 pixel",
                  "drift 0.22 pixel, time model", "eclipses and variable stars"):  # fmt: skip
        rows = {name: [] for name in PIXEL_ERRORS}
        for seed in seeds:
            field, pixels = simulate(scene, seed)
            machine = bp.Machine.from_pixels(pixels, field.sources, quiet=True)
            machine.build_shape_model()
            moving = scene.endswith("time model")
            if moving:
                machine.build_time_model(poly_order=3)
            for name in PIXEL_ERRORS:
                machine.fit_model(fit_va=moving, pixel_errors=name)
                latest = machine.fit.latest_flux
                rows[name].append(judge(field, latest.flux, latest.flux_err))
        for name, found in rows.items():
            table = pd.DataFrame(found).median()
            if scene == "static" and name == PIXEL_ERRORS[0]:
                print("| scene | pixel_errors | " + " | ".join(table.index) + " |\n|" + "---|" * (2 + table.size))
            print(f"| {scene} | {name} | " + " | ".join(f"{one:.3g}" for one in table) + " |", flush=True)


def point_to_point(curve):
    return 1e6 * np.nanstd(np.diff(curve)) / np.sqrt(2.0) / np.nanmedian(curve)


def slow_trend(curve, size=25):
    n = curve.size // size
    return 1e6 * np.nanstd(curve[: n * size].reshape(n, size).mean(axis=1)) / np.nanmedian(curve)


def real(label, pixels, sources, stars):
    """Print scatter and trends of the stars of a real stack."""
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model()
    for name in PIXEL_ERRORS:
        machine.fit_model(fit_va=True, pixel_errors=name)
        curves, err, moving = (one[:, stars].T for one in (machine.ws, machine.werrs, machine.ws_va))
        columns = [
            np.median([point_to_point(one) for one in curves]),
            np.median([1e6 * np.median(e) / np.median(c) for c, e in zip(curves, err, strict=True)]),
            np.median([slow_trend(one) for one in curves]),
            np.median([point_to_point(one) for one in moving]),
            np.median([slow_trend(one) for one in moving]),
        ]
        print(f"| {label} | {name} | " + " | ".join(f"{one:,.0f}" for one in columns) + " |", flush=True)


def beside_pointing(pixels, sources, stars):
    """Print slow trends of stars with the PRF held still, less what the mission's pointing makes of them, and followed.

    What a pixel of motion does to a flux is found from differences of successive cadences, which hold no slow change.
    """
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
    machine.build_shape_model()
    move = pixels.pos_corr - pixels.pos_corr.mean(axis=0)
    curves = []
    for follow in (False, True):
        machine.fit_model(follow_jitter=follow)
        curves.append(machine.ws[:, stars] / np.median(machine.ws[:, stars], axis=0))
    held, followed = curves
    slope = np.linalg.lstsq(np.diff(move, axis=0), np.diff(held, axis=0), rcond=None)[0]
    print("\n| star | held still | less the mission's pointing | followed |\n|" + "---|" * 4)
    for star, *found in zip(stars, held.T, (held - move @ slope).T, followed.T, strict=True):
        print(f"| {star} | " + " | ".join(f"{slow_trend(one):,.0f}" for one in found) + " |", flush=True)


def targets(folder, pattern):
    """Return pixels and the stars of their headers."""
    header = pd.read_csv(DATA / "tpf_header_sources.csv")
    rows = header[header["file"].isin({f"{folder}/{path.name}" for path in (DATA / folder).glob(pattern)})]
    flux = KEPLER.zero_flux * 10.0 ** (-0.4 * (rows["kepmag"] - KEPLER.zero_flux_mag))
    frame = pd.DataFrame(
        {"source_id": rows["object"], "ra": rows["ra_obj"], "dec": rows["dec_obj"], "phot_g_mean_flux": flux}
    )
    return bp.read_tpfs(str(DATA / folder / pattern)), bp.read_catalog(frame)


def real_files():
    """Print the table of the real files."""
    heads = "point to point", "quoted", "slow trends", "time model: point to point", "time model: slow trends"
    print("\n| files, ppm | pixel_errors | " + " | ".join(heads) + " |\n|" + "---|" * (2 + len(heads)))
    pixels, sources = targets("kepler-tpf/q12-ch04-250cad", "*.fits.gz")
    real("Kepler, six files, median star", pixels, sources, np.arange(sources.n_source))
    pixels = bp.read_tpfs(DATA / "k2-tpf" / "ktwo221312395-c91_lpd-targ.fits.gz")
    pixels = replace(pixels, flux=pixels.flux - np.percentile(np.nanmean(pixels.flux, axis=0), 20.0))
    frame = pd.read_csv(DATA / "k2-tpf" / "ktwo221312395-c91_detections.csv")
    target = pixels.meta["targets"][0]
    star = int(np.argmin(np.hypot(frame.ra - target["ra_deg"], frame.dec - target["dec_deg"])))
    real("K2 EPIC 221312395", pixels, bp.read_catalog(frame, flux_column="sum3x3"), [star])
    pixels = bp.read_tpfs(DATA / "tess-tpf" / "tess-tic273589987-s15-100cad.fits.gz")
    frame = pd.read_csv(DATA / "tess-tpf" / "tess-tic273589987-s15_detections.csv")
    target = pixels.meta["targets"][0]
    star = int(np.argmin(np.hypot(frame.ra - target["ra_deg"], frame.dec - target["dec_deg"])))
    sources = bp.read_catalog(frame, flux_column="sum3x3")
    real("TESS TIC 273589987", pixels, sources, [star])
    beside_pointing(pixels, sources, np.argsort(-frame["sum3x3"].to_numpy())[:3])


if __name__ == "__main__":
    simulated([int(one) for one in sys.argv[1:]] or [1, 2])
    if DATA.is_dir():
        real_files()
