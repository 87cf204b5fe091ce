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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import bayesprf
from bayesprf.checks import check_choice
from bayesprf.errors import BayesprfWarning, FileError, InputError
from bayesprf.io.files import atomic_path, sha256_of
from bayesprf.pipeline import FitOptions, fit_files

# The name that options of a batch had before every road shared them.
BatchOptions = FitOptions
SUMMARY_NAME = "summary.csv"
_FINGERPRINT = "batch_fingerprint"
_ENDING = ".nc"


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
    """

    name: str
    status: str
    output: str = ""
    n_source: int = 0
    n_pixel: int = 0
    n_time: int = 0
    seconds: float = 0.0
    message: str = ""


def fit_batch(
    fields: Iterable[Field],
    output_dir: str | Path,
    *,
    options: FitOptions | None = None,
    cores: int = 1,
    client: Any = None,
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
        Directory for ``<name>.nc`` and ``summary.csv``; made if it does not exist.
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
        In the order of the fields; ``summary.csv`` holds the same and is rewritten after every field.

    Raises
    ------
    InputError
        If there is no field, a name is used twice, or an argument is not one of those said above.

    Notes
    -----
    Interrupted at any moment, the batch is taken up by the same call again: finished fields are recognised by a
    fingerprint stored in their file, and no file carries a final name before it is complete.
    """
    check_choice(on_error, ("skip", "raise"), "on_error")
    if options is not None and not isinstance(options, FitOptions):
        raise InputError(f"options: expected FitOptions, got {type(options).__name__}")
    todo = _check_fields(fields)
    directory = Path(output_dir)
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"options": options or FitOptions(), "resume": resume, "on_error": on_error}
    reports: dict[str, FieldReport] = {}
    with _open_executor(cores, client) as executor:
        for report in _run(todo, directory, settings, executor):
            reports[report.name] = report
            _write_summary(directory / SUMMARY_NAME, [reports[one.name] for one in todo if one.name in reports])
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
    from bayesprf.io.save import save_tree

    fingerprint = _fingerprint(one, options)
    kept = _read_finished(one, output, fingerprint) if resume else None
    if kept is not None:
        return kept
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BayesprfWarning)
        tree, size = _fit(one, options, on_error)
    report = FieldReport(one.name, "done", str(output), *size, message=_gather_messages(caught))
    tree.attrs[_FINGERPRINT] = fingerprint
    tree.attrs["batch_report"] = json.dumps(asdict(report))
    save_tree(tree, output)
    return report


def _fit(one: Field, options: FitOptions, on_error: str) -> tuple[Any, tuple[int, int, int]]:
    """Return the DataTree of a field and its number of sources, pixels and cadences."""
    machine = fit_files(one.files, one.catalog, options, on_error=on_error)
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
    from bayesprf.io.tpf import list_tpfs

    content = {
        "version": bayesprf.__version__,
        "options": asdict(options),
        "catalog": sha256_of(one.catalog),
        "files": [[os.path.basename(path), _checksum(path)] for path in list_tpfs(list(one.files))],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()


def _checksum(path: str | Path) -> str:
    """Return the checksum of a file, or a word for one that cannot be read, which the reader will name."""
    try:
        return sha256_of(path)
    except FileError:
        return "unreadable"


def _plain(value: Any) -> Any:
    """Return numpy values as plain ones, and anything else as its text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)


def _read_finished(one: Field, output: Path, fingerprint: str) -> FieldReport | None:
    """Return the report stored in a finished output of the same inputs, or None."""
    from bayesprf.io.save import load_attributes

    if not output.is_file():
        return None
    try:
        attrs = load_attributes(output)
    except FileError:
        return None
    if attrs.get(_FINGERPRINT) != fingerprint:
        return None
    stored = FieldReport(**json.loads(attrs["batch_report"]))
    return replace(stored, name=one.name, status="resumed", output=str(output))


def _run(
    todo: Sequence[Field], directory: Path, settings: Mapping[str, Any], executor: Executor | None
) -> Iterator[FieldReport]:
    """Yield reports as fields finish; without an executor one after the other."""
    outputs = [directory / f"{one.name}{_ENDING}" for one in todo]
    if executor is None:
        yield from (fit_field(one, output, **settings) for one, output in zip(todo, outputs, strict=True))
        return
    futures: dict[Future[FieldReport], Field] = {
        executor.submit(fit_field, one, output, **settings): one for one, output in zip(todo, outputs, strict=True)
    }
    try:
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenExecutor as error:
                if settings["on_error"] == "raise":
                    raise
                message = f"the process died before it was done ({error})"
                yield FieldReport(futures[future].name, "failed", message=message)
    finally:
        for future in futures:
            future.cancel()


@contextlib.contextmanager
def _open_executor(cores: int, client: Any) -> Iterator[Executor | None]:
    """Give the place to work: the caller's, a pool of processes, or None for this process."""
    if client is not None:
        if not (hasattr(client, "submit") or hasattr(client, "get_executor")):
            expected = "a dask.distributed.Client or a concurrent.futures.Executor"
            raise InputError(f"client: expected {expected}, got {type(client).__name__}")
        yield client.get_executor(pure=False) if hasattr(client, "get_executor") else client
        return
    if not isinstance(cores, int | np.integer) or cores < 1:
        raise InputError(f"cores: expected a whole number from 1 up, got {cores!r}")
    if cores == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(int(cores), mp_context=context, initializer=_use_one_thread) as pool:
        yield pool


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


def _write_summary(path: Path, reports: Sequence[FieldReport]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(column.name for column in dataclasses.fields(FieldReport))
        writer.writerows(astuple(report) for report in reports)
