"""Fluxes of all sources at all cadences: y[t] ~ N(M[t]' F[t], C[t]), solved in closed form."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import as_float, check_shape
from bayesprf.errors import InputError, NotPositiveDefiniteError
from bayesprf.flags import QualityFlag
from bayesprf.linalg.problem import GaussianPosterior, GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.solver import Solver, choose_solver
from bayesprf.linalg.solvers.weighted import WeightedSolver
from bayesprf.linalg.stack import DesignStack, stack_of
from bayesprf.photometry.background import PRIOR_WIDTH, BackgroundColumns
from bayesprf.photometry.gaps import settle_gaps
from bayesprf.photometry.robust import DownWeighted, fit_robustly
from bayesprf.scene.image import Image
from bayesprf.scene.pixel_errors import ModelLight, UsualVariance, fit_variance
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf_matrix import PrfMatrix

# Definition: below this share of the prior's standard deviation the data decide.
_DEGENERATE_SHARE = 0.5
# Definition: less than this share of the PRF on pixels sets the flag of this name.
LOW_PSF_FRACTION = 0.5
# Definition: a flux below zero by this many errors sets NEGATIVE_FLUX.
_NEGATIVE_SIGMA = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class FluxFit:
    """Flux of every source at every cadence, with the cadence-to-cadence error.

    Parameters
    ----------
    flux, flux_err : ndarray of float64, shape (n_time, n_source)
        Posterior mean and standard deviation, electron / s; NaN where a source has no data.
    flags : ndarray of int64, shape (n_time, n_source)
        Bits of `QualityFlag`.
    problem : LinearProblem
        What was solved.
    posterior : GaussianPosterior
        Its answer, with covariances and draws.
    down_weighted : DownWeighted, optional
        What a robust fit down-weighted; None for a plain fit.
    background : BackgroundColumns, optional
        Surfaces fitted along: their coefficients follow those of the sources in `problem` and `posterior`.
    uncatalogued_light : ndarray of float64, shape (n_time, n_pixel), optional
        Light subtracted from the data of `problem`, electron / s; `model` holds it.
    home : ndarray of int64, shape (n_pixel,), optional
        Pixel under whose number `problem` counts each: columns in which charge spilled count by their sums.
    """

    flux: FloatArray
    flux_err: FloatArray
    flags: IntArray
    problem: LinearProblem
    posterior: GaussianPosterior
    down_weighted: DownWeighted | None = None
    background: BackgroundColumns | None = None
    uncatalogued_light: FloatArray | None = None
    home: IntArray | None = None

    @property
    def n_source(self) -> int:
        """Number of sources."""
        return int(self.flux.shape[1])

    @property
    def prior(self) -> GaussianPrior:
        """Prior of the fluxes."""
        prior = self.problem.prior
        return GaussianPrior(prior.mean[: self.n_source], prior.precision[: self.n_source])

    @property
    def source_design(self) -> csr_matrix:
        """PRF of each source in each pixel at the first cadence, shape (n_pixel, n_source), 1 / pixel."""
        return stack_of(self.problem).matrix()[:, : self.n_source]

    @property
    def background_w(self) -> FloatArray:
        """Coefficients of the background, shape (n_time, n_column), electron / s."""
        return self.posterior.mean[:, self.n_source :]

    @property
    def background_w_err(self) -> FloatArray:
        """Standard deviation of `background_w`, shape (n_time, n_column), electron / s."""
        return self.posterior.std[:, self.n_source :]

    def background_flux(self) -> FloatArray:
        """Return the background of every pixel at every cadence, shape (n_time, n_pixel), electron / s."""
        if self.background is None:
            return np.zeros(self.problem.data.shape)
        return np.ascontiguousarray((self.background.matrix @ self.background_w.T).T)

    def without_background(self) -> LinearProblem:
        """Return the problem of the fluxes alone, the background subtracted from the data as the fit found it."""
        if self.background is None:
            return self.problem
        sky = (self.background.matrix @ self.background_w.T).T
        design = self.background.remove(stack_of(self.problem))
        return replace(self.problem, design=design, data=self.problem.data - sky, prior=self.prior)

    @property
    def log_evidence(self) -> FloatArray:
        """Log evidence of each cadence, shape (n_time,)."""
        return self.posterior.log_evidence

    def model(self) -> FloatArray:
        """Return the model image at every cadence, shape (n_time, n_pixel), electron / s; no sum of several pixels."""
        model = self.problem.predict(self.posterior.mean)
        if self.home is not None:
            model[:, np.bincount(self.home, minlength=self.home.size) > 1] = 0.0
        return model if self.uncatalogued_light is None else model + self.uncatalogued_light


def default_prior(expected: FloatArray, noise: float) -> GaussianPrior:
    """Return the default flux prior N(f, (10 f)**2).

    Parameters
    ----------
    expected : ndarray of float64, shape (n_source,)
        Expected flux f, electron / s; where it is not a positive number the prior is centred on zero
        and as wide as that of the brightest source.
    noise : float
        Error of a pixel, electron / s: no prior is narrower than ten times this.

    Returns
    -------
    GaussianPrior
    """
    known = np.isfinite(expected) & (np.nan_to_num(expected) > 0)
    mean = np.where(known, expected, 0.0)
    brightest = max(float(mean.max(initial=0.0)), noise)
    sigma = PRIOR_WIDTH * np.where(known, np.maximum(mean, noise), brightest)
    return GaussianPrior.from_sigma(mean, sigma)


def make_prior(expected: FloatArray, noise: float, *, prior_mu: object, prior_sigma: object) -> GaussianPrior:
    """Return the prior from what the user gave, and the default for the rest.

    Parameters
    ----------
    expected : ndarray of float64, shape (n_source,)
        Expected flux, electron / s.
    noise : float
        Error of a pixel, electron / s.
    prior_mu, prior_sigma : array-like or float, optional
        Mean and standard deviation per source, electron / s; a width of infinity is a flat prior.

    Returns
    -------
    GaussianPrior

    Raises
    ------
    InputError
        If a mean is not finite or a width not above zero.
    ShapeError
        If there is not one entry per source.
    """
    default = default_prior(expected, noise)
    n_source = expected.size
    mean = default.mean if prior_mu is None else _per_source(prior_mu, n_source, "prior_mu")
    sigma = default.precision**-0.5 if prior_sigma is None else _per_source(prior_sigma, n_source, "prior_sigma")
    if not np.all(np.isfinite(mean)):
        first = int(np.argmin(np.isfinite(mean)))
        raise InputError(f"prior_mu: expected finite fluxes, got {mean[first]} for source {first}")
    if not np.all(sigma > 0):
        first = int(np.argmin(sigma > 0))
        raise InputError(f"prior_sigma: expected widths above 0 electron / s, got {sigma[first]} for source {first}")
    return GaussianPrior.from_sigma(mean, sigma)


def _per_source(value: object, n_source: int, name: str) -> FloatArray:
    array = as_float(value, name)
    array = np.full(n_source, float(array)) if array.ndim == 0 else array
    check_shape(array, (n_source,), name, "n_source")
    return array


def fit_flux(
    pixels: PixelTable,
    design: DesignStack,
    prior: GaussianPrior,
    *,
    source_flags: IntArray,
    fixed_light: FloatArray | None = None,
    solver: Solver | None = None,
    robust: bool = False,
    names: tuple[str, ...] = (),
    background: BackgroundColumns | None = None,
    uncatalogued_light: FloatArray | None = None,
    pixel_errors: str = "given",
    trust: FloatArray | None = None,
) -> FluxFit:
    """Fit one flux per source and cadence.

    Parameters
    ----------
    pixels : PixelTable
        `flux` and `ivar`: float64, shape (n_time, n_pixel).
    design : DesignStack
        PRF of each source in each pixel, shape (n_pixel, n_source), 1 / pixel: that of a `PrfMatrix`.
    prior : GaussianPrior
        One entry per source, electron / s.
    source_flags : ndarray of int, shape (n_source,)
        Bits of `QualityFlag` that hold for all cadences; sources with NO_PIXELS get NaN.
    fixed_light : ndarray of float64, shape (n_pixel,), optional
        Light of each pixel that is not to be fitted, electron / s.
    solver : Solver, optional
        Chosen from the problem when omitted.
    robust : bool
        Down-weight outliers: see `fit_robustly`.
    names : tuple of str
        Source names for messages.
    background : BackgroundColumns, optional
        Surfaces to fit along at every cadence.
    uncatalogued_light : ndarray of float64, shape (n_time, n_pixel), optional
        Further light that is not to be fitted, electron / s.
    pixel_errors : {"given", "time-mean", "model"}
        What the pixels are weighed by: see `weigh_pixels`.
    trust : ndarray of float64, shape (n_pixel,), optional
        Share of its weight that each pixel keeps, 0 to 1, whatever its noise.

    Returns
    -------
    FluxFit

    Raises
    ------
    NotPositiveDefiniteError
        If a source is held by neither data nor prior.

    Notes
    -----
    Solves (X' C^-1 X + P) w = X' C^-1 y + P m per cadence (Luger, Foreman-Mackey & Hogg 2017).
    """
    problem = _flux_problem(pixels, design, prior, fixed_light, background)
    if uncatalogued_light is not None:
        problem = replace(problem, data=problem.data - uncatalogued_light)
    solver, down = solver or choose_solver(problem), None
    try:
        problem = weigh_pixels(problem, pixels, pixel_errors, solver)
        problem = problem if trust is None else _with_trust(problem, trust)
        solver = WeightedSolver(solver)
        if robust:
            fit = fit_robustly(problem, solver)
            if fit.problem.data is not problem.data:
                uncatalogued_light = pixels.flux - fit.problem.data
            problem, posterior = fit.problem, fit.posterior
            down = DownWeighted(fit.batch, fit.observation, fit.weight)
        else:
            posterior = settle_gaps(problem, solver.solve(problem), solver)
    except NotPositiveDefiniteError as error:
        name = names[error.coefficient] if 0 <= error.coefficient < len(names) else str(error.coefficient)
        raise NotPositiveDefiniteError(
            f"prior_sigma: source {name} at cadence {error.batch} is held by neither data nor prior;"
            " give it a finite prior_sigma or remove it from the catalogue",
            coefficient=error.coefficient,
            batch=error.batch,
        ) from error
    n_source = design.n_coeff
    flux, flux_err = posterior.mean[:, :n_source], posterior.std[:, :n_source]
    flags = _cadence_flags(pixels, design, flux, flux_err, source_flags)
    no_data = (flags & (QualityFlag.NO_PIXELS | QualityFlag.NO_DATA)) != 0
    if no_data.any():
        flux, flux_err = np.where(no_data, np.nan, flux), np.where(no_data, np.nan, flux_err)
    flags[flag_degenerate(flux_err, prior)] |= int(QualityFlag.DEGENERATE_BLEND)
    if down is not None:
        flags[down.touches(design, pixels.n_time)] |= int(QualityFlag.DOWN_WEIGHTED)
    return FluxFit(flux, flux_err, flags, problem, posterior, down, background, uncatalogued_light)


def weigh_pixels(problem: LinearProblem, pixels: PixelTable, pixel_errors: str, solver: Solver) -> LinearProblem:
    """Return a flux problem with the weights and the noise that are asked for.

    Parameters
    ----------
    problem : LinearProblem
        Fluxes of the pixels, with the given errors as noise.
    pixels : PixelTable
        The pixels.
    pixel_errors : {"given", "time-mean", "model"}
        "given": weights and noise by the given errors. "time-mean": weights by variances averaged over time, noise by
        the given errors. "model": weights and noise by the variance that a fit with averaged errors predicts.
    solver : Solver
        Solves that fit.

    Returns
    -------
    LinearProblem
        The problem itself where all errors are constant in time.

    Notes
    -----
    Errors made from the measured counts are small where the counts happen to be low: as weights they lower every flux,
    the more the less the model fits. In a standard deviation, which is linear in the variances, the same errors do no
    harm.
    """
    if pixel_errors == "given":
        return problem
    usual = UsualVariance.of(pixels)
    if usual.is_given:
        return problem
    averaged = replace(problem, ivar=usual.ivar())
    if pixel_errors == "time-mean":
        ratio = np.ones_like(pixels.ivar)
        np.divide(averaged.ivar, pixels.ivar, out=ratio, where=pixels.ivar > 0)
        return replace(averaged, noise_ratio=ratio)
    light = ModelLight(stack_of(problem), solver.solve(averaged).mean)
    return replace(problem, ivar=fit_variance(usual, light).ivar(out=averaged.ivar))


def _with_trust(problem: LinearProblem, trust: FloatArray) -> LinearProblem:
    """Return the problem with these shares of the weights, shape (n_pixel,), and the same noise."""
    if np.all(trust == 1.0):
        return problem
    ivar, partly = problem.ivar * trust, (trust > 0.0) & (trust < 1.0)
    if problem.noise_ratio is None and not partly.any():
        return replace(problem, ivar=ivar)
    ratio = np.ones_like(ivar) if problem.noise_ratio is None else problem.noise_ratio
    return replace(problem, ivar=ivar, noise_ratio=ratio * np.where(trust > 0.0, trust, 1.0))


def _flux_problem(
    pixels: PixelTable,
    design: DesignStack,
    prior: GaussianPrior,
    fixed_light: FloatArray | None,
    background: BackgroundColumns | None,
) -> LinearProblem:
    if background is not None:
        design, prior = background.extend(design), background.extend_prior(prior)
    return LinearProblem(design, pixels.flux, pixels.ivar, prior, fixed_light)  # type: ignore[arg-type]


def flag_sources(
    prf: PrfMatrix, *, saturated: BoolArray, left_out: BoolArray, has_flux: BoolArray, core: float
) -> IntArray:
    """Return the quality bits that a source has at all cadences.

    Parameters
    ----------
    prf : PrfMatrix
        Mean PRF of the pairs that matter, saturated pixels included.
    saturated : ndarray of bool, shape (n_pixel,)
        Saturated pixels.
    left_out : ndarray of bool, shape (n_pixel,)
        Those that tell of no flux, not even by the sum of their column.
    has_flux : ndarray of bool, shape (n_source,)
        Whether the catalogue flux is usable.
    core : float
        A saturated pixel nearer than this makes its source saturated, arcsec.

    Returns
    -------
    ndarray of int64, shape (n_source,)
    """
    pairs, usable = prf.pairs, prf.without(left_out)
    bad = saturated[pairs.pixel]
    own = np.bincount(pairs.source[bad & (pairs.r < core)], minlength=pairs.n_source) > 0
    touched = np.bincount(pairs.source[bad], minlength=pairs.n_source) > 0
    flags = np.zeros(pairs.n_source, np.int64)
    for bit, where in (
        (QualityFlag.NO_PIXELS, usable.pairs.count_per_source() == 0),
        (QualityFlag.LOW_PSF_FRACTION, usable.caught()[0] < LOW_PSF_FRACTION),
        (QualityFlag.SATURATED, own),
        (QualityFlag.SATURATED_NEIGHBOR, touched & ~own),
        (QualityFlag.NO_CATALOG_FLUX, ~has_flux),
    ):
        flags[where] |= int(bit)
    return flags


def _cadence_flags(
    pixels: PixelTable, design: DesignStack, flux: FloatArray, flux_err: FloatArray, source_flags: IntArray
) -> IntArray:
    flags = np.repeat(source_flags[None], pixels.n_time, axis=0)
    flags[flux < -_NEGATIVE_SIGMA * flux_err] |= int(QualityFlag.NEGATIVE_FLUX)
    gappy = np.flatnonzero(pixels.gaps > 0)
    member = design.matrix()[gappy].astype(bool)
    touched = np.unique(member.indices)
    if touched.size:
        covers = design.matrix().astype(bool).tocsc()[:, touched].astype(np.float64)
        usable = (covers.T @ (pixels.ivar > 0).T.astype(np.float64)).T
        total = np.asarray(covers.sum(axis=0)).ravel()
        flags[:, touched] |= np.where(usable < total, int(QualityFlag.PIXELS_DROPPED), 0)
        flags[:, touched] |= np.where(usable == 0, int(QualityFlag.NO_DATA), 0)
    return flags


def flag_degenerate(flux_err: FloatArray, prior: GaussianPrior) -> BoolArray:
    """Find the fluxes that the prior, not the data, decides.

    Parameters
    ----------
    flux_err : ndarray of float64, shape (n_time, n_source)
        Posterior standard deviations, electron / s.
    prior : GaussianPrior
        Prior of the fluxes.

    Returns
    -------
    ndarray of bool, shape (n_time, n_source)
        Where the posterior is more than half as wide as the prior; never for a flux that is NaN.
    """
    with np.errstate(invalid="ignore"):
        return flux_err**2 * prior.precision > _DEGENERATE_SHARE**2


def fit_image_flux(prf: PrfMatrix, image: Image, *, expected: FloatArray) -> FloatArray:
    """Return the flux of every source in one image.

    Parameters
    ----------
    prf : PrfMatrix
        PRF of the pairs that matter; 0 leaves a pair out.
    image : Image
        The image.
    expected : ndarray of float64, shape (n_source,)
        Expected flux, electron / s; NaN means unknown.

    Returns
    -------
    ndarray of float64, shape (n_source,)
        electron / s; NaN for sources without pixels.
    """
    prior = default_prior(expected, image.cadence_error)
    problem = LinearProblem(prf.design(), image.flux[None], image.ivar[None], prior)
    flux = choose_solver(problem).solve(problem).mean[0]
    seen = prf.pairs.select((image.ivar[prf.pairs.pixel] > 0) & (prf.values > 0)).count_per_source() > 0
    return np.where(seen, flux, np.nan)
