"""TESS (TESS Instrument Handbook v0.1; Science Data Products Description Document EXP-TESS-ARC-ICD-0014)."""

from bayesprf.instruments.record import Instrument

# Bits: attitude tweak 1, safe mode 2, coarse point 4, earth point 8, argabrightening 16,
# desaturation 32, manual exclude 128, impulsive outlier 512, straylight 2048 and 4096, scattered light 8192.
_DEFAULT_BITS = 1 | 2 | 4 | 8 | 16 | 32 | 128 | 2048 | 4096

TESS = Instrument(
    name="TESS",
    pixel_scale=21.0,
    saturation=1.0e5,
    time_zero_jd=2457000.0,
    zero_flux_mag=10.0,
    zero_flux=1.5e4,
    quality_bitmask=_DEFAULT_BITS,
    flux_column="phot_rp_mean_flux",
)
