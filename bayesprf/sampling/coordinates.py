"""Coordinates in which a sampler finds a nearly round posterior: transforms of PyMC variables, whose priors stay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
from pymc.logprob.transforms import Transform
from pytensor.tensor.shape import specify_shape
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.sparse import csc_matrix, diags

from bayesprf.arrays import FloatArray, Tensor
from bayesprf.sampling.laplace import Laplace
from bayesprf.sampling.spectrum import Spectrum

# Makes a random variable from the values of its parents, without a name.
Prior = Callable[..., Tensor]


def add_variable(
    name: str,
    prior: Prior,
    transform: Transform,
    *,
    parents: Sequence[Tensor] = (),
    guides: Sequence[Tensor] = (),
    shape: tuple[int, ...] = (),
    dims: Sequence[str] | None = None,
    log_density: Callable[..., object] | None = None,
) -> Tensor:
    """Add a variable to the PyMC model in context, with a prior and with coordinates for the sampler.

    Parameters
    ----------
    name : str
        Its name.
    prior : callable
        Called with the parents and `size`, returns the prior as `pymc.Normal.dist` does.
    transform : Transform
        Its coordinates; they start at 0. It finds guides, then parents, among the inputs after the first.
    parents, guides : sequence of TensorVariable
        What the prior depends on; and what sets coordinates alone. Both are inputs of the variable, so that the model
        can be cloned, conditioned and changed.
    shape : tuple of int
        Shape of the variable.
    dims : sequence of str, optional
        Names of its axes.
    log_density : callable, optional
        Called with a value and the parents, for a prior of a whole vector, whose density PyMC cannot find.

    Returns
    -------
    TensorVariable
    """
    n_guide = len(guides)

    def start(variable: object, *inputs: object) -> Tensor:
        del variable
        return transform.backward(pt.zeros(shape), *inputs)

    def density(value: object, *given: object) -> Tensor:
        return (log_density or (lambda at, *rest: pm.logp(prior(*rest), at)))(value, *given[n_guide:])

    inputs = [pt.as_tensor_variable(one) for one in (*guides, *parents)]
    return pm.CustomDist(
        name,
        *inputs,
        dist=lambda *given: prior(*given[n_guide:-1], size=given[-1]),
        logp=density,
        support_point=start,
        ndim_supp=0 if log_density is None else 1,
        ndims_params=[one.ndim for one in inputs],
        transform=transform,
        shape=shape,
        dims=dims,
    )


def times(matrix: Tensor, rows: Tensor) -> Tensor:
    """Return the product of a sparse matrix (n, k) with every row, shape (n_row, n).

    Parameters
    ----------
    matrix : sparse matrix of float64, shape (n, k)
        A constant of the graph.
    rows : TensorVariable, shape (n_row, k)
        Of known shape.

    Returns
    -------
    TensorVariable, shape (n_row, n)
    """
    n_row, size = rows.type.shape[0], matrix.shape[0]
    if n_row == 1:  # a view, where a transposition would break the loops over pixels
        return ps.structured_dot(csc_matrix(matrix), rows.reshape((matrix.shape[1], 1))).reshape((1, size))
    return specify_shape(ps.structured_dot(csc_matrix(matrix), rows.T).T, (n_row, size))


class TotalNoise(Transform):
    """log k + log(1 + j**2 / e**2) / 2 for a noise scale k guided by the jitter j.

    With errors near e, data hold k**2 (e**2 + j**2) much better than k and j apart, a curved ridge.
    """

    name = "total"
    ndim_supp = 0

    def __init__(self, error: float) -> None:
        self.error = error

    def forward(self, value: Tensor, *inputs: Tensor) -> Tensor:
        """Return the coordinate of a noise scale."""
        return pt.log(value) + 0.5 * pt.log1p((inputs[1] / self.error) ** 2)

    def backward(self, value: Tensor, *inputs: Tensor) -> Tensor:
        """Return the noise scale at a coordinate."""
        return pt.exp(value - 0.5 * pt.log1p((inputs[1] / self.error) ** 2))

    def log_jac_det(self, value: Tensor, *inputs: Tensor) -> Tensor:
        """Return log |dk / dx| = log k."""
        return value - 0.5 * pt.log1p((inputs[1] / self.error) ** 2)


class AdaptiveWhitening(Transform):
    """Whiten the coefficients of a linear problem at whatever width, zero point and noise scale the sampler is.

    Parameters
    ----------
    spectrum : Spectrum
        The problem at a fiducial noise.
    sigma : ndarray of float64, shape (n_coeff,)
        Its prior widths s.
    width : float, optional
        Whiten at this one width, with zero point and noise scale 1.

    Notes
    -----
    Guides of the variable are noise scale k and t = U' S X' D^-1 (y - X m), parents width v and zero point z. With
    S X' D^-1 X S = U lam U' (see `Spectrum`), a = offset (z - 1) and q = 1 + (v / k)**2 lam, coordinates xi stand for
    w = m + S U u, u = a + (v / k)**2 (t - lam a) / q + v xi / sqrt(q). At the fiducial noise their posterior is
    N(0, 1), independent of the width: each direction is centred as far as its data are good.
    """

    name = "whitened"
    ndim_supp = 1

    def __init__(self, spectrum: Spectrum, sigma: FloatArray, width: float | None = None) -> None:
        self.spectrum, self.width = spectrum, width
        self.n_batch, n_coeff = spectrum.peak.shape
        self.mean, self.log_sigma = spectrum.problem.prior.mean, float(np.log(sigma).sum())
        repeated = np.tile(sigma, spectrum.rotation().shape[0] // n_coeff)
        self.rotation = csc_matrix(diags(repeated) @ spectrum.rotation())
        self.back = csc_matrix(spectrum.rotation().T @ diags(1.0 / repeated))

    def _place(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return centre and spread of u, shapes (n_batch, n_coeff) and (n_row, n_coeff)."""
        noise_scale, towards, width, zero_point = inputs[1:5]
        if self.width is not None:
            width, zero_point, noise_scale = self.width, 1.0, 1.0
        ratio, eigenvalues = (width / noise_scale) ** 2, self.spectrum.eigenvalues
        q = 1.0 + ratio * eigenvalues
        start = self.spectrum.offset * (zero_point - 1.0)
        return start + ratio / q * (towards - eigenvalues * start), width / pt.sqrt(q)

    def _rotate(self, matrix: csc_matrix, rows: Tensor) -> Tensor:
        if self.spectrum.is_shared:
            return times(matrix, rows)
        return times(matrix, rows.reshape((1, rows.type.shape[0] * rows.type.shape[1]))).reshape(rows.type.shape)

    def _rows(self, value: Tensor) -> Tensor:
        return specify_shape(value if value.ndim == 2 else value[None], self.spectrum.peak.shape)

    def forward(self, value: Tensor, *inputs: object) -> Tensor:
        """Return the coordinates of coefficients."""
        centre, spread = self._place(inputs)
        found = (self._rotate(self.back, self._rows(value) - self.mean) - centre) / spread
        return found if value.ndim == 2 else found[0]

    def backward(self, value: Tensor, *inputs: object) -> Tensor:
        """Return the coefficients at coordinates."""
        centre, spread = self._place(inputs)
        found = self.mean + self._rotate(self.rotation, centre + spread * self._rows(value))
        return found if value.ndim == 2 else found[0]

    def log_jac_det(self, value: Tensor, *inputs: object) -> Tensor:
        """Return log |dw / dxi| of every batch row."""
        found = pt.log(self._place(inputs)[1]).sum(axis=-1) + self.log_sigma
        return found + np.zeros(self.n_batch) if value.ndim == 2 else found[0]


class LaplaceCoordinates(Transform):
    """Whiten a block of a Gaussian approximation, given the blocks before it.

    Parameters
    ----------
    mode : ndarray of float64
        Most probable values of the block, of its shape.
    follows : bool
        Whether there are blocks before.

    Notes
    -----
    With the lower factor M of the covariance, x = mode + M xi: block k is mode_k + sum_j<k M_kj xi_j + M_kk xi_k, and
    the xi of the blocks before follow from their x. Guides of the variable are M_kk and, if there are blocks before,
    M_k< M_<<^-1 and these blocks less their mode.
    """

    name = "laplace"

    def __init__(self, mode: FloatArray, *, follows: bool) -> None:
        self.mode, self.follows, self.ndim_supp = mode, follows, mode.ndim

    def _centre(self, inputs: Sequence[Tensor]) -> Tensor:
        centre = self.mode.ravel()
        return centre + pt.dot(inputs[2], inputs[3]) if self.follows else centre

    def forward(self, value: Tensor, *inputs: Tensor) -> Tensor:
        """Return the coordinates of a block."""
        away = value.flatten() - self._centre(inputs)
        return pt.linalg.solve_triangular(inputs[1], away, lower=True).reshape(self.mode.shape)

    def backward(self, value: Tensor, *inputs: Tensor) -> Tensor:
        """Return the block at coordinates."""
        return (self._centre(inputs) + pt.dot(inputs[1], value.flatten())).reshape(self.mode.shape)

    def log_jac_det(self, value: object, *inputs: object) -> Tensor:
        """Return log |dx / dxi|."""
        del value
        return pt.log(pt.diag(inputs[1])).sum()


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some parameters with a prior of their own.

    Parameters
    ----------
    name : str
        Name of the variable.
    prior : callable
        As for `add_variable`.
    shape : tuple of int
        Its shape.
    dims : tuple of str, optional
        Names of its axes.
    parents : tuple of TensorVariable
        What the prior depends on.
    log_density : callable, optional
        As for `add_variable`.
    """

    name: str
    prior: Prior
    shape: tuple[int, ...] = ()
    dims: tuple[str, ...] | None = None
    parents: tuple[Tensor, ...] = ()
    log_density: Callable[..., Tensor] | None = None


def gaussian_block(name: str, mean: FloatArray, covariance: FloatArray, *, dims: tuple[str, ...]) -> Block:
    """Return a block of parameters with a joint Gaussian prior.

    Parameters
    ----------
    name : str
        Name of the variable.
    mean, covariance : ndarray of float64, shape (n,) and (n, n)
        The prior.
    dims : tuple of str
        Name of its axis.

    Returns
    -------
    Block
    """
    lower = cholesky(covariance, lower=True)
    constant = -float(np.log(np.diag(lower)).sum()) - 0.5 * mean.size * np.log(2.0 * np.pi)

    def draw(precision: object, size: object = None) -> Tensor:
        del precision, size
        return mean + pt.dot(lower, pm.Normal.dist(size=mean.size))

    def log_density(value: Tensor, precision: object) -> Tensor:
        away = value - mean
        return constant - 0.5 * (away * pt.dot(precision, away)).sum()

    precision = pm.Data(f"{name}_precision", cho_solve((lower, True), np.eye(mean.size)))
    return Block(name, draw, mean.shape, dims, (precision,), log_density)


def add_blocks(laplace: Laplace, blocks: Sequence[Block]) -> list[Tensor]:
    """Add parameters to the PyMC model in context, whitened by a Gaussian approximation of their joint posterior.

    Parameters
    ----------
    laplace : Laplace
        Mode and spread of all parameters, in the order of the blocks.
    blocks : sequence of Block
        The parameters.

    Returns
    -------
    list of TensorVariable
    """
    factor, start = laplace.factor, 0
    before: list[Tensor] = []
    added: list[Tensor] = []
    for block in blocks:
        ahead, own = slice(0, start), slice(start, start + int(np.prod(block.shape)))
        mode = laplace.mode[own].reshape(block.shape)
        guides = [pm.Data(f"{block.name}_spread", factor[own, own])]
        if before:
            gain = solve_triangular(factor[ahead, ahead], factor[own, ahead].T, lower=True, trans="T").T
            guides += [pm.Data(f"{block.name}_gain", gain), pt.concatenate(before)]
        coordinates = LaplaceCoordinates(mode, follows=bool(before))
        added.append(
            add_variable(
                block.name, block.prior, coordinates, parents=block.parents, guides=guides, shape=block.shape,
                dims=block.dims, log_density=block.log_density,
            )
        )  # fmt: skip
        before.append(added[-1].flatten() - mode.ravel())
        start = own.stop
    return added
