import errno

import numpy as np
from numba.core import caching

from bayesprf.linalg.compiled import jit
from bayesprf.linalg.compiled.solve import solve_rows


def test_compiled_code_is_kept_under_a_digest_of_all_sources():
    # a change of lanes.py alone must not leave old machine code of solve_rows in use
    assert solve_rows._cache._cache_file._version.endswith(jit.SOURCES)


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

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", refuse)

    @jit.kernel
    def triple(value):
        return 3.0 * value

    assert triple(3.0) == 9.0
