"""Many fields: resumed where finished, going on past what fails, the same on one core or several."""

import csv
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from astropy.table import Table

from bayesprf import batch
from bayesprf.batch import Field, FieldReport, fit_batch, fit_field
from bayesprf.errors import FileError, InputError
from bayesprf.flags import QualityFlag
from bayesprf.io import files
from bayesprf.io.files import claim_directory
from bayesprf.io.pixels.tpf_writer import write_tpf
from bayesprf.io.save import load_attributes, load_tree
from bayesprf.pipeline import FitOptions
from bayesprf.results.diff import differences
from bayesprf.simulation.fields import make_field


def write_field(directory, seed, n_stamp=4):
    """Write a tiny simulated field as target pixel files and a catalogue."""
    directory.mkdir()
    made = make_field(
        rng=np.random.default_rng(seed), n_source=6, n_time=8, n_stamp=n_stamp, mag_range=(11.0, 13.0), stamp_fill=0.02
    )
    for stamp in range(n_stamp):
        write_tpf(directory / f"tpf-{stamp}.fits", made.pixels, stamp=stamp, target=stamp + 1)
    catalog = directory / "catalog.csv"
    with open(catalog, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["source_id", "ra", "dec", "phot_g_mean_flux"])
        sources = made.sources
        writer.writerows(zip(sources.source_id, sources.ra_deg, sources.dec_deg, sources.flux, strict=True))
    return Field(directory.name, [str(directory / "tpf-*.fits")], str(catalog))


@pytest.fixture(scope="module")
def two_fields(tmp_path_factory):
    root = tmp_path_factory.mktemp("fields")
    return [write_field(root / name, seed) for seed, name in enumerate(("north", "south"))]


EPOCH = "1700000000"


@pytest.fixture(scope="module")
def finished(two_fields, tmp_path_factory):
    """The two fields fitted for real, once, at a time of creation that is given."""
    output = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        return output, fit_batch(two_fields, output)


@pytest.fixture
def quick_fit(monkeypatch):
    """Replace the fit by one that stores the name of the field, and count its calls."""
    calls = []

    def fit(one, options, on_error):
        calls.append(one.name)
        return xr.DataTree(xr.Dataset(attrs={"field": one.name, "va": str(options.fit_va)})), (1, 2, 3)

    monkeypatch.setattr(batch, "_fit", fit)
    return calls


def read_summary(output):
    with open(output / "summary.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_field_leaves_a_tree_and_a_row(two_fields, finished):
    output, reports = finished
    assert [report.name for report in reports] == ["north", "south"]
    assert [report.status for report in reports] == ["done", "done"], [report.message for report in reports]
    for report in reports:
        tree = load_tree(report.output)
        assert tree["photometry/flux"].shape == (report.n_time, report.n_source) == (8, 6)
        assert np.isfinite(tree["photometry/sap_flux"].values[:, 0]).all()
        assert "psf_fraction" in tree["catalog"]
    rows = read_summary(output)
    assert [(row["name"], row["status"], row["n_pixel"]) for row in rows] == [
        (report.name, "done", str(report.n_pixel)) for report in reports
    ]
    assert sorted(path.name for path in output.iterdir()) == ["north.nc", "south.nc", "summary.csv", "summary.ecsv"]
    quality = Table.read(output / "summary.ecsv")
    assert quality["verdict"].tolist() == [report.quality["verdict"] for report in reports]
    assert all(len(report.quality) == 6 + len(QualityFlag) for report in reports)


def test_finished_fields_are_kept_and_changed_ones_fitted_again(two_fields, finished):
    output, _ = finished
    before = {path: path.read_bytes() for path in output.glob("*.nc")}
    again = fit_batch(two_fields, output)
    assert [report.status for report in again] == ["resumed", "resumed"]
    assert [report.n_source for report in again] == [6, 6]
    assert {path: path.read_bytes() for path in output.glob("*.nc")} == before


def test_a_time_of_creation_that_is_none_fails_the_field(two_fields, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    (failed,) = fit_batch(two_fields[:1], tmp_path, resume=False)
    assert "SOURCE_DATE_EPOCH: expected a whole number of seconds since 1970, got 'soon'" in failed.message


def test_only_the_time_of_creation_differs(two_fields, finished, tmp_path, monkeypatch):
    output, _ = finished
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    fit_batch(two_fields[:1], tmp_path)
    found = differences(load_tree(tmp_path / "north.nc"), load_tree(output / "north.nc"))
    assert {each.path for each in found} == {"/@created"}


def test_a_finished_file_that_was_damaged_is_made_anew(two_fields, finished, tmp_path, monkeypatch):
    output, _ = finished
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    whole = (output / "north.nc").read_bytes()
    tree = load_tree(output / "north.nc")
    place = whole.index(np.ascontiguousarray(tree["photometry/flux"].values).tobytes()[:64])
    (tmp_path / "north.nc").write_bytes(whole[:place] + bytes(40) + whole[place + 40 :])
    assert [one.status for one in fit_batch(two_fields[:1], tmp_path)] == ["done"]
    assert (tmp_path / "north.nc").read_bytes() == whole
    monkeypatch.setattr(batch, "_fit", lambda *_: (tree, (1, 2, 3)))
    for bad in (whole[: len(whole) // 2], b""):
        (tmp_path / "north.nc").write_bytes(bad)
        assert [one.status for one in fit_batch(two_fields[:1], tmp_path)] == ["done"]


def test_a_truncated_file_is_left_out_and_named(tmp_path):
    one = write_field(tmp_path / "east", 5)
    victim = tmp_path / "east" / "tpf-2.fits"
    victim.write_bytes(victim.read_bytes()[:9000])
    (report,) = fit_batch([one], tmp_path / "out")
    assert report.status == "done", report.message
    assert "tpf-2.fits" in report.message
    assert "tpf-1.fits" not in report.message
    (again,) = fit_batch([one], tmp_path / "out")
    assert again.status == "resumed"
    assert again.message == report.message
    with pytest.raises(FileError, match=r"tpf-2\.fits"):
        fit_batch([one], tmp_path / "strict", on_error="raise")
    assert not list((tmp_path / "strict").glob("*.nc"))


def test_a_field_without_any_good_file_fails_alone(two_fields, tmp_path, quick_fit):
    bad = Field("broken", [str(tmp_path / "none-*.fits")], two_fields[0].catalog)
    lost = Field("lost", two_fields[0].files, str(tmp_path / "no.csv"))
    reports = fit_batch([bad, two_fields[0], lost], tmp_path / "out")
    assert [report.status for report in reports] == ["failed", "done", "failed"]
    assert "none-*.fits" in reports[0].message
    assert "no.csv" in reports[2].message
    assert [row["status"] for row in read_summary(tmp_path / "out")] == ["failed", "done", "failed"]
    with pytest.raises(FileError, match=r"none-\*\.fits"):
        fit_batch([bad], tmp_path / "out", on_error="raise")


@pytest.mark.parametrize("stage", ["fit", "save"])
def test_an_interrupted_batch_is_taken_up_where_it_stopped(two_fields, tmp_path, quick_fit, monkeypatch, stage):
    fields = [*two_fields, Field("third", two_fields[0].files, two_fields[0].catalog)]

    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    def report_first(report):
        seen.append(report.name)
        if stage == "fit":
            monkeypatch.setattr(batch, "_fit", interrupt)
        else:
            monkeypatch.setattr(Path, "write_bytes", write_half)

    def write_half(path, content):
        with open(path, "wb") as handle:
            handle.write(bytes(content)[:100])
        raise KeyboardInterrupt

    seen = []
    with pytest.raises(KeyboardInterrupt):
        fit_batch(fields, tmp_path, on_report=report_first)
    assert seen == ["north"]
    assert [row["name"] for row in read_summary(tmp_path)] == ["north"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["north.nc", "summary.csv", "summary.ecsv"]
    monkeypatch.undo()
    calls = []

    def fit(one, options, on_error):
        calls.append(one.name)
        return xr.DataTree(xr.Dataset(attrs={"field": one.name})), (1, 2, 3)

    monkeypatch.setattr(batch, "_fit", fit)
    assert [report.status for report in fit_batch(fields, tmp_path)] == ["resumed", "done", "done"]
    assert calls == ["south", "third"]


def test_what_changes_an_output_makes_it_stale(tmp_path, quick_fit):
    one = write_field(tmp_path / "west", 7)
    output = tmp_path / "west.nc"

    def status(**keywords):
        return fit_field(one, output, **keywords).status

    assert [status(), status()] == ["done", "resumed"]
    assert [status(options=FitOptions(fit_va=True)), status(options=FitOptions(fit_va=True))] == ["done", "resumed"]
    knots = FitOptions(machine={"n_r_knots": np.int64(8)})
    assert [status(options=knots), status(options=knots)] == ["done", "resumed"]
    assert status() == "done"
    with open(one.catalog, "a") as handle:
        handle.write("\n")
    assert [status(), status()] == ["done", "resumed"]
    file = tmp_path / "west" / "tpf-0.fits"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert [status(), status()] == ["done", "resumed"]
    file.unlink()
    assert status() == "done"
    assert status(resume=False) == "done"
    output.write_bytes(output.read_bytes()[:500])
    assert status() == "done"
    assert len(quick_fit) == 9
    assert json.loads(load_attributes(output)["batch_report"])["name"] == "west"


class FakeClient:
    """The one method of a Dask client that the batch uses."""

    def __init__(self, executor):
        self.executor, self.keywords = executor, None

    def get_executor(self, **keywords):
        self.keywords = keywords
        return self.executor


def test_a_client_runs_the_fields(two_fields, tmp_path, quick_fit):
    with ThreadPoolExecutor(2) as pool:
        client = FakeClient(pool)
        assert [report.status for report in fit_batch(two_fields, tmp_path, client=client)] == ["done", "done"]
        assert client.keywords == {"pure": False}  # the work leaves files, so it must run each time it is asked for
        assert [report.status for report in fit_batch(two_fields, tmp_path, client=pool)] == ["resumed", "resumed"]
    assert sorted(quick_fit) == ["north", "south"]


def test_a_dead_process_fails_its_fields_only(two_fields, tmp_path, quick_fit):
    class Dying(ThreadPoolExecutor):
        def submit(self, function, one, *arguments, **keywords):
            if one.name == "north":
                return super().submit(die)
            return super().submit(function, one, *arguments, **keywords)

    def die():
        raise BrokenProcessPool("killed")

    with Dying(1) as pool:
        reports = fit_batch(two_fields, tmp_path, client=pool)
        assert [report.status for report in reports] == ["failed", "done"]
        assert reports[0].message == "the process died before it was done (killed)"
        with pytest.raises(BrokenProcessPool, match="killed"):
            fit_batch(two_fields, tmp_path, client=pool, on_error="raise")


class PoolTask:
    """A field whose process ends as told, for the pools alone: no class of ours, which a fresh process would import."""

    def __init__(self, name, *, deadly=False):
        self.name, self.deadly = name, deadly

    def submit(self, pool):
        return pool.submit(os._exit, 9) if self.deadly else pool.submit(SimpleNamespace, name=self.name, status="done")

    def report_death(self, error):
        return FieldReport(self.name, "failed", message=str(error))


def test_a_dead_process_takes_no_other_field_with_it(monkeypatch):
    monkeypatch.setattr(batch, "_use_one_thread", os.getpid)  # a fresh process would import the package for it
    tasks = [PoolTask(f"field-{i}", deadly=i in (1, 3)) for i in range(4)]
    reports = {report.name: report for report in batch._run_in_pools(tasks, 2)}
    assert {name: report.status for name, report in reports.items()} == {
        "field-0": "done", "field-1": "failed", "field-2": "done", "field-3": "failed"
    }  # fmt: skip
    assert "terminated abruptly" in reports["field-1"].message


def test_fields_that_end_while_another_is_reported_are_not_taken_for_dead(monkeypatch):
    """Writing a report takes time, in which the other processes go on."""
    monkeypatch.setattr(batch, "_use_one_thread", os.getpid)

    class Task:
        def __init__(self, seconds):
            self.seconds = seconds

        def submit(self, pool):
            return pool.submit(time.sleep, self.seconds)

    running = {}
    reports = batch._feed_pool(deque([Task(0.0), Task(0.5), Task(0.0)]), running, 2)
    next(reports)
    wait(running)
    assert len(list(reports)) == 2
    assert running == {}


def test_what_an_executor_says_of_a_field_fails_that_field_alone(two_fields, tmp_path, quick_fit):
    """Dask's KilledWorker is no BrokenExecutor."""

    class Killing(ThreadPoolExecutor):
        def submit(self, function, one, *arguments, **keywords):
            if one.name == "north":
                return super().submit(kill)
            return super().submit(function, one, *arguments, **keywords)

    def kill():
        raise RuntimeError("KilledWorker: attempted 3 times")

    with Killing(1) as pool:
        reports = fit_batch(two_fields, tmp_path, client=pool)
    assert [report.status for report in reports] == ["failed", "done"]
    assert reports[0].message == "the process died before it was done (KilledWorker: attempted 3 times)"


def test_what_a_killed_run_left_is_removed(two_fields, tmp_path, quick_fit):
    stale = tmp_path / ".0123456789ab.part.north.nc"
    stale.write_bytes(b"half")
    fit_batch(two_fields[:1], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["north.nc", "summary.csv", "summary.ecsv"]


def test_two_batches_at_work_in_one_directory(two_fields, tmp_path, quick_fit):
    message = r"output_dir: expected a directory where no other batch is at work, got .*, which process \d+ on .* wait"
    with claim_directory(tmp_path), pytest.raises(FileError, match=message):  # as another process would
        fit_batch(two_fields, tmp_path)
    assert quick_fit == []
    assert [report.status for report in fit_batch(two_fields, tmp_path)] == ["done", "done"]


@pytest.mark.parametrize("owner", ["process 999999999 on another machine", "process 1 on here", ""])
def test_the_lock_of_a_batch_that_was_killed_is_taken_over(two_fields, tmp_path, quick_fit, owner):
    (tmp_path / ".bayesprf-batch.lock").write_text(owner)
    assert [report.status for report in fit_batch(two_fields, tmp_path)] == ["done", "done"]
    assert not (tmp_path / ".bayesprf-batch.lock").exists()


def test_a_lock_where_the_system_has_none(two_fields, tmp_path, quick_fit, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    lock, here = tmp_path / ".bayesprf-batch.lock", socket.gethostname()
    lock.write_text(f"process 999999999 on {here}")  # more than any system allows
    assert [report.status for report in fit_batch(two_fields, tmp_path)] == ["done", "done"]
    for owner in (f"process {os.getpid()} on {here}", "process 5 on a-node"):
        lock.write_text(owner)
        with pytest.raises(FileError, match=rf"which {owner} has claimed; .* remove \.bayesprf-batch\.lock"):
            fit_batch(two_fields, tmp_path)


@pytest.mark.parametrize("name", ["summary.csv", "north.nc"])
def test_an_output_is_no_input(two_fields, tmp_path, quick_fit, name):
    one = two_fields[0]
    (tmp_path / name).write_text("source_id,ra,dec\n")
    for field in (Field("north", one.files, tmp_path / name), Field("north", [str(tmp_path / name)], one.catalog)):
        with pytest.raises(
            InputError, match=rf"output_dir: expected a file of its own, got .*{name}', which is an input"
        ):
            fit_batch([field], tmp_path)
    assert (tmp_path / name).read_text() == "source_id,ra,dec\n"


def test_a_directory_that_cannot_be_made(two_fields, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"output_dir: expected a directory that exists or can be made, got .*file"):
        fit_batch(two_fields, tmp_path / "file")


def test_a_full_disk_fails_its_field_in_one_sentence(two_fields, tmp_path, quick_fit, monkeypatch):
    def refuse(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        reports = fit_batch(two_fields, tmp_path)
    assert [report.status for report in reports] == ["failed", "failed"]
    assert reports[0].message.endswith(
        "north.nc: cannot be written (No space left on device); make room, or choose another place"
    )
    assert [report.status for report in fit_batch(two_fields, tmp_path)] == ["done", "done"]


def test_other_warnings_are_not_swallowed(two_fields, tmp_path, monkeypatch):
    def fit(one, options, on_error):
        warnings.warn("of another library", RuntimeWarning, stacklevel=1)
        return xr.DataTree(), (1, 1, 1)

    monkeypatch.setattr(batch, "_fit", fit)
    with pytest.warns(RuntimeWarning, match="of another library"):
        report = fit_field(two_fields[0], tmp_path / "out.nc")
    assert report.message == ""


def test_arguments_are_checked(two_fields, tmp_path):
    with pytest.raises(InputError, match="fields: expected at least one Field, got none"):
        fit_batch([], tmp_path)
    with pytest.raises(InputError, match="fields: expected Field records, got str"):
        fit_batch(["north"], tmp_path)
    with pytest.raises(InputError, match="fields: expected every name once, got 'north' more than once"):
        fit_batch([two_fields[0], two_fields[0]], tmp_path)
    with pytest.raises(InputError, match="cores: expected a whole number from 1 up, got 0"):
        fit_batch(two_fields, tmp_path, cores=0)
    with pytest.raises(InputError, match=r"client: expected a dask\.distributed\.Client or .*, got str"):
        fit_batch(two_fields, tmp_path, client="tcp://")
    with pytest.raises(InputError, match="on_error: expected one of 'skip', 'raise', got 'ignore'"):
        fit_batch(two_fields, tmp_path, on_error="ignore")
    for name in ("", "a/b", ".hidden", "a b"):
        with pytest.raises(InputError, match="name: expected letters, digits"):
            Field(name, ["x.fits"], "c.csv")
    assert FieldReport("a", "failed").output == ""


KILLED_BATCH = """
import sys
from pathlib import Path
from bayesprf.batch import Field, fit_batch
if __name__ == "__main__":
    folders = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
    fields = [Field(path.name, [str(path / "tpf-*.fits")], path / "catalog.csv") for path in folders]
    fit_batch(fields, sys.argv[2], cores=int(sys.argv[3]))
"""


def write_fields(root, count):
    root.mkdir()
    return [write_field(root / f"field-{seed:02d}", seed) for seed in range(count)]


def run_until(command, ready, *, seconds=60.0):
    """Run a command and kill it with all its processes as soon as `ready()` holds; return whether it ended before."""
    process = subprocess.Popen(command, start_new_session=True)
    end = time.monotonic() + seconds
    while process.poll() is None and not ready() and time.monotonic() < end:
        time.sleep(1e-3)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return ended


def content_of(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*.nc")}


# A batch that kills all its processes as a file gets its name: before, so that its part is left, or after.
KILLED_WRITING = (
    """
import os, signal, sys
put = os.replace
def kill(part, path):
    if sys.argv[4] == "after":
        put(part, path)
    os.killpg(os.getpgrp(), signal.SIGKILL)
os.replace = kill
"""
    + KILLED_BATCH
)


@pytest.mark.skipif(os.name != "posix", reason="kills process groups")
def test_a_batch_killed_at_work_goes_on_in_other_processes_to_the_same_bytes(
    two_fields, finished, tmp_path, monkeypatch
):
    """Killed as it writes a file, with the directory claimed, and as the first file is there."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    out, root = tmp_path / "out", Path(two_fields[0].catalog).parents[1]
    (tmp_path / "run.py").write_text(KILLED_WRITING)
    for when, left in (("before", ".*.part.north.nc"), ("after", "north.nc")):
        command = [sys.executable, tmp_path / "run.py", root, out, "1", when]
        assert subprocess.run(command, start_new_session=True, timeout=120).returncode == -signal.SIGKILL
        assert any(out.glob(left))
    assert [one.status for one in fit_batch(two_fields, out, cores=2)] == ["resumed", "done"]
    assert content_of(out) == content_of(finished[0])
    assert sorted(path.name for path in out.iterdir()) == ["north.nc", "south.nc", "summary.csv", "summary.ecsv"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills process groups")
@pytest.mark.parametrize(("cores", "seed"), [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)])
def test_killed_at_random_and_resumed_batches_end_in_the_same_bytes(tmp_path, monkeypatch, cores, seed):
    """A batch that ended before its kill loses a random half of its fields, and begins again."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    fields, out = write_fields(tmp_path / "fields", 8), tmp_path / "out"
    fit_batch(fields, tmp_path / "clean")
    (tmp_path / "run.py").write_text(KILLED_BATCH)
    command = [sys.executable, tmp_path / "run.py", tmp_path / "fields", out, str(cores)]
    rng, killed = random.Random(seed), 0
    while killed < 10:
        end = time.monotonic() + rng.uniform(1.0, 8.0)
        if not run_until(command, lambda end=end: time.monotonic() > end):
            killed += 1
            continue
        for path in rng.sample(sorted(out.glob("*.nc")), 4):
            path.unlink()
    subprocess.run(command, check=True, timeout=300)
    wanted = content_of(tmp_path / "clean")
    assert content_of(out) == wanted
    assert sorted(path.name for path in out.iterdir()) == sorted([*wanted, "summary.csv", "summary.ecsv"])


@pytest.mark.slow
def test_dask_and_local_processes_give_the_same_bytes_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    fields = write_fields(tmp_path / "fields", 20)
    rows = [f"{one.name},fields/{one.name}/tpf-*.fits,fields/{one.name}/catalog.csv" for one in fields]
    (tmp_path / "fields.csv").write_text("\n".join(["name,files,catalog", *rows]))
    command = [sys.executable, "-c", "from bayesprf.cli import main; main()", "batch", tmp_path / "fields.csv", "-q"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cluster's own libraries
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            dask = [*command, "--output", tmp_path / "dask", "--dask", cluster.scheduler_address]
            subprocess.run(dask, check=True, timeout=600)
    subprocess.run([*command, "--output", tmp_path / "local", "--cores", "2"], check=True, timeout=600)
    assert len(content_of(tmp_path / "local")) == 20
    assert content_of(tmp_path / "dask") == content_of(tmp_path / "local")
    assert set(Table.read(tmp_path / "dask" / "summary.ecsv")["status"]) == {"done"}
