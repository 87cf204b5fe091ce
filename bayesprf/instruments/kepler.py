"""Kepler and K2 (Kepler Archive Manual KDMC-10008, Kepler Instrument Handbook KSCI-19033)."""

from bayesprf.instruments.record import Instrument

# Bits: attitude tweak 1, safe mode 2, coarse point 4, earth point 8, desaturation 32, manual exclude 256,
# argabrightening 64, no fine point 32768, no data 65536; rolling band and thruster bits are left to the user.
_DEFAULT_BITS = 1 | 2 | 4 | 8 | 32 | 64 | 256 | 32768 | 65536

KEPLER = Instrument(
    name="Kepler",
    pixel_scale=3.98,
    saturation=1.5e5,
    time_zero_jd=2454833.0,
    zero_flux_mag=12.0,
    zero_flux=1.74e5,
    quality_bitmask=_DEFAULT_BITS,
)

K2 = Instrument(
    name="K2",
    pixel_scale=3.98,
    saturation=1.5e5,
    time_zero_jd=2454833.0,
    zero_flux_mag=12.0,
    zero_flux=1.74e5,
    quality_bitmask=_DEFAULT_BITS | 524288,  # definite thruster firing
    roll_hours=6.0,
)
