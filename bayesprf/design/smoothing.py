"""Smoothing of time series by least-squares splines, segment by segment."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.checks import check_positive
from bayesprf.design.splines import CUBIC, open_knots, open_splines
from bayesprf.design.trends import label_segments

# Rounding: ridge, relative to the largest diagonal entry: holds functions without data at zero.
_RIDGE = 1e-10


def smooth_series(time: FloatArray, values: FloatArray, scale: float) -> FloatArray:
    """Fit a cubic spline with a knot every `scale` days to each segment of every series.

    Parameters
    ----------
    time : ndarray of float64, shape (n_time,)
        Increasing times, day.
    values : ndarray of float64, shape (n_time, n_series)
        Series; NaN is left out of the fit and filled by it.
    scale : float
        Distance of the knots, day.

    Returns
    -------
    ndarray of float64, shape (n_time, n_series)
        A segment no longer than `scale` is fitted by one cubic, or its mean if it has fewer than five cadences.

    Raises
    ------
    InputError
        If `scale` is not a positive number.
    """
    check_positive(scale, "smooth_time_scale")
    smooth = np.empty_like(values)
    labels = label_segments(time)
    for label in range(int(labels[-1]) + 1):
        inside = labels == label
        smooth[inside] = _smooth_segment(time[inside], values[inside], scale)
    return smooth


def count_smooth(time: FloatArray, scale: float) -> int:
    """Return the number of coefficients with which `smooth_series` fits each series."""
    labels = label_segments(time)
    return sum(_count(time[labels == label], scale) for label in range(int(labels[-1]) + 1))


def centre_segments(values: FloatArray, labels: IntArray | None = None) -> FloatArray:
    """Subtract the mean of each segment from every series.

    Parameters
    ----------
    values : ndarray of float64, shape (n_time, n_series)
        Series; NaN becomes 0.
    labels : ndarray of int64, shape (n_time,), optional
        Segment of every cadence; one segment by default.

    Returns
    -------
    ndarray of float64, shape (n_time, n_series)
    """
    labels = np.zeros(values.shape[0], np.int64) if labels is None else labels
    centred = np.zeros_like(values)
    for label in range(int(labels[-1]) + 1):
        part = values[labels == label]
        known = np.isfinite(part)
        mean = np.where(known, part, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        centred[labels == label] = np.where(known, part - mean, 0.0)
    return centred


def _count(time: FloatArray, scale: float) -> int:
    """Return the number of splines of a segment, one where its mean is taken."""
    if time.size <= CUBIC + 1 or time[-1] <= time[0]:
        return 1
    return int(np.ceil((time[-1] - time[0]) / scale)) + CUBIC


def _smooth_segment(time: FloatArray, values: FloatArray, scale: float) -> FloatArray:
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    n_spline = _count(time, scale)
    if n_spline == 1:
        mean = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.broadcast_to(mean, values.shape)
    knots = open_knots(np.linspace(time[0], time[-1], n_spline - CUBIC + 1), CUBIC)
    columns = open_splines(time, knots, CUBIC)
    if known.all():
        return np.asarray(columns @ _solve((columns.T @ columns).toarray(), columns.T @ filled))
    series = [
        columns @ _solve((columns[k].T @ columns[k]).toarray(), columns.T @ y)
        for k, y in zip(known.T, filled.T, strict=True)
    ]
    return np.stack(series, axis=1)


def _solve(gram: FloatArray, rhs: FloatArray) -> FloatArray:
    gram[np.diag_indices_from(gram)] += _RIDGE * max(float(gram.diagonal().max()), 1.0)
    return np.asarray(cho_solve(cho_factor(gram), rhs))
