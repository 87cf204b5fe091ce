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
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix, kron

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import as_float, check_positive, check_shape
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
        self._design = KroneckerDesign(bin_mean(self._operator, self.vectors), self._space())
        self.prior_mu = np.outer(constant, self._unity()).ravel()
        self.prior_sigma = self._usual_sigma = np.full(self._design.n_coeff, PRIOR_SIGMA)

    def _space(self) -> csr_matrix:
        """Return the position columns, shape (n_pixel, n_column): here one pixel and one column."""
        return csr_matrix(np.ones((1, 1)))

    def _unity(self) -> FloatArray:
        """Return the coefficients of the position columns that add up to one everywhere, shape (n_column,)."""
        return np.ones(self._space().shape[1])

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
        return np.asarray(self.vectors[chosen] @ self._fitted())

    def _fitted(self) -> FloatArray:
        if not hasattr(self, "weights"):
            raise StageError("no weights yet: call fit() first")
        return self.weights

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


class PerturbationMatrix3D(PerturbationMatrix):
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
        basis = CartesianBasis(int(nknots), float(radius), int(degree), knot_spacing_type)
        self._n_spline, self.cartesian_matrix = basis.n_side, basis.reaching_columns(self.dx, self.dy)
        super().__init__(
            time=time,
            other_vectors=other_vectors,
            poly_order=poly_order,
            focus=focus,
            segments=segments,
            resolution=resolution,
            bin_method=bin_method,
            focus_exptime=focus_exptime,
        )

    def _space(self) -> csr_matrix:
        return self.cartesian_matrix

    def _unity(self) -> FloatArray:
        side = (np.arange(isqrt(self.cartesian_matrix.shape[1])) < self._n_spline).astype(np.float64)
        return np.outer(side, side).ravel()

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the design matrix before binning: (n_time n_pixel, n_coeff)."""
        return self.cartesian_matrix.shape[0] * self.ntime, self.cartesian_matrix.shape[1] * self.nvec

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
        return self._fit(values, None if flux_err is None else as_float(flux_err, "flux_err", ndim=2), mask)

    def model(self, time_indices: Sequence[int] | IntArray | BoolArray | int | None = None) -> FloatArray:
        """Return the fitted model, shape (n, n_pixel): see `PerturbationMatrix.model`."""
        weights = self._fitted().reshape(self.nvec, -1)
        chosen = np.arange(self.ntime) if time_indices is None else np.atleast_1d(np.asarray(time_indices))
        return np.asarray(self.vectors[chosen] @ (self.cartesian_matrix @ weights.T).T)

    def pca(self, y: object, ncomponents: int = 3, smooth_time_scale: float = 0) -> None:
        """Add the principal components of many pixels to the model: see `PerturbationMatrix.pca`."""
        super().pca(y, ncomponents=ncomponents, smooth_time_scale=smooth_time_scale)

    def plot_model(self, time_index: int = 0) -> "Figure":
        """Plot the model at one cadence over dx and dy."""
        from bayesprf.plots.time_model import plot_factor

        return plot_factor(self.dx, self.dy, self.model(time_index)[0], title=f"Perturbation, cadence {time_index}")


class FittedPerturbation(PerturbationMatrix3D):
    """The time model of a `Machine`, with the attributes of a `PerturbationMatrix3D`.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Times, day.
    pairs : PairTable
        Pairs of the mean model: `dx` and `dy` are theirs.
    model : GainModel or ShiftModel
        The time model.

    Notes
    -----
    `vectors`, `cartesian_matrix` and `weights` are those of the fit, the constant in time among them. `model` also
    holds the shift of the PRF where there is one, subtracts the part that would change the sum of the PRF and applies
    the pixels' own mean, as the fluxes do; after a `fit` of one's own it is the plain product.
    """

    def __init__(self, time: FloatArray, pairs: PairTable, model: GainModel | ShiftModel) -> None:
        gain = model.gain
        basis = self._basis = gain.change.basis
        super().__init__(
            time,
            pairs.dx,
            pairs.dy,
            nknots=basis.n_knots,
            radius=basis.radius,
            degree=basis.degree,
            knot_spacing_type=basis.spacing,
        )
        self._operator, self.vectors = gain.bins, gain.vectors
        self.resolution = int(np.diff(gain.bins.indptr).max())
        self.cartesian_matrix = gain.change.columns(pairs.source, pairs.dx, pairs.dy)
        self._set_prior(np.arange(self.vectors.shape[1]) == 0)
        constant = np.arange(self.cartesian_matrix.shape[1]) < basis.n_column
        self.weights = np.concatenate([constant.astype(np.float64), gain.weights.ravel()])
        self._factors: FloatArray | None = model.factors(pairs)
        self._mix = model.mix

    def _unity(self) -> FloatArray:
        return np.ones(self.cartesian_matrix.shape[1])

    def fit(self, flux: object, flux_err: object = None, pixel_mask: object = None) -> FloatArray:
        """Replace the coefficients by those of a plain fit: see `PerturbationMatrix3D.fit`."""
        if self._factors is not None:
            self._factors, self.cartesian_matrix = None, self._basis.columns(self.dx, self.dy)
            self._set_prior(np.arange(self.nvec) == 0)
        return super().fit(flux, flux_err, pixel_mask)

    def model(self, time_indices: Sequence[int] | IntArray | BoolArray | int | None = None) -> FloatArray:
        """Return the factor on the mean PRF, shape (n, n_pair): see `PerturbationMatrix3D.model`."""
        if self._factors is None:
            return super().model(time_indices)
        chosen = np.arange(self.ntime) if time_indices is None else np.atleast_1d(np.asarray(time_indices))
        return np.asarray(self._mix[chosen] @ self._factors)
