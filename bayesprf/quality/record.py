"""Verdict: what is known against a fit, in numbers, flags and sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from bayesprf.arrays import BoolArray, FloatArray, IntArray, brief, brief_html
from bayesprf.flags import QualityFlag

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One fault of a fit.

    Parameters
    ----------
    flag : QualityFlag
        Its bit.
    sources : ndarray of bool, shape (n_source,)
        Sources whose flux it touches.
    effect : float
        What it does to the flux that it touches most, in units of that flux's error.
    sentence : str
        What was found, with its numbers.
    cure : str
        What to do about it.
    """

    flag: QualityFlag
    sources: BoolArray
    effect: float
    sentence: str
    cure: str

    __repr__, _repr_html_ = brief, brief_html

    def __str__(self) -> str:
        return f"{self.sentence}: {self.cure}"


@dataclass(frozen=True, slots=True)
class Cure:
    """Something that was tried because a first fit had a fault.

    Parameters
    ----------
    name : {"sky", "stars", "positions", "roll"}
        What was tried.
    kept : bool
        Whether the fit was better with it, and has it now.
    reason : str
        The fault.
    result : str
        What was done, and what came of it.
    """

    name: str
    kept: bool
    reason: str
    result: str

    def __str__(self) -> str:
        verdict = "applied" if self.kept else "not applied, as that is not clearly better"
        return f"{self.reason}: {self.result} and is {verdict}"


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is known against a fit.

    Parameters
    ----------
    findings : tuple of Finding
        Faults that move a flux, the worst first; empty for a sound fit.
    field : mapping of str to float
        Numbers of the whole field; `bayesprf.results.schema` says what each is.
    sources : mapping of str to ndarray of float64, shape (n_source,)
        Numbers of each source, likewise.
    cures : tuple of Cure
        What `bayesprf.fit` tried because of a first fit's faults.

    Examples
    --------
    >>> import numpy as np
    >>> from bayesprf import Machine
    >>> from bayesprf.simulation.fields import make_field
    >>> field = make_field(rng=np.random.default_rng(2), n_source=30, n_stamp=24, min_separation=3.0)
    >>> machine = Machine.from_pixels(field.pixels, field.sources, quiet=True)
    >>> machine.build_shape_model()
    >>> machine.fit_model()
    >>> machine.verdict.is_sound
    True
    """

    findings: tuple[Finding, ...]
    field: Mapping[str, float]
    sources: Mapping[str, FloatArray]
    cures: tuple[Cure, ...] = ()

    __repr__ = brief

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def flags(self) -> IntArray:
        """Bits of `QualityFlag` of each source, shape (n_source,)."""
        total = np.zeros(next(iter(self.sources.values())).size, np.int64)
        for one in self.findings:
            total[one.sources] |= int(one.flag)
        return total

    def find(self, flag: QualityFlag) -> Finding | None:
        """Return the finding of a flag, or None."""
        return next((one for one in self.findings if one.flag == flag), None)

    def plot(self, *, ax: "Axes | None" = None) -> "Figure":
        """Draw what each fault does to the flux that it touches most.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from bayesprf.plots.answers import plot_verdict

        return plot_verdict(self, ax=ax)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was tried, and what was found, with its cure."""
        n_source = self.flags.size
        found = [f"{one.flag.name} ({int(one.sources.sum())} of {n_source} sources): {one}" for one in self.findings]
        return (*(str(one) for one in self.cures), *found)

    def __str__(self) -> str:
        return "\n".join((*self.sentences, *(["The fit is sound."] if self.is_sound else [])))

    def _repr_html_(self) -> str:
        if self.is_sound:
            return "<p>The fit is sound.</p>"
        rows = "".join(
            f"<tr><td>{one.flag.name}</td><td>{int(one.sources.sum())}</td><td>{escape(one.sentence)}</td>"
            f"<td>{escape(one.cure)}</td></tr>"
            for one in self.findings
        )
        return f"<table><tr><th>flag</th><th>sources</th><th>found</th><th>cure</th></tr>{rows}</table>"
