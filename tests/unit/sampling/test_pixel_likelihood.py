"""Light curves scored on the pixels: beside dense matrices, finite differences and models with all fluxes sampled."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from transit_scenes import make_transit_fit, transit

import bayesprf as bp
from bayesprf.errors import InputError, StageError
from bayesprf.linalg.kalman import FixedColumns
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.state_space import ProcessKernel
from bayesprf.photometry.processes import flux_information
from bayesprf.sampling.pixel_likelihood import light_curve_likelihood
from bayesprf.simulation.fields import make_field
from bayesprf.testing import dense_processes

pytestmark = [pytest.mark.filterwarnings("ignore:Numba will use object mode:UserWarning")]

# Compiling is what takes the time here.
PLAIN = pytensor.compile.mode.Mode(linker="py", optimizer="fast_compile")
KERNEL = ProcessKernel("matern32", sigma=12.0, scale=0.4, white=2.0)


def likelihood(fit, time, stars, *, kernel=None, leak=None, depths=None):
    """Return log p of transits of some stars as a compiled function of depth and middle."""
    depth, middle = pt.dscalar("depth"), pt.dscalar("middle")
    factor = np.ones(len(stars)) if depths is None else np.array(depths)
    light = 1.0 - depth * transit(time, middle)[:, None] * factor
    prior = GaussianPrior(fit.prior.mean[stars], fit.prior.precision[stars])
    leak = np.zeros((len(stars), len(stars))) if leak is None else leak
    value = light_curve_likelihood(
        flux_information(fit, np.array(stars)), light, prior, leak=leak, time=time, kernel=kernel
    )
    return pytensor.function([depth, middle], [value, *pt.grad(value, [depth, middle])], mode=PLAIN)


def dense(fit, time, stars, depth, middle, *, kernel=None, leak=None, depths=None):
    """Return log p from one Gaussian over all pixels of all cadences: no flux, no level is ever solved for."""
    n = fit.n_source
    factor = np.ones(len(stars)) if depths is None else np.array(depths)
    white = fit.prior.precision**-0.5
    kernels = [ProcessKernel("constant", white=float(one)) for one in white]
    values, mean = np.zeros((time.size, n, n)), fit.prior.mean.copy()
    precision = np.full(n, 1e14)
    values[:, np.arange(n), np.arange(n)] = 1.0
    for star, share in zip(stars, factor, strict=True):
        kernels[star] = kernel or ProcessKernel("constant")
        values[:, star, star] = 1.0 - depth * share * transit(time, middle)
        precision[star] = fit.prior.precision[star]
    if leak is not None:
        root = np.zeros((time.size, n, len(stars)))
        root[:, stars] = np.linalg.cholesky(leak)
        values, mean = np.concatenate([values, root], axis=2), np.append(mean, np.zeros(len(stars)))
        precision = np.append(precision, np.ones(len(stars)))
    columns = FixedColumns(values, mean, np.diag(precision))
    return dense_processes(fit.problem, tuple(kernels), time, columns).log_evidence.sum()


LEAK = np.array([[4.0, 1.0], [1.0, 9.0]])
CASES = {
    "one star": ([1], None, None),
    "one star with a leak": ([1], None, LEAK[:1, :1]),
    "two stars with leaks": ([0, 1], None, LEAK),
    "a process": ([1], KERNEL, None),
    "two processes with leaks": ([0, 1], KERNEL, LEAK),
}


# One process alone takes twelve seconds; two, with leaks, hold the same.
@pytest.mark.parametrize(
    "case", [pytest.param(one, marks=pytest.mark.slow) if one == "a process" else one for one in CASES]
)
def test_equals_the_gaussian_of_all_pixels(case):
    stars, kernel, leak = CASES[case]
    fit, time, _ = make_transit_fit(n_time=15)
    depths = [0.0, 1.0][-len(stars) :]
    found = likelihood(fit, time, stars, kernel=kernel, leak=leak, depths=depths)
    for depth, middle in ((0.0, 0.5), (0.05, 0.5), (0.1, 0.43)):
        expected = dense(fit, time, stars, depth, middle, kernel=kernel, leak=leak, depths=depths)
        assert float(found(depth, middle)[0]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_gradient_equals_finite_differences(case):
    stars, kernel, leak = CASES[case]
    fit, time, _ = make_transit_fit(n_time=60)
    found, h = likelihood(fit, time, stars, kernel=kernel, leak=leak), 1e-6
    at = np.array([0.04, 0.48])
    _, *slopes = found(*at)
    for k in range(2):
        step = h * np.eye(2)[k]
        difference = (float(found(*(at + step))[0]) - float(found(*(at - step))[0])) / (2 * h)
        assert float(slopes[k]) == pytest.approx(difference, rel=1e-5, abs=1e-3)


def test_numbers_of_a_kernel_may_be_variables():
    fit, time, _ = make_transit_fit(n_time=60)
    numbers = [pt.dscalar(name) for name in ("sigma", "scale", "white")]
    kernel = {"family": "matern32", **dict(zip(("sigma", "scale", "white"), numbers, strict=True))}
    prior = GaussianPrior(fit.prior.mean[1:], fit.prior.precision[1:])
    seen = flux_information(fit, np.array([1]))
    value = light_curve_likelihood(seen, np.ones(time.size), prior, leak=np.zeros((1, 1)), time=time, kernel=kernel)
    found = pytensor.function(numbers, [value, *pt.grad(value, numbers)], mode=PLAIN)
    at, h = np.array([12.0, 0.4, 2.0]), 1e-5
    _, *slopes = found(*at)
    for k in range(3):
        step = h * np.eye(3)[k]
        difference = (float(found(*(at + step))[0]) - float(found(*(at - step))[0])) / (2 * h)
        assert float(slopes[k]) == pytest.approx(difference, rel=1e-5, abs=1e-5)
    assert float(found(-1.0, 0.4, 2.0)[0]) == -np.inf


def test_is_a_plain_potential_of_a_model():
    fit, time, _ = make_transit_fit(n_time=40)
    prior = GaussianPrior(fit.prior.mean[1:], fit.prior.precision[1:])
    with pm.Model() as model:
        depth = pm.Uniform("depth", 0.0, 0.3)
        light = 1.0 - depth * transit(time, 0.5)
        seen = flux_information(fit, np.array([1]))
        pm.Potential("pixels", light_curve_likelihood(seen, light, prior, leak=np.zeros((1, 1))))
    density, gradient = model.compile_logp(mode=PLAIN), model.compile_dlogp(mode=PLAIN)
    (name,), step = model.initial_point(), 1e-5
    ahead, behind = (float(density({name: np.array(0.3 + sign * step)})) for sign in (1.0, -1.0))
    found = float(gradient({name: np.array(0.3)})[0])
    assert found == pytest.approx((ahead - behind) / (2.0 * step), rel=1e-5)


@pytest.fixture(scope="module")
def machine():
    field = make_field(n_source=3, n_time=40, n_stamp=2, rng=np.random.default_rng(0), mag_range=(12.0, 14.0))
    machine = bp.Machine.from_pixels(field.pixels, field.sources, quiet=True)
    machine.build_shape_model(method="joint")
    return machine


def test_takes_a_machine(machine):
    with pytest.raises(StageError, match="fit_model"):
        bp.pixel_likelihood(machine, 2, np.ones(40))
    machine.fit_model()
    known = float(bp.pixel_likelihood(machine, 2, np.ones(40), systematics=False).eval(mode=PLAIN))
    leaking = float(bp.pixel_likelihood(machine, 2, np.ones(40)).eval(mode=PLAIN))
    dimmed = float(bp.pixel_likelihood(machine, 2, np.linspace(0.5, 1.5, 40)).eval(mode=PLAIN))
    assert leaking != known
    assert dimmed < leaking - 100.0
    assert known < machine.fit.latest_flux.log_evidence.sum() + 100 * 40


def test_evidences_of_stars_can_be_compared(machine):
    """A flat light curve of one star or of two: the constants are those of all pixels in both."""
    machine.fit_model()
    one, both = (
        float(bp.pixel_likelihood(machine, stars, np.ones((40, len(stars))), systematics=False).eval(mode=PLAIN))
        for stars in ([0], [0, 2])
    )
    assert abs(one - both) < 0.1 * abs(one)


def test_refuses_what_does_not_fit(machine):
    machine.fit_model()
    with pytest.raises(InputError, match=r"light_curve: expected shape \(40,\) or \(40, 1\), got \(39, 1\)"):
        bp.pixel_likelihood(machine, 0, np.ones(39))
    with pytest.raises(InputError, match="sources: expected each source once"):
        bp.pixel_likelihood(machine, [0, 0], np.ones((40, 2)))
    with pytest.raises(InputError, match="kernel: expected one, or 1 of them"):
        bp.pixel_likelihood(machine, 0, np.ones(40), kernel=[KERNEL, KERNEL])
    with pytest.raises(InputError, match="kernel: expected a ProcessKernel, or a mapping"):
        bp.pixel_likelihood(machine, 0, np.ones(40), kernel={"sigma": 1.0})
