"""The source is as the house wants it: linted, formatted, typed, small."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pmkv

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "cython_ext", "examples", "pmkv", "tests")
SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".h"}
FILES = sorted(
    path.relative_to(ROOT)
    for folder in FOLDERS
    for path in ROOT.glob(f"{folder}/**/*")
    if path.suffix in SUFFIXES
)

# A ratchet: these are larger than they should be, and may only shrink.
LINES = 700
LONG_FILES = {
    "cython_ext/pmkv/_simulator.pyx": 710,
    "tests/test_errors.py": 714,
}
COLUMNS = 120

UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|\bfor n" r"ow\b")


def run(tool: str, *arguments: str, cwd: Path = ROOT) -> None:
    """A tool of the test environment finds nothing."""
    if importlib.util.find_spec(tool.partition(".")[0]) is None:
        pytest.skip(f"{tool} is not installed: pip install '.[test]'")
    command = [sys.executable, "-m", tool, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_finds_nothing() -> None:
    run("ruff", "check", ".")


def test_the_format_is_the_formatter_s() -> None:
    run("ruff", "format", "--check", ".")


def test_the_types_fit() -> None:
    run("mypy")


def test_the_stubs_say_what_the_extensions_are() -> None:
    allowed = ROOT / "tests" / "stubtest_allowlist.txt"
    imported = Path(pmkv.__file__).parents[1]
    run("mypy.stubtest", "pmkv", "--allowlist", str(allowed), cwd=imported)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_is_small_and_finished(path: Path) -> None:
    lines = (ROOT / path).read_text().splitlines()
    assert len(lines) <= LONG_FILES.get(str(path), LINES)
    for number, line in enumerate(lines, 1):
        assert len(line) <= COLUMNS, f"line {number} is too wide"
        assert not UNFINISHED.search(line), f"line {number} is not finished"


def test_the_exceptions_are_still_needed() -> None:
    sizes = {name: len((ROOT / name).read_text().splitlines()) for name in LONG_FILES}
    assert [name for name, size in sizes.items() if size <= LINES] == []
