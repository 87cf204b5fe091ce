"""CPU seconds, wall seconds and peak memory of a stage, with the standard library alone (Python 3.10 and later)."""

import contextlib
import time


def _status_mb(field):
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024.0
    raise OSError(f"{field} is missing from /proc/self/status")


def _reset_peak():
    """Let VmHWM count from now on; where the kernel forbids it the peak is that of the whole process."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def held_mb():
    """Return the resident memory of this process, MB."""
    return _status_mb("VmRSS")


def peak_mb():
    """Return the peak resident memory of this process since the last stage began, MB."""
    return _status_mb("VmHWM")


@contextlib.contextmanager
def measured(figures, name):
    """Put `name: {cpu, wall, peak_mb}` of the block into `figures`; the peak is above what was held at its start."""
    _reset_peak()
    before = held_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    figures[name] = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "peak_mb": max(0.0, peak_mb() - before),
    }
