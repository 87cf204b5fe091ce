"""Any light curve of blended stars, scored on the pixels: levels, neighbours and errors integrated out exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op, OutputStorageType

from bayesprf.arrays import FloatArray, NamedDict, Tensor
from bayesprf.checks import check_shape, checked, shown
from bayesprf.errors import InputError
from bayesprf.fit_record import Fit
from bayesprf.linalg.kalman import FixedColumns, RowInformation, solve_processes
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.state_space import ProcessKernel
from bayesprf.photometry.processes import flux_information
from bayesprf.uncertainty.stage import leak_covariance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bayesprf.machine import Machine

# Numbers of a kernel that may be variables of a model.
_FREE = ("sigma", "scale", "white")


@checked
def pixel_likelihood(
    machine: object, sources: object, light_curve: object, *, kernel: object = None, systematics: bool = True
) -> Tensor:
    """Return the log likelihood of all pixels as a function of the light curve of one or several stars.

    Parameters
    ----------
    machine : Machine
        With fluxes, from `fit_model`.
    sources : int, str or sequence of them
        The stars whose light curve is modelled.
    light_curve : TensorVariable or array-like, shape (n_time,) or (n_time, n_star)
        Relative light curve of each: 1 where the star has its usual flux. NaN-free; any PyTensor expression of a
        model's variables.
    kernel : ProcessKernel, mapping, or sequence of them per star, optional
        Variability of the stars beside the light curve, a Gaussian process in electron / s, integrated out too. A
        mapping holds the fields of `ProcessKernel`; `sigma`, `scale` and `white` may be variables of the model.
    systematics : bool
        Let the light of all other stars in the modelled ones err, equally at all cadences, by what `common_errors`
        carries: it dilutes a transit.

    Returns
    -------
    TensorVariable
        A number: log p(pixels | light curve), to be given to ``pymc.Potential``. With a constant, so that differences
        between models of the same fit and the same `sources` are ratios of evidences; after a robust fit the constant
        is 0. To compare hosts, name all of them in every model, with a flat light curve for those that do not dim.

    Raises
    ------
    StageError
        Before `fit_model`.
    InputError
        If a source does not exist or is named twice, or a kernel does not fit.
    ShapeError
        If a light curve has another shape.

    See Also
    --------
    Machine.event_depth : The depth of an event of known shape, without a sampler.

    Notes
    -----
    F_s(t) = level_s light_s(t) + leak_s + process_s(t), level with the prior of `fit_model`, leak ~ N(0, R R'). All
    other stars, and the background, have a free flux at every cadence under their prior. The fluxes of the fit and
    their covariance at every cadence are sufficient, and what is linear is integrated out. Without a kernel this is
    plain PyTensor; with one, an Op whose gradient is that of the Kalman smoother (`bayesprf.linalg.kalman`).

    Examples
    --------
    A transit whose depth and time are unknown::

        with pymc.Model() as model:
            depth = pymc.Uniform("depth", 0.0, 0.5)
            middle = pymc.Normal("middle", 124.2, 0.1)
            inside = pymc.math.sigmoid((0.1 - abs(machine.time - middle)) / 0.005)
            pymc.Potential("pixels", bayesprf.pixel_likelihood(machine, [3], 1.0 - depth * inside))
            trace = pymc.sample()
    """
    fit = machine if isinstance(machine, Fit) else cast("Machine", machine).fit
    chosen = fit.sources.indices(sources)
    if np.unique(chosen).size != chosen.size:
        raise InputError(f"sources: expected each star once, got {shown(sources)}")
    latest = fit.latest_flux
    prior = GaussianPrior(latest.prior.mean[chosen], latest.prior.precision[chosen])
    seen = flux_information(latest, chosen)
    if not np.isfinite(seen.constant).all():
        seen = replace(seen, constant=np.zeros(seen.n_time))
    leak = leak_covariance(fit, chosen) if systematics else np.zeros((chosen.size, chosen.size))
    return light_curve_likelihood(seen, light_curve, prior, leak=leak, time=fit.pixels.time, kernel=kernel)


def light_curve_likelihood(
    seen: RowInformation,
    light_curve: Tensor,
    level: GaussianPrior,
    *,
    leak: FloatArray,
    time: FloatArray | None = None,
    kernel: object = None,
) -> Tensor:
    """Return the log likelihood of a light curve from what each cadence says about the fluxes.

    Parameters
    ----------
    seen : RowInformation
        About the fluxes of n_star stars.
    light_curve : TensorVariable or array-like, shape (n_time,) or (n_time, n_star)
        Relative light curves.
    level : GaussianPrior
        Prior of the stars' levels, electron / s.
    leak : ndarray of float64, shape (n_star, n_star)
        Covariance of light that is added to each star equally at all cadences, (electron / s)**2.
    time : ndarray of float64, shape (n_time,), optional
        Times, day; needed with a kernel.
    kernel : ProcessKernel, mapping, or sequence of them per star, optional
        See `pixel_likelihood`.

    Returns
    -------
    TensorVariable
    """
    light = pt.as_tensor_variable(light_curve)
    light = light[:, None] if light.ndim == 1 else light
    n_time, n_star = seen.matrix.shape[:2]
    expected = (n_time, n_star)
    fits = all(one in (None, n) for one, n in zip(light.type.shape, expected, strict=False))
    if light.ndim != 2 or not fits:
        raise InputError(
            f"light_curve: expected shape ({n_time},) or ({n_time}, {n_star}), got {light.type.shape}; give one"
            " relative flux per cadence and star"
        )
    scale, axes = np.linalg.eigh(leak)
    errors = axes[:, scale > 0] * np.sqrt(scale[scale > 0])
    mean = np.concatenate([level.mean, np.zeros(errors.shape[1])])
    precision = np.diag(np.concatenate([level.precision, np.ones(errors.shape[1])]))
    own = light[:, :, None] * np.eye(n_star)
    columns = pt.concatenate([own, pt.zeros((n_time, 1, 1)) + errors], axis=2) if errors.shape[1] else own
    if kernel is None:
        return _plain(seen.about(np.tile(level.mean, (n_time, 1))), light - 1.0, columns, mean, precision)
    if time is None:
        raise InputError("time: expected the times of the cadences beside a kernel, got None")
    check_shape(time, (n_time,), "time", "n_time")
    kernels = (
        [kernel] * n_star if isinstance(kernel, ProcessKernel | Mapping) else list(cast("Iterable[object]", kernel))
    )
    if len(kernels) != n_star:
        raise InputError(f"kernel: expected one, or {n_star} of them, one per star, got {len(kernels)}")
    fields = [_as_mapping(one) for one in kernels]
    numbers = pt.stack([pt.stack([pt.as_tensor_variable(one[name]) for one in fields]) for name in _FREE])
    fixed = tuple(
        ProcessKernel(one["family"], **({"quality": one["quality"]} if "quality" in one else {})) for one in fields
    )
    evidence = ProcessEvidence(seen, fixed, time, mean, precision)
    return evidence.make_node(columns, numbers.astype("float64")).outputs[0]


def _plain(seen: RowInformation, change: Tensor, columns: Tensor, mean: FloatArray, precision: FloatArray) -> Tensor:
    """Return the log likelihood of fixed columns alone; `seen` is about the level's prior, `change` light minus one."""
    offset = change * mean[: seen.n_coeff]
    curved = (seen.matrix * offset[:, None, :]).sum(axis=2)
    value = seen.constant.sum() + ((seen.rhs - 0.5 * curved) * offset).sum()
    rhs = (columns * (seen.rhs - curved)[:, :, None]).sum(axis=(0, 1))
    weighted = (seen.matrix[:, :, :, None] * columns[:, None, :, :]).sum(axis=2)
    information = columns.reshape((-1, mean.size)).T @ weighted.reshape((-1, mean.size))
    lower = pt.linalg.cholesky(information + precision)
    half = pt.linalg.solve_triangular(lower, rhs, lower=True)
    log_det = 2.0 * pt.log(pt.diag(lower)).sum() - np.linalg.slogdet(precision)[1]
    return value + 0.5 * (half**2).sum() - 0.5 * log_det


def _as_mapping(kernel: object) -> NamedDict:
    """Return the numbers of a kernel by name, those left out at their defaults."""
    names = ("family", *_FREE, "quality")
    if isinstance(kernel, ProcessKernel):
        return {name: getattr(kernel, name) for name in names}
    if not isinstance(kernel, Mapping) or not set(kernel) <= set(names) or "family" not in kernel:
        raise InputError(
            f"kernel: expected a ProcessKernel, or a mapping with family and some of {names[1:]}, got {shown(kernel)}"
        )
    return {"sigma": 0.0, "scale": 1.0, "white": 0.0, **kernel}


class ProcessEvidence(Op):
    """log p(data | columns, kernels) with processes and the columns' coefficients integrated out, and its gradient.

    Parameters
    ----------
    seen : RowInformation
        What each cadence says about the fluxes.
    kernels : tuple of ProcessKernel
        Families and quality factors; their other numbers are inputs.
    time : ndarray of float64, shape (n_time,)
        Times, day.
    mean, precision : ndarray of float64, shape (n_column,) and (n_column, n_column)
        Prior of the columns' coefficients.
    """

    def __init__(
        self,
        seen: RowInformation,
        kernels: tuple[ProcessKernel, ...],
        time: FloatArray,
        mean: FloatArray,
        precision: FloatArray,
    ) -> None:
        self.seen, self.kernels, self.time = seen, kernels, time
        self.mean, self.precision = mean, precision

    def make_node(self, *inputs: Tensor) -> "Apply[ProcessEvidence]":
        """Return the node: columns (n_time, n_star, n_column) and sigma, scale, white (3, n_star); value and slopes."""
        given = [pt.as_tensor_variable(one) for one in inputs]
        return Apply(self, given, [pt.dscalar(), pt.dtensor3(), pt.dmatrix()])

    def perform(self, node: object, inputs: Sequence[FloatArray], output_storage: OutputStorageType) -> None:
        """Compute all three; minus infinity where a kernel cannot be."""
        del node
        columns, numbers = inputs
        if not (np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers[1] > 0).all()):
            output_storage[0][0] = np.asarray(-np.inf)
            output_storage[1][0], output_storage[2][0] = np.zeros(columns.shape), np.zeros(numbers.shape)
            return
        kernels = tuple(
            replace(one, sigma=float(sigma), scale=float(scale), white=float(white))
            for one, (sigma, scale, white) in zip(self.kernels, numbers.T, strict=True)
        )
        fixed = FixedColumns(columns, self.mean, self.precision)
        found = solve_processes(self.seen, kernels, self.time, fixed, gradient=True)
        slopes = found.slopes
        by_number = np.stack(
            [
                slopes.log_sigma / np.maximum(numbers[0], 1e-300),
                slopes.log_scale / numbers[1],
                2.0 * numbers[2] * slopes.white_variance,
            ]
        )
        output_storage[0][0] = np.asarray(found.log_evidence.sum())
        output_storage[1][0], output_storage[2][0] = slopes.columns, by_number

    def pullback(self, inputs: object, outputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradient of what depends on the value."""
        del inputs
        return [cotangents[0] * outputs[1], cotangents[0] * outputs[2]]
