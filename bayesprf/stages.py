"""Stages of a Machine and its settings: each stage is one frozen record, and a rerun drops what came of it."""

from collections.abc import Callable
from typing import Any

from bayesprf.errors import StageError

# What each stage is made from; rerunning one drops all that stand on it.
DEPENDS: dict[str, tuple[str, ...]] = {
    "shape": (),
    "time": ("shape",),
    "flux": ("shape",),
    "flux_va": ("shape", "time"),
    "score": ("flux", "flux_va"),
    "widths": ("flux", "flux_va"),
    "aperture": ("shape",),
    "aperture_photometry": ("aperture",),
    "optimal_percentile": ("aperture",),
    "metrics": ("shape", "time"),
    "common": ("shape", "flux", "flux_va"),
}

HOW_TO: dict[str, str] = {
    "shape": "build_shape_model()",
    "time": "build_time_model()",
    "flux": "fit_model()",
    "flux_va": "fit_model(fit_va=True)",
    "score": "loo()",
    "widths": "fit_model(widths=learn_widths())",
    "aperture": "create_aperture_mask() or compute_aperture_photometry()",
    "aperture_photometry": "compute_aperture_photometry()",
    "optimal_percentile": "compute_aperture_photometry('optimal')",
    "metrics": "get_psf_metrics()",
    "common": "fit_common_errors()",
}


class Stages:
    """The results of a Machine, one slot per stage."""

    def __init__(self) -> None:
        self._records: dict[str, Any] = {}

    def keep(self, stage: str, record: Any) -> None:
        """Store the record of a stage, and drop every stage that was made from an earlier one."""
        self.drop(stage)
        self._records[stage] = record

    def drop(self, stage: str) -> None:
        """Forget a stage and all that stand on it."""
        self._records.pop(stage, None)
        for later, needed in DEPENDS.items():
            if stage in needed:
                self.drop(later)

    def get(self, stage: str) -> Any:
        """Return the record of a stage, or None."""
        return self._records.get(stage)

    def latest(self, *stages: str) -> Any:
        """Return the record of the stage, of those named, that was run last, or None."""
        found = [record for stage, record in self._records.items() if stage in stages]
        return found[-1] if found else None

    def need(self, stage: str) -> Any:
        """Return the record of a stage.

        Parameters
        ----------
        stage : str
            Name of the stage.

        Returns
        -------
        object

        Raises
        ------
        StageError
            If the stage has not been run, naming the method that runs it.
        """
        if stage not in self._records:
            raise StageError(f"no {stage.replace('_', ' ')} result yet: call {HOW_TO[stage]} first")
        return self._records[stage]


class Setting:
    """An attribute of a Machine that a user may set at any time; setting it drops the stages that read it.

    Parameters
    ----------
    stage : str, optional
        First stage that reads the setting; none by default.
    parse : callable, optional
        Turns what the user gives into the value, and raises if it cannot.
    """

    def __init__(self, stage: str | None = None, parse: Callable[[Any], Any] | None = None) -> None:
        self._stage, self._parse = stage, parse

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember the name under which the setting was declared."""
        self._name = name

    def __get__(self, machine: Any, owner: type | None = None) -> Any:
        """Return the value."""
        if machine is None:
            return self
        return machine.__dict__[self._name]

    def __set__(self, machine: Any, value: Any) -> None:
        """Set the value and drop the stages that read it."""
        machine.__dict__[self._name] = value if self._parse is None else self._parse(value)
        if self._stage is not None:
            machine._stages.drop(self._stage)
