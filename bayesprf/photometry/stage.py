"""The flux and aperture stages of a Fit: what was fitted before in, fluxes, apertures and metrics out."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import as_float, check_choice, shown
from bayesprf.errors import InputError
from bayesprf.fit_record import Fit
from bayesprf.flags import QualityFlag
from bayesprf.linalg.blas import in_one_blas_thread
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.state_space import ProcessKernel
from bayesprf.photometry.apertures import (
    ApertureSet,
    ApertureSums,
    build_apertures,
    find_pixels_with_data,
    optimal_percentile,
    sum_in_apertures,
)
from bayesprf.photometry.common_motion import LEAST_CADENCES, fit_common_motion, motion_derivatives
from bayesprf.photometry.fluxes import FluxFit, fit_flux, flag_sources, make_prior
from bayesprf.photometry.metrics import PsfMetrics, perturbation_metrics, psf_fraction
from bayesprf.photometry.motion_errors import add_motion_errors
from bayesprf.photometry.process_kernels import LEARNABLE
from bayesprf.photometry.processes import LightCurves, fit_light_curves
from bayesprf.photometry.time_guard import Disturbance, LeavingLight, compare_curves, relative_errors
from bayesprf.scene.axes import pixel_axes
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.prf import PrfModel, prf_gradients
from bayesprf.scene.prf_matrix import PrfMatrix, count_by_home
from bayesprf.settings import FluxRecipe, PerturbationOptions

if TYPE_CHECKING:
    from bayesprf.timemodel.fit import GainModel
    from bayesprf.timemodel.shift import ShiftModel
    from bayesprf.uncertainty.hyperparameters import FluxWidths


def fit_fluxes(
    fit: Fit, recipe: FluxRecipe, *, widths: "FluxWidths | None" = None, n_threads: int | None = None
) -> Iterator[tuple[str, FluxFit]]:
    """Fit the flux of every source at every cadence with the mean PRF and, if asked, with the time model.

    Yields the name of each stage with its record, one after the other, so that no more than one is held here.
    """
    prf = fit.need("prf")
    time = fit.need("time_model") if recipe.fit_va else None
    solve = _flux_solver(fit, recipe, widths, n_threads)
    matrix = prf.matrix.without(prf.left_out(fit.pixels.spilled))
    still = solve(matrix)
    curves = still.flux, still.flux_err
    if recipe.follows_jitter(rolls=fit.pixels.instrument.roll_hours > 0):
        still = _following_motion(fit, still, matrix, solve)
    yield "flux", still
    if time is not None:
        del still
        solve = partial(solve, moving=None if time.light is None else time.light.image())
        options = PerturbationOptions() if fit.time_recipe is None else fit.time_recipe.options
        guard = {"max_worse": options.max_worse, "max_level": options.max_level}
        yield "flux_va", _with_guard(solve, matrix, time, curves, prf.prf, fit.sources.source_id, guard)


def _flux_solver(
    fit: Fit, recipe: FluxRecipe, widths: "FluxWidths | None", n_threads: int | None
) -> Callable[..., FluxFit]:
    """Return what solves the fluxes of a Fit with a PRF, and with further light `moving`, (n_time, n_pixel)."""
    from bayesprf.linalg.solvers.blocks import BlockSolver

    prf, home, flags = fit.need("prf"), fit.need("prf").home, _source_flags(fit)
    data, prior = _data_and_prior(fit, recipe, widths)
    data = data.counted(home)
    fixed = prf.fixed_light if home is None else np.bincount(home, prf.fixed_light, home.size)
    fit_all = partial(
        in_one_blas_thread(fit_flux),
        data,
        prior=prior,
        source_flags=flags,
        fixed_light=fixed,
        solver=BlockSolver(n_threads),
        robust=recipe.robust,
        pixel_errors=recipe.pixel_errors,
        names=fit.coefficient_names,
        background=prf.flux_background,
        trust=prf.trust,
    )

    def solve(matrix: PrfMatrix, *, moving: FloatArray | None = None) -> FluxFit:
        if home is not None and moving is not None:
            moving = csr_matrix((np.ones(home.size), (home, np.arange(home.size)))) @ moving.T
            moving = np.ascontiguousarray(moving.T)
        found = fit_all(count_by_home(matrix, home).design(), uncatalogued_light=moving)
        return replace(found, home=home)

    return solve


def _following_motion(fit: Fit, still: FluxFit, matrix: PrfMatrix, solve: Callable[..., FluxFit]) -> FluxFit:
    """Return fluxes beside the motion that all stars share, if their residuals tell of one; otherwise the same."""
    from bayesprf.linalg.solvers.blocks import BlockSolver

    if fit.pixels.n_time < LEAST_CADENCES:
        return still
    derivatives = motion_derivatives(matrix, fit.need("prf").star_prf, fit.pixels.instrument.pixel_scale)
    counted, moved = (count_by_home(one, still.home) for one in (matrix, derivatives))
    found = fit_common_motion(fit.pixels.time, still, counted, moved, BlockSolver())
    if found is None:
        return still
    change = found.change(matrix, derivatives)
    fluxes = solve(matrix, moving=change.image(found.flux))
    posterior = replace(fluxes.posterior, log_evidence=fluxes.posterior.log_evidence + found.log_ratio)
    return add_motion_errors(replace(fluxes, posterior=posterior), change.parts[:2], matrix, found.covariance)


def _with_guard(
    solve: Callable[..., FluxFit],
    matrix: PrfMatrix,
    time: "GainModel | ShiftModel",
    curves: tuple[FloatArray, FloatArray],
    prf: PrfModel,
    names: tuple[str, ...],
    guard: Mapping[str, float],
) -> FluxFit:
    """Fit with the time model, held back for the stars whose light curves it makes worse.

    `curves` are fluxes and errors with the mean PRF, `guard` the limits of `compare_curves`.
    """
    changing, pairs = matrix.changing(time), matrix.pairs
    gradients = prf_gradients(prf, pairs.dx, pairs.dy)
    leaving = LeavingLight.of(changing, np.stack([gradients["east"], gradients["north"]]))
    off = np.zeros(len(names), bool) if leaving is None else leaving.unexplained(relative_errors(*curves))
    if leaving is not None and off.any():
        changing = leaving.anchor(changing, off)
    found = solve(changing)
    disturbed = compare_curves(curves[0], found.flux, curves[1], changing, **guard)
    if disturbed.worse.any():
        found = solve(changing.holding(disturbed.worse, matrix.values))
    told = Disturbance({"light that leaves the pixels without motion": off & ~disturbed.worse, **disturbed.reason})
    told.warn(names, stacklevel=5)
    found.flags[:, told.worse] |= int(QualityFlag.TIME_MODEL_WORSE)
    free = time.gain.free_covariance
    if free is None:
        return found
    parts = np.where(disturbed.worse[pairs.source], 0.0, changing.parts[changing.parts.shape[0] - free.shape[1] :])
    return add_motion_errors(found, parts, matrix, free)


@in_one_blas_thread
def fit_processes(fit: Fit, sources: object, kernel: object, *, template: object = None, max_group: int) -> LightCurves:
    """Solve the latest fluxes as processes in time: see `Machine.fit_light_curves`."""
    given = kernel if isinstance(kernel, Mapping) else None
    chosen = fit.sources.indices(list(given) if given is not None and sources is None else sources)
    if given is None:
        named = dict.fromkeys(chosen.tolist(), kernel)
    else:
        named = {fit.sources.index(one): value for one, value in given.items()}
    kernels = {one: _as_kernel(named.get(one, "learn")) for one in chosen.tolist()}
    events = _events(fit, chosen, template)
    return fit_light_curves(fit.latest_flux, fit.pixels.time, kernels, templates=events, max_group=max_group)


def _as_kernel(kernel: object) -> ProcessKernel | str:
    """Return a kernel, or the word for what is learned; raise for anything else."""
    if isinstance(kernel, ProcessKernel):
        return kernel
    check_choice(kernel, LEARNABLE, "kernel")
    return str(kernel)


def _events(fit: Fit, chosen: IntArray, template: object) -> dict[int, FloatArray]:
    """Return the shapes of events by the index of their star."""
    if template is None:
        return {}
    if isinstance(template, Mapping):
        return {fit.sources.index(one): as_float(shape, "template", flags=True) for one, shape in template.items()}
    if chosen.size != 1:
        raise InputError(
            f"template: expected a mapping from star to event where several stars are asked for, got one event for"
            f" {chosen.size}; give for example {{3: event}}"
        )
    return {int(chosen[0]): as_float(template, "template", ndim=1, flags=True)}


def _source_flags(fit: Fit) -> IntArray:
    """Return the quality bits that hold at all cadences."""
    prf = fit.need("prf")
    return flag_sources(
        prf.matrix,
        saturated=fit.pixels.spilled,
        left_out=prf.left_out(fit.pixels.spilled),
        has_flux=fit.sources.has_flux,
        core=float(np.sqrt(prf.prf.pixel_area)),
    )


def _data_and_prior(fit: Fit, recipe: FluxRecipe, widths: "FluxWidths | None") -> tuple[PixelTable, GaussianPrior]:
    """Return the pixels with the errors of a fit, and the prior of its fluxes."""
    if widths is not None:
        return widths.rescale(fit.pixels), widths.prior
    prf = fit.need("prf")
    expected, noise = fit.sources.flux * prf.scale, prf.image.cadence_error
    # Rows of one star have its light together, shared as in the catalogue, which has it more than once.
    if prf.shared is not None:
        expected = np.where(prf.shared & np.isfinite(expected) & (prf.flux > 0), prf.flux, expected)
    return fit.pixels, make_prior(expected, noise, prior_mu=recipe.prior_mu, prior_sigma=recipe.prior_sigma)


@in_one_blas_thread
def choose_apertures(fit: Fit, percentile: object) -> ApertureSet:
    """Return the aperture of every source as an isophote of its PRF."""
    return build_apertures(*aperture_inputs(fit), percentile)


@in_one_blas_thread
def choose_percentile(
    fit: Fit, aperture_size: object, target_complete: float | None, target_crowd: float | None
) -> tuple[object, bool]:
    """Return the percentile of the apertures asked for, and whether it was optimised."""
    if not isinstance(aperture_size, str):
        return aperture_size, False
    if aperture_size != "optimal":
        raise InputError(f"aperture_size: expected 'optimal' or percentiles from 0 to 100, got {shown(aperture_size)}")
    return optimal_percentile(*aperture_inputs(fit), target_complete, target_crowd), True


@in_one_blas_thread
def sum_apertures(fit: Fit) -> ApertureSums:
    """Return the sums of the pixels in the apertures."""
    chosen = fit.need("apertures")
    return ApertureSums(*sum_in_apertures(fit.pixels.flux, fit.pixels.ivar, chosen.pairs, chosen.mask))


@in_one_blas_thread
def measure_prf(fit: Fit, npoints_per_pixel: int) -> PsfMetrics:
    """Return how much of each source's PRF is on the data, and how far the time model moves it."""
    prf, time, pairs = fit.need("prf"), fit.time_model, fit.shifted_pairs
    near = pairs.select(find_pixels_with_data(fit.pixels.ivar)[pairs.pixel])
    fraction = psf_fraction(prf.prf.evaluate, near, pixel_axes(fit.pixels), npoints_per_pixel=npoints_per_pixel)
    if time is None:
        return PsfMetrics(fraction, None)
    return PsfMetrics(fraction, perturbation_metrics(prf.matrix, prf.matrix.changing(time)))


def aperture_inputs(fit: Fit) -> tuple[PrfMatrix, FloatArray]:
    """Return the PRF (0 in pixels that never have data) and fluxes, from which apertures are chosen."""
    prf = fit.need("prf")
    lit = find_pixels_with_data(fit.pixels.ivar)[prf.pairs.pixel]
    return PrfMatrix.constant(prf.pairs, np.where(lit, prf.values, 0.0)), prf.flux
