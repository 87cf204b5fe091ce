"""Words that docs, docstrings, messages and help do without, because a plainer one says the same."""

import ast
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The word, and what to write instead.
BANNED = {
    r"foretell\w*|foretold": "predict",
    r"lone(?= (?:star|source|pixel|cosmic))": "isolated",
    r"teach(?:es|ing)?|taught": "train, learn from",
    r"(?:take|takes|taken|taking|took)(?: the sky| it| them)? off": "subtract",
    r"alike": "equally, in the same way",
    r"dear": "expensive",
    r"bears?(?= (?:cosmic|outliers))": "tolerate, down-weight",
    r"strays": "outliers",
    r"wanted": "target, requested, needed",
    r"lopsided": "asymmetric",
    r"nobody": "no one; better, say what is not known",
}
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".rst") and "_build" not in path.parts),
]
MODULES = sorted((ROOT / "bayesprf").rglob("*.py"))


def find_banned(text):
    return [
        f"{found[0]!r}: write {instead}"
        for word, instead in BANNED.items()
        for found in re.finditer(rf"\b(?:{word})\b", text, re.IGNORECASE)
    ]


def prose_of(path):
    """Return the docstrings, messages and comments of a module; f-strings without what is put into them."""
    with path.open("rb") as file:
        comments = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    tree = ast.parse(path.read_text())
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join([*comments, *strings])


def test_the_list_finds_what_it_should():
    text = "Lone stars teach the PRF; the sky is taken off, and strays are dear."
    assert len(find_banned(text)) == 5
    assert find_banned("An isolated star, alone; a bear; stray light; the offset.") == []


def test_pages_are_plain():
    found = {path.relative_to(ROOT).as_posix(): find_banned(path.read_text()) for path in PAGES}
    assert {name: words for name, words in found.items() if words} == {}


def test_docstrings_messages_and_comments_are_plain():
    found = {path.relative_to(ROOT).as_posix(): find_banned(prose_of(path)) for path in MODULES}
    assert {name: words for name, words in found.items() if words} == {}
