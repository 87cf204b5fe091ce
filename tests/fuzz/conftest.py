"""What every fuzz shares: how many inputs, limits of time and memory, and what an answer may be.

The inputs are the same each time; `pytest tests/fuzz -m slow --hypothesis-seed=1` tries others.
"""

import contextlib
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bayesprf.errors import BayesprfError, BayesprfWarning

SECONDS, BYTES = 30, 2 << 30
# Of the clock, where the machine does other things too.
CLOCK = 10 * SECONDS


class TookTooLong(BaseException):
    """An input was at work for longer than any may."""


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Let the body take no more than 30 s of this process, and 2 GB beyond what it has."""

    def stop(*_: object) -> None:
        raise TookTooLong(f"more than {SECONDS} s")

    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handlers = {one: signal.signal(one, stop) for one in (signal.SIGPROF, signal.SIGALRM)}
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(CLOCK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        for one, handler in handlers.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Let errors and warnings of the package pass, and nothing else."""
    with warnings.catch_warnings(), limits():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", BayesprfWarning)
        try:
            yield
        except BayesprfError as error:
            if not str(error).strip() or "\n" in str(error):
                raise RuntimeError(f"no sentence: {error}") from error


def _where(error: BaseException) -> str:
    """Return kind, place in the package and sentence of what was raised."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "bayesprf" in one.filename]
    place = f"{frames[-1].filename.rpartition('bayesprf/')[2]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {place}"


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that tries so many inputs of some strategies on a check, and tells all that is unexplained."""

    def run(check: Callable[..., None], n_example: int, **inputs: "st.SearchStrategy[Any]") -> None:
        found: dict[str, str] = {}
        same = request.config.getoption("--hypothesis-seed") is None

        @settings(
            max_examples=n_example, deadline=None, derandomize=same, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.fixed_dictionaries(inputs))
        def one(values):
            try:
                with explained():
                    check(**values)
            except (Exception, TookTooLong) as error:  # told below, all kinds at once
                found.setdefault(_where(error), f"{str(error)[:200]!r} for {str(values)[:300]}")

        one()
        assert not found, "\n".join(f"{place}: {said}" for place, said in sorted(found.items()))

    return run
