"""What a Debian machine has that is worth looking up, unit by unit.

A unit is a paragraph of a package index, or a file.  The order of units is the same every
time, as long as nobody installs packages: a loader that was killed skips as many units as
the pool says it has, and goes on.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import IO, Any

STATUS = Path("/var/lib/dpkg/status")
DPKG_INFO = Path("/var/lib/dpkg/info")
APT_LISTS = Path("/var/lib/apt/lists")
APT_HELPER = Path("/usr/lib/apt/apt-helper")
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))

_OPENERS: dict[str, Callable[..., Any]] = {
    "": open,
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
}
_NOT_STANDARD = {"site-packages", "dist-packages"}


def stanzas(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The paragraphs of a Debian control file."""
    for blank, group in groupby(lines, key=bytes.isspace):
        if not blank:
            yield b"".join(group).rstrip()


def installed() -> Iterator[bytes]:
    """A stanza for each package that dpkg knows."""
    if os.access(STATUS, os.R_OK):
        with STATUS.open("rb") as lines:
            yield from stanzas(lines)


def available() -> Iterator[bytes]:
    """A stanza for each package that apt could install."""
    for path in filter(_can_read, _apt_indexes()):
        with _unpacked(path) as lines:
            yield from stanzas(lines)


def skipped_indexes() -> list[str]:
    """The names of apt's indexes that cannot be read here."""
    return [path.name for path in _apt_indexes() if not _can_read(path)]


def file_lists() -> list[Path]:
    """dpkg's list of files, one for each package."""
    return sorted(DPKG_INFO.glob("*.list"))


def checksum_lists() -> list[Path]:
    """dpkg's list of MD5 sums, one for each package that has files."""
    return sorted(DPKG_INFO.glob("*.md5sums"))


def python_files() -> list[Path]:
    """The text of Python's standard library."""
    found = STANDARD_LIBRARY.rglob("*.py")
    return sorted(p for p in found if p.is_file() and not _is_installed_by_user(p))


def fingerprint(limit: int | None) -> str:
    """Changes when the units do: when packages or indexes change, or the limit."""
    places = (STATUS, DPKG_INFO, APT_LISTS, STANDARD_LIBRARY)
    state = [(str(p), p.stat().st_mtime_ns) for p in places if p.exists()]
    return hashlib.sha256(repr((sys.version, limit, state)).encode()).hexdigest()[:16]


def _is_installed_by_user(path: Path) -> bool:
    return not _NOT_STANDARD.isdisjoint(path.relative_to(STANDARD_LIBRARY).parts)


def _apt_indexes() -> list[Path]:
    return sorted(APT_LISTS.glob("*_Packages*"))


def _compression(path: Path) -> str:
    return path.name.rpartition("_Packages")[2]


def _can_read(path: Path) -> bool:
    can_unpack = _compression(path) in _OPENERS or os.access(APT_HELPER, os.X_OK)
    return can_unpack and os.access(path, os.R_OK)


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The lines of an index: through Python, or for lz4 and zstd through apt's own helper."""
    opener = _OPENERS.get(_compression(path))
    if opener:
        with opener(path, "rb") as lines:
            yield lines
        return
    command = [str(APT_HELPER), "cat-file", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as helper:
        assert helper.stdout is not None
        yield helper.stdout
    if helper.returncode:
        raise OSError(f"{APT_HELPER} could not unpack {path}")
