"""What a Fit says of its errors: hyperparameters learned from the data, and the systematic errors of its fluxes."""

import numpy as np
from scipy.sparse import csr_matrix, hstack, vstack

from bayesprf.arrays import LARGEST, AnyArray, FloatArray, IntArray
from bayesprf.checks import as_float, check_shape, shown
from bayesprf.errors import InputError
from bayesprf.fit_record import Fit
from bayesprf.flags import QualityFlag
from bayesprf.linalg.blas import in_one_blas_thread
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.stack import stack_of
from bayesprf.scene.image import reduce_image
from bayesprf.settings import FluxRecipe
from bayesprf.uncertainty.hyper_groups import make_groups
from bayesprf.uncertainty.hyper_problems import WidthData
from bayesprf.uncertainty.hyperparameters import FluxWidths, WidthChoice, learn_flux_widths
from bayesprf.uncertainty.position_errors import fit_position_errors
from bayesprf.uncertainty.systematics import CommonErrors, NuisanceWidths, fit_common_errors, fit_wing_error

# Where too few stars tell how far positions, pixel, and second moments err: what the 477 training stars of the K2 image
# of M67 with Gaia's catalogue say of theirs (tests/real/test_m67_errors.py).
_FEW_STARS_POSITION, _FEW_STARS_MOMENTS = 0.017, 0.017


@in_one_blas_thread
def learn_hyperparameters(
    fit: Fit, choice: WidthChoice, *, expected: object, prior_groups: object, noise_groups: object, model_in_fit: bool
) -> FluxWidths:
    """Return prior, noise and model error that maximise the evidence of the design of the latest fluxes."""
    latest, prf, n_source = fit.latest_flux, fit.need("prf"), fit.sources.n_source
    flux = np.where(fit.sources.has_flux, fit.sources.flux, np.nan) * prf.scale if expected is None else expected
    flux = as_float(flux, "expected", ndim=1, unit="electron / s")
    check_shape(flux, (n_source,), "expected", "n_source")
    flux = np.where(np.abs(flux) < LARGEST, flux, np.nan)
    image, prior = reduce_image(fit.pixels), latest.problem.prior
    data = WidthData(
        pixels=fit.pixels,
        image=image,
        design=stack_of(latest.problem),
        expected=flux,
        surface_prior=GaussianPrior(prior.mean[n_source:], prior.precision[n_source:]),
        known=prf.fixed_light,
        trusted=~np.any(latest.flags & QualityFlag.SATURATED, axis=0),
    )
    by_pixel: dict[str, AnyArray] = {"flux": image.flux, "stamp": fit.pixels.stamp}
    return learn_flux_widths(
        data,
        choice,
        sources=make_groups(prior_groups, n_source, "prior_groups", known={"flux": flux}),
        pixels=make_groups(noise_groups, fit.pixels.n_pixel, "noise_groups", known=by_pixel),
        model_in_fit=model_in_fit,
    )


def check_widths(widths: object, recipe: FluxRecipe, n_source: int) -> None:
    """Raise unless `widths` is what `learn_widths` returns for these sources, without another prior beside it."""
    if widths is None:
        return
    if not isinstance(widths, FluxWidths):
        raise InputError(f"widths: expected what learn_widths() returns, got {type(widths).__name__}")
    if recipe.prior_mu is not None or recipe.prior_sigma is not None:
        raise InputError("prior_mu, prior_sigma: expected neither beside widths, which hold a prior; give one of them")
    check_shape(widths.prior.mean, (n_source,), "widths", "n_source, as the sources they are used on")


def with_systematics(fit: Fit) -> Fit:
    """Return the Fit with the systematic errors of its latest fluxes, learned unless it has them."""
    return fit if fit.systematics is not None else fit.with_stage("systematics", fit_systematics(fit))


@in_one_blas_thread
def fit_systematics(
    fit: Fit,
    *,
    position: object = None,
    moments: float | None = None,
    model: float | None = None,
    tail: float | None = None,
    others: float | None = None,
) -> CommonErrors:
    """Carry the errors of PRF, wing, positions and second moments into the latest fluxes: see `Machine`."""
    given = {"moments": moments, "model": model, "tail": tail, "others": others}
    asked = tuple(name for name, value in {"position": position, **given}.items() if value is not None)
    for name, value in given.items():
        if value is not None and not 0 <= float(value) <= LARGEST:  # a float32 would make LARGEST one
            raise InputError(f"{name}: expected a standard deviation from 0 to {LARGEST:g}, got {shown(value)}")
    prf = fit.need("prf")
    stars = prf.star_residuals()
    refined = prf.positions.fitted
    places = _position_errors(fit) if position is None and refined else None
    if position is None:
        before = _FEW_STARS_POSITION * float(np.sqrt(prf.prf.pixel_area))
        position = prf.positions.std.mean(axis=1) if refined else stars.width("east", "north", unknown=before)
    widths = NuisanceWidths(
        position=_per_source(position, fit.sources.n_source),
        moments=stars.width("size", "e1", "e2", unknown=_FEW_STARS_MOMENTS) if moments is None else moments,
        model=_model_scatter(fit) * stars.excess[0] if model is None else model,
        tail=prf.wing_err if tail is None else tail,
        others=fit_wing_error(prf) if others is None else others,
        places=places,
        asked=asked,
    )
    return carry_errors(fit, usual_flux(fit), widths)


def _per_source(position: object, n_source: int) -> FloatArray:
    """Return the standard deviation of every position, shape (n_source,), arcsec."""
    given = as_float(position, "position")
    if given.ndim:
        check_shape(given, (n_source,), "position", "n_source")
    if not np.all(given >= 0) or not np.isfinite(given).all():
        raise InputError(f"position: expected standard deviations of 0 arcsec or more, got {shown(position)}")
    return np.broadcast_to(given, (n_source,))


def carry_errors(fit: Fit, flux: FloatArray, widths: NuisanceWidths) -> CommonErrors:
    """Carry nuisances into the fluxes of stars that are as bright as given, electron / s."""
    prf = fit.need("prf")
    return fit_common_errors(
        prf,
        prf.matrix.without(prf.left_out(fit.pixels.spilled)),
        flux=flux,
        ivar=_mean_ivar(fit),
        prior=fit.latest_flux.prior,
        widths=widths,
    )


def leak_covariance(fit: Fit, sources: IntArray) -> FloatArray:
    """Return how far the light of all other stars may be wrong in some stars' fluxes, shared by all cadences.

    An error that makes a star as a whole brighter or fainter acts equally on its event: only what neighbours give or
    take changes the shape of its relative light curve. Shape (n_sources, n_sources), (electron / s)**2.
    """
    widths = with_systematics(fit).need("systematics").widths
    rows = []
    for source in sources.tolist():
        flux = usual_flux(fit)
        flux[source] = 0.0
        rows.append(hstack([one[[source]] for one in carry_errors(fit, flux, widths).factors.values()], format="csr"))
    factor = vstack(rows, format="csr")
    return np.asarray((factor @ factor.T).toarray())


@in_one_blas_thread
def total_errors(fit: Fit) -> FloatArray:
    """Return the total standard deviation of the latest fluxes, shape (n_time, n_source), electron / s."""
    return np.hypot(fit.latest_flux.flux_err, with_systematics(fit).need("systematics").std)


def usual_flux(fit: Fit) -> FloatArray:
    """Return the mean of the latest fluxes over the cadences without a value that no star can have made."""
    flux = fit.latest_flux.flux
    sound = np.ones(len(flux), bool)
    sound[fit.need("prf").image.left_out[:, 0]] = False
    return mean_over_time(flux[sound] if sound.any() else flux)


def mean_over_time(flux: FloatArray) -> FloatArray:
    """Return the mean over time of the finite fluxes (n_time, n_source) of each source, 0 without any."""
    good = np.isfinite(flux)
    total = np.where(good, flux, 0.0).sum(axis=0)
    return np.divide(total, good.sum(axis=0), out=np.zeros_like(total), where=good.any(axis=0))


def _model_scatter(fit: Fit) -> float:
    counted = fit.hyperparameters is not None and fit.hyperparameters.model_in_fit
    return 0.0 if counted else fit.need("prf").intrinsic_scatter


def _mean_ivar(fit: Fit) -> FloatArray:
    """Return the inverse variance of each pixel in the latest fit, mean over time, shape (n_pixel,)."""
    return np.asarray(fit.latest_flux.problem.ivar.mean(axis=0))


def _position_errors(fit: Fit) -> csr_matrix:
    """Return how the refined positions may err together."""
    prf = fit.need("prf")
    return fit_position_errors(
        prf.matrix.without(fit.pixels.spilled),
        (prf.prf, prf.intrinsic_scatter),
        flux=np.nan_to_num(prf.flux),
        image=prf.image,
        shift=prf.positions.shift,
    )
