"""Real series with moving stars: scatter with and without the time model, beside the mission's apertures.

    python docs/scripts/long_series.py

Needs the real files (`BAYESPRF_TEST_DATA` names their directory). Prints, per light curve, the standard deviation of
flux over its median, and the 6-hour scatter: 1.48 MAD of the means of 12 consecutive cadences after a running median
over two days is subtracted (mean over the 12 cadences with which the first dozen can begin), in parts per million. The
K2 star is an eclipsing binary: its 6-hour scatter is given with and without the eclipses. Then transits of 2 % are put
into its pixels, and the depth is quoted that is found.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter

import bayesprf as bp
from bayesprf.io.save import load_tree

DATA = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
HIGH_PASS, SIX_HOURS = 97, 12  # cadences of 29.4 minutes
PERIOD, EPOCH, HALF_ECLIPSE = 1.611, 2676.4, 0.14  # of the K2 star: both eclipses, day


def scatter(flux):
    """Return total and 6-hour scatter, ppm."""
    flux = flux[np.isfinite(flux)] / np.nanmedian(flux)
    smooth = flux - median_filter(flux, HIGH_PASS, mode="nearest")
    size = (smooth.size // SIX_HOURS - 1) * SIX_HOURS
    means = np.array([smooth[k : k + size].reshape(-1, SIX_HOURS).mean(axis=1) for k in range(SIX_HOURS)])
    spread = np.median(np.abs(means - np.median(means, axis=1, keepdims=True)), axis=1)
    return 1e6 * flux.std(), 1e6 * 1.4826 * spread.mean()


def point_to_point(flux):
    """Return the scatter from one cadence to the next, ppm."""
    return 1e6 * np.nanstd(np.diff(flux)) / np.sqrt(2.0) / np.nanmedian(flux)


def report(name, flux):
    total, short = scatter(flux) if flux.size > 2 * HIGH_PASS else (1e6 * np.nanstd(flux) / np.nanmedian(flux), np.nan)
    print(f"| {name} | {total:,.0f} | {short:,.1f} | {point_to_point(flux):,.0f} |")


def fit(pixels, sources, background=None, **time_model):
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True, background=background)
    machine.build_shape_model()
    machine.build_time_model(**time_model)
    machine.fit_model(fit_va=True)
    return machine


def kepler():
    """Report single stars of Kepler: Kepler-62 over a quarter, which drifts smoothly, and two shorter series."""
    for name in ("kplr009002278-2010174085026_lpd-targ", "kplr006804648-q10-1000cad", "kplr008462852-q08-100cad"):
        pixels = bp.read_tpfs(DATA / "kepler-tpf" / "long" / f"{name}.fits.gz")
        target = pixels.meta["targets"][0]
        frame = pd.DataFrame(
            {
                "source_id": [target["id"]],
                "ra": [target["ra_deg"]],
                "dec": [target["dec_deg"]],
                "phot_g_mean_flux": [pixels.instrument.flux_from_mag(target["mag"])],
            }
        )
        sources = bp.read_catalog(frame)
        print(f"\n| {target['id']}, {pixels.n_time} cadences | total, ppm | 6-hour, ppm | point to point, ppm |")
        print("|---|---|---|---|")
        report("mission's aperture", np.nansum(pixels.flux[:, target["aperture"]], axis=1))
        machine = fit(pixels, sources)
        report("no time model", machine.ws[:, 0])
        report("time model, defaults", machine.ws_va[:, 0])
        report("time model, free_motion=False", fit(pixels, sources, free_motion=False).ws_va[:, 0])
        report("time model, poscorr", fit(pixels, sources, positions="poscorr").ws_va[:, 0])


def k2():
    """Report a star of the K2 bulge field: roll within hours; the darkest fifth's level is subtracted as sky.

    What a user calls: ``build_time_model(positions="centroid")``. The motion exceeds `shift_limit`, so that it
    becomes a shift of the PRF.
    """
    raw = bp.read_tpfs(DATA / "k2-tpf" / "ktwo221312395-c91_lpd-targ.fits.gz")
    pixels = replace(raw, flux=raw.flux - np.percentile(np.nanmean(raw.flux, axis=0), 20.0))
    catalog = pd.read_csv(DATA / "k2-tpf" / "ktwo221312395-c91_detections.csv")
    target = pixels.meta["targets"][0]
    star = int(np.argmin(np.hypot(catalog.ra - target["ra_deg"], catalog.dec - target["dec_deg"])))
    sources = bp.read_catalog(catalog, flux_column="sum3x3")
    machine = fit(pixels, sources, positions="centroid")
    published = pd.read_csv(DATA / "k2-tpf" / "k2sff_ktwo221312395-c91_bestaper.csv").set_index("CADENCENO")
    published = published.reindex(pixels.cadence_number)
    common = np.isfinite(published.FCOR.to_numpy())
    phase = np.abs((pixels.time - EPOCH + PERIOD / 2) % PERIOD - PERIOD / 2)
    print("\n| EPIC 221312395, cadences of K2SFF | total, ppm | 6-hour, ppm | 6-hour without eclipses, ppm |")
    print("|---|---|---|---|")
    for name, flux in {
        "raw aperture": published.FRAW.to_numpy(),
        "K2SFF": published.FCOR.to_numpy(),
        "no time model": machine.ws[:, star],
        "time model, centroid": machine.ws_va[:, star],
        "the same, in three pieces": in_pieces(pixels, sources, star),
        "the same, sky fitted along": fit(raw, sources, "stamp", positions="centroid").ws_va[:, star],
    }.items():
        total, short = scatter(flux[common])
        quiet = scatter(flux[common & (phase > HALF_ECLIPSE)])[1]
        print(f"| {name} | {total:,.0f} | {short:,.0f} | {quiet:,.0f} |")
    print(
        f"\nMedian flux without and with the time model: {np.median(machine.ws[:, star]):,.0f} and"
        f" {np.median(machine.ws_va[:, star]):,.0f} electron / s; transits of 2 %: {injected(machine, star):.4f} found."
    )


def in_pieces(pixels, sources, star):
    """Return the light curve of a star from three pieces of a series, each with a PRF and a motion of its own."""
    flux = np.empty(pixels.n_time)
    for part in np.array_split(np.arange(pixels.n_time), 3):
        own = {name: getattr(pixels, name)[part] for name in ("time", "flux", "flux_err", "cadence_number")}
        flux[part] = fit(replace(pixels, **own), sources, positions="centroid").ws_va[:, star]
    return flux


def commands():
    """Report both K2 stars as the command line fits them, nothing else given than files, catalogue and its flux column.

    The simulated star is constant, its file has no sky coordinates and impossible errors; the sum of its 49 pixels
    stands for the aperture, and K2SFF has not seen it.
    """
    folder = DATA / "k2-tpf"
    published = pd.read_csv(folder / "k2sff_ktwo221312395-c91_bestaper.csv").set_index("CADENCENO")
    tree = command(folder / "ktwo221312395-c91_lpd-targ.fits.gz", folder / "ktwo221312395-c91_detections.csv", "sum3x3")
    published = published.reindex(tree["photometry"].cadence_number.to_numpy())
    common = np.isfinite(published.FCOR.to_numpy())
    print(
        "\n| bayesprf fit FILE --catalog CATALOG | total, ppm | 6-hour, ppm | point to point, ppm |\n|---|---|---|---|"
    )
    report("EPIC 221312395: aperture", published.FRAW.to_numpy()[common])
    report("EPIC 221312395: K2SFF", published.FCOR.to_numpy()[common])
    report("EPIC 221312395: command line", tree["photometry/flux"].to_numpy()[common, 0])
    path = DATA / "field-cases" / "synthetic-k2-flat.targ.fits.gz"
    report("simulated: sum of the pixels", bp.read_tpfs(path, wcs="detector").flux.sum(axis=1))
    report("simulated: command line", command(path, "detect")["photometry/flux"].to_numpy()[:, 0])


def command(path, catalog, flux_column=None):
    """Return the tree that the command line makes of one file."""
    column = [] if flux_column is None else ["--flux", flux_column]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.nc"
        asked = ["fit", str(path), "--catalog", str(catalog), *column, "--output", str(output), "-q"]
        subprocess.run([sys.executable, "-m", "bayesprf", *asked], check=True)
        return load_tree(output)


def injected(machine, star):
    """Return the depth found of 2 % transits, 5 hours every 2.7 days, put into the pixels of a star."""
    pixels = machine.pixels
    inside = (pixels.time - pixels.time[0]) % 2.7 < 0.2
    flux = pixels.flux.copy()
    for time in np.flatnonzero(inside):
        flux[time] -= 0.02 * machine.ws_va[time, star] * machine.perturbed_model(time)[[star]].toarray()[0]
    again = fit(replace(pixels, flux=flux), machine.sources, positions="centroid")
    ratio = again.ws_va[:, star] / machine.ws_va[:, star]
    return 1.0 - ratio[inside].mean() / ratio[~inside].mean()


if __name__ == "__main__":
    kepler()
    k2()
    commands()
