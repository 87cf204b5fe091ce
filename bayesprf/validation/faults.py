"""Fields with a known fault, and sound ones: how often do the quality flags find the fault, and only it?"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, Named, NamedDict
from bayesprf.flags import QualityFlag
from bayesprf.linalg.solvers.solver import choose_solver
from bayesprf.machine import Machine
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.quality.record import Verdict
from bayesprf.quality.stage import judge_fit
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.settings import QualityOptions
from bayesprf.simulation.fields import SimulatedField, make_field
from bayesprf.simulation.settings import FieldSettings
from bayesprf.simulation.true_prf import MoffatMixture, asymmetric_prf

# A fault matters if it moves a flux by more than this many total errors and this share of it, or makes a light curve
# scatter by more than this over its error.
_N_ERROR, _SHARE, _SCATTER = 3.0, 0.01, 1.3
# A PRF is wrong for the whole field if fluxes are off by so many total errors, root mean square.
_RMS = 2.0
# A flux that is wrong by this share, of a star that the data do not tell from its neighbour.
_BLEND_SHARE = 0.3
# Draws of a fault that may turn out not to matter before the kind is given up.
_N_DRAW = 20


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A field to be fitted.

    Parameters
    ----------
    pixels, sources : PixelTable, SourceTable
        What the fit sees.
    flux : ndarray of float64, shape (n_time, n_source)
        True fluxes of the sources, electron / s.
    settings : mapping of str to object
        Settings of the Machine.
    positions : str, optional
        Motion that the time model follows; no time model by default.
    polynomial : bool
        Whether to fit a time model of powers of time.
    refine : bool, optional
        Whether positions are fitted, as for `Machine.build_shape_model`.
    noise : ndarray of float64, shape (n_time, n_pixel), optional
        Noise of the pixels, electron / s, where it is known: without it the light curves of a sound field are smooth.
    """

    pixels: PixelTable
    sources: SourceTable
    flux: FloatArray
    settings: Named = field(default_factory=dict)
    positions: str | None = None
    polynomial: bool = False
    refine: bool | None = None
    noise: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A field, fitted and judged.

    Parameters
    ----------
    kind : str
        Kind of field.
    verdict : Verdict
        What was found.
    away : ndarray of float64, shape (n_source,)
        Mean flux less the truth, total errors; NaN for stars with less than half of their light on the pixels.
    share : ndarray of float64, shape (n_source,)
        The same over the true flux.
    scatter : ndarray of float64, shape (n_source,)
        Scatter of the flux over the truth, in units of the error from cadence to cadence.
    expected_scatter : ndarray of float64, shape (n_source,)
        What that is on average over the noise: one, and what the same fit makes of the pixels without noise; NaN where
        the noise is not known.
    """

    kind: str
    verdict: Verdict
    away: FloatArray
    share: FloatArray
    scatter: FloatArray
    expected_scatter: FloatArray

    @property
    def moved(self) -> BoolArray:
        """Sources whose mean flux is wrong."""
        return (np.abs(np.nan_to_num(self.away)) > _N_ERROR) & (np.abs(np.nan_to_num(self.share)) > _SHARE)

    @property
    def disturbed(self) -> BoolArray:
        """Sources whose light curve scatters by more than its error."""
        return np.nan_to_num(self.scatter) > _SCATTER


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of field.

    Parameters
    ----------
    make : callable
        Makes one from a random generator.
    flags : tuple of QualityFlag
        Any of these says what is wrong; empty for sound fields.
    matters : callable
        Whether the fault has an effect.
    """

    make: Callable[[np.random.Generator], Trial]
    flags: tuple[QualityFlag, ...] = ()
    matters: Callable[[Judged], bool] = lambda one: True


def draw_prf(rng: np.random.Generator, **changes: float) -> MoffatMixture:
    """Return a PRF at random: from undersampled to wide, from round to asymmetric, with wings or nearly Gaussian."""
    drawn: NamedDict = {
        "fwhm_pix": rng.uniform(1.1, 2.2),
        "beta": rng.choice([2.3, 2.8, 4.0, 8.0]),
        "ellipticity": rng.uniform(0.0, 0.3),
        "angle": rng.uniform(0.0, np.pi),
        "coma_fraction": rng.uniform(0.0, 0.2),
        "wing_fraction": rng.uniform(0.0, 0.08),
        "wing_beta": rng.uniform(1.8, 3.0),
    }
    return asymmetric_prf(**(drawn | changes))


def draw_field(rng: np.random.Generator, **changes: object) -> SimulatedField:
    """Return a small field of well separated stars, with a PRF at random."""
    settings = FieldSettings(
        n_source=28, n_time=60, n_stamp=24, mag_range=(11.0, 16.0), min_separation=2.5, prf=draw_prf(rng)
    )
    return make_field(settings, rng=rng, **changes)


def _trial(made: SimulatedField, **changes: object) -> Trial:
    given: NamedDict = {"noise": made.pixels.flux - made.expected(), **changes}
    return replace(Trial(made.pixels, made.sources, made.flux), **given)


def _with_pixels(made: SimulatedField, **changes: object) -> Trial:
    given: NamedDict = changes
    return _trial(made, pixels=replace(made.pixels, **given))


def _wander(size: float, rng: np.random.Generator) -> Callable[[FloatArray], FloatArray]:
    """Return a smooth motion of about this size, pixel."""
    rate, phase = rng.uniform(0.5, 3.0, 2), rng.uniform(0.0, 2.0 * np.pi, 2)
    return lambda time: size * np.sin((time - time[0])[:, None] * rate + phase)


def _roll(size: float, rng: np.random.Generator) -> Callable[[FloatArray], FloatArray]:
    """Return the motion of a spacecraft that rolls away for six hours and is set back, pixel."""
    angle, start = rng.uniform(0.0, 2.0 * np.pi), rng.uniform()

    def motion(time: FloatArray) -> FloatArray:
        place = size * (np.mod((time - time[0]) / 0.25 + start, 1.0) - 0.5)
        return place[:, None] * np.array([np.cos(angle), np.sin(angle)])

    return motion


# Sound fields


def _sound(rng: np.random.Generator) -> Trial:
    return _trial(draw_field(rng))


def _sound_image(rng: np.random.Generator) -> Trial:
    return _trial(draw_field(rng, layout="image", image_shape=(50, 50), n_source=40, n_stamp=None, min_separation=4.0))


def _sound_variable(rng: np.random.Generator) -> Trial:
    time, factor = np.arange(60), np.ones((60, 28))
    for star in range(0, 28, 2):
        size, period, phase = rng.uniform(0.002, 0.1), rng.uniform(8.0, 200.0), rng.uniform(0.0, 2.0 * np.pi)
        factor[:, star] += size * np.sin(2.0 * np.pi * time / period + phase)
    return _trial(draw_field(rng, variability=factor))


def _sound_drift(rng: np.random.Generator) -> Trial:
    return _trial(draw_field(rng, drift=_wander(rng.uniform(0.005, 0.03), rng)), polynomial=True)


def _sound_sky(rng: np.random.Generator) -> Trial:
    made = draw_field(rng)
    trial = _with_pixels(made, flux=made.pixels.flux + rng.uniform(5.0, 100.0))
    return replace(trial, settings={"background": "stamp"})


# Faults


def _sky(rng: np.random.Generator) -> Trial:
    made = draw_field(rng)
    return _with_pixels(made, flux=made.pixels.flux + 10.0 ** rng.uniform(0.3, 2.0))


def _motion(rng: np.random.Generator) -> Trial:
    return _trial(draw_field(rng, drift=_wander(10.0 ** rng.uniform(-2.5, -0.7), rng)))


def _rolling(rng: np.random.Generator) -> Trial:
    made = draw_field(rng, drift=_roll(rng.uniform(0.1, 1.0), rng))
    return _trial(made, polynomial=bool(rng.integers(2)))


def _light(rng: np.random.Generator) -> Trial:
    mags = rng.uniform(11.0, 15.0, 28)
    mags[27] = mags[:3].min() + rng.uniform(0.5, 4.0)
    made = draw_field(rng, magnitudes=mags, companion_distance=(0.7, 3.0), min_separation=0.0)
    known = np.arange(28) < 27
    sources = made.sources
    kept = SourceTable(
        tuple(np.array(sources.source_id)[known]), sources.ra_deg[known], sources.dec_deg[known], sources.flux[known]
    )
    return Trial(made.pixels, kept, made.flux[:, known])


def _bands(rng: np.random.Generator) -> Trial:
    made = draw_field(rng)
    pixels = made.pixels
    level = 10.0 ** rng.uniform(-0.5, 0.7)
    band = level * rng.standard_normal((pixels.n_time, int(pixels.stamp.max()) + 1))
    return _with_pixels(made, flux=pixels.flux + band[:, pixels.stamp])


def _errors(rng: np.random.Generator) -> Trial:
    made = draw_field(rng)
    return _with_pixels(made, flux_err=made.pixels.flux_err / rng.uniform(1.4, 4.0))


def _positions(rng: np.random.Generator) -> Trial:
    """Stars off their places, and held there: the default fit mends it."""
    if rng.integers(2):
        return _trial(draw_field(rng, position_scatter=3.98 * rng.uniform(0.15, 0.5)), refine=False)
    made = draw_field(rng)
    dec = made.sources.dec_deg.copy()
    dec[rng.integers(3, size=2)] += 3.98 * rng.uniform(0.2, 0.6) / 3600.0
    return _trial(made, sources=replace(made.sources, dec_deg=dec), refine=False)


def _prf(rng: np.random.Generator) -> Trial:
    """Two PRFs in one field, or a asymmetric PRF taken as round."""
    if rng.integers(2):
        made = draw_field(rng, prf=draw_prf(rng, ellipticity=rng.uniform(0.4, 0.6)))
        return _trial(made, settings={"cut_r": 15.9})
    seed, width = int(rng.integers(1 << 30)), rng.uniform(1.1, 1.6)
    shape = {"ellipticity": rng.uniform(0.0, 0.2), "beta": 2.8}
    sharp, wide = (
        draw_field(np.random.default_rng(seed), prf=draw_prf(np.random.default_rng(seed), fwhm_pix=one, **shape))
        for one in (width, width * rng.uniform(1.15, 1.5))
    )
    pixels = sharp.pixels
    middle = np.array([np.median(pixels.column[pixels.stamp == one]) for one in range(int(pixels.stamp.max()) + 1)])
    right = (middle > np.median(middle))[pixels.stamp]
    flux = np.where(right, wide.pixels.flux, sharp.pixels.flux)
    error = np.where(right, wide.pixels.flux_err, sharp.pixels.flux_err)
    return _with_pixels(sharp, flux=flux, flux_err=error)


def _few(rng: np.random.Generator) -> Trial:
    n_source = int(rng.integers(1, 5))
    return _trial(draw_field(rng, n_source=n_source, n_stamp=n_source, stamp_sides=(9, 11), mag_range=(11.0, 13.0)))


def _blend(rng: np.random.Generator) -> Trial:
    """Two stars closer than the data can tell: a star listed twice, or a pair of two."""
    made = draw_field(rng)
    sources, star = made.sources, int(rng.integers(24))
    distance, angle = 3.98 / 3600.0 * 10.0 ** rng.uniform(-6.0, -0.5), rng.uniform(0.0, 2.0 * np.pi)
    ra = sources.ra_deg[star] + distance * np.cos(angle) / np.cos(np.radians(sources.dec_deg[star]))
    dec = sources.dec_deg[star] + distance * np.sin(angle)
    share = rng.uniform(0.2, 1.0)
    flux = np.append(sources.flux, share * sources.flux[star])
    pair = SourceTable(
        (*sources.source_id, "again"), np.append(sources.ra_deg, ra), np.append(sources.dec_deg, dec), flux
    )
    return Trial(made.pixels, pair, np.column_stack([made.flux, np.zeros(made.flux.shape[0])]))


def _is_right(one: Judged) -> bool:
    return not one.moved.any() and not np.any(one.expected_scatter > QualityOptions().error_ratio)


def _is_moved(one: Judged) -> bool:
    return bool(one.moved.any())


def _is_wrong_everywhere(one: Judged) -> bool:
    return _is_moved(one) and bool(np.sqrt(np.nanmean(one.away**2)) > _RMS)


def _is_disturbed(one: Judged) -> bool:
    return bool(one.disturbed.any())


def _is_mixed_up(one: Judged) -> bool:
    return bool(np.nanmax(np.abs(one.share[:-1]), initial=0.0) > _BLEND_SHARE)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "sound cutouts": Kind(_sound, (), _is_right),
        "sound image": Kind(_sound_image, (), _is_right),
        "sound, variable stars": Kind(_sound_variable, (), _is_right),
        "sound, drift with time model": Kind(_sound_drift, (), _is_right),
        "sound, sky with background": Kind(_sound_sky, (), _is_right),
        "sky left": Kind(_sky, (QualityFlag.SKY_LEFT,), _is_moved),
        "drift, no time model": Kind(_motion, (QualityFlag.MOTION_LEFT,), _is_disturbed),
        "roll not followed": Kind(_rolling, (QualityFlag.MOTION_LEFT,), _is_disturbed),
        "missing star": Kind(_light, (QualityFlag.UNCATALOGUED_LIGHT,), _is_moved),
        "rolling bands": Kind(_bands, (QualityFlag.CORRELATED_NOISE,), _is_disturbed),
        "errors too small": Kind(_errors, (QualityFlag.ERRORS_TOO_SMALL,), _is_disturbed),
        "positions off": Kind(_positions, (QualityFlag.POSITION_OFF, QualityFlag.UNCATALOGUED_LIGHT), _is_moved),
        "wrong PRF": Kind(_prf, (QualityFlag.POOR_PRF, QualityFlag.PRF_VARIES), _is_wrong_everywhere),
        "few stars": Kind(_few, (QualityFlag.FEW_CALIBRATORS,)),
        "close pair": Kind(_blend, (QualityFlag.DEGENERATE_BLEND,), _is_mixed_up),
    }
)


def judge_trial(kind: str, trial: Trial) -> Judged:
    """Fit a field, judge the fit, and compare it with the truth.

    Parameters
    ----------
    kind : str
        Kind of field.
    trial : Trial
        The field.

    Returns
    -------
    Judged
    """
    machine = Machine.from_pixels(trial.pixels, trial.sources, quiet=True, **trial.settings)
    machine.build_shape_model(refine=trial.refine)
    va = trial.polynomial or trial.positions is not None
    if va:
        machine.build_time_model(positions=trial.positions or False)
    machine.fit_model(fit_va=va, n_threads=1)
    latest = machine.fit.latest_flux
    lit = np.asarray(machine.mean_model.sum(axis=1)).ravel() > 0.5
    mean, truth = latest.flux.mean(axis=0), trial.flux.mean(axis=0)
    total = np.hypot(machine.common_errors.std, np.median(latest.flux_err, axis=0) / np.sqrt(trial.pixels.n_time))
    with np.errstate(divide="ignore", invalid="ignore"):
        away, share = (np.where(lit, (mean - truth) / one, np.nan) for one in (total, truth))
        scatter, quiet = (
            np.where(lit, _scatter(one, trial.flux, latest.flux_err), np.nan)
            for one in (latest.flux, _flux_without_noise(trial, latest))
        )
    return Judged(kind, judge_fit(machine.fit), away, share, scatter, np.hypot(1.0, quiet))


def _scatter(flux: FloatArray, truth: FloatArray, error: FloatArray) -> FloatArray:
    """Return the scatter of fluxes over the truth, in units of their errors, shape (n_source,)."""
    growth = flux / truth
    return np.asarray(((growth - growth.mean(axis=0)) * truth / error).std(axis=0))


def _flux_without_noise(trial: Trial, fitted: FluxFit) -> FloatArray:
    """Return what the same fit makes of the pixels without their noise, shape (n_time, n_source); NaN if unknown."""
    if trial.noise is None:
        return np.full(fitted.flux.shape, np.nan)
    quiet = replace(fitted.problem, data=fitted.problem.data - trial.noise)
    return choose_solver(quiet).solve(quiet).mean[:, : fitted.n_source]


def judge_kind(kind: str, count: int, rng: np.random.Generator) -> Iterator[Judged]:
    """Yield fields of a kind, fitted and judged; faults that move no flux are drawn again.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    count : int
        Number of fields.
    rng : numpy.random.Generator
        Source of randomness.

    Yields
    ------
    Judged
    """
    drawn, limit = 0, _N_DRAW * count
    while count > 0 and drawn < limit:
        one = judge_trial(kind, KINDS[kind].make(rng.spawn(1)[0]))
        drawn += 1
        if KINDS[kind].matters(one):
            count -= 1
            yield one


def find_hits(judged: Sequence[Judged]) -> tuple[int, int]:
    """Return how many fields of one kind have one of its flags, or any for sound ones, and their number."""
    wanted = sum(KINDS[judged[0].kind].flags) if judged else 0
    flags = [int(np.bitwise_or.reduce(one.verdict.flags)) for one in judged]
    return sum(bool(one & wanted if wanted else one) for one in flags), len(flags)
