"""Many fields, one after another or side by side; what is finished stays finished."""

import contextlib
import csv
import dataclasses
import hashlib
import json
import multiprocessing
import os
import re
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

import bayesprf
from bayesprf.arrays import Named
from bayesprf.checks import check_choice, checked, make_directory, shown
from bayesprf.errors import BayesprfWarning, FileError, InputError, MissingDependencyError, QualityWarning
from bayesprf.io.files import atomic_path, check_not_input, claim_directory, sha256_of, sweep_parts
from bayesprf.pipeline import FitOptions, fit_files

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

SUMMARY_NAME, QUALITY_NAME = "summary.csv", "summary.ecsv"
# Words that stand for a catalogue.
_CATALOG_WORDS = ("targets", "detect", "gaia")
_FINGERPRINT = "batch_fingerprint"
_ENDING = ".nc"
# What a report says of one run alone, and a file that must be the same bytes does not keep.
_PASSING = ("output", "seconds")


@dataclass(frozen=True, slots=True)
class Field:
    """One field: the files that make its stack, and its catalogue.

    Parameters
    ----------
    name : str
        Name of the field and of its output: letters, digits, dot, plus, minus and underscore.
    files : str or sequence of str
        Target pixel files: paths, patterns or directories, as for `bayesprf.read_tpfs`.
    catalog : str
        Catalogue file, as for `bayesprf.read_catalog`.

    Raises
    ------
    InputError
        If the name cannot be the name of a file.
    """

    name: str
    files: tuple[str, ...]
    catalog: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*", str(self.name)):
            raise InputError(
                f"name: expected letters, digits, '.', '+', '-' and '_', not beginning with '.', got {self.name!r}"
            )
        files = (self.files,) if isinstance(self.files, str | os.PathLike) else tuple(self.files)
        object.__setattr__(self, "files", tuple(os.fspath(one) for one in files))
        object.__setattr__(self, "catalog", os.fspath(self.catalog))


@dataclass(frozen=True, slots=True)
class FieldReport:
    """What became of one field.

    Parameters
    ----------
    name : str
        Name of the field.
    status : str
        "done", "resumed" (the finished output of an earlier run was kept) or "failed".
    output : str
        The DataTree's file; empty if it failed.
    n_source, n_pixel, n_time : int
        Size of the field; 0 if it failed.
    seconds : float
        Wall time.
    message : str
        Why it failed, or what was left out (files that could not be read, with their names).
    quality : mapping of str to object
        How good it is, by the names of the columns of ``summary.ecsv``; empty if it failed.
    """

    name: str
    status: str
    output: str = ""
    n_source: int = 0
    n_pixel: int = 0
    n_time: int = 0
    seconds: float = 0.0
    message: str = ""
    quality: Named = field(default_factory=dict)


@checked
def read_fields(path: str | Path) -> list[Field]:
    """Read the fields of a batch from a table.

    Parameters
    ----------
    path : path-like
        CSV with the columns `name`, `files` (paths, patterns or directories, split by ``;``) and `catalog`; relative
        paths start at the table.

    Returns
    -------
    list of Field

    Raises
    ------
    FileError
        If the table cannot be read.
    InputError
        If a column or an entry is missing.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            rows, header = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path}: expected a CSV table of fields that can be read ({error})") from error
    if not {"name", "files", "catalog"} <= set(header):
        raise InputError(
            f"{path}: expected the columns name, files and catalog, split by commas, got {', '.join(header) or 'none'}"
        )
    found = []
    for number, row in enumerate(rows, start=2):
        name, files, catalog = ((row.get(column) or "").strip() for column in ("name", "files", "catalog"))
        if not (name and files and catalog):
            raise InputError(
                f"{path}, line {number}: expected the columns name, files and catalog, got name {name!r}, files"
                f" {files!r} and catalog {catalog!r}; fill them in"
            )
        places = tuple(os.fspath(path.parent / one.strip()) for one in files.split(";") if one.strip())
        beside = catalog if catalog in _CATALOG_WORDS else os.fspath(path.parent / catalog)
        found.append(Field(name, places, beside))
    return found


@contextlib.contextmanager
def connect(address: str | None) -> "Iterator[Client | None]":
    """Give a client of a Dask scheduler; None without an address.

    Parameters
    ----------
    address : str, optional
        Such as ``tcp://10.0.0.1:8786``.

    Yields
    ------
    dask.distributed.Client or None

    Raises
    ------
    MissingDependencyError
        If Dask is not installed.
    FileError
        If nothing answers there.
    """
    if address is None:
        yield None
        return
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            "--dask needs the package dask; install it with: pip install 'bayesprf[dask]'"
        ) from error
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise FileError(f"dask: expected the address of a scheduler, got {shown(address)} ({error})") from error
    with client:
        yield client


@checked
def fit_batch(
    fields: Iterable[Field],
    output_dir: str | Path,
    *,
    options: FitOptions | None = None,
    cores: int = 1,
    client: object = None,
    resume: bool = True,
    on_error: str = "skip",
    on_report: Callable[[FieldReport], None] | None = None,
) -> tuple[FieldReport, ...]:
    """Fit many fields; each leaves one DataTree file, complete or not there.

    Parameters
    ----------
    fields : iterable of Field
        The fields, each name once.
    output_dir : path-like
        Directory for ``<name>.nc``, ``summary.csv`` and ``summary.ecsv``; made if it does not exist.
    options : FitOptions, optional
        How every field is fitted.
    cores : int
        Number of processes, each with one thread; 1 works in this process.
    client : dask.distributed.Client or concurrent.futures.Executor, optional
        Where to work instead. Workers need to see the same paths; give Dask workers one thread each.
    resume : bool
        Keep outputs made by the same version from the same files, catalogue and options.
    on_error : str
        "skip" goes on when a field fails or a file cannot be read, and names it in the report; "raise" stops.
    on_report : callable, optional
        Called with each report as it comes, to show progress.

    Returns
    -------
    tuple of FieldReport
        In the order of the fields; ``summary.csv`` holds the same, ``summary.ecsv`` the quality of every field too
        (`bayesprf.io.batch_summary.write_summary`). Both are rewritten after every field.

    Raises
    ------
    InputError
        If there is no field, a name is used twice, an output is an input, or an argument is not one of those above.
    FileError
        If the directory cannot be made, or another batch is at work in it.

    Notes
    -----
    Interrupted at any moment, the batch is taken up by the same call again: finished fields are recognised by a
    fingerprint stored in their file, which is read whole, and no file carries a final name before it is complete. What
    a killed run left behind is removed. A process that dies, for want of memory say, takes no other field with it:
    those at work at that moment are fitted again, each alone. While a batch is at work, the file
    ``.bayesprf-batch.lock`` of the directory says where; that of a batch that was killed is taken over. Trees are the
    same bytes however they were made, but for their time of creation, which the environment variable
    SOURCE_DATE_EPOCH sets.
    """
    check_choice(on_error, ("skip", "raise"), "on_error")
    if options is not None and not isinstance(options, FitOptions):
        raise InputError(f"options: expected FitOptions, got {type(options).__name__}")
    _check_workers(cores, client)
    todo = _check_fields(fields)
    directory = Path(output_dir)
    _check_outputs(todo, directory)
    make_directory(directory, "output_dir")
    settings = {"options": options or FitOptions(), "resume": resume, "on_error": on_error}
    reports: dict[str, FieldReport] = {}
    with claim_directory(directory), contextlib.closing(_run(todo, directory, settings, cores, client)) as run:
        sweep_parts(directory)
        for report in run:
            reports[report.name] = report
            _write_summaries(directory, [reports[one.name] for one in todo if one.name in reports])
            if on_report is not None:
                on_report(report)
    return tuple(reports[one.name] for one in todo)


def fit_field(
    one: Field,
    output: str | Path,
    *,
    options: FitOptions | None = None,
    resume: bool = True,
    on_error: str = "raise",
) -> FieldReport:
    """Fit one field and save its DataTree, unless that was done before.

    Parameters
    ----------
    one : Field
        The field.
    output : path-like
        File to write.
    options : FitOptions, optional
        How it is fitted.
    resume : bool
        Keep a finished output of the same inputs.
    on_error : str
        "skip" turns any error into a report; "raise" lets it pass.

    Returns
    -------
    FieldReport
    """
    check_choice(on_error, ("skip", "raise"), "on_error")
    began = time.perf_counter()
    try:
        report = _fit_or_resume(one, Path(output), options or FitOptions(), resume=resume, on_error=on_error)
    except ImportError:  # the installation is at fault, not the field
        raise
    except Exception as error:  # a batch outlives whatever one field holds; the report says what it was
        if on_error == "raise":
            raise
        report = FieldReport(one.name, "failed", message=f"{type(error).__name__}: {error}")
    return replace(report, seconds=round(time.perf_counter() - began, 3))


def _fit_or_resume(one: Field, output: Path, options: FitOptions, *, resume: bool, on_error: str) -> FieldReport:
    from bayesprf.io.batch_summary import quality_of
    from bayesprf.io.save import save_tree

    fingerprint = _fingerprint(one, options)
    kept = _read_finished(one, output, fingerprint) if resume else None
    if kept is not None:
        return kept
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BayesprfWarning)
        tree, size = _fit(one, options, on_error)
    report = FieldReport(
        one.name, "done", str(output), *size, message=_gather_messages(caught), quality=quality_of(tree)
    )
    tree.attrs[_FINGERPRINT] = fingerprint
    tree.attrs["batch_report"] = json.dumps({key: one for key, one in asdict(report).items() if key not in _PASSING})
    save_tree(tree, output)
    return report


def _fit(one: Field, options: FitOptions, on_error: str) -> tuple["xr.DataTree", tuple[int, int, int]]:
    """Return the DataTree of a field and its number of sources, pixels and cadences."""
    machine = fit_files(one.files, one.catalog, options, on_error=on_error)
    for cure in machine.verdict.cures:
        warnings.warn(str(cure), QualityWarning, stacklevel=2)
    return machine.to_datatree(), (machine.nsources, machine.npixels, machine.nt)


def _gather_messages(caught: Sequence[warnings.WarningMessage]) -> str:
    """Return what the package warned of, each message once; warnings of others are given again."""
    ours: dict[str, None] = {}
    for warning in caught:
        if issubclass(warning.category, BayesprfWarning):
            ours[str(warning.message)] = None
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return "; ".join(ours)


def _fingerprint(one: Field, options: FitOptions) -> str:
    """Return a checksum of everything the output depends on: version, options, catalogue and files."""
    from bayesprf.io.pixels.listing import list_files

    content = {
        "version": bayesprf.__version__,
        "options": asdict(options),
        "catalog": one.catalog if one.catalog in _CATALOG_WORDS else sha256_of(one.catalog),
        "files": [[os.path.basename(str(path)), _checksum(str(path))] for path in list_files(list(one.files))],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()


def _checksum(path: str | Path) -> str:
    """Return the checksum of a file, or a word for one that cannot be read, which the reader will name."""
    try:
        return sha256_of(path)
    except FileError:
        return "unreadable"


def _plain(value: object) -> object:
    """Return numpy values as plain ones, and anything else as its text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def _read_finished(one: Field, output: Path, fingerprint: str) -> FieldReport | None:
    """Return the report stored in a finished and undamaged output of the same inputs, or None."""
    from bayesprf.io.save import check_intact, load_attributes

    if not output.is_file():
        return None
    try:
        attrs = load_attributes(output)
        if attrs.get(_FINGERPRINT) != fingerprint:
            return None
        check_intact(output)
        stored = FieldReport(**json.loads(attrs["batch_report"]))
    except (FileError, KeyError, TypeError, ValueError):  # damaged after it was finished
        return None
    return replace(stored, name=one.name, status="resumed", output=str(output))


def _run(
    todo: Sequence[Field], directory: Path, settings: Named, cores: int, client: object
) -> Generator[FieldReport, None, None]:
    """Yield reports as fields finish: in this process, in a pool of processes, or where the client works."""
    tasks = [_Task(one, directory / f"{one.name}{_ENDING}", settings) for one in todo]
    if client is not None:
        yield from _run_elsewhere(tasks, client)
    elif cores == 1:
        yield from (task.run() for task in tasks)
    else:
        yield from _run_in_pools(tasks, cores)


@dataclass(frozen=True, slots=True)
class _Task:
    """One field to be fitted."""

    field: Field
    output: Path
    settings: Named

    def run(self) -> FieldReport:
        return fit_field(self.field, self.output, **self.settings)

    def submit(self, executor: Executor) -> Future[FieldReport]:
        return executor.submit(fit_field, self.field, self.output, **self.settings)

    def report_death(self, error: Exception) -> FieldReport:
        """Return what is said of a field whose process died; raise where errors stop the batch."""
        if self.settings["on_error"] == "raise":
            raise error
        return FieldReport(self.field.name, "failed", message=f"the process died before it was done ({error})")


def _run_elsewhere(tasks: Sequence[_Task], client: object) -> Iterator[FieldReport]:
    """Yield the reports of a caller's executor or Dask client; what it says of a dead worker fails that field alone."""
    executor = cast("Executor", client.get_executor(pure=False) if hasattr(client, "get_executor") else client)
    futures = {task.submit(executor): task for task in tasks}
    try:
        for future in as_completed(futures):
            try:
                yield future.result()
            except ImportError:  # the installation is at fault, not the field
                raise
            except Exception as error:  # fit_field answers for the field: this is the executor's
                yield futures[future].report_death(error)
    finally:
        for future in futures:
            future.cancel()


def _run_in_pools(tasks: Sequence[_Task], cores: int) -> Iterator[FieldReport]:
    """Yield the reports of a pool of processes, and of a new one whenever a process has died.

    Only as many fields are handed out as there are processes, so that few are at work when one dies. Which of them
    killed its process is not known: each is fitted again alone, in a process of its own.
    """
    waiting = deque(tasks)
    while waiting:
        running: dict[Future[FieldReport], _Task] = {}
        yield from _feed_pool(waiting, running, cores)
        for task in running.values():
            again: dict[Future[FieldReport], _Task] = {}
            yield from _feed_pool(deque([task]), again, 1)
            if again:
                (future,) = again
                yield task.report_death(_death_of(future))


def _feed_pool(waiting: deque[_Task], running: dict[Future[FieldReport], _Task], cores: int) -> Iterator[FieldReport]:
    """Work through the fields until none waits or a process dies; `running` then holds those at work."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(int(cores), mp_context=context, initializer=_use_one_thread) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < cores:
                    running[waiting[0].submit(pool)] = waiting[0]
                    waiting.popleft()
                done = wait(running, return_when=FIRST_COMPLETED).done
                for future in [one for one in done if not isinstance(one.exception(), BrokenExecutor)]:
                    del running[future]
                    yield future.result()
                if not done.isdisjoint(running):  # what is left of them are fields whose process died
                    return
        except BrokenExecutor:  # the process died before a field was handed to it: the field still waits
            return
        finally:
            for future in running:
                future.cancel()


def _death_of(future: Future[FieldReport]) -> Exception:
    error = future.exception() if future.done() and not future.cancelled() else None
    return error if isinstance(error, Exception) else BrokenExecutor("no word of it")


def _check_workers(cores: object, client: object) -> None:
    if client is not None and not (hasattr(client, "submit") or hasattr(client, "get_executor")):
        expected = "a dask.distributed.Client or a concurrent.futures.Executor"
        raise InputError(f"client: expected {expected}, got {type(client).__name__}")
    if isinstance(cores, bool) or not isinstance(cores, int | np.integer) or cores < 1:
        raise InputError(f"cores: expected a whole number from 1 up, got {shown(cores)}")


def _check_outputs(todo: Sequence[Field], directory: Path) -> None:
    """Raise if an output of the batch is the input of a field."""
    from bayesprf.io.pixels.listing import named_files

    written = [
        directory / SUMMARY_NAME,
        directory / QUALITY_NAME,
        *(directory / f"{one.name}{_ENDING}" for one in todo),
    ]
    places = {os.path.realpath(path): path for path in written}
    for one in todo:
        for path in (one.catalog, *named_files(list(one.files))):
            place = os.path.realpath(str(path))
            if place in places:
                check_not_input(places[place], [path], "output_dir")


def _use_one_thread() -> None:
    """Keep a worker to one thread, before numerical libraries are loaded."""
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def _check_fields(found: Iterable[Field]) -> list[Field]:
    todo = list(found)
    if not todo:
        raise InputError("fields: expected at least one Field, got none")
    for one in todo:
        if not isinstance(one, Field):
            raise InputError(f"fields: expected Field records, got {type(one).__name__}")
    names = [one.name.casefold() for one in todo]
    twice = next((one.name for one in todo if names.count(one.name.casefold()) > 1), None)
    if twice is not None:
        raise InputError(f"fields: expected every name once, got {twice!r} more than once; outputs would collide")
    return todo


def _write_summaries(directory: Path, reports: Sequence[FieldReport]) -> None:
    from bayesprf.io.batch_summary import write_summary

    names = [column.name for column in dataclasses.fields(FieldReport) if column.name != "quality"]
    with (
        atomic_path(directory / SUMMARY_NAME) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as handle,
    ):
        writer = csv.writer(handle)
        writer.writerow(names)
        writer.writerows([getattr(report, name) for name in names] for report in reports)
    write_summary(directory / QUALITY_NAME, reports)
