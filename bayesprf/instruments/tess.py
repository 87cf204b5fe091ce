"""TESS.

Sources: TESS Instrument Handbook v0.1 (plate scale 21 arcsec, full well about 2e5 electrons per 2 s integration,
15,000 electron / s at Tmag 10, read noise up to 10 electrons, 1.98 s of light in each 2 s, of which cosmic-ray
mitigation leaves four fifths) and TESS Science Data Products Description Document EXP-TESS-ARC-ICD-0014
(QUALITY bits; bit 32768 since the data release notes of sector 20).
"""

from bayesprf.instruments.record import Instrument, PrfWidths

_QUALITY_NAMES = {
    1: "attitude tweak",
    2: "safe mode",
    4: "coarse point",
    8: "Earth point",
    16: "argabrightening",
    32: "reaction wheel desaturation",
    64: "cosmic ray in the optimal aperture",
    128: "manual exclude",
    256: "discontinuity corrected",
    512: "impulsive outlier of the target",
    1024: "cosmic ray in collateral data",
    2048: "stray light, set by hand",
    4096: "scattered light, set by background level",
    8192: "excluded from the planet search",
    16384: "bad calibration",
    32768: "too few targets for error correction",
}

# Left out by default are the bits that spoil every pixel of a cadence: those the archive's own examples leave
# out (1 to 32, 128, 2048), scattered light 4096 and bad calibration 16384. The examples also leave out 512; it is
# kept here, because an outlier (a flare) of one target says nothing about the other stars of the stack.
_DEFAULT_BITS = 1 | 2 | 4 | 8 | 16 | 32 | 128 | 2048 | 4096 | 16384

# In flight half of the light lies within a square of half width 15 micron, 1 pixel, averaged over the field (TESS
# telescope information, HEASARC); by design within half of that, and 90 % within 30 micron (Ricker et al. 2015, JATIS
# 1, 014003, table 1). Half widths for half of the light of 0.5 and 2 pixels are taken as 2 sigma; that for 90 % lies
# between the design's 2 pixels and 4, its ratio to the former, each 2 sigma. The tables in the archive have 13 x 13
# pixels.
PRF_WIDTHS = PrfWidths(width=1.21, power=2.13, width_sigma=0.35, power_sigma=0.51, table_half=6.5)

TESS = Instrument(
    name="TESS",
    pixel_scale=21.0,
    # 2e5 electrons / 1.98 s = 1.0e5 electron / s (Ricker et al. 2015, JATIS 1, 014003), less the margin of Kepler's
    # level, for non-linearity and pixels that hold less: one that is taken for unsaturated breaks a bleed trail in two.
    saturation=8.3e4,
    time_zero_jd=2457000.0,
    zero_flux_mag=10.0,
    zero_flux=1.5e4,
    quality_bitmask=_DEFAULT_BITS,
    flux_column="phot_rp_mean_flux",
    quality_names=_QUALITY_NAMES,
    read_noise=10.0,
    read_seconds=1.98,
    duty=0.99 * 0.8,
    prf_widths=PRF_WIDTHS,
)
