"""Learned widths of the flux fit: prior width and zero point, noise inflation, relative model error."""

from dataclasses import dataclass, field, replace

import numpy as np

from bayesprf.arrays import FloatArray, IntArray, brief, brief_html
from bayesprf.checks import check_shape, is_number, shown
from bayesprf.errors import InputError
from bayesprf.linalg.hyperparameters import LEARN, Hyperparameters, Tunable
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.photometry.background import PRIOR_WIDTH
from bayesprf.scene.pixels import PixelTable
from bayesprf.uncertainty.hyper_groups import Groups
from bayesprf.uncertainty.hyper_problems import (
    CadencePairs,
    WidthData,
    difference_problem,
    image_problem,
    mean_light,
    rough_zero_point,
)
from bayesprf.uncertainty.hyper_search import Estimates, learn_from

# The search starts here: a catalogue good to a third, a model good and stars constant to a hundredth.
_START = {"prior_width": 0.3, "zero_point": 1.0, "noise": 1.0, "model": 0.01, "variability": 0.01}


@dataclass(frozen=True, slots=True)
class WidthChoice:
    """What is learned, and what is fixed to a number.

    Parameters
    ----------
    prior_width : "learn" or float
        Standard deviation of the mean flux of a star over its expected flux.
    zero_point : "learn" or float
        Prior mean over expected flux.
    variability : "learn" or float
        Standard deviation of a star's flux in time over its expected flux; 0 for none.
    noise : "learn" or float
        Factor of the pixel errors.
    model : "learn" or float
        Relative error of the model in a pixel; 0 for none.
    n_cadence : int
        Most cadences that noise and variability are learned from.

    Raises
    ------
    InputError
        If a value is neither "learn" nor a number in range.
    """

    prior_width: Tunable = LEARN
    zero_point: Tunable = LEARN
    variability: Tunable = LEARN
    noise: Tunable = LEARN
    model: Tunable = LEARN
    n_cadence: int = 200

    def __post_init__(self) -> None:
        for name in _START:
            value = getattr(self, name)
            if isinstance(value, str) and value == LEARN:
                continue
            may_vanish = name in ("model", "variability")
            if not is_number(value) or not (value > 0 or (may_vanish and value == 0)):
                least = "0 or more" if may_vanish else "above 0"
                raise InputError(f"{name}: expected 'learn' or a finite number {least}, got {shown(value)}")
        if isinstance(self.n_cadence, bool) or not isinstance(self.n_cadence, int | np.integer) or self.n_cadence < 2:
            raise InputError(f"n_cadence: expected a whole number of 2 or more, got {shown(self.n_cadence)}")

    def learns(self, name: str) -> bool:
        """Return whether a width is learned."""
        return isinstance(getattr(self, name), str)

    def start(self, name: str) -> float:
        """Return the number a width is fixed to, or where its search starts."""
        return _START[name] if self.learns(name) else float(getattr(self, name))


def _listed(name: str, values: FloatArray, errors: FloatArray, labels: tuple[str, ...]) -> str:
    """Return a number per group with its error and the group's name."""
    ends = [f" ({label})" if len(labels) > 1 else "" for label in labels]
    return ", ".join(f"{name} {v:.3g} +- {e:.2g}{end}" for v, e, end in zip(values, errors, ends, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class FluxWidths:
    """Widths of a flux fit, learned or fixed. Errors are Laplace's; 0 for what was fixed, NaN without a maximum.

    Parameters
    ----------
    prior_width, prior_width_err : ndarray of float64, shape (n_prior_group,)
        Standard deviation of the mean flux of a star over its expected flux.
    variability, variability_err : ndarray of float64, shape (n_prior_group,)
        Standard deviation of a star's flux in time over its expected flux; 0 from a single cadence. The error takes
        stars to vary anew from cadence to cadence; NaN where the data want none.
    prior_labels : tuple of str
        Names of the groups of sources.
    zero_point, zero_point_err : float
        Prior mean over expected flux.
    noise_scale, noise_scale_err : ndarray of float64, shape (n_noise_group,)
        Factor of the pixel errors.
    noise_labels : tuple of str
        Names of the groups of pixels.
    model_error, model_error_err : float
        Relative error of the model in a pixel, the same at all cadences.
    image_scale : float
        Errors of the mean image over what the noise of its cadences leaves: above 1 where the sky or stars that the
        catalogue lacks are wrong at all cadences. 1 if the model's error is fixed, or the noise learned from a single
        cadence.
    log_evidence : float
        Of the mean image (of the image, if there is one cadence).
    converged : bool
        Whether all maxima were reached.
    n_source, n_cadence : int
        Sources that the prior, and cadences that the noise was learned from.
    n_clipped : int
        Pixels of the mean image, and of differences, that were left out as farther than five standard deviations.
    prior : GaussianPrior
        Prior of the fluxes at each cadence that follows, N(z f, (width^2 + variability^2) f^2), electron / s.
    noise_factor : ndarray of float64, shape (n_pixel,)
        Factor of the errors of each pixel that follows.
    model_variance : ndarray of float64, shape (n_pixel,)
        What fits add to the variance of each pixel for the model's error, (electron / s)**2; 0 unless asked for.
    """

    prior_width: FloatArray
    prior_width_err: FloatArray
    variability: FloatArray
    variability_err: FloatArray
    prior_labels: tuple[str, ...]
    zero_point: float
    zero_point_err: float
    noise_scale: FloatArray
    noise_scale_err: FloatArray
    noise_labels: tuple[str, ...]
    model_error: float
    model_error_err: float
    image_scale: float
    log_evidence: float
    converged: bool
    n_source: int
    n_cadence: int
    n_clipped: int
    prior: GaussianPrior = field(repr=False)
    noise_factor: FloatArray = field(repr=False)
    model_variance: FloatArray = field(repr=False)

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        """Give every width with its error, group by group."""
        prior = _listed("prior width", self.prior_width, self.prior_width_err, self.prior_labels)
        change = _listed("variability", self.variability, self.variability_err, self.prior_labels)
        zero = f"zero point {self.zero_point:.4g} +- {self.zero_point_err:.2g}"
        noise = _listed("noise x", self.noise_scale, self.noise_scale_err, self.noise_labels)
        model = f"model error {self.model_error:.3g} +- {self.model_error_err:.2g}"
        ended = "" if self.converged else "; the evidence has no maximum"
        return f"{prior}; {change}; {zero}; {noise}; {model}{ended}"

    @property
    def model_in_fit(self) -> bool:
        """Whether fits add the model's error to the errors of the pixels."""
        return bool(np.any(self.model_variance > 0))

    def rescale(self, pixels: PixelTable) -> PixelTable:
        """Return the pixels with the errors that follow: sqrt((k sigma)^2 + model variance).

        Parameters
        ----------
        pixels : PixelTable
            The stack, with the errors it came with.

        Returns
        -------
        PixelTable

        Raises
        ------
        ShapeError
            If the widths were learned from other pixels.
        """
        check_shape(self.noise_factor, (pixels.n_pixel,), "widths", "n_pixel, as the pixels it is used on")
        error = np.hypot(self.noise_factor * pixels.flux_err, np.sqrt(self.model_variance))
        return replace(pixels, flux_err=np.where(pixels.flux_err == 0, 0.0, error))


def learn_flux_widths(
    data: WidthData, choice: WidthChoice, *, sources: Groups, pixels: Groups, model_in_fit: bool = False
) -> FluxWidths:
    """Learn the widths of a flux fit by maximising the evidence.

    Parameters
    ----------
    data : WidthData
        Pixels, design and expected fluxes.
    choice : WidthChoice
        What is learned and what is fixed.
    sources : Groups
        Groups of sources, each with a prior width of its own.
    pixels : Groups
        Groups of pixels, each with a noise inflation of its own.
    model_in_fit : bool
        Whether fits that use the widths add the model's error to the errors of the pixels.

    Returns
    -------
    FluxWidths

    Raises
    ------
    InputError
        If no source has both a known flux and data.

    Warns
    -----
    ConvergenceWarning
        If the evidence has no maximum.

    Notes
    -----
    y_t = X F_t + d + n_t: the mean of F_t scatters about z f, F_t about its mean, the model's error
    d_p ~ N(0, (e m_p)^2), with m the mean model, is the same at all cadences, and n_t is the noise, k sigma.
    Differences of cadences know neither d nor how wrong the catalogue is: neighbours tell k, under the default prior,
    and cadences half a series apart then how much stars vary. The mean image, in which each star and each pixel
    counts once however many cadences there are, tells z, e and the width, which is the widest as likely as zero where
    the evidence only levels off towards that; beside e its errors have a factor of their own, for what is wrong where
    there is little light. It is independent of the differences where both cadences have equal errors. A single cadence
    must tell all. Pixels farther than five standard deviations are left out, and what is left learned from again, until
    there is none.
    """
    if not data.trains.any():
        raise InputError("sources: expected some with a positive catalogue flux and data to learn from, got none")
    sources, pixels = sources.restrict(data.trains), pixels.restrict(data.usable)
    light = mean_light(data)
    found = Estimates.start({name: choice.start(name) for name in _START}, sources.n_group, pixels.n_group)
    if choice.learns("zero_point"):
        found = found.put("zero_point", rough_zero_point(data, light), 0.0)
    found = _learn_from_differences(data, choice, found, sources=sources, pixels=pixels)
    prior = _teaching_prior(data, sources, found.value["prior_width"], found.value["zero_point"])
    image = image_problem(data, prior, pixels.spread(found.value["noise"], elsewhere=1.0))
    groups = _image_noise(data, choice, pixels)
    wanted = Hyperparameters(
        width=LEARN if choice.learns("prior_width") else 1.0,
        width_group=data.with_surface_group(sources.learning) if choice.learns("prior_width") else None,
        noise_scale=1.0 if groups is None else LEARN,
        noise_group=groups,
        model_error=LEARN if choice.learns("model") else 1.0,
        model_variance=(found.value["model"][0] * light) ** 2,
        zero_point=LEARN if choice.learns("zero_point") else 1.0,
    )
    found = learn_from(found, image, wanted, noise="noise" if _noise_from_image(data, choice) else "image_scale")
    return FluxWidths(
        prior_width=found.value["prior_width"],
        prior_width_err=found.error["prior_width"],
        variability=found.value["variability"],
        variability_err=found.error["variability"],
        prior_labels=sources.labels,
        zero_point=float(found.value["zero_point"][0]),
        zero_point_err=float(found.error["zero_point"][0]),
        noise_scale=found.value["noise"],
        noise_scale_err=found.error["noise"],
        noise_labels=pixels.labels,
        model_error=float(found.value["model"][0]),
        model_error_err=float(found.error["model"][0]),
        image_scale=float(found.value["image_scale"][0]),
        log_evidence=found.log_evidence,
        converged=found.converged,
        n_source=int(np.count_nonzero(data.trains)),
        n_cadence=max(1, 2 * CadencePairs.neighbors(data.pixels.n_time, choice.n_cadence).n_pair),
        n_clipped=found.n_clipped,
        prior=_prior(data, sources, found),
        noise_factor=pixels.spread(found.value["noise"], elsewhere=1.0),
        model_variance=(found.value["model"][0] * light) ** 2 * model_in_fit,
    )


def _noise_from_image(data: WidthData, choice: WidthChoice) -> bool:
    return data.pixels.n_time == 1 and choice.learns("noise")


def _image_noise(data: WidthData, choice: WidthChoice, pixels: Groups) -> IntArray | None:
    """Return groups of pixels whose errors have a factor in the mean image, or None."""
    if _noise_from_image(data, choice):
        return pixels.learning
    return np.where(data.usable, 0, -1) if choice.learns("model") else None


def _learn_from_differences(
    data: WidthData, choice: WidthChoice, found: Estimates, *, sources: Groups, pixels: Groups
) -> Estimates:
    """Return the estimates after noise and variability have been learned from differences of cadences."""
    n_time = data.pixels.n_time
    if n_time == 1:
        return found.put("variability", 0.0, 0.0) if choice.learns("variability") else found
    if choice.learns("noise"):
        pairs = CadencePairs.neighbors(n_time, choice.n_cadence)
        free = data.prior(PRIOR_WIDTH, 1.0)
        problem = difference_problem(data, pairs, free, np.ones(data.pixels.n_pixel))
        found = learn_from(found, problem, Hyperparameters(noise_scale=LEARN, noise_group=pixels.learning))
    if choice.learns("variability"):
        pairs = CadencePairs.distant(n_time, choice.n_cadence)
        prior = _teaching_prior(data, sources, found.value["variability"], found.value["zero_point"])
        problem = difference_problem(data, pairs, prior, pixels.spread(found.value["noise"], elsewhere=1.0))
        wanted = Hyperparameters(width=LEARN, width_group=data.with_surface_group(sources.learning))
        found = learn_from(found, problem, wanted, prior="variability")
    return found


def _teaching_prior(data: WidthData, sources: Groups, width: FloatArray, zero_point: FloatArray) -> GaussianPrior:
    """Return the prior of all fluxes while widths are learned; the default width for those that do not."""
    wide = np.where(sources.learning < 0, PRIOR_WIDTH, sources.spread(width, elsewhere=PRIOR_WIDTH))
    return data.prior(wide, float(zero_point[0]))


def _prior(data: WidthData, sources: Groups, found: Estimates) -> GaussianPrior:
    """Return the prior of all fluxes at a cadence; sources of no group have the median width."""
    width = np.hypot(found.value["prior_width"], found.value["variability"])
    return data.prior(sources.spread(width, elsewhere=float(np.median(width))), float(found.value["zero_point"][0]))
