"""Gaussian processes in time as linear state-space models: Matern kernels and the damped oscillator."""

from dataclasses import dataclass

import numpy as np

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_choice, check_positive, shown
from bayesprf.errors import InputError

N_STATE = {"constant": 1, "matern12": 1, "matern32": 2, "matern52": 3, "oscillator": 2}
"""Number of states of each family."""

# Format: numbers of the largest state: a Matern process of order 5/2.
MAX_STATE = 3

# Rate of a Matern kernel times its scale: sqrt(2 nu).
_RATE = {"constant": 1.0, "matern12": 1.0, "matern32": 3.0**0.5, "matern52": 5.0**0.5, "oscillator": 2.0 * np.pi}
# Rounding: up to this step, in units of one over the rate, the integral of the noise is free of cancellation by
# quadrature only.
_SHORT_STEP = 1.0
# Nodes of that quadrature: exact to rounding for exponentials times polynomials over a unit interval.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
# Rounding: imaginary step of a derivative without cancellation.
_COMPLEX_STEP = 1e-30


@dataclass(frozen=True, slots=True)
class ProcessKernel:
    """How the light of a star varies in time.

    Parameters
    ----------
    family : {"constant", "matern12", "matern32", "matern52", "oscillator"}
        "constant": no variation but the white one. Matern processes of smoothness 1/2, 3/2, 5/2: rough, once and twice
        differentiable. "oscillator": a damped oscillation, as of spots on a rotating star.
    sigma : float
        Standard deviation of the process, electron / s.
    scale : float
        Correlation time, or the period of the oscillator, day.
    white : float
        Standard deviation of variations independent from one cadence to the next, electron / s; part of the light.
    quality : float
        Quality factor of the oscillator, above one half: its phase lasts for about this many periods.

    Raises
    ------
    InputError
        If the family is unknown or a number out of range.

    See Also
    --------
    bayesprf.Machine.fit_light_curves : Light curves as processes.

    Notes
    -----
    Autocovariance at lag t, with a = sqrt(2 nu) t / scale (Rasmussen & Williams 2006, section 4.2): matern12
    sigma^2 exp(-a), matern32 sigma^2 (1 + a) exp(-a), matern52 sigma^2 (1 + a + a^2 / 3) exp(-a). Oscillator, with
    a = 2 pi t / scale, h = 1 / (2 quality) and f^2 = 1 - h^2: sigma^2 exp(-h a) (cos(f a) + (h / f) sin(f a))
    (Foreman-Mackey et al. 2017).

    Examples
    --------
    >>> import bayesprf as bp
    >>> kernel = bp.ProcessKernel("oscillator", sigma=30.0, scale=2.5, quality=4.0)
    """

    family: str
    sigma: float = 0.0
    scale: float = 1.0
    white: float = 0.0
    quality: float = 3.0

    def __post_init__(self) -> None:
        check_choice(self.family, tuple(N_STATE), "family")
        check_positive(self.scale, "scale")
        for name in ("sigma", "white"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"{name}: expected 0 electron / s or more, got {getattr(self, name)!r}")
        if not self.quality > 0.5:
            raise InputError(f"quality: expected a number above one half, got {shown(self.quality)}")


@dataclass(frozen=True, slots=True, eq=False)
class StateSpace:
    """One linear process per coefficient: x_t = A_t x_(t-1) + noise of covariance Q_t; its value is sigma x_t[0].

    Parameters
    ----------
    n_state : ndarray of int64, shape (n_coeff,)
        Number of states d of each process.
    transition, noise : ndarray of float64, shape (n_time, n_coeff, MAX_STATE, MAX_STATE)
        A and Q of the step that leads to each time, in the first d rows and columns; those of the first are not read.
    stationary : ndarray of float64, shape (n_coeff, MAX_STATE, MAX_STATE)
        Covariance at the first time.
    sigma : ndarray of float64, shape (n_coeff,)
        Standard deviation of each process.
    """

    n_state: IntArray
    transition: FloatArray
    noise: FloatArray
    stationary: FloatArray
    sigma: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class StepGradient:
    """How the steps of a `StateSpace` change with the logarithm of the scales, and with the quality factors.

    Parameters
    ----------
    transition, noise : ndarray of float64, shape (n_time, n_coeff, MAX_STATE, MAX_STATE)
        Derivatives of A and Q with respect to ln scale.
    quality_transition, quality_noise : ndarray of float64, same shape
        Derivatives with respect to the quality factor; 0 but for oscillators.
    """

    transition: FloatArray
    noise: FloatArray
    quality_transition: FloatArray
    quality_noise: FloatArray


def build_states(kernels: tuple[ProcessKernel, ...], time: FloatArray) -> StateSpace:
    """Arrange kernels as a state-space model at given times.

    Parameters
    ----------
    kernels : tuple of ProcessKernel
        One per coefficient; `white` is not part of the states.
    time : ndarray of float64, shape (n_time,)
        Times, ascending, day.

    Returns
    -------
    StateSpace

    Notes
    -----
    With rate r (sqrt(2 nu) / scale, or 2 pi / scale) the states are the process and its derivatives over r, r^2, in
    units of sigma: dx = F x da + e dW in the time a = r t. Then A = expm(F a) and Q = q int_0^a g g' with g the last
    column of expm(F u). Hartikainen & Sarkka (2010); Foreman-Mackey et al. (2017).
    """
    step = np.diff(time, prepend=time[:1])
    shape = (time.size, len(kernels), MAX_STATE, MAX_STATE)
    transition, noise, stationary = np.zeros(shape), np.zeros(shape), np.zeros(shape[1:])
    for k, one in enumerate(kernels):
        d = N_STATE[one.family]
        a = _RATE[one.family] / one.scale * step
        transition[:, k, :d, :d] = _transition(one.family, a, one.quality)
        noise[:, k, :d, :d] = _noise(one.family, a, one.quality)
        stationary[k, :d, :d] = _stationary(one.family)
    n_state = np.array([N_STATE[one.family] for one in kernels], np.int64)
    sigma = np.array([0.0 if one.family == "constant" else one.sigma for one in kernels])
    return StateSpace(n_state, transition, noise, stationary, sigma)


def step_gradient(kernels: tuple[ProcessKernel, ...], time: FloatArray) -> StepGradient:
    """Return how the steps change with ln scale and quality.

    Parameters
    ----------
    kernels : tuple of ProcessKernel
        One per coefficient.
    time : ndarray of float64, shape (n_time,)
        Times, ascending, day.

    Returns
    -------
    StepGradient

    Notes
    -----
    dA / da = F A and dQ / da = q g(a) g(a)', with a proportional to 1 / scale; the quality by a complex step.
    """
    step = np.diff(time, prepend=time[:1])
    parts = np.zeros((4, time.size, len(kernels), MAX_STATE, MAX_STATE))
    for k, one in enumerate(kernels):
        d = N_STATE[one.family]
        a = _RATE[one.family] / one.scale * step
        feedback, drive = _equation(one.family, one.quality)
        now = _transition(one.family, a, one.quality)
        g = now[:, :, -1]
        parts[0, :, k, :d, :d] = -a[:, None, None] * (feedback @ now)
        parts[1, :, k, :d, :d] = -drive * a[:, None, None] * g[:, :, None] * g[:, None, :]
        if one.family == "oscillator":
            moved = one.quality + 1j * _COMPLEX_STEP
            parts[2, :, k, :d, :d] = _transition(one.family, a, moved).imag / _COMPLEX_STEP
            parts[3, :, k, :d, :d] = _noise(one.family, a, moved).imag / _COMPLEX_STEP
    return StepGradient(*parts)


def _equation(family: str, quality: complex) -> tuple[FloatArray, complex]:
    """Return F and q of dx = F x da + e dW: the process with the stationary covariance of `_stationary`."""
    if family == "oscillator":
        return np.array([[0.0, 1.0], [-1.0, -1.0 / quality]]), 2.0 / quality
    feedback = {
        "constant": [[-1.0]],
        "matern12": [[-1.0]],
        "matern32": [[0.0, 1.0], [-1.0, -2.0]],
        "matern52": [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, -3.0, -3.0]],
    }
    drive = {"constant": 2.0, "matern12": 2.0, "matern32": 4.0, "matern52": 16.0 / 3.0}
    return np.array(feedback[family]), drive[family]


def _stationary(family: str) -> FloatArray:
    if family == "matern52":
        third = 1.0 / 3.0
        return np.array([[1.0, 0.0, -third], [0.0, third, 0.0], [-third, 0.0, 1.0]])
    return np.eye(N_STATE[family])


def _transition(family: str, a: FloatArray, quality: complex) -> FloatArray:
    """Return expm(F a) of every step, shape (..., d, d)."""
    if family == "oscillator":
        return _swing(a, quality)
    feedback, _ = _equation(family, quality)
    d = len(feedback)
    nilpotent = feedback + np.eye(d)  # every rate is -1: expm(F a) = exp(-a) sum_k (F + 1)^k a^k / k!
    series, term = np.eye(d) + np.zeros((*a.shape, d, d)), np.eye(d)
    for k in range(1, d):
        term = term @ nilpotent / k
        series = series + a[..., None, None] ** k * term
    return np.exp(-a)[..., None, None] * series


def _swing(a: FloatArray, quality: complex) -> FloatArray:
    """Return expm(F a) of the oscillator."""
    damping = 0.5 / quality
    frequency = np.sqrt(1.0 - damping**2)
    cos, sin = np.cos(frequency * a), np.sin(frequency * a) / frequency
    rows = np.array([[cos + damping * sin, sin], [-sin, cos - damping * sin]])
    return np.moveaxis(np.exp(-damping * a) * rows, (0, 1), (-2, -1))


def _noise(family: str, a: FloatArray, quality: complex) -> FloatArray:
    """Return q int_0^a g g' of every step, shape (n_time, d, d)."""
    stationary, now = _stationary(family), _transition(family, a, quality)
    answer = stationary - now @ stationary @ now.transpose(0, 2, 1)
    short = a < _SHORT_STEP
    drive = _equation(family, quality)[1]
    inner = 0.5 * a[short, None] * (1.0 + _NODES)
    g = _transition(family, inner, quality)[..., -1]
    weights = 0.5 * drive * a[short, None] * _WEIGHTS
    answer[short] = np.einsum("tn,tni,tnj->tij", weights, g, g)
    return answer
