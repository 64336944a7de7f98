"""Room for a pool that grows: all of it allocated ahead, in huge pages where memory has them."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pmkv

HUGE = 2 << 20
COLLAPSE = 25  # MADV_COLLAPSE, which Python 3.11 has no name for
MAP_FIXED = 16
THP_DISABLE = 41  # PR_SET_THP_DISABLE: no huge pages in this process from now on
PAGES_AT = 4 << 20  # where the first page lies: behind the header and a section's descriptors


def take_huge_page(file: int) -> str | None:
    """Makes the first 2 MiB of a file one huge page, or says why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with mmap.mmap(-1, 2 * HUGE) as room:
        start = ctypes.addressof(ctypes.c_char.from_buffer(room))
        at = (start + HUGE - 1) // HUGE * HUGE
        access = mmap.PROT_READ | mmap.PROT_WRITE
        libc.mmap(at, HUGE, access, mmap.MAP_SHARED | MAP_FIXED, file, 0)
        ctypes.memset(at, 1, 1)
        failed = libc.madvise(at, HUGE, COLLAPSE)
        return os.strerror(ctypes.get_errno()) if failed else None


@pytest.fixture
def huge_pages(memory_dir: Path) -> None:
    """Skips where files in memory cannot have huge pages."""
    path = memory_dir / "probe"
    with open(path, "xb+") as file:
        file.truncate(HUGE)
        why = take_huge_page(file.fileno())
    path.unlink()
    if why is not None:
        pytest.skip(f"no huge pages in {memory_dir.parent}: {why}")


def huge_bytes(path: Path) -> int:
    """How much of a file this process has mapped in huge pages."""
    found = 0
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith(str(path))
        elif ours and line.startswith(("ShmemPmdMapped:", "FilePmdMapped:")):
            found += int(line.split()[1]) << 10
    return found


def first_hole(path: Path) -> int:
    """Where behind the first page the file has no room of its own."""
    with open(path, "rb") as file:
        return os.lseek(file.fileno(), PAGES_AT, os.SEEK_HOLE)


def grow(path: Path) -> list[float]:
    """Fills a pool with 20 MiB; what part of it was mapped in huge pages after each."""
    mapped = []
    with pmkv.open(path) as db:
        for i in range(20):
            db[b"%d" % i] = bytes([i]) * (1 << 20)
            assert first_hole(path) == path.stat().st_size == db.info()["file_size"]
            mapped.append(huge_bytes(path) / (path.stat().st_size - PAGES_AT))
        assert all(db[b"%d" % i] == bytes([i]) * (1 << 20) for i in range(20))
        assert db.check() == []
    return mapped


def grow_without_huge_pages(path: Path) -> list[float]:
    done = ctypes.CDLL(None, use_errno=True).prctl(THP_DISABLE, 1, 0, 0, 0)
    assert done == 0, os.strerror(ctypes.get_errno())
    return grow(path)


def test_all_of_a_pool_in_memory_lies_in_huge_pages(huge_pages: None, pool_path: Path) -> None:
    assert grow(pool_path) == [1.0] * 20


def test_a_pool_opened_again_has_its_huge_pages(huge_pages: None, pool_path: Path) -> None:
    grow(pool_path)
    with pmkv.open(pool_path) as db:
        assert all(db[b"%d" % i] == bytes([i]) * (1 << 20) for i in range(20))
        assert huge_bytes(pool_path) >= 20 << 20


def test_where_there_are_no_huge_pages_a_pool_takes_others(
    in_child: Callable[..., list[float]], pool_path: Path
) -> None:
    assert in_child(grow_without_huge_pages, pool_path) == [0.0] * 20
