"""Documented attributes of a Machine as views of its records: nothing here is computed twice or stored."""

import numpy as np
from scipy.sparse import csr_matrix

from bayesprf.arrays import FloatArray, IntArray
from bayesprf.photometry.fluxes import FluxFit
from bayesprf.photometry.robust import DownWeighted
from bayesprf.prf.fit import ShapeFit
from bayesprf.scene.pairs import ARCSEC_PER_DEG, PairTable
from bayesprf.scene.pixels import PixelTable
from bayesprf.scene.sources import SourceTable
from bayesprf.stages import Stages


class MachineViews:
    """Read-only attributes under the names that PSFMachine's users know."""

    pixels: PixelTable
    sources: SourceTable
    _near: PairTable
    _stages: Stages

    # Sizes and inputs under their documented names

    @property
    def nsources(self) -> int:
        """Number of sources."""
        return self.sources.n_source

    @property
    def nt(self) -> int:
        """Number of cadences."""
        return self.pixels.n_time

    @property
    def npixels(self) -> int:
        """Number of pixels."""
        return self.pixels.n_pixel

    @property
    def time(self) -> FloatArray:
        """Times, shape (n_time,), day."""
        return self.pixels.time

    @property
    def flux(self) -> FloatArray:
        """Pixel fluxes, shape (n_time, n_pixel), electron / s."""
        return self.pixels.flux

    @property
    def flux_err(self) -> FloatArray:
        """Pixel errors, shape (n_time, n_pixel), electron / s."""
        return self.pixels.flux_err

    @property
    def ra(self) -> FloatArray:
        """Right ascension of each pixel, shape (n_pixel,), degree."""
        return self.pixels.ra_deg

    @property
    def dec(self) -> FloatArray:
        """Declination of each pixel, shape (n_pixel,), degree."""
        return self.pixels.dec_deg

    @property
    def column(self) -> FloatArray:
        """Detector column of each pixel, shape (n_pixel,)."""
        return self.pixels.column

    @property
    def row(self) -> FloatArray:
        """Detector row of each pixel, shape (n_pixel,)."""
        return self.pixels.row

    @property
    def source_flux_estimates(self) -> FloatArray:
        """First estimate of each source's flux, shape (n_source,): the catalogue's, never overwritten."""
        return self.sources.flux

    # Geometry: views of the one table of pairs

    @property
    def _pairs(self) -> PairTable:
        shape: ShapeFit | None = self._stages.get("shape")
        return self._near if shape is None else self._near.moved(np.asarray(shape.offset) + shape.positions.shift)

    @property
    def dra(self) -> csr_matrix:
        """Offset of pixels from sources towards east (true angle), sparse (n_source, n_pixel), degree."""
        return self._near.to_sparse(self._pairs.dx / ARCSEC_PER_DEG)

    @property
    def ddec(self) -> csr_matrix:
        """Offset of pixels from sources towards north, sparse (n_source, n_pixel), degree."""
        return self._near.to_sparse(self._pairs.dy / ARCSEC_PER_DEG)

    @property
    def r(self) -> csr_matrix:
        """Distance of pixels from sources, sparse (n_source, n_pixel), arcsec."""
        return self._near.to_sparse(self._pairs.r)

    @property
    def phi(self) -> csr_matrix:
        """Angle of pixels around sources, sparse (n_source, n_pixel), radian."""
        return self._near.to_sparse(self._pairs.phi)

    @property
    def source_mask(self) -> csr_matrix:
        """Pixels in which a source is modelled, sparse bool (n_source, n_pixel)."""
        pairs = self._shape.pairs
        return pairs.to_sparse(np.ones(pairs.n_pair, bool))

    @property
    def uncontaminated_source_mask(self) -> csr_matrix:
        """Pixels of each source that taught the PRF, sparse bool (n_source, n_pixel)."""
        shape = self._shape
        taught = shape.pairs.select(shape.training)
        return taught.to_sparse(np.ones(taught.n_pair, bool))

    @property
    def mean_model(self) -> csr_matrix:
        """PRF value of each source in each pixel, sparse (n_source, n_pixel), 1 / pixel."""
        return self._shape.pairs.to_sparse(self._shape.values)

    @property
    def radius(self) -> FloatArray:
        """Reach of each source as its flux alone foretells it, shape (n_source,), arcsec."""
        return self._shape.reach

    @property
    def psf_w(self) -> FloatArray:
        """Weights of log10 PRF, shape (n_basis,), dex."""
        return self._shape.prf.weights

    @property
    def psf_w_err(self) -> FloatArray:
        """Standard deviation of `psf_w`, shape (n_basis,), dex."""
        return np.sqrt(np.diag(self._shape.weights_cov))

    @property
    def centroid_offset(self) -> tuple[float, float]:
        """How far the stars lie from their catalogue positions, east and north, arcsec."""
        return self._shape.offset

    @property
    def _shape(self) -> ShapeFit:
        shape: ShapeFit = self._stages.need("shape")
        return shape

    @property
    def _flux(self) -> FluxFit:
        fit: FluxFit = self._stages.need("flux")
        return fit

    @property
    def ws(self) -> FloatArray:
        """Flux of each source at each cadence, shape (n_time, n_source), electron / s."""
        return self._flux.flux

    @property
    def werrs(self) -> FloatArray:
        """Cadence-to-cadence standard deviation of `ws`, shape (n_time, n_source), electron / s."""
        return self._flux.flux_err

    @property
    def _flux_va(self) -> FluxFit:
        fit: FluxFit = self._stages.need("flux_va")
        return fit

    @property
    def ws_va(self) -> FloatArray:
        """Flux with the time model, shape (n_time, n_source), electron / s."""
        return self._flux_va.flux

    @property
    def werrs_va(self) -> FloatArray:
        """Cadence-to-cadence standard deviation of `ws_va`, shape (n_time, n_source), electron / s."""
        return self._flux_va.flux_err

    @property
    def _coefficient_names(self) -> tuple[str, ...]:
        """Names of what the flux problem solves for: the sources, then the columns of the background."""
        background = self._shape.background
        return (*self.sources.source_id, *(() if background is None else background.columns.names))

    @property
    def background_w(self) -> FloatArray:
        """Coefficients of the background (see `Background`), latest fit, shape (n_time, n_column), electron / s."""
        return self._latest_flux.background_w

    @property
    def background_w_err(self) -> FloatArray:
        """Cadence-to-cadence standard deviation of `background_w`, shape (n_time, n_column), electron / s."""
        return self._latest_flux.background_w_err

    @property
    def background_flux(self) -> FloatArray:
        """Background of every pixel at every cadence, shape (n_time, n_pixel), electron / s; zero if none is fitted."""
        fit = self._latest_flux
        if fit.background is None:
            return np.zeros((self.nt, self.npixels))
        return np.ascontiguousarray((fit.background.matrix @ fit.background_w.T).T)

    @property
    def _latest_flux(self) -> FluxFit:
        """The fluxes that were fitted last, with or without the time model."""
        latest: FluxFit | None = self._stages.latest("flux", "flux_va")
        return self._flux if latest is None else latest

    @property
    def down_weighted(self) -> DownWeighted:
        """Pixels that the latest fit took as outliers (`cadence`, `pixel`, `weight`); none unless it was robust."""
        return self._latest_flux.down_weighted or DownWeighted.empty()

    @property
    def flags(self) -> IntArray:
        """Quality bits, see `QualityFlag`, shape (n_time, n_source)."""
        return self._latest_flux.flags

    @property
    def model_flux(self) -> FloatArray:
        """Model of every pixel at every cadence, shape (n_time, n_pixel), electron / s.

        Saturated pixels took no part in the fit, and hold none of the fitted light.
        """
        return self._latest_flux.model()
