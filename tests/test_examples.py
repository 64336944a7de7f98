"""The examples run, from a user's command line, and what they print is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pmkv

DEBIAN_INDEX = Path(__file__).parents[1] / "examples" / "debian_index"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The example's command, with its output."""
    command = [sys.executable, str(DEBIAN_INDEX), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def number(pattern: str, text: str) -> int:
    """The number in a line of the output."""
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in:\n{text}"
    return int(found[1].replace(",", ""))


def test_debian_index_survives_its_kill_and_reports_what_the_pool_has(tmp_path: Path) -> None:
    pool = tmp_path / "index.pmkv"
    done = run("--pool", pool, "--keep", "--limit", 40)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    assert number(r"SIGKILL .*, after (\d+) acknowledged", done.stdout) > 0
    compared = number(r"acknowledged +([\d,]+) keys compared, 0 lost or wrong", done.stdout)
    assert number(r"keys +([\d,]+), [\d,]+ expected", done.stdout) == compared > 0
    assert "no problems" in done.stdout
    with pmkv.open(pool, "r") as db:
        assert len(db) == number(r"report(?s:.*?)keys +([\d,]+)\n", done.stdout) > compared
        assert len(list(db)) == len(db)
        assert sum(key.startswith(b"source:") for key in db) == 40
        assert db.check() == []

    asked = run("--pool", pool, "--query", "import | zzzz", "--package", "no-such-package")
    assert asked.returncode == 0, asked.stderr
    assert number(r"query import \| zzzz: (\d+) files", asked.stdout) > 0
    assert "no such package" in asked.stdout
    assert pool.exists()


def test_debian_index_says_what_a_codec_has_saved(tmp_path: Path) -> None:
    done = run("--pool", tmp_path / "index.pmkv", "--limit", 20, "--no-kill", "--codec", "lz4")
    assert done.returncode == 0, done.stderr
    found = re.search(r"under lz4 +[\d,]+ values, .*: (0\.\d+) of them", done.stdout)
    assert found and float(found[1]) < 0.6


def test_debian_index_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run("--pool", tmp_path / "index.pmkv", "--limit", 8, "--no-kill")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "SIGKILL" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_debian_index_refuses_a_pool_of_something_else(tmp_path: Path) -> None:
    with pmkv.open(tmp_path / "mine.pmkv") as db:
        db["mine"] = "untouched"
    done = run("--pool", tmp_path / "mine.pmkv", "--limit", 8)
    assert done.returncode == 1
    assert "something else" in done.stderr
    with pmkv.open(tmp_path / "mine.pmkv") as db:
        assert dict(db) == {b"mine": b"untouched"}
