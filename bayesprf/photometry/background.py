"""Smooth sky under the stars: constants or low-order surfaces per cutout or over the image, fitted with the fluxes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial.legendre import legval
from scipy.sparse import csc_matrix, csr_matrix, hstack, identity
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from bayesprf.arrays import BoolArray, FloatArray, IntArray, pointers
from bayesprf.linalg.problem import GaussianPrior
from bayesprf.linalg.stack import DesignStack
from bayesprf.scene.image import Image
from bayesprf.scene.pixels import PixelTable
from bayesprf.settings import Background

# The default prior of a flux, or of a level of the sky, is this many times wider than its mean, as PSFMachine's (Hedges
# et al. 2021): it decides nothing but hopeless blends.
PRIOR_WIDTH = 10.0
# Derived: share of the pixels, the darkest, whose upper end is the first guess, which the fit replaces, and a tenth of
# the prior's width: where all is dark it lies 1.6 of the scatter too low, and stars may light nineteen pixels of
# twenty.
_DARK_SHARE = 0.05
# Definition: where the files do not separate cutouts, neighbours in a row or column at most this far apart belong
# together, pixel.
_MAX_STEP = 3.0
# Cost: entries of sources times pixels that are linked by their sky, at most: 240 MB.
_MAX_SHARED = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class BackgroundColumns:
    """Surfaces of unit height, as columns over the pixels.

    Parameters
    ----------
    matrix : csr_matrix of float64, shape (n_pixel, n_column)
        Products of Legendre polynomials in column and row, scaled to -1 ... 1 over each patch of pixels; nothing in
        saturated pixels and where they spill, which do not measure the sky.
    patch : ndarray of int64, shape (n_column,)
        Patch of each column.
    power : ndarray of int64, shape (n_column, 2)
        Degree in column and row.
    centre, half : ndarray of float64, shape (n_column, 2)
        Column and row of the middle of the patch, and half its extent, pixel.
    sigma : float
        Prior standard deviation of every coefficient, electron / s.
    beneath : csr_matrix of float64, shape (n_pixel, n_column), optional
        The surfaces in those pixels alone, for sums of them.
    """

    matrix: csr_matrix
    patch: IntArray
    power: IntArray
    centre: FloatArray
    half: FloatArray
    sigma: float
    beneath: csr_matrix | None = None

    @property
    def n_column(self) -> int:
        """Number of coefficients."""
        return int(self.patch.size)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each coefficient: its patch, and its degree in column and row."""
        return tuple(f"background {one}:{i}{j}" for one, (i, j) in zip(self.patch, self.power, strict=True))

    def counted(self, home: IntArray, counted: BoolArray) -> "BackgroundColumns":
        """Return the columns with those of some spilled pixels, (n_pixel,), summed under the numbers of their homes."""
        if self.beneath is None:
            return self
        index = np.flatnonzero(counted)
        to_home = csr_matrix((np.ones(index.size), (home[index], index)), (home.size, home.size))
        return replace(self, matrix=csr_matrix(self.matrix + to_home @ self.beneath), beneath=None)

    def extend(self, design: DesignStack) -> DesignStack:
        """Append the columns to those of the stars.

        Parameters
        ----------
        design : DesignStack
            Shape (n_pixel, n_source).

        Returns
        -------
        DesignStack
            Shape (n_pixel, n_source + n_column); the columns are the same at all cadences.
        """
        own = self.matrix
        n_star, n_own = design.indices.size, own.indices.size
        stars = design.sparse(np.arange(n_star))
        sky = csr_matrix((n_star + np.arange(n_own), own.indices, own.indptr), shape=own.shape)
        both = hstack([stars, sky], format="csr")
        both.sort_indices()
        parts = np.zeros((design.parts.shape[0], n_star + n_own))
        parts[:, :n_star], mix = design.parts, design.mix
        constant = np.array([0]) if mix is None else np.flatnonzero(np.all(mix == 1.0, axis=0))
        if constant.size == 0:
            parts = np.concatenate([parts, np.zeros((1, parts.shape[1]))])
            mix, constant = np.column_stack([mix, np.ones(len(mix))]), np.array([len(parts) - 1])  # type: ignore[arg-type, list-item]
        parts[constant[0], n_star:] = own.data
        return DesignStack(
            indptr=both.indptr.astype(np.int64),
            indices=both.indices.astype(np.int64),
            parts=np.ascontiguousarray(parts[:, both.data]),
            n_coeff=design.n_coeff + self.n_column,
            mix=mix,
        )

    def remove(self, design: DesignStack) -> DesignStack:
        """Return a design of stars and background, shape (n_pixel, n_source + n_column), without the latter."""
        n_source = design.n_coeff - self.n_column
        stars = design.indices < n_source
        kept = pointers(stars)
        parts = np.ascontiguousarray(design.parts[:, stars])
        return DesignStack(kept[design.indptr], design.indices[stars], parts, n_source, design.mix)

    def extend_prior(self, prior: GaussianPrior) -> GaussianPrior:
        """Append the prior of the coefficients, N(0, sigma**2), to that of the stars."""
        return GaussianPrior(
            np.concatenate([prior.mean, np.zeros(self.n_column)]),
            np.concatenate([prior.precision, np.full(self.n_column, self.sigma**-2.0)]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ImageBackground:
    """The background of one image.

    Parameters
    ----------
    columns : BackgroundColumns
        The surfaces.
    weights, weights_err : ndarray of float64, shape (n_column,)
        Their heights and standard deviations, electron / s.
    """

    columns: BackgroundColumns
    weights: FloatArray
    weights_err: FloatArray

    def typical_level(self) -> tuple[float, float]:
        """Return the level in the middle of a typical patch and its standard deviation, electron / s."""
        level = self.columns.power.sum(axis=1) == 0
        return float(np.median(self.weights[level])), float(np.median(self.weights_err[level]))

    @property
    def light(self) -> FloatArray:
        """Background of each pixel, shape (n_pixel,), electron / s."""
        return np.asarray(self.columns.matrix @ self.weights)


def build_background(pixels: PixelTable, image: Image, options: Background) -> BackgroundColumns:
    """Lay the surfaces over the pixels.

    Parameters
    ----------
    pixels : PixelTable
        Where the pixels are, and which cutout each comes from. Where all come from one, pixels belong together that
        are linked by neighbours in a row or column at most three pixels apart.
    image : Image
        Gives the default width of the prior.
    options : Background
        What is asked for; a constant where no order is.

    Returns
    -------
    BackgroundColumns
    """
    label = find_patches(pixels) if options.scope == "stamp" else np.zeros(pixels.n_pixel, np.int64)
    sigma = _default_sigma(image) if options.sigma is None else float(options.sigma)
    return lay_surfaces(pixels, label, order=options.order or 0, sigma=sigma)


def lay_surfaces(pixels: PixelTable, label: IntArray, *, order: int, sigma: float) -> BackgroundColumns:
    """Return the surfaces of an order over the pixels of each label, shape (n_pixel,), with their prior width."""
    n_patch, position = int(label.max()) + 1, np.stack([pixels.column, pixels.row], axis=1)
    low, high = np.full((n_patch, 2), np.inf), np.full((n_patch, 2), -np.inf)
    np.minimum.at(low, label, position)
    np.maximum.at(high, label, position)
    centre, half = 0.5 * (high + low), 0.5 * (high - low)
    scaled = (position - centre[label]) / np.where(half > 0, half, 1.0)[label]
    powers = [(i, total - i) for total in range(order + 1) for i in range(total, -1, -1)]
    values = np.stack([_legendre(scaled[:, 0], i) * _legendre(scaled[:, 1], j) for i, j in powers], axis=1)
    column = label[:, None] * len(powers) + np.arange(len(powers))
    row = np.broadcast_to(np.arange(pixels.n_pixel)[:, None], column.shape)
    beneath = np.where(pixels.spilled[:, None], values, 0.0)
    values = values - beneath
    matrix = csr_matrix((values.ravel(), (row.ravel(), column.ravel())), shape=(pixels.n_pixel, n_patch * len(powers)))
    matrix.eliminate_zeros()
    patch = np.repeat(np.arange(n_patch), len(powers))
    rows = csr_matrix((beneath.ravel(), (row.ravel(), column.ravel())), shape=matrix.shape)
    rows.eliminate_zeros()
    return BackgroundColumns(matrix, patch, np.tile(powers, (n_patch, 1)), centre[patch], half[patch], sigma, rows)


def find_patches(pixels: PixelTable) -> IntArray:
    """Return the number of the cutout of each pixel, shape (n_pixel,).

    Parameters
    ----------
    pixels : PixelTable
        By `stamp` where there are several; else by connected regions of the detector.

    Returns
    -------
    ndarray of int64
        0, 1, 2, ... without gaps.
    """
    if np.ptp(pixels.stamp) > 0:
        return np.asarray(np.unique(pixels.stamp, return_inverse=True)[1].ravel(), np.int64)
    ends = []
    for fixed, moving in ((pixels.row, pixels.column), (pixels.column, pixels.row)):
        order = np.lexsort((moving, fixed))
        first, second = order[:-1], order[1:]
        near = (fixed[second] == fixed[first]) & (moving[second] - moving[first] <= _MAX_STEP)
        ends.append(np.stack([first[near], second[near]]))
    first, second = np.concatenate(ends, axis=1)
    links = csr_matrix((np.ones(first.size), (first, second)), shape=(pixels.n_pixel, pixels.n_pixel))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def marginal_gain(gain: csr_matrix, stars: csr_matrix, columns: BackgroundColumns, ivar: FloatArray) -> csr_matrix:
    """Return how fluxes respond to the pixels when a background is fitted along, from how they do without.

    Parameters
    ----------
    gain : csr_matrix of float64, shape (n_source, n_pixel)
        K, the response of the fluxes to the pixels while the background is known.
    stars : csr_matrix of float64, shape (n_pixel, n_source)
        PRF of each source in each pixel, 1 / pixel.
    columns : BackgroundColumns
        The surfaces B.
    ivar : ndarray of float64, shape (n_pixel,)
        Inverse variances; 0 drops a pixel.

    Returns
    -------
    csr_matrix of float64, shape (n_source, n_pixel)
        K - K B S^-1 R with R = B' C^-1 (1 - X K) and S = R B + sigma**-2. A background that so many sources and pixels
        share that this would not fit into memory is taken as known: there, no star's error reaches another by way of
        the sky.
    """
    response = csr_matrix(gain @ columns.matrix)
    weighted = csr_matrix(columns.matrix.T.multiply(ivar))
    left = csr_matrix(weighted - (weighted @ stars) @ gain)
    size = np.diff(response.tocsc().indptr) @ np.diff(left.indptr)
    if size > _MAX_SHARED:
        return gain
    inner = csc_matrix(left @ columns.matrix + columns.sigma**-2.0 * identity(columns.n_column))
    inverse = csr_matrix(splu(inner).solve(np.eye(columns.n_column)))
    return csr_matrix(gain - response @ (inverse @ left))


def first_guess(columns: BackgroundColumns, image: Image) -> ImageBackground:
    """Guess the background before anything is known about the stars: the darkest pixels.

    Parameters
    ----------
    columns : BackgroundColumns
        The surfaces.
    image : Image
        The image.

    Returns
    -------
    ImageBackground
        The level that a twentieth of all pixels stay below, as the constant of every patch: a patch of its own may be
        full of starlight. Errors are those of the prior.
    """
    constant = (columns.power == 0).all(axis=1)
    weights = np.where(constant, _dark_level(image), 0.0)
    return ImageBackground(columns, weights, np.full(columns.n_column, columns.sigma))


def _dark_level(image: Image) -> float:
    used = image.flux[image.ivar > 0]
    return float(np.quantile(used, _DARK_SHARE)) if used.size else 0.0


def _default_sigma(image: Image) -> float:
    return PRIOR_WIDTH * max(abs(_dark_level(image)), image.cadence_error)


def _legendre(x: FloatArray, degree: int) -> FloatArray:
    return np.asarray(legval(x, [0.0] * degree + [1.0]))
