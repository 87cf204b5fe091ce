"""M67 with Gaia: do the total flux errors explain how magnitudes scatter about G and a straight colour term?"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import bayesprf as bp
from bayesprf.io.catalogs.catalog import read_catalog

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::bayesprf.errors.ConvergenceWarning"),
]

_spec = importlib.util.spec_from_file_location("m67_scene", Path(__file__).with_name("test_m67.py"))
_m67 = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_m67)
catalog, pixels, chosen = _m67.catalog, _m67.pixels, _m67.chosen

# Magnitudes per relative flux.
POGSON = 2.5 / np.log(10.0)


@pytest.fixture(scope="module")
def machine(pixels, catalog):
    machine = bp.Machine.from_pixels(pixels, read_catalog(catalog), quiet=True)
    # One PRF for the field, jointly: the default tries rounds and a plane as well, which takes three times as long.
    machine.refine_scene(method="joint", field_variation=0)
    machine.fit_model()
    return machine


def test_total_errors_explain_the_scatter_about_gaia(machine, catalog, chosen, record_property):
    color = catalog["bp_rp"].to_numpy()
    flux, error = machine.ws[0], POGSON * machine.werrs_total[0] / machine.ws[0]
    good = chosen & np.isfinite(color) & (flux > 0)
    points = catalog["phot_g_mean_mag"].to_numpy()[good] + 2.5 * np.log10(flux[good])
    slope, level = np.polyfit(color[good], points, 1, w=1.0 / error[good])
    score = (points - level - slope * color[good]) / error[good]
    reduced = float(np.sum(score**2) / (good.sum() - 2))
    record_property("reduced chi-square about a straight colour term", f"{reduced:.2f}")
    record_property("median total error, magnitude", f"{np.median(error[good]):.4f}")
    record_property("rms of the residuals, magnitude", f"{np.std(score * error[good]):.4f}")
    for name, part in machine.common_errors.parts.items():
        record_property(f"median relative error, {name}", f"{np.median(part[good] / flux[good]):.4f}")
    assert good.sum() > 100
    assert 0.5 < reduced < 2.0
