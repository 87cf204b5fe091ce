"""PrfMatrix: the PRF of every source in every pixel in which it matters, constant or changing in time."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.checks import check_shape
from bayesprf.linalg.stack import DesignStack
from bayesprf.scene.pairs import PairTable


class TimeModel(Protocol):
    """How a PRF changes in time: at cadence t it is the mean PRF times `mix[t] @ factors(pairs)`."""

    @property
    def mix(self) -> FloatArray:
        """Weight of each part at each cadence, shape (n_time, n_part)."""
        ...

    def factors(self, pairs: PairTable) -> FloatArray:
        """Return the parts of the factor on the mean PRF of any pairs, shape (n_part, n_pair)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PrfMatrix:
    """PRF of pairs of source and pixel, as parts that each cadence mixes.

    Parameters
    ----------
    pairs : PairTable
        Pairs that matter.
    parts : ndarray of float64, shape (n_part, n_pair)
        Parts of the PRF, 1 / pixel; one if it is constant.
    mix : ndarray of float64, shape (n_time, n_part), optional
        Weight of each part at each cadence; None if the PRF is constant.

    Raises
    ------
    ShapeError
        If the parts do not have one entry per pair, or the mix one per part.
    """

    pairs: PairTable
    parts: FloatArray
    mix: FloatArray | None = None

    def __post_init__(self) -> None:
        n_part = self.parts.shape[0] if self.mix is not None else 1
        check_shape(self.parts, (n_part, self.pairs.n_pair), "prf", "n_part, n_pair")
        if self.mix is not None:
            check_shape(self.mix, (self.mix.shape[0], n_part), "mix", "n_time, n_part")

    @classmethod
    def constant(cls, pairs: PairTable, values: FloatArray) -> "PrfMatrix":
        """Return a constant PRF from its values, shape (n_pair,), 1 / pixel."""
        return cls(pairs, values[None])

    @property
    def values(self) -> FloatArray:
        """PRF of each pair, shape (n_pair,), 1 / pixel; of a changing one, its first part."""
        return self.parts[0]

    def light(self, flux: FloatArray) -> FloatArray:
        """Return the light of each pair, shape (n_pair,), electron / s, for fluxes (n_source,), NaN as dark."""
        return np.nan_to_num(flux)[self.pairs.source] * self.values

    def image(self, flux: FloatArray) -> FloatArray:
        """Return the light of all sources in each pixel, electron / s.

        Parameters
        ----------
        flux : ndarray of float64, shape (n_source,) or (n_time, n_source)
            electron / s; NaN counts as dark.

        Returns
        -------
        ndarray of float64, shape (n_pixel,) or (n_time, n_pixel)
        """
        if flux.ndim == 1:
            return np.bincount(self.pairs.pixel, weights=self.light(flux), minlength=self.pairs.n_pixel)
        return self.design().predict(np.nan_to_num(flux))

    def neighbor_light(self, flux: FloatArray) -> FloatArray:
        """Return, for each pair, the light of all other sources in its pixel, shape (n_pair,), electron / s."""
        return self.image(flux)[self.pairs.pixel] - self.light(flux)

    def caught(self) -> FloatArray:
        """Return the sum of each part over the pixels of each source, shape (n_part, n_source)."""
        pairs = self.pairs
        return np.stack([np.bincount(pairs.source, part, minlength=pairs.n_source) for part in self.parts])

    def select(self, mask: BoolArray) -> "PrfMatrix":
        """Return the pairs where the mask, shape (n_pair,), is True."""
        return replace(self, pairs=self.pairs.select(mask), parts=self.parts[:, mask])

    def without(self, pixel: BoolArray) -> "PrfMatrix":
        """Return the pairs of all pixels but those where the mask, shape (n_pixel,), is True."""
        return self.select(~pixel[self.pairs.pixel])

    def changing(self, model: TimeModel) -> "PrfMatrix":
        """Return this constant PRF changed in time by a model."""
        return PrfMatrix(self.pairs, self.values * model.factors(self.pairs), model.mix)

    @property
    def is_gain(self) -> bool:
        """Whether the first part is there at all times and the others change it, as a factor in time does."""
        return self.mix is not None and self.mix.shape[1] > 1 and bool(np.all(self.mix[:, 0] == 1.0))

    def holding(self, sources: BoolArray, still: FloatArray) -> "PrfMatrix":
        """Return the PRF with some sources, shape (n_source,), held at constant values, shape (n_pair,), 1 / pixel."""
        if self.mix is None:
            return self
        held = sources[self.pairs.source]
        parts = np.vstack([np.where(held, 0.0, self.parts), np.where(held, still, 0.0)])
        return replace(self, parts=parts, mix=np.hstack([self.mix, np.ones((self.mix.shape[0], 1))]))

    def at(self, cadence: int) -> csr_matrix:
        """Return the PRF at a cadence, sparse (n_source, n_pixel), 1 / pixel."""
        return self.pairs.to_sparse(self.values if self.mix is None else self.mix[cadence] @ self.parts)

    def design(self) -> DesignStack:
        """Return the PRF as the design of a flux problem: observations are pixels, coefficients sources."""
        order = self.pairs.to_sparse(np.arange(self.pairs.n_pair)).tocsc()
        return DesignStack(
            indptr=order.indptr.astype(np.int64),
            indices=order.indices.astype(np.int64),
            parts=np.ascontiguousarray(self.parts[:, order.data]),
            n_coeff=self.pairs.n_source,
            mix=self.mix,
        )


def count_by_home(prf: PrfMatrix, home: IntArray | None) -> PrfMatrix:
    """Return a PRF with the light of each pixel counted under the number of its home, shape (n_pixel,)."""
    if home is None or prf.pairs.n_pair == 0:
        return prf
    pairs = prf.pairs
    key = pairs.source * pairs.n_pixel + home[pairs.pixel]
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.append(True, np.diff(key[order]) > 0))
    chosen = order[first]
    merged = PairTable(
        pairs.source[chosen], home[pairs.pixel[chosen]], pairs.dx[chosen], pairs.dy[chosen], pairs.n_source,
        pairs.n_pixel,
    )  # fmt: skip
    return replace(prf, pairs=merged, parts=np.add.reduceat(prf.parts[:, order], first, axis=1))
