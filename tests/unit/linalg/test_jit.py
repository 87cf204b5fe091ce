import errno
import importlib.util

import numpy as np
from numba.core import caching

from bayesprf.linalg.compiled import jit
from bayesprf.linalg.compiled.solve import solve_rows


def test_compiled_code_is_kept_under_a_digest_of_all_sources(monkeypatch):
    # a change of lanes.py alone must not leave old machine code of solve_rows in use
    kept = solve_rows._cache._cache_file
    monkeypatch.setattr(jit, "SOURCES", "changed")
    assert jit._FileOfEach(kept._numbered)._name("a key") != kept._name("a key")


HALF = """
from bayesprf.linalg.compiled.jit import kernel

@kernel
def half(value):
    return value / 2
"""


def import_half(folder):
    """Return `half` as a process of its own would have it, with nothing of the cache in memory."""
    spec = importlib.util.spec_from_file_location("halves", folder / "halves.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.half


def test_processes_that_compile_for_different_types_do_not_mix_their_code(tmp_path, monkeypatch):
    """Both find an empty cache; the second is done while the first is writing."""
    (tmp_path / "halves.py").write_text(HALF)
    first, second, third = (import_half(tmp_path) for _ in range(3))
    write, writing = caching.IndexDataCacheFile._save_data, []

    def write_late(self, name, data):
        writing.append(name)
        if len(writing) == 1:
            assert second(3.0j) == 1.5j
        write(self, name, data)

    monkeypatch.setattr(caching.IndexDataCacheFile, "_load_index", lambda self: {})
    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", write_late)
    assert first(3) == 1.5
    monkeypatch.undo()
    assert (third(3.0j), third(3)) == (1.5j, 1.5)
    assert (len(writing), sum(third.stats.cache_hits.values())) == (2, 2)


def test_code_of_changed_sources_is_replaced_and_damaged_code_made_anew(tmp_path, monkeypatch):
    (tmp_path / "halves.py").write_text(HALF)
    assert import_half(tmp_path)(3) == 1.5
    (before,) = (tmp_path / "__pycache__").glob("*.nbc")
    before.write_bytes(before.read_bytes()[:100])
    again = import_half(tmp_path)
    assert (again(3), sum(again.stats.cache_hits.values())) == (1.5, 0)
    monkeypatch.setattr(jit, "SOURCES", "changed")
    assert import_half(tmp_path)(3) == 1.5
    (after,) = (tmp_path / "__pycache__").glob("*.nbc")
    assert after != before


def test_digest_changes_with_the_sources(monkeypatch, tmp_path):
    folder = tmp_path / "compiled"
    folder.mkdir()
    for name in ("compiled/lanes.py", "singular.py", "compiled/solve.py", "compiled/jit.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(jit, "__file__", str(folder / "jit.py"))
    before = jit._digest()
    (folder / "lanes.py").write_text("changed")
    assert jit._digest() != before


def test_kernels_contract_but_never_reorder():
    @jit.kernel
    def total(values):
        result = 0.0
        for value in values:
            result += value
        return result

    # summed in order the small numbers are lost; reordering into lanes would keep most of them
    values = np.concatenate([[1e16], np.ones(1000)])
    assert total(values) == 1e16


def test_code_is_compiled_where_no_directory_can_be_written(monkeypatch):
    """A read-only package and home: numba finds no place for what it compiled, and every process compiles anew."""
    cache = getattr(caching, "CacheImpl", None) or caching._CacheImpl  # its name before numba 0.62
    monkeypatch.setattr(cache, "_locator_classes", [])

    @jit.kernel
    def double(value):
        return 2.0 * value

    assert double(3.0) == 6.0
    assert not isinstance(double._cache, caching.FunctionCache)


def test_code_that_a_full_disk_cannot_keep_runs(monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", refuse)

    @jit.kernel
    def triple(value):
        return 3.0 * value

    assert triple(3.0) == 9.0
