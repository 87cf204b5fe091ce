"""Slow change of the PRF in time: the PRF at time t is the mean PRF times 1 + sum_km c_km v_k(t) g_m(dx, dy)."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray
from bayesprf.design.binning import bin_mean, build_binning, choose_resolution
from bayesprf.design.trends import Trends, build_trends, find_breaks
from bayesprf.errors import DataWarning, InputError, warn
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import PerturbationOptions
from bayesprf.timemodel.columns import check_vectors, pca_vectors, position_vectors
from bayesprf.timemodel.free_motion import FreeMotion, fit_free_motion
from bayesprf.timemodel.gain import PixelPlane, PrfChange, build_plane
from bayesprf.timemodel.rounds import fit_rounds
from bayesprf.timemodel.training import TrainingPairs, TrainingPixels, bin_training, used_cadences

# Derived: bins as long as a quarter of a wave's period keep 0.81 of its variance, sinc(1/4)**2. A time column must keep
# this share of its variance in the bins.
_LEAST_VARIANCE = 0.8
# Cost: bins are not made finer for that beyond this many numbers of binned data (a few such arrays are held at once).
_MAX_BINNED = 4_000_000


@dataclass(frozen=True, slots=True, eq=False)
class GainModel:
    """A slow change of the PRF, factor by factor, and what it was learned from.

    Parameters
    ----------
    vectors : ndarray of float64, shape (n_time, n_part)
        Time columns v_k: the first is one, the others have mean zero.
    names : tuple of str, shape (n_part,)
        What each time column is.
    bins : csr_matrix of float64, shape (n_bin, n_time)
        Cadences of each bin.
    change : PrfChange
        Position columns g_m.
    weights, weights_err : ndarray of float64, shape (n_part - 1, n_column)
        Coefficients c_km of the columns after the first, and their posterior standard deviation.
    pixel_weights : ndarray of float64, shape (n_part - 1, n_pixel)
        Coefficients e_kp of what each pixel does beyond the common change; zero where it is not used.
    source_weights : ndarray of float64, shape (n_part - 1, n_source)
        Coefficients b_ks of what all pixels of a source do: minus the mean of the other terms over its pixel plane,
        weighted by the PRF.
    pixel_factor : ndarray of float64, shape (n_pixel,)
        Measured over modelled mean light of each pixel; one where it is not used.
    training : TrainingPixels
        Binned pixels that the model was trained on.
    data, model : ndarray of float64, shape (n_bin, n_train)
        Pixels relative to their mean and to their star's brightness, and the fitted factor.
    used : ndarray of bool, shape (n_bin, n_train)
        Which of them were fitted.
    n_clipped : int
        How many pixel-bins were left out as outliers.
    scatter : float
        Relative scatter of pixel-bins about the model beyond their errors.
    free_covariance : ndarray of float64, shape (n_time, n_free, n_free), optional
        Covariance of the last n_free time columns at each cadence, where these are motion, size and shear of that
        cadence (`fit_free_motion`).

    Notes
    -----
    The factor of a source's PRF in a pixel is 1 + sum_k v_k(t) (sum_m c_km g_m + e_kp + b_ks). Its mean over the
    cadences is one, as the v_k have mean zero; the sum of the PRF over the pixel plane is the same at all times, by
    the b_ks: neither mean nor shape of a light curve follows from the time model.
    """

    vectors: FloatArray
    names: tuple[str, ...]
    bins: csr_matrix
    change: PrfChange
    weights: FloatArray
    weights_err: FloatArray
    pixel_weights: FloatArray
    source_weights: FloatArray
    pixel_factor: FloatArray
    training: TrainingPixels
    data: FloatArray
    model: FloatArray
    used: BoolArray
    n_clipped: int
    scatter: float
    free_covariance: FloatArray | None = None

    @property
    def mix(self) -> FloatArray:
        """Weight of each part at each cadence, shape (n_time, n_part)."""
        return self.vectors

    @property
    def n_part(self) -> int:
        """Number of parts; one if nothing changes."""
        return int(self.vectors.shape[1])

    @property
    def gain(self) -> "GainModel":
        """The part of the time model that is no shift: all of it."""
        return self

    @property
    def light(self) -> None:
        """No light of uncatalogued stars was found along."""
        return None

    def factors(self, pairs: PairTable) -> FloatArray:
        """Return the parts of the factor on the mean PRF.

        Parameters
        ----------
        pairs : PairTable
            Any pairs of the same sources and pixels.

        Returns
        -------
        ndarray of float64, shape (n_part, n_pair)
            The factor at cadence t is ``mix[t] @ factors``.
        """
        columns = self.change.columns(pairs.source, pairs.dx, pairs.dy)
        slow = (columns @ self.weights.T).T
        slow += self.pixel_weights[:, pairs.pixel] + self.source_weights[:, pairs.source]
        return np.vstack([np.ones((1, pairs.n_pair)), slow]) * self.pixel_factor[pairs.pixel]


def fit_gain(
    pixels: PixelTable,
    pairs: TrainingPairs,
    *,
    options: PerturbationOptions,
    plane: PixelPlane | None = None,
    other_vectors: object = None,
    fixed_light: FloatArray | None = None,
) -> GainModel:
    """Learn how the PRF changes in time.

    Parameters
    ----------
    pixels : PixelTable
        Data: float64, shape (n_time, n_pixel), electron / s.
    pairs : TrainingPairs
        Mean PRF and mean light of the pairs, and those that the model is trained on.
    options : PerturbationOptions
        Settings.
    plane : PixelPlane, optional
        Columns of all pixels around the sources, measured or not, over which the PRF is summed: of `build_plane`, the
        pairs alone when omitted.
    other_vectors : array-like, shape (n_other, n_time), optional
        Given time columns, such as cotrending basis vectors; their transpose is accepted too.
    fixed_light : ndarray of float64, shape (n_pixel,), optional
        Light of each pixel that belongs to no pair, electron / s.

    Returns
    -------
    GainModel
        Without any change if there is a single cadence, or no pixel is bright enough to learn from.

    Raises
    ------
    ShapeError
        If `other_vectors` has the wrong shape.
    InputError
        If the times do not increase, or position vectors are asked for that the pixels do not have.

    Warns
    -----
    DataWarning
        If no pixel is fit to learn from.

    Notes
    -----
    y[t, p] = a_s(t) m_p (1 + sum_km c_km v_k(t) g_m): the mean m_p of each pixel and the brightness a_s(t) of its star
    are taken from the data in every round, and a_s(t) is marginalised in the fit, so that what the star does itself
    stays out of the PRF. Outliers among the pixel-bins are clipped, and the scatter that the model leaves beyond the
    errors is added to them (Hedges et al. 2021, section 2.3, without these two).
    """
    check_increasing(pixels.time)
    prf, change = pairs.prf, pairs.change
    trends = _time_columns(pixels, pairs, options=options, other_vectors=other_vectors)
    operator = _time_bins(pixels.time, trends.columns, pairs.chosen.size, options)
    training = bin_training(pixels, pairs, operator, radius=options.basis.radius, fixed_light=fixed_light)
    plane = build_plane(change, pixels, prf.pairs) if plane is None else plane
    columns, offsets = _pixel_columns(plane, plane.mean(prf.values), pairs)
    binned = bin_mean(operator, trends.columns[:, 1:])
    rounds = fit_rounds(training, binned, columns, offsets, options, kind=change.kind)
    factor, pixel_weights = np.ones(pixels.n_pixel), np.zeros((len(trends.names) - 1, pixels.n_pixel))
    factor[training.pixel] = _pixel_factor(training, rounds.template, pairs)
    pixel_weights[:, training.pixel] = rounds.pixel_weights
    measured = prf.values * factor[prf.pairs.pixel]
    source_weights = -(rounds.weights @ plane.mean(measured).T)
    source_weights -= plane.mean_of_pairs(measured, pixel_weights[:, prf.pairs.pixel])
    gain = GainModel(
        vectors=trends.columns,
        names=trends.names,
        bins=operator,
        change=change,
        weights=rounds.weights,
        weights_err=rounds.weights_err,
        pixel_weights=pixel_weights,
        source_weights=source_weights,
        pixel_factor=factor if options.fix_pixels else np.ones(pixels.n_pixel),
        training=training,
        data=rounds.ratio,
        model=1.0 + rounds.change,
        used=rounds.used,
        n_clipped=int(np.count_nonzero((training.ivar > 0) & ~rounds.used)),
        scatter=rounds.scatter,
    )
    if not options.free_motion or training.n_train == 0 or pixels.n_time == 1:
        return gain
    slow = rounds.weights, rounds.weights @ columns.T - rounds.weights @ offsets.T + rounds.pixel_weights
    free = fit_free_motion(
        pixels, pairs, columns, slow, trends.columns[:, 1:], options=options, fixed_light=fixed_light
    )
    return _with_free_motion(gain, free, plane.mean(measured), np.asarray(columns - offsets))


def _with_free_motion(gain: GainModel, free: FreeMotion, means: FloatArray, columns: FloatArray) -> GainModel:
    """Return the time model with further time columns: the coefficients of the free position columns.

    `means` are those of the position columns over each source's plane, `columns` those of the training pixels.
    """
    n_free, n_column = free.column.size, gain.change.n_column
    chosen = np.zeros((n_free, n_column))
    chosen[np.arange(n_free), free.column] = 1.0
    fast = bin_mean(gain.bins, free.coefficient) @ columns[:, free.column].T
    return replace(
        gain,
        vectors=np.hstack([gain.vectors, free.coefficient]),
        names=(*gain.names, *(f"free {one}" for one in np.asarray(gain.change.names)[free.column])),
        weights=np.vstack([gain.weights, chosen]),
        weights_err=np.vstack([gain.weights_err, np.zeros_like(chosen)]),
        pixel_weights=np.vstack([gain.pixel_weights, np.zeros((n_free, gain.pixel_weights.shape[1]))]),
        source_weights=np.vstack([gain.source_weights, -means.T[free.column]]),
        model=gain.model + fast,
        free_covariance=free.covariance,
    )


def check_increasing(time: FloatArray) -> None:
    """Raise unless the times increase."""
    steps = np.diff(time)
    if np.any(steps <= 0):
        first = int(np.argmax(steps <= 0))
        raise InputError(
            f"time: expected increasing times for a time model, got {time[first + 1]} after {time[first]} at cadence"
            f" {first + 1}; sort the cadences"
        )


def _time_columns(
    pixels: PixelTable, pairs: TrainingPairs, *, options: PerturbationOptions, other_vectors: object
) -> Trends:
    """Return all time columns; the constant alone if there is nothing to learn from."""
    if pairs.chosen.size == 0:
        warn(
            "build_time_model: no pixel is bright enough, unsaturated and dominated by one source; the PRF is left"
            " constant in time",
            DataWarning,
        )
        return Trends(np.ones((pixels.n_time, 1)), ("constant",))
    others = np.zeros((pixels.n_time, 0))
    names: tuple[str, ...] = ()
    if other_vectors is not None:
        others = check_vectors(other_vectors, pixels.n_time)
        names = tuple(f"other {number}" for number in range(others.shape[1]))
    if options.positions is not None:
        others = np.hstack([others, position_vectors(options.positions, pixels, pairs)])
        names = (*names, *(f"{options.positions} {term}" for term in ("x", "y", "x2", "xy", "y2")))
    used = used_cadences(pixels)
    if options.pca_ncomponents > 0:
        trends = build_trends(pixels.time, options.trends, others=others, names=names, used=used)
        others = np.hstack([others, pca_vectors(pixels, pairs, trends=trends.columns, options=options)])
        names = (*names, *(f"pca {number}" for number in range(others.shape[1] - len(names))))
    return build_trends(pixels.time, options.trends, others=others, names=names, used=used)


def _time_bins(time: FloatArray, vectors: FloatArray, n_train: int, options: PerturbationOptions) -> csr_matrix:
    """Return the binning: as coarse as the options allow, with enough bins, and fine enough for every column."""
    breaks = find_breaks(time)
    resolution = choose_resolution(time.size, options.resolution, options.n_bin_per_vector * vectors.shape[1])
    while True:
        operator = build_binning(time.size, resolution, breaks=breaks, method=options.bin_method)
        lost = vectors[:, 1:].var(axis=0) * _LEAST_VARIANCE > bin_mean(operator, vectors[:, 1:]).var(axis=0)
        too_many = 2 * operator.shape[0] * n_train > _MAX_BINNED
        if resolution == 1 or not lost.any() or too_many:
            return operator
        resolution //= 2


def _pixel_columns(plane: PixelPlane, means: FloatArray, pairs: TrainingPairs) -> tuple[csr_matrix, FloatArray]:
    """Return columns and plane means of pixels: those of their sources, each by its share of the pixel's light."""
    whole, light, pixel = pairs.prf.pairs, pairs.light, pairs.pixel
    number = np.full(whole.n_pixel, -1)
    number[pixel] = np.arange(pixel.size)
    inside = np.flatnonzero((number[whole.pixel] >= 0) & (light > 0))
    row, source = number[whole.pixel[inside]], whole.source[inside]
    total = np.bincount(row, light[inside], minlength=pixel.size)
    share = csr_matrix((light[inside] / total[row], (row, np.arange(inside.size))), shape=(pixel.size, inside.size))
    return csr_matrix(share @ plane.columns[inside]), np.asarray(share @ means[source])


def _pixel_factor(training: TrainingPixels, template: FloatArray, pairs: TrainingPairs) -> FloatArray:
    """Return measured over modelled mean light of the training pixels, with the flux that fits each star best."""
    whole, own = pairs.prf.pairs, pairs.light[pairs.chosen]
    others = np.bincount(whole.pixel, pairs.light, minlength=whole.n_pixel)[training.pixel] - own
    weight = training.ivar.mean(axis=0)
    number = training.group
    scale = np.bincount(number, weight * own * (template - others)) / np.bincount(number, weight * own**2)
    factor = template / (scale[number] * own + others)
    return np.where(np.isfinite(factor) & (factor > 0), factor, 1.0)
