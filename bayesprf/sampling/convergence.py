"""Whether a sampler's draws can be trusted, in numbers and in words."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from bayesprf.arrays import FloatArray
from bayesprf.errors import ConvergenceWarning

# Vehtari et al. (2021): R-hat below 1.01, and 100 effective draws per chain.
MAX_R_HAT, MIN_ESS_PER_CHAIN = 1.01, 100.0
# Betancourt (2016): the energy's steps against its spread, below which a sampler does not reach the tails.
MIN_BFMI = 0.3
# Share of transitions that may stop because their path had the greatest length allowed.
MAX_LONGEST = 0.01
# Names of these statistics: PyMC's, and nutpie's.
_DIVERGING = ("diverging",)
_LONGEST = ("reached_max_treedepth", "maxdepth_reached")


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
    n_longest : int
        Transitions that stopped because their path had the greatest length allowed.
    bfmi : float
        Smallest energy Bayesian fraction of missing information (E-BFMI) of the chains; NaN without energies.
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
    n_longest: int
    bfmi: float
    problems: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        found = (
            f"{self.n_chain} chains of {self.n_draw} draws: {self.n_divergent} divergences, R-hat at most"
            f" {self.r_hat:.4f}, at least {self.ess_bulk:.0f} (bulk) and {self.ess_tail:.0f} (tail) effective draws"
        )
        found += "" if np.isnan(self.bfmi) else f", {self.n_longest} paths cut short, E-BFMI at least {self.bfmi:.2f}"
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
    counts = [sum(int(stats[name].sum()) for name in names if name in stats) for names in (_DIVERGING, _LONGEST)]
    found = Convergence(
        n_chain, n_draw, counts[0], r_hat, ess_bulk, ess_tail, worst, counts[1],
        _smallest_bfmi(np.asarray(stats["energy"])) if "energy" in stats else np.nan, (),
    )  # fmt: skip
    answer = replace(found, problems=_problems(found))
    if answer.problems:
        warnings.warn(answer.sentence, ConvergenceWarning, stacklevel=2)
    return answer


def _smallest_bfmi(energy: FloatArray) -> float:
    """Return the smallest E-BFMI of the chains, energies (n_chain, n_draw)."""
    if energy.shape[1] < 2 or not np.all(np.var(energy, axis=1) > 0):
        return np.nan
    return float(np.min(np.mean(np.diff(energy, axis=1) ** 2, axis=1) / np.var(energy, axis=1)))


def _problems(found: Convergence) -> tuple[str, ...]:
    sentences = []
    if found.n_divergent:
        sentences.append(
            f"{found.n_divergent} transitions diverged: parts of the posterior may be missing; use form='adaptive',"
            " narrower hyperpriors or target_accept=0.95"
        )
    if found.r_hat > MAX_R_HAT:
        sentences.append(
            f"the chains disagree (R-hat {found.r_hat:.3f} > {MAX_R_HAT}): take more tuning steps and draws"
        )
    if min(found.ess_bulk, found.ess_tail) < MIN_ESS_PER_CHAIN * found.n_chain:
        sentences.append(
            f"{found.worst} has {found.ess_bulk:.0f} (bulk) and the tails {found.ess_tail:.0f} effective draws, less"
            f" than {MIN_ESS_PER_CHAIN * found.n_chain:.0f}: take more draws"
        )
    if found.n_longest > MAX_LONGEST * found.n_chain * found.n_draw:
        sentences.append(
            f"{found.n_longest} paths reached the greatest length: the draws are slow, not wrong; take more tuning"
            " steps, or use form='adaptive'"
        )
    if found.bfmi < MIN_BFMI:
        sentences.append(
            f"E-BFMI {found.bfmi:.2f} < {MIN_BFMI}: the tails are hardly reached; narrow the hyperpriors or fix one"
        )
    return tuple(sentences)


def _varies(array: xr.DataArray) -> bool:
    return array.dtype.kind == "f" and bool(np.ptp(np.asarray(array)) > 0)


def _extreme(values: xr.Dataset, choose: object) -> tuple[str, float]:
    """Return the variable with the most extreme value, and the value."""
    found = {str(name): float(choose(values[name])) for name in values.data_vars}  # type: ignore[operator]
    if not found:
        return "", np.nan
    name = max(found, key=found.__getitem__) if choose is np.nanmax else min(found, key=found.__getitem__)
    return name, found[name]
