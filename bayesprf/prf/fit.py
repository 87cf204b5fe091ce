"""The mean PRF shape, learned from the pixels that one star lights (Hedges et al. 2021, section 2.2)."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray
from bayesprf.photometry.background import BackgroundColumns, ImageBackground
from bayesprf.prf.positions import PositionFit
from bayesprf.prf.star_pixels import StarPixels, gather_star_pixels
from bayesprf.prf.star_residuals import StarResiduals, measure_stars
from bayesprf.scene.image import Image
from bayesprf.scene.pairs import PairTable
from bayesprf.scene.prf import LN10, PrfModel, StarPrf
from bayesprf.scene.prf_matrix import PrfMatrix
from bayesprf.scene.sources import SourceTable

if TYPE_CHECKING:
    from bayesprf.prf.joint.objective import JointFit


@dataclass(frozen=True, slots=True, eq=False)
class SkyFound:
    """A sky that a fit of the PRF has left in the pixels, as another one with it tells.

    Parameters
    ----------
    level, error : float
        Light of each pixel, and its standard deviation, electron / s.
    flux : ndarray of float64, shape (n_source,), optional
        Flux of each source beside it, electron / s; None where only the sky was fitted.
    """

    level: float
    error: float
    flux: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PrfFit:
    """The PRF, what it was learned from, and where each source matters.

    Parameters
    ----------
    prf : PrfModel
        The PRF of the field's centre; its area is one pixel.
    weights_cov : ndarray of float64, shape (n_basis, n_basis)
        Posterior covariance of `psf_w`, dex**2.
    wing_err : float
        Posterior standard deviation of the wing's slope.
    offset : tuple of float
        How far the stars lie from their catalogue positions, east and north, arcsec.
    positions : PositionFit
        How far each star lies from its catalogue position after the common offset; zero unless refined.
    scale : float
        electron / s per unit of catalogue flux.
    flux : ndarray of float64, shape (n_source,)
        Flux of each source in the image, electron / s; NaN without pixels.
    intrinsic_scatter : float
        Relative scatter of pixels about the PRF beyond their errors, dex; mean square over the stars.
    matrix : PrfMatrix
        PRF of the pairs in which a source gives more than `flux_cut_off`, at corrected positions.
    training : ndarray of bool, shape (n_pair,)
        The pairs that the PRF was trained on.
    fixed_light : ndarray of float64, shape (n_pixel,)
        Light in each pixel of pairs below the cut and of distant stars, electron / s: known, not fitted.
    radius : ndarray of float64, shape (n_source,)
        Radius of each source as its flux alone predicted it, arcsec.
    n_clipped : int
        Training pixels left out as outliers.
    image : Image
        The image that was fitted, its background subtracted.
    joint : JointFit
        The fit of all parameters in one objective.
    background : ImageBackground, optional
        The background of the image, if one was asked for.
    sky_found : SkyFound, optional
        A sky in the pixels that this fit leaves.
    sky_beyond : tuple of int, float and float, optional
        Order at which the pixels tell of more sky than the order that was asked for, or than the highest, its largest
        height there and the error of that, electron / s.
    shared : ndarray of bool, shape (n_source,), optional
        Rows of the catalogue that are one star with another, with one PRF and shares of its flux in `flux`.
    """

    prf: PrfModel
    weights_cov: FloatArray
    wing_err: float
    offset: tuple[float, float]
    positions: PositionFit
    scale: float
    flux: FloatArray
    intrinsic_scatter: float
    matrix: PrfMatrix
    training: BoolArray
    fixed_light: FloatArray
    radius: FloatArray
    n_clipped: int
    image: Image
    joint: "JointFit"
    background: ImageBackground | None = None
    sky_found: SkyFound | None = None
    sky_beyond: tuple[int, float, float] | None = None
    shared: BoolArray | None = None

    @property
    def pairs(self) -> PairTable:
        """Pairs of `matrix`."""
        return self.matrix.pairs

    @property
    def values(self) -> FloatArray:
        """PRF of each pair of `matrix`, shape (n_pair,), 1 / pixel."""
        return self.matrix.values

    @property
    def scatter_ratio(self) -> FloatArray:
        """`intrinsic_scatter` of each star relative to that of all, shape (n_source,): a PRF errs most at the edges."""
        if not self.intrinsic_scatter > 0:
            return np.ones(self.flux.size)
        return self.joint.star_errors / (LN10 * self.intrinsic_scatter)

    @property
    def home(self) -> IntArray | None:
        """Pixel under whose number the light of each counts in fluxes, shape (n_pixel,): see `JointProblem.home`."""
        return self.joint.problem.home

    def left_out(self, spilled: BoolArray) -> BoolArray:
        """Return which spilled pixels, (n_pixel,), tell of no flux: all but those whose columns hold all charge."""
        return spilled & ~self.joint.problem.counted

    @property
    def flux_background(self) -> BackgroundColumns | None:
        """Columns of the background in the pixels as fluxes count them."""
        if self.background is None or self.joint.problem.home is None:
            return None if self.background is None else self.background.columns
        return self.background.columns.counted(self.joint.problem.home, self.joint.problem.counted)

    @property
    def training_pairs(self) -> PairTable:
        """The pairs that the PRF was trained on."""
        return self.pairs.select(self.training)

    @property
    def star_pixels(self) -> StarPixels:
        """The training pixels, with the light of all other stars subtracted."""
        return gather_star_pixels(self.matrix, self.flux, self.image, fixed=self.fixed_light, chosen=self.training)

    @property
    def trust(self) -> FloatArray:
        """Share of its weight that each pixel keeps in fluxes, shape (n_pixel,); known after a fit with a sky.

        None where a pixel probably holds light of no catalogued star: such light, which only adds, would raise the sky,
        and that make the stars fainter. Less where the wings of saturated stars err by more than noise: they would bend
        the sky, and through it all stars.
        """
        if self.background is None:
            return np.ones(self.pairs.n_pixel)
        return np.where(self.joint.clean < 0.5, 0.0, self.joint.trust)

    @property
    def star_sum(self) -> FloatArray:
        """By what the PRF is divided for each source, shape (n_source,): its sum over the pixels."""
        return self.joint.star_sum

    @property
    def star_prf(self) -> StarPrf:
        """The PRF of area one of each source, at its place in the field."""
        if self.joint.problem.n_field == 1:
            return StarPrf((self.prf,), self.turn)
        return StarPrf(tuple(self.joint.prf.normalized_at(place) for place in self.joint.problem.place))

    @property
    def turn(self) -> FloatArray:
        """By how much the PRF is turned against north for each source, shape (n_source,), radian."""
        return self.joint.prf.frame.turn(self.joint.problem.place)

    @property
    def found_stars(self) -> SourceTable | None:
        """Stars that the catalogue lacks and the fit found and fitted along, on the scale of the catalogue."""
        found = self.joint.found
        return None if found is None else replace(found, flux=found.flux / self.scale)

    @property
    def found_light(self) -> FloatArray:
        """Light of these stars in the pixels, shape (n_pixel,), electron / s."""
        known, extended = self.joint.problem.known, self.joint.extended
        return known if extended is None else known - extended.light

    @property
    def color(self) -> FloatArray:
        """Scaled colour of each source that the PRF follows, shape (n_source,); 0 where it follows none."""
        if not self.joint.problem.colored:
            return np.zeros(self.flux.size)
        return self.joint.problem.place[:, 2]

    def at(self, ra_deg: float, dec_deg: float, color: float = 0.0) -> "PrfFit":
        """Return the fit with the PRF, and the errors of its weights, at a place of the field, degree.

        It is that of a star of some scaled colour, 0 the median.
        """
        field, n_field = self.joint.prf, self.joint.problem.n_field
        place = np.pad(field.frame.places(np.atleast_1d(ra_deg), np.atleast_1d(dec_deg)), ((0, 0), (0, 1)))
        place[:, 2] = color
        factor = self.joint.posterior.global_factor[: n_field * field.basis.n_basis]
        here = np.tensordot(field.columns(place)[0], factor.reshape(n_field, field.basis.n_basis, -1), 1)
        return replace(self, prf=field.normalized_at(place[0]), weights_cov=here @ here.T)

    def star_residuals(self) -> StarResiduals:
        """Measure how the training stars deviate from the PRF at their places."""
        pixels = self.star_pixels
        return measure_stars(
            self.prf,
            pixels,
            self.intrinsic_scatter * self.scatter_ratio[pixels.source],
            values=self.values[self.training],
        )
