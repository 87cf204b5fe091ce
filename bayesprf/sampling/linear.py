"""PyMC models of a linear problem: the very matrices, data and priors that the closed form solves."""

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
from pytensor.tensor.shape import specify_shape
from scipy.sparse import csc_matrix, csr_matrix, diags, hstack

from bayesprf.arrays import FloatArray, IntArray, NamedDict, Tensor
from bayesprf.checks import check_choice, check_shape
from bayesprf.errors import UnsupportedError
from bayesprf.linalg.hyperparameters import Hyperparameters
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.coordinates import AdaptiveWhitening, add_variable, times
from bayesprf.sampling.hyper import Hyperprior, Priors, add_hyperparameters, proper_design, resolve
from bayesprf.sampling.spectrum import Decomposer, Spectrum

FORMS = ("adaptive", "centered", "whitened")
LIKELIHOODS = ("normal", "student-t", "statistics")

# Degrees of freedom of the Student-t likelihood: Gamma(2, 0.1), Juarez & Steel (2010).
_NU_SHAPE, _NU_RATE = 2.0, 0.1


def build_linear(
    problem: LinearProblem,
    data: GroupData,
    hyper: Hyperparameters | None = None,
    *,
    form: str = "adaptive",
    likelihood: str = "normal",
    priors: Priors | None = None,
    follow: bool = True,
) -> pm.Model:
    """Build the model of the fluxes of a group of sources.

    Parameters
    ----------
    problem : LinearProblem
        Design, data, errors and prior of the group, as `bayesprf.photometry.groups.extract_group` cuts them out.
    data : GroupData
        Names of its axes.
    hyper : Hyperparameters, optional
        What is learned of prior and noise; all fixed by default, so that the posterior is the closed form's.
    form : {"adaptive", "centered", "whitened"}
        Coordinates of the sampler. "adaptive" whitens the posterior at whatever width the sampler is, "whitened" at one
        width, "centered" not at all. The posterior is the same; the first alone is efficient in all regimes.
    likelihood : {"normal", "student-t", "statistics"}
        "student-t" learns its degrees of freedom `nu` and so tolerates cosmic rays. "statistics" replaces pixels by the
        normal equations: the same normal likelihood, cheaper, for fixed jitter, but no likelihood of single pixels.
    priors : mapping of str to callable, optional
        Instead of a Hyperprior: functions that, called with its name inside the model, make a hyperparameter, as
        ``{"width": lambda name: pm.HalfCauchy(name, 1.0)}``.

    follow : bool
        Whether the coordinates of the sampler follow the data when these are set anew, `pymc.set_data`. If not, a step
        is cheaper by a sixth, and coordinates stay those of the data given here.

    Returns
    -------
    pymc.Model
        Variables `flux` (time, source) and `y` (time, pixel); the free hyperparameters, by name; `nu`.

    Raises
    ------
    InputError
        If an argument is not one of those listed, or the prior is flat.
    ShapeError
        If `data` does not fit the problem.
    UnsupportedError
        For free jitter with "statistics", or several widths in a form that is not "centered".

    Notes
    -----
    w ~ N(z m, (v s)**2), y ~ N(X w + known, k**2 (C + j**2)): width v, zero point z, noise scale k, jitter j. The
    coordinates of "adaptive" and "whitened" are a transform of `flux`, `AdaptiveWhitening`: its prior is as declared.
    """
    check_choice(form, FORMS, "form")
    check_choice(likelihood, LIKELIHOODS, "likelihood")
    check_shape(problem.data if data.has_time else problem.data[0], np.shape(data.y), "data", "as problem.data")
    resolved = resolve(hyper or Hyperparameters(), problem)
    if resolved.has_groups and form != "centered":
        raise UnsupportedError(f"width_group: expected form='centered' for several widths, got {form!r}")
    parts = _Parts.of(problem, data, resolved)
    with pm.Model(coords=parts.coords) as model:
        values = add_hyperparameters(problem, resolved, priors)
        observed = None if likelihood == "statistics" else add_data(data)
        if form == "centered":
            flux = _centered(parts, values)
        else:
            towards = _towards(parts, observed) if follow and observed is not None else parts.towards
            flux = _whitened(parts, values, towards, width=parts.width if form == "whitened" else None)
        weights = specify_shape(flux if data.has_time else flux[None, :], parts.spectrum.peak.shape)
        if observed is None:
            _add_statistics(parts, values, weights)
        else:
            model_y = predict(proper_design(problem), weights) + problem.known
            noise = {"noise_scale": values.noise_scale, "jitter": values.jitter}
            add_observed(parts.labelled(model_y), data, observed, robust=likelihood == "student-t", **noise)
    return model


def fiducial_jitter(decomposer: Decomposer, hyper: Hyperparameters) -> float:
    """Return the jitter at which the models are whitened: the fixed one, or a rough guess from the residuals.

    Parameters
    ----------
    decomposer : Decomposer
        The problem.
    hyper : Hyperparameters
        Resolved.

    Returns
    -------
    float
        In the unit of the data.
    """
    if not isinstance(hyper.jitter, Hyperprior):
        return float(hyper.jitter)
    if not decomposer.used.any():
        return 0.0
    spectrum = decomposer.at()
    excess = float(spectrum.chi2.sum()) / max(spectrum.n_used - spectrum.peak.size, 1)
    error2 = float(np.mean(decomposer.variance[decomposer.used]))
    return float(np.sqrt(max(excess - 1.0, 0.0) * error2))


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Constants of a model."""

    problem: LinearProblem
    data: GroupData
    spectrum: Spectrum
    mean: FloatArray
    sigma: FloatArray
    width: float
    fiducial: float
    group: IntArray
    coords: NamedDict

    @classmethod
    def of(cls, problem: LinearProblem, data: GroupData, hyper: Hyperparameters) -> "_Parts":
        """Prepare the constants, the whitening at a rough guess of the noise."""
        decomposer = Decomposer(problem)
        jitter = fiducial_jitter(decomposer, hyper)
        width = hyper.width if not isinstance(hyper.width, Hyperprior) else 1.0
        coords = {"source": [str(one) for one in data.source], **data_coords(data)}
        if hyper.has_groups:
            coords["width_group"] = np.unique(hyper.groups(decomposer.sigma.size))
        return cls(
            problem, data, decomposer.at(jitter), problem.prior.mean, decomposer.sigma, float(width), jitter,
            hyper.groups(decomposer.sigma.size), coords,
        )  # fmt: skip

    @property
    def flux_dims(self) -> tuple[str, ...]:
        """Axes of the fluxes."""
        return ("time", "source") if self.data.has_time else ("source",)

    @property
    def flux_shape(self) -> tuple[int, ...]:
        """Shape of the fluxes."""
        return self.spectrum.peak.shape if self.data.has_time else self.spectrum.peak.shape[1:]

    @property
    def towards(self) -> FloatArray:
        """What pulls the coefficients, in the eigenbasis: U' S X' D^-1 (y - X m), shape as `flux`."""
        return (self.spectrum.eigenvalues * self.spectrum.peak).reshape(self.flux_shape)

    def labelled(self, rows: Tensor) -> Tensor:
        """Return rows (n_time, n) without the axis of time if there is none."""
        return rows if self.data.has_time else rows[0]


def _centered(parts: _Parts, values: Hyperparameters) -> Tensor:
    """Sample the fluxes themselves."""
    width = values.width[parts.group] if np.ndim(values.width) else values.width
    mean, sigma = values.zero_point * parts.mean, width * parts.sigma
    return pm.Normal("flux", mu=mean, sigma=sigma, dims=parts.flux_dims, shape=parts.flux_shape)


def _whitened(parts: _Parts, values: Hyperparameters, towards: Tensor, *, width: float | None) -> Tensor:
    """Sample coordinates in which the posterior of the fluxes is nearly N(0, 1)."""

    def prior(width: Tensor, zero_point: Tensor, size: Tensor = None) -> Tensor:
        del size  # of the batch alone
        return pm.Normal.dist(zero_point * parts.mean, width * parts.sigma, size=parts.flux_shape)

    # Written out: one sum and one logarithm of the width, instead of a density of every flux.
    constant = -float(np.log(parts.sigma).sum()) - 0.5 * parts.sigma.size * np.log(2.0 * np.pi)
    mean, scale = parts.mean / parts.sigma, 1.0 / parts.sigma

    def log_density(value: Tensor, width: Tensor, zero_point: Tensor) -> Tensor:
        away = value * scale - zero_point * mean
        return constant - parts.sigma.size * pt.log(width) - 0.5 * (away**2).sum(axis=-1) / width**2

    transform = AdaptiveWhitening(parts.spectrum, parts.sigma, width)
    return add_variable(
        "flux", prior, transform, parents=(values.width, values.zero_point), guides=(values.noise_scale, towards),
        shape=parts.flux_shape, dims=parts.flux_dims, log_density=log_density,
    )  # fmt: skip


def _towards(parts: _Parts, observed: Tensor) -> Tensor:
    """Return U' S X' D^-1 (y - X m) of the data, whatever they are set to, shape as `flux`."""
    problem, design, spectrum = parts.problem, proper_design(parts.problem), parts.spectrum
    n_batch, used = problem.n_batch, problem.ivar > 0
    n_row = 1 if spectrum.is_shared else n_batch
    variance = 1.0 / np.where(used, problem.ivar, 1.0) + parts.fiducial**2
    ivar = np.where(used, 1.0 / variance, 0.0)[:n_row]
    at_mean = problem.predict(np.tile(problem.prior.mean, (n_batch, 1)))[: 1 if design.is_static else n_batch]
    weighted = ivar * (spread_out(observed, parts.data).reshape(problem.data.shape) - at_mean)
    mixed = [weighted] if design.mix is None else [weighted * column[:, None] for column in design.mix.T]
    stacked = pt.concatenate(mixed, axis=1) if len(mixed) > 1 else mixed[0]
    projected = times(diags(parts.sigma) @ hstack([one.T for one in part_matrices(design)]), stacked)
    seen = diags((spectrum.eigenvalues > 0).ravel().astype(np.float64))
    back = csc_matrix(seen @ spectrum.rotation().T)
    if not spectrum.is_shared:
        projected = projected.reshape((1, n_batch * design.n_coeff))
    return times(back, projected).reshape(parts.flux_shape)


def part_matrices(design: DesignStack) -> list[csr_matrix]:
    """Return the matrix of every part of a design, shape (n_obs, n_coeff) each."""
    return [design.sparse(one) for one in design.parts]


def predict(design: DesignStack, weights: object) -> Tensor:
    """Return X_b w_b of every batch row as a PyTensor expression.

    Parameters
    ----------
    design : DesignStack
        The design; its matrices become sparse constants.
    weights : TensorVariable, shape (n_batch, n_coeff)
        Coefficients.

    Returns
    -------
    TensorVariable, shape (n_batch, n_obs)
    """
    scaled = [weights] if design.mix is None else [weights * column[:, None] for column in design.mix.T]
    stacked = pt.concatenate(scaled, axis=1) if len(scaled) > 1 else scaled[0]
    return times(hstack(part_matrices(design)), stacked)


def add_data(data: GroupData) -> Tensor:
    """Add the data to the model in context: `y_observed`, all that exist.

    Parameters
    ----------
    data : GroupData
        The data, and which exist.

    Returns
    -------
    TensorVariable
        Shape of `data.y`, or (n_observation,) if some do not exist.
    """
    given = data.y if data.used.all() else data.y[data.used]
    return pm.Data("y_observed", given, shape=given.shape, dims=data_dims(data))


def spread_out(observed: object, data: GroupData) -> Tensor:
    """Return data that exist in the shape of all data, 0 where there are none."""
    if data.used.all():
        return observed
    return pt.zeros(data.used.size)[np.flatnonzero(data.used)].set(observed).reshape(data.used.shape)


def data_coords(data: GroupData) -> NamedDict:
    """Return the values of the axes of the data."""
    coords: NamedDict = {"pixel": data.pixel}
    if data.has_time:
        coords["time"] = data.time
    if not data.used.all():
        coords["observation"] = np.arange(int(data.used.sum()))
    return coords


def data_dims(data: GroupData) -> tuple[str, ...]:
    """Return the axes of the data that exist."""
    if not data.used.all():
        return ("observation",)
    return ("time", "pixel") if data.has_time else ("pixel",)


def add_observed(
    model: Tensor,
    data: GroupData,
    observed: Tensor,
    *,
    robust: bool = False,
    noise_scale: Tensor = 1.0,
    jitter: Tensor = 0.0,
    template: FloatArray | None = None,
) -> None:
    """Add the likelihood of every datum that exists to the model in context, as variable `y`.

    Parameters
    ----------
    model : TensorVariable, shape of `data.y`
        Noise-free data.
    data : GroupData
        The data, their errors and which exist.
    observed : TensorVariable
        What `add_data` returned.
    robust : bool
        Student-t with free degrees of freedom `nu` instead of normal.
    noise_scale, jitter : float or TensorVariable
        Factor on the errors, and error added in quadrature before.
    template : ndarray of float64, shape (n_pixel,), optional
        Factor on the jitter in each pixel, 1 by default.
    """
    dims, error = data_dims(data), data.y_err[data.used]
    jitter = jitter if template is None else jitter * template
    if not data.used.all():
        model = model.flatten()[np.flatnonzero(data.used)]
        jitter = jitter if template is None else jitter[np.nonzero(data.used)[-1]]
    else:
        error = error.reshape(data.y.shape)
    shared = error.ndim == 2 and bool(np.all(error == error[:1]))
    error = error[0] if shared else error
    y_err = pm.Data("y_err_used", error, shape=error.shape, dims=dims[1:] if shared else dims)
    noise = noise_scale * (y_err if isinstance(jitter, float) and jitter == 0.0 else pt.sqrt(y_err**2 + jitter**2))
    if robust:
        nu = pm.Gamma("nu", _NU_SHAPE, _NU_RATE)
        pm.StudentT("y", nu=nu, mu=model, sigma=noise, observed=observed, dims=dims)
    else:
        pm.Normal("y", mu=model, sigma=noise, observed=observed, dims=dims)


def _add_statistics(parts: _Parts, values: Hyperparameters, weights: Tensor) -> None:
    """Add the normal likelihood through chi2(w) = chi2(w0) + (u - u0)' lam (u - u0) in the eigenbasis."""
    if not isinstance(values.jitter, float):
        raise UnsupportedError("likelihood: 'statistics' needs a fixed jitter, got a free one; use 'normal'")
    spectrum = parts.spectrum
    back = spectrum.rotation().T.tocsc()
    scaled = (weights - parts.mean) / parts.sigma
    u = ps.structured_dot(back, scaled.T).T if spectrum.is_shared else None
    if u is None:
        u = ps.structured_dot(back, scaled.reshape((-1, 1))).reshape(spectrum.peak.shape)
    chi2 = float(spectrum.chi2.sum()) + (spectrum.eigenvalues * (u - spectrum.peak) ** 2).sum()
    log_noise = spectrum.log_noise + 2.0 * spectrum.n_used * pt.log(values.noise_scale)
    pm.Potential("likelihood", -0.5 * (log_noise + chi2 / values.noise_scale**2))
