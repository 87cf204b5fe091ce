"""Files as such: temporary names that a dead process leaves, claimed directories, inputs that stay."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from bayesprf.errors import FileError, InputError
from bayesprf.io.files import atomic_path, check_not_input, claim_directory, sweep_parts

LOCKED = pytest.mark.skipif(os.name != "posix", reason="files are locked on POSIX systems alone")


def run(code, directory):
    """Run code in another process, in a directory."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


KILLED = """
import os
from bayesprf.io.files import atomic_path
with atomic_path("a.nc") as temporary:
    temporary.write_bytes(b"half")
    os._exit(9)
"""


@LOCKED
def test_what_a_killed_process_leaves_is_swept(tmp_path):
    assert run(KILLED, tmp_path).returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part.a.nc")
    with atomic_path(tmp_path / "b.nc") as mine:
        mine.write_bytes(b"whole")
        assert sweep_parts(tmp_path) == [left]
        assert mine.read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["b.nc"]


@LOCKED
def test_what_another_process_writes_is_not_swept(tmp_path):
    with atomic_path(tmp_path / "a.nc") as mine:
        mine.write_bytes(b"whole")
        done = run("from bayesprf.io.files import sweep_parts; print(sweep_parts('.'))", tmp_path)
        assert done.stdout.strip() == "[]", done.stderr
    assert (tmp_path / "a.nc").read_bytes() == b"whole"


def test_other_files_are_not_swept(tmp_path):
    for name in ("a.part.nc", ".hidden", ".0123456789ab.part", "0123456789ab.part.a.nc"):
        (tmp_path / name).touch()
    assert sweep_parts(tmp_path) == []


@LOCKED
def test_a_directory_is_claimed_once(tmp_path):
    code = "from bayesprf.io.files import claim_directory\nwith claim_directory('.'): print('alone')"
    with claim_directory(tmp_path):
        assert f"which process {os.getpid()} on {socket.gethostname()} has claimed" in run(code, tmp_path).stderr
    assert run(code, tmp_path).stdout.strip() == "alone"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_is_one_sentence(tmp_path, number):
    def write():
        with atomic_path(tmp_path / "a.nc") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(FileError, match=rf"a.nc: cannot be written \({os.strerror(number)}\); make room, or choose"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(FileError, match=r"cannot be written \(File name too long\)"):
        atomic_path(tmp_path / ("a" * 250)).__enter__()


def test_an_output_is_no_input(tmp_path):
    file = tmp_path / "a.fits"
    file.touch()
    (tmp_path / "link.fits").symlink_to(file)
    check_not_input(tmp_path / "b.fits", [file, object(), None])
    for one in (file, str(file), tmp_path / "." / "a.fits", tmp_path / "link.fits"):
        with pytest.raises(InputError, match=r"output: expected a file of its own, got .*, which is an input"):
            check_not_input(one, [object(), str(file)])


@pytest.mark.skipif(os.name != "posix", reason="limits of the size of files")
def test_a_file_that_the_system_cuts_off_leaves_nothing(tmp_path):
    """As on a full disk: the system itself takes no more than some bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with (
            pytest.raises(FileError, match=r"a\.nc: cannot be written \(File too large\); make room, or choose"),
            atomic_path(tmp_path / "a.nc") as temporary,
        ):
            temporary.write_bytes(bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
