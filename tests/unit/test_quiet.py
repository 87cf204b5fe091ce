"""Progress bars, and how to silence them."""

import numpy as np
import pytest

from bayesprf.machine import Machine
from bayesprf.simulation.fields import make_field


@pytest.mark.parametrize(("quiet", "shown"), [(False, True), (True, False)])
def test_quiet_silences_the_progress_bar(capsys, quiet, shown):
    field = make_field(rng=np.random.default_rng(0), n_source=12, n_time=3)
    machine = Machine.from_pixels(field.pixels, field.sources, quiet=quiet)
    machine.build_shape_model()
    assert ("PRF" in capsys.readouterr().err) is shown
