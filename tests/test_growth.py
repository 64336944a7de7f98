"""Room for a pool that grows: all of it allocated ahead, in huge pages where memory has them."""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import mmap
import os
import re
import resource
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pmkv

HUGE = 2 << 20
COLLAPSE = 25  # MADV_COLLAPSE, which Python 3.11 has no name for
MAP_FIXED = 16
FS_IOC_FIEMAP = 0xC020660B
FIEMAP_FLAG_SYNC = 1
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
            used = PAGES_AT + db.stat()["pages"] * 4096  # behind it, a step may be on its way
            assert first_hole(path) >= used <= path.stat().st_size
            mapped.append(huge_bytes(path) / (used - PAGES_AT))
        assert all(db[b"%d" % i] == bytes([i]) * (1 << 20) for i in range(20))
        assert db.check() == []
    return mapped


def grow_without_huge_pages(path: Path) -> list[float]:
    done = ctypes.CDLL(None, use_errno=True).prctl(THP_DISABLE, 1, 0, 0, 0)
    assert done == 0, os.strerror(ctypes.get_errno())
    return grow(path)


def grow_from_the_middle_of_a_huge_page(path: Path) -> tuple[int, int]:
    """By 4 MiB that begin on no huge page's boundary; the file's size then, and its first hole."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000_000, limits[1]))
    with pmkv.open(path) as db, pytest.raises(pmkv.PoolFullError):
        for i in itertools.count():
            db[b"%d" % i] = bytes(3000)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    start = path.stat().st_size
    assert start % HUGE
    with pmkv.open(path, max_size=start + 2 * HUGE) as db:
        db.delete_many(b"%d" % i for i in range(10))  # room for all but the large value
        db[b"large"] = bytes(2 * HUGE - 50_000)
        assert path.stat().st_size == start + 2 * HUGE
        return path.stat().st_size, first_hole(path)


# The kernel may refuse one now and then; most it gives.


def test_a_pool_in_memory_lies_in_huge_pages(huge_pages: None, pool_path: Path) -> None:
    assert grow(pool_path)[-1] > 0.6


def test_a_pool_opened_again_has_its_huge_pages(huge_pages: None, pool_path: Path) -> None:
    grow(pool_path)
    with pmkv.open(pool_path) as db:
        assert all(db[b"%d" % i] == bytes([i]) * (1 << 20) for i in range(20))
        assert huge_bytes(pool_path) > 12 << 20


def test_where_there_are_no_huge_pages_a_pool_takes_others(
    in_child: Callable[..., list[float]], pool_path: Path
) -> None:
    assert in_child(grow_without_huge_pages, pool_path) == [0.0] * 20


@pytest.mark.parametrize("persistence", ["process", "cacheline"])
def test_a_pool_in_memory_grows_by_two_mib_however_large_it_is(
    pool_path: Path, persistence: Any
) -> None:
    """Whoever makes it grow waits for that memory; a 64th of this pool is more."""
    steps = set()
    with pmkv.open(pool_path, persistence=persistence) as db:
        if db.info()["map_sync"] and persistence == "cacheline":
            pytest.skip("each step is a sync here")
        db[b"large"] = bytes(200 << 20)
        for i in range(100):
            before = db.stat()["pages"]
            db[b"%d" % i] = bytes(100_000)
            steps.add((db.stat()["pages"] - before) * 4096)
    assert steps == {0, HUGE}


def pieces_on_disk(path: Path) -> int:
    """How many extents a file has, or skips where the file system does not tell."""
    request = struct.pack("=QQIIII", 0, (1 << 64) - 1, FIEMAP_FLAG_SYNC, 0, 0, 0)
    with open(path, "rb") as file:
        try:
            answer = fcntl.ioctl(file.fileno(), FS_IOC_FIEMAP, request)
        except OSError as error:
            pytest.skip(f"no extents of files in {path.parent}: {error.strerror}")
    return int(struct.unpack("=QQIIII", answer)[3])


@pytest.mark.parametrize("persistence", ["process", "cacheline", "page"])
def test_a_pool_on_a_disk_lies_in_few_pieces(disk_path: Path, persistence: Any) -> None:
    like = disk_path.with_name("like")
    with pmkv.open(disk_path, persistence=persistence) as db, open(like, "xb") as file:
        for i in range(60):
            db[b"%d" % i] = bytes([i]) * (1 << 20)
            os.posix_fallocate(file.fileno(), i << 20, 1 << 20)
    assert pieces_on_disk(disk_path) < pieces_on_disk(like) + 16


def test_room_that_begins_inside_of_a_huge_page_has_no_holes(
    in_child: Callable[..., tuple[int, int]], pool_path: Path
) -> None:
    size, hole = in_child(grow_from_the_middle_of_a_huge_page, pool_path)
    assert hole == size
