"""Quality bits of the photometry: value, name and one sentence each; the documentation is made from here."""

from enum import IntFlag


class QualityFlag(IntFlag):
    """Why a flux deserves a second look; 0 means that no problem was found.

    Bits 0-15 and 20-22 describe a source at all cadences, bits 16-19 one cadence of it.

    See Also
    --------
    describe_flags : Sentences for a value.
    bayesprf.Machine.flags : The flags of a fit.

    Examples
    --------
    >>> import bayesprf as bp
    >>> bp.QualityFlag(int(machine.flags[0, 0])) & bp.QualityFlag.NO_PIXELS
    <QualityFlag: 0>
    """

    NO_PIXELS = 1 << 0
    LOW_PSF_FRACTION = 1 << 1
    SATURATED = 1 << 2
    SATURATED_NEIGHBOR = 1 << 3
    NO_CATALOG_FLUX = 1 << 4
    DEGENERATE_BLEND = 1 << 5
    POOR_PRF = 1 << 6
    FEW_CALIBRATORS = 1 << 7
    SKY_LEFT = 1 << 8
    MOTION_LEFT = 1 << 9
    UNCATALOGUED_LIGHT = 1 << 10
    CORRELATED_NOISE = 1 << 11
    NOT_CONVERGED = 1 << 12
    POSITION_OFF = 1 << 13
    PRF_VARIES = 1 << 14
    ERRORS_TOO_SMALL = 1 << 15
    PIXELS_DROPPED = 1 << 16
    NO_DATA = 1 << 17
    NEGATIVE_FLUX = 1 << 18
    DOWN_WEIGHTED = 1 << 19
    TIME_MODEL_WORSE = 1 << 20
    ERRORS_TOO_LARGE = 1 << 21
    EXTENDED_LIGHT = 1 << 22


CADENCE_FLAGS = QualityFlag.PIXELS_DROPPED | QualityFlag.NO_DATA | QualityFlag.NEGATIVE_FLUX | QualityFlag.DOWN_WEIGHTED
"""The bits that describe one cadence of a source."""


FLAG_SENTENCES: dict[QualityFlag, str] = {
    QualityFlag.NO_PIXELS: "No pixel lies within reach of the source; its fluxes are NaN.",
    QualityFlag.LOW_PSF_FRACTION: "Less than half of the PRF falls on the data.",
    QualityFlag.SATURATED: "A pixel of the source's core is saturated: left out, or counted in the sum of its column.",
    QualityFlag.SATURATED_NEIGHBOR: "A saturated star reaches into the source's pixels.",
    QualityFlag.NO_CATALOG_FLUX: "The catalogue flux is missing, zero or negative; a wide prior around zero was used.",
    QualityFlag.DEGENERATE_BLEND: "The data do not tell how the light is shared with a neighbour.",
    QualityFlag.POOR_PRF: "The PRF puts the star's light into the wrong pixels, by more than its total error says.",
    QualityFlag.FEW_CALIBRATORS: "Too few stars trained the PRF to learn its errors; the total error is a lower bound.",
    QualityFlag.SKY_LEFT: "Sky is left in the pixels and counted as starlight.",
    QualityFlag.MOTION_LEFT: "The light curve follows motion of the image that the model does not.",
    QualityFlag.UNCATALOGUED_LIGHT: "Light of a star that the catalogue lacks is counted as the source's.",
    QualityFlag.CORRELATED_NOISE: "Neighbouring pixels share noise; the light curve scatters more than its error says.",
    QualityFlag.NOT_CONVERGED: "The fit of the PRF or of the hyperparameters stopped before it had settled.",
    QualityFlag.POSITION_OFF: "The star does not lie where the fit has it, or may be another: all lie off by a pixel.",
    QualityFlag.PRF_VARIES: "The PRF changes over the field, or from star to star, by more than a flux should be off.",
    QualityFlag.ERRORS_TOO_SMALL: "The pixels scatter more than their errors say, and so does the light curve.",
    QualityFlag.PIXELS_DROPPED: "Some pixels had no usable flux or error at this cadence and were left out.",
    QualityFlag.NO_DATA: "No usable pixel at this cadence; the flux is NaN.",
    QualityFlag.NEGATIVE_FLUX: "The flux is negative by more than three standard deviations.",
    QualityFlag.DOWN_WEIGHTED: "A robust fit took a pixel as an outlier at this cadence; it has nearly no weight.",
    QualityFlag.TIME_MODEL_WORSE: "The time model makes this light curve worse, and was held back for this star.",
    QualityFlag.ERRORS_TOO_LARGE: "The pixels scatter less than half as much as their errors say.",
    QualityFlag.EXTENDED_LIGHT: "Light of no star and no flat sky, as a galaxy's, lies beside it, and is fitted along.",
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
