"""Run the Python of README and of the pages for users, page by page, as a newcomer would.

Run as ``python docs/scripts/walk_docs.py [page ...]``. A block after the line ``% walk: skip`` is not run: it needs the
internet or a file that is not at hand.
"""

import re
import sys
import tempfile
import time
import traceback
from contextlib import chdir
from pathlib import Path

DOCS = Path(__file__).parents[1]
PAGES = [DOCS.parent / "README.md", DOCS / "quickstart.md", *sorted((DOCS / "howto").glob("*.md"))]
_BLOCK = re.compile(r"(% walk: skip\n)?```python\n(.*?)```", re.DOTALL)


def blocks(page: Path) -> list[str]:
    """Return the blocks of a page that are meant to run."""
    return [code for skip, code in _BLOCK.findall(page.read_text()) if not skip]


def run_page(page: Path, folder: Path) -> str:
    """Run the blocks of a page one after another; return the error of the first that fails, or nothing."""
    names: dict[str, object] = {"__name__": "walk"}
    with chdir(folder):
        for number, code in enumerate(blocks(page), 1):
            try:
                exec(compile(code, f"{page.name}, block {number}", "exec"), names)
            except Exception:  # whatever a newcomer would see
                return f"block {number}\n{traceback.format_exc(limit=-2)}"
    return ""


def main(pages: list[Path]) -> int:
    """Run all pages in one folder that holds the example's files; return how many fail."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        run_page(DOCS / "howto" / "index.md", Path(folder))
        for page in pages:
            start = time.perf_counter()
            error = run_page(page, Path(folder))
            failed += bool(error)
            place, seconds = page.relative_to(DOCS.parent), time.perf_counter() - start
            print(f"{'FAILED' if error else 'ok':6s} {seconds:6.1f} s  {place}  {error}")
    return failed


if __name__ == "__main__":
    sys.exit(main([Path(one).resolve() for one in sys.argv[1:]] or PAGES) > 0)
