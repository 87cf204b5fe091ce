"""Quality bits of the photometry: value, name and one sentence each; the documentation is made from here."""

from enum import IntFlag


class QualityFlag(IntFlag):
    """Why a flux deserves a second look; 0 means nothing is known against it.

    Bits 0-15 describe a source at all cadences, bits 16 and up one cadence of it.
    """

    NO_PIXELS = 1 << 0
    LOW_PSF_FRACTION = 1 << 1
    SATURATED = 1 << 2
    SATURATED_NEIGHBOR = 1 << 3
    NO_CATALOG_FLUX = 1 << 4
    DEGENERATE_BLEND = 1 << 5
    PIXELS_DROPPED = 1 << 16
    NO_DATA = 1 << 17
    NEGATIVE_FLUX = 1 << 18
    DOWN_WEIGHTED = 1 << 19


FLAG_SENTENCES: dict[QualityFlag, str] = {
    QualityFlag.NO_PIXELS: "No pixel lies within reach of the source; its fluxes are NaN.",
    QualityFlag.LOW_PSF_FRACTION: "Less than half of the PRF falls on the data.",
    QualityFlag.SATURATED: "A pixel of the source's core is saturated and was left out.",
    QualityFlag.SATURATED_NEIGHBOR: "A saturated star reaches into the source's pixels.",
    QualityFlag.NO_CATALOG_FLUX: "The catalogue flux is missing, zero or negative; a wide prior around zero was used.",
    QualityFlag.DEGENERATE_BLEND: "The prior, not the data, decides how the light is shared with a neighbour.",
    QualityFlag.PIXELS_DROPPED: "Some pixels had no usable flux or error at this cadence and were left out.",
    QualityFlag.NO_DATA: "No usable pixel at this cadence; the flux is NaN.",
    QualityFlag.NEGATIVE_FLUX: "The flux is negative by more than three standard deviations.",
    QualityFlag.DOWN_WEIGHTED: "A robust fit took a pixel as an outlier at this cadence; it has nearly no weight.",
}


def describe_flags(value: int) -> list[str]:
    """Return the sentences of all bits set in a flag value.

    Parameters
    ----------
    value : int
        A value of ``/photometry/flags``.

    Returns
    -------
    list of str
        One sentence per bit, lowest bit first; empty for 0.
    """
    return [sentence for flag, sentence in FLAG_SENTENCES.items() if value & flag]
