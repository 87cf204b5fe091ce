"""Does the time model help? Light curves with and without it, star by star, and a cure for those that it spoils."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.errors import QualityWarning
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.settings import QualityOptions
from bayesprf.stats import mad_sigma

# Definition: slow changes are those of the means over a tenth of the series, or over three cadences if that is more.
_N_PART, _SHORTEST = 10, 3
# Derived: a scatter is known to a quarter from so many differences (1 / sqrt(2 n)); fewer tell nothing.
_N_TELLING = 8
# Definition: a PRF is negative where it is so in a pixel with this share of the star's light.
_LIT_SHARE = 0.01
# Cost: cadences that are looked at for that.
_N_LOOK = 200


@dataclass(frozen=True, slots=True, eq=False)
class Disturbance:
    """What the time model does to each light curve.

    Parameters
    ----------
    reason : mapping of str to ndarray of bool, shape (n_source,)
        Where it makes a light curve worse, by reason.
    """

    reason: Mapping[str, BoolArray]

    @property
    def worse(self) -> BoolArray:
        """Stars for which the time model makes things worse, shape (n_source,)."""
        return np.any(list(self.reason.values()), axis=0)

    def warn(self, names: tuple[str, ...], *, stacklevel: int) -> None:
        """Name the stars, and what happened to them."""
        said = []
        for text, where in self.reason.items():
            stars = [names[one] for one in np.flatnonzero(where)]
            if stars:
                more = f" and {len(stars) - 5} more" if len(stars) > 5 else ""
                said.append(f"{text}: {', '.join(stars[:5])}{more}")
        if said:
            warnings.warn(
                f"the time model makes light curves worse ({'; '.join(said)}): it is held back for these stars, which"
                " have the flag TIME_MODEL_WORSE; take fewer terms, as build_time_model(poly_order=1), or fit without",
                QualityWarning,
                stacklevel=stacklevel,
            )


@dataclass(frozen=True, slots=True, eq=False)
class LeavingLight:
    """How the light that each star puts on its pixels changes in time.

    Parameters
    ----------
    found, expected : ndarray of float64, shape (n_part, n_source)
        Relative change per part of the time model after the first: what the model has, and what the motion of the
        star's centroid in the model carries off its pixels.
    mix : ndarray of float64, shape (n_time, n_part)
        Weight of each of these parts.
    mean : ndarray of float64, shape (n_pair,)
        The mean PRF, 1 / pixel.
    moved : ndarray of float64, shape (n_source,)
        Root mean square of the relative light that the motion moves from pixel to pixel.

    Notes
    -----
    A change of brightness of a star's few pixels and a change of the light beyond them look the same. With the PRF's
    gradient G, a shift e changes the light on the pixels by sum G e and their centroid by sum x G e less its mean's
    share; the second, which the pixels tell, gives e, and e the first.
    """

    found: FloatArray
    expected: FloatArray
    mix: FloatArray
    mean: FloatArray
    moved: FloatArray

    @classmethod
    def of(cls, changing: PrfMatrix, gradient: FloatArray) -> "LeavingLight | None":
        """Compare the two, given the PRF's derivative with a shift east and north, shape (2, n_pair), per arcsec.

        None unless the parts after the first change a mean PRF, which is the first.
        """
        pairs, mix = changing.pairs, changing.mix
        if mix is None or mix.shape[1] < 2 or not np.all(mix[:, 0] == 1.0):
            return None
        place = np.stack([pairs.dx, pairs.dy])

        def total(values: FloatArray) -> FloatArray:
            return np.bincount(pairs.source, values, minlength=pairs.n_source)

        mean, parts = changing.parts[0], changing.parts[1:]
        light = total(mean)
        light = np.where(light > 0, light, np.inf)
        middle = np.stack([total(mean * one) for one in place]) / light
        away = place - middle[:, pairs.source]
        carried = np.stack([total(one) for one in gradient]) / light
        moved = np.stack([[total(a * g) for g in gradient] for a in away]) / light
        centroid = np.stack([[total(a * part) for part in parts] for a in away]) / light
        shift = np.linalg.pinv(moved.transpose(2, 0, 1)) @ centroid.transpose(2, 0, 1)
        expected = np.einsum("is,sik->ks", carried, shift)
        shifts = np.einsum("tk,sik->tis", mix[:, 1:], shift)
        length = np.sqrt(np.mean(shifts**2, axis=0))[:, pairs.source]
        between = 0.5 * total(np.sum(np.abs(gradient) * length, axis=0)) / light
        found = np.stack([total(part) for part in parts]) / light
        return cls(found, expected, mix[:, 1:], mean, between)

    def unexplained(self, noise: FloatArray) -> BoolArray:
        """Find the stars whose light changes by more than twice what motion carries, given their relative errors.

        The difference has to exceed the error of a mean over a tenth of the series as often as any finding, and the
        share of the light moved from pixel to pixel that a usable PRF may put into wrong ones.
        """
        options = QualityOptions()
        rest = np.std(self.mix @ (self.found - self.expected), axis=0)
        carried = np.std(self.mix @ self.expected, axis=0) + options.max_misplaced * self.moved
        told = options.significance * noise / np.sqrt(max(1.0, self.mix.shape[0] / _N_PART))
        return np.asarray((rest > carried) & (rest > told))

    def anchor(self, changing: PrfMatrix, stars: BoolArray) -> PrfMatrix:
        """Return the PRF with the light of some stars changing as their motion has it."""
        source = changing.pairs.source
        rest = np.where(stars, self.found - self.expected, 0.0)[:, source]
        return replace(changing, parts=np.vstack([changing.parts[:1], changing.parts[1:] - rest * self.mean]))


def relative_errors(flux: FloatArray, err: FloatArray) -> FloatArray:
    """Return the median error of each source over its median flux, shape (n_source,); infinite where that is dark."""
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        ratio = np.nanmedian(err, axis=0) / np.nanmedian(flux, axis=0)
    return np.where(ratio > 0, ratio, np.inf)


def compare_curves(
    still: FloatArray,
    moving: FloatArray,
    err: FloatArray,
    changing: PrfMatrix,
    *,
    max_worse: float,
    max_level: float,
) -> Disturbance:
    """Find the stars whose light curve the time model makes worse.

    Parameters
    ----------
    still, moving : ndarray of float64, shape (n_time, n_source)
        Fluxes with the mean PRF and with the time model, electron / s; NaN where there are none.
    err : ndarray of float64, shape (n_time, n_source)
        Errors of the first, electron / s.
    changing : PrfMatrix
        The PRF as the time model changes it.
    max_worse, max_level : float
        As in `PerturbationOptions`.

    Returns
    -------
    Disturbance

    Notes
    -----
    A star's own light is in both curves; the model subtracts what motion did to the first. It makes things worse if
    the second scatters more from cadence to cadence or has larger slow changes (means over a tenth of the series),
    `max_worse` times as much and by `QualityOptions.significance` standard deviations; if it moves the level by a
    factor of more than `max_level`; or if it makes the PRF negative where the star has light. Slow changes are left to
    a shift of the PRF, which is measured from the pixels at every cadence.
    """
    limit = QualityOptions()
    first, second, noise, shift = _relative(still, moving, err)
    return Disturbance(
        {
            f"level off by more than a factor of {max_level:g}": shift > np.log(max_level),
            "negative PRF": _turns_negative(changing),
            "more scatter": _scatters_more(first, second, limit, max_worse),
            "larger slow trends": _drifts_more(first, second, noise, limit, max_worse) & changing.is_gain,
        }
    )


def _relative(
    still: FloatArray, moving: FloatArray, err: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return both curves over their medians less one, the relative error, and the logarithm of the medians' ratio."""
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle, moved, noise = (np.nanmedian(one, axis=0) for one in (still, moving, err))
        told = np.isfinite(middle) & (middle > 10.0 * noise)
        shift = np.where(told, np.where(moved > 0, np.abs(np.log(moved / middle)), np.inf), 0.0)
        curves = (np.where(told, one / base - 1.0, np.nan) for one, base in ((still, middle), (moving, moved)))
        first, second = curves
        return first, second, noise / middle, shift


def _scatters_more(first: FloatArray, second: FloatArray, limit: QualityOptions, max_worse: float) -> BoolArray:
    """Find the stars whose scatter from cadence to cadence the model makes larger."""
    if first.shape[0] <= _N_TELLING:
        return np.zeros(first.shape[1], bool)
    before, after = np.diff(first, axis=0), np.diff(second, axis=0)
    spread = [mad_sigma(np.nan_to_num(one), axis=0) for one in (before, after)]
    bound = 5.0 * np.maximum(spread[0], spread[1])
    plain = np.isfinite(before + after) & (np.abs(before) < bound) & (np.abs(after) < bound)
    more = np.where(plain, after**2 - before**2, 0.0)
    count = np.maximum(plain.sum(axis=0), 1)
    error = np.sqrt(np.sum(more**2, axis=0)) / count
    larger = spread[1] > max_worse * spread[0]
    return np.asarray(larger & (more.sum(axis=0) / count > limit.significance * error))


def _drifts_more(
    first: FloatArray, second: FloatArray, noise: FloatArray, limit: QualityOptions, max_worse: float
) -> BoolArray:
    """Find the stars whose slow changes the model makes larger."""
    n_part = min(_N_PART, first.shape[0] // _SHORTEST)
    if n_part < _SHORTEST:
        return np.zeros(first.shape[1], bool)
    slow = [_slow(one, n_part) for one in (first, second)]
    before, after = (np.sqrt(np.mean(one**2, axis=0)) for one in slow)
    rest = limit.significance * noise / np.sqrt(first.shape[0] / n_part)
    return np.asarray((after > max_worse * before) & (after**2 - before**2 > rest**2))


def _slow(curve: FloatArray, n_part: int) -> FloatArray:
    """Return the means of equal parts of a series about their mean, shape (n_part, n_source); 0 where unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        means = np.array([np.nanmean(part, axis=0) for part in np.array_split(curve, n_part)])
        return np.nan_to_num(means - np.nanmean(means, axis=0))


def _turns_negative(changing: PrfMatrix) -> BoolArray:
    """Find the stars whose PRF turns negative in a pixel that holds a share of their light."""
    pairs, negative = changing.pairs, np.zeros(changing.pairs.n_source, bool)
    if changing.mix is None:
        return negative
    look = changing.mix[:: max(1, changing.mix.shape[0] // _N_LOOK)]
    light = np.abs(look.mean(axis=0) @ changing.parts)
    lit = np.flatnonzero(light > _LIT_SHARE)
    low = (look @ changing.parts[:, lit]).min(axis=0, initial=0.0)
    negative[pairs.source[lit[low < 0]]] = True
    return negative
