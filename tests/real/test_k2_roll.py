"""A K2 star in the bulge that rolls by more than a pixel within hours, beside its published light curve."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import median_filter
from typer.testing import CliRunner

from bayesprf import Machine, read_catalog, read_tpfs
from bayesprf.cli import app
from bayesprf.errors import ConvergenceWarning, DataWarning, QualityWarning
from bayesprf.io.save import load_tree

pytestmark = pytest.mark.real
# Eclipses of the star, day.
PERIOD, EPOCH, HALF_ECLIPSE = 1.611, 2676.4, 0.14


def six_hours(flux):
    """Return 1.48 MAD of means of 12 cadences, a running median over two days taken off, in all 12 ways to cut."""
    flux = flux / np.median(flux)
    flux = flux - median_filter(flux, 97, mode="nearest")
    size = (flux.size // 12 - 1) * 12
    means = np.array([flux[k : k + size].reshape(-1, 12).mean(axis=1) for k in range(12)])
    return 1.4826 * np.median(np.abs(means - np.median(means, axis=1, keepdims=True)), axis=1).mean()


@pytest.fixture(scope="module")
def star(real_data):
    """Return times without eclipses, the published curve and ours without and with the time model."""
    folder = real_data / "k2-tpf"
    pixels = read_tpfs(folder / "ktwo221312395-c91_lpd-targ.fits.gz")
    pixels = replace(pixels, flux=pixels.flux - np.percentile(np.nanmean(pixels.flux, axis=0), 20.0))
    catalog = pd.read_csv(folder / "ktwo221312395-c91_detections.csv")
    published = pd.read_csv(folder / "k2sff_ktwo221312395-c91_bestaper.csv").set_index("CADENCENO")
    published = published.FCOR.reindex(pixels.cadence_number).to_numpy()
    machine = Machine.from_pixels(pixels, read_catalog(catalog, flux_column="sum3x3"), quiet=True)
    machine.build_shape_model()
    machine.build_time_model(positions="centroid")
    machine.fit_model(fit_va=True)
    common = np.isfinite(published)
    phase = np.abs((pixels.time - EPOCH + PERIOD / 2) % PERIOD - PERIOD / 2)
    return common, common & (phase > HALF_ECLIPSE), (published, machine.ws[:, 0], machine.ws_va[:, 0])


def test_six_hour_scatter_beside_the_published_curve(star, record_property):
    common, quiet, curves = star
    for name, chosen in (("all", common), ("without eclipses", quiet)):
        published, plain, ours = (six_hours(one[chosen]) for one in curves)
        record_property(
            f"K2: 6-hour scatter, {name}: K2SFF, no time model, time model, ppm",
            f"{1e6 * published:.0f}, {1e6 * plain:.0f}, {1e6 * ours:.0f}",
        )
        assert ours < 0.25 * plain
    assert six_hours(curves[2][common]) < 1.1 * six_hours(curves[0][common])
    assert ours < published


def test_level_stays_and_eclipses_too(star):
    common, quiet, (published, plain, ours) = star
    assert np.median(ours) == pytest.approx(np.median(plain), rel=0.15)
    depth = [1.0 - np.median(one[common & ~quiet]) / np.median(one[quiet]) for one in (published, ours)]
    assert depth[1] == pytest.approx(depth[0], rel=0.35)
    assert depth[1] > 0.02


@pytest.mark.slow  # 13 s
def test_command_line_alone(real_data, tmp_path, record_property):
    """A file and a catalogue are enough: the roll is followed, the sky fitted, impossible errors are raised."""
    folder = real_data / "k2-tpf"
    star = (
        folder / "ktwo221312395-c91_lpd-targ.fits.gz",
        folder / "ktwo221312395-c91_detections.csv",
        "--flux",
        "sum3x3",
    )
    trees = []
    for path, catalog, *more in (star, (real_data / "field-cases" / "synthetic-k2-flat.targ.fits.gz", "detect")):
        arguments = ["fit", str(path), "--catalog", str(catalog), *more, "--output", str(tmp_path / "out.nc"), "-q"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
        trees.append(load_tree(tmp_path / "out.nc"))
        assert "roll" in trees[-1]["quality/cure"].to_numpy()[trees[-1]["quality/cure_kept"].to_numpy()]
    published = pd.read_csv(folder / "k2sff_ktwo221312395-c91_bestaper.csv").set_index("CADENCENO")
    published = published.reindex(trees[0]["photometry"].cadence_number.to_numpy())
    common = np.isfinite(published.FCOR.to_numpy())
    found = [trees[0]["photometry/flux"].to_numpy()[:, 0], published.FRAW.to_numpy(), published.FCOR.to_numpy()]
    ours, raw, corrected = (six_hours(one[common]) for one in found)
    record_property(
        "K2: command line, aperture, K2SFF, ppm", f"{1e6 * ours:.0f}, {1e6 * raw:.0f}, {1e6 * corrected:.0f}"
    )
    assert ours < 0.25 * raw
    assert ours < 1.2 * corrected
    # The simulated star is constant: its pixels sum to 391 ppm, and 296 ppm in six hours.
    flux = trees[1]["photometry/flux"].to_numpy()[:, 0]
    assert six_hours(flux) < 296e-6
    # The errors as given leave 395 ppm, those of the model, the default, 529; on the real star they gain a fifth.
    assert flux.std() < 5.4e-4 * flux.mean()


def test_time_columns_alone_leave_all_levels(real_data):
    """They cannot follow the roll: rounds that diverge end, as levels of 1e-11 electron / s came out of them."""
    folder = real_data / "k2-tpf"
    pixels = read_tpfs(folder / "ktwo221312395-c91_lpd-targ.fits.gz")
    pixels = replace(pixels, flux=pixels.flux - np.percentile(np.nanmean(pixels.flux, axis=0), 20.0))
    catalog = pd.read_csv(folder / "ktwo221312395-c91_detections.csv")
    machine = Machine.from_pixels(pixels, read_catalog(catalog, flux_column="sum3x3"), quiet=True)
    machine.build_shape_model(method="joint", field_variation=0)
    with pytest.warns(ConvergenceWarning, match="rounds diverge"):
        machine.build_time_model(shift_limit=np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QualityWarning)
        machine.fit_model(fit_va=True)
    np.testing.assert_allclose(np.median(machine.ws_va, axis=0), np.median(machine.ws, axis=0), rtol=0.2)
    np.testing.assert_array_less(np.abs(machine.fit.need("time_model").weights), 3.0)
    columns = machine.ws_va
    machine.build_time_model()  # follows the roll as a shift
    machine.fit_model(fit_va=True)
    scatter = [np.std(np.diff(one, axis=0), axis=0) / np.median(one, axis=0) for one in (columns, machine.ws_va)]
    assert np.median(scatter[1] / scatter[0]) < 0.5
