"""PyMC models of a linear problem: the very matrices, data and priors that the closed form solves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
from scipy.sparse import csc_matrix, hstack

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_choice, check_shape
from bayesprf.errors import UnsupportedError
from bayesprf.linalg.problem import LinearProblem
from bayesprf.linalg.stack import DesignStack
from bayesprf.results.posterior import GroupData
from bayesprf.sampling.hyper import Hyperparameters, Hyperprior, Priors, add_hyperparameters, resolve
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
        "student-t" learns its degrees of freedom `nu` and so bears cosmic rays. "statistics" replaces the pixels by the
        normal equations: the same normal likelihood, cheaper, for fixed jitter, but no likelihood of single pixels.
    priors : mapping of str to callable, optional
        Instead of a Hyperprior: functions that, called with its name inside the model, make a hyperparameter, as
        ``{"width": lambda name: pm.HalfCauchy(name, 1.0)}``.

    Returns
    -------
    pymc.Model
        Variables `flux` (time, source) and `y`; of the hyperparameters those that are free, by name; `nu`.

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
    w ~ N(z m, (v s)**2), y ~ N(X w + known, k**2 (C + j**2)): width v, zero point z, noise scale k, jitter j.
    "adaptive": with S X' D^-1 X S = U lam U' (see `Spectrum`) at a fiducial noise, q = 1 + (v / k)**2 lam,
    u = offset (z - 1) + (1 - 1 / q) (peak - offset (z - 1)) + v xi / sqrt(q), w = m + S U u. At that noise the
    posterior of xi is N(0, 1), independent of the width: each direction is centred as far as its data are good.
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
        weights = (_centered if form == "centered" else _whitened)(parts, values, fixed=form == "whitened")
        if likelihood == "statistics":
            _add_statistics(parts, values, weights)
        else:
            _add_pixels(parts, values, weights, robust=likelihood == "student-t")
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
    fiducial: tuple[float, float]
    group: IntArray
    coords: dict[str, Any]

    @classmethod
    def of(cls, problem: LinearProblem, data: GroupData, hyper: Hyperparameters) -> "_Parts":
        """Prepare the constants, the whitening at a rough guess of the noise."""
        decomposer = Decomposer(problem)
        jitter = fiducial_jitter(decomposer, hyper)
        width = hyper.width if not isinstance(hyper.width, Hyperprior) else 1.0
        coords: dict[str, Any] = {"source": [str(one) for one in data.source], "pixel": data.pixel}
        if data.has_time:
            coords["time"] = data.time
        if not data.used.all():
            coords["observation"] = np.arange(int(data.used.sum()))
        if hyper.has_groups:
            coords["width_group"] = np.unique(hyper.width_group)
        return cls(
            problem, data, decomposer.at(jitter), problem.prior.mean, decomposer.sigma, (float(width), jitter),
            hyper.groups(decomposer.sigma.size), coords,
        )  # fmt: skip

    @property
    def flux_dims(self) -> tuple[str, ...]:
        """Axes of the fluxes."""
        return ("time", "source") if self.data.has_time else ("source",)

    def labelled(self, flux: Any) -> Any:
        """Return fluxes (n_time, n_source) without the axis of time if there is none."""
        return flux if self.data.has_time else flux[0]

    def full(self, flux: Any) -> Any:
        """Return fluxes with an axis of time."""
        return flux if self.data.has_time else flux[None, :]


def _centered(parts: _Parts, values: Hyperparameters, *, fixed: bool) -> Any:
    """Sample the fluxes themselves."""
    del fixed
    width = values.width[parts.group] if np.ndim(values.width) else values.width
    mean, sigma = values.zero_point * parts.mean, width * parts.sigma
    return parts.full(pm.Normal("flux", mu=mean, sigma=sigma, dims=parts.flux_dims))


def _whitened(parts: _Parts, values: Hyperparameters, *, fixed: bool) -> Any:
    """Sample coordinates in which the posterior is nearly N(0, 1), and make the fluxes from them."""
    spectrum = parts.spectrum
    xi = parts.full(pm.Normal("xi", 0.0, 1.0, dims=parts.flux_dims))
    width, scale = (parts.fiducial[0], 1.0) if fixed else (values.width, values.noise_scale)
    peak = pm.Data("peak", spectrum.peak, shape=spectrum.peak.shape)
    start = spectrum.offset * ((1.0 if fixed else values.zero_point) - 1.0)
    q = 1.0 + (width / scale) ** 2 * pt.as_tensor(spectrum.eigenvalues)
    spread = width / pt.sqrt(q)
    u = start + (1.0 - 1.0 / q) * (peak - start) + spread * xi
    moved = (u - spectrum.offset * (values.zero_point - 1.0)) / values.width
    n_row, repeats = spectrum.eigenvalues.shape[0], spectrum.peak.shape[0] / spectrum.eigenvalues.shape[0]
    jacobian = repeats * pt.log(spread / values.width + pt.zeros((n_row, 1))).sum()
    pm.Potential("whitening", 0.5 * (xi**2).sum() - 0.5 * (moved**2).sum() + jacobian)
    weights = parts.mean + parts.sigma * _rotate(spectrum, u)
    return parts.full(pm.Deterministic("flux", parts.labelled(weights), dims=parts.flux_dims))


def _rotate(spectrum: Spectrum, u: Any) -> Any:
    """Return U u with a sparse constant U."""
    matrix = spectrum.rotation()
    if spectrum.is_shared:
        return ps.structured_dot(matrix, u.T).T
    return ps.structured_dot(matrix, u.reshape((-1, 1))).reshape(spectrum.peak.shape)


def predict(design: DesignStack, weights: Any) -> Any:
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
    parts = [DesignStack(design.indptr, design.indices, part[None], design.n_coeff).matrix() for part in design.parts]
    scaled = [weights.T] if design.mix is None else [weights.T * column for column in design.mix.T]
    stacked = pt.concatenate(scaled, axis=0) if len(scaled) > 1 else scaled[0]
    return ps.structured_dot(csc_matrix(hstack(parts)), stacked).T


def _add_pixels(parts: _Parts, values: Hyperparameters, weights: Any, *, robust: bool) -> None:
    """Add the likelihood of every pixel that exists."""
    problem = parts.problem
    model = parts.labelled(predict(problem.design, weights) + problem.known)
    add_observed(model, parts.data, robust=robust, noise_scale=values.noise_scale, jitter=values.jitter)


def add_observed(
    model: Any,
    data: GroupData,
    *,
    robust: bool = False,
    noise_scale: Any = 1.0,
    jitter: Any = 0.0,
    template: FloatArray | None = None,
) -> None:
    """Add the likelihood of every datum that exists to the model in context, as variable `y`.

    Parameters
    ----------
    model : TensorVariable, shape of `data.y`
        Noise-free data.
    data : GroupData
        The data, their errors and which exist.
    robust : bool
        Student-t with free degrees of freedom `nu` instead of normal.
    noise_scale, jitter : float or TensorVariable
        Factor on the errors, and error added in quadrature before.
    template : ndarray of float64, shape (n_pixel,), optional
        Factor on the jitter in each pixel, 1 by default.
    """
    dims: tuple[str, ...] = ("pixel", "time") if data.has_time else ("pixel",)
    model, error, observed = model.T, data.y_err.T, data.y.T
    if template is not None:
        jitter = jitter * (template[:, None] if data.has_time and data.used.all() else template)
    if not data.used.all():
        row, column = np.nonzero(np.atleast_2d(data.used))
        model = model.flatten()[column * (data.used.size // data.pixel.size) + row]
        error, observed, dims = data.y_err[data.used], data.y[data.used], ("observation",)
        jitter = jitter if template is None else jitter[column]
    shared = data.has_time and observed.ndim == 2 and bool(np.all(error == error[:, :1]))
    y_err = pm.Data("y_err_used", error[:, 0] if shared else error, dims=dims[:1] if shared else dims)
    y_err = y_err[:, None] if shared else y_err
    noise = noise_scale * (y_err if isinstance(jitter, float) and jitter == 0.0 else pt.sqrt(y_err**2 + jitter**2))
    observed = pm.Data("y_observed", observed, shape=np.shape(observed), dims=dims)
    if robust:
        nu = pm.Gamma("nu", _NU_SHAPE, _NU_RATE)
        pm.StudentT("y", nu=nu, mu=model, sigma=noise, observed=observed, dims=dims)
    else:
        pm.Normal("y", mu=model, sigma=noise, observed=observed, dims=dims)


def _add_statistics(parts: _Parts, values: Hyperparameters, weights: Any) -> None:
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
