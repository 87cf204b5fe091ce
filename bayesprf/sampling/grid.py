"""Hyperparameters by quadrature: coefficients integrated out in the eigenbasis, a grid of two numbers, exact draws."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from bayesprf.arrays import FloatArray
from bayesprf.errors import UnsupportedError
from bayesprf.linalg.hyperparameters import Hyperparameters
from bayesprf.linalg.problem import LinearProblem
from bayesprf.sampling.hyper import Hyperprior, resolve
from bayesprf.sampling.spectrum import Decomposer, Spectrum

# Numbers in one temporary array: 16 MB.
_CHUNK = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class Marginal:
    """log p(y | width, noise scale, zero point) at one noise level, from sums over coefficients.

    Parameters
    ----------
    eigenvalues : ndarray of float64, shape (n,)
        Different eigenvalues lam of all batch rows and coefficients.
    repeats : float
        How many batch rows share each.
    peak2, peak_offset, offset2 : ndarray of float64, shape (n,)
        Sums over the batch rows that share them of the squared peak, peak times offset, and squared offset.
    chi2, log_noise : float
        Totals over the batch rows.
    n_used : int
        Number of observations.

    Notes
    -----
    With a = (width / k)**2 for noise scale k, and d the change of the zero point,

    log L = -1/2 [log_noise + 2 n log k + chi2 / k**2 + sum log(1 + a lam) + sum lam (peak - d offset)**2 / (k**2 q)],

    q = 1 + a lam. The squares are sums of positive numbers: nothing large cancels. A normal prior of d is integrated
    exactly.
    """

    eigenvalues: FloatArray
    repeats: float
    peak2: FloatArray
    peak_offset: FloatArray
    offset2: FloatArray
    chi2: float
    log_noise: float
    n_used: int

    @classmethod
    def of(cls, spectrum: Spectrum) -> "Marginal":
        """Sum a spectrum over the batch rows that share eigenvectors."""
        repeats = spectrum.peak.shape[0] / spectrum.eigenvalues.shape[0]
        shared = spectrum.is_shared

        def gather(product: FloatArray) -> FloatArray:
            return product.sum(axis=0) if shared else product.ravel()

        return cls(
            eigenvalues=spectrum.eigenvalues.ravel(),
            repeats=repeats,
            peak2=gather(spectrum.peak**2),
            peak_offset=gather(spectrum.peak * spectrum.offset),
            offset2=gather(np.broadcast_to(spectrum.offset**2, spectrum.peak.shape)),
            chi2=float(spectrum.chi2.sum()),
            log_noise=spectrum.log_noise,
            n_used=spectrum.n_used,
        )

    def log_likelihood(
        self, width: FloatArray, noise_scale: FloatArray, zero_point: float | Hyperprior = 1.0
    ) -> FloatArray:
        """Return the log likelihood of pairs of width and noise scale.

        Parameters
        ----------
        width, noise_scale : ndarray of float64, shape (n_node,)
            The nodes.
        zero_point : float or Hyperprior
            Its value, or its normal prior, which is integrated out.

        Returns
        -------
        ndarray of float64, shape (n_node,)
        """
        log_det, squares = self._sums(width, noise_scale)
        given = self.log_noise + 2.0 * self.n_used * np.log(noise_scale) + self.chi2 / noise_scale**2 + log_det
        if not isinstance(zero_point, Hyperprior):
            change = zero_point - 1.0
            return -0.5 * (given + squares[0] - 2.0 * change * squares[1] + change**2 * squares[2])
        start, variance = zero_point.center - 1.0, zero_point.scale**2
        precision = squares[2] + 1.0 / variance
        mean = (squares[1] + start / variance) / precision
        at_mean = squares[0] - 2.0 * mean * squares[1] + mean**2 * squares[2] + (mean - start) ** 2 / variance
        return -0.5 * (given + at_mean + np.log(variance * precision))

    def zero_point_posterior(
        self, width: FloatArray, noise_scale: FloatArray, prior: Hyperprior
    ) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the zero point given the other hyperparameters.

        Parameters
        ----------
        width, noise_scale : ndarray of float64, shape (n_node,)
            The other hyperparameters.
        prior : Hyperprior
            Normal prior of the zero point.

        Returns
        -------
        mean, std : ndarray of float64, shape (n_node,)
        """
        squares = self._sums(width, noise_scale)[1]
        precision = squares[2] + prior.scale**-2.0
        return 1.0 + (squares[1] + (prior.center - 1.0) * prior.scale**-2.0) / precision, precision**-0.5

    def _sums(self, width: FloatArray, noise_scale: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return log det, shape (n_node,), and the three weighted squares, shape (3, n_node)."""
        ratio = (width / noise_scale) ** 2
        log_det, squares = np.empty(width.size), np.empty((3, width.size))
        table = (self.eigenvalues * np.stack([self.peak2, self.peak_offset, self.offset2])).T
        step = max(1, _CHUNK // self.eigenvalues.size)
        for start in range(0, width.size, step):
            part = slice(start, start + step)
            grown = 1.0 + ratio[part, None] * self.eigenvalues
            log_det[part] = self.repeats * np.log(grown).sum(axis=1)
            squares[:, part] = ((1.0 / grown) @ table / noise_scale[part, None] ** 2).T
        return log_det, squares


# Accuracy: cells of width and of noise; the grid ends where the density has fallen by exp(-_DROP).
_N_WIDTH, _N_NOISE, _DROP = 200, 40, 14.0
# Accuracy: nodes of a first grid, its rounds at most, and the share of them that must lie near the maximum.
_N_COARSE, _MAX_ROUND, _FILLED = 8, 40, 0.25
# Accuracy: the first grid reaches this factor to both sides of the prior's scale.
_WIDE = 1e4
# Rounding: the axes start at 0 to this share of their length.
_FLOOR = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class HyperGrid:
    """Posterior of the hyperparameters on a grid of cells, with what is needed to draw the coefficients.

    Parameters
    ----------
    width, noise : ndarray of float64, shape (n_width,) and (n_noise,)
        Middles of the cells; one entry for a fixed number. `noise` is the jitter or the noise scale.
    cell : tuple of float
        Sides of a cell, 0 for a fixed number.
    log_density : ndarray of float64, shape (n_width, n_noise)
        Log of the joint density of data and hyperparameters, zero point integrated out.
    log_evidence : float
        log p(y), all hyperparameters integrated out.
    hyper : Hyperparameters
        Resolved priors.
    noise_name : {"jitter", "noise_scale"}
        What `noise` is.
    decomposer : Decomposer
        The problem.
    """

    width: FloatArray
    noise: FloatArray
    cell: tuple[float, float]
    log_density: FloatArray
    log_evidence: float
    hyper: Hyperparameters
    noise_name: str
    decomposer: Decomposer

    def probability(self) -> FloatArray:
        """Return the posterior probability of every cell, shape (n_width, n_noise).

        Returns
        -------
        ndarray of float64
        """
        return np.exp(self.log_density - logsumexp(self.log_density))

    def draw(self, n_draw: int, rng: np.random.Generator) -> "HyperDraws":
        """Draw hyperparameters, then coefficients given each, all independent.

        Parameters
        ----------
        n_draw : int
            How many.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        HyperDraws
        """
        chosen = rng.choice(self.log_density.size, n_draw, p=self.probability().ravel())
        i, j = np.unravel_index(chosen, self.log_density.shape)
        within = rng.uniform(-0.5, 0.5, (2, n_draw))
        width = self.width[i] + self.cell[0] * within[0]
        noise = self.noise[j] + self.cell[1] * within[1]
        shape = (n_draw, *self.decomposer.problem.data.shape[:1], self.decomposer.design.n_coeff)
        flux, zero_point = np.empty(shape), np.empty(n_draw)
        jitters = self.noise if self.noise_name == "jitter" else np.full(self.noise.size, self.hyper.jitter)
        for level in np.unique(jitters[np.unique(j)]):
            mine = np.flatnonzero(jitters[j] == level)
            scale = np.full(mine.size, self.hyper.noise_scale) if self.noise_name == "jitter" else noise[mine]
            spectrum = self.decomposer.at(float(level))
            zero_point[mine] = _draw_zero_point(spectrum, self.hyper, width[mine], scale, rng=rng)
            flux[mine] = _draw_coefficients(spectrum, width[mine], scale, zero_point[mine], rng=rng)
        return HyperDraws(width, noise, zero_point, flux)


@dataclass(frozen=True, slots=True, eq=False)
class HyperDraws:
    """Independent posterior draws.

    Parameters
    ----------
    width, noise, zero_point : ndarray of float64, shape (n_draw,)
        Hyperparameters; constant where fixed.
    flux : ndarray of float64, shape (n_draw, n_batch, n_coeff)
        Coefficients.
    """

    width: FloatArray
    noise: FloatArray
    zero_point: FloatArray
    flux: FloatArray


def integrate_grid(
    problem: LinearProblem,
    hyper: Hyperparameters,
    *,
    n_width: int = _N_WIDTH,
    n_noise: int = _N_NOISE,
) -> HyperGrid:
    """Integrate over one or two hyperparameters by the midpoint rule, coefficients integrated out exactly.

    Parameters
    ----------
    problem : LinearProblem
        With a DesignStack and a proper prior.
    hyper : Hyperparameters
        What is free: the width, and either the jitter or the noise scale; and the zero point if its prior is normal,
        which needs no grid.
    n_width, n_noise : int
        Cells along each axis.

    Returns
    -------
    HyperGrid

    Raises
    ------
    UnsupportedError
        If both jitter and noise scale are free, there are several widths, or the zero point has a prior that is not
        normal.

    Notes
    -----
    The axes start at 0 and are linear: a half-normal prior is finite at 0, and a logarithmic grid would cut that tail.
    Each grid reaches from the mode to where the density has fallen by exp(-14).
    """
    hyper = resolve(hyper, problem)
    beyond = beyond_grid(hyper)
    if beyond:
        raise UnsupportedError(f"{beyond}; use sample_collapsed")
    noise_name = "jitter" if "jitter" in hyper.free else "noise_scale"
    decomposer = Decomposer(problem)
    density = _Density(decomposer, hyper, noise_name)
    boxes = density.box()
    width, noise = _middles(boxes[0], n_width), _middles(boxes[1], n_noise)
    cell = (_side(boxes[0], n_width), _side(boxes[1], n_noise))
    log_density = density(width, noise)
    area = sum(np.log(side) for side in cell if side > 0)
    return HyperGrid(
        width, noise, cell, log_density, float(logsumexp(log_density) + area), hyper, noise_name, decomposer
    )


def beyond_grid(hyper: Hyperparameters) -> str:
    """Say why a grid cannot integrate some hyperparameters.

    Parameters
    ----------
    hyper : Hyperparameters
        Resolved.

    Returns
    -------
    str
        Empty if it can.
    """
    free = hyper.free
    if "jitter" in free and "noise_scale" in free:
        return "jitter, noise_scale: expected at most one of them to be free on the grid, got both"
    if "zero_point" in free and free["zero_point"].family != "normal":
        return "zero_point: expected a normal prior, which needs no grid"
    if hyper.has_groups:
        return "width_group: expected one width on the grid, got several"
    return ""


class _Density:
    """Joint log density of data and hyperparameters at nodes; decompositions are kept by jitter."""

    def __init__(self, decomposer: Decomposer, hyper: Hyperparameters, noise_name: str) -> None:
        self.decomposer, self.hyper, self.noise_name = decomposer, hyper, noise_name
        self._kept: dict[float, Marginal] = {}

    def __call__(self, width: FloatArray, noise: FloatArray) -> FloatArray:
        """Return log p(y, width, noise), shape (n_width, n_noise)."""
        answer = np.empty((width.size, noise.size))
        for column, value in enumerate(noise):
            jitter = float(value) if self.noise_name == "jitter" else float(self.hyper.jitter)
            scale = float(self.hyper.noise_scale) if self.noise_name == "jitter" else float(value)
            nodes = np.full(width.size, scale)
            answer[:, column] = self.marginal(jitter).log_likelihood(width, nodes, self.hyper.zero_point)
        for axis, values, prior in (
            (0, width, self.hyper.width),
            (1, noise, getattr(self.hyper, self.noise_name)),
        ):
            if isinstance(prior, Hyperprior):
                answer += np.expand_dims(prior.log_density(values), 1 - axis)
        return answer

    def marginal(self, jitter: float) -> Marginal:
        """Return the marginal likelihood at one jitter."""
        if jitter not in self._kept:
            self._kept[jitter] = Marginal.of(self.decomposer.at(jitter))
        return self._kept[jitter]

    def box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Find the box outside which the density is negligible, by looking closer and closer."""
        nodes = [self._first_nodes("width"), self._first_nodes(self.noise_name)]
        for _ in range(_MAX_ROUND):
            log = self(*nodes)
            done = True
            for axis in (0, 1):
                if nodes[axis].size > 1:
                    low, high, share = _support(nodes[axis], log.max(axis=1 - axis))
                    done = done and share >= _FILLED
                    nodes[axis] = np.linspace(low, high, _N_COARSE)
            if done:
                break
        return (nodes[0][0], nodes[0][-1]), (nodes[1][0], nodes[1][-1])

    def _first_nodes(self, name: str) -> FloatArray:
        prior = getattr(self.hyper, name)
        if not isinstance(prior, Hyperprior):
            return np.array([float(prior)])
        scale = prior.center or prior.scale
        return np.concatenate([[scale / _WIDE**2], np.geomspace(scale / _WIDE, scale * _WIDE, 2 * _N_COARSE)])


def _support(nodes: FloatArray, profile: FloatArray) -> tuple[float, float, float]:
    """Return a range that holds all nodes near the maximum, and their share; 0 if the range had to grow."""
    near = np.flatnonzero(profile > profile.max() - _DROP)
    span = float(nodes[-1] - nodes[0])
    share = near.size / nodes.size
    low, high = float(nodes[max(near[0] - 1, 0)]), float(nodes[min(near[-1] + 1, nodes.size - 1)])
    if near[0] == 0:
        share = share if low < _FLOOR * span else 0.0
        low = max(low - span, 0.0)
    if near[-1] == nodes.size - 1:
        share, high = 0.0, high + span
    return max(low, _FLOOR * high), high, share


def _middles(box: tuple[float, float], n_cell: int) -> FloatArray:
    if box[0] == box[1]:
        return np.array([box[0]])
    return box[0] + _side(box, n_cell) * (np.arange(n_cell, dtype=np.float64) + 0.5)


def _side(box: tuple[float, float], n_cell: int) -> float:
    return (box[1] - box[0]) / n_cell


def _draw_zero_point(
    spectrum: Spectrum, hyper: Hyperparameters, width: FloatArray, scale: FloatArray, *, rng: np.random.Generator
) -> FloatArray:
    if not isinstance(hyper.zero_point, Hyperprior):
        return np.full(width.size, float(hyper.zero_point))
    mean, std = Marginal.of(spectrum).zero_point_posterior(width, scale, hyper.zero_point)
    return mean + std * rng.standard_normal(width.size)


def _draw_coefficients(
    spectrum: Spectrum, width: FloatArray, scale: FloatArray, zero_point: FloatArray, *, rng: np.random.Generator
) -> FloatArray:
    """Draw w = m + s U u, where u is independent normal with precision lam / k**2 + 1 / width**2."""
    ratio = ((width / scale) ** 2)[:, None, None]
    inverse = 1.0 / (1.0 + ratio * spectrum.eigenvalues)
    start = (zero_point - 1.0)[:, None, None] * spectrum.offset
    u = rng.standard_normal((width.size, *spectrum.peak.shape))
    u *= width[:, None, None] * np.sqrt(inverse)
    u += start + (1.0 - inverse) * (spectrum.peak - start)
    prior = spectrum.problem.prior
    flux = spectrum.rotate(u)
    flux *= prior.precision**-0.5
    flux += prior.mean
    return flux
