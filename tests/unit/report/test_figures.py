"""The pictures of README and gallery: the README's shows what its words claim, and the gallery shows every one."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.plots


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_figures", ROOT / "docs" / "make_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_picture_shows_what_its_words_claim(script, tmp_path):
    (path,) = script.make_pictures(tmp_path, ["blend"])
    assert 20_000 < path.stat().st_size < 300_000
    field, machine = script.fit_pair()
    assert np.hypot(field.column[9] - field.column[0], field.row[9] - field.row[0]) == pytest.approx(1.05, abs=0.05)
    for star in (script.STAR, script.BINARY):
        truth = field.flux[:, star]
        assert np.median(machine.sap_flux[:, star] / truth) > 1.2
        assert np.median(np.abs(machine.ws[:, star] - truth) / machine.werrs_total[:, star]) < 1.0
        noise = (machine.ws[:, star] - truth) / machine.werrs[:, star]
        assert np.std(noise) == pytest.approx(1.0, abs=4 / np.sqrt(2 * truth.size))


def test_gallery_shows_every_picture_with_its_code(script):
    page = (ROOT / "docs" / "gallery.md").read_text()
    assert set(re.findall(r"_static/gallery/(\w+)\.png", page)) == set(script.PICTURES)
    assert set(re.findall(r":pyobject: (\w+)", page)) == {
        "fit_demo",
        *(one.__name__ for one in script.PICTURES.values()),
    }


def test_readme_and_landing_page_show_the_picture():
    for page, place in (("README.md", "docs/_static/blend.png"), ("docs/index.md", "_static/blend.png")):
        assert place in (ROOT / page).read_text()
    assert (ROOT / "docs" / "_static" / "blend.png").exists()
