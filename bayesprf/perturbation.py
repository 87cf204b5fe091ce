"""PerturbationMatrix and PerturbationMatrix3D: linear models of slow change in time, under PSFMachine's names.

Where they differ from PSFMachine 1.1.4, on purpose: the prior mean is one for columns constant in time and zero for
all others, so that weak data do not acquire slopes (`prior_mu` and `prior_sigma` can be set); `focus_exptime` is the
time to fall to 1/e, not a rate; positions stand on fixed knots, beyond which the outer pieces go on to twice
`radius`, instead of stretching the basis; the prior is as wide as data that are not relative to one; NaN values and
zero errors drop out; a single cadence, equal times and lists are understood; `pca` subtracts the mean of every
series; `model` accepts boolean masks, and `fit` returns the weights in both classes; the matrix of
`PerturbationMatrix3D` is built out only when `matrix` is read.
"""

from collections.abc import Sequence
from math import isqrt
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix, kron

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import as_array, as_float, check_positive, check_shape
from bayesprf.design.binning import bin_error, bin_mean, build_binning
from bayesprf.design.cartesian import CartesianBasis
from bayesprf.design.smoothing import centre_segments, smooth_series
from bayesprf.design.trends import find_breaks, focus_decay, label_segments
from bayesprf.errors import InputError, ShapeError, StageError
from bayesprf.linalg.kronecker import KroneckerDesign
from bayesprf.linalg.problem import GaussianPrior, LinearProblem
from bayesprf.linalg.solvers.dense import DenseSolver
from bayesprf.scene.pairs import PairTable
from bayesprf.timemodel.columns import check_vectors, common_components
from bayesprf.timemodel.fit import GainModel
from bayesprf.timemodel.shift import ShiftModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Option: `prior_sigma`. The factor on the PRF changes by half of itself; PSFMachine's 1e4 leaves it free, and weak data
# acquire slopes.
PRIOR_SIGMA = 0.5


class PerturbationMatrix:
    """A linear model in time: polynomial, focus decay and given vectors, per segment if asked.

    Parameters
    ----------
    time : array-like, shape (n_time,)
        Times, increasing, any unit.
    other_vectors : array-like, shape (n_vector, n_time) or (n_time, n_vector), optional
        Further columns, such as centroids; NaN is read as 0.
    poly_order : int
        Highest power of time about its mean.
    focus : bool
        Add an exponential decay from the start of every segment.
    segments : bool
        Give every segment its own columns; a gap of more than five median steps starts a segment.
    resolution : int
        Cadences per bin.
    bin_method : {"bin", "downsample"}
        Mean of the cadences of a bin, or every `resolution`-th cadence and the last.
    focus_exptime : float
        Time after which the focus term has fallen to 1/e, in the unit of `time`.

    Attributes
    ----------
    vectors : ndarray of float64, shape (n_time, n_vec)
        Columns at every cadence.
    matrix : csr_matrix of float64, shape (nbins, n_vec)
        Binned columns.
    weights : ndarray of float64, shape (n_vec,)
        Coefficients of the last fit.
    prior_mu, prior_sigma : ndarray of float64, shape (n_vec,)
        Gaussian prior of the coefficients; may be set. By default the width is 0.5, or the median distance of
        the data from one where that is more.

    Raises
    ------
    InputError
        If a number is out of range or the bin method unknown.
    ShapeError
        If `other_vectors` does not fit the times.
    """

    def __init__(
        self,
        time: object,
        other_vectors: object = None,
        poly_order: int = 3,
        focus: bool = False,  # noqa: FBT001, FBT002  (documented signature)
        segments: bool = True,  # noqa: FBT001, FBT002
        resolution: int = 10,
        bin_method: str = "bin",
        focus_exptime: float = 2,
    ) -> None:
        check_positive(focus_exptime, "focus_exptime")
        if poly_order < 0 or resolution < 1:
            raise InputError(f"poly_order, resolution: expected at least 0 and 1, got {poly_order} and {resolution}")
        self.time = as_float(time, "time", ndim=1)
        if self.time.size == 0:
            raise InputError("time: expected at least one cadence, got none")
        self.other_vectors = None if other_vectors is None else check_vectors(other_vectors, self.time.size)
        self.poly_order, self.focus, self.focus_exptime = poly_order, focus, focus_exptime
        self.segments, self.resolution, self.bin_method = segments, resolution, bin_method
        self._pca_components = np.zeros((self.time.size, 0))
        self._operator = build_binning(self.ntime, int(resolution), breaks=self.breaks, method=bin_method.lower())
        self._space, self._unity = csr_matrix(np.ones((1, 1))), np.ones(1)
        self._set_vectors()

    def __repr__(self) -> str:
        return type(self).__name__

    def _set_vectors(self) -> None:
        centred = self.time - self.time.mean()
        shared = [centred[:, None] ** np.arange(self.poly_order + 1)]
        if self.focus:
            shared.append(focus_decay(self.time, self.focus_exptime)[:, None])
        if self.other_vectors is not None:
            shared.append(self.other_vectors)
        columns = np.hstack([*shared, self._pca_components])
        masks = self.segment_masks if self.segments else np.ones((self.ntime, 1))
        self.vectors = (columns[:, :, None] * masks[:, None, :]).reshape(self.ntime, -1)
        self._set_prior(np.arange(self.nvec) < masks.shape[1])

    def _set_prior(self, constant: BoolArray) -> None:
        """Prepare the binned design, and a prior mean of one for the columns that are constant in time."""
        self._constant = constant
        self._design = KroneckerDesign(bin_mean(self._operator, self.vectors), self._space)
        self.prior_mu = np.outer(constant, self._unity).ravel()
        self.prior_sigma = self._usual_sigma = np.full(self._design.n_coeff, PRIOR_SIGMA)

    def _set_space(self, columns: csr_matrix, unity: FloatArray) -> None:
        """Take position columns, shape (n_pixel, n_column), and their coefficients that add up to one everywhere."""
        self._space, self._unity = columns, unity
        self._set_prior(self._constant)

    @property
    def matrix(self) -> csr_matrix:
        """Binned design matrix: csr_matrix of float64, shape (nbins n_pixel, n_coeff)."""
        return csr_matrix(kron(csr_matrix(self._design.time_vectors), self._design.space))

    @property
    def breaks(self) -> IntArray:
        """First cadence of every segment but the first, shape (n_segment - 1,)."""
        return find_breaks(self.time)

    @property
    def segment_masks(self) -> FloatArray:
        """One where a cadence belongs to a segment, else zero, shape (n_time, n_segment)."""
        labels = label_segments(self.time)
        return (labels[:, None] == np.arange(labels[-1] + 1)).astype(np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the design matrix before binning."""
        return self.ntime, self.nvec

    @property
    def nvec(self) -> int:
        """Number of time columns."""
        return int(self.vectors.shape[1])

    @property
    def ntime(self) -> int:
        """Number of cadences."""
        return int(self.time.size)

    @property
    def nbins(self) -> int:
        """Number of bins."""
        return int(self._operator.shape[0])

    def bin_func(self, var: object, quad: bool = False) -> FloatArray:  # noqa: FBT001, FBT002  (documented signature)
        """Bin an array as the model is binned.

        Parameters
        ----------
        var : array-like, shape (n_time, ...)
            Values, or standard deviations with `quad`; NaN is left out.
        quad : bool
            Return the error of the mean of independent values.

        Returns
        -------
        ndarray of float64, shape (nbins, ...)

        Raises
        ------
        ShapeError
            If the first axis is not time.
        """
        values = as_float(var, "var")
        if values.ndim == 0 or values.shape[0] != self.ntime:
            raise ShapeError(f"var: expected first axis of {self.ntime} cadences, got shape {values.shape}")
        return (bin_error if quad else bin_mean)(self._operator, values)

    def fit(self, flux: object, flux_err: object = None) -> FloatArray:
        """Find the coefficients of the model.

        Parameters
        ----------
        flux : array-like, shape (n_time,)
            Values; NaN is left out.
        flux_err : array-like, shape (n_time,), optional
            Standard deviations; one by default. Values without a positive finite error are left out.

        Returns
        -------
        ndarray of float64, shape (n_vec,)
            The coefficients, also kept as `weights`.
        """
        values = as_float(flux, "flux", ndim=1)
        errors = None if flux_err is None else as_float(flux_err, "flux_err", ndim=1)[:, None]
        return self._fit(values[:, None], errors, np.ones(1, bool))

    def _fit(self, flux: FloatArray, flux_err: FloatArray | None, pixel_mask: BoolArray) -> FloatArray:
        errors = np.ones_like(flux) if flux_err is None else flux_err
        check_shape(errors, flux.shape, "flux_err", "as flux")
        good = np.isfinite(flux) & np.isfinite(errors) & (errors > 0)
        data = self.bin_func(np.where(good, flux, np.nan))
        noise = self.bin_func(np.where(good, errors, np.nan), quad=True)
        known = np.isfinite(data) & np.isfinite(noise) & pixel_mask
        ivar = np.where(known, 1.0, 0.0) / np.where(known, noise, 1.0) ** 2
        sigma = np.asarray(self.prior_sigma, np.float64)
        if self.prior_sigma is self._usual_sigma and known.any():
            sigma = np.maximum(sigma, np.median(np.abs(data[known] - 1.0)))
        prior = GaussianPrior.from_sigma(np.asarray(self.prior_mu, np.float64), sigma)
        problem = LinearProblem(self._design, np.where(known, data, 0.0).reshape(1, -1), ivar.reshape(1, -1), prior)
        self.weights = DenseSolver().solve(problem).mean[0]
        return self.weights

    def model(self, time_indices: Sequence[int] | IntArray | BoolArray | int | None = None) -> FloatArray:
        """Return the fitted model.

        Parameters
        ----------
        time_indices : int, sequence of int or of bool, optional
            Cadences; all by default.

        Returns
        -------
        ndarray of float64, shape (n,)

        Raises
        ------
        StageError
            If nothing has been fitted.
        """
        chosen = slice(None) if time_indices is None else time_indices
        return np.asarray(self.vectors[chosen] @ self._known_weights())

    def _known_weights(self) -> FloatArray:
        if not hasattr(self, "weights"):
            raise StageError("no weights yet: call fit() first")
        return self.weights

    def _take(self, operator: csr_matrix, vectors: FloatArray, weights: FloatArray) -> None:
        """Take the columns and coefficients of a fit, the first column constant."""
        self._operator, self.vectors, self.weights = operator, vectors, weights
        self.resolution = int(np.diff(operator.indptr).max())
        self._constant = np.arange(vectors.shape[1]) == 0

    def pca(self, y: object, ncomponents: int = 5, smooth_time_scale: float = 0) -> None:
        """Add the principal components of many series to the model.

        Parameters
        ----------
        y : array-like, shape (n_time, n_series)
            Series; NaN is read as the mean of its series.
        ncomponents : int
            Number of components.
        smooth_time_scale : float
            Knot distance of the spline that smooths the series first, in the unit of `time`; 0 for none.

        Raises
        ------
        ShapeError
            If `y` does not have the shape.
        """
        series = as_float(y, "y", ndim=2)
        check_shape(series, (self.ntime, series.shape[1]), "y", "n_time, n_series")
        if smooth_time_scale > 0:
            series = smooth_series(self.time, series, smooth_time_scale)
        centred = centre_segments(series, label_segments(self.time) if self.segments else None)
        self._pca_components = common_components(centred, int(ncomponents))
        self._set_vectors()

    def plot(self) -> "Figure":
        """Plot the time columns, one above the other."""
        from bayesprf.plots.time_model import plot_vectors

        return plot_vectors(self.time, self.vectors)


class PerturbationMatrix3D:
    """A linear model in time and position: time columns times B-splines in dx, dy.

    Parameters
    ----------
    time : array-like, shape (n_time,)
        Times, increasing, any unit.
    dx, dy : array-like, shape (n_pixel,)
        Offset of each pixel from its source, arcsec.
    other_vectors, poly_order, focus, segments, resolution, bin_method, focus_exptime
        As in `PerturbationMatrix`.
    nknots : int
        Knots on each axis; an even number is raised by one.
    radius : float
        Half side of the square the knots cover, arcsec; the outer pieces go on to twice as far.
    degree : int
        Degree of the splines.
    knot_spacing_type : {"linear", "sqrt"}
        Spacing of the knots.

    Attributes
    ----------
    cartesian_matrix : csr_matrix of float64, shape (n_pixel, n_column)
        Position columns.
    weights : ndarray of float64, shape (n_vec n_column,)
        Coefficients of the last fit: column m of time column k is number ``k * n_column + m``.

    Raises
    ------
    InputError
        If a number is out of range, or an option unknown.
    ShapeError
        If arrays disagree in shape.
    """

    def __init__(
        self,
        time: object,
        dx: object,
        dy: object,
        other_vectors: object = None,
        poly_order: int = 3,
        nknots: int = 7,
        radius: float = 8,
        focus: bool = False,  # noqa: FBT001, FBT002  (documented signature)
        segments: bool = True,  # noqa: FBT001, FBT002
        resolution: int = 30,
        bin_method: str = "downsample",
        focus_exptime: float = 2,
        degree: int = 2,
        knot_spacing_type: str = "linear",
    ) -> None:
        self.dx, self.dy = as_float(dx, "dx", ndim=1), as_float(dy, "dy", ndim=1)
        check_shape(self.dy, self.dx.shape, "dy", "n_pixel, as dx")
        self.nknots, self.radius, self.degree, self.knot_spacing_type = nknots, radius, degree, knot_spacing_type
        self._basis = CartesianBasis(int(nknots), float(radius), int(degree), knot_spacing_type)
        self._series = PerturbationMatrix(
            time, other_vectors, poly_order, focus, segments, resolution, bin_method, focus_exptime
        )
        self._fitted: tuple[FloatArray, FloatArray] | None = None
        self.cartesian_matrix = self._basis.reaching_columns(self.dx, self.dy)

    time = property(attrgetter("_series.time"), doc="Times, shape (n_time,).")
    other_vectors = property(attrgetter("_series.other_vectors"), doc="Further columns as given, shape (n_time, n).")
    poly_order = property(attrgetter("_series.poly_order"), doc="Highest power of time.")
    focus = property(attrgetter("_series.focus"), doc="Whether segments start with an exponential decay.")
    focus_exptime = property(attrgetter("_series.focus_exptime"), doc="Time after which the decay has fallen to 1/e.")
    segments = property(attrgetter("_series.segments"), doc="Whether segments have columns of their own.")
    resolution = property(attrgetter("_series.resolution"), doc="Cadences per bin.")
    bin_method = property(attrgetter("_series.bin_method"), doc="How cadences are binned.")
    vectors = property(attrgetter("_series.vectors"), doc="Time columns at every cadence, shape (n_time, nvec).")
    matrix = property(attrgetter("_series.matrix"), doc="Binned design matrix, shape (nbins n_pixel, n_coeff).")
    weights = property(attrgetter("_series.weights"), doc="Coefficients of the last fit, shape (nvec n_column,).")
    breaks = property(attrgetter("_series.breaks"), doc="First cadence of every segment but the first.")
    segment_masks = property(attrgetter("_series.segment_masks"), doc="Segments, shape (n_time, n_segment).")
    nvec = property(attrgetter("_series.nvec"), doc="Number of time columns.")
    ntime = property(attrgetter("_series.ntime"), doc="Number of cadences.")
    nbins = property(attrgetter("_series.nbins"), doc="Number of bins.")

    def __repr__(self) -> str:
        return type(self).__name__

    @property
    def cartesian_matrix(self) -> csr_matrix:
        """Position columns: csr_matrix of float64, shape (n_pixel, n_column); may be set."""
        return self._series._space

    @cartesian_matrix.setter
    def cartesian_matrix(self, columns: csr_matrix) -> None:
        side = (np.arange(isqrt(columns.shape[1])) < self._basis.n_side).astype(np.float64)
        self._series._set_space(columns, np.outer(side, side).ravel())

    @property
    def prior_mu(self) -> FloatArray:
        """Mean of the Gaussian prior of the coefficients, shape (nvec n_column,); may be set."""
        return self._series.prior_mu

    @prior_mu.setter
    def prior_mu(self, mean: FloatArray) -> None:
        self._series.prior_mu = mean

    @property
    def prior_sigma(self) -> FloatArray:
        """Width of the prior of the coefficients, shape (nvec n_column,); may be set."""
        return self._series.prior_sigma

    @prior_sigma.setter
    def prior_sigma(self, sigma: FloatArray) -> None:
        self._series.prior_sigma = sigma

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the design matrix before binning: (n_time n_pixel, n_coeff)."""
        return self.cartesian_matrix.shape[0] * self.ntime, self.cartesian_matrix.shape[1] * self.nvec

    def bin_func(self, var: object, quad: bool = False) -> FloatArray:  # noqa: FBT001, FBT002  (documented signature)
        """Bin an array as the model is binned: see `PerturbationMatrix.bin_func`."""
        return self._series.bin_func(var, quad)

    def fit(self, flux: object, flux_err: object = None, pixel_mask: object = None) -> FloatArray:
        """Find the coefficients of the model.

        Parameters
        ----------
        flux : array-like, shape (n_time, n_pixel)
            Pixels relative to their mean; NaN is left out.
        flux_err : array-like, shape (n_time, n_pixel), optional
            Standard deviations; one by default. Values without a positive finite error are left out.
        pixel_mask : array-like of bool, shape (n_pixel,), optional
            Pixels to fit; all by default.

        Returns
        -------
        ndarray of float64, shape (n_vec n_column,)
            The coefficients, also kept as `weights`.

        Raises
        ------
        ShapeError
            If an array does not have the shape.
        """
        values = as_float(flux, "flux", ndim=2)
        check_shape(values, (self.ntime, self.dx.size), "flux", "n_time, n_pixel")
        mask = np.ones(self.dx.size, bool) if pixel_mask is None else np.asarray(pixel_mask, bool)
        check_shape(mask, (self.dx.size,), "pixel_mask", "n_pixel")
        if self._fitted is not None:
            self._fitted, columns = None, self._basis.columns(self.dx, self.dy)
            self._series._set_space(columns, np.ones(columns.shape[1]))
        errors = None if flux_err is None else as_float(flux_err, "flux_err", ndim=2)
        return self._series._fit(values, errors, mask)

    def model(self, time_indices: Sequence[int] | IntArray | BoolArray | int | None = None) -> FloatArray:
        """Return the fitted model, shape (n, n_pixel): see `PerturbationMatrix.model`."""
        chosen = (
            np.arange(self.ntime) if time_indices is None else np.atleast_1d(as_array(time_indices, "time_indices"))
        )
        if self._fitted is not None:
            mix, factors = self._fitted
            return np.asarray(mix[chosen] @ factors)
        weights = self._series._known_weights().reshape(self.nvec, -1)
        return np.asarray(self.vectors[chosen] @ (self.cartesian_matrix @ weights.T).T)

    def pca(self, y: object, ncomponents: int = 3, smooth_time_scale: float = 0) -> None:
        """Add the principal components of many pixels to the model: see `PerturbationMatrix.pca`."""
        self._series.pca(y, ncomponents=ncomponents, smooth_time_scale=smooth_time_scale)

    def plot(self) -> "Figure":
        """Plot the time columns, one above the other."""
        return self._series.plot()

    def plot_model(self, time_index: int = 0) -> "Figure":
        """Plot the model at one cadence over dx and dy."""
        from bayesprf.plots.time_model import plot_factor

        return plot_factor(self.dx, self.dy, self.model(time_index)[0], title=f"Perturbation, cadence {time_index}")


def fitted_perturbation(time: FloatArray, pairs: PairTable, model: GainModel | ShiftModel) -> PerturbationMatrix3D:
    """Return the time model of a `Machine` as a `PerturbationMatrix3D`.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day.
    pairs : PairTable
        Pairs of the mean model: `dx` and `dy` are theirs.
    model : GainModel or ShiftModel
        The time model.

    Returns
    -------
    PerturbationMatrix3D

    Notes
    -----
    `vectors`, `cartesian_matrix` and `weights` are those of the fit, the constant in time among them. `model` also
    holds the shift of the PRF where there is one, subtracts the part that would change the sum of the PRF and applies
    the pixels' own mean, as the fluxes do; after a `fit` of one's own it is the plain product.
    """
    gain, basis = model.gain, model.gain.change.basis
    matrix = PerturbationMatrix3D(
        time,
        pairs.dx,
        pairs.dy,
        nknots=basis.n_knots,
        radius=basis.radius,
        degree=basis.degree,
        knot_spacing_type=basis.spacing,
    )
    columns = gain.change.columns(pairs.source, pairs.dx, pairs.dy)
    constant = np.arange(columns.shape[1]) < basis.n_column
    matrix._series._take(gain.bins, gain.vectors, np.concatenate([constant.astype(np.float64), gain.weights.ravel()]))
    matrix._series._set_space(columns, np.ones(columns.shape[1]))
    matrix._basis, matrix._fitted = basis, (model.mix, model.factors(pairs))
    return matrix
