"""Two real series with moving stars: scatter with and without the time model, beside the mission's apertures.

    python docs/scripts/long_series.py

Needs the real files (`BAYESPRF_TEST_DATA` names their directory). Prints, per light curve, the standard deviation of
flux over its median, and the 6-hour scatter: 1.48 MAD of the means of 12 consecutive cadences after a running median
over two days is taken off, both in parts per million.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter

import bayesprf as bp

DATA = Path(os.environ.get("BAYESPRF_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
HIGH_PASS, SIX_HOURS = 97, 12  # cadences of 29.4 minutes


def scatter(flux):
    """Return total and 6-hour scatter, ppm."""
    flux = flux[np.isfinite(flux)] / np.nanmedian(flux)
    smooth = flux - median_filter(flux, HIGH_PASS, mode="nearest")
    means = smooth[: smooth.size // SIX_HOURS * SIX_HOURS].reshape(-1, SIX_HOURS).mean(axis=1)
    return 1e6 * flux.std(), 1e6 * 1.4826 * np.median(np.abs(means - np.median(means)))


def report(name, flux):
    print(f"| {name} | {scatter(flux)[0]:,.0f} | {scatter(flux)[1]:,.1f} |")


def fit(pixels, sources, **time_model):
    machine = bp.Machine.from_pixels(pixels, sources, quiet=True)
    machine.build_shape_model()
    machine.build_time_model(**time_model)
    machine.fit_model(fit_va=True)
    return machine


def kepler():
    """Report Kepler-62 over a quarter: smooth drift."""
    pixels = bp.read_tpfs(DATA / "kepler-tpf" / "long" / "kplr009002278-2010174085026_lpd-targ.fits.gz")
    target = pixels.meta["targets"][0]
    frame = pd.DataFrame(
        {
            "source_id": [target["id"]],
            "ra": [target["ra_deg"]],
            "dec": [target["dec_deg"]],
            "phot_g_mean_flux": [pixels.instrument.flux_from_mag(target["mag"])],
        }
    )
    print("\n| KIC 9002278, one quarter | total, ppm | 6-hour, ppm |\n|---|---|---|")
    report("mission's aperture", pixels.flux[:, target["aperture"]].sum(axis=1))
    machine = fit(pixels, bp.read_catalog(frame))
    report("no time model", machine.ws[:, 0])
    report("time model, defaults", machine.ws_va[:, 0])
    report("time model, poscorr", fit(pixels, bp.read_catalog(frame), positions="poscorr").ws_va[:, 0])


def k2():
    """Report a star of the K2 bulge field: roll within hours; the darkest fifth's level is taken off as sky."""
    pixels = bp.read_tpfs(DATA / "k2-tpf" / "ktwo221312395-c91_lpd-targ.fits.gz")
    pixels = replace(pixels, flux=pixels.flux - np.percentile(np.nanmean(pixels.flux, axis=0), 20.0))
    catalog = pd.read_csv(DATA / "k2-tpf" / "ktwo221312395-c91_detections.csv")
    target = pixels.meta["targets"][0]
    star = int(np.argmin(np.hypot(catalog.ra - target["ra_deg"], catalog.dec - target["dec_deg"])))
    machine = fit(pixels, bp.read_catalog(catalog, flux_column="sum3x3"), positions="centroid")
    published = pd.read_csv(DATA / "k2-tpf" / "k2sff_ktwo221312395-c91_bestaper.csv").set_index("CADENCENO")
    common = np.isin(pixels.cadence_number, published.index)
    published = published.loc[pixels.cadence_number[common]]
    print("\n| EPIC 221312395, cadences of K2SFF | total, ppm | 6-hour, ppm |\n|---|---|---|")
    report("raw aperture", published.FRAW.to_numpy())
    report("K2SFF", published.FCOR.to_numpy())
    report("no time model", machine.ws[common, star])
    report("time model, centroid", machine.ws_va[common, star])


if __name__ == "__main__":
    kepler()
    k2()
