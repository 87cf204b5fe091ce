"""Kepler and K2.

Sources: Kepler Archive Manual KDMC-10008-006, table 2-3 (QUALITY bits), and Kepler Instrument Handbook
KSCI-19033 (plate scale 3.98 arcsec, full well about 1.1e6 electrons per 6.02 s integration, reads every 6.54 s with
a noise of about 95 electrons).
"""

from bayesprf.instruments.record import Instrument, PrfWidths

_QUALITY_NAMES = {
    1: "attitude tweak",
    2: "safe mode",
    4: "coarse point",
    8: "Earth point",
    16: "reaction wheel zero crossing",
    32: "reaction wheel desaturation",
    64: "argabrightening on several channels",
    128: "cosmic ray in the optimal aperture",
    256: "manual exclude",
    1024: "sudden sensitivity dropout",
    2048: "impulsive outlier of the target",
    4096: "argabrightening on this channel",
    8192: "cosmic ray in collateral data",
    16384: "detector anomaly",
    32768: "not in fine point",
    65536: "no data",
    131072: "rolling band in the optimal aperture",
    262144: "rolling band in the mask",
    524288: "possible thruster firing",
    1048576: "thruster firing",
}

# Left out by default are the bits that spoil every pixel of a cadence. Kept are bits that concern one target or
# a few pixels (128, 1024, 2048, 8192), faint patterns over most of a quarter (131072, 262144: every cadence of
# some K2 files), and 16 and 524288, after which the photometry is usually sound.
_DEFAULT_BITS = 1 | 2 | 4 | 8 | 32 | 64 | 256 | 4096 | 16384 | 32768 | 65536

# Over the focal plane the brightest pixel holds 20 to 62 % of the light, the median 45 %, and 95 % of it lie within a
# diameter of 3.1 to 7.5 pixels, the median 4.2 (Kepler Instrument Handbook, section 3.5; Bryson et al. 2010, ApJ 713,
# L97). The medians give width and power of the profile; the two extremes, each 2 sigma, that of the width, and the
# extreme diameters at the median share that of the power. Tables in the archive have 11 x 11 pixels (15 x 15 where the
# PRF is wide).
PRF_WIDTHS = PrfWidths(width=0.80, power=2.51, width_sigma=0.20, power_sigma=0.51, table_half=5.5)

_READ_NOISE, _READ_SECONDS = 95.0, 6.0198
_DUTY = _READ_SECONDS / 6.5388

KEPLER = Instrument(
    name="Kepler",
    pixel_scale=3.98,
    saturation=1.5e5,  # 1.1e6 electrons / 6.02 s = 1.8e5 electron / s, less a margin for non-linearity
    time_zero_jd=2454833.0,
    zero_flux_mag=12.0,
    zero_flux=1.74e5,  # Kp = 12 gives 1.74e5 electron / s: Van Cleve et al. (2016), PASP 128, 075002
    quality_bitmask=_DEFAULT_BITS,
    quality_names=_QUALITY_NAMES,
    read_noise=_READ_NOISE,
    read_seconds=_READ_SECONDS,
    duty=_DUTY,
    prf_widths=PRF_WIDTHS,
)

K2 = Instrument(
    name="K2",
    pixel_scale=3.98,
    saturation=1.5e5,
    time_zero_jd=2454833.0,
    zero_flux_mag=12.0,
    zero_flux=1.74e5,
    quality_bitmask=_DEFAULT_BITS | 1048576,
    roll_hours=6.0,
    quality_names=_QUALITY_NAMES,
    read_noise=_READ_NOISE,
    read_seconds=_READ_SECONDS,
    duty=_DUTY,
    prf_widths=PRF_WIDTHS,
)
