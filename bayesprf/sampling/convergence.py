"""Whether a sampler's draws can be trusted, in numbers and in words."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesprf.errors import ConvergenceWarning

# Vehtari et al. (2021): R-hat below 1.01, and 100 effective draws per chain.
MAX_R_HAT, MIN_ESS_PER_CHAIN = 1.01, 100.0


@dataclass(frozen=True, slots=True)
class Convergence:
    """What the diagnostics say.

    Parameters
    ----------
    n_chain, n_draw : int
        Number of chains, and of draws in each.
    n_divergent : int
        Transitions that diverged.
    r_hat : float
        Largest R-hat; NaN for one chain of constant draws.
    ess_bulk, ess_tail : float
        Smallest effective sample sizes.
    worst : str
        Name of the variable with the smallest `ess_bulk`.
    problems : tuple of str
        One sentence each, empty if there is none.
    """

    n_chain: int
    n_draw: int
    n_divergent: int
    r_hat: float
    ess_bulk: float
    ess_tail: float
    worst: str
    problems: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        found = (
            f"{self.n_chain} chains of {self.n_draw} draws: {self.n_divergent} divergences, R-hat at most"
            f" {self.r_hat:.4f}, at least {self.ess_bulk:.0f} (bulk) and {self.ess_tail:.0f} (tail) effective draws"
        )
        return found + ("; no problem found" if not self.problems else "; " + "; ".join(self.problems))


def check_convergence(tree: xr.DataTree, names: Sequence[str] | None = None) -> Convergence:
    """Check the draws of a sampler; exact draws pass by construction.

    Parameters
    ----------
    tree : xarray.DataTree
        With a group `posterior`, and `sample_stats` if there may be divergences.
    names : sequence of str, optional
        Variables to check; all of `posterior` by default.

    Returns
    -------
    Convergence

    Warns
    -----
    ConvergenceWarning
        If a diagnostic is out of bounds, saying which, and what to do.
    """
    import arviz as az

    posterior = tree["posterior"].to_dataset()
    n_chain, n_draw = posterior.sizes["chain"], posterior.sizes["draw"]
    varying = posterior[[name for name in names or posterior.data_vars if _varies(posterior[name])]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        bulk, tail = az.ess(varying, method="bulk"), az.ess(varying, method="tail")
        r_hat = _extreme(az.rhat(varying), np.nanmax)[1] if n_chain > 1 else np.nan
    worst, ess_bulk = _extreme(bulk, np.nanmin)
    ess_tail = _extreme(tail, np.nanmin)[1]
    stats = tree["sample_stats"] if "sample_stats" in tree.children else {}
    n_divergent = int(stats["diverging"].sum()) if "diverging" in stats else 0
    problems = _problems(n_divergent, r_hat, (ess_bulk, ess_tail), n_chain=n_chain, worst=worst)
    answer = Convergence(n_chain, n_draw, n_divergent, r_hat, ess_bulk, ess_tail, worst, problems)
    if problems:
        warnings.warn(answer.sentence, ConvergenceWarning, stacklevel=2)
    return answer


def _problems(n_divergent: int, r_hat: float, ess: tuple[float, float], *, n_chain: int, worst: str) -> tuple[str, ...]:
    found = []
    if n_divergent:
        found.append(
            f"{n_divergent} transitions diverged: parts of the posterior may be missing; use form='adaptive',"
            " narrower hyperpriors or target_accept=0.95"
        )
    if r_hat > MAX_R_HAT:
        found.append(f"the chains disagree (R-hat {r_hat:.3f} > {MAX_R_HAT}): take more tuning steps and draws")
    if min(ess) < MIN_ESS_PER_CHAIN * n_chain:
        found.append(
            f"{worst} has {ess[0]:.0f} (bulk) and the tails {ess[1]:.0f} effective draws, less than"
            f" {MIN_ESS_PER_CHAIN * n_chain:.0f}: take more draws"
        )
    return tuple(found)


def _varies(array: xr.DataArray) -> bool:
    return array.dtype.kind == "f" and bool(np.ptp(np.asarray(array)) > 0)


def _extreme(values: xr.Dataset, choose: object) -> tuple[str, float]:
    """Return the variable with the most extreme value, and the value."""
    found = {str(name): float(choose(values[name])) for name in values.data_vars}  # type: ignore[operator]
    if not found:
        return "", np.nan
    name = max(found, key=found.__getitem__) if choose is np.nanmax else min(found, key=found.__getitem__)
    return name, found[name]
