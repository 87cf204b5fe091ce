"""How far real PRFs lie from the typical profile of the instrument's record: the likeliest covariance, and others.

Official TESS tables of camera 2, CCD 3, about the Moffat profile of the record, in the weights of its columns within 6
pixels. What the fit leaves free anyway (width, power, ellipticity and position) is free here too. Fitted to the tables
of the four corners; the other five say what is likelier. Peak, largest deviation (dex) and length: `instrument_prior`.

    python docs/scripts/prf_record.py

BAYESPRF_TEST_DATA names the folder with the mission's tables (prf-models/).
"""

from collections.abc import Callable

import numpy as np
from few_stars import CORNERS, OTHERS, path_of
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from bayesprf.instruments import TESS
from bayesprf.io.prf_files import read_prf_table
from bayesprf.prf.instrument_prior import _ROUGH_LENGTH, _ROUGH_MAX, _ROUGH_PEAK, _peak_growth, instrument_prior
from bayesprf.prf.prior import PrfPrior, project_tables

AXES = 21.0 * np.eye(2)
# Variances of what is free: ellipticity of 0.2, and position of 0.05 pixel.
SHEAR, MOVED = 0.2, 0.05
FLOOR = 3e-5
KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exponential": lambda d: np.exp(-d),
    "Matern 3/2": lambda d: (1.0 + np.sqrt(3.0) * d) * np.exp(-np.sqrt(3.0) * d),
    "Matern 5/2": lambda d: (1.0 + np.sqrt(5.0) * d + 5.0 * d**2 / 3.0) * np.exp(-np.sqrt(5.0) * d),
    "squared exponential": lambda d: np.exp(-0.5 * d**2) + 1e-6 * np.eye(d.shape[0]),
}


def deviation(prior: PrfPrior, place: tuple[int, int]) -> np.ndarray:
    """Return the weights of one table about the record, its own centre in the middle, dex."""
    table = read_prf_table(path_of(*place)).values
    along = (np.arange(table.shape[0]) - (table.shape[0] - 1) / 2.0) / table.sum()
    centre = [round(float(along @ table.sum(axis=axis))) for axis in (1, 0)]
    half = (prior.base.values.shape[0] - table.shape[0]) // 2
    log = np.pad(np.log10(np.maximum(table, FLOOR)), half, mode="edge")
    change = np.roll(log, (-centre[0], -centre[1]), axis=(0, 1)) - np.log10(prior.base.values)
    return project_tables(change[None], prior.base, prior.basis)[0][:, 0]


def angles(prior: PrfPrior) -> np.ndarray:
    """Return the angle of each column, radian."""
    basis = prior.basis
    around = np.arange(basis.n_basis - basis.n_core) % basis.n_phi_knots
    return 2.0 * np.pi / basis.n_phi_knots * np.concatenate([np.zeros(basis.n_core), around])


def free_modes(prior: PrfPrior) -> np.ndarray:
    """Return what is free: width and power as the record has them, ellipticity and position, dex."""
    angle, n_mode = angles(prior), 2
    x, y = prior.basis.centers * np.cos(angle), prior.basis.centers * np.sin(angle)
    east, north = (prior.base.gradient(x, y) / np.log(10.0)).T
    shear = SHEAR * np.stack([east * x - north * y, east * y + north * x], axis=1)
    moved = MOVED * AXES[0, 0] * np.stack([east, north], axis=1)
    return np.concatenate([prior.weights_factor[:, :n_mode], shear, moved], axis=1)


def log_likelihood(covariance: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return the mean log likelihood of tables, and chi-square per weight."""
    lower = np.linalg.cholesky(covariance)
    z = np.linalg.solve(lower, weights.T)
    return float(-0.5 * np.sum(z**2) / weights.shape[0] - np.log(np.diag(lower)).sum()), float(np.mean(z**2))


def main() -> None:
    """Print the likeliest covariances, and what they make of the tables they were not fitted to."""
    prior = instrument_prior(TESS, AXES)
    inside = prior.basis.centers < 6.0 * AXES[0, 0]
    corners, others = (np.array([deviation(prior, one)[inside] for one in places]) for places in (CORNERS, OTHERS))
    angle, radius = angles(prior)[inside], np.log1p(prior.basis.centers[inside] / AXES[0, 0])
    place = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    modes = free_modes(prior)[inside]
    free = modes @ modes.T + prior.weights_sigma**2 * np.eye(radius.size)
    growth = np.log(_peak_growth(prior.base, prior.basis)[inside])

    def covariance(kernel: str, peak: float, largest: float, length: float, power: float = 0.5) -> np.ndarray:
        sigma = np.minimum(peak * np.exp(2.0 * power * growth), largest)
        return free + sigma[:, None] * KERNELS[kernel](cdist(place, place) / length) * sigma

    def show(name: str, kernel: str, *numbers: float) -> None:
        found = covariance(kernel, *numbers)
        parts = [log_likelihood(found, one) for one in (corners, others)]
        said = ", ".join(f"{one:.3g}" for one in numbers)
        text = "; ".join(f"{a:.1f} (chi-square {b:.2f})" for a, b in parts)
        print(f"{name}, {kernel} [{said}]: corners, others {text}")

    show("record", "exponential", _ROUGH_PEAK, _ROUGH_MAX, _ROUGH_LENGTH)
    for kernel in KERNELS:
        for start in ([0.06, 0.6, 0.5], [0.06, 0.6, 0.5, 0.5]):

            def fall(logs: np.ndarray, kernel: str = kernel) -> float:
                return -log_likelihood(covariance(kernel, *np.exp(logs)), corners)[0]

            best = minimize(fall, np.log(start), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-3})
            show("likeliest" if len(start) == 3 else "of free power", kernel, *np.exp(best.x))


if __name__ == "__main__":
    main()
