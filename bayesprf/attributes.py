"""Attributes of a Machine, each declared in one line: results are read from its Fit, settings replace it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self, overload

from bayesprf.arrays import FloatArray
from bayesprf.fit_record import HOW_TO, Fit

if TYPE_CHECKING:
    from bayesprf.machine import Machine
    from bayesprf.photometry.apertures import ApertureSet, ApertureSums
    from bayesprf.photometry.fluxes import FluxFit
    from bayesprf.photometry.metrics import PsfMetrics
    from bayesprf.prf.fit import PrfFit


class Result[T]:
    """A documented attribute of a Machine, read-only: what a getter takes from the record of a stage.

    Parameters
    ----------
    stage : str
        Stage that sets it, "latest" for the fluxes that were fitted last, "data" for the whole Fit.
    get : callable
        Takes the value from the record.
    sentence : str
        What it is, with shape and unit.
    set_by : str, optional
        Stage that sets it, where the getter takes it from the whole Fit.
    """

    @overload
    def __init__(
        self, stage: Literal["data"], get: Callable[[Fit], T], sentence: str, *, set_by: str = "data"
    ) -> None: ...
    @overload
    def __init__(self, stage: Literal["prf"], get: "Callable[[PrfFit], T]", sentence: str) -> None: ...
    @overload
    def __init__(
        self, stage: Literal["flux", "flux_va", "latest"], get: "Callable[[FluxFit], T]", sentence: str
    ) -> None: ...
    @overload
    def __init__(self, stage: Literal["apertures"], get: "Callable[[ApertureSet], T]", sentence: str) -> None: ...
    @overload
    def __init__(
        self, stage: Literal["aperture_photometry"], get: "Callable[[ApertureSums], T]", sentence: str
    ) -> None: ...
    @overload
    def __init__(self, stage: Literal["optimal_percentile"], get: Callable[[FloatArray], T], sentence: str) -> None: ...
    @overload
    def __init__(self, stage: Literal["metrics"], get: "Callable[[PsfMetrics], T]", sentence: str) -> None: ...
    def __init__(self, stage: str, get: Callable[..., T], sentence: str, *, set_by: str | None = None) -> None:
        self.stage, self.get, self.__doc__ = stage, get, sentence
        self._set_by = set_by or ("flux" if stage == "latest" else stage)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, machine: None, owner: type) -> Self: ...
    @overload
    def __get__(self, machine: "Machine", owner: type) -> T: ...
    def __get__(self, machine: "Machine | None", owner: type) -> Self | T:
        if machine is None:
            return self
        return self.get(_record(machine.fit, self.stage))

    def __set__(self, machine: "Machine", value: object) -> None:
        origin = "it belongs to the data" if self.method is None else f"{self.method} sets it"
        raise AttributeError(f"{self._name}: expected to be read, got a value; {origin}")

    @property
    def method(self) -> str | None:
        """The method that sets the attribute; None for what belongs to the data."""
        return HOW_TO.get(self._set_by)


def _record(fit: Fit, stage: str) -> object:
    if stage == "data":
        return fit
    return fit.latest_flux if stage == "latest" else fit.need(stage)


class Setting[T]:
    """A documented attribute of a Machine that may be set at any time; setting it drops the stages that read it.

    Parameters
    ----------
    sentence : str
        What it is.
    """

    def __init__(self, sentence: str) -> None:
        self.__doc__ = sentence

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, machine: None, owner: type) -> Self: ...
    @overload
    def __get__(self, machine: "Machine", owner: type) -> T: ...
    def __get__(self, machine: "Machine | None", owner: type) -> Self | T:
        return self if machine is None else getattr(machine.fit.settings, self._name)

    def __set__(self, machine: "Machine", value: T) -> None:
        machine.fit = machine.fit.with_settings(**{self._name: value})
